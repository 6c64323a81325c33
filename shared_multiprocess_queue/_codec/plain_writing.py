"""Everyday objects to bytes, in the format that ``plain.py`` describes: the same as the native engine's writer.

Nothing of the user's runs meanwhile. Another thread may change a container, so what is written of it is a copy of one
moment.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from . import classes, plain

__all__ = ["NotPlainError", "write"]

_INTS: Final = ((0xEC, 8, "=Bb"), (0xED, 16, "=Bh"), (0xEE, 32, "=Bi"), (0xEF, 64, "=Bq"))
_TUPLE, _LIST, _DICT = (0xE0, 8, 0xF6), (0xD0, 16, 0xF5), (0xC0, 16, 0xF7)
_SET, _FROZENSET = (0, 0, 0xF8), (0, 0, 0xF9)
_LONGEST: Final = (1 << 31) - 1


class NotPlainError(TypeError):
    """Something in the item is no everyday object.

    Attributes:
        culprit: what it is.
    """

    def __init__(self, culprit: object, why: str) -> None:
        super().__init__(why)
        self.culprit = culprit


def write(item: object, most: int = sys.maxsize) -> bytes:
    """Return the bytes of an item; only the first ones, more than ``most``, if there are more.

    Raises:
        NotPlainError: something in it is no everyday object, or is one that this format has no place for.
    """
    writer = _Writer(most)
    with suppress(_LongEnoughError):
        writer.value(item, 0)
    return bytes(writer.written)


class _LongEnoughError(Exception):
    """There are more bytes than were asked for. An immutable object in many places may make far too many."""


class _Writer:
    def __init__(self, most: int) -> None:
        self.written = bytearray()
        self._most = most
        self._seen: dict[int, object] = {}  # mutable objects, by their id; it keeps them, so no id is given anew

    def value(self, item: Any, depth: int) -> None:
        kind = type(item)
        if type(kind) is not type:  # its metaclass may say which dict key it is
            raise _of_another_type(item)
        if kind in _CONTAINERS:
            self._container(item, kind, depth)
            return
        if kind is bytearray:
            self._note(item)
        write = _WRITERS.get(kind) or _late_writer(kind)
        if write is None:
            raise _of_another_type(item)
        self._add(write(item))

    def _add(self, part: bytes) -> None:
        self.written += part
        if len(self.written) > self._most:
            raise _LongEnoughError

    def _container(self, item: Any, kind: type, depth: int) -> None:
        if depth == plain.DEPTH:
            raise NotPlainError(item, f"it lies in {depth} containers, one in the other, and that is the limit")
        if kind is not tuple and kind is not frozenset:
            self._note(item)
        short, most, long = _CONTAINERS[kind]
        # A dict is copied first, in one step. Making the pairs takes memory, for which Python 3.11 may collect garbage,
        # and a finaliser that runs then may change the dict.
        parts = list(item.copy().items() if kind is dict else item)
        count = len(parts)
        self._add(bytes([short + count]) if count < most else struct.pack("=BI", long, count))
        for part in (half for pair in parts for half in pair) if kind is dict else parts:
            self.value(part, depth + 1)

    def _note(self, item: object) -> None:
        if id(item) in self._seen:
            raise NotPlainError(
                item, "it is in the item twice, and would arrive as two objects; put a copy in one of the places"
            )
        self._seen[id(item)] = item


def _of_another_type(item: object) -> NotPlainError:
    return NotPlainError(item, f"it is of type {classes.type_name(type(item))}")


def _sized(tag: int, data: bytes, item: object) -> bytes:
    if len(data) > _LONGEST:
        raise NotPlainError(item, f"it takes {len(data):,} bytes, and {_LONGEST:,} is the limit")
    return struct.pack("=BI", tag, len(data)) + data


def _int(number: int) -> bytes:
    if 0 <= number < 0x80:
        return bytes([number])
    for tag, bits, form in _INTS:
        if -1 << (bits - 1) <= number < 1 << (bits - 1):
            return struct.pack(form, tag, number)
    return _sized(0xF0, number.to_bytes(abs(number).bit_length() // 8 + 1, "little", signed=True), number)


def _str(text: str) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    if not text.isascii():
        return _sized(0xF2, data, text)
    return bytes([0x80 + len(data)]) + data if len(data) < 0x40 else _sized(0xF1, data, text)


# ---- dates, times, Decimals and UUIDs -------------------------------------------------------------------------------


def _date(day: Any) -> bytes:
    return b"\xfb\x02" + struct.pack(">HBB", day.year, day.month, day.day)


def _datetime(time: Any) -> bytes:
    zone = time.tzinfo
    if zone is not None and zone is not plain.load("datetime").timezone.utc:
        raise NotPlainError(
            time, f"it is a datetime with a tzinfo of type {classes.type_name(type(zone))}; only timezone.utc is plain"
        )
    date = struct.pack(">HBB", time.year, time.month | time.fold << 7, time.day)
    return bytes([0xFB, zone is not None]) + date + _clock(time)


def _clock(time: Any, mark: int = 0) -> bytes:
    return struct.pack(">BBBI", time.hour | mark, time.minute, time.second, time.microsecond << 8)[:-1]


def _time(time: Any) -> bytes:
    if time.tzinfo is not None:
        raise NotPlainError(time, "it is a time with a tzinfo")
    return b"\xfb\x03" + _clock(time, time.fold << 7)


def _timedelta(span: Any) -> bytes:
    return b"\xfb\x04" + struct.pack("=iii", span.days, span.seconds, span.microseconds)


def _decimal(number: Any) -> bytes:
    return b"\xfc\x00" + _str(str(number))


def _uuid(found: Any) -> bytes:
    number: Any = getattr(found, "int", None)
    if type(number) is not int or not 0 <= number < 1 << 128:
        raise NotPlainError(found, "it is a UUID without a number of 128 bits")
    if getattr(found, "is_safe", None) is not plain.load("uuid").SafeUUID.unknown:
        raise NotPlainError(found, "it is a UUID that says whether it is safe (is_safe)")
    return b"\xfc\x01" + struct.pack(">QQ", number >> 64, number & (1 << 64) - 1)


_CONTAINERS: Final[dict[type, tuple[int, int, int]]] = {
    dict: _DICT,
    list: _LIST,
    tuple: _TUPLE,
    set: _SET,
    frozenset: _FROZENSET,
}
_WRITERS: Final[dict[type, Callable[[Any], bytes]]] = {
    type(None): lambda _: b"\xe8",
    bool: lambda item: b"\xea" if item else b"\xe9",
    int: _int,
    float: lambda item: struct.pack("=Bd", 0xEB, item),
    complex: lambda item: struct.pack("=Bdd", 0xFA, item.real, item.imag),
    str: _str,
    bytes: lambda item: _sized(0xF3, item, item),
    bytearray: lambda item: _sized(0xF4, bytes(item), item),
}
_LATE: Final[dict[str, dict[str, Callable[[Any], bytes]]]] = {
    "datetime": {"date": _date, "datetime": _datetime, "time": _time, "timedelta": _timedelta},
    "decimal": {"Decimal": _decimal},
    "uuid": {"UUID": _uuid},
}


def _late_writer(kind: type) -> Callable[[Any], bytes] | None:
    """Return the writer of a type whose module the program has imported."""
    for name, writers in _LATE.items():
        if name in sys.modules:
            module = plain.load(name)
            for attribute, write in writers.items():
                if getattr(module, attribute) is kind:
                    _WRITERS[kind] = write
                    return write
    return None
