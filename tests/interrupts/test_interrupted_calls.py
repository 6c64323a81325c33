"""Ctrl-C at every point of a put, a get and their kin: nothing is lost, doubled or blocked.

CPython looks for signals when a function starts, when a loop jumps back, and when a call of a C function returns; a
trace function raises KeyboardInterrupt at the k-th such point inside the package, for every k.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue._engine.membership import Membership
from shared_multiprocess_queue._ring import layout
from shared_multiprocess_queue._ring.layout import BATCH_OWNER_AT
from stress.explore.interrupts import Interrupter, watch
from tests.support.interrupting import interrupted_at, points
from tests.support.mortal import dies
from tests.support.queues import MakeQueue, assert_works, drained
from tests.support.steps import SAMPLED


@pytest.mark.costly
@pytest.mark.parametrize("capacity", [1, 2, 3])
@pytest.mark.parametrize("how", ["get", "get_batch", "timeout"])
def test_an_interrupted_get_loses_no_item(make_queue: MakeQueue, mode: str, capacity: int, how: str) -> None:
    queue = make_queue(capacity=capacity, mode=mode)
    items = [("item", i) for i in range(capacity)]
    get = {
        "get": lambda: [queue.get_nowait()],
        "get_batch": lambda: queue.get_batch(2, block=False),
        "timeout": lambda: [queue.get(timeout=5)],
    }[how]
    for item in items:
        queue.put(item)
    for where in points(get):
        assert drained(queue) == items, f"interrupted at {where}"
        assert_works(queue)
        for item in items:
            queue.put(item)
    taken = capacity - len(drained(queue))
    assert taken == (min(2, capacity) if how == "get_batch" else 1)
    assert_works(queue)


@SAMPLED
def test_an_interrupted_wait_for_an_item_leaves_the_queue_as_it_was(
    make_queue: MakeQueue, mode: str, every: int
) -> None:
    queue = make_queue(capacity=2, mode=mode)
    for _ in points(lambda: queue.get(timeout=0.001), every):
        assert_works(queue)


@pytest.mark.slow
@SAMPLED
def test_an_interrupted_wait_for_room_leaves_the_queue_as_it_was(make_queue: MakeQueue, mode: str, every: int) -> None:
    queue = make_queue(capacity=1, mode=mode)
    queue.put("there")
    for _ in points(lambda: queue.put("late", timeout=0.001), every):
        assert drained(queue) == ["there"]
        assert_works(queue)
        queue.put("there")


@pytest.mark.costly
@pytest.mark.parametrize("capacity", [1, 2, 3])
def test_an_interrupted_put_happened_or_did_not(make_queue: MakeQueue, mode: str, capacity: int) -> None:
    queue = make_queue(capacity=capacity, mode=mode)
    outcomes = set()
    for where in points(lambda: queue.put("item")):
        found = drained(queue)
        assert found in ([], ["item"]), f"interrupted at {where}"
        outcomes.add(len(found))
        assert_works(queue)
    assert outcomes == {0, 1}


@pytest.mark.costly
@pytest.mark.parametrize("size", [2, 1, 3])
def test_an_interrupted_batch_is_whole_or_absent(make_queue: MakeQueue, mode: str, size: int) -> None:
    queue = make_queue(capacity=3, mode=mode)
    batch = list(range(size))
    outcomes = set()
    for where in points(lambda: queue.put_batch(batch)):
        found = drained(queue)
        assert found in ([], batch), f"interrupted at {where}"
        outcomes.add(len(found))
        queue.put_batch(["lock"] * 3, timeout=10)  # the batch lock is free again
        assert drained(queue) == ["lock"] * 3
        assert_works(queue)
    assert outcomes == {0, size}


@pytest.mark.slow
def test_an_interrupted_put_of_several_slots_happened_or_did_not(make_queue: MakeQueue, mode: str) -> None:
    queue = make_queue(capacity=3, item_size=32, max_item_size=96, mode=mode)
    outcomes = set()
    for where in points(lambda: queue.put(bytes(range(90)))):
        found = drained(queue)
        assert found in ([], [bytes(range(90))]), f"interrupted at {where}"
        outcomes.add(len(found))
        assert_works(queue)
    assert outcomes == {0, 1}


@pytest.mark.slow
def test_an_interrupted_get_of_several_slots_loses_nothing(make_queue: MakeQueue, mode: str) -> None:
    queue = make_queue(capacity=3, item_size=32, max_item_size=96, mode=mode)
    items = [bytes(range(40)), b"small"]
    queue.put_batch(items)
    for where in points(lambda: queue.get_batch(2, block=False)):
        assert drained(queue) == items, f"interrupted at {where}"
        assert_works(queue)
        queue.put_batch(items)
    assert queue.empty()
    assert_works(queue)


@pytest.mark.slow
@SAMPLED
def test_an_interrupted_wait_of_a_batch_gives_lock_and_gate_back(make_queue: MakeQueue, every: int) -> None:
    queue = make_queue(capacity=2)
    queue.put("there")
    for where in points(lambda: queue.put_batch([1, 2], timeout=0.001), every):
        queue.put("behind", timeout=10)
        assert drained(queue) == ["there", "behind"], f"interrupted at {where}"
        queue.put("there")


def test_items_of_interrupted_gets_go_back_when_the_handle_is_closed(make_queue: MakeQueue, run_id: str) -> None:
    queue = make_queue(capacity=3)
    for point in itertools.count():
        handle = SharedMemoryQueue(queue.name, run_id=run_id)
        queue.put("item")
        where = interrupted_at(point, handle.get_nowait)
        handle.close()
        if where is None:
            assert queue.empty()
            break
        assert drained(queue) == ["item"], f"interrupted at {where}"


def test_interrupts_leave_no_records_behind(make_queue: MakeQueue) -> None:
    queue = make_queue(capacity=2)

    def round_trip() -> None:
        queue.put(1)
        queue.get()

    for _ in points(round_trip):
        drained(queue)
    queue.get_metrics()
    assert sum(queue.get_metrics()["participants"].values()) <= 3


@pytest.mark.slow
def test_an_interrupted_take_over_of_a_dead_getters_item_loses_nothing(make_queue: MakeQueue) -> None:
    """The interrupt may come between the compare-and-swap that decides and the note of its outcome."""
    queue = make_queue(capacity=2)
    step = next(steps for steps in itertools.count() if _leaves_an_orphan(queue, steps, dies))
    queue.get_nowait()

    def prepare() -> None:
        queue.put(b"orphan")
        assert dies(queue.name, queue.run_id, lambda engine: engine.get(1, 0, list), step)

    prepare()
    for where in points(queue.get_nowait):
        assert drained(queue) == [b"orphan"], f"interrupted at {where}"
        prepare()


def _leaves_an_orphan(queue: SharedMemoryQueue, steps: int, dies: Callable[..., bool]) -> bool:
    drained(queue)
    queue.put(b"orphan")
    assert dies(queue.name, queue.run_id, lambda engine: engine.get(1, 0, list), steps)
    return queue.qsize() == 0


def test_an_interrupted_look_at_an_empty_or_full_queue_changes_nothing(make_queue: MakeQueue, mode: str) -> None:
    queue = make_queue(capacity=1, mode=mode)
    for _ in points(queue.get_nowait):
        assert_works(queue)
    queue.put("there")
    for _ in points(lambda: queue.put_nowait("late")):
        assert drained(queue) == ["there"]
        assert_works(queue)
        queue.put("there")


@pytest.fixture
def interrupted_recovery(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Interrupter]:
    """Interrupt the next recovery from an interrupt, too, at a point of its own."""
    recover = Membership.recover
    second: list[Interrupter] = []

    def recover_once(member: Membership, record: Any) -> None:
        if second and second[0].left >= 0:
            watch(second[0])
        recover(member, record)

    def interrupt(point: int) -> Interrupter:
        second[:] = [Interrupter(point)]
        return second[0]

    monkeypatch.setattr(Membership, "recover", recover_once)
    return interrupt


@pytest.mark.slow
@pytest.mark.parametrize("what", ["get", "put", pytest.param("put_batch", marks=pytest.mark.long)])
@SAMPLED
def test_a_second_interrupt_in_the_recovery_from_the_first_loses_nothing(
    make_queue: MakeQueue, interrupted_recovery: Callable[[int], Interrupter], what: str, every: int
) -> None:
    queue = make_queue(capacity=2)
    operation: Callable[[], object] = {
        "get": queue.get_nowait,
        "put": lambda: queue.put("item"),
        "put_batch": lambda: queue.put_batch(["item", "item"]),
    }[what]
    seen = set()
    for point in itertools.count(0, every):
        where = None
        for second in itertools.count():
            if what == "get":
                queue.put("item")
            interrupter = interrupted_recovery(second)
            where = interrupted_at(point, operation)
            found = drained(queue)
            if where is not None or what != "get":
                expected: list[list[str]] = {"get": [["item"]], "put": [[], ["item"]], "put_batch": [[], ["item"] * 2]}[
                    what
                ]
                assert found in expected, f"interrupted at {where}, and at {interrupter.where}"
            queue.put_batch(["lock"] * 2, timeout=10)
            assert drained(queue) == ["lock"] * 2
            assert_works(queue)
            if not interrupter.where:  # the recovery has fewer points, or nothing had to be recovered
                break
            seen.add(interrupter.where)
        if where is None:
            break
    assert len(seen) > 5, "hardly any points: nothing was tested"
    assert sum(queue.get_metrics()["participants"].values()) <= 3


def test_an_interrupted_taking_of_a_record_leaves_it_to_the_next(make_queue: MakeQueue) -> None:
    """An interrupt while a record is being taken leaves that record to the next operation."""
    queue = make_queue(capacity=2)

    def first_operation() -> None:
        queue._membership.retire()  # so that the next operation takes a record
        queue.put("item")

    for where in points(first_operation):
        assert drained(queue) in ([], ["item"]), f"interrupted at {where}"
        assert_works(queue)
        assert sum(queue.get_metrics()["participants"].values()) <= 3, f"interrupted at {where}"


@pytest.mark.slow
def test_an_interrupted_take_over_of_a_batch_keeps_no_lock(make_queue: MakeQueue) -> None:
    """An interrupt while the record of a dead batch is being taken does not keep that batch's lock.

    A record that was taken, and not yet named anew, still has the name under which the dead one held the lock.
    """

    def holds_the_lock(steps: int) -> bool:
        queue = make_queue(capacity=2)
        assert dies(queue.name, queue.run_id, lambda engine: engine.put_batch([(b"dead", 1)], 0), steps)
        held = bool(queue._membership.memory.words().load(BATCH_OWNER_AT))
        queue.close()
        queue.unlink()
        return held

    step = next(steps for steps in itertools.count() if holds_the_lock(steps))
    for point in itertools.count():
        queue = make_queue(capacity=2)
        assert dies(queue.name, queue.run_id, lambda engine: engine.put_batch([(b"dead", 1)], 0), step)
        # The record of the dead one is the first that can be taken, because this handle has the one before.
        with queue._membership.operation():
            where = interrupted_at(point, lambda queue=queue: queue.put("item"))  # type: ignore[misc]
            queue.put_batch(["whole", "batch"][: 2 - queue.qsize()], timeout=10)
        drained(queue)
        queue.close()
        queue.unlink()
        if where is None:
            assert point > 20
            break


def test_a_batch_interrupted_at_its_release_of_the_lock_wakes(
    make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that is interrupted while it gives the lock back wakes the batch that waits for it.

    The lock had no owner any more, so recovery had nothing to do, and the next batch slept out its slice.
    """
    q = make_queue(capacity=4, engine="atomics")
    parking, lock = q._membership.parking, q._membership.batch_lock
    woken: list[int] = []
    wake = parking.wake_word

    def note(at: int, everyone: bool = False) -> int:
        woken.append(at)
        return wake(at, everyone)

    class Interrupted:
        def release(self) -> None:
            monkeypatch.setattr(lock, "_flag", flag)
            raise KeyboardInterrupt

        def __getattr__(self, name: str) -> Any:
            return getattr(flag, name)

    flag = lock._flag
    monkeypatch.setattr(parking, "wake_word", note)
    monkeypatch.setattr(lock, "_flag", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        q.put_batch([1, 2])
    assert layout.BATCH_OWNER_AT in woken
    q.put_batch([3], block=False)
