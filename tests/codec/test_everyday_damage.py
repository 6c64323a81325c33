"""Payloads of everyday objects that are damaged, and exceptions that come while one is read."""

from __future__ import annotations

import decimal
import inspect
import random
import signal
import struct
import subprocess
import sys
import tracemalloc
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_multiprocess_queue import DeserializationError, SharedMemoryQueue
from shared_multiprocess_queue._codec import plain
from shared_multiprocess_queue._engine import choice
from stress.codec.cases import damaged, greedy, read_corpus
from stress.codec.likeness import alike
from stress.codec.writer import write
from tests.support.everyday import EXAMPLES, put_payload
from tests.support.lanes import examples
from tests.support.queues import MakeQueue

SIZE = 4096
Putter = Callable[[bytes], None]


def number(value: int) -> bytes:
    return struct.pack("=I", value)


DAMAGED = {
    "nothing": b"",
    "more behind its end": b"\x01\x02",
    "no such value": b"\xfd",
    "short str cut off": b"\x85abc",
    "short str not ASCII": b"\x82a\xff",
    "str not ASCII": b"\xf1" + number(3) + b"ab\x80",
    "long str cut off": b"\xf1" + number(100) + b"abc",
    "UTF-8 wrong": b"\xf2" + number(2) + b"\xc3(",
    "count cut off": b"\xf5\x01\x00",
    "bytes of 4 GiB": b"\xf3" + number(0xFFFFFFFF),
    "list of 4 billion": b"\xf5" + number(0xFFFFFFFF),
    "tuple longer than it": b"\xf6" + number(3) + b"\x01\x02",
    "dict longer than it": b"\xf7" + number(2) + b"\x01\x02\x03",
    "set longer than it": b"\xf8" + number(2) + b"\x01",
    "short list cut off": b"\xdf\x01",
    "key cut off": b"\xc1\x88abcd",
    "value cut off": b"\xc1\x82ab",
    "key twice": b"\xc2\x01\x01\x01\x02",
    "key twice in two types": b"\xc2\x01\x01\xea\x02",
    "element twice": b"\xf8" + number(2) + b"\x01\x01",
    "frozen element twice": b"\xf9" + number(2) + b"\x01\x01",
    "key is a list": b"\xc1\xd0\x01",
    "element is a dict": b"\xf8" + number(1) + b"\xc0",
    "too deep": b"\xd1" * 101 + b"\x01",
    "tuples too deep": b"\xe1" * 101 + b"\x01",
    "dicts too deep": b"\xc1\x01" * 101 + b"\x01",
    "sets too deep": (b"\xf9" + number(1)) * 101 + b"\x01",
    "int cut off": b"\xef1234567",
    "large int cut off": b"\xf0" + number(9) + b"1",
    "float cut off": b"\xeb1234567",
    "complex cut off": b"\xfa12345678",
    "no kind of time": b"\xfb\x05" + bytes(16),
    "time without a kind": b"\xfb",
    "month 13": b"\xfb\x02\x07\xe8\x0d\x01",
    "day 0": b"\xfb\x02\x07\xe8\x01\x00",
    "year 0": b"\xfb\x02\x00\x00\x01\x01",
    "hour 24": b"\xfb\x03\x18\x00\x00\x00\x00\x00",
    "a million microseconds": b"\xfb\x00\x07\xe8\x01\x01\x00\x00\x00\x0f\x42\x40",
    "datetime cut off": b"\xfb\x01\x07\xe8\x01\x01\x00\x00\x00\x00\x00",
    "timedelta of too many days": b"\xfb\x04" + struct.pack("=iii", 1_000_000_000, 0, 0),
    "timedelta of too many seconds": b"\xfb\x04" + struct.pack("=iii", 0, 86_400, 0),
    "timedelta of negative microseconds": b"\xfb\x04" + struct.pack("=iii", 0, 0, -1),
    "no kind of object": b"\xfc\x02" + bytes(16),
    "Decimal without a number": b"\xfc\x00\x83abc",
    "Decimal of an int": b"\xfc\x00\x05",
    "Decimal without a text": b"\xfc\x00",
    "UUID cut off": b"\xfc\x01" + bytes(15),
}


@pytest.fixture
def q(make_queue: MakeQueue, each_engine: str) -> SharedMemoryQueue:
    return make_queue(capacity=8, item_size=SIZE)


@pytest.fixture
def put_bytes(q: SharedMemoryQueue, run_id: str) -> Any:
    with SharedMemoryQueue("q", run_id=run_id, engine="atomics") as writer:
        yield lambda payload: put_payload(writer, payload)


@pytest.mark.parametrize("payload", DAMAGED.values(), ids=DAMAGED)
def test_what_is_damaged_is_an_error_with_its_bytes_and_costs_no_other(
    q: SharedMemoryQueue, put_bytes: Putter, payload: bytes
) -> None:
    put_bytes(payload)
    q.put([1])
    with pytest.raises(DeserializationError, match="cannot be turned back into an object") as caught:
        q.get()
    assert caught.value.raw == payload
    assert q.get() == [1]


def test_a_damaged_item_of_a_batch_ends_it(q: SharedMemoryQueue, put_bytes: Putter) -> None:
    q.put_batch([[1], {"a": 2}])
    put_bytes(b"\xfd")
    q.put_batch([(3,), {4}])
    assert q.get_batch(8) == [[1], {"a": 2}]
    with pytest.raises(DeserializationError) as caught:
        q.get_batch(8)
    assert caught.value.raw == b"\xfd"
    assert q.get_batch(8) == [(3,), {4}]


def test_any_bytes_are_an_item_or_an_error(q: SharedMemoryQueue, put_bytes: Putter) -> None:
    """The same for both engines, because each is the same as the reader in Python."""

    def check(payload: bytes) -> None:
        put_bytes(payload)
        try:
            expected = plain.read(payload)
        except (ValueError, TypeError, ArithmeticError):
            with pytest.raises(DeserializationError):
                q.get()
        else:
            assert alike(q.get(), expected)

    for payload in read_corpus():
        check(payload)
    rng = random.Random(11)
    whole = [write(item, SIZE) or b"" for item in EXAMPLES]
    assert all(whole)

    @given(st.binary(max_size=60) | st.integers().map(lambda _: damaged(rng.choice(whole), rng)))
    @settings(deadline=None, max_examples=examples(500))
    def any_bytes(payload: bytes) -> None:
        check(payload)

    any_bytes()


@pytest.mark.parametrize(
    "payload",
    [*DAMAGED.values(), *(write(item, SIZE) for item in EXAMPLES)],
    ids=[*DAMAGED, *(f"example {number}" for number in range(len(EXAMPLES)))],  # the order in a set is not always one
)
def test_reading_keeps_nothing(q: SharedMemoryQueue, put_bytes: Putter, payload: bytes) -> None:
    def blocks() -> int:
        for _ in range(50):
            put_bytes(payload)
            with suppress(DeserializationError):
                q.get()
        return sys.getallocatedblocks()

    blocks()
    grown = [-blocks() + blocks() for _ in range(5)]
    assert min(grown) < 50, "each reading keeps at least an object"


def test_counts_in_each_other_get_little_memory(make_queue: MakeQueue, each_engine: str, run_id: str) -> None:
    payload = greedy(20_000)
    q = make_queue(capacity=2, item_size=len(payload))
    with SharedMemoryQueue("q", run_id=run_id, engine="atomics") as writer:
        put_payload(writer, payload)
    tracemalloc.start()
    try:
        with pytest.raises(DeserializationError):
            q.get()
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 100 * len(payload)


def test_no_context_makes_a_number_of_damage(q: SharedMemoryQueue, put_bytes: Putter) -> None:
    with decimal.localcontext() as context:
        context.traps[decimal.InvalidOperation] = False
        put_bytes(DAMAGED["Decimal without a number"])
        with pytest.raises(DeserializationError):
            q.get()
        assert not context.flags[decimal.InvalidOperation]


# ---- exceptions from outside ----------------------------------------------------------------------------------------


class MineError(ValueError):
    """As an error of damaged bytes."""


@pytest.mark.parametrize("error", [KeyboardInterrupt, MineError])
@pytest.mark.parametrize("call", ["get", "get_batch"])
def test_a_signal_handler_that_raises_while_an_item_is_read_costs_nothing(
    q: SharedMemoryQueue, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], call: str
) -> None:
    """The hash of a UUID is a function of Python, the only one that runs while an everyday object is read."""
    hash_of = uuid.UUID.__hash__
    item = {"first": [1, "two"], uuid.UUID(int=7): 3}
    signals = iter([True])

    def interrupted(self: uuid.UUID) -> int:
        if next(signals, False):
            signal.raise_signal(signal.SIGUSR1)
        return hash_of(self)

    def handler(number: int, frame: object) -> None:
        raise error

    q.put_batch([[0], item, [2]])
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        monkeypatch.setattr(uuid.UUID, "__hash__", interrupted)
        if call == "get":
            assert q.get() == [0]
        with pytest.raises(error):
            q.get() if call == "get" else q.get_batch(3)
    finally:
        monkeypatch.undo()
        signal.signal(signal.SIGUSR1, before)
    left = [item, [2]] if call == "get" else [[0], item, [2]]
    assert [q.get_nowait() for _ in left] == left


def test_a_queue_may_be_used_while_an_item_is_read(q: SharedMemoryQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    hash_of = uuid.UUID.__hash__
    seen: list[object] = []

    def using(self: uuid.UUID) -> int:
        if not seen:
            seen.append(None)
            q.put([{"key": "inner"}])
            seen.append(q.get())
            seen.append(q.get())
        return hash_of(self)

    item = {"first": [1, "two"], uuid.UUID(int=7): "x" * 300}
    q.put(item)
    q.put({"second": 2})
    monkeypatch.setattr(uuid.UUID, "__hash__", using)
    got = q.get()
    monkeypatch.undo()
    assert got == item
    assert seen == [None, {"second": 2}, [{"key": "inner"}]]


def test_a_deep_item_is_read_where_the_stack_is_nearly_full(q: SharedMemoryQueue, put_bytes: Putter) -> None:
    def at(depth: int) -> object:
        return at(depth - 1) if depth else q.get()

    put_bytes(b"\xd1" * plain.DEPTH + b"\x01")
    before = sys.getrecursionlimit()
    depth = len(inspect.stack(0))
    sys.setrecursionlimit(depth + plain.DEPTH + 60)
    try:
        found: Any = at(plain.DEPTH)
    finally:
        sys.setrecursionlimit(before)
    for _ in range(plain.DEPTH):
        (found,) = found
    assert found == 1


NO_MEMORY = """
import sys, _testcapi
from shared_multiprocess_queue import SharedMemoryQueue

item = [{"a": [1 << 40, 2.5, "x" * 70]}, (None, b"zz", {300, 400}), "é", [[number] for number in range(40)]]
failed = 0
with SharedMemoryQueue("no-memory", create=True, capacity=4, engine="native", run_id=sys.argv[1]) as q:
    q.unlink()
    q.put(item)
    assert q.get() == item
    for allocation in range(1, 40):
        for call in (lambda: q.put(item, True, 5.0), lambda: q.get(True, 5.0)):
            _testcapi.set_nomemory(allocation, allocation + 1)
            try:
                call()
            except MemoryError:
                failed += 1
            finally:
                _testcapi.remove_mem_hooks()
            if q.empty():
                q.put(item)
        while not q.empty():
            assert q.get() == item
print(failed)
"""


@pytest.mark.skipif(not choice.has_native(), reason="Python code may fail anywhere if it has no memory")
def test_an_allocation_that_fails_costs_no_item(run_id: str) -> None:
    pytest.importorskip("_testcapi")
    done = subprocess.run([sys.executable, "-c", NO_MEMORY, run_id], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 5
