# ruff: noqa: E501, RUF012, UP006, UP014, UP045
# mypy: allow-untyped-defs, allow-untyped-calls, allow-any-generics
"""Classes and functions that no name leads to arrive whole, in a process that has never seen them."""

from __future__ import annotations

import abc
import collections
import contextlib
import dataclasses
import enum
import functools
import multiprocessing
import types
import typing
from typing import Any

import pytest

from shared_multiprocess_queue import SharedMemoryQueue
from tests.support.queues import MakeQueue

PATIENCE = 60  # seconds until a child that does not answer counts as dead


def build() -> dict[str, tuple[Any, str]]:
    """Define one of each kind; return them with what must hold of each."""
    T = typing.TypeVar("T")

    class TD(typing.TypedDict, total=False):
        x: int

    class Pr(typing.Protocol):
        def f(self) -> int: ...

    class NT(typing.NamedTuple):
        a: int
        b: str = "x"

    class IF(enum.IntFlag):
        A = 1
        B = 2

    class SE(enum.StrEnum):
        A = "a"

    class AE(enum.Enum):
        A = enum.auto()
        B = enum.auto()

        @property
        def up(self):
            return self.name.upper()

        @classmethod
        def first(cls):
            return cls.A

    @dataclasses.dataclass(slots=True)
    class DS:
        x: int = 1

    @dataclasses.dataclass(frozen=True, order=True)
    class DF(typing.Generic[T]):
        x: int
        y: list = dataclasses.field(default_factory=list, compare=False, metadata={"a": 1})

    class Slots:
        __slots__ = ("__weakref__", "a")

        def __init__(self):
            self.a = 3

    class Nested:
        class In:
            def f(self):
                return 3

        def g(self):
            return self.In().f()

    class Base:
        def __init__(self):
            self.x = 1

    class Sup(Base):
        def __init__(self):
            super().__init__()
            self.y = __class__.__name__  # type: ignore[name-defined]

    class Meta(type):
        def __call__(cls, *a, **k):
            o = super().__call__(*a, **k)
            o.meta = True
            return o

    class WithMeta(metaclass=Meta):
        pass

    class PM:
        def f(self, a, b=2):
            return a + b

        g = functools.partialmethod(f, 5)

    class Ab(abc.ABC):
        @property
        @abc.abstractmethod
        def p(self): ...
        @staticmethod
        @abc.abstractmethod
        def s(): ...

    class Conc(Ab):
        p = 3

        @staticmethod
        def s():
            return 4

    Ab.register(int)

    class Err(ValueError):
        def __init__(self, code):
            super().__init__(code)
            self.code = code

    class Init:
        subs = []  # type: ignore[var-annotated]

        def __init_subclass__(cls):
            cls.marked = True  # type: ignore[attr-defined]

    class Sub(Init):
        pass

    class Coro:
        async def f(self):
            return 6

        def g(self):
            yield 7

        @contextlib.contextmanager
        def cm(self):
            yield 8

    class It(dict):
        def __missing__(self, k):
            return k * 2

    class Rec:
        def make(self):
            return Rec()

    class Desc:
        class D:
            def __get__(self, o, t=None):
                return 11

            def __set_name__(self, o, n):
                self.n = n

        d = D()

    class Op:
        def __add__(self, o):
            return 12

        __radd__ = __add__

        def __eq__(self, o):
            return True

        __hash__ = None  # type: ignore[assignment]

    def deco(f):
        @functools.wraps(f)
        def w(*a):
            return ("w", f(*a))

        return w

    class Dec:
        @deco
        def f(self):
            return 13

    class Linked(typing.TypedDict):
        next: list[Linked] | None  # type: ignore[misc]
        call: typing.Callable[[Linked], dict[str, Linked]]  # type: ignore[misc]

    Functional = typing.NamedTuple("Functional", [("x", typing.Optional[typing.List["Functional"]])])  # type: ignore[misc]
    U = typing.TypeVar("U", bound="Hint")

    class Bound(typing.Generic[U]):
        x: U

    counter = [0]

    def inc():
        counter[0] += 1
        return counter[0]

    def rec(n):
        return 1 if n == 0 else n * rec(n - 1)

    NTT = collections.namedtuple("NTT", "a b", defaults=(1,))

    class Hint:
        x: Hint = None  # type: ignore[assignment]
        y: typing.ClassVar[int | None] = 3
        z: typing.Callable[[T], T] = None  # type: ignore[assignment]

    class Doc:
        """Documented."""

        CONST = types.MappingProxyType({"a": 1})
        LOOK = {"f": len, "g": lambda: 15}

    return {
        "TD": (TD(x=1), "item=={'x':1}"),
        "TDc": (TD, "item.__name__=='TD' and item(x=1)=={'x':1}"),
        "Pr": (Pr, "item.__name__=='Pr'"),
        "NT": (NT(1), "item.b=='x' and item._replace(a=2).a==2"),
        "IF": (IF.A | IF.B, "item==3 and item.name=='A|B'"),
        "SE": (SE.A, "item=='a'"),
        "AE": (AE.B, "item.up=='B' and item.first().name=='A' and item.value==2"),
        "DS": (DS(5), "item.x==5 and item==type(item)(5)"),
        "DF": (
            DF(1, [2]),
            "item<type(item)(2) and item.y==[2] and dataclasses.fields(item)[1].metadata['a']==1 and type(item)(3).y==[]",
        ),
        "Slots": (Slots(), "item.a==3"),
        "Nested": (Nested(), "item.g()==3"),
        "Sup": (Sup, "vars(item())=={'x':1,'y':'Sup'}"),
        "Meta": (WithMeta, "item().meta"),
        "PM": (PM(), "item.g()==7"),
        "Conc": (Conc(), "item.p==3 and item.s()==4 and isinstance(1,type(item).__bases__[0])"),
        "Err": (Err(5), "item.code==5"),
        "Sub": (Sub(), "item.marked"),
        "Coro": (Coro(), "list(item.g())==[7] and item.cm().__enter__()==8 and __import__('asyncio').run(item.f())==6"),
        "It": (It(a=1), "item['x']=='xx'"),
        "Rec": (Rec(), "type(item.make()) is type(item)"),
        "Desc": (Desc(), "item.d==11"),
        "Op": (Op(), "item+1==12 and 1+item==12"),
        "Dec": (Dec(), "item.f()==('w',13)"),
        "inc": ((inc, inc), "item[0]()==1 and item[1]()==2"),
        "rec": (rec, "item(5)==120"),
        "NTT": (NTT(1), "item.b==1"),
        "Hint": (Hint(), "item.y==3"),
        "Doc": (Doc, "item.__doc__=='Documented.' and item.CONST['a']==1 and item.LOOK['g']()==15"),
        "Linked": (Linked, "item(next=None) == {'next': None}"),
        "Functional": (Functional, "item(5).x == 5"),
        "Bound": (Bound, "item[int]().__orig_class__"),
        "lambda kw": ((lambda *, k=1, **r: (k, r)), "item(z=2)==(1,{'z':2})"),
        "two of a module": ((deco(inc), deco(rec)), "item[1](3)==('w',6)"),
    }


def judge(requests: SharedMemoryQueue, answers: SharedMemoryQueue) -> None:
    """Say of what comes whether its check holds there."""
    for _ in range(requests.get(timeout=PATIENCE)):
        try:
            item, check = requests.get(timeout=PATIENCE)
            result: Any = bool(eval(check, {**globals(), "item": item}))
        except Exception as error:
            result = repr(error)
        answers.put(result)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_what_is_defined_in_a_function_arrives_whole(each_engine: str, make_queue: MakeQueue, method: str) -> None:
    requests, answers = (make_queue(name, item_size=1 << 16) for name in ("requests", "answers"))
    child = multiprocessing.get_context(method).Process(target=judge, args=(requests, answers), daemon=True)  # type: ignore[attr-defined]
    child.start()  # before there is anything to inherit
    things = build()
    requests.put(len(things))
    results = {}
    for name, (item, check) in things.items():
        requests.put((item, check))
        results[name] = answers.get(timeout=PATIENCE)
    child.join(PATIENCE)
    assert results == dict.fromkeys(things, True)
