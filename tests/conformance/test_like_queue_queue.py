"""The same calls on our queue and on queue.Queue have the same outcome."""

from __future__ import annotations

import pickle
import queue
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

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

from shared_multiprocess_queue import DeserializationError, ItemTooLargeError, SerializationError, SharedMemoryQueue
from tests.support.items import Poison, Unwilling
from tests.support.lanes import examples
from tests.support.outcomes import outcome
from tests.support.queues import MakeQueue, drained

pytestmark = [
    pytest.mark.usefixtures("engines"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


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


# ---- the same as queue.Queue, whatever is done to both --------------------------------------------------------------


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
        return SharedMemoryQueue("compared", create=True, capacity=capacity, item_size=300, run_id=run_id, mode=mode)  # type: ignore[arg-type]

    run_state_machine_as_test(
        lambda: Comparison(create),  # type: ignore[arg-type]
        settings=settings(
            max_examples=examples(40),
            stateful_step_count=40,
            deadline=None,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
