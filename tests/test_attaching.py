"""Whose name it is: handles whose queue was replaced, attaching beside creators, starts that fail."""

from __future__ import annotations

import errno
import fcntl
import math
import os
import pickle
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from shared_multiprocess_queue import (
    ArgumentError,
    CorruptQueueError,
    QueueExistsError,
    QueueNotFoundError,
    QueueNotReadyError,
    SharedMemoryQueue,
)
from shared_multiprocess_queue._engine import choice, lifecycle
from shared_multiprocess_queue._platform import atomic_words, shared_memory

from .test_descriptors import free_descriptors
from .test_segments import (
    MARK,
    NOBODY,
    ROOT,
    SHM,
    create,
    end_of,
    fork,
    python,
    remove,
    segments_of,
    slow_creator,
    works,
)
from .waiting import in_thread

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files"),
]
SOON = 20.0  # seconds; a watchdog for what waits for ever if it waits


@pytest.fixture
def path(run_id: str) -> Path:
    """Where the segment of queue "q" lies."""
    return SHM / f"{run_id}-q-queue"


def attach(run_id: str, **arguments: Any) -> SharedMemoryQueue:
    return SharedMemoryQueue("q", run_id=run_id, **arguments)


def mappings(path: Path) -> int:
    """Return how often this process has a segment mapped that has, or had, a name."""
    return Path("/proc/self/maps").read_text().count(str(path))


# ---- a handle whose queue is gone -----------------------------------------------------------------------------------


@pytest.mark.skipif(not ROOT, reason="needs root to become another user")
@pytest.mark.parametrize("is_closed", [False, True])
def test_to_unlink_again_leaves_another_users_segment_alone(run_id: str, path: Path, is_closed: bool) -> None:
    def child() -> None:
        os.seteuid(NOBODY)
        q = create(run_id)
        q.unlink()
        if is_closed:
            q.close()
        os.seteuid(0)
        path.touch(0o600)
        inode = path.stat().st_ino
        os.seteuid(NOBODY)
        q.unlink()
        q.close()
        assert path.stat().st_ino == inode

    atomic_words.prepare()  # the other user may not be let into the folder of the package atomics
    assert end_of(fork(child)) == 0
    path.unlink()


def refuse(*_: object, **__: object) -> None:
    raise PermissionError("another user's")


def test_to_unlink_again_opens_nothing(run_id: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    q = create(run_id)
    q.unlink()
    path.write_bytes(b"another's")
    monkeypatch.setattr(shared_memory._posixshmem, "shm_open", refuse)
    q.unlink()
    q.close()
    assert path.read_bytes() == b"another's"
    path.unlink()


def test_a_name_that_becomes_another_users_during_unlink_is_left_alone(
    run_id: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    q = create(run_id)

    def become_anothers(_: str) -> None:
        path.unlink()
        path.write_bytes(b"another's")
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(shared_memory, "open_existing", become_anothers)
        q.unlink()
    assert path.read_bytes() == b"another's"
    q.close()
    for name in segments_of(run_id):
        (SHM / name).unlink()


def test_a_stale_handle_does_not_unpickle_and_waits_for_no_creator_of_another_queue(
    run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    q = create(run_id)
    data = pickle.dumps(q)
    remove(q)
    with slow_creator(run_id, monkeypatch, "before its memory") as go_on:
        with pytest.raises(QueueNotFoundError, match=r"unlinked before this process attached, and another one has"):
            in_thread(pickle.loads, data).result(SOON)
        go_on()
    with attach(run_id) as newer:
        newer.unlink()


@pytest.mark.parametrize("is_ready", [True, False])
def test_a_queue_that_is_replaced_just_when_its_handle_is_unpickled_is_gone(
    run_id: str, monkeypatch: pytest.MonkeyPatch, is_ready: bool
) -> None:
    q = create(run_id)
    data = pickle.dumps(q)
    with ExitStack() as until_the_end:
        real = shared_memory.means

        def replaced_behind_it(name: str, identity: tuple[int, int]) -> bool:
            found = real(name, identity)
            monkeypatch.undo()
            q.unlink()
            if is_ready:
                until_the_end.callback(remove, create(run_id))
            else:
                file = until_the_end.enter_context((SHM / name).open("xb"))
                until_the_end.callback((SHM / name).unlink)
                fcntl.flock(file, fcntl.LOCK_EX)
            return found

        monkeypatch.setattr(shared_memory, "means", replaced_behind_it)
        with pytest.raises(QueueNotFoundError, match="another one has its name"):
            in_thread(pickle.loads, data).result(SOON)
    q.close()


def test_a_handle_that_is_unpickled_too_late_says_what_happened(run_id: str) -> None:
    """A spawned child finds this on its stderr, and nothing else of its parent."""
    q = create(run_id)
    data = pickle.dumps(q)
    remove(q)
    with pytest.raises(QueueNotFoundError, match=r"was unlinked before this process attached; unlink a queue after"):
        pickle.loads(data)


# ---- attaching beside creators, without time ------------------------------------------------------------------------


def test_a_creator_that_has_only_just_begun_is_not_called_dead(run_id: str, path: Path) -> None:
    """Between its first two steps nothing proves yet that it lives."""
    path.touch(0o600)
    with pytest.raises(QueueNotReadyError, match=r"is being created, or its creator died as it began; try again"):
        attach(run_id, timeout=0)
    path.write_bytes(MARK)  # with a free flock: this one is dead
    with pytest.raises(QueueNotFoundError, match="never finished"):
        attach(run_id, timeout=0)
    path.unlink()


def test_a_creator_that_goes_on_just_after_the_look_is_not_called_dead(
    run_id: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.touch(0o600)
    real = shared_memory._Descriptor.is_locked_by_another

    def goes_on(self: shared_memory._Descriptor) -> bool:
        found = real(self)
        path.write_bytes(MARK)
        return found

    monkeypatch.setattr(shared_memory._Descriptor, "is_locked_by_another", goes_on)
    with pytest.raises(QueueNotReadyError, match="is being created"):
        attach(run_id, timeout=0)
    path.unlink()


@pytest.fixture
def replaced_at(run_id: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Let a queue be unlinked, and something else happen, just when somebody calls a function of the package."""
    with ExitStack() as until_the_end:

        def prepare(owner: Any, function: str, then: Callable[[], object] = lambda: None) -> None:
            q = create(run_id)
            real = getattr(owner, function)

            def replaced(*arguments: Any, **keywords: Any) -> Any:
                monkeypatch.setattr(owner, function, real)
                remove(q)
                made = then()
                if isinstance(made, SharedMemoryQueue):
                    until_the_end.callback(remove, made)
                return real(*arguments, **keywords)

            monkeypatch.setattr(owner, function, replaced)

        yield prepare
    for name in segments_of(run_id):
        (SHM / name).unlink()


PLACES = [(lifecycle, "check"), (lifecycle, "open_lock"), (shared_memory.Segment, "has_name")]


@pytest.mark.parametrize(("owner", "function"), PLACES)
def test_a_queue_that_is_replaced_during_an_attach_is_not_gone_while_there_is_time(
    run_id: str, each_engine: str, replaced_at: Callable[..., None], owner: Any, function: str, path: Path
) -> None:
    before = mappings(path)
    replaced_at(owner, function, lambda: create(run_id, capacity=7))
    with attach(run_id, timeout=SOON) as q:
        assert q.capacity == 7
        assert works(q)
        assert set(q.get_metrics()["participants"]) == {os.getpid()}
        assert mappings(path) == before + 4, "two handles have two segments each; of the replaced queue nothing is left"


@pytest.mark.parametrize(("owner", "function"), PLACES[1:])
def test_without_time_a_queue_that_is_replaced_during_an_attach_is_being_made(
    run_id: str, path: Path, each_engine: str, replaced_at: Callable[..., None], owner: Any, function: str
) -> None:
    replaced_at(owner, function, lambda: path.touch(0o600))
    with pytest.raises(QueueNotReadyError, match="unlinked and created anew while this process attached; try again"):
        attach(run_id, timeout=0)


@pytest.mark.parametrize(("owner", "function"), PLACES[1:])
def test_a_queue_that_is_unlinked_during_an_attach_is_gone(
    run_id: str, replaced_at: Callable[..., None], owner: Any, function: str
) -> None:
    replaced_at(owner, function)
    with pytest.raises(QueueNotFoundError, match="unlinked while this process attached; create it again"):
        attach(run_id, timeout=SOON)


def test_a_queue_that_is_unlinked_while_it_is_made_says_so_to_its_creator(
    run_id: str, path: Path, each_engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unlinked(_: object) -> bool:
        path.unlink()
        return False

    with monkeypatch.context() as patch:
        patch.setattr(shared_memory.Segment, "has_name", unlinked)
        with pytest.raises(QueueNotFoundError, match="unlinked by another process just as this one had created it"):
            create(run_id)
    for name in segments_of(run_id):
        (SHM / name).unlink()


def test_beside_a_healthy_creator_nothing_is_called_dead_or_incomplete(run_id: str) -> None:
    def creator() -> None:
        for _ in range(400):
            q = create(run_id, capacity=2, item_size=64)
            q.unlink()
            q.close()

    pid = fork(creator)
    answers: set[str] = set()
    while not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        try:
            attach(run_id, timeout=0).close()
        except (QueueNotFoundError, QueueNotReadyError) as error:
            answers.add(str(error))
    assert end_of(pid) == 0
    assert not [text for text in answers if "its process is gone" in text or "incomplete" in text], answers


# ---- timeout --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", ["x", [], -1, -math.inf, math.nan, 1j])
def test_a_timeout_that_is_none_is_refused_whether_or_not_the_queue_is_created(run_id: str, timeout: Any) -> None:
    refusals: list[Exception] = []
    for arguments in ({"create": True, "capacity": 3}, {"create": False}):
        with pytest.raises((TypeError, ValueError), match="'timeout' must be") as refused:
            SharedMemoryQueue("q", run_id=run_id, timeout=timeout, **arguments)
        refusals.append(refused.value)
    assert type(refusals[0]) is type(refusals[1])
    assert str(refusals[0]) == str(refusals[1])
    assert segments_of(run_id) == set()


# ---- starts that fail -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("creating", [False, True])
def test_a_start_that_fails_keeps_neither_records_nor_memory_although_its_traceback_is_kept(
    run_id: str, path: Path, each_engine: str, monkeypatch: pytest.MonkeyPatch, creating: bool
) -> None:
    q = None if creating else create(run_id)
    before = mappings(path), set(_live())
    engine_class = choice.choose(None)
    real = engine_class.open

    def fails_in_the_end(self: Any, *arguments: Any) -> None:
        real(self, *arguments)
        assert mappings(path) > before[0]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(engine_class, "open", fails_in_the_end)
        with pytest.raises(KeyboardInterrupt) as kept:
            SharedMemoryQueue("q", create=creating, run_id=run_id)
    assert kept.value.__traceback__ is not None
    assert (mappings(path), set(_live())) == before
    if q is not None:
        assert q.get_metrics()["participants"] == {os.getpid(): 1}
        remove(q)
    assert segments_of(run_id) == set()


def _live() -> Any:
    from shared_multiprocess_queue import queue as module

    return module._live


# ---- what else may have the name ------------------------------------------------------------------------------------

TARGET = "-target"


def make_link(path: Path) -> None:
    path.with_name(path.name + TARGET).write_bytes(MARK)
    path.symlink_to(path.name + TARGET)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


ODD: dict[str, Callable[[Path], object]] = {
    "a folder": Path.mkdir,
    "a symbolic link": make_link,
    "a FIFO": os.mkfifo,
    "a socket": make_socket,
}


@pytest.fixture
def odd(request: pytest.FixtureRequest) -> Iterator[Callable[[Path], None]]:
    """Make something at a path that is no segment; check that it is still there afterwards, and remove it."""
    made: list[tuple[Path, int]] = []

    def make(path: Path) -> None:
        ODD[request.param](path)
        made.append((path, path.lstat().st_ino))

    yield make
    for path, inode in made:
        assert path.lstat().st_ino == inode, "it was replaced"
        path.rmdir() if path.is_dir() else path.unlink()
        target = path.with_name(path.name + TARGET)
        if target.exists():
            assert target.read_bytes() == MARK, "the link was followed"
            target.unlink()


@pytest.mark.parametrize("odd", ODD, indirect=True)
def test_what_is_no_file_is_neither_used_nor_waited_for(
    run_id: str, path: Path, odd: Callable[[Path], None], request: pytest.FixtureRequest
) -> None:
    odd(path)
    kind = request.node.callspec.params["odd"]
    for call, expected in ((attach, CorruptQueueError), (create, QueueExistsError)):
        with pytest.raises(expected, match=rf"'{path.name}'.*: {kind} has that name .*; choose another name .* rm -r"):
            in_thread(call, run_id).result(SOON)


@pytest.mark.parametrize("odd", ODD, indirect=True)
def test_what_is_no_file_in_the_place_of_the_lock_is_an_error_that_leaves_nothing(
    run_id: str, path: Path, odd: Callable[[Path], None], request: pytest.FixtureRequest
) -> None:
    lock = path.with_name(f"{path.name}-lock")
    kind = request.node.callspec.params["odd"]
    odd(lock)
    with pytest.raises(CorruptQueueError, match=rf"'{lock.name}'.*: {kind} has that name"):
        in_thread(create, run_id).result(SOON)
    assert not path.exists()
    lock.rename(lock.with_name(f"{run_id}-away"))
    q = create(run_id)
    lock.rename(lock.with_name(f"{run_id}-real"))
    lock.with_name(f"{run_id}-away").rename(lock)
    with pytest.raises(CorruptQueueError, match=rf"'{lock.name}'.*: {kind} has that name"):
        in_thread(attach, run_id).result(SOON)
    q.unlink()  # of the queue it removes what is the queue's
    q.close()
    assert not path.exists()
    lock.with_name(f"{run_id}-real").unlink()


@pytest.mark.parametrize("odd", ["a FIFO"], indirect=True)
def test_a_file_that_becomes_a_fifo_behind_the_look_is_refused_too(
    run_id: str, path: Path, odd: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    odd(path)
    monkeypatch.setattr(shared_memory, "_status_of", lambda _: None)
    with pytest.raises(CorruptQueueError, match="a FIFO has that name"):
        in_thread(attach, run_id).result(SOON)


@pytest.mark.skipif(not ROOT, reason="needs root to become another user")
@pytest.mark.parametrize("mode", [0o400, 0o000, 0o200])
def test_a_file_that_its_own_user_may_not_open_says_so(run_id: str, path: Path, mode: int) -> None:
    def child() -> None:
        os.seteuid(NOBODY)
        path.write_bytes(MARK)
        path.chmod(mode)
        for call, expected in ((attach, PermissionError), (create, QueueExistsError)):
            with pytest.raises(expected, match=rf"'{path.name}'.* its mode {mode:04o} .* chmod") as refused:
                call(run_id)
            assert isinstance(refused.value, OSError)

    assert end_of(fork(child)) == 0
    path.unlink()


@pytest.mark.skipif(not ROOT, reason="needs root to become another user")
@pytest.mark.parametrize("content", [b"", MARK, b"another's"])
def test_another_users_file_says_whose_it_is(run_id: str, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)

    def child(me: int, owner: int) -> None:
        os.chown(path, owner, owner)
        os.seteuid(me)
        for call, expected in ((attach, PermissionError), (create, QueueExistsError)):
            with pytest.raises(expected, match=rf"'{path.name}'.* belongs to user {owner}, .* choose another name"):
                call(run_id)
        os.seteuid(0)

    assert end_of(fork(lambda: child(NOBODY, 0))) == 0
    assert end_of(fork(lambda: child(0, NOBODY))) == 0
    assert path.read_bytes() == content
    path.unlink()


# ---- limits of memory -----------------------------------------------------------------------------------------------

LIMITED = """
import errno, resource, sys
from shared_multiprocess_queue import SharedMemoryQueue
run_id = sys.argv[1]
open_before = SharedMemoryQueue("small", create=True, capacity=2, item_size=64, run_id=run_id)
big = SharedMemoryQueue("big", create=True, capacity=50_000, item_size=4000, run_id=run_id)
big.close()
with open("/proc/self/statm") as file:
    used = int(file.read().split()[COLUMN]) * resource.getpagesize()
resource.setrlimit(resource.LIMIT, (used + (100 << 20),) * 2)
for create in (False, True):
    try:
        q = SharedMemoryQueue("other" if create else "big", create, run_id=run_id, capacity=50_000, item_size=4000)
    except OSError as error:
        assert error.errno == errno.ENOMEM, error
        print(error)
    else:
        q.put(1)
        assert q.get() == 1
        q.close()
        if create:
            q.unlink()
big.unlink()  # for which it needs no memory
open_before.put(1)
open_before.close()
open_before.unlink()
"""


def limited(run_id: str, limit: str, column: int) -> list[str]:
    """Open and create a queue of 200 MB in a process that may have 100 more; return the errors."""
    code = LIMITED.replace("LIMIT", limit).replace("COLUMN", str(column))
    return python(code, run_id).stdout.splitlines()


def test_a_queue_does_not_count_as_data_of_its_process(run_id: str, each_engine: str) -> None:
    assert limited(run_id, "RLIMIT_DATA", 5) == []
    assert segments_of(run_id) == set()


def test_a_queue_that_cannot_be_mapped_says_how_large_it_is_and_what_limits_it(run_id: str, each_engine: str) -> None:
    errors = limited(run_id, "RLIMIT_AS", 0)
    assert len(errors) == 2
    for name, text in zip(("big", "other"), errors, strict=True):
        assert f"'{run_id}-{name}-queue' cannot be mapped: it takes 20" in text
        assert "(RLIMIT_AS, ulimit -v); raise the limit" in text
    assert segments_of(run_id) == set()


# ---- words for new users --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("capacity", [0, -1, None, math.inf])
def test_who_wants_an_unlimited_queue_learns_that_there_is_none(run_id: str, capacity: Any) -> None:
    with pytest.raises(ArgumentError, match=r"no unlimited queue.*choose the most items that may ever wait"):
        create(run_id, capacity=capacity)
    with pytest.raises(ArgumentError) as refused:
        create(run_id, item_size=0)
    assert "unlimited" not in str(refused.value)


@pytest.mark.skipif(sys.platform != "linux", reason="there are doorbells on Linux")
@pytest.mark.parametrize("free", range(4))
def test_a_doorbell_without_descriptors_says_what_it_takes(run_id: str, each_engine: str, free: int) -> None:
    def child() -> None:
        q = create(run_id)
        before = os.listdir("/proc/self/fd")
        with free_descriptors(free), pytest.raises(OSError, match=r"takes three descriptors.*ulimit -n") as refused:
            q.fileno()
        assert refused.value.errno == errno.EMFILE
        assert os.listdir("/proc/self/fd") == before
        with free_descriptors(4):
            q.fileno()
        remove(q)

    assert end_of(fork(child)) == 0


# ---- words for new users ---------------------------------------------------------------------------------------------


def test_a_capacity_in_the_place_of_the_name_is_told(run_id: str) -> None:
    with pytest.raises(ValueError, match=r"name must be a str, not int; the capacity is capacity=10"):
        SharedMemoryQueue(10, True, run_id=run_id)  # type: ignore[arg-type]


def test_a_spawned_child_that_makes_its_parents_queue_is_told_of_the_guard(run_id: str, tmp_path: Path) -> None:
    """As with multiprocessing, it imports the parent's script, in which the guard is missing."""
    script = tmp_path / "unguarded.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import multiprocessing
            from shared_multiprocess_queue import SharedMemoryQueue
            with SharedMemoryQueue("q", True, run_id={run_id!r}) as q:
                process = multiprocessing.get_context("spawn").Process(target=print)
                process.start()
                process.join()
                q.unlink()
            """
        )
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, check=False)
    assert "create the queue under `if __name__ == '__main__':`" in done.stderr
