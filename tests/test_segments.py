"""How segments are born, found, damaged, refused and removed."""

from __future__ import annotations

import errno
import fcntl
import gc
import itertools
import mmap
import multiprocessing
import os
import shutil
import signal
import stat
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import shared_multiprocess_queue
from shared_multiprocess_queue import (
    ArgumentError,
    CorruptQueueError,
    LayoutVersionError,
    QueueExistsError,
    QueueNotFoundError,
    QueueNotReadyError,
    SharedMemoryQueue,
    SharedMemoryQueueError,
    TooManyParticipantsError,
)
from shared_multiprocess_queue._engine import choice, lifecycle
from shared_multiprocess_queue._platform import clock, mutex, shared_memory
from shared_multiprocess_queue._platform import processes as _processes
from shared_multiprocess_queue._platform.atomic_words import open_words
from shared_multiprocess_queue._ring import layout, participants

from . import test_interrupts
from .waiting import LONG, eventually, in_thread

PACKAGE = str(Path(shared_multiprocess_queue.__file__).parent)
SHM = Path("/dev/shm")
WORD = layout.WORD

T = TypeVar("T")

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files"),
]


# ---- helpers --------------------------------------------------------------------------------------------------------


@pytest.fixture
def path(run_id: str) -> Path:
    """Where the segment of queue "q" lies."""
    return SHM / f"{run_id}-q-queue"


@pytest.fixture
def lock_path(run_id: str) -> Path:
    return SHM / f"{run_id}-q-queue-lock"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody wait for a creator."""
    monkeypatch.setattr(lifecycle, "_WAIT_FOR_CREATOR", 0)


@pytest.fixture
def no_leaks(run_id: str) -> Iterator[None]:
    """Check that what fails keeps no descriptor open and leaves no segment."""
    before = open_descriptors()
    yield
    assert open_descriptors() <= before, "descriptors were left open"
    assert segments_of(run_id) == set()


def open_descriptors() -> int:
    gc.collect()  # the traceback of an error that a test has caught keeps what its frames refer to
    return len(os.listdir("/proc/self/fd"))


def segments_of(run_id: str) -> set[str]:
    return {path.name for path in SHM.iterdir() if path.name.startswith(run_id)}


def create(run_id: str, **arguments: Any) -> SharedMemoryQueue:
    return SharedMemoryQueue("q", create=True, run_id=run_id, **{"capacity": 3, **arguments})


def attach(run_id: str) -> SharedMemoryQueue:
    return SharedMemoryQueue("q", run_id=run_id)


def works(q: SharedMemoryQueue) -> bool:
    """Whether items go through in every way; a batch needs the lock, too."""
    q.put_batch(["a", "b"], timeout=LONG)
    return bool(q.get_batch(2, timeout=LONG) == ["a", "b"])


def remove(q: SharedMemoryQueue) -> None:
    q.close()
    q.unlink()


def fork(function: Callable[[], object]) -> int:
    """Run a function in a child; return its process id."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        function()
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def end_of(pid: int) -> int:
    """Return how a child ended."""
    try:
        eventually(lambda: os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT), "the child's end")
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    finally:
        _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program that has to end well and to say nothing on stderr."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result


# ---- arguments ------------------------------------------------------------------------------------------------------

BAD_NAMES: list[tuple[Any, str]] = [
    ("", "must not be empty"),
    ("a/b", "must not contain '/' or NUL"),
    ("/", "must not contain '/' or NUL"),
    ("a\0b", "must not contain '/' or NUL"),
    ("x" * 300, "choose shorter"),
    ("ä" * 130, "choose shorter"),
    ("\ud800", "encodable as UTF-8"),
    (b"q", "must be a str, not bytes"),
    (None, "must be a str, not NoneType"),
    (7, "must be a str, not int"),
]


@pytest.mark.parametrize("creating", [True, False])
@pytest.mark.parametrize(("name", "message"), BAD_NAMES)
def test_a_name_that_no_segment_can_have_is_refused(
    run_id: str, no_leaks: None, name: Any, message: str, creating: bool
) -> None:
    with pytest.raises(ArgumentError, match=message) as caught:
        SharedMemoryQueue(name, create=creating, run_id=run_id)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(("run_id_", "message"), [case for case in BAD_NAMES if case[0] != ""])
def test_a_run_id_that_no_segment_can_have_is_refused(run_id_: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        SharedMemoryQueue("q", create=True, run_id=run_id_)


@pytest.mark.parametrize("name", ["ä", "a b", "a\nb", ".", "..", "-", "q-queue", "%s", "名前", "a" * 40])
def test_every_other_name_is_one(run_id: str, name: str) -> None:
    with SharedMemoryQueue(name, create=True, capacity=3, run_id=run_id) as q:
        assert segments_of(run_id) == {f"{run_id}-{name}-queue", f"{run_id}-{name}-queue-lock"}
        with SharedMemoryQueue(name, run_id=run_id) as other:
            q.put(name)
            assert other.get() == name
        q.unlink()


def test_the_longest_name_works_and_one_byte_more_is_refused(run_id: str) -> None:
    longest = "n" * (255 - len("-lock") - len(f"{run_id}--queue"))
    with SharedMemoryQueue(longest, create=True, capacity=3, run_id=run_id) as q:
        assert works(q)
        q.unlink()
    with pytest.raises(ArgumentError, match=r"251 bytes .* limit is 250"):
        SharedMemoryQueue(longest + "n", create=True, capacity=3, run_id=run_id)


def test_without_a_run_id_the_segment_has_the_name_alone(run_id: str) -> None:
    with SharedMemoryQueue(run_id, create=True, capacity=3) as q:
        assert segments_of(run_id) == {f"{run_id}-queue", f"{run_id}-queue-lock"}
        assert q.run_id == ""
        q.unlink()
    assert segments_of(run_id) == set()


@pytest.mark.parametrize("what", ["capacity", "item_size"])
@pytest.mark.parametrize("value", [0, -1, True, 1.0, "3", None, 1 << 32, 1 << 100, float("inf")])
def test_a_size_that_cannot_be_is_refused_at_once(run_id: str, no_leaks: None, what: str, value: Any) -> None:
    with pytest.raises(ArgumentError, match=f"{what} must be ") as caught:
        create(run_id, **{what: value})
    assert isinstance(caught.value, ValueError)
    if type(value) is int:
        assert "between 1 and" in str(caught.value), "what to do"


def test_sizes_that_are_absurd_only_together_are_refused(run_id: str, no_leaks: None) -> None:
    with pytest.raises(ArgumentError, match="choose smaller"):
        create(run_id, capacity=1 << 31, item_size=(1 << 31) - 1)


@pytest.mark.parametrize("mode", ["", "MPMC", "mpsc", None, 1, []])
def test_a_mode_that_does_not_exist_is_refused(run_id: str, no_leaks: None, mode: Any) -> None:
    with pytest.raises(ArgumentError, match=r"'mpmc' .* or 'spsc'"):
        create(run_id, mode=mode)


def test_capacity_and_item_size_may_be_1(run_id: str) -> None:
    q = create(run_id, capacity=1, item_size=1)
    q.put(b"x")
    assert q.full()
    assert q.get() == b"x"
    remove(q)


# ---- creating and finding -------------------------------------------------------------------------------------------


def test_a_queue_consists_of_two_segments_that_only_its_user_can_open(run_id: str, path: Path, lock_path: Path) -> None:
    before = os.umask(0)
    try:
        q = create(run_id)
    finally:
        os.umask(before)
    assert segments_of(run_id) == {path.name, lock_path.name}
    for file in (path, lock_path):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert file.stat().st_uid == os.geteuid()
    remove(q)
    assert segments_of(run_id) == set()


def test_the_memory_of_all_slots_is_there_from_the_beginning(run_id: str, path: Path) -> None:
    """So that a shared memory that runs full is an error of whoever creates a queue, and no SIGBUS of its users."""
    q = create(run_id, capacity=1000, item_size=1000)
    geometry = layout.Geometry.of(1000, 1000, "mpmc")
    assert path.stat().st_size == geometry.size
    assert path.stat().st_blocks * 512 >= geometry.definitions
    remove(q)


def test_a_name_that_is_taken_is_refused_and_says_who_uses_it(run_id: str) -> None:
    q = create(run_id)
    q.put("stays")
    with pytest.raises(QueueExistsError, match=rf"exists already, used by process {os.getpid()};") as caught:
        create(run_id, capacity=9)
    assert isinstance(caught.value, FileExistsError)
    q.close()
    with pytest.raises(QueueExistsError, match="exists already, used by no live process;"):
        create(run_id, capacity=9)
    with attach(run_id) as again:
        assert again.capacity == 3
        assert again.get() == "stays"
        again.unlink()


def test_a_queue_that_was_never_created_is_not_found(run_id: str, no_leaks: None) -> None:
    with pytest.raises(QueueNotFoundError, match=r"create it first with create=True") as caught:
        attach(run_id)
    assert isinstance(caught.value, FileNotFoundError)


def test_run_ids_keep_queues_of_one_name_apart(run_id: str) -> None:
    one, other = create(f"{run_id}a"), create(f"{run_id}b")
    one.put("a")
    other.put("b")
    assert (one.get(), other.get()) == ("a", "b")
    remove(one)
    assert works(other)
    remove(other)


def create_or_say_why(run_id: str, start: Any, results: Any) -> None:
    for number in itertools.count():
        start.wait(LONG)
        try:
            q = SharedMemoryQueue(f"q{number}", create=True, capacity=3, run_id=run_id)
        except SharedMemoryQueueError as error:
            results.put((number, type(error).__name__))
        else:
            q.put(os.getpid())
            q.close()
            results.put((number, os.getpid()))


@pytest.mark.parametrize("leftover", [False, True])
def test_of_several_creators_exactly_one_wins(run_id: str, leftover: bool) -> None:
    context = multiprocessing.get_context("fork")
    creators, rounds = 4, 40
    start, results = context.Barrier(creators + 1), context.SimpleQueue()
    processes = [context.Process(target=create_or_say_why, args=(run_id, start, results)) for _ in range(creators)]
    for process in processes:
        process.start()
    try:
        for number in range(rounds):
            if leftover:  # of a creator that died after its first step
                (SHM / f"{run_id}-q{number}-queue").touch(0o600)
            start.wait(LONG)
            outcomes = [results.get() for _ in range(creators)]
            assert {which for which, _ in outcomes} == {number}
            winners = [outcome for _, outcome in outcomes if isinstance(outcome, int)]
            losers = {outcome for _, outcome in outcomes if isinstance(outcome, str)}
            assert len(winners) == 1, outcomes
            assert losers <= {"QueueExistsError", "QueueNotReadyError"}, outcomes
            with SharedMemoryQueue(f"q{number}", run_id=run_id) as q:
                assert q.get_nowait() == winners[0]
                assert works(q)
                q.unlink()
    finally:
        for process in processes:
            process.kill()
            process.join()
        results.close()
    assert segments_of(run_id) == set()


def find_again_and_again(run_id: str, over: Any, results: Any) -> None:
    complaints: Counter[str] = Counter()
    while not over.is_set():
        try:
            attach(run_id).close()
        except QueueNotFoundError as error:
            complaints[str(error)] += 1
        except QueueNotReadyError:
            pass
        except BaseException as error:
            complaints[repr(error)] += 1
    results.put(dict(complaints))


def test_consumers_that_wait_for_a_queue_to_appear_do_not_disturb_its_creation(run_id: str) -> None:
    """Two look for it all the time while it comes and goes; its one creator never fails and is never called dead."""
    context = multiprocessing.get_context("fork")
    over, results = context.Event(), context.SimpleQueue()
    finders = [context.Process(target=find_again_and_again, args=(run_id, over, results)) for _ in range(2)]
    for process in finders:
        process.start()
    failures: Counter[str] = Counter()
    try:
        for _ in range(1500):
            try:
                remove(create(run_id))
            except QueueNotReadyError as error:
                failures[str(error)] += 1
        over.set()
        complaints = Counter(results.get()) + Counter(results.get())
    finally:
        for process in finders:
            process.join(LONG)
            process.kill()
            process.join()
        results.close()
    assert failures == {}, "create failed, although nobody else creates"
    assert not [text for text in complaints if "its process is gone" in text], "the creator lives"
    assert all("unlinked while" in text or "there is no queue segment" in text for text in complaints), complaints


def test_attach_waits_for_a_creator_that_has_only_just_begun(run_id: str, path: Path) -> None:
    """Between its first two steps nothing proves yet that the creator lives; a moment later it does."""
    path.touch(0o600)
    attached = in_thread(attach, run_id)
    looks = itertools.count()
    eventually(lambda: attached.done() or next(looks) > 50, "a few looks")
    assert not attached.done(), f"it gave up at once: {attached.exception()}"
    with create(run_id) as q:
        q.put("here")
        with attached.result(LONG) as other:
            assert other.get() == "here"
        q.unlink()


# ---- creators that die or are slow ----------------------------------------------------------------------------------


def die_at(step: int) -> Callable[[FrameType, str, Any], None]:
    """Return a profile function that kills this process when the package calls, or returns, for the step-th time."""
    steps = itertools.count()

    def count(frame: FrameType, event: str, argument: Any) -> None:
        if frame.f_code.co_filename.startswith(PACKAGE) and next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    return count


def create_and_die(run_id: str, step: int) -> bool:
    """Create a queue in a child that dies at a step; return whether it did, and not its creation ended before."""

    def child() -> None:
        profile = die_at(step)
        sys.setprofile(profile)
        create(run_id)
        sys.setprofile(None)
        os._exit(7)

    status = end_of(fork(child))
    assert status in (-signal.SIGKILL, 7)
    return status == -signal.SIGKILL


def test_a_creator_that_dies_at_any_step_stands_in_nobodys_way(run_id: str, path: Path, impatient: None) -> None:
    """Every call that the package makes, and every return, is a step; the segments are looked at after each death."""
    seen: Counter[str] = Counter()
    for step in itertools.count():
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
    assert sum(seen.values()) > 50, "this test has lost sight of the creation"


MARK = bytes(layout.MAGIC_AT) + struct.pack("=Q", layout.UNFINISHED)
LEFTOVERS = {"empty": b"", "the mark alone": MARK, "much, with the mark": MARK + bytes(1 << 20)}


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


@contextmanager
def slow_creator(run_id: str, monkeypatch: pytest.MonkeyPatch, where: str) -> Iterator[Callable[[], None]]:
    """Have a child create a queue and stop in the middle; give a function that lets it go on to its end."""
    ready, is_ready = os.pipe()
    go, may_go = os.pipe()
    module, function = {
        "before its size": (os, "ftruncate"),
        "before its memory": (os, "posix_fallocate"),
        "before its lock": (lifecycle, "open_lock"),
    }[where]

    def child() -> None:
        real = getattr(module, function)

        def stop(*arguments: Any, **keywords: Any) -> Any:
            monkeypatch.undo()
            os.write(is_ready, b"x")
            os.read(go, 1)
            return real(*arguments, **keywords)

        monkeypatch.setattr(module, function, stop)
        create(run_id).put("made in the end")

    pid = fork(child)
    status: list[int] = []

    def go_on() -> None:
        os.write(may_go, b"x")
        status.append(end_of(pid))

    try:
        assert os.read(ready, 1)
        yield go_on
    finally:
        if not status:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        for descriptor in (ready, is_ready, go, may_go):
            os.close(descriptor)
    assert status == [0]


@pytest.mark.parametrize("where", ["before its size", "before its memory", "before its lock"])
def test_a_creator_that_is_slow_is_waited_for_and_named_and_not_disturbed(
    run_id: str, path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    with slow_creator(run_id, monkeypatch, where) as go_on:
        inode = path.stat().st_ino
        start = time.monotonic()
        with pytest.raises(QueueNotReadyError, match="still being created by a live process") as caught:
            SharedMemoryQueue("q", run_id=run_id, timeout=1)
        assert time.monotonic() - start >= 1, "it did not wait for the creator"
        assert isinstance(caught.value, TimeoutError)
        with pytest.raises(QueueNotReadyError, match="being created by a live process"):
            create(run_id)
        assert path.stat().st_ino == inode
        go_on()
    with attach(run_id) as q:
        assert q.get_nowait() == "made in the end"
        q.unlink()


@pytest.mark.parametrize("where", ["before its size", "before its memory", "before its lock"])
def test_attach_goes_on_as_soon_as_a_slow_creator_is_ready(
    run_id: str, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    with slow_creator(run_id, monkeypatch, where) as go_on:
        attached = in_thread(attach, run_id)
        assert not attached.done()
        go_on()
        with attached.result(LONG) as q:
            assert q.get(timeout=LONG) == "made in the end"
            q.unlink()


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_create_that_is_interrupted_leaves_nothing(
    run_id: str, no_leaks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, function in (
        (os, "ftruncate"),
        (os, "posix_fallocate"),
        (lifecycle, "_number_slots"),
        (lifecycle, "open_lock"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, function, interrupt)
            with pytest.raises(KeyboardInterrupt):
                create(run_id)
        assert segments_of(run_id) == set(), function
    remove(create(run_id))


class Interrupter(test_interrupts.Interrupter):
    """Raises no KeyboardInterrupt in a ``__del__``, from where Python lets none out."""

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        caller: FrameType | None = frame
        while caller is not None:
            if caller.f_code.co_name == "__del__":
                return None
            caller = caller.f_back
        return super().__call__(frame, event, argument)


def points(operation: Callable[[], T], undo: Callable[[T], object]) -> Iterator[str]:
    """Interrupt an operation at its point 0, 1, 2, ... until it is completed; yield where after each."""
    for point in itertools.count():
        interrupter = Interrupter(point)
        sys.settrace(interrupter)
        try:
            result = operation()
        except KeyboardInterrupt:
            result = None
        finally:
            sys.settrace(None)
        where = interrupter.where
        del interrupter
        gc.collect()  # it and the frames that it knew, with what they refer to
        if result is not None:
            assert not where, f"the interrupt at {where} was swallowed"
            assert point > 50, "hardly any points: nothing was tested"
            undo(result)
            return
        yield where


@pytest.mark.parametrize("leftover", [False, True])
def test_an_interrupt_at_any_point_of_create_leaves_nothing(run_id: str, path: Path, leftover: bool) -> None:
    wanted = lifecycle.geometry(3, 64, "mpmc")
    before = open_descriptors()

    def create_here() -> tuple[shared_memory.Segment, mutex.LockFlag]:
        if leftover:
            path.write_bytes(MARK)
        return lifecycle.create("q", run_id, wanted)

    for where in points(create_here, lambda made: lifecycle.discard(*made, "q", run_id)):
        left = segments_of(run_id)
        if leftover and left == {path.name}:  # interrupted before it was looked at
            assert path.read_bytes() == MARK
            path.unlink()
            left.clear()
        assert left == set(), f"interrupted at {where}"
        assert open_descriptors() <= before, f"interrupted at {where}"


def test_an_interrupt_at_any_point_of_attach_keeps_nothing_open(run_id: str) -> None:
    q = create(run_id)
    before = open_descriptors()

    def close(attached: tuple[shared_memory.Segment, layout.Geometry, mutex.LockFlag]) -> None:
        segment, _, lock = attached
        lock.close()
        segment.close()

    for where in points(lambda: lifecycle.attach("q", run_id), close):
        assert open_descriptors() <= before, f"interrupted at {where}"
    assert works(q)
    remove(q)


def test_a_queue_that_is_discarded_is_gone_although_its_memory_is_still_referred_to(
    run_id: str, no_leaks: None
) -> None:
    segment, lock = lifecycle.create("q", run_id, lifecycle.geometry(3, 64, "mpmc"))
    view = segment.buffer[:8]
    lifecycle.discard(segment, lock, "q", run_id)
    assert segments_of(run_id) == set()
    view.release()


def test_a_create_that_fails_leaves_another_segment_that_got_its_name_meanwhile(
    run_id: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_the_name(*_: object) -> None:
        path.unlink()
        path.write_bytes(b"another's")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(lifecycle, "_number_slots", lose_the_name)
        with pytest.raises(KeyboardInterrupt):
            create(run_id)
    assert path.read_bytes() == b"another's"
    path.unlink()


def test_a_view_that_is_left_on_the_memory_does_not_hide_the_interrupt(
    run_id: str, no_leaks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    views: list[memoryview] = []

    def keep_a_view(segment: shared_memory.Segment, _: object) -> None:
        views.append(segment.buffer.cast("Q"))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(lifecycle, "_number_slots", keep_a_view)
        with pytest.raises(KeyboardInterrupt):
            create(run_id)
    assert segments_of(run_id) == set()
    views.pop().release()


def test_a_segment_may_be_closed_again_and_is_closed_when_nobody_has_it_any_more(run_id: str, no_leaks: None) -> None:
    q = create(run_id)
    segment = shared_memory.open_existing(f"{run_id}-q-queue")
    view = segment.buffer[:8]
    segment.close()
    segment.close()
    assert len(bytes(view)) == 8, "the memory stays for as long as somebody refers to it"
    view.release()
    segment = shared_memory.open_existing(f"{run_id}-q-queue")
    view = segment.buffer[:8]
    del segment  # in silence
    del view
    remove(q)


# ---- no room --------------------------------------------------------------------------------------------------------


def test_a_queue_for_which_there_is_no_room_fills_nothing_and_says_what_to_do(
    run_id: str, no_leaks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.statvfs

    def nearly_full(where: Any) -> Any:
        found = real(where)
        free = 1_000_000 // found.f_frsize
        return SimpleNamespace(f_frsize=found.f_frsize, f_bavail=free, f_bfree=free, f_blocks=found.f_blocks)

    def no_call(*_: object) -> None:
        raise AssertionError("it took memory although there was too little")

    with monkeypatch.context() as patch:
        patch.setattr(os, "statvfs", nearly_full)
        patch.setattr(os, "posix_fallocate", no_call)
        with pytest.raises(OSError, match=r"not enough shared memory .* choose a smaller capacity") as caught:
            create(run_id, capacity=1000, item_size=1000)
    assert caught.value.errno == errno.ENOSPC
    assert not isinstance(caught.value, SharedMemoryQueueError) or isinstance(caught.value, OSError)
    remove(create(run_id, capacity=1000, item_size=1000))


@pytest.mark.parametrize("call", [0, 1])
def test_memory_that_runs_out_meanwhile_is_the_same_error(
    run_id: str, no_leaks: None, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """At the reservation of the queue's segment, or at that of the lock's."""
    calls = itertools.count()
    real = os.posix_fallocate

    def run_out(*arguments: int) -> None:
        if next(calls) == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", run_out)
        with pytest.raises(OSError, match=r"not enough shared memory .* choose a smaller capacity") as caught:
            create(run_id)
    assert caught.value.errno == errno.ENOSPC
    assert segments_of(run_id) == set()
    remove(create(run_id))


SMALL_SHARED_MEMORY = """
import errno, os, sys
from shared_multiprocess_queue import SharedMemoryQueue

try:
    SharedMemoryQueue("q", create=True, capacity=8000, item_size=1000)
except ValueError as error:
    pass  # it can never fit
with open("/dev/shm/half", "wb") as half:
    half.write(bytes(2 << 20))
try:
    SharedMemoryQueue("q", create=True, capacity=3000, item_size=1000)
except OSError as error:
    assert error.errno == errno.ENOSPC, error
assert os.listdir("/dev/shm") == ["half"], os.listdir("/dev/shm")
q = SharedMemoryQueue("q", create=True, capacity=500, item_size=1000)
with open("/dev/shm/others", "wb", buffering=0) as others:
    try:
        while True:
            others.write(bytes(4096))
    except OSError as error:
        assert error.errno == errno.ENOSPC, error

class Mine:  # its definition would need memory that is not there
    pass

for lap in range(3):
    for number in range(500):
        q.put(b"x" * 1000)
    assert q.full()
    assert len(q.get_batch(500)) == 500
q.put(Mine())
assert type(q.get()) is Mine
q.close()
q.unlink()
print("done")
"""


def test_a_shared_memory_that_is_really_full_is_an_error_and_no_sigbus() -> None:
    if shutil.which("unshare") is None or os.geteuid() != 0:
        pytest.skip("needs a mount namespace of its own")
    prefix = ["unshare", "--mount", "sh", "-ec", 'mount -t tmpfs -o size=4m tmpfs /dev/shm; exec "$@"', "sh"]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False, timeout=LONG).returncode != 0:
        pytest.skip("no mount namespace here")
    result = subprocess.run(
        [*prefix, sys.executable, "-c", SMALL_SHARED_MEMORY],
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")


# ---- flocks ---------------------------------------------------------------------------------------------------------


@contextmanager
def a_look_that_ends(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hold the flock as one who looks whether a creator lives, until somebody sleeps because of that."""
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


def test_a_creator_goes_on_although_somebody_looks_just_now_whether_it_lives(
    run_id: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_a_dead_creator_is_known_to_be_dead_although_a_child_that_it_forked_lives(
    run_id: str, path: Path, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
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


# ---- what is not a queue --------------------------------------------------------------------------------------------


def poke(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def test_another_layout_version_is_refused_with_both_numbers(run_id: str, path: Path) -> None:
    q = create(run_id)
    for found in (0, layout.VERSION + 1, (1 << 64) - 1):
        poke(path, layout.VERSION_AT, struct.pack("=Q", found))
        with pytest.raises(LayoutVersionError) as caught:
            attach(run_id)
        assert (caught.value.found, caught.value.expected) == (found, layout.VERSION)
        assert str(found) in str(caught.value)
        assert isinstance(caught.value, RuntimeError)
        with pytest.raises(QueueExistsError):
            create(run_id)
    remove(q)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("MAGIC_AT", 1),
        ("MAGIC_AT", (1 << 64) - 1),
        ("CAPACITY_AT", 0),
        ("CAPACITY_AT", 2),
        ("CAPACITY_AT", 4),
        ("CAPACITY_AT", 1 << 31),
        ("CAPACITY_AT", (1 << 64) - 1),
        ("ITEM_SIZE_AT", 0),
        ("ITEM_SIZE_AT", 1),
        ("ITEM_SIZE_AT", 1 << 20),
        ("ITEM_SIZE_AT", (1 << 64) - 1),
        ("MODE_AT", 2),
        ("MODE_AT", (1 << 64) - 1),
        ("RECORDS_AT", 0),
        ("RECORDS_AT", layout.RECORDS + 1),
        ("DEFINITIONS_SIZE_AT", 0),
        ("DEFINITIONS_SIZE_AT", 1 << 60),
        ("SEGMENT_SIZE_AT", 0),
        ("SEGMENT_SIZE_AT", 1 << 60),
    ],
)
def test_a_header_that_cannot_be_true_is_a_corrupt_queue(run_id: str, path: Path, word: str, value: int) -> None:
    q = create(run_id)
    poke(path, getattr(layout, word), struct.pack("=Q", value))
    before = path.read_bytes()
    with pytest.raises(CorruptQueueError) as caught:
        attach(run_id)
    assert isinstance(caught.value, RuntimeError)
    assert path.name in str(caught.value)
    assert path.read_bytes() == before
    remove(q)


@pytest.mark.parametrize("missing", [1, 4, 8, 4096, "all but the header", "all but one page", "all but 100 bytes"])
def test_a_queue_that_was_cut_off_is_corrupt(run_id: str, path: Path, missing: Any) -> None:
    q = create(run_id)
    size = path.stat().st_size
    rest = {"all but the header": layout.SLOTS_START, "all but one page": 4096, "all but 100 bytes": 100}
    q.close()  # to touch what is cut off would be a SIGBUS
    with path.open("r+b") as file:
        file.truncate(rest[missing] if isinstance(missing, str) else size - missing)
        kept = file.read()
    if missing == "all but 100 bytes":
        poke(path, 0, b"not any more what a creator leaves")
        kept = path.read_bytes()
    with pytest.raises(CorruptQueueError):
        attach(run_id)
    with pytest.raises(QueueExistsError):
        create(run_id)
    assert path.read_bytes() == kept
    q.unlink()


def test_a_queue_without_its_lock_cannot_be_attached(run_id: str, lock_path: Path) -> None:
    q = create(run_id)
    lock_path.unlink()
    with pytest.raises(QueueNotFoundError, match=lock_path.name):
        attach(run_id)
    assert works(q), "who is attached goes on"
    remove(q)
    assert segments_of(run_id) == set()


@pytest.mark.parametrize("size", [0, 2])
def test_a_queue_whose_lock_was_cut_off_is_corrupt(run_id: str, lock_path: Path, size: int) -> None:
    q = create(run_id)
    os.truncate(lock_path, size)
    with pytest.raises(CorruptQueueError, match=lock_path.name):
        attach(run_id)
    q.unlink()
    q.close()


def test_a_queue_to_which_a_byte_was_added_is_corrupt(run_id: str, path: Path) -> None:
    q = create(run_id)
    with path.open("ab") as file:
        file.write(b"x")
    with pytest.raises(CorruptQueueError):
        attach(run_id)
    remove(q)


FOREIGN = {
    "a few bytes": b"hello",
    "a page": b"somebody else's data" * 200,
    "zeros where the magic would be": b"data" * 8 + bytes(4096),
    "much": b"somebody else's data" * 20_000,
    "much, and zeros where the magic would be": b"data" * 8 + bytes(200_000),
    "an odd number of bytes": b"x" * 100_001,
    "a zero": bytes(1),
    "a page of zeros": bytes(4096),
    "zeros, as many as a queue has bytes": bytes(layout.Geometry.of(3, 4096, "mpmc").size),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_segment_is_neither_used_nor_removed(run_id: str, path: Path, kind: str) -> None:
    path.write_bytes(FOREIGN[kind])
    inode = path.stat().st_ino
    with pytest.raises(QueueExistsError, match="exists already"):
        create(run_id)
    with pytest.raises(CorruptQueueError, match="not a queue"):  # and not: create it, which cannot work
        attach(run_id)
    assert path.read_bytes() == FOREIGN[kind]
    assert path.stat().st_ino == inode
    assert segments_of(run_id) == {path.name}
    path.unlink()


@settings(max_examples=300, deadline=None, database=None, print_blob=True, suppress_health_check=list(HealthCheck))
@given(
    changes=st.lists(
        st.tuples(
            st.integers(0, layout.SLOTS_START // WORD + 40).map(lambda number: number * WORD)
            | st.integers(layout.MAGIC_AT // WORD, layout.MAGIC_AT // WORD + 7).map(lambda number: number * WORD),
            st.integers(0, (1 << 64) - 1) | st.integers(0, 5),
        ),
        min_size=1,
        max_size=4,
    ),
    cut=st.none() | st.integers(1, 70_000),
)
def test_whatever_stands_in_a_segment_attaching_is_refused_with_a_reason_or_works(
    run_id: str, path: Path, impatient: None, changes: list[tuple[int, int]], cut: int | None
) -> None:
    q = create(run_id)
    q.put("an item")
    q.close()
    for at, value in changes:
        poke(path, at, struct.pack("=Q", value))
    if cut is not None:
        os.truncate(path, max(0, path.stat().st_size - cut))
    try:
        # An error of ours, or ENOENT and the like: never a TypeError, a struct.error or the end of this process.
        with suppress(SharedMemoryQueueError), attach(run_id) as found:
            with suppress(found.Empty, SharedMemoryQueueError):
                found.get(timeout=0)
            found.qsize()
            found.get_metrics()
    finally:
        for name in segments_of(run_id):
            (SHM / name).unlink()


# ---- whose segment --------------------------------------------------------------------------------------------------

ROOT = os.geteuid() == 0
NOBODY = 65534


@pytest.mark.skipif(not ROOT, reason="only root can give a file away")
def test_a_segment_of_another_user_is_not_used(run_id: str, path: Path) -> None:
    q = create(run_id)
    os.chown(path, NOBODY, NOBODY)
    before = path.read_bytes()
    with pytest.raises(PermissionError, match=rf"belongs to user {NOBODY}"):
        attach(run_id)
    with pytest.raises(QueueExistsError):
        create(run_id)
    assert path.read_bytes() == before
    os.chown(path, 0, 0)
    remove(q)


@pytest.mark.skipif(not ROOT, reason="only root can give a file away")
@pytest.mark.parametrize("kind", LEFTOVERS)
def test_what_another_users_creator_left_is_not_removed(run_id: str, path: Path, kind: str) -> None:
    path.write_bytes(LEFTOVERS[kind])
    os.chown(path, NOBODY, NOBODY)
    with pytest.raises(QueueExistsError):
        create(run_id)
    assert path.read_bytes() == LEFTOVERS[kind]
    path.unlink()


@pytest.mark.skipif(not ROOT, reason="needs root to become another user")
def test_another_user_can_neither_use_nor_remove_a_queue(run_id: str, path: Path, lock_path: Path) -> None:
    q = create(run_id)

    def child() -> None:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        with pytest.raises(PermissionError):
            attach(run_id)
        with pytest.raises(OSError, match=path.name):
            create(run_id)

    assert end_of(fork(child)) == 0
    assert path.exists()
    assert lock_path.exists()
    assert works(q)
    remove(q)


# ---- unlink ---------------------------------------------------------------------------------------------------------


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


def test_a_queue_that_is_created_while_another_is_being_unlinked_keeps_its_lock(
    run_id: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name of the old queue's segment is gone; that of its lock is not yet."""
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


def test_of_two_that_unlink_at_once_the_slow_one_does_not_remove_a_newer_queue(
    run_id: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """He has looked, and the name means the old queue still; before he removes it, another is as far as he."""
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


def test_processes_that_create_and_unlink_one_name_never_end_with_half_a_queue(run_id: str) -> None:
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


# ---- the resource tracker -------------------------------------------------------------------------------------------


def test_no_process_tells_the_resource_tracker(run_id: str) -> None:
    result = python(
        """
        import sys
        from multiprocessing import resource_tracker
        from shared_multiprocess_queue import SharedMemoryQueue

        q = SharedMemoryQueue("q", create=True, capacity=3, run_id=sys.argv[1])
        other = SharedMemoryQueue("q", run_id=sys.argv[1])
        q.put_batch([1, 2])
        assert other.get_batch(2) == [1, 2]
        other.close()
        print("tracker:", resource_tracker._resource_tracker._fd)
        """,
        run_id,
    )
    assert result.stdout == "tracker: None\n"
    with attach(run_id) as q:
        assert works(q)
        q.unlink()


def test_a_tracker_that_runs_takes_no_queue_away_when_processes_end(run_id: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import multiprocessing, os, signal, sys
            from multiprocessing import shared_memory
            from shared_multiprocess_queue import SharedMemoryQueue

            def child(how):
                q = SharedMemoryQueue("q", run_id=sys.argv[1])
                q.put_batch([how])
                if how == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)

            if __name__ == "__main__":
                context = multiprocessing.get_context("spawn")  # starts a tracker
                q = SharedMemoryQueue("q", create=True, capacity=9, run_id=sys.argv[1])
                for how in ("end", "kill"):
                    process = context.Process(target=child, args=(how,))
                    process.start()
                    process.join()
            """
        )
    )
    result = subprocess.run(
        [sys.executable, str(program), run_id], capture_output=True, text=True, timeout=LONG, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    with attach(run_id) as q:
        assert q.get_batch(9) == ["end", "kill"]
        q.unlink()


# ---- participants and their namespaces ------------------------------------------------------------------------------


@pytest.fixture
def header() -> Iterator[memoryview]:
    memory = mmap.mmap(-1, layout.SLOTS_START)
    view = memoryview(memory)
    yield view
    view.release()
    memory.close()


def test_pid_namespaces_are_numbered_once_each(header: memoryview) -> None:
    memory = open_words(header)
    words = memory.words()
    numbers = [participants._namespace_number(words, 1000 + identity) for identity in range(layout.NAMESPACES)]
    assert numbers == list(range(1, layout.NAMESPACES + 1))
    again = [participants._namespace_number(words, 1000 + identity) for identity in range(layout.NAMESPACES)]
    assert again == numbers
    assert max(numbers) < 1 << (64 - layout.OWNER_NAMESPACE_SHIFT)
    assert participants._namespace_number(words, 5) == 0, "the table is full"
    assert participants._namespace_number(words, 0) == 0, "this process cannot be looked up"
    del words
    memory.release()


def test_processes_of_other_pid_namespaces_count_as_alive(header: memoryview, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = fork(lambda: None)
    end_of(gone)
    memory = open_words(header)
    words = memory.words()
    me = _processes.identity()
    mine = participants.Participants(words)
    _, _, number = layout.parse_owner(mine.owner)
    assert not mine.is_alive(layout.owner_of(gone, 1, number)), "a dead process of my own namespace"
    assert mine.is_alive(layout.owner_of(gone, 1, number + 1)), "nobody can tell"
    assert mine.is_alive(layout.owner_of(gone, 1, 0)), "nobody can tell"
    monkeypatch.setattr(_processes, "_identity", _processes.Identity(me.pid, me.start, me.namespace + 1))
    stranger = participants.Participants(words)
    assert layout.parse_owner(stranger.owner)[2] == number + 1
    assert stranger.is_alive(layout.owner_of(gone, 1, number))
    del words
    memory.release()


IN_A_NAMESPACE = """
import os, sys
from shared_multiprocess_queue import SharedMemoryQueue
assert os.getpid() == 1
with SharedMemoryQueue("q", run_id=sys.argv[1]) as q:
    assert q.get() == "in"
    q.put_batch(["out", "out again"])
    print(sorted(q.get_metrics()["participants"]))
    os.kill(os.getpid(), 9) if sys.argv[2] == "kill" else None
    os._exit(0) if sys.argv[2] == "exit" else None
"""


@pytest.mark.parametrize("how", ["close", "exit"])
def test_a_process_in_another_pid_namespace_shares_a_queue(run_id: str, how: str) -> None:
    prefix = ["unshare", "--pid", "--fork", "--mount-proc"]
    if shutil.which("unshare") is None:
        pytest.skip("no unshare")
    if subprocess.run([*prefix, "true"], capture_output=True, check=False, timeout=LONG).returncode != 0:
        pytest.skip("no pid namespace here")
    q = create(run_id)
    q.put("in")
    result = subprocess.run(
        [*prefix, sys.executable, "-c", IN_A_NAMESPACE, run_id, how],
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert eval(result.stdout) == sorted({1, os.getpid()}), "each counts the other as alive"
    assert q.get_batch(2, timeout=LONG) == ["out", "out again"]
    assert (1 in q.get_metrics()["participants"]) is (how == "exit"), "who cannot be looked up is not declared dead"
    assert works(q)
    remove(q)


def test_a_full_table_of_participants_is_an_error_that_changes_nothing(run_id: str) -> None:
    q = create(run_id)
    q.put("before")
    memory = q._membership.memory
    words = memory.words()
    filled = [index for index in range(layout.RECORDS) if not words.load(layout.record_at(index) + layout.OWNER)]
    for index in filled:
        words.store(layout.record_at(index) + layout.OWNER, q._membership.participants.owner)
    descriptors = open_descriptors()
    for _ in range(3):
        with pytest.raises(TooManyParticipantsError, match=str(layout.RECORDS)) as caught:
            attach(run_id)
        assert caught.value.limit == layout.RECORDS
        assert isinstance(caught.value, OSError)
    del caught
    assert open_descriptors() <= descriptors, "a handle that never came to be keeps its descriptors"
    q.put("the handle has its record")
    assert q.get_batch(3) == ["before", "the handle has its record"]
    for index in filled:
        words.store(layout.record_at(index) + layout.OWNER, 0)
    del words
    with attach(run_id) as other:
        assert works(other)
    remove(q)


def test_records_of_the_dead_are_taken_when_no_others_are_free(run_id: str) -> None:
    gone = fork(lambda: None)
    end_of(gone)
    q = create(run_id)
    words = q._membership.memory.words()
    _, _, namespace = layout.parse_owner(q._membership.participants.owner)
    for index in range(layout.RECORDS):
        if not words.load(layout.record_at(index) + layout.OWNER):
            words.store(layout.record_at(index) + layout.OWNER, layout.owner_of(gone, 1, namespace))
    assert set(q.get_metrics()["participants"]) == {os.getpid()}
    with attach(run_id) as other:
        assert works(other)
        assert set(other.get_metrics()["participants"]) == {os.getpid()}
    del words
    remove(q)


# ---- what fails leaves nothing --------------------------------------------------------------------------------------


def test_an_attach_that_fails_keeps_nothing_open(run_id: str, path: Path, lock_path: Path, impatient: None) -> None:
    q = create(run_id)
    good = path.read_bytes()
    descriptors = open_descriptors()

    def fails(expected: type[Exception]) -> None:
        for _ in range(3):
            with pytest.raises(expected):
                attach(run_id)

    poke(path, layout.VERSION_AT, struct.pack("=Q", 77))
    fails(LayoutVersionError)
    poke(path, layout.MAGIC_AT, b"whatever")
    fails(CorruptQueueError)
    poke(path, 0, good[: layout.SLOTS_START])
    lock_path.rename(lock_path.with_suffix(".away"))
    fails(QueueNotFoundError)
    lock_path.with_suffix(".away").rename(lock_path)
    if not choice.has_native():
        with pytest.raises(ImportError):
            SharedMemoryQueue("q", run_id=run_id, engine="native")
    attach(run_id).close()
    q.unlink()
    fails(QueueNotFoundError)
    path.touch(0o600)
    fails(QueueNotFoundError)
    path.write_bytes(b"foreign")
    fails(SharedMemoryQueueError)
    path.unlink()
    assert open_descriptors() <= descriptors
    q.close()


def test_an_attach_to_a_queue_that_is_unlinked_meanwhile_fails_and_keeps_nothing(
    run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    q = create(run_id)
    descriptors = open_descriptors()
    real = shared_memory.Segment.has_name

    def unlinked_just_now(self: shared_memory.Segment) -> bool:
        monkeypatch.undo()
        q.unlink()
        return real(self)

    monkeypatch.setattr(shared_memory.Segment, "has_name", unlinked_just_now)
    with pytest.raises(QueueNotFoundError, match="unlinked while"):
        attach(run_id)
    assert open_descriptors() <= descriptors
    assert q.get_metrics()["participants"] == {os.getpid(): 1}
    q.close()
