"""The engine in pure Python: the ring, driven by threads that wait, are interrupted, fork and close.

The ring's methods never wait and never keep anything; this module gives every operation a record, waits between
attempts, and sees to it that an operation that ends by an exception, at whatever bytecode, leaves nothing behind.

Python serves signals after a call returns, so a handler that raises (Ctrl-C does) can cut an operation between any two
steps. Two rules make that harmless. What a get has got hold of stands in its record's claim, until the very last steps
hand it to the caller and the record to the pool; these are plain stores and a return, at which no signal is served. And
nothing touches the shared words but operations that have a record, so ``close`` knows when it may unmap them.
"""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from queue import Empty, Full
from typing import Any, ClassVar, Literal, NoReturn, TypeVar

from .._codec.codec import Codec
from .._platform import clock, processes
from .._platform.atomic_words import WordMemory, Words, open_words
from .._platform.mutex import LockFlag
from .._platform.shared_memory import Segment
from .._ring import batch_lock
from .._ring.claim import Payload
from .._ring.layout import (
    BATCH_OWNER_AT,
    CONSUMER_AT,
    EMPTY_EVENTS_AT,
    FULL_EVENTS_AT,
    GATE_AT,
    GET_WAITS_AT,
    ITEMS,
    PRODUCER_AT,
    PUT_WAITS_AT,
    SPACE,
    WAKE_EPOCH,
    Geometry,
)
from .._ring.parking import SLICE, Parking, Spin
from .._ring.participants import Participants, Record
from .._ring.ring import DONE, HELD, NOTHING, Ring
from ..errors import CorruptQueueError, QueueClosedError, RoleTakenError, TooManyParticipantsError
from .doorbell import Doorbell
from .records import Pool

T = TypeVar("T")
EngineName = Literal["atomics", "native"]


# A call that does not wait gives an operation that is between its claim and its end this time to come to it. The claim
# takes microseconds, but its process (or thread, under the GIL) may have lost the processor just there.
_PATIENCE = 100_000_000  # ns in all
_YIELDING = 1_000_000  # ns of it without sleeping
_NAP = 0.0002  # seconds; a sleep after that
_HELD_SLICE = 10_000_000  # ns; the longest sleep while a claim is under way
QUIET = 2_000_000_000  # ns that close waits for the operations of other threads


class AtomicsEngine:
    """The operations of one handle on one segment.

    Times are monotonic, in nanoseconds: 0 does not wait, infinity waits for ever.

    Args:
        segment: the mapped segment of a complete queue.
        geometry: its sizes, checked.
        flag: the int32 of the batch lock.
        memory: access to the words; by default those of the segment.
        on_keep_back: called when payloads are kept back that were taken and could not be delivered.
    """

    name: ClassVar[EngineName] = "atomics"

    def __init__(
        self,
        segment: Segment,
        geometry: Geometry,
        flag: LockFlag,
        memory: WordMemory | None = None,
        on_keep_back: Callable[[], None] = lambda: None,
    ) -> None:
        self._segment = segment
        self._geometry = geometry
        self._flag = flag
        self._memory = memory if memory is not None else open_words(segment.buffer)
        self._on_keep_back = on_keep_back
        self._spsc = geometry.mode == "spsc"
        self.parking = Parking(segment.buffer)
        self._put_spin, self._get_spin = Spin(), Spin()
        self._role: Record | None = None  # names this handle as producer or consumer; announces nothing
        self._last: Record | None = None  # with which a handle that closes puts items back
        self._scanned = {ITEMS: 0, SPACE: 0}  # when a waiting thread last looked at all records
        self._begin()
        _engines.add(self)

    def _begin(self) -> None:
        """Start with nothing that belongs to a process; a forked child does this again, when it uses the queue."""
        self.doorbells: dict[int, Doorbell] = {}  # by side; made when they are asked for
        self.participants = Participants(self._memory.words())
        self.ring = Ring(self._segment.buffer, self._geometry, self.participants, self.parking)
        self._batch_lock = batch_lock.BatchLock(self._flag, self.participants, self.parking)
        self._pool = Pool(  # last: from here on other threads use it
            self.participants,
            self.ring,
            self._batch_lock,
            self.parking,
            self._memory.words,
            self._on_keep_back,
            self.settle,
        )

    def open(self, codec: Codec, calls: Any) -> Any:
        """Take part in the queue: from here on others see who uses it.

        Args:
            codec: of the queue.
            calls: of the handle, in Python, by way of this engine; see ``_engine/calls.py``.

        Returns:
            What answers the calls: these, or an engine's own that leave to these what is not plain.
        """
        with self.operation():
            return calls

    def settle(self) -> Pool:
        """Forget, in a forked child that uses the queue for the first time, what belongs to the parent.

        An operation that another thread was in stays in the child for ever, as dead frames. They must not keep the
        memory; and should a signal handler have forked, the child cannot go on with the parent's operation.

        Returns:
            The pool of this process.
        """
        with processes.settling:
            if not self._pool.is_of_this_process():
                self.cut_off()
                self._memory = open_words(self._segment.buffer)
                self._role = self._last = None
                self._begin()
            return self._pool

    def cut_off(self) -> None:
        """Make each further step of an operation that has a record raise, in a forked child: it is the parent's."""
        with suppress(BufferError):
            self.ring.release()
        self._memory.release()

    def keep_back(self, payloads: list[Payload], first: int = 0) -> None:
        """Make payloads that ``get`` was about to deliver the next that it takes; see ``Pool.keep_back``."""
        self._pool.keep_back(payloads, first)

    def kept_back(self) -> int:
        """Return how many payloads are kept back."""
        return len(self._pool.kept_back) if self._pool.is_of_this_process() else 0

    def corrupt_slot(self) -> NoReturn:
        """Say that a slot stated more bytes than it holds."""
        raise CorruptQueueError(
            f"a slot stated more bytes than the {self._geometry.item_size:,} that it holds; its item is lost, and "
            f"somebody other than this package writes into segment {self._segment.name!r}"
        )

    # ---- operations -------------------------------------------------------------------------------------------------

    @contextmanager
    def operation(self) -> Iterator[Record]:
        """Lend a record for a while."""
        record = self._pool.borrow()
        try:
            yield record
            if record.forks != processes.forks:
                _refuse_child()
        except BaseException:
            self._recover(record)
            raise
        self._pool.idle[record.index] = record

    def _recover(self, record: Record) -> None:
        """Take back the record of an operation that an exception has cut short.

        Raises:
            RuntimeError: this is a child, which a signal handler has forked inside the operation, and was cut off.
        """
        if record.forks != processes.forks:
            if type(sys.exception()) in (IndexError, ValueError):
                _refuse_child()
            return
        self._pool.recover(record)
        if self._pool.closed:
            self._leave()  # close may have waited for just this operation, and in vain if it came from its own thread

    # ---- put --------------------------------------------------------------------------------------------------------

    def put(self, payload: Payload, until: float) -> None:
        """Put one item.

        Raises:
            Full: there was no room until then.
            QueueClosedError: the handle is, or was meanwhile, closed.
            RoleTakenError: mode "spsc", and another live handle is the producer.
        """
        record = self._pool.borrow()
        try:
            done = self._put(record, payload, until)
            if record.forks != processes.forks:
                _refuse_child()
        except BaseException:
            self._recover(record)
            raise
        self._pool.idle[record.index] = record
        if not done:
            raise Full

    def _put(self, record: Record, payload: Payload, until: float) -> bool:
        words = record.words
        if self._spsc:
            self._take_role(words, PRODUCER_AT, "producer")
        if not words.peek(GATE_AT) and self.ring.try_put(record, (payload,), False) == DONE:
            return True
        return self._put_waiting(record, payload, until)

    def _put_waiting(self, record: Record, payload: Payload, until: float) -> bool:
        words = record.words
        passed_on = 0

        def attempt(sure: bool) -> int:
            nonlocal passed_on
            gate = words.peek(GATE_AT)
            if gate and batch_lock.is_shut(gate) and not (sure and self._batch_lock.has_no_live_owner(words)):
                if gate != passed_on:  # the wake may have been meant for the batch: pass it on, once a lease
                    passed_on = gate
                    self.parking.wake(words, SPACE, 1)
                return NOTHING
            return self.ring.try_put(record, (payload,), sure)

        return self._wait(words, SPACE, attempt, until, self._put_spin)

    def put_batch(self, payloads: Sequence[Payload], until: float) -> None:
        """Put all items, contiguous and visible to getters all at once, or none.

        Raises:
            Full: there was no room for all of them until then.
            QueueClosedError: the handle is, or was meanwhile, closed.
            RoleTakenError: mode "spsc", and another live handle is the producer.
        """
        gate = batch_lock.Gate(self.parking)
        record = self._pool.borrow()
        try:
            words = record.words
            if self._spsc:
                self._take_role(words, PRODUCER_AT, "producer")

            def claimed() -> None:
                gate.open(words, whosever=True)
                self._batch_lock.release(record)

            def attempt(sure: bool) -> int:
                return self.ring.try_put(record, payloads, sure, claimed)

            def before_sleep() -> None:
                gate.shut(words)

            if self._batch_lock.acquire(record, until or clock.now() + _PATIENCE, self._after_sleep):
                done = attempt(False) == DONE
                if not done:
                    done = self._wait(words, SPACE, attempt, until, self._put_spin, before_sleep)
                if not done:
                    gate.open(words)
                    self._batch_lock.release(record)
            else:
                words.add(FULL_EVENTS_AT, 1)
                self.quieten(SPACE)
                done = False
            if record.forks != processes.forks:
                _refuse_child()
        except BaseException:
            try:
                if record.forks == processes.forks:
                    gate.open(record.words)
            finally:
                self._recover(record)
            raise
        self._pool.idle[record.index] = record
        if not done:
            raise Full

    # ---- get --------------------------------------------------------------------------------------------------------

    def get(self, limit: int, until: float, deliver: Callable[[list[Payload]], T]) -> T:
        """Take one to ``limit`` items.

        Args:
            limit: largest number of items.
            until: when to give up.
            deliver: makes what is returned from the payloads. What it has taken out of their list when it raises is
                consumed; the rest is kept back for the next gets.

        Raises:
            Empty: there was no item until then.
            QueueClosedError: the handle is, or was meanwhile, closed.
            RoleTakenError: mode "spsc", and another live handle is the consumer.
            CorruptQueueError: a slot says something that no queue writes.
        """
        record = self._pool.borrow()
        try:
            words, claim = record.words, record.claim
            if self._spsc:
                self._take_role(words, CONSUMER_AT, "consumer")
            done = bool(self._pool.kept_back) and self._pool.take_kept_back(limit, claim)
            if not done:
                done = self.ring.try_get(record, limit, False) == DONE or self._get_waiting(record, limit, until)
            if done:
                delivered = deliver(claim.taken)
                if self._pool.kept_back:
                    self.parking.wake_all(words, ITEMS)  # another thread of this handle may wait for just these
            if record.forks != processes.forks:
                _refuse_child()
        except BaseException:
            self._recover(record)
            raise
        # From here to the caller no signal is served.
        if not done:
            self._pool.idle[record.index] = record
            raise Empty
        claim.taken = []
        self._pool.idle[record.index] = record
        return delivered

    def _get_waiting(self, record: Record, limit: int, until: float) -> bool:
        def attempt(sure: bool) -> int:
            if self._pool.kept_back and self._pool.take_kept_back(limit, record.claim):
                return DONE
            found = self.ring.try_get(record, limit, sure)
            if sure and found != DONE and self.ring.adopt(record):
                return DONE
            return found

        return self._wait(record.words, ITEMS, attempt, until, self._get_spin)

    # ---- waiting ----------------------------------------------------------------------------------------------------

    def _wait(
        self,
        words: Words,
        side: int,
        attempt: Callable[[bool], int],
        until: float,
        spin: Spin,
        before_sleep: Callable[[], None] | None = None,
    ) -> bool:
        """Attempt until it is done or the time is over; nothing is announced while this sleeps.

        Args:
            words: the operation's access.
            side: ITEMS or SPACE, where to sleep.
            attempt: tries; its argument tells whether to look for the dead, which costs a scan.
            until: when to give up.
            spin: how often to look before sleeping.
            before_sleep: called before each sleep.
        """

        def done() -> bool:
            return attempt(False) == DONE

        def look() -> int:
            """Attempt; one thread of this handle a slice looks at all records, and each batch, of which there is one.

            So a claim whose owner is dead is met as soon as by one thread alone, and who meets it wakes the others.
            """
            found = attempt(before_sleep is not None)
            if found != DONE and before_sleep is None:
                time = clock.now()
                if time - self._scanned[side] >= (_HELD_SLICE if found == HELD else SLICE):
                    self._scanned[side] = time
                    found = attempt(True)
            return found

        self._pool.sweep()  # what an interrupt has left may be what this waits for
        if until == 0:
            return self._look_once(attempt, words, side)
        if spin.until(done) or look() == DONE:
            return True
        while clock.now() < until:
            if before_sleep is not None:
                before_sleep()
            words.add(PUT_WAITS_AT if side == SPACE else GET_WAITS_AT, 1)
            epoch = self.parking.arm(words, side)
            found = HELD if self._pool.closed else look()  # [W3] seq, after [W2]
            if found == DONE:
                return True
            if not self._pool.closed:
                # Nobody wakes us from a claim whose owner dies, so that is looked at more often.
                longest = clock.now() + (_HELD_SLICE if found == HELD else SLICE)
                self.parking.sleep(side + WAKE_EPOCH, epoch, min(until, longest))
            self._after_sleep()
            if done():
                return True
        return self._look_once(attempt, words, side)

    def _look_once(self, attempt: Callable[[bool], int], words: Words, side: int) -> bool:
        """Attempt once more, and be patient with an operation that is about to end: it is no reason to say no."""
        start = clock.now()
        while True:
            found = attempt(True)
            waited = clock.now() - start
            if found == DONE:
                return True
            if found == NOTHING or waited > _PATIENCE:
                words.add(FULL_EVENTS_AT if side == SPACE else EMPTY_EVENTS_AT, 1)
                self.quieten(side)
                return False
            clock.sleep(0 if waited < _YIELDING else _NAP)

    def _after_sleep(self) -> None:
        if not self._pool.is_of_this_process():
            _refuse_child()
        if self._pool.closed:
            self._pool.refuse()
        self._pool.sweep()

    # ---- mode spsc --------------------------------------------------------------------------------------------------

    def _take_role(self, words: Words, at: int, role: str) -> None:
        """Be the one producer (consumer), or refuse; tail (head) is read after this, never before."""
        until = 0
        while (holder := self._try_role(words, at)) is not None:
            # A consumer that closes is the producer for as long as it puts items back.
            until = until or clock.now() + _PATIENCE
            if clock.now() > until:
                raise RoleTakenError(role, self.participants.pid_of(words, holder))
            clock.sleep(_NAP)

    def _try_role(self, words: Words, at: int) -> int | None:
        """Try to be the one producer (consumer).

        Returns:
            The name of another participant that is; None: it is this handle.
        """
        mine = self._role
        if mine is None:
            taken = self._pool.borrow()
            mine = self._role
            if taken.forks != processes.forks:  # forked in here; the handler may have used the queue
                _refuse_child()
            if mine is None:
                mine = self._role = taken
            else:  # another thread of this handle was faster
                self._pool.idle[taken.index] = taken
        holder = self.participants.take_role(words, at, mine.name)
        return None if holder == mine.name else holder

    def _leave_roles(self) -> None:
        """Be producer and consumer no longer; no operation is in progress."""
        role = self._role
        if role is not None:
            for at in (PRODUCER_AT, CONSUMER_AT):
                self.participants.leave_role(role.words, at, role.name)

    # ---- looking ----------------------------------------------------------------------------------------------------

    def size(self) -> int:
        """Return about how many items are there."""
        with self.operation() as record:
            return self.ring.size(record.words) + len(self._pool.kept_back)

    def is_empty(self) -> bool:
        """Whether a get would find nothing."""
        with self.operation() as record:
            return not self._pool.kept_back and self.ring.is_empty(record.words)

    def is_full(self) -> bool:
        """Whether a put would find no room."""
        with self.operation() as record:
            return not self.ring.has_room(record.words)

    # ---- doorbells --------------------------------------------------------------------------------------------------

    def doorbell(self, side: int) -> Doorbell:
        """Return the doorbell of a side, ITEMS or SPACE; see ``Doorbell`` for what is raised when it cannot be made."""
        pool = self.settle()
        try:
            found = self._make_doorbell(pool, side)
        except Exception:
            if pool.is_of_this_process():
                raise
        else:
            if pool.is_of_this_process():
                return found
        return self.doorbell(side)  # a signal handler has forked in here, and that was the parent's

    def _make_doorbell(self, pool: Pool, side: int) -> Doorbell:
        with pool.lock:
            found = self.doorbells.get(side)
            if found is not None and not found.is_there():
                self._close_doorbell(side)
                found = None
            if found is None:
                record = pool.borrow()
                try:
                    found = self.doorbells[side] = Doorbell(self, record, side)
                    if pool.closed:  # by another thread, which may have closed the doorbells before this one was there
                        pool.refuse()
                except BaseException:
                    self._close_doorbell(side)
                    self._recover(record)
                    raise
            return found

    def may_find(self, side: int) -> bool:
        """Whether a call that does not wait may find what a side waits for."""
        if side == ITEMS:
            return not self.is_empty()
        with self.operation() as record:
            gate = record.words.load(GATE_AT)
        return not (gate and batch_lock.is_shut(gate)) and not self.is_full()

    def quieten(self, side: int) -> None:
        """Let the doorbell of a side, if there is one, wait for what a call has not found."""
        doorbell = self.doorbells.get(side)
        if doorbell is not None:
            # The operation keeps the memory, should the handle be closed here.
            with suppress(QueueClosedError), self.operation():
                doorbell.quieten()

    def close_doorbells(self) -> None:
        """Wait on no descriptor any more."""
        if not self._pool.is_of_this_process():
            return
        for side in list(self.doorbells):
            self._close_doorbell(side)

    def _close_doorbell(self, side: int) -> None:
        """Close the doorbell of a side, if there is one; may be called again, also to complete what was interrupted."""
        doorbell = self.doorbells.get(side)
        if doorbell is not None:
            doorbell.close()  # the record is the doorbell's until this has returned
            self._pool.recover(doorbell.record)  # the caller may keep the doorbell, and the record with it

    # ---- the end ----------------------------------------------------------------------------------------------------

    def batch_lock_holders(self, words: Words) -> list[int]:
        """Return the owner words of the live processes that keep other batches waiting, other than for room."""
        return self._batch_lock.holders(words)

    def wake_all(self) -> None:
        """Let everybody who waits look again."""
        with self.operation() as record:
            self._wake_all(record.words)

    def _wake_all(self, words: Words) -> None:
        self.parking.wake_all(words, ITEMS)
        self.parking.wake_all(words, SPACE)
        self.parking.wake_word(BATCH_OWNER_AT)

    def retire(self) -> None:
        """Give up what can be given up while other threads may be in an operation: items kept back, idle records."""
        if not self._pool.is_of_this_process():
            return
        self.close_doorbells()
        if self._pool.kept_back:
            with suppress(QueueClosedError, TooManyParticipantsError), self.operation() as record:
                self._put_back(record)
        self._leave()

    def _put_back(self, record: Record) -> None:
        """Put items back that were taken and could not be delivered, as far as there is room for them."""
        moving = record.claim
        try:
            while self._pool.take_kept_back(1, moving) and self._put(record, moving.taken[0], 0):
                moving.taken.clear()
        except (QueueClosedError, RoleTakenError):  # in mode "spsc" only while nobody else is the producer
            pass
        self._pool.keep_back(moving.taken)

    def _leave(self) -> bool:
        """Leave with all records that no operation uses, and then with the rest; return whether that was possible."""
        with self._pool.lock:
            if not self._pool.leave(self._role, self._last):
                return False
            if self._last is not None:
                if not self._pool.end(self._last):  # an interrupt has cut short what follows
                    return False
                self._put_back(self._last)
            self._leave_roles()
            role, self._role = self._role, None
            last, self._last = self._last, None
            try:
                self._pool.leave_with(role, last)
            except BaseException:
                self._pool.lose(role, last)
                raise
            return True

    def shut(self) -> None:
        """Begin no operation any more."""
        self._pool.closed = True

    def close(self, wait: bool) -> bool:
        """End the operations of this handle's threads, and leave.

        Args:
            wait: for up to two seconds, for threads that are in an operation.

        Returns:
            Whether no thread uses the segment any more, so that it may be unmapped; if not, or after an interrupt, this
            may be called again.
        """
        pool = self._pool
        try:
            if pool.is_of_this_process() and not self._leave_for_good(wait):
                return False
        except (IndexError, ValueError, RuntimeError):
            if pool.is_of_this_process():
                raise
            return self.close(wait)  # a signal handler has forked in here; what was given up is the parent's
        self.ring.release()
        self.parking.release()
        self._memory.release()
        return True

    def _leave_for_good(self, wait: bool) -> bool:
        self.close_doorbells()
        if not self._pool.closed:
            with suppress(TooManyParticipantsError):  # then what is kept back is lost; close says so
                self._last = self._pool.borrow()
            self._pool.closed = True
            self.close_doorbells()  # another thread may have made one, and makes none from here on
        until = clock.now() + QUIET
        words = self._memory.words()
        while not self._leave():
            if not wait or clock.now() > until:
                return False
            self._wake_all(words)
            clock.sleep(0.001)
        return True


def _refuse_child() -> NoReturn:
    raise RuntimeError(
        "a signal handler has forked this process inside a call of a queue; the call goes on in the parent, call again "
        "in the child"
    ) from None


_engines: weakref.WeakSet[AtomicsEngine] = weakref.WeakSet()


def _cut_off_all() -> None:
    if processes.is_forked_inside():
        for engine in list(_engines):
            engine.cut_off()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_cut_off_all)
