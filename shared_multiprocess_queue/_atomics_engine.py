"""The engine in pure Python: the ring, driven by threads that wait, are interrupted, fork and close.

The ring's methods never wait and never keep anything; this module gives every operation a record, waits between
attempts, and sees to it that an operation that ends by an exception, at whatever bytecode, leaves nothing behind.

Python serves signals after a call returns, so a handler that raises (Ctrl-C does) can cut an operation between any two
steps. Two rules make that harmless. What a get has got hold of stands in its ``Claim``, which the handlers here find
whole. And a record goes back to the pool outside the ``try`` of its operation: an interrupt there may lose a record
until it is missed, but never lets two operations share one.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import Empty, Full

from . import _batch_lock, _clock
from ._layout import (
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
from ._lock import LockFlag
from ._parking import SLICE, Parking, Spin
from ._participants import Participants, Record
from ._ring import DONE, HELD, NOTHING, Claim, Payload, Ring
from ._segment import Segment
from ._words import WordMemory, Words, open_words
from .errors import QueueClosedError, RoleTakenError

# A call that does not wait gives an operation that is between its claim and its end this time to come to it. The claim
# takes microseconds, but its process (or thread, under the GIL) may have lost the processor just there.
_PATIENCE = 100_000_000  # ns in all
_YIELDING = 1_000_000  # ns of it without sleeping
_NAP = 0.0002  # seconds; a sleep after that
_HELD_SLICE = 10_000_000  # ns; the longest sleep while a claim is under way
_QUIET = 2_000_000_000  # ns that close waits for the operations of other threads
_TRIES = 10  # times that a recovery which is itself interrupted begins again


class AtomicsEngine:
    """The operations of one handle on one segment.

    Times are monotonic, in nanoseconds: 0 does not wait, infinity waits for ever.

    Args:
        segment: the mapped segment of a complete queue.
        geometry: its sizes, checked.
        flag: the int32 of the batch lock.
        memory: access to the words; by default those of the segment.
    """

    name = "atomics"

    def __init__(self, segment: Segment, geometry: Geometry, flag: LockFlag, memory: WordMemory | None = None) -> None:
        self._segment = segment
        self._geometry = geometry
        self._flag = flag
        self._memory = memory if memory is not None else open_words(segment.buffer)
        self._spsc = geometry.mode == "spsc"
        self.parking = Parking(segment.buffer)
        self.closed = False
        self._begin()

    def _begin(self) -> None:
        """Start with nothing that belongs to a process; a forked child does this again."""
        self.participants = Participants(self._memory.words())
        self.ring = Ring(self._segment.buffer, self._geometry, self.participants, self.parking)
        self._batch_lock = _batch_lock.BatchLock(self._flag, self.participants, self.parking)
        self._put_spin, self._get_spin = Spin(), Spin()
        self._idle: list[Record] = []  # records that no operation uses
        self._known: dict[int, tuple[int, weakref.ref[Record]]] = {}  # generation and record, by index
        self._role: Record | None = None  # names this handle as producer or consumer; announces nothing
        self._kept_back: deque[Payload] = deque()
        self._lock = threading.RLock()  # of this process: records are taken, and the handle closed, by one thread

    def after_fork(self) -> None:
        """Forget, in a forked child, what belongs to the parent.

        An operation that another thread was in stays in the child for ever, as dead frames. They must not keep the
        memory; and should a signal handler have forked, the child cannot go on with the parent's operation.
        """
        self.ring.release()
        self._begin()

    # ---- records ----------------------------------------------------------------------------------------------------

    def _borrow(self) -> Record:
        try:
            record = self._idle.pop()
        except IndexError:
            record = self._take()
        if self.closed:
            self._idle.append(record)
            self._refuse()
        return record

    def _take(self) -> Record:
        with self._lock:
            if self.closed:
                self._refuse()
            words = self._memory.words()
            for index, (generation, known) in list(self._known.items()):
                if known() is None:  # lost to an interrupt, or still abandoned when it was last used
                    record = Record(index, generation, self.participants.owner, words)
                    if self.ring.clean(record):
                        self._known[index] = generation, weakref.ref(record)
                        return record
            record = self.participants.take(words, self.ring.resolve)
            self._known[record.index] = record.generation, weakref.ref(record)
            return record

    @contextmanager
    def operation(self) -> Iterator[Record]:
        """Give a record for a while, in which nothing is announced."""
        record = self._borrow()
        try:
            yield record
        finally:
            self._idle.append(record)

    def _recover(self, record: Record, claim: Claim) -> None:
        """End an operation that an exception has cut short; what it got hold of is for the next gets.

        The record goes back to the pool, unless it stays marked as abandoned: then it is dropped here, and taken up
        again when it is resolved. Another interrupt only begins this again.
        """
        for _ in range(_TRIES):
            try:
                clean = self.ring.abandon(record, claim)
                self._batch_lock.recover(record)
                break
            except BaseException:
                clean = False
        self.keep_back(claim.taken)
        if clean:
            self._idle.append(record)

    def _refuse(self) -> None:
        raise QueueClosedError("this queue handle is closed; open the queue again by its name to go on")

    # ---- put --------------------------------------------------------------------------------------------------------

    def put(self, payload: Payload, until: float) -> None:
        """Put one item.

        Raises:
            Full: there was no room until then.
            QueueClosedError: the handle is, or was meanwhile, closed.
            RoleTakenError: mode "spsc", and another live handle is the producer.
        """
        record = self._borrow()
        try:
            words = record.words
            if self._spsc:
                self._take_role(words, PRODUCER_AT, "producer")
            if words.peek(GATE_AT) or self.ring.try_put(record, (payload,), False) != DONE:
                self._put_waiting(record, payload, until)
        except BaseException:
            self._recover(record, Claim())
            raise
        self._idle.append(record)

    def _put_waiting(self, record: Record, payload: Payload, until: float) -> None:
        words = record.words
        passed_on = 0

        def attempt(rescue: bool) -> int:
            nonlocal passed_on
            gate = words.peek(GATE_AT)
            if gate and _batch_lock.is_shut(gate) and not (rescue and self._batch_lock.is_forsaken(words)):
                if gate != passed_on:  # the wake may have been meant for the batch: pass it on, once a lease
                    passed_on = gate
                    self.parking.wake(words, SPACE, 1)
                return NOTHING
            return self.ring.try_put(record, (payload,), rescue)

        if not self._wait(words, SPACE, attempt, until, self._put_spin):
            words.add(FULL_EVENTS_AT, 1)
            raise Full

    def put_batch(self, payloads: Sequence[Payload], until: float) -> None:
        """Put all items, contiguous and visible to getters all at once, or none.

        Raises:
            Full: there was no room for all of them until then.
            QueueClosedError: the handle is, or was meanwhile, closed.
            RoleTakenError: mode "spsc", and another live handle is the producer.
        """
        gate = _batch_lock.Gate(self.parking)
        record = self._borrow()
        try:
            words = record.words
            if self._spsc:
                self._take_role(words, PRODUCER_AT, "producer")
            if not self._batch_lock.acquire(record, max(until, _clock.now() + _PATIENCE)):
                words.add(FULL_EVENTS_AT, 1)
                raise Full

            def claimed() -> None:
                gate.open(words, whosever=True)
                self._batch_lock.release(record)

            def attempt(rescue: bool) -> int:
                return self.ring.try_put(record, payloads, rescue, claimed)

            def before_sleep() -> None:
                gate.shut(words)

            if attempt(False) != DONE and not self._wait(words, SPACE, attempt, until, self._put_spin, before_sleep):
                words.add(FULL_EVENTS_AT, 1)
                raise Full
        except BaseException:
            self._recover(record, Claim())
            gate.open(self._memory.words())
            raise
        self._idle.append(record)

    # ---- get --------------------------------------------------------------------------------------------------------

    def get(self, limit: int, until: float) -> list[Payload]:
        """Take one to ``limit`` items.

        Raises:
            Empty: there was no item until then.
            QueueClosedError: the handle is, or was meanwhile, closed.
            RoleTakenError: mode "spsc", and another live handle is the consumer.
            CorruptQueueError: a slot says something that no queue writes.
        """
        claim = Claim()
        record = self._borrow()
        try:
            words = record.words
            if self._spsc:
                self._take_role(words, CONSUMER_AT, "consumer")

            taken = self._kept_back and self._take_kept_back(limit, claim)
            if not taken and self.ring.try_get(record, limit, claim, False) != DONE:
                self._get_waiting(record, limit, claim, until)
        except BaseException:
            self._recover(record, claim)
            raise
        try:
            self._idle.append(record)
        except BaseException:
            self.keep_back(claim.taken)
            raise
        return claim.taken

    def _get_waiting(self, record: Record, limit: int, claim: Claim, until: float) -> None:
        words = record.words

        def attempt(rescue: bool) -> int:
            found = self.ring.try_get(record, limit, claim, rescue)
            if rescue and found != DONE and self.ring.adopt(record, claim):
                return DONE
            return found

        if not self._wait(words, ITEMS, attempt, until, self._get_spin):
            words.add(EMPTY_EVENTS_AT, 1)
            raise Empty

    def keep_back(self, payloads: Sequence[Payload]) -> None:
        """Make payloads that were taken, and could not be delivered, the next that ``get`` takes."""
        self._kept_back.extendleft(reversed(payloads))

    def kept_back(self) -> int:
        """Return how many payloads are kept back."""
        return len(self._kept_back)

    def _take_kept_back(self, limit: int, claim: Claim) -> bool:
        try:
            while len(claim.taken) < limit:
                # popleft and the append in one go: no bytecode in between at which an interrupt could lose the item
                claim.taken.extend(map(deque.popleft, (self._kept_back,)))
        except IndexError:
            pass
        return bool(claim.taken)

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

        if until == 0:
            return self._look_once(attempt)
        if spin.until(done) or attempt(True) == DONE:
            return True
        while _clock.now() < until:
            if before_sleep is not None:
                before_sleep()
            words.add(PUT_WAITS_AT if side == SPACE else GET_WAITS_AT, 1)
            epoch = self.parking.arm(words, side)
            found = HELD if self.closed else attempt(True)  # [W3] seq, after [W2]
            if found == DONE:
                return True
            if not self.closed:
                # Nobody wakes us from a claim whose owner dies, so that is looked at more often.
                longest = _clock.now() + (_HELD_SLICE if found == HELD else SLICE)
                self.parking.sleep(side + WAKE_EPOCH, epoch, min(until, longest))
            if self.closed:
                self._refuse()
            if done():
                return True
        return self._look_once(attempt)

    def _look_once(self, attempt: Callable[[bool], int]) -> bool:
        """Attempt once more, and be patient with an operation that is about to end: it is no reason to say no."""
        start = _clock.now()
        while True:
            found = attempt(True)
            waited = _clock.now() - start
            if found != HELD or waited > _PATIENCE:
                return found == DONE
            _clock.sleep(0 if waited < _YIELDING else _NAP)

    # ---- mode spsc --------------------------------------------------------------------------------------------------

    def _take_role(self, words: Words, at: int, role: str) -> None:
        """Be the one producer (consumer), or refuse; tail (head) is read after this, never before."""
        if self._role is not None and words.load(at) == self._role.name:
            return
        if self._role is None:
            taken = self._take()
            with self._lock:
                if self._role is None:
                    self._role, taken = taken, None  # type: ignore[assignment]
            if taken is not None:
                self._idle.append(taken)
        name = self._role.name
        while (holder := words.load(at)) != name:
            if holder and not self.participants.is_dead(words, holder):
                raise RoleTakenError(role, self.participants.pid_of(words, holder))
            words.cas(at, holder, name)

    # ---- looking ----------------------------------------------------------------------------------------------------

    def size(self) -> int:
        """Return about how many items are there."""
        with self.operation() as record:
            return self.ring.size(record.words) + len(self._kept_back)

    def is_empty(self) -> bool:
        """Whether a get would find nothing."""
        with self.operation() as record:
            return not self._kept_back and self.ring.is_empty(record.words)

    def is_full(self) -> bool:
        """Whether a put would find no room."""
        with self.operation() as record:
            return not self.ring.has_room(record.words)

    # ---- the end ----------------------------------------------------------------------------------------------------

    def wake_all(self) -> None:
        """Let everybody who waits look again."""
        words = self._memory.words()
        self.parking.wake_all(words, ITEMS)
        self.parking.wake_all(words, SPACE)

    def retire(self) -> None:
        """Give up what can be given up while other threads may be in an operation: items kept back, records, roles."""
        while self._kept_back:
            payload = self._kept_back.popleft()
            try:
                self.put(payload, 0)
            except (Full, QueueClosedError, RoleTakenError):  # in mode "spsc" only while nobody else is the producer
                self._kept_back.appendleft(payload)
                break
        with self._lock:
            self._leave_idle()

    def _leave_idle(self) -> None:
        role, self._role = self._role, None
        if role is not None:
            for at in (PRODUCER_AT, CONSUMER_AT):
                role.words.cas(at, role.name, 0)
            self._leave(role)
        while self._idle:
            self._leave(self._idle.pop())

    def _leave(self, record: Record) -> None:
        self._known.pop(record.index, None)
        self.participants.leave(record)

    def close(self, wait: bool) -> bool:
        """End the operations of this handle's threads, and leave.

        Args:
            wait: for up to two seconds, for threads that are in an operation.

        Returns:
            Whether no thread uses the segment any more, so that it may be unmapped.
        """
        self.retire()
        self.closed = True
        until = _clock.now() + _QUIET
        while not self._left():
            if not wait or _clock.now() > until:
                return False
            self.wake_all()
            _clock.sleep(0.001)
        self.ring.release()
        self.parking.release()
        self._memory.release()
        return True

    def _left(self) -> bool:
        """Leave with all records that no operation uses; return whether those were all."""
        with self._lock:
            self._leave_idle()
            words = self._memory.words()
            for index, (generation, known) in list(self._known.items()):
                if known() is None:
                    lost = Record(index, generation, self.participants.owner, words)
                    if self.ring.clean(lost):
                        self.participants.leave(lost)
                    del self._known[index]
            return not self._known
