"""A signal in the middle of an operation: its handler may use the queue, Ctrl-C ends a wait."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from types import FrameType
from typing import Any, NamedTuple

import pytest

from shared_multiprocess_queue import Empty, Full
from tests.support.places import PACKAGE
from tests.support.queues import MakeQueue, drained
from tests.support.signals import alarms
from tests.support.waiting import LONG, eventually, in_thread, sleeps

pytestmark = [
    pytest.mark.usefixtures("engines"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


class Number(NamedTuple):
    """Whose serialising and rebuilding run Python: there a signal is served in the midst of an operation in C, too."""

    value: int

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuilt, (self.value,)


def rebuilt(value: int) -> Number:
    return Number(value)


def in_operation(frame: FrameType | None) -> bool:
    if frame is None:
        return False
    code = frame.f_code
    if code.co_name == "__del__":  # what is raised there Python swallows
        return False
    return code.co_filename.startswith(str(PACKAGE)) or code in (Number.__reduce__.__code__, rebuilt.__code__)


def test_a_signal_handler_may_put_while_a_put_is_under_way(make: MakeQueue) -> None:
    q = make(capacity=100_000, item_size=100)
    inside = sent = 0

    def put_in_between(frame: FrameType | None) -> None:
        nonlocal inside, sent
        inside += in_operation(frame)
        sent += 1
        q.put_nowait(Number(-sent))

    count = 0
    give_up = time.monotonic() + LONG
    with alarms(put_in_between, 0.0005):
        while inside < 30:
            q.put_nowait(Number(count))
            count += 1
            assert time.monotonic() < give_up, "the signals never hit a put"
    got = [item.value for item in drained(q)]
    assert [number for number in got if number >= 0] == list(range(count))
    assert sorted(number for number in got if number < 0) == list(range(-sent, 0))


def test_a_signal_handler_may_get_while_a_get_is_under_way(make: MakeQueue) -> None:
    q = make(capacity=1000, item_size=100)
    inside = put = 0
    got: list[Number] = []

    def get_in_between(frame: FrameType | None) -> None:
        nonlocal inside
        inside += in_operation(frame)
        with suppress(Empty):
            got.append(q.get_nowait())

    give_up = time.monotonic() + LONG
    while inside < 30:
        for _ in range(1000 - q.qsize()):
            q.put_nowait(Number(put))
            put += 1
        with alarms(get_in_between, 0.0005), suppress(Empty):
            while True:
                got.append(q.get_nowait())
        assert time.monotonic() < give_up, "the signals never hit a get"
    got += drained(q)
    assert sorted(item.value for item in got) == list(range(put))


def test_a_signal_handler_may_use_the_queue_while_a_get_is_blocked(make: MakeQueue) -> None:
    q = make()

    def put(frame: FrameType | None) -> None:
        with suppress(Full):
            q.put_nowait("from the handler")

    with alarms(put, 0.02):
        assert q.get() == "from the handler"


BLOCKED_CHILD = """
import sys
from shared_multiprocess_queue import SharedMemoryQueue
with SharedMemoryQueue(sys.argv[1], run_id=sys.argv[2]) as q:
    while True:
        try:
            print("waiting", flush=True)
            item = q.get() if sys.argv[3] == "get" else q.get_batch(5)[0]
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        else:
            print("got", item, flush=True)
            if item == "end":
                break
"""


@pytest.mark.parametrize("what", ["get", "get_batch"])
def test_ctrl_c_ends_a_blocked_get_and_takes_no_item_with_it(make_queue: MakeQueue, what: str) -> None:
    q = make_queue(capacity=10)
    child = subprocess.Popen(
        [sys.executable, "-c", BLOCKED_CHILD, "q", q.run_id, what],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    try:
        for number in range(5):
            assert child.stdout.readline() == "waiting\n"
            before = q.get_metrics()["get_waits"]
            eventually(sleeps(q, "get", before))  # so it is not on its way to the get any more
            child.send_signal(signal.SIGINT)
            assert child.stdout.readline() == "interrupted\n"
            assert child.stdout.readline() == "waiting\n"
            q.put(number)
            assert child.stdout.readline() == f"got {number}\n"
        assert child.stdout.readline() == "waiting\n"
        q.put("end")
        assert child.stdout.readline() == "got end\n"
        assert child.communicate(timeout=LONG) == ("", "")
        assert child.returncode == 0
    finally:
        child.kill()
        child.communicate()


def test_a_storm_of_interrupts_loses_and_doubles_nothing(make: MakeQueue) -> None:
    q = make(capacity=8)
    armed = False
    interrupts = 0

    def interrupt(frame: FrameType | None) -> None:
        nonlocal armed, interrupts
        if armed and in_operation(frame):
            armed = False
            interrupts += 1
            raise KeyboardInterrupt

    over = threading.Event()

    def produce() -> int:
        count = 0
        while not over.is_set():
            with suppress(Full):
                q.put(Number(count), timeout=0.05)
                count += 1
        return count

    put = in_thread(produce)
    got: list[Number] = []
    give_up = time.monotonic() + LONG
    with alarms(interrupt, 0.003):
        while interrupts < 60:
            assert time.monotonic() < give_up, f"only {interrupts} interrupts"
            try:
                armed = True
                got.append(q.get())  # no bytecode at which a signal is served between get's return and append's
                armed = False
            except KeyboardInterrupt:
                pass
    armed = False
    over.set()
    while not put.done() or not q.empty():
        got += drained(q)
    assert Counter(item.value for item in got) == Counter(range(put.result(LONG)))
