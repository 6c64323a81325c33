# ruff: noqa: B905, SIM115, UP007, UP045
"""Some hundred things: what pickle can do, what goes by value, and what exists in this process only."""

from __future__ import annotations

import array
import ast
import asyncio
import collections
import concurrent.futures
import configparser
import contextvars
import copy
import ctypes
import datetime
import decimal
import email.message
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
from collections.abc import Callable
from typing import Any

from tests.support.zoo.kinds import (
    SINGLETON,
    Abstract,
    Access,
    Attributes,
    Box,
    BytearrayChild,
    BytesChild,
    Closing,
    Color,
    Concrete,
    DequeChild,
    Descriptor,
    DictChild,
    Either,
    FloatChild,
    Frozen,
    IntChild,
    Level,
    ListChild,
    Meta,
    NewArguments,
    OfMeta,
    OwnError,
    Pair,
    Plain,
    Point2,
    Reduced,
    Row,
    SetChild,
    Slots,
    Stateful,
    StrChild,
    T,
    Table,
    Triple,
    TupleChild,
    async_generator,
    cached,
    close_over,
    coroutine,
    dispatched,
    dynamic_module,
    function,
    generator,
    itself,
    local_abstract,
    local_class,
    local_dataclass,
    local_enum,
    local_generic,
    local_namedtuple,
    raised,
    shared,
    with_default,
    wrapped,
)


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
    add(Plain, Frozen, Pair, Row, OfMeta, Meta, Abstract, Concrete, Box, Box[int], Box[T], T, Table)  # type: ignore[valid-type]
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
        "classmethod of a local class": local.made,  # type: ignore[attr-defined]
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
    if "multiprocessing.managers" in sys.modules:  # another test has imported it: it registers a reducer of these
        for name in ("keys", "values", "items"):
            del items[name]
    return items


def local_structure() -> Any:
    class LocalStructure(ctypes.Structure):
        _fields_ = (("x", ctypes.c_int),)

    return LocalStructure
