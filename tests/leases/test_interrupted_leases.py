"""KeyboardInterrupt at every point of taking and ending a lease at which Python serves signals."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import cast

import pytest

from shared_multiprocess_queue import (
    Empty,
    JoinableQueue,
    Lease,
    SharedMemoryFullError,
    SharedMemoryQueue,
)
from shared_multiprocess_queue._engine import records
from shared_multiprocess_queue._engine.leased_calls import LeasedCalls
from shared_multiprocess_queue._platform.shared_memory import Segment
from shared_multiprocess_queue._ring.layout import HEAD, LEASE_DUE, LEASE_HEAD_SIZE
from tests.support.interrupting import points
from tests.support.queues import MakeQueue
from tests.support.steps import SAMPLED

pytestmark = pytest.mark.filterwarnings("ignore:a Lease was dropped:ResourceWarning")


def lease_and_end(q: SharedMemoryQueue) -> None:
    with q.lease(block=False):
        pass


def lease_and_release(q: SharedMemoryQueue) -> None:
    q.lease(block=False).release(last=True)


def get_and_end(q: SharedMemoryQueue) -> None:
    q.get(block=False)
    q.task_done()


def get_two(q: SharedMemoryQueue) -> None:
    q.get_batch(2, block=False)
    q.task_done()
    q.task_done()


def rest(q: SharedMemoryQueue) -> list[object]:
    """End all that is left, by whichever way this thread has it."""
    found: list[object] = []
    while True:
        try:
            q.task_done()
        except ValueError:
            break
        found.append("of this thread")
    while not q.join(0):
        with q.lease(timeout=0.2) as lease:
            found.append(lease.item)
    return found


@pytest.mark.parametrize("operation", [lease_and_end, lease_and_release, get_and_end, get_two])
@SAMPLED
def test_an_interrupt_anywhere_loses_no_item_and_no_lease(
    make_leased: MakeQueue, operation: Callable[[SharedMemoryQueue], None], every: int
) -> None:
    q = make_leased()

    def put_and_take() -> None:
        q.put_batch([1, 2])
        operation(q)

    for where in points(put_and_take, every):
        found = rest(q)
        assert len(found) in (0, 1, 2), where
        assert q.join(0), where
        heads = q._geometry.lease_heads
        with q._membership.operation() as record:
            assert [record.words.load(heads + lease * 64) for lease in range(2)] == [0, 0], where
    rest(q)


@pytest.mark.parametrize("last", [False, True])
def test_a_lease_whose_release_was_interrupted_is_in_processing(make_queue: MakeQueue, last: bool) -> None:
    """Otherwise a get of its own process waits for it at the end."""
    q = make_queue(leases=2, capacity=4, engine="atomics")
    leasing = q._membership.leasing
    assert leasing is not None

    def take() -> Lease:
        q.put(1)
        return q.lease(block=False)

    taken = [take()]
    for where in points(lambda: taken[-1].release(last=last)):
        with q._membership.operation() as record:
            for held in leasing.of_objects:
                head = q._geometry.lease_heads + held.index * LEASE_HEAD_SIZE
                assert record.words.load(head + LEASE_DUE) == held.owner, where
        if leasing.of_objects:
            taken[-1].done()
        else:
            q.get(block=False)
            q.task_done()
        taken.append(take())
    q.get(block=False)
    q.task_done()


@pytest.mark.parametrize("most", [None, 2])
def test_an_interrupted_get_leases_nothing_that_no_caller_has(make_leased: MakeQueue, most: int | None) -> None:
    """A lease of an item that no caller has would be ended by the next task_done(), and the item would be lost."""
    q = make_leased(leases=3)
    found: list[object] = []

    def get() -> None:
        found.extend([q.get(block=False)] if most is None else q.get_batch(most, block=False))

    q.put_batch([1, 2])
    for where in points(get):
        with suppress(Empty):
            while True:
                get()
        assert sorted(map(str, found)) == ["1", "2"], where
        for _ in found:
            q.task_done()
        assert q.join(0), where
        found.clear()
        q.put_batch([1, 2])
    rest(q)


def test_an_interrupted_join_can_be_called_again(make_leased: MakeQueue) -> None:
    q = make_leased()
    q.put(1)
    for _ in points(lambda: q.join(0)):
        assert not q.join(0)
    q.get()
    q.task_done()
    assert q.join(0)


class Scarce(deque[object]):
    """A deque with a popleft for which memory may be short."""

    left = 1 << 62

    def popleft(self) -> object:
        Scarce.left -= 1
        if Scarce.left == 0:
            raise MemoryError
        return super().popleft()


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_short_memory_loses_no_item_that_was_kept_back(
    make_leased: MakeQueue, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    monkeypatch.setattr(records, "deque", Scarce)
    q = make_leased(leases=3)
    q.put_batch([1, 2, 3])

    def interrupt(_: object) -> object:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cast(LeasedCalls, q._calls).lease(3, False, None, interrupt)
    monkeypatch.setattr(Scarce, "left", failing)
    found: list[object] = []
    while len(found) < 3:
        with suppress(MemoryError):
            found += q.get_batch(3, block=False)
    assert found == [1, 2, 3]
    for _ in found:
        q.task_done()
    assert q.join(0)


def test_an_interrupted_get_without_memory_leaves_its_item(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was cut between its claim and the note of it, and another get has taken its lease slot meanwhile."""
    monkeypatch.setenv("SHMQ_ENGINE", "atomics")
    with JoinableQueue() as q:
        q.put_batch([1, 2])
        member = q._membership
        record = member.records.borrow()
        head = record.words.load(HEAD)
        record.announce_get(head, head + 1)
        assert record.words.cas(HEAD, head, head + 1)
        with SharedMemoryQueue(q.name) as other:
            lease = other.lease()
            assert lease.item == 2

            def full(*_: int) -> None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            with monkeypatch.context() as patch:
                patch.setattr(Segment, "reserve", full)
                member.recover(record)
                with pytest.raises(SharedMemoryFullError, match="no shared memory left"):
                    q.get()
                lease.done()
                assert other.get() == 1
                other.task_done()
            assert q.join(0)
            q.put(3)
            assert q.get() == 3
            q.task_done()
