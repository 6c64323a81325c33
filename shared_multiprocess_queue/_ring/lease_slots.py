"""What lies in a lease slot, and how an item gets there from its slots in the ring; ``leases`` says when."""

from __future__ import annotations

import struct
from typing import Final

from .._platform.atomic_words import Words
from .claim import CORRUPT, Held, LeasedPayload
from .dead_letters import DeadLetters
from .growth import Growth
from .large import Items
from .layout import (
    FREE,
    FULL,
    LEASE_COUNT,
    LEASE_DUE,
    LEASE_HEAD_SIZE,
    LEASE_LENGTH,
    LEASE_META,
    LEASE_POSITION,
    LEASE_SINCE,
    SPACE,
    STATE_BITS,
    TAG_BITS,
    TAG_MASK,
    WORD_MASK,
    Geometry,
    given_word,
)
from .parking import Parking

_LENGTH_AND_META: Final = struct.Struct("=II")
_CUT: Final = (1 << 32) - 1  # the length that a lease slot states of an item whose slot stated what cannot be


class LeaseSlots(Items):
    """The lease slots of one segment, and the items in them.

    Args:
        buffer: the mapped segment.
        geometry: its sizes, checked against the size of the mapping.
        parking: where waiters sleep.

    Attributes:
        growth: gives memory as it is used; None: all was reserved at creation.
        dead_letters: the dead slots; None if the queue has none.
    """

    def __init__(self, buffer: memoryview, geometry: Geometry, parking: Parking) -> None:
        super().__init__(buffer, geometry)
        self._geometry = geometry
        self._parking = parking
        self._system = parking.system
        self.growth: Growth | None = None
        self.dead_letters = DeadLetters(buffer, geometry, parking) if geometry.dead else None

    def release(self) -> None:
        """Let go of the memory; may be called again."""
        super().release()
        if self.dead_letters is not None:
            self.dead_letters.release()

    def _ready(self, words: Words) -> int:
        return self._geometry.leases if self.growth is None else self.growth.leases_ready(words)

    def _head(self, index: int) -> int:
        return self._geometry.lease_heads + index * LEASE_HEAD_SIZE

    def take(self, words: Words, held: Held, position: int, most: int) -> bool:
        """Move the item of a FULL position into a lease slot, or go on with that; False: another operation has it.

        Args:
            words: the caller's access.
            held: the lease slot.
            position: of the first slot of the item.
            most: number of slots that it can take at most.
        """
        slot = self._slot(position)
        full = position << STATE_BITS | FULL
        if words.load(slot) == full:
            self._copy(words, held, position, most)
            # [E4] acq_rel, after the copy; pairs with [E6][S4]. The word says which lease slot has the item.
            words.cas(slot, full, given_word(position, held.index))
        return self.settle(words, held) > 0

    def _copy(self, words: Words, held: Held, position: int, most: int) -> None:
        """Copy an item from its slots; what they say is not believed."""
        head = self._head(held.index)
        length, tag = self.measure(position, most)
        at = self._payload(held.index)
        # [E3] relaxed, before [E4]: only the holder reads it, or an heir after [E2]
        for part in self.parts(position, length):
            self._bytes[at : at + len(part)] = part
            at += len(part)
        stated = (_CUT, 0) if tag == CORRUPT else (length, tag | self.place_in_put(position) << TAG_BITS)
        self._bytes[head + LEASE_LENGTH : head + LEASE_META + 4] = _LENGTH_AND_META.pack(*stated)
        words.announce(head + LEASE_SINCE, self._system.now())
        words.announce(head + LEASE_DUE, held.owner)
        words.announce(head + LEASE_POSITION, position)  # [E3]

    def _payload(self, index: int) -> int:
        return self._geometry.lease_payloads + index * self._geometry.lease_stride

    def settle(self, words: Words, held: Held) -> int:
        """Learn from the ring, and from a dead slot, what a lease slot does not know yet; return its count."""
        head = self._head(held.index)
        position = words.load(head + LEASE_POSITION)
        slot = self._slot(position)
        given = given_word(position, held.index)
        if words.load(slot) == given:
            slots = self._slots_of_lease(head)
            if slots > 1:
                self.free_rest(words, position, slots)
            if not words.load(head + LEASE_COUNT):
                words.announce(head + LEASE_COUNT, 1)  # [E5] release, before [E6]; pairs with [J4]
            # [E6] release for [E5] and for the copy; pairs with [E4][P2][J2][J3]. seq for the wake, pairs with [W3].
            if words.cas(slot, given, (position + self._geometry.capacity << STATE_BITS | FREE) & WORD_MASK):
                self._parking.wake(words, SPACE, slots)
        if self.dead_letters is not None:
            self.dead_letters.settle(words, held.index)
        return words.load(head + LEASE_COUNT)

    def _slots_of_lease(self, head: int) -> int:
        """Return how many slots the item of a lease slot has had in the ring."""
        length, _ = _LENGTH_AND_META.unpack(self._bytes[head + LEASE_LENGTH : head + LEASE_META + 4])
        return self.slots_of(length) if length <= self._max_item_size else 1

    def _read(self, held: Held) -> LeasedPayload:
        head, at = self._head(held.index), self._payload(held.index)
        length, meta = _LENGTH_AND_META.unpack(self._bytes[head + LEASE_LENGTH : head + LEASE_META + 4])
        tag = meta & TAG_MASK
        if length > self._max_item_size:
            length, tag = self._max_item_size, CORRUPT
        payload = LeasedPayload((bytes(self._bytes[at : at + length]), tag))
        payload.held = held
        return payload
