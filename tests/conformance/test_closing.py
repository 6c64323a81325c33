"""The end of a handle: close() from anywhere, at any moment, and what it leaves."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest

from shared_multiprocess_queue import QueueClosedError, SharedMemoryQueue, SharedMemoryQueueError
from shared_multiprocess_queue._engine import membership
from shared_multiprocess_queue._ring.ring import DONE, NOTHING
from tests.support.queues import MakeQueue, drained
from tests.support.signals import alarms
from tests.support.waiting import LONG, eventually, in_thread, sleeps

pytestmark = [
    pytest.mark.usefixtures("engines"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


BLOCKED: dict[str, Callable[[SharedMemoryQueue], object]] = {
    "get": lambda q: q.get(),
    "get with timeout": lambda q: q.get(timeout=LONG),
    "get_batch": lambda q: q.get_batch(3),
    "put": lambda q: q.put(1),
    "put_batch": lambda q: q.put_batch([1, 2]),
}


@pytest.mark.usefixtures("only_wakes")
@pytest.mark.parametrize("call", BLOCKED)
def test_closing_a_handle_ends_what_its_threads_wait_for(make: MakeQueue, run_id: str, call: str) -> None:
    q = make(capacity=2)
    if call.startswith("put"):
        q.put_batch([1, 2])
        q.close()
    handle = SharedMemoryQueue("q", run_id=run_id)
    side = call[:3]
    before = handle.get_metrics()[f"{side}_waits"]
    blocked = in_thread(BLOCKED[call], handle)
    eventually(sleeps(handle, side, before))
    handle.close()
    with pytest.raises(QueueClosedError, match="is closed"):
        blocked.result(LONG)
    with SharedMemoryQueue("q", run_id=run_id) as again:
        assert drained(again) == ([1, 2] if side == "put" else [])
        again.put("goes on")
        assert again.get() == "goes on"


USES: dict[str, Callable[[SharedMemoryQueue], object]] = {
    "put": lambda q: q.put(1),
    "put_nowait": lambda q: q.put_nowait(1),
    "put_batch": lambda q: q.put_batch([1]),
    "put_batch of nothing": lambda q: q.put_batch([]),
    "get": lambda q: q.get(),
    "get with timeout": lambda q: q.get(timeout=0),
    "get_nowait": lambda q: q.get_nowait(),
    "get_batch": lambda q: q.get_batch(1),
    "qsize": lambda q: q.qsize(),
    "empty": lambda q: q.empty(),
    "full": lambda q: q.full(),
    "get_metrics": lambda q: q.get_metrics(),
    "pickle": pickle.dumps,
}


@pytest.mark.parametrize("use", USES)
def test_a_closed_handle_says_so(make_queue: MakeQueue, use: str) -> None:
    q = make_queue()
    q.put(1)
    assert not q.closed
    q.close()
    assert q.closed
    with pytest.raises(QueueClosedError, match="is closed") as caught:
        USES[use](q)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, OSError)
    assert isinstance(caught.value, SharedMemoryQueueError)


def test_what_a_handle_is_can_be_asked_after_its_end(make: MakeQueue, run_id: str, mode: str, engines: str) -> None:
    q = make("named", capacity=7, item_size=33)
    before = (q.name, q.run_id, q.capacity, q.item_size, q.mode, q.engine)
    assert before == ("named", run_id, 7, 33, mode, engines.partition("+")[0])
    assert "named" in repr(q)
    assert "0/7" in repr(q)
    q.close()
    assert (q.name, q.run_id, q.capacity, q.item_size, q.mode, q.engine) == before
    assert "closed" in repr(q)


def test_close_may_be_called_again_and_by_several_at_once(make: MakeQueue, run_id: str) -> None:
    make()
    for _ in range(30):
        q = SharedMemoryQueue("q", run_id=run_id)
        q.qsize()
        start = threading.Barrier(3)

        def close(handle: SharedMemoryQueue = q, start: threading.Barrier = start) -> None:
            start.wait(LONG)
            handle.close()

        for future in [in_thread(close) for _ in range(3)]:
            future.result(LONG)
        q.close()
        assert q.closed


def test_leaving_a_with_block_closes_the_handle_and_keeps_the_queue(make: MakeQueue, run_id: str) -> None:
    make()
    with SharedMemoryQueue("q", run_id=run_id) as q:
        q.put("stays")
    assert q.closed
    with pytest.raises(LookupError), SharedMemoryQueue("q", run_id=run_id) as q:
        raise LookupError
    assert q.closed
    with SharedMemoryQueue("q", run_id=run_id) as q:
        assert q.get() == "stays"


class Closing:
    """An item that closes a queue while it is being serialised."""

    def __init__(self, q: SharedMemoryQueue) -> None:
        self.q = q

    def __reduce__(self) -> tuple[Any, ...]:
        self.q.close()
        return int, ()


@pytest.mark.parametrize("more", [[], [{}], [lambda: None], [b""]])
def test_an_item_that_closes_the_queue_while_it_is_put_is_not_put(
    make: MakeQueue, run_id: str, more: list[Any]
) -> None:
    """A released handle had no codec any more, and the next item of the batch was a crash."""
    for put in (lambda q: q.put(Closing(q)), lambda q: q.put_batch([Closing(q), *more])):
        q = make()
        with pytest.raises(QueueClosedError):
            put(q)  # type: ignore[no-untyped-call]
        with SharedMemoryQueue("q", run_id=run_id) as again:
            assert again.empty()
        q.unlink()


def test_a_handle_that_is_dropped_closes_quietly_and_leaves_no_participant(make: MakeQueue, run_id: str) -> None:
    q = make()
    descriptors = len(os.listdir("/proc/self/fd"))
    before = q.get_metrics()["participants"]
    for _ in range(3):
        dropped = SharedMemoryQueue("q", run_id=run_id)
        dropped.put(1)
        del dropped  # warnings and what __del__ raises are errors here
    assert q.get_metrics()["participants"] == before
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert q.qsize() == 3


def test_a_handle_whose_making_failed_is_dropped_quietly(run_id: str) -> None:
    for arguments in ({"name": "none"}, {"name": ""}, {"name": "q", "create": True, "capacity": 0}):
        with pytest.raises(SharedMemoryQueueError):
            SharedMemoryQueue(run_id=run_id, **arguments)


class ClosedAtTheLastMoment:
    """Closes a handle, from another thread, just after a blocked operation has done what it waited for.

    Up to its sleep the operation is told that there is nothing to do.
    """

    def __init__(self, handle: SharedMemoryQueue, attempt: str) -> None:
        self.closing: list[Future[None]] = []
        engine = handle._engine
        arm, real_attempt = engine.membership.parking.arm, getattr(engine.membership.ring, attempt)
        asleep = False

        def attempt_when_asleep(*arguments: Any) -> int:
            if not asleep:
                return NOTHING
            found: int = real_attempt(*arguments)
            if found == DONE and not self.closing:
                self.closing.append(in_thread(handle.close))
                eventually(lambda: engine.membership.records.state.name != "OPEN")
            return found

        def arm_and_sleep(*arguments: Any) -> int:
            nonlocal asleep
            asleep = True
            return arm(*arguments)

        setattr(engine.membership.ring, attempt, attempt_when_asleep)
        engine.membership.parking.arm = arm_and_sleep  # type: ignore[assignment, method-assign]


@pytest.mark.atomics_only("takes over a step of the engine, which the native one does inside of C")
@pytest.mark.filterwarnings("ignore:.*were lost:ResourceWarning")  # whether something was lost is seen here
def test_an_item_got_while_the_handle_is_being_closed_is_not_lost(make: MakeQueue, run_id: str) -> None:
    """The get had taken it already; it is handed out, or it is in the queue again."""
    q = make()
    q.put("item")
    handle = SharedMemoryQueue("q", run_id=run_id)
    closed = ClosedAtTheLastMoment(handle, "try_get")
    found: list[Any] = []
    with suppress(QueueClosedError):
        found.append(handle.get())
    closed.closing[0].result(LONG)
    assert found + drained(q) == ["item"]


@pytest.mark.atomics_only("takes over a step of the engine, which the native one does inside of C")
@pytest.mark.parametrize("use", ["put", "put_batch"])
def test_a_put_that_ends_with_the_closed_error_has_not_put(make: MakeQueue, run_id: str, use: str) -> None:
    """Otherwise a caller that puts the item again, through another handle, doubles it."""
    q = make()
    handle = SharedMemoryQueue("q", run_id=run_id)
    closed = ClosedAtTheLastMoment(handle, "try_put")
    was_put = True
    try:
        handle.put("item") if use == "put" else handle.put_batch(["item"])
    except QueueClosedError:
        was_put = False
    closed.closing[0].result(LONG)
    assert drained(q) == ["item"] * was_put


def test_a_handle_closed_in_a_handler_is_released_at_its_next_use(make: MakeQueue, run_id: str) -> None:
    """It was closed in a signal handler, in the middle of an operation.

    Its close waits in vain for the operation that it has interrupted.
    """
    q = make()
    before = q.get_metrics()["participants"]
    handle = SharedMemoryQueue("q", run_id=run_id)
    with handle._membership.operation():  # an operation, and in it a signal
        handle._close(wait=False)
    assert handle._membership.state.name != "CLOSED"
    with pytest.raises(QueueClosedError):
        handle.put(1)
    assert handle._membership.state.name == "CLOSED"
    assert q.get_metrics()["participants"] == before


def test_closing_in_a_signal_handler_ends_the_get_that_it_interrupts(
    make: MakeQueue, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The close waits a while for the get, which goes on only after the handler."""
    monkeypatch.setattr(membership, "_QUIET", 50_000_000)  # ns
    make()
    handle = SharedMemoryQueue("q", run_id=run_id)

    def close(frame: FrameType | None) -> None:
        handle.close()

    with alarms(close, 0.05), pytest.raises(QueueClosedError):
        handle.get()
    with SharedMemoryQueue("q", run_id=run_id) as again:
        again.put(1)
        assert again.get() == 1
