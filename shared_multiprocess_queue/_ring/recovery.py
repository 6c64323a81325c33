"""What an operation does about those that died between two steps: their puts become absent, their items are adopted.

docs/protocol.md has the reason for each edge; the labels at the steps are its labels. A claimed position that no live
record covers is an orphan. An orphan put (FREE(p), tail > p) becomes a TOMB, its whole batch before it:
``rescue_put``. An orphan get (FULL(q), head > q) belongs to the operation that frees its slot: ``rescue_get``.
"""

from __future__ import annotations

from typing import NoReturn

from .._platform.atomic_words import Words
from ..errors import CorruptQueueError
from .claim import Claim
from .large import Items
from .layout import (
    ADOPTED_AT,
    FREE,
    FULL,
    GET_BEGIN,
    GET_END,
    GIVEN,
    HEAD,
    ITEMS,
    PUT_BEGIN,
    PUT_END,
    SPACE,
    STATE_BITS,
    STATE_MASK,
    TAIL,
    TOMB,
    TOMBS_AT,
    Geometry,
    is_given,
    record_at,
    unmarked,
)
from .parking import Parking
from .participants import Participants, Record


class Recovery(Items):
    """The slots of one segment, and what is done to those of dead operations.

    Every method takes an access to the words; none of them waits.

    Args:
        buffer: the mapped segment.
        geometry: its sizes, checked against the size of the mapping.
        participants: the records of the segment.
        parking: where waiters sleep.
    """

    def __init__(self, buffer: memoryview, geometry: Geometry, participants: Participants, parking: Parking) -> None:
        super().__init__(buffer, geometry)
        self._participants = participants
        self._parking = parking

    def _free_tomb(self, words: Words, position: int) -> None:
        # [T2] acq_rel, pairs with [P2]; seq for the wake. Whichever operation meets a TOMB frees it.
        if words.cas(
            self._slot(position), position << STATE_BITS | TOMB, position + self._capacity << STATE_BITS | FREE
        ):
            self._parking.wake(words, SPACE, 1)

    # ---- what dead operations have left -----------------------------------------------------------------------------

    def _has_putter(self, words: Words, position: int) -> bool:
        """Whether a position that a put has claimed is covered by a live one."""
        return self._participants.covered(words, position, PUT_BEGIN, PUT_END)

    def _has_getter(self, words: Words, position: int) -> bool:
        """Whether a position that a get has claimed is covered by a live one."""
        return self._participants.covered(words, position, GET_BEGIN, GET_END)

    def rescue_put(self, words: Words, position: int) -> bool:
        """Make a put absent that was found FREE at a position below tail, if no live record covers it.

        Its batch is made absent as a whole, from the last slot to the first; the extent needs no record, because a
        slot p+j that is FULL with batch index j can only belong to the batch that began at p. With it go other orphans
        right behind p, so that the slots that a put has not published are walked once, not once for each.

        Args:
            words: the caller's access; it announces nothing.
            position: p; tail was read beyond it [S1].

        Returns:
            False: a live operation holds the position. True: look again.
        """
        last = min(unmarked(words.load(TAIL)), position + self._capacity)
        uncovered = self._participants.end_of_uncovered(words, position, last)
        if uncovered <= position:
            return False
        free = position << STATE_BITS | FREE
        if words.load(self._slot(position)) != free:  # [S4] the second read: it may have been published by now
            return True
        end, orphans = self._end_of_walk(words, position, last)
        orphans = min(orphans, uncovered)
        for p in range(end - 1, position, -1):
            if self._is_member(words, p, position):
                self._bury(words, p, FULL)
            elif p < orphans:
                self._bury(words, p, FREE)  # the second read [S4], too
        self._bury(words, position, FREE)  # last, pairs with [T2]
        self._parking.wake(words, ITEMS, 1)
        return True

    def _bury(self, words: Words, position: int, state: int) -> None:
        if words.cas(self._slot(position), position << STATE_BITS | state, position << STATE_BITS | TOMB):  # [T1]
            words.add(TOMBS_AT, 1)

    def _is_member(self, words: Words, position: int, begin: int) -> bool:
        """Whether a slot holds what the put that began at ``begin`` has published."""
        # [S5] acquire, pairs with [P8]: the index is there
        is_full = words.load(self._slot(position)) == position << STATE_BITS | FULL
        return is_full and self.place_in_put(position) == position - begin

    def _end_of_walk(self, words: Words, begin: int, last: int) -> tuple[int, int]:
        """Return where the walk over a dead put ends, and up to where FREE slots are of puts of which nothing is FULL.

        A put is contiguous, so it ends before the first slot that holds an item of another put; and that other one has
        begun where its index says.
        """
        for p in range(begin + 1, last):
            if words.load(self._slot(p)) == p << STATE_BITS | FULL:  # [S5]
                place = self.place_in_put(p)
                if place != p - begin:
                    return p, p - place
        return last, last

    def rescue_get(self, words: Words, position: int, claim: Claim) -> bool:
        """Adopt an item that was found FULL at a position below head, if no live record covers it.

        Args:
            words: the caller's access; it announces nothing.
            position: q; head was read beyond it [S1].
            claim: of this operation; the item goes to its ``taken``.

        Returns:
            Whether the item is this operation's now.
        """
        if self._has_getter(words, position):
            return False
        slot = self._slot(position)
        claim.verdict.clear()
        claim.orphan = self.read(position, self._capacity)
        slots = self.slots_of(len(claim.orphan[0]))
        if self.may_be_large:
            self.free_rest(words, position, slots)
        # [T3] acq_rel, after the copy; pairs with [P2]. Of those that try, the one that frees the slot has the item.
        words.cas_noted(
            slot, position << STATE_BITS | FULL, position + self._capacity << STATE_BITS | FREE, claim.verdict
        )
        if not claim.settle_adoption():
            return False
        words.add(ADOPTED_AT, 1)
        self._parking.wake(words, SPACE, slots)
        return True

    def adopt(self, record: Record) -> bool:
        """Look for an item that a dead getter had claimed, and take it over; cheap while no get is in progress.

        Args:
            record: the caller's; it announces nothing. The item goes to the ``taken`` of its claim.
        """
        words = record.words
        while (position := self._find_orphan(words)) is not None:
            if self.rescue_get(words, position, record.claim):
                return True
        return False

    def _find_orphan(self, words: Words) -> int | None:
        """Return a position that a dead getter has claimed and not freed, if a record leads to one."""
        for index in self._participants.used(words):
            at = record_at(index)
            if words.peek(at + GET_END):  # a hint; what follows is atomic
                for position in self._announced_gets(words, at):
                    if self._is_orphan(words, position):
                        return position
        return None

    def _is_orphan(self, words: Words, position: int) -> bool:
        """Whether a position is claimed by a dead get; read twice, because a live one may end during the scan."""
        return (
            self.is_adoptable(words, position)
            and not self._has_getter(words, position)
            and self.is_adoptable(words, position)
        )

    def _announced_gets(self, words: Words, at: int) -> range:
        begin = words.load(at + GET_BEGIN)
        return range(begin, min(words.load(at + GET_END), begin + self._capacity))

    def is_claimed_by_put(self, words: Words, position: int) -> bool:
        """Whether a put has claimed this position and not published it."""
        free = position << STATE_BITS | FREE
        return unmarked(words.load(TAIL)) > position and words.load(self._slot(position)) == free

    def is_claimed_by_get(self, words: Words, position: int) -> bool:
        """Whether a get has claimed this position and not freed it."""
        head, full = unmarked(words.load(HEAD)), position << STATE_BITS | FULL
        return head > position and words.load(self._slot(position)) == full

    def is_adoptable(self, words: Words, position: int) -> bool:
        """Whether a get has claimed this position, and an item is still in its slot.

        A later part of one is none; but one that nothing leads to is adopted as a corrupt item, because nothing else
        would free it.
        """
        head, full = unmarked(words.load(HEAD)), position << STATE_BITS | FULL
        is_there = head > position and words.load(self._slot(position)) == full
        return is_there and not self._is_led_to(words, position)

    def _is_led_to(self, words: Words, position: int) -> bool:
        """Whether a slot holds a later part of an item, and the slot before it leads to it: that is freed after it.

        If that is free already, the segment was damaged.
        """
        if not self.is_more(position):
            return False
        later = position + self._capacity - 1  # of the slot before it, in the next lap
        word = words.load(self._slot(later))
        return is_given(word, position - 1) if word & STATE_MASK == GIVEN else word >> STATE_BITS < later

    def is_resolved(self, words: Words, index: int) -> bool:
        """Whether nothing is left of the operation that a record announces."""
        at = record_at(index)
        if self._unresolved_put(words, at) is not None:
            return False
        return not self._unfinished_gets(words, at)

    def _unfinished_gets(self, words: Words, at: int) -> list[int]:
        return [q for q in self._announced_gets(words, at) if self.is_claimed_by_get(words, q)]

    def resolve(self, words: Words, index: int) -> bool:
        """Make the put of a dead record absent; return whether the record is resolved. Gets are left to the getters."""
        if self.is_resolved(words, index):
            return True
        begin = self._unresolved_put(words, record_at(index))
        if begin is not None:
            self.rescue_put(words, begin)
        return self.is_resolved(words, index)

    def _unresolved_put(self, words: Words, at: int) -> int | None:
        begin = words.load(at + PUT_BEGIN)
        announced = begin < words.load(at + PUT_END)
        return begin if announced and self.is_claimed_by_put(words, begin) else None

    # ---- hostile memory ---------------------------------------------------------------------------------------------

    def _check_later(self, words: Words, position: int, word: int) -> None:
        """Refuse a word of a later position that this slot can never have."""
        later = word >> STATE_BITS
        if (later - position) % self._capacity or later >= unmarked(words.load(TAIL)) + self._capacity:
            self.corrupt(position, word)

    def corrupt(self, position: int, word: int) -> NoReturn:
        """Say that the slot of a position holds a word that no queue writes."""
        raise CorruptQueueError(
            f"the slot of position {position} holds the word {word:#x} (position {word >> STATE_BITS}, state "
            f"{word & STATE_MASK}), which no queue of capacity {self._capacity} writes; unlink this queue and create "
            f"it again"
        )
