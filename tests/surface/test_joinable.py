"""``JoinableQueue`` as programs use that of multiprocessing."""

from __future__ import annotations

import inspect
import multiprocessing
import multiprocessing.queues
import os
import queue
import threading
from contextlib import suppress
from typing import Any

import pytest

from shared_multiprocess_queue import (
    Empty,
    JoinableQueue,
    LeasesRequiredError,
    Queue,
    SharedMemoryFullError,
    SharedMemoryQueue,
    swap,
)
from shared_multiprocess_queue._platform import shared_memory
from shared_multiprocess_queue._platform.shared_memory import Segment
from tests.support.places import SHM
from tests.support.waiting import LONG

pytestmark = pytest.mark.usefixtures("each_engine")

MANY = 200


def work(tasks: JoinableQueue, results: Queue) -> None:
    for item in iter(tasks.get, None):
        results.put(item)
        tasks.task_done()
    tasks.task_done()


def test_join_waits_for_children(start_method: str) -> None:
    with JoinableQueue() as tasks, Queue() as results:
        context: Any = multiprocessing.get_context(start_method)
        children = [context.Process(target=work, args=(tasks, results)) for _ in range(2)]
        for child in children:
            child.start()
        for number in [*range(MANY), None, None]:
            tasks.put(number)
        assert tasks.join(LONG)
        assert sorted(results.get_nowait() for _ in range(MANY)) == list(range(MANY))
        for child in children:
            child.join()


@pytest.mark.parametrize("theirs", [queue.Queue, multiprocessing.queues.JoinableQueue], ids=lambda cls: cls.__module__)
def test_it_has_join_and_task_done_with_their_parameters(theirs: Any) -> None:
    for name in ("join", "task_done"):
        theirs_of, ours = (set(inspect.signature(getattr(cls, name)).parameters) for cls in (theirs, JoinableQueue))
        assert theirs_of <= ours
    assert set(inspect.signature(theirs).parameters) <= set(inspect.signature(JoinableQueue).parameters)


def test_many_items_may_be_in_processing_at_once() -> None:
    with JoinableQueue() as q:
        for number in range(MANY):
            q.put(number)
        assert [q.get() for _ in range(MANY)] == list(range(MANY))
        assert len(q.get_metrics()["leased"]) == MANY
        for _ in range(MANY):
            assert not q.join(timeout=0)
            q.task_done()
        assert q.join(timeout=0)


@pytest.mark.parametrize("maxsize", [0, 3, 100_000])
def test_the_number_of_leases_does_not_depend_on_maxsize(maxsize: int) -> None:
    with JoinableQueue(maxsize) as q:
        assert (q.maxsize == maxsize) is (maxsize > 0)
        memory, addresses = shared_memory.size_of_all(), shared_memory.address_limit()
        assert q.leases == swap.default_sizes(0, memory, addresses, has_leases=True).leases


def test_batches_and_leases_take_as_many() -> None:
    with JoinableQueue() as q:
        q.put_batch(range(MANY))
        got: list[int] = []
        leases: list[Any] = []
        while not q.empty():
            got += q.get_batch(7)
            with suppress(Empty):
                leases += q.lease_batch(5, block=False)
        assert sorted([*got, *[lease.item for lease in leases]]) == list(range(MANY))
        for lease in leases:
            lease.done()
        for _ in got:
            q.task_done()
        assert q.join(timeout=0)


def test_both_engines_share_the_lease_slots() -> None:
    with JoinableQueue() as q, SharedMemoryQueue(q.name, engine="atomics") as other:
        q.put_batch(range(MANY))
        got = [(q if number % 3 else other).get() for number in range(MANY)]
        assert got == list(range(MANY))
        for number in range(MANY):
            (q if number % 3 else other).task_done()
        assert other.join(timeout=0)


# ---- task_done of another thread ------------------------------------------------------------------------------------


def in_a_thread(call: Any) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


def test_another_thread_may_say_that_a_task_is_done() -> None:
    with JoinableQueue() as q:
        q.put(1)
        q.get()
        in_a_thread(q.task_done)
        assert q.join(timeout=0)


def test_a_thread_ends_its_own_items_first() -> None:
    with JoinableQueue() as q:
        q.put(1)
        q.put(2)
        q.get()

        def get_and_end() -> None:
            q.get()
            q.task_done()

        in_a_thread(get_and_end)
        assert [leased["position"] for leased in q.get_metrics()["leased"]] == [0]
        q.task_done()


def test_threads_that_end_each_others_items_end_each_once() -> None:
    with JoinableQueue() as q:
        q.put_batch(range(MANY))
        for _ in range(MANY):
            q.get()
        too_many: list[ValueError] = []

        def end() -> None:
            for _ in range(MANY // 4 + 1):
                try:
                    q.task_done()
                except ValueError as error:
                    too_many.append(error)

        threads = [threading.Thread(target=end) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert q.join(timeout=0)
        assert len(too_many) == 4


def test_task_done_too_often_is_a_value_error() -> None:
    with JoinableQueue() as q:
        q.put(1)
        q.get()
        q.task_done()
        with pytest.raises(ValueError, match="too many times"):
            q.task_done()


def test_a_queue_without_leases_says_how_to_get_them() -> None:
    with Queue() as q:
        for call in ("task_done()", "join()", "lease()", "lease_batch(2)"):
            with pytest.raises(LeasesRequiredError, match=r"create it with leases=N, .*JoinableQueue"):
                eval(f"q.{call}")
        assert not hasattr(q, "task_done")
        assert not hasattr(q, "join")


# ---- memory ---------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files")
def test_lease_slots_take_memory_as_they_are_used() -> None:
    with JoinableQueue() as q:

        def memory() -> int:
            return (SHM / f"{q.name}-queue").stat().st_blocks * 512

        assert memory() < 1 << 19
        for _ in range(100):  # one at a time takes one lease slot, or a few
            q.put(b"1")
            q.get()
            q.task_done()
        before = memory()
        assert before < 1 << 20
        for _ in range(40):
            q.put(b"1")
            q.get()
        assert before + 36 * 4096 < memory() < before + 120 * 4096


def test_a_get_without_memory_for_its_lease_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with JoinableQueue() as q:
        q.put(1)
        q.put(2)
        q.get()

        def full(*_: int) -> None:
            raise OSError(28, os.strerror(28))

        with monkeypatch.context() as patch:
            patch.setattr(Segment, "reserve", full)
            with pytest.raises(SharedMemoryFullError, match="no shared memory left"):
                q.get()
            assert q.qsize() == 1
            q.task_done()
        assert q.get() == 2
        q.task_done()
        assert q.join(timeout=0)
