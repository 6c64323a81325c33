"""What cannot be encoded or decoded is an error that says why."""

from __future__ import annotations

import datetime
import threading
from typing import Any

import pytest

from shared_multiprocess_queue._codec.codec import Codec
from shared_multiprocess_queue._codec.tags import CONSTANTS, FLOAT, INT, MAIN, PICKLE, STR
from shared_multiprocess_queue.errors import DeserializationError, SerializationError
from tests.support.items import Refusing
from tests.support.main_programs import round_trip


def test_an_item_that_cannot_be_serialised_is_named_with_the_reason(codec: Codec) -> None:
    with pytest.raises(SerializationError, match=r"_thread\.lock cannot be serialised: TypeError") as caught:
        codec.encode(threading.Lock())
    assert isinstance(caught.value.__cause__, TypeError)


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text for you")


@pytest.mark.parametrize("error", [ValueError("mine"), StopIteration(), MemoryError(), UnprintableError()])
def test_whatever_reduce_raises_is_a_serialization_error(codec: Codec, error: Exception) -> None:
    with pytest.raises(SerializationError, match="Refusing cannot be serialised") as caught:
        codec.encode(Refusing(error))
    assert caught.value.__cause__ is error


def test_too_deep_an_item_is_a_serialization_error(codec: Codec) -> None:
    item: list[Any] = []
    for _ in range(200_000):
        item = [item]
    with pytest.raises(SerializationError, match="recursion"):
        codec.encode(item)
    while item:  # or else freeing it would be as deep
        item = item.pop()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interruptions_pass_through_encode(codec: Codec, error: type[BaseException]) -> None:
    for items in ([], [b"\x93" * 3000]):
        with pytest.raises(error):
            codec.encode([Refusing(error()), *items])
        codec.encode([b"\x93" * 3000, datetime.date(2024, 1, 1)])
        with pytest.raises(error):
            codec.encode([Refusing(error()), *items])
        assert round_trip(codec, [1]) == [1]


def explode(error: BaseException) -> None:
    raise error


class Explosive:
    """Raises when it is read."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        return explode, (self.error,)


@pytest.mark.parametrize("error", [ValueError("mine"), AttributeError("x"), UnprintableError()])
def test_whatever_loading_raises_is_a_deserialization_error_with_the_bytes(codec: Codec, error: Exception) -> None:
    payload, tag = codec.encode(Explosive(error))
    with pytest.raises(DeserializationError, match=f"{type(error).__name__}.*cannot|cannot be turned back") as caught:
        codec.decode(payload, tag)
    assert caught.value.raw == payload
    assert type(caught.value.__cause__) is type(error)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interruptions_pass_through_decode(codec: Codec, error: type[BaseException]) -> None:
    with pytest.raises(error):
        round_trip(codec, Explosive(error()))


class TwoArgumentsError(Exception):
    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} {second}")


def test_an_exception_that_pickle_cannot_rebuild_is_refused_at_get(codec: Codec) -> None:
    """It is a DeserializationError."""
    payload, tag = codec.encode(TwoArgumentsError(1, 2))
    with pytest.raises(DeserializationError) as caught:
        codec.decode(payload, tag)
    assert caught.value.raw == payload


@pytest.mark.parametrize(("payload", "tag"), [(b"x", 99), (b"x", -1)])
def test_an_unknown_tag_is_a_deserialization_error(codec: Codec, payload: bytes, tag: int) -> None:
    with pytest.raises(DeserializationError, match=f"tag {tag}") as caught:
        codec.decode(payload, tag)
    assert caught.value.raw == payload


@pytest.mark.parametrize("tag", [PICKLE, STR, MAIN, INT, FLOAT, *CONSTANTS])
@pytest.mark.parametrize("payload", [b"", b"\xff", b"\x80\x05.", bytes(20), b"\xff" * 50])
def test_damaged_bytes_are_a_deserialization_error(codec: Codec, payload: bytes, tag: int) -> None:
    if (tag == STR and payload in {b"", bytes(20)}) or (tag in CONSTANTS and not payload):
        pytest.skip("nothing is damaged")
    with pytest.raises(DeserializationError) as caught:
        codec.decode(payload, tag)
    assert caught.value.raw == payload
