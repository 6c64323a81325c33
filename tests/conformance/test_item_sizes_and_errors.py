"""The largest item, and items that cannot be sent or read."""

from __future__ import annotations

import os
import pickle
import random
import threading

import pytest

from shared_multiprocess_queue import (
    DeserializationError,
    ItemTooLargeError,
    QueueInUseError,
    RoleTakenError,
    SerializationError,
)
from tests.support.items import Poison, Unwilling
from tests.support.queues import MakeQueue, drained

pytestmark = [
    pytest.mark.usefixtures("engines"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


@pytest.mark.parametrize("item_size", [1, 47, 48, 49, 64, 1000])
def test_an_item_of_item_size_bytes_fits_and_one_more_byte_does_not(make: MakeQueue, item_size: int) -> None:
    q = make(capacity=2, item_size=item_size)
    full_size = [os.urandom(item_size), "x" * item_size]
    for item in full_size:
        q.put(item)
        assert q.get() == item
    q.put_batch(full_size)
    # Of text that is random, deflating leaves more than two thirds.
    text = "".join(map(chr, random.Random(item_size).choices(range(0x80, 0x800), k=item_size + 1)))
    for item, size in ((b"x" * (item_size + 1), item_size + 1), (text, 2 * item_size + 2)):
        with pytest.raises(ItemTooLargeError) as caught:
            q.put(item)
        error = caught.value
        assert (error.size, error.limit) == (size, item_size)
        assert isinstance(error, ValueError)
        assert f"{size:,}" in str(error)
        assert f"{item_size:,}" in str(error)
        assert f"item_size={size}" in str(error), "what to do"
    assert drained(q) == full_size, "neighbours were not touched"


def test_the_size_that_the_error_names_is_enough(make: MakeQueue) -> None:
    item = {"key": list(range(200))}
    with pytest.raises(ItemTooLargeError) as caught:
        make("small", item_size=10).put(item)
    enough = make("enough", item_size=caught.value.size)
    enough.put(item)
    assert enough.get() == item


@pytest.mark.parametrize("item", [Unwilling(), threading.Lock(), (number for number in range(3)), [1, Unwilling()]])
def test_an_item_that_cannot_be_serialised_is_refused_with_the_reason(make: MakeQueue, item: object) -> None:
    q = make()
    with pytest.raises(SerializationError) as caught:
        q.put(item)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value.__cause__, Exception)
    assert str(caught.value.__cause__) in str(caught.value)
    assert q.empty()
    q.put("goes on")
    assert q.get() == "goes on"


def test_an_item_that_cannot_be_read_is_taken_with_its_bytes(make: MakeQueue) -> None:
    """The error has its bytes, and the next item comes."""
    q = make()
    q.put(Poison())
    q.put("next")
    with pytest.raises(DeserializationError) as caught:
        q.get()
    error = caught.value
    assert isinstance(error, ValueError)
    assert isinstance(error.__cause__, LookupError)
    with pytest.raises(LookupError, match="no way back"):
        pickle.loads(error.raw)
    assert "no way back" in str(error)
    assert q.get() == "next"


def test_errors_can_be_sent_through_a_queue_with_what_they_carry(make: MakeQueue) -> None:
    """A worker that reports its error does so."""
    q = make(item_size=1000)
    for error in (ItemTooLargeError(5, 4), RoleTakenError("producer", 7), DeserializationError("why", b"raw")):
        q.put(error)
        copy = q.get()
        assert type(copy) is type(error)
        assert vars(copy) == vars(error)
        assert str(copy) == str(error)


def test_errors_advise_what_there_is_and_count_as_people_do() -> None:
    assert "create a SharedMemoryQueue with max_item_size=5 or more" in str(ItemTooLargeError(5, 4))
    assert "create the queue with item_size=5 or more," in str(ItemTooLargeError(5, 4, argument="item_size"))
    assert "(1 process could not be looked at)" in str(QueueInUseError("q", (), 1))
    assert "(2 processes could not be looked at)" in str(QueueInUseError("q", (), 2))
