"""What is wrong with an item is said of any item: put raises its own error, whatever the parts of the item answer."""

from __future__ import annotations

import collections
import multiprocessing
import threading
import types
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from shared_multiprocess_queue import DeserializationError, SerializationError, SharedMemoryQueue
from tests.support.queues import MakeQueue


class HostileError(Exception):
    """The error that the classes below raise at unexpected places."""


def refuse(*_: object, **__: object) -> NoReturn:
    raise HostileError("asked")


def refusal(kind: type[Exception], call: Callable[..., object], *arguments: object) -> Any:
    """Return the error of that kind which a call raises; pytest cannot show most of the others in here."""
    try:
        call(*arguments)
    except kind as error:
        return error
    except Exception:
        raised = "another error"
    else:
        raised = "nothing"
    pytest.fail(f"{raised} was raised, and no {kind.__name__}", pytrace=False)


class Spiteful(str):
    """A text that cannot be used."""

    __format__ = __repr__ = __str__ = __hash__ = __eq__ = __len__ = refuse


class Secretive(type):
    """The class of classes that answer nothing."""

    __hash__ = __eq__ = __instancecheck__ = __subclasscheck__ = __repr__ = refuse
    __getattribute__ = refuse


class OddFields(tuple[Any, ...]):
    _fields = 7


class LazyFields(tuple[Any, ...]):
    _fields = property(refuse)


class SpitefulFields(tuple[Any, ...]):
    _fields = (Spiteful("a"), Spiteful("b"))


class TooFewFields(tuple[Any, ...]):
    _fields = ("a",)


class RaisingFields(type):
    @property
    def _fields(cls) -> NoReturn:
        refuse()


class OfRaisingFields(tuple[Any, ...], metaclass=RaisingFields):
    pass


class Holder:
    """Holds a part that cannot be sent."""

    def __init__(self, part: object) -> None:
        self.part = part

    def __reduce_ex__(self, protocol: object) -> Any:
        return list, ([object.__getattribute__(self, "part")],)


class DictOfProperty(Holder):
    __dict__ = property(refuse)


class DictOfNumber(Holder):
    __dict__ = 3  # type: ignore[assignment]


class Hidden(Holder):
    def __getattribute__(self, name: str) -> Any:
        if name == "__reduce_ex__":
            return super().__getattribute__(name)
        refuse()


class OddClass(Holder):
    __class__ = property(refuse)


class Slotted:
    __slots__ = ("empty", "part")


class Foreign(Holder):
    descriptor = Slotted.part  # type: ignore[attr-defined]


class OfSecretive(Holder, metaclass=Secretive):
    pass


class NoModule(Holder):
    pass


NoModule.__module__ = 3  # type: ignore[assignment]


def odd_keys(part: object) -> Holder:
    holder = Holder(None)
    holder.__dict__.clear()
    vars(holder)["part"] = None
    holder.__dict__ = {1: part, "part": part}  # type: ignore[dict-item]
    return holder


HOLDERS: dict[str, tuple[Callable[[Any], object], str | None]] = {
    "fields that are no tuple": (lambda part: OddFields((1, part)), "item[1]"),
    "fields that raise": (lambda part: LazyFields((1, part)), "item[1]"),
    "fields that are no texts": (lambda part: SpitefulFields((1, part)), "item[1]"),
    "too few fields": (lambda part: TooFewFields((1, part)), "item[1]"),
    "fields of a metaclass": (lambda part: OfRaisingFields((1, part)), "item[1]"),
    "a __dict__ that raises": (DictOfProperty, "item.part"),
    "a __dict__ that is none": (DictOfNumber, "item.part"),
    "no attributes for anybody": (Hidden, "item.part"),
    "a __class__ that raises": (OddClass, "item.part"),
    "a slot of another class": (Foreign, "item.part"),
    "keys of __dict__ that are no texts": (odd_keys, "list(item.__dict__.values())[0]"),
    "a module that is no text": (NoModule, "item.part"),
    "a metaclass that raises": (OfSecretive, None),
    "a key that cannot be used": (lambda part: [{1: Spiteful("x")}, types.SimpleNamespace(part=part)], "item[1].part"),
    "an unhashable class beside": (lambda part: [(Holder(1), OfSecretive), {"k": Holder(part)}], None),
    "a named tuple": (lambda part: collections.namedtuple("Pair", "left right")(1, part), "item.right"),  # type: ignore[arg-type, call-arg]
}


@pytest.mark.parametrize("kind", HOLDERS)
def test_an_item_of_odd_parts_is_refused_with_the_way_to_the_culprit(
    each_engine: str, make_queue: MakeQueue, kind: str
) -> None:
    make, path = HOLDERS[kind]
    q: SharedMemoryQueue = make_queue(engine=each_engine)
    item = make(threading.Lock())
    refusals = [refusal(SerializationError, q.put, item), refusal(SerializationError, q.put_batch, [1, item])]
    if path is not None:
        assert all(f"(at {path})" in str(error) for error in refusals)
    assert q.empty()


class HostileText(Exception):
    __str__ = __repr__ = refuse


class HostileNames(Exception, metaclass=Secretive):
    pass


class HostileClass(Exception):
    __class__ = property(refuse)


class HostileNotes(Exception):
    @property
    def __notes__(self) -> NoReturn:  # type: ignore[override]
        refuse()


class HostileLocation(SyntaxError):
    lineno = filename = text = offset = msg = property(refuse)


class HostileAttribute(AttributeError):
    name = property(refuse)


NAMES = ["text", "names", "class", "notes", "location", "attribute"]
ERRORS = [HostileText, HostileNames, HostileClass, HostileNotes, HostileLocation, HostileAttribute]


class Raising:
    """Raises an error when it is written, or when it is read."""

    def __init__(self, number: int, at: str) -> None:
        self.number = number
        self.at = at

    def __reduce__(self) -> Any:
        if self.at == "put":
            raise ERRORS[self.number]
        return fail, (self.number,)


def fail(number: int) -> NoReturn:
    raise ERRORS[number]


class Globals(dict[str, Any]):
    get = __getitem__ = refuse


class RaisingBelow:
    """Its error has a frame whose globals answer nothing."""

    def __reduce__(self) -> NoReturn:
        code = compile("def function(): 1 / 0", "code", "exec").co_consts[0]
        types.FunctionType(code, Globals(__package__=Spiteful("x"), __name__=Spiteful("x")))()
        raise AssertionError


class SpitefulNumber(int):
    __hash__ = __eq__ = __index__ = refuse
    __class__ = property(refuse)


class RaisingAfterNumber:
    """Its error comes from a function that was called as a signal handler would be, with anything for the number."""

    def __reduce__(self) -> Any:
        return self.handle(SpitefulNumber(2), __import__("sys")._getframe())

    def handle(self, number: object, frame: object) -> NoReturn:
        raise HostileText


REFUSALS: dict[str, Callable[[], object]] = {
    **{name: lambda n=n: Raising(n, "put") for n, name in enumerate(NAMES)},  # type: ignore[misc]
    "globals that answer nothing": RaisingBelow,
    "a number that answers nothing": RaisingAfterNumber,
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_an_error_that_cannot_be_described_refuses_the_item(each_engine: str, make_queue: MakeQueue, kind: str) -> None:
    q = make_queue(engine=each_engine)
    assert refusal(SerializationError, q.put, [REFUSALS[kind]()])
    assert q.empty()


@pytest.mark.parametrize("number", range(len(ERRORS)), ids=NAMES)
def test_an_error_that_cannot_be_described_consumes_one_item(
    each_engine: str, make_queue: MakeQueue, number: int
) -> None:
    q = make_queue(engine=each_engine, capacity=3)
    q.put([Raising(number, "get")])
    q.put("next")
    assert refusal(DeserializationError, q.get).raw
    assert q.get() == "next"


def test_the_advice_fits_the_error(make_queue: MakeQueue) -> None:
    q = make_queue()
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(SerializationError, match="nested less deeply"):
        q.put(deep)
    while deep:  # so that its end needs no depth either
        deep = deep[0]
    with pytest.raises(SerializationError, match=r"as an argument of multiprocessing\.Process"):
        q.put({"event": multiprocessing.Event()})
    with pytest.raises(SerializationError, match="leave out what exists only in this process"):
        q.put(threading.Lock())
