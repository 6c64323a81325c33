"""Items that are one bare value: ``bytes``, ``str``, ``int`` of 64 bits, ``float``, ``bool`` and None."""

from __future__ import annotations

import struct
from typing import Any, Final

from .tags import BYTES, CONSTANTS, FLOAT, INT, PADDING, PLACED, STR

__all__ = ["TAGS", "decode", "encode"]

TAGS: Final = frozenset({BYTES, PLACED, STR, INT, FLOAT, *CONSTANTS})

_INT: Final = struct.Struct("=q")
_FLOAT: Final = struct.Struct("=d")
_INT_END: Final = 1 << 63
_OF_CONSTANTS: Final = {value: tag for tag, value in CONSTANTS.items()}


def encode(item: object) -> tuple[bytes, int] | None:
    """Turn an item into bytes and the tag of its type; None if it is no such value of the exact type.

    The payload of ``bytes`` is the object itself.
    """
    kind = type(item)
    if kind is bytes:
        return item, BYTES  # type: ignore[return-value]
    if kind is str:
        return item.encode("utf-8", "surrogatepass"), STR  # type: ignore[attr-defined]
    if kind is int and -_INT_END <= item < _INT_END:  # type: ignore[operator]
        return _INT.pack(item), INT
    if kind is float:
        return _FLOAT.pack(item), FLOAT
    if item is None or kind is bool:
        return b"", _OF_CONSTANTS[item]  # type: ignore[index]
    return None


def decode(payload: bytes, tag: int) -> Any:
    """Turn bytes back into an item.

    Args:
        payload: returned by ``encode``, or written in place.
        tag: one of ``TAGS``.

    Raises:
        ValueError: ``encode`` has not made these bytes.
    """
    if tag == BYTES:
        return payload
    if tag == PLACED:
        if len(payload) < PADDING:
            raise ValueError(f"it has {len(payload)} bytes, and what was written in place begins at byte {PADDING}")
        return payload[PADDING:]
    if tag == STR:
        return payload.decode("utf-8", "surrogatepass")
    number = {INT: _INT, FLOAT: _FLOAT}.get(tag)
    size = 0 if number is None else number.size
    if len(payload) != size:
        raise ValueError(f"it has {len(payload)} bytes, and an item of its type has {size}")
    return CONSTANTS[tag] if number is None else number.unpack(payload)[0]
