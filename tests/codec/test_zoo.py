"""What comes out is equal to what went in, and of the same type, or put refuses it: against multiprocessing.Queue."""

from __future__ import annotations

import functools
import multiprocessing
import pickle
import threading
import weakref
from collections.abc import Callable, Iterator
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest

from shared_multiprocess_queue import DeserializationError, SerializationError, SharedMemoryQueue
from tests.support import zoo
from tests.support.queues import RUN

PATIENCE = 60  # seconds until a child that does not answer counts as dead
Results = dict[str, tuple[str, Any]]


def reply(there: SharedMemoryQueue, back: SharedMemoryQueue) -> None:
    """Send back what comes, or the text of the error that it raises."""
    while True:
        try:
            name, item = there.get(timeout=PATIENCE)
        except DeserializationError as error:
            back.put(("broken", str(error)))
            continue
        if name == "end":
            return
        try:
            back.put(("sent", item))
        except SerializationError as error:
            back.put(("refused by the child", str(error)))


def by_multiprocessing(item: object) -> tuple[str, Any]:
    """Return what multiprocessing makes of an item that is sent there and back."""
    try:
        there = ForkingPickler.dumps(item)
    except Exception as error:
        return "refused", repr(error)
    return "sent", pickle.loads(ForkingPickler.dumps(pickle.loads(there)))


@functools.cache
def echoes(engine: str, method: str) -> tuple[Results, Results]:
    """Send data and things by value to a child and back; return what was to come and what came."""
    items = {**{f"data {name}": item for name, item in zoo.data().items()}, **zoo.by_value()}
    # Now, because multiprocessing refuses more and more: a c_int, once the program has a multiprocessing.Value of it.
    expected = {n: by_multiprocessing(item) if n.startswith("data ") else ("sent", item) for n, item in items.items()}
    results: Results = {}
    queues = [
        SharedMemoryQueue(f"zoo-{end}", create=True, run_id=f"{RUN}-{engine}-{method}", capacity=4, item_size=1 << 22)
        for end in ("there", "back")
    ]
    there, back = queues
    child = multiprocessing.get_context(method).Process(target=reply, args=queues, daemon=True)  # type: ignore[attr-defined]
    try:
        child.start()
        for name, item in items.items():
            try:
                there.put((name, item), timeout=PATIENCE)
                results[name] = back.get(timeout=PATIENCE)
            except SerializationError as error:
                results[name] = ("refused", str(error))
        there.put(("end", None))
        child.join(PATIENCE)
    finally:
        child.kill()
        child.join()
        for queue in queues:
            queue.close()
            queue.unlink()
    return expected, results


@pytest.fixture(params=["fork", "spawn"])
def echoed(request: pytest.FixtureRequest, each_engine: str) -> tuple[Results, Results]:
    return echoes(each_engine, request.param)


@pytest.fixture(scope="module")
def keep() -> Iterator[zoo.Closing]:
    keep = zoo.Closing()
    yield keep
    keep.close()


def test_there_are_a_few_hundred(keep: zoo.Closing) -> None:
    assert len(zoo.data()) > 250
    assert len(zoo.by_value()) > 30
    assert len(zoo.refused(keep)) > 70


def faults(echoed: tuple[Results, Results], is_meant: Callable[[str], bool]) -> dict[str, Any]:
    expected, results = echoed
    found = {}
    for name, (outcome, thing) in expected.items():
        if is_meant(name) and (
            results[name][0] != outcome or (outcome == "sent" and not zoo.is_same(thing, results[name][1]))
        ):
            found[name] = (outcome, thing, results[name])
    return found


@pytest.mark.filterwarnings("ignore:Pickle, copy, and deepcopy support:DeprecationWarning")
def test_what_multiprocessing_sends_arrives_as_it_does_there(echoed: tuple[Results, Results]) -> None:
    assert not faults(echoed, lambda name: name.startswith("data "))
    assert sum(outcome == "sent" for outcome, _ in echoed[0].values()) > 250


def test_functions_classes_and_modules_arrive_by_value(echoed: tuple[Results, Results]) -> None:
    assert not faults(echoed, lambda name: not name.startswith("data "))


@pytest.mark.parametrize("carrier", zoo.CARRIERS)
def test_what_exists_in_this_process_only_is_refused_with_the_way_to_it(
    each_engine: str, run_id: str, keep: zoo.Closing, carrier: str
) -> None:
    carry, path = zoo.CARRIERS[carrier]
    found = {}
    with SharedMemoryQueue("zoo", create=True, run_id=run_id, capacity=2, item_size=1 << 20) as queue:
        try:
            for name, thing in zoo.refused(keep).items():
                with pytest.raises((TypeError, ValueError, AttributeError, RuntimeError, pickle.PicklingError)):
                    ForkingPickler.dumps(thing)
                try:
                    queue.put(carry(thing), timeout=1)
                except SerializationError as error:
                    way = str(error).partition("(at ")[2].partition(");")[0]
                    if path not in way:
                        found[name] = str(error)
                else:
                    found[name] = f"arrives as {queue.get(timeout=1)!r}"
            assert queue.empty()
        finally:
            queue.unlink()
    assert not found


class Tree:
    def __init__(self, **parts: Any) -> None:
        self.__dict__.update(parts)


class Slotted:
    __slots__ = ("_Slotted__lock", "lock")

    def __init__(self, lock: Any) -> None:
        self.lock = lock


class KeyOf:
    def __init__(self, lock: Any) -> None:
        self.lock = lock

    def __repr__(self) -> str:
        raise AssertionError("nobody asks the item to show itself")


class MadeForPickle:
    def __getstate__(self) -> Any:
        return {"lock": threading.Lock()}


LOCK = threading.Lock()


def of_globals() -> Any:
    return LOCK


of_globals.__qualname__ = "not_to_be_found"


@pytest.mark.parametrize(
    ("item", "path"),
    [
        ({"sink": Tree(file=LOCK)}, "item['sink'].file"),
        ([Slotted(LOCK)], "item[0].lock"),
        ({KeyOf(LOCK): 1}, "list(item)[0].lock"),
        ({KeyOf(1): LOCK}, "list(item.values())[0]"),
        ({(1, 2): [LOCK]}, "list(item.values())[0][0]"),
        ({KeyOf(LOCK)}, "list(item)[0].lock"),
        ({"x" * 1000: LOCK}, "item['" + "x" * 40 + "'...]"),
        ({1 << 70: LOCK}, "list(item.values())[0]"),
        ({1.5: {None: {True: LOCK}}}, "item[1.5][None][True]"),
        ([lambda: LOCK], "item[0].__globals__['LOCK']"),
        (of_globals, "item.__globals__['LOCK']"),
        ([zoo.local_class(guard=LOCK)()], "type(item[0]).guard"),
        ([zoo.local_class(guard=[LOCK])], "item[0].guard[0]"),
        ([Tree(a=MadeForPickle())], None),
        ([[Tree(a=1)] * 2, Tree(deep=Tree(deeper=Tree(deepest={"x": (1, {2: LOCK})})))],
         "item[1].deep.deeper.deepest['x'][1][2]"),
    ],
)  # fmt: skip
def test_the_way_to_the_culprit(each_engine: str, run_id: str, item: Any, path: str | None) -> None:
    with SharedMemoryQueue("way", create=True, run_id=run_id, capacity=2) as queue:
        try:
            with pytest.raises(SerializationError, match=r"cannot pickle '_thread\.lock' object") as caught:
                queue.put(item)
            assert (f"(at {path})" in str(caught.value)) if path else ("(at" not in str(caught.value))
        finally:
            queue.unlink()


def test_a_refused_item_is_not_kept(each_engine: str, run_id: str) -> None:
    with SharedMemoryQueue("kept", create=True, run_id=run_id, capacity=2) as queue:
        try:
            item = Tree(lock=threading.Lock(), call=lambda: 5)
            alive = weakref.ref(item)
            with pytest.raises(SerializationError):
                queue.put(item)
            del item
            assert alive() is None
        finally:
            queue.unlink()
