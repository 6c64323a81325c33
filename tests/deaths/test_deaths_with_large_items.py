"""What is left when a process is killed before each single atomic step of an operation on items of several slots."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
import tracemalloc
from contextlib import suppress
from functools import partial

import pytest

from shared_multiprocess_queue import CorruptQueueError, Empty, SharedMemoryQueue
from shared_multiprocess_queue._engine.atomics import AtomicsEngine
from shared_multiprocess_queue._ring import layout
from tests.support import mortal
from tests.support.children import end_of, fork
from tests.support.mortal import Operation
from tests.support.queues import MakeQueue, assert_works, drained, let_look

pytestmark = [
    pytest.mark.costly,
    pytest.mark.usefixtures("each_engine"),
    pytest.mark.skipif(sys.platform == "win32", reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]

SLOT = 16
BYTES = 1  # codec tag


def item(name: str, slots: int) -> bytes:
    """Make an item of so many slots, each of which has its name."""
    return name.encode().ljust(SLOT, b".") * slots


def put(*items: bytes) -> Operation:
    if len(items) == 1:
        return lambda engine: engine.put((items[0], BYTES), 0)
    return lambda engine: engine.put_batch([(one, BYTES) for one in items], 0)


def get(limit: int = 1) -> Operation:
    def run(engine: AtomicsEngine) -> object:
        with suppress(Empty):
            return engine.get(limit, 0, list)
        return None

    return run


def make(make_queue: MakeQueue, capacity: int, mode: str = "mpmc", leases: int = 0) -> SharedMemoryQueue:
    return make_queue(capacity=capacity, item_size=SLOT, max_item_size=capacity * SLOT, mode=mode, leases=leases)


def fill(queue: SharedMemoryQueue, items: list[bytes]) -> None:
    for one in items:
        queue.put(one)
    queue._membership.retire()


@pytest.mark.parametrize(("capacity", "slots"), [(3, (2,)), (2, (2,)), (3, (3,)), (3, (1, 2)), (3, (2, 1))])
def test_a_put_that_dies_is_whole_or_absent(
    make_queue: MakeQueue, mode: str, capacity: int, slots: tuple[int, ...]
) -> None:
    queue = make(make_queue, capacity, mode)
    before = [item("before", 1)] if sum(slots) < capacity else []
    batch = [item(f"victim{i}", size) for i, size in enumerate(slots)]
    for steps in itertools.count():
        fill(queue, before)
        if not mortal.dies(queue.name, queue.run_id, put(*batch), steps):
            assert steps > 10
            break
        assert drained(queue) in (before, before + batch)
        queue.put(item("whole", capacity), timeout=10)  # it finds room only where nothing was left
        assert drained(queue) == [item("whole", capacity)]
        assert_works(queue)
    assert drained(queue) == before + batch
    assert_works(queue)


@pytest.mark.parametrize(
    ("slots", "limit"), [((2,), 1), ((3,), 1), ((2, 1), 1), ((1, 2), 2), ((2, 1), 3), pytest.param((1, 1, 1), 2)]
)
def test_a_get_that_dies_loses_at_most_what_it_had_freed(
    make_queue: MakeQueue, mode: str, slots: tuple[int, ...], limit: int
) -> None:
    queue = make(make_queue, 3, mode)
    before = [item(f"before{i}", size) for i, size in enumerate(slots)]
    most = min(limit, len(before))
    for steps in itertools.count():
        fill(queue, before)
        if not mortal.dies(queue.name, queue.run_id, get(limit), steps):
            assert steps > 5
            break
        found = drained(queue)
        gone = len(before) - len(found)
        assert 0 <= gone <= most
        assert sorted(found) == before[gone:], "an item is torn, or came twice, or the wrong one has gone"
        queue.put(item("whole", 3), timeout=10)
        assert drained(queue) == [item("whole", 3)]
        assert_works(queue)
    assert drained(queue) == before[most:]
    assert_works(queue)


@pytest.mark.slow
@pytest.mark.parametrize("capacity", [2, 3])
def test_a_large_item_is_adopted_once_even_if_its_adopter_dies(make_queue: MakeQueue, capacity: int) -> None:
    queue = make(make_queue, capacity)
    dies = partial(mortal.dies, queue.name, queue.run_id, counts_loads=False)
    only = item("only", 2)
    for first in itertools.count():
        fill(queue, [only])
        if not dies(get(), first):
            break
        drained(queue)
        for second in itertools.count():
            fill(queue, [only])
            assert dies(get(), first)
            died = dies(get(), second)
            assert drained(queue) in ([], [only])
            queue.put(item("whole", capacity), timeout=10)
            assert drained(queue) == [item("whole", capacity)]
            assert_works(queue)
            if not died:
                break


@pytest.mark.parametrize("slots", [(2,), (3,), (2, 1)])
@pytest.mark.parametrize("limit", [1, 2])
def test_a_lease_of_a_large_item_that_dies_goes_to_the_next(
    make_queue: MakeQueue, slots: tuple[int, ...], limit: int
) -> None:
    queue = make(make_queue, 3, leases=2)
    before = [item(f"before{i}", size) for i, size in enumerate(slots)]

    def lease(engine: AtomicsEngine) -> None:
        leasing = engine.membership.leasing
        assert leasing is not None
        with suppress(Empty):
            engine.get(limit, 0, list, leasing.of_objects)

    for steps in itertools.count():
        fill(queue, before)
        died = mortal.dies(queue.name, queue.run_id, lease, steps)
        found = []
        until = time.monotonic() + 60
        while not queue.join(0) and time.monotonic() < until:
            let_look(queue)
            with suppress(Empty), queue.lease(block=False) as one:
                found.append(one.item)
        assert sorted(found) == before
        queue.put(item("whole", 3), timeout=10)
        with queue.lease(timeout=10) as one:
            assert one.item == item("whole", 3)
        assert queue.get_metrics()["blocked_by"] == []
        if not died:
            assert steps > 10
            break


def dies_with_what_it_has_claimed(queue: SharedMemoryQueue) -> None:
    """Let a process claim the next item, and end before it copies it."""

    def get() -> None:
        other = SharedMemoryQueue(queue.name, run_id=queue.run_id, engine="atomics")
        other._membership.ring.finish_get = lambda record: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
        other.get_nowait()

    assert end_of(fork(get)) == -signal.SIGKILL


@pytest.mark.parametrize("leases", [0, 2])
@pytest.mark.parametrize("what", ["length", "tag"])
def test_parts_that_no_item_leads_to_do_not_stop_the_queue(make_queue: MakeQueue, leases: int, what: str) -> None:
    """Its getter has died, and its first slot says less than it did."""
    queue = make(make_queue, 4, leases=leases)
    queue.put(item("damaged", 3))
    dies_with_what_it_has_claimed(queue)
    memory = queue._membership.segment.buffer
    if what == "length":
        memory[layout.SLOTS_START + layout.SLOT_LENGTH :][:4] = SLOT.to_bytes(4, sys.byteorder)
    else:
        memory[layout.SLOTS_START + layout.SLOT_META] = layout.MORE
    corrupt = 0
    for _ in range(8):
        try:
            queue.get_nowait()
        except Empty:
            break
        except CorruptQueueError:
            corrupt += 1
        else:
            if leases:
                queue.task_done()
    assert corrupt == (2 if what == "length" else 3)
    queue.put(item("whole", 4), timeout=10)
    assert queue.get(timeout=10) == item("whole", 4)
    assert queue.get_metrics()["blocked_by"] == []


def test_to_adopt_a_small_item_takes_little_memory(make_queue: MakeQueue) -> None:
    queue = make_queue(capacity=1024, item_size=1024, max_item_size=1 << 20)
    for size in (1, 3000):
        queue.put(bytes(size))
        dies_with_what_it_has_claimed(queue)
        tracemalloc.start()
        try:
            assert queue.get(timeout=10) == bytes(size)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 1 << 19
