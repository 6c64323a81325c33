"""The ring of a queue with leases: what a get takes goes to a lease slot, and is found there if the get dies.

A get reserves its lease slots before it claims, and holds none of them while it waits, scans the records or returns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .._platform.atomic_words import Words
from ..errors import SharedMemoryFullError
from . import ending
from .claim import Claim
from .layout import (
    ABANDONED,
    ADOPTED_AT,
    FREE,
    FULL,
    GET_END,
    GIVEN_LEASE_SHIFT,
    HEAD,
    ITEMS,
    PUT_END,
    STATE_BITS,
    TAIL,
    Geometry,
    is_given,
    record_at,
    unmarked,
)
from .parking import Parking
from .participants import Participants, Record
from .returns import ReturningLeases
from .ring import DONE, HELD, NOTHING, SHUT_DOWN, Ring

_LOOKS: Final = 4096  # of a join, before it minds its deadline


class LeasedRing(Ring):
    """The slots of one segment with leases, and what operations do to them; see ``Ring``.

    Attributes:
        leases: the lease slots.
    """

    leases: ReturningLeases

    def __init__(self, buffer: memoryview, geometry: Geometry, participants: Participants, parking: Parking) -> None:
        super().__init__(buffer, geometry, participants, parking)
        self._lease_slots = geometry.leases
        self.leases = ReturningLeases(buffer, geometry, participants, parking)

    def release(self) -> None:
        """Let go of the memory; may be called again."""
        self.leases.release()
        super().release()

    # ---- get --------------------------------------------------------------------------------------------------------

    def try_get(self, record: Record, limit: int, sure: bool, suits: Callable[[int, int], bool] | None = None) -> int:
        """Take what came back, or else what is in the ring; see ``Ring.try_get``. It is leased."""
        words = record.words
        while True:
            head = words.load(HEAD) if sure else 0  # [G1] acquire
            came_back = self.leases.look_for_returns(words, record.claim, limit, sure)
            if came_back:
                return DONE
            found = super().try_get(record, limit, sure, suits)
            if found != NOTHING or not sure:
                return found
            if came_back is None:
                return HELD  # there may be more; the caller minds its deadline before the next look
            if words.load(HEAD) == head:
                return found
            # What was given back behind all others waits for head, which has moved: it may be due.

    def finish_get(self, record: Record) -> None:
        """Move what is claimed into the lease slots of the claim, then withdraw; may be called again."""
        words, claim, leases = record.words, record.claim, self.leases
        while claim.begin < claim.end:
            mine = [held for held in claim.slots if held.position == claim.begin]
            if not mine and self.is_more(claim.begin):
                self.free_rest(words, claim.begin - 1, 2)  # of an item that is taken; only damage has left it there
            for held in mine:
                if not held.is_ours():
                    continue  # an interrupt has cut its giving up
                if leases.take(words, held, claim.begin, claim.end - claim.begin):
                    leases.hand_out(words, claim, held)
                else:
                    leases.give_up(words, claim, held)
            claim.begin += 1
        record.withdraw_get()  # [G7]
        if self._parking.is_armed(words, ITEMS):
            head = words.load(HEAD)  # no word fits a marked one
            if words.load(self._slot(head)) == head << STATE_BITS | FULL:
                self._parking.wake(words, ITEMS, 1)  # the chain: one wake may stand for several items

    def meet_given(self, record: Record, end: int, position: int, word: int, sure: bool) -> int | None:
        """Say what it means that the slot of a position has gone to a lease slot; see ``Ring.meet_given``."""
        words, lease = record.words, word >> GIVEN_LEASE_SHIFT
        can_be = is_given(word, position - self._capacity) and lease < self._lease_slots
        if not (can_be and self.leases.holder(words, lease)):
            if words.load(self._slot(position)) == word:
                self.corrupt(position, word)
            return None
        if not sure:
            return HELD
        found = self.leases.inherit(words, record.claim, word, for_put=end == TAIL)
        return found if found is None else DONE if found else HELD

    # ---- when a process dies ----------------------------------------------------------------------------------------

    def rescue_put(self, words: Words, position: int) -> bool:
        """Make a put absent; see ``Ring.rescue_put``. It may have been the last thing for which a join waits."""
        is_changed = super().rescue_put(words, position)
        if is_changed:
            self.leases.wake_idle(words)
        return is_changed

    def rescue_get(self, words: Words, position: int, claim: Claim) -> bool:
        """Adopt an item into a lease slot; see ``Ring.rescue_get``."""
        if self._has_getter(words, position):
            return False
        if not self.leases.reserve(words, claim, 1):
            return bool(claim.taken)
        held = claim.slots[0]
        self.leases.find_memory(words, claim, held, position, self._capacity)
        if not self.leases.take(words, held, position, self._capacity):
            self.leases.give_up(words, claim, held)
            return False
        if self.leases.is_dropped(words, claim, held):
            return False
        self.leases.hand_out(words, claim, held)
        words.add(ADOPTED_AT, 1)
        return True

    def adopt(self, record: Record) -> bool:
        """Look for an item that a dead getter had claimed, and take it over; see ``Ring.adopt``."""
        words = record.words
        while (position := self._find_orphan(words)) is not None:
            if self.rescue_get(words, position, record.claim):
                return True
            if self.is_adoptable(words, position):  # no lease slot is free
                return False
        return False

    def is_claimed_by_get(self, words: Words, position: int) -> bool:
        """Whether a get has claimed this position and not freed it."""
        if unmarked(words.load(HEAD)) <= position:
            return False
        word = words.load(self._slot(position))
        return word == position << STATE_BITS | FULL or is_given(word, position)

    def abandon(self, record: Record) -> bool:
        """End an operation that an exception has cut; see ``Ring.abandon``. Its lease slots come before any wait."""
        words, claim = record.words, record.claim
        if claim.begin < claim.end:
            self.finish_get(record)
        if words.load(record.at + PUT_END) or words.load(record.at + GET_END):
            words.store(record.at + ABANDONED, 1)  # [A1]
        self.leases.recover(words, claim)
        try:
            return super().abandon(record)
        except SharedMemoryFullError:  # for a lease slot more; the mark stands, so any other get may adopt what is left
            return False

    # ---- join -------------------------------------------------------------------------------------------------------

    def is_quiet(self, words: Words) -> bool:
        """Whether at some moment of this call every item that had been put was ended.

        Items move from the ring to the lease slots and never back, so a look in this direction misses none. What was
        put back moves from a dead slot to a lease slot, and comes before these; a letter that is put back behind the
        look has changed the version. In a queue that was stopped only those count that live processes have.
        """
        for _ in range(_LOOKS):
            if ending.is_stopped(words, self._mode):
                return not (self._is_any_taken(words) or self.leases.is_any_held(words))
            version = self.leases.version(words)  # [J1] seq, pairs with [J5][M6]
            tail = words.load(TAIL)  # [J1] seq, pairs with [J5]
            found = self._is_ring_finished(words, unmarked(tail))
            if found is None:
                continue
            if not found or self.leases.has_items(words):  # [J4] after [J3]
                return False
            # [J5] seq: nothing was claimed, and no letter was put back, since [J1]
            if words.load(TAIL) == tail and self.leases.version(words) == version:
                return True
        return False  # other processes keep putting; the caller minds its deadline

    def _is_ring_finished(self, words: Words, tail: int) -> bool | None:
        """Whether the ring holds nothing below a tail; None: look again."""
        # What is more than a lap below tail is finished: head may lie there if puts died and no get followed.
        for position in range(max(unmarked(words.load(HEAD)), tail - self._capacity), tail):
            word = words.load(self._slot(position))  # [J2] acquire, pairs with [P8][E6]
            if word == position << STATE_BITS | FREE:
                return None if self.rescue_put(words, position) else False
            if word == position << STATE_BITS | FULL or is_given(word, position):
                return False
        for index in self._participants.used(words):
            at = record_at(index)
            if words.load(at + GET_END):
                # [J3] acquire, pairs with [G4][E6]: what is claimed has its record until it has left the ring
                for position in self._announced_gets(words, at):
                    if self.is_claimed_by_get(words, position):
                        return False
        return True

    def _is_any_taken(self, words: Words) -> bool:
        """Whether a live get has claimed an item that has not left the ring."""
        return any(
            self._has_getter(words, position)
            for index in self._participants.used(words)
            for position in self._unfinished_gets(words, record_at(index))
        )

    # ---- the end of work --------------------------------------------------------------------------------------------

    def _at_the_end(self, words: Words) -> int:
        """Say what a get finds at the end of a ring whose tail is closed; see ``Ring._at_the_end``."""
        if self._is_any_unfinished(words):  # [D4]
            return HELD
        if self.leases.keep_the_end_away(words):  # [D5]
            return NOTHING
        self._parking.wake_all(words, ITEMS)
        return SHUT_DOWN

    def may_be_over(self, words: Words) -> bool:
        """Whether a get may find the end of a queue that was shut down; see ``Ring.may_be_over``."""
        return ending.is_stopped(words, self._mode) or not self.leases.keep_the_end_away(words)
