"""One put asks each object of an item for its state once, and one get sets it once, whatever else is in the item."""

from __future__ import annotations

import collections
import functools
import os
import signal
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shared_multiprocess_queue import DeserializationError, SerializationError
from shared_multiprocess_queue._codec import codec
from tests.support import zoo
from tests.support.queues import MakeQueue

asked: collections.Counter[tuple[str, int]] = collections.Counter()


class Counted:
    """Counts how often it is asked for its state, and how often it is made and given its state."""

    def __init__(self, number: int, inner: Any = None) -> None:
        self.number = number
        self.inner = inner

    def __getstate__(self) -> Any:
        asked["getstate", self.number] += 1
        return {"number": self.number, "inner": self.inner}

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state)
        asked["setstate", self.number] += 1


class CountedReduce(Counted):
    def __reduce_ex__(self, protocol: Any) -> Any:
        asked["reduce", self.number] += 1
        return CountedReduce, (self.number, self.inner)


class CountedMade(Counted):
    def __getnewargs__(self) -> tuple[int]:
        asked["getnewargs", self.number] += 1
        return (self.number,)

    def __new__(cls, number: int, inner: Any = None) -> CountedMade:
        asked["new", number] += 1
        return super().__new__(cls)


class CountedList(list):  # type: ignore[type-arg]
    number = 7

    def __iter__(self) -> Iterator[Any]:
        asked["iter", self.number] += 1
        return super().__iter__()


class CountedError(Exception):
    def __init__(self, number: int, inner: Any = None) -> None:
        super().__init__(number)
        self.number = number
        self.inner = inner

    def __reduce__(self) -> Any:
        asked["reduce", self.number] += 1
        return CountedError, (self.number,)


@pytest.fixture(autouse=True)
def main(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Run a program that has a class of its own."""
    module = types.ModuleType("__main__")
    exec("class Point:\n    pass\nclass Late:\n    pass\n", module.__dict__)
    monkeypatch.setitem(sys.modules, "__main__", module)
    monkeypatch.setattr(codec, "_known", codec._Known())
    asked.clear()
    return module


def redefined(main: types.ModuleType) -> Any:
    old = main.Point()
    exec("class Point:\n    pass\n", main.__dict__)
    return old


BESIDE: dict[str, Callable[[types.ModuleType], Any]] = {
    "nothing": lambda main: None,
    "a lambda": lambda main: lambda: 1,
    "a closure": lambda main: zoo.close_over(5),
    "a local class": lambda main: zoo.local_class()(),
    "a module": lambda main: os,
    "an object of main": lambda main: main.Point(),
    "an object of main and a lambda": lambda main: [main.Point(), lambda: 1],
    "an object of a class that was redefined": redefined,
    "classes of two editions": lambda main: [main.Late(), redefined(main), main.Point()],
    "much that looks like names": lambda main: b"\x93__main__" * 1000,
    "much": lambda main: bytes(300_000),
    "a registered reducer": lambda main: functools.partial(int, 1),
}


WRAPS: dict[str, Callable[[Any, Any], Any]] = {
    "before": lambda counted, other: [counted, other],
    "after": lambda counted, other: (other, counted),
    "in a value": lambda counted, other: {"x": counted, "y": {"z": other}},
    "as a key": lambda counted, other: {counted: {frozenset({counted}): other}},
    "in a set": lambda counted, other: [{1, counted}, other],
    "after many": lambda counted, other: [*range(1000), counted, other],
    "deep down": lambda counted, other: functools.reduce(lambda inner, _: [inner], range(40), (counted, other)),  # type: ignore[arg-type, return-value]
    "twice": lambda counted, other: [counted, [counted], other, counted],
    "inside out": lambda counted, other: Counted(0, [other, counted]),
    "in an exception": ValueError,
}


@pytest.mark.parametrize("kind", [Counted, CountedReduce, CountedMade, CountedError])
@pytest.mark.parametrize("beside", BESIDE)
@pytest.mark.parametrize("batch", [False, True])
def test_each_object_is_asked_and_made_once(
    each_engine: str, make_queue: MakeQueue, main: types.ModuleType, kind: Any, beside: str, batch: bool
) -> None:
    queue = make_queue(item_size=1 << 20, capacity=20)
    for round in range(2):  # what a first item has taught the codec changes nothing
        for name, wrap in WRAPS.items():
            asked.clear()
            item = wrap(kind(1, kind(2)), BESIDE[beside](main))
            asked.clear()
            if batch:
                queue.put_batch([item])
                queue.get_batch(1)
            else:
                queue.put(item)
                queue.get()
            assert asked, name
            assert set(asked.values()) == {1}, (round, name, asked)


def test_the_iterators_of_a_state_are_exhausted_once(
    each_engine: str, make_queue: MakeQueue, main: types.ModuleType
) -> None:
    queue = make_queue(item_size=1 << 20)
    for beside in BESIDE.values():
        asked.clear()
        queue.put([CountedList([1, 2]), beside(main)])
        assert asked["iter", 7] == 1
        assert queue.get()[0] == [1, 2]


class Refusing:
    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        asked["refused", 0] += 1
        raise self.error or ValueError("mine")


@pytest.mark.parametrize("beside", BESIDE)
def test_what_refuses_is_asked_once_and_so_is_what_came_before(
    each_engine: str, make_queue: MakeQueue, main: types.ModuleType, beside: str
) -> None:
    queue = make_queue(item_size=1 << 20)
    error = ValueError("mine")
    for _ in range(2):
        asked.clear()
        with pytest.raises(SerializationError, match=r"ValueError: mine \(at item\[2\]\)") as caught:
            queue.put([Counted(1, CountedReduce(2)), BESIDE[beside](main), Refusing(error)])
        assert caught.value.__cause__ is error
        assert set(asked.values()) == {1}
    assert queue.empty()


def test_a_registered_reducer_is_asked_once(
    each_engine: str, make_queue: MakeQueue, main: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    from multiprocessing.reduction import ForkingPickler

    def reduce(counted: Counted) -> Any:
        asked["registered", counted.number] += 1
        return Counted, (counted.number,)

    monkeypatch.setitem(ForkingPickler._extra_reducers, Counted, reduce)  # type: ignore[attr-defined]
    queue = make_queue(item_size=1 << 20)
    for beside in BESIDE.values():
        asked.clear()
        counted = Counted(1)
        queue.put([counted, beside(main), [counted]])
        queue.get()
        assert asked == {("registered", 1): 1}


# ---- reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 1])
def test_what_a_name_of_main_is_missing_for_is_made_once(
    each_engine: str, make_queue: MakeQueue, main: types.ModuleType, place: int
) -> None:
    """A spawned child has no class that the parent made below ``if __name__ == "__main__":``; its definition serves."""
    queue = make_queue(item_size=1 << 16)
    for item in ([main.Late()], [main.Point(), main.Late()], [main.Late(), main.Point(), lambda: 1]):
        item.insert(place * len(item), CountedMade(1, Counted(2)))
        queue.put(item)
        asked.clear()
        late = main.Late
        del main.Late
        came = queue.get()
        main.Late = late  # type: ignore[attr-defined]
        assert {type(part).__name__ for part in came} >= {"Late", "CountedMade"}
        assert set(asked.values()) == {1}, asked


def lost() -> None:
    raise AttributeError("not of a name")


class Breaking:
    def __reduce__(self) -> Any:
        return lost, ()


def test_an_attribute_error_of_the_item_does_not_make_it_again(
    each_engine: str, make_queue: MakeQueue, main: types.ModuleType
) -> None:
    queue = make_queue(item_size=1 << 16)
    queue.put([CountedMade(1), main.Point(), Breaking()])
    asked.clear()
    with pytest.raises(DeserializationError, match="AttributeError: not of a name"):
        queue.get()
    assert set(asked.values()) == {1}


# ---- whose error it is ----------------------------------------------------------------------------------------------


def handler(number: int, frame: object) -> None:
    raise TimeoutError("of the handler")


class Handlers:
    def method(self, number: int, frame: object) -> None:
        raise TimeoutError("of the handler")

    def __call__(self, *arguments: object) -> None:
        raise TimeoutError("of the handler")


def once(number: int, frame: object) -> None:
    signal.signal(number, signal.SIG_DFL)
    deeper()


def deeper() -> None:
    raise TimeoutError("of the handler")


HANDLERS: dict[str, Any] = {
    "function": handler,
    "method": Handlers().method,
    "callable": Handlers(),
    "lambda": lambda *arguments: deeper(),
    "partial": functools.partial(lambda name, number, frame: deeper(), "x"),
    "once": once,
}


class Interrupted:
    """A signal comes while it is pickled, or while it is read."""

    def __init__(self, when: str) -> None:
        self.when = when

    def __getstate__(self) -> Any:
        if self.when == "put":
            os.kill(os.getpid(), signal.SIGUSR1)
        return {"when": self.when}

    def __setstate__(self, state: Any) -> None:
        self.when = state["when"]
        if self.when == "get":
            os.kill(os.getpid(), signal.SIGUSR1)


@pytest.fixture(params=HANDLERS)
def handled(request: pytest.FixtureRequest) -> Iterator[Any]:
    before = signal.signal(signal.SIGUSR1, HANDLERS[request.param])
    yield HANDLERS[request.param]
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("beside", ["nothing", "a lambda", "an object of main"])
def test_an_exception_of_a_signal_handler_is_not_taken_for_the_items(
    each_engine: str, make_queue: MakeQueue, main: types.ModuleType, handled: Any, beside: str
) -> None:
    """The deadline that the handler stands for must not become an error of the item."""
    queue = make_queue(item_size=1 << 16)
    with pytest.raises(TimeoutError, match="of the handler"):
        queue.put([Interrupted("put"), BESIDE[beside](main)])
    assert queue.empty()


@pytest.mark.parametrize("beside", ["nothing", "a lambda", "an object of main"])
def test_an_exception_of_a_signal_handler_leaves_the_item_to_the_next_get(
    each_engine: str, make_queue: MakeQueue, main: types.ModuleType, handled: Any, beside: str
) -> None:
    queue = make_queue(item_size=1 << 16)
    queue.put([Interrupted("get"), BESIDE[beside](main)])
    with pytest.raises(TimeoutError, match="of the handler"):
        queue.get()
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    assert queue.get(timeout=5)[0].when == "get"


def look_at(frame: object) -> None:
    raise TimeoutError("mine")


def count_in(number: int, frame: object) -> None:
    raise TimeoutError("mine")


class Looking:
    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        self.call()
        return Looking, ()


@pytest.mark.parametrize(
    "call",
    [lambda: look_at(sys._getframe()), lambda: count_in(999, sys._getframe()), lambda: count_in(1, None), deeper],
)
def test_an_error_of_the_item_is_not_taken_for_a_signal_handlers(
    each_engine: str, make_queue: MakeQueue, call: Callable[[], None]
) -> None:
    queue = make_queue()
    with pytest.raises(SerializationError, match="TimeoutError"):
        queue.put(Looking(call))


class Emptied:
    """Empties what lies before it in the item when it is asked for its state."""

    def __init__(self, buffer: bytearray) -> None:
        self.buffer = buffer

    def __reduce__(self) -> tuple[Any, ...]:
        self.buffer.clear()
        return int, ()


def test_a_large_buffer_is_sent_as_it_was_when_it_was_written(make_queue: MakeQueue, each_engine: str) -> None:
    """The pickler hands large buffers on without a copy: what changed them later cut the stream of the item."""
    q = make_queue(engine=each_engine, item_size=1 << 18)
    buffer = bytearray(b"x" * 100_000)
    q.put([buffer, Emptied(buffer)])
    assert q.get(timeout=10) == [bytearray(b"x" * 100_000), 0]
