"""How a queue is created and found, by several at once, and beside a slow creator."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import stat
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from shared_multiprocess_queue import (
    QueueExistsError,
    QueueNotFoundError,
    QueueNotReadyError,
    SharedMemoryQueue,
    SharedMemoryQueueError,
)
from shared_multiprocess_queue._platform import shared_memory
from shared_multiprocess_queue._ring import layout
from tests.support.places import SHM
from tests.support.segments import attach, create, remove, segments_of, slow_creator, works
from tests.support.waiting import LONG, eventually, in_thread

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files"),
]


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
    """So if shared memory runs full, the creator of a queue gets an error, and its users get no SIGBUS."""
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


@pytest.mark.costly
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


@pytest.mark.slow
def test_consumers_that_wait_for_a_queue_leave_its_creation_alone(run_id: str) -> None:
    """They look for the queue again and again until it appears.

    Two look for it all the time while it comes and goes; its one creator never fails and is never called dead.
    """
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


def test_attach_waits_while_a_leftover_is_being_replaced(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next creator removes it, and for a moment there is nothing under the name."""
    real, outcomes = shared_memory.open_existing, [QueueNotReadyError("a leftover"), QueueNotFoundError("removed")]

    def open_existing(name: str, uses: bool = True) -> shared_memory.Segment:
        if outcomes:
            raise outcomes.pop(0)
        return real(name, uses)

    with create(run_id) as q:
        monkeypatch.setattr(shared_memory, "open_existing", open_existing)
        with attach(run_id) as other:
            assert not outcomes
            other.put("here")
        assert q.get() == "here"
        q.unlink()


# ---- creators that are slow -----------------------------------------------------------------------------------------


@pytest.mark.costly
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
