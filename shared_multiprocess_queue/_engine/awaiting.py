"""Where tasks of asyncio wait: the calls of one handle and event loop, which share a bell.

    a call that has found nothing                      waker, after its change
    set my side's bit                       [B1]       as for a doorbell: takes the bit [B3], sends a byte
    arm the hint                            [W2]
    attempt again                           [W3]
    await; the event loop hears the ring    [B0]       and wakes the first call of the side

A task takes its item itself, in the step in which it returns it: nothing is awaited between a claim and the return. So
a call that is cancelled has claimed nothing, and a ring is only a reason to look. A call that leaves, whatever for,
wakes the next one of its side, which looks in its place. The last one takes the bit back [B5], and if a ring was sent
that it has not answered, it wakes another waiter of the queue.

Each handle has a side for each event loop: calls of one side take in the order in which they came. Once a slice all
sides of a loop look in which calls wait. That heals what a death may cost, as it does for threads that sleep.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from io import UnsupportedOperation
from queue import Full
from typing import Final, TypeVar, cast

from .._platform import bells
from .._platform.clock import FOREVER
from .._ring import ending
from .._ring.batch_lock import Gate, is_shut
from .._ring.claim import Payload
from .._ring.layout import (
    EMPTY_EVENTS_AT,
    FULL_EVENTS_AT,
    GATE_AT,
    GET_WAITS_AT,
    ITEMS,
    NONCE_AT,
    PRODUCER_AT,
    PUT_WAITS_AT,
    SPACE,
    TURN,
)
from .._ring.parking import SLICE
from .._ring.participants import Record
from .._ring.ring import DONE, SHUT_DOWN
from ..errors import QueueClosedError, ShutDown
from .membership import Membership

T = TypeVar("T")

_IN_A_ROW: Final = 64  # calls of a side that need not wait, before one gives the loop a turn
_WITHOUT_BELLS: Final = 10_000_000  # ns between two looks where there are no bells


class _Call:
    """A call that waits.

    Attributes:
        woken: what its task awaits; None while it does not.
        is_late: whether its time is over.
    """

    __slots__ = ("is_late", "woken")

    def __init__(self) -> None:
        self.woken: asyncio.Future[None] | None = None
        self.is_late = False

    async def sleep(self) -> None:
        """Wait until the call is woken."""
        self.woken = asyncio.get_running_loop().create_future()
        try:
            await self.woken
        finally:
            self.woken = None

    def wake(self) -> None:
        """Let the task look; nothing, if it is about to, or if its loop is closed, in which no task goes on."""
        if self.woken is not None and not self.woken.done() and not self.woken.get_loop().is_closed():
            self.woken.set_result(None)

    def end(self) -> None:
        """Say that the time is over."""
        self.is_late = True
        self.wake()


class _Tick:
    """Looks once a slice at the sides of one event loop in which calls wait; without any it stops."""

    def __init__(self) -> None:
        self._sides: set[weakref.ref[Side]] = set()  # a call that waits keeps its side
        self._is_due = False

    def add(self, side: Side) -> None:
        """Look at a side from now on."""
        self._sides.add(side.reference)
        if not self._is_due:
            self._start(side.period)

    def _start(self, period: int) -> None:
        self._is_due = True
        asyncio.get_running_loop().call_later(period / 1e9, self._look)

    def remove(self, side: Side) -> None:
        """Look at a side no longer."""
        self._sides.discard(side.reference)

    def _look(self) -> None:
        self._is_due = False
        sides = []
        for reference in tuple(self._sides):
            side = reference()
            if side is None:
                self._sides.discard(reference)
            else:
                sides.append(side)
        if sides:
            self._start(min([side.period for side in sides]))  # first, so that no error ends the looks
        for side in sides:
            side.look()


_ticks: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Tick] = weakref.WeakKeyDictionary()


class Side:
    """The calls of one handle and one event loop that wait for items, or for space.

    Args:
        member: the handle's part in the queue.
        side: ITEMS or SPACE.

    Attributes:
        is_over: whether its handle was closed, or this is a forked child.
        is_deaf: whether its bell cannot be rung.
        record: of the bell, which announces nothing; None before the first call waits.
        batch: the one that waits, and looks once a slice; None if there is none.
        reference: to this, for what must not keep it.
    """

    def __init__(self, member: Membership, side: int) -> None:
        self._member = member
        self._side = side
        self._calls: deque[_Call] = deque()
        self._bell = bells.Bell()
        self._loop = asyncio.get_running_loop()
        self._tick = _ticks.setdefault(self._loop, _Tick())
        self._rings = True  # whether there are bells here
        self._has_heard = False  # a ring since the bit was last set
        self._lock = threading.RLock()  # of the end
        self._is_parents = False  # in a forked child
        self._descriptor = -1  # of the bell, as the loop knows it
        self._has_lost_it = False  # because the program has closed it
        self.is_over = False
        self.is_deaf = False
        self.record: Record | None = None
        self.batch: Batch | None = None
        self._in_a_row = 0
        self._passed_on = 0  # the gate for which a ring was passed on
        self.reference = weakref.ref(self)
        self._waits_at, self._events_at = (
            (GET_WAITS_AT, EMPTY_EVENTS_AT) if side == ITEMS else (PUT_WAITS_AT, FULL_EVENTS_AT)
        )

    @property
    def period(self) -> int:
        """Nanoseconds between two looks.

        Only a death can lose a ring, so a look for it is seldom, because each costs a loop that is idle. Not where
        looks are for more: for the turns of batches, and for dead holders of leases.
        """
        if not self._rings:
            return _WITHOUT_BELLS
        looks_for_more = self.batch is not None or self._member.geometry.leases > 0
        return SLICE if looks_for_more else SLICE * 12 // 5

    def has_calls(self) -> bool:
        """Whether calls wait, before which a new one must not take anything."""
        return bool(self._calls)

    def is_busy(self) -> bool:
        """Whether so many calls in a row did not have to wait that the event loop should have a turn."""
        self._in_a_row += 1
        if self._in_a_row < _IN_A_ROW:
            return False
        self._in_a_row = 0
        return True

    # ---- waiting ----------------------------------------------------------------------------------------------------

    async def wait(self, attempt: Callable[[], T], misses: type[Exception], timeout: float | None) -> T:
        """Attempt until it succeeds.

        Args:
            attempt: returns what the call returns; waits for nothing.
            misses: what it raises if it has to be called again, and what is raised when the time is over.
            timeout: seconds; None waits for ever.
        """
        self._check_not_over()
        if timeout == 0:
            return await self._once_more(attempt, misses)
        call = _Call()
        has_taken = False
        self._in_a_row = 0
        self._calls.append(call)
        timer = None if timeout in (None, FOREVER) else self._loop.call_later(timeout, call.end)
        try:
            while not call.is_late:
                if self._calls[0] is call:
                    self._arm()
                    with suppress(misses):
                        found = attempt()  # [W3] seq, after [W2]
                        has_taken = True
                        return found
                await self._sleep(call)
                if call.is_late or self._calls[0] is call:
                    with suppress(misses):
                        found = attempt()
                        has_taken = True
                        return found
                    self._pass_on()
        finally:
            if timer is not None:
                timer.cancel()
            self._leave(call, has_taken)
        self._count_miss()
        raise misses

    def _pass_on(self) -> None:
        """Pass a ring on, once for each value of a gate that is shut: it may have been meant for the batch behind that.

        Not after the bit is set again, for the ring would come back at once.
        """
        record = self.record
        if self._side != SPACE or self.batch is not None or record is None or not self._has_heard:
            return
        gate = record.words.peek(GATE_AT)
        if gate != self._passed_on and is_shut(gate, self._member.system.now()):
            self._passed_on = gate
            self._member.parking.wake(record.words, SPACE, 1)

    async def _once_more(self, attempt: Callable[[], T], misses: type[Exception]) -> T:
        """Attempt after a turn of the loop, in which an operation that was about to end has mostly ended.

        In that turn the first call that waits looks; what it leaves is for this one.
        """
        self.wake_first()
        await asyncio.sleep(0)
        self._check_not_over()
        with suppress(misses):
            return attempt()
        self._count_miss()
        raise misses

    def _count_miss(self) -> None:
        with suppress(QueueClosedError), self._member.operation() as record:
            record.words.add(self._events_at, 1)

    async def _sleep(self, call: _Call) -> None:
        if self.record is not None:
            self.record.words.add(self._waits_at, 1)
        self._tick.add(self)
        await call.sleep()
        self._check_not_over()

    def _check_not_over(self) -> None:
        if self._is_parents:
            raise QueueClosedError(
                "this call waits for a queue of the parent process; call again in this process, in its own event loop"
            )
        if self._has_lost_it:
            raise QueueClosedError(
                "this program has closed the descriptor with which its tasks wait for this queue, so no item or place "
                "would wake them; let the queue's descriptors be, and call again"
            )
        if self.is_over:
            self._member.refuse()

    def wake_first(self) -> None:
        """Let the first call look, if any waits."""
        if self._calls:
            self._calls[0].wake()

    def _leave(self, call: _Call, has_taken: bool) -> None:
        is_first = self._calls[0] is call
        self._calls.remove(call)
        if self.is_over:
            return
        if not self._calls:
            self._tick.remove(self)
            self._rest(has_taken)
        elif is_first:
            self.wake_first()  # there may be more; and the call that leaves may have been rung

    def _rest(self, has_taken: bool) -> None:
        """Wait no longer. A ring that was not answered by taking something is another waiter's."""
        record = self.record
        if record is None:
            return
        is_unrung = self._member.take_bell(record.words, self._side, record.index)  # [B5]
        if not is_unrung and not (self._has_heard and has_taken):
            self._member.parking.wake(record.words, self._side, 1)

    # ---- the bell ---------------------------------------------------------------------------------------------------

    def opened(self) -> Record:
        """Return the record of the bell, which is made when the first call waits."""
        if self.record is None:
            self._open()
        return cast(Record, self.record)

    def _open(self) -> None:
        record = self._member.records.borrow()
        nonce = record.words.load(NONCE_AT)
        try:
            self._bell.open(nonce, record.name)
            self.is_deaf = not (bells.ring(nonce, record.name) and self._bell.hear())
            reference = self.reference  # the loop must not keep a handle alive
            self._descriptor = self._bell.fileno()
            self._loop.add_reader(self._descriptor, lambda: _hear(reference))
        except (UnsupportedOperation, NotImplementedError):  # not Linux, or a loop that cannot wait for sockets
            self._bell.close()
            self._rings = False
        except BaseException:
            self._bell.close()
            self._member.recover(record)
            raise
        self.record = record

    def _arm(self) -> None:
        record = self.opened()
        if self._rings:
            self._has_heard = False
            self._member.want_bell(record.words, self._side, record.index)  # [B1][W2]

    def hear(self) -> None:
        """Take a ring [B0], and let the first call look."""
        if self._bell.hear() and self._calls:
            self._has_heard = True
            self._calls[0].wake()

    def look(self) -> None:
        """Let the first call look if it may find something, or if a ring was lost; that call sets the bit again."""
        record = self.record
        if not self._calls or self.is_over or record is None:
            return
        try:
            waits_rightly = self.batch is None and self._member.waits_rightly(record.words, self._side, record.index)
        except Exception:  # the call meets it, and raises it
            waits_rightly = False
        if not waits_rightly:
            if self._rings and not self._bell.is_whole():
                self._has_lost_it = True
                self._end()
            self.wake_first()

    # ---- the end ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End all calls, in the thread of their loop; may be called again."""
        if self.is_over:
            return
        if not self._loop.is_running() or self._loop is asyncio._get_running_loop():
            self._end()
            return
        with suppress(RuntimeError):  # the loop was closed just now
            self._loop.call_soon_threadsafe(self._end_late)

    def _end_late(self) -> None:
        if not self.is_over:
            self._end()
            self._member.ended()

    def _end(self) -> None:
        with self._lock:
            if self.is_over:
                return
            self._give_up()
        for call in self._calls:
            call.wake()

    def _give_up(self) -> None:
        self._tick.remove(self)
        record = self.record
        if record is not None:
            is_left = self._bell.fileno() >= 0 or (self._has_lost_it and not bells.is_open(self._descriptor))
            if self._descriptor >= 0 and is_left and not self._loop.is_closed():
                self._loop.remove_reader(self._descriptor)  # before the number can be another file's
            self._bell.close()
            if self.batch is not None:
                self.batch.let_go()
            self._member.parking.take_bell(record.words, self._side, record.index)  # [B5]
            self._member.parking.wake(record.words, self._side, 1)  # as a doorbell does
            self._member.records.recover(record)
        self.is_over = True

    def forget(self) -> None:
        """In a forked child, close its copy of the socket; bit and ring are the parent's."""
        self.is_over = self._is_parents = True
        self._bell.close()


class Batch:
    """A batch that waits: it keeps the lock from its turn on, and the gate shut, as a batch of a thread does.

    Args:
        side: where it waits.
        member: the handle's part in the queue.
        payloads: what it puts.
    """

    def __init__(self, side: Side, member: Membership, payloads: list[Payload]) -> None:
        self._side = side
        self._member = member
        self._payloads = payloads
        self._gate = Gate(member.parking)
        self._has_lock = self._wants_turn = False

    def attempt(self) -> None:
        """Put the batch.

        Raises:
            Full: it has no room yet, or other batches have their turn.
        """
        record = self._side.opened()
        self._side.batch = self._side.batch or self  # another may wait while this has its last look
        if not (self._has_lock or self._take_turn(record)):
            if ending.is_closed(record.words):
                raise ShutDown
            raise Full
        with self._member.operation() as own:
            if self._member.geometry.mode == "spsc":
                self._member.roles.take(own.words, PRODUCER_AT)
            found = self._member.ring.try_put(own, self._payloads, True, self._open)
        if found != DONE:
            if found == SHUT_DOWN:
                raise ShutDown
            self._gate.shut(record.words)
            raise Full

    def _take_turn(self, record: Record) -> bool:
        """Try to take the lock, and wait for its ring otherwise; return whether this has it."""
        words, parking = record.words, self._member.parking
        self._wants_turn = True
        parking.want_bell(words, TURN, record.index)  # [B1], before the lock is tried
        self._has_lock = self._member.batch_lock.try_acquire(record)
        if self._has_lock:
            self._wants_turn = False
            parking.take_bell(words, TURN, record.index)  # if it was rung, this is the answer
        return self._has_lock

    def _open(self) -> None:
        """Let others put, once tail is claimed."""
        record = self._side.opened()
        self._gate.open(record.words, whosever=True)
        self._member.batch_lock.release(record)
        self._has_lock = False

    def let_go(self) -> None:
        """Wait no longer; may be called again."""
        record = self._side.record
        if self._side.batch is self:
            self._side.batch = None
        if record is None or self._side.is_over:
            return
        words, parking = record.words, self._member.parking
        if self._has_lock:
            self._has_lock = False
            self._gate.open(words)
            self._member.batch_lock.release(record)
        if self._wants_turn:
            self._wants_turn = False
            if self._side.batch is None and not parking.take_bell(words, TURN, record.index):  # [B5]
                parking.wake_turn(words)
        if self._side.batch is not None:
            self._side.wake_first()  # this may have taken the bit of its turn; it looks, and sets it again


def _hear(reference: Callable[[], Side | None]) -> None:
    side = reference()
    if side is not None:
        side.hear()
