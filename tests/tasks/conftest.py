"""Loops to await in, and handles that wake each other across engines."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest

from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue._engine import choice
from shared_multiprocess_queue._engine.awaiting import Side
from tests.support.queues import MakeQueue
from tests.support.waiting import LONG

T = TypeVar("T")
Pair = tuple[SharedMemoryQueue, SharedMemoryQueue]
Run = Callable[[Coroutine[Any, Any, T]], T]

ENGINES = ["atomics", "native"] if choice.has_native() else ["atomics"]
LOOPS = ["asyncio", "uvloop"] if importlib.util.find_spec("uvloop") else ["asyncio"]
SLOWLY = 3600 * 10**9  # ns; a slice that does not end within a test: what wakes is the ring


@pytest.fixture(autouse=True)
def no_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the timer away, so that a ring that is lost is seen."""
    if not sys.platform.startswith("linux"):
        pytest.skip("abstract sockets are Linux's")
    monkeypatch.setattr("shared_multiprocess_queue._engine.awaiting.SLICE", SLOWLY)


@pytest.fixture(params=[(a, b) for a in ENGINES for b in ENGINES], ids="-waits-".join)
def pair(
    request: pytest.FixtureRequest, make_queue: MakeQueue
) -> Iterator[tuple[SharedMemoryQueue, SharedMemoryQueue]]:
    """A handle that wakes and one that waits."""
    waking, waiting = request.param
    with (
        make_queue(capacity=3, engine=waking) as one,
        SharedMemoryQueue(one.name, run_id=one.run_id, engine=waiting) as two,
    ):
        yield one, two


def sides_of(q: SharedMemoryQueue) -> list[Side]:
    """Return where tasks wait at a handle."""
    tasks = q._membership.tasks
    return [] if tasks is None else list(tasks._sides.values())


async def asleep(q: SharedMemoryQueue, side: str, count: int = 1) -> None:
    """Wait until calls of a side have gone to sleep, ``count`` times since the queue was made."""
    until = time.monotonic() + LONG
    while q.get_metrics()[f"{side}_waits"] < count:
        assert time.monotonic() < until
        await asyncio.sleep(0)


@pytest.fixture(params=LOOPS)
def method(request: pytest.FixtureRequest) -> str:
    """Return the kind of the loop."""
    kind: str = request.param
    return kind


@pytest.fixture
def run(method: str) -> Run[Any]:
    """Return a function that runs a coroutine in a new loop, for a watchdog's time at most."""

    def run_in_loop(coroutine: Coroutine[Any, Any, T]) -> T:
        async def watched() -> T:
            return await asyncio.wait_for(coroutine, LONG)

        factory = None
        if method == "uvloop":
            import uvloop

            factory = uvloop.new_event_loop
        with contextlib.closing(asyncio.Runner(loop_factory=factory)) as runner:
            return runner.run(watched())

    return run_in_loop
