"""Everyday objects: strategies that draw them, and the payloads that queues hold of them."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue._codec.tags import OBJECTS

ITEM_SIZE = 1 << 16

text = st.text(st.characters(exclude_categories=()))  # lone surrogates as well
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(1 << 70), 1 << 70),
    st.floats(),
    st.complex_numbers(),
    text,
    st.text("abcdefgh_", max_size=70),
    st.binary(),
    st.dates(),
    st.datetimes(timezones=st.sampled_from([None, dt.UTC]), allow_imaginary=True),
    st.times(),
    st.timedeltas(),
    st.decimals(),
    st.decimals(places=20, allow_nan=False, allow_infinity=False),
    st.uuids(),
)


def _is_hashable(item: object) -> bool:
    return not isinstance(item, Decimal) or not item.is_snan()


keys = st.recursive(
    scalars.filter(_is_hashable),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=4),
    max_leaves=4,
)
items = st.recursive(
    scalars | keys | st.binary(max_size=9).map(bytearray),
    lambda inner: (
        st.lists(inner, max_size=20)
        | st.tuples(inner, inner, inner)
        | st.dictionaries(keys, inner, max_size=20)
        | st.sets(keys, max_size=20)
        | st.frozensets(keys, max_size=4)
    ),
    max_leaves=30,
)


@st.composite
def sharing(draw: st.DrawFn) -> list[Any]:
    """Draw a list in which some objects are there twice."""
    parts = draw(st.lists(items, min_size=1, max_size=4))
    return parts + draw(st.lists(st.sampled_from(parts), min_size=1, max_size=4))


def payload_of(queue: SharedMemoryQueue) -> tuple[bytes, int]:
    """Take the payload of the next item, and its tag, by a handle of the atomics engine."""
    ((payload, tag),) = queue._engine.get(1, 0, list)  # type: ignore[attr-defined]
    return bytes(payload), tag


def put_payload(queue: SharedMemoryQueue, payload: bytes, tag: int = OBJECTS) -> None:
    """Put a payload, by a handle of the atomics engine, as an item that is damaged perhaps."""
    queue._engine.put((payload, tag), 0)  # type: ignore[attr-defined]


EXAMPLES: list[Any] = [
    {"id": 1, "payload": "x" * 20},
    [True, None, 1.5, -1, 1 << 40, -(1 << 90)],
    ("é", "\ud800", b"\0", bytearray(b"x"), 2j),
    {1, 2, "three"},
    frozenset({(1, 2), uuid.UUID(int=5)}),
    dt.datetime(2024, 2, 29, 12, 30, 1, 999_999, dt.UTC, fold=1),
    [dt.date(1, 1, 1), dt.time(23, 59, fold=1), dt.timedelta(days=-1, microseconds=1)],
    {uuid.UUID(int=1): Decimal("1.50")},
]
