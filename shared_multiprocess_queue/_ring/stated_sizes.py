"""The sizes that the header of a segment states, and whether they can be true."""

from __future__ import annotations

from collections.abc import Callable

from .._platform import shared_memory
from .._platform.atomic_words import Reader
from ..errors import CorruptQueueError, LayoutVersionError, QueueNotReadyError
from .layout import (
    CAPACITY_AT,
    DEFINITIONS_SIZE,
    DEFINITIONS_SIZE_AT,
    ITEM_SIZE_AT,
    LEASES_AT,
    MAGIC,
    MAGIC_AT,
    MAX_BATCH,
    MAX_CAPACITY,
    MAX_DELIVERIES,
    MAX_DELIVERIES_AT,
    MAX_ITEM_SIZE,
    MAX_ITEM_SIZE_AT,
    MAX_LEASES,
    MODE_AT,
    MODES,
    RECORDS,
    RECORDS_AT,
    SEGMENT_SIZE_AT,
    SLOTS_START,
    UNFINISHED,
    VERSION,
    VERSION_AT,
    WORD,
    Geometry,
)


def check_size(name: str, size: int) -> None:
    """Refuse a segment that is too small for the header.

    Raises:
        CorruptQueueError: it is.
    """
    if size < SLOTS_START:
        raise CorruptQueueError(
            f"segment {name!r} is not a queue of this package, or was cut off: it has {size:,} bytes, and the header "
            f"alone takes {SLOTS_START:,}; choose another name, or {shared_memory.how_to_remove(name)}"
        )


def check(words: Reader, name: str, size_of: Callable[[], int]) -> Geometry:
    """Return the geometry that the header of a segment states, if it can be true.

    Args:
        words: of the segment.
        name: of the segment, for messages.
        size_of: gives the size of the segment, in bytes. A creation that ends meanwhile changes that of a file.

    Raises:
        QueueNotReadyError: its creation has not ended.
        LayoutVersionError: it has another layout.
        CorruptQueueError: it is no queue, or was damaged.
    """
    size, magic = size_of(), None
    if size >= MAGIC_AT + WORD:
        magic = words.load(MAGIC_AT)  # [X1] acquire, where a queue is attached to
        size = size_of()  # after the magic: a creator gives the segment its size before it stores the magic
    if magic == UNFINISHED or size == 0:
        raise QueueNotReadyError(
            f"the creation of queue segment {name!r} has not ended, or its creator died in it; look again in a moment"
        )
    check_size(name, size)
    if magic != MAGIC:
        raise CorruptQueueError(
            f"segment {name!r} is not a queue of this package (its magic is {magic:#x}); choose another name, or "
            f"{shared_memory.how_to_remove(name)}"
        )
    version = words.load(VERSION_AT)
    if version != VERSION:
        raise LayoutVersionError(name, version, VERSION)
    capacity, item_size, mode = words.load(CAPACITY_AT), words.load(ITEM_SIZE_AT), words.load(MODE_AT)
    leases, most, largest = words.load(LEASES_AT), words.load(MAX_DELIVERIES_AT), words.load(MAX_ITEM_SIZE_AT)
    can_be = 1 <= capacity <= MAX_CAPACITY and 1 <= item_size <= MAX_ITEM_SIZE and leases <= MAX_LEASES
    can_be = can_be and mode < len(MODES) and most <= MAX_DELIVERIES and bool(leases or not most)
    if can_be and item_size <= largest <= min(min(capacity, MAX_BATCH) * item_size, MAX_ITEM_SIZE):
        found = Geometry.of(capacity, item_size, MODES[mode], leases, most, largest)
        rest = words.load(RECORDS_AT), words.load(DEFINITIONS_SIZE_AT), words.load(SEGMENT_SIZE_AT)
        if rest == (RECORDS, DEFINITIONS_SIZE, found.size) and size >= found.size and not size % WORD:
            return found
    raise CorruptQueueError(
        f"the header of segment {name!r} states capacity {capacity}, item_size {item_size}, max_item_size "
        f"{largest}, mode {mode}, leases {leases} and max_deliveries {most}, which does not fit its {size:,} bytes; "
        f"unlink this queue and create it again"
    )
