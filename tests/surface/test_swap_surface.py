"""What programs pass that were written for queue.Queue and multiprocessing.Queue, and what is refused and why."""

from __future__ import annotations

import enum
import gc
import inspect
import multiprocessing.queues
import os
import pickle
import queue
import types
import typing
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, Generic, TypeVar

import pytest

from shared_multiprocess_queue import (
    Empty,
    Full,
    QueueClosedError,
    QueueMismatchError,
    SharedMemoryQueue,
    SharedMemoryQueueError,
)
from shared_multiprocess_queue.errors import ArgumentError
from tests.support.queues import MakeQueue, segments

pytestmark = pytest.mark.usefixtures("each_engine")


def held() -> tuple[int, list[str], set[str]]:
    """Return what this process holds: descriptors, mappings of shared memory; and the segments of this run."""
    gc.collect()
    maps = sorted(line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/dev/shm" in line)
    return len(os.listdir("/proc/self/fd")), maps, segments()


# ---- whole numbers --------------------------------------------------------------------------------------------------


class Index:
    """A whole number of another library, such as numpy."""

    def __init__(self, value: int) -> None:
        self._value = value

    def __index__(self) -> int:
        return self._value

    def __repr__(self) -> str:
        return f"Index({self._value})"


class Size(enum.IntEnum):
    THREE = 3
    THIRTY = 30
    ZERO = 0


class Word(int):
    def __repr__(self) -> str:
        return "a word"


INTEGERS: dict[str, Callable[[int], Any]] = {
    "int": int,
    "index": Index,
    "enum": Size,
    "subclass": Word,
    **{f"numpy.{kind}": lambda value, kind=kind: numpy(kind, value) for kind in ("int64", "uint8", "array")},  # type: ignore[misc]
}


def numpy(kind: str, value: int) -> Any:
    return getattr(pytest.importorskip("numpy"), kind)(value)


@pytest.mark.parametrize("kind", INTEGERS)
def test_a_size_is_whatever_is_a_whole_number(make_queue: MakeQueue, run_id: str, kind: str) -> None:
    number = INTEGERS[kind]
    with make_queue(capacity=number(3), item_size=number(30)) as q:
        assert [(value, type(value)) for value in (q.capacity, q.item_size)] == [(3, int), (30, int)]
        for item in (1, 2, 3):
            q.put(item)
        with SharedMemoryQueue("q", capacity=number(3), item_size=number(30), run_id=run_id) as same:
            assert same.get_batch(number(3)) == [1, 2, 3]


class NoIndex:
    def __index__(self) -> int:
        raise TypeError("in this version a truth value is no index")

    def __repr__(self) -> str:
        return "<no index>"


NO_INTEGERS = [True, False, 3.0, "3", None, Decimal(3), b"\3", [3], NoIndex()]


@pytest.mark.parametrize("value", NO_INTEGERS, ids=repr)
@pytest.mark.parametrize("creates", [True, False])
@pytest.mark.parametrize("what", ["capacity", "item_size"])
def test_what_is_no_whole_number_is_no_size(
    make_queue: MakeQueue, run_id: str, what: str, value: Any, creates: bool
) -> None:
    make_queue()
    before = held()
    with pytest.raises(ArgumentError) as caught:
        SharedMemoryQueue("other" if creates else "q", creates, run_id=run_id, **{what: value})
    assert f"{what} must be a whole number of" in str(caught.value)
    assert repr(value) in str(caught.value)
    assert held() == before


@pytest.mark.parametrize("value", NO_INTEGERS, ids=repr)
def test_what_is_no_whole_number_is_no_number_of_items(make_queue: MakeQueue, value: Any) -> None:
    q = make_queue()
    q.put(1)
    with pytest.raises(ArgumentError, match="max_items must be a whole number of at least 1, not"):
        q.get_batch(value)
    assert q.get() == 1


@pytest.mark.parametrize("number", [Index(0), Index(-1), Size.ZERO, Index(1 << 80)])
@pytest.mark.parametrize("creates", [True, False])
def test_whole_numbers_have_the_same_limits_whatever_they_are(
    make_queue: MakeQueue, run_id: str, number: Any, creates: bool
) -> None:
    q = make_queue()
    for what in ("capacity", "item_size"):
        with pytest.raises(ArgumentError, match=f"{what} must be between 1 and "):
            SharedMemoryQueue("other" if creates else "q", creates, run_id=run_id, **{what: number})
    q.put(1)
    if number.__index__() > 0:
        assert q.get_batch(number) == [1]
    else:
        with pytest.raises(ArgumentError, match="at least 1"):
            q.get_batch(number)


class Broken:
    def __index__(self) -> int:
        raise LookupError("of the number itself")


def test_what_a_number_raises_of_its_own_is_not_hidden(make_queue: MakeQueue) -> None:
    with pytest.raises(LookupError, match="of the number itself"):
        make_queue().get_batch(Broken())


class Mode(enum.StrEnum):
    SINGLE = "spsc"


def test_a_mode_may_be_a_member_of_an_enum_and_is_a_plain_text_afterwards(make_queue: MakeQueue, run_id: str) -> None:
    q = make_queue(mode=Mode.SINGLE)
    assert (q.mode, type(q.mode)) == ("spsc", str)
    SharedMemoryQueue("q", run_id=run_id, mode=Mode.SINGLE).close()  # type: ignore[arg-type]


# ---- create ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, 1, 5, -1, Index(5), Size.THREE], ids=repr)
def test_a_number_in_the_place_of_create_is_said_to_be_the_capacity(run_id: str, value: Any) -> None:
    before = held()
    with pytest.raises(ArgumentError) as caught:
        SharedMemoryQueue("jobs", value, run_id=run_id)
    assert str(caught.value) == f"create must be True or False; the capacity is capacity={value.__index__()}"
    assert held() == before


@pytest.mark.parametrize("value", ["yes", "", None, 1.0, [], NoIndex()], ids=repr)
def test_create_is_a_real_bool(run_id: str, value: Any) -> None:
    with pytest.raises(ArgumentError) as caught:
        SharedMemoryQueue("jobs", value, run_id=run_id)
    assert str(caught.value) == f"create must be True or False, not {value!r} of type {type(value).__name__}"
    assert not {name for name in segments() if run_id in name}


def test_a_truth_value_of_numpy_is_no_bool(run_id: str) -> None:
    with pytest.raises(ArgumentError, match="create must be True or False, not "):
        SharedMemoryQueue("jobs", numpy("bool_", 1), run_id=run_id)


# ---- the item's two names -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("item", [0, None, "", "an item"], ids=repr)
def test_an_item_is_called_item_or_obj(make_queue: MakeQueue, item: object) -> None:
    q = make_queue(capacity=20)
    q.put(item)
    q.put(item=item)
    q.put(obj=item)
    q.put(obj=item, block=True, timeout=None)
    q.put(block=False, obj=item)
    q.put_nowait(item)
    q.put_nowait(item=item)
    q.put_nowait(obj=item)
    assert q.get_batch(20) == [item] * 8


@pytest.mark.parametrize(
    "theirs", [queue.Queue, queue.SimpleQueue, multiprocessing.queues.Queue], ids=lambda c: c.__module__
)
@pytest.mark.parametrize("method", ["put", "put_nowait", "get", "get_nowait"])
def test_each_parameter_of_the_queues_of_the_standard_library_is_one_here(
    make_queue: MakeQueue, theirs: Any, method: str
) -> None:
    names = [name for name in inspect.signature(getattr(theirs, method)).parameters if name != "self"]
    q = make_queue(capacity=4)
    values = {"item": 5, "obj": 5, "block": True, "timeout": 10}
    q.put(5)
    getattr(q, method)(**{name: values[name] for name in names})
    q.put(5)
    getattr(q, method)(*[values[name] for name in names])
    assert q.qsize() == (4 if method.startswith("put") else 0)


@pytest.mark.parametrize("method", ["put", "put_nowait"])
def test_an_item_is_given_once(make_queue: MakeQueue, method: str) -> None:
    q = make_queue()
    call: Any = getattr(q, method)
    for keywords in ({}, {"block": True} if method == "put" else {}):
        with pytest.raises(TypeError) as caught:
            call(**keywords)
        assert (
            str(caught.value) == f"{method}() needs an item: {method}(item), {method}(item=item) or {method}(obj=item)"
        )
    cases: list[tuple[Any, dict[str, Any]]] = [
        ((1,), {"obj": 2}),
        ((None,), {"obj": None}),
        ((), {"item": 1, "obj": 1}),
    ]
    for arguments, keywords in cases:
        with pytest.raises(TypeError, match=rf"{method}\(\) takes one item and got two: 'item' and 'obj' are names of"):
            call(*arguments, **keywords)
    with pytest.raises(TypeError, match="unexpected keyword argument 'object'"):
        call(object=1)
    assert q.empty()


def test_obj_waits_and_gives_up_like_item(make_queue: MakeQueue) -> None:
    q = make_queue(capacity=1)
    q.put(obj=1)
    for refused in (
        lambda: q.put(obj=2, timeout=0.001),
        lambda: q.put(obj=2, block=False),
        lambda: q.put_nowait(obj=2),
    ):
        with pytest.raises(Full):
            refused()  # type: ignore[no-untyped-call]
    with pytest.raises(ArgumentError, match="'timeout' must be a non-negative number"):
        q.put(obj=2, timeout=-1)
    q.close()
    with pytest.raises(QueueClosedError):
        q.put(obj=2)


class Noting(SharedMemoryQueue):
    """Has the put of queue.Queue, which knows no obj."""

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:  # type: ignore[override]
        super().put(("noted", item), block, timeout)


def test_put_nowait_with_obj_goes_through_an_overridden_put(run_id: str) -> None:
    """That put knows ``item`` only, and not ``obj``."""
    with Noting("q", create=True, capacity=3, run_id=run_id) as q:
        try:
            q.put_nowait(obj=1)
            assert q.get() == ("noted", 1)
        finally:
            q.unlink()


def test_the_signatures_can_be_read(make_queue: MakeQueue) -> None:
    q = make_queue()
    for put in (SharedMemoryQueue.put, q.put):
        parameters = inspect.signature(put).parameters
        assert [name for name in parameters if name != "self"] == ["item", "block", "timeout", "obj"]
        assert repr(parameters["item"].default) == repr(parameters["obj"].default) == "<not given>"
    constructor = inspect.signature(SharedMemoryQueue).parameters
    assert {name: constructor[name].default for name in ("create", "capacity", "item_size", "mode")} == {
        "create": False,
        "capacity": 1000,
        "item_size": 4096,
        "mode": "mpmc",
    }


# ---- threads that are not there -------------------------------------------------------------------------------------


def test_the_tidy_end_of_a_program_of_multiprocessing(make_queue: MakeQueue) -> None:
    q = make_queue()
    q.put("left over")
    with SharedMemoryQueue("q", run_id=q.run_id) as other:
        for _ in range(2):
            assert q.cancel_join_thread() is None  # type: ignore[func-returns-value]
            assert q.join_thread() is None  # type: ignore[func-returns-value]
            q.close()
        assert other.get() == "left over"
        with pytest.raises(Empty):
            other.get_nowait()


# ---- attaching with other values ------------------------------------------------------------------------------------


OWN = {"capacity": 3, "item_size": 99, "mode": "spsc"}
OTHERS = {"capacity": 4, "item_size": 98}


@pytest.mark.parametrize("given", [("capacity",), ("item_size",), ("capacity", "item_size")], ids="+".join)
@pytest.mark.parametrize("agreeing", [True, False])
def test_attaching_with_other_values_is_refused(
    make_queue: MakeQueue, run_id: str, given: tuple[str, ...], agreeing: bool
) -> None:
    q = make_queue(**OWN)
    q.put("stays")
    before, participants = held(), q.get_metrics()["participants"]
    asked = {name: OTHERS[name] for name in given}
    rest = {name: value for name, value in OWN.items() if name not in given} if agreeing else {}
    for _ in range(3):
        with pytest.raises(QueueMismatchError) as caught:
            SharedMemoryQueue("q", run_id=run_id, **asked, **rest)  # type: ignore[arg-type]
    error = caught.value
    assert isinstance(error, ValueError)
    assert isinstance(error, SharedMemoryQueueError)
    assert error.asked == asked
    assert error.found == {name: OWN[name] for name in given}
    for name in given:
        assert f"{name}={OWN[name]!r}, not {OTHERS[name]!r}" in str(error)
    assert "'q'" in str(error)
    assert all(name not in str(error) for name in OWN if name not in given)
    assert held() == before, "also while the error, and with it the traceback, is kept"
    assert q.get_metrics()["participants"] == participants
    copied = pickle.loads(pickle.dumps(error))
    assert (type(copied), str(copied), copied.asked, copied.found) == (
        QueueMismatchError,
        str(error),
        error.asked,
        error.found,
    )
    assert q.get() == "stays"


def test_attaching_with_another_mode_is_refused(make_queue: MakeQueue, run_id: str) -> None:
    make_queue()
    with pytest.raises(QueueMismatchError) as caught:
        SharedMemoryQueue("q", run_id=run_id, mode="spsc")
    assert str(caught.value) == (
        "the queue 'q' has mode='mpmc', not 'spsc', and keeps what it was created with; to attach to it leave mode "
        "out, or pass mode='mpmc'; for other values create a queue of another name or run_id"
    )


def test_attaching_with_the_queues_own_values_or_the_defaults_works(make_queue: MakeQueue, run_id: str) -> None:
    make_queue(**OWN)
    for arguments in (
        {},
        OWN,
        {"capacity": 1000},
        {"item_size": 4096},
        {"mode": "mpmc"},
        {"capacity": 1000, "item_size": 99},
    ):
        with SharedMemoryQueue("q", run_id=run_id, **arguments) as q:
            assert {"capacity": q.capacity, "item_size": q.item_size, "mode": q.mode} == OWN


def test_the_sizes_of_a_queue_that_is_attached_are_not_taken_together(make_queue: MakeQueue, run_id: str) -> None:
    """A capacity that is left out does not make an item_size too large that would be with the default capacity."""
    make_queue(capacity=1, item_size=100)
    with pytest.raises(QueueMismatchError):
        SharedMemoryQueue("q", run_id=run_id, item_size=(1 << 31) - 1)


@pytest.mark.parametrize(
    "arguments", [{"capacity": 0}, {"item_size": "x"}, {"mode": "bogus"}, {"mode": None}], ids=repr
)
def test_values_that_no_queue_has_are_refused_before_a_queue_is_looked_for(
    run_id: str, arguments: dict[str, Any]
) -> None:
    before = held()
    with pytest.raises(ArgumentError, match=f"{next(iter(arguments))} must be "):
        SharedMemoryQueue("is not there", run_id=run_id, **arguments)
    assert held() == before


# ---- SharedMemoryQueue[T] -------------------------------------------------------------------------------------------


T = TypeVar("T")


class Ints(SharedMemoryQueue[int]):
    pass


class Pairs(SharedMemoryQueue[tuple[T, T]], Generic[T]):
    pass


def test_the_class_can_be_subscripted_where_annotations_are_read(run_id: str) -> None:
    def work(tasks: SharedMemoryQueue[str], more: SharedMemoryQueue[Ints] | None = None) -> None: ...

    hints = typing.get_type_hints(work)
    assert typing.get_origin(hints["tasks"]) is SharedMemoryQueue
    assert typing.get_args(hints["tasks"]) == (str,)
    assert pickle.loads(pickle.dumps(SharedMemoryQueue[str])) == SharedMemoryQueue[str]
    assert Pairs[int].__args__ == (int,)  # type: ignore[attr-defined]
    assert SharedMemoryQueue[int].Empty is queue.Empty
    assert types.get_original_bases(Ints) == (SharedMemoryQueue[int],) if hasattr(types, "get_original_bases") else True


def test_a_subscripted_class_makes_queues(run_id: str) -> None:
    class OnlyHere:
        """Is not found by pickle."""

    q = SharedMemoryQueue[OnlyHere]("q", create=True, capacity=3, run_id=run_id)
    try:
        assert type(q) is SharedMemoryQueue
        assert vars(q) == {}
        with pickle.loads(pickle.dumps(q)) as same:
            same.put(1)
        assert q.get() == 1  # type: ignore[comparison-overlap]
    finally:
        q.close()
        q.unlink()


@pytest.mark.parametrize("cls", [Ints, Pairs])
def test_subclasses_of_a_subscripted_class_are_queues(run_id: str, cls: Any) -> None:
    q = cls("q", create=True, capacity=3, run_id=run_id)
    try:
        with pickle.loads(pickle.dumps(q)) as same:
            assert type(same) is cls
            same.put((1, 2))
        assert q.get() == (1, 2)
    finally:
        q.close()
        q.unlink()
