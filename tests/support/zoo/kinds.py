"""Classes, functions and builders of the kinds of which programs put objects into queues."""

from __future__ import annotations

import abc
import collections
import ctypes
import dataclasses
import enum
import functools
import pathlib
import tempfile
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any


@dataclasses.dataclass
class Plain:
    x: int = 1
    tags: list[str] = dataclasses.field(default_factory=lambda: ["a"])


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Frozen:
    x: int = 1
    y: tuple[int, ...] = (1, 2)


class Color(enum.Enum):
    RED = 1
    GREEN = "g"


class Access(enum.IntFlag):
    READ = 1
    WRITE = 2


class Level(enum.StrEnum):
    LOW = "low"


Pair = collections.namedtuple("Pair", "left right")


class Row(typing.NamedTuple):
    id: int
    name: str = "n"


class Table(typing.TypedDict):
    id: int


class Slots:
    __slots__ = ("a", "b")

    def __init__(self) -> None:
        self.a = 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Slots) and self.a == other.a

    __hash__ = None  # type: ignore[assignment]


class Attributes:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)

    def __eq__(self, other: object) -> bool:
        return type(other) is Attributes and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def method(self) -> int:
        return 1

    @classmethod
    def made(cls) -> Attributes:
        return cls()

    @staticmethod
    def static() -> int:
        return 2

    @property
    def prop(self) -> int:
        return 3


class Stateful(Attributes):  # noqa: PLW1641
    def __getstate__(self) -> Any:
        return {"state": vars(self)}

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state["state"])

    def __eq__(self, other: object) -> bool:
        return type(other) is Stateful and vars(self) == vars(other)


class Reduced(Attributes):  # noqa: PLW1641
    def __reduce__(self) -> Any:
        return Reduced, (), {"x": 1}

    def __eq__(self, other: object) -> bool:
        return type(other) is Reduced


class NewArguments(tuple):  # type: ignore[type-arg]
    def __new__(cls, a: int, *, b: int) -> NewArguments:
        return super().__new__(cls, (a, b))

    def __getnewargs_ex__(self) -> Any:
        return (self[0],), {"b": self[1]}


class Singleton:
    def __reduce__(self) -> str:
        return "SINGLETON"


SINGLETON = Singleton()


class ListChild(list):  # type: ignore[type-arg]
    pass


class DictChild(dict):  # type: ignore[type-arg]
    pass


class SetChild(set):  # type: ignore[type-arg]
    pass


class StrChild(str):
    pass


class IntChild(int):
    pass


class FloatChild(float):
    pass


class BytesChild(bytes):
    pass


class BytearrayChild(bytearray):
    pass


class TupleChild(tuple):  # type: ignore[type-arg]
    pass


class DequeChild(collections.deque):  # type: ignore[type-arg]
    pass


class PartialChild(functools.partial):  # type: ignore[type-arg]
    pass


class OwnError(Exception):
    def __init__(self, code: int = 1) -> None:
        super().__init__(code)
        self.code = code


class Meta(type):
    pass


class OfMeta(metaclass=Meta):
    pass


class Abstract(abc.ABC):
    @abc.abstractmethod
    def f(self) -> None: ...


class Concrete(Abstract):
    def f(self) -> None: ...


T = typing.TypeVar("T")


class Box(typing.Generic[T]):
    def __init__(self, content: T) -> None:
        self.content = content

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Box) and self.content == other.content

    __hash__ = None  # type: ignore[assignment]


class Point2(ctypes.Structure):
    _fields_ = (("x", ctypes.c_int), ("y", ctypes.c_double))


class Either(ctypes.Union):
    _fields_ = (("i", ctypes.c_int), ("f", ctypes.c_float))


Triple = ctypes.c_int * 3  # no name leads to it: the class is called c_int_Array_3


class Descriptor:
    def __get__(self, obj: object, kind: object = None) -> int:
        return 5

    def __set_name__(self, owner: object, name: str) -> None:
        self.name = name


def function(x: int = 1, *, y: int = 2) -> int:
    return x + y


@functools.lru_cache
def cached(x: int) -> int:
    return x


@functools.singledispatch
def dispatched(x: object) -> int:
    return 1


@functools.wraps(function)
def wrapped(*arguments: Any) -> Any:
    return function(*arguments)


def generator() -> Iterator[int]:
    yield 1


async def coroutine() -> None: ...


async def async_generator() -> Any:
    yield 1


def close_over(value: Any) -> Callable[[], Any]:
    return lambda: value


def with_default(value: Any) -> Callable[[], Any]:
    def inner(value: Any = value) -> Any:
        return value

    return inner


def local_class(**attributes: Any) -> type:
    class Local:
        def method(self) -> int:
            return 7

        @property
        def prop(self) -> int:
            return 8

        @classmethod
        def made(cls) -> Any:
            return cls()

        @staticmethod
        def static() -> int:
            return 9

    for name, value in attributes.items():
        setattr(Local, name, value)
    return Local


def local_dataclass() -> type:
    @dataclasses.dataclass
    class LocalData:
        x: int = 1
        items: list[int] = dataclasses.field(default_factory=list)

    return LocalData


def local_enum() -> Any:
    class LocalColor(enum.Enum):
        RED = 1

        def shout(self) -> str:
            return self.name + "!"

    return LocalColor


def local_namedtuple() -> Any:
    return collections.namedtuple("LocalPair", "a b")


def local_generic() -> Any:
    S = typing.TypeVar("S")

    class LocalBox(typing.Generic[S]):
        pass

    return LocalBox


def local_abstract() -> Any:
    class LocalAbstract(abc.ABC):
        @abc.abstractmethod
        def f(self) -> int: ...

        @property
        @abc.abstractmethod
        def p(self) -> int: ...

    class LocalConcrete(LocalAbstract):
        p = 3

        def f(self) -> int:
            return 1

    return LocalConcrete


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except type(error) as caught:
        return caught


def itself() -> list[Any]:
    made: list[Any] = [1]
    made.append(made)
    return made


def shared() -> list[Any]:
    part = Plain()
    return [part, part, [part]]


def dynamic_module() -> types.ModuleType:
    module = types.ModuleType("made_here")
    module.value = 5  # type: ignore[attr-defined]
    return module


class Closing:
    """What has to be closed after the test."""

    def __init__(self) -> None:
        self.folder = pathlib.Path(tempfile.mkdtemp())
        (self.folder / "file").write_bytes(b"text" * 100)
        self.opened: list[Any] = []

    def __call__(self, thing: Any) -> Any:
        self.opened.append(thing)
        return thing

    def close(self) -> None:
        for thing in reversed(self.opened):
            getattr(thing, "close", None) and thing.close()
        (self.folder / "file").unlink()
        self.folder.rmdir()
