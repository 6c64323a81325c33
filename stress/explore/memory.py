"""The memory of a queue that is explored, and what lies in it."""

from __future__ import annotations

import ctypes
import mmap
import sys
from typing import Final

from shared_multiprocess_queue._ring import layout

from ..harness.engines import Mode
from .program import ITEM_SIZE

_USED: Final = 32  # records that a program may take


class Memory:
    """A segment without a name, and the int32 of its lock."""

    name = "explored"

    def __init__(
        self,
        capacity: int,
        mode: Mode,
        leases: int = 0,
        is_fresh: bool = False,
        has_large: bool = False,
        max_deliveries: int = 0,
    ) -> None:
        largest = capacity * ITEM_SIZE if has_large else ITEM_SIZE
        self.geometry = layout.Geometry.of(capacity, ITEM_SIZE, mode, leases, max_deliveries, largest)
        self.buffer = memoryview(mmap.mmap(-1, self.geometry.size))
        self.words = self.buffer.cast("Q")
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.buffer))
        self.lock = memoryview(mmap.mmap(-1, mmap.PAGESIZE))[:4]
        self._used = slice(0, layout.record_at(_USED))
        self._slots = slice(layout.SLOTS_START, self.geometry.definitions)
        self.words[layout.NUMBERED_AT >> 3] = is_fresh
        self.words[layout.LEASES_READY_AT >> 3] = is_fresh and leases > 0
        for position in range(1 if is_fresh else capacity):
            self.words[self.slot(position) >> 3] = position << layout.STATE_BITS | layout.FREE

    def slot(self, position: int) -> int:
        """Return the offset of a position's slot."""
        return layout.SLOTS_START + position % self.geometry.capacity * self.geometry.stride

    def reserve(self, start: int, length: int) -> None:
        """Do nothing: there is memory."""

    def save(self) -> tuple[bytes, bytes, bytes]:
        """Return a copy of all state that matters."""
        return bytes(self.buffer[self._used]), bytes(self.buffer[self._slots]), bytes(self.lock)

    def restore(self, saved: tuple[bytes, bytes, bytes]) -> None:
        """Restore the state of a copy."""
        self.buffer[self._used], self.buffer[self._slots], self.lock[:] = saved

    def close(self) -> None:
        """Do nothing, because the other handles use this memory."""

    def held(self) -> list[str]:
        """Return the items that lie in FULL slots, in lease slots, and, put back, in dead slots."""
        found = self._leased() + self._put_back()
        for index in range(self.geometry.capacity):
            at = self.slot(index)
            word = self.words[at >> 3]
            meta = int.from_bytes(self.buffer[at + layout.SLOT_META :][:4], sys.byteorder)
            if word & layout.STATE_MASK == layout.FULL and meta & layout.TAG_MASK != layout.MORE:
                length = int.from_bytes(self.buffer[at + layout.SLOT_LENGTH :][:4], sys.byteorder)
                found.append(self._text_at(word >> layout.STATE_BITS, length))
        return found

    def _text_at(self, position: int, length: int) -> str:
        parts = []
        for p, begin in enumerate(range(0, length, ITEM_SIZE), position):
            start = self.slot(p) + layout.SLOT_PAYLOAD
            parts.append(bytes(self.buffer[start : start + min(length - begin, ITEM_SIZE)]))
        return b"".join(parts).decode()

    def lease_head(self, index: int) -> int:
        """Return the offset of a lease slot's head."""
        return self.geometry.lease_heads + index * layout.LEASE_HEAD_SIZE

    def _leased(self) -> list[str]:
        found = []
        for index in range(self.geometry.leases):
            head, at = self.lease_head(index), self.geometry.lease_payloads + index * self.geometry.lease_stride
            if self.words[head + layout.LEASE_COUNT >> 3] and not self.is_buried(index):
                length = int.from_bytes(self.buffer[head + layout.LEASE_LENGTH :][:4], sys.byteorder)
                found.append(bytes(self.buffer[at:][:length]).decode())
        return found

    def dead_head(self, index: int) -> int:
        """Return the offset of a dead slot's head."""
        return self.geometry.dead_heads + index * layout.DEAD_HEAD_SIZE

    def dead_states(self) -> list[int]:
        """Return the states of the dead slots."""
        return [layout.dead_state(self.words[self.dead_head(index) >> 3]) for index in range(self.geometry.dead)]

    def is_buried(self, lease: int) -> bool:
        """Whether the item of a lease slot has gone to a dead slot."""
        states = self.dead_states()
        words = [self.words[self.dead_head(index) >> 3] for index in range(self.geometry.dead)]
        return any(
            state == layout.DEAD_BURIED and layout.names_lease(word, lease)
            for word, state in zip(words, states, strict=True)
        )

    def _put_back(self) -> list[str]:
        found = []
        for index, state in enumerate(self.dead_states()):
            word = self.words[self.dead_head(index) >> 3]
            lease = word >> layout.DEAD_LEASE_SHIFT & layout.DEAD_LEASE_MASK
            is_counted = state == layout.DEAD_GIVEN and self.words[self.lease_head(lease) + layout.LEASE_COUNT >> 3]
            if state in (layout.DEAD_PUT_BACK, layout.DEAD_GIVEN) and not is_counted:
                length = int.from_bytes(self.buffer[self.dead_head(index) + layout.DEAD_LENGTH :][:4], sys.byteorder)
                at = self.geometry.dead_payloads + index * self.geometry.lease_stride
                found.append(bytes(self.buffer[at:][:length]).decode())
        return found
