"""Items at random: all types that are everyday objects, nested, deep, shared, as keys, and a few that are not."""

from __future__ import annotations

import collections
import datetime as dt
import math
import struct
import uuid
from collections.abc import Callable
from decimal import Decimal
from random import Random
from typing import Any, Final

_EDGES: Final = (0, 1, 0x7F, 0x80, 0x7FFF, 0x8000, 0x7FFFFFFF, 0x80000000, (1 << 63) - 1, 1 << 63, 1 << 64, 1 << 300)
_ALPHABETS: Final = ("abcdefgh", "xyz\0\x7f", "aé\xff", "aĀ\ud800\udc00", "a\U0001f600\ud800")
_LENGTHS: Final = (0, 0, 1, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 39, 40, 41, 63, 64, 65, 200)
_SIZES: Final = (0, 1, 1, 2, 2, 3, 3, 4, 7, 8, 9, 15, 16, 17, 40)
_SPECIAL: Final = (0.0, -0.0, math.inf, -math.inf, math.nan, 5e-324)
_DEEPEST: Final = 130


class _Label(str):
    """A subclass, which is for pickle."""

    __slots__ = ()


def _int(rng: Random) -> int:
    edge = rng.choice(_EDGES) + rng.randint(-1, 1)
    return rng.choice((edge, -edge, rng.randrange(200), rng.getrandbits(rng.randrange(1, 400))))


def _float(rng: Random) -> float:
    if rng.random() < 0.3:
        return rng.choice(_SPECIAL)
    number: float = struct.unpack("=d", rng.randbytes(8))[0]
    return number


def _str(rng: Random) -> str:
    alphabet = rng.choice(_ALPHABETS[:2]) if rng.random() < 0.7 else rng.choice(_ALPHABETS)
    return "".join(rng.choices(alphabet, k=rng.choice(_LENGTHS)))


def _date(rng: Random) -> dt.date:
    return dt.date.fromordinal(rng.randint(1, dt.date.max.toordinal()))


def _time(rng: Random, zones: tuple[dt.tzinfo | None, ...] = (None,)) -> dt.time:
    parts = rng.randrange(24), rng.randrange(60), rng.randrange(60), rng.choice((0, 1, 999_999, rng.randrange(1 << 19)))
    return dt.time(*parts, tzinfo=rng.choice(zones), fold=rng.randrange(2))


def _datetime(rng: Random) -> dt.datetime:
    other = dt.timezone(dt.timedelta(hours=1)) if rng.random() < 0.02 else None
    return dt.datetime.combine(_date(rng), _time(rng, (None, dt.UTC, other)))


def _timedelta(rng: Random) -> dt.timedelta:
    largest = rng.choice((1, 1000, 999_999_998))
    return dt.timedelta(rng.randint(-largest, largest), rng.randrange(86_400), rng.randrange(1_000_000))


def _decimal(rng: Random) -> Decimal:
    if rng.random() < 0.1:
        return Decimal(rng.choice(("NaN", "-NaN123", "sNaN", "Infinity", "-Infinity", "-0", "0E+7", "-0.000")))
    digits = tuple(rng.randrange(10) for _ in range(rng.choice((1, 2, 5, 28, 60, 80))))
    return Decimal((rng.randrange(2), digits, rng.choice((0, -1, -2, 5, -40, 3000, -9000))))


def _uuid(rng: Random) -> uuid.UUID:
    safe = uuid.SafeUUID.safe if rng.random() < 0.02 else uuid.SafeUUID.unknown
    return uuid.UUID(int=rng.getrandbits(128), is_safe=safe)


def _other(rng: Random) -> Any:
    """What is for pickle."""
    return rng.choice((_Label("x"), collections.OrderedDict(a=1), range(3), Ellipsis, int, dt.UTC))


_FREQUENT: Final[tuple[Callable[[Random], Any], ...]] = (
    *(_str, _str, _int, _int, _float),
    lambda rng: rng.choice((None, True, False)),
)
_RARE: Final[tuple[Callable[[Random], Any], ...]] = (
    *(_date, _time, _datetime, _timedelta, _decimal, _uuid),
    lambda rng: complex(_float(rng), _float(rng)),
    lambda rng: rng.randbytes(rng.choice(_LENGTHS)),
)


def _scalar(rng: Random) -> Any:
    return rng.choice(_FREQUENT if rng.random() < 0.7 else _RARE)(rng)


class _Drawing:
    """One item while it is drawn.

    Args:
        rng: chooses everything.
    """

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._room = rng.choice((1, 5, 20, 60))  # objects
        self._shares = rng.random() < 0.2
        self._is_strange = rng.random() < 0.1
        self._made: list[Any] = []

    def value(self, depth: int = 0) -> Any:
        """Draw any object."""
        rng = self._rng
        self._room -= 1
        if self._made and self._shares and rng.random() < 0.1:
            return rng.choice(self._made)
        if self._is_strange and rng.random() < 0.05:
            return _other(rng)
        if depth > 8 or self._room < 0 or rng.random() < 0.4:
            made: Any = bytearray(rng.randbytes(3)) if rng.random() < 0.03 else _scalar(rng)
        else:
            made = self._container(depth)
        self._made.append(made)
        return made

    def _container(self, depth: int) -> Any:
        rng = self._rng
        size = min(rng.choice(_SIZES), max(self._room, 0))
        match rng.randrange(7):
            case 0 | 1:
                return [self.value(depth + 1) for _ in range(size)]
            case 2 | 3:
                return {self.key(depth + 1): self.value(depth + 1) for _ in range(size)}
            case 4:
                return tuple(self.value(depth + 1) for _ in range(size))
            case 5:
                return {self.key(depth + 1) for _ in range(size)}
        return frozenset(self.key(depth + 1) for _ in range(size))

    def key(self, depth: int) -> Any:
        """Draw an object that can be a key."""
        rng = self._rng
        self._room -= 1
        if depth < 6 and rng.random() < 0.1:
            kind = rng.choice((tuple, frozenset))
            return kind([self.key(depth + 1) for _ in range(rng.randrange(4))])
        made = _str(rng) if rng.random() < 0.5 else _scalar(rng)
        return "sNaN" if isinstance(made, Decimal) and made.is_snan() else made


def draw(rng: Random) -> Any:
    """Return an item."""
    if rng.random() < 0.01:
        return _deep(rng)
    if rng.random() < 0.01:
        return _wide(rng)
    item = _Drawing(rng).value()
    if rng.random() < 0.01:
        item = [item]
        item.append(item)
    return item


def _deep(rng: Random) -> Any:
    item = _scalar(rng)
    for _ in range(rng.choice((98, 99, 100, 101, rng.randrange(_DEEPEST)))):
        item = rng.choice((lambda inner: [inner], lambda inner: (inner,), lambda inner: {"k": inner}))(item)
    return item


def _wide(rng: Random) -> Any:
    """Many containers, for the table of those that were seen; in some items one of them twice."""
    item: list[Any] = [
        rng.choice((list, dict, set, bytearray))() for _ in range(rng.choice((7, 8, 9, 63, 64, 65, 260, 1100)))
    ]
    if rng.random() < 0.4:
        item.insert(rng.randrange(len(item) + 1), rng.choice(item))
    return item
