"""What came back, and what dead holders of lease slots have left: gets take that before what is in the ring.

What comes back after the most deliveries that the queue allows goes to the dead letters in place of a further one. That
is decided when it comes back: by the process that gives it back, or by the heir of a dead holder. So an item that came
back, and is not held, is delivered.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from .._platform.atomic_words import Words
from .claim import Claim, Held
from .layout import (
    FAR_AHEAD,
    GIVEN_LEASE_SHIFT,
    LEASE_COUNT,
    LEASE_DELAY,
    LEASE_DUE,
    LEASE_HOLDER,
    LEASE_POSITION,
    LEASE_SINCE,
    LEASE_WAITS_AT,
    LOOK_AT,
    LOOK_EVERY,
    LOOK_LATEST,
    RETURNED_AT,
    WORD_MASK,
)
from .leases import Leases

_LOOK_SHARE: Final = 50  # a look for the dead comes after at least this many times what the last one took
_MOST_SPENT: Final = 16  # items that one look takes from the dead and does not hand out


class _Candidate(NamedTuple):
    """A lease slot whose item may be handed out again."""

    position: int
    lease: int
    owner: int  # 0, or that of a dead process
    due: int


class ReturningLeases(Leases):
    """The lease slots of one segment, and what comes back to them; see ``Leases``."""

    def look_for_returns(self, words: Words, claim: Claim, wanted: int, sure: bool) -> bool | None:
        """Take items that came back, and those of dead holders, into the ``taken`` of the claim, the oldest first.

        What was put back comes after these.

        A look at all lease slots is made if one may have come back, if it is time to look for the dead, or if ``sure``:
        the caller is about to find nothing.

        Returns:
            Whether there was any. None: items of the dead have become dead letters, or have gone last; look again.
        """
        returned, look_at = words.peek(RETURNED_AT), words.peek(LOOK_AT)
        now = self._system.now()
        is_time = not now < look_at <= now + FAR_AHEAD
        if not (sure or returned & 1 or is_time):
            return False
        candidates, earliest = self._candidates(words, is_time)
        rest = list(candidates)
        spent = 0
        while rest and len(claim.taken) < wanted and spent < _MOST_SPENT:
            spent += self._take_candidate(words, claim, rest.pop(0))
        are_all_in = self.dead_letters is None or self._take_put_back(words, claim, wanted, sure)
        if is_time and not [one for one in rest if one.owner]:
            took = self._system.now() - now
            words.cas(LOOK_AT, look_at, min(earliest, now + min(max(LOOK_EVERY, _LOOK_SHARE * took), LOOK_LATEST)))
        if returned & 1 and not rest and are_all_in:
            words.cas(RETURNED_AT, returned, returned & ~1)  # a release since then has another version, and stays
        return bool(claim.taken) or (None if spent else False)

    def _candidates(self, words: Words, for_dead: bool) -> tuple[list[_Candidate], int]:
        """Return what may be handed out, in order, and the time at which the next of the others is due."""
        found: list[_Candidate] = []
        behind: list[tuple[int, _Candidate]] = []  # waits for head, by the position
        earliest = WORD_MASK
        alive = {0: True, self._participants.owner: True}  # verdicts of this look
        for index in range(self._ready(words)):
            head = self._head(index)
            owner = words.load(head + LEASE_HOLDER)  # [E1] acquire, pairs with [E9]
            if owner:
                if for_dead and owner not in alive:
                    alive[owner] = self._participants.is_alive(owner)
                if not alive.get(owner, True):
                    found.append(_Candidate(words.load(head + LEASE_POSITION), index, owner, 0))
            elif words.load(head + LEASE_COUNT):  # [E1] acquire
                one = _Candidate(words.load(head + LEASE_POSITION), index, 0, words.load(head + LEASE_DUE))
                if self.due(words, head) is not None:
                    found.append(one)
                elif words.load(head + LEASE_DELAY):
                    earliest = min(earliest, one.due)
                else:
                    behind.append((one.due, one))
        if len(behind) == self._geometry.leases:  # head cannot move: all lease slots wait for it
            found.append(min(behind)[1])
        return sorted(found), earliest

    def _take_candidate(self, words: Words, claim: Claim, one: _Candidate) -> bool:
        """Take an item that may be handed out again; return whether it had its last delivery, and was not taken."""
        held = self._take_slot(words, claim, one.lease, one.owner)
        if held is None:
            return False
        count = self.settle(words, held)
        if self.is_dropped(words, claim, held):
            return False
        if one.owner and self.is_spent(count):
            self._bury_of_dead(words, claim, held)
            return True
        if not count or (not one.owner and words.load(self._head(one.lease) + LEASE_DUE) != one.due):
            self.give_up(words, claim, held)
        else:
            self.hand_out_again(words, claim, held)
        return False

    def _take_put_back(self, words: Words, claim: Claim, wanted: int, sure: bool) -> bool:
        """Move items that were put back into lease slots, and take them; return whether none is left behind."""
        assert self.dead_letters is not None
        waiting = self.dead_letters.waiting(words)
        while waiting and len(claim.taken) < wanted:
            if not self.reserve(words, claim, 1):
                if sure and not claim.taken:
                    words.add(LEASE_WAITS_AT, 1)
                break
            held, (_, index, word) = claim.slots[0], waiting.pop(0)
            if not self._take_from_dead_slot(words, held, index, word):
                self.give_up(words, claim, held)
            elif not self.is_dropped(words, claim, held):
                self.hand_out(words, claim, held)
        return not waiting

    def _take_from_dead_slot(self, words: Words, held: Held, index: int, word: int) -> bool:
        assert self.dead_letters is not None
        head = self._head(held.index)
        words.announce(head + LEASE_SINCE, self._system.now())
        words.announce(head + LEASE_DUE, held.owner)
        return self.dead_letters.take(words, index, word, held.index)

    def inherit(self, words: Words, claim: Claim, word: int, for_put: bool) -> bool | None:
        """Settle the lease slot that a GIVEN word names, if its holder is dead; a get then has its item.

        Returns:
            False: the holder lives. True: the item is in the ``taken`` of the claim. None: look again.
        """
        index = word >> GIVEN_LEASE_SHIFT
        owner = self.holder(words, index)
        if not owner:
            return None
        if self._participants.is_alive(owner):
            return False
        held = self._take_slot(words, claim, index, owner, for_put)
        if held is None:
            return None
        count = self.settle(words, held)
        if self.is_dropped(words, claim, held):
            return None
        if self.is_spent(count):
            self._bury_of_dead(words, claim, held)
            return None
        if not count or for_put:
            self.give_up(words, claim, held)
            return None
        self.hand_out_again(words, claim, held)
        return True
