"""Mode "spsc": one producer and one consumer at a time, and how these roles pass on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from shared_multiprocess_queue import RoleTakenError, SharedMemoryQueue, SharedMemoryQueueError
from tests.support.outcomes import outcome
from tests.support.queues import MakeQueue, drained
from tests.support.waiting import LONG, eventually, in_thread, sleeps

pytestmark = [
    pytest.mark.usefixtures("engines"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


OTHER_PROCESS = """
import sys
from shared_multiprocess_queue import RoleTakenError, SharedMemoryQueue
q = SharedMemoryQueue(sys.argv[1], run_id=sys.argv[2])
for command in sys.stdin:
    try:
        answer = repr(eval(command))
    except RoleTakenError as error:
        answer = f"taken by {error.pid}"
    print(answer, flush=True)
"""


@contextmanager
def other_process(q: SharedMemoryQueue) -> Iterator[tuple[int, Callable[[str], str]]]:
    """Give the pid of a process that uses the same queue as ``q``, and a function that has it evaluate something."""
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER_PROCESS, q.name, q.run_id],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def evaluate(command: str) -> str:
        assert process.stdin is not None
        assert process.stdout is not None
        print(command, file=process.stdin, flush=True)
        return process.stdout.readline().strip()

    try:
        yield process.pid, evaluate
    finally:
        process.kill()
        process.communicate()


@pytest.mark.costly
@pytest.mark.parametrize(
    ("use", "role"), [("q.put(1)", "producer"), ("q.put_batch([1])", "producer"), ("q.get(False)", "consumer")]
)
def test_a_second_producer_or_consumer_is_told_of_the_first(make_queue: MakeQueue, use: str, role: str) -> None:
    """It is refused, and the error has the pid of the first."""
    q = make_queue(mode="spsc")
    q.put(0)
    q.get()
    with other_process(q) as (_, evaluate):
        assert evaluate(use) == f"taken by {os.getpid()}"
        assert evaluate("q.qsize(), q.empty(), q.full()") == "(0, True, False)", "looking is free"
    with SharedMemoryQueue("q", run_id=q.run_id) as second, pytest.raises(RoleTakenError) as caught:
        eval(use, {"q": second})
    assert caught.value.pid == os.getpid()
    assert isinstance(caught.value, RuntimeError)
    assert isinstance(caught.value, SharedMemoryQueueError)
    assert role in str(caught.value)
    assert str(os.getpid()) in str(caught.value)
    assert q.empty()


def test_one_process_may_be_the_producer_and_another_the_consumer(make_queue: MakeQueue) -> None:
    q = make_queue(mode="spsc")
    with other_process(q) as (pid, evaluate):
        for number in range(10):
            q.put(number)
            assert evaluate("q.get()") == str(number)
        with pytest.raises(RoleTakenError) as caught:
            q.get_nowait()
        assert caught.value.pid == pid


def test_roles_pass_on_when_their_owner_closes_its_handle(make_queue: MakeQueue) -> None:
    q = make_queue(mode="spsc", capacity=2)
    with other_process(q) as (_, evaluate):
        assert evaluate("(q.put(1), q.put(2), q.get())") == "(None, None, 1)"
        assert outcome(lambda: q.put_nowait(3)) is outcome(q.get_nowait) is RoleTakenError
        assert evaluate("q.close()") == "None"
        q.put_nowait(3)
        assert drained(q) == [2, 3]


def test_roles_pass_on_when_their_owner_dies(make_queue: MakeQueue) -> None:
    q = make_queue(mode="spsc", capacity=2)
    for _ in range(3):
        with other_process(q) as (pid, evaluate):
            assert evaluate("(q.put(1), q.put(2), q.get())") == "(None, None, 1)"
            assert outcome(q.get_nowait) is RoleTakenError
            os.kill(pid, signal.SIGKILL)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # dead, and still a zombie
            q.put_nowait(3)
            assert drained(q) == [2, 3]
        q.close()
        q = SharedMemoryQueue("q", run_id=q.run_id)
    q.close()


def test_a_blocked_consumer_keeps_its_role(make_queue: MakeQueue) -> None:
    q = make_queue(mode="spsc")
    got = in_thread(q.get)
    eventually(sleeps(q, "get"))
    with SharedMemoryQueue("q", run_id=q.run_id) as second:
        with pytest.raises(RoleTakenError):
            second.get_nowait()
        second.put("for the first")
    assert got.result(LONG) == "for the first"
