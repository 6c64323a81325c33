"""Items that take several slots."""

from __future__ import annotations

import os
import pickle
import threading
import tracemalloc
from collections.abc import Iterator
from typing import Any, SupportsIndex

import numpy as np
import pytest

from shared_multiprocess_queue import (
    CorruptQueueError,
    Empty,
    Full,
    ItemTooLargeError,
    QueueMismatchError,
    SharedMemoryQueue,
)
from shared_multiprocess_queue._ring import layout
from shared_multiprocess_queue.errors import ArgumentError
from tests.support.queues import MakeQueue, assert_works, drained
from tests.support.waiting import LONG

SLOT = 64  # bytes of a slot here


@pytest.fixture(params=[0, 3], ids=["plain", "leases"])
def leases(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def taken(q: SharedMemoryQueue, most: int = 1) -> list[Any]:
    """Take items, and end their leases."""
    found = q.get_batch(most, block=False)
    for _ in found if q.leases else ():
        q.task_done()
    return found


@pytest.fixture
def pair(
    make_queue: MakeQueue, each_engine: str, mode: str, leases: int
) -> Iterator[tuple[SharedMemoryQueue, SharedMemoryQueue]]:
    """One queue of five slots, and a second handle of the other engine, if there are two."""
    q = make_queue(capacity=5, item_size=SLOT, max_item_size=5 * SLOT, mode=mode, leases=leases)
    other = SharedMemoryQueue(q.name, run_id=q.run_id, engine="atomics")
    yield q, other
    other.close()


def test_each_size_arrives_wherever_it_begins(pair: tuple[SharedMemoryQueue, SharedMemoryQueue]) -> None:
    q, other = pair
    sizes = [0, 1, SLOT - 1, SLOT, SLOT + 1, 2 * SLOT, 2 * SLOT + 1, 3 * SLOT + 7, 4 * SLOT, 5 * SLOT - 1, 5 * SLOT]
    for size in sizes * 3:  # the sums of slots move the first slot of each size round the ring
        item = os.urandom(size)
        q.put_nowait(item)
        assert q.qsize() == 1
        assert taken(other) == [item]
        assert q.empty()


def test_a_batch_of_mixed_sizes_comes_in_order(pair: tuple[SharedMemoryQueue, SharedMemoryQueue]) -> None:
    q, other = pair
    for _ in range(7):
        batch = [os.urandom(size) for size in (SLOT + 1, 3, 2 * SLOT)]
        q.put_batch(batch, block=False)
        assert q.full()
        with pytest.raises(Full):
            q.put_nowait(b"")
        assert taken(other, 2) == batch[:2]
        assert taken(other, 2) == batch[2:]


def test_a_get_batch_takes_whole_items(pair: tuple[SharedMemoryQueue, SharedMemoryQueue]) -> None:
    q, other = pair
    for _ in range(4):
        items = [os.urandom(2 * SLOT), b"small", os.urandom(2 * SLOT)]
        for item in items:
            q.put_nowait(item)
        found: list[bytes] = []
        while len(found) < 3:
            found += taken(other, 5)
        assert found == items
        with pytest.raises(Empty):
            other.get_nowait()


def test_a_put_waits_for_all_its_slots(make_queue: MakeQueue, each_engine: str) -> None:
    q = make_queue(capacity=3, item_size=SLOT, max_item_size=3 * SLOT)
    q.put_batch([b"0", b"1"])
    large = os.urandom(3 * SLOT)
    with pytest.raises(Full):
        q.put_nowait(large)
    with pytest.raises(Full):
        q.put(large, timeout=0.01)
    putter = threading.Thread(target=q.put, args=(large, True, LONG))
    putter.start()
    assert q.get(timeout=LONG) == b"0"
    assert q.get(timeout=LONG) == b"1"
    assert q.get(timeout=LONG) == large
    putter.join(LONG)
    assert_works(q)


def test_what_never_fits_is_refused(make_queue: MakeQueue, each_engine: str) -> None:
    q = make_queue(capacity=3, item_size=SLOT, max_item_size=3 * SLOT - 1)
    assert (q.item_size, q.max_item_size) == (SLOT, 3 * SLOT - 1)
    for item in (os.urandom(3 * SLOT), [os.urandom(3 * SLOT)]):
        with pytest.raises(ItemTooLargeError, match=r"takes items of up to 191; create .* max_item_size=") as caught:
            q.put(item)
        assert caught.value.limit == 3 * SLOT - 1
    with pytest.raises(ArgumentError, match="batch of 2 items that takes 4 slots can never fit: this queue has 3"):
        q.put_batch([os.urandom(2 * SLOT)] * 2)
    assert q.empty()
    q.put("é" * 1000)  # it fits deflated
    assert q.get() == "é" * 1000
    assert_works(q)


def test_objects_of_each_kind_may_be_large(make_queue: MakeQueue, each_engine: str) -> None:
    q = make_queue(capacity=200, item_size=SLOT, max_item_size=200 * SLOT)
    for item in ("é" * 1000, list(range(500)), {"a": [1.5] * 100}, {str(i): b"x" * i for i in range(60)}, 1 << 4000):
        q.put(item)
        assert q.get() == item


@pytest.mark.parametrize("extra", range(3))
def test_arrays_arrive_in_several_slots(make_queue: MakeQueue, each_engine: str, leases: int, extra: int) -> None:
    """Of an odd slot, so that the pieces do not end where slots end."""
    q = make_queue(capacity=60, item_size=1000 + extra, max_item_size=40_000, leases=leases)
    with SharedMemoryQueue(q.name, run_id=q.run_id, engine="atomics") as other:
        arrays = [np.frombuffer(os.urandom(8 * n), dtype=np.int64).copy() for n in (900, 1, 2000, 1200)]
        for sender, receiver in ((q, other), (other, q), (q, q)):
            sender.put({"small": np.arange(3), "large": arrays}, block=False)
            sender.put(arrays[0], block=False)
            assert q.qsize() == 2
            found, single = taken(receiver, 2)
            assert all(map(np.array_equal, found["large"], arrays))
            assert np.array_equal(found["small"], np.arange(3))
            assert np.array_equal(single, arrays[0])
            assert single.flags.writeable
            assert q.empty()


def test_a_put_copies_an_array_into_its_slots_and_nowhere_else(make_queue: MakeQueue, each_engine: str) -> None:
    q = make_queue(capacity=20, item_size=4096, max_item_size=80_000)
    array = np.arange(8_000)
    q.put(array)
    assert np.array_equal(q.get(), array)
    tracemalloc.start()
    try:
        q.put(array)
        assert tracemalloc.get_traced_memory()[1] < array.nbytes // 2
    finally:
        tracemalloc.stop()
    assert np.array_equal(q.get(), array)


class Carrier:
    """Has bytes that travel beside the pickle."""

    def __init__(self, data: bytearray) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        return Carrier, (pickle.PickleBuffer(self.data),)


class Meddler:
    """Changes the bytes of another object when it is pickled."""

    def __init__(self, data: bytearray) -> None:
        self.data = data

    def __reduce__(self) -> tuple[Any, ...]:
        self.data[:] = bytes(len(self.data))
        return Meddler, (bytearray(),)


def test_code_of_a_later_item_of_a_batch_changes_nothing(make_queue: MakeQueue, each_engine: str) -> None:
    q = make_queue(capacity=60, item_size=1024, max_item_size=40_000)
    data = bytearray(os.urandom(30_000))
    expected = bytes(data)
    q.put_batch([Carrier(data), Meddler(data)])
    carrier, meddler = q.get_batch(2)
    assert carrier.data == expected
    assert type(meddler) is Meddler


def test_large_dead_letters(make_queue: MakeQueue, each_engine: str) -> None:
    q = make_queue(capacity=5, item_size=SLOT, max_item_size=5 * SLOT, leases=3, max_deliveries=1)
    with SharedMemoryQueue(q.name, run_id=q.run_id, engine="atomics") as other:
        items = [os.urandom(size) for size in (5 * SLOT, 2 * SLOT + 1, SLOT)]
        for burying, looking in ((q, other), (other, q)):
            for item in items:
                q.put(item, block=False)
                burying.lease(block=False).release()
                assert q.empty()
            letters = looking.dead_letters()
            assert [letter.item for letter in letters] == items
            for letter in letters:
                letter.put_back()
            for item in items:
                with burying.lease(block=False) as lease:
                    assert (lease.item, lease.deliveries) == (item, 1)
            assert not looking.dead_letters()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"item_size": 64, "max_item_size": 63}, "between item_size=64 and 192 bytes.* a larger one, or smaller"),
        ({"item_size": 64, "max_item_size": 193}, "between item_size=64 and 192 bytes.* a smaller one, or more"),
        ({"max_item_size": 0}, "max_item_size must be a whole number of bytes, item_size or more, not 0"),
        ({"max_item_size": 1 << 31}, "between item_size=4096 and 12,288 bytes"),
        ({"item_size": (1 << 31) - 1, "max_item_size": 1 << 31}, "and 2,147,483,647 bytes"),
        ({"leases": 65535, "item_size": 1 << 25}, "leases=65535 of item_size=33554432 bytes each take"),
        ({"leases": 65535, "item_size": 1 << 24, "max_item_size": 1 << 25}, "a smaller max_item_size: leases=65535"),
        ({"item_size": (1 << 31) - 1, "leases": 1, "capacity": 1 << 20}, "choose a smaller capacity or item_size$"),
        ({"max_item_size": "64"}, "max_item_size must be a whole number"),
    ],
)
def test_a_largest_item_that_cannot_be_is_refused(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        SharedMemoryQueue(**{"capacity": 3, **sizes})


def test_a_handle_that_attaches_may_say_which_size_it_expects(make_queue: MakeQueue) -> None:
    q = make_queue(capacity=3, item_size=SLOT, max_item_size=2 * SLOT)
    for size in (None, 2 * SLOT):
        SharedMemoryQueue(q.name, run_id=q.run_id, max_item_size=size).close()
    with pytest.raises(QueueMismatchError, match="max_item_size"):
        SharedMemoryQueue(q.name, run_id=q.run_id, max_item_size=SLOT)


def test_totals_count_slots_and_sizes_count_items(make_queue: MakeQueue) -> None:
    q = make_queue(capacity=5, item_size=SLOT, max_item_size=5 * SLOT)
    q.put(bytes(3 * SLOT))
    metrics = q.get_metrics()
    assert (metrics["queue_size"], metrics["put_total"], metrics["queue_max_item_size_bytes"]) == (1, 3, 5 * SLOT)


def test_the_rest_of_an_item_is_freed_before_its_first_slot(make_queue: MakeQueue) -> None:
    q = make_queue(capacity=3, item_size=SLOT, max_item_size=3 * SLOT, engine="atomics")
    q.put(bytes(3 * SLOT))
    freed: list[int] = []
    member = q._membership
    with member.operation() as record:
        words = record.words
        real = words.cas

        def noted(offset: int, expected: int, desired: int) -> bool:
            if offset >= layout.SLOTS_START:
                freed.append((offset - layout.SLOTS_START) // member.geometry.stride)
            return real(offset, expected, desired)

        words.cas = noted
        assert member.ring.try_get(record, 1, True) == 0
        words.cas = real
        record.claim.taken.clear()
    assert freed == [2, 1, 0]


# ---- damage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [SLOT + 1, 2 * SLOT + 1, 3 * SLOT, 3 * SLOT + 1, (1 << 31) - 1, (1 << 32) - 1])
def test_a_length_that_cannot_be_costs_an_item_and_no_more(
    make_queue: MakeQueue, each_engine: str, leases: int, length: int
) -> None:
    q = make_queue(capacity=3, item_size=SLOT, max_item_size=3 * SLOT, leases=leases)
    q.put_batch([b"0", b"1"])
    q._membership.segment.buffer[layout.SLOTS_START + layout.SLOT_LENGTH :][:4] = length.to_bytes(4, "little")
    with pytest.raises(CorruptQueueError):
        taken(q)
    assert taken(q) == [b"1"]
    assert q.empty()
    if not leases:
        assert_works(q)


def test_a_later_part_at_the_head_is_an_error_and_not_an_item(make_queue: MakeQueue, each_engine: str) -> None:
    q = make_queue(capacity=3, item_size=SLOT, max_item_size=3 * SLOT)
    q.put_batch([b"0", b"1"])
    q._membership.segment.buffer[layout.SLOTS_START + layout.SLOT_META] = layout.MORE
    with pytest.raises(CorruptQueueError):
        q.get_nowait()
    assert drained(q) == [b"1"]
    assert_works(q)


def test_a_large_item_whose_rest_is_not_there_is_an_error(make_queue: MakeQueue, each_engine: str) -> None:
    q = make_queue(capacity=3, item_size=SLOT, max_item_size=3 * SLOT)
    q.put(bytes(2 * SLOT))
    q.put(b"behind")
    stride = q._membership.geometry.stride
    q._membership.segment.buffer[layout.SLOTS_START + stride + layout.SLOT_META] = 1
    with pytest.raises(CorruptQueueError):
        q.get_nowait()
    assert len(q.get_nowait()) == SLOT
    assert q.get_nowait() == b"behind"
    assert_works(q)
