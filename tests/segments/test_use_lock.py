"""The lock of use lives exactly as long as a process has the segment mapped through a handle."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import struct
import sys
from pathlib import Path

import pytest

from shared_multiprocess_queue import QueueNotFoundError, QueueNotReadyError
from shared_multiprocess_queue._engine import sweep
from shared_multiprocess_queue._platform import clock, shared_memory
from shared_multiprocess_queue._ring.layout import DELETE_AT
from tests.support.children import end_of, fork
from tests.support.descriptors import descriptors
from tests.support.places import SHM
from tests.support.segments import attach, create, remove, segments_of, slow_creator, works

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files"),
]

ALONE = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)
SHARED = struct.pack("hhqqi", fcntl.F_RDLCK, os.SEEK_SET, 0, 1, 0)


def is_used(path: Path) -> bool:
    """Whether another description has the lock; asked by a descriptor that can only read, which changes nothing."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, ALONE)
        kind: int = struct.unpack("hhqqi", answer[: struct.calcsize("hhqqi")])[0]
        return kind != fcntl.F_UNLCK
    finally:
        os.close(descriptor)


def ask(pipe: int) -> None:
    assert os.read(pipe, 1)


def test_a_segment_is_used_from_creation_to_the_last_close(run_id: str, path: Path, each_engine: str) -> None:
    before = descriptors()
    q = create(run_id)
    assert descriptors() == before, "the lock must need no descriptor"
    assert is_used(path)
    other = attach(run_id)
    q.close()
    assert is_used(path), "the other handle uses it"
    other.close()
    assert not is_used(path)
    with attach(run_id) as q:
        assert is_used(path)
        q.unlink()


def test_a_look_and_a_creation_that_is_refused_use_nothing(run_id: str, path: Path) -> None:
    q = create(run_id)
    q.close()
    with pytest.raises(FileExistsError):
        create(run_id)
    assert not is_used(path)
    q.unlink()


def test_an_attachment_that_fails_uses_nothing(run_id: str, path: Path) -> None:
    q = create(run_id)
    q.close()
    with pytest.raises(ValueError, match="keeps what it was created with"):
        attach(run_id, capacity=99)
    assert not is_used(path)
    q.unlink()


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_a_forked_child_that_does_nothing_uses_it_until_its_end(
    run_id: str, path: Path, each_engine: str, how: str
) -> None:
    """The parent has closed its handle by then."""
    end, may_end = os.pipe()
    q = create(run_id)
    child = fork(lambda: ask(end))
    q.close()
    assert is_used(path)
    if how == "kill":
        os.kill(child, signal.SIGKILL)
    else:
        os.write(may_end, b"x")
    end_of(child)
    assert not is_used(path)
    os.close(end)
    os.close(may_end)
    q.unlink()


def test_a_child_that_closes_ends_its_own_use_and_not_its_parents(run_id: str, path: Path, each_engine: str) -> None:
    q = create(run_id)
    assert end_of(fork(q.close)) == 0
    assert is_used(path)
    remove(q)


def test_a_creator_uses_its_segment_before_it_is_complete(
    run_id: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with slow_creator(run_id, monkeypatch, "before its memory") as go_on:
        assert is_used(path)
        go_on()
    assert not is_used(path)
    path.unlink()
    Path(f"{path}-lock").unlink()


def test_memory_stays_when_its_use_ends(run_id: str, path: Path, each_engine: str) -> None:
    q = create(run_id)
    q.put("before")
    q._membership.segment.end_use()
    assert not is_used(path)
    with attach(run_id) as other:
        assert other.get() == "before"
        other.put("after")
        assert q.get() == "after"
    assert works(q)
    remove(q)


@pytest.mark.parametrize("error", [errno.EINVAL, errno.ENOSYS])
def test_without_such_locks_queues_work_and_nothing_is_swept(
    run_id: str, path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """As on some sandboxes. The test itself has the lock, because other processes here sweep with such locks."""
    real = fcntl.fcntl

    def fcntl_without(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(fcntl, "fcntl", fcntl_without)
    q = create(run_id)
    descriptor = os.open(path, os.O_RDWR)
    real(descriptor, fcntl.F_OFD_SETLK, SHARED)
    os.pwrite(descriptor, (1).to_bytes(8, sys.byteorder), DELETE_AT)
    assert works(q)
    q.close()
    sweep.sweep()
    assert len(segments_of(run_id)) == 2
    os.close(descriptor)
    q.unlink()


def hold_alone(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR)
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, ALONE)
    return descriptor


@pytest.mark.parametrize("ends", ["removed", "kept", "stuck"])
def test_an_attachment_waits_for_a_remover(run_id: str, path: Path, monkeypatch: pytest.MonkeyPatch, ends: str) -> None:
    """Another process holds the lock alone: the queue is removed, or it is not after all, or that process is stuck."""
    q = create(run_id)
    q.close()
    holder = hold_alone(path)
    times: list[float] = []
    real_sleep = clock.sleep

    def go_on(seconds: float) -> None:
        times.append(seconds)
        if ends == "removed":
            q.unlink()
        elif ends == "kept":
            fcntl.fcntl(holder, fcntl.F_OFD_SETLK, struct.pack("hhqqi", fcntl.F_UNLCK, 0, 0, 1, 0))
        real_sleep(seconds)

    monkeypatch.setattr(clock, "sleep", go_on)
    monkeypatch.setattr(shared_memory, "_PATIENCE", 20_000_000)
    if ends == "kept":
        attach(run_id).close()
    else:
        with pytest.raises(QueueNotFoundError if ends == "removed" else QueueNotReadyError):
            attach(run_id, timeout=0.1)
    assert times
    os.close(holder)
    q.unlink()


def test_the_lock_that_creation_and_removal_take_is_another(run_id: str, path: Path) -> None:
    q = create(run_id)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert is_used(path)
        with attach(run_id) as other:
            assert works(other)
    remove(q)
