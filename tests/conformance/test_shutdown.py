"""The end of work: no put is accepted any more, and gets end when nothing can come."""

from __future__ import annotations

import queue
import select
import sys
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

import shared_multiprocess_queue
from shared_multiprocess_queue import Full, QueueClosedError, SharedMemoryQueue, ShutDown
from shared_multiprocess_queue._ring import layout
from tests.support.children import running
from tests.support.queues import MakeQueue
from tests.support.waiting import LONG, eventually, in_thread, sleeps

pytestmark = [
    pytest.mark.usefixtures("engines"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

PUTS: dict[str, Callable[[SharedMemoryQueue], object]] = {
    "put": lambda q: q.put(1),
    "put in time": lambda q: q.put(1, timeout=LONG),
    "put_nowait": lambda q: q.put_nowait(1),
    "put_batch": lambda q: q.put_batch([1, 2]),
    "put_batch at once": lambda q: q.put_batch([1, 2], block=False),
}
GETS: dict[str, Callable[[SharedMemoryQueue], object]] = {
    "get": lambda q: q.get(),
    "get in time": lambda q: q.get(timeout=LONG),
    "get_nowait": lambda q: q.get_nowait(),
    "get_batch": lambda q: q.get_batch(2),
}


@pytest.mark.skipif(sys.version_info < (3, 13), reason="queue has no ShutDown")
def test_shut_down_is_that_of_the_standard_library() -> None:
    assert ShutDown is getattr(queue, "ShutDown")  # noqa: B009 (type checkers of older versions do not know it)


def test_shut_down_stands_beside_empty_and_full() -> None:
    assert SharedMemoryQueue.ShutDown is shared_multiprocess_queue.ShutDown
    assert not issubclass(ShutDown, (queue.Empty, queue.Full))


@pytest.mark.parametrize("room", [True, False])
@pytest.mark.parametrize("put", PUTS)
def test_a_put_after_a_shutdown_is_refused(make: MakeQueue, put: str, room: bool) -> None:
    q = make(capacity=4)
    items = [0] if room else [0, 1, 2, 3]
    q.put_batch(items)
    q.shutdown()
    with pytest.raises(ShutDown):
        PUTS[put](q)
    assert list(q) == items


@pytest.mark.parametrize("get", GETS)
def test_gets_take_what_is_left_and_then_find_the_end(make: MakeQueue, get: str) -> None:
    q = make(capacity=4)
    q.put_batch([0, 1])
    q.shutdown()
    assert q.qsize() == 2
    assert [q.get(), q.get_nowait()] == [0, 1]
    for _ in range(2):
        with pytest.raises(ShutDown):
            GETS[get](q)


def test_an_empty_batch_needs_no_open_queue(make: MakeQueue) -> None:
    q = make()
    q.shutdown()
    q.put_batch([])


@pytest.mark.parametrize("get", GETS)
def test_an_immediate_shutdown_drops_what_is_there(make: MakeQueue, get: str) -> None:
    q = make(capacity=4)
    q.put_batch([0, 1])
    q.shutdown(immediate=True)
    assert (q.qsize(), q.empty(), q.is_shutdown) == (0, True, True)
    with pytest.raises(ShutDown):
        GETS[get](q)
    with pytest.raises(ShutDown):
        q.put(2)
    assert list(q) == []


def test_a_second_shutdown_changes_nothing_or_drops_the_rest(make: MakeQueue) -> None:
    q = make(capacity=4)
    q.put_batch([0, 1])
    q.shutdown()
    q.shutdown()
    assert q.get() == 0
    q.shutdown(immediate=True)
    q.shutdown()
    with pytest.raises(ShutDown):
        q.get()


def test_every_handle_sees_the_shutdown_and_later_ones_attach(make: MakeQueue) -> None:
    q = make(capacity=4)
    same = SharedMemoryQueue(q.name, run_id=q.run_id)
    assert not same.is_shutdown
    q.put("left")
    q.shutdown()
    assert same.is_shutdown
    assert same.get_metrics()["shut_down"]
    q.close()
    with SharedMemoryQueue(q.name, run_id=q.run_id) as late, same:
        assert late.is_shutdown
        with pytest.raises(ShutDown):
            late.put(1)
        same.close()
        assert list(late) == ["left"]


def test_a_closed_handle_does_not_shut_down(make: MakeQueue) -> None:
    q = make()
    q.close()
    with pytest.raises(QueueClosedError):
        q.shutdown()
    with pytest.raises(QueueClosedError):
        assert q.is_shutdown


@pytest.mark.usefixtures("only_wakes")
@pytest.mark.parametrize("immediate", [False, True])
def test_a_shutdown_wakes_every_get(make: MakeQueue, immediate: bool) -> None:
    q = make()
    got = [in_thread(get, q) for get in GETS.values() if get is not GETS["get_nowait"]]
    eventually(lambda: q.get_metrics()["get_waits"] >= len(got))
    q.shutdown(immediate=immediate)
    for future in got:
        assert isinstance(future.exception(LONG), ShutDown)


@pytest.mark.usefixtures("only_wakes")
def test_a_shutdown_wakes_every_put(make: MakeQueue) -> None:
    q = make(capacity=2)
    q.put_batch([0, 1])
    putting = [in_thread(q.put, 2), in_thread(q.put_batch, [3, 4])]
    eventually(sleeps(q, "put", more_than=1))
    putting.append(in_thread(q.put_batch, [5, 6]))  # waits for the turn of the other batch
    q.shutdown()
    for future in putting:
        assert isinstance(future.exception(LONG), ShutDown)
    assert list(q) == [0, 1]


def test_a_batch_that_is_refused_leaves_neither_lock_nor_gate(make: MakeQueue) -> None:
    q = make(capacity=2)
    q.put(0)
    batch = in_thread(q.put_batch, [1, 2])
    eventually(sleeps(q, "put"))
    q.shutdown()
    assert isinstance(batch.exception(LONG), ShutDown)
    look = q._membership.look()
    assert look.load(layout.BATCH_OWNER_AT) == 0
    assert look.load(layout.GATE_AT) == 0
    assert not q._membership.is_batch_lock_held()
    with pytest.raises(ShutDown):  # not Full, though the gate may be shut
        q.put_nowait(3)


def test_iteration_ends_at_the_shutdown(make: MakeQueue) -> None:
    q = make(capacity=4)
    taken: Future[list[Any]] = in_thread(list, q)
    for item in range(10):
        q.put(item)
    q.shutdown()
    assert taken.result(LONG) == list(range(10))


def test_iteration_can_be_left_and_begun_again(make: MakeQueue) -> None:
    q = make(capacity=4)
    q.put_batch([0, 1, 2])
    for item in q:
        if item == 1:
            break
    q.shutdown()
    assert list(q) == [2]


@pytest.mark.parametrize("immediate", [False, True])
def test_a_doorbell_rings_at_the_shutdown(make: MakeQueue, immediate: bool) -> None:
    q = make(capacity=1)
    with pytest.raises(queue.Empty):
        q.get_nowait()
    readable = q.readable
    assert q.empty()
    q.shutdown(immediate=immediate)
    assert select.select([readable], [], [], LONG)[0]
    assert q.empty()  # says so, and leaves the descriptor readable: a get would raise ShutDown
    assert select.select([readable], [], [], 0)[0]
    with pytest.raises(ShutDown):
        q.get_nowait()


def test_a_full_queue_stays_full_until_its_items_are_taken(make: MakeQueue) -> None:
    q = make(capacity=1)
    q.put(0)
    with pytest.raises(Full):
        q.put_nowait(1)
    q.shutdown()
    assert q.full()
    assert q.get() == 0
    assert not q.full()


def takes_all(q: SharedMemoryQueue, answers: Any) -> None:
    answers.put(sorted(q))


def shuts_down(q: SharedMemoryQueue) -> None:
    q.shutdown()


def test_processes_end_with_the_queue(make_queue: MakeQueue, start_method: str) -> None:
    q, answers = make_queue("work", capacity=5), make_queue("answers", capacity=5)
    with running(start_method, takes_all, q, answers), running(start_method, takes_all, q, answers):
        for item in range(50):
            q.put(item)
        q.shutdown()
        taken = [answers.get(timeout=LONG), answers.get(timeout=LONG)]
    assert sorted(taken[0] + taken[1]) == list(range(50))


@pytest.mark.usefixtures("only_wakes")
def test_a_child_that_shuts_down_wakes_its_parent(make_queue: MakeQueue, start_method: str) -> None:
    q = make_queue()
    got = in_thread(q.get)
    eventually(sleeps(q, "get"))
    with running(start_method, shuts_down, q):
        assert isinstance(got.exception(LONG), ShutDown)
