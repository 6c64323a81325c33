"""The begin and the end of the blocks of reserve and view."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import pytest

from shared_multiprocess_queue import Empty
from tests.support.queues import MakeQueue, assert_works, drained

pytestmark = pytest.mark.usefixtures("engines")


def run(block: Any) -> bytes:
    with block as memory:
        return bytes(memory)


def test_a_block_is_for_one_with_statement_at_a_time(make_queue: MakeQueue) -> None:
    queue = make_queue(capacity=2)
    block = queue.reserve(1)
    with block as memory:
        memory[0] = 1
        with pytest.raises(RuntimeError, match="another with statement"):
            block.__enter__()
    with block as memory:
        memory[0] = 2
    assert drained(queue) == [b"\1", b"\2"]
    for ended in (block, queue.view()):
        with pytest.raises(RuntimeError, match="not begun, or has ended"):
            ended.__exit__(None, None, None)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(block)


def test_two_threads_cannot_enter_one_block(make_queue: MakeQueue) -> None:
    queue = make_queue(capacity=1)
    queue.put(b"there")
    block = queue.reserve(1, timeout=60)
    begun = threading.Event()
    claim = block._claim

    class Slow(type(block)):  # type: ignore[misc]
        __slots__ = ()

        def _claim(self, until: float) -> Any:
            begun.set()
            return claim(until)

    block.__class__ = Slow
    thread = threading.Thread(target=run, args=(block,))
    thread.start()
    assert begun.wait(60)
    with pytest.raises(RuntimeError, match="another with statement"):
        block.__enter__()
    assert queue.get() == b"there"
    thread.join(60)
    assert len(queue.get()) == 1


def test_a_block_that_did_not_begin_may_begin_again(make_queue: MakeQueue) -> None:
    queue = make_queue(capacity=1)
    block = queue.view(block=False)
    with pytest.raises(Empty):
        run(block)
    assert not queue._membership.blocks._blocks
    queue.put(b"abc")
    assert run(block) == b"abc"


@pytest.mark.parametrize("what", ["reserve", "view"])
def test_a_block_that_is_dropped_while_its_memory_is_used_warns(make_queue: MakeQueue, what: str) -> None:
    queue = make_queue(capacity=1)
    if what == "view":
        queue.put(b"abc")
    block = queue.reserve(3) if what == "reserve" else queue.view()
    part = block.__enter__()[:1]
    with pytest.warns(ResourceWarning, match="use a with statement"):
        del block
    assert part.nbytes == 1
    assert_works(queue)
