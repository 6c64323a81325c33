"""The engine in pure Python: the ring, driven by threads that wait and are interrupted.

The ring's methods never wait and never keep anything; this module gives every operation a record, waits between
attempts, and sees to it that an operation that ends by an exception, at whatever bytecode, leaves nothing behind.

What a get has got hold of stands in its record's claim, until the very last steps hand it to the caller and the record
back; these are plain stores and a return, at which no signal is served.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from queue import Empty, Full
from typing import TYPE_CHECKING, ClassVar, TypeVar

from .._codec.formats import ItemCodec
from .._platform import processes
from .._platform.lazy_import import late
from .._ring import batch_lock, ending
from .._ring.claim import Home, Payload, notes_of
from .._ring.layout import (
    CONSUMER_AT,
    FULL_EVENTS_AT,
    GATE_AT,
    ITEMS,
    PATIENCE,
    PRODUCER_AT,
    SPACE,
)
from .._ring.participants import Record
from .._ring.ring import DONE, HELD, NOTHING, SHUT_DOWN, UNFIT
from ..errors import ShutDown
from .calls import InPython
from .contract import EngineName
from .doorbell import Doorbell
from .membership import Membership
from .places import KEPT_BACK, ClaimedPlace, Unwritten, Wish
from .records import refuse_child
from .waiting import Waiting

if TYPE_CHECKING:
    from .leased_calls import LeasedCalls

T = TypeVar("T")


@late
def _leased_calls() -> type[LeasedCalls]:
    from .leased_calls import LeasedCalls  # noqa: PLC0415 (few queues have leases)

    return LeasedCalls


class AtomicsEngine:
    """The operations of one handle on one segment.

    Times are monotonic, in nanoseconds: 0 does not wait, infinity waits for ever.

    Args:
        membership: the handle's part in the queue.
    """

    name: ClassVar[EngineName] = "atomics"

    def __init__(self, membership: Membership) -> None:
        self.membership = membership
        self._spsc = membership.geometry.mode == "spsc"
        self._putting, self._getting = Waiting(membership, SPACE), Waiting(membership, ITEMS)

    def open(self, codec: ItemCodec) -> InPython:
        """Take part in the queue; see ``Engine.open``."""
        self._codec = codec
        with self.membership.operation():
            return (_leased_calls() if self.membership.geometry.leases else InPython)(self, codec)

    # ---- put --------------------------------------------------------------------------------------------------------

    def put(self, payload: Payload, until: float) -> None:
        """Put one item.

        Raises:
            Full: there was no room until then.
            ShutDown: the queue was shut down.
            QueueClosedError: the handle is, or was meanwhile, closed.
            RoleTakenError: mode "spsc", and another live handle is the producer.
        """
        member = self.membership
        if len(payload[0]) > member.geometry.item_size:
            return self.put_batch((payload,), until)  # it takes several slots
        record = member.records.borrow()
        try:
            found = self._put(record, payload, until)
            if record.forks != processes.forks:
                refuse_child()
        except BaseException:
            member.recover(record)
            raise
        member.records.idle[record.index] = record
        if found != DONE:
            raise ShutDown if found == SHUT_DOWN else Full

    def _put(self, record: Record, payload: Payload, until: float, publishes: bool = True) -> int:
        words = record.words
        if self._spsc:
            self.membership.roles.take(words, PRODUCER_AT)
        put = self.membership.ring.try_put
        if not words.peek(GATE_AT) and put(record, (payload,), False, None, publishes) == DONE:
            return DONE
        return self._put_waiting(record, payload, until, publishes)

    def _put_waiting(self, record: Record, payload: Payload, until: float, publishes: bool) -> int:
        words, member = record.words, self.membership
        passed_on: int | None = None  # the gate for which a wake was passed on; None: this put has not slept

        def after_sleep() -> None:
            nonlocal passed_on
            passed_on = passed_on or 0

        def attempt(sure: bool) -> int:
            nonlocal passed_on
            gate = words.peek(GATE_AT)
            is_shut = gate and batch_lock.is_shut(gate, member.system.now())
            if is_shut and not (sure and member.batch_lock.has_no_live_owner(words)) and not ending.is_closed(words):
                # What has woken this put may have been meant for the batch: pass it on, once for each value.
                if passed_on is not None and gate != passed_on:
                    passed_on = gate
                    member.parking.wake(words, SPACE, 1)
                return NOTHING
            return member.ring.try_put(record, (payload,), sure, None, publishes)

        return self._putting.until(words, attempt, until, after_sleep=after_sleep)

    def put_batch(self, payloads: Sequence[Payload], until: float) -> None:
        """Put all items, contiguous and visible to getters all at once, or none.

        Raises:
            Full: there was no room for all of them until then.
            ShutDown: the queue was shut down.
            QueueClosedError: the handle is, or was meanwhile, closed.
            RoleTakenError: mode "spsc", and another live handle is the producer.
        """
        member = self.membership
        gate = batch_lock.Gate(member.parking)
        record = member.records.borrow()
        ring, lock = member.ring, member.batch_lock  # not before: the first call in a forked child has others
        try:
            words = record.words
            if self._spsc:
                self.membership.roles.take(words, PRODUCER_AT)

            def claimed() -> None:
                gate.open(words, whosever=True)
                lock.release(record)

            def attempt(sure: bool) -> int:
                return ring.try_put(record, payloads, sure, claimed)

            def before_sleep() -> None:
                gate.shut(words)

            def check() -> None:
                self._putting.after_sleep()
                if ending.is_closed(words):
                    raise ShutDown

            if lock.acquire(record, until or member.system.now() + PATIENCE, check):
                found = attempt(False)
                if found != DONE:
                    found = self._putting.until(words, attempt, until, before_sleep)
                if found != DONE:
                    gate.open(words)
                    lock.release(record)
            else:
                words.add(FULL_EVENTS_AT, 1)
                member.doorbells.quieten(SPACE)
                found = NOTHING
            if record.forks != processes.forks:
                refuse_child()
        except BaseException:
            try:
                if record.forks == processes.forks:
                    gate.open(record.words)
            finally:
                member.recover(record)
            raise
        member.records.idle[record.index] = record
        if found != DONE:
            raise ShutDown if found == SHUT_DOWN else Full

    # ---- get --------------------------------------------------------------------------------------------------------

    def get(
        self,
        limit: int,
        until: float,
        deliver: Callable[[list[Payload]], T],
        home: Home | None = None,
    ) -> T:
        """Take one to ``limit`` items.

        Args:
            limit: largest number of items.
            until: when to give up.
            deliver: makes what is returned from the payloads. What it has taken out of their list when it raises is
                consumed; the rest is kept back for the next gets.
            home: where leases are noted once the caller has the items; None if the queue has no leases.

        Raises:
            Empty: there was no item until then.
            ShutDown: the queue was shut down, and nothing can come any more.
            QueueClosedError: the handle is, or was meanwhile, closed.
            RoleTakenError: mode "spsc", and another live handle is the consumer.
            CorruptQueueError: a slot says something that no queue writes.
        """
        member = self.membership
        record = member.records.borrow()
        records = member.records  # not before: the first call in a forked child has others
        try:
            words, claim = record.words, record.claim
            if self._spsc:
                member.roles.take(words, CONSUMER_AT)
            found = DONE
            if not (records.kept_back and member.take_kept_back(words, limit, claim)):
                found = member.ring.try_get(record, limit, False)
                if found != DONE:
                    found = self._get_waiting(record, limit, until)
            if found == DONE:
                delivered = deliver(claim.taken)
                if home is not None:
                    leased = notes_of(claim.taken, home)
                if records.kept_back:
                    member.parking.wake_all(words, ITEMS)  # another thread of this handle may wait for just these
            if record.forks != processes.forks:
                refuse_child()
        except BaseException:
            member.recover(record)
            raise
        # From here to the caller no signal is served.
        if found != DONE:
            records.idle[record.index] = record
            raise ShutDown if found == SHUT_DOWN else Empty
        if home is not None:
            home |= leased
        claim.taken = []
        records.idle[record.index] = record
        return delivered

    def _get_waiting(self, record: Record, limit: int, until: float) -> int:
        member = self.membership
        ring, records = member.ring, member.records

        def attempt(sure: bool) -> int:
            if records.kept_back and member.take_kept_back(record.words, limit, record.claim):
                return DONE
            found = ring.try_get(record, limit, sure)
            if sure and found in (NOTHING, HELD) and ring.adopt(record):
                return DONE
            return found

        return self._getting.until(record.words, attempt, until)

    # ---- in place ---------------------------------------------------------------------------------------------------

    def reserve(self, length: int, tag: int, until: float) -> ClaimedPlace:
        """Claim a slot for a payload; see ``Places.reserve``."""
        member = self.membership
        record = member.records.borrow()
        try:
            found = self._put(record, (Unwritten(length), tag), until, publishes=False)
            if record.forks != processes.forks:
                refuse_child()
            if found == DONE:
                return ClaimedPlace(member, record, member.ring.payload_at(record.claim.place), length)
        except BaseException:
            member.recover(record)
            raise
        member.records.idle[record.index] = record
        raise ShutDown if found == SHUT_DOWN else Full

    def view(self, until: float) -> ClaimedPlace | None:
        """Claim the next item, if it is one whose bytes are in place; see ``Places.view``."""
        member = self.membership
        record = member.records.borrow()
        try:
            wish = Wish(member.ring, self._codec, None)
            found = self._look(record, wish, until)
            if found == DONE:
                start = member.ring.payload_at(record.claim.begin) + wish.begin
                return ClaimedPlace(member, record, start, wish.size)
        except BaseException:
            member.recover(record)
            raise
        member.records.idle[record.index] = record
        wish.refuse(found)
        return None

    def get_into(self, buffer: memoryview, until: float) -> int | None:
        """Take the next item into a buffer, and return its bytes; None if payloads are kept back, which come first.

        Raises:
            NotABufferError, BufferTooSmallError, Empty, ShutDown, QueueClosedError, RoleTakenError, CorruptQueueError:
                as of ``SharedMemoryQueue.get_into``.
        """
        member = self.membership
        record = member.records.borrow()
        claim = record.claim
        try:
            wish = Wish(member.ring, self._codec, buffer.nbytes)
            while True:
                found = self._look(record, wish, until)
                if found == DONE:
                    member.ring.finish_get(record)
                    if not claim.taken:
                        continue  # another has adopted it
                    data = memoryview(claim.taken[0][0])
                    size = wish.size
                    buffer[:size] = data[wish.begin : wish.begin + size]
                break
        except BaseException:
            member.recover(record)
            raise
        # From here to the caller no signal is served.
        if found == DONE:
            claim.taken = []
            member.records.idle[record.index] = record
            return size
        member.records.idle[record.index] = record
        wish.refuse(found)
        return None

    def _look(self, record: Record, wish: Wish, until: float) -> int:
        """Claim the next item if it is one that is wanted.

        Returns:
            DONE, NOTHING, SHUT_DOWN, UNFIT, or KEPT_BACK: there are payloads that come first.
        """
        member = self.membership
        ring, records, words, claim = member.ring, member.records, record.words, record.claim
        end = DONE

        def attempt(sure: bool) -> int:
            nonlocal end
            end = KEPT_BACK
            if records.kept_back and not ending.is_stopped(words, member.geometry.mode):
                return DONE
            found = ring.try_get(record, 1, sure, wish)
            if sure and found in (NOTHING, HELD) and ring.adopt(record):
                found = DONE
            if claim.taken:  # an adopted item
                records.keep_back(claim.taken)
                return DONE
            end = found
            return DONE if found == UNFIT else found

        if self._spsc:
            member.roles.take(words, CONSUMER_AT)
        found = attempt(False)
        if found not in (DONE, SHUT_DOWN):
            found = self._getting.until(words, attempt, until)
        if record.forks != processes.forks:
            refuse_child()
        return end if found == DONE else found

    # ---- the end of work --------------------------------------------------------------------------------------------

    def shutdown(self, immediate: bool) -> None:
        """Shut the queue down; see ``Engine.shutdown``."""
        member = self.membership
        with member.operation() as record:
            ending.shut(record.words, member.geometry.mode, member.parking, immediate)

    # ---- looking ----------------------------------------------------------------------------------------------------

    def size(self) -> int:
        """Return about how many items are there."""
        member = self.membership
        look = member.look()
        return 0 if ending.is_stopped(look, member.geometry.mode) else look.items() + member.kept_back()

    def is_empty(self) -> bool:
        """Whether a get would find nothing."""
        return self.membership.is_empty()

    def is_full(self) -> bool:
        """Whether a put would find no room."""
        return self.membership.is_full()

    def doorbell(self, side: int) -> Doorbell:
        """Return the doorbell of a side, ITEMS or SPACE."""
        return self.membership.doorbells.of(self.membership, side)
