"""What is left when a process is killed before each single atomic step of each operation."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import pytest

from shared_multiprocess_queue import Empty, SharedMemoryQueue
from shared_multiprocess_queue._engine.atomics import AtomicsEngine
from shared_multiprocess_queue._platform import clock
from shared_multiprocess_queue._ring import layout
from tests.support import mortal
from tests.support.mortal import Operation
from tests.support.queues import MakeQueue, assert_works
from tests.support.texts import drained_texts, fill, payload

pytestmark = [
    pytest.mark.costly,
    pytest.mark.usefixtures("each_engine"),
    pytest.mark.skipif(sys.platform == "win32", reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


def put(text: str) -> Operation:
    return lambda engine: engine.put(payload(text), 0)


def put_batch(*texts: str) -> Operation:
    return lambda engine: engine.put_batch([payload(text) for text in texts], 0)


def get(limit: int = 1) -> Operation:
    def run(engine: AtomicsEngine) -> object:
        try:
            return engine.get(limit, 0, list)
        except Empty:
            return None

    return run


@contextmanager
def roles_given_back(queue: SharedMemoryQueue) -> Iterator[None]:
    """Work on a queue, and let a child have the roles of mode spsc afterwards."""
    yield
    queue._membership.retire()


def steps_of(queue: SharedMemoryQueue, operation: Operation) -> Iterator[int]:
    """Kill a child before step 0, 1, 2, ... of the operation, until it completes; yield after each death."""
    for steps in itertools.count():
        if not mortal.dies(queue.name, queue.run_id, operation, steps):
            assert steps > 5, "the operation has hardly any steps: nothing was tested"
            return
        yield steps


SIZES = [(capacity, filled) for capacity in (2, 1, 3) for filled in (1, 0, 2, 3) if filled <= capacity]


@pytest.mark.parametrize(("capacity", "filled"), SIZES)
def test_a_put_that_dies_loses_nothing_and_blocks_nobody(
    make_queue: MakeQueue, mode: str, capacity: int, filled: int
) -> None:
    if filled == capacity:
        pytest.skip("a full queue takes no put; see the test of a put that finds no room")
    queue = make_queue(capacity=capacity, mode=mode)
    with roles_given_back(queue):
        before = fill(queue, filled)
    for _ in steps_of(queue, put("victim")):
        found = drained_texts(queue)
        assert found in (before, [*before, "victim"])
        assert_works(queue)
        with roles_given_back(queue):
            fill(queue, filled)
    assert drained_texts(queue) == [*before, "victim"]
    assert_works(queue)


@pytest.mark.parametrize("capacity", [2, 1, 3])
def test_the_room_of_a_put_that_died_is_found_by_the_next_puts(make_queue: MakeQueue, capacity: int) -> None:
    """They find it even if there is no get."""
    queue = make_queue(capacity=capacity)
    for _ in steps_of(queue, put("victim")):
        rest = [f"rest{i}" for i in range(capacity)]
        done = []
        for text in rest:
            try:
                queue.put_nowait(text.encode())
            except SharedMemoryQueue.Full:
                break
            done.append(text)
        found = drained_texts(queue)
        assert found in (rest, ["victim", *rest[:-1]])
        assert done == [text for text in found if text != "victim"]
        assert_works(queue)
    drained_texts(queue)


@pytest.mark.parametrize(("capacity", "filled"), [size for size in SIZES if size[1]])
@pytest.mark.parametrize("limit", [1, 2, 3])
def test_a_get_that_dies_blocks_nobody_and_loses_at_most_what_it_had_freed(
    make_queue: MakeQueue, mode: str, capacity: int, filled: int, limit: int
) -> None:
    queue = make_queue(capacity=capacity, mode=mode)
    with roles_given_back(queue):
        before = fill(queue, filled)
    taken = min(limit, filled)
    for _ in steps_of(queue, get(limit)):
        found = drained_texts(queue)
        # Items that the dead get had freed are gone. The rest of its claim comes once, perhaps after younger items.
        gone = len(before) - len(found)
        assert 0 <= gone <= taken
        assert sorted(found) == before[gone:]
        assert [text for text in found if text in before[taken:]] == before[taken:]
        assert_works(queue)
        with roles_given_back(queue):
            fill(queue, filled)
    assert drained_texts(queue) == before[taken:]
    assert_works(queue)


@pytest.mark.parametrize(("capacity", "filled", "size"), [(3, 1, 2), (2, 0, 2), (3, 0, 2), (3, 0, 3)])
def test_a_batch_whose_producer_dies_is_whole_or_absent(
    make_queue: MakeQueue, mode: str, capacity: int, filled: int, size: int
) -> None:
    queue = make_queue(capacity=capacity, mode=mode)
    with roles_given_back(queue):
        before = fill(queue, filled)
    batch = [f"batch{i}" for i in range(size)]
    for _ in steps_of(queue, put_batch(*batch)):
        found = drained_texts(queue)
        assert found in (before, [*before, *batch])
        with roles_given_back(queue):  # the batch lock is inherited, too
            queue.put_batch([b"1"] * capacity, timeout=10)
            assert drained_texts(queue) == ["1"] * capacity
        assert_works(queue)
        with roles_given_back(queue):
            fill(queue, filled)
    assert drained_texts(queue) == [*before, *batch]


@pytest.mark.parametrize("capacity", [2, 1])
def test_a_put_that_finds_no_room_and_dies_changes_nothing(make_queue: MakeQueue, capacity: int) -> None:
    queue = make_queue(capacity=capacity)
    before = fill(queue, capacity)

    def refused(engine: AtomicsEngine) -> None:
        with pytest.raises(SharedMemoryQueue.Full):
            engine.put(payload("victim"), 0)

    for _ in steps_of(queue, refused):
        assert drained_texts(queue) == before
        assert_works(queue)
        fill(queue, capacity)


@pytest.mark.parametrize("capacity", [1, pytest.param(2, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (put("first"), get()),  # a getter dies while it buries the dead put
        pytest.param(put("first"), put("second"), marks=pytest.mark.slow),
        pytest.param(put_batch("first", "first2"), get(2), marks=pytest.mark.slow),
        pytest.param(put_batch("first", "first2"), put("second"), marks=pytest.mark.slow),
        pytest.param(put_batch("first", "first2"), put_batch("second", "second2"), marks=pytest.mark.long),
    ],
    ids=["put-get", "put-put", "batch-get", "batch-put", "batch-batch"],
)
def test_whoever_dies_while_recovering_from_a_death_leaves_it_to_the_next(
    make_queue: MakeQueue, capacity: int, first: Operation, second: Operation, request: pytest.FixtureRequest
) -> None:
    if capacity == 1 and "batch" in request.node.callspec.id:
        capacity = 3
    queue = make_queue(capacity=capacity)
    dies = partial(mortal.dies, queue.name, queue.run_id, counts_loads=False)
    whole = (["first"], ["first", "first2"], ["second"], ["second", "second2"])
    for first_steps in itertools.count():
        if not dies(first, first_steps):
            drained_texts(queue)
            break
        drained_texts(queue)
        for second_steps in itertools.count():
            assert dies(first, first_steps)
            died = dies(guarded(second), second_steps)
            found = drained_texts(queue)
            for name in ("first", "second"):
                mine = [text for text in found if text.startswith(name)]
                if "get" not in request.node.callspec.id:
                    assert mine == [] or mine in whole
                assert len(mine) == len(set(mine))
            assert_works(queue)
            if not died:
                break


def guarded(operation: Operation) -> Operation:
    """The operation, which may find the queue full for the moment."""

    def run(engine: AtomicsEngine) -> None:
        with suppress(SharedMemoryQueue.Full):
            operation(engine)

    return run


@pytest.mark.parametrize(
    "capacity", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)]
)
def test_an_item_of_a_dead_getter_is_adopted_once_even_if_its_adopter_dies(
    make_queue: MakeQueue, capacity: int
) -> None:
    queue = make_queue(capacity=capacity)
    dies = partial(mortal.dies, queue.name, queue.run_id, counts_loads=False)
    for first_steps in itertools.count():
        fill(queue, 1)
        if not dies(get(), first_steps):
            break
        if queue.qsize():  # it had not claimed the item
            drained_texts(queue)
            continue
        for second_steps in itertools.count():
            drained_texts(queue)
            fill(queue, 1)
            assert dies(get(), first_steps)
            died = dies(get(), second_steps)
            found = drained_texts(queue)
            assert found in ([], ["before0"])
            assert_works(queue)
            if not died:
                assert found == []
                break


@pytest.mark.parametrize("capacity", [1, 2, 3])
def test_a_claimed_item_that_no_record_names_is_found_by_its_slot(make_queue: MakeQueue, capacity: int) -> None:
    """A getter knows from the word of a slot alone that the lap before was never freed."""
    queue = make_queue(capacity=capacity)
    before = fill(queue, capacity)
    with queue._membership.operation() as record:
        assert record.words.cas(layout.HEAD, 0, 1)  # a claim that no record announces
    found = drained_texts(queue)
    assert sorted(found) == before
    assert_works(queue)


def first_death(queue: SharedMemoryQueue, operation: Operation, leaves: Callable[[], bool]) -> int:
    """Return the first step whose death leaves the queue as described; it is so then."""
    return next(steps for steps in steps_of(queue, operation) if leaves())


def test_a_queue_that_holds_nothing_but_a_dead_put_is_empty(make_queue: MakeQueue) -> None:
    queue = make_queue(capacity=3)
    words = queue._membership.memory.words()
    first_death(queue, put("victim"), lambda: words.load(layout.TAIL) > 0)
    assert queue.empty()
    assert queue.qsize() == 0
    with pytest.raises(Empty):
        queue.get_nowait()


def test_a_queue_whose_only_slot_a_dead_put_holds_is_not_full(make_queue: MakeQueue) -> None:
    queue = make_queue(capacity=1)
    words = queue._membership.memory.words()
    first_death(queue, put("victim"), lambda: words.load(layout.TAIL) > 0)
    assert not queue.full()
    queue.put_nowait("there")


def test_a_queue_whose_last_item_a_dead_getter_holds_is_not_empty(make_queue: MakeQueue) -> None:
    queue = make_queue(capacity=2)
    queue.put(b"item")
    words = queue._membership.memory.words()
    first_death(queue, get(), lambda: words.load(layout.HEAD) > 0)
    assert not queue.empty()
    assert queue.get_nowait() == b"item"
    assert queue.empty()


def test_a_put_does_not_wait_for_a_getter_that_is_dead(make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a getter can adopt its item; until one comes, the queue is full at once."""
    queue = make_queue(capacity=1)
    queue.put(b"item")
    words = queue._membership.memory.words()
    first_death(queue, get(), lambda: words.load(layout.HEAD) > 0)
    monkeypatch.setattr(clock, "sleep", pytest.fail)
    assert queue.full()
    with pytest.raises(SharedMemoryQueue.Full):
        queue.put_nowait("late")


@pytest.mark.parametrize(
    ("filled", "victim"), [(0, put("victim")), (0, put_batch("victim0", "victim1")), (1, put("victim")), (2, get(2))]
)
def test_looking_changes_nothing_and_tells_what_a_get_finds(
    make_queue: MakeQueue, each_engine: str, filled: int, victim: Operation
) -> None:
    """Before a put or get that looks for the dead has made them absent, and after."""
    queue = make_queue(capacity=2, engine=each_engine)
    fill(queue, filled)
    for _ in steps_of(queue, victim):
        before = bytes(queue._membership.segment.buffer)
        is_empty, is_full, size = queue.empty(), queue.full(), queue.qsize()
        assert bytes(queue._membership.segment.buffer) == before
        try:
            queue.put_nowait(b"probe")
            has_room = True
        except SharedMemoryQueue.Full:
            has_room = False
        assert has_room != is_full
        found = drained_texts(queue)
        assert (found in ([], ["probe"])) == is_empty
        assert size == 0 or not is_empty
        assert_works(queue)
        fill(queue, filled)


def test_burying_a_dead_put_costs_no_look_at_all_the_slots_behind_it(make_queue: MakeQueue) -> None:
    queue = make_queue(capacity=10_000, item_size=8)
    words = queue._membership.memory.words()
    first_death(queue, put("victim"), lambda: words.load(layout.TAIL) > 0)
    queue.put_batch([b"behind"] * 9_000)
    looks = 0
    with queue._membership.operation() as record:
        load = record.words.load

        def counted(offset: int) -> int:
            nonlocal looks
            looks += 1
            return load(offset)

        record.words.load = counted
        assert queue._membership.ring.rescue_put(record.words, 0)
        record.words.load = load
    assert looks < 100
    assert queue.get_nowait() == b"behind"


@pytest.mark.parametrize("size", [2, 1, 3])
def test_a_dead_batch_among_others_is_buried_with_nobody_elses_items(make_queue: MakeQueue, size: int) -> None:
    queue = make_queue(capacity=6)
    batch = [f"batch{i}" for i in range(size)]
    for _ in steps_of(queue, put_batch(*batch)):
        queue.put(b"behind0")
        queue.put_batch([b"behind1", b"behind2"])
        behind = ["behind0", "behind1", "behind2"]
        assert drained_texts(queue) in (behind, [*batch, *behind])
        assert_works(queue)
    drained_texts(queue)
