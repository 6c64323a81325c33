"""Queues with ``dumps`` and ``loads`` of the program: what goes through them, and what becomes of their errors."""

from __future__ import annotations

import array
import ctypes
import functools
import itertools
import signal
import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from shared_multiprocess_queue import (
    DeserializationError,
    Empty,
    ItemTooLargeError,
    SerializationError,
    SharedMemoryQueue,
)
from shared_multiprocess_queue._codec import own_format
from tests.support.interrupting import interrupted_at
from tests.support.own_formats import from_json, to_json
from tests.support.queues import MakeQueue, drained

MakeOwn = Callable[..., SharedMemoryQueue]


@pytest.fixture
def make(make_queue: MakeQueue, each_engine: str) -> MakeOwn:
    """Make queues with the functions given, and those of JSON for one that is not given."""

    def made(
        dumps: Callable[[Any], Any] = to_json, loads: Callable[[bytes], Any] = from_json, **arguments: Any
    ) -> SharedMemoryQueue:
        return make_queue(capacity=4, dumps=dumps, loads=loads, **arguments)

    return made


class Bytes(bytes):
    """What some libraries return."""


def as_it_is(data: bytes) -> bytes:
    return data


# ---- what goes through ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "item", [None, True, 1, 1 << 90, 2.5, "text", "é", [1, {"a": None}], {"b": "c" * 300}], ids=repr
)
def test_an_item_of_any_type_goes_through_both_functions(make: MakeOwn, item: Any) -> None:
    seen: list[Any] = []

    def dumps(found: Any) -> bytes:
        seen.append(found)
        return to_json(found)

    def loads(data: bytes) -> Any:
        seen.append(data)
        return from_json(data)

    q = make(dumps, loads)
    q.put(item)
    assert q.get() == item
    q.put_batch([item, item])
    assert q.get_batch(4) == [item, item]
    assert seen == [item, to_json(item)] + [item] * 2 + [to_json(item)] * 2
    assert all(type(data) is bytes for data in seen[1:2] + seen[4:])


def test_bytes_are_no_exception(make: MakeOwn) -> None:
    def dumps(item: bytes) -> bytes:
        return item[::-1]

    q = make(dumps, as_it_is)
    q.put(b"abc")
    assert q.get() == b"cba"
    q.put(b"")
    assert q.get() == b""


@pytest.mark.parametrize(
    "made",
    [
        bytearray(b"abc"),
        memoryview(b"abc"),
        array.array("B", b"abc"),
        memoryview(b"a.b.c")[::2],
        Bytes(b"abc"),
    ],
    ids=lambda made: type(made).__name__,
)
def test_what_has_a_buffer_counts_as_bytes(make: MakeOwn, made: Any) -> None:
    def dumps(item: object) -> Any:
        return made

    q = make(dumps, as_it_is)
    q.put(1)
    got = q.get()
    assert (type(got), got) == (bytes, b"abc")


def test_a_buffer_that_is_used_again_is_copied(make: MakeOwn) -> None:
    buffer = bytearray(1)

    def dumps(item: int) -> bytearray:
        buffer[0] = item
        return buffer

    q = make(dumps, as_it_is)
    q.put_batch([1, 2, 3])
    assert q.get_batch(4) == [b"\1", b"\2", b"\3"]


def test_leases_go_through_both_functions(make: MakeOwn) -> None:
    q = make(leases=2)
    q.put([1])
    q.put([2])
    with q.lease() as lease:
        assert (lease.item, lease.raw) == ([1], b"[1]")
    assert q.get() == [2]
    q.task_done()
    assert q.join(0)


def test_functions_may_use_the_queue_itself(make: MakeOwn) -> None:
    def dumps(item: Any) -> bytes:
        if item == "outer":
            q.put("inner")
        return to_json(item)

    def loads(data: bytes) -> Any:
        item = from_json(data)
        return [item, q.get_nowait()] if item == "inner" else item

    q = make(dumps, loads)
    q.put("outer")
    assert q.qsize() == 2
    assert q.get() == ["inner", "outer"]


def test_an_item_that_is_too_large_says_how_large(make: MakeOwn) -> None:
    q = make(item_size=100)
    with pytest.raises(ItemTooLargeError) as caught:
        q.put_batch(["x", "y" * 200])
    assert (caught.value.size, caught.value.limit, caught.value.index) == (202, 100, 1)
    assert caught.value.deflated is None
    assert q.empty()
    q.put("z" * 98)
    assert q.get() == "z" * 98


def test_a_buffer_that_is_too_large_is_not_copied(make: MakeOwn) -> None:
    def dumps(item: int) -> bytearray:
        return bytearray(item)

    q = make(dumps, as_it_is, item_size=100)
    tracemalloc.start()
    try:
        with pytest.raises(ItemTooLargeError) as caught:
            q.put(1 << 22)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (caught.value.size, caught.value.limit, caught.value.index) == (1 << 22, 100, None)
    assert most < 3 << 21  # the buffer itself, and no second one
    with pytest.raises(ItemTooLargeError) as caught:
        q.put_batch([1, 2, 101])
    assert (caught.value.size, caught.value.index) == (101, 2)
    q.put(100)
    assert q.get() == bytes(100)


# ---- errors of dumps ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("made", [5, None, [1, 2], "text", object()], ids=lambda made: type(made).__name__)
def test_dumps_that_returns_no_bytes_is_an_error(make: MakeOwn, made: Any) -> None:
    def dumps(item: object) -> Any:
        return made

    q = make(dumps, as_it_is)
    for item in (1, [1]):
        with pytest.raises(SerializationError, match="must return bytes") as caught:
            q.put_batch(item) if isinstance(item, list) else q.put(item)
        assert type(made).__name__ in str(caught.value)
        assert caught.value.index == (0 if isinstance(item, list) else None)
        assert ("encode()" in str(caught.value)) == (type(made) is str)
    assert q.empty()


def test_what_dumps_raises_is_the_cause_of_an_error(make: MakeOwn) -> None:
    q = make()
    with pytest.raises(SerializationError, match=r"own_formats:to_json, has raised TypeError") as caught:
        q.put({"a": b"bytes"})
    assert isinstance(caught.value.__cause__, TypeError)
    with pytest.raises(
        SerializationError, match=r"^at index 1 of the batch: an item of type builtins\.bytes "
    ) as caught:
        q.put_batch([1, b"bytes"])
    assert caught.value.index == 1
    assert q.empty()


class HandlerError(ValueError):
    """What a signal handler raises."""


def test_what_a_signal_handler_raises_meanwhile_is_no_error_of_the_item(
    make: MakeOwn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def handler(number: int, frame: object) -> None:
        raise HandlerError

    def interrupted(found: Any) -> memoryview:
        signal.raise_signal(signal.SIGUSR1)
        return memoryview(found)

    q = make(bytearray, as_it_is)
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(own_format, "memoryview", interrupted, raising=False)
            with pytest.raises(HandlerError):
                q.put(b"1")
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert q.empty()
    q.put(b"2")
    assert q.get() == b"2"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_is_no_error_passes_through(make: MakeOwn, error: type[BaseException]) -> None:
    errors: list[BaseException] = []

    def dumps(item: object) -> bytes:
        return to_json(item) if not errors else _raise(errors.pop())

    def loads(data: bytes) -> Any:
        return from_json(data) if not errors else _raise(errors.pop())

    q = make(dumps, loads)
    errors.append(error())
    with pytest.raises(error):
        q.put(1)
    q.put_batch([1, 2])
    errors.append(error())
    with pytest.raises(error):
        q.get_batch(4)
    errors.append(error())
    with pytest.raises(error):
        q.get()
    assert drained(q) == [1, 2]


def _raise(error: BaseException) -> Any:
    raise error


# ---- errors of loads ------------------------------------------------------------------------------------------------


def picky(data: bytes) -> Any:
    item = from_json(data)
    return _raise(LookupError("not this one")) if item == "bad" else _raise(StopIteration()) if item == "stop" else item


@pytest.mark.parametrize(("bad", "cause"), [("bad", LookupError), ("stop", StopIteration)])
def test_an_item_that_loads_refuses_is_an_error_with_its_bytes(make: MakeOwn, bad: str, cause: type[Exception]) -> None:
    q = make(loads=picky)
    q.put_batch([1, bad, 2])
    assert q.get_batch(4) == [1]
    with pytest.raises(DeserializationError, match=rf"picky, has raised .*{cause.__name__}") as caught:
        q.get_batch(4)
    assert caught.value.raw == to_json(bad)
    assert isinstance(caught.value.__cause__, cause)
    assert q.get_batch(4) == [2]
    q.put(bad)
    with pytest.raises(DeserializationError) as caught:
        q.get()
    assert caught.value.raw == to_json(bad)
    with pytest.raises(Empty):
        q.get_nowait()


def test_an_error_of_loads_is_the_cause_as_it_is(make: MakeOwn) -> None:
    error = StopIteration("why")
    q = make(loads=raising(error))
    q.put(1)
    with pytest.raises(DeserializationError, match="has raised StopIteration: why") as caught:
        q.get()
    assert caught.value.__cause__ is error


def raising(error: Exception) -> Callable[[bytes], Any]:
    def loads(data: bytes) -> Any:
        raise error

    return loads


def test_a_lease_of_an_item_that_loads_refuses_stays_open(make: MakeOwn) -> None:
    q = make(loads=picky, leases=2)
    q.put("bad")
    with q.lease() as lease:
        for _ in range(2):
            with pytest.raises(DeserializationError):
                assert lease.item
        assert lease.raw == b'"bad"'
    q.put("bad")
    with pytest.raises(DeserializationError):
        q.get()
    assert q.join(0)


@pytest.mark.parametrize("error", [KeyboardInterrupt, LookupError])
def test_a_signal_handler_that_raises_costs_no_item(make: MakeOwn, error: type[BaseException]) -> None:
    signals = [True]

    def loads(data: bytes) -> Any:
        if signals and signals.pop():
            signal.raise_signal(signal.SIGUSR1)
        return from_json(data)

    def dumps(item: object) -> bytes:
        if signals and signals.pop():
            signal.raise_signal(signal.SIGUSR1)
        return to_json(item)

    def handler(number: int, frame: object) -> None:
        raise error

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        q = make(dumps, loads)
        with pytest.raises(error):
            q.put(0)
        q.put_batch([1, 2])
        signals.append(True)
        with pytest.raises(error):
            q.get()
        signals.append(True)
        with pytest.raises(error):
            q.get_batch(2)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert drained(q) == [1, 2]


class StopError(Exception):
    """What another thread sets for one that it wants to end."""


class InC(functools.partial):  # type: ignore[type-arg]
    """A function in C with a name: after it has returned, the interpreter looks for what is pending."""


@pytest.mark.parametrize("call", ["get", "get_batch"])
def test_what_is_pending_after_loads_is_no_error_of_the_item(make: MakeOwn, call: str) -> None:
    stop = ctypes.pythonapi.PyThreadState_SetAsyncExc
    once = map(stop, [ctypes.c_ulong(threading.get_ident())], [ctypes.py_object(StopError)])
    loads = InC(sorted, key=functools.partial(next, once))
    loads.__qualname__ = "loads"  # type: ignore[attr-defined]
    q = make(bytes, loads)
    q.put_batch([[1], [2]])
    got: list[Any] = []
    with pytest.raises(StopError):
        got.extend([q.get()] if call == "get" else q.get_batch(1))
    assert got + drained(q) == [[1], [2]]


def test_an_interrupt_anywhere_in_a_call_loses_no_item(make: MakeOwn) -> None:
    q = make()
    ended = 0
    for point in itertools.count():
        of_put = interrupted_at(point, lambda: q.put([1]))
        assert drained(q) in ([], [[1]])
        q.put([2])
        of_get = interrupted_at(point, q.get)
        assert drained(q) == ([] if of_get is None else [[2]]), of_get
        ended = point
        if of_put is None and of_get is None:
            break
    assert ended >= 2
