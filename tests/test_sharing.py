"""Handles in several processes: children of each kind, strangers, and how they may leave."""

from __future__ import annotations

import atexit
import copy
import ctypes
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from shared_multiprocess_queue import (
    DeserializationError,
    Empty,
    Full,
    QueueClosedError,
    QueueNotFoundError,
    RoleTakenError,
    SharedMemoryQueue,
)
from shared_multiprocess_queue._platform import futex, processes
from shared_multiprocess_queue._ring.batch_lock import Gate
from shared_multiprocess_queue._ring.layout import GATE_AT, PRODUCER_AT

from .conftest import MakeQueue
from .waiting import LONG, eventually, in_thread

# From 3.12 on Python warns of every fork beside a thread; that is what some tests here are about.
pytestmark = [
    pytest.mark.usefixtures("engines"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


# ---- helpers --------------------------------------------------------------------------------------------------------


def drained(q: SharedMemoryQueue) -> list[Any]:
    """Take everything."""
    found: list[Any] = []
    with suppress(Empty):
        while True:
            found.append(q.get_nowait())
    return found


@contextmanager
def running(method: str, target: Callable[..., object], *arguments: object) -> Iterator[BaseProcess]:
    """Run a function in a child; at the end of the block the child must end well, and by itself."""
    process = multiprocessing.get_context(method).Process(target=target, args=arguments)  # type: ignore[attr-defined]
    process.start()
    try:
        yield process
        # Not join with a timeout, which waits for grandchildren, too: they have the pipe that it waits for.
        eventually(lambda: process.exitcode is not None, "the child's end")
        assert process.exitcode == 0
    finally:
        if process.is_alive():
            process.kill()
        process.join()


@contextmanager
def forked(function: Callable[[], object]) -> Iterator[int]:
    """Run a function in a child made by os.fork alone, which then goes without any ceremony."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            function()
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status)
    try:
        yield pid
        eventually(lambda: os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT), "the child's end")
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


@contextmanager
def stranger(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start an unrelated program, which knows no more than names."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


# ---- what children run (by name, for those that are spawned) ---------------------------------------------------------


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


# ---- pickled handles ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_handle_pickles_and_attaches_again(make_queue: MakeQueue, mode: str, protocol: int) -> None:
    q = make_queue(capacity=5, item_size=99, mode=mode, engine="atomics")
    q.put("before")
    data = pickle.dumps(q, protocol)
    with pickle.loads(data) as copied:
        assert copied is not q
        for attribute in ("name", "run_id", "capacity", "item_size", "mode", "engine"):
            assert getattr(copied, attribute) == getattr(q, attribute)
        assert copied.get() == "before"
        q.put("after")
        assert copied.get() == "after"
    assert not q.closed
    with pickle.loads(data) as again:
        q.put("the data can be used again")
        assert again.get() == "the data can be used again"


def test_a_copied_handle_is_one_more_handle(make_queue: MakeQueue) -> None:
    q = make_queue()
    with copy.copy(q) as one, copy.deepcopy(q) as other:
        one.put(1)
        assert other.get() == 1
    q.put(2)
    assert q.get() == 2


def test_a_handle_may_be_an_item(make_queue: MakeQueue) -> None:
    q, other = make_queue(), make_queue("other")
    q.put({"answer to": other})
    with q.get()["answer to"] as received:
        received.put("here")
    assert other.get() == "here"


def test_a_closed_handle_does_not_pickle(make_queue: MakeQueue) -> None:
    q = make_queue()
    q.close()
    with pytest.raises(QueueClosedError, match="is closed"):
        pickle.dumps(q)


def test_a_pickled_handle_of_a_queue_that_is_gone_says_so(make_queue: MakeQueue) -> None:
    q = make_queue()
    data = pickle.dumps(q)
    q.unlink()
    with pytest.raises(QueueNotFoundError, match=f"{q.run_id}-q-queue"):
        pickle.loads(data)


def test_a_handle_of_a_queue_that_is_gone_cannot_be_read_and_the_queue_it_came_by_goes_on(
    make_queue: MakeQueue,
) -> None:
    q, other = make_queue(), make_queue("other")
    q.put_batch([other, "next"])
    other.close()
    other.unlink()
    with pytest.raises(DeserializationError) as caught:
        q.get()
    assert isinstance(caught.value.__cause__, QueueNotFoundError)
    assert q.get() == "next"


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
                call()
            assert caught.value.pid == parent
        assert q.get() == "of the parent"  # nobody was the consumer

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
def test_a_child_forked_while_a_thread_is_blocked_uses_the_queue_and_leaves(
    make_queue: MakeQueue, blocked: str, close_it: bool
) -> None:
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
def test_a_child_forked_while_a_thread_holds_the_handles_own_lock_is_not_blocked_by_it(make_queue: MakeQueue) -> None:
    q = make_queue()
    held, free = threading.Event(), threading.Event()

    def hold() -> None:
        with q._membership.records.lock:
            held.set()
            free.wait(LONG)

    holder = in_thread(hold)
    assert held.wait(LONG)
    try:
        with forked(lambda: (q.put("from the child"), q.close())):
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

    q._membership.parking.wake = wake_later  # type: ignore[method-assign]
    operation = in_thread(q.get) if use_ == "get" else in_thread(q.put, 2)
    try:
        assert inside.wait(LONG)
        with forked(q.close):
            pass
    finally:
        go_on.set()
    assert operation.result(LONG) == (1 if use_ == "get" else None)
    assert drained(q) == ([] if use_ == "get" else [1, 2])


def test_children_forked_in_the_middle_of_whatever_threads_do_all_use_the_queue(
    make_queue: MakeQueue, mode: str
) -> None:
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
        for number in range(20):
            with forked(lambda number=number: (answers.put(number), answers.close(), q.close())):
                pass
    finally:
        over.set()
        sys.setswitchinterval(before)
    assert worker.result(LONG) > 0
    assert sorted(drained(answers)) == list(range(20))
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


# ---- strangers ------------------------------------------------------------------------------------------------------

USES_AND_LEAVES = """
import os, signal, sys
from shared_multiprocess_queue import SharedMemoryQueue
q = SharedMemoryQueue(sys.argv[1], run_id=sys.argv[2])
assert q.get(timeout=60) == "for the stranger"
q.put("from the stranger")
how = sys.argv[3]
if how == "exception":
    raise RuntimeError("on purpose")
if how == "kill -9":
    os.kill(os.getpid(), signal.SIGKILL)
if how == "os._exit":
    os._exit(0)
if how == "sys.exit":
    sys.exit(0)
if how == "terminate":
    os.kill(os.getpid(), signal.SIGTERM)
if how == "close":
    q.close()
if how == "cycle":
    q.itself = q
if how == "thread":
    import threading
    def look_for_ever():
        while True:
            q.get_metrics()
    threading.Thread(target=look_for_ever, daemon=True).start()
"""

LEAVES = {
    "end": 0,
    "exception": 1,
    "kill -9": -signal.SIGKILL,
    "os._exit": 0,
    "sys.exit": 0,
    "terminate": -signal.SIGTERM,
    "close": 0,
    "cycle": 0,
    "thread": 0,
}


@pytest.mark.parametrize("how", LEAVES)
def test_a_stranger_may_leave_as_it_likes_and_the_queue_stays(make_queue: MakeQueue, mode: str, how: str) -> None:
    q = make_queue(mode=mode, capacity=5)
    q.put_batch(["for the stranger", "for others"])
    if mode == "spsc":  # give the stranger both roles
        q.close()
        q = SharedMemoryQueue("q", run_id=q.run_id)
    with stranger(USES_AND_LEAVES, "q", q.run_id, how) as process:
        _, complaints = process.communicate(timeout=LONG)
        assert process.returncode == LEAVES[how]
    if how == "exception":
        assert complaints.startswith("Traceback (most recent call last):")
        assert complaints.endswith("RuntimeError: on purpose\n")
        assert "Exception ignored" not in complaints
        assert "resource_tracker" not in complaints
    else:
        assert complaints == ""
    assert q.get_metrics()["participants"] in ({os.getpid(): 1}, {})
    assert drained(q) == ["for others", "from the stranger"]
    q.put("goes on")
    with SharedMemoryQueue("q", run_id=q.run_id) as new:
        assert new.qsize() == 1
    q.close()


CREATES_AND_LEAVES = """
import os, signal, sys
from shared_multiprocess_queue import SharedMemoryQueue
q = SharedMemoryQueue("made", create=True, capacity=3, run_id=sys.argv[1])
q.put("from its creator")
if sys.argv[2] == "kill -9":
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "exception":
    raise RuntimeError("on purpose")
"""


@pytest.mark.parametrize("how", ["end", "exception", "kill -9"])
def test_a_queue_outlives_its_creator(run_id: str, how: str) -> None:
    with stranger(CREATES_AND_LEAVES, run_id, how) as process:
        _, complaints = process.communicate(timeout=LONG)
    assert (complaints == "") is (how != "exception")
    with SharedMemoryQueue("made", run_id=run_id) as q:
        assert q.get_nowait() == "from its creator"
        q.unlink()


BLOCKED = """
import sys
from shared_multiprocess_queue import SharedMemoryQueue
q = SharedMemoryQueue("q", run_id=sys.argv[1])
print("here", flush=True)
getattr(q, sys.argv[2])(*eval(sys.argv[3]))
print("done", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("how_many", [1, 3])
def test_getters_killed_while_they_wait_take_nothing_with_them(make_queue: MakeQueue, how_many: int) -> None:
    q = make_queue()
    for _ in range(how_many):
        waits = q.get_metrics()["get_waits"]
        with stranger(BLOCKED, q.run_id, "get", "()") as process:
            assert line(process) == "here"
            eventually(lambda waits=waits: q.get_metrics()["get_waits"] > waits, "its sleep")
            assert process.pid in q.get_metrics()["participants"]
            process.kill()
            process.wait(LONG)
    assert list(q.get_metrics()["participants"]) == [os.getpid()]
    for number in range(10):
        q.put(number)
        assert q.get_nowait() == number


def test_an_item_goes_to_the_getter_that_lives_when_another_was_killed_asleep(make_queue: MakeQueue) -> None:
    q = make_queue()
    with stranger(BLOCKED, q.run_id, "get", "()") as dead, stranger(BLOCKED, q.run_id, "get", "()") as alive:
        assert line(dead) == line(alive) == "here"
        eventually(lambda: q.get_metrics()["get_waits"] >= 2, "their sleep")
        dead.kill()
        dead.wait(LONG)
        q.put("for the living")
        assert line(alive) == "done"
    assert q.empty()


@pytest.mark.parametrize(("use_", "arguments"), [("put", "('dead',)"), ("put_batch", "(['dead', 'dead'],)")])
def test_putters_killed_while_they_wait_have_put_nothing_and_block_nobody(
    make_queue: MakeQueue, use_: str, arguments: str
) -> None:
    q = make_queue(capacity=2)
    q.put_batch([1, 2])
    with stranger(BLOCKED, q.run_id, use_, arguments) as process:
        assert line(process) == "here"
        eventually(lambda: q.get_metrics()["put_waits"], "its sleep")
        process.kill()
        process.wait(LONG)
    assert [q.get_nowait(), q.get_nowait()] == [1, 2]
    q.put("after", timeout=LONG)  # a gate that the dead batch shut opens by itself
    assert q.get_nowait() == "after"
    q.put_batch([3, 4], timeout=LONG)  # the lock that the dead batch held is inherited
    assert drained(q) == [3, 4]


def test_a_paused_process_is_alive_and_loses_nothing(make_queue: MakeQueue) -> None:
    q = make_queue()
    with stranger(BLOCKED, q.run_id, "get", "()") as process:
        assert line(process) == "here"
        eventually(lambda: q.get_metrics()["get_waits"], "its sleep")
        process.send_signal(signal.SIGSTOP)
        q.put("one")
        assert process.pid in q.get_metrics()["participants"]
        assert q.get_nowait() == "one"
        q.put("two")
        process.send_signal(signal.SIGCONT)
        assert line(process) == "done"
    assert q.empty()


STOPPED_WITH_LOCK = """
import math, os, signal, sys
from shared_multiprocess_queue import SharedMemoryQueue
q = SharedMemoryQueue("q", run_id=sys.argv[1], engine="atomics")
lock = q._membership.batch_lock
take = lock._flag.try_acquire
def stop():
    print("here", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
if sys.argv[2] == "between its words":
    lock._flag.try_acquire = lambda: take() and stop()
with q._membership.operation() as record:
    lock.acquire(record, math.inf, lambda: None)
    stop()
"""


@pytest.mark.parametrize("where", ["between its words", "held"])
def test_metrics_name_the_process_that_was_stopped_with_the_batch_lock(make_queue: MakeQueue, where: str) -> None:
    """Batches wait for it, and there is no slot that it holds."""
    q = make_queue()
    with stranger(STOPPED_WITH_LOCK, q.run_id, where) as process:
        assert line(process) == "here"
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        with pytest.raises(SharedMemoryQueue.Full):
            q.put_batch([1, 2], timeout=0.01)
        (blocker,) = q.get_metrics()["blocked_by"]
        assert (blocker["pid"], blocker["doing"], blocker["position"]) == (process.pid, "put_batch", 0)
        q.put("singles go on")
        process.kill()
        process.wait(LONG)
    assert q.get_metrics()["blocked_by"] == []
    q.put_batch([1, 2], timeout=LONG)
    assert drained(q) == ["singles go on", 1, 2]


STOPPED_WITH_SLOT = """
import os, signal, sys
from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue._ring import layout as _layout
q = SharedMemoryQueue("q", run_id=sys.argv[1], engine="atomics")
with q._membership.operation() as record:
    record.announce_get(1, 2)
    assert record.words.cas(_layout.HEAD, 1, 2)
    print("here", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
"""


def test_metrics_name_the_process_that_was_stopped_with_a_slot_that_only_a_batch_needs(make_queue: MakeQueue) -> None:
    q = make_queue(capacity=3)
    q.put_batch(["a", "b", "c"])
    assert q.get() == "a"
    with stranger(STOPPED_WITH_SLOT, q.run_id) as process:
        assert line(process) == "here"
        assert q.get() == "c"
        with pytest.raises(SharedMemoryQueue.Full):
            q.put_batch([1, 2], timeout=0.01)
        (blocker,) = q.get_metrics()["blocked_by"]
        assert (blocker["pid"], blocker["doing"], blocker["position"]) == (process.pid, "get", 1)
        process.kill()
        process.wait(LONG)
    assert q.get() == "b"
    assert q.get_metrics()["blocked_by"] == []
    q.put_batch([1, 2], timeout=LONG)
    assert drained(q) == [1, 2]


def test_metrics_do_not_blame_a_batch_that_waits_for_room(make_queue: MakeQueue) -> None:
    q = make_queue(capacity=2)
    q.put(1)
    with stranger(BLOCKED, q.run_id, "put_batch", "([2, 3],)") as process:
        assert line(process) == "here"
        words = q._membership.memory.words()
        eventually(lambda: words.load(GATE_AT), "the gate shut")
        eventually(lambda: q.get_metrics()["blocked_by"] == [], "nobody blamed while the gate is shut")
        assert q.get_nowait() == 1
        assert line(process) == "done"
    assert drained(q) == [2, 3]


RESTLESS = """
import sys
from shared_multiprocess_queue import SharedMemoryQueue
from queue import Full, Empty
q = SharedMemoryQueue("q", run_id=sys.argv[1])
print("here", flush=True)
while True:
    try:
        item = q.get(timeout=1)
        q.put(item, timeout=1)
        q.put_batch(q.get_batch(2, timeout=1), timeout=1)
    except (Full, Empty):
        pass
"""


def test_whoever_is_killed_whenever_blocks_nobody_and_doubles_nothing(make_queue: MakeQueue) -> None:
    """Tokens go round; a process that dies may take those it had in its hands, and no other is lost or doubled."""
    q = make_queue(capacity=4)
    lost_at_most = 0
    q.put_batch(["a", "b", "c"])
    for round_ in range(8):
        with stranger(RESTLESS, q.run_id) as one, stranger(RESTLESS, q.run_id) as other:
            assert line(one) == line(other) == "here"
            moved = q.get_metrics()["put_total"]
            eventually(
                lambda moved=moved, round_=round_: q.get_metrics()["put_total"] > moved + 10 + 7 * round_, "traffic"
            )
            one.kill()
            other.kill()
            one.wait(LONG)
            other.wait(LONG)
        lost_at_most += 4
        tokens = drained(q)
        assert len(tokens) == len(set(tokens)), f"doubled: {tokens}"
        assert set(tokens) <= {"a", "b", "c"}
        assert q.empty()
        assert not q.full()
        q.put_batch(["a", "b", "c"], timeout=LONG)  # and begin again with all of them
        assert q.qsize() == 3
        assert not q.full()
    with pytest.raises(Full):
        q.put_batch([1, 2], timeout=0)
    assert list(q.get_metrics()["participants"]) == [os.getpid()]


# ---- who is there ---------------------------------------------------------------------------------------------------


def test_participants_are_the_processes_that_have_the_queue_open(make_queue: MakeQueue) -> None:
    q = make_queue()
    me = os.getpid()
    assert set(q.get_metrics()["participants"]) == {me}
    with stranger(BLOCKED, q.run_id, "qsize", "()") as one, stranger(BLOCKED, q.run_id, "close", "()") as other:
        assert (line(one), line(one)) == (line(other), line(other)) == ("here", "done")
        assert set(q.get_metrics()["participants"]) == {me, one.pid}
        assert one.communicate(timeout=LONG) == ("", "")
        assert set(q.get_metrics()["participants"]) == {me}


def test_a_handle_has_a_record_for_each_thread_that_was_in_an_operation_at_once(make_queue: MakeQueue) -> None:
    q = make_queue()
    blocked = [in_thread(q.get) for _ in range(4)]
    eventually(lambda: q.get_metrics()["participants"][os.getpid()] >= 4, "four gets")
    q.put_batch([1, 2, 3])
    q.put(4)
    assert sorted(future.result(LONG) for future in blocked) == [1, 2, 3, 4]
    records = q.get_metrics()["participants"][os.getpid()]
    for number in range(100):
        q.put(number)
        q.get()
    assert q.get_metrics()["participants"][os.getpid()] == records, "records are used again"
    with SharedMemoryQueue("q", run_id=q.run_id) as other:
        q.close()
        assert other.get_metrics()["participants"] == {os.getpid(): 1}


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


OF_ITS_OWN_CLASS = """
import dataclasses, multiprocessing, sys
from shared_multiprocess_queue import SharedMemoryQueue

@dataclasses.dataclass
class Job:
    number: int

def put(queue):
    queue.put(Job(2))

if __name__ == "__main__":
    name, run_id, role = sys.argv[1:]
    queue = SharedMemoryQueue(name, run_id=run_id)
    if role == "reader":
        print(queue.get(timeout=60).number)
    elif role == "main":
        queue.put(Job(1))
    else:
        child = multiprocessing.get_context(role).Process(target=put, args=(queue,))
        child.start()
        child.join()
"""


@pytest.mark.parametrize("role", ["main", "fork", "spawn", "forkserver"])
def test_a_program_that_ends_with_its_handle_open_says_nothing(
    make_queue: MakeQueue, tmp_path: Path, role: str
) -> None:
    """Its classes kept the handle alive until atomics had lost its C library, and complained on stderr."""
    queue = make_queue()
    for name, who in (("one.py", role), ("two.py", "reader")):
        (tmp_path / name).write_text(OF_ITS_OWN_CLASS)
        ended = subprocess.run(
            [sys.executable, tmp_path / name, queue.name, queue.run_id, who],
            capture_output=True,
            text=True,
            check=False,
            timeout=LONG,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        )
        assert (ended.returncode, ended.stderr) == (0, "")
    assert queue.empty()


def test_a_handle_does_not_unpickle_to_another_queue_of_its_name(make_queue: MakeQueue) -> None:
    queue = make_queue()
    data = pickle.dumps(queue)
    queue.close()
    queue.unlink()
    make_queue()
    with pytest.raises(QueueNotFoundError, match="another one has its name"):
        pickle.loads(data)


# ---- threads of one handle ------------------------------------------------------------------------------------------


@pytest.mark.atomics_only("takes over a step of the engine, which the native one does inside of C")
def test_closing_a_handle_ends_its_batch_that_waits_for_the_lock_of_another(make_queue: MakeQueue, run_id: str) -> None:
    queue = make_queue(capacity=2)
    queue.put("there")
    other, handle = (SharedMemoryQueue(queue.name, run_id=run_id) for _ in range(2))
    waits = queue.get_metrics()["put_waits"]
    has_the_lock = in_thread(other.put_batch, [1, 2])
    eventually(lambda: queue.get_metrics()["put_waits"] > waits, "the first batch sleeps")
    sleep = handle._membership.parking.sleep
    sleeping = threading.Event()

    def sleep_and_tell(*arguments: Any) -> None:
        sleeping.set()
        sleep(*arguments)

    handle._membership.parking.sleep = sleep_and_tell  # type: ignore[method-assign]
    waits_for_it = in_thread(handle.put_batch, [3, 4])
    assert sleeping.wait(LONG)
    handle.close()
    with pytest.raises(QueueClosedError):
        waits_for_it.result(LONG)
    assert queue.get() == "there"
    has_the_lock.result(LONG)
    other.close()
    assert drained(queue) == [1, 2]


@pytest.mark.atomics_only("takes over a step of the engine, which the native one does inside of C")
def test_a_batch_whose_handle_is_closed_opens_its_gate_before_the_memory_goes(
    make_queue: MakeQueue, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It opened the gate after giving its record back, when close no longer waited for it: a crash."""
    queue = make_queue(capacity=2)
    queue.put("there")
    handle = SharedMemoryQueue(queue.name, run_id=run_id)
    waits = queue.get_metrics()["put_waits"]
    closed, opened, was_open = threading.Event(), threading.Event(), Gate.open

    def close() -> None:
        handle.close()
        closed.set()

    def open_slowly(gate: Gate, *arguments: Any, **keywords: Any) -> None:
        closed.wait(0.2)  # close could unmap the memory now, if it did not wait for this
        was_open(gate, *arguments, **keywords)
        opened.set()

    waiting = in_thread(handle.put_batch, [1, 2])
    eventually(lambda: queue.get_metrics()["put_waits"] > waits, "the batch sleeps")
    monkeypatch.setattr(Gate, "open", open_slowly)
    closing = in_thread(close)
    with pytest.raises(QueueClosedError):
        waiting.result(LONG)
    closing.result(LONG)
    assert opened.is_set()
    assert drained(queue) == ["there"]


@pytest.mark.atomics_only("takes over a step of the engine, which the native one does inside of C")
def test_an_item_kept_back_goes_to_a_thread_that_waits_on_the_same_handle(make_queue: MakeQueue) -> None:
    queue = make_queue(capacity=3)
    sleeps = threading.Event()
    sleep = queue._membership.parking.sleep

    def sleep_and_tell(*arguments: Any) -> None:
        sleeps.set()
        sleep(*arguments)

    queue._membership.parking.sleep = sleep_and_tell  # type: ignore[method-assign]
    waiting = in_thread(queue.get)
    assert sleeps.wait(LONG)
    with suppress(KeyboardInterrupt), queue._membership.operation() as record:
        record.claim.taken.append((b"kept back", 1))  # as a get has it when an interrupt comes
        raise KeyboardInterrupt
    assert waiting.result(LONG) == b"kept back"


def test_threads_that_begin_at_once_share_the_roles_of_their_handle(make_queue: MakeQueue, run_id: str) -> None:
    queue = make_queue(capacity=200, mode="spsc")
    for _ in range(50):
        handle = SharedMemoryQueue(queue.name, run_id=run_id)
        for work in [in_thread(handle.put, number) for number in range(4)]:
            work.result(LONG)
        handle.close()
    assert sorted(drained(queue)) == sorted([0, 1, 2, 3] * 50)


@pytest.mark.atomics_only("takes over a step of the engine, which the native one does inside of C")
def test_a_put_that_is_about_to_take_the_role_when_its_handle_is_closed_ends_well(
    make_queue: MakeQueue, run_id: str
) -> None:
    queue = make_queue(capacity=3, mode="spsc")
    handle = SharedMemoryQueue(queue.name, run_id=run_id)
    handle.put("first")
    words = next(iter(handle._membership.records.idle.values())).words
    load, looks = words.load, threading.Event()
    closing: list[Future[None]] = []

    def load_slowly(offset: int) -> int:
        value = load(offset)
        if offset == PRODUCER_AT and not closing:
            closing.append(in_thread(handle.close))
            eventually(lambda: handle._membership.records.state.name != "OPEN", "the handle is being closed")
            looks.set()
        return value

    words.load = load_slowly
    with suppress(QueueClosedError):
        handle.put("second")
    assert looks.is_set()
    closing[0].result(LONG)
    assert drained(queue) in (["first"], ["first", "second"])


# ---- items kept back ------------------------------------------------------------------------------------------------


class Interrupts:
    """An item whose deserialisation is interrupted, but for the process that put it."""

    def __init__(self, home: int) -> None:
        self.home = home

    def __setstate__(self, state: dict[str, int]) -> None:
        if os.getpid() != state["home"]:
            raise KeyboardInterrupt
        self.home = state["home"]


def is_interrupted_and_ends(queue: SharedMemoryQueue) -> None:
    with suppress(KeyboardInterrupt):
        queue.get(timeout=LONG)


def test_a_child_that_ends_puts_back_what_an_interrupt_left_it_with(make_queue: MakeQueue, start_method: str) -> None:
    """Children of multiprocessing end without the functions of atexit."""
    queue = make_queue(capacity=2)
    queue.put(Interrupts(os.getpid()))
    with running(start_method, is_interrupted_and_ends, queue):
        pass
    assert queue.get(timeout=LONG).home == os.getpid()


# ---- who is alive ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere psutil looks")
def test_a_process_without_a_descriptor_left_declares_nobody_dead() -> None:
    """It cannot look into /proc, and a live owner that counts as dead has his items taken from him."""
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


def test_waking_lets_no_other_thread_in() -> None:
    """Who wakes may hold a claim; were the GIL let go there, a busy thread could keep everybody waiting."""
    word, before = (ctypes.c_uint64 * 1)(), sys.getswitchinterval()
    stop, turns = False, 0

    def spin() -> None:
        nonlocal turns
        while not stop:
            turns += 1

    sys.setswitchinterval(0.5)
    try:
        spinning = in_thread(spin)
        eventually(lambda: turns, "the other thread runs")
        seen = turns  # this thread has just been given half a second
        for _ in range(100):
            futex.wake(ctypes.addressof(word), 1)
        assert turns == seen
    finally:
        stop = True
        sys.setswitchinterval(before)
    spinning.result(LONG)
