"""Everyday objects to bytes, in Python, for comparison with the native engine's writer.

The format is described in the package's ``_codec/plain.py``.
"""

from __future__ import annotations

import datetime as dt
import struct
import uuid
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, Final

_DEPTH: Final = 100
_INTS: Final = ((0xEC, 8, "=Bb"), (0xED, 16, "=Bh"), (0xEE, 32, "=Bi"), (0xEF, 64, "=Bq"))
_TUPLE, _LIST, _DICT = (0xE0, 8, 0xF6), (0xD0, 16, 0xF5), (0xC0, 16, 0xF7)


class _NotPlainError(Exception):
    """The item is for pickle."""


def write(item: object, limit: int) -> bytes | None:
    """Return the bytes of an item; None if it is for pickle, or they are more than so many."""
    writer = _Writer()
    try:
        writer.value(item, 0)
    except _NotPlainError:
        return None
    payload = b"".join(writer.parts)
    return payload if len(payload) <= limit else None


class _Writer:
    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self._seen: set[int] = set()

    def value(self, item: Any, depth: int) -> None:
        write = _WRITERS.get(type(item))
        if write is not None:
            self.parts.append(write(item))
            return
        kind = type(item)
        if kind in {list, dict, set, bytearray}:
            self._note(item)
        if kind is bytearray:
            self.parts.append(_sized(0xF4, bytes(item)))
            return
        if depth == _DEPTH or kind not in {list, dict, set, tuple, frozenset}:
            raise _NotPlainError
        match item:
            case dict():
                self._elements(_DICT, len(item), (part for pair in item.items() for part in pair), depth)
            case list():
                self._elements(_LIST, len(item), item, depth)
            case tuple():
                self._elements(_TUPLE, len(item), item, depth)
            case _:
                self._elements((0, 0, 0xF8 if kind is set else 0xF9), len(item), item, depth)

    def _note(self, item: object) -> None:
        if id(item) in self._seen:
            raise _NotPlainError
        self._seen.add(id(item))

    def _elements(self, tags: tuple[int, int, int], count: int, parts: Iterable[object], depth: int) -> None:
        short, most, long = tags
        self.parts.append(bytes([short + count]) if count < most else struct.pack("=BI", long, count))
        for part in parts:
            self.value(part, depth + 1)


def _sized(tag: int, data: bytes) -> bytes:
    return struct.pack("=BI", tag, len(data)) + data


def _int(number: int) -> bytes:
    if 0 <= number < 0x80:
        return bytes([number])
    for tag, bits, form in _INTS:
        if -1 << (bits - 1) <= number < 1 << (bits - 1):
            return struct.pack(form, tag, number)
    return _sized(0xF0, number.to_bytes(abs(number).bit_length() // 8 + 1, "little", signed=True))


def _str(text: str) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    if not text.isascii():
        return _sized(0xF2, data)
    return bytes([0x80 + len(data)]) + data if len(data) < 0x40 else _sized(0xF1, data)


def _date(day: dt.date) -> bytes:
    return b"\xfb\x02" + struct.pack(">HBB", day.year, day.month, day.day)


def _datetime(time: dt.datetime) -> bytes:
    if time.tzinfo is not None and time.tzinfo is not dt.UTC:
        raise _NotPlainError
    head = bytes([0xFB, time.tzinfo is not None])
    date = struct.pack(">HBB", time.year, time.month | time.fold << 7, time.day)
    return head + date + bytes([time.hour, time.minute, time.second]) + time.microsecond.to_bytes(3, "big")


def _time(time: dt.time) -> bytes:
    if time.tzinfo is not None:
        raise _NotPlainError
    parts = [0xFB, 3, time.hour | time.fold << 7, time.minute, time.second]
    return bytes(parts) + time.microsecond.to_bytes(3, "big")


def _uuid(number: uuid.UUID) -> bytes:
    if number.is_safe is not uuid.SafeUUID.unknown:
        raise _NotPlainError
    return b"\xfc\x01" + number.bytes


_WRITERS: Final[dict[type, Callable[[Any], bytes]]] = {
    type(None): lambda _: b"\xe8",
    bool: lambda item: b"\xea" if item else b"\xe9",
    int: _int,
    float: lambda item: struct.pack("=Bd", 0xEB, item),
    complex: lambda item: struct.pack("=Bdd", 0xFA, item.real, item.imag),
    str: _str,
    bytes: lambda item: _sized(0xF3, item),
    dt.date: _date,
    dt.datetime: _datetime,
    dt.time: _time,
    dt.timedelta: lambda item: b"\xfb\x04" + struct.pack("=iii", item.days, item.seconds, item.microseconds),
    Decimal: lambda item: b"\xfc\x00" + _str(str(item)),
    uuid.UUID: _uuid,
}
