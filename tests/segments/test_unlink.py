"""unlink() removes both names, once, and no newer queue of that name."""

from __future__ import annotations

import fcntl
import multiprocessing
import threading
import time
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from shared_multiprocess_queue import QueueExistsError, QueueNotFoundError, QueueNotReadyError, SharedMemoryQueue
from shared_multiprocess_queue._platform import shared_memory
from tests.support.places import SHM
from tests.support.segments import attach, create, remove, segments_of, works
from tests.support.waiting import LONG, eventually, in_thread

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files"),
]


def test_unlink_removes_both_names_and_who_is_attached_goes_on(run_id: str) -> None:
    q, other = create(run_id), attach(run_id)
    q.put("before")
    assert other.get_metrics()["unlinked"] is False
    q.unlink()
    assert segments_of(run_id) == set()
    assert other.get_metrics()["unlinked"] is True
    assert other.get() == "before"
    other.put("after")
    assert q.get() == "after"
    assert works(other)
    with pytest.raises(QueueNotFoundError):
        attach(run_id)
    q.close()
    assert works(other)
    other.close()


def test_unlink_may_be_called_again_by_anybody_and_after_close(run_id: str) -> None:
    q, other = create(run_id), attach(run_id)
    other.unlink()
    other.unlink()
    q.unlink()
    q.close()
    q.unlink()
    other.close()
    other.unlink()
    assert segments_of(run_id) == set()
    q = create(run_id)
    q.close()
    q.unlink()
    assert segments_of(run_id) == set()


def test_who_waits_when_the_queue_is_unlinked_goes_on_waiting(run_id: str) -> None:
    q, other = create(run_id), attach(run_id)
    got = in_thread(other.get)
    eventually(lambda: q.get_metrics()["get_waits"], "its sleep")
    q.unlink()
    q.put("still there")
    assert got.result(LONG) == "still there"
    q.close()
    other.close()


def test_unlink_leaves_a_newer_queue_of_the_same_name_alone(run_id: str, path: Path) -> None:
    old, old_too = create(run_id), attach(run_id)
    old.unlink()
    new = create(run_id, capacity=7)
    for handle in (old, old_too):
        handle.unlink()
        handle.close()
        handle.unlink()
    with attach(run_id) as again:
        assert again.capacity == 7
        assert works(again)
    assert new.get_metrics()["unlinked"] is False
    remove(new)


@pytest.mark.parametrize("state", ["empty", "in the making", "foreign", "gone"])
def test_unlink_does_nothing_if_the_name_is_no_queue_any_more(run_id: str, path: Path, state: str) -> None:
    q = create(run_id)
    path.unlink()
    inode = None
    with ExitStack() as until_the_end:
        if state != "gone":
            file = until_the_end.enter_context(path.open("xb", buffering=0))
            file.write(b"hello" if state == "foreign" else b"")
            if state == "in the making":
                fcntl.flock(file, fcntl.LOCK_EX)
            inode = path.stat().st_ino
        q.unlink()
        q.close()
        q.unlink()
        assert (path.stat().st_ino if path.exists() else None) == inode
    for name in segments_of(run_id):
        (SHM / name).unlink()


def test_unlink_works_without_the_lock_segment(run_id: str, lock_path: Path) -> None:
    q = create(run_id)
    lock_path.unlink()
    q.unlink()
    q.close()
    assert segments_of(run_id) == set()


def test_a_queue_created_while_another_is_unlinked_keeps_its_lock(
    run_id: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other queue has the same name, and so has its lock.

    The name of the old queue's segment is gone; that of its lock is not yet.
    """
    old = create(run_id)
    new: list[SharedMemoryQueue] = []
    real = shared_memory.remove

    def remove_and_let_another_create(name: str) -> None:
        real(name)
        if name == path.name and not new:
            new.append(create(run_id))

    with monkeypatch.context() as patch:
        patch.setattr(shared_memory, "remove", remove_and_let_another_create)
        old.unlink()
    old.close()
    try:
        with attach(run_id) as again:
            assert works(again)
    finally:
        remove(new[0])
    assert segments_of(run_id) == set()


def test_of_two_unlinks_at_once_the_slow_one_removes_no_newer_queue(
    run_id: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer queue has got the name before the slow one goes on.

    It has seen that the name means the old queue. Before it removes the name, the other one gets as far.
    """
    old, old_too = create(run_id), attach(run_id)
    others: list[Future[SharedMemoryQueue]] = []
    refused = threading.Event()
    real_remove, real_flock = shared_memory.remove, fcntl.flock

    def note(descriptor: int, operation: int) -> None:
        try:
            real_flock(descriptor, operation)
        except BlockingIOError:
            refused.set()
            raise

    def unlink_and_create() -> SharedMemoryQueue:
        old_too.unlink()
        return create(run_id, capacity=7)

    def remove_late(name: str) -> None:
        if name == path.name and not others:
            others.append(in_thread(unlink_and_create))
            eventually(lambda: others[0].done() or refused.is_set(), "the other's end or refusal")
        real_remove(name)

    with monkeypatch.context() as patch:
        patch.setattr(shared_memory, "remove", remove_late)
        patch.setattr(fcntl, "flock", note)
        old.unlink()
        new = others[0].result(LONG)
    with attach(run_id) as again:
        assert again.capacity == 7
        assert works(again)
    for handle in (old, old_too):
        handle.close()
    remove(new)


def create_and_unlink(run_id: str, over: Any) -> None:
    while not over.is_set():
        q = None
        with suppress(QueueExistsError, QueueNotReadyError, QueueNotFoundError):
            q = create(run_id)  # not found: another has attached to it and unlinked it, before I had done so myself
        with suppress(QueueNotReadyError, QueueNotFoundError):
            q = q or attach(run_id)
        if q is not None:
            q.put_batch(["mine, or another's"], timeout=LONG)
            q.get_batch(1, timeout=LONG)
            q.unlink()
            q.close()


@pytest.mark.slow
def test_creates_and_unlinks_of_one_name_leave_no_half_a_queue(run_id: str) -> None:
    """Several processes create and unlink a queue of that name again and again."""
    context = multiprocessing.get_context("fork")
    over = context.Event()
    processes = [context.Process(target=create_and_unlink, args=(run_id, over)) for _ in range(3)]
    for process in processes:
        process.start()
    time.sleep(2)  # how long they try; nothing waits for anything here
    over.set()
    try:
        for process in processes:
            process.join(LONG)
            assert process.exitcode == 0
        assert segments_of(run_id) == set()
    finally:
        for process in processes:
            process.kill()
            process.join()
        for name in segments_of(run_id):
            (SHM / name).unlink()
