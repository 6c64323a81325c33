"""Ctrl-C at every point of the making and closing of a handle, and what it had abandoned."""

from __future__ import annotations

import itertools
import os
from contextlib import suppress
from functools import partial

import pytest

from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue._ring.layout import (
    ABANDONED,
    DEFINITIONS_OWNER_AT,
    HEAD,
    OWNER,
    PUT_END,
    TAIL,
    record_at,
)
from tests.support.interrupting import interrupted_at, interrupted_with_traceback
from tests.support.mortal import dies
from tests.support.queues import MakeQueue, drained, segments
from tests.support.steps import SAMPLED, SPARSE


@SPARSE
@pytest.mark.usefixtures("engines")
def test_an_interrupted_close_is_completed_by_the_next(
    make_queue: MakeQueue, mode: str, run_id: str, every: int
) -> None:
    queue = make_queue(capacity=2, mode=mode)
    for point in itertools.count(0, every):
        descriptors = len(os.listdir("/proc/self/fd"))
        handle = SharedMemoryQueue(queue.name, run_id=run_id)
        handle.put("item")
        assert handle.get() == "item"
        where, _kept = interrupted_with_traceback(point, handle.close)
        handle.close()  # where people call it: in an except or finally, when the frames of the first are still there
        assert handle._membership.state.name == "CLOSED", f"interrupted at {where}"
        assert len(os.listdir("/proc/self/fd")) == descriptors, f"interrupted at {where}"
        queue.put("mine")  # in mode spsc the roles are free again
        assert drained(queue) == ["mine"]
        queue._membership.retire()
        if where is None:
            assert point > 20
            break


@SPARSE
@pytest.mark.usefixtures("engines")
def test_an_interrupted_storing_leaves_the_store_to_the_next(make_queue: MakeQueue, every: int) -> None:
    """An interrupt while a definition is being stored does not keep the store taken."""
    for point in itertools.count(0, every):
        queue = make_queue(capacity=2)
        store = queue._codec._definitions  # type: ignore[attr-defined]
        where = interrupted_at(point, lambda store=store: store.add(b"0123456789abcdef", b"definition"))  # type: ignore[misc]
        assert queue._membership.memory.words().load(DEFINITIONS_OWNER_AT) == 0, f"interrupted at {where}"
        assert store.add(b"another key of 16"[:16], b"other")
        queue.close()
        queue.unlink()
        if where is None:
            assert point > 20
            break


@pytest.mark.costly
@pytest.mark.usefixtures("engines", "alone")
@pytest.mark.parametrize("create", [True, False])
@SAMPLED
def test_an_interrupted_creation_or_attachment_leaves_nothing(
    make_queue: MakeQueue, run_id: str, create: bool, every: int
) -> None:
    queue = make_queue(capacity=2)
    name = "another" if create else queue.name

    def now() -> object:
        return queue.get_metrics()["participants"], segments(), len(os.listdir("/proc/self/fd"))

    before = now()
    for point in itertools.count(0, every):
        opened: list[SharedMemoryQueue] = []
        where = interrupted_at(
            point,
            lambda opened=opened: opened.append(SharedMemoryQueue(name, create, 2, run_id=run_id)),  # type: ignore[misc]
        )
        for handle in opened:
            handle.close()
            if create:
                handle.unlink()
        assert now() == before, f"interrupted at {where}"
        if where is None:
            assert point > 100
            break


def test_a_record_that_was_abandoned_has_another_name_afterwards(make_queue: MakeQueue) -> None:
    """Its old name counted as dead: a process that has read that could take a lock from its next operation."""
    queue = make_queue(capacity=2)
    with queue._membership.operation() as record:
        index, name = record.index, record.name
    with suppress(KeyboardInterrupt), queue._membership.operation() as record:
        assert record.name == name
        record.announce_put(0, 1)  # and here an interrupt comes
        raise KeyboardInterrupt
    with queue._membership.operation() as record:
        assert record.index == index
        assert record.name != name
        assert not queue._membership.participants.is_dead(record.words, record.name)
        assert queue._membership.participants.is_dead(record.words, name)


def test_a_handle_is_not_closed_before_its_abandoned_operation_is_resolved(make_queue: MakeQueue, run_id: str) -> None:
    """A get that lost the same claim may cover the position for a moment; the record would have been left marked."""
    queue = make_queue(capacity=2)
    queue.put("item")
    handle = SharedMemoryQueue(queue.name, run_id=run_id)
    with queue._membership.operation() as loser:
        loser.announce_get(0, 1)
        with suppress(KeyboardInterrupt), handle._membership.operation() as record:
            record.announce_get(0, 1)
            assert record.words.cas(HEAD, 0, 1)  # the claim, and an interrupt before it is noted
            raise KeyboardInterrupt
        handle._close(wait=False)
        assert handle._membership.state.name != "CLOSED"
        loser.withdraw_get()
    handle.close()
    assert handle._membership.state.name == "CLOSED"
    assert sum(queue.get_metrics()["participants"].values()) == 1
    assert drained(queue) == ["item"]


def _borrow(queue: SharedMemoryQueue) -> None:
    with queue._membership.operation():
        pass


@pytest.mark.slow
def test_an_interrupted_take_over_leaves_no_live_announcement(make_queue: MakeQueue) -> None:
    """An interrupt while the record of a dead process is being taken leaves no announcement under a live name.

    It would block all others until the handle is used again, because they would take it for that of a live put.
    """
    queue = make_queue(capacity=2)
    words = queue._membership.memory.words()

    def has_announced(steps: int) -> bool:
        assert dies(queue.name, queue.run_id, lambda engine: engine.put((b"dead", 1), 0), steps)
        return any(words.load(record_at(index) + PUT_END) for index in range(8)) and words.load(TAIL) == 0

    step = next(steps for steps in itertools.count() if has_announced(steps))
    for point in itertools.count():
        queue = make_queue("q" + str(point), capacity=2)
        words = queue._membership.memory.words()
        handle = SharedMemoryQueue(queue.name, run_id=queue.run_id)
        assert dies(queue.name, queue.run_id, lambda engine: engine.put((b"dead", 1), 0), step)
        with handle._membership.operation():  # the next needs another record, and finds that of the dead one
            where, _kept = interrupted_with_traceback(point, partial(_borrow, handle))
            for index in range(8):
                at = record_at(index)
                owner = handle._membership.participants.owner
                mine = words.load(at + OWNER) == owner and not words.load(at + ABANDONED)
                assert not (mine and words.load(at + PUT_END)), f"interrupted at {where}"
        handle.close()
        queue.close()
        queue.unlink()
        if where is None:
            assert point > 20
            break


@SPARSE
def test_a_record_that_an_interrupted_close_gave_up_is_not_retaken(
    make_queue: MakeQueue, run_id: str, every: int
) -> None:
    """Another handle of the same process keeps the record that an interrupted close had given up.

    A second close must not take the record for its own while it has the old generation.
    """
    queue = make_queue(capacity=2)
    for point in itertools.count(0, every):
        handle = SharedMemoryQueue(queue.name, run_id=run_id)
        with handle._membership.operation() as record:
            index = record.index
        del record
        where = interrupted_at(point, handle.close)
        words = queue._membership.memory.words()
        at = record_at(index) + OWNER
        taken = words.cas(at, 0, queue._membership.participants.owner)  # another handle begins to take it
        handle.close()
        if taken:
            assert words.load(at) == queue._membership.participants.owner, f"interrupted at {where}"
            words.store(at, 0)
        if where is None:
            break
