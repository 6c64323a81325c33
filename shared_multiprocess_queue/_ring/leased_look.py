"""A look at a queue with leases: what came back counts as there, what is being processed does not.

Dead letters are not there, either, until they are put back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .._platform.processes import Identity
from . import ending
from .layout import (
    DEAD_BURIED,
    DEAD_BURYING,
    DEAD_GIVEN,
    DEAD_HEAD_SIZE,
    DEAD_LEASE_MASK,
    DEAD_LEASE_SHIFT,
    DEAD_LETTER,
    DEAD_LETTERS_AT,
    DEAD_OFFERED,
    DEAD_PUT_BACK,
    DEAD_WORD,
    GIVEN,
    GIVEN_LEASE_SHIFT,
    HEAD,
    LEASE_COUNT,
    LEASE_DELAY,
    LEASE_DUE,
    LEASE_HEAD_SIZE,
    LEASE_HOLDER,
    LEASE_LINK,
    LEASE_POSITION,
    LEASE_SINCE,
    LEASES_READY_AT,
    STATE_MASK,
    TAIL,
    WORD_MASK,
    dead_state,
    given_word,
    is_given,
    names_lease,
    parse_owner,
    unmarked,
)
from .seen import Blocker, Leased, Participant
from .snapshot import ATTEMPTS, Look


class LeasedLook(Look):
    """One look at a queue with leases; see ``Look``."""

    __slots__ = ()

    def _heads(self) -> range:
        first, most = self.geometry.lease_heads, self.geometry.leases
        ready = min(self.load(LEASES_READY_AT) or most, most)
        return range(first, first + ready * LEASE_HEAD_SIZE, LEASE_HEAD_SIZE)

    def _is_left(self, holder: int) -> bool:
        """Whether no live process holds a lease slot."""
        return holder == 0 or self.liveness(holder) == "dead"

    def _has_item(self, index: int, head: int) -> bool:
        link = self.load(head + LEASE_LINK)
        if 0 < link <= self.geometry.dead:
            word = self.load(self._dead_head(link - 1) + DEAD_WORD)
            if names_lease(word, index) and dead_state(word) != DEAD_BURYING:  # a move that has not ended
                return dead_state(word) == DEAD_GIVEN or not self._is_letter(word)
        position = self.load(head + LEASE_POSITION)
        return bool(self.load(head + LEASE_COUNT)) or self.load(self._slot(position)) == given_word(position, index)

    def _dead_head(self, index: int) -> int:
        return self.geometry.dead_heads + index * DEAD_HEAD_SIZE

    def _dead_slots_in(self, *states: int) -> int:
        """Return how many dead slots are in one of these states."""
        words = (self.load(self._dead_head(index) + DEAD_WORD) for index in range(self.geometry.dead))
        return sum(dead_state(word) in states for word in words)

    def _is_letter(self, word: int) -> bool:
        """Whether an item that is buried is a letter: no live process has it any more."""
        lease = word >> DEAD_LEASE_SHIFT & DEAD_LEASE_MASK
        if lease >= self.geometry.leases:  # damage
            return False
        head = self.geometry.lease_heads + lease * LEASE_HEAD_SIZE
        return self._is_left(self.load(head + LEASE_HOLDER)) or not self.load(head + LEASE_COUNT)

    def _not_counted(self) -> int:
        """Return how many letters there are of processes that died before they counted them."""
        words = (self.load(self._dead_head(index) + DEAD_WORD) for index in range(self.geometry.dead))
        return sum(map(self._is_letter, (word for word in words if dead_state(word) == DEAD_BURIED)))

    def dead_letters(self) -> int:
        """Return how many dead letters there are."""
        return self._dead_slots_in(DEAD_LETTER) + self._not_counted()

    def dead_letters_total(self) -> int:
        """Return how many items became dead letters."""
        found = 0
        for _ in range(ATTEMPTS):
            counted = self.load(DEAD_LETTERS_AT)
            found = counted + self._not_counted()
            if self.load(DEAD_LETTERS_AT) == counted:  # otherwise another process has counted one in between
                break
        return found

    def _is_stopped(self) -> bool:
        return ending.is_stopped(self, self.geometry.mode)

    def items(self) -> int:
        """Return how many items are there: in the ring, or come back, due or not, or put back."""
        if self._is_stopped():
            return 0
        return super().items() + self._dead_slots_in(DEAD_OFFERED, DEAD_PUT_BACK) + len(self.came_back())

    def came_back(self) -> list[int]:
        """Return the heads of the lease slots whose item no live process has."""
        return [
            head
            for index, head in enumerate(self._heads())
            if self._is_left(self.load(head + LEASE_HOLDER)) and self._has_item(index, head)
        ]

    def is_empty(self) -> bool:
        """Whether a get would find nothing, though it looked for the dead, and for what came back."""
        if self._is_stopped():
            return True
        if not super().is_empty() or self._dead_slots_in(DEAD_OFFERED, DEAD_PUT_BACK):
            return False
        # The ring is empty, so what waits for head does not wait.
        return not any(self._is_due(head) or not self.load(head + LEASE_DELAY) for head in self.came_back())

    def _is_due(self, head: int) -> bool:
        due, delay = self.load(head + LEASE_DUE), self.load(head + LEASE_DELAY)
        if self.load(head + LEASE_HOLDER) or not due:  # what a dead process had is due at once
            return True
        if delay:
            now = self._system.now()
            return not now < due <= now + delay
        return not unmarked(self.load(HEAD)) < due <= unmarked(self.load(TAIL))

    def is_full(self) -> bool:
        """Whether a put would find no room, though it looked for the dead."""
        before = unmarked(self.load(TAIL)) - self.geometry.capacity
        word = self.load(self._slot(before))
        lease = word >> GIVEN_LEASE_SHIFT
        heads = self._heads()
        if is_given(word, before) and lease < len(heads):
            holder = self.load(heads[lease] + LEASE_HOLDER)
            if self._is_left(holder) and self.load(self._slot(before)) == word:
                return False
        return super().is_full()

    def leased(self) -> tuple[Leased, ...]:
        """Return the items that live processes have."""
        found = []
        for index, head in enumerate(self._heads()):
            holder = self.load(head + LEASE_HOLDER)
            if not self._is_left(holder) and self._has_item(index, head):
                place = self.load(head + LEASE_POSITION), self.load(head + LEASE_COUNT), self.load(head + LEASE_SINCE)
                if self.load(head + LEASE_HOLDER) == holder:
                    found.append(Leased(Identity(*parse_owner(holder)), *place))
        return tuple(found)

    def blockers(self, participants: Iterable[Participant], is_lock_held: bool) -> Iterator[Blocker]:
        """Yield the live processes that hold what others need; see ``Look.blockers``.

        Also one that is between taking an item into its lease slot and freeing the slot of the ring.
        """
        yield from super().blockers(participants, is_lock_held)
        for index, head in enumerate(self._heads()):
            holder = self.load(head + LEASE_HOLDER)
            position = self.load(head + LEASE_POSITION)
            if not self._is_left(holder) and self.load(self._slot(position)) == given_word(position, index):
                yield Blocker(Identity(*parse_owner(holder)), position, "get")

    def _is_wrong(self, position: int, word: int, tail: int) -> bool:
        if word & STATE_MASK == GIVEN:
            return word >> GIVEN_LEASE_SHIFT >= self.geometry.leases or not (
                is_given(word, position) or is_given(word, (position - self.geometry.capacity) & WORD_MASK)
            )
        return super()._is_wrong(position, word, tail)
