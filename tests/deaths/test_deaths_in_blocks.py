"""What is left when a process is killed while it writes or reads an item in place, at each step."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Callable
from functools import partial

import pytest

from shared_multiprocess_queue import Empty, Full, SharedMemoryQueue
from shared_multiprocess_queue._codec.plain_codec import PlainCodec
from shared_multiprocess_queue._codec.tags import BYTES
from shared_multiprocess_queue._engine.atomics import AtomicsEngine
from tests.support import mortal
from tests.support.children import end_of, fork
from tests.support.queues import MakeQueue, assert_works, drained
from tests.support.steps import dies_at

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


def open_again(queue: SharedMemoryQueue) -> SharedMemoryQueue:
    return SharedMemoryQueue(queue.name, run_id=queue.run_id)


def reserve(queue: SharedMemoryQueue) -> None:
    with queue.reserve(6) as memory:
        memory[:3] = b"ite"
        memory[3:] = b"m  "


def view(queue: SharedMemoryQueue) -> None:
    with queue.view() as memory:
        bytes(memory)


@pytest.mark.slow
@pytest.mark.usefixtures("each_engine")
def test_a_reservation_that_dies_never_was(make_queue: MakeQueue, mode: str) -> None:
    queue = make_queue(capacity=2, mode=mode)
    outcomes = set()
    for step in itertools.count():
        queue.put(b"before")
        queue._membership.retire()
        if not dies_at(step, lambda: partial(reserve, open_again(queue))):
            break
        found = drained(queue)
        assert found in ([b"before"], [b"before", b"item  "])
        outcomes.add(len(found))
        assert_works(queue)
    assert drained(queue) == [b"before", b"item  "]
    assert (outcomes, step > 10) == ({1, 2}, True)
    assert_works(queue)


@pytest.mark.slow
@pytest.mark.usefixtures("each_engine")
@pytest.mark.parametrize("how", ["view", "get_into"])
def test_a_view_that_dies_loses_nothing_before_its_end(make_queue: MakeQueue, mode: str, how: str) -> None:
    queue = make_queue(capacity=2, mode=mode)
    outcomes = set()
    take = view if how == "view" else lambda queue: queue.get_into(bytearray(9))
    for step in itertools.count():
        for item in (b"first", b"second"):
            queue.put(item)
        queue._membership.retire()
        if not dies_at(step, lambda: partial(take, open_again(queue))):
            break
        found = drained(queue)
        assert sorted(found) in ([b"first", b"second"], [b"second"])
        outcomes.add(len(found))
        assert_works(queue)
    assert drained(queue) == [b"second"]
    assert 2 in outcomes
    assert_works(queue)


@pytest.mark.usefixtures("each_engine")
@pytest.mark.parametrize("what", ["reserve", "view"])
def test_a_kill_inside_a_block_blocks_nobody(make_queue: MakeQueue, mode: str, what: str) -> None:
    queue = make_queue(capacity=2, mode=mode)

    def block() -> None:
        other = open_again(queue)
        with other.reserve(3) if what == "reserve" else other.view() as memory:
            if what == "reserve":
                memory[:] = b"bad"
            os.kill(os.getpid(), signal.SIGKILL)

    for lap in range(3):
        if what == "view":
            queue.put(b"item")
        queue._membership.retire()
        assert end_of(fork(block)) == -signal.SIGKILL
        if what == "view":
            with queue.view(timeout=10) as memory:
                assert bytes(memory) == b"item"
        else:
            with queue.reserve(1, timeout=10) as memory:
                memory[0] = lap
            assert queue.get(timeout=10) == bytes([lap])
            with pytest.raises(Empty):
                queue.get_nowait()
        assert_works(queue)


def of_engine(what: str) -> Callable[[AtomicsEngine], None]:
    def run(engine: AtomicsEngine) -> None:
        engine.open(PlainCodec(1 << 20))
        try:
            place = engine.reserve(4, BYTES, 0) if what == "reserve" else engine.view(0)
        except (Empty, Full):
            return
        assert place is not None
        memory = place.memory
        if what == "reserve":
            memory[:] = b"item"
            memory.release()
            place.publish()
        else:
            assert bytes(memory) == b"item"
            memory.release()
            place.free()

    return run


@pytest.mark.atomics_only("dies at each step of the engine in Python; the explorers do so in C")
@pytest.mark.parametrize("what", ["reserve", "view"])
@pytest.mark.parametrize("capacity", [1, 2])
def test_a_death_at_each_atomic_step(make_queue: MakeQueue, mode: str, capacity: int, what: str) -> None:
    queue = make_queue(capacity=capacity, mode=mode, engine="atomics")
    outcomes = set()
    for steps in itertools.count():
        if what == "view":
            queue.put(b"item")
        queue._membership.retire()
        died = mortal.dies(queue.name, queue.run_id, of_engine(what), steps)
        found = drained(queue)
        assert found in ([], [b"item"])
        outcomes.add((died, len(found)))
        assert_works(queue)
        if not died:
            break
    assert (steps > 5, outcomes) == (True, {(True, 0), (True, 1), (False, int(what == "reserve"))})


@pytest.mark.usefixtures("each_engine")
@pytest.mark.parametrize("what", ["reserve", "view"])
def test_a_child_that_is_forked_in_a_block_changes_nothing(make_queue: MakeQueue, what: str) -> None:
    queue = make_queue(capacity=2)

    def in_child() -> None:
        block.__exit__(None, None, None)
        assert queue.qsize() == (1 if what == "reserve" else 0)
        queue.close()

    if what == "view":
        queue.put(b"abc")
    block = queue.reserve(3) if what == "reserve" else queue.view()
    with block as memory:
        assert end_of(fork(in_child)) == 0
        with pytest.raises(Empty):
            queue.get_nowait()
        if what == "reserve":
            memory[:] = b"abc"
        assert bytes(memory) == b"abc"
    assert drained(queue) == ([b"abc"] if what == "reserve" else [])
    assert_works(queue)
