"""One suite for the interface, run in each mode with each way of reaching the shared words."""

from __future__ import annotations

import json
import os
import pickle
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import shared_multiprocess_queue
from shared_multiprocess_queue import (
    ArgumentError,
    DeserializationError,
    Empty,
    Full,
    ItemTooLargeError,
    QueueClosedError,
    RoleTakenError,
    SerializationError,
    SharedMemoryQueue,
    SharedMemoryQueueError,
)
from shared_multiprocess_queue._engine import atomics
from shared_multiprocess_queue._ring import parking
from shared_multiprocess_queue._ring.ring import DONE, NOTHING

from .conftest import MakeQueue
from .waiting import LONG, eventually, in_thread

PACKAGE = str(Path(shared_multiprocess_queue.__file__).parent)

T = TypeVar("T")

pytestmark = [
    pytest.mark.usefixtures("engines"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


# ---- helpers --------------------------------------------------------------------------------------------------------


@pytest.fixture
def make(make_queue: MakeQueue, mode: str) -> MakeQueue:
    """Make queues of this run's mode."""

    def made(name: str = "q", **arguments: object) -> SharedMemoryQueue:
        return make_queue(name, mode=mode, **arguments)

    return made


@pytest.fixture
def eager() -> Iterator[None]:
    """Let threads take turns far more often than they do by themselves."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(2e-5)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def only_wakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody look again by himself: a wake that is missed is not healed by the next slice of a sleep."""
    for module in (parking, atomics):
        monkeypatch.setattr(module, "SLICE", 10**18)


def sleeps(q: SharedMemoryQueue, side: str, more_than: int = 0) -> Callable[[], bool]:
    """Tell whether somebody has gone to sleep in a get or a put."""
    return lambda: q.get_metrics()[f"{side}_waits"] > more_than


@contextmanager
def at_least(seconds: float) -> Iterator[None]:
    """Check that the block takes no less than this; how much longer says something about the machine only."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start >= seconds


@contextmanager
def alarms(handler: Callable[[FrameType | None], object], seconds: float) -> Iterator[None]:
    """Interrupt this thread by a signal again and again; its handler is interrupted, too, but only so often."""
    active, depth = True, 0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal depth
        depth += 1
        if active and depth < 3:
            signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            handler(frame)
        finally:
            depth -= 1
            if active:
                signal.setitimer(signal.ITIMER_REAL, seconds)

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        active = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def drained(q: SharedMemoryQueue) -> list[Any]:
    """Take everything."""
    found: list[Any] = []
    with suppress(Empty):
        while True:
            found.append(q.get_nowait())
    return found


def refuse(*_: object) -> None:
    raise LookupError("no way back")


class Poison:
    """Can be serialised, and not be read back."""

    def __reduce__(self) -> tuple[Any, ...]:
        return refuse, (1,)


class Unwilling:
    """Cannot be serialised."""

    def __reduce__(self) -> tuple[Any, ...]:
        raise LookupError("no way out")


# ---- first in, first out --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("capacity", [1, 2, 3])
def test_items_come_out_in_the_order_they_went_in_lap_after_lap(make: MakeQueue, capacity: int) -> None:
    q = make(capacity=capacity)
    put = got = 0
    for lap in range(30):
        for _ in range(lap % capacity + 1):
            q.put_nowait(put)
            put += 1
        while got < put:
            assert q.get_nowait() == got
            got += 1


@pytest.mark.parametrize("capacity", [1, 2, 3])
def test_a_queue_that_is_kept_full_wraps_in_order(make: MakeQueue, capacity: int) -> None:
    q = make(capacity=capacity)
    for item in range(capacity):
        q.put_nowait(item)
    for item in range(capacity, 10 * capacity):
        with pytest.raises(Full):
            q.put_nowait("no room")
        assert q.get_nowait() == item - capacity
        q.put_nowait(item)
    assert drained(q) == list(range(9 * capacity, 10 * capacity))


@pytest.mark.parametrize("item", [None, False, 0, "", b"", (), [], {}, 0.0, "ä\0\ud800", b"\0" * 64, 1 << 200])
def test_every_item_comes_back_as_itself_also_those_that_look_like_nothing(make: MakeQueue, item: object) -> None:
    q = make()
    q.put(item)
    q.put_batch([item, item])
    got = [q.get_nowait(), *q.get_batch(2)]
    assert got == [item] * 3
    assert [type(one) for one in got] == [type(item)] * 3


def test_an_item_is_what_it_was_when_it_was_put(make: MakeQueue) -> None:
    q = make()
    item = [1, 2]
    q.put(item)
    item.append(3)
    assert q.get() == [1, 2]


def test_functions_that_only_cloudpickle_can_send_are_items(make: MakeQueue) -> None:
    q = make()
    offset = 3
    q.put(lambda number: number + offset)
    assert q.get()(4) == 7


# ---- block and timeout ----------------------------------------------------------------------------------------------

BLOCK_AND_TIMEOUT: list[tuple[Any, Any]] = [
    (True, 0),
    (True, 0.0),
    (True, -0.0),
    (True, 0.02),
    (True, 1e-9),
    (True, -1),
    (True, -1e-9),
    (True, float("-inf")),
    (True, "soon"),
    (False, None),
    (False, 0),
    (False, 5),
    (False, -1),
    (0, None),
    (0, -7),
    (1, 0.001),
]


def outcome(function: Callable[[], T]) -> T | type[Exception]:
    try:
        return function()
    except Exception as error:
        return type(error)


def assert_same(ours: object, theirs: object) -> None:
    if isinstance(theirs, type) and isinstance(ours, type):
        assert issubclass(ours, theirs), f"queue.Queue raises {theirs.__name__}, ours {ours.__name__}"
    else:
        assert ours == theirs


@pytest.mark.parametrize(("block", "timeout"), BLOCK_AND_TIMEOUT)
def test_block_and_timeout_mean_what_they_mean_to_queue_queue(make: MakeQueue, block: Any, timeout: Any) -> None:
    ours, theirs = make(capacity=1), queue.Queue[int](1)
    for _ in range(2):  # there is room, and there is none
        assert_same(outcome(lambda: ours.put(1, block, timeout)), outcome(lambda: theirs.put(1, block, timeout)))
        assert ours.qsize() == theirs.qsize()
    for _ in range(2):
        assert_same(outcome(lambda: ours.get(block, timeout)), outcome(lambda: theirs.get(block, timeout)))
        assert ours.qsize() == theirs.qsize()
    by_name = {"block": block, "timeout": timeout}
    assert_same(outcome(lambda: ours.put(1, **by_name)), outcome(lambda: theirs.put(1, **by_name)))
    assert_same(outcome(lambda: ours.get(**by_name)), outcome(lambda: theirs.get(**by_name)))


@pytest.mark.parametrize(("block", "timeout"), BLOCK_AND_TIMEOUT)
def test_batches_take_block_and_timeout_as_single_items_do(make: MakeQueue, block: Any, timeout: Any) -> None:
    ours, theirs = make(capacity=2), queue.Queue[int](1)
    for _ in range(2):
        assert_same(
            outcome(lambda: ours.put_batch([1, 1], block, timeout)), outcome(lambda: theirs.put(1, block, timeout))
        )
        assert ours.qsize() == 2 * theirs.qsize()
    for _ in range(2):
        expected = outcome(lambda: theirs.get(block, timeout))
        assert_same(
            outcome(lambda: ours.get_batch(2, block, timeout)), [1, 1] if isinstance(expected, int) else expected
        )


def test_a_negative_timeout_is_refused_even_if_there_is_nothing_to_wait_for(make: MakeQueue) -> None:
    q = make()
    q.put(1)
    for call in (
        lambda: q.put(2, timeout=-1),
        lambda: q.get(timeout=-0.5),
        lambda: q.put_batch([2], timeout=-1),
        lambda: q.get_batch(1, timeout=-1),
        lambda: q.get(timeout=float("nan")),
    ):
        with pytest.raises(ValueError, match="timeout"):
            call()
    assert drained(q) == [1]


def test_a_timeout_is_waited_for_in_full(make: MakeQueue) -> None:
    q = make(capacity=1)
    with pytest.raises(Empty), at_least(0.15):
        q.get(timeout=0.15)
    with pytest.raises(Empty), at_least(0.15):
        q.get_batch(2, timeout=0.15)
    q.put(1)
    with pytest.raises(Full), at_least(0.15):
        q.put(2, timeout=0.15)
    with pytest.raises(Full), at_least(0.15):
        q.put_batch([2], timeout=0.15)
    assert drained(q) == [1]


def test_calls_that_do_not_wait_never_sleep(make: MakeQueue) -> None:
    q = make(capacity=1)
    for get in (q.get_nowait, lambda: q.get(False), lambda: q.get(timeout=0), lambda: q.get_batch(3, False)):
        with pytest.raises(Empty):
            get()
    q.put(0)
    for put in (
        lambda: q.put_nowait(1),
        lambda: q.put(1, False),
        lambda: q.put(1, timeout=0),
        lambda: q.put_batch([1], False),
        lambda: q.put_batch([1], timeout=0),
    ):
        with pytest.raises(Full):
            put()
    metrics = q.get_metrics()
    assert (metrics["put_waits"], metrics["get_waits"]) == (0, 0)
    assert (metrics["full_events"], metrics["empty_events"]) == (5, 4)


def test_an_infinite_timeout_is_as_none(make: MakeQueue) -> None:
    q = make()
    got = in_thread(q.get, timeout=float("inf"))
    eventually(sleeps(q, "get"))
    q.put("at last")
    assert got.result(LONG) == "at last"


# ---- the same as queue.Queue, whatever is done to both ---------------------------------------------------------------


class Comparison(RuleBasedStateMachine):
    """Does the same to our queue, through two handles, and to a queue.Queue.

    ``held`` are the items that our consumer's handle keeps for its next gets, because a batch of it ended at one that
    could not be read.
    """

    def __init__(self, create: Callable[[int], SharedMemoryQueue]) -> None:
        super().__init__()
        self.create = create

    @initialize(capacity=st.integers(1, 4), prefilled=st.integers(0, 5))
    def start(self, capacity: int, prefilled: int) -> None:
        self.producer = self.create(capacity)
        self.consumer = SharedMemoryQueue(self.producer.name, run_id=self.producer.run_id)
        self.theirs: queue.Queue[Any] = queue.Queue(capacity)
        self.held: deque[Any] = deque()
        self.next = 0
        for _ in range(prefilled):  # begin anywhere in a lap
            self.producer.put_nowait(None)
            self.consumer.get_nowait()

    def new(self) -> int:
        self.next += 1
        return self.next

    @rule(how=st.sampled_from([(True, 0), (False, None), (False, -1), (True, 0.002), (True, -1)]))
    def put(self, how: tuple[bool, float | None]) -> None:
        item = self.new()
        assert_same(
            outcome(lambda: self.producer.put(item, *how)),
            outcome(lambda: self.theirs.put(item, *how)),
        )

    @rule()
    def put_nowait(self) -> None:
        item = self.new()
        assert_same(outcome(lambda: self.producer.put_nowait(item)), outcome(lambda: self.theirs.put_nowait(item)))

    @rule()
    def put_what_cannot_be_read(self) -> None:
        if not self.theirs.full():
            self.theirs.put_nowait(Poison)
            self.producer.put_nowait(Poison())

    @rule(item=st.sampled_from([Unwilling(), threading.Lock(), b"x" * 1000]))
    def put_what_cannot_be_sent(self, item: object) -> None:
        with pytest.raises((SerializationError, ItemTooLargeError)):
            self.producer.put(item)
        with pytest.raises((SerializationError, ItemTooLargeError)):
            self.producer.put_batch([item])

    @rule(how=st.sampled_from([(True, 0), (False, None), (False, -1), (True, 0.002), (True, -1)]))
    def get(self, how: tuple[bool, float | None]) -> None:
        if self.held and how != (True, -1):
            theirs: Any = self.held.popleft()
        else:
            theirs = outcome(lambda: self.theirs.get(*how))
        if theirs is Poison:
            theirs = DeserializationError
        assert_same(outcome(lambda: self.consumer.get(*how)), theirs)

    @rule(size=st.integers(0, 5), timeout=st.sampled_from([0, None, 0.002]))
    def put_batch(self, size: int, timeout: float | None) -> None:
        batch = [self.new() for _ in range(size)]
        room = self.theirs.maxsize - self.theirs.qsize()
        if size > self.theirs.maxsize:
            with pytest.raises(ValueError, match="can never fit"):
                self.producer.put_batch(iter(batch), True, timeout)
        elif size > room:
            with pytest.raises(queue.Full):
                self.producer.put_batch(batch, timeout is not None, timeout)
        else:
            self.producer.put_batch(iter(batch), timeout is not None, timeout)
            for item in batch:
                self.theirs.put_nowait(item)

    @rule(limit=st.integers(1, 6), timeout=st.sampled_from([0, 0.002]))
    def get_batch(self, limit: int, timeout: float) -> None:
        there = list(self.held)[:limit]
        while not self.held and len(there) < limit and not self.theirs.empty():
            there.append(self.theirs.get_nowait())
        for _ in range(min(limit, len(self.held))):
            self.held.popleft()
        end = there.index(Poison) if Poison in there else len(there)
        ours = outcome(lambda: self.consumer.get_batch(limit, True, timeout))
        if not there:
            assert ours is queue.Empty
        elif end == 0:
            assert ours is DeserializationError
            self.held.extendleft(reversed(there[1:]))
        else:
            assert ours == there[:end]
            self.held.extendleft(reversed(there[end:]))

    @rule()
    def get_nothing_with_wrong_arguments(self) -> None:
        for wrong in (0, -1, True, 1.0, "2", None):
            with pytest.raises(ValueError, match="max_items"):
                self.consumer.get_batch(wrong)  # type: ignore[arg-type]

    @rule(which=st.sampled_from(["producer", "consumer"]))
    @precondition(lambda self: not self.held)  # what is held goes to the end of the queue then, see its own test
    def close_and_open_again(self, which: str) -> None:
        getattr(self, which).close()
        setattr(self, which, SharedMemoryQueue(self.producer.name, run_id=self.producer.run_id))

    @rule()
    def send_the_producer_by_pickle(self) -> None:
        sent = pickle.loads(pickle.dumps(self.producer))
        self.producer.close()
        self.producer = sent

    @rule()
    @precondition(lambda self: not self.held)
    def swap(self) -> None:
        """Let each take the other's part; in mode spsc the roles must be given up first."""
        if self.producer.mode == "spsc":
            self.close_and_open_again("producer")
            self.close_and_open_again("consumer")
        self.producer, self.consumer = self.consumer, self.producer

    @invariant()
    def sizes_are_the_same(self) -> None:
        if not hasattr(self, "theirs"):
            return
        assert self.producer.qsize() == self.theirs.qsize()
        assert self.consumer.qsize() == self.theirs.qsize() + len(self.held)
        assert self.producer.full() == self.consumer.full() == self.theirs.full()
        assert self.producer.empty() == self.theirs.empty()
        assert self.consumer.empty() == (self.theirs.empty() and not self.held)
        assert self.producer.get_metrics()["queue_size"] == self.theirs.qsize()

    def teardown(self) -> None:
        if not hasattr(self, "theirs"):
            return
        got: list[Any] = []
        while True:
            with suppress(DeserializationError):
                got += drained(self.consumer)
                break
            got.append(Poison)
        self.consumer.close()
        self.producer.close()
        self.producer.unlink()


def test_random_operations_do_what_they_do_to_queue_queue(run_id: str, mode: str) -> None:
    def create(capacity: int) -> SharedMemoryQueue:
        return SharedMemoryQueue("compared", create=True, capacity=capacity, item_size=300, run_id=run_id, mode=mode)

    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        lambda: Comparison(create),
        settings=settings(
            max_examples=40,
            stateful_step_count=40,
            deadline=None,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


# ---- waiting and waking ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("only_wakes")
def test_a_put_wakes_a_blocked_get(make: MakeQueue) -> None:
    q = make()
    got = in_thread(q.get)
    eventually(sleeps(q, "get"))
    assert not got.done()
    q.put("wake up")
    assert got.result(LONG) == "wake up"


@pytest.mark.usefixtures("only_wakes")
def test_a_batch_wakes_every_blocked_get_that_it_has_an_item_for(make: MakeQueue) -> None:
    q = make(capacity=3)
    got = [in_thread(q.get) for _ in range(3)]
    eventually(lambda: q.get_metrics()["get_waits"] >= 3)
    q.put_batch([1, 2, 3])
    assert sorted(future.result(LONG) for future in got) == [1, 2, 3]


@pytest.mark.usefixtures("only_wakes")
def test_a_get_wakes_a_blocked_put(make: MakeQueue) -> None:
    q = make(capacity=1)
    q.put("first")
    put = in_thread(q.put, "second")
    eventually(sleeps(q, "put"))
    assert not put.done()
    assert q.get() == "first"
    put.result(LONG)
    assert q.get() == "second"


@pytest.mark.usefixtures("only_wakes")
def test_gets_wake_a_batch_as_soon_as_there_is_room_for_all_of_it(make: MakeQueue) -> None:
    q = make(capacity=3)
    q.put_batch([1, 2, 3])
    put = in_thread(q.put_batch, [4, 5])
    eventually(sleeps(q, "put"))
    assert [q.get(), q.get()] == [1, 2]
    put.result(LONG)
    assert drained(q) == [3, 4, 5]


def test_a_batch_that_has_room_for_a_part_of_it_goes_on_waiting(make: MakeQueue) -> None:
    q = make(capacity=3)
    q.put_batch([1, 2, 3])
    put = in_thread(q.put_batch, [4, 5])
    eventually(sleeps(q, "put"))
    assert q.get() == 1
    before = q.get_metrics()["put_waits"]
    eventually(sleeps(q, "put", before))  # it has looked again, and sleeps again
    assert not put.done(), "there is room for one of the two only"
    assert q.qsize() == 2
    assert q.get() == 2
    put.result(LONG)
    assert drained(q) == [3, 4, 5]


@pytest.mark.usefixtures("only_wakes")
def test_two_who_wait_for_each_other_in_turn_never_miss_a_wake(make_queue: MakeQueue) -> None:
    there, back = make_queue("there", capacity=1), make_queue("back", capacity=1)

    def echo() -> None:
        while (item := there.get()) is not None:
            back.put(item)

    answered = in_thread(echo)
    for number in range(200):
        there.put(number)
        assert back.get(timeout=LONG) == number
    there.put(None)
    answered.result(LONG)


@pytest.mark.parametrize("what", ["get", "put", "put_batch"])
def test_who_is_blocked_uses_no_processor_time(make_queue: MakeQueue, what: str) -> None:
    """The bound is on time of the processor, which does not depend on what else the machine does."""
    q = make_queue(capacity=1)

    def blocked() -> float:
        start = time.thread_time()
        if what == "get":
            with pytest.raises(Empty):
                q.get(timeout=1)
        else:
            with pytest.raises(Full):
                q.put(1, timeout=1) if what == "put" else q.put_batch([1], timeout=1)
        return time.thread_time() - start

    if what != "get":
        q.put(0)
    assert in_thread(blocked).result(LONG) < 0.1


@pytest.mark.usefixtures("only_wakes")
def test_a_batch_that_gets_its_room_wakes_the_next_batch(make: MakeQueue) -> None:
    q = make(capacity=3)
    q.put_batch([1, 2, 3])
    puts = [in_thread(q.put_batch, [name] * 3) for name in "ab"]
    eventually(sleeps(q, "put"))
    got = [q.get(timeout=LONG) for _ in range(9)]
    for put in puts:
        put.result(LONG)
    assert got in ([1, 2, 3, *"aaabbb"], [1, 2, 3, *"bbbaaa"])


# ---- many at once ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("eager", "only_wakes")
@pytest.mark.parametrize("capacity", [1, 3, 16])
def test_many_threads_put_and_get_every_item_exactly_once(make_queue: MakeQueue, capacity: int) -> None:
    q = make_queue(capacity=capacity)
    each = 150

    def produce(me: int) -> None:
        for number in range(each):
            q.put((me, number))

    def consume() -> list[tuple[int, int]]:
        return list(iter(q.get, None))

    producers = [in_thread(produce, me) for me in range(3)]
    consumers = [in_thread(consume) for _ in range(3)]
    for producer in producers:
        producer.result(LONG)
    for _ in consumers:
        q.put(None)
    got = [consumer.result(LONG) for consumer in consumers]
    assert Counter(item for items in got for item in items) == Counter((me, n) for me in range(3) for n in range(each))
    for items in got:  # the order of each producer holds for each consumer
        for me in range(3):
            numbers = [number for who, number in items if who == me]
            assert numbers == sorted(numbers)
    assert q.empty()


@pytest.mark.usefixtures("eager", "only_wakes")
def test_threads_that_share_a_handle_share_its_roles(make: MakeQueue) -> None:
    q = make(capacity=2)

    def produce(me: int) -> None:
        for number in range(100):
            q.put((me, number))

    producers = [in_thread(produce, me) for me in range(2)]
    got = [in_thread(lambda: [q.get() for _ in range(100)]) for _ in range(2)]
    for producer in producers:
        producer.result(LONG)
    assert Counter(item for future in got for item in future.result(LONG)) == Counter(
        (me, number) for me in range(2) for number in range(100)
    )


@pytest.mark.usefixtures("eager")
def test_who_has_put_an_item_always_finds_one(make_queue: MakeQueue) -> None:
    """A cheap probe of linearizability: after my put there is an item for me, whoever else takes and puts."""
    threads = 3
    q = make_queue(capacity=threads)

    def put_then_get(me: int) -> int:
        for number in range(100):
            q.put_nowait((me, number))  # at most one item of each: there is always room
            q.get_nowait()
        return me

    futures = [in_thread(put_then_get, me) for me in range(threads)]
    assert [future.result(LONG) for future in futures] == list(range(threads))
    assert q.empty()


# ---- put_batch ------------------------------------------------------------------------------------------------------


def test_a_batch_goes_in_as_a_whole_or_not_at_all(make: MakeQueue) -> None:
    q = make(capacity=3, item_size=100)
    q.put(0)
    with pytest.raises(Full):
        q.put_batch([1, 2, 3], block=False)
    with pytest.raises(ItemTooLargeError):
        q.put_batch([1, b"x" * 101])
    with pytest.raises(SerializationError):
        q.put_batch([1, Unwilling()])

    def breaks_off() -> Iterator[int]:
        yield 1
        raise LookupError("on purpose")

    with pytest.raises(LookupError, match="on purpose"):
        q.put_batch(breaks_off())
    assert q.qsize() == 1
    q.put_batch([1, 2])
    assert drained(q) == [0, 1, 2]


def test_a_batch_that_can_never_fit_is_refused_at_once(make: MakeQueue) -> None:
    q = make(capacity=3)
    with pytest.raises(ValueError, match=r"4 items .* holds 3") as caught:
        q.put_batch(range(4))  # would otherwise wait for ever
    assert isinstance(caught.value, ArgumentError)
    assert q.empty()


def test_a_batch_of_no_items_does_nothing_and_waits_for_nothing(make: MakeQueue) -> None:
    q = make(capacity=1)
    q.put_batch([])
    assert q.empty()
    q.put(1)
    q.put_batch(iter(()))
    assert drained(q) == [1]


@pytest.mark.parametrize("offset", [0, 1, 2])
def test_a_batch_may_fill_the_queue_wherever_a_lap_begins(make: MakeQueue, offset: int) -> None:
    q = make(capacity=3)
    for _ in range(offset):
        q.put(None)
        q.get()
    for lap in range(3):
        q.put_batch(number + lap for number in range(3))
        assert q.full()
        assert q.get_batch(3) == [lap, lap + 1, lap + 2]


@pytest.mark.usefixtures("eager")
def test_batches_stay_together_and_appear_at_once_among_other_puts(make_queue: MakeQueue) -> None:
    q = make_queue(capacity=5)
    sizes = [1, 2, 3, 4, 5]

    def put_batches(me: int) -> None:
        for number in range(40):
            size = sizes[(me + number) % len(sizes)]
            q.put_batch([(me, number, index, size) for index in range(size)])

    def put_singles() -> None:
        for number in range(60):
            q.put(("single", number, 0, 1))

    putters = [in_thread(put_batches, 1), in_thread(put_batches, 2), in_thread(put_singles)]
    seen: Counter[Any] = Counter()
    for _ in range(40 + 40 + 60):
        me, number, index, size = q.get(timeout=LONG)
        assert index == 0, f"batch {number} of {me} begins with its item {index}"
        for rest in range(1, size):
            assert q.get_nowait() == (me, number, rest, size), "the first item was there before the others, or alone"
        seen[me] += 1
    for putter in putters:
        putter.result(LONG)
    assert seen == {1: 40, 2: 40, "single": 60}
    assert q.empty()


def test_a_batch_gets_through_a_queue_that_single_puts_keep_full(make_queue: MakeQueue) -> None:
    q = make_queue(capacity=4)
    over = threading.Event()

    def keep_putting() -> int:
        count = 0
        while not over.is_set():
            with suppress(Full):
                q.put("single", timeout=0.05)
                count += 1
        return count

    def keep_getting() -> list[Any]:
        found: list[Any] = []
        while not over.is_set() or not q.empty():
            with suppress(Empty):
                found.append(q.get(timeout=0.05))
        return found

    putters = [in_thread(keep_putting) for _ in range(3)]
    eventually(q.full)
    got = in_thread(keep_getting)
    try:
        for number in range(3):
            q.put_batch([(number, index) for index in range(4)], timeout=LONG)
    finally:
        over.set()
    singles = sum(putter.result(LONG) for putter in putters)
    found = got.result(LONG) + drained(q)
    batches = [(number, index) for number in range(3) for index in range(4)]
    assert [item for item in found if item != "single"] == batches
    for number in range(3):
        first = found.index((number, 0))
        assert found[first : first + 4] == [(number, index) for index in range(4)]
    assert len(found) == singles + 12
    q.put_nowait("the gate is open again")


# ---- get_batch ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("there", [1, 2, 3])
@pytest.mark.parametrize("limit", [1, 2, 3, 4, 1 << 70])
def test_get_batch_takes_what_is_there_up_to_its_limit(make: MakeQueue, there: int, limit: int) -> None:
    q = make(capacity=3)
    q.put_batch([None, None])
    assert q.get_batch(2) == [None, None]  # so that what follows wraps
    for item in range(there):
        q.put(item)
    got = q.get_batch(limit)
    assert type(got) is list
    assert got == list(range(min(there, limit)))
    assert drained(q) == list(range(min(there, limit), there))


def test_get_batch_waits_for_one_item_and_not_for_more(make: MakeQueue) -> None:
    q = make(capacity=3)
    got = in_thread(q.get_batch, 3)
    eventually(sleeps(q, "get"))
    q.put("only one")
    assert got.result(LONG) == ["only one"]


@pytest.mark.parametrize("wrong", [0, -1, True, 1.0, "1", None])
def test_get_batch_refuses_limits_that_are_none(make: MakeQueue, wrong: Any) -> None:
    q = make()
    q.put(1)
    with pytest.raises(ArgumentError, match="max_items must be a whole number of at least 1"):
        q.get_batch(wrong)
    assert q.qsize() == 1


@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_item_that_cannot_be_read_ends_a_batch_and_loses_no_other(make: MakeQueue, place: int) -> None:
    q = make(capacity=4)
    items: list[Any] = ["a", "b", "c"]
    items.insert(place, Poison())
    q.put_batch(items)
    if place:
        assert q.get_batch(4) == items[:place]
        assert q.qsize() == 4 - place
        assert not q.empty()
    with pytest.raises(DeserializationError) as caught:
        q.get_batch(4)
    assert isinstance(caught.value.__cause__, LookupError)
    assert drained(q) == items[place + 1 :]


@pytest.mark.parametrize("place", [0, 1])
def test_an_interrupt_while_the_rest_of_a_batch_is_kept_back_is_raised_and_loses_no_item(
    make: MakeQueue, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    """The handle notes that it keeps items back, in Python; a signal may come just then."""
    interrupts = [KeyboardInterrupt()]

    def note() -> None:
        if interrupts:
            raise interrupts.pop()

    monkeypatch.setattr("shared_multiprocess_queue.queue._retire_at_exit", note)
    q = make(capacity=4)
    items: list[Any] = ["a", "b"]
    items.insert(place, Poison())
    q.put_batch(items)
    try:
        raise LookupError("which the caller is handling")
    except LookupError:
        with pytest.raises(KeyboardInterrupt) as caught:
            q.get_batch(4)
    if place == 0:
        assert isinstance(caught.value.__context__, DeserializationError)
    else:
        assert q.get_batch(4) == items[:place]
    with pytest.raises(DeserializationError):
        q.get_batch(4)
    assert drained(q) == items[place + 1 :]


def test_what_a_batch_left_unread_goes_back_into_the_queue_when_its_handle_is_closed(
    make: MakeQueue, run_id: str
) -> None:
    with make(capacity=4) as producer:
        producer.put_batch([1, Poison(), 3])
    with SharedMemoryQueue("q", run_id=run_id) as reader:
        assert reader.get_batch(4) == [1]
    with SharedMemoryQueue("q", run_id=run_id) as q:
        with pytest.raises(DeserializationError):
            q.get_nowait()
        assert drained(q) == [3]


@pytest.mark.parametrize("why", ["full", "spsc"])
def test_what_a_batch_left_unread_and_cannot_go_back_is_lost_with_a_warning_that_says_why(
    make_queue: MakeQueue, why: str
) -> None:
    """A consumer of mode "spsc" cannot put while there is a producer, and a full queue takes nothing."""
    q = make_queue(capacity=3, mode="spsc" if why == "spsc" else "mpmc")
    reader = SharedMemoryQueue("q", run_id=q.run_id)
    q.put_batch([1, Poison(), 3])
    assert reader.get_batch(4) == [1]
    if why == "full":
        q.put_batch([4, 5, 6])
    with pytest.warns(ResourceWarning, match=rf"2 items .* lost .*{why}"):
        reader.close()
    assert reader.closed
    assert drained(q) == ([4, 5, 6] if why == "full" else [])


# ---- sizes of items and what cannot be sent -------------------------------------------------------------------------


@pytest.mark.parametrize("item_size", [1, 47, 48, 49, 64, 1000])
def test_an_item_of_item_size_bytes_fits_and_one_more_byte_does_not(make: MakeQueue, item_size: int) -> None:
    q = make(capacity=2, item_size=item_size)
    full_size = [os.urandom(item_size), "x" * item_size]
    for item in full_size:
        q.put(item)
        assert q.get() == item
    q.put_batch(full_size)
    # Of text that is random, deflating leaves more than two thirds.
    text = "".join(map(chr, random.Random(item_size).choices(range(0x80, 0x800), k=item_size + 1)))
    for item, size in ((b"x" * (item_size + 1), item_size + 1), (text, 2 * item_size + 2)):
        with pytest.raises(ItemTooLargeError) as caught:
            q.put(item)
        error = caught.value
        assert (error.size, error.limit) == (size, item_size)
        assert isinstance(error, ValueError)
        assert f"{size:,}" in str(error)
        assert f"{item_size:,}" in str(error)
        assert f"item_size={size}" in str(error), "what to do"
    assert drained(q) == full_size, "neighbours were not touched"


def test_the_size_that_the_error_names_is_enough(make: MakeQueue) -> None:
    item = {"key": list(range(200))}
    with pytest.raises(ItemTooLargeError) as caught:
        make("small", item_size=10).put(item)
    enough = make("enough", item_size=caught.value.size)
    enough.put(item)
    assert enough.get() == item


@pytest.mark.parametrize("item", [Unwilling(), threading.Lock(), (number for number in range(3)), [1, Unwilling()]])
def test_an_item_that_cannot_be_serialised_is_refused_with_the_reason(make: MakeQueue, item: object) -> None:
    q = make()
    with pytest.raises(SerializationError) as caught:
        q.put(item)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value.__cause__, Exception)
    assert str(caught.value.__cause__) in str(caught.value)
    assert q.empty()
    q.put("goes on")
    assert q.get() == "goes on"


def test_an_item_that_cannot_be_read_is_taken_and_its_bytes_are_in_the_error(make: MakeQueue) -> None:
    q = make()
    q.put(Poison())
    q.put("next")
    with pytest.raises(DeserializationError) as caught:
        q.get()
    error = caught.value
    assert isinstance(error, ValueError)
    assert isinstance(error.__cause__, LookupError)
    with pytest.raises(LookupError, match="no way back"):
        pickle.loads(error.raw)
    assert "no way back" in str(error)
    assert q.get() == "next"


def test_errors_can_be_sent_through_a_queue_with_what_they_carry(make: MakeQueue) -> None:
    """A worker that reports its error does so."""
    q = make(item_size=1000)
    for error in (ItemTooLargeError(5, 4), RoleTakenError("producer", 7), DeserializationError("why", b"raw")):
        q.put(error)
        copy = q.get()
        assert type(copy) is type(error)
        assert vars(copy) == vars(error)
        assert str(copy) == str(error)


# ---- signals --------------------------------------------------------------------------------------------------------


class Number(NamedTuple):
    """Whose serialising and rebuilding run Python: there a signal is served in the midst of an operation in C, too."""

    value: int

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuilt, (self.value,)


def rebuilt(value: int) -> Number:
    return Number(value)


def in_operation(frame: FrameType | None) -> bool:
    if frame is None:
        return False
    code = frame.f_code
    if code.co_name == "__del__":  # what is raised there Python swallows
        return False
    return code.co_filename.startswith(PACKAGE) or code in (Number.__reduce__.__code__, rebuilt.__code__)


def test_a_signal_handler_may_put_while_a_put_is_under_way(make: MakeQueue) -> None:
    q = make(capacity=100_000, item_size=100)
    inside = sent = 0

    def put_in_between(frame: FrameType | None) -> None:
        nonlocal inside, sent
        inside += in_operation(frame)
        sent += 1
        q.put_nowait(Number(-sent))

    count = 0
    give_up = time.monotonic() + LONG
    with alarms(put_in_between, 0.0005):
        while inside < 30:
            q.put_nowait(Number(count))
            count += 1
            assert time.monotonic() < give_up, "the signals never hit a put"
    got = [item.value for item in drained(q)]
    assert [number for number in got if number >= 0] == list(range(count))
    assert sorted(number for number in got if number < 0) == list(range(-sent, 0))


def test_a_signal_handler_may_get_while_a_get_is_under_way(make: MakeQueue) -> None:
    q = make(capacity=1000, item_size=100)
    inside = put = 0
    got: list[Number] = []

    def get_in_between(frame: FrameType | None) -> None:
        nonlocal inside
        inside += in_operation(frame)
        with suppress(Empty):
            got.append(q.get_nowait())

    give_up = time.monotonic() + LONG
    while inside < 30:
        for _ in range(1000 - q.qsize()):
            q.put_nowait(Number(put))
            put += 1
        with alarms(get_in_between, 0.0005), suppress(Empty):
            while True:
                got.append(q.get_nowait())
        assert time.monotonic() < give_up, "the signals never hit a get"
    got += drained(q)
    assert sorted(item.value for item in got) == list(range(put))


def test_a_signal_handler_may_use_the_queue_while_a_get_is_blocked(make: MakeQueue) -> None:
    q = make()

    def put(frame: FrameType | None) -> None:
        with suppress(Full):
            q.put_nowait("from the handler")

    with alarms(put, 0.02):
        assert q.get() == "from the handler"


BLOCKED_CHILD = """
import sys
from shared_multiprocess_queue import SharedMemoryQueue
with SharedMemoryQueue(sys.argv[1], run_id=sys.argv[2]) as q:
    while True:
        try:
            print("waiting", flush=True)
            item = q.get() if sys.argv[3] == "get" else q.get_batch(5)[0]
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        else:
            print("got", item, flush=True)
            if item == "end":
                break
"""


@pytest.mark.parametrize("what", ["get", "get_batch"])
def test_ctrl_c_ends_a_blocked_get_and_takes_no_item_with_it(make_queue: MakeQueue, what: str) -> None:
    q = make_queue(capacity=10)
    child = subprocess.Popen(
        [sys.executable, "-c", BLOCKED_CHILD, "q", q.run_id, what],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    try:
        for number in range(5):
            assert child.stdout.readline() == "waiting\n"
            before = q.get_metrics()["get_waits"]
            eventually(sleeps(q, "get", before))  # so it is not on its way to the get any more
            child.send_signal(signal.SIGINT)
            assert child.stdout.readline() == "interrupted\n"
            assert child.stdout.readline() == "waiting\n"
            q.put(number)
            assert child.stdout.readline() == f"got {number}\n"
        assert child.stdout.readline() == "waiting\n"
        q.put("end")
        assert child.stdout.readline() == "got end\n"
        assert child.communicate(timeout=LONG) == ("", "")
        assert child.returncode == 0
    finally:
        child.kill()
        child.communicate()


def test_a_storm_of_interrupts_loses_and_doubles_nothing(make: MakeQueue) -> None:
    q = make(capacity=8)
    armed = False
    interrupts = 0

    def interrupt(frame: FrameType | None) -> None:
        nonlocal armed, interrupts
        if armed and in_operation(frame):
            armed = False
            interrupts += 1
            raise KeyboardInterrupt

    over = threading.Event()

    def produce() -> int:
        count = 0
        while not over.is_set():
            with suppress(Full):
                q.put(Number(count), timeout=0.05)
                count += 1
        return count

    put = in_thread(produce)
    got: list[Number] = []
    give_up = time.monotonic() + LONG
    with alarms(interrupt, 0.003):
        while interrupts < 60:
            assert time.monotonic() < give_up, f"only {interrupts} interrupts"
            try:
                armed = True
                got.append(q.get())  # no bytecode at which a signal is served between get's return and append's
                armed = False
            except KeyboardInterrupt:
                pass
    armed = False
    over.set()
    while not put.done() or not q.empty():
        got += drained(q)
    assert Counter(item.value for item in got) == Counter(range(put.result(LONG)))


# ---- the end of a handle --------------------------------------------------------------------------------------------

BLOCKED: dict[str, Callable[[SharedMemoryQueue], object]] = {
    "get": lambda q: q.get(),
    "get with timeout": lambda q: q.get(timeout=LONG),
    "get_batch": lambda q: q.get_batch(3),
    "put": lambda q: q.put(1),
    "put_batch": lambda q: q.put_batch([1, 2]),
}


@pytest.mark.usefixtures("only_wakes")
@pytest.mark.parametrize("call", BLOCKED)
def test_closing_a_handle_ends_what_its_threads_wait_for(make: MakeQueue, run_id: str, call: str) -> None:
    q = make(capacity=2)
    if call.startswith("put"):
        q.put_batch([1, 2])
        q.close()
    handle = SharedMemoryQueue("q", run_id=run_id)
    side = call[:3]
    before = handle.get_metrics()[f"{side}_waits"]
    blocked = in_thread(BLOCKED[call], handle)
    eventually(sleeps(handle, side, before))
    handle.close()
    with pytest.raises(QueueClosedError, match="is closed"):
        blocked.result(LONG)
    with SharedMemoryQueue("q", run_id=run_id) as again:
        assert drained(again) == ([1, 2] if side == "put" else [])
        again.put("goes on")
        assert again.get() == "goes on"


USES: dict[str, Callable[[SharedMemoryQueue], object]] = {
    "put": lambda q: q.put(1),
    "put_nowait": lambda q: q.put_nowait(1),
    "put_batch": lambda q: q.put_batch([1]),
    "put_batch of nothing": lambda q: q.put_batch([]),
    "get": lambda q: q.get(),
    "get with timeout": lambda q: q.get(timeout=0),
    "get_nowait": lambda q: q.get_nowait(),
    "get_batch": lambda q: q.get_batch(1),
    "qsize": lambda q: q.qsize(),
    "empty": lambda q: q.empty(),
    "full": lambda q: q.full(),
    "get_metrics": lambda q: q.get_metrics(),
    "pickle": pickle.dumps,
}


@pytest.mark.parametrize("use", USES)
def test_a_closed_handle_says_so(make_queue: MakeQueue, use: str) -> None:
    q = make_queue()
    q.put(1)
    assert not q.closed
    q.close()
    assert q.closed
    with pytest.raises(QueueClosedError, match="is closed") as caught:
        USES[use](q)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, OSError)
    assert isinstance(caught.value, SharedMemoryQueueError)


def test_what_a_handle_is_can_be_asked_after_its_end(make: MakeQueue, run_id: str, mode: str, engines: str) -> None:
    q = make("named", capacity=7, item_size=33)
    before = (q.name, q.run_id, q.capacity, q.item_size, q.mode, q.engine)
    assert before == ("named", run_id, 7, 33, mode, engines.partition("+")[0])
    assert "named" in repr(q)
    assert "0/7" in repr(q)
    q.close()
    assert (q.name, q.run_id, q.capacity, q.item_size, q.mode, q.engine) == before
    assert "closed" in repr(q)


def test_close_may_be_called_again_and_by_several_at_once(make: MakeQueue, run_id: str) -> None:
    make()
    for _ in range(30):
        q = SharedMemoryQueue("q", run_id=run_id)
        q.qsize()
        start = threading.Barrier(3)

        def close(handle: SharedMemoryQueue = q, start: threading.Barrier = start) -> None:
            start.wait(LONG)
            handle.close()

        for future in [in_thread(close) for _ in range(3)]:
            future.result(LONG)
        q.close()
        assert q.closed


def test_leaving_a_with_block_closes_the_handle_and_keeps_the_queue(make: MakeQueue, run_id: str) -> None:
    make()
    with SharedMemoryQueue("q", run_id=run_id) as q:
        q.put("stays")
    assert q.closed
    with pytest.raises(LookupError), SharedMemoryQueue("q", run_id=run_id) as q:
        raise LookupError
    assert q.closed
    with SharedMemoryQueue("q", run_id=run_id) as q:
        assert q.get() == "stays"


class Closing:
    """An item that closes a queue while it is being serialised."""

    def __init__(self, q: SharedMemoryQueue) -> None:
        self.q = q

    def __reduce__(self) -> tuple[Any, ...]:
        self.q.close()
        return int, ()


@pytest.mark.parametrize("more", [[], [{}], [lambda: None], [b""]])
def test_an_item_that_closes_the_queue_while_it_is_put_is_not_put(
    make: MakeQueue, run_id: str, more: list[Any]
) -> None:
    """A released handle had no codec any more, and the next item of the batch was a crash."""
    for put in (lambda q: q.put(Closing(q)), lambda q: q.put_batch([Closing(q), *more])):
        q = make()
        with pytest.raises(QueueClosedError):
            put(q)
        with SharedMemoryQueue("q", run_id=run_id) as again:
            assert again.empty()
        q.unlink()


def test_a_handle_that_is_dropped_closes_quietly_and_leaves_no_participant(make: MakeQueue, run_id: str) -> None:
    q = make()
    descriptors = len(os.listdir("/proc/self/fd"))
    before = q.get_metrics()["participants"]
    for _ in range(3):
        dropped = SharedMemoryQueue("q", run_id=run_id)
        dropped.put(1)
        del dropped  # warnings and what __del__ raises are errors here
    assert q.get_metrics()["participants"] == before
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert q.qsize() == 3


def test_a_handle_whose_making_failed_is_dropped_quietly(run_id: str) -> None:
    for arguments in ({"name": "none"}, {"name": ""}, {"name": "q", "create": True, "capacity": 0}):
        with pytest.raises(SharedMemoryQueueError):
            SharedMemoryQueue(run_id=run_id, **arguments)  # type: ignore[arg-type]


class ClosedAtTheLastMoment:
    """Closes a handle, from another thread, just after a blocked operation has done what it waited for.

    Up to its sleep the operation is told that there is nothing to do.
    """

    def __init__(self, handle: SharedMemoryQueue, attempt: str) -> None:
        self.closing: list[Future[None]] = []
        engine = handle._engine
        arm, real_attempt = engine.membership.parking.arm, getattr(engine.membership.ring, attempt)
        asleep = False

        def attempt_when_asleep(*arguments: Any) -> int:
            if not asleep:
                return NOTHING
            found: int = real_attempt(*arguments)
            if found == DONE and not self.closing:
                self.closing.append(in_thread(handle.close))
                eventually(lambda: engine.membership.records.state.name != "OPEN")
            return found

        def arm_and_sleep(*arguments: Any) -> int:
            nonlocal asleep
            asleep = True
            return arm(*arguments)

        setattr(engine.membership.ring, attempt, attempt_when_asleep)
        engine.membership.parking.arm = arm_and_sleep  # type: ignore[method-assign]


@pytest.mark.atomics_only("takes over a step of the engine, which the native one does inside of C")
@pytest.mark.filterwarnings("ignore:.*were lost:ResourceWarning")  # whether something was lost is seen here
def test_an_item_got_while_the_handle_is_being_closed_is_not_lost(make: MakeQueue, run_id: str) -> None:
    """The get had taken it already; it is handed out, or it is in the queue again."""
    q = make()
    q.put("item")
    handle = SharedMemoryQueue("q", run_id=run_id)
    closed = ClosedAtTheLastMoment(handle, "try_get")
    found: list[Any] = []
    with suppress(QueueClosedError):
        found.append(handle.get())
    closed.closing[0].result(LONG)
    assert found + drained(q) == ["item"]


@pytest.mark.atomics_only("takes over a step of the engine, which the native one does inside of C")
@pytest.mark.parametrize("use", ["put", "put_batch"])
def test_a_put_that_ends_with_the_closed_error_has_not_put(make: MakeQueue, run_id: str, use: str) -> None:
    """Or whoever puts the item again, through another handle, doubles it."""
    q = make()
    handle = SharedMemoryQueue("q", run_id=run_id)
    closed = ClosedAtTheLastMoment(handle, "try_put")
    was_put = True
    try:
        handle.put("item") if use == "put" else handle.put_batch(["item"])
    except QueueClosedError:
        was_put = False
    closed.closing[0].result(LONG)
    assert drained(q) == ["item"] * was_put


def test_a_handle_closed_in_a_signal_handler_is_released_when_it_is_next_used(make: MakeQueue, run_id: str) -> None:
    """Its close waits in vain for the operation that it has interrupted."""
    q = make()
    before = q.get_metrics()["participants"]
    handle = SharedMemoryQueue("q", run_id=run_id)
    with handle._membership.operation():  # an operation, and in it a signal
        handle._close(wait=False)
    assert handle._membership.state.name != "CLOSED"
    with pytest.raises(QueueClosedError):
        handle.put(1)
    assert handle._membership.state.name == "CLOSED"
    assert q.get_metrics()["participants"] == before


def test_closing_in_a_signal_handler_ends_the_get_that_it_interrupts(make: MakeQueue, run_id: str) -> None:
    make()
    handle = SharedMemoryQueue("q", run_id=run_id)

    def close(frame: FrameType | None) -> None:
        handle.close()

    with alarms(close, 0.05), pytest.raises(QueueClosedError):
        handle.get()
    with SharedMemoryQueue("q", run_id=run_id) as again:
        again.put(1)
        assert again.get() == 1


# ---- looking --------------------------------------------------------------------------------------------------------


def test_sizes_follow_every_put_and_get(make: MakeQueue) -> None:
    q = make(capacity=2)
    assert (q.qsize(), q.empty(), q.full()) == (0, True, False)
    q.put(1)
    assert (q.qsize(), q.empty(), q.full()) == (1, False, False)
    q.put(2)
    assert (q.qsize(), q.empty(), q.full()) == (2, False, True)
    q.get()
    assert (q.qsize(), q.empty(), q.full()) == (1, False, False)


def test_metrics_say_what_was_put_and_got_and_who_is_there(make: MakeQueue, mode: str) -> None:
    q = make(capacity=3, item_size=77)
    q.put_batch([1, 2, 3])
    q.get()
    with pytest.raises(Full):
        q.put_batch([4, 5], timeout=0)
    q.put(6)
    with pytest.raises(Full):
        q.put(7, timeout=0.01)
    q.get()
    metrics = q.get_metrics()
    assert metrics["queue_size"] == 2
    assert metrics["queue_capacity"] == 3
    assert metrics["queue_item_size_bytes"] == 77
    assert metrics["queue_utilization_percent"] == pytest.approx(200 / 3)
    assert f"{metrics['queue_utilization_percent']:.1f}" == "66.7"
    assert metrics["put_total"] == 4
    assert metrics["got_total"] == 2
    assert metrics["full_events"] == 2
    assert metrics["empty_events"] == 0
    assert metrics["put_waits"] >= 1
    assert metrics["get_waits"] == 0
    assert metrics["orphans_recovered"] == metrics["dead_puts"] == 0
    assert list(metrics["participants"]) == [os.getpid()]
    assert metrics["blocked_by"] == []
    assert metrics["unlinked"] is False
    assert (metrics["mode"], metrics["engine"]) == (mode, q.engine)
    drained(q)
    assert q.get_metrics()["empty_events"] == 1
    assert json.loads(json.dumps(metrics))["put_total"] == 4, "plain numbers and texts"


def test_empty_and_full_are_those_of_queue_wherever_one_looks(make_queue: MakeQueue) -> None:
    q = make_queue(capacity=1)
    assert shared_multiprocess_queue.Empty is SharedMemoryQueue.Empty is q.Empty is queue.Empty
    assert shared_multiprocess_queue.Full is SharedMemoryQueue.Full is q.Full is queue.Full
    with pytest.raises(q.Empty) as empty:
        q.get(timeout=0)
    q.put(1)
    with pytest.raises(q.Full) as full:
        q.put(1, timeout=0)
    assert (empty.type, full.type) == (queue.Empty, queue.Full), "not some subclass"


def test_a_lock_is_accepted_and_ignored(run_id: str) -> None:
    lock = threading.Lock()
    with SharedMemoryQueue("locked", True, 3, 100, run_id, lock) as q:
        with lock:
            q.put_batch([1, 2])
            assert q.get() == 1
        with SharedMemoryQueue("locked", run_id=run_id, lock=object()) as again:
            assert again.get() == 2
        q.unlink()


def test_who_attaches_takes_the_sizes_and_the_mode_from_the_queue(make: MakeQueue, run_id: str, mode: str) -> None:
    make(capacity=5, item_size=99)
    with SharedMemoryQueue("q", run_id=run_id) as q:
        assert (q.capacity, q.item_size, q.mode) == (5, 99, mode)


def test_the_engine_that_is_asked_for_is_used_or_refused(
    make_queue: MakeQueue, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert make_queue(engine="atomics").engine == "atomics"
    with pytest.raises(ArgumentError, match="'atomics' or 'native'"):
        SharedMemoryQueue("q", run_id=run_id, engine="quantum")
    monkeypatch.setenv("SHMQ_ENGINE", "atomics")
    with SharedMemoryQueue("q", run_id=run_id) as q:
        assert q.engine == "atomics"
    monkeypatch.setenv("SHMQ_ENGINE", "quantum")
    with pytest.raises(ArgumentError, match="SHMQ_ENGINE"):
        SharedMemoryQueue("q", run_id=run_id)
    with SharedMemoryQueue("q", run_id=run_id, engine="atomics") as q:
        assert q.engine == "atomics"


# ---- mode spsc ------------------------------------------------------------------------------------------------------

OTHER_PROCESS = """
import sys
from shared_multiprocess_queue import RoleTakenError, SharedMemoryQueue
q = SharedMemoryQueue(sys.argv[1], run_id=sys.argv[2])
for command in sys.stdin:
    try:
        answer = repr(eval(command))
    except RoleTakenError as error:
        answer = f"taken by {error.pid}"
    print(answer, flush=True)
"""


@contextmanager
def other_process(q: SharedMemoryQueue) -> Iterator[tuple[int, Callable[[str], str]]]:
    """Give the pid of a process that uses the same queue as ``q``, and a function that has it evaluate something."""
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER_PROCESS, q.name, q.run_id],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def evaluate(command: str) -> str:
        assert process.stdin is not None
        assert process.stdout is not None
        print(command, file=process.stdin, flush=True)
        return process.stdout.readline().strip()

    try:
        yield process.pid, evaluate
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("use", "role"), [("q.put(1)", "producer"), ("q.put_batch([1])", "producer"), ("q.get(False)", "consumer")]
)
def test_a_second_producer_or_consumer_is_refused_and_told_who_the_first_is(
    make_queue: MakeQueue, use: str, role: str
) -> None:
    q = make_queue(mode="spsc")
    q.put(0)
    q.get()
    with other_process(q) as (_, evaluate):
        assert evaluate(use) == f"taken by {os.getpid()}"
        assert evaluate("q.qsize(), q.empty(), q.full()") == "(0, True, False)", "looking is free"
    with SharedMemoryQueue("q", run_id=q.run_id) as second, pytest.raises(RoleTakenError) as caught:
        eval(use, {"q": second})
    assert caught.value.pid == os.getpid()
    assert isinstance(caught.value, RuntimeError)
    assert isinstance(caught.value, SharedMemoryQueueError)
    assert role in str(caught.value)
    assert str(os.getpid()) in str(caught.value)
    assert q.empty()


def test_one_process_may_be_the_producer_and_another_the_consumer(make_queue: MakeQueue) -> None:
    q = make_queue(mode="spsc")
    with other_process(q) as (pid, evaluate):
        for number in range(10):
            q.put(number)
            assert evaluate("q.get()") == str(number)
        with pytest.raises(RoleTakenError) as caught:
            q.get_nowait()
        assert caught.value.pid == pid


def test_roles_pass_on_when_their_owner_closes_its_handle(make_queue: MakeQueue) -> None:
    q = make_queue(mode="spsc", capacity=2)
    with other_process(q) as (_, evaluate):
        assert evaluate("(q.put(1), q.put(2), q.get())") == "(None, None, 1)"
        assert outcome(lambda: q.put_nowait(3)) is outcome(q.get_nowait) is RoleTakenError
        assert evaluate("q.close()") == "None"
        q.put_nowait(3)
        assert drained(q) == [2, 3]


def test_roles_pass_on_when_their_owner_dies(make_queue: MakeQueue) -> None:
    q = make_queue(mode="spsc", capacity=2)
    for _ in range(3):
        with other_process(q) as (pid, evaluate):
            assert evaluate("(q.put(1), q.put(2), q.get())") == "(None, None, 1)"
            assert outcome(q.get_nowait) is RoleTakenError
            os.kill(pid, signal.SIGKILL)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # dead, and still a zombie
            q.put_nowait(3)
            assert drained(q) == [2, 3]
        q.close()
        q = SharedMemoryQueue("q", run_id=q.run_id)
    q.close()


def test_a_blocked_consumer_keeps_its_role(make_queue: MakeQueue) -> None:
    q = make_queue(mode="spsc")
    got = in_thread(q.get)
    eventually(sleeps(q, "get"))
    with SharedMemoryQueue("q", run_id=q.run_id) as second:
        with pytest.raises(RoleTakenError):
            second.get_nowait()
        second.put("for the first")
    assert got.result(LONG) == "for the first"
