"""What every test stands on: queues that go away, a watchdog, and a janitor who fails the run for what is left."""

from __future__ import annotations

import faulthandler
import itertools
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared_multiprocess_queue import SharedMemoryQueue, _words

RUN = f"test{os.getpid()}"  # every segment of this run has this prefix
WATCHDOG = 120  # seconds; a test that takes longer hangs, and the run ends with everybody's stack

MakeQueue = Callable[..., SharedMemoryQueue]

_numbers = itertools.count()


def segments() -> set[str]:
    """Return the names in shared memory that belong to this run."""
    folder = Path("/dev/shm")
    return {path.name for path in folder.iterdir() if f"{RUN}-" in path.name} if folder.is_dir() else set()


@pytest.fixture(autouse=True)
def watchdog() -> Iterator[None]:
    """End the run, with all stacks on stderr, if a test hangs."""
    faulthandler.dump_traceback_later(WATCHDOG, exit=True, file=sys.__stderr__)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(autouse=True)
def janitor() -> Iterator[None]:
    """Fail a test that leaves a segment or a child process behind."""
    before = segments()
    yield
    children = multiprocessing.active_children()
    for child in children:
        child.kill()
        child.join()
    left = segments() - before
    for name in left:
        Path("/dev/shm", name).unlink()
    assert not children, f"processes left behind: {children}"
    assert not left, f"segments left behind: {sorted(left)}"


@pytest.fixture
def run_id() -> str:
    """A run_id that no other test has."""
    return f"{RUN}-{next(_numbers)}"


@pytest.fixture
def make_queue(run_id: str) -> Iterator[MakeQueue]:
    """Make queues that are closed and unlinked after the test: ``make_queue(capacity=3, ...)``."""
    made: list[SharedMemoryQueue] = []

    def make(name: str = "q", **arguments: object) -> SharedMemoryQueue:
        arguments.setdefault("capacity", 3)
        queue = SharedMemoryQueue(name, create=True, run_id=run_id, **arguments)  # type: ignore[arg-type]
        made.append(queue)
        return queue

    yield make
    for queue in made:
        queue.close()
        queue.unlink()


@pytest.fixture(params=["direct", "public"])
def word_access(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test with each way of reaching the package atomics."""
    if request.param == "public":
        monkeypatch.setattr(_words, "_DIRECT_64", None)
    return str(request.param)


@pytest.fixture(params=["mpmc", "spsc"])
def mode(request: pytest.FixtureRequest) -> str:
    """Run a test in each mode."""
    return str(request.param)


@pytest.fixture(params=["fork", "spawn", "forkserver"])
def start_method(request: pytest.FixtureRequest) -> str:
    """Run a test with each way of starting a process."""
    return str(request.param)
