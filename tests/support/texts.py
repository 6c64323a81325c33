"""Items that are bytes of a text, as the engines see them and as a queue gives them back."""

from __future__ import annotations

from shared_multiprocess_queue import SharedMemoryQueue
from tests.support.queues import drained

BYTES = 1  # codec tag


def payload(text: str) -> tuple[bytes, int]:
    return text.encode(), BYTES


def fill(queue: SharedMemoryQueue, count: int) -> list[str]:
    texts = [f"before{i}" for i in range(count)]
    for text in texts:
        queue.put(text.encode())
    return texts


def drained_texts(queue: SharedMemoryQueue) -> list[str]:
    """Take everything that is there, as survivors would."""
    return [item.decode() for item in drained(queue)]
