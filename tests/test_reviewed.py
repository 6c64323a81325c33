"""What a review of the code found, each under the name of its story."""

from __future__ import annotations

import gc
import os
import signal
import weakref
from typing import Any

import pytest

from shared_multiprocess_queue import QueueClosedError
from shared_multiprocess_queue._engine import metrics
from shared_multiprocess_queue._engine.records import State
from shared_multiprocess_queue._ring import layout

from .conftest import MakeQueue

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def test_a_batch_that_is_interrupted_while_it_gives_the_lock_back_wakes_who_waits_for_it(
    make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock had no owner any more, so recovery had nothing to do, and the next batch slept out its slice."""
    q = make_queue(capacity=4, engine="atomics")
    parking, lock = q._membership.parking, q._membership.batch_lock
    woken: list[int] = []
    wake = parking.wake_word

    def note(at: int) -> None:
        woken.append(at)
        wake(at)

    class Interrupted:
        def release(self) -> None:
            monkeypatch.setattr(lock, "_flag", flag)
            raise KeyboardInterrupt

        def __getattr__(self, name: str) -> Any:
            return getattr(flag, name)

    flag = lock._flag
    monkeypatch.setattr(parking, "wake_word", note)
    monkeypatch.setattr(lock, "_flag", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        q.put_batch([1, 2])
    assert layout.BATCH_OWNER_AT in woken
    q.put_batch([3], block=False)


def test_who_stopped_with_the_lock_of_batches_is_blamed_for_all_of_the_time_though_tail_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each single put that went by set the seconds back to 0."""
    time = 0
    monkeypatch.setattr(metrics.clock, "now", lambda: time)
    watch = metrics.Watch()
    assert watch.seconds([(7, 100, "put_batch")]) == [0.0]
    time = 2_000_000_000
    assert watch.seconds([(7, 101, "put_batch"), (8, 5, "get")]) == [2.0, 0.0]
    time = 3_000_000_000
    assert watch.seconds([(7, 102, "put_batch"), (8, 6, "get")]) == [3.0, 0.0]


def expire(number: int, frame: object) -> None:
    raise TimeoutError("of a signal handler")


class Interrupted:
    """A signal comes while this is pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        signal.raise_signal(signal.SIGUSR1)
        return int, ()


def test_an_exception_inside_pickling_keeps_neither_item_nor_queue(make_queue: MakeQueue, each_engine: str) -> None:
    """A frame and the error that it raised kept each other until the collector came."""
    q = make_queue(engine=each_engine)
    item = Interrupted()
    kept = weakref.ref(item)
    before = signal.signal(signal.SIGUSR1, expire)
    gc.disable()
    try:
        try:
            q.put(item)
        except TimeoutError:
            pass
        else:
            pytest.fail("the handler's exception was swallowed")
        del item
        assert kept() is None
    finally:
        gc.enable()
        signal.signal(signal.SIGUSR1, before)


def test_a_child_that_is_forked_while_a_thread_closes_keeps_off_its_parents_records(
    make_queue: MakeQueue, each_engine: str
) -> None:
    """Between the mark of close() and what it does then, the child put with its parent's record."""
    q = make_queue(engine=each_engine)
    q.put(0)
    q._membership.records.state = State.CLOSING  # as another thread has it that has just begun to close
    if (pid := os.fork()) == 0:
        try:
            q.put(1)
        except QueueClosedError:
            os._exit(7)
        os._exit(1)
    q._membership.records.state = State.OPEN
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert q.qsize() == 1
