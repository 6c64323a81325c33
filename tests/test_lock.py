"""The batch lock across processes with and without the package shared_memory_lock, which share its int32."""

from __future__ import annotations

import gc
import itertools
import json
import math
import os
import struct
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import atomics
import pytest
from atomics.ctx import AtomicIntViewContext

from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue._engine import atomics as _atomics_engine
from shared_multiprocess_queue._platform import mutex
from shared_multiprocess_queue._ring import layout, parking

from .conftest import MakeQueue
from .waiting import LONG, eventually, in_thread

SHM = Path("/dev/shm")
VERSION = "0.1.5"


KINDS = ["ours", "package"]
PACKAGE_LOCK = mutex.lock_class()
"""The class of the package, if that is installed in this environment."""

pytestmark = [
    pytest.mark.usefixtures("each_engine"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files"),
]


# ---- helpers --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the real package, which says that it needs a newer Python than it does, into a folder of its own."""
    folder = tmp_path_factory.mktemp("package")
    result = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"),
            *("--ignore-requires-python", "--target", str(folder), f"shared-memory-lock=={VERSION}"),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if result.returncode != 0:
        out_of_reach = ("No matching distribution", "Could not find a version", "onnection", "No module named pip")
        assert any(text in result.stderr for text in out_of_reach), result.stderr
        pytest.skip(f"pip reaches no index that has shared-memory-lock {VERSION}: {result.stderr.strip()[-200:]}")
    return folder


@pytest.fixture(autouse=True)
def ours_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process speak the protocol by itself, also where the package is installed."""
    monkeypatch.setattr(mutex, "lock_class", lambda: mutex.OwnLock)


WORKER = """
import json, os, sys
from shared_multiprocess_queue import Full, SharedMemoryQueue
from shared_multiprocess_queue._platform import mutex as _lock

kind, folder, name, run_id = sys.argv[1:]
if kind == "package":
    import shared_memory_lock
    assert os.path.dirname(os.path.dirname(shared_memory_lock.__file__)) == folder, shared_memory_lock.__file__
    assert issubclass(_lock.lock_class(), shared_memory_lock.SharedMemoryLock)
else:
    _lock.lock_class = lambda: _lock.OwnLock
q = SharedMemoryQueue(name, run_id=run_id)
assert isinstance(q._membership.flag, shared_memory_lock.SharedMemoryLock if kind == "package" else _lock.OwnLock)


class Raw:
    '''The lock of the package on the queue's segment, without the queue's rules.'''

    def __init__(self):
        from multiprocessing import resource_tracker
        resource_tracker.register = lambda *_: None  # or the segment would go with this process
        self.lock = shared_memory_lock.SharedMemoryLock(name=f"{name}-queue", run_id=run_id)


print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    try:
        answer = eval(line)
    except Full:
        answer = "Full"
    print(json.dumps(answer), flush=True)
"""


class Worker:
    """A process that evaluates what it is told."""

    def __init__(self, kind: str, package: Path, q: SharedMemoryQueue) -> None:
        environment = os.environ | ({"PYTHONPATH": str(package)} if kind == "package" else {})
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, kind, str(package), q.name, q.run_id],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self.answer() == "ready"

    def tell(self, command: str) -> None:
        assert self.process.stdin is not None
        print(command, file=self.process.stdin, flush=True)

    def answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate(timeout=LONG)[1]
        return json.loads(line)

    def ask(self, command: str) -> Any:
        self.tell(command)
        return self.answer()

    def end(self) -> None:
        """Let it end by itself, in silence."""
        _, complaints = self.process.communicate(timeout=LONG)
        assert complaints == ""
        assert self.process.returncode == 0


@contextmanager
def worker(kind: str, package: Path, q: SharedMemoryQueue) -> Iterator[Worker]:
    started = Worker(kind, package, q)
    try:
        yield started
    finally:
        started.process.kill()
        started.process.communicate()


def int32(q: SharedMemoryQueue) -> int:
    """Return what the segment of the lock says."""
    (value,) = struct.unpack("=i", (SHM / f"{q.run_id}-{q.name}-queue-lock").read_bytes())
    return int(value)


def set_int32(q: SharedMemoryQueue, value: int) -> None:
    with (SHM / f"{q.run_id}-{q.name}-queue-lock").open("r+b") as file:
        file.write(struct.pack("=i", value))


def owner(q: SharedMemoryQueue) -> int:
    """Return the name of the participant that holds the lock."""
    return q._membership.memory.words().load(layout.BATCH_OWNER_AT)


def is_held(q: SharedMemoryQueue) -> bool:
    return int32(q) == 1 and owner(q) != 0


# ---- one protocol ---------------------------------------------------------------------------------------------------


def test_the_worker_uses_the_real_package_beside_ours(make_queue: MakeQueue, package: Path) -> None:
    q = make_queue()
    assert type(q._membership.flag) is mutex.OwnLock
    with worker("package", package, q) as process:
        assert process.ask("_lock.lock_class().__name__") == "PackageLock"
        assert process.ask("shared_memory_lock.__version__") == VERSION
        process.end()


@pytest.mark.parametrize("kind", KINDS)
def test_the_segment_is_the_one_that_the_package_would_make(make_queue: MakeQueue, package: Path, kind: str) -> None:
    q = make_queue()
    file = SHM / f"{q.run_id}-q-queue-lock"
    assert file.read_bytes() == bytes(4), "one int32, free"
    with worker("package", package, q) as process:
        assert process.ask("Raw().lock._shm.name") == file.name
        assert process.ask("SharedMemoryQueue('made', create=True, capacity=3, run_id=run_id).close()") is None
        assert (SHM / f"{q.run_id}-made-queue-lock").read_bytes() == bytes(4)
        process.end()
    with SharedMemoryQueue("made", run_id=q.run_id) as made:
        made.put_batch([1, 2])
        assert made.get_batch(2) == [1, 2]
        made.unlink()


def test_the_lock_of_the_package_sees_our_hold_and_we_see_its(make_queue: MakeQueue, package: Path) -> None:
    q = make_queue()
    with worker("package", package, q) as process:
        assert process.ask("globals().update(raw=Raw().lock)") is None
        assert process.ask("raw.acquire(blocking=False)") is True
        assert q._membership.flag.is_held()
        assert not q._membership.flag.try_acquire()
        assert process.ask("raw.release()") is None
        assert not q._membership.flag.is_held()
        assert q._membership.flag.try_acquire()
        assert process.ask("raw.acquire(blocking=False)") is False
        assert process.ask("raw.acquire(timeout=0.01)") is False
        process.tell("raw.acquire(timeout=60)")
        q._membership.flag.release()
        assert process.answer() is True
        assert process.ask("raw.release()") is None
        process.end()


@pytest.mark.parametrize(("one", "other"), list(itertools.product(KINDS, KINDS)))
def test_one_int32_lets_one_in_at_a_time(make_queue: MakeQueue, package: Path, one: str, other: str) -> None:
    """Both add to one number by a plain, losable addition, under the int32 alone."""
    q = make_queue()
    count = textwrap.dedent(
        """
        def count(times):
            words = q._membership.memory.words()
            at = {at}
            for _ in range(times):
                while not q._membership.flag.try_acquire():
                    os.sched_yield()
                words.announce(at, words.peek(at) + 1)
                q._membership.flag.release()
        """
    ).format(at=layout.GATE_AT)
    with worker(one, package, q) as first, worker(other, package, q) as second:
        for process in (first, second):
            process.ask(f"exec({count!r}, globals())")
            process.tell("count(3000)")
        assert first.answer() is second.answer() is None
        words = q._membership.memory.words()
        assert words.load(layout.GATE_AT) == 6000
        words.store(layout.GATE_AT, 0)
        first.end()
        second.end()


# ---- batches --------------------------------------------------------------------------------------------------------


def test_batches_of_both_kinds_go_through_one_queue_whole(make_queue: MakeQueue, package: Path) -> None:
    q = make_queue(capacity=7)
    each, size = 120, 4
    code = f"[q.put_batch([[kind, number, index] for index in range({size})]) for number in range({each})] and None"

    def here() -> None:
        for number in range(each):
            q.put_batch([["here", number, index] for index in range(size)])

    with worker("package", package, q) as theirs, worker("ours", package, q) as ours:
        theirs.tell(code)
        ours.tell(code)
        done = in_thread(here)
        numbers = {"package": 0, "ours": 0, "here": 0}
        for _ in range(3 * each):
            who, number, index = q.get(timeout=LONG)
            assert (number, index) == (numbers[who], 0)
            assert [q.get_nowait() for _ in range(size - 1)] == [[who, number, rest] for rest in range(1, size)]
            numbers[who] += 1
        done.result(LONG)
        assert theirs.answer() is ours.answer() is None
        assert (int32(q), owner(q)) == (0, 0)
        theirs.end()
        ours.end()


def batch_that_waits(process: Worker, q: SharedMemoryQueue) -> None:
    """Have a process hold the lock: its batch of three waits for room, and there is room for two."""
    q.put_batch([1, 2, 3])
    process.tell("q.put_batch(['a', 'b', 'c'])")
    eventually(lambda: is_held(q), "the hold")
    assert q.get_batch(2) == [1, 2]


@pytest.mark.parametrize(("holder", "other"), list(itertools.product(KINDS, KINDS)))
def test_a_batch_waits_while_one_of_the_other_kind_has_the_lock(
    make_queue: MakeQueue, package: Path, holder: str, other: str
) -> None:
    q = make_queue(capacity=3)
    with worker(holder, package, q) as first, worker(other, package, q) as second:
        batch_that_waits(first, q)
        assert second.ask("q.put_batch(['small'], block=False)") == "Full", "there is room, and the lock is another's"
        assert second.ask("q.put_batch(['small'], timeout=0.1)") == "Full"
        second.tell("q.put_batch(['later'])")
        assert q.get() == 3  # room for the first
        assert first.answer() is None
        assert [q.get(timeout=LONG) for _ in range(4)] == ["a", "b", "c", "later"]
        assert second.answer() is None
        eventually(lambda: (int32(q), owner(q)) == (0, 0), "the release")
        first.end()
        second.end()


@pytest.mark.parametrize("holder", KINDS)
def test_the_lock_of_the_package_is_refused_while_a_batch_has_it(
    make_queue: MakeQueue, package: Path, holder: str
) -> None:
    q = make_queue(capacity=3)
    with worker(holder, package, q) as first, worker("package", package, q) as second:
        batch_that_waits(first, q)
        assert second.ask("Raw().lock.acquire(timeout=0.05)") is False
        assert q.get() == 3
        assert first.answer() is None
        assert second.ask("Raw().lock.acquire(timeout=60)") is True
        assert second.ask("Raw().lock.release()") is None


@pytest.mark.parametrize(("holder", "heir"), list(itertools.product(KINDS, [*KINDS, "here"])))
def test_the_lock_of_a_dead_batch_is_inherited_by_either_kind(
    make_queue: MakeQueue, package: Path, holder: str, heir: str
) -> None:
    q = make_queue(capacity=3)
    with worker(holder, package, q) as first, worker("ours" if heir == "here" else heir, package, q) as second:
        batch_that_waits(first, q)
        first.process.kill()
        first.process.wait(LONG)
        assert is_held(q), "by the dead"
        if heir == "here":
            q.put_batch(["x", "y"], timeout=LONG)
        else:
            assert second.ask("q.put_batch(['x', 'y'], timeout=60)") is None
        assert (int32(q), owner(q)) == (0, 0)
        assert q.get_batch(3) == [3, "x", "y"]
        second.end()


@pytest.mark.parametrize("heir", [*KINDS, "here"])
def test_an_int32_that_a_dead_process_left_at_1_is_inherited(make_queue: MakeQueue, package: Path, heir: str) -> None:
    """Its holder died between the two words, or was no queue: the int32 tells neither, so its owner's word decides."""
    q = make_queue()
    with worker("package", package, q) as dead:
        assert dead.ask("Raw().lock.acquire(blocking=False)") is True
        dead.process.kill()
        dead.process.wait(LONG)
    assert (int32(q), owner(q)) == (1, 0)
    if heir == "here":
        q.put_batch([1, 2], timeout=LONG)
    else:
        with worker(heir, package, q) as process:
            assert process.ask("q.put_batch([1, 2], timeout=60)") is None
            process.end()
    assert (int32(q), owner(q)) == (0, 0)
    assert q.get_batch(2) == [1, 2]


def test_an_int32_at_1_is_left_to_a_live_batch_that_is_about_to_own_it(make_queue: MakeQueue) -> None:
    """Between its two words: the announcement of that keeps others from inheriting."""
    q = make_queue()
    set_int32(q, 1)
    engine = q._engine
    with engine.membership.operation() as busy:
        busy.words.store(busy.at + layout.LOCK_BUSY, 1)
        with pytest.raises(q.Full):
            q.put_batch([1], timeout=0.05)
        busy.words.store(busy.at + layout.LOCK_BUSY, 0)
    q.put_batch([1], timeout=LONG)
    assert (int32(q), owner(q)) == (0, 0)
    assert q.get() == 1


class SlowRelease:
    """The int32, whose release stops until it is told to go on, or many have tried; the owner's word is 0 by then."""

    def __init__(self, inner: mutex.LockFlag) -> None:
        self.is_held = inner.is_held
        self._inner = inner
        self._tries = 0
        self.releasing, self.go_on = threading.Event(), threading.Event()

    def try_acquire(self) -> bool:
        self._tries += 1
        if self._tries > 50:
            self.go_on.set()
        return self._inner.try_acquire()

    def release(self) -> None:
        self.releasing.set()
        assert self.go_on.wait(LONG)
        self._inner.release()


def test_who_goes_to_sleep_while_the_lock_is_being_released_is_not_left_asleep(
    make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """He has seen the int32 still at 1 and the owner's word already at 0, and misses the one wake of the release."""
    for module in (parking, _atomics_engine):
        monkeypatch.setattr(module, "SLICE", 10**18)  # so that no end of a slice wakes him
    q = make_queue()
    lock, sleep = q._membership.batch_lock, q._membership.parking.sleep
    flag = SlowRelease(q._membership.flag)

    def look_on() -> None:
        """Nothing keeps him from waiting on."""

    monkeypatch.setattr(lock, "_flag", flag)
    with q._membership.operation() as one, q._membership.operation() as other:
        assert lock.acquire(one, 0, look_on)
        released = in_thread(lock.release, one)
        assert flag.releasing.wait(LONG)

        def sleep_after_the_release(*arguments: Any) -> None:
            flag.go_on.set()
            released.result(LONG)
            sleep(*arguments)

        monkeypatch.setattr(q._membership.parking, "sleep", sleep_after_the_release)
        acquired = in_thread(lock.acquire, other, math.inf, look_on)
        try:
            acquired.result(LONG / 4)  # or the lock is free, and he sleeps for as long as a slice lasts
        finally:
            q._membership.parking.wake_word(layout.BATCH_OWNER_AT)
        lock.release(other)
    assert (int32(q), owner(q)) == (0, 0)


# ---- interrupts -----------------------------------------------------------------------------------------------------


def test_a_lock_that_is_interrupted_while_it_is_opened_goes_in_silence(
    make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ``__del__`` raises is a warning, and here every warning is an error."""
    q = make_queue()

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for place, function in ((atomics, "atomicview"), (AtomicIntViewContext, "__enter__")):
        with monkeypatch.context() as patch:
            patch.setattr(place, function, interrupt)
            with pytest.raises(KeyboardInterrupt):
                mutex.open_lock("q-queue", q.run_id, create=False)
        gc.collect()


@pytest.mark.skipif(PACKAGE_LOCK is mutex.OwnLock, reason="the package is not installed")
def test_the_lock_of_the_package_that_is_interrupted_while_it_is_opened_goes_in_silence(
    make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    q = make_queue()
    real = AtomicIntViewContext.__enter__

    def enter_and_interrupt(context: Any) -> None:
        real(context)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(mutex, "lock_class", lambda: PACKAGE_LOCK)
        patch.setattr(AtomicIntViewContext, "__enter__", enter_and_interrupt)
        with pytest.raises(KeyboardInterrupt):
            mutex.open_lock("q-queue", q.run_id, create=False)
    gc.collect()


# ---- without the package --------------------------------------------------------------------------------------------


def test_our_class_is_used_where_the_package_is_not_installed() -> None:
    code = """
        import sys
        sys.modules["shared_memory_lock"] = None
        from shared_multiprocess_queue._platform import mutex as _lock
        assert _lock.lock_class() is _lock.OwnLock
        """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=LONG)


def test_a_lock_that_is_closed_lets_go_of_its_segment(make_queue: MakeQueue) -> None:
    q = make_queue()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        lock = mutex.open_lock("q-queue", q.run_id, create=False)
        assert lock.try_acquire()
        lock.release()
        lock.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_single_puts_and_gets_never_touch_the_lock(make_queue: MakeQueue, mode: str) -> None:
    q = make_queue(mode=mode)
    set_int32(q, 1)
    q._membership.memory.words().store(layout.BATCH_OWNER_AT, layout.name_of(5, 5))

    def touched(*_: object) -> bool:
        raise AssertionError("a put or a get took the lock")

    lock = q._membership.batch_lock
    for method in ("acquire", "release"):
        setattr(lock, method, touched)
    for number in range(10):
        q.put(number)
        q.put_nowait(number)
        assert q.get_batch(2) == [number, number]
    set_int32(q, 0)
    q._membership.memory.words().store(layout.BATCH_OWNER_AT, 0)
