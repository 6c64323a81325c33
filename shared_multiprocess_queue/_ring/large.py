"""Items in their slots: one for each that fits into a slot, several adjacent ones for a larger item.

A put writes a larger item as it writes a batch. The first slot states the length of the whole item and the tag of the
codec; each later one states the bytes that it holds, and has the tag MORE. A get claims all slots of an item in one
step, copies them, frees the rest from the last slot on, and then the first, which decides which get has the item.

As long as the first slot is not free, no put can claim a position of the next lap in any slot of the item, because
positions are claimed in order. So what is freed early can still be copied by an adopter; and once the first slot is
free, nothing of the item is left.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

from .._platform.atomic_words import Words
from .claim import CORRUPT, Payload
from .layout import (
    FREE,
    FULL,
    MORE,
    SLOT_LENGTH,
    SLOT_META,
    SLOT_PAYLOAD,
    SLOTS_START,
    STATE_BITS,
    TAG_BITS,
    TAG_MASK,
    Geometry,
)

_SLOT_HEADER: Final = struct.Struct("=II")  # length and meta, SLOT_LENGTH to SLOT_PAYLOAD


class Items:
    """The items of one segment.

    Args:
        buffer: the mapped segment.
        geometry: its sizes, checked against the size of the mapping.

    Attributes:
        may_be_large: whether items may take several slots.
    """

    def __init__(self, buffer: memoryview, geometry: Geometry) -> None:
        self._bytes = memoryview(buffer)
        self._halves = buffer.cast("I")
        self._capacity = geometry.capacity
        self._stride = geometry.stride
        self._item_size = geometry.item_size
        self._max_item_size = geometry.max_item_size
        self.may_be_large = geometry.max_item_size > geometry.item_size

    def release(self) -> None:
        """Let go of the memory; may be called again."""
        self._halves.release()
        self._bytes.release()

    def _slot(self, position: int) -> int:
        return SLOTS_START + position % self._capacity * self._stride

    def payload_at(self, position: int) -> int:
        """Return the offset of the payload of a slot."""
        return self._slot(position) + SLOT_PAYLOAD

    def beginning(self, position: int, size: int) -> bytes:
        """Return the first bytes of a slot's payload; no more than the slot has."""
        start = self.payload_at(position)
        return bytes(self._bytes[start : start + min(size, self._item_size)])

    def slots_of(self, length: int) -> int:
        """Return the number of slots that an item of so many bytes takes."""
        return -(-length // self._item_size) or 1

    def is_more(self, position: int) -> bool:
        """Whether a slot says that it holds a later part of an item."""
        return self.may_be_large and self._halves[self._slot(position) + SLOT_META >> 2] & TAG_MASK == MORE

    def place_in_put(self, position: int) -> int:
        """Return the place of a slot in its put, as it states it."""
        return self._halves[self._slot(position) + SLOT_META >> 2] >> TAG_BITS

    def measure(self, position: int, most: int) -> tuple[int, int]:
        """Return length and tag of an item, which come from the segment and are not believed.

        Args:
            position: of its first slot.
            most: number of slots that it can take at most.

        Returns:
            The length, which takes at most so many slots, and the tag: CORRUPT, and a length of one slot at most, if
            the slot states what cannot be.
        """
        slot = self._slot(position)
        length = self._halves[slot + SLOT_LENGTH >> 2]
        tag = self._halves[slot + SLOT_META >> 2] & TAG_MASK
        is_more = tag == MORE and self.may_be_large
        if length > self._max_item_size or is_more or (length > self._item_size and self.slots_of(length) > most):
            return min(length, self._item_size), CORRUPT
        return length, tag

    def find_items(self, load: Callable[[int], int], position: int, limit: int) -> list[int]:
        """Return where the items from a FULL position on begin, and at last where they end.

        Args:
            load: reads a word.
            position: of the first one.
            limit: their largest number. They take no more than ``capacity`` slots.

        Returns:
            One position if there is no item: another get has moved head, or the segment was damaged.
        """
        last, found = position + self._capacity, [position]
        while len(found) <= limit and found[-1] < last:
            begin = found[-1]
            if begin != position and load(self._slot(begin)) != begin << STATE_BITS | FULL:
                break
            length, tag = self.measure(begin, last - begin)
            end = begin + self.slots_of(length)
            known = begin + 1  # no generator here, which would swallow an interrupt
            while known < end and load(self._slot(known)) == known << STATE_BITS | FULL and self.is_more(known):
                known += 1
            if tag == CORRUPT or known < end:
                break
            found.append(end)
        return found

    def read(self, position: int, most: int) -> Payload:
        """Copy an item of at most so many slots."""
        length, tag = self.measure(position, most)
        return b"".join(self.parts(position, length)), tag

    def parts(self, position: int, length: int) -> list[memoryview]:
        """Return where the bytes of an item lie."""
        found = []
        for at in range(0, length, self._item_size):
            start = self._slot(position) + SLOT_PAYLOAD
            found.append(self._bytes[start : start + min(length - at, self._item_size)])
            position += 1
        return found

    def writes(self, position: int, payloads: Sequence[Payload]) -> list[tuple[slice, memoryview | bytes]]:
        """Return what a put from ``position`` on writes, and to where in the segment."""
        found: list[tuple[slice, memoryview | bytes]] = []
        index, size = 0, self._item_size
        for data, tag in payloads:
            length = len(data)
            for at in range(0, length or 1, size):
                slot = self._slot(position + index)
                header = (length, tag) if at == 0 else (min(length - at, size), MORE)
                packed = _SLOT_HEADER.pack(header[0], header[1] | index << TAG_BITS)
                found.append((slice(slot + SLOT_LENGTH, slot + SLOT_PAYLOAD), packed))
                found += _parts_in(data, at, size, slot + SLOT_PAYLOAD)
                index += 1
        return found

    def free_rest(self, words: Words, position: int, slots: int) -> None:
        """Free the slots of an item that was copied, but for the first, from the last on."""
        for p in range(position + slots - 1, position, -1):
            # [G8] release for the copy, pairs with [P2]. If it fails, another operation has freed the slot.
            words.cas(self._slot(p), p << STATE_BITS | FULL, p + self._capacity << STATE_BITS | FREE)


def _parts_in(data: Any, at: int, size: int, start: int) -> list[tuple[slice, memoryview]]:
    """Return the parts of a payload, from ``at`` on, that one slot holds, and to where they go from ``start`` on."""
    found = []
    for begin, piece in ((0, data),) if isinstance(data, bytes) else data.pieces:
        view = memoryview(piece)
        first, last = max(at, begin), min(at + size, begin + view.nbytes)
        if first < last:
            found.append((slice(start + first - at, start + last - at), view[first - begin : last - begin]))
    return found
