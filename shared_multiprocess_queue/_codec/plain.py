"""Everyday objects from bytes: the reader for what the native engine writes, which has the same in C.

Objects of exact built-in types, nested, and dates, times, Decimals and UUIDs need no pickle. An item is written like
this as a whole or not at all; with anything else in it, or a mutable object in two places, pickle has all of it.

A value is a tag of one byte and what follows it. Numbers are in the byte order of the machine and not aligned, lengths
and counts have 32 bits, and containers may lie 100 deep.

====================  ==============================  =======================================================
tag                   value                           what follows
====================  ==============================  =======================================================
00 to 7F              an int, the tag itself
80 to BF              an ASCII str, 0 to 63 long      the characters
C0 to CF              a dict of 0 to 15 entries       key, value, key, value, in order
D0 to DF              a list of 0 to 15 elements      the elements
E0 to E7              a tuple of 0 to 7 elements      the elements
E8, E9, EA            None, False, True
EB                    a float                         8 bytes
EC, ED, EE, EF        an int                          1, 2, 4, 8 bytes, signed
F0                    any other int                   length, two's complement, little-endian
F1, F2                a longer ASCII str, other str   length, ASCII or UTF-8 with lone surrogates as three bytes
F3, F4                bytes, bytearray                length, the bytes
F5, F6, F7, F8, F9    a longer list, tuple, dict;     count, the elements
                      a set, frozenset
FA                    a complex                       two floats
FB 00, FB 01          a datetime, naive or of         10 bytes: year (2), month, day, hour, minute, second,
                      ``timezone.utc``                microsecond (3), numbers big-endian; fold: month + 80
FB 02                 a date                          4 bytes: year (2), month, day
FB 03                 a time, naive                   6 bytes: hour, minute, second, microsecond (3); hour + 80
FB 04                 a timedelta                     days, seconds, microseconds, of 32 bits each, signed
FC 00                 a Decimal                       its text, as an ASCII str
FC 01                 a UUID of no known safety       16 bytes
====================  ==============================  =======================================================

Every byte is checked before anything is made of it. A length or count is at most what is left, so a payload cannot ask
for more objects than it has bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final, NoReturn

from .._platform.lazy_import import late

__all__ = ["DEPTH", "load", "read"]

DEPTH: Final = 100

_COUNT: Final = struct.Struct("=I")
_COMPLEX: Final = struct.Struct("=dd")
_TIMEDELTA: Final = struct.Struct("=iii")
_NUMBERS: Final = {0xEB + number: struct.Struct(kind) for number, kind in enumerate(("=d", "=b", "=h", "=i", "=q"))}
_CONSTANTS: Final = {0xE8: None, 0xE9: False, 0xEA: True}
_Make = Callable[[list[Any]], Any]
_SECONDS: Final = 86_400
_US: Final = 1_000_000


@late
def _datetime() -> Any:
    import datetime  # noqa: PLC0415

    return datetime


@late
def _decimal() -> Any:
    import decimal  # noqa: PLC0415

    return decimal


@late
def _strict() -> Any:
    """Make a context of Decimals in which what is no number is an error; that of the thread may take it for NaN."""
    decimal = _decimal()
    return decimal.Context(traps=[decimal.InvalidOperation])


@late
def _uuid() -> Any:
    import uuid  # noqa: PLC0415

    return uuid


_MODULES: Final[dict[str, Callable[[], Any]]] = {"datetime": _datetime, "decimal": _decimal, "uuid": _uuid}


def load(name: str) -> Any:
    """Return a module to which values belong, for the native engine: "datetime", "decimal" or "uuid"."""
    return _MODULES[name]()


def read(payload: bytes) -> Any:
    """Return the item of a payload.

    Args:
        payload: all of its bytes.

    Raises:
        ValueError, TypeError, ArithmeticError: no writer has made these bytes.
    """
    reader = _Reader(payload)
    item = reader.item()
    if reader.at != len(payload):
        reader.refuse("there is more behind its end")
    return item


def _as_it_is(parts: list[Any]) -> list[Any]:
    return parts


class _Reader:
    """Reads values from a payload, one after the other.

    Attributes:
        at: where the next one begins.
    """

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self.at = 0

    def refuse(self, why: str) -> NoReturn:
        """Raise the error of damaged bytes."""
        raise ValueError(f"it is damaged before byte {self.at}: {why}")

    def _take(self, size: int) -> bytes:
        at = self.at
        if len(self._payload) - at < size:
            self.refuse("it ends too early")
        self.at = at + size
        return self._payload[at : at + size]

    def _count(self, each: int = 1) -> int:
        """Read a count of things of at least so many bytes."""
        count: int = _COUNT.unpack(self._take(4))[0]
        if count * each > len(self._payload) - self.at:
            self.refuse("it states more than there is")
        return count

    def item(self) -> Any:
        """Read one value with all that is in it; no function calls itself, so it needs no room on the stack."""
        unfinished: list[tuple[int, list[Any], _Make]] = []
        while True:
            (tag,) = self._take(1)
            begun = self._container(tag)
            if begun is None:
                value = self._scalar(tag)
            else:
                if len(unfinished) == DEPTH:
                    self.refuse("its containers are too deep")
                count, make = begun
                if count > 0:
                    unfinished.append((count, [], make))
                    continue
                value = make([])
            while unfinished:
                count, parts, make = unfinished[-1]
                parts.append(value)
                if len(parts) < count:
                    break
                unfinished.pop()
                value = make(parts)
            else:
                return value

    def _container(self, tag: int) -> tuple[int, _Make] | None:
        """Return how many values are the parts of a container, and what makes it of them; None if it is a scalar."""
        if tag < 0xC0:
            return None
        if tag < 0xD0:
            return 2 * (tag - 0xC0), self._dict
        if tag < 0xE0:
            return tag - 0xD0, _as_it_is
        if tag < 0xE8:
            return tag - 0xE0, tuple
        match tag:
            case 0xF5:
                return self._count(), _as_it_is
            case 0xF6:
                return self._count(), tuple
            case 0xF7:
                return 2 * self._count(2), self._dict
            case 0xF8:
                return self._count(), self._set
            case 0xF9:
                return self._count(), self._frozenset
        return None

    def _dict(self, parts: list[Any]) -> dict[Any, Any]:
        found = dict(zip(parts[::2], parts[1::2], strict=True))
        if 2 * len(found) != len(parts):
            self.refuse("a dict has a key twice")
        return found

    def _set(self, parts: list[Any]) -> set[Any]:
        found = set(parts)
        if len(found) != len(parts):
            self.refuse("a set has an element twice")
        return found

    def _frozenset(self, parts: list[Any]) -> frozenset[Any]:
        return frozenset(self._set(parts))

    def _scalar(self, tag: int) -> Any:
        if tag < 0x80:
            return tag
        if tag < 0xC0:
            return self._ascii(tag - 0x80)
        if tag in _NUMBERS:
            number = _NUMBERS[tag]
            return number.unpack(self._take(number.size))[0]
        return _CONSTANTS[tag] if tag in _CONSTANTS else self._long(tag)

    def _long(self, tag: int) -> Any:
        match tag:
            case 0xF0:
                return int.from_bytes(self._take(self._count()), "little", signed=True)
            case 0xF1:
                return self._ascii(self._count())
            case 0xF2:
                return self._take(self._count()).decode("utf-8", "surrogatepass")
            case 0xF3:
                return self._take(self._count())
            case 0xF4:
                return bytearray(self._take(self._count()))
            case 0xFA:
                return complex(*_COMPLEX.unpack(self._take(_COMPLEX.size)))
            case 0xFB:
                return self._time()
            case 0xFC:
                return self._object()
        return self.refuse("there is no such kind of value")

    def _ascii(self, length: int) -> str:
        return self._take(length).decode("ascii")

    def _time(self) -> Any:
        times = _datetime()
        (kind,) = self._take(1)
        if kind <= 1:
            year, month, *rest = self._parts(10)
            zone = times.timezone.utc if kind else None
            return times.datetime(year, month & 0x7F, *rest, zone, fold=month >> 7)
        if kind == 2:
            return times.date(*self._parts(4))
        if kind == 3:
            hour, minute, second, *us = self._take(6)
            return times.time(hour & 0x7F, minute, second, int.from_bytes(us, "big"), fold=hour >> 7)
        if kind == 4:
            days, seconds, us = _TIMEDELTA.unpack(self._take(_TIMEDELTA.size))
            if not (0 <= seconds < _SECONDS and 0 <= us < _US):
                self.refuse("a timedelta is out of range")
            return times.timedelta(days, seconds, us)
        return self.refuse("there is no such kind of time")

    def _parts(self, size: int) -> list[int]:
        """Read year, month, day, and, of a datetime, hour, minute, second and microsecond."""
        parts = self._take(size)
        year = int.from_bytes(parts[:2], "big")
        return [year, *parts[2:7], *([int.from_bytes(parts[7:], "big")] if size > 4 else [])]

    def _object(self) -> Any:
        (kind,) = self._take(1)
        if kind == 0:
            (tag,) = self._take(1)
            if tag != 0xF1 and not 0x80 <= tag < 0xC0:
                self.refuse("a Decimal has no text")
            text = self._ascii(self._count() if tag == 0xF1 else tag - 0x80)
            return _decimal().Decimal(text, _strict())
        if kind == 1:
            return self._uuid()
        return self.refuse("there is no such kind of object")

    def _uuid(self) -> Any:
        """Like the unpickler, this sets the attributes, and calls no function of the class."""
        number = int.from_bytes(self._take(16), "big")
        module = _uuid()
        found = object.__new__(module.UUID)
        object.__setattr__(found, "int", number)
        object.__setattr__(found, "is_safe", module.SafeUUID.unknown)
        return found
