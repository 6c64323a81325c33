"""Descriptors: none is kept by a handle, and what a process can do that has none left."""

from __future__ import annotations

import errno
import gc
import itertools
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from shared_multiprocess_queue import (
    QueueClosedError,
    QueueExistsError,
    QueueNotFoundError,
    QueueNotReadyError,
    SharedMemoryQueue,
)
from shared_multiprocess_queue._engine import lifecycle
from shared_multiprocess_queue._platform import clock, shared_memory

from .conftest import MakeQueue
from .waiting import LONG, eventually

SHM = Path("/dev/shm")

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files"),
]


def python(code: str, *arguments: str) -> None:
    """Run a program that has to end well and to say nothing on stderr."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")


def in_child(function: Callable[[], object]) -> int:
    """Run a function in a forked child and return how that ended."""
    pid = os.fork()
    if pid:
        try:
            eventually(lambda: os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT), "the child's end")
        except BaseException:
            os.kill(pid, signal.SIGKILL)
            raise
        finally:
            _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status)
    status = 1
    try:
        function()
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def descriptors() -> set[str]:
    gc.collect()
    return set(os.listdir("/proc/self/fd"))


def segments_of(run_id: str) -> set[str]:
    return {path.name for path in SHM.iterdir() if path.name.startswith(run_id)}


@contextmanager
def free_descriptors(count: int) -> Iterator[None]:
    """Leave so many descriptors to this process."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = itertools.islice(
        (number for number in itertools.count() if not os.path.exists(f"/proc/self/fd/{number}")), 9
    )
    lowest = list(free)
    limit = lowest[count]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


# ---- none is kept ---------------------------------------------------------------------------------------------------


def test_an_open_handle_keeps_no_descriptor(make_queue: MakeQueue, run_id: str, engines: str) -> None:
    before = descriptors()
    q = make_queue()
    other = SharedMemoryQueue("q", run_id=run_id)
    q.put_batch([1, 2])
    assert other.get_batch(2) == [1, 2]
    q.get_metrics()
    assert descriptors() == before
    other.close()
    assert descriptors() == before


def test_a_thousand_queues_are_open_with_256_descriptors(run_id: str, each_engine: str) -> None:
    python(
        """
        import resource, sys
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
        from shared_multiprocess_queue import SharedMemoryQueue
        queues = [
            SharedMemoryQueue(f"q{i}", create=True, capacity=2, item_size=64, run_id=sys.argv[1]) for i in range(1000)
        ]
        for i, q in enumerate(queues):
            q.put(i)
        assert [q.get() for q in queues] == list(range(1000))
        for q in queues:
            q.unlink()
            q.close()
        """,
        run_id,
    )
    assert segments_of(run_id) == set()


def test_who_has_closed_all_descriptors_goes_on_and_closes_nobodys(run_id: str, each_engine: str) -> None:
    python(
        """
        import os, sys
        from shared_multiprocess_queue import SharedMemoryQueue
        q = SharedMemoryQueue("q", create=True, capacity=3, run_id=sys.argv[1])
        other = SharedMemoryQueue("q", run_id=sys.argv[1])
        os.closerange(3, 256)
        files = [os.open(os.devnull, os.O_WRONLY) for _ in range(20)]
        q.put_batch([1, 2])
        assert other.get_batch(2) == [1, 2]
        q.close()
        other.close()
        q.unlink()
        for file in files:
            os.fstat(file)
        """,
        run_id,
    )
    assert segments_of(run_id) == set()


@pytest.mark.skipif(sys.platform != "linux", reason="there are doorbells on Linux")
@pytest.mark.parametrize("reused", [True, False])
def test_a_doorbell_whose_descriptors_were_closed_touches_nobodys(run_id: str, each_engine: str, reused: bool) -> None:
    """A get that found nothing took bytes out of a stranger's socket, and close() closed it."""
    python(
        """
        import os, queue, select, socket, sys
        from shared_multiprocess_queue import QueueClosedError, SharedMemoryQueue
        q = SharedMemoryQueue("q", create=True, capacity=1, run_id=sys.argv[1])
        readable, writable = q.readable, q.writable
        readable.fileno(), writable.fileno()
        os.closerange(3, 256)
        pairs = [socket.socketpair() for _ in range(10)] if sys.argv[2] == "True" else []
        for one, other in pairs:
            one.send(b"precious")
            other.send(b"precious")
        try:
            q.get(timeout=0.01)
        except queue.Empty:
            pass
        assert q.empty()
        q.put(1)
        assert q.full()
        try:
            q.put_nowait(2)
        except queue.Full:
            pass
        try:
            readable.fileno()
        except QueueClosedError as error:
            assert "closed its descriptor" in str(error)
        assert q.readable is not readable
        assert select.select([q], [], [], 10)[0]  # a new one
        assert q.get() == 1
        q.close()
        q.unlink()
        for one, other in pairs:
            assert one.recv(100) == other.recv(100) == b"precious"
            one.close(), other.close()
        """,
        run_id,
        str(reused),
    )
    assert segments_of(run_id) == set()


# ---- none is left ---------------------------------------------------------------------------------------------------


def fail_from(monkeypatch: pytest.MonkeyPatch, first: int, error: int, count: int = 1 << 30) -> list[int]:
    """Let the opening of segments fail from the first-th call on, for so many calls; return the calls so far."""
    calls: list[int] = []
    real = shared_memory._posixshmem.shm_open

    def shm_open(*arguments: Any) -> int:
        calls.append(len(calls))
        if first <= calls[-1] < first + count:
            raise OSError(error, os.strerror(error))
        return int(real(*arguments))

    monkeypatch.setattr(shared_memory._posixshmem, "shm_open", shm_open)
    return calls


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE])
@pytest.mark.parametrize("count", [1, 1 << 30])
def test_a_create_that_runs_out_of_descriptors_at_any_opening_leaves_nothing(
    run_id: str, monkeypatch: pytest.MonkeyPatch, error: int, count: int
) -> None:
    before = descriptors()
    for first in itertools.count():
        with monkeypatch.context() as patch:
            fail_from(patch, first, error, count)
            try:
                q = SharedMemoryQueue("q", create=True, capacity=3, run_id=run_id)
            except OSError as raised:
                assert raised.errno == error  # noqa: PT017
            else:
                break
        assert segments_of(run_id) == set(), f"opening {first}"
        assert descriptors() == before, f"opening {first}"
    assert first >= 3, "it opens its segment twice, and that of the lock"
    q.close()
    q.unlink()


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE])
@pytest.mark.parametrize("is_closed", [False, True])
def test_unlink_works_whichever_opening_fails_for_want_of_descriptors(
    run_id: str, monkeypatch: pytest.MonkeyPatch, error: int, is_closed: bool
) -> None:
    before = descriptors()
    for first in itertools.count():
        q = SharedMemoryQueue("q", create=True, capacity=3, run_id=run_id)
        if is_closed:
            q.close()
        with monkeypatch.context() as patch:
            calls = fail_from(patch, first, error)
            q.unlink()
        assert segments_of(run_id) == set(), f"opening {first}"
        assert is_closed or q.get_metrics()["unlinked"]
        q.close()
        assert descriptors() == before
        if len(calls) <= first:
            break
    assert first >= 3, "this test has lost sight of the openings"


def test_without_a_descriptor_create_leaves_nothing_and_unlink_removes(run_id: str, each_engine: str) -> None:
    """The limit itself, and not an error that stands for it."""

    def child() -> None:
        q = SharedMemoryQueue("q", create=True, capacity=3, run_id=run_id)
        for count in range(3):
            with free_descriptors(count):
                try:
                    SharedMemoryQueue("other", create=True, capacity=3, run_id=run_id).unlink()
                except OSError as error:
                    assert error.errno == errno.EMFILE, error  # noqa: PT017
                else:
                    assert count == 2
            assert segments_of(run_id) == {f"{run_id}-q-queue", f"{run_id}-q-queue-lock"}, count
        with free_descriptors(0):
            q.put(1)
            q.unlink()
            assert q.get() == 1
            q.close()

    assert in_child(child) == 0
    assert segments_of(run_id) == set()


def test_without_a_descriptor_unlink_leaves_a_newer_queue_alone(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    old = SharedMemoryQueue("q", create=True, capacity=3, run_id=run_id)
    old.unlink()
    new = SharedMemoryQueue("q", create=True, capacity=3, run_id=run_id)
    with monkeypatch.context() as patch:
        fail_from(patch, 0, errno.EMFILE)
        old.unlink()
    assert len(segments_of(run_id)) == 2
    old.close()
    new.unlink()
    new.close()


@pytest.mark.parametrize("is_closed", [False, True])
def test_a_segment_that_was_cut_to_nothing_is_unlinked(run_id: str, each_engine: str, is_closed: bool) -> None:
    def child() -> None:
        q = SharedMemoryQueue("q", create=True, capacity=3, run_id=run_id)
        if is_closed:
            q.close()
        os.truncate(SHM / f"{run_id}-q-queue", 0)
        q.unlink()
        os._exit(0)

    assert in_child(child) == 0
    assert segments_of(run_id) == set()


def test_a_definition_is_kept_without_a_descriptor(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    segment, lock = lifecycle.create("q", run_id, lifecycle.geometry(3, 64, "mpmc"))
    size = segment.size
    monkeypatch.setattr(shared_memory, "_POPULATE_WRITE", 9999)  # a kernel before 5.14
    segment.reserve(size - 10_000, 5_000)
    fail_from(monkeypatch, 0, errno.EMFILE)
    with pytest.raises(OSError, match="open files"):
        segment.reserve(size - 10_000, 5_000)
    monkeypatch.undo()
    fail_from(monkeypatch, 0, errno.EMFILE)
    used = (SHM / segment.name).stat().st_blocks
    segment.reserve(size - 1_000_000, 900_000)
    assert ((SHM / segment.name).stat().st_blocks - used) * 512 >= 800_000
    monkeypatch.undo()
    lifecycle.discard(segment, lock, "q", run_id)


def test_an_old_kernel_reserves_nothing_in_a_segment_that_only_has_the_name(
    run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment, lock = lifecycle.create("q", run_id, lifecycle.geometry(3, 64, "mpmc"))
    (SHM / segment.name).unlink()
    (SHM / segment.name).touch()
    monkeypatch.setattr(shared_memory, "_POPULATE_WRITE", 9999)
    with pytest.raises(FileNotFoundError, match="has lost its name"):
        segment.reserve(0, 5_000)
    assert (SHM / segment.name).stat().st_size == 0
    (SHM / segment.name).unlink()
    lock.close()
    segment.close()
    (SHM / f"{run_id}-q-queue-lock").unlink()


# ---- closing from another thread ------------------------------------------------------------------------------------


def test_a_handle_is_closed_by_another_thread_than_those_that_used_it_and_died(
    make_queue: MakeQueue, run_id: str, engines: str
) -> None:
    q = make_queue(capacity=8)
    for _ in range(60):
        opened: list[SharedMemoryQueue] = []

        def use(opened: list[SharedMemoryQueue] = opened) -> None:
            handle = SharedMemoryQueue("q", run_id=run_id)
            opened.append(handle)
            with suppress(QueueClosedError):  # it may be closed by now
                handle.put_batch([1, 2])
                handle.get_batch(2)

        thread = threading.Thread(target=use)
        thread.start()
        eventually(lambda opened=opened: opened, "the handle")
        opened[0].close()
        thread.join(LONG)
        assert not thread.is_alive()
        while not q.empty():
            q.get()


def test_memory_to_which_something_refers_late_goes_when_that_does(run_id: str) -> None:
    """As a ctypes object does that another thread has dropped and not come to freeing."""

    def mapped() -> bool:
        return run_id in Path("/proc/self/maps").read_text()

    q = SharedMemoryQueue("q", create=True, capacity=3, run_id=run_id)
    memory = q._membership.memory
    late = getattr(memory, "_anchor", None)
    export = memoryview(q._membership.segment.buffer)
    ctypes_like = (late, export)
    q.unlink()
    q.close()
    assert q.closed
    assert mapped(), "it was unmapped under somebody"
    assert len(bytes(export[:8])) == 8
    del late, export, ctypes_like
    gc.collect()
    assert not mapped()


# ---- waiting for a creator ------------------------------------------------------------------------------------------


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

        lifecycle._number_slots = stop
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


def test_a_storm_of_create_and_unlink_makes_no_attacher_give_up(run_id: str) -> None:
    """Nobody is told that a queue is not ready, or that its living creator is dead."""

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
