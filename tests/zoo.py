# ruff: noqa: B905, SIM115, UP007, UP045
"""A few hundred objects of the kinds that programs put into queues, and whether two of them are the same."""

from __future__ import annotations

import abc
import array
import ast
import asyncio
import collections
import concurrent.futures
import configparser
import contextvars
import copy
import ctypes
import dataclasses
import datetime
import decimal
import email.message
import enum
import fractions
import functools
import http.cookies
import importlib.util
import inspect
import io
import ipaddress
import itertools
import json
import logging
import mmap
import operator
import os
import pathlib
import queue
import random
import re
import select
import socket
import sqlite3
import string
import struct
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import tokenize
import types
import typing
import urllib.parse
import urllib.request
import uuid
import warnings
import weakref
import xml.etree.ElementTree as ET
import zipfile
import zlib
import zoneinfo
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
        p = 3  # type: ignore[assignment]

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


def data() -> dict[str, Any]:
    """Return values that pickle can do, by name."""
    items: dict[str, Any] = {}

    def add(*values: Any) -> None:
        for value in values:
            items[f"{len(items)} {type(value).__module__}.{type(value).__qualname__}"] = value

    add(None, True, False, 0, -1, 1 << 62, 1 << 63, -1 << 63, 1 << 2000, 0.0, -0.0, 1e300, float("inf"), float("nan"))
    add(1j, "", "text", "grün", "\ud800", "x" * 100_000, b"", b"x", bytes(100_000), bytearray(b"x"), bytearray(100_000))
    add([], [1], [[[]]], (), (1,), (1, 2, 3, 4), {}, {1: 2}, {"a": [1, {"b": (2,)}]}, set(), {1, 2}, frozenset({1}))
    add({frozenset({1}): {2}}, {(1, 2): 3}, list(range(1000)), dict.fromkeys(range(1000)), set(range(1000)))
    add(b"\x93", [b"\x93" * 3000], "__main__", ["__main__", b"\x8c\x08__main__\x94\x93"], itself(), shared())
    add(..., NotImplemented, range(3), range(0, 10, 2), slice(1, 2, 3), slice(None))
    add(object, int, type, dict, type(None), type(...), type(NotImplemented), list[int], dict[str, int], int | str)
    add(len, print, sorted, [].append, "x".join, {}.get, (1).__add__, os.getpid, math_function(), str.join, list.append)
    add(dict.fromkeys, int.from_bytes, int.__add__, object.__init__, str.__len__, bytes.fromhex)
    add(
        datetime.date(2024, 1, 1), datetime.datetime(2024, 1, 1, 1, 1, 1, 5), datetime.time(1, 2), datetime.timedelta(1)
    )
    add(datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC), datetime.timezone(datetime.timedelta(hours=1), "X"))
    add(datetime.datetime(2024, 1, 1, fold=1), datetime.datetime.min, time.gmtime(0), datetime.timedelta.max)
    try:
        add(
            zoneinfo.ZoneInfo("Europe/Berlin"), datetime.datetime(2024, 1, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))
        )
    except zoneinfo.ZoneInfoNotFoundError:
        add(datetime.UTC)
    add(decimal.Decimal("1.50"), decimal.Decimal("NaN"), decimal.Decimal("-Infinity"), decimal.Context(prec=5))
    add(fractions.Fraction(1, 3), uuid.UUID(int=5), uuid.uuid4(), uuid.SafeUUID.safe, random.Random(5))
    add(pathlib.Path("a/b"), pathlib.PurePosixPath("/x"), pathlib.PureWindowsPath("c:/x"), pathlib.Path())
    add(ipaddress.ip_address("1.2.3.4"), ipaddress.ip_address("::1"), ipaddress.ip_network("10.0.0.0/8"))
    add(ipaddress.ip_interface("1.2.3.4/24"), re.compile("a+b", re.I), re.compile(rb"x"), re.I | re.M)
    add(array.array("d", [1.5]), array.array("b"), array.array("L", range(1000)), collections.deque([1, 2], maxlen=5))
    add(collections.OrderedDict(a=1), collections.Counter("aab"), collections.ChainMap({1: 2}, {3: 4}))
    add(collections.defaultdict(list, a=[1]), collections.UserDict(a=1), collections.UserList([1]))
    add(collections.UserString("x"), types.SimpleNamespace(a=1), string.Template("$a"))
    add(
        Plain(), Frozen(), Plain(2, ["x"]), Color.RED, Color.GREEN, Access.READ | Access.WRITE, Level.LOW, Color, Access
    )
    add(Pair(1, 2), Row(1), Table(id=1), Slots(), Attributes(a=1), Stateful(a=[1]), Reduced(x=1), NewArguments(1, b=2))
    add(SINGLETON, ListChild([1]), DictChild(a=1), SetChild({1}), StrChild("x"), IntChild(5), FloatChild(1.5))
    add(BytesChild(b"x"), BytearrayChild(b"x"), TupleChild((1,)), DequeChild([1], 3), Concrete(), OfMeta(), Box[int](5))
    add(Plain, Frozen, Pair, Row, OfMeta, Meta, Abstract, Concrete, Box, Box[int], Box[T], T, Table)
    add(
        function,
        cached,
        dispatched,
        Attributes.__dict__["method"],
        Slots.__dict__["a"],
        Attributes.made,
        Attributes.static,
        Attributes(a=1).method,
    )
    add(Attributes().made, Attributes.method, generator, coroutine, async_generator, collections.OrderedDict.fromkeys)
    add(functools.partial(function, 1, y=3), functools.partial(int, base=2), functools.partial(function))
    add(
        operator.itemgetter(1),
        operator.itemgetter(1, "a"),
        operator.attrgetter("a.b"),
        operator.methodcaller("f", 1, k=2),
    )
    add(functools.cmp_to_key, functools.reduce, operator.add, itertools.chain, json.dumps, os.path.join, copy.deepcopy)
    for error in (
        Exception("x"),
        ValueError(1, 2),
        KeyError("k"),
        OSError(2, "no", "file"),
        FileNotFoundError(2, "no"),
    ):
        add(error, raised(error))
    add(
        KeyboardInterrupt(),
        SystemExit(3),
        StopIteration(5),
        OwnError(5),
        queue.Empty(),
        queue.Full(),
        TimeoutError("t"),
    )
    add(UnicodeDecodeError("utf8", b"x", 0, 1, "why"), ImportError("x", name="n"), ExceptionGroup("g", [ValueError(1)]))
    add(subprocess.CalledProcessError(1, ["x"]), json.JSONDecodeError("m", "d", 0), asyncio.CancelledError())
    add(SyntaxError("m", ("f", 1, 2, "t")), AttributeError("a"), UserWarning("w"), AssertionError())
    add(io.StringIO("text"), io.BytesIO(b"bytes"), zlib.adler32, ET.fromstring("<a b='1'><c/></a>"), ast.parse("x = 1"))
    add(urllib.parse.urlparse("http://a/b?c#d"), http.cookies.SimpleCookie("a=b"), email.message.EmailMessage())
    add(
        configparser.ConfigParser(),
        zipfile.ZipInfo("x"),
        textwrap.TextWrapper(),
        tokenize.TokenInfo(1, "x", (1, 0), (1, 1), "x"),
    )
    add(logging.getLogger("zoo"), logging.getLogger(), logging.LogRecord("n", 10, "p", 1, "m", (), None))
    add(
        inspect.signature(function),
        inspect.Parameter.empty,
        typing.Any,
        typing.Optional[int],
        typing.Callable[[int], str],
    )
    add(typing.Literal["a"], typing.Union[int, str], Callable[[int], str], typing.NamedTuple)
    add(ctypes.c_int(5), ctypes.c_double(1.5), Point2(1, 2.5), Either(1), ctypes.c_char(b"x"), ctypes.c_bool(True))
    add(struct.error("x"), os.stat("/"), os.terminal_size((1, 2)), os.uname(), time.struct_time)
    add(iter([1, 2]), iter((1,)), iter({1: 2}), iter({1}), iter("ab"), iter(range(3)), reversed([1, 2]), enumerate([1]))
    add(zip([1], [2]), map(len, ["a"]), filter(None, [1]))
    if sys.version_info < (3, 14):  # which pickles these no longer
        add(itertools.count(5), itertools.cycle([1]), itertools.repeat(1), itertools.chain([1], [2]))
        add(itertools.product([1], [2]), itertools.permutations([1, 2]), itertools.islice([1], 1))
    add(urllib.request.Request("http://a"), http.HTTPStatus.OK, socket.AF_INET, warnings.WarningMessage)
    add(weakref.WeakSet, weakref.ref, types.SimpleNamespace, threading.Thread, collections.abc.Iterable)
    add({"deep": [{"x": (Plain(), {Color.RED: Frozen()})}]}, [Plain(i) for i in range(300)], (Pair(Pair(1, 2), 3),))
    with_attributes = functools.partial(function, 1)
    with_attributes.extra = 1  # type: ignore[attr-defined]
    noted = ValueError("with attributes")
    noted.extra = 5  # type: ignore[attr-defined]
    noted.add_note("a note")
    add(noted, concurrent.futures.TimeoutError())
    if importlib.util.find_spec("numpy"):
        import numpy as np

        add(np.arange(5), np.zeros((2, 3), "f4"), np.array(5), np.array([], "i1"), np.arange(10)[::2], np.float64(1.5))
        add(np.int8(3), np.dtype("f8"), np.dtype([("a", "i4")]), np.array(["a", "b"]), np.array([Plain()], object))
        add(np.zeros(3, [("a", "i4")]), np.datetime64("2024-01-01"), np.asfortranarray(np.ones((3, 4))), np.bool_(True))
        add(np.ma.array([1, 2], mask=[0, 1]), np.random.default_rng(5), np.add, np.float32, np.arange(100_000))
        add(np.array([1 + 2j]), np.arange(6).reshape(2, 3).T, np.broadcast_to(np.arange(3), (2, 3)))
    return items


def math_function() -> Any:
    import math

    return math.sqrt


def by_value() -> dict[str, Any]:
    """Return what holds functions, classes and modules to which no name leads, by name."""
    local = local_class()
    kinds = [
        local,
        local_dataclass(),
        local_enum(),
        local_namedtuple(),
        local_generic(),
        local_abstract(),
        type("M", (), {}),
    ]
    items: dict[str, Any] = {f"class {kind.__name__}": kind for kind in kinds}
    items |= {
        "lambda": lambda: 5,
        "iterator that calls": iter(lambda: 1, 2),
        "function under another's name": wrapped,
        "lambda with a default": lambda x=1: x,
        "closure": close_over(5),
        "closure of a closure": close_over(close_over(5)),
        "closure of data": close_over({"x": Plain()}),
        "local function": with_default([1]),
        "partial of a lambda": functools.partial(lambda x: x, 1),
        "defaultdict of a lambda": collections.defaultdict(lambda: 5, a=1),
        "local object": local(),
        "method of a local object": local().method,
        "classmethod of a local class": local.made,
        "local data": kinds[1](2, [3]),
        "member": kinds[2].RED,
        "local pair": kinds[3](1, 2),
        "local box": kinds[4](),
        "local concrete": kinds[5](),
        "local exception": type("LocalError", (Exception,), {})("x"),
        "type variable": typing.TypeVar("Nowhere"),
        "type variable after one that has a name": [T, typing.TypeVar("Elsewhere")],
        "module": json,
        "module of a package": os.path,
        "dynamic module": dynamic_module(),
        "attributes": Attributes(call=lambda: 5, kind=local),
        "many": [lambda: 1, local(), kinds[1](), {"x": lambda: 2}],
        "types of the interpreter": [types.FunctionType, types.GeneratorType, types.MappingProxyType, types.CodeType],
        "descriptor": local_class(descriptor=Descriptor()),
        "a constant in a class": local_class(limit=5, names={"a": 1}),
        "proxy in a class": local_class(table=types.MappingProxyType({"a": 1})),
        "default key": collections.defaultdict(local),
    }
    return items


def refused(keep: Closing) -> dict[str, Any]:
    """Return what exists in this process only, by name."""
    file = keep.folder / "file"
    memory = keep(mmap.mmap(-1, 100))
    running = generator()
    next(running)
    awaited = coroutine()
    awaited.close()
    iterator = iter({1})
    owner = Attributes()
    logger = logging.Logger("not known to logging")
    items: dict[str, Any] = {
        "text file": keep(open(file)),
        "binary file": keep(open(file, "rb")),
        "raw file": keep(open(file, "rb", buffering=0)),
        "file for writing": keep(open(file, "r+")),
        "stdin": sys.__stdin__,
        "stdout": sys.__stdout__,
        "temporary file": keep(tempfile.NamedTemporaryFile()),
        "directory": keep(os.scandir(keep.folder)),
        "memoryview": memoryview(b"abc"),
        "memoryview of doubles": memoryview(array.array("d", [1.5])),
        "mmap": memory,
        "lock": threading.Lock(),
        "rlock": threading.RLock(),
        "condition": threading.Condition(),
        "event": threading.Event(),
        "semaphore": threading.Semaphore(),
        "barrier": threading.Barrier(1),
        "local": threading.local(),
        "thread": threading.Thread(),
        "current thread": threading.current_thread(),
        "queue.Queue": queue.Queue(),
        "SimpleQueue": queue.SimpleQueue(),
        "generator": running,
        "generator function's": generator(),
        "coroutine": awaited,
        "async generator": async_generator(),
        "weakref": weakref.ref(owner),
        "weak method": weakref.WeakMethod(owner.method),
        "WeakSet": weakref.WeakSet(),
        "WeakSet of one": weakref.WeakSet([OfMeta]),
        "WeakValueDictionary": weakref.WeakValueDictionary(),
        "WeakKeyDictionary": weakref.WeakKeyDictionary(),
        "frame": sys._getframe(),
        "code": function.__code__,
        "code of a lambda": (lambda: 5).__code__,
        "cell": close_over(5).__closure__[0],  # type: ignore[index]
        "traceback": raised(ValueError()).__traceback__,
        "property": Attributes.__dict__["prop"],
        "classmethod": Attributes.__dict__["made"],
        "staticmethod": Attributes.__dict__["static"],
        "getset": type.__dict__["__dict__"],
        "mappingproxy": types.MappingProxyType({1: 2}),
        "vars of a class": vars(Attributes),
        "keys": {1: 2}.keys(),
        "values": {1: 2}.values(),
        "items": {1: 2}.items(),
        "ordered keys": collections.OrderedDict(a=1).keys(),
        "ctypes array": Triple(1, 2, 3),
        "ctypes array of arrays": (Triple * 2)(),
        "ctypes array class": Triple,
        "ctypes array of a structure": (Point2 * 2)(),
        "ctypes pointer": ctypes.pointer(ctypes.c_int(5)),
        "ctypes pointer class": ctypes.POINTER(ctypes.c_int),
        "ctypes function class": ctypes.CFUNCTYPE(ctypes.c_int),
        "ctypes string": ctypes.c_char_p(b"x"),
        "ctypes library": ctypes.CDLL(None),
        "poll": select.poll(),
        "epoll": keep(select.epoll()),
        "database": keep(sqlite3.connect(":memory:")),
        "pool": concurrent.futures.ThreadPoolExecutor(1),
        "future": concurrent.futures.Future(),
        "context": contextvars.copy_context(),
        "context variable": contextvars.ContextVar("v"),
        "compressor": zlib.compressobj(),
        "loop": keep(asyncio.new_event_loop()),
        "class of keys": type({}.keys()),
        "class of an iterator": type(iterator),
        "class of a version": type(sys.version_info),
        "class of a scanner": type(re.compile("a").scanner("a")),  # type: ignore[attr-defined]
        "capsule": datetime.datetime_CAPI,
        "logger": logger,
        "local structure": local_structure()(),
        "lru_cache of a lambda": functools.lru_cache(lambda: 5),
        "struct": struct.Struct("<I"),
        "match": re.match("a", "a"),
        "scanner": re.compile("a").scanner("a"),  # type: ignore[attr-defined]
        "decompressor": zlib.decompressobj(),
        "unpack": struct.Struct("<I").unpack,
        "forward reference": typing.ForwardRef("X"),
    }
    return items


def local_structure() -> Any:
    class LocalStructure(ctypes.Structure):
        _fields_ = (("x", ctypes.c_int),)

    return LocalStructure


CARRIERS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "itself": (lambda thing: thing, ""),
    "a value": (lambda thing: {"a": 1, "sink": thing}, "item['sink']"),
    "an element": (lambda thing: [0, (1, thing)], "item[1][1]"),
    "an attribute": (lambda thing: {"x": Attributes(file=thing)}, "item['x'].file"),
    "beside a lambda": (lambda thing: [lambda: 5, Attributes(file=thing)], "item[1].file"),
    "in a closure": (lambda thing: [close_over(thing)], "item[0].__closure__['value']"),
    "a default": (with_default, "item.__defaults__[0]"),
    "in a local object": (lambda thing: set_attribute(local_class()(), thing), "item.file"),
    "in a field": (lambda thing: Pair(1, Plain(thing)), "item.right.x"),
    "in a state": (lambda thing: Stateful(file=thing), "item.file"),
    "in a partial": (lambda thing: functools.partial(PartialChild, thing), "item.args[0]"),
    "in a deque": (lambda thing: collections.deque([1, thing]), "item[1]"),
    "in an exception": (lambda thing: ValueError(1, thing), "item.args[1]"),
}
"""Where a thing lies in an item, and what the item calls it there."""


def set_attribute(obj: Any, thing: Any) -> Any:
    obj.file = thing
    return obj


def is_same(one: Any, other: Any, depth: int = 0) -> bool:
    """Whether two objects are of the same type, and equal as far as one can see."""
    if type(one) is not type(other):
        return type(one).__qualname__ == type(other).__qualname__ and "<locals>" in type(one).__qualname__
    if one is other or depth > 8:
        return True
    if hasattr(one, "__array__"):
        import numpy as np

        if isinstance(one, np.ndarray):
            return (one.dtype == other.dtype and one.shape == other.shape and one.tolist() == other.tolist()) or (
                one.dtype == object and all(map(is_same, one.ravel(), other.ravel()))
            )
    if type(one) in {list, tuple}:
        return len(one) == len(other) and all(is_same(a, b, depth + 1) for a, b in zip(one, other, strict=True))
    if isinstance(one, BaseException):
        return is_same(one.args, other.args) and is_same(vars(one), vars(other))
    try:
        if one == other or (one != one and other != other):  # noqa: PLR0124
            return True
    except Exception:
        pass
    if isinstance(one, dict):
        return list(one) == list(other) and all(is_same(one[key], other[key], depth + 1) for key in one)
    if isinstance(one, types.FunctionType):
        return one.__code__.co_code == other.__code__.co_code
    if isinstance(one, types.ModuleType):
        return one.__name__ == other.__name__
    if isinstance(one, type):
        return one.__qualname__ == other.__qualname__ and set(vars(one)) == set(vars(other))
    try:
        states = one.__reduce_ex__(4), other.__reduce_ex__(4)
    except Exception:
        addresses = re.compile(r"(at )?0x[0-9a-fA-F]+")
        return addresses.sub("", repr(one)) == addresses.sub("", repr(other))
    return is_same(*states, depth + 1)
