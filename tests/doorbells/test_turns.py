"""Of the bells that wait, all have their turn."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from typing import Any

import pytest

from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue._engine import choice
from shared_multiprocess_queue._ring import parking

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="abstract sockets are Linux's")

ENGINES = ["atomics", "native"] if choice.has_native() else ["atomics"]


@pytest.fixture
def name() -> str:
    return f"turns-{os.getpid()}-{time.monotonic_ns()}"


@pytest.mark.parametrize("engine", ENGINES)
def test_all_bells_that_wait_have_their_turn(name: str, engine: Any) -> None:
    """Whatever records before theirs do not wait."""
    with SharedMemoryQueue(name, create=True, capacity=1, engine=engine) as q, contextlib.ExitStack() as stack:
        stack.callback(q.unlink)
        handles = [stack.enter_context(SharedMemoryQueue(name, engine=engine)) for _ in range(8)]
        for handle in handles:
            handle.put("for a record")
            handle.get()
        by_descriptor = {handle.fileno(): handle for handle in handles[5:]}
        shares = dict.fromkeys(by_descriptor, 0)
        for _ in range(30):
            for handle in by_descriptor.values():
                assert handle.empty()
            q.put("an item")
            (rung,) = select.select(shares, [], [], 0)[0]
            shares[rung] += 1
            by_descriptor[rung].get()
        assert min(shares.values()) >= 8, shares


@pytest.mark.parametrize("step", range(1, 7))
@pytest.mark.parametrize("waiting", range(1, 7))
def test_turns_that_come_in_steps_are_spread_evenly(step: int, waiting: int) -> None:
    """As those of batches of two are, whose turn is the tail."""
    found = [parking.first_at(turn, waiting) for turn in range(7, 7 + step * 120, step)]
    shares = [found.count(bell) for bell in range(waiting)]
    assert sum(shares) == 120
    assert min(shares) >= 0.8 * 120 / waiting, shares
