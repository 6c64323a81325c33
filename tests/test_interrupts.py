"""Ctrl-C at every point where Python serves a signal inside an operation: nothing is lost, doubled or blocked.

CPython looks for signals when a function starts, when a loop jumps back, and when a call of a C function returns; a
trace function raises KeyboardInterrupt at the k-th such point inside the package, for every k.
"""

from __future__ import annotations

import _thread
import ctypes
import functools
import gc
import itertools
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from shared_multiprocess_queue import Empty, Full, SharedMemoryQueue
from shared_multiprocess_queue._codec import codec
from shared_multiprocess_queue._engine import choice
from shared_multiprocess_queue._engine.membership import Membership
from shared_multiprocess_queue._ring.layout import (
    ABANDONED,
    BATCH_OWNER_AT,
    DEFINITIONS_OWNER_AT,
    HEAD,
    OWNER,
    PUT_END,
    TAIL,
    record_at,
)

from .conftest import MakeQueue, segments
from .waiting import LONG, eventually

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the kit is not installed with the package

from stress.explore.interrupts import Interrupter


@pytest.fixture(autouse=True)
def atomics_unless_told(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut operations between the bytecodes of the engine that has some; the rest here is run on each engine."""
    if "engines" not in request.fixturenames:
        monkeypatch.setenv(choice.ENVIRONMENT, "atomics")


def interrupted_at(point: int, operation: Callable[[], object]) -> str | None:
    """Run an operation and interrupt it; return where, or None if it has fewer points and was completed."""
    interrupter = Interrupter(point)
    gc.disable()  # in what the collector calls nobody sees an exception
    sys.settrace(interrupter)
    try:
        operation()
    except KeyboardInterrupt:
        return interrupter.where
    except (Empty, Full):
        assert not interrupter.where
        return None
    finally:
        sys.settrace(None)
        gc.enable()
    assert not interrupter.where, f"the interrupt at {interrupter.where} was swallowed"
    return None


def interrupted_with_traceback(point: int, operation: Callable[[], object]) -> tuple[str | None, BaseException | None]:
    """As ``interrupted_at``, and keep the exception, whose traceback keeps the frames."""
    kept: list[BaseException] = []

    def keep() -> None:
        try:
            operation()
        except BaseException as error:
            kept.append(error)
            raise

    return interrupted_at(point, keep), kept[0] if kept else None


def points(operation: Callable[[], object]) -> Iterator[str]:
    """Interrupt an operation at its point 0, 1, 2, ... until it is completed; yield after each."""
    for point in itertools.count():
        where = interrupted_at(point, operation)
        if where is None:
            assert point > 20, "hardly any points: nothing was tested"
            return
        yield where


def drain(queue: SharedMemoryQueue) -> list[Any]:
    found = []
    while True:
        try:
            found.append(queue.get_nowait())
        except Empty:
            return found


def assert_works(queue: SharedMemoryQueue) -> None:
    for lap in range(2):
        for i in range(queue.capacity):
            queue.put_nowait((lap, i))
        with pytest.raises(Full):
            queue.put_nowait("too much")
        assert drain(queue) == [(lap, i) for i in range(queue.capacity)]


@pytest.mark.parametrize("capacity", [1, 2, 3])
@pytest.mark.parametrize("how", ["get", "get_batch", "timeout"])
def test_an_interrupted_get_loses_no_item(make_queue: MakeQueue, mode: str, capacity: int, how: str) -> None:
    queue = make_queue(capacity=capacity, mode=mode)
    items = [("item", i) for i in range(capacity)]
    get = {
        "get": lambda: [queue.get_nowait()],
        "get_batch": lambda: queue.get_batch(2, block=False),
        "timeout": lambda: [queue.get(timeout=5)],
    }[how]
    for item in items:
        queue.put(item)
    for where in points(get):
        assert drain(queue) == items, f"interrupted at {where}"
        assert_works(queue)
        for item in items:
            queue.put(item)
    taken = capacity - len(drain(queue))
    assert taken == (min(2, capacity) if how == "get_batch" else 1)
    assert_works(queue)


def test_an_interrupted_wait_for_an_item_leaves_the_queue_as_it_was(make_queue: MakeQueue, mode: str) -> None:
    queue = make_queue(capacity=2, mode=mode)
    for _ in points(lambda: queue.get(timeout=0.001)):
        assert_works(queue)


def test_an_interrupted_wait_for_room_leaves_the_queue_as_it_was(make_queue: MakeQueue, mode: str) -> None:
    queue = make_queue(capacity=1, mode=mode)
    queue.put("there")
    for _ in points(lambda: queue.put("late", timeout=0.001)):
        assert drain(queue) == ["there"]
        assert_works(queue)
        queue.put("there")


@pytest.mark.parametrize("capacity", [1, 2, 3])
def test_an_interrupted_put_happened_or_did_not(make_queue: MakeQueue, mode: str, capacity: int) -> None:
    queue = make_queue(capacity=capacity, mode=mode)
    outcomes = set()
    for where in points(lambda: queue.put("item")):
        found = drain(queue)
        assert found in ([], ["item"]), f"interrupted at {where}"
        outcomes.add(len(found))
        assert_works(queue)
    assert outcomes == {0, 1}


@pytest.mark.parametrize("size", [1, 2, 3])
def test_an_interrupted_batch_is_whole_or_absent(make_queue: MakeQueue, mode: str, size: int) -> None:
    queue = make_queue(capacity=3, mode=mode)
    batch = list(range(size))
    outcomes = set()
    for where in points(lambda: queue.put_batch(batch)):
        found = drain(queue)
        assert found in ([], batch), f"interrupted at {where}"
        outcomes.add(len(found))
        queue.put_batch(["lock"] * 3, timeout=10)  # the batch lock is free again
        assert drain(queue) == ["lock"] * 3
        assert_works(queue)
    assert outcomes == {0, size}


def test_an_interrupted_wait_of_a_batch_gives_lock_and_gate_back(make_queue: MakeQueue) -> None:
    queue = make_queue(capacity=2)
    queue.put("there")
    for where in points(lambda: queue.put_batch([1, 2], timeout=0.001)):
        queue.put("behind", timeout=10)
        assert drain(queue) == ["there", "behind"], f"interrupted at {where}"
        queue.put("there")


def test_items_of_interrupted_gets_go_back_when_the_handle_is_closed(make_queue: MakeQueue, run_id: str) -> None:
    queue = make_queue(capacity=3)
    for point in itertools.count():
        handle = SharedMemoryQueue(queue.name, run_id=run_id)
        queue.put("item")
        where = interrupted_at(point, handle.get_nowait)
        handle.close()
        if where is None:
            assert queue.empty()
            break
        assert drain(queue) == ["item"], f"interrupted at {where}"


def test_interrupts_leave_no_records_behind(make_queue: MakeQueue) -> None:
    queue = make_queue(capacity=2)

    def round_trip() -> None:
        queue.put(1)
        queue.get()

    for _ in points(round_trip):
        drain(queue)
    queue.get_metrics()
    assert sum(queue.get_metrics()["participants"].values()) <= 3


def test_an_interrupted_take_over_of_a_dead_getters_item_loses_nothing(make_queue: MakeQueue) -> None:
    """The interrupt may come between the compare-and-swap that decides and the note of its outcome."""
    from .mortal import dies

    queue = make_queue(capacity=2)
    step = next(steps for steps in itertools.count() if _leaves_an_orphan(queue, steps, dies))
    queue.get_nowait()

    def prepare() -> None:
        queue.put(b"orphan")
        assert dies(queue.name, queue.run_id, lambda engine: engine.get(1, 0, list), step)

    prepare()
    for where in points(queue.get_nowait):
        assert drain(queue) == [b"orphan"], f"interrupted at {where}"
        prepare()


def _leaves_an_orphan(queue: SharedMemoryQueue, steps: int, dies: Callable[..., bool]) -> bool:
    drain(queue)
    queue.put(b"orphan")
    assert dies(queue.name, queue.run_id, lambda engine: engine.get(1, 0, list), steps)
    return queue.qsize() == 0


def test_an_interrupted_look_at_an_empty_or_full_queue_changes_nothing(make_queue: MakeQueue, mode: str) -> None:
    queue = make_queue(capacity=1, mode=mode)
    for _ in points(queue.get_nowait):
        assert_works(queue)
    queue.put("there")
    for _ in points(lambda: queue.put_nowait("late")):
        assert drain(queue) == ["there"]
        assert_works(queue)
        queue.put("there")


@pytest.fixture
def interrupted_recovery(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Interrupter]:
    """Interrupt the next recovery from an interrupt, too, at a point of its own."""
    recover = Membership.recover
    second: list[Interrupter] = []

    def recover_once(member: Membership, record: Any) -> None:
        if second and second[0].left >= 0:
            sys.settrace(second[0])
        recover(member, record)

    def interrupt(point: int) -> Interrupter:
        second[:] = [Interrupter(point)]
        return second[0]

    monkeypatch.setattr(Membership, "recover", recover_once)
    return interrupt


@pytest.mark.parametrize("what", ["get", "put", "put_batch"])
def test_a_second_interrupt_in_the_recovery_from_the_first_loses_nothing(
    make_queue: MakeQueue, interrupted_recovery: Callable[[int], Interrupter], what: str
) -> None:
    queue = make_queue(capacity=2)
    operation: Callable[[], object] = {
        "get": queue.get_nowait,
        "put": lambda: queue.put("item"),
        "put_batch": lambda: queue.put_batch(["item", "item"]),
    }[what]
    seen = set()
    for point in itertools.count():
        where = None
        for second in itertools.count():
            if what == "get":
                queue.put("item")
            interrupter = interrupted_recovery(second)
            where = interrupted_at(point, operation)
            found = drain(queue)
            if where is not None or what != "get":
                expected: list[list[str]] = {"get": [["item"]], "put": [[], ["item"]], "put_batch": [[], ["item"] * 2]}[
                    what
                ]
                assert found in expected, f"interrupted at {where}, and at {interrupter.where}"
            queue.put_batch(["lock"] * 2, timeout=10)
            assert drain(queue) == ["lock"] * 2
            assert_works(queue)
            if not interrupter.where:  # the recovery has fewer points, or nothing had to be recovered
                break
            seen.add(interrupter.where)
        if where is None:
            break
    assert len(seen) > 5, "hardly any points: nothing was tested"
    assert sum(queue.get_metrics()["participants"].values()) <= 3


def test_an_interrupt_while_a_record_is_being_taken_leaves_it_to_the_next_operation(make_queue: MakeQueue) -> None:
    queue = make_queue(capacity=2)

    def first_operation() -> None:
        queue._membership.retire()  # so that the next operation takes a record
        queue.put("item")

    for where in points(first_operation):
        assert drain(queue) in ([], ["item"]), f"interrupted at {where}"
        assert_works(queue)
        assert sum(queue.get_metrics()["participants"].values()) <= 3, f"interrupted at {where}"


def test_an_interrupt_while_a_dead_batchs_record_is_being_taken_does_not_keep_its_lock(make_queue: MakeQueue) -> None:
    """A record that was taken, and not yet named anew, still has the name under which the dead one held the lock."""
    from .mortal import dies

    def holds_the_lock(steps: int) -> bool:
        queue = make_queue(capacity=2)
        assert dies(queue.name, queue.run_id, lambda engine: engine.put_batch([(b"dead", 1)], 0), steps)
        held = bool(queue._membership.memory.words().load(BATCH_OWNER_AT))
        queue.close()
        queue.unlink()
        return held

    step = next(steps for steps in itertools.count() if holds_the_lock(steps))
    for point in itertools.count():
        queue = make_queue(capacity=2)
        assert dies(queue.name, queue.run_id, lambda engine: engine.put_batch([(b"dead", 1)], 0), step)
        # The record of the dead one is the first that can be taken, because this handle has the one before.
        with queue._membership.operation():
            where = interrupted_at(point, lambda queue=queue: queue.put("item"))  # type: ignore[misc]
            queue.put_batch(["whole", "batch"][: 2 - queue.qsize()], timeout=10)
        drain(queue)
        queue.close()
        queue.unlink()
        if where is None:
            assert point > 20
            break


@pytest.mark.usefixtures("engines")
def test_an_interrupted_close_is_completed_by_the_next(make_queue: MakeQueue, mode: str, run_id: str) -> None:
    queue = make_queue(capacity=2, mode=mode)
    for point in itertools.count():
        descriptors = len(os.listdir("/proc/self/fd"))
        handle = SharedMemoryQueue(queue.name, run_id=run_id)
        handle.put("item")
        assert handle.get() == "item"
        where, _kept = interrupted_with_traceback(point, handle.close)
        handle.close()  # where people call it: in an except or finally, when the frames of the first are still there
        assert handle._membership.state.name == "CLOSED", f"interrupted at {where}"
        assert len(os.listdir("/proc/self/fd")) == descriptors, f"interrupted at {where}"
        queue.put("mine")  # in mode spsc the roles are free again
        assert drain(queue) == ["mine"]
        queue._membership.retire()
        if where is None:
            assert point > 20
            break


@pytest.mark.usefixtures("engines")
def test_an_interrupt_in_the_storing_of_a_definition_leaves_the_store_to_the_next(make_queue: MakeQueue) -> None:
    for point in itertools.count():
        queue = make_queue(capacity=2)
        store = queue._codec._definitions
        where = interrupted_at(point, lambda store=store: store.add(b"0123456789abcdef", b"definition"))  # type: ignore[misc]
        assert queue._membership.memory.words().load(DEFINITIONS_OWNER_AT) == 0, f"interrupted at {where}"
        assert store.add(b"another key of 16"[:16], b"other")
        queue.close()
        queue.unlink()
        if where is None:
            assert point > 20
            break


@pytest.mark.usefixtures("engines")
@pytest.mark.parametrize("create", [True, False])
def test_an_interrupted_creation_or_attachment_leaves_nothing(make_queue: MakeQueue, run_id: str, create: bool) -> None:
    queue = make_queue(capacity=2)
    name = "another" if create else queue.name

    def now() -> object:
        return queue.get_metrics()["participants"], segments(), len(os.listdir("/proc/self/fd"))

    before = now()
    for point in itertools.count():
        opened: list[SharedMemoryQueue] = []
        where = interrupted_at(
            point,
            lambda opened=opened: opened.append(SharedMemoryQueue(name, create, 2, run_id=run_id)),  # type: ignore[misc]
        )
        for handle in opened:
            handle.close()
            if create:
                handle.unlink()
        assert now() == before, f"interrupted at {where}"
        if where is None:
            assert point > 100
            break


def test_a_record_that_was_abandoned_has_another_name_afterwards(make_queue: MakeQueue) -> None:
    """Its old name counted as dead: somebody who has read that could take a lock from its next operation."""
    queue = make_queue(capacity=2)
    with queue._membership.operation() as record:
        index, name = record.index, record.name
    with suppress(KeyboardInterrupt), queue._membership.operation() as record:
        assert record.name == name
        record.announce_put(0, 1)  # and here an interrupt comes
        raise KeyboardInterrupt
    with queue._membership.operation() as record:
        assert record.index == index
        assert record.name != name
        assert not queue._membership.participants.is_dead(record.words, record.name)
        assert queue._membership.participants.is_dead(record.words, name)


def test_a_handle_is_not_closed_before_its_abandoned_operation_is_resolved(make_queue: MakeQueue, run_id: str) -> None:
    """Somebody who lost the same claim may cover the position for a moment; the record would have been left marked."""
    queue = make_queue(capacity=2)
    queue.put("item")
    handle = SharedMemoryQueue(queue.name, run_id=run_id)
    with queue._membership.operation() as loser:
        loser.announce_get(0, 1)
        with suppress(KeyboardInterrupt), handle._membership.operation() as record:
            record.announce_get(0, 1)
            assert record.words.cas(HEAD, 0, 1)  # the claim, and an interrupt before anybody has noted it
            raise KeyboardInterrupt
        handle._close(wait=False)
        assert handle._membership.state.name != "CLOSED"
        loser.withdraw_get()
    handle.close()
    assert handle._membership.state.name == "CLOSED"
    assert sum(queue.get_metrics()["participants"].values()) == 1
    assert drain(queue) == ["item"]


def _borrow(queue: SharedMemoryQueue) -> None:
    with queue._membership.operation():
        pass


def test_an_interrupt_while_a_dead_ones_record_is_being_taken_leaves_no_announcement_under_a_live_name(
    make_queue: MakeQueue,
) -> None:
    """It blocked everybody until the handle was used again: others took the announcement for that of a live put."""
    from .mortal import dies

    queue = make_queue(capacity=2)
    words = queue._membership.memory.words()

    def has_announced(steps: int) -> bool:
        assert dies(queue.name, queue.run_id, lambda engine: engine.put((b"dead", 1), 0), steps)
        return any(words.load(record_at(index) + PUT_END) for index in range(8)) and words.load(TAIL) == 0

    step = next(steps for steps in itertools.count() if has_announced(steps))
    for point in itertools.count():
        queue = make_queue("q" + str(point), capacity=2)
        words = queue._membership.memory.words()
        handle = SharedMemoryQueue(queue.name, run_id=queue.run_id)
        assert dies(queue.name, queue.run_id, lambda engine: engine.put((b"dead", 1), 0), step)
        with handle._membership.operation():  # the next needs another record, and finds that of the dead one
            where, _kept = interrupted_with_traceback(point, partial(_borrow, handle))
            for index in range(8):
                at = record_at(index)
                owner = handle._membership.participants.owner
                mine = words.load(at + OWNER) == owner and not words.load(at + ABANDONED)
                assert not (mine and words.load(at + PUT_END)), f"interrupted at {where}"
        handle.close()
        queue.close()
        queue.unlink()
        if where is None:
            assert point > 20
            break


def test_a_handle_of_the_same_process_keeps_the_record_that_an_interrupted_close_had_given_up(
    make_queue: MakeQueue, run_id: str
) -> None:
    """Who closes again must not take it for its own because it is not named anew yet."""
    queue = make_queue(capacity=2)
    for point in itertools.count():
        handle = SharedMemoryQueue(queue.name, run_id=run_id)
        with handle._membership.operation() as record:
            index = record.index
        del record
        where = interrupted_at(point, handle.close)
        words = queue._membership.memory.words()
        at = record_at(index) + OWNER
        taken = words.cas(at, 0, queue._membership.participants.owner)  # another handle begins to take it
        handle.close()
        if taken:
            assert words.load(at) == queue._membership.participants.owner, f"interrupted at {where}"
            words.store(at, 0)
        if where is None:
            break


# ---- what is pending when an item is handed over ---------------------------------------------------------------------


class Stop(Exception):
    """What another thread sets for one that it wants to end."""


class _InC(functools.partial):  # type: ignore[type-arg]
    """A call of C that an item's stream makes: there the interpreter does not look for what is pending."""

    def __reduce__(self) -> str:  # type: ignore[override]
        return "make_pending"


make_pending = _InC(int)


class Pending:
    """An item that leaves an exception pending when it is read for the first time."""

    def __reduce__(self) -> tuple[Any, ...]:
        return make_pending, ()


def arm(kind: str) -> None:
    """Choose what the next item that is read leaves pending."""
    global make_pending  # noqa: PLW0603 (the stream names it)
    once: Iterator[int]
    if kind == "signal":
        once = map(_thread.interrupt_main, [signal.SIGINT])  # it trips the signal and does not look
    else:
        stop = ctypes.pythonapi.PyThreadState_SetAsyncExc
        once = map(stop, [ctypes.c_ulong(threading.get_ident())], [ctypes.py_object(Stop)])
    make_pending = _InC(next, once, "read again")


class Overriding(SharedMemoryQueue):
    """Calls get of its base class, as subclasses do."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        return super().get(block, timeout)

    def get_batch(self, max_items: int, block: bool = True, timeout: float | None = None) -> list[Any]:
        return super().get_batch(max_items, block=block, timeout=timeout)


WAYS = [
    "q.get()",
    "q.get(True, 5)",
    "q.get(timeout=5)",
    "q.get(block=False, timeout=None)",
    "q.get_nowait()",
    "q.get_batch(2)",
    "q.get_batch(max_items=2, timeout=5)",
    "get()",
    "get(timeout=5)",
    "SharedMemoryQueue.get(q)",
    "SharedMemoryQueue.get(q, timeout=5)",
    "(lambda: q.get())()",
]


@pytest.mark.parametrize("kind", ["signal", "exception of another thread"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("cls", [SharedMemoryQueue, Overriding])
def test_what_is_pending_when_an_item_is_handed_over_does_not_take_its_place(
    run_id: str, each_engine: str, cls: type[SharedMemoryQueue], way: str, kind: str
) -> None:
    """The interpreter raises it when the caller has the item, or the item is kept back."""
    namespace: dict[str, Any] = {"Stop": Stop, "SharedMemoryQueue": SharedMemoryQueue}
    program = f"""
def take():
    item = 'nothing'
    try:
        item = {way}
        for _ in range(2):  # the interpreter looks where a loop jumps back
            pass
    except (KeyboardInterrupt, Stop):
        return item, True
    return item, False
"""
    exec(program, namespace)
    with cls("q", True, 3, run_id=run_id) as q:
        namespace.update(q=q, get=q.get)
        q.unlink()
        for _ in range(100):  # the interpreter specialises what it has run some times
            q.put_batch([Pending(), "next"])
            arm(kind)
            item, raised = namespace["take"]()
            assert raised
            got = item if isinstance(item, list) else [item] if item != "nothing" else []
            if each_engine == "native":
                assert got[:1] in ([None], [1])  # what the functions return that left it pending
            else:  # that engine runs functions of Python after the stream was read: it keeps the items back
                assert not got
                got = [q.get_nowait()]
                assert got == ["read again"]
            assert [*got[1:], *drain(q)] == ["next"]


@pytest.mark.parametrize("kind", ["signal", "exception of another thread"])
@pytest.mark.parametrize("reader", ["the program itself", "a spawned child", "another program"])
def test_what_is_pending_when_an_item_of_main_was_read_is_not_the_items(
    make_queue: MakeQueue, each_engine: str, monkeypatch: pytest.MonkeyPatch, reader: str, kind: str
) -> None:
    monkeypatch.setattr(codec, "_known", codec._Known())

    def run_program(file: str) -> types.ModuleType:
        main = types.ModuleType("__main__")
        main.__file__ = file
        exec("class Thing: pass", main.__dict__)
        monkeypatch.setitem(sys.modules, "__main__", main)
        monkeypatch.setitem(sys.modules, "__mp_main__", main)
        return main

    q = make_queue(capacity=20, engine=each_engine)
    main = run_program("/nowhere/program.py")
    if reader == "a spawned child":
        main.Thing.__module__ = "__mp_main__"
    for _ in range(20):
        q.put([main.Thing(), Pending()])
    if reader == "another program":
        run_program("/nowhere/other.py")
    elif reader == "a spawned child":
        monkeypatch.delitem(sys.modules, "__mp_main__")
    for _ in range(20):
        arm(kind)
        got: Any = None
        raised = False
        try:
            got = q.get()
            for _ in range(2):  # the interpreter looks where a loop jumps back
                pass
        except (KeyboardInterrupt, Stop):
            raised = True
        assert raised
        if got is None:  # it was kept back
            got = q.get(timeout=LONG)
        assert type(got[0]).__name__ == "Thing"
        assert got[1] in ("read again", None, 1)
    assert q.empty()


@pytest.mark.parametrize("call", ["get", "get, timeout", "get_batch", "put", "put_batch"])
def test_an_exception_of_another_thread_ends_a_waiting_call(
    make_queue: MakeQueue, each_engine: str, mode: str, call: str
) -> None:
    q = make_queue(capacity=1, engine=each_engine, mode=mode)
    waits: dict[str, Callable[[], object]] = {
        "get": q.get,
        "get, timeout": lambda: q.get(timeout=600),
        "get_batch": lambda: q.get_batch(2),
        "put": lambda: q.put(2),
        "put_batch": lambda: q.put_batch([2]),
    }
    if call.startswith("put"):
        q.put(1)
    ended: list[BaseException] = []

    def wait() -> None:
        try:
            waits[call]()
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    side = "put_waits" if call.startswith("put") else "get_waits"
    eventually(lambda: q.get_metrics()[side] > 0, "the call waits")
    for _ in range(5):  # Python swallows what is raised in a finaliser, and the engine in Python has one on its way
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Stop))
        thread.join(LONG / 5)
        if not thread.is_alive():
            break
    assert not thread.is_alive()
    assert [type(error) for error in ended] == [Stop]
    assert drain(q) == ([1] if call.startswith("put") else [])
    assert_works(q)
