"""Lease slots: where an item lies from the moment a get takes it until its consumer says that it is done (labels E).

A lease slot is a lock with an owner, an heir and something inside. The process whose owner word is in ``holder`` owns
it, and nothing else writes it; ``count`` is 0 if it is empty, and n if its item was taken n times.

    EMPTY (0, 0) --E2--> RESERVED (me, 0) --E3 E4 E5 E6--> HELD (me, 1) --E8, E9--> EMPTY
                             |                                 |   ^
                             E9: given up                      E9  E2, E7: n+1
                             v                                 v   |
                           EMPTY                             RETURNED (0, n)

An item leaves the ring in two steps. Its word becomes GIVEN, which names the lease slot [E4]: so of several that try,
exactly one has it, and which one can be read after a death. Once the lease slot counts it [E5], the word is freed [E6].
The process that finds a dead holder takes the slot over and *settles* it: the ring's word at the slot's position tells
what the slot itself may not know yet.

``due`` of an item that was handed out is the owner word of its holder; a lease slot that is held for a moment has
another value there. What came back has ``due`` and ``delay``. Due 0: at once. Delay 0: due is a position of the ring,
and the item waits until head has got there. Otherwise due is a monotonic time, which is believed for ``delay`` ns at
most.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .._platform.atomic_words import Words
from . import ending
from .claim import Claim, Held, LeasedPayload, Payload
from .dead_letters import Letter
from .layout import (
    FULL,
    HEAD,
    IDLE,
    ITEMS,
    LEASE_COUNT,
    LEASE_DELAY,
    LEASE_DUE,
    LEASE_HOLDER,
    LEASE_POSITION,
    LEASE_SINCE,
    LEASE_WAITS_AT,
    LOOK_AT,
    REDELIVERED_AT,
    RETURNED_AT,
    STATE_BITS,
    TAIL,
    Geometry,
    unmarked,
)
from .lease_slots import LeaseSlots
from .parking import Parking
from .participants import Participants

_MOST_DELIVERIES: Final = (1 << 32) - 1  # at which the count stays


class Leases(LeaseSlots):
    """The lease slots of one segment, and what operations do to them; no method waits.

    Args:
        buffer: the mapped segment.
        geometry: its sizes, checked against the size of the mapping.
        participants: tell which processes live.
        parking: where waiters sleep.
    """

    def __init__(self, buffer: memoryview, geometry: Geometry, participants: Participants, parking: Parking) -> None:
        super().__init__(buffer, geometry, parking)
        self._participants = participants
        self._next = self._busy = 0  # where the search for a free slot, and the one for an item, begin

    # ---- taking a lease slot ----------------------------------------------------------------------------------------

    def _take_slot(self, words: Words, claim: Claim, index: int, owner: int, goes_back: bool = False) -> Held | None:
        """Try to take a lease slot from no process, or from a dead one; note it in the claim."""
        held = Held(index, self._participants.owner, goes_back, is_of_dead=bool(owner))
        claim.slots.append(held)
        # [E2] acq_rel, pairs with [E9]: all that the last holder has stored is visible. Noted with no step in between.
        words.cas_noted(self._head(index) + LEASE_HOLDER, owner, held.owner, held.won)
        if not held.won[0]:
            claim.slots.remove(held)
            return None
        if owner:
            words.announce(self._head(index) + LEASE_DUE, 0)  # what a dead process had is due at once
        return held

    def reserve(self, words: Words, claim: Claim, wanted: int) -> int:
        """Take up to ``wanted`` free lease slots into the ``slots`` of the claim, which are empty before that.

        An item that came back just there is taken instead: it goes to ``taken``, and no slot is reserved.

        Returns:
            How many slots are reserved.
        """
        number, start = self._ready(words), self._next
        for step in range(number):
            index = (start + step) % number
            head = self._head(index)
            if words.peek(head + LEASE_HOLDER) or words.peek(head + LEASE_COUNT):  # [E1] hints, which [E2] confirms
                continue
            held = self._take_slot(words, claim, index, 0)
            if held is None:
                continue
            if not words.load(head + LEASE_COUNT):
                self._next = (index + 1) % number
                if len(claim.slots) == wanted:
                    break
            elif self.is_dropped(words, claim, held):
                continue
            elif self.due(words, head) is None:
                self.give_up(words, claim, held)
            else:
                self.give_up_reserved(words, claim, but=held)
                self.hand_out_again(words, claim, held)
                return 0
        if not claim.slots and self.growth is not None and self.growth.add_leases(words):
            return self.reserve(words, claim, wanted)
        return len(claim.slots)

    def reserve_run(self, words: Words, claim: Claim, items: Sequence[int], sure: bool) -> int:
        """Reserve lease slots for items in a row; return the end of those that have one.

        Args:
            words: the caller's access.
            claim: to which the lease slots go.
            items: where each item begins, and where the last one ends.
            sure: whether the caller is about to find nothing.
        """
        number = self.reserve(words, claim, len(items) - 1)
        for i, held in enumerate(claim.slots):
            held.position = items[i]
            self.find_memory(words, claim, held, items[i], items[i + 1] - items[i])
        if sure and not number and not claim.taken:
            words.add(LEASE_WAITS_AT, 1)
        return items[number]

    def find_memory(self, words: Words, claim: Claim, held: Held, position: int, most: int) -> None:
        """Make sure that a reserved lease slot has memory for an item of at most so many slots.

        Raises:
            SharedMemoryFullError: there is none; no lease slot is reserved any more.
        """
        if self.growth is not None and not self.growth.reserve_lease(held.index, self.measure(position, most)[0]):
            self.give_up_reserved(words, claim)
            self.growth.refuse()

    def give_up(self, words: Words, claim: Claim, held: Held) -> None:
        """Give a lease slot up; if an item is in it, it has come back."""
        came_back = words.load(self._head(held.index) + LEASE_COUNT)
        self._leave(words, held)
        if came_back:
            self._parking.say_returned(words)
        claim.slots.remove(held)

    def give_up_reserved(self, words: Words, claim: Claim, but: Held | None = None) -> None:
        """Give up all lease slots of the claim, but for one perhaps."""
        for held in list(claim.slots):
            if held is not but:
                self.give_up(words, claim, held)

    def _leave(self, words: Words, held: Held) -> None:
        # [E9] release, after [E8]: a newcomer sees the end, or the returned item; pairs with [E1][E2][J4]. seq for the
        # wakes, pairs with [W3].
        words.cas_noted(self._head(held.index) + LEASE_HOLDER, held.owner, 0, held.left)
        if self._parking.is_armed(words, ITEMS):
            head = words.load(HEAD)
            if ending.is_closed(words):
                self._parking.wake_all(words, ITEMS)  # they may wait for just this end [D5]
            elif words.load(self._slot(head)) == head << STATE_BITS | FULL or self._is_any_put_back(words):
                # otherwise a getter would wake in vain
                self._parking.wake(words, ITEMS, 1)
        self.wake_idle(words)

    def _is_any_put_back(self, words: Words) -> bool:
        """Whether an item may wait in a dead slot for a lease slot."""
        return self.dead_letters is not None and bool(words.peek(RETURNED_AT) & 1)

    def is_dropped(self, words: Words, claim: Claim, held: Held) -> bool:
        """Drop the item of a lease slot that this operation has just taken, if the queue was stopped meanwhile."""
        # [D6] seq, after [E2]; pairs with [D7]: either this sees the mark, or a join after it sees the lease slot
        if not ending.is_stopped(words, self._geometry.mode):
            return False
        words.announce(self._head(held.index) + LEASE_COUNT, 0)  # [E8]
        self.give_up(words, claim, held)
        return True

    # ---- taking an item out of the ring -----------------------------------------------------------------------------

    def hand_out(self, words: Words, claim: Claim, held: Held) -> None:
        """Let the item of a lease slot be the operation's: it goes to the ``taken`` of the claim."""
        head = self._head(held.index)
        held.position = words.load(head + LEASE_POSITION)
        held.deliveries = words.load(head + LEASE_COUNT)
        if not (claim.taken and _held_of(claim.taken[-1]) is held):  # an interrupt may have come between
            claim.taken.append(self._read(held))
        claim.slots.remove(held)

    def hand_out_again(self, words: Words, claim: Claim, held: Held) -> None:
        held.is_of_dead = False  # before [E7]: from there on the count is of a delivery that has not been made
        head = self._head(held.index)
        count = words.load(head + LEASE_COUNT)
        # [E7] relaxed, before anything of the item is looked at: to deserialise it may kill
        words.announce(head + LEASE_COUNT, min(count + 1, _MOST_DELIVERIES))
        words.announce(head + LEASE_SINCE, self._system.now())
        words.announce(head + LEASE_DUE, held.owner)
        words.add(REDELIVERED_AT, 1)
        self.hand_out(words, claim, held)

    def holder(self, words: Words, index: int) -> int:
        """Return the owner word of the process that holds a lease slot, or 0."""
        return words.load(self._head(index) + LEASE_HOLDER)  # [E1] acquire

    def due(self, words: Words, head: int) -> int | None:
        """Return what the ``due`` of a returned item says, if it may be taken now; otherwise None."""
        due = words.load(head + LEASE_DUE)
        if not due:
            return due
        delay = words.load(head + LEASE_DELAY)
        if delay:
            now = self._system.now()
            return None if now < due <= now + delay else due  # a clock of elsewhere makes it due
        return None if unmarked(words.load(HEAD)) < due <= unmarked(words.load(TAIL)) else due

    # ---- the end of a lease -----------------------------------------------------------------------------------------

    def done(self, words: Words, held: Held) -> bool:
        """End a lease and its item; return False if it is not this process's any more."""
        if not self._is_as_known(words, held):
            return False
        words.announce(self._head(held.index) + LEASE_COUNT, 0)  # [E8] release, before [E9]; pairs with [J4]
        self._leave(words, held)
        return True

    def give_back(
        self, words: Words, held: Held, delay: int = 0, last: bool = False, was_delivered: bool = True
    ) -> bool:
        """End a lease and give its item back; return False if it is not this process's any more.

        If the queue was stopped, the item is dropped. After its last delivery it becomes a dead letter, if there is
        room; otherwise it goes last.

        Args:
            words: the caller's access.
            held: the lease.
            delay: ns that have to pass until the item is handed out again.
            last: whether all that is in the ring now goes first.
            was_delivered: whether a caller has had the item.
        """
        if not self._is_as_known(words, held):
            return False
        if ending.is_stopped(words, self._geometry.mode):
            return self.done(words, held)
        head = self._head(held.index)
        if was_delivered and self.is_spent(held.deliveries):
            return self.bury(words, held)
        due = self._system.now() + delay if delay else unmarked(words.load(TAIL)) if last else 0
        words.announce(head + LEASE_DELAY, delay)
        words.announce(head + LEASE_DUE, due)
        self._leave(words, held)
        self._parking.say_returned(words)
        while delay and words.load(LOOK_AT) > due:
            words.cas(LOOK_AT, words.load(LOOK_AT), due)
        return True

    def is_spent(self, deliveries: int) -> bool:
        """Whether an item that was taken so often is not delivered once more."""
        return self.dead_letters is not None and deliveries >= self._geometry.max_deliveries

    def bury(self, words: Words, held: Held) -> bool:
        """Make the item of a lease slot, which comes back, a dead letter; if there is no room, it goes last instead.

        Returns:
            True.
        """
        assert self.dead_letters is not None
        if self.dead_letters.bury(words, held.index):
            self._leave(words, held)
        else:
            self.leave_returned(words, held, unmarked(words.load(TAIL)))
        return True

    def _bury_of_dead(self, words: Words, claim: Claim, held: Held) -> None:
        self.bury(words, held)
        claim.slots.remove(held)

    def letters(self, words: Words, claim: Claim) -> list[Letter]:
        """Return the dead letters, the oldest items first, also those of dead processes that did not end the burial."""
        if self.dead_letters is None:
            return []
        for index in self.dead_letters.unfinished(words):
            owner = self.holder(words, index)
            if not owner or self._participants.is_alive(owner):
                continue
            held = self._take_slot(words, claim, index, owner, goes_back=True)
            if held is None:
                continue
            count = self.settle(words, held)
            if self.is_dropped(words, claim, held):
                continue
            if self.is_spent(count):  # a further item has come into the lease slot since its burial was seen
                self._bury_of_dead(words, claim, held)
            else:
                self.give_up(words, claim, held)
        return self.dead_letters.letters(words)

    def leave_returned(self, words: Words, held: Held, due: int) -> None:
        """Leave a lease slot, so that its item is handed out once more when head has got to ``due``; 0: at once."""
        head = self._head(held.index)
        words.announce(head + LEASE_DELAY, 0)
        words.announce(head + LEASE_DUE, due)
        self._leave(words, held)
        self._parking.say_returned(words)

    def _is_as_known(self, words: Words, held: Held) -> bool:
        head = self._head(held.index)
        known = held.owner, held.position, held.deliveries
        return known == tuple(words.load(head + at) for at in (LEASE_HOLDER, LEASE_POSITION, LEASE_COUNT))

    def wake_idle(self, words: Words) -> None:
        """Wake those that wait for the end of all items, if it may have come."""
        if self._parking.is_armed(words, IDLE) and (
            ending.is_stopped(words, self._geometry.mode)
            or (unmarked(words.load(HEAD)) >= unmarked(words.load(TAIL)) and not self.has_items(words))
        ):
            self._parking.wake_all(words, IDLE)

    def has_items(self, words: Words) -> bool:
        """Whether any lease slot has an item; begins where one was found last, as each end of a lease may ask this.

        What was put back comes first: it moves from a dead slot to a lease slot.
        """
        if self.dead_letters is not None and self.dead_letters.has_items(words):
            return True
        ready, first = self._ready(words), self._busy
        for step in range(ready):
            head = self._head((first + step) % ready)
            words.load(head + LEASE_HOLDER)  # [J4] seq, before the count; pairs with [E9]
            if words.load(head + LEASE_COUNT):  # [J4] acquire, pairs with [E5][E8]
                self._busy = (first + step) % ready
                return True
        return False

    # ---- the end of work --------------------------------------------------------------------------------------------

    def version(self, words: Words) -> int:
        """Return what changes whenever a letter is put back."""
        return words.load(RETURNED_AT) >> 1 if self.dead_letters is not None else 0

    def keep_the_end_away(self, words: Words) -> bool:
        """Whether an item may come out of a lease slot, for which a get of this process has to wait at the end.

        A process that has an item itself does not wait: two that collect several before they process them would wait
        for each other.
        """
        found = self.dead_letters is not None and self.dead_letters.has_items(words)  # [D5] before the lease slots
        for head in map(self._head, range(self._ready(words))):
            holder = words.load(head + LEASE_HOLDER)  # [D5] after [D3] and [D4], as [J4]
            count = words.load(head + LEASE_COUNT)
            if holder == self._participants.owner and count and words.load(head + LEASE_DUE) == holder:
                return False  # it was handed out, and is not held for a moment
            found = found or bool(count) or holder not in (0, self._participants.owner)
        return found

    def is_any_held(self, words: Words) -> bool:
        """Whether a live process holds a lease slot, of a queue that was stopped."""
        owners = {words.load(head + LEASE_HOLDER) for head in map(self._head, range(self._ready(words)))}
        return any(map(self._participants.is_alive, owners - {0}))

    # ---- interrupts -------------------------------------------------------------------------------------------------

    def recover(self, words: Words, claim: Claim) -> None:
        """Decide each lease slot of a claim that an exception has cut; may be called again.

        What has an item is the operation's, or goes back; the rest is given up. A lease that was being ended is ended,
        or is where it was.
        """
        for held in list(claim.slots):
            if not held.is_ours() or held in map(_held_of, claim.taken):
                claim.slots.remove(held)
            elif (count := self.settle(words, held)) and held.is_of_dead and self.is_spent(count):
                self._bury_of_dead(words, claim, held)
            elif not count or held.goes_back:
                self.give_up(words, claim, held)
            else:
                self.hand_out_again(words, claim, held)
        for held in list(claim.ending):
            if not held.left:
                if self.settle(words, held):  # it has not happened
                    words.announce(self._head(held.index) + LEASE_DUE, held.owner)
                    held.home[held] = held
                else:
                    self._leave(words, held)
            if held.left and held.left[0]:
                self._parking.say_returned(words)  # it may have been given back
                self.wake_idle(words)
            claim.ending.remove(held)


def _held_of(payload: Payload) -> Held | None:
    return payload.held if isinstance(payload, LeasedPayload) else None
