"""The native engine: what it shares with the other one to the byte, and methods that are none of Python's."""

from __future__ import annotations

import copy
import inspect
import itertools
import os
import pickle
import pydoc
import signal
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from shared_multiprocess_queue import CorruptQueueError, DeserializationError, Empty, Full, SharedMemoryQueue
from shared_multiprocess_queue._engine import choice
from shared_multiprocess_queue._ring import layout
from tests.support.places import NATIVE
from tests.support.queues import MakeQueue
from tests.support.waiting import LONG

needs_native = pytest.mark.skipif(not choice.has_native(), reason="the native engine is not built here")


# ---- one or the other -----------------------------------------------------------------------------------------------


WITHOUT = """
import sys
sys.modules["shared_multiprocess_queue._native.extension"] = None  # as if it had not been built
from shared_multiprocess_queue import SharedMemoryQueue
with SharedMemoryQueue("q", True, 3, run_id=sys.argv[1]) as q:
    q.unlink()
    q.put(1)
    print(q.engine, q.get())
    try:
        SharedMemoryQueue("q", True, 3, run_id=sys.argv[1], engine="native")
    except ImportError as error:
        print(error)
"""


@pytest.mark.parametrize("asked", ["", "native"])
def test_without_the_extension_nobody_gets_the_other_engine_unasked(run_id: str, asked: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT, run_id],
        env=dict(os.environ, SHMQ_ENGINE=asked),
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )
    if asked:
        assert result.returncode == 1
        assert "ImportError: the native engine was not built in " in result.stderr
    else:
        first, second = result.stdout.splitlines()
        assert first == "atomics 1"
        assert "C compiler" in second
        assert "engine='atomics'" in second


# ---- the same bytes -------------------------------------------------------------------------------------------------


ITEMS: list[Any] = [
    b"",
    b"x" * 99,
    "text",
    "ä\0\ud800",
    None,
    True,
    False,
    7,
    -1 << 63,
    -1 << 70,
    0.5,
    -0.0,
    (1, "two"),
    {"three": 3},
    [b""],
]


def work(q: SharedMemoryQueue) -> Iterator[Any]:
    """Do a bit of everything; yield what comes out."""
    for item in ITEMS:
        q.put(item)
        yield q.get()
    with suppress(Empty):
        q.get(timeout=0)
    for start in range(5):
        q.put_batch(ITEMS[start : start + 3])
        q.put_nowait("the last place")
        with suppress(Full):
            q.put(b"too much", block=False)
        with suppress(Full):
            q.put_batch([b"too", b"much"], block=False)
        yield q.get_batch(2)
        yield q.get_batch(9)
    q.put_batch([1, 2])
    yield q.qsize(), q.empty(), q.full()


def bytes_after(make_queue: MakeQueue, engine: str, mode: str) -> tuple[bytes, list[Any]]:
    q = make_queue(engine, capacity=4, item_size=100, mode=mode, engine=engine)
    results = list(work(q))
    return without_leftovers(bytearray(q._membership.segment.buffer), q), results


def without_leftovers(memory: bytearray, q: SharedMemoryQueue) -> bytes:
    """Blank what is each queue's own, and what lies behind items: it is left from others, or fills up words."""
    stride = q._geometry.stride
    for slot in range(layout.SLOTS_START, layout.SLOTS_START + q.capacity * stride, stride):
        length = int.from_bytes(memory[slot + layout.SLOT_LENGTH : slot + layout.SLOT_META], sys.byteorder)
        end = slot + layout.SLOT_PAYLOAD + length
        memory[end : slot + stride] = bytes(slot + stride - end)
    memory[layout.NONCE_AT : layout.CREATED_AT + layout.WORD] = bytes(2 * layout.WORD)  # each queue's own
    return bytes(memory)


@needs_native
def test_both_engines_leave_the_same_bytes(make_queue: MakeQueue, mode: str) -> None:
    (ours, results), (theirs, expected) = (bytes_after(make_queue, engine, mode) for engine in ("native", "atomics"))
    assert results == expected
    if mode == "spsc":  # the roles are held by records that are not the same ones
        start = layout.PRODUCER_AT
        end = layout.SLOTS_START
        ours, theirs = (memory[:start] + memory[end:] for memory in (ours, theirs))
        used = layout.RECORDS_USED_AT
        ours, theirs = (memory[:used] + memory[used + layout.WORD :] for memory in (ours, theirs))
    differing = [at for at in range(0, len(ours), 8) if ours[at : at + 8] != theirs[at : at + 8]]
    assert not differing, [hex(at) for at in differing]


@needs_native
def test_a_native_handle_has_its_roles_without_a_record_in_python(make_queue: MakeQueue, mode: str) -> None:
    """Also for the items that it puts back when it closes, though it is the producer itself."""
    q = make_queue(capacity=3, mode=mode, engine="native")
    words = q._membership.memory.words()
    with SharedMemoryQueue("q", run_id=q.run_id, engine="native") as other:
        other.put_batch(["first", "second"])
        payload = (other.get().encode(), 2)
        other._membership.keep_back([payload])
        roles = {words.load(at) for at in (layout.PRODUCER_AT, layout.CONSUMER_AT)}
        assert (roles == {0}) is (mode == "mpmc")
        assert len(roles) == 1, "one record is the producer and the consumer"
        assert other._membership.roles.record is None
    assert {words.load(at) for at in (layout.PRODUCER_AT, layout.CONSUMER_AT)} == {0}
    assert [q.get(), q.get()] == ["second", "first"]


# ---- methods --------------------------------------------------------------------------------------------------------


METHODS = ["put", "put_nowait", "put_batch", "get", "get_nowait", "get_batch"]


@pytest.fixture
def q(make_queue: MakeQueue) -> SharedMemoryQueue:
    return make_queue(capacity=3, engine="native")


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_one_of_python(make_queue: MakeQueue, each_engine: str, name: str) -> None:
    q = make_queue(engine=each_engine)
    method, bound = getattr(SharedMemoryQueue, name), getattr(q, name)
    assert inspect.isfunction(method)
    assert inspect.ismethod(bound)
    for either in (method, bound):
        assert either.__name__ == name
        assert either.__qualname__ == f"SharedMemoryQueue.{name}"
        assert either.__module__ == SharedMemoryQueue.__module__
        assert either.__doc__
        assert either.__doc__.partition("\n")[0] in pydoc.plain(pydoc.render_doc(either))
        assert name in repr(either)
    assert list(inspect.signature(method).parameters) == ["self", *inspect.signature(bound).parameters]
    assert f" {name}(" in pydoc.plain(pydoc.render_doc(SharedMemoryQueue))
    assert weakref.WeakMethod(bound)() == bound
    assert len({bound, getattr(q, name)}) == 1


WRONG: list[Callable[[Any], object]] = [
    lambda q: q.put(),
    lambda q: q.put(1, True, None, 4),
    lambda q: q.put(1, item=2),
    lambda q: q.put(item=1, wait=True),
    lambda q: q.put(1, timeout="soon"),
    lambda q: q.put(1, timeout=-1),
    lambda q: q.put(1, timeout=float("nan")),
    lambda q: q.put_nowait(),
    lambda q: q.put_nowait(1, 2),
    lambda q: q.put_batch(),
    lambda q: q.put_batch(7),
    lambda q: q.put_batch([1] * 4),
    lambda q: q.put_batch(number for number in range(4)),
    lambda q: q.get(1, 2, 3),
    lambda q: q.get(max_items=1),
    lambda q: q.get(timeout=-1 << 2000),
    lambda q: q.get_nowait(False),
    lambda q: q.get_batch(),
    lambda q: q.get_batch(0),
    lambda q: q.get_batch(-1 << 80),
    lambda q: q.get_batch(True),
    lambda q: q.get_batch(1.0),
    lambda q: q.put(b"x" * 5000),
    lambda q: q.put(lock),  # type: ignore[has-type]
    lambda q: q.put_batch([1, b"x" * 5000]),
    lambda q: q.get(False),
    lambda q: SharedMemoryQueue.put(),  # type: ignore[call-overload]
    lambda q: SharedMemoryQueue.put(None, 1),  # type: ignore[call-overload]
]


lock = threading.Lock()


@needs_native
@pytest.mark.parametrize("number", range(len(WRONG)))
def test_what_is_wrong_is_said_in_the_same_words(make_queue: MakeQueue, number: int) -> None:
    said = []
    for engine in ("native", "atomics"):
        q = make_queue(engine, engine=engine)
        with pytest.raises(Exception) as caught:  # noqa: PT011 (whatever it is)
            WRONG[number](q)
        said.append((type(caught.value), str(caught.value)))
        assert q.qsize() == 0
    assert said[0] == said[1]


@needs_native
def test_arguments_may_be_given_in_every_way(q: SharedMemoryQueue) -> None:
    q.put(item=1)
    q.put(2, timeout=0.5, block=True)
    SharedMemoryQueue.put(q, 3, 1, 10**15)  # type: ignore[call-overload]  # true enough, and for ever
    for arguments in ((0,), (False, "ignored"), (True, 0), (True, -0.0)):
        with pytest.raises(Full):
            q.put(4, *arguments)
    assert q.get_batch(max_items=1 << 100, block=True) == [1, 2, 3]
    q.put_batch(items=iter("ab"), timeout=None)
    q.put_batch([])
    assert [q.get(True, 1), q.get(timeout=True)] == ["a", "b"]


class Logged(SharedMemoryQueue):
    """Overrides put and get, which put_nowait and get_nowait call."""

    def put(self, item: object, block: bool = True, timeout: float | None = None) -> None:  # type: ignore[override]
        super().put(("logged", item), block, timeout)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        return ("got", super().get(block, timeout))


def test_a_subclass_may_override_methods(run_id: str, each_engine: str) -> None:
    with Logged("q", True, 3, run_id=run_id, engine=each_engine) as q:  # type: ignore[arg-type]
        try:
            q.put_nowait(1)
            assert q.get_nowait() == ("got", ("logged", 1))
            q.put_batch([1])
            assert q.get_batch(1) == [1]
        finally:
            q.unlink()


def test_a_patched_handle_or_class_means_the_calls_without_waiting_too(
    make_queue: MakeQueue, each_engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    q = make_queue(engine=each_engine)
    put, get = q.put, q.get
    with monkeypatch.context() as patch:
        patch.setattr(q, "put", lambda item, block=True, timeout=None: put(("patched", item), block, timeout))
        patch.setattr(q, "get", lambda block=True, timeout=None: ("patched", get(block, timeout)))
        q.put_nowait(1)
        assert q.get_nowait() == ("patched", ("patched", 1))
    with monkeypatch.context() as patch:
        patch.setattr(SharedMemoryQueue, "put", lambda self, item, block=True, timeout=None: put((block, item)))
        patch.setattr(SharedMemoryQueue, "get", lambda self, block=True, timeout=None: (block, get()))
        q.put_nowait(1)
        assert q.get_nowait() == (False, (False, 1))


@needs_native
def test_a_method_keeps_its_queue_and_can_be_pickled_and_replaced(
    q: SharedMemoryQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = SharedMemoryQueue(q.name, run_id=q.run_id, engine="native").put  # the only reference to this handle
    put(1)
    pickle.loads(pickle.dumps(put))(2)
    copy.copy(q).put(3)
    assert q.get_batch(3) == [1, 2, 3]
    monkeypatch.setattr(SharedMemoryQueue, "get", lambda self: "replaced")
    assert q.get() == "replaced"


# ---- what is raised on the way --------------------------------------------------------------------------------------


class Interrupting:
    """Raises KeyboardInterrupt when it is read, as often as is asked for."""

    left = 0

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return read_interrupting, (self.number,)


def read_interrupting(number: int) -> int:
    if Interrupting.left > 0:
        Interrupting.left -= 1
        raise KeyboardInterrupt
    return number


@needs_native
def test_an_interrupted_get_batch_keeps_all_of_it_back_in_order(q: SharedMemoryQueue) -> None:
    """The interrupt comes in the middle, while an item is read."""
    q.put_batch([b"first", Interrupting(2), "third"])
    Interrupting.left = 1
    with pytest.raises(KeyboardInterrupt):
        q.get_batch(3)
    assert q.qsize() == 3
    assert not q.empty()
    assert q.get_batch(2) == [b"first", 2]
    assert q.get() == "third"


@needs_native
def test_a_signal_that_comes_with_the_item_does_not_take_its_place(q: SharedMemoryQueue) -> None:
    """The item is made after the signal came, and before the interpreter would serve it."""

    def raise_it(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, raise_it)
    try:
        for count in (1, 3):
            q.put_batch([b"item"] * count)
            with pytest.raises(KeyboardInterrupt):
                list(map(q.get_batch, itertools.starmap(signalled, [(count,)])))
            assert q.get_batch(3) == [b"item"] * count
    finally:
        signal.signal(signal.SIGUSR1, before)


class signalled(int):
    """A number whose making sends a signal that the interpreter serves a little later."""

    def __new__(cls, number: int) -> int:  # type: ignore[misc]
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)  # a thread that does not block it could have another
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
        return number


# ---- hostile memory -------------------------------------------------------------------------------------------------


@needs_native
@pytest.mark.parametrize("word", [3, 77 << 2, 77 << 2 | 1, (1 << 64) - 1])
@pytest.mark.parametrize("use", ["put", "get", "put_batch", "get_batch"])
def test_a_word_that_no_queue_writes_is_named(make_queue: MakeQueue, use: str, word: int) -> None:
    said = []
    for engine in ("native", "atomics"):
        q = make_queue(engine, capacity=3, engine=engine)
        q._membership.segment.buffer.cast("Q")[layout.SLOTS_START >> 3] = word
        given: dict[str, list[Any]] = {"put": [1], "get": [], "put_batch": [[1]], "get_batch": [2]}
        arguments = given[use]
        with pytest.raises(CorruptQueueError, match=f"position 0 holds the word {word:#x}") as caught:
            getattr(q, use)(*arguments, block=False)
        said.append(str(caught.value))
    assert said[0] == said[1]


@needs_native
@pytest.mark.parametrize("use", ["get", "get_batch"])
def test_a_length_beyond_the_slot_costs_one_item(q: SharedMemoryQueue, use: str) -> None:
    q.put_batch([b"1", b"2", b"3"])
    stride = layout.Geometry.of(q.capacity, q.item_size, q.mode).stride
    q._membership.segment.buffer.cast("I")[layout.SLOTS_START + stride + layout.SLOT_LENGTH >> 2] = 0xFFFFFFFF
    if use == "get_batch":
        assert q.get_batch(3) == [b"1"]
    else:
        assert q.get() == b"1"
    with pytest.raises(CorruptQueueError, match="more bytes than the 4,096"):
        q.get()
    assert q.get() == b"3"


@needs_native
@pytest.mark.parametrize("length", [0, 3, 7, 9, 64])
@pytest.mark.parametrize("item", [None, True, 7, 0.5])
def test_a_scalar_of_a_wrong_length_is_an_error_with_its_bytes(q: SharedMemoryQueue, item: object, length: int) -> None:
    q.put_batch([item, b"next"])
    at = layout.SLOTS_START + layout.SLOT_LENGTH >> 2
    with q._membership.segment.buffer.cast("I") as lengths:
        right, lengths[at] = lengths[at], length
    if right == length:
        q.get()
        return
    with pytest.raises(DeserializationError) as caught:
        q.get()
    assert len(caught.value.raw) == length
    assert q.get() == b"next"


def test_the_headers_come_with_the_package() -> None:
    assert {path.name for path in NATIVE.iterdir()} >= {"handle.h", "layout.h", "module.c", "ring.h"}


@needs_native
def test_a_collection_may_empty_an_item_while_it_is_looked_through(run_id: str) -> None:
    """The look at a set allocates, which may collect; a finaliser emptied the lists that were being looked through."""
    program = """
        import gc, sys
        from shared_multiprocess_queue import SharedMemoryQueue

        class Cycle:
            def __init__(self, outer):
                self.me, self.outer = self, outer

            def __del__(self):
                self.outer.clear()
                junk.extend([0xDEAD] * 60 for _ in range(50))

        junk = []
        gc.disable()
        with SharedMemoryQueue("q", True, 4, 1 << 16, run_id=sys.argv[1], engine="native") as q:
            q.unlink()
            for n in range(100):
                outer = []
                outer.append([frozenset((n,)), *([frozenset((n, k))] for k in range(60))])
                Cycle(outer)
                gc.set_threshold(1)
                gc.enable()
                q.put(outer)
                gc.disable()
                q.get()
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), run_id],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
