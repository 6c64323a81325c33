"""How long an attach waits for a creator, and for the next."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from shared_multiprocess_queue import QueueExistsError, QueueNotFoundError, QueueNotReadyError, SharedMemoryQueue
from shared_multiprocess_queue._engine import lifecycle
from shared_multiprocess_queue._platform import clock, shared_memory
from tests.support.places import SHM
from tests.support.segments import segments_of
from tests.support.waiting import LONG, eventually

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files"),
]


@contextmanager
def creator_that_stops(run_id: str) -> Iterator[int]:
    """Have a child stop in the middle of creating a queue."""
    ready, is_ready = os.pipe()
    pid = os.fork()
    if pid == 0:
        real = lifecycle._number_slots

        def stop(*arguments: Any) -> None:
            os.write(is_ready, b"x")
            os.kill(os.getpid(), signal.SIGSTOP)
            real(*arguments)

        lifecycle._number_slots = stop  # type: ignore[assignment]
        try:
            SharedMemoryQueue("q", create=True, capacity=3, run_id=run_id).put("made in the end")
        finally:
            os._exit(0)
    try:
        os.read(ready, 1)
        os.waitpid(pid, os.WUNTRACED)
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(ready)
        os.close(is_ready)
        for name in segments_of(run_id):
            (SHM / name).unlink()


def test_a_paused_creator_is_waited_for_until_the_timeout(run_id: str) -> None:
    with creator_that_stops(run_id):
        start = clock.now()
        with pytest.raises(QueueNotReadyError, match="still being created by a live process"):
            SharedMemoryQueue("q", run_id=run_id, timeout=0.3)
        assert clock.now() - start >= 300_000_000


def test_a_paused_creator_is_waited_for_as_long_as_it_lives(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "_WAIT_FOR_CREATOR", 1_000_000)
    looks: list[BaseException] = []
    real = shared_memory.why_unfinished

    def why_unfinished(name: str, is_new: bool) -> Any:
        looks.append(real(name, is_new))
        return looks[-1]

    monkeypatch.setattr(shared_memory, "why_unfinished", why_unfinished)
    outcome: list[object] = []

    def attach() -> None:
        try:
            with SharedMemoryQueue("q", run_id=run_id) as q:
                outcome.append(q.get(timeout=LONG))
        except Exception as error:
            outcome.append(error)

    for ending in (signal.SIGCONT, signal.SIGKILL):
        looks.clear()
        outcome.clear()
        with creator_that_stops(run_id) as pid:
            thread = threading.Thread(target=attach)
            thread.start()
            eventually(lambda: len(looks) > 5 or outcome, "five looks at a living creator")
            assert not outcome
            os.kill(pid, ending)
            thread.join(LONG)
            assert not thread.is_alive()
        if ending == signal.SIGCONT:
            assert outcome == ["made in the end"]
        else:
            assert isinstance(outcome[0], QueueNotFoundError), outcome
            assert "its process is gone" in str(outcome[0])


def test_attach_is_patient_when_one_creation_follows_the_other(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time it looks, another creator has only just begun: none of them is called dead or late."""
    path = SHM / f"{run_id}-q-queue"
    monkeypatch.setattr(lifecycle, "_WAIT_FOR_CREATOR", 1_000_000)
    rounds = itertools.count()
    real = time.sleep

    def next_creator(seconds: float) -> None:
        real(seconds * 3)  # longer than the patience with one segment
        newer = path.with_name(f"{run_id}-newer")
        newer.touch(0o600)
        newer.rename(path)
        if next(rounds) == 30:
            path.unlink()
            made.append(SharedMemoryQueue("q", create=True, capacity=3, run_id=run_id))

    made: list[SharedMemoryQueue] = []
    path.touch(0o600)
    monkeypatch.setattr(clock, "sleep", next_creator)
    with SharedMemoryQueue("q", run_id=run_id) as q:
        monkeypatch.undo()
        assert next(rounds) == 31
        q.unlink()
    made[0].close()


def test_a_timeout_that_is_no_time_is_refused(run_id: str) -> None:
    with pytest.raises(ValueError, match="non-negative"):
        SharedMemoryQueue("q", run_id=run_id, timeout=-1)
    with pytest.raises(TypeError, match="number of seconds"):
        SharedMemoryQueue("q", run_id=run_id, timeout="soon")  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_storm_of_create_and_unlink_makes_no_attacher_give_up(run_id: str) -> None:
    """No process is told that a queue is not ready, or that its live creator is dead."""

    def storm() -> None:
        while True:
            try:
                q = SharedMemoryQueue("q", create=True, capacity=3, run_id=run_id)
            except (QueueExistsError, QueueNotReadyError):
                continue
            q.unlink()
            q.close()

    pids = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            try:
                storm()
            finally:
                os._exit(1)
        pids.append(pid)
    try:
        until = clock.now() + 3_000_000_000
        while clock.now() < until:
            try:
                SharedMemoryQueue("q", run_id=run_id).close()
            except QueueNotFoundError as error:
                assert "its process is gone" not in str(error)  # noqa: PT017
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        for name in segments_of(run_id):
            (SHM / name).unlink()
