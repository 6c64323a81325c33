"""A forked child touches a queue when it uses it and not before, and then as itself."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared_multiprocess_queue import QueueClosedError, SharedMemoryQueue
from shared_multiprocess_queue._engine.records import State
from tests.support.children import in_child
from tests.support.places import SHM
from tests.support.queues import MakeQueue
from tests.support.waiting import LONG, eventually

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.mark.skipif(not SHM.is_dir(), reason="cuts a segment as a file")
@pytest.mark.parametrize("close", [False, True])
def test_a_child_lives_that_does_not_use_a_queue_whose_segment_was_cut(
    run_id: str, each_engine: str, mode: str, close: bool
) -> None:
    """To touch the memory would end it by SIGBUS. Not even to close the handle touches it."""

    def parent() -> None:
        q = SharedMemoryQueue("q", create=True, capacity=3, run_id=run_id, mode=mode)  # type: ignore[arg-type]
        q.put(1)
        q.get()
        os.truncate(SHM / f"{run_id}-q-queue", 0)

        def child() -> None:
            if close:
                q.close()
            else:
                import atexit

                atexit._run_exitfuncs()

        status = in_child(child)
        q.unlink()
        os._exit(0 if status == 0 else 2)

    assert in_child(parent) == 0
    assert not Path(SHM / f"{run_id}-q-queue").exists()


def test_a_child_that_closes_a_handle_leaves_the_parents_records(make_queue: MakeQueue, engines: str) -> None:
    q = make_queue()
    q.put(1)
    before = q.get_metrics()["participants"]
    assert in_child(q.close) == 0
    assert q.get_metrics()["participants"] == before == {os.getpid(): before[os.getpid()]}
    assert q.get() == 1


def test_every_way_to_use_a_queue_first_is_the_childs_own(make_queue: MakeQueue, engines: str) -> None:
    q = make_queue(capacity=8)
    ways: list[Callable[[], object]] = [
        lambda: q.put(2),
        lambda: q.put_nowait(2),
        lambda: q.put_batch([2, 3]),
        q.get,
        lambda: q.get_batch(3),
    ]
    looks: list[Callable[[], object]] = [q.qsize, q.empty, q.full, lambda: repr(q), q.get_metrics]
    for number, use in enumerate([*ways, *looks]):

        def child(use: Callable[[], object] = use) -> None:
            use()
            if use in looks:  # a look may go without a record
                q.put(2)
            assert os.getpid() in q.get_metrics()["participants"]
            q.close()

        q.put(1)
        assert in_child(child) == 0, number
        assert set(q.get_metrics()["participants"]) == {os.getpid()}, number
        while not q.empty():
            q.get()


def test_threads_of_a_child_use_it_first_at_the_same_time(make_queue: MakeQueue, engines: str) -> None:
    q = make_queue(capacity=100)
    q.put("parent's")

    def child() -> None:
        go = threading.Barrier(8)

        def use(number: int) -> None:
            go.wait(LONG)
            for _ in range(5):
                q.put(number)

        threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)
        q.close()
        assert q.closed

    for _ in range(5):
        assert in_child(child) == 0
        items = q.get_batch(100)
        assert sorted(i for i in items if i != "parent's") == sorted(list(range(8)) * 5)
        assert set(q.get_metrics()["participants"]) == {os.getpid()}, "a record of the child was left"


def test_a_child_forked_while_another_thread_closes_can_close_and_end(make_queue: MakeQueue, engines: str) -> None:
    q = make_queue()
    q.put(1)
    inside, go_on = threading.Event(), threading.Event()
    real, parent = q._membership._end, os.getpid()

    def slow(wait: bool) -> bool:
        if os.getpid() == parent:
            inside.set()
            go_on.wait(LONG)
        return real(wait)

    q._membership._end = slow  # type: ignore[method-assign]
    thread = threading.Thread(target=q.close)
    thread.start()
    try:
        eventually(inside.is_set, "the close")
        assert in_child(q.close) == 0
    finally:
        go_on.set()
        thread.join(LONG)
    assert q.closed


def test_grandchildren_settle_for_themselves(make_queue: MakeQueue, engines: str) -> None:
    q = make_queue(capacity=8)
    q.put("parent")

    def grandchild() -> None:
        q.put("grandchild")
        assert os.getpid() in q.get_metrics()["participants"]

    def unused() -> None:
        assert in_child(grandchild) == 0

    def used() -> None:
        q.put("child")
        assert in_child(grandchild) == 0

    assert in_child(unused) == 0
    assert in_child(used) == 0
    assert q.get_batch(8) == ["parent", "grandchild", "child", "grandchild"]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_forked_within_a_batch_leaves_it_to_the_parent(
    make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child unwound the parent's frames, and took back the put that the parent had claimed."""
    q = make_queue(engine="atomics", capacity=4)
    lock = q._membership.batch_lock
    release = lock.release
    children: list[int] = []

    def release_and_fork(record: Any) -> None:
        release(record)
        if not children:
            children.append(os.fork())
            if children == [0]:
                raise SystemExit(0)
            os.waitpid(children[0], 0)

    monkeypatch.setattr(lock, "release", release_and_fork)
    try:
        q.put_batch(["one", "two"])
    finally:
        if children == [0]:
            os._exit(0)
    assert q.get_batch(2) == ["one", "two"]


def test_a_child_forked_during_a_close_keeps_off_its_parents_records(make_queue: MakeQueue, each_engine: str) -> None:
    """Another thread of the parent was closing the handle.

    Between the mark of close() and what it does then, the child put with its parent's record.
    """
    q = make_queue(engine=each_engine)
    q.put(0)
    q._membership.records.state = State.CLOSING  # as another thread has it that has just begun to close
    if (pid := os.fork()) == 0:
        try:
            q.put(1)
        except QueueClosedError:
            os._exit(7)
        os._exit(1)
    q._membership.records.state = State.OPEN
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert q.qsize() == 1
