"""Children of every kind use the handle they are given; a fork comes at any moment."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from shared_multiprocess_queue import DeserializationError, RoleTakenError, SharedMemoryQueue
from shared_multiprocess_queue._platform import processes
from tests.support.children import forked, running
from tests.support.queues import MakeQueue, drained
from tests.support.waiting import LONG, eventually, in_thread

# From 3.12 on Python warns of every fork beside a thread; that is what some tests here are about.
pytestmark = [
    pytest.mark.usefixtures("engines"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def answer(q: SharedMemoryQueue, answers: SharedMemoryQueue) -> None:
    """Send every item back with this process's id, until None comes."""
    while (item := q.get(timeout=LONG)) is not None:
        answers.put((os.getpid(), item))


def use(q: SharedMemoryQueue, count: int) -> None:
    for number in range(count):
        q.put((os.getpid(), number))


def close(q: SharedMemoryQueue) -> None:
    q.close()


def nothing(*_: object) -> None:
    pass


def collect(q: SharedMemoryQueue, answers: SharedMemoryQueue) -> None:
    answers.put(list(iter(lambda: q.get(timeout=LONG), None)))


def be_a_parent(method: str, q: SharedMemoryQueue, answers: SharedMemoryQueue) -> None:
    """Start a child, and end before it does anything."""
    context = multiprocessing.get_context(method)
    child = context.Process(target=report_when_orphaned, args=(q, answers, os.getpid()))  # type: ignore[attr-defined]
    child.start()
    os._exit(0)  # without the join that multiprocessing would do


def report_when_orphaned(q: SharedMemoryQueue, answers: SharedMemoryQueue, parent: int) -> None:
    eventually(lambda: os.getppid() != parent, "the parent's end")
    answers.put(os.getpid())
    answers.put(q.get(timeout=LONG))


# ---- children -------------------------------------------------------------------------------------------------------


def test_children_of_every_kind_use_the_handle_they_are_given(
    make_queue: MakeQueue, mode: str, start_method: str
) -> None:
    q, answers = make_queue(mode=mode), make_queue("answers", mode=mode)
    with running(start_method, answer, q, answers) as child:
        for number in range(5):
            q.put(number)
            assert answers.get(timeout=LONG) == (child.pid, number)
        q.put(None)
    assert q.empty()
    assert answers.empty()


def test_a_child_need_not_close_what_it_was_given(make_queue: MakeQueue, start_method: str) -> None:
    q = make_queue(capacity=10)
    with running(start_method, use, q, 3) as child:
        pass
    assert drained(q) == [(child.pid, 0), (child.pid, 1), (child.pid, 2)]
    assert list(q.get_metrics()["participants"]) == [os.getpid()]


def test_a_child_that_closes_its_handle_closes_only_its_own(make_queue: MakeQueue, start_method: str) -> None:
    q = make_queue()
    q.put(1)
    with running(start_method, close, q):
        pass
    assert not q.closed
    assert q.get() == 1
    assert Path("/dev/shm", f"{q.run_id}-q-queue").exists()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("next_method", ["fork", "spawn"])
def test_a_grandchild_goes_on_when_the_child_between_is_gone(
    make_queue: MakeQueue, method: str, next_method: str
) -> None:
    q, answers = make_queue(), make_queue("answers")
    with running(method, be_a_parent, next_method, q, answers):
        pass
    grandchild = answers.get(timeout=LONG)
    q.put("are you there?")
    assert answers.get(timeout=LONG) == "are you there?"
    eventually(lambda: list(q.get_metrics()["participants"]) == [os.getpid()], "the grandchild's end")
    assert grandchild != os.getpid()


def test_processes_that_share_a_queue_get_every_item_exactly_once(make_queue: MakeQueue, start_method: str) -> None:
    q, answers = make_queue(capacity=3), make_queue("answers", capacity=4, item_size=100_000)
    each = 300
    with (
        running(start_method, use, q, each) as one,
        running(start_method, use, q, each) as other,
        running(start_method, collect, q, answers),
        running(start_method, collect, q, answers),
    ):
        one.join(LONG)
        other.join(LONG)
        q.put_batch([None, None])
        got = [answers.get(timeout=LONG), answers.get(timeout=LONG)]
    assert Counter(got[0] + got[1]) == Counter((child.pid, n) for child in (one, other) for n in range(each))
    for items in got:
        for child in (one, other):
            numbers = [number for pid, number in items if pid == child.pid]
            assert numbers == sorted(numbers), "the order of one producer was not kept"


# ---- fork -----------------------------------------------------------------------------------------------------------


def test_a_forked_child_has_records_of_its_own(make_queue: MakeQueue) -> None:
    q, answers = make_queue(), make_queue("answers")
    q.put("for the child")
    before = q.get_metrics()["participants"]

    def child() -> None:
        answers.put(q.get())
        answers.put(q.get_metrics()["participants"])

    with forked(child) as pid:
        assert answers.get(timeout=LONG) == "for the child"
        assert answers.get(timeout=LONG) == {**before, pid: before[os.getpid()]}
    assert q.get_metrics()["participants"] == before


@pytest.mark.parametrize("how", ["return", "collect", "sys.exit", "close", "kill"])
def test_a_forked_child_that_only_ends_touches_nothing_of_its_parents(
    make_queue: MakeQueue, mode: str, how: str
) -> None:
    q = make_queue(mode=mode)
    q.put(0)
    q.put("stays")
    assert q.get() == 0
    before = q.get_metrics()["participants"]
    handles = [q]
    if how == "kill":
        pid = os.fork()
        if pid == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(pid, 0)
    else:

        def child() -> None:
            if how == "collect":
                made = handles.pop()
                made.__del__()
            if how == "sys.exit":
                with suppress(SystemExit):
                    sys.exit()
                atexit._run_exitfuncs()  # as an interpreter does that was forked and ends by itself
            if how == "close":
                q.close()

        with forked(child):
            pass
    assert q.get_metrics()["participants"] == before
    if mode == "spsc":
        with SharedMemoryQueue("q", run_id=q.run_id) as other:
            for call in (other.get_nowait, lambda: other.put_nowait(1)):
                with pytest.raises(RoleTakenError) as caught:
                    call()
                assert caught.value.pid == os.getpid()
    assert q.get() == "stays"


def test_a_forked_child_forgets_that_its_parent_is_the_producer(make_queue: MakeQueue) -> None:
    q = make_queue(mode="spsc")
    q.put("of the parent")
    parent = os.getpid()

    def child() -> None:
        for call in (lambda: q.put("of the child"), lambda: q.put_batch(["of the child"])):
            with pytest.raises(RoleTakenError) as caught:
                call()  # type: ignore[no-untyped-call]
            assert caught.value.pid == parent
        assert q.get() == "of the parent"  # there was no consumer

    with forked(child):
        pass
    q.put("still the producer")
    assert q.get() == "still the producer"


def test_what_the_parent_keeps_back_is_not_the_childs(make_queue: MakeQueue) -> None:
    """An item that a batch of the parent left for its next get is there once, not once in each process."""
    q = make_queue(capacity=4)
    q.put_batch([1, Unreadable(), 3])
    assert q.get_batch(4) == [1]

    def child() -> None:
        assert q.empty()
        assert drained(q) == []
        q.close()

    with forked(child):
        pass
    with pytest.raises(DeserializationError):
        q.get()
    assert q.get() == 3


def cannot_be_read(*_: object) -> None:
    raise LookupError("on purpose")


class Unreadable:
    def __reduce__(self) -> tuple[Any, ...]:
        return cannot_be_read, ()


@pytest.mark.parametrize("close_it", [True, False])
@pytest.mark.parametrize("blocked", ["get", "put", "put_batch"])
def test_a_child_forked_while_a_thread_is_blocked_uses_the_queue(
    make_queue: MakeQueue, blocked: str, close_it: bool
) -> None:
    """Then it leaves, and the blocked thread goes on."""
    q = make_queue(capacity=2)
    if blocked != "get":
        q.put_batch([1, 2])
    operations: dict[str, Callable[[], object]] = {
        "get": q.get,
        "put": lambda: q.put(3),
        "put_batch": lambda: q.put_batch([3, 4]),
    }
    operation = in_thread(operations[blocked])
    eventually(lambda: q.get_metrics()[f"{blocked[:3]}_waits"], "its sleep")

    def child() -> None:
        if blocked == "get":
            q.put("from the child")
        else:
            assert [q.get(), q.get()] == [1, 2]
        if close_it:
            q.close()

    with forked(child):
        result = operation.result(LONG)
    if blocked == "get":
        assert result == "from the child"
    assert drained(q) == {"get": [], "put": [3], "put_batch": [3, 4]}[blocked]


@pytest.mark.atomics_only("takes over a step of the engine, which the native one does inside of C")
def test_a_child_forked_under_the_handles_own_lock_is_not_blocked(make_queue: MakeQueue) -> None:
    """Another thread held that lock at the fork, and the child has no such thread."""
    q = make_queue()
    held, free = threading.Event(), threading.Event()

    def hold() -> None:
        with q._membership.records.lock:
            held.set()
            free.wait(LONG)

    holder = in_thread(hold)
    assert held.wait(LONG)
    try:
        with forked(lambda: (q.put("from the child"), q.close())):  # type: ignore[func-returns-value]
            pass
    finally:
        free.set()
    holder.result(LONG)
    assert q.get() == "from the child"


@pytest.mark.atomics_only("takes over a step of the engine, which the native one does inside of C")
@pytest.mark.parametrize("use_", ["put", "get"])
def test_a_child_forked_while_a_thread_is_in_the_ring_can_close_its_handle(make_queue: MakeQueue, use_: str) -> None:
    """What that thread referred to stays in the child for ever; the memory is let go all the same."""
    q = make_queue(capacity=2)
    q.put(1)
    inside, go_on = threading.Event(), threading.Event()
    wake = q._membership.parking.wake

    def wake_later(*arguments: Any) -> None:  # the last step of the ring in a put and in a get
        inside.set()
        assert go_on.wait(LONG)
        wake(*arguments)

    q._membership.parking.wake = wake_later  # type: ignore[assignment, method-assign]
    operation = in_thread(q.get) if use_ == "get" else in_thread(q.put, 2)
    try:
        assert inside.wait(LONG)
        with forked(q.close):
            pass
    finally:
        go_on.set()
    assert operation.result(LONG) == (1 if use_ == "get" else None)
    assert drained(q) == ([] if use_ == "get" else [1, 2])


@pytest.mark.parametrize("times", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_children_forked_whatever_threads_do_all_use_the_queue(make_queue: MakeQueue, mode: str, times: int) -> None:
    """Each fork comes in the middle of whatever the threads do just then."""
    q, answers = make_queue(capacity=2, mode=mode), make_queue("answers", capacity=40)
    over = threading.Event()
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    def keep_going() -> int:
        count = 0
        while not over.is_set():
            q.put(count)
            assert q.get() == count
            count += 1
        return count

    worker = in_thread(keep_going)
    try:
        for number in range(times):
            with forked(lambda number=number: (answers.put(number), answers.close(), q.close())):  # type: ignore[func-returns-value, misc]
                pass
    finally:
        over.set()
        sys.setswitchinterval(before)
    assert worker.result(LONG) > 0
    assert sorted(drained(answers)) == list(range(times))
    assert q.empty()


def test_handles_are_shared_in_many_generations_of_forks(make_queue: MakeQueue) -> None:
    q = make_queue(capacity=10)

    def generation(number: int) -> None:
        q.put(number)
        if number < 4:
            with forked(lambda: generation(number + 1)):
                pass
        q.put(-number)

    generation(1)
    assert drained(q) == [1, 2, 3, 4, -4, -3, -2, -1]


# ---- many children --------------------------------------------------------------------------------------------------


def test_processes_that_come_and_go_use_up_nothing(make_queue: MakeQueue) -> None:
    q = make_queue()
    before = q.get_metrics()["participants"]
    for _ in range(300):
        with SharedMemoryQueue("q", run_id=q.run_id) as other:
            other.put(1)
            q.get()
    for _ in range(5):
        with forked(lambda: q.put(2)):
            pass
        assert q.get() == 2
    assert q.get_metrics()["participants"] == before
    used = q._membership.memory.words()
    from shared_multiprocess_queue._ring.layout import RECORDS_USED_AT

    assert used.load(RECORDS_USED_AT) <= 4, "records of those who left, or died, are taken again"


# ---- without descriptors --------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere psutil looks")
def test_a_process_without_a_descriptor_left_declares_nobody_dead() -> None:
    """It cannot look into /proc, and a live owner that counts as dead would lose its items to others."""
    import resource

    me = processes.identity()

    def look() -> None:
        used = len(os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used // 2, used))
        with pytest.raises(OSError, match="Too many open files"):
            Path("/proc/self/stat").read_bytes()
        assert processes.is_alive(me.pid, me.start)

    with forked(look):
        pass
