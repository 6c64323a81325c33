"""Objects that misbehave while they are pickled or unpickled, and items of extreme size or depth."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import Empty, Full
from typing import Any

import pytest

from shared_multiprocess_queue import (
    DeserializationError,
    ItemTooLargeError,
    QueueClosedError,
    SerializationError,
    SharedMemoryQueue,
    SharedMemoryQueueError,
    ShutDown,
)
from shared_multiprocess_queue._engine import membership
from shared_multiprocess_queue.errors import ArgumentError
from stress.hostile import actor
from tests.support.hostile_settings import ALLOWED
from tests.support.queues import MakeQueue

_in_use: SharedMemoryQueue | None = None  # what calls back when it is (un)pickled finds its queue here


class Trouble(BaseException):
    """No ``Exception``, so only the user's own code may handle it."""


def use(how: str) -> Any:
    assert _in_use is not None
    return actor.CALLS[how](_in_use)


def explode(error: BaseException) -> Any:
    raise error


class OnReduce:
    """Does something when it is pickled."""

    def __init__(self, action: Callable[[], Any]) -> None:
        self.action = action

    def __reduce__(self) -> Any:
        self.action()
        return str, ("pickled",)


class OnGetState:
    def __init__(self, action: Callable[[], Any]) -> None:
        self.action = action

    def __getstate__(self) -> Any:
        self.action()
        return {}


class OnRebuild:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.how = function, arguments

    def __reduce__(self) -> Any:
        return self.how


class OnSetState:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __setstate__(self, state: Any) -> None:
        raise state["error"]


class OnDelete:
    def __init__(self, action: Callable[[], Any]) -> None:
        self.action = action

    def __del__(self) -> None:
        self.action()


@pytest.fixture
def q(make_queue: MakeQueue, each_engine: str, mode: str) -> Iterator[SharedMemoryQueue]:
    global _in_use  # noqa: PLW0603
    _in_use = made = make_queue(capacity=3, item_size=2000, mode=mode)
    yield made
    _in_use = None


def still_works(queue: SharedMemoryQueue, *left: object) -> bool:
    """Whether a queue holds what is said, and a lap goes through it."""
    got = [queue.get_nowait() for _ in left]
    with pytest.raises(Empty):
        queue.get_nowait()
    queue.put_batch([1, 2, 3], block=False)
    return got == list(left) and queue.get_batch(3) == [1, 2, 3] and queue.get_metrics()["queue_size"] == 0


@pytest.mark.parametrize("maker", [OnReduce, OnGetState])
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("mine"), SerializationError),
        (RecursionError(), SerializationError),
        (MemoryError(), SerializationError),
        (Empty(), SerializationError),
        (Full(), SerializationError),
        (Trouble(), Trouble),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (GeneratorExit(), GeneratorExit),
    ],
)
def test_what_pickling_raises_leaves_the_queue_as_it_was(
    q: SharedMemoryQueue, maker: Any, error: BaseException, expected: type[BaseException]
) -> None:
    q.put("before")
    item = maker(lambda: explode(error))
    for call in (lambda: q.put(item), lambda: q.put_nowait(item), lambda: q.put_batch([1, item])):
        with pytest.raises(expected):
            call()  # type: ignore[no-untyped-call]
    assert still_works(q, "before")


@pytest.mark.parametrize(
    "error", [ValueError("mine"), RecursionError(), MemoryError(), Empty(), Full(), StopIteration()]
)
@pytest.mark.parametrize("maker", [lambda error: OnRebuild(explode, error), OnSetState])
def test_what_unpickling_raises_costs_that_item_and_no_other(
    q: SharedMemoryQueue, maker: Any, error: Exception
) -> None:
    q.put_batch([maker(error), "next", maker(error)])
    with pytest.raises(DeserializationError):
        q.get()
    assert q.get_batch(3) == ["next"]
    with pytest.raises(DeserializationError):
        q.get_batch(3)
    assert still_works(q)


@pytest.mark.parametrize("error", [Trouble(), KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_what_is_no_exception_passes_through_and_keeps_the_item(q: SharedMemoryQueue, error: BaseException) -> None:
    q.put_batch([OnRebuild(explode, error), "next"])
    for call in (q.get, lambda: q.get_batch(2)):
        with pytest.raises(type(error)):
            call()
    with pytest.raises(type(error)):
        q.get()
    assert q.qsize() == 2


CALLED_BACK = [how for how in actor.CALLS if how not in {"close", "create again", "retire", "fork"}]


@pytest.mark.parametrize("how", CALLED_BACK)
def test_pickling_may_use_the_queue(q: SharedMemoryQueue, how: str) -> None:
    def action() -> None:
        with suppress(*ALLOWED):
            use(how)

    q.put("before")
    for call in (lambda: q.put(OnReduce(action), False), lambda: q.put_batch([OnReduce(action)], False)):
        try:
            call()  # type: ignore[no-untyped-call]
        except Full:
            assert "put" in how
            assert q.full()
        except ShutDown:
            assert how.startswith("shutdown")
        else:
            assert q.get_batch(3)[-1] == "pickled"
        while not q.empty():
            q.get()
    assert is_ended(q) if how.startswith("shutdown") else still_works(q)


def is_ended(q: SharedMemoryQueue) -> bool:
    with pytest.raises(ShutDown):
        q.put("late")
    with pytest.raises(ShutDown):
        q.get()
    return q.is_shutdown


@pytest.mark.parametrize("how", CALLED_BACK)
def test_unpickling_may_use_the_queue(q: SharedMemoryQueue, how: str) -> None:
    q.put_batch([OnRebuild(use, how), "second", "third"])
    causes = []
    for _ in range(8):  # the call may have put something, or taken it
        try:
            q.get_nowait()
        except DeserializationError as error:
            causes.append(error.__cause__)
        except (Empty, ShutDown):
            break
    assert all(isinstance(cause, ALLOWED) for cause in causes)
    assert is_ended(q) if how.startswith("shutdown") else still_works(q)


@pytest.mark.parametrize("maker", ["pickling", "unpickling"])
def test_closing_the_queue_while_an_item_is_pickled_or_unpickled(
    q: SharedMemoryQueue, run_id: str, maker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "_QUIET", 50_000_000)  # ns
    with SharedMemoryQueue("q", run_id=run_id) as other:
        if maker == "pickling":
            with pytest.raises(SharedMemoryQueueError, match="closed"):
                q.put(OnReduce(q.close))
            assert other.empty()
        else:
            q.put(OnRebuild(use, "close"))
            assert q.get() is None, "what was taken before the close is delivered"
        with pytest.raises(QueueClosedError):
            q.get()
    with SharedMemoryQueue("q", run_id=run_id) as again:
        assert still_works(again)


@pytest.mark.parametrize("items", ["pickled", "iterated"])
def test_a_batch_whose_items_close_the_queue_ends_in_the_closed_error(q: SharedMemoryQueue, items: str) -> None:
    """The next item needs the codec of the handle that is closed."""

    def closing() -> Iterator[object]:
        q.close()
        yield (1, 2)

    with pytest.raises(QueueClosedError):
        q.put_batch([OnReduce(q.close), (1, 2)] if items == "pickled" else closing())


def test_a_finaliser_may_use_the_queue_in_the_middle_of_a_batch(q: SharedMemoryQueue) -> None:
    seen: list[int] = []

    def items() -> Iterator[object]:
        for number in range(3):
            OnDelete(lambda: seen.append(q.qsize()) or q.put_nowait(b"x") or seen.append(q.get_nowait()))  # type: ignore[func-returns-value]
            yield number

    q.put_batch(items())
    assert seen == [0, b"x"] * 3
    assert still_works(q, 0, 1, 2)


@pytest.mark.parametrize("error", [ValueError("mine"), Trouble(), Full()])
def test_an_iterable_that_raises_puts_nothing_and_its_error_is_its_own(
    q: SharedMemoryQueue, error: BaseException
) -> None:
    def items() -> Iterator[object]:
        yield 1
        raise error

    with pytest.raises(type(error)) as caught:
        q.put_batch(items())
    assert caught.value is error
    assert still_works(q)


def test_an_iterable_may_put_and_get_itself(q: SharedMemoryQueue) -> None:
    def items() -> Iterator[object]:
        q.put_batch(iter(["inner"]))
        yield 1
        assert q.get() == "inner"
        yield 2

    q.put_batch(items())
    assert still_works(q, 1, 2)


def test_an_iterable_without_an_end_is_the_callers(q: SharedMemoryQueue) -> None:
    """It is read to its end before anything is put; what is too long for the queue is refused by its length."""
    with pytest.raises(ArgumentError, match=r"batch of 1,000 items .* holds 3"):
        q.put_batch(iter(range(1000)))
    assert still_works(q)


def test_an_item_that_contains_itself_arrives_so(q: SharedMemoryQueue) -> None:
    item: list[Any] = ["me"]
    item.append(item)
    q.put(item)
    got = q.get()
    assert got[1] is got
    assert still_works(q)


@pytest.mark.parametrize("call", ["put", "put_batch"])
def test_an_item_too_deep_for_pickle_is_refused(q: SharedMemoryQueue, call: str) -> None:
    item: list[Any] = []
    for _ in range(100_000):
        item = [item]
    with pytest.raises((SerializationError, ItemTooLargeError)):
        q.put(item) if call == "put" else q.put_batch([1, item])
    while item:  # to free it at once would be as deep
        item = item.pop()
    assert still_works(q)


@pytest.mark.parametrize("size", [1, 8, 9, 48, 333])
def test_an_item_of_item_size_bytes_fits_whatever_it_is(
    make_queue: MakeQueue, each_engine: str, mode: str, size: int
) -> None:
    """One byte more is refused."""
    q = make_queue(capacity=2, item_size=size, mode=mode)
    pickled = next((b"p" * n,) for n in range(size, -1, -1) if n == 0 or len(pickle.dumps((b"p" * n,), 5)) <= size)
    exact = [b"b" * size, "s" * size, "é" * (size // 2) + "e" * (size % 2)]
    if len(pickle.dumps(pickled, 5)) == size:
        exact.append(pickled)
    for item in exact:
        q.put(item)
        q.put_batch([item])
        assert q.get_batch(2) == [item, item]
    # Of text that is random, deflating leaves more than two thirds.
    text = "".join(map(chr, random.Random(size).choices(range(0x80, 0x800), k=size + 1)))
    for item in (b"b" * (size + 1), text):
        for call, index in ((lambda item=item: q.put(item), None), (lambda item=item: q.put_batch([b"", item]), 1)):
            with pytest.raises(ItemTooLargeError) as caught:
                call()  # type: ignore[no-untyped-call]
            assert caught.value.limit == size
            assert caught.value.size == len(item if isinstance(item, bytes) else item.encode())
            assert caught.value.index == index
            assert f"{size:,}" in str(caught.value)
    assert q.empty()


def test_an_item_of_a_hundred_megabytes_is_refused_and_nothing_is_kept(q: SharedMemoryQueue) -> None:
    with pytest.raises(ItemTooLargeError, match="100,000,000"):
        q.put(bytes(100_000_000))
    with pytest.raises(ItemTooLargeError):
        q.put([bytes(100_000_000)])
    assert still_works(q)
