"""A creator that dies at any step blocks no other process."""

from __future__ import annotations

import fcntl
import itertools
import os
import signal
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from shared_multiprocess_queue import QueueExistsError, QueueNotFoundError
from shared_multiprocess_queue._engine import lifecycle
from shared_multiprocess_queue._platform import clock, removal
from shared_multiprocess_queue._platform import processes as _processes
from tests.support.children import end_of, fork
from tests.support.places import SHM
from tests.support.segments import LEFTOVERS, MARK, attach, create, remove, segments_of, works
from tests.support.steps import SAMPLED, dies_at, entries_of

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files"),
]


# ---- creators that die ----------------------------------------------------------------------------------------------


def create_and_die(run_id: str, step: int) -> bool:
    """Create a queue in a child that dies at a step; return whether it did, and not its creation ended before."""
    return dies_at(step, lambda: lambda: create(run_id))


@pytest.mark.slow
@SAMPLED
def test_a_creator_that_dies_at_any_step_stands_in_nobodys_way(
    run_id: str, path: Path, impatient: None, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    """Every call that the package makes, and every return, is a step; the segments are looked at after each death."""
    monkeypatch.setattr(removal.Listing, "_entries", entries_of(run_id))
    seen: Counter[str] = Counter()
    for step in itertools.count(0, every):
        if not create_and_die(run_id, step):
            break
        try:
            q = attach(run_id)
        except QueueNotFoundError as error:
            seen["never finished" if "never finished" in str(error) else "not there"] += 1
            q = create(run_id)
        else:
            seen["complete"] += 1
            with pytest.raises(QueueExistsError):
                create(run_id)
        assert works(q), f"step {step}"
        remove(q)
        assert segments_of(run_id) == set(), f"step {step}"
    else:
        raise AssertionError
    remove(attach(run_id))
    assert set(seen) == {"never finished", "not there", "complete"}, seen
    assert sum(seen.values()) * every > 50, "this test has lost sight of the creation"


@pytest.mark.parametrize("kind", LEFTOVERS)
def test_what_a_dead_creator_left_is_named_and_replaced(run_id: str, path: Path, impatient: None, kind: str) -> None:
    content = LEFTOVERS[kind]
    path.write_bytes(content)
    with pytest.raises(QueueNotFoundError, match=r"never finished, its process is gone; create it again"):
        attach(run_id)
    assert path.read_bytes() == content, "attach has changed it"
    q = create(run_id)
    assert works(q)
    remove(q)


@pytest.mark.parametrize("value", [0, 1, -1])
def test_a_lock_segment_that_was_left_alone_is_replaced(run_id: str, lock_path: Path, value: int) -> None:
    lock_path.write_bytes(struct.pack("=i", value))
    q = create(run_id)
    assert works(q)
    assert lock_path.read_bytes() == bytes(4)
    remove(q)


# ---- flocks ---------------------------------------------------------------------------------------------------------


@contextmanager
def a_look_that_ends(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hold the flock, as a look at a creator does, until another process sleeps because of that."""
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        slept: list[float] = []

        def end_the_look(seconds: float) -> None:
            slept.append(seconds)
            fcntl.flock(file, fcntl.LOCK_UN)

        with monkeypatch.context() as patch:
            patch.setattr(clock, "sleep", end_the_look)
            yield
        assert slept


def test_a_creator_goes_on_although_somebody_looks_at_it(
    run_id: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process looks just now whether the creator lives, and has its flock for that."""
    real = fcntl.flock
    with ExitStack() as until_the_end:

        def be_late(descriptor: int, operation: int) -> None:
            monkeypatch.undo()
            assert operation & fcntl.LOCK_EX, "the creator's first"
            until_the_end.enter_context(a_look_that_ends(path, monkeypatch))
            real(descriptor, operation)

        monkeypatch.setattr(fcntl, "flock", be_late)
        q = create(run_id)
    assert works(q)
    remove(q)


def test_a_leftover_is_replaced_although_somebody_looks_at_it_just_now(
    run_id: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_bytes(MARK)
    with a_look_that_ends(path, monkeypatch):
        q = create(run_id)
    assert works(q)
    remove(q)


def test_who_waits_for_a_creator_looks_at_its_flock_only_when_he_gives_up(
    run_id: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_bytes(MARK)
    looks: list[int] = []
    real = fcntl.flock

    def note(descriptor: int, operation: int) -> None:
        looks.append(operation)
        real(descriptor, operation)

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", note)
        with pytest.raises(QueueNotFoundError, match="never finished"):
            attach(run_id)
    assert looks == [fcntl.LOCK_SH | fcntl.LOCK_NB, fcntl.LOCK_UN]
    path.unlink()


def test_a_dead_creator_is_known_although_its_child_lives(
    run_id: str, path: Path, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that the creator forked lives, and does not keep the creator's flock."""
    children, children_end = os.pipe()

    def fork_and_stay(*_: object) -> None:
        if not os.fork():
            os.write(children_end, struct.pack("=i", os.getpid()))
        signal.pause()

    def creator() -> None:
        monkeypatch.setattr(lifecycle, "_number_slots", fork_and_stay)
        create(run_id)

    parent = fork(creator)
    (child,) = struct.unpack("=i", os.read(children, 4))
    os.kill(parent, signal.SIGKILL)
    assert end_of(parent) == -signal.SIGKILL
    try:
        assert _processes.is_alive(child, 0)
        with pytest.raises(QueueNotFoundError, match="its process is gone"):
            attach(run_id)
        q = create(run_id)
        assert works(q)
        remove(q)
    finally:
        os.kill(child, signal.SIGKILL)
        os.close(children)
        os.close(children_end)
