"""SharedMemoryQueue.remove() removes what has the name of a queue, and nothing that a process uses, unless forced."""

from __future__ import annotations

import fcntl
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shared_multiprocess_queue import (
    CorruptQueueError,
    QueueExistsError,
    QueueInUseError,
    QueueNotFoundError,
    QueueNotReadyError,
    SharedMemoryQueue,
)
from shared_multiprocess_queue._platform import processes, removal
from shared_multiprocess_queue._ring import layout
from tests.support.children import end_of, fork, in_child
from tests.support.descriptors import free_descriptors
from tests.support.places import SHM
from tests.support.segments import LEFTOVERS, attach, create, remove, segments_of, works

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files"),
]


def remove_it(run_id: str, missing_ok: bool = False, force: bool = False) -> None:
    SharedMemoryQueue.remove("q", run_id, missing_ok, force)


def leave(run_id: str) -> None:
    create(run_id).close()


@pytest.mark.parametrize("force", [False, True])
def test_a_queue_that_is_not_used_is_removed(run_id: str, force: bool) -> None:
    leave(run_id)
    remove_it(run_id, force=force)
    assert segments_of(run_id) == set()
    with pytest.raises(QueueNotFoundError, match="to remove"):
        remove_it(run_id, force=force)
    remove_it(run_id, missing_ok=True, force=force)


def test_a_queue_that_is_used_is_refused_and_its_users_are_named(run_id: str, each_engine: str) -> None:
    """Also a forked child that has not used it yet, which no record names."""
    q = create(run_id)
    child = fork(signal.pause)
    with pytest.raises(QueueInUseError, match=r"end its users first, or remove it with force=True") as caught:
        remove_it(run_id)
    assert set(caught.value.pids) == {os.getpid(), child}
    assert str(child) in str(caught.value)
    assert isinstance(caught.value, OSError)
    q.close()
    with pytest.raises(QueueInUseError) as caught:
        remove_it(run_id)
    assert caught.value.pids == (child,)
    os.kill(child, signal.SIGKILL)
    end_of(child)
    remove_it(run_id)
    assert segments_of(run_id) == set()


def test_the_refusal_says_what_the_queue_has(run_id: str) -> None:
    with create(run_id, leases=1, max_deliveries=1) as q:
        q.put("bad")
        q.lease(block=False).release()
        q.put("an item")
        with pytest.raises(QueueInUseError, match=r", and has 1 item and 1 dead letter; end") as caught:
            remove_it(run_id)
        assert (caught.value.items, caught.value.dead_letters) == (1, 1)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
        q.unlink()


def test_by_force_it_goes_although_it_is_used(run_id: str, each_engine: str) -> None:
    q = create(run_id)
    q.put("kept")
    remove_it(run_id, force=True)
    assert segments_of(run_id) == set()
    assert q.get_metrics()["unlinked"] is True
    assert q.get() == "kept"
    assert works(q)
    q.close()


@pytest.mark.parametrize("kind", LEFTOVERS)
@pytest.mark.parametrize("force", [False, True])
def test_what_a_dead_creator_left_is_removed(run_id: str, path: Path, kind: str, force: bool) -> None:
    path.write_bytes(LEFTOVERS[kind])
    remove_it(run_id, force=force)
    assert segments_of(run_id) == set()


def test_a_lock_that_was_left_alone_is_removed(run_id: str, lock_path: Path) -> None:
    lock_path.write_bytes(bytes(4))
    with pytest.raises(QueueNotFoundError):
        remove_it(run_id)
    assert segments_of(run_id) == set()


@pytest.mark.parametrize("at", [layout.CAPACITY_AT, layout.SEGMENT_SIZE_AT, layout.RECORDS_USED_AT])
def test_a_damaged_queue_is_removed(run_id: str, path: Path, at: int) -> None:
    leave(run_id)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xff" * 8)
    remove_it(run_id)
    assert segments_of(run_id) == set()


@pytest.mark.parametrize("size", [0, 100, 300, 5000])
def test_a_queue_that_was_cut_is_removed(run_id: str, path: Path, size: int) -> None:
    leave(run_id)
    os.truncate(path, size)
    remove_it(run_id, force=size == 100)  # the magic is gone
    assert segments_of(run_id) == set()


@pytest.mark.parametrize("version", [1, 3])
def test_another_layout_is_removed_unless_a_process_has_it_mapped(
    run_id: str, path: Path, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_pids", lambda: [os.getpid()])
    q = create(run_id)
    with path.open("r+b") as file:
        file.seek(layout.VERSION_AT)
        file.write(version.to_bytes(8, "little"))
    q._membership.segment.end_use()  # as a version without the lock of use
    with pytest.raises(QueueInUseError) as caught:
        remove_it(run_id)
    assert caught.value.pids == (os.getpid(),)
    q.close()
    with monkeypatch.context() as patch:
        patch.setattr(processes, "that_map", lambda *_: ([], 2))
        with pytest.raises(QueueInUseError, match=r"cannot be told \(2 processes could not be looked at"):
            remove_it(run_id)
    remove_it(run_id)
    assert segments_of(run_id) == set()


def test_what_is_no_queue_stays_unless_forced(run_id: str, path: Path) -> None:
    path.write_bytes(b"another program's" * 1000)
    with pytest.raises(CorruptQueueError, match="is not a queue of this package"):
        remove_it(run_id)
    assert path.exists()
    remove_it(run_id, force=True)
    assert not path.exists()


def test_a_folder_stays_in_any_case(run_id: str, path: Path) -> None:
    path.mkdir()
    for force in (False, True):
        with pytest.raises(CorruptQueueError, match="a folder has that name"):
            remove_it(run_id, force=force)
    path.rmdir()


def test_a_creator_at_work_is_left_alone_unless_forced(
    run_id: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "LONG", 1_000_000)
    leave(run_id)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(QueueNotReadyError, match="is being created or removed by a live process"):
            remove_it(run_id)
        assert path.exists()
        remove_it(run_id, force=True)
    assert segments_of(run_id) == set()


def test_without_a_descriptor_it_needs_force(run_id: str) -> None:
    leave(run_id)

    def child() -> None:
        with free_descriptors(0):
            with pytest.raises(OSError, match="open files") as caught:
                remove_it(run_id)
            assert "force=True" in caught.value.__notes__[0]
            remove_it(run_id, force=True)

    assert in_child(child) == 0
    assert segments_of(run_id) == set()


def test_a_newer_queue_of_its_name_is_another(run_id: str) -> None:
    old = create(run_id)
    remove_it(run_id, force=True)
    new = create(run_id)
    old.close()
    with attach(run_id) as same:
        same.put("new")
        assert new.get() == "new"
    remove(new)


# ---- what the errors say --------------------------------------------------------------------------------------------

UNGUARDED = """
import multiprocessing, sys
from shared_multiprocess_queue import SharedMemoryQueue

multiprocessing.set_start_method(sys.argv[2], force=True)
try:
    queue = SharedMemoryQueue("q", create=True, run_id=sys.argv[1])
except FileExistsError as error:
    print(error, flush=True)
    raise SystemExit(0)
if __name__ == "__main__":
    process = multiprocessing.Process(target=print)
    process.start()
    process.join()
    queue.close()
    queue.unlink()
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_script_without_its_guard_is_told_of_it(run_id: str, tmp_path: Path, method: str) -> None:
    program = tmp_path / "unguarded.py"
    program.write_text(UNGUARDED, "utf-8")
    done = subprocess.run(
        [sys.executable, str(program), run_id, method], capture_output=True, text=True, timeout=60, check=False
    )
    assert "create the queue under `if __name__ == '__main__':`" in done.stdout, done.stderr
    assert segments_of(run_id) == set()


def test_orphans_are_named_with_the_parent_that_left_them(run_id: str) -> None:
    ready, is_ready = os.pipe()

    def parent() -> None:
        q = create(run_id)
        if not os.fork():
            q.put("mine")
            os.write(is_ready, os.getpid().to_bytes(8, "little"))
            signal.pause()
        signal.pause()

    pid = fork(parent)
    child = int.from_bytes(os.read(ready, 8), "little")
    os.kill(pid, signal.SIGKILL)
    end_of(pid)
    try:
        with pytest.raises(QueueExistsError, match=rf"process {pid}, which created it, is dead.*\(kill {child}\)"):
            create(run_id)
    finally:
        os.kill(child, signal.SIGKILL)
        os.close(ready)
        os.close(is_ready)
    remove_it(run_id, force=True)
