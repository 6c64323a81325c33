"""Items that are written and read in their slot: reserve, view and get_into."""

from __future__ import annotations

import array
import gc
import io
import itertools
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest

from shared_multiprocess_queue import (
    BufferTooSmallError,
    CorruptQueueError,
    DeserializationError,
    Empty,
    Full,
    NotABufferError,
    Queue,
    QueueClosedError,
    SharedMemoryQueue,
    ShutDown,
    read_drained,
)
from shared_multiprocess_queue import drained as drained_items
from shared_multiprocess_queue._codec import tags
from shared_multiprocess_queue._ring import layout
from shared_multiprocess_queue.errors import ArgumentError
from shared_multiprocess_queue.looking.previews import preview
from tests.support.mortal import dies
from tests.support.own_formats import from_json, to_json
from tests.support.queues import MakeQueue, assert_works, drained

pytestmark = pytest.mark.usefixtures("engines")

ITEM_SIZE = 256
SIZES = (0, 1, ITEM_SIZE - 49, ITEM_SIZE - 48, ITEM_SIZE - 47, ITEM_SIZE)


def filled(size: int) -> bytes:
    return bytes(i * 7 & 0xFF for i in range(size))


def address_of(view: memoryview) -> int:
    import ctypes

    byte = ctypes.c_char.from_buffer(view)
    return ctypes.addressof(byte)


def other_of(queue: SharedMemoryQueue) -> SharedMemoryQueue:
    other: SharedMemoryQueue = pickle.loads(pickle.dumps(queue))
    return other


@pytest.mark.parametrize("size", SIZES)
def test_what_was_reserved_is_an_item(make_queue: MakeQueue, mode: str, size: int) -> None:
    queue = make_queue(capacity=2, item_size=ITEM_SIZE, mode=mode)
    other = other_of(queue)
    data = filled(size)
    for take in (other.get, view_of(other), into(other, size)):
        with queue.reserve(size) as memory:
            assert (memory.nbytes, memory.format, memory.readonly) == (size, "B", False)
            assert other.qsize() == 1
            memory[:] = data
        assert take() == data
        assert queue.qsize() == 0
    other.close()
    assert_works(queue)


def view_of(queue: SharedMemoryQueue) -> Callable[[], bytes]:
    def take() -> bytes:
        with queue.view(block=False) as memory:
            assert memory.readonly
            assert memory.format == "B"
            return bytes(memory)

    return take


def into(queue: SharedMemoryQueue, room: int) -> Callable[[], bytes]:
    def take() -> bytes:
        buffer = bytearray(room)
        return bytes(buffer[: queue.get_into(buffer, block=False)])

    return take


def test_the_memory_is_aligned_as_it_says(make_queue: MakeQueue) -> None:
    queue = make_queue(capacity=3, item_size=ITEM_SIZE)
    for size in SIZES[1:] * 2:
        with queue.reserve(size) as memory:
            found = address_of(memory)
            gc.collect()
            memory[:] = filled(size)
        assert found % (64 if size <= ITEM_SIZE - 48 else 16) == 0
        assert queue.get() == filled(size)


def test_a_view_is_of_bytes_or_of_the_one_buffer_of_an_item(make_queue: MakeQueue) -> None:
    queue = make_queue(capacity=2, item_size=1 << 15)
    other = other_of(queue)
    block = filled(5000)
    cases: list[tuple[object, bytes]] = [
        (b"", b""),
        (b"abc", b"abc"),
        (block, block),
        (pickle.PickleBuffer(block), block),
        ([pickle.PickleBuffer(bytearray(block))], block),
    ]
    for item, data in cases:
        for take in (view_of(other), into(other, 5000)):
            queue.put(item)
            assert take() == data
    others: list[object] = ["text", 1, None, {"a": b"b"}, [pickle.PickleBuffer(bytearray(block)) for _ in range(2)]]
    for item in others:
        queue.put(item)
        queue.put("behind")
        for take in (view_of(other), into(other, 1 << 15)):
            with pytest.raises(NotABufferError, match="still in the queue"):
                take()
        assert len(drained(queue)) == 2
    other.close()
    assert_works(queue)


def test_an_item_that_is_too_large_for_a_buffer_stays(make_queue: MakeQueue, mode: str) -> None:
    queue = make_queue(capacity=2, mode=mode)
    for size in (1, 5):
        queue.put(filled(size))
        with pytest.raises(BufferTooSmallError) as caught:
            queue.get_into(bytearray(size - 1))
        assert (caught.value.size, caught.value.room) == (size, size - 1)
        assert f"{size} bytes" in str(caught.value)
        assert queue.get_into(bytearray(size)) == size
    assert_works(queue)


def test_any_buffer_that_can_be_written_takes_an_item(make_queue: MakeQueue) -> None:
    queue = make_queue()
    numbers = array.array("i", [1, 2, 3])
    queue.put(array.array("i", [7]).tobytes())
    assert queue.get_into(numbers) == 4
    assert numbers.tolist() == [7, 2, 3]
    for empty in (memoryview(bytearray(0)), pytest.importorskip("numpy").empty((0, 3))):
        queue.put(b"")
        assert queue.get_into(empty) == 0
    queue.put(b"left")
    for wrong in (b"bytes", memoryview(bytearray(8))[::2]):
        with pytest.raises(TypeError, match="can be written, in one piece"):
            queue.get_into(wrong)
    with pytest.raises(TypeError):
        queue.get_into(5)
    assert drained(queue) == [b"left"]


def test_items_of_several_slots(make_queue: MakeQueue) -> None:
    queue = make_queue(capacity=4, item_size=4096, max_item_size=1 << 14)
    data = filled(10_000)
    with pytest.raises(ArgumentError, match="lies in one slot"):
        queue.reserve(4097)
    for item in (data, pickle.PickleBuffer(data)):
        queue.put(item)
        with pytest.raises(NotABufferError, match="takes 3 slots"):
            view_of(queue)()
        with pytest.raises(BufferTooSmallError):
            queue.get_into(bytearray(9_999))
        assert into(queue, 10_001)() == data
        assert queue.empty()
    queue.put(b"small")
    assert view_of(queue)() == b"small"
    assert_works(queue)


def test_the_formats_of_a_queue(make_queue: MakeQueue) -> None:
    plain = make_queue("plain", serializer="plain")
    with plain.reserve(3) as memory:
        memory[:] = b"abc"
    assert plain.get() == b"abc"
    plain.put(b"def")
    assert view_of(plain)() == b"def"
    own = make_queue("own", dumps=to_json, loads=from_json)
    for size in (own.item_size, 5):
        with own.reserve(size) as memory:
            memory[:] = b"[1,2]".rjust(size)
        assert own.get() == [1, 2]
    own.put({"a": 1})
    assert view_of(own)() == to_json({"a": 1})
    with own.reserve(5) as memory:
        memory[:] = b"[1,2]"
    assert into(own, 5)() == b"[1,2]"


def test_a_queue_with_leases_has_reservations_only(make_queue: MakeQueue) -> None:
    queue = make_queue(leases=2)
    with queue.reserve(3) as memory:
        memory[:] = b"abc"
    for call in (queue.view, lambda: queue.get_into(bytearray(9))):
        with pytest.raises(ArgumentError, match="lease"):
            call()
    with queue.lease() as lease:
        assert (lease.item, lease.raw) == (b"abc", b"abc")
    assert queue.join(0)


def run(block: Any, refer: Callable[[memoryview], Any] = bytes, error: Exception | None = None) -> Any:
    """Run a block that ends well, or by an error; return what it has made of its memory."""
    with block as memory:
        kept = refer(memory)
        if error is not None:
            raise error
    return kept


def test_looks_and_drained_items(make_queue: MakeQueue) -> None:
    payload = b"\0" * tags.PADDING + b"[7]"
    assert preview(payload, tags.PLACED, 100) == "b'[7]'"
    data = io.BytesIO(drained_items.frame(payload, tags.PLACED))
    assert list(read_drained(data)) == [b"[7]"]
    assert list(read_drained(io.BytesIO(data.getvalue()), loads=from_json)) == [[7]]


def test_an_exception_in_a_block(make_queue: MakeQueue, mode: str) -> None:
    queue = make_queue(capacity=1, mode=mode)
    for lap in range(3):
        with pytest.raises(KeyError):
            run(queue.reserve(3), error=KeyError())
        with pytest.raises(Empty):
            queue.get_nowait()
        assert queue.get_metrics()["dead_puts"] == lap + 1
        queue.put(b"seen")
        with pytest.raises(KeyError):
            run(queue.view(), error=KeyError())
        with pytest.raises(Empty):
            queue.get_nowait()
    assert_works(queue)


def as_array(memory: memoryview) -> Any:
    return pytest.importorskip("numpy").ndarray((3,), "u1", buffer=memory)


@pytest.mark.parametrize("refer", [memoryview, lambda view: view[:1], lambda view: view.cast("b"), as_array])
@pytest.mark.parametrize("what", ["reserve", "view"])
def test_what_outlives_its_block_is_an_error(make_queue: MakeQueue, what: str, refer: Any) -> None:
    queue = make_queue(capacity=1)
    kept: list[Any] = []

    def keep(memory: memoryview) -> None:
        kept.append(refer(memory))

    if what == "view":
        queue.put(b"abc")
    with pytest.raises(BufferError, match="beyond its block"):
        run(queue.reserve(3) if what == "reserve" else queue.view(), keep)
    with pytest.raises(Empty):
        queue.get_nowait()
    assert_works(queue)
    with pytest.raises(KeyError) as caught:  # which says more than that its traceback keeps the frame
        run(queue.reserve(3), keep, KeyError())
    assert "beyond its end" in caught.value.__notes__[0]
    queue.close()
    assert [one.nbytes > 0 and one[0] is not None for one in kept] == [True, True]  # the memory stays


def test_room_and_items_are_waited_for(make_queue: MakeQueue) -> None:
    queue = make_queue(capacity=1)
    for wait in ({"block": False}, {"timeout": 0.001}):
        with pytest.raises(Empty):
            run(queue.view(**wait))
        with pytest.raises(Empty):
            queue.get_into(bytearray(9), **wait)
    queue.put(b"there")
    for wait in ({"block": False}, {"timeout": 0.001}):
        with pytest.raises(Full):
            run(queue.reserve(1, **wait))
    taken: list[object] = []

    def consume() -> None:
        for _ in range(3):
            taken.append(run(queue.view(timeout=60)))
            taken.append(into_waiting(queue))

    thread = threading.Thread(target=consume)
    thread.start()
    for i in range(5):
        with queue.reserve(1, timeout=60) as memory:
            memory[0] = i
    thread.join(60)
    assert taken == [b"there", b"\0", b"\1", b"\2", b"\3", b"\4"]
    for wrong in (-1, float("nan")):
        with pytest.raises(ArgumentError):
            queue.reserve(1, timeout=wrong)
        with pytest.raises(ArgumentError):
            queue.view(timeout=wrong)


def into_waiting(queue: SharedMemoryQueue) -> bytes:
    buffer = bytearray(9)
    return bytes(buffer[: queue.get_into(buffer, timeout=60)])


def test_while_a_block_is_open_others_go_on_where_they_can(make_queue: MakeQueue, mode: str) -> None:
    queue = make_queue(capacity=3, mode=mode)
    with queue.reserve(1) as first, queue.reserve(1) as second:
        queue.put(b"3")
        assert queue.full()
        first[0], second[0] = b"12"
    with queue.view() as first, queue.view() as second:
        assert queue.get() == b"3"
        assert (bytes(first), bytes(second)) == (b"1", b"2")
        with pytest.raises(Full):
            queue.put(b"4", timeout=0.001)
    assert_works(queue)


def test_a_live_block_is_named_as_what_blocks(make_queue: MakeQueue) -> None:
    queue = make_queue(capacity=1)
    other = other_of(queue)
    with queue.reserve(1):
        with pytest.raises(Empty):
            other.get_nowait()
        assert [one["doing"] for one in other.get_metrics()["blocked_by"]] == ["put"]
    with queue.view():
        assert [one["doing"] for one in other.get_metrics()["blocked_by"]] == ["get"]
    assert other.get_metrics()["blocked_by"] == []
    other.close()


@pytest.mark.parametrize("what", ["reserve", "view"])
def test_a_block_that_nothing_refers_to_ends(make_queue: MakeQueue, what: str) -> None:
    queue = make_queue(capacity=1)
    for _ in range(3):
        if what == "view":
            queue.put(b"abc")
        block = queue.reserve(3) if what == "reserve" else queue.view()
        memory = block.__enter__()
        del block
        gc.collect()
        with pytest.raises(ValueError, match="released"):
            bytes(memory)
        assert queue.qsize() == 0 or what == "reserve"
        with pytest.raises(Empty):
            queue.get_nowait()
    del memory
    assert_works(queue)


@pytest.mark.parametrize("what", ["reserve", "view"])
@pytest.mark.parametrize("by_thread", [False, True])
def test_a_close_ends_open_blocks(make_queue: MakeQueue, what: str, by_thread: bool) -> None:
    queue = make_queue(capacity=1)

    def close(memory: memoryview) -> None:
        if by_thread:
            closer = threading.Thread(target=other.close)
            closer.start()
            closer.join(60)
        else:
            other.close()
        assert other.closed
        with pytest.raises(ValueError, match="released"):
            bytes(memory)
        with pytest.raises(Empty):
            queue.get_nowait()

    for _ in range(3):
        other = other_of(queue)
        if what == "view":
            queue.put(b"abc")
        with pytest.raises(QueueClosedError, match="inside the block"):
            run(other.reserve(3) if what == "reserve" else other.view(), close)
        assert_works(queue)
        with pytest.raises(QueueClosedError):
            other.reserve(3)


def test_a_closed_block_does_not_hide_an_exception(make_queue: MakeQueue) -> None:
    queue = make_queue(capacity=1)
    with pytest.raises(KeyError):
        run(queue.reserve(3), lambda _: queue.close(), KeyError())


def test_the_block_keeps_its_handle(run_id: str) -> None:
    with SharedMemoryQueue(capacity=1, run_id=run_id).reserve(1) as memory:
        gc.collect()
        memory[0] = 1


def test_a_queue_that_was_shut_down(make_queue: MakeQueue) -> None:
    queue = make_queue(capacity=3)
    with queue.reserve(1) as memory:
        memory[0] = 1
        queue.shutdown()
    with pytest.raises(ShutDown):
        run(queue.reserve(1))
    assert view_of(queue)() == b"\1"
    for take in (view_of(queue), into(queue, 1)):
        with pytest.raises(ShutDown):
            take()


def test_a_reservation_in_memory_that_is_taken_as_it_is_used(run_id: str) -> None:
    with Queue(4) as queue:
        for i in itertools.chain(range(6), [5]):
            with queue.reserve(queue.item_size) as memory:
                memory[-1] = i
            assert queue.get()[-1] == i


def test_what_was_kept_back_comes_first(make_queue: MakeQueue) -> None:
    queue = make_queue(capacity=3)
    for take in (view_of(queue), into(queue, 9)):
        queue._membership.keep_back([(b"\0" * 48 + b"kept", tags.PLACED)])
        queue.put(b"next")
        assert [take(), take()] == [b"kept", b"next"]
        queue._membership.keep_back([(b"text", tags.STR)])
        with pytest.raises(NotABufferError):
            take()
        assert queue.get() == "text"
    queue._membership.keep_back([(b"0123456789", tags.BYTES)])
    with pytest.raises(BufferTooSmallError):
        queue.get_into(bytearray(9))
    assert queue.get() == b"0123456789"
    assert_works(queue)


def test_the_item_of_a_dead_getter_is_viewed(make_queue: MakeQueue) -> None:
    queue = make_queue(capacity=2)
    for take in (view_of(queue), into(queue, 9)):
        for item in (b"orphan", "orphan"):
            for steps in itertools.count():
                queue.put(item)
                assert dies(queue.name, queue.run_id, lambda engine: engine.get(1, 0, list), steps, counts_loads=False)
                if queue.qsize() == 0:
                    break
                drained(queue)
            if item == b"orphan":
                assert take() == item
            else:
                with pytest.raises(NotABufferError):
                    take()
                assert queue.get_nowait() == item
    assert_works(queue)


HEAD = {  # of an item with buffers
    "two": (2, 0, 64, 4096, 0),
    "too long a stream": (1, 1 << 31, 64, 4096, 0),
    "no alignment": (1, 0, 0, 4096, 0),
    "too large": (1, 0, 64, 1 << 31, 0),
    "too small": (1, 0, 64, 4095, 0),
    "no kind": (1, 0, 64, 4096, 3),
}


@pytest.mark.parametrize("what", ["length", "padding", *HEAD])
def test_what_the_segment_says_is_not_believed(make_queue: MakeQueue, what: str) -> None:
    queue = make_queue(capacity=1, item_size=8192)
    queue.put(pickle.PickleBuffer(bytearray(4096)))
    slot = queue._membership.segment.buffer[layout.SLOTS_START :]
    halves = slot.cast("I")
    if what == "length":
        halves[2] = 8193
    elif what == "padding":
        halves[2], halves[3] = 47, tags.PLACED
    else:
        count, stream, alignment, size, kind = HEAD[what]
        halves[4], halves[5], halves[6] = count, stream, alignment << 16
        halves[7], halves[8] = size, kind
    halves.release()
    slot.release()
    for take in (view_of(queue), into(queue, 1 << 14)):
        with pytest.raises(NotABufferError, match="damaged slot" if what == "length" else "neither bytes"):
            take()
    with pytest.raises((DeserializationError, CorruptQueueError)):
        queue.get_nowait()
    assert_works(queue)
