"""The end of work on a queue with leases: it comes with the end of the last item, and not before."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from shared_multiprocess_queue import Empty, SharedMemoryQueue, ShutDown
from tests.support.children import end_of, fork
from tests.support.queues import MakeQueue
from tests.support.waiting import LONG, eventually, in_thread, sleeps

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


def wait_for_its_end(pid: int) -> None:
    eventually(lambda: os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT), "the child's end")


@contextmanager
def leased_elsewhere(
    q: SharedMemoryQueue, end: Callable[[SharedMemoryQueue], object]
) -> Iterator[tuple[Callable[[], int], int]]:
    """Let a child lease an item; give what makes it go on to the end of it, and its process id."""
    read, write = os.pipe()

    def child() -> None:
        os.close(write)
        q.get()
        os.read(read, 1)
        end(q)
        q.close()

    pid = fork(child)
    os.close(read)
    try:
        eventually(lambda: [one for one in q.get_metrics()["leased"] if one["pid"] == pid], "the lease of the child")
        yield lambda: os.write(write, b"1"), pid
    finally:
        os.close(write)  # ends the read in any case
        end_of(pid)


def end_it(q: SharedMemoryQueue) -> None:
    q.task_done()


def give_it_back(q: SharedMemoryQueue) -> None:
    """``close`` gives back what is leased."""


def test_a_get_waits_for_the_lease_of_another_process(make_leased: MakeQueue) -> None:
    q = make_leased()
    q.put("job")
    with leased_elsewhere(q, end_it) as (go_on, _):
        q.shutdown()
        with pytest.raises(Empty):
            q.get_nowait()
        waiter = in_thread(q.get)
        eventually(sleeps(q, "get"))
        assert not waiter.done()
        go_on()
        with pytest.raises(ShutDown):
            waiter.result(LONG)
    assert q.join(0)
    with pytest.raises(ShutDown):
        q.get_nowait()


def test_the_item_of_a_worker_that_gives_it_back_comes_after_a_shutdown(make_leased: MakeQueue) -> None:
    q = make_leased()
    q.put("job")
    with leased_elsewhere(q, give_it_back) as (go_on, _):
        q.shutdown()
        waiter = in_thread(q.lease)
        eventually(sleeps(q, "get"))
        go_on()
        lease = waiter.result(LONG)
    assert (lease.item, lease.deliveries) == ("job", 2)
    lease.done()
    with pytest.raises(ShutDown):
        q.get()


def test_the_last_item_of_a_killed_worker_comes_after_a_shutdown(make_leased: MakeQueue) -> None:
    q = make_leased()
    q.put("job")
    with leased_elsewhere(q, end_it) as (_, pid):
        q.shutdown()
        waiter = in_thread(q.lease)
        eventually(sleeps(q, "get"))
        os.kill(pid, signal.SIGKILL)
        wait_for_its_end(pid)
        lease = waiter.result(LONG)
        assert (lease.item, lease.deliveries) == ("job", 2)
        lease.done()


def test_a_process_that_has_an_item_does_not_wait_for_others(make_leased: MakeQueue) -> None:
    q = make_leased()
    q.put_batch(["theirs", "mine"])
    with leased_elsewhere(q, end_it) as (go_on, _):
        assert q.get() == "mine"
        q.shutdown()
        with pytest.raises(ShutDown):
            q.get()
        q.task_done()
        with pytest.raises(Empty):
            q.get_nowait()
        go_on()
    with pytest.raises(ShutDown):
        q.get()


def test_iteration_ends_with_the_last_item(make_leased: MakeQueue) -> None:
    q = make_leased()
    q.put_batch([0, 1, 2])
    q.shutdown()
    seen = []
    for item in q:
        seen.append(item)
        q.task_done()
    assert seen == [0, 1, 2]
    assert q.join(0)


def test_an_immediate_shutdown_drops_what_is_not_being_processed(make_leased: MakeQueue) -> None:
    q = make_leased()
    q.put_batch(["mine", "dropped"])
    lease = q.lease()
    q.shutdown(immediate=True)
    assert (q.qsize(), q.empty(), q.join(0)) == (0, True, False)
    waiter = in_thread(q.join)
    with pytest.raises(ShutDown):
        q.get()
    lease.done()
    assert waiter.result(LONG)
    assert q.join(0)


@pytest.mark.parametrize("last", [False, True])
def test_what_is_given_back_after_an_immediate_shutdown_is_dropped(make_leased: MakeQueue, last: bool) -> None:
    q = make_leased()
    q.put("job")
    lease = q.lease()
    q.shutdown(immediate=True)
    lease.release(last=last)
    assert (q.qsize(), q.join(0), q.get_metrics()["leased"]) == (0, True, [])
    with pytest.raises(ShutDown):
        q.lease()


def test_what_came_back_before_an_immediate_shutdown_is_dropped(make_leased: MakeQueue) -> None:
    q = make_leased()
    q.put("job")
    q.lease().release(delay=30)
    q.shutdown(immediate=True)
    assert (q.qsize(), q.empty(), q.join(0)) == (0, True, True)
    with pytest.raises(ShutDown):
        q.get()


def test_an_immediate_shutdown_lets_join_pass_a_killed_worker(make_leased: MakeQueue) -> None:
    q = make_leased()
    q.put("job")
    with leased_elsewhere(q, end_it) as (_, pid):
        q.shutdown(immediate=True)
        assert not q.join(0)
        os.kill(pid, signal.SIGKILL)
        wait_for_its_end(pid)
        assert q.join(LONG)


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="no such descriptors")
def test_a_doorbell_is_silent_while_another_process_has_the_last_item(make_leased: MakeQueue) -> None:
    q = make_leased()
    q.put("job")
    readable = q.readable
    with leased_elsewhere(q, end_it) as (go_on, _):
        q.shutdown()

        def is_silent() -> bool:
            with pytest.raises(Empty):
                q.get_nowait()
            return not select.select([readable], [], [], 0)[0]

        eventually(is_silent)
        go_on()
        eventually(lambda: select.select([readable], [], [], LONG)[0] and finds_the_end(q))


def finds_the_end(q: SharedMemoryQueue) -> bool:
    try:
        q.get_nowait()
    except Empty:
        return False
    except ShutDown:
        return True
    return False
