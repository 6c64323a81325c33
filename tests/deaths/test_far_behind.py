"""Puts that die one after the other move tail on by laps while no get moves head: looks go by the lap below tail."""

from __future__ import annotations

import sys
import time

import pytest

from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue._ring.layout import HEAD, TAIL
from shared_multiprocess_queue.looking.items import Items
from tests.support import mortal
from tests.support.queues import MakeQueue

CAPACITY = 2
BYTES = 1  # codec tag

pytestmark = [
    pytest.mark.usefixtures("each_engine"),
    pytest.mark.skipif(sys.platform == "win32", reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


def positions(queue: SharedMemoryQueue) -> tuple[int, int]:
    with queue._membership.operation() as record:
        return record.words.load(HEAD), record.words.load(TAIL)


def let_a_put_die(queue: SharedMemoryQueue) -> None:
    """Let a put die between its claim and its end."""
    tail = positions(queue)[1]
    until = time.monotonic_ns() + 60 * 10**9
    for steps in range(200):
        assert mortal.dies(queue.name, queue.run_id, lambda engine: engine.put((b"dead", BYTES), until), steps)
        if positions(queue)[1] > tail:
            return
    pytest.fail("no put has claimed a position")


@pytest.mark.parametrize("size", [64, 16], ids=["small", "large"])
def test_an_item_behind_more_dead_puts_than_slots(make_queue: MakeQueue, size: int) -> None:
    queue = make_queue(capacity=CAPACITY, item_size=size, max_item_size=2 * 16 if size == 16 else None, leases=1)
    queue._membership.retire()
    for _ in range(2 * CAPACITY):
        let_a_put_die(queue)
    queue.put(b"item")
    head, tail = positions(queue)
    assert tail - head > 2 * CAPACITY
    assert not queue.join(0)
    assert queue.qsize() >= 1
    assert not queue.empty()
    if sys.platform.startswith("linux"):
        items = Items(queue.name, queue.run_id)
        try:
            assert [one.payload for one in items.next(10)] == [b"item"]
        finally:
            items.close()
    for item in (b"item", b"next", b"last"):
        assert queue.get(timeout=10) == item
        queue.task_done()
        assert queue.join(0)
        queue.put(b"next" if item == b"item" else b"last")
