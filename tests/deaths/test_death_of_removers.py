"""A process that dies at any step of a creation, a close or a sweep leaves only what the next creation takes.

The queues are made with delete=True.
"""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shared_multiprocess_queue import QueueNotFoundError, SharedMemoryQueue, inspect
from shared_multiprocess_queue._engine import lifecycle, sweep
from shared_multiprocess_queue._platform import removal
from shared_multiprocess_queue.cli import removals
from tests.support.children import in_child
from tests.support.places import SHM
from tests.support.segments import create, remove, segments_of, works
from tests.support.steps import SAMPLED, dies_at, entries_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files"),
]


# Other tests run at the same time. Their processes may be sweeping this segment, or reading the maps of the dead one.
_TRIES = 50
_SELDOM = 3  # steps of a test at which that may happen
_NAP = 0.02  # seconds


@pytest.fixture(autouse=True)
def nothing_beside(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no process wait for a creator, and none see the segments of others."""
    monkeypatch.setattr(lifecycle, "_WAIT_FOR_CREATOR", 0)
    monkeypatch.setattr(removal.Listing, "_entries", entries_of(run_id))


def make(run_id: str, kind: str) -> SharedMemoryQueue:
    if kind == "anonymous":
        return SharedMemoryQueue(run_id=run_id, capacity=3)
    return create(run_id, delete=True)


def at_each_step(
    prepare: Callable[[], Callable[[], object]], look: Callable[[int], None], fewest: int, every: int
) -> None:
    for step in itertools.count(0, every):
        died = dies_at(step, prepare)
        look(step)
        if not died:
            break
    assert step >= fewest, "this test has lost sight of the steps"


def creation_sweeps(run_id: str, lock_may_stay: bool) -> Callable[[int], None]:
    """Return a check that the next creation of any queue takes all; of a named queue the lock alone may stay."""
    disturbed: list[int] = []

    def look(step: int) -> None:
        may_stay = {f"{run_id}-q-queue-lock"} if lock_may_stay else set()
        for _ in range(_TRIES):
            remove(SharedMemoryQueue("any", create=True, capacity=1, item_size=8, run_id=run_id))
            if segments_of(run_id) <= may_stay:
                break
            disturbed.append(step)
            time.sleep(_NAP)
        assert segments_of(run_id) <= may_stay, f"step {step}"
        assert len(set(disturbed)) <= _SELDOM, f"the next creation often leaves it: {disturbed}"
        with create(run_id, delete=True) as q:
            assert works(q), f"step {step}"
        assert segments_of(run_id) == set(), f"step {step}"

    return look


def is_empty_file(path: Path) -> bool:
    """Whether a file is there and has nothing in it; another process may sweep it meanwhile."""
    try:
        return path.stat().st_size == 0
    except FileNotFoundError:
        return False


@SAMPLED
@pytest.mark.parametrize("kind", ["named", "anonymous"])
def test_death_in_a_creation(run_id: str, kind: str, every: int) -> None:
    def look(step: int) -> None:
        # Before the mark an empty file says nothing of deletion; the next creation of its name takes it, see below.
        if kind == "named" and is_empty_file(SHM / f"{run_id}-q-queue"):
            with create(run_id, delete=True):
                pass
        creation_sweeps(run_id, kind == "named")(step)

    at_each_step(lambda: lambda: make(run_id, kind), look, 100, every)


@SAMPLED
@pytest.mark.parametrize("kind", ["named", "anonymous"])
def test_death_in_the_last_close(run_id: str, kind: str, every: int) -> None:
    def prepare() -> Callable[[], object]:
        return make(run_id, kind).close

    at_each_step(prepare, creation_sweeps(run_id, kind == "named"), 30, every)


@SAMPLED
@pytest.mark.parametrize("kind", ["named", "anonymous"])
def test_death_in_a_sweep(run_id: str, kind: str, every: int) -> None:
    def prepare() -> Callable[[], object]:
        def leave() -> None:
            q = make(run_id, kind)
            os.kill(os.getpid(), signal.SIGKILL)
            del q

        assert in_child(leave) == -signal.SIGKILL
        return sweep.sweep

    at_each_step(prepare, creation_sweeps(run_id, kind == "named"), 10, every)


def whole_or_gone(run_id: str) -> Callable[[int], None]:
    """Return a check that what is left is a whole queue, or the lock alone."""

    def look(step: int) -> None:
        try:
            q = SharedMemoryQueue("q", run_id=run_id)
        except QueueNotFoundError as error:
            assert "incomplete" not in str(error), f"step {step}"  # noqa: PT017
        else:
            assert works(q)
            q.close()
        SharedMemoryQueue.remove("q", run_id, missing_ok=True)
        assert segments_of(run_id) == set(), f"step {step}"

    return look


@SAMPLED
@pytest.mark.parametrize("force", [False, True])
def test_death_in_remove(run_id: str, force: bool, every: int) -> None:
    def prepare() -> Callable[[], object]:
        create(run_id).close()
        return lambda: SharedMemoryQueue.remove("q", run_id, force=force)

    at_each_step(prepare, whole_or_gone(run_id), 15, every)


@SAMPLED
def test_death_in_gc(run_id: str, every: int) -> None:
    def prepare() -> Callable[[], object]:
        create(run_id).close()
        queue = inspect("q", run_id)
        return lambda: removals._collect(queue)

    at_each_step(prepare, whole_or_gone(run_id), 30, every)


@SAMPLED
@pytest.mark.parametrize("delete", [False, True])
def test_death_of_a_creator_that_may_find_the_queue(run_id: str, delete: bool, every: int) -> None:
    """exist_ok works after a creator that died at whatever step."""

    def prepare() -> Callable[[], object]:
        return lambda: create(run_id, delete=delete, exist_ok=True)

    def look(step: int) -> None:
        q = create(run_id, delete=delete, exist_ok=True)
        with create(run_id, delete=delete, exist_ok=True) as same:
            same.put(step)
            assert q.get() == step
        q.close()
        SharedMemoryQueue.remove("q", run_id, missing_ok=delete)
        assert segments_of(run_id) == set(), f"step {step}"

    at_each_step(prepare, look, 100, every)
