"""Large buffers beside the stream: what arrives is what pickle gives."""

from __future__ import annotations

import contextlib
import pickle
import re
import struct
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared_multiprocess_queue import DeserializationError, ItemTooLargeError, SharedMemoryQueue
from shared_multiprocess_queue._codec import buffers
from shared_multiprocess_queue._codec.codec import Codec
from shared_multiprocess_queue._codec.tags import BUFFERS, PICKLE
from shared_multiprocess_queue.looking.previews import preview
from tests.support.arrays import (
    INTERRUPTS,
    LARGE,
    MANY,
    SMALLEST,
    Interrupted,
    Sample,
    Scales,
    assert_like,
    is_kept,
    numbers,
    tags_of,
)
from tests.support.lanes import examples
from tests.support.main_programs import DictStore
from tests.support.queues import MakeQueue
from tests.support.waiting import LONG


def copies(item: object) -> Iterator[tuple[str, Any]]:
    """Give an item as each way of the codec gives it back: from pieces, from one object, deflated."""
    codec = Codec(DictStore())
    payload, tag = codec.encode(item)
    yield "pieces", codec.decode(payload, tag)
    yield "whole", codec.decode(buffers.whole(payload), tag)
    if isinstance(payload, buffers.Pieces):
        small = Codec(DictStore(), max(len(payload) // 2, 1))
        try:
            fitting, deflated = small.fit(payload, tag)
        except ItemTooLargeError:
            return
        yield "deflated", small.decode(fitting, deflated)


# ---- like pickle ----------------------------------------------------------------------------------------------------

SCALARS = ["?", "b", "B", "<i2", ">i4", "<i8", "<u8", "<f2", "<f4", "<f8", ">f8", "<c8", "<c16", "M8[us]", "m8[s]"]
STRUCTURES = [[("a", "<i4"), ("b", "<f8")], [("name", "S5"), ("grid", "<f4", (2, 3))], "S7", "U3", "V16", "O"]


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    """Arrays around the size from which on a buffer goes beside the stream, of each kind of dtype, order and view."""
    dtype = np.dtype(draw(st.sampled_from([*SCALARS, *STRUCTURES])))
    shape = draw(st.sampled_from([(), (0,), (3,), (600,), (5000,), (40, 130), (0, 5), (7, 11, 70), (1, 5000, 1)]))
    found: Any = np.zeros(shape, dtype, order=draw(st.sampled_from("CF")))
    if not dtype.hasobject:
        seed = draw(st.integers(0, 255))
        raw = np.frombuffer(bytes(range(1, 128)) * (found.nbytes // 127 + 1), np.uint8)
        flat: Any = found.reshape(-1, order="A").view(np.uint8) if found.size and dtype.kind not in "V?U" else None
        if flat is not None:
            flat[...] = raw[: flat.size] ^ (seed & 63)
    else:
        found[...] = draw(st.sampled_from(["text", 5, None]))
    for _ in range(draw(st.integers(0, 2))):
        found = draw(st.sampled_from(VIEWS))(found)
    if draw(st.booleans()):
        found.flags.writeable = False
    return found


VIEWS: list[Callable[[Any], Any]] = [
    lambda a: a.T,
    lambda a: a[::-1] if a.ndim else a,
    lambda a: a[::2] if a.ndim else a,
    lambda a: a[1:] if a.ndim else a,
    lambda a: np.broadcast_to(a, (2, *a.shape)),
    lambda a: a.reshape(a.shape),
    lambda a: a.view(np.recarray) if a.dtype.names else a,
    lambda a: np.ma.masked_array(a) if a.dtype.kind in "iuf" else a,
    lambda a: a.transpose(1, 0, 2) if a.ndim == 3 else a,
]


@settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None, max_examples=examples(150)
)
@given(st.lists(arrays(), min_size=1, max_size=3), st.sampled_from([lambda a: a[0], list, tuple, lambda a: [a, a]]))
def test_arrays_arrive_as_pickle_gives_them(found: list[Any], arrange: Callable[[list[Any]], Any]) -> None:
    item = arrange(found)
    expected = pickle.loads(pickle.dumps(item, 5))
    for way, came in copies(item):
        if isinstance(expected, np.ma.MaskedArray):
            assert (came.mask == expected.mask).all(), way
        else:
            assert_like(came, expected)


ITEMS: dict[str, Callable[[], Any]] = {
    "array": numbers,
    "Fortran order": lambda: np.asfortranarray(numbers(2 * MANY).reshape(2, MANY)),
    "read only": lambda: np.frombuffer(bytes(SMALLEST), np.uint8),
    "rows that are apart": lambda: numbers(4 * MANY)[::2],
    "structured": lambda: np.zeros(MANY, [("a", "i4"), ("b", "f8")]),
    "objects": lambda: np.array([[1], {"a": 2}, None] * MANY, object),
    "times": lambda: np.arange(MANY).astype("M8[s]"),
    "in a dict": lambda: {"x": numbers(), "y": [numbers(MANY, 5), "text"]},
    "the same twice": lambda: [(array := numbers()), array],
    "views of one": lambda: [(array := numbers(2 * MANY)), array[:MANY], array[100:]],
    "of one that is read only": lambda: [numbers(), np.frombuffer(b"x" * SMALLEST, "S1")],
    "a buffer of bytes": lambda: pickle.PickleBuffer(b"y" * SMALLEST),
    "a buffer of a bytearray": lambda: [pickle.PickleBuffer(bytearray(SMALLEST)), 1],
    "a buffer of an array behind a small one": lambda: [
        numbers(3),
        (array := numbers(2 * MANY))[:10],
        pickle.PickleBuffer(array[100:]),
    ],
    "a buffer of an array": lambda: [(array := numbers()), pickle.PickleBuffer(array), pickle.PickleBuffer(numbers())],
    "with lambdas": lambda: [numbers(), numbers(MANY, 1)],
    "a size of more dimensions": lambda: np.zeros((2, 3, MANY), np.float32).transpose(1, 0, 2),
}


@pytest.mark.parametrize("name", ITEMS)
def test_items_with_buffers_arrive_as_pickle_gives_them(name: str, make_queue: MakeQueue, engines: str) -> None:
    queue = make_queue(capacity=2, item_size=LARGE)
    item = ITEMS[name]()
    expected = pickle.loads(pickle.dumps(item, 5))
    with SharedMemoryQueue(queue.name, run_id=queue.run_id) as other:
        queue.put(item)
        assert_like(other.get(timeout=LONG), expected)
        other.put_batch([item, item])
        for came in queue.get_batch(2):
            assert_like(came, expected)


def test_large_buffers_go_beside_the_stream_and_small_ones_do_not() -> None:
    assert tags_of(numbers()) == tags_of([numbers()]) == BUFFERS
    assert tags_of(numbers(MANY - 1)) == tags_of([numbers(MANY - 1)]) == PICKLE
    assert tags_of(np.asfortranarray(numbers(2 * MANY).reshape(2, -1))) == BUFFERS


def test_sharing_is_kept(make_queue: MakeQueue, each_engine: str) -> None:
    queue = make_queue(item_size=LARGE)
    array, own = numbers(), pickle.PickleBuffer(bytearray(SMALLEST))
    queue.put([array, array, own, own])
    first, second, third, fourth = queue.get()
    assert first is second
    assert third is fourth
    assert type(third) is bytearray


def test_an_array_is_the_receivers_own(make_queue: MakeQueue, each_engine: str) -> None:
    queue = make_queue(capacity=1, item_size=LARGE)
    sent = numbers()
    queue.put(sent)
    sent[:] = -1
    came = queue.get()
    assert (came == numbers()).all()
    came += 1
    queue.put(came)
    again = queue.get()
    came[:] = 0
    assert (again == numbers() + 1).all()
    assert (sent == -1).all()
    assert came.ctypes.data % 64 == again.ctypes.data % 64 == 0


def test_an_array_is_sent_as_pickle_meets_it(make_queue: MakeQueue, each_engine: str) -> None:
    """Its other owner changes it while the item is pickled, and again while it is unpickled."""
    queue = make_queue(item_size=LARGE)
    ways: list[Callable[[Any], Any]] = [
        lambda a: [a, Scales(a)],
        lambda a: [Scales(a), a],
        lambda a: [Scales(a), Scales(a), numbers()],
    ]
    for arrange in ways:
        expected = pickle.loads(pickle.dumps(arrange(numbers()), 5))
        queue.put(arrange(numbers()))
        came = queue.get()
        for one, other in zip(came, expected, strict=True):
            assert_like(getattr(one, "array", one), getattr(other, "array", other))


@pytest.mark.parametrize("arrange", [lambda one: one, lambda one: [one, 5], lambda one: {"a": (one,)}])
def test_a_later_item_of_a_batch_changes_no_earlier_one(
    arrange: Callable[[Any], Any], make_queue: MakeQueue, each_engine: str
) -> None:
    """Each item is as it was when the batch came to it."""
    queue = make_queue(capacity=5, item_size=LARGE)
    array = numbers()
    queue.put_batch([1, arrange(array), array, arrange(Scales(array)), array])
    came = queue.get_batch(5)
    assert_like(came[1], arrange(numbers()))
    assert_like(came[2], numbers())
    assert_like(came[4], numbers() * 2)


def test_what_is_copied_for_a_later_item_is_laid_closer_too() -> None:
    array = numbers(MANY + 1)
    payload, tag = Codec(DictStore()).encode([numbers(), array])
    payload.own()
    array[:] = 0
    assert payload.pack(len(payload) - 1)
    assert_like(Codec(DictStore()).decode(buffers.whole(payload), tag)[1], numbers(MANY + 1))


def test_an_array_of_which_numpy_warns_makes_no_other_one_read_only(make_queue: MakeQueue, each_engine: str) -> None:
    queue = make_queue(capacity=1, item_size=LARGE)
    warned = np.broadcast_arrays(numbers(MANY + 11), np.zeros((1, 1)))[0]
    expected = pickle.loads(pickle.dumps(warned, 5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        queue.put(warned)
    assert_like(queue.get(), expected)
    queue.put(numbers(MANY + 11).reshape(1, -1))
    assert queue.get().flags.writeable


def test_a_reducer_for_arrays_that_the_program_has_registered_is_used(
    make_queue: MakeQueue, each_engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import copyreg

    monkeypatch.setitem(copyreg.dispatch_table, np.ndarray, lambda array: (list, (array.tolist(),)))
    queue = make_queue(item_size=LARGE)
    queue.put(numbers())
    assert queue.get() == numbers().tolist()


class Buried:
    def __init__(self) -> None:
        self.was = 1

    def __del__(self) -> None:
        self.was = 0


class Refused(Exception):
    def __init__(self, array: Any) -> None:
        super().__init__(array)


class Key:
    def __hash__(self) -> int:
        return 1


class Row(Counter[str]):
    def __init__(self, content: Any = ()) -> None:
        super().__init__(content)


class Registered:
    pass


def build_registered() -> Registered:
    return Registered()


@pytest.mark.parametrize("make", [Buried, lambda: Refused(1), Key, Row])
def test_any_code_that_unpickling_may_run_costs_a_copy(make: Callable[[], object]) -> None:
    assert is_kept([numbers(), make()])


def test_a_registered_reducer_is_code(monkeypatch: pytest.MonkeyPatch) -> None:
    import copyreg

    assert not is_kept([numbers(), Registered(), re.compile("x")])
    monkeypatch.setitem(copyreg.dispatch_table, Registered, lambda _: (build_registered, ()))
    assert is_kept([numbers(), Registered()])


def test_a_plain_class_costs_no_copy_and_one_with_code_does() -> None:
    assert not is_kept(Sample(numbers(), "label"))
    assert not is_kept({"a": [numbers()]})
    assert is_kept([Scales(numbers()), numbers()])
    assert is_kept([numbers(), Scales(numbers(1))])


# ---- leases ---------------------------------------------------------------------------------------------------------


def test_each_look_at_a_leased_item_has_memory_of_its_own(make_queue: MakeQueue, each_engine: str) -> None:
    queue = make_queue(capacity=2, item_size=LARGE, leases=2)
    queue.put(numbers())
    with queue.lease() as lease:
        first = lease.item
        first[:] = 0
        assert (lease.item == numbers()).all()
        assert type(lease.raw) is bytes
        assert len(lease.raw) > SMALLEST
    queue.put(numbers())
    came = queue.get()
    came[:] = 0
    queue.task_done()
    queue.put([numbers(), Interrupted()])
    INTERRUPTS.append(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        queue.get()
    assert (queue.get()[0] == numbers()).all()
    queue.task_done()
    assert queue.join(timeout=0)


# ---- sizes ----------------------------------------------------------------------------------------------------------


def test_an_item_that_is_too_large_is_packed_deflated_or_refused(make_queue: MakeQueue, each_engine: str) -> None:
    item = [np.random.default_rng(1).random(MANY + 1), np.random.default_rng(2).random(MANY + 1)]
    wide = len(Codec(DictStore()).encode(item)[0])
    packed = Codec(DictStore(), wide - 1).fit(*Codec(DictStore()).encode(item))
    assert packed[1] == BUFFERS
    assert len(packed[0]) <= len(pickle.dumps(item, 5)) + 24
    queue = make_queue("packed", capacity=1, item_size=len(packed[0]))
    queue.put(item)
    assert_like(queue.get(), item)
    del packed
    small = make_queue("small", capacity=1, item_size=SMALLEST)
    zeros = np.zeros(20 * MANY)
    small.put(zeros)
    assert_like(small.get(), zeros)
    small.put_batch([[zeros, 1]])
    assert_like(small.get(), [zeros, 1])
    with pytest.raises(ItemTooLargeError) as raised:
        small.put(item)
    assert 2 * SMALLEST < raised.value.size < wide
    item[0].resize(3)  # nothing holds it


def test_an_array_that_no_slot_holds_is_too_large(make_queue: MakeQueue, each_engine: str) -> None:
    queue = make_queue(capacity=2, item_size=SMALLEST)
    huge: Any = np.zeros(1 << 32, np.uint8)  # none of it is touched
    puts: list[tuple[Callable[[], Any], int | None]] = [
        (lambda: queue.put(huge), None),
        (lambda: queue.put([huge, 1]), None),
        (lambda: queue.put_batch([1, huge]), 1),
    ]
    for put, index in puts:
        with pytest.raises(ItemTooLargeError) as raised:
            put()
        assert raised.value.size > 1 << 32
        assert raised.value.index == index


def test_what_no_slot_holds_is_not_deflated_either() -> None:
    codec = Codec(DictStore(), 1 << 30)
    with pytest.raises(ItemTooLargeError):
        codec.fit(*codec.encode(np.zeros(1 << 32, np.uint8)))


# ---- damage ---------------------------------------------------------------------------------------------------------


def head(count: int, stream: int, tag: int = PICKLE, kept: int = 0, alignment: int = 64) -> bytes:
    return struct.pack("=IIBBH", count, stream, tag, kept, alignment)


STREAM = pickle.dumps(1)
NONE = head(0, len(STREAM)) + STREAM
PADDED = (head(1, len(STREAM)) + struct.pack("=II", 100, 0) + STREAM).ljust(48, b"\0")

DAMAGED = {
    "nothing": b"",
    "no head": NONE[:11],
    "no stream": head(0, 1),
    "a stream that is too long": head(0, 2**32 - 1) + STREAM,
    "more buffers than bytes": head(2**32 - 1, 0) + bytes(100),
    "no table": head(2, 0) + bytes(8),
    "a buffer behind the end": PADDED + bytes(99),
    "bytes behind the buffer": PADDED + bytes(101),
    "bytes behind the stream": NONE + b"x",
    "another alignment": head(0, len(STREAM), alignment=0) + STREAM,
    "a kind that there is not": PADDED.replace(struct.pack("=II", 100, 0), struct.pack("=II", 100, 4)) + bytes(100),
    "the same as itself": head(1, 0) + struct.pack("=II", 0, 3),
    "the same as a later one": head(2, 0) + struct.pack("=IIII", 1, 3, 0, 2),
    "a stream of another form": head(0, 1, tag=1) + b"x",
    "a stream that is damaged": head(0, 2) + b"\x80\x05",
    "a stream that wants more buffers": head(0, 4) + b"\x80\x05\x97.",
    "lengths that overflow": head(2, 0) + struct.pack("=IIII", 2**32 - 1, 0, 2**32 - 1, 0) + bytes(200),
}


def put_bytes(queue: SharedMemoryQueue, payload: bytes, **options: Any) -> None:
    """Put a payload of the tag BUFFERS, whatever is in it."""
    with SharedMemoryQueue(queue.name, run_id=queue.run_id, engine="atomics", **options) as writer:
        writer._engine.put((payload, BUFFERS), 0)  # type: ignore[attr-defined]


@pytest.mark.parametrize("kept", [0, 1])
@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_item_is_an_error_with_its_bytes(
    name: str, kept: int, make_queue: MakeQueue, each_engine: str
) -> None:
    queue = make_queue(capacity=2, item_size=SMALLEST)
    payload = bytearray(DAMAGED[name])
    payload[9:10] = bytes([kept])[: len(payload[9:10])]
    put_bytes(queue, bytes(payload))
    with pytest.raises(DeserializationError) as raised:
        queue.get(timeout=LONG)
    assert raised.value.raw == payload
    queue.put(numbers(10))
    assert (queue.get() == numbers(10)).all()


def test_what_is_right_in_the_table_of_damage_is_read(make_queue: MakeQueue, each_engine: str) -> None:
    queue = make_queue(capacity=1, item_size=SMALLEST)
    for payload in (NONE, PADDED + bytes(100)):
        put_bytes(queue, payload)
        assert queue.get(timeout=LONG) == 1


def test_a_payload_of_few_bytes_is_in_pieces_too(make_queue: MakeQueue, each_engine: str) -> None:
    """As a task puts what it has encoded before."""
    queue = make_queue(capacity=1, item_size=SMALLEST)
    assert queue._calls.try_put_payload(NONE, BUFFERS)
    assert queue.get(timeout=LONG) == 1


@pytest.mark.parametrize("options", [{"serializer": "plain"}, {"dumps": pickle.dumps, "loads": pickle.loads}])
def test_a_queue_with_another_format_refuses_it(
    options: dict[str, Any], make_queue: MakeQueue, each_engine: str
) -> None:
    queue = make_queue(capacity=1, item_size=2 * SMALLEST, **options)
    payload = buffers.whole(Codec(DictStore()).encode(numbers())[0])
    put_bytes(queue, payload, **options)
    with pytest.raises(DeserializationError) as raised:
        queue.get(timeout=LONG)
    assert raised.value.raw == payload
    assert type(raised.value.raw) is bytes


@settings(deadline=None, max_examples=examples(300))
@given(st.data())
def test_any_damage_gives_an_item_or_an_error(data: st.DataObject) -> None:
    payload = bytearray(buffers.whole(Codec(DictStore()).encode([numbers(), pickle.PickleBuffer(b"x" * SMALLEST)])[0]))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, 27))] = data.draw(st.integers(0, 255))  # the stream is pickle's
    end = data.draw(st.integers(0, len(payload)))
    with contextlib.suppress(DeserializationError):
        Codec(DictStore()).decode(bytes(payload[: end if data.draw(st.booleans()) else None]), BUFFERS)


def test_a_preview_names_what_is_in_it_and_loads_nothing() -> None:
    payload = buffers.whole(Codec(DictStore()).encode([numbers(), Scales(numbers())])[0])
    shown = preview(payload, BUFFERS, LARGE)
    assert "Scales" in shown
    assert shown.endswith(f"2 buffers of {2 * SMALLEST:,} bytes")
    assert preview(DAMAGED["no table"], BUFFERS, LARGE).startswith("(damaged: ")


def test_the_format_is_that_of_the_layout() -> None:
    from shared_multiprocess_queue._ring import layout

    assert buffers.BEFORE == layout.SLOT_PAYLOAD - layout.SLOT_WORD
    assert buffers.ALIGNMENT % buffers.PACKED == 0
    assert buffers.PACKED == layout.WORD
