"""Whether two items are the same, type for type and bit for bit."""

from __future__ import annotations

import datetime as dt
import struct
import uuid
from decimal import Decimal
from typing import Any


def alike(one: Any, other: Any) -> bool:
    """Whether two items cannot be told apart but by the places of their objects in memory.

    The order of a set counts for nothing: that of NaNs in it follows from their places.
    """
    kind = type(one)
    if kind is not type(other):
        return False
    if kind is dict:
        return len(one) == len(other) and alike(list(_parts(one)), list(_parts(other)))
    if kind is list or kind is tuple:
        return len(one) == len(other) and all(map(alike, one, other))
    if kind is set or kind is frozenset:
        return len(one) == len(other) and _have_the_same(one, list(other))
    return bool(_essence(one) == _essence(other))


def _have_the_same(one: Any, left: list[Any]) -> bool:
    for element in one:
        found = next((number for number, other in enumerate(left) if alike(element, other)), None)
        if found is None:
            return False
        del left[found]
    return True


def _parts(item: dict[Any, Any]) -> Any:
    for pair in item.items():
        yield from pair


def _essence(item: Any) -> object:
    match item:
        case float():
            return struct.pack("=d", item)
        case complex():
            return struct.pack("=dd", item.real, item.imag)
        case Decimal():
            return item.as_tuple()
        case dt.datetime() | dt.time():
            return item.replace(tzinfo=None), item.fold, id(item.tzinfo) if item.tzinfo is dt.UTC else 0
        case uuid.UUID():
            return item.int, item.is_safe
    return item
