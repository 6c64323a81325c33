"""Programs that are killed or paused while they wait, or at any moment."""

from __future__ import annotations

import os
import signal

import pytest

from shared_multiprocess_queue import Full
from tests.support.queues import MakeQueue, drained
from tests.support.strangers import BLOCKED, line, stranger
from tests.support.waiting import LONG, eventually

# From 3.12 on Python warns of every fork beside a thread; that is what some tests here are about.
pytestmark = [
    pytest.mark.usefixtures("engines"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


@pytest.mark.costly
@pytest.mark.parametrize("how_many", [1, 3])
def test_getters_killed_while_they_wait_take_nothing_with_them(make_queue: MakeQueue, how_many: int) -> None:
    q = make_queue()
    for _ in range(how_many):
        waits = q.get_metrics()["get_waits"]
        with stranger(BLOCKED, q.run_id, "get", "()") as process:
            assert line(process) == "here"
            eventually(lambda waits=waits: q.get_metrics()["get_waits"] > waits, "its sleep")  # type: ignore[misc]
            assert process.pid in q.get_metrics()["participants"]
            process.kill()
            process.wait(LONG)
    assert list(q.get_metrics()["participants"]) == [os.getpid()]
    for number in range(10):
        q.put(number)
        assert q.get_nowait() == number


def test_an_item_goes_to_the_getter_that_lives(make_queue: MakeQueue) -> None:
    """Another getter was killed in its sleep."""
    q = make_queue()
    with stranger(BLOCKED, q.run_id, "get", "()") as dead, stranger(BLOCKED, q.run_id, "get", "()") as alive:
        assert line(dead) == line(alive) == "here"
        eventually(lambda: q.get_metrics()["get_waits"] >= 2, "their sleep")
        dead.kill()
        dead.wait(LONG)
        q.put("for the living")
        assert line(alive) == "done"
    assert q.empty()


@pytest.mark.costly
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


@pytest.mark.parametrize("rounds", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_whoever_is_killed_whenever_blocks_nobody_and_doubles_nothing(make_queue: MakeQueue, rounds: int) -> None:
    """Tokens go round; a process that dies may take those it had in its hands, and no other is lost or doubled."""
    q = make_queue(capacity=4)
    lost_at_most = 0
    q.put_batch(["a", "b", "c"])
    for round_ in range(rounds):
        with stranger(RESTLESS, q.run_id) as one, stranger(RESTLESS, q.run_id) as other:
            assert line(one) == line(other) == "here"
            goal = q.get_metrics()["put_total"] + 10 + 7 * round_
            eventually(lambda goal=goal: q.get_metrics()["put_total"] > goal, "traffic")  # type: ignore[misc]
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
