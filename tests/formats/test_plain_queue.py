"""Queues with ``serializer="plain"``: what they take, what they refuse, and where in an item the culprit is."""

from __future__ import annotations

import collections
import copyreg
import datetime as dt
import enum
import gc
import itertools
import pickle
import sys
import threading
import uuid
import zoneinfo
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings

from shared_multiprocess_queue import (
    DeserializationError,
    ItemTooLargeError,
    SerializationError,
    SharedMemoryQueue,
)
from shared_multiprocess_queue._codec import plain
from shared_multiprocess_queue._engine import choice
from shared_multiprocess_queue._engine.definition_log import Definitions
from stress.codec.likeness import alike
from stress.codec.writer import write
from tests.support import everyday
from tests.support.interrupting import interrupted_at, points
from tests.support.lanes import examples
from tests.support.queues import MakeQueue, drained
from tests.support.steps import SPARSE


class Point(NamedTuple):
    x: int
    y: int


class Colour(enum.IntEnum):
    RED = 1


class Text(str):
    __slots__ = ()


class Meta(type):
    def __hash__(cls) -> int:
        raise AssertionError("code of the user ran")

    def __eq__(cls, other: object) -> bool:
        raise AssertionError("code of the user ran")


class OfMeta(metaclass=Meta):
    pass


@pytest.fixture
def q(make_queue: MakeQueue, each_engine: str) -> SharedMemoryQueue:
    return make_queue(capacity=4, item_size=everyday.ITEM_SIZE, serializer="plain")


# ---- what goes through ----------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=examples(60))
@given(item=everyday.items | everyday.sharing())
def same_as_pickle(writer: SharedMemoryQueue, reader: SharedMemoryQueue, item: Any) -> None:
    if write(item, everyday.ITEM_SIZE) is None:
        with pytest.raises(SerializationError, match="it is in the item twice"):
            writer.put(item)
        return
    writer.put(item)
    assert alike(reader.get(), pickle.loads(pickle.dumps(item, 5)))


@pytest.mark.parametrize("reading_engine", ["native", "atomics"])
def test_a_plain_item_arrives_as_by_pickle(q: SharedMemoryQueue, run_id: str, reading_engine: str) -> None:
    with SharedMemoryQueue("q", run_id=run_id, serializer="plain", engine=reading_engine) as reader:  # type: ignore[arg-type]
        for item in everyday.EXAMPLES:
            q.put(item)
            assert alike(reader.get(), item)
        same_as_pickle(q, reader)


def test_no_definition_is_stored_or_looked_for(
    make_queue: MakeQueue, each_engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []
    monkeypatch.setattr(Definitions, "__init__", lambda *arguments: made.append(arguments))
    with make_queue(serializer="plain") as q:
        q.put({"a": [1]})
        assert q.get() == {"a": [1]}
    assert made == []


def test_a_reducer_that_is_registered_is_not_asked(q: SharedMemoryQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(copyreg.dispatch_table, complex, lambda number: (str, ("reduced",)))
    monkeypatch.setitem(copyreg.dispatch_table, Decimal, lambda number: (str, ("reduced",)))
    q.put([2j, Decimal("1.5")])
    assert q.get() == [2j, Decimal("1.5")]


def test_an_item_as_deep_as_the_limit_goes_through(q: SharedMemoryQueue) -> None:
    item: Any = 1
    for _ in range(plain.DEPTH):
        item = [item]
    q.put(item)
    assert q.get() == item
    with pytest.raises(SerializationError, match="100 containers"):
        q.put([item])


# ---- what is refused ------------------------------------------------------------------------------------------------

row = [0]
REFUSED: dict[str, tuple[Any, str, str]] = {
    "a lock": ({"sink": [threading.Lock()]}, "item['sink'][0]", "_thread.lock"),
    "the item itself": (print, "item", "builtin_function_or_method"),
    "a function": ((1, len), "item[1]", "builtin_function_or_method"),
    "a class": ([int], "item[0]", "of type builtins.type"),
    "the class of what it is in": ([1, {"a": list}], "item[1]['a']", "of type builtins.type"),
    "the class of a part": (([1], list), "item[1]", "of type builtins.type"),
    "a named tuple": ([Point(1, 2)], "item[0]", "Point"),
    "a member of an enum": ({"c": Colour.RED}, "item['c']", "Colour"),
    "a str of a subclass": ([Text("a")], "item[0]", "Text"),
    "a key of a subclass": ({Text("a"): 1}, "list(item)[0]", "Text"),
    "a defaultdict": ([collections.defaultdict(list)], "item[0]", "defaultdict"),
    "a Fraction": ([Fraction(1, 2)], "item[0]", "Fraction"),
    "Ellipsis": ([...], "item[0]", "ellipsis"),
    "an object of a metaclass": ([1, OfMeta()], "item[1]", "OfMeta"),
    "a list twice": ([row, {"b": row}], "item[0]", "it is in the item twice"),
    "a time zone": (
        {"at": dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1)))},
        "item['at']",
        "only timezone.utc is plain",
    ),
    "a named zone": ([dt.datetime(2024, 1, 1, tzinfo=zoneinfo.ZoneInfo("UTC"))], "item[0]", "zoneinfo.ZoneInfo"),
    "a time with a zone": ([dt.time(1, tzinfo=dt.UTC)], "item[0]", "a time with a tzinfo"),
    "a safe UUID": ([uuid.UUID(int=1, is_safe=uuid.SafeUUID.safe)], "item[0]", "is_safe"),
    "an empty UUID": ([object.__new__(uuid.UUID)], "item[0]", "128 bits"),
}


@pytest.mark.parametrize(("item", "path", "why"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_plain_is_refused_with_its_place(q: SharedMemoryQueue, item: Any, path: str, why: str) -> None:
    with pytest.raises(SerializationError) as caught:
        q.put(item)
    text = str(caught.value)
    assert text.startswith(f"{path} cannot be put into a queue with serializer='plain': it ")
    assert why in text
    assert "is in the item" in text or "Decimal and UUID" in text
    assert caught.value.__cause__ is not None
    assert q.empty()


def test_a_list_that_has_itself_is_refused(q: SharedMemoryQueue) -> None:
    item: list[Any] = []
    item.append(item)
    with pytest.raises(SerializationError, match="in the item twice"):
        q.put(item)


def test_a_batch_with_a_part_that_is_refused_is_not_put(q: SharedMemoryQueue) -> None:
    for batch, index in (([[1], object(), [2]], 1), ([1, 2, object()], 2)):
        with pytest.raises(
            SerializationError, match=rf"^at index {index} of the batch: item cannot be put .*: it is "
        ) as c:
            q.put_batch(batch)
        assert c.value.index == index
        copied = pickle.loads(pickle.dumps(c.value))
        assert (str(copied), copied.index) == (str(c.value), index)
    assert q.empty()
    with pytest.raises(SerializationError) as caught:
        q.put(object())
    assert caught.value.index is None


def test_items_of_a_type_that_was_refused_before_go_through(q: SharedMemoryQueue) -> None:
    for _ in range(40):
        with pytest.raises(SerializationError):
            q.put([object()])
    for number in range(40):
        q.put([number])
        assert q.get() == [number]


@pytest.mark.parametrize("item", ["x" * 5000, [b"y" * 5000], {"a": ["z"] * 5000}, b"x" * 5000], ids=type)
def test_an_item_that_is_too_large_is_not_deflated(make_queue: MakeQueue, each_engine: str, item: Any) -> None:
    q = make_queue(capacity=4, item_size=4096, serializer="plain")
    with pytest.raises(ItemTooLargeError, match="item_size=") as caught:
        q.put(item)
    assert caught.value.deflated is None
    assert caught.value.index is None
    with make_queue("larger", item_size=caught.value.size, serializer="plain") as larger:
        larger.put(item)
        assert larger.get() == item
    with pytest.raises(ItemTooLargeError) as caught:
        q.put_batch([1, item])
    assert caught.value.index == 1
    assert q.empty()


def test_an_immutable_object_in_many_places_takes_little_time(q: SharedMemoryQueue) -> None:
    item: Any = ("x",)
    for _ in range(60):  # 2 ** 60 strs
        item = (item, item)
    with pytest.raises(ItemTooLargeError, match=r"takes at least .* with a larger max_item_size, and") as caught:
        q.put(item)
    assert not caught.value.is_exact
    assert q.item_size < caught.value.size <= 9 * q.item_size
    copied = pickle.loads(pickle.dumps(caught.value))
    assert (str(copied), copied.is_exact) == (str(caught.value), False)


@pytest.mark.parametrize("item", [[1.5] * 27, [1.5] * 28, [1.5] * 300, "x" * 3000], ids=["243", "252", "2705", "str"])
def test_a_size_that_was_not_counted_to_its_end_is_no_item_size_to_take(
    make_queue: MakeQueue, each_engine: str, item: Any
) -> None:
    q = make_queue(capacity=1, item_size=31, serializer="plain")  # 8 times that is 248
    with pytest.raises(ItemTooLargeError) as caught:
        q.put_batch([item])
    assert caught.value.index == 0
    assert caught.value.is_exact == (f"item_size={caught.value.size} or more" in str(caught.value))
    assert caught.value.is_exact == (len(item) < 28 or isinstance(item, str))
    if caught.value.is_exact:
        with make_queue("larger", capacity=1, item_size=caught.value.size, serializer="plain") as larger:
            larger.put(item)
            assert larger.get() == item


def test_where_the_stack_is_nearly_full_a_put_says_so(q: SharedMemoryQueue) -> None:
    item: Any = 1
    for _ in range(plain.DEPTH):
        item = [item]

    def at(depth: int) -> None:
        if depth:
            at(depth - 1)
        else:
            q.put(item)

    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(_frames()) + 60)
    try:
        if q.engine == "native":
            at(10)
        else:
            with pytest.raises(SerializationError, match="recursion"):
                at(10)
    finally:
        sys.setrecursionlimit(before)
    drained(q)
    q.put(item)
    assert q.get() == item


def _frames() -> list[Any]:
    frame = sys._getframe()
    found = []
    while frame is not None:
        found.append(frame)
        frame = frame.f_back  # type: ignore[assignment]
    return found


# ---- threads and interrupts -----------------------------------------------------------------------------------------


def test_an_item_that_another_thread_changes_has_no_wrong_bytes(make_queue: MakeQueue) -> None:
    """By the writer in Python; the native one keeps the GIL."""
    q = make_queue(capacity=4, item_size=1 << 16, serializer="plain", engine="atomics")
    item: dict[str, Any] = {"list": [0] * 50, "dict": {}, "set": set(), "bytes": bytearray(20)}
    over = threading.Event()
    before = sys.getswitchinterval()
    sys.setswitchinterval(2e-5)

    def change() -> None:
        number = 0
        while not over.is_set():
            number += 1
            item["list"].append(number) if number % 100 < 50 else item["list"].pop()
            item["dict"][number % 50] = number
            item["dict"].pop((number + 25) % 50, None)
            item["set"] ^= {number % 40}
            item["bytes"] = bytearray(number % 30)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(300):
            q.put(item)
            got = q.get()
            assert got.keys() == item.keys()
            assert all(type(got[name]) is type(item[name]) for name in item)
    finally:
        over.set()
        thread.join()
        sys.setswitchinterval(before)


def refused_item(q: SharedMemoryQueue) -> None:
    with pytest.raises(SerializationError):
        q.put([print])


def too_large_item(q: SharedMemoryQueue) -> None:
    with pytest.raises(ItemTooLargeError):
        q.put(["x" * 70_000])


@pytest.mark.skipif(not choice.has_native(), reason="the native engine is not built here")
@pytest.mark.parametrize("refused", [refused_item, too_large_item], ids=lambda f: f.__name__)
def test_a_plain_item_is_of_one_moment_after_refusals_too(
    make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch, refused: Callable[[SharedMemoryQueue], None]
) -> None:
    """Another thread counts in all parts of an item, one after the other. So two parts differ by at most 1."""
    q = make_queue(capacity=2, item_size=1 << 16, serializer="plain", engine="native")
    monkeypatch.setitem(copyreg.dispatch_table, complex, lambda number: (str, ("reduced",)))  # is not asked
    parts = [[0] for _ in range(200)]
    item = [2j, parts]
    over = threading.Event()
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    def count() -> None:
        number = 0
        while not over.is_set():
            number += 1
            for part in parts:
                part[0] = number

    thread = threading.Thread(target=count)
    thread.start()
    try:
        for _ in range(5):
            for _ in range(4):
                refused(q)
            for _ in range(15):
                q.put(item)
                numbers = [number for (number,) in q.get()[1]]
                assert max(numbers) - min(numbers) <= 1
    finally:
        over.set()
        thread.join()
        sys.setswitchinterval(before)


class Changing:
    """Garbage that a collection finds, and whose finaliser then changes a container."""

    def __init__(self, change: Callable[[], object]) -> None:
        self.change = change
        self.itself = self

    def __del__(self) -> None:
        self.change()


@pytest.mark.parametrize("kind", [dict, set, list])
def test_a_finaliser_may_change_what_is_being_put(make_queue: MakeQueue, each_engine: str, kind: type) -> None:
    q = make_queue(capacity=1, item_size=1 << 16, serializer="plain")
    item: Any = kind(dict.fromkeys(range(2000)))
    new = itertools.count(10_000)
    change = {"dict": lambda: item.update({next(new): 1}), "set": lambda: item.add(next(new)), "list": item.clear}
    before = gc.get_threshold()
    gc.collect()
    gc.set_threshold(100, 5, 5)
    try:
        for _ in range(50):
            Changing(change[kind.__name__])
            q.put(item)
            assert type(q.get()) is kind
    finally:
        gc.set_threshold(*before)


@SPARSE
def test_an_interrupt_anywhere_in_a_put_or_get_loses_nothing(make_queue: MakeQueue, every: int) -> None:
    item = {"a": [1, (2.5, "three")], "b": {4: None}}
    q = make_queue(capacity=2, serializer="plain", engine="atomics")
    for _ in points(lambda: q.put(item), every):
        assert drained(q) in ([], [item])
    drained(q)
    point = 0
    while True:
        q.put(item)
        where = interrupted_at(point, q.get)
        assert drained(q) in ([item], []) if where is None else drained(q) == [item], where
        if where is None:
            break
        point += every


def test_damaged_bytes_are_an_error_with_them(q: SharedMemoryQueue, run_id: str) -> None:
    with SharedMemoryQueue("q", run_id=run_id, serializer="plain", engine="atomics") as writer:
        everyday.put_payload(writer, b"\xd1\xff")
    with pytest.raises(DeserializationError, match="no put has written") as caught:
        q.get()
    assert caught.value.raw == b"\xd1\xff"
