"""Plain data arrives unchanged, of its exact type, in the payload that its kind has."""

from __future__ import annotations

import collections
import datetime
import decimal
import os
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_multiprocess_queue._codec.codec import Codec
from shared_multiprocess_queue._codec.tags import BYTES, CONSTANTS, FLOAT, INT, MAIN, PICKLE, STR
from shared_multiprocess_queue.errors import SerializationError
from tests.support.main_programs import DictStore, Enter, round_trip

MARKERS = [b"\x93", b"__main__", b"\x8c\x08__main__\x94\x8c\x01P\x94\x93", b"\x93" + bytes(5000) + b"__main__"]


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=()))
    | st.binary()
    | st.sampled_from(MARKERS)
    | st.dates(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.builds(lambda value: b"%s" % repr(value).encode("utf-8", "surrogatepass"), inner)
    ),
    max_leaves=20,
)


shared_codec = Codec(DictStore())  # one for all examples: what it remembers of one must not harm the next


@given(plain)
@settings(deadline=None)
def test_plain_data_arrives_unchanged(item: object) -> None:
    payload, tag = shared_codec.encode(item)
    # A date says itself how it is reduced, so bytes beside it that look like a name cost the item a look.
    assert tag in {PICKLE, BYTES, STR, INT, FLOAT, *CONSTANTS} or (tag == MAIN and b"datetime" in payload)
    result = shared_codec.decode(payload, tag)
    assert repr(result) == repr(item)
    assert type(result) is type(item)


@pytest.mark.parametrize(
    "item",
    [
        {"a": 1, "b": [2.5, None]},
        (1, 2),
        datetime.datetime(2024, 5, 1),
        decimal.Decimal("1.5"),
        collections.OrderedDict(a=1),
        os.path.join,
    ],
)
def test_where_pickle_suffices_the_payload_is_pickles(codec: Codec, item: object) -> None:
    assert codec.encode(item) == (pickle.dumps(item, 5), PICKLE)


def test_bytes_are_not_copied(codec: Codec) -> None:
    item = bytes(4096)
    payload, tag = codec.encode(item)
    assert payload is item
    assert tag == BYTES
    assert codec.decode(payload, tag) is payload


def test_text_is_utf8(codec: Codec) -> None:
    assert codec.encode("grün") == ("grün".encode(), STR)


@pytest.mark.parametrize("item", ["\ud800", "a\udcffb", "\x00", ""])
def test_lone_surrogates_and_odd_text_arrive(codec: Codec, item: str) -> None:
    assert round_trip(codec, item) == item


INTS = [0, 1, -1, (1 << 63) - 1, -1 << 63]
FLOATS = [0.0, -0.0, 1.5, float("inf"), -float("inf"), float("nan"), 5e-324]


@pytest.mark.parametrize(
    ("item", "tag", "size"),
    [
        *((item, INT, 8) for item in INTS),
        *((item, FLOAT, 8) for item in FLOATS),
        *((v, t, 0) for t, v in CONSTANTS.items()),
    ],
)
def test_a_scalar_is_a_word_or_nothing_and_arrives_as_it_was(codec: Codec, item: object, tag: int, size: int) -> None:
    payload, used = codec.encode(item)
    assert (len(payload), used) == (size, tag)
    result = codec.decode(payload, used)
    assert repr(result) == repr(item)
    assert type(result) is type(item)


@pytest.mark.parametrize("item", [1 << 63, (-1 << 63) - 1, 1 << 200])
def test_an_int_of_more_than_a_word_is_pickled(codec: Codec, item: int) -> None:
    assert codec.encode(item) == (pickle.dumps(item, 5), PICKLE)


class Label(str):
    pass


class Blob(bytes):
    pass


@pytest.mark.parametrize("item", [Label("x"), Blob(b"x"), bytearray(b"x"), True, 1.0])
def test_the_exact_type_arrives(codec: Codec, item: object) -> None:
    result = round_trip(codec, item)
    assert type(result) is type(item)
    assert result == item


@pytest.mark.parametrize("marker", MARKERS)
@pytest.mark.parametrize("wrap", [list, tuple, lambda items: {"items": list(items)}])
def test_data_that_looks_like_a_name_of_main_is_only_data(
    codec: Codec, store: DictStore, enter: Enter, marker: bytes, wrap: Callable[[list[Any]], object]
) -> None:
    texts = [marker, marker.decode("latin-1"), "__main__"]
    for item, tags in ((wrap(texts), {PICKLE}), (wrap([*texts, datetime.date(2024, 1, 1)]), {PICKLE, MAIN})):
        for program in ("/nowhere/program.py", None):
            enter("", program)
            payload, tag = codec.encode(item)
            assert tag in tags
            assert codec.decode(payload, tag) == item
            enter("", "/nowhere/other.py")
            assert codec.decode(payload, tag) == item
    assert not store.definitions


@pytest.mark.parametrize("size", [100, 1 << 11, 1 << 16, 1 << 17, 1 << 20])
def test_large_binary_items_arrive_every_time(codec: Codec, size: int) -> None:
    items = [{"t": datetime.date(2024, 1, 1), "data": bytes([0x93]) * n} for n in (size, 5, size, 7)]
    for item in items:
        assert round_trip(codec, item) == item


class Unhashable(type):
    __hash__ = None  # type: ignore[assignment]

    def __eq__(cls, other: object) -> bool:
        raise AssertionError("nobody may compare this class")


class OfUnhashable(metaclass=Unhashable):
    pass


def test_an_unhashable_class_is_refused_by_pickle_and_not_by_the_codec(codec: Codec) -> None:
    with pytest.raises(SerializationError, match="OfUnhashable cannot be serialised: TypeError: unhashable"):
        codec.encode(OfUnhashable())
