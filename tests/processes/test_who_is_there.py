"""Metrics name the participants, and the process that others wait for."""

from __future__ import annotations

import os

import pytest

from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue._ring.layout import GATE_AT
from tests.support.queues import MakeQueue, drained
from tests.support.strangers import BLOCKED, line, stranger
from tests.support.waiting import LONG, eventually, in_thread

# From 3.12 on Python warns of every fork beside a thread; that is what some tests here are about.
pytestmark = [
    pytest.mark.usefixtures("engines"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


# ---- blockers -------------------------------------------------------------------------------------------------------


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


@pytest.mark.costly
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


def test_metrics_name_a_process_stopped_with_a_slot_of_a_batch(make_queue: MakeQueue) -> None:
    """The process was stopped with a slot that a batch needs, and that no single put needs yet."""
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


# ---- participants ---------------------------------------------------------------------------------------------------


def test_participants_are_the_processes_that_have_the_queue_open(make_queue: MakeQueue) -> None:
    q = make_queue()
    me = os.getpid()
    assert set(q.get_metrics()["participants"]) == {me}
    with stranger(BLOCKED, q.run_id, "qsize", "()") as one, stranger(BLOCKED, q.run_id, "close", "()") as other:
        assert (line(one), line(one)) == (line(other), line(other)) == ("here", "done")
        assert set(q.get_metrics()["participants"]) == {me, one.pid}
        assert one.communicate(timeout=LONG) == ("", "")
        assert set(q.get_metrics()["participants"]) == {me}


def test_a_handle_has_a_record_for_each_thread_in_an_operation(make_queue: MakeQueue) -> None:
    """It keeps as many as there were threads in an operation at once."""
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
