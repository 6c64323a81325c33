"""This package: either engine, in both modes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from shared_multiprocess_queue import SharedMemoryQueue

from ..channel import Channel, Peer, Size


class _End:
    """A handle of its own, opened by name."""

    def __init__(self, name: str, engine: str) -> None:
        self._queue = SharedMemoryQueue(name, engine=engine)
        self.put, self.get, self.get_batch = self._queue.put, self._queue.get, self._queue.get_batch

    def put_batch(self, items: Sequence[Any]) -> None:
        self._queue.put_batch(items)

    def finish(self) -> None:
        self._queue.close()


class _Ours:
    def __init__(self, name: str, size: Size, engine: str, mode: str) -> None:
        self._name, self._engine = name, engine
        self._queue = SharedMemoryQueue(
            name, create=True, capacity=size.capacity, item_size=size.item_size, mode=mode, engine=engine
        )

    def sender(self, number: int) -> _End:
        return _End(self._name, self._engine)

    receiver = sender

    def remove(self) -> None:
        self._queue.close()
        self._queue.unlink()


def _make(engine: str, mode: str) -> Callable[[str, Size], Channel]:
    return lambda name, size: _Ours(name, size, engine, mode)


PEERS = [
    Peer("native", None, _make("native", "mpmc"), waiting="parks", has_batches=True),
    Peer("native spsc", None, _make("native", "spsc"), "parks", most_producers=1, most_consumers=1, has_batches=True),
    Peer("atomics", None, _make("atomics", "mpmc"), waiting="parks", has_batches=True),
]
