"""Threads that share one handle while it is closed, kept waiting or used first."""

from __future__ import annotations

import ctypes
import sys
import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import pytest

from shared_multiprocess_queue import QueueClosedError, SharedMemoryQueue
from shared_multiprocess_queue._platform import futex
from shared_multiprocess_queue._ring.batch_lock import Gate
from shared_multiprocess_queue._ring.layout import PRODUCER_AT
from tests.support.queues import MakeQueue, drained
from tests.support.waiting import LONG, eventually, in_thread

# From 3.12 on Python warns of every fork beside a thread; that is what some tests here are about.
pytestmark = [
    pytest.mark.usefixtures("engines"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


# ---- threads of one handle ------------------------------------------------------------------------------------------


@pytest.mark.atomics_only("takes over a step of the engine, which the native one does inside of C")
def test_closing_a_handle_ends_its_batch_that_waits_for_the_lock(make_queue: MakeQueue, run_id: str) -> None:
    """Another handle has the lock of batches."""
    queue = make_queue(capacity=2)
    queue.put("there")
    other, handle = (SharedMemoryQueue(queue.name, run_id=run_id) for _ in range(2))
    waits = queue.get_metrics()["put_waits"]
    has_the_lock = in_thread(other.put_batch, [1, 2])
    eventually(lambda: queue.get_metrics()["put_waits"] > waits, "the first batch sleeps")
    sleep = handle._membership.parking.sleep
    sleeping = threading.Event()

    def sleep_and_tell(*arguments: Any) -> None:
        sleeping.set()
        sleep(*arguments)

    handle._membership.parking.sleep = sleep_and_tell  # type: ignore[assignment, method-assign]
    waits_for_it = in_thread(handle.put_batch, [3, 4])
    assert sleeping.wait(LONG)
    handle.close()
    with pytest.raises(QueueClosedError):
        waits_for_it.result(LONG)
    assert queue.get() == "there"
    has_the_lock.result(LONG)
    other.close()
    assert drained(queue) == [1, 2]


@pytest.mark.atomics_only("takes over a step of the engine, which the native one does inside of C")
def test_a_batch_opens_its_gate_before_its_closed_handles_memory_goes(
    make_queue: MakeQueue, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handle is closed while the batch waits for room.

    It opened the gate after giving its record back, when close no longer waited for it: a crash.
    """
    queue = make_queue(capacity=2)
    queue.put("there")
    handle = SharedMemoryQueue(queue.name, run_id=run_id)
    waits = queue.get_metrics()["put_waits"]
    closed, opened, was_open = threading.Event(), threading.Event(), Gate.open

    def close() -> None:
        handle.close()
        closed.set()

    def open_slowly(gate: Gate, *arguments: Any, **keywords: Any) -> None:
        closed.wait(0.2)  # close could unmap the memory now, if it did not wait for this
        was_open(gate, *arguments, **keywords)
        opened.set()

    waiting = in_thread(handle.put_batch, [1, 2])
    eventually(lambda: queue.get_metrics()["put_waits"] > waits, "the batch sleeps")
    monkeypatch.setattr(Gate, "open", open_slowly)
    closing = in_thread(close)
    with pytest.raises(QueueClosedError):
        waiting.result(LONG)
    closing.result(LONG)
    assert opened.is_set()
    assert drained(queue) == ["there"]


@pytest.mark.atomics_only("takes over a step of the engine, which the native one does inside of C")
def test_an_item_kept_back_goes_to_a_thread_that_waits_on_the_same_handle(make_queue: MakeQueue) -> None:
    queue = make_queue(capacity=3)
    sleeps = threading.Event()
    sleep = queue._membership.parking.sleep

    def sleep_and_tell(*arguments: Any) -> None:
        sleeps.set()
        sleep(*arguments)

    queue._membership.parking.sleep = sleep_and_tell  # type: ignore[assignment, method-assign]
    waiting = in_thread(queue.get)
    assert sleeps.wait(LONG)
    with suppress(KeyboardInterrupt), queue._membership.operation() as record:
        record.claim.taken.append((b"kept back", 1))  # as a get has it when an interrupt comes
        raise KeyboardInterrupt
    assert waiting.result(LONG) == b"kept back"


def test_threads_that_begin_at_once_share_the_roles_of_their_handle(make_queue: MakeQueue, run_id: str) -> None:
    queue = make_queue(capacity=200, mode="spsc")
    for _ in range(50):
        handle = SharedMemoryQueue(queue.name, run_id=run_id)
        for work in [in_thread(handle.put, number) for number in range(4)]:
            work.result(LONG)
        handle.close()
    assert sorted(drained(queue)) == sorted([0, 1, 2, 3] * 50)


@pytest.mark.atomics_only("takes over a step of the engine, which the native one does inside of C")
def test_a_put_about_to_take_the_role_at_a_close_ends_well(make_queue: MakeQueue, run_id: str) -> None:
    """The handle is closed by another thread when the put is about to take the role."""
    queue = make_queue(capacity=3, mode="spsc")
    handle = SharedMemoryQueue(queue.name, run_id=run_id)
    handle.put("first")
    words = next(iter(handle._membership.records.idle.values())).words
    load, looks = words.load, threading.Event()
    closing: list[Future[None]] = []

    def load_slowly(offset: int) -> int:
        value = load(offset)
        if offset == PRODUCER_AT and not closing:
            closing.append(in_thread(handle.close))
            eventually(lambda: handle._membership.records.state.name != "OPEN", "the handle is being closed")
            looks.set()
        return value

    words.load = load_slowly
    with suppress(QueueClosedError):
        handle.put("second")
    assert looks.is_set()
    closing[0].result(LONG)
    assert drained(queue) in (["first"], ["first", "second"])


# ---- waking ---------------------------------------------------------------------------------------------------------


def test_waking_lets_no_other_thread_in() -> None:
    """A waker may hold a claim: if it released the GIL, a busy thread could keep all others waiting."""
    word, before = (ctypes.c_uint64 * 1)(), sys.getswitchinterval()
    stop, turns = False, 0

    def spin() -> None:
        nonlocal turns
        while not stop:
            turns += 1

    sys.setswitchinterval(0.5)
    try:
        spinning = in_thread(spin)
        eventually(lambda: turns, "the other thread runs")
        seen = turns  # this thread has just been given half a second
        for _ in range(100):
            futex.wake(ctypes.addressof(word), 1)
        assert turns == seen
    finally:
        stop = True
        sys.setswitchinterval(before)
    spinning.result(LONG)
