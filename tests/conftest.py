"""The base of all tests: queues that are removed, a watchdog, and a janitor that fails the run if something is left."""

from __future__ import annotations

import faulthandler
import gc
import itertools
import multiprocessing
import os
import platform
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue._engine import choice
from shared_multiprocess_queue._platform import removal
from tests.support import lanes
from tests.support.queues import RUN, MakeQueue, segments
from tests.support.steps import entries_of

WATCHDOG = 300  # seconds; a test that takes longer hangs, and the run ends with the stacks of all threads

_numbers = itertools.count()
_stderr: list[int] = []  # of the run; while a test runs, descriptor 2 leads into what pytest captures


def pytest_configure(config: pytest.Config) -> None:
    """Prepare this process, a worker of pytest-xdist for example."""
    lanes.draw_few(config)
    _stderr.append(os.dup(2))
    # A background job of a script, or nohup, ignores SIGINT, and all that it starts inherits that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    """Say on what the tests run."""
    engine = "native and atomics" if choice.has_native() else "atomics alone: the native one is not built here"
    asked = f", {choice.ENVIRONMENT}={os.environ[choice.ENVIRONMENT]}" if choice.ENVIRONMENT in os.environ else ""
    return f"engines: {engine}{asked}; Python {platform.python_version()}, {platform.machine()}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the products of engines, modes and ways to start a process out of the fast lane."""
    lanes.mark_slow(items)


@pytest.fixture(scope="module", autouse=True)
def little_to_collect() -> None:
    """Take what is there from the collector: tests that look for leaks would go through it hundreds of times."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def watchdog() -> Iterator[None]:
    """End the run, with all stacks on its stderr, if a test hangs."""
    faulthandler.dump_traceback_later(WATCHDOG, exit=True, file=_stderr[0])
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


@pytest.fixture(autouse=True)
def handled_exception() -> Iterator[None]:
    """Fail a test that leaves its thread in the middle of an except clause: all later errors would hang on that one."""
    before = sys.exception()
    yield
    assert sys.exception() is before


@pytest.fixture(autouse=True)
def signal_mask() -> Iterator[None]:
    """Fail a test that leaves a signal blocked: later tests would wait for it in vain."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    yield
    after = signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert after == before


@pytest.fixture
def run_id() -> str:
    """A run_id that no other test has."""
    return f"{RUN}-{next(_numbers)}"


@pytest.fixture
def alone(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sweeps see the segments of this test only, if it counts or interrupts the steps of a creation."""
    monkeypatch.setattr(removal.Listing, "_entries", entries_of(run_id))


PAIRS = ["atomics", "native", "native+atomics", "atomics+native"]
"""The engines of the handle that makes a queue, and of all others."""


def use(pair: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    only = request.node.get_closest_marker("atomics_only")
    if only is not None and pair != "atomics":
        pytest.skip(only.args[0])
    if "native" in pair and not choice.has_native():
        pytest.skip("the native engine is not built here")
    monkeypatch.setenv(choice.ENVIRONMENT, pair.rpartition("+")[2])
    return pair


@pytest.fixture(params=PAIRS)
def engines(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test on each engine, and on both of them at once; ``atomics_only`` takes it to that one, with a reason."""
    return use(request.param, request, monkeypatch)


@pytest.fixture(params=["atomics", "native"])
def each_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test on each engine."""
    return use(request.param, request, monkeypatch)


@pytest.fixture
def make_queue(run_id: str, request: pytest.FixtureRequest) -> Iterator[MakeQueue]:
    """Make queues that are closed and unlinked after the test: ``make_queue(capacity=3, ...)``."""
    made: list[SharedMemoryQueue] = []
    pair = request.getfixturevalue("engines") if "engines" in request.fixturenames else ""

    def make(name: str = "q", **arguments: object) -> SharedMemoryQueue:
        arguments.setdefault("capacity", 3)
        is_mixed = "+" in pair and "engine" not in arguments
        if is_mixed:
            arguments["engine"] = pair.partition("+")[0]
        queue = SharedMemoryQueue(name, create=True, run_id=run_id, **arguments)  # type: ignore[arg-type]
        if is_mixed:
            queue._wanted_engine = None  # a process that gets the handle by pickle uses the other engine
        made.append(queue)
        return queue

    yield make
    for queue in made:
        queue.close()
        queue.unlink()


@pytest.fixture(params=["mpmc", "spsc"])
def mode(request: pytest.FixtureRequest) -> str:
    """Run a test in each mode."""
    return str(request.param)


@pytest.fixture(params=["fork", "spawn", "forkserver"])
def start_method(request: pytest.FixtureRequest) -> str:
    """Run a test with each way of starting a process."""
    return str(request.param)
