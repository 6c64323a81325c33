"""Items that a program writes and reads in their slot: where in a payload their bytes lie.

Memory that was reserved begins at a cache line, as the buffers of an item do that was put (``buffers.py``): the payload
begins with 48 bytes that have no meaning and are not written, and has the tag PLACED. If the item would then be too
large for a slot, its payload is its bytes alone, which begin at byte 16 of the slot.
"""

from __future__ import annotations

from typing import Final

from . import buffers
from .tags import BUFFERS, PADDING, PLACED

__all__ = ["FIRST", "laid", "place_of", "raw"]

FIRST: Final = buffers.FIRST
"""The first bytes of a payload that ``place_of`` may need."""


def laid(size: int, room: int, bare_tag: int) -> tuple[int, int, int]:
    """Return the length and the tag of an item of so many bytes, and where in its payload they begin.

    Args:
        size: at most ``room``.
        room: bytes of a slot.
        bare_tag: of the codec.
    """
    return (size + PADDING, PLACED, PADDING) if size + PADDING <= room else (size, bare_tag, 0)


def raw(payload: bytes | buffers.AnyPieces, tag: int) -> bytes:
    """Return the bytes of an item as its program knows them: without those that have no meaning."""
    data = buffers.whole(payload)
    return data[PADDING:] if tag == PLACED else data


def place_of(first: bytes, length: int, tag: int, bare_tag: int, has_buffers: bool) -> tuple[int, int] | None:
    """Return where in a payload the bytes begin that a program may look at in place, and their number.

    Those of an item that is bytes, and the buffer of one that has exactly one; None of any other.

    Args:
        first: the first bytes of the payload, ``FIRST`` of them if there are so many.
        length: of the payload.
        tag: beside the payload.
        bare_tag: of the codec.
        has_buffers: whether the codec takes items with buffers.
    """
    if tag == bare_tag:
        return 0, length
    if tag == PLACED:
        return (PADDING, length - PADDING) if length >= PADDING else None
    return buffers.only_one(first, length) if tag == BUFFERS and has_buffers else None
