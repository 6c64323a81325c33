"""Everyday objects arrive as pickle would bring them, whichever engine writes and whichever reads."""

from __future__ import annotations

import collections
import copyreg
import datetime as dt
import enum
import gc
import pickle
import random
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest
from hypothesis import given, settings

from shared_multiprocess_queue import ItemTooLargeError, SharedMemoryQueue
from shared_multiprocess_queue._codec.tags import DEFLATED, MAIN, OBJECTS, PICKLE
from shared_multiprocess_queue._engine import choice
from stress.codec.likeness import alike
from stress.codec.writer import write
from tests.support import everyday
from tests.support.everyday import EXAMPLES, ITEM_SIZE, payload_of
from tests.support.queues import RUN, MakeQueue

ENGINES = ("atomics", "native") if choice.has_native() else ("atomics",)
PAIRS = [(writer, reader) for writer in ENGINES for reader in ENGINES]
needs_native = pytest.mark.skipif(not choice.has_native(), reason="only the native engine writes everyday objects")


@contextmanager
def handles(*engines: str, item_size: int = ITEM_SIZE) -> Iterator[list[SharedMemoryQueue]]:
    """Give handles on one queue, one for each engine that is named."""
    name = "everyday"
    with SharedMemoryQueue(name, create=True, capacity=8, item_size=item_size, run_id=RUN, engine=engines[0]) as first:  # type: ignore[arg-type]
        others = [SharedMemoryQueue(name, run_id=RUN, engine=engine) for engine in engines[1:]]  # type: ignore[arg-type]
        try:
            yield [first, *others]
        finally:
            for other in others:
                other.close()
            first.unlink()


def through_pickle(item: Any) -> Any:
    return pickle.loads(pickle.dumps(item, 5))


@pytest.mark.parametrize(("writing_engine", "reading_engine"), PAIRS)
def test_an_item_is_what_pickle_makes_of_it(writing_engine: str, reading_engine: str) -> None:
    with handles(writing_engine, reading_engine) as (putter, getter):

        @given(everyday.items)
        @settings(deadline=None)
        def arrives(item: Any) -> None:
            putter.put(item)
            assert alike(getter.get(), through_pickle(item))
            putter.put_batch([item, 1, item])
            assert alike(getter.get_batch(3), [through_pickle(item), 1, through_pickle(item)])

        arrives()


@pytest.mark.parametrize(("writing_engine", "reading_engine"), PAIRS)
def test_what_is_shared_is_shared_where_pickle_shares_it(writing_engine: str, reading_engine: str) -> None:
    mutable = (list, dict, set, bytearray)

    def places(item: list[Any]) -> list[int]:
        """Say of each part that can be changed where it was met first."""
        return [next(i for i, other in enumerate(item) if other is part) for part in item if type(part) in mutable]

    with handles(writing_engine, reading_engine) as (putter, getter):

        @given(everyday.sharing())
        @settings(deadline=None)
        def arrives(item: list[Any]) -> None:
            putter.put(item)
            got, expected = getter.get(), through_pickle(item)
            assert alike(got, expected)
            assert places(got) == places(expected)

        arrives()


@needs_native
def test_the_native_engine_writes_what_the_writer_in_python_does() -> None:
    with handles("native", "atomics") as (putter, getter):

        @given(everyday.items | everyday.sharing())
        @settings(deadline=None)
        def is_the_same(item: Any) -> None:
            if type(item) in {type(None), bool, int, float, str, bytes}:
                return  # these travel as they are
            written = write(item, ITEM_SIZE)
            # After four items of a type that pickle has, most of that type go there.
            for _ in range(20):
                putter.put(item)
                payload, tag = payload_of(getter)
                assert (tag == OBJECTS and payload == written) or tag in {PICKLE, MAIN}
                if (tag == OBJECTS) == (written is not None):
                    return
            raise AssertionError("no item of twenty was written")

        is_the_same()


def nested(depth: int) -> Any:
    item: Any = 1
    for _ in range(depth):
        item = [item]
    return item


class Colour(enum.IntEnum):
    RED = 1


class Label(str):
    pass


Row = collections.namedtuple("Row", "a b")
SHARED: list[Any] = []


@needs_native
@pytest.mark.parametrize(
    "item",
    [
        nested(101),
        [Label("x")],
        {"colour": Colour.RED},
        Row(1, 2),
        collections.OrderedDict(a=1),
        collections.defaultdict(list),
        [range(3)],
        [SHARED, SHARED],
        ((SHARED,), (SHARED,)),
        dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1))),
        dt.time(1, tzinfo=dt.UTC),
        uuid.UUID(int=1, is_safe=uuid.SafeUUID.safe),
        [Ellipsis],
    ],
)
def test_what_is_not_plain_goes_by_pickle_as_a_whole(item: Any) -> None:
    with handles("native", "atomics") as (putter, getter):
        putter.put(item)
        assert payload_of(getter)[1] in {PICKLE, MAIN}
        putter.put(item)
        assert repr(putter.get()) == repr(item)


@needs_native
@pytest.mark.parametrize("item", [*EXAMPLES, nested(100)], ids=range(len(EXAMPLES) + 1))  # no set in a name
def test_what_is_plain_goes_without_pickle(item: Any) -> None:
    with handles("native", "atomics") as (putter, getter):
        putter.put(item)
        assert payload_of(getter) == (write(item, ITEM_SIZE), OBJECTS)


@needs_native
def test_a_small_dict_takes_less_than_its_pickle() -> None:
    with handles("native", "atomics") as (putter, getter):
        item = {"id": 12345, "name": "hello", "value": 2.5}
        putter.put(item)
        assert len(payload_of(getter)[0]) < len(pickle.dumps(item, 5))


@needs_native
def test_an_item_that_is_too_large_in_this_form_goes_by_pickle() -> None:
    """Pickle writes a str that occurs often once; and what it writes can be deflated."""
    with handles("native", "atomics", item_size=400) as (putter, getter):
        once = ["name" * 30] * 20
        putter.put(once)
        assert payload_of(getter)[1] == PICKLE
        putter.put(["word " * 30 + str(number) for number in range(8)])
        assert payload_of(getter)[1] == DEFLATED
        numbers = [random.Random(number).random() for number in range(100)]
        with pytest.raises(ItemTooLargeError) as caught:
            putter.put(numbers)
        assert caught.value.size == len(pickle.dumps(numbers, 5))
        exact = {"data": bytes(400 - len(write({"data": b""}, 400) or b""))}
        putter.put(exact)
        assert payload_of(getter) == (write(exact, 400), OBJECTS)


@needs_native
def test_types_whose_items_go_by_pickle_are_looked_at_now_and_then() -> None:
    with handles("native", "atomics") as (putter, getter):

        def tag_of(item: object) -> int:
            putter.put(item)
            return payload_of(getter)[1]

        for _ in range(4):
            assert tag_of([Colour.RED]) != OBJECTS
        assert tag_of((1,)) == OBJECTS, "another type is not concerned"
        tags = [tag_of([1]) for _ in range(16)]
        assert tags[0] == PICKLE
        assert tags[12:] == [OBJECTS] * 4, "one that is plain ends it"


@pytest.mark.parametrize("kind", [complex, dt.datetime, dt.date, dt.time, dt.timedelta, Decimal, uuid.UUID])
@pytest.mark.parametrize("where", ["copyreg", "multiprocessing"])
def test_a_reducer_that_is_registered_for_an_everyday_type_counts(
    each_engine: str, make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch, kind: type, where: str
) -> None:
    examples: dict[type, Any] = {
        complex: 1j,
        dt.datetime: dt.datetime(2024, 1, 1),
        dt.date: dt.date(2024, 1, 1),
        dt.time: dt.time(1),
        dt.timedelta: dt.timedelta(1),
        Decimal: Decimal(1),
        uuid.UUID: uuid.UUID(int=1),
    }
    queue = make_queue(item_size=4096)
    item = [examples[kind]]
    queue.put(item)
    assert alike(queue.get(), item)
    table = copyreg.dispatch_table if where == "copyreg" else ForkingPickler._extra_reducers  # type: ignore[attr-defined]
    monkeypatch.setitem(table, kind, lambda _: (str, ("reduced",)))
    queue.put(item)
    assert queue.get() == ["reduced"]
    monkeypatch.undo()
    queue.put(item)
    assert alike(queue.get(), item)


def test_keys_of_any_number_and_length_arrive(each_engine: str, make_queue: MakeQueue) -> None:
    """The native reader keeps the newest keys, and knows each by its characters."""
    queue = make_queue(item_size=ITEM_SIZE)
    for start in range(0, 6000, 300):
        item: dict[str, int] = {
            f"{'k' * (number % 50)}{number}{'s' * (number % 7)}": number for number in range(start, start + 300)
        }
        item |= {"ab" + chr(97 + number % 26) + "z" * (number % 39): number for number in range(300)}
        for _ in range(2):
            queue.put(item)
            assert list(queue.get().items()) == list(item.items())


@pytest.mark.parametrize("is_on", [True, False])
def test_the_garbage_collector_is_on_or_off_as_before(each_engine: str, make_queue: MakeQueue, is_on: bool) -> None:
    queue = make_queue(item_size=4096)
    before = gc.isenabled()
    (gc.enable if is_on else gc.disable)()
    try:
        examples: list[Any] = [{1, 2}, [{1}, object], frozenset({1}), Decimal(1), {Decimal(1): {frozenset()}}]
        for item in examples:
            queue.put(item)
            assert gc.isenabled() == is_on
            queue.get()
            assert gc.isenabled() == is_on
    finally:
        (gc.enable if before else gc.disable)()


READER = """
import sys
from shared_multiprocess_queue import SharedMemoryQueue
with SharedMemoryQueue("everyday", run_id=sys.argv[1], engine=sys.argv[2]) as queue:
    early = {"datetime", "decimal", "uuid", "_datetime", "_decimal"} & set(sys.modules)
    print(sorted(early), queue.get())
"""


@pytest.mark.costly
@needs_native
@pytest.mark.parametrize("reading_engine", ENGINES)
@pytest.mark.parametrize("item", [dt.date(2024, 1, 1), Decimal("1.5"), uuid.UUID(int=1)], ids=repr)
def test_a_reader_imports_what_an_item_needs(reading_engine: str, item: Any) -> None:
    with handles("native") as (putter,):
        putter.put(item)
        command = [sys.executable, "-c", READER, RUN, reading_engine]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout == f"[] {item}\n"
