"""A timeout is waited for in full, and a call that does not wait never sleeps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from shared_multiprocess_queue import Empty, Full
from shared_multiprocess_queue._platform import clock
from tests.support.queues import MakeQueue, drained
from tests.support.waiting import LONG, eventually, in_thread, sleeps

pytestmark = [
    pytest.mark.usefixtures("engines"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


@contextmanager
def at_least(seconds: float) -> Iterator[None]:
    """Check that the block takes no less than this; how much longer says something about the machine only."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start >= seconds


def test_a_negative_timeout_is_refused_always(make: MakeQueue) -> None:
    """Even if there is nothing to wait for."""
    q = make()
    q.put(1)
    for call in (
        lambda: q.put(2, timeout=-1),
        lambda: q.get(timeout=-0.5),
        lambda: q.put_batch([2], timeout=-1),
        lambda: q.get_batch(1, timeout=-1),
        lambda: q.get(timeout=float("nan")),
    ):
        with pytest.raises(ValueError, match="timeout"):
            call()
    assert drained(q) == [1]


class HandlerError(ValueError):
    """What a signal handler raises."""


def test_what_a_signal_handler_raises_is_no_error_of_a_usual_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handlers run after calls, such as that of float."""

    def interrupted(number: float) -> float:
        raise HandlerError

    monkeypatch.setattr(clock, "float", interrupted, raising=False)
    assert clock.seconds_of(True, 2) == 2
    assert clock.seconds_of(True, 1 << 4000) == clock.FOREVER


def test_a_timeout_is_waited_for_in_full(make: MakeQueue) -> None:
    q = make(capacity=1)
    with pytest.raises(Empty), at_least(0.15):
        q.get(timeout=0.15)
    with pytest.raises(Empty), at_least(0.15):
        q.get_batch(2, timeout=0.15)
    q.put(1)
    with pytest.raises(Full), at_least(0.15):
        q.put(2, timeout=0.15)
    with pytest.raises(Full), at_least(0.15):
        q.put_batch([2], timeout=0.15)
    assert drained(q) == [1]


def test_calls_that_do_not_wait_never_sleep(make: MakeQueue) -> None:
    q = make(capacity=1)
    for get in (q.get_nowait, lambda: q.get(False), lambda: q.get(timeout=0), lambda: q.get_batch(3, False)):
        with pytest.raises(Empty):
            get()
    q.put(0)
    for put in (
        lambda: q.put_nowait(1),
        lambda: q.put(1, False),
        lambda: q.put(1, timeout=0),
        lambda: q.put_batch([1], False),
        lambda: q.put_batch([1], timeout=0),
    ):
        with pytest.raises(Full):
            put()  # type: ignore[no-untyped-call]
    metrics = q.get_metrics()
    assert (metrics["put_waits"], metrics["get_waits"]) == (0, 0)
    assert (metrics["full_events"], metrics["empty_events"]) == (5, 4)


def test_an_infinite_timeout_is_as_none(make: MakeQueue) -> None:
    q = make()
    got = in_thread(q.get, timeout=float("inf"))
    eventually(sleeps(q, "get"))
    q.put("at last")
    assert got.result(LONG) == "at last"
