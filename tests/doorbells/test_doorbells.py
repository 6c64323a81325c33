"""Waiting for a queue with select and its kin: what the descriptor says, which waiters wake, what is left behind."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import os
import select
import selectors
import signal
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from pathlib import Path
from queue import Empty, Full
from typing import Any

import pytest

from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue._engine import choice
from shared_multiprocess_queue._platform import bells, clock
from shared_multiprocess_queue._ring import layout
from shared_multiprocess_queue._ring import parking as _parking
from shared_multiprocess_queue.errors import QueueClosedError
from tests.support.interrupting import interrupted_with_traceback
from tests.support.waiting import LONG

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="abstract sockets are Linux's"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


ENGINES = ["atomics", "native"] if choice.has_native() else ["atomics"]
SLOWLY = 3600 * 10**9  # ns; a slice that does not end within a test: what wakes is the ring


@pytest.fixture(autouse=True)
def no_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the timer away, so that a ring that is lost is seen."""
    monkeypatch.setattr("shared_multiprocess_queue._engine.doorbell.SLICE", SLOWLY)


@pytest.fixture
def name() -> str:
    return f"doorbell-{os.getpid()}-{time.monotonic_ns()}"


@pytest.fixture(params=[(a, b) for a in ENGINES for b in ENGINES], ids="-waits-".join)
def pair(request: pytest.FixtureRequest, name: str) -> Iterator[tuple[SharedMemoryQueue, SharedMemoryQueue]]:
    """A handle that wakes and one that waits."""
    waking, waiting = request.param
    with SharedMemoryQueue(name, create=True, capacity=3, engine=waking) as one:
        try:
            with SharedMemoryQueue(name, engine=waiting) as other:
                yield one, other
        finally:
            one.unlink()


def is_ready(thing: Any, timeout: float = 0) -> bool:
    return bool(select.select([thing], [], [], timeout)[0])


def exhaust(q: SharedMemoryQueue) -> None:
    with pytest.raises(Empty):
        q.get_nowait()


def test_level_of_readable(pair: tuple[SharedMemoryQueue, SharedMemoryQueue]) -> None:
    waker, waiter = pair
    assert is_ready(waiter)  # from the start
    exhaust(waiter)
    assert not is_ready(waiter)
    waker.put_batch([1, 2, 3])
    assert is_ready(waiter, LONG)
    assert waiter.get_nowait() == 1
    assert is_ready(waiter)
    assert [waiter.get_nowait(), waiter.get_nowait()] == [2, 3]
    exhaust(waiter)
    assert not is_ready(waiter)
    waker.put(4)
    assert is_ready(waiter, LONG)
    assert not waiter.empty()
    assert is_ready(waiter)
    waiter.get_nowait()
    assert waiter.empty()
    assert not is_ready(waiter)


def test_level_of_writable(pair: tuple[SharedMemoryQueue, SharedMemoryQueue]) -> None:
    waker, waiter = pair
    bell = waiter.writable
    assert is_ready(bell)
    waiter.put_batch([1, 2, 3])
    with pytest.raises(Full):
        waiter.put_nowait(4)
    assert not is_ready(bell)
    waker.get()
    assert is_ready(bell, LONG)
    waiter.put_nowait(4)
    assert waiter.full()
    assert not is_ready(bell)


def by_poll(q: SharedMemoryQueue) -> bool:
    poll = select.poll()
    poll.register(q, select.POLLIN)
    return bool(poll.poll(LONG * 1000))


def by_epoll(q: SharedMemoryQueue) -> bool:
    with select.epoll() as poll:
        poll.register(q, select.EPOLLIN)
        return bool(poll.poll(LONG))


def by_selectors(q: SharedMemoryQueue) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(q, selectors.EVENT_READ)
        return bool(selector.select(LONG))


@pytest.mark.parametrize(
    "waits", [by_poll, by_epoll, by_selectors, lambda q: is_ready(q, LONG), lambda q: wait([q], LONG)]
)
def test_every_way_to_wait(
    pair: tuple[SharedMemoryQueue, SharedMemoryQueue], waits: Callable[[SharedMemoryQueue], object]
) -> None:
    waker, waiter = pair
    assert waiter.readable is waiter.readable
    exhaust(waiter)
    waker.put("here")
    assert waits(waiter)


def _put(name: str) -> None:
    with SharedMemoryQueue(name) as q:
        q.put("result")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_result_or_the_death_of_a_worker(pair: tuple[SharedMemoryQueue, SharedMemoryQueue], method: str) -> None:
    _, waiter = pair
    exhaust_first = is_ready(waiter)
    exhaust(waiter)
    child = multiprocessing.get_context(method).Process(target=_put, args=(waiter.name,), daemon=True)  # type: ignore[attr-defined]
    child.start()
    assert exhaust_first
    assert wait([waiter, child.sentinel], LONG)  # type: ignore[list-item]
    child.join(LONG)
    assert is_ready(waiter, LONG)
    assert waiter.get_nowait() == "result"


def _wait_for_ever(name: str, engine: str, armed: Any) -> None:
    q = SharedMemoryQueue(name, engine=engine)  # type: ignore[arg-type]
    assert q.readable
    exhaust(q)
    armed.send(None)
    time.sleep(LONG)


def test_a_waiter_killed_in_its_sleep_costs_one_refused_ring(pair: tuple[SharedMemoryQueue, SharedMemoryQueue]) -> None:
    waker, waiter = pair
    here, there = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(
        target=_wait_for_ever, args=(waiter.name, waiter.engine, there), daemon=True
    )
    child.start()
    assert here.poll(LONG)
    bell = waiter.readable
    exhaust(waiter)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join(LONG)
    waker.put_batch([1, 2])  # for two bells, whichever record comes first
    assert is_ready(bell, LONG)
    assert waker.get_metrics()["bells_refused"] == 1


def test_one_item_rings_one_bell(pair: tuple[SharedMemoryQueue, SharedMemoryQueue]) -> None:
    waker, _ = pair
    handles = [SharedMemoryQueue(waker.name) for _ in range(10)]
    try:
        for handle in handles:
            assert handle.readable
            exhaust(handle)
        waker.put(1)
        ready = [handle for handle in handles if is_ready(handle)]
        assert len(ready) == 1
        ready[0].close()
        waker.put(2)
        assert [handle for handle in handles if not handle.closed and is_ready(handle)]
    finally:
        for handle in handles:
            handle.close()


def test_who_leaves_passes_the_ring_on(pair: tuple[SharedMemoryQueue, SharedMemoryQueue]) -> None:
    waker, waiter = pair
    with SharedMemoryQueue(waker.name, engine=waiter.engine) as first:
        for handle in (first, waiter):
            assert handle.readable
            exhaust(handle)
        waker.put(1)
        assert [is_ready(first), is_ready(waiter)].count(True) == 1
        rung, other = (first, waiter) if is_ready(first) else (waiter, first)
        rung.close()
        assert is_ready(other, LONG)


def test_a_child_leaves_the_bell_to_its_parent(pair: tuple[SharedMemoryQueue, SharedMemoryQueue]) -> None:
    waker, waiter = pair
    bell = waiter.readable
    exhaust(waiter)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            try:
                bell.fileno()
            except QueueClosedError:
                exhaust(waiter)
                own = waiter.readable
                exhaust(waiter)
                code = 0 if own is not bell and not is_ready(own) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert not is_ready(bell)
    waker.put(1)
    assert is_ready(bell, LONG)


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_nothing_is_left_behind(pair: tuple[SharedMemoryQueue, SharedMemoryQueue]) -> None:
    waker, _ = pair
    before = descriptors()
    q = SharedMemoryQueue(waker.name)
    opened = descriptors()
    nonce = f"@shmq-{int.from_bytes(q._membership.segment.buffer[layout.NONCE_AT :][:8], sys.byteorder):016x}-"
    bell, _ = q.readable, q.writable
    exhaust(q)
    assert len(descriptors() - opened) == 6
    assert Path("/proc/net/unix").read_text().count(nonce) == 2
    q.close()
    q.close()
    assert descriptors() <= before | opened
    assert nonce not in Path("/proc/net/unix").read_text()
    with pytest.raises(QueueClosedError):
        bell.fileno()
    with pytest.raises(QueueClosedError):
        q.fileno()
    assert not any(waker._membership.segment.buffer[layout.BELLS_AT : layout.RECORDS_START])


def test_hostile_masks_are_bounded(pair: tuple[SharedMemoryQueue, SharedMemoryQueue]) -> None:
    waker, waiter = pair
    assert waiter.readable
    memory = waker._membership.segment.buffer
    memory[layout.RECORDS_USED_AT :][: layout.WORD] = b"\xff" * layout.WORD
    for index in range(600, layout.RECORDS):  # generations that no handle has written
        at = layout.record_at(index) + layout.GENERATION
        memory[at : at + layout.WORD] = b"\xff" * layout.WORD
    exhaust(waiter)
    memory[layout.BELLS_AT : layout.RECORDS_START] = b"\xff" * (layout.RECORDS_START - layout.BELLS_AT)
    for _ in range(3):
        waker.put(1)
        waiter.get()
    assert waker.get_metrics()["bells_refused"] <= layout.RECORDS
    assert is_ready(waiter)


def test_the_tick_heals_a_lost_ring(pair: tuple[SharedMemoryQueue, SharedMemoryQueue], monkeypatch: Any) -> None:
    monkeypatch.setattr("shared_multiprocess_queue._engine.doorbell.SLICE", _parking.SLICE)
    _, waiter = pair
    assert waiter.readable
    exhaust(waiter)
    assert is_ready(waiter, LONG)


def test_a_bell_that_is_full_counts_as_rung() -> None:
    nonce = int.from_bytes(os.urandom(8), "little")
    bell = bells.TimedBell(SLOWLY)
    try:
        bell.open(nonce, 1 << 16 | 1)
        assert all(bells.ring(nonce, 1 << 16 | 1) for _ in range(5000))
        assert not bells.ring(nonce, 2 << 16 | 1)
    finally:
        bell.close()


def test_a_change_before_the_hint_is_armed_is_seen_by_the_look(
    pair: tuple[SharedMemoryQueue, SharedMemoryQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    waker, waiter = pair
    bell = waiter.readable
    arm = _parking.Parking.arm
    bits: list[bool] = []

    def put_and_arm(parking: _parking.Parking, words: Any, side: int) -> int:
        bits.append(bool(words.load(layout.bells_of(side) + bell.record.index // 64 * layout.WORD)))
        waker.put("unseen by its waker")
        return arm(parking, words, side)

    monkeypatch.setattr(_parking.Parking, "arm", put_and_arm)
    exhaust(waiter)
    assert bits == [True]  # the bit comes before the hint
    assert is_ready(bell)


def test_a_doorbell_that_never_waited_passes_a_ring_for_its_predecessor_on(
    pair: tuple[SharedMemoryQueue, SharedMemoryQueue],
) -> None:
    waker, waiter = pair
    with SharedMemoryQueue(waker.name, engine=waiter.engine) as other:
        first, second = sorted((waiter, other), key=lambda handle: handle.readable.record.index)
        bell = first.readable
        exhaust(second)
        first._membership.parking.want_bell(bell.record.words, layout.ITEMS, bell.record.index)  # left by a dead owner
        waker.put(1)
        assert not is_ready(second)
        bell.close()  # alone: to take back its record wakes a getter, too
        assert is_ready(second)


def test_metrics_say_whether_bells_get_through(
    pair: tuple[SharedMemoryQueue, SharedMemoryQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, waiter = pair
    assert waiter.get_metrics()["bells"] == "none"
    assert waiter.readable
    assert waiter.get_metrics()["bells"] == "ring"
    monkeypatch.setattr(bells, "ring", lambda nonce, name: False)
    assert waiter.writable
    assert waiter.get_metrics()["bells"] == "deaf"


@pytest.mark.parametrize("is_dead", [False, True])
def test_the_next_bell_is_rung_after_one_that_is_rung_or_dead(
    pair: tuple[SharedMemoryQueue, SharedMemoryQueue], is_dead: bool
) -> None:
    waker, waiter = pair
    with SharedMemoryQueue(waker.name, engine=waiter.engine) as other:
        first, second = sorted((waiter, other), key=lambda handle: handle.readable.record.index)
        exhaust(first)
        exhaust(second)
        if is_dead:
            first.readable._bell.close()  # as its death does; the bit stays
        else:
            waker.put(1)
            assert is_ready(first)
            assert not is_ready(second)
        waker.put(2)
        assert is_ready(second)


def test_a_childs_doorbell_that_comes_before_its_first_call(
    pair: tuple[SharedMemoryQueue, SharedMemoryQueue],
) -> None:
    waker, waiter = pair
    here, there = multiprocessing.Pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            bell = waiter.readable
            exhaust(waiter)
            there.send(is_ready(bell))
            code = 0 if is_ready(bell, LONG) and waiter.get_nowait() == "for the child" else 2
        finally:
            os._exit(code)
    try:
        assert here.poll(LONG)
        assert here.recv() is False  # the child's call has quietened its own bell
        waker.put("for the child")
    finally:
        status = os.waitpid(pid, 0)[1]
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_batch_that_the_batch_lock_refuses_quietens(pair: tuple[SharedMemoryQueue, SharedMemoryQueue]) -> None:
    other, waiter = pair
    bell = waiter.writable
    other.put_batch([1, 2, 3])
    engine = other._engine
    with engine.membership.operation() as record:
        assert engine.membership.batch_lock.acquire(record, 0, lambda: None)
        with pytest.raises(Full):
            waiter.put_batch([4, 5], block=False)
        assert not is_ready(bell)
        engine.membership.batch_lock.release(record)
    other.get()
    assert is_ready(bell, LONG)


def test_a_doorbell_made_during_a_close_keeps_nobody_waiting(
    pair: tuple[SharedMemoryQueue, SharedMemoryQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The doorbell is made while the handle closes."""
    _, waiter = pair
    engine, doorbells = waiter._engine, waiter._membership.doorbells
    close_doorbells = doorbells.close
    made: list[Any] = []

    def close_and_make_another() -> None:
        close_doorbells()
        if len(made) < 3 and engine.membership.records.state.name == "OPEN":
            made.append(engine.doorbell(layout.ITEMS))

    def never(seconds: float) -> None:
        raise AssertionError("close waits for an operation")

    monkeypatch.setattr(doorbells, "close", close_and_make_another)
    monkeypatch.setattr(clock, "sleep", never)
    waiter.close()
    assert made
    assert not any(bell.is_there() for bell in made)


def test_a_doorbell_that_is_made_around_the_close_of_its_handle_is_refused(
    pair: tuple[SharedMemoryQueue, SharedMemoryQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, waiter = pair
    before = descriptors()
    show = bells.TimedBell.show

    def show_and_close(bell: bells.TimedBell, after: int) -> None:
        show(bell, after)
        # It would wait for its own thread.
        monkeypatch.setattr("shared_multiprocess_queue._engine.membership._QUIET", 0)
        waiter.close()  # as a signal handler may

    monkeypatch.setattr(bells.TimedBell, "show", show_and_close)
    with pytest.raises(QueueClosedError):
        waiter.readable  # noqa: B018
    assert descriptors() <= before
    with pytest.raises(QueueClosedError):
        waiter.qsize()  # completes the close
    assert waiter._membership.state.name == "CLOSED", "the last operation of a closed handle has not ended it"


@pytest.mark.parametrize("at", ["_poll", "_socket", "_identity"])
def test_a_bell_that_another_thread_closes_meanwhile_is_not_whole(at: str) -> None:
    closes_at: list[str] = []

    class Closing(bells.TimedBell):
        def __getattribute__(self, name: str) -> Any:
            if name in closes_at:
                closes_at.clear()
                self.close()
            return super().__getattribute__(name)

    bell = Closing(SLOWLY)
    bell.open(int.from_bytes(os.urandom(8), "little"), 1 << 16 | 1)
    assert bell.is_whole()
    closes_at.append(at)
    assert bell.fileno() == -1
    assert not closes_at


@pytest.mark.costly
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("closes", [False, True])
def test_an_interrupt_leaks_no_descriptor(name: str, engine: Any, closes: bool) -> None:
    """At whatever point of making a doorbell, or of closing it."""
    with SharedMemoryQueue(name, create=True, capacity=3, engine=engine) as q:
        try:
            assert q.readable  # imports what is imported late
            q._membership.doorbells.close()
            gc.collect()
            before = descriptors()
            use: Callable[[], object] = q._membership.doorbells.close if closes else lambda: q.readable
            for point in itertools.count():
                if closes:
                    assert q.readable
                where, _ = interrupted_with_traceback(point, use)
                assert is_ready(q)  # the handle goes on
                q._membership.doorbells.close()
                assert descriptors() <= before, where
                if where is None:
                    break
            assert point > 20
        finally:
            q.unlink()
