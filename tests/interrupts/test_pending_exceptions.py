"""An exception that is pending, of a signal or another thread, takes the place of no item."""

from __future__ import annotations

import _thread
import ctypes
import functools
import gc
import signal
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue._codec import codec
from tests.support.queues import MakeQueue, assert_works, drained
from tests.support.waiting import LONG, eventually

# ---- what is pending when an item is handed over --------------------------------------------------------------------


class Stop(Exception):
    """What another thread sets for one that it wants to end."""


class _InC(functools.partial):  # type: ignore[type-arg]
    """A call of C that an item's stream makes: there the interpreter does not look for what is pending."""

    def __reduce__(self) -> str:
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
        once = map(_thread.interrupt_main, [signal.SIGINT])  # type: ignore[arg-type]  # it trips the signal and does not look
    else:
        stop = ctypes.pythonapi.PyThreadState_SetAsyncExc
        once = map(stop, [ctypes.c_ulong(threading.get_ident())], [ctypes.py_object(Stop)])
    make_pending = _InC(next, once, "read again")


class Overriding(SharedMemoryQueue):
    """Calls get of its base class, as subclasses do."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        return super().get(block, timeout)

    def get_batch(self, max_items: int, block: bool = True, timeout: float | None = None) -> list[Any]:  # type: ignore[override]
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
def test_what_is_pending_takes_the_place_of_no_item(
    run_id: str, each_engine: str, cls: type[SharedMemoryQueue], way: str, kind: str
) -> None:
    """An exception is pending when an item is handed over: the call raises it or returns the item, and loses none.

    The interpreter raises it when the caller has the item, or the item is kept back.
    """
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
            assert [*got[1:], *drained(q)] == ["next"]


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
    assert drained(q) == ([1] if call.startswith("put") else [])
    assert_works(q)


def expire(number: int, frame: object) -> None:
    raise TimeoutError("of a signal handler")


class Interrupted:
    """A signal comes while this is pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        signal.raise_signal(signal.SIGUSR1)
        return int, ()


def test_an_exception_inside_pickling_keeps_neither_item_nor_queue(make_queue: MakeQueue, each_engine: str) -> None:
    """A frame and the error that it raised kept each other until the collector came."""
    q = make_queue(engine=each_engine)
    item = Interrupted()
    kept = weakref.ref(item)
    before = signal.signal(signal.SIGUSR1, expire)
    gc.disable()
    try:
        try:
            q.put(item)
        except TimeoutError:
            pass
        else:
            pytest.fail("the handler's exception was swallowed")
        del item
        assert kept() is None
    finally:
        gc.enable()
        signal.signal(signal.SIGUSR1, before)
