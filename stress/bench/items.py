"""What is put: lists of items that differ, made where they are first used.

They differ, because a list that is pickled has equal objects once.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from pickle import dumps
from random import Random
from typing import Any, Final
from uuid import UUID

VARIETY: Final = 1024
_FEW: Final = 4  # of those that take megabytes
_PAGE: Final = 4096


@cache
def bytes_of(size: int) -> Sequence[Any]:
    """Return bytes of one size."""
    rng = Random(size)
    return [rng.randbytes(size) for _ in range(VARIETY)]


def small() -> Sequence[Any]:
    """Return bytes of 64."""
    return bytes_of(64)


def zeros_of(size: int) -> Sequence[Any]:
    """Return one item of so many bytes."""
    return [bytes(size)]


@cache
def dicts() -> Sequence[Any]:
    """Return small dicts."""
    return [{"data": f"item_{number}", "timestamp": number + 0.5} for number in range(VARIETY)]


@cache
def dicts_of_ten() -> Sequence[Any]:
    """Return dicts of ten fields: texts, numbers, None, a flag, bytes and a short list."""
    rng = Random(10)
    return [
        {
            "id": 1_000_000 + number,
            "user": f"user_{number}",
            "email": f"user_{number}@example.org",
            "score": rng.random(),
            "active": number % 3 > 0,
            "parent": None,
            "token": rng.randbytes(16),
            "tags": ["red", f"tag_{number % 7}"],
            "width": number % 1920,
            "created": 1.7e9 + number,
        }
        for number in range(VARIETY)
    ]


@cache
def lists_of_floats() -> Sequence[Any]:
    """Return lists of a hundred floats."""
    rng = Random(100)
    return [[rng.random() for _ in range(100)] for _ in range(VARIETY)]


@cache
def documents() -> Sequence[Any]:
    """Return nested documents: an order, its customer and five lines."""
    return [
        {
            "order": 10_000 + number,
            "customer": {"name": f"Customer {number}", "address": {"street": f"Road {number}", "city": "Leiden"}},
            "lines": [
                {"article": f"A-{line:05}", "count": line + 1, "price": 9.95 + number, "discounts": [0.1, 0.05]}
                for line in range(5)
            ],
            "paid": number % 2 == 0,
            "note": None,
        }
        for number in range(VARIETY)
    ]


@cache
def records() -> Sequence[Any]:
    """Return records of times, an amount and an identifier."""
    start, rng = datetime(2026, 1, 1, tzinfo=UTC), Random(1)
    return [
        {
            "id": UUID(int=rng.getrandbits(128)),
            "at": start + timedelta(seconds=number, microseconds=number),
            "day": date(2026, 1, 1 + number % 28),
            "took": timedelta(milliseconds=number),
            "amount": Decimal(number) / 100,
        }
        for number in range(VARIETY)
    ]


@cache
def arrays() -> Sequence[Any]:
    """Return NumPy arrays of 1 MiB."""
    import numpy as np  # noqa: PLC0415 (only for this; a peer's Python may not have it)

    return [np.random.default_rng(number).random(1 << 17) for number in range(_FEW)]


@cache
def frames() -> Sequence[Any]:
    """Return pandas frames of 6 MB: eight columns of floats."""
    import numpy as np  # noqa: PLC0415
    import pandas as pd  # noqa: PLC0415

    return [pd.DataFrame(np.random.default_rng(number).random((93_750, 8))) for number in range(_FEW)]


@cache
def mixed() -> Sequence[Any]:
    """Return bytes of many sizes: nine of ten are below 200 B, one of a hundred is 20 KiB, the others 1 to 4 KiB."""
    rng = Random(3)
    sizes = [rng.randint(16, 200) for _ in range(VARIETY)]
    for place in range(0, VARIETY, 10):
        sizes[place] = 20 << 10 if place % 100 == 0 else rng.randint(1 << 10, 4 << 10)
    return [rng.randbytes(size) for size in sizes]


def largest(items: Sequence[Any]) -> int:
    """Return the bytes of the largest item, serialised, as a size of slots."""
    size = max(len(item) if isinstance(item, bytes) else len(dumps(item, 5)) for item in items)
    unit = _PAGE if size > _PAGE else 64  # beyond a page there is room for what a format adds
    return -(-size // unit) * unit
