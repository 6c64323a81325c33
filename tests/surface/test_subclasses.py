# mypy: allow-subclassing-any
"""A handle is pickled and copied like any object: its class, its attributes and its hooks; the queue comes with it."""

from __future__ import annotations

import copy
import gc
import multiprocessing
import os
import pickle
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shared_multiprocess_queue import QueueClosedError, QueueNotFoundError, SharedMemoryQueue
from tests.support.queues import MakeQueue

pytestmark = pytest.mark.usefixtures("each_engine")


Make = Callable[..., Any]


@pytest.fixture
def make_of(run_id: str) -> Iterator[Make]:
    """Make queues of a class, which are closed and unlinked after the test."""
    made: list[SharedMemoryQueue] = []

    def make(cls: type, name: str = "q", **options: Any) -> Any:
        made.append(cls(name, create=True, capacity=10, run_id=run_id, **options))
        return made[-1]

    yield make
    for queue in made:
        SharedMemoryQueue.close(queue)
        queue.unlink()


# ---- the same hooks on a queue and on a plain object ----------------------------------------------------------------


class Plain:
    """Takes what a queue takes, and is nothing."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None: ...


def nothing(base: type) -> type:
    class Nothing(base):
        pass

    return Nothing


def own_state(base: type) -> type:
    class OwnState(base):
        def __getstate__(self) -> Any:
            return {"label": self.label}

        def __setstate__(self, state: Any) -> None:
            self.restored = state

    return OwnState


def state_of_another_kind(base: type) -> type:
    class StateOfAnotherKind(base):
        def __getstate__(self) -> Any:
            return [self.label, 5]

        def __setstate__(self, state: Any) -> None:
            self.restored = state

    return StateOfAnotherKind


def only_getstate(base: type) -> type:
    class OnlyGetstate(base):
        def __getstate__(self) -> Any:
            return {"reduced": self.label}

    return OnlyGetstate


def only_setstate(base: type) -> type:
    class OnlySetstate(base):
        def __setstate__(self, state: Any) -> None:
            self.restored = state

    return OnlySetstate


def no_state(base: type) -> type:
    class NoState(base):
        def __getstate__(self) -> Any:
            return None

        def __setstate__(self, state: Any) -> None:
            raise AssertionError("there is none")

    return NoState


def documented(base: type) -> type:
    class Documented(base):
        """As the documentation of pickle shows it: a copy of the __dict__ without what cannot travel."""

        def __getstate__(self) -> Any:
            state = self.__dict__.copy()
            state.pop("lock", None)
            return state

        def __setstate__(self, state: Any) -> None:
            self.__dict__.update(state)
            self.lock = None

    return Documented


def inherited_state(base: type) -> type:
    class InheritedState(base):
        def __getstate__(self) -> Any:
            return {"of the base": super().__getstate__()}

        def __setstate__(self, state: Any) -> None:
            self.restored = state

    return InheritedState


def slots(base: type) -> type:
    class Slots(base):
        __slots__ = ("colour", "never_set")

    return Slots


def private_slots(base: type) -> type:
    class PrivateSlots(base):
        __slots__ = ("__colour", "colour")

        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, value)
            if name == "colour":
                self.__colour = f"dark {value}"

        def private(self) -> str:
            return str(self.__colour)

    return PrivateSlots


def slots_of_two(base: type) -> type:
    class SlotsOfTwo(slots(base)):  # type: ignore[misc]
        __slots__ = ("size",)

        def __init__(self, *arguments: Any, **keywords: Any) -> None:
            super().__init__(*arguments, **keywords)
            self.size = 3

    return SlotsOfTwo


def new_arguments(base: type) -> type:
    class NewArguments(base):
        def __new__(cls, one: Any, two: Any = "two", **keywords: Any) -> Any:
            self = super().__new__(cls)
            self.made_with = one, two
            return self

        def __getnewargs__(self) -> Any:
            return "first", "second"

    return NewArguments


def new_keywords(base: type) -> type:
    class NewKeywords(base):
        def __new__(cls, one: Any, *, two: Any = "two", **keywords: Any) -> Any:
            self = super().__new__(cls)
            self.made_with = one, two
            return self

        def __getnewargs_ex__(self) -> Any:
            return ("first",), {"two": "second"}

        def __getnewargs__(self) -> Any:
            raise AssertionError("the other one comes first")

    return NewKeywords


DEFINITIONS = [
    nothing,
    own_state,
    state_of_another_kind,
    only_getstate,
    only_setstate,
    no_state,
    documented,
    inherited_state,
    slots,
    private_slots,
    slots_of_two,
    new_arguments,
    new_keywords,
]


def define(definition: Callable[[type], type], base: type, prefix: str) -> type:
    """Define a class where pickle finds it."""
    cls = definition(base)
    cls.__module__, cls.__name__ = __name__, prefix + cls.__name__
    cls.__qualname__ = cls.__name__
    if "__new__" in vars(cls):
        cls.__new__.__qualname__ = f"{cls.__name__}.__new__"  # protocol 2 pickles it
    globals()[cls.__name__] = cls
    return cls


PAIRS = [
    (define(definition, Plain, "Plain"), define(definition, SharedMemoryQueue, "Queue")) for definition in DEFINITIONS
]


def shown(thing: Any) -> Any:
    """Return what there is to see of an object that came back."""
    values = {name: getattr(thing, name, "not set") for name in ("colour", "never_set", "size")}
    private = thing.private() if hasattr(thing, "private") and values["colour"] != "not set" else None
    return type(thing).__name__.removeprefix("Plain").removeprefix("Queue"), vars(thing), values, private


WAYS: dict[str, Callable[[Any], Any]] = {
    **{f"pickle {protocol}": lambda x, p=protocol: pickle.loads(pickle.dumps(x, p)) for protocol in range(2, 6)},  # type: ignore[misc]
    "the pickler in Python": lambda x: pickle._loads(pickle._dumps(x)),  # type: ignore[attr-defined]
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("plain_class", "queue_class"), PAIRS, ids=[definition.__name__ for definition in DEFINITIONS])
@pytest.mark.parametrize("has_attributes", [True, False])
def test_a_queue_keeps_what_a_plain_object_of_such_a_class_keeps(
    make_of: Make, plain_class: type, queue_class: type, way: str, has_attributes: bool
) -> None:
    plain, queue = plain_class("q"), make_of(queue_class)
    for thing in (plain, queue):
        thing.label = "a label"  # the hooks of some classes read it
        if has_attributes:
            thing.colour, thing.sizes = "blue", [1, {"two": 2}]
        elif "State" not in plain_class.__name__ and plain_class.__name__ != "PlainOnlyGetstate":
            del thing.label
    expected = WAYS[way](plain)
    arrived = WAYS[way](queue)
    try:
        assert type(arrived) is queue_class
        assert shown(arrived) == shown(expected)
        queue.put("through the one")
        assert arrived.get(timeout=10) == "through the one"  # type: ignore[attr-defined]
        if hasattr(expected, "sizes"):
            assert (arrived.sizes is queue.sizes) == (expected.sizes is plain.sizes)  # type: ignore[attr-defined]
    finally:
        arrived.close()  # type: ignore[attr-defined]
    queue.put("it was a handle of its own")
    assert queue.get(timeout=10) == "it was a handle of its own"


@pytest.mark.parametrize("protocol", [0, 1])
def test_old_protocols_keep_class_and_attributes_as_well(make_of: Make, protocol: int) -> None:
    queue = make_of(Labelled)
    queue.label = "old"
    with pickle.loads(pickle.dumps(queue, protocol)) as arrived:
        assert (type(arrived), arrived.label, arrived.name) == (Labelled, "old", "q")


# ---- what is not of the user does not show --------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["mpmc", "spsc"])
def test_the_handle_keeps_nothing_of_its_own_where_attributes_of_users_lie(make_of: Make, mode: str) -> None:
    queue = make_of(SharedMemoryQueue, mode=mode)
    queue.put(1)
    queue.put_batch([2, 3])
    assert queue.get_batch(3) == [1, 2, 3]
    queue.get_metrics()
    assert vars(queue) == {}
    assert queue.__getstate__() is None
    queue.note = "mine"
    assert vars(queue) == queue.__getstate__() == {"note": "mine"}
    queue.close()
    assert vars(queue) == {"note": "mine"}


def test_attributes_of_a_plain_handle_travel_or_are_refused(make_of: Make) -> None:
    queue = make_of(SharedMemoryQueue)
    queue.note = {"camera": 1}
    queue.itself = queue
    with pickle.loads(pickle.dumps(queue)) as arrived:
        assert arrived.note == {"camera": 1}
        assert arrived.itself is arrived
        del arrived.itself
    queue.lock = threading.Lock()
    with pytest.raises(TypeError, match="lock"):
        pickle.dumps(queue)
    del queue.itself


def test_a_handle_can_be_held_weakly(make_of: Make) -> None:
    queue = make_of(SharedMemoryQueue)
    assert weakref.ref(queue)() is queue


def test_a_handle_shows_its_class(make_of: Make) -> None:
    assert repr(make_of(Labelled)).startswith("<Labelled 'q', run_id=")


# ---- programs -------------------------------------------------------------------------------------------------------


class Labelled(SharedMemoryQueue):
    """Puts a label on each item, and counts them."""

    label = "none"
    puts = 0

    def put(self, item: Any, *arguments: Any, **keywords: Any) -> None:  # type: ignore[override]
        super().put((self.label, item), *arguments, **keywords)
        self.puts += 1


class Peculiar(SharedMemoryQueue):
    """Is made from things that no pickle knows."""

    def __init__(self, label: str, run_id: str) -> None:
        super().__init__(f"of-{label}", create=True, capacity=10, run_id=run_id)
        self.label = label


def work(queue: Labelled, peculiar: Peculiar) -> None:
    queue.put("work done")
    peculiar.put((peculiar.label, queue.puts, type(peculiar).__name__))


def test_subclasses_go_to_workers(make_of: Make, run_id: str, start_method: str) -> None:
    queue, peculiar = make_of(Labelled), Peculiar("blue", run_id)
    try:
        queue.label = "camera-1"
        worker = multiprocessing.get_context(start_method).Process(target=work, args=(queue, peculiar))  # type: ignore[attr-defined]
        worker.start()
        try:
            assert queue.get(timeout=60) == ("camera-1", "work done")
            assert peculiar.get(timeout=60) == ("blue", 1, "Peculiar")
        finally:
            worker.join()
        assert worker.exitcode == 0
    finally:
        peculiar.close()
        peculiar.unlink()


def test_a_handle_of_a_subclass_is_an_item_like_others(make_of: Make) -> None:
    queue, other = make_of(Labelled), make_of(SharedMemoryQueue, "other")
    queue.label = "sent"
    other.put({"reply to": queue})
    with other.get(timeout=10)["reply to"] as arrived:
        assert type(arrived) is Labelled
        arrived.put("answer")
    assert queue.get(timeout=10) == ("sent", "answer")


class Reduced(SharedMemoryQueue):
    def __reduce_ex__(self, protocol: Any) -> Any:
        function, arguments, state = super().__reduce_ex__(protocol)  # type: ignore[str-unpack]
        return function, arguments, {**(state or {}), "reduced with": protocol}  # type: ignore[dict-item]


class ReducedSimply(SharedMemoryQueue):
    def __reduce__(self) -> Any:
        function, arguments, state = super().__reduce__()
        return function, arguments, {**(state or {}), "reduced with": "nothing"}


class ReducedToAnother(SharedMemoryQueue):
    def __reduce__(self) -> Any:
        return str, (self.name,)


def test_a_subclass_may_reduce_itself(make_of: Make) -> None:
    for cls, expected in ((Reduced, 4), (ReducedSimply, "nothing")):
        queue = make_of(cls, cls.__name__)
        queue.label = "a label"
        with pickle.loads(pickle.dumps(queue, 4)) as arrived:
            assert type(arrived) is cls
            assert vars(arrived) == {"label": "a label", "reduced with": expected}
    assert pickle.loads(pickle.dumps(make_of(ReducedToAnother))) == "q"


# ---- when it cannot be ----------------------------------------------------------------------------------------------


class Stateful(SharedMemoryQueue):
    """Its close needs its state."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        self.closes: list[str] = []
        super().__init__(*arguments, **keywords)

    def close(self) -> None:
        self.closes.append("closed")
        super().close()


class Failing(SharedMemoryQueue):
    def __setstate__(self, state: Any) -> None:
        raise LookupError("no such state")


def held(queue: SharedMemoryQueue) -> tuple[Any, int, int]:
    """Return what this process holds of a queue: records, descriptors, mappings."""
    gc.collect()
    with open("/proc/self/maps") as maps:
        mappings = sum(queue.run_id in line for line in maps)
    return queue.get_metrics()["participants"], len(os.listdir("/proc/self/fd")), mappings


@pytest.mark.parametrize("way", ["pickle 5", "copy", "deepcopy"])
def test_a_closed_handle_of_a_subclass_is_refused(make_of: Make, way: str) -> None:
    queue = make_of(Stateful)
    queue.close()
    with pytest.raises(QueueClosedError):
        WAYS[way](queue)


def test_a_handle_of_a_subclass_attaches_to_no_namesake(make_of: Make, run_id: str) -> None:
    """Another queue has the name of the handle's queue."""
    queue = make_of(Stateful)
    data = pickle.dumps(queue)
    queue.unlink()
    newer = make_of(SharedMemoryQueue)
    before = held(newer)
    with pytest.raises(QueueNotFoundError, match="another one has its name") as caught:
        pickle.loads(data)
    assert held(newer) == before, "also while the error, and with it the traceback, is kept"
    assert caught.value.__traceback__ is not None


def test_a_state_that_fails_leaves_no_handle_behind(make_of: Make) -> None:
    queue = make_of(Failing)
    queue.label = "fails"
    data = pickle.dumps(queue)
    before = held(queue)
    for _ in range(3):
        with pytest.raises(LookupError, match="no such state"):
            pickle.loads(data)
    assert held(queue) == before


def test_a_plain_handle_is_still_refused_when_its_queue_is_gone(make_queue: MakeQueue) -> None:
    queue = make_queue()
    data = pickle.dumps(queue)
    queue.unlink()
    with pytest.raises(QueueNotFoundError):
        pickle.loads(data)
