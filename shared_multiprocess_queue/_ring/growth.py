"""Slots that get their number, and memory, when tail comes to them for the first time.

A queue that is made so takes memory as it is used: its segment is sparse. The word of a slot that was never used is 0,
which no put can claim at a position other than 0. A put that meets it gives numbers to that slot and to some behind it,
and begins again. At every moment the slots that have a number have memory, and so does the first slot without one. An
operation looks at no slot beyond that one, so it never touches memory that is not there.

Numbering is idempotent: memory is reserved, then each word goes from 0 to its number by a compare-and-swap, then the
count of numbered slots is stored. No word but that of slot 0 is ever 0 again. So any number of operations may do this
at once, and any may die in it.

A lease slot gets memory when a get finds no other that is free. Those that have it are counted, and no operation looks
at another. It is memory for AT_ONCE bytes, too; that for a larger item is reserved before the get claims it.

A number comes with memory for AT_ONCE bytes of payload. What an item has beyond that in a slot gets its memory by the
put that writes it, between claim and write. If there is none, the put ends as a dead one does.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NoReturn

from .._platform.atomic_words import Reader, Words
from .._platform.shared_memory import Segment
from ..errors import SharedMemoryFullError
from .claim import Payload
from .layout import (
    AT_ONCE,
    CAPACITY_AT,
    FREE,
    LEASE_HEAD_SIZE,
    LEASES_READY_AT,
    NUMBERED_AT,
    SLOT_PAYLOAD,
    SLOTS_START,
    STATE_BITS,
    Geometry,
)

_STEP: Final = 64  # slots that are numbered at once
_LEASE_STEP: Final = 4


def is_fresh(words: Reader, position: int, word: int) -> bool:
    """Whether the slot of a position, which holds ``word``, was never used and waits for its number."""
    return not word and 0 < position < words.load(CAPACITY_AT) and words.load(NUMBERED_AT) != 0


def size_at_first(geometry: Geometry) -> int:
    """Return how many bytes of a new segment, from its start, must have memory before ``Growth.begin``."""
    return SLOTS_START + SLOT_PAYLOAD + min(AT_ONCE, geometry.item_size)


class Growth:
    """The memory of one segment.

    Args:
        segment: the mapped segment.
        geometry: its sizes.

    Attributes:
        step: how many slots are numbered at once, or more if a batch needs more.
        lease_step: how many lease slots get memory at once, or a quarter of those that have it.
    """

    def __init__(self, segment: Segment, geometry: Geometry) -> None:
        self._segment = segment
        self._geometry = geometry
        self._capacity = geometry.capacity
        self._stride = geometry.stride
        self._item_size = geometry.item_size
        self.step = _STEP
        self.lease_step = _LEASE_STEP

    def at_once(self, words: Reader) -> int:
        """Return the bytes of an item for which each slot that has a number has memory.

        If memory is taken as it is used, they are fewer than ``item_size``; by that the engines know it.
        """
        return min(AT_ONCE, self._item_size - 1) if words.load(NUMBERED_AT) else self._item_size

    def begin(self, words: Words) -> None:
        """Prepare a new segment, whose header and first slot have memory."""
        self._reserve_slot(1 % self._capacity)
        if self._geometry.leases:
            self._reserve_leases(0, 1)
            words.store(LEASES_READY_AT, 1)
        words.store(NUMBERED_AT, 1)

    def number(self, words: Words, position: int, count: int) -> bool:
        """Number the slots of a position in the first lap and of those behind it.

        Args:
            words: the caller's access; it announces nothing.
            position: whose slot was found without a number.
            count: number of positions that the caller wants to claim.

        Returns:
            False: the slot had its number, and has lost it.

        Raises:
            SharedMemoryFullError: there is no memory for the next slot.
        """
        numbered = words.load(NUMBERED_AT)
        if position < numbered:
            return words.load(self._slot(position)) != 0
        last = self._reserve_slots(numbered, min(max(numbered + self.step, position + count), self._capacity - 1))
        end = self._capacity if last == self._capacity - 1 else last
        for index in range(numbered, end):
            words.cas(self._slot(index), 0, index << STATE_BITS | FREE)
        words.cas(NUMBERED_AT, numbered, end)
        return True

    def leases_ready(self, words: Reader) -> int:
        """Return how many lease slots have memory; no other was ever taken."""
        most = self._geometry.leases
        return min(words.load(LEASES_READY_AT) or most, most)

    def add_leases(self, words: Words) -> bool:
        """Give memory to more lease slots; return whether there are more by now.

        Raises:
            SharedMemoryFullError: there is none for the next one.
        """
        ready, most = self.leases_ready(words), self._geometry.leases
        if ready == most:
            return False
        end = min(ready + max(self.lease_step, ready // 4), most)
        try:
            self._reserve_leases(ready, end)
        except OSError:
            end = ready + 1
            try:
                self._reserve_leases(ready, end)
            except OSError:
                self.refuse()
        words.cas(LEASES_READY_AT, ready, end)
        return True

    def _reserve_leases(self, begin: int, end: int) -> None:
        self._segment.reserve(self._geometry.lease_heads + begin * LEASE_HEAD_SIZE, (end - begin) * LEASE_HEAD_SIZE)
        for index in range(begin, end):
            self._reserve_lease(index, min(AT_ONCE, self._geometry.max_item_size))

    def _reserve_lease(self, index: int, length: int) -> None:
        self._segment.reserve(self._geometry.lease_payloads + index * self._geometry.lease_stride, length)

    def reserve_lease(self, index: int, length: int) -> bool:
        """Make sure that there is memory for an item in a lease slot; return whether there is."""
        if length > AT_ONCE:
            try:
                self._reserve_lease(index, length)
            except OSError:
                return False
        return True

    def reserve(self, position: int, payloads: Sequence[Payload]) -> None:
        """Make sure that there is memory for items in the slots that are claimed for them, from a position on.

        Raises:
            SharedMemoryFullError: there is none.
        """
        for data, _ in payloads:
            for at in range(0, len(data) or 1, self._item_size):
                size = min(len(data) - at, self._item_size)
                if size > AT_ONCE:
                    try:
                        self._segment.reserve(self._slot(position), SLOT_PAYLOAD + size)
                    except OSError:
                        self.refuse()
                position += 1

    def refuse(self) -> NoReturn:
        """Say that there is no memory.

        Raises:
            SharedMemoryFullError: always.
        """
        raise SharedMemoryFullError(
            f"there is no shared memory left for the item; this queue has {self._capacity:,} places, and keeps the "
            f"memory of each that was ever used until it goes: make it with a smaller maxsize, close queues that are "
            f"no longer used, or give the system more shared memory (segment {self._segment.name!r})"
        )

    def _slot(self, position: int) -> int:
        return SLOTS_START + position % self._capacity * self._stride

    def _reserve_slots(self, last: int, wanted: int) -> int:
        """Reserve memory for the slots behind ``last``, which has some; return the last one that has it then."""
        if self._item_size <= AT_ONCE and wanted > last:  # adjacent slots in one step
            with suppress(OSError):
                begin = self._slot(last + 1)
                self._segment.reserve(begin, (wanted - last) * self._stride)
                return wanted
        first = last
        try:
            while last < wanted:
                self._reserve_slot(last + 1)
                last += 1
        except OSError:
            if last == first:
                self.refuse()
        return last

    def _reserve_slot(self, index: int) -> None:
        self._segment.reserve(self._slot(index), SLOT_PAYLOAD + min(AT_ONCE, self._item_size))
