"""KeyboardInterrupt at every point of taking and ending a lease at which Python serves signals."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from shared_multiprocess_queue import SharedMemoryQueue
from tests.support.interrupting import points
from tests.support.queues import MakeQueue

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
def test_an_interrupt_anywhere_loses_no_item_and_no_lease(
    make_leased: MakeQueue, operation: Callable[[SharedMemoryQueue], None]
) -> None:
    q = make_leased()

    def put_and_take() -> None:
        q.put_batch([1, 2])
        operation(q)

    for where in points(put_and_take):
        found = rest(q)
        assert len(found) in (0, 1, 2), where
        assert q.join(0), where
        heads = q._geometry.lease_heads
        with q._membership.operation() as record:
            assert [record.words.load(heads + lease * 64) for lease in range(2)] == [0, 0], where
    rest(q)


def test_an_interrupted_join_can_be_called_again(make_leased: MakeQueue) -> None:
    q = make_leased()
    q.put(1)
    for _ in points(lambda: q.join(0)):
        assert not q.join(0)
    q.get()
    q.task_done()
    assert q.join(0)
