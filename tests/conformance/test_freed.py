"""What is left of handles that are closed, dropped, or collected in a cycle of references."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from shared_multiprocess_queue import QueueClosedError, SharedMemoryQueue, TooManyParticipantsError
from shared_multiprocess_queue._engine import membership, metrics
from shared_multiprocess_queue._engine.contract import EngineName
from shared_multiprocess_queue._platform.processes import Identity
from shared_multiprocess_queue._ring.ring import Ring
from shared_multiprocess_queue._ring.seen import Blocker
from shared_multiprocess_queue.errors import ArgumentError
from tests.support.children import in_child
from tests.support.queues import MakeQueue
from tests.support.waiting import LONG


def test_a_closed_handle_is_freed_at_once(run_id: str, each_engine: EngineName) -> None:
    """Without the collector of garbage, which a program may have switched off."""
    queue = SharedMemoryQueue("q", create=True, run_id=run_id, capacity=3, engine=each_engine)
    queue.put(1)
    assert queue.get() == 1
    assert queue.readable
    with pytest.raises(ArgumentError):
        queue.get(timeout=-1)
    freed = weakref.ref(queue._membership)
    gc.disable()
    try:
        queue.close()
        queue.unlink()
        del queue
        assert freed() is None
    finally:
        gc.enable()


class Unreadable:
    """Cannot be unpickled, so a batch ends before it, and what follows is kept back."""

    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


@pytest.fixture
def kept_back(make_queue: MakeQueue, each_engine: EngineName) -> tuple[SharedMemoryQueue, list[Any]]:
    """A queue, and in a list another handle, which keeps three items back."""
    q = make_queue(capacity=5, engine=each_engine)
    q.put_batch([1, Unreadable(), 3, 4])
    handle = SharedMemoryQueue("q", run_id=q.run_id, engine=each_engine)
    assert handle.get_batch(4) == [1]
    assert q.qsize() == 0
    return q, [handle]


def test_a_handle_in_a_cycle_puts_items_back_and_leaves(kept_back: tuple[SharedMemoryQueue, list[Any]]) -> None:
    """The collector clears weak references before it calls ``__del__``."""
    q, handles = kept_back
    handle = handles.pop()
    assert handle.readable
    vars(handle)["me"] = handle
    del handle
    gc.collect()
    assert q.qsize() == 3
    assert q.get_metrics()["participants"] == {os.getpid(): 1}


def test_a_finaliser_in_a_cycle_may_use_its_queue(make_queue: MakeQueue, each_engine: EngineName) -> None:
    q = make_queue(capacity=5, engine=each_engine)
    answers: list[object] = []

    class Owner:
        def __init__(self) -> None:
            self.queue = SharedMemoryQueue("q", run_id=q.run_id, engine=each_engine)
            vars(self.queue)["owner"] = self

        def __del__(self) -> None:
            self.queue.put("one")
            self.queue.put("two", 1)  # type: ignore[call-overload]  # an argument that is not plain
            answers.append(self.queue.get_metrics()["queue_size"])
            answers.append(self.queue.readable.fileno() >= 0)

    Owner()
    gc.collect()
    assert answers == [2, True]
    assert q.get_batch(5) == ["one", "two"]


@pytest.mark.slow
def test_items_kept_back_go_back_although_the_table_is_full(kept_back: tuple[SharedMemoryQueue, list[Any]]) -> None:
    q, (handle,) = kept_back
    others: list[SharedMemoryQueue] = []
    try:
        with suppress(TooManyParticipantsError):
            while True:
                others.append(SharedMemoryQueue("q", run_id=q.run_id, engine=q.engine))
        handle.close()
        assert q.qsize() == 3
    finally:
        for other in others:
            other.close()


def test_a_childs_close_lets_no_other_thread_begin(
    make_queue: MakeQueue, each_engine: EngineName, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first use of the queue in a child is a close; another thread puts before the memory is let go."""
    q = make_queue(engine=each_engine)
    release = Ring.release

    def child() -> None:
        found: list[object] = []

        def put() -> None:
            try:
                q.put(1)
            except QueueClosedError as error:
                found.append(error)

        def release_late(ring: Ring) -> None:
            if not found:
                thread = threading.Thread(target=put)
                thread.start()
                thread.join(LONG)
            release(ring)

        monkeypatch.setattr(Ring, "release", release_late)
        q.close()
        assert [type(error) for error in found] == [QueueClosedError]

    assert in_child(child) == 0
    assert q.empty()
    assert q.get_metrics()["participants"] == {os.getpid(): 1}


def test_a_closed_handle_keeps_no_doorbell(make_queue: MakeQueue, each_engine: EngineName) -> None:
    q = make_queue(engine=each_engine)
    freed = weakref.ref(q.readable)
    q.close()
    assert freed() is None


def test_blockers_are_timed_by_several_threads_at_once() -> None:
    """One of them replaces what the other is looking at."""
    times = metrics.BlockerTimes()
    one, other = Blocker(Identity(1, 1, 1), 1, "put"), Blocker(Identity(2, 1, 1), 1, "put")

    hashes: list[None] = []

    class Interfering(Blocker):
        def __hash__(self) -> int:
            hashes.append(None)
            if len(hashes) == 3:  # after the look-up and the store: this reads what was stored
                times.seconds([other])
            return super().__hash__()

    assert times.seconds([Interfering(*one), one]) == [0.0, 0.0]
    assert len(hashes) == 3


def test_a_close_that_waits_for_another_ends(
    make_queue: MakeQueue, each_engine: EngineName, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal handler's close, whose thread holds a lock that the other close waits for."""
    monkeypatch.setattr(membership, "_QUIET", 50_000_000)  # ns
    q = make_queue(engine=each_engine)
    closers: list[Callable[[], object]] = []
    inside = threading.Event()
    leave = q._membership._leave_for_good

    def slow(wait: bool) -> bool:
        inside.set()
        return leave(wait)

    q._membership._leave_for_good = slow  # type: ignore[method-assign]
    other = threading.Thread(target=q.close)
    with q._membership.records.lock:
        other.start()
        assert inside.wait(LONG)
        q.close()
        closers.append(q.close)
    other.join(LONG)
    assert not other.is_alive()
    closers[0]()
    assert q.closed
