"""Programs with one of each kind of thing in ``__main__``, and what must hold of the items that they send."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.places import REPOSITORY

WATCHDOG = 60  # seconds


# What every program of these tests imports: a store, and letters that carry items from one process to the next.
WIRE = """
import pickle
from shared_multiprocess_queue._codec.codec import Codec

class DictStore:
    def __init__(self, definitions=()):
        self.definitions = dict(definitions)
    def add(self, key, definition):
        self.definitions.setdefault(key, definition)
        return True
    def find(self, key):
        return self.definitions.get(key)

def pack(items):
    store = DictStore()
    codec = Codec(store)
    encoded = {name: codec.encode(item) for name, item in items.items()}
    return pickle.dumps((encoded, store.definitions))

def unpack(letter):
    encoded, definitions = pickle.loads(letter)
    codec = Codec(DictStore(definitions))
    items = {}
    for name, payload in encoded.items():
        try:
            items[name] = codec.decode(*payload)
        except Exception as error:
            items[name] = error
    return items

def write(path, items):
    with open(path, "wb") as file:
        file.write(pack(items))

def read(path):
    with open(path, "rb") as file:
        return unpack(file.read())

def examine(items, checks, names):
    'For each item, whether the check holds; an error is no less than an answer.'
    results = {}
    for name, check in checks.items():
        try:
            results[name] = bool(eval(check, {**names, "item": items[name]}))
        except Exception as error:
            results[name] = f"{type(error).__name__}: {error}; the item is {items[name]!r}"
    return results
"""


# A program with one of each kind of thing.
ZOO = """
import abc, enum, functools, multiprocessing, sys, typing
import cloudpickle
from collections import namedtuple
from dataclasses import dataclass, field
from wire import *

@dataclass
class Point:
    x: int
    y: int
    def norm(self):
        return scale(self.x) + self.y

@dataclass(frozen=True, slots=True)
class Frozen:
    x: int
    tags: tuple = ()
    def first(self):
        return self.tags[0]

class Color(enum.Enum):
    RED = 1
    GREEN = 2
    def other(self):
        return Color.GREEN if self is Color.RED else Color.RED

class Mode(enum.IntFlag):
    READ = 1
    WRITE = 2

class Pair(namedtuple("Pair", "left right")):
    __slots__ = ()
    def swap(self):
        return Pair(self.right, self.left)

Triple = namedtuple("Triple", "a b c")

class AppError(Exception):
    pass

class NotFoundError(AppError):
    def __init__(self, what, where="nowhere"):
        super().__init__(what, where)
        self.what = what

class Outer:
    class Inner:
        def __init__(self, value):
            self.value = value
        def double(self):
            return 2 * self.value
    @staticmethod
    def make(value):
        return Outer.Inner(value)
    @classmethod
    def name(cls):
        return cls.__name__

T = typing.TypeVar("T")

class Box(typing.Generic[T]):
    def __init__(self, content: T):
        self.content = content

class Base:
    def who(self):
        return "base"

class Derived(Base):
    def who(self):
        return "derived of " + super().who()

class Ping:
    def peer(self):
        return Pong()

class Pong:
    def peer(self):
        return Ping()

class Registry:
    def make(self):
        return Plugin()

class Plugin(Registry):
    pass

class Meta(type):
    def __new__(metaclass, name, bases, namespace):
        return super().__new__(metaclass, name, bases, dict(namespace))
    @property
    def label(cls):
        return f"<{cls.__name__}>"

class Labelled(metaclass=Meta):
    pass

class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self): ...

class Square(Shape):
    def area(self):
        return 4

def scale(x):
    return FACTOR * x

FACTOR = 10

def even(n):
    return n == 0 or odd(n - 1)

def odd(n):
    return n != 0 and even(n - 1)

def logged(function):
    @functools.wraps(function)
    def wrapper(*args):
        return ["logged", function(*args)]
    return wrapper

@logged
def decorated(x):
    return scale(x)

def local_class():
    class Local(Base):
        pass
    return Local

def build():
    return {
        "dataclass": Point(3, 4),
        "slots": Frozen(1, ("a",)),
        "enum": Color.RED,
        "flag": Mode.READ | Mode.WRITE,
        "namedtuple": Pair(1, 2),
        "bare namedtuple": Triple(1, 2, 3),
        "exception": NotFoundError("x"),
        "nested": Outer.Inner(5),
        "static method": Outer.make,
        "class method": Outer.name,
        "bound method": Outer.Inner(5).double,
        "generic": Box[int](7),
        "generic alias": Box[int],
        "derived": Derived(),
        "base": Base(),
        "mutual classes": Ping(),
        "base that uses derived": Plugin(),
        "metaclass": Labelled(),
        "abstract": Square(),
        "class": Derived,
        "function": scale,
        "mutual functions": even,
        "decorated": decorated,
        "partial": functools.partial(scale, 2),
        "list": [Point(1, 2), Color.GREEN, Base()],
        "lambda": lambda: (Point(1, 2), FACTOR),
        "local": local_class()(),
        "both": (Point(1, 2), lambda point: scale(point.y)),
        "kinds": (Point, Color, Base, scale),
    }
"""


# What holds of the items in every process.
VALUES = {
    "dataclass": "item.norm() == 34 and item == type(item)(3, 4) and repr(item) == 'Point(x=3, y=4)'",
    "slots": "item.first() == 'a' and hash(item)",
    "enum": "item.other() is type(item).GREEN and type(item)(1) is item and type(item)['RED'] is item",
    "flag": "item == 3 and item.name == 'READ|WRITE'",
    "namedtuple": "item.swap() == (2, 1) and item.left == 1 and type(item.swap()) is type(item)",
    "bare namedtuple": "item._asdict() == {'a': 1, 'b': 2, 'c': 3}",
    "exception": "isinstance(item, Exception) and item.what == 'x' and type(item).__bases__[0].__name__ == 'AppError'",
    "nested": "item.double() == 10 and type(item).__qualname__ == 'Outer.Inner'",
    "static method": "item(4).double() == 8 and type(item(4)) is type(items['nested'])",
    "class method": "item() == 'Outer' and item.__self__.Inner is type(items['nested'])",
    "bound method": "item() == 10",
    "generic": "item.content == 7 and item.__orig_class__ == items['generic alias']",
    "generic alias": "item(1).content == 1",
    "derived": "item.who() == 'derived of base' and type(item).__bases__ == (type(items['base']),)",
    "base": "item.who() == 'base'",
    "mutual classes": "type(item.peer().peer()) is type(item)",
    "base that uses derived": "[type(item.make())] == type(item).__bases__[0].__subclasses__() == [type(item)]",
    "metaclass": "type(item).label == '<Labelled>' and type(type(item)).__name__ == 'Meta'",
    "abstract": "item.area() == 4 and type(item).__bases__[0].__abstractmethods__ == {'area'}",
    "class": "item is type(items['derived'])",
    "function": "item(2) == 20",
    "mutual functions": "item(10) and not item(7)",
    "decorated": "item(2) == ['logged', 20] and item.__name__ == 'decorated'",
    "partial": "item() == 20",
    "list": "type(item[0]) is type(items['dataclass']) and item[1] is type(items['enum']).GREEN",
    "lambda": "type(item()[0]) is type(items['dataclass']) and item()[1] == 10",
    "local": "item.who() == 'base' and isinstance(item, type(items['base']))",
    "both": "item[1](item[0]) == 20",
    "kinds": "item[:3] == tuple(type(items[n]) for n in ('dataclass', 'enum', 'base')) and item[3](1) == 10",
}


# What holds, too, in a process of the program that the items are from.
OWN = {
    "dataclass": "type(item) is Point",
    "slots": "type(item) is Frozen",
    "enum": "item is Color.RED",
    "flag": "item == Mode.READ | Mode.WRITE and type(item) is Mode",
    "namedtuple": "type(item) is Pair",
    "bare namedtuple": "type(item) is Triple",
    "exception": "type(item) is NotFoundError and isinstance(item, AppError)",
    "nested": "type(item) is Outer.Inner",
    "static method": "item is Outer.make",
    "class method": "item == Outer.name",
    "bound method": "type(item.__self__) is Outer.Inner",
    "generic": "type(item) is Box and item.__orig_class__ == Box[int]",
    "generic alias": "item == Box[int]",
    "derived": "type(item) is Derived",
    "base": "type(item) is Base",
    "mutual classes": "type(item) is Ping",
    "base that uses derived": "type(item) is Plugin",
    "metaclass": "type(item) is Labelled and type(type(item)) is Meta",
    "abstract": "isinstance(item, Shape) and type(item) is Square",
    "class": "item is Derived",
    "function": "item is scale",
    "mutual functions": "item is even",
    "decorated": "item is decorated",
    "partial": "item.func is scale",
    "list": "type(item[0]) is Point and item[1] is Color.GREEN and type(item[2]) is Base",
    "lambda": "type(item()[0]) is Point",
    "local": "isinstance(item, Base)",
    "both": "type(item[0]) is Point and item[1].__globals__['scale'] is scale",
    "kinds": "item == (Point, Color, Base, scale)",
}


ZOO_MAIN = """
def check(items):
    return [examine(items, VALUES, {"items": items}), examine(items, OWN, {**globals(), "items": items})]

def child(letter, connection):
    items = unpack(letter)
    letters = pack(items), pack(build())
    assert not cloudpickle.list_registry_pickle_by_value()
    connection.send_bytes(pickle.dumps((check(items), *letters)))

def ask_child(method):
    'Send the items to a child; what it says of them, and of what it sends: the items again, and its own.'
    context = multiprocessing.get_context(method)
    here, there = context.Pipe()
    process = context.Process(target=child, args=(pack(build()), there))
    process.start()
    there.close()
    results, again, own = pickle.loads(here.recv_bytes())
    process.join()
    return {"there": results, "and back": check(unpack(again)), "from there": check(unpack(own))}, own

if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if command == "write":
        write(arguments[0], build())
    elif command == "check":
        json_dump(check(read(arguments[0])))
    else:
        results, own = ask_child(command)
        with open(arguments[0], "wb") as file:
            file.write(own)
        json_dump(results)
"""


OTHER = """
import json, sys
from wire import *

class Point:
    'Not the one that is meant.'

def scale(x):
    'Nor this.'

if __name__ == "__main__":
    items = read(sys.argv[1])
    if len(sys.argv) > 2:
        write(sys.argv[2], items)
    print(json.dumps(examine(items, VALUES, {"items": items})))
"""


def run(script: Path | list[str], *arguments: object, folder: Path, stdin: str | None = None) -> Any:
    """Run a program, and return the JSON that it prints."""
    command = [str(script)] if isinstance(script, Path) else script
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", *command, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(folder)])},
        timeout=WATCHDOG,
        capture_output=True,
        text=True,
        check=False,
        input=stdin,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return json.loads(done.stdout) if done.stdout else None
