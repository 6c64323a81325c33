"""Batches of processes with and without the package, and the lock of a batch that died."""

from __future__ import annotations

import itertools
import math
import threading
from pathlib import Path
from typing import Any

import pytest

from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue._engine import waiting
from shared_multiprocess_queue._platform import mutex
from shared_multiprocess_queue._ring import layout, parking
from tests.support.lock_workers import KINDS, Worker, int32, is_held, owner, set_int32, worker
from tests.support.places import SHM
from tests.support.queues import MakeQueue
from tests.support.waiting import LONG, eventually, in_thread

pytestmark = [
    pytest.mark.costly,
    pytest.mark.usefixtures("each_engine"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files"),
]


@pytest.mark.slow
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
    """The int32, with a release that stops until it is let go on, or 50 tries fail; the owner's word is 0 by then."""

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


def test_no_batch_is_left_asleep_that_waits_at_the_release(
    make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that goes to sleep while the lock is being released is woken.

    The batch has seen the int32 still at 1 and the owner's word already at 0, and misses the one wake of the release.
    """
    for module in (parking, waiting):
        monkeypatch.setattr(module, "SLICE", 10**18)  # so that no end of a slice wakes the batch
    q = make_queue()
    lock, sleep = q._membership.batch_lock, q._membership.parking.sleep
    flag = SlowRelease(q._membership.flag)

    def look_on() -> None:
        """Raise nothing, so that the batch waits on."""

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
            acquired.result(LONG / 4)  # otherwise the lock is free, and the batch sleeps for a whole slice
        finally:
            q._membership.parking.wake_word(layout.BATCH_OWNER_AT)
        lock.release(other)
    assert (int32(q), owner(q)) == (0, 0)
