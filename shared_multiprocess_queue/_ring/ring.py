"""The ring: a bounded FIFO over shared words, for any number of getters and putters that may die at any instruction.

docs/protocol.md has the essay, the drawing and the reason for each edge; the labels at the steps are its labels. The
slots with sequence words come from Dmitry Vyukov's bounded MPMC queue
(https://www.1024cores.net/home/lock-free-algorithms/queues/bounded-mpmc-queue). What holds at every step:

- Every change of a slot's word is a compare-and-swap that expects the full position.
- A claim is announced before it is made. A claimed position that no live record covers is an orphan.
- What an orphan has left is cleared away by the operation that meets it: ``recovery``.
- Nothing computes room from tail - head; the word of a slot says whether it is free.

This engine is sequentially consistent throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from .._platform.atomic_words import Words
from ..errors import ClaimLostError
from . import ending
from .claim import Payload
from .growth import Growth
from .layout import (
    ABANDONED,
    CLOSED,
    FREE,
    FULL,
    GET_END,
    GIVEN,
    HEAD,
    ITEMS,
    PUT_END,
    SLOTS_START,
    SPACE,
    STATE_BITS,
    STATE_MASK,
    STOPPED,
    STOPPED_AT,
    TAIL,
    TOMB,
    Geometry,
    record_at,
    unmarked,
)
from .parking import Parking
from .participants import Participants, Record
from .recovery import Recovery

if TYPE_CHECKING:
    from .leases import Leases

# What an attempt that took or put nothing found.
DONE: Final = 0  # of a put: the items are in the queue
NOTHING: Final = 1  # empty, or full
HELD: Final = 2  # another operation is between its claim and its end there; it will be over in a moment
SHUT_DOWN: Final = 3  # the queue was shut down: no put is accepted, or nothing can come any more
UNFIT: Final = 4  # the next item is not one that this get wants

_MOST_PASSED: Final = 1024  # finished positions that head is moved over in one attempt
_SCANNED: Final = 16  # records of a scan that count as one position more: a dead put costs a scan


class Ring(Recovery):
    """The slots of one segment, and what operations do to them.

    Every method takes an access to the words, or a record that brings one; none of them waits.

    Args: as of ``Recovery``.
    """

    def __init__(self, buffer: memoryview, geometry: Geometry, participants: Participants, parking: Parking) -> None:
        super().__init__(buffer, geometry, participants, parking)
        self._mode = geometry.mode
        self.growth: Growth | None = None  # where memory is taken as it is used
        self.leases: Leases | None = None

    # ---- put --------------------------------------------------------------------------------------------------------

    def try_put(
        self,
        record: Record,
        payloads: Sequence[Payload],
        sure: bool,
        claimed: Callable[[], None] | None = None,
        publishes: bool = True,
    ) -> int:
        """Put all payloads, contiguous and visible to getters all at once, or none.

        Args:
            record: this operation's; it announces nothing.
            payloads: one or more, which take no more slots than the capacity.
            sure: whether to find out if a put that holds a slot is dead; that costs a scan.
            claimed: called right after the claim.
            publishes: if False, the claim lasts, and ``claim.place`` is its position, until ``publish`` or ``abandon``.

        Returns:
            DONE, NOTHING (no room), HELD (no room, but an operation is about to end there) or SHUT_DOWN.

        Raises:
            ClaimLostError: others declared this operation dead while it was alive.
            CorruptQueueError: a slot says something that no queue writes.
            SharedMemoryFullError: there is no memory for a claimed item; the record has to be abandoned.
        """
        words = record.words
        load, cas = words.peek, words.cas  # first a hint, which the claim confirms; a refusal looks atomically
        capacity, stride = self._capacity, self._stride
        count = len(payloads)
        if self.may_be_large:
            count = sum([self.slots_of(len(data)) for data, _ in payloads])
        while True:
            position = load(TAIL)  # [P1] acquire, pairs with [P6]
            refused = None
            for p in range(position, position + count):
                slot = SLOTS_START + p % capacity * stride
                word = load(slot)  # [P2] acquire, pairs with [G6][T2][T3]: the last reader has made its copy
                if word == p - capacity << STATE_BITS | TOMB:
                    self._free_tomb(words, p - capacity)
                    word = load(slot)
                if word != p << STATE_BITS | FREE:
                    refused = p, word
                    break
            if refused is not None:
                record.withdraw_put()  # before anything slow
                if load is not words.load:
                    load = words.load
                    continue
                if position & CLOSED:  # [D2] first: no word fits a marked tail
                    return SHUT_DOWN
                if self._is_fresh(*refused):
                    self._number(words, *refused, position + count)
                    continue
                found = self._no_room(record, position, *refused, sure)
                if found is None:
                    continue
                return found
            writes = self.writes(position, payloads)  # before the claim: a putter that stops behind it stops getters
            record.announce_put(position, position + count)  # [P3][P4]
            if cas(TAIL, position, position + count):  # [P6] release, pairs with [S1]
                break
        if claimed is not None:
            claimed()
        if self.growth is not None:
            self.growth.reserve(position, payloads)
        buffer = self._bytes
        for place, data in writes:  # [P7] plain, published by [P8]
            buffer[place] = data
        if not publishes:
            record.claim.place = position
            return DONE
        return self.publish(record, position, count, len(payloads))

    def publish(self, record: Record, position: int, count: int, items: int) -> int:
        """Publish the items that are written at ``count`` positions, and wake getters."""
        words = record.words
        cas = words.cas
        for p in range(position + count - 1, position - 1, -1):
            # [P8] release for the payload, pairs with [G2]; seq for the wake, pairs with [W3]. The first slot comes
            # last: getters take in order, so the batch is there as a whole or not at all.
            slot = self._slot(p)
            if not cas(slot, p << STATE_BITS | FREE, p << STATE_BITS | FULL):
                record.withdraw_put()
                raise ClaimLostError(f"the put at position {p} was declared dead; its items are not in the queue")
        record.withdraw_put()  # [P9]
        self._parking.wake(words, ITEMS, items)
        if self._parking.is_armed(words, SPACE) and self.has_room(words):
            self._parking.wake(words, SPACE, 1)  # the chain: one wake may stand for several places
        return DONE

    def _no_room(self, record: Record, tail: int, position: int, word: int, sure: bool) -> int | None:
        """Say what a slot that is not free means for a put; None means: look again."""
        words = record.words
        if word & STATE_MASK == GIVEN:  # before its position is believed, which it does not have in full
            stale = words.load(TAIL) != tail
            return None if stale else self.meet_given(record, TAIL, position, word, sure)
        if word >> STATE_BITS > position or words.load(TAIL) != tail:
            self._check_later(words, position, word)
            return None  # tail was stale
        before = position - self._capacity
        if word == before << STATE_BITS | FREE:  # the put of the lap before has not published
            if sure:
                return None if self.rescue_put(words, before) else NOTHING
            return HELD
        if word == before << STATE_BITS | FULL:
            if unmarked(words.load(HEAD)) <= before:
                return NOTHING
            if not sure or self._has_getter(words, before):
                return HELD  # a get has claimed it, and ends in a moment
            # A dead get's item is for the next getter to adopt; unless this one has just ended, as a second read tells.
            return NOTHING if words.load(self._slot(position)) == word else None
        if word == before << STATE_BITS | TOMB or words.load(self._slot(position)) != word:
            return None
        self.corrupt(position, word)

    def _is_fresh(self, position: int, word: int) -> bool:
        """Whether a slot has never had a number: in the first lap, of a queue that takes memory as it is used."""
        return not word and 0 < position < self._capacity and self.growth is not None

    def _number(self, words: Words, position: int, word: int, end: int) -> None:
        if self.growth is None or not self.growth.number(words, position, end - position):
            self.corrupt(position, word)

    def has_room(self, words: Words) -> bool:
        """Whether a single put would find its slot free now, or freed when it looks for the dead; changes nothing."""
        while True:
            tail = unmarked(words.load(TAIL))
            before = tail - self._capacity
            slot = self._slot(tail)
            word = words.load(slot)
            if word == tail << STATE_BITS | FREE or word == before << STATE_BITS | TOMB or self._is_fresh(tail, word):
                return True
            if word == before << STATE_BITS | FREE and not self._has_putter(words, before):
                if words.load(slot) == word:  # [S4] the put of the lap before is dead; otherwise it has published
                    return True
                continue
            # FULL, even of a dead get: there is no room until a getter has adopted the item.
            if unmarked(words.load(TAIL)) == tail:
                return False

    # ---- get --------------------------------------------------------------------------------------------------------

    def try_get(self, record: Record, limit: int, sure: bool, suits: Callable[[int, int], bool] | None = None) -> int:
        """Take what is there, in order, up to ``limit`` items, into the ``taken`` of the record's claim.

        Args:
            record: this operation's; it announces nothing, and its claim is empty.
            limit: one or more.
            sure: whether to find out if an operation that holds the slot is dead; that costs a scan.
            suits: tells of a position whether its item, in so many slots, is wanted; called before the claim, of one
                item. Then the claim lasts until ``finish_get``, ``drop`` or ``abandon``, unless ``taken`` has an
                adopted item.

        Returns:
            DONE, NOTHING (empty), HELD (empty, but an operation is about to end there), SHUT_DOWN or UNFIT.

        Raises:
            CorruptQueueError: a slot says something that no queue writes.
        """
        words, claim = record.words, record.claim
        load, cas = words.peek, words.cas  # first a hint, which the claim confirms; an Empty looks atomically
        capacity, stride, leases = self._capacity, self._stride, self.leases
        passed = 0
        if self._mode == "spsc" and words.peek(STOPPED_AT):  # [D2]
            return SHUT_DOWN
        while True:
            p = load(HEAD)  # [G1] acquire, pairs with [G5]
            word = load(SLOTS_START + p % capacity * stride)  # [G2] acquire, pairs with [P8]: the payload is complete
            if word == p << STATE_BITS | FULL:
                end = p + 1
                if self.may_be_large:
                    items = self.find_items(load, p, limit)
                    if len(items) == 1:
                        if words.load(HEAD) != p:
                            continue
                        items.append(end)  # damaged: one slot after the other comes out as a corrupt item
                    end = items[-1]
                else:
                    while end - p < limit and load(self._slot(end)) == end << STATE_BITS | FULL:
                        end += 1
                if suits is not None and not suits(p, end - p):
                    if words.load(HEAD) != p:  # what was looked at may have been of the next lap
                        continue
                    record.withdraw_get()
                    return UNFIT
                if leases is not None:
                    if not self.may_be_large:
                        items = list(range(p, end + 1))
                    end = leases.reserve_run(words, claim, items, sure)
                    if end == p:
                        return DONE if claim.taken else NOTHING
                    if self._mode == "spsc" and words.load(STOPPED_AT):  # [D6] a join after [D7] sees the lease slots
                        leases.give_up_reserved(words, claim)
                        return SHUT_DOWN
                record.announce_get(p, end)  # [G4]
                if not cas(HEAD, p, end):  # [G5] release, pairs with [S1]
                    if leases is not None:
                        record.withdraw_get()
                        leases.give_up_reserved(words, claim)
                    continue
                claim.begin, claim.end = p, end
                if suits is not None:
                    return DONE
                self.finish_get(record)
                if claim.taken:
                    return DONE
                continue
            if load is not words.load:
                load = words.load
                continue
            stop = load(STOPPED_AT) if self._mode == "spsc" else p
            if stop & STOPPED:  # [D2] first: no word fits a marked head
                record.withdraw_get()
                return SHUT_DOWN
            if word == p << STATE_BITS | TOMB:
                self._free_tomb(words, p)
                continue
            if word & STATE_MASK == GIVEN:  # before its position is believed, which it does not have in full
                record.withdraw_get()
                found = None if load(HEAD) != p else self.meet_given(record, HEAD, p, word, sure)
                if found is None:
                    continue
                return found
            if word >> STATE_BITS > p:
                self._check_later(words, p, word)
                cas(HEAD, p, p + 1)  # [H1] acq_rel: continues the release sequence of [G5]
                passed += 1
                if passed > _MOST_PASSED:
                    record.withdraw_get()
                    return HELD  # the caller minds its deadline
                continue
            record.withdraw_get()  # before anything slow
            is_fresh = self._is_fresh(p, word)
            if word == p << STATE_BITS | FREE or is_fresh:
                tail = load(TAIL)  # [G3] acquire, after [G2]
                if unmarked(tail) == p:  # nothing is claimed, so this is empty
                    return self._at_the_end(words) if tail & CLOSED else NOTHING  # [D3] that tail is final
                if is_fresh:
                    if load(self._slot(p)) == word:
                        self.corrupt(p, word)  # tail does not pass a slot without a number
                    continue
                if not sure:
                    return HELD
                if self.rescue_put(words, p):
                    passed += len(self._participants.used(words)) // _SCANNED
                    continue
                return HELD
            if load(HEAD) != p:
                continue
            if word >> STATE_BITS != p - capacity:
                self.corrupt(p, word)
            # The slot is still of the lap before: the get of that item has not freed it. No record need name it.
            if not sure:
                return HELD
            if word == p - capacity << STATE_BITS | FULL and self.rescue_get(words, p - capacity, claim):
                return DONE
            return HELD if ending.is_closed(words) else NOTHING

    def _at_the_end(self, words: Words) -> int:
        """Say what a get finds at the end of a ring whose tail is closed."""
        if self._is_any_unfinished(words):  # [D4]
            return HELD
        self._parking.wake_all(words, ITEMS)
        return SHUT_DOWN

    def _is_any_unfinished(self, words: Words) -> bool:
        """Whether a get has claimed an item that has not left the ring: a live one, or one whose item is adopted."""
        return any(self._unfinished_gets(words, record_at(index)) for index in self._participants.used(words))

    def may_be_over(self, words: Words) -> bool:
        """Whether a get that does not wait may find the end of a queue that was shut down."""
        return True

    def meet_given(self, record: Record, end: int, position: int, word: int, sure: bool) -> int | None:
        """Say what it means that a slot has gone to a lease slot; None means: look again.

        Args:
            record: this operation's; it announces nothing.
            end: HEAD or TAIL, which was found at the position after the word was read; for a batch, before it.
            position: of the slot, in this lap.
            word: its word.
            sure: whether to find out if the holder of the lease slot is dead.

        Raises:
            CorruptQueueError: there are no leases.
        """
        self.corrupt(position, word)

    def finish_get(self, record: Record) -> None:
        """Copy out and free what is claimed, then withdraw; called again after an interrupt, it goes on where it was.

        While the record is alive and covers a position, no other operation frees that slot. So if the slot is free
        although its copy is still undecided, this very get has freed it, just before it was interrupted.
        """
        words, claim = record.words, record.claim
        count = claim.end - claim.begin
        if claim.is_seen:
            return self.drop(record)
        while claim.begin < claim.end:
            p = claim.begin
            slot = SLOTS_START + p % self._capacity * self._stride
            full = p << STATE_BITS | FULL
            if claim.copy is None or claim.copy[0] != p:
                claim.copy = p, self.read(p, claim.end - p)
            elif words.load(slot) != full:
                claim.keep(claim.copy[1])
            payload = claim.copy[1]
            slots = self.slots_of(len(payload[0])) if self.may_be_large else 1
            if slots > 1:
                self.free_rest(words, p, slots)
            # [G6] release for the copy, pairs with [P2]; seq for the wake, pairs with [W3]. This decides which
            # operation has the item: if the freeing fails, another has adopted it.
            if words.cas(slot, full, p + self._capacity << STATE_BITS | FREE):
                claim.taken.append(payload)
            claim.begin = p + slots  # before the copy goes: what the slot says now is of the next lap
            claim.copy = None
        self._end_get(record, count)

    def drop(self, record: Record) -> None:
        """Free the one slot that is claimed, whose item the caller has seen in it; again after an interrupt."""
        words, claim = record.words, record.claim
        claim.is_seen = True
        p = claim.begin
        words.cas(self._slot(p), p << STATE_BITS | FULL, p + self._capacity << STATE_BITS | FREE)  # [G6]
        claim.begin = claim.end  # no call up to the next line, so no interrupt: the next claim must not seem seen
        claim.is_seen = False
        self._end_get(record, 1)

    def _end_get(self, record: Record, count: int) -> None:
        words = record.words
        record.withdraw_get()  # [G7]
        self._parking.wake(words, SPACE, count)
        if self._parking.is_armed(words, ITEMS):
            head = words.load(HEAD)  # no word fits a marked one
            if words.load(self._slot(head)) == head << STATE_BITS | FULL:
                self._parking.wake(words, ITEMS, 1)  # the chain: one wake may stand for several items

    # ---- interrupts --------------------------------------------------------------------------------------------------

    def abandon(self, record: Record) -> bool:
        """End an operation of this thread that an exception has cut between two steps.

        A get that knows its claim completes it: before the mark the owner alone decides. Otherwise the record is
        marked, which counts as dead, and this operation then recovers from it as any other would.

        Args:
            record: the interrupted operation's; what it got hold of is in the ``taken`` of its claim afterwards.

        Returns:
            True: the record is clean. False: it stays marked and must not be used before it is resolved.
        """
        words, claim, at = record.words, record.claim, record.at
        claim.settle_adoption()
        if claim.begin < claim.end:
            self.finish_get(record)
        if words.load(at + PUT_END) or words.load(at + GET_END):
            words.store(at + ABANDONED, 1)  # [A1] release, pairs with [S2]
            for position in self._announced_gets(words, at):
                if self.is_adoptable(words, position):
                    self.rescue_get(words, position, claim)
        if words.load(at + ABANDONED):
            if not self.resolve(words, record.index):
                return False
            self._participants.renew(record)
        return True
