"""Batches: as a whole or not at all, contiguous, up to the limit."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from shared_multiprocess_queue import (
    DeserializationError,
    Empty,
    Full,
    ItemTooLargeError,
    SerializationError,
    SharedMemoryQueue,
)
from shared_multiprocess_queue.errors import ArgumentError
from tests.support.items import Poison, Unwilling
from tests.support.queues import MakeQueue, drained
from tests.support.waiting import LONG, eventually, in_thread, sleeps

pytestmark = [
    pytest.mark.usefixtures("engines"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


# ---- put_batch ------------------------------------------------------------------------------------------------------


def test_a_batch_goes_in_as_a_whole_or_not_at_all(make: MakeQueue) -> None:
    q = make(capacity=3, item_size=100)
    q.put(0)
    with pytest.raises(Full):
        q.put_batch([1, 2, 3], block=False)
    with pytest.raises(ItemTooLargeError):
        q.put_batch([1, b"x" * 101])
    with pytest.raises(SerializationError):
        q.put_batch([1, Unwilling()])

    def breaks_off() -> Iterator[int]:
        yield 1
        raise LookupError("on purpose")

    with pytest.raises(LookupError, match="on purpose"):
        q.put_batch(breaks_off())
    assert q.qsize() == 1
    q.put_batch([1, 2])
    assert drained(q) == [0, 1, 2]


def test_a_batch_that_can_never_fit_is_refused_at_once(make: MakeQueue) -> None:
    q = make(capacity=3)
    with pytest.raises(ValueError, match=r"4 items .* holds 3") as caught:
        q.put_batch(range(4))  # would otherwise wait for ever
    assert isinstance(caught.value, ArgumentError)
    assert q.empty()


def test_a_batch_of_no_items_does_nothing_and_waits_for_nothing(make: MakeQueue) -> None:
    q = make(capacity=1)
    q.put_batch([])
    assert q.empty()
    q.put(1)
    q.put_batch(iter(()))
    assert drained(q) == [1]


@pytest.mark.parametrize("offset", [0, 1, 2])
def test_a_batch_may_fill_the_queue_wherever_a_lap_begins(make: MakeQueue, offset: int) -> None:
    q = make(capacity=3)
    for _ in range(offset):
        q.put(None)
        q.get()
    for lap in range(3):
        q.put_batch(number + lap for number in range(3))
        assert q.full()
        assert q.get_batch(3) == [lap, lap + 1, lap + 2]


@pytest.mark.usefixtures("eager")
def test_batches_stay_together_and_appear_at_once_among_other_puts(make_queue: MakeQueue) -> None:
    q = make_queue(capacity=5)
    sizes = [1, 2, 3, 4, 5]

    def put_batches(me: int) -> None:
        for number in range(40):
            size = sizes[(me + number) % len(sizes)]
            q.put_batch([(me, number, index, size) for index in range(size)])

    def put_singles() -> None:
        for number in range(60):
            q.put(("single", number, 0, 1))

    putters = [in_thread(put_batches, 1), in_thread(put_batches, 2), in_thread(put_singles)]
    seen: Counter[Any] = Counter()
    for _ in range(40 + 40 + 60):
        me, number, index, size = q.get(timeout=LONG)
        assert index == 0, f"batch {number} of {me} begins with its item {index}"
        for rest in range(1, size):
            assert q.get_nowait() == (me, number, rest, size), "the first item was there before the others, or alone"
        seen[me] += 1
    for putter in putters:
        putter.result(LONG)
    assert seen == {1: 40, 2: 40, "single": 60}
    assert q.empty()


def test_a_batch_gets_through_a_queue_that_single_puts_keep_full(make_queue: MakeQueue) -> None:
    q = make_queue(capacity=4)
    over = threading.Event()

    def keep_putting() -> int:
        count = 0
        while not over.is_set():
            with suppress(Full):
                q.put("single", timeout=0.05)
                count += 1
        return count

    def keep_getting() -> list[Any]:
        found: list[Any] = []
        while not over.is_set() or not q.empty():
            with suppress(Empty):
                found.append(q.get(timeout=0.05))
        return found

    putters = [in_thread(keep_putting) for _ in range(3)]
    eventually(q.full)
    got = in_thread(keep_getting)
    try:
        for number in range(3):
            q.put_batch([(number, index) for index in range(4)], timeout=LONG)
    finally:
        over.set()
    singles = sum(putter.result(LONG) for putter in putters)
    found = got.result(LONG) + drained(q)
    batches = [(number, index) for number in range(3) for index in range(4)]
    assert [item for item in found if item != "single"] == batches
    for number in range(3):
        first = found.index((number, 0))
        assert found[first : first + 4] == [(number, index) for index in range(4)]
    assert len(found) == singles + 12
    q.put_nowait("the gate is open again")


# ---- get_batch ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("there", [1, 2, 3])
@pytest.mark.parametrize("limit", [1, 2, 3, 4, 1 << 70])
def test_get_batch_takes_what_is_there_up_to_its_limit(make: MakeQueue, there: int, limit: int) -> None:
    q = make(capacity=3)
    q.put_batch([None, None])
    assert q.get_batch(2) == [None, None]  # so that what follows wraps
    for item in range(there):
        q.put(item)
    got = q.get_batch(limit)
    assert type(got) is list
    assert got == list(range(min(there, limit)))
    assert drained(q) == list(range(min(there, limit), there))


def test_get_batch_waits_for_one_item_and_not_for_more(make: MakeQueue) -> None:
    q = make(capacity=3)
    got = in_thread(q.get_batch, 3)
    eventually(sleeps(q, "get"))
    q.put("only one")
    assert got.result(LONG) == ["only one"]


@pytest.mark.parametrize("wrong", [0, -1, True, 1.0, "1", None])
def test_get_batch_refuses_limits_that_are_none(make: MakeQueue, wrong: Any) -> None:
    q = make()
    q.put(1)
    with pytest.raises(ArgumentError, match="max_items must be a whole number of at least 1"):
        q.get_batch(wrong)
    assert q.qsize() == 1


@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_item_that_cannot_be_read_ends_a_batch_and_loses_no_other(make: MakeQueue, place: int) -> None:
    q = make(capacity=4)
    items: list[Any] = ["a", "b", "c"]
    items.insert(place, Poison())
    q.put_batch(items)
    if place:
        assert q.get_batch(4) == items[:place]
        assert q.qsize() == 4 - place
        assert not q.empty()
    with pytest.raises(DeserializationError) as caught:
        q.get_batch(4)
    assert isinstance(caught.value.__cause__, LookupError)
    assert drained(q) == items[place + 1 :]


@pytest.mark.parametrize("place", [0, 1])
def test_an_interrupt_while_the_rest_of_a_batch_is_kept_back(
    make: MakeQueue, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    """The call raises it, and no item is lost.

    The handle notes that it keeps items back, in Python; a signal may come just then.
    """
    interrupts = [KeyboardInterrupt()]

    def note() -> None:
        if interrupts:
            raise interrupts.pop()

    monkeypatch.setattr("shared_multiprocess_queue.queue._retire_at_exit", note)
    q = make(capacity=4)
    items: list[Any] = ["a", "b"]
    items.insert(place, Poison())
    q.put_batch(items)
    try:
        raise LookupError("which the caller is handling")
    except LookupError:
        with pytest.raises(KeyboardInterrupt) as caught:
            q.get_batch(4)
    if place == 0:
        assert isinstance(caught.value.__context__, DeserializationError)
    else:
        assert q.get_batch(4) == items[:place]
    with pytest.raises(DeserializationError):
        q.get_batch(4)
    assert drained(q) == items[place + 1 :]


def test_what_a_batch_left_unread_goes_back_at_close(make: MakeQueue, run_id: str) -> None:
    """Closing the handle puts it back into the queue."""
    with make(capacity=4) as producer:
        producer.put_batch([1, Poison(), 3])
    with SharedMemoryQueue("q", run_id=run_id) as reader:
        assert reader.get_batch(4) == [1]
    with SharedMemoryQueue("q", run_id=run_id) as q:
        with pytest.raises(DeserializationError):
            q.get_nowait()
        assert drained(q) == [3]


@pytest.mark.parametrize("why", ["full", "spsc"])
def test_what_a_batch_left_unread_and_cannot_go_back_is_warned_of(make_queue: MakeQueue, why: str) -> None:
    """It is lost with its handle, and the warning says why.

    A consumer of mode "spsc" cannot put while there is a producer, and a full queue takes nothing.
    """
    q = make_queue(capacity=3, mode="spsc" if why == "spsc" else "mpmc")
    reader = SharedMemoryQueue("q", run_id=q.run_id)
    q.put_batch([1, Poison(), 3])
    assert reader.get_batch(4) == [1]
    if why == "full":
        q.put_batch([4, 5, 6])
    with pytest.warns(ResourceWarning, match=rf"2 items .* lost .*{why}"):
        reader.close()
    assert reader.closed
    assert drained(q) == ([4, 5, 6] if why == "full" else [])
