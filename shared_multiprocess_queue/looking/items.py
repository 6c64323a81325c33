"""The items that gets will come to next, copied without taking them.

A copy is true if the word of its slot is FULL of its position before and after: a slot is not used for another item
without a change of its word, and a word never comes back, because positions count up. Of an item of several slots the
first slot says so for all: none of the others is used again before the first is free.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from .._platform.segment_file import SegmentFile
from .._ring import stated_format
from .._ring.layout import (
    DEFINITIONS_END,
    DEFINITIONS_FIRST,
    DEFINITIONS_SIZE,
    FREE,
    FULL,
    HEAD,
    LEASE_COUNT,
    LEASE_HEAD_SIZE,
    LEASE_LENGTH,
    LEASE_POSITION,
    MAX_BATCH,
    MORE,
    SLOT_LENGTH,
    SLOT_PAYLOAD,
    SLOTS_START,
    STATE_BITS,
    TAG_BITS,
    TAG_MASK,
    TAIL,
    Geometry,
    unmarked,
)
from .._ring.leased_look import LeasedLook
from .files import MOST_SLOTS, missing, open_look, segment_of

_ATTEMPTS: Final = 100
_LENGTH_AND_META: Final = struct.Struct("=II")


@dataclass(frozen=True, slots=True)
class QueuedItem:
    """An item that was not taken.

    Attributes:
        position: of the item.
        note: "came back" (from a lease), "under way" (its put has not ended, or died), "damaged", or "".
        payload: its bytes; None if they cannot be had.
        tag: the number that says in which form the item travels; None likewise.
    """

    position: int
    note: str
    payload: bytes | None = None
    tag: int | None = None


class Items:
    """The items of one queue, and the definitions that they may need.

    Args:
        name: of the queue.
        run_id: of the queue.

    Raises:
        QueueNotFoundError: there is no such queue.
        QueueNotReadyError, LayoutVersionError, CorruptQueueError, PermissionError: it cannot be looked at.

    Attributes:
        geometry: of the queue.
        serializer: the format of its items, as the queue states it.
    """

    def __init__(self, name: str, run_id: str = "") -> None:
        try:
            self._file = SegmentFile(segment_of(name, run_id))
        except FileNotFoundError:
            raise missing(segment_of(name, run_id)) from None
        try:
            self._look = open_look(self._file)
        except BaseException:
            self._file.close()
            raise
        self.geometry: Geometry = self._look.geometry
        self.serializer = stated_format.read(self._file)

    def close(self) -> None:
        """Close the file of the segment."""
        self._file.close()

    def next(self, most: int) -> Iterator[QueuedItem]:
        """Yield up to so many items, in the order of gets as far as it can be told; first what came back."""
        for item in self._all():
            if most <= 0:
                return
            most -= 1
            yield item

    def find(self, key: bytes) -> bytes | None:
        """Return the definition with a key, or None; see ``DefinitionStore``."""
        from .._engine.definition_log import search  # noqa: PLC0415 (only for items that are unpickled)

        start = self.geometry.definitions
        end = min(max(self._file.load(start + DEFINITIONS_END), DEFINITIONS_FIRST), DEFINITIONS_SIZE)
        return search(self._file.read(start, end), key)

    def add(self, key: bytes, definition: bytes) -> bool:
        """Store nothing: a look does not write."""
        return False

    def _all(self) -> Iterator[QueuedItem]:
        if isinstance(self._look, LeasedLook):
            for head in self._look.came_back():
                found = self._in_lease(head)
                if found is not None:
                    yield found
        position = 0
        for _ in range(MOST_SLOTS):
            head, tail = unmarked(self._file.load(HEAD)), unmarked(self._file.load(TAIL))
            position = max(position, head, tail - self.geometry.capacity)  # what is a lap below tail is finished
            if position >= tail:
                return
            found = self._in_ring(position)
            if found is not None:
                yield found
            position += 1

    def _slot(self, position: int) -> int:
        return SLOTS_START + position % self.geometry.capacity * self.geometry.stride

    def _in_ring(self, position: int) -> QueuedItem | None:
        """Return the item of a position; None if it has none any more, or never will."""
        load, at = self._file.load, self._slot(position)
        full, free = position << STATE_BITS | FULL, position << STATE_BITS | FREE
        for _ in range(_ATTEMPTS):
            word = load(at)
            if word != full:
                return QueuedItem(position, "under way") if word == free else None
            length, tag, index = self._stated(at + SLOT_LENGTH)
            found = _item(position, self._in_slots(position, length), tag)
            first = position - index
            is_visible = not 0 < index <= position or load(self._slot(first)) != first << STATE_BITS | FREE
            if load(at) == word:
                if self._is_more(tag):
                    return None  # a later part of an item
                return found if is_visible else QueuedItem(position, "under way")
        return None

    def _in_slots(self, position: int, length: int) -> bytes | None:
        """Return the bytes of an item, which may take several slots from a position on; None if it cannot be one."""
        size = self.geometry.item_size
        if length > self.geometry.max_item_size:
            return None
        parts = []
        for at in range(0, length or 1, size):
            slot = self._slot(position + at // size)
            if at and not self._is_more(self._stated(slot + SLOT_LENGTH)[1]):
                return None
            parts.append(self._file.read(slot + SLOT_PAYLOAD, min(length - at, size)))
        return b"".join(parts)

    def _in_lease(self, head: int) -> QueuedItem | None:
        """Return the item of a lease slot; None if it has been taken meanwhile."""
        load = self._file.load
        index = (head - self.geometry.lease_heads) // LEASE_HEAD_SIZE
        position, count = load(head + LEASE_POSITION), load(head + LEASE_COUNT)
        payload = self.geometry.lease_payloads + index * self.geometry.lease_stride
        length, tag, _ = self._stated(head + LEASE_LENGTH)
        found = self._file.read(payload, length) if length <= self.geometry.max_item_size else None
        is_same = (load(head + LEASE_POSITION), load(head + LEASE_COUNT)) == (position, count)
        return _item(position, found, tag, "came back") if is_same else None

    def _stated(self, at: int) -> tuple[int, int, int]:
        """Return the length, the tag, and the place in its put, of which length and meta lie at an offset."""
        length, meta = _LENGTH_AND_META.unpack(self._file.read(at, _LENGTH_AND_META.size))
        return length, meta & TAG_MASK, meta >> TAG_BITS & MAX_BATCH - 1

    def _is_more(self, tag: int) -> bool:
        return tag == MORE and self.geometry.max_item_size > self.geometry.item_size


def _item(position: int, payload: bytes | None, tag: int, note: str = "") -> QueuedItem:
    return QueuedItem(position, "damaged") if payload is None else QueuedItem(position, note, payload, tag)
