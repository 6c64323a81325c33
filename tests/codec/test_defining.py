"""What a definition of ``__main__`` takes along, and what it leaves out: code, and no data of the program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shared_multiprocess_queue._codec import definitions
from tests.support.places import REPOSITORY
from tests.support.queues import MakeQueue

# The program that sends: one object of a class whose methods use all kinds of things around them.
SENDER = """
import abc, concurrent.futures, datetime, enum, functools, logging, math, pathlib, re, sys, threading, typing
from collections import namedtuple
from dataclasses import dataclass, field, fields, MISSING
from random import randint
from settings import LIMITS
from shared_multiprocess_queue import SharedMemoryQueue

class Secretive:
    runs = []
    def __init__(self, *_): self.lock = threading.Lock()
    def __getstate__(self): self.runs.append("getstate"); return {}
    def __reduce__(self): self.runs.append("reduce"); return Secretive, ()
    def __reduce_ex__(self, protocol): self.runs.append("reduce_ex"); return Secretive, ()
    def __getattribute__(self, name):
        if name not in {"runs", "lock"}: type(self).runs.append(name)
        return object.__getattribute__(self, name)
    @property
    def __class__(self): self.runs.append("class"); return int
    def __eq__(self, other): self.runs.append("eq"); return self is other
    def __hash__(self): self.runs.append("hash"); return 1
    def __len__(self): self.runs.append("len"); return 1
    def __iter__(self): self.runs.append("iter"); return iter(())

SECRET = Secretive()
SECRETS = (1, (SECRET,))
TABLE = bytearray(200_000_000)
MAP = {"a": 1}
LONG = "x" * 5000
NAMES = ("a", b"b", 3, 4.0, 5j, None, True, ..., frozenset({1, 2}))
word = re.compile("[a-z]+")
log = logging.getLogger("sender")
T = typing.TypeVar("T")

class Color(enum.Enum):
    RED = 1
    CRIMSON = 1
    GREEN = 2
    def other(self): return Color.GREEN if self is Color.RED else Color.RED

class Planet(enum.Enum):
    EARTH = (6, 7)
    def __init__(self, mass, radius): self.mass, self.radius = mass, radius
    @property
    def value(self): raise AssertionError("code of the program")

class Mode(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()

class Named(enum.Enum):
    def label(self): return self.name.lower()

class Level(Named):
    LOW = "l"

class Word(enum.StrEnum):
    YES = "y"

class Open(enum.IntFlag, boundary=enum.STRICT):
    A = 1
    B = 2

DEFAULT = Color.GREEN
BOTH = Mode.READ | Mode.WRITE

@dataclass(frozen=True)
class Origin:
    x: int = 0

@dataclass
class Order:
    number: int
    where: Origin = Origin(3)
    tags: list = field(default_factory=list)
    wait: datetime.timedelta = datetime.timedelta(seconds=5)
    color: Color = Color.RED

@dataclass(frozen=True, slots=True)
class Slotted:
    a: int
    b: int = 2

Pair = namedtuple("Pair", "left right", defaults=[4])

class Triple(typing.NamedTuple):
    a: int
    b: str = "b"
    def both(self): return self.a, self.b

class Row(typing.TypedDict):
    name: str

class AppError(Exception):
    def __init__(self, what): super().__init__(what); self.what = what

class Box(typing.Generic[T]):
    def __init__(self, content): self.content = content

class Sized(typing.Protocol):
    def size(self) -> int: ...

class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self): ...

class Positive:
    'A descriptor.'
    def __set_name__(self, owner, name): self.name = name
    def __get__(self, instance, owner=None): return self if instance is None else instance.__dict__[self.name]
    def __set__(self, instance, value):
        if value <= 0: raise ValueError(self.name)
        instance.__dict__[self.name] = value

def logged(function):
    @functools.wraps(function)
    def wrapper(*args): return "logged", function(*args)
    return wrapper

def guarded(function, by=SECRET):
    def wrapper(*args): return by, function(*args)
    return wrapper

@functools.lru_cache(maxsize=7)
def cached(x): return x + 1

double = functools.partial(max, 2)

def helper(x): return cached(x) + math.floor(2.5)

def even(n): return n == 0 or odd(n - 1)
def odd(n): return n != 0 and even(n - 1)

class Base:
    def who(self): return "base"

class Job(Base):
    limit: "int" = 3
    options = {"deep": [1, (2, {3})], "when": datetime.date(2024, 1, 2)}
    path = pathlib.PurePosixPath("/tmp")
    registry = Secretive()
    lock = threading.Lock()
    size = Positive()
    __private = 5
    class Inner:
        def value(self): return Job._Job__private
    def who(self): return "job of " + super().who()
    @property
    def upper(self): return self.key.upper()
    @staticmethod
    def static(x): return helper(x)
    @classmethod
    def named(cls): return cls.__name__
    @functools.cached_property
    def slow(self): return [self.key]
    @logged
    def decorated(self): return self.key
    @guarded
    def guarded(self): return 1
    @functools.lru_cache
    def remembered(self, x): return x * 2
    def with_default(self, x=SECRET): return x
    part = functools.partialmethod(who)
    sine = math.sin
    def __init__(self, key): self.key, self.size = key, 1
    def constants(self): return NAMES
    def classes(self): return [Order(1), Slotted(1), Pair(1), AppError("w"), Box[int](1), Color.CRIMSON, self.planet()]
    def planet(self): return Planet.EARTH.mass
    def functions(self): return helper(1), even(4), double(1), cached.cache_parameters()["maxsize"]
    def imported(self): return LIMITS["most"], randint(1, 1), concurrent.futures.Future, math.pi
    def tools(self): return word.match("abc").group(), log.name, DEFAULT.name, BOTH == Mode.READ | Mode.WRITE
    def typed(self): return Triple(1).both(), Triple(1)._replace(b=2).b, Row(name="r"), Row.__annotations__
    def enums(self): return Level.LOW.label(), Word.YES + "!", Open(3).name, Open(4)
    def more_enums(self): return Level.LOW.label(), Word.YES + "!", Open(3).name, Level("l") is Level.LOW
    def table(self): return TABLE[0]
    def inside(self): return [SECRET for _ in range(1)]
    def deeper(self):
        def inner():
            class Body: attribute = MAP
            return Body
        return inner()
    def long(self): return LONG
    def secrets(self): return SECRETS
    def own(self): return never_defined
    def builtin(self): return len(TABLE) if self.key == "?" else len("ab")
    def imports(self):
        import decimal
        return decimal.Decimal(1), TABLE if self.key == "?" else None

if __name__ == "__main__":
    with SharedMemoryQueue(sys.argv[1], run_id=sys.argv[2]) as queue:
        with SECRET.lock:
            queue.put(Job("a"))
    print(Secretive.runs)
"""


READER = """
import sys, json
from shared_multiprocess_queue import SharedMemoryQueue

queue = SharedMemoryQueue(sys.argv[1], run_id=sys.argv[2])
item = queue.get(timeout=60)
if len(sys.argv) > 4:
    with SharedMemoryQueue(sys.argv[4], run_id=sys.argv[2]) as further:
        further.put(item)
queue.close()
answers = {}
for question in json.loads(sys.argv[3]):
    try:
        answers[question] = repr(eval(question))
    except Exception as error:
        answers[question] = f"{type(error).__name__}: {error}"
print(json.dumps(answers))
"""


SETTINGS = "LIMITS = {'most': 9}\n"


# What works in another program, and what comes out.
WORKS = {
    "item.constants() == ('a', b'b', 3, 4.0, 5j, None, True, ..., frozenset({1, 2}))": True,
    "[type(it).__name__ for it in item.classes()]": ["Order", "Slotted", "Pair", "AppError", "Box", "Color", "int"],
    "[it.name for it in __import__('dataclasses').fields(item.classes()[0])][1:4]": ["where", "tags", "wait"],
    "str(item.classes()[0])": "Order(number=1, where=Origin(x=3), tags=[], wait=datetime.timedelta(seconds=5), "
    "color=<Color.RED: 1>)",
    "__import__('dataclasses').replace(item.classes()[0], number=2).number": 2,
    "type(item.classes()[0])(1, tags=[2]).tags": [2],
    "item.classes()[1] == type(item.classes()[1])(1, 2)": True,
    "hasattr(item.classes()[1], '__dict__')": False,
    "str(item.classes()[2])": "Pair(left=1, right=4)",
    "item.classes()[3].what": "w",
    "item.classes()[4].__orig_class__.__args__": (int,),
    "item.classes()[5].other().other() is type(item.classes()[5]).RED is type(item.classes()[5]).CRIMSON": True,
    "item.classes()[6]": 6,
    "item.typed()": ((1, "b"), 2, {"name": "r"}, {"name": str}),
    "item.more_enums()": ("low", "y!", "A|B", True),
    "item.functions()": (4, True, 2, 7),
    "item.imported()[:2]": (9, 1),
    "item.tools()": ("abc", "sender", "GREEN", True),
    "item.who(), item.part(), item.upper, item.static(1), item.named(), item.slow": (
        "job of base", "job of base", "A", 4, "Job", ["a"],
    ),
    "item.decorated(), type(item).decorated.__name__, item.remembered(4)": (("logged", "a"), "decorated", 8),
    "item.limit, item.options['deep'], item.options['when'].year, item.path.name": (3, [1, (2, {3})], 2024, "tmp"),
    "item.Inner().value(), type(item).__annotations__": (5, {"limit": "int"}),
    "item.sine(0.0)": 0.0,
    "item.size, type(item).size.name": (1, "size"),
    "item.builtin(), item.imports()[1]": (2, None),
    "isinstance(item.classes()[3], Exception)": True,
}  # fmt: skip


# What needs data of the other program, and what the error has to say.
MISSES = {
    "item.table()": ["NameError: name 'TABLE' is not defined", "bytearray", "'Job'", "put it into the item"],
    "item.inside()": ["NameError: name 'SECRET' is not defined", "__main__.Secretive", "both programs import"],
    "item.deeper()": ["NameError: name 'MAP' is not defined", "builtins.dict", "do not travel"],
    "item.long()": ["NameError: name 'LONG' is not defined", "4,096 bytes"],
    "item.secrets()": ["NameError: name 'SECRETS' is not defined", "Secretive"],
    "item.enums()": ["ValueError", "invalid value 4"],
    "item.own()": ["NameError: name 'never_defined' is not defined"],
    "item.registry": ["AttributeError: 'registry' did not travel", "Secretive", "'Job'"],
    "item.lock": ["AttributeError: 'lock' did not travel", "_thread.lock"],
    "item.guarded()": ["NameError", "cannot be called here", "Secretive"],
    "item.with_default()": ["NameError: 'Job.with_default' cannot be called here", "Secretive"],
}


def run(script: Path, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        cwd=script.parent,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(script.parent)])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    for name, source in (("sender", SENDER), ("reader", READER), ("settings", SETTINGS)):
        (tmp_path / f"{name}.py").write_text(source)
    return tmp_path


def assert_answers(answers: dict[str, str]) -> None:
    works = {question: answers[question] for question in WORKS}
    assert works == {question: repr(answer) for question, answer in WORKS.items()}
    for question, parts in MISSES.items():
        assert all(part in answers[question] for part in parts), answers[question]
        assert answers[question].startswith(parts[0])
    assert "definition of" not in answers["item.own()"], "the interpreter's own error"


def test_a_definition_is_code_and_carries_no_data(programs: Path, make_queue: MakeQueue, each_engine: str) -> None:
    """Each put made another object of SECRET, and the bytes of TABLE travelled with each item."""
    q = make_queue(item_size=16 << 20)
    further = make_queue("further", item_size=16 << 20)
    assert run(programs / "sender.py", q.name, q.run_id) == "[]\n", "code of the program ran"
    questions = json.dumps([*WORKS, *MISSES])
    assert_answers(json.loads(run(programs / "reader.py", q.name, q.run_id, questions, further.name)))
    (programs / "third.py").write_text(READER)
    assert_answers(json.loads(run(programs / "third.py", further.name, q.run_id, questions)))


def test_items_of_a_class_beside_much_data_are_small(tmp_path: Path) -> None:
    (tmp_path / "sizes.py").write_text(
        "import sys\nfrom shared_multiprocess_queue._codec.codec import Codec\n"
        "class Store:\n"
        "    def __init__(self): self.sizes = []\n"
        "    def add(self, key, definition): self.sizes.append(len(definition)); return True\n"
        "TABLE = bytearray(200_000_000)\n"
        "class Job:\n    def run(self): return TABLE\n"
        "store = Store()\n"
        "print(len(Codec(store).encode(Job())[0]), *store.sizes, 'cloudpickle' in sys.modules)\n"
    )
    item, definition, needs_cloudpickle = run(tmp_path / "sizes.py").split()
    assert int(item) < 100
    assert int(definition) < 2000
    assert needs_cloudpickle == "False"


HELD = """
import multiprocessing, sys, threading
from shared_multiprocess_queue import SharedMemoryQueue

class Registry:
    def __init__(self): self.lock, self.rows = threading.Lock(), {"a": 1}
    def __getstate__(self):
        with self.lock: return dict(self.rows)

REGISTRY = Registry()

class Job:
    def run(self): return REGISTRY.rows["a"]

def child(queue, answers):
    answers.put(queue.get(timeout=60).run())

if __name__ == "__main__":
    queue, answers = (SharedMemoryQueue(name, run_id=sys.argv[2]) for name in (sys.argv[1], sys.argv[3]))
    with REGISTRY.lock:
        queue.put(Job())
        queue.put_batch([Job(), Job])
    process = multiprocessing.get_context(sys.argv[4]).Process(target=child, args=(queue, answers))
    process.start()
    print(answers.get(timeout=60))
    process.join()
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_put_under_a_lock_of_the_program_does_not_wait_for_it(
    tmp_path: Path, make_queue: MakeQueue, each_engine: str, method: str
) -> None:
    (tmp_path / "held.py").write_text(HELD)
    q, answers = make_queue(), make_queue("answers")
    assert run(tmp_path / "held.py", q.name, q.run_id, answers.name, method) == "1\n"


def explain(**left_out: str) -> Any:
    """A function that mentions names that were left out, built as a reader builds it."""
    import importlib.util
    import marshal

    code = compile("def f(name): return eval(name), TABLE", "x", "exec").co_consts[0]
    return definitions._make_function(importlib.util.MAGIC_NUMBER, marshal.dumps(code), {}, "f", left_out, "Job")


def test_builtins_that_are_added_later_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    function = explain(TABLE="a table")
    monkeypatch.setattr(builtins, "TABLE", 3, raising=False)
    assert function("1") == (1, 3)


def test_the_error_has_the_name_as_any_name_error_has() -> None:
    with pytest.raises(NameError) as caught:
        explain(TABLE="a table")("1")
    assert caught.value.name == "TABLE"


def test_a_definition_of_another_version_of_python_is_refused() -> None:
    with pytest.raises(TypeError, match="'Job' was made by another version of Python"):
        definitions._make_function(b"????", b"", {}, "f", {}, "Job")
