"""Items that are too large for their slot: deflated where that makes them fit, refused where not."""

from __future__ import annotations

import logging
import logging.handlers
import multiprocessing
import pickle
import random
import zlib
from typing import Any

import pytest

from shared_multiprocess_queue import DeserializationError, ItemTooLargeError, SharedMemoryQueue
from shared_multiprocess_queue._codec import deflate
from shared_multiprocess_queue._codec.codec import Codec
from shared_multiprocess_queue._codec.tags import BUFFERS, BYTES, DEFLATED, FLOAT, INT, MAIN, PICKLE, STR
from tests.support.main_programs import DictStore
from tests.support.queues import MakeQueue

SIZE = 512
RATIO = deflate._GREATEST_RATIO


def wordy(size: int) -> str:
    """Text that deflates to a tenth."""
    return ("the import of the column failed while reading; " * (size // 40 + 1))[:size]


def noise(size: int) -> str:
    """Text that deflates to no less than five eighths."""
    return "".join(map(chr, random.Random(size).choices(range(0x80, 0x800), k=size // 2)))


ITEMS = {
    "ascii": wordy(SIZE + 1),
    "text": "ü" + wordy(4 * SIZE),
    "dict": {"message": wordy(3 * SIZE), "level": 3},
    "largest": wordy(RATIO * 2)[:1] * (RATIO * SIZE),
}


@pytest.mark.parametrize("name", ITEMS)
def test_what_deflating_makes_fit_arrives(make_queue: MakeQueue, engines: str, name: str) -> None:
    q = make_queue(capacity=4, item_size=SIZE)
    item = ITEMS[name]
    q.put(item)
    q.put_nowait(item)
    q.put_batch([b"before", item])
    with SharedMemoryQueue(q.name, run_id=q.run_id) as other:
        assert other.get() == item
        assert other.get_batch(3) == [item, b"before", item]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_gets_it(make_queue: MakeQueue, engines: str, method: str) -> None:
    context = multiprocessing.get_context(method)
    here, there = make_queue("here", item_size=SIZE), make_queue("there", item_size=SIZE)
    child = context.Process(target=echo, args=(here, there))  # type: ignore[attr-defined]
    child.start()
    here.put(ITEMS["dict"], timeout=60)
    assert there.get(timeout=60) == ITEMS["dict"]
    child.join(60)
    assert child.exitcode == 0


def echo(source: SharedMemoryQueue, target: SharedMemoryQueue) -> None:
    target.put(source.get(timeout=60), timeout=60)


def test_what_does_not_fit_deflated_is_refused_with_both_sizes(make_queue: MakeQueue, each_engine: str) -> None:
    q = make_queue(item_size=SIZE)
    item = noise(2 * SIZE)
    for call, index in ((lambda: q.put(item), None), (lambda: q.put_nowait(item), None)):
        with pytest.raises(
            ItemTooLargeError, match=r"takes 1,024 bytes once serialised and \d{3} bytes deflated"
        ) as caught:
            call()  # type: ignore[no-untyped-call]
        assert (caught.value.size, caught.value.limit, caught.value.index) == (2 * SIZE, SIZE, index)
        assert caught.value.deflated is not None
        assert SIZE < caught.value.deflated < 2 * SIZE
    with pytest.raises(ItemTooLargeError, match="at index 1") as caught:
        q.put_batch([b"", item])
    assert caught.value.index == 1
    assert vars(pickle.loads(pickle.dumps(caught.value))) == vars(caught.value)
    assert q.empty()


@pytest.mark.parametrize("item", [b" " * (SIZE + 1), wordy(RATIO * SIZE + 1), None], ids=["bytes", "enormous", "int"])
def test_what_is_not_tried_is_refused_as_before(make_queue: MakeQueue, each_engine: str, item: Any) -> None:
    size = SIZE
    if item is None:  # of 8 bytes, where a slot holds 7
        item, size = 1 << 40, 7
    with pytest.raises(ItemTooLargeError) as caught:
        make_queue(item_size=size).put(item)
    assert caught.value.deflated is None
    assert "deflated" not in str(caught.value)


def test_what_fits_is_not_deflated(make_queue: MakeQueue, each_engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("not needed")

    monkeypatch.setattr(deflate, "deflated", never)
    q = make_queue(item_size=SIZE)
    for item in (wordy(SIZE), [wordy(SIZE - 50)], b" " * SIZE):
        q.put(item)
        assert q.get() == item


# ---- hostile bytes --------------------------------------------------------------------------------------------------


STREAM = pickle.dumps({"a": wordy(3 * SIZE)}, 5)
WHOLE = zlib.compress(STREAM, 1)


def tagged(tag: int, stream: bytes) -> bytes:
    return bytes([tag]) + stream


def test_the_hostile_payloads_are_wrong_only_where_they_are_meant_to_be() -> None:
    assert Codec(DictStore(), SIZE).decode(tagged(PICKLE, WHOLE), DEFLATED) == {"a": wordy(3 * SIZE)}


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", "too early"),
        (tagged(PICKLE, b""), "too early"),
        *(
            (tagged(PICKLE, WHOLE[:end]), "too early")
            for end in (1, 2, len(WHOLE) // 2, len(WHOLE) - 4, len(WHOLE) - 1)
        ),
        (tagged(PICKLE, WHOLE[:-1] + bytes([WHOLE[-1] ^ 1])), "damaged"),
        (tagged(PICKLE, WHOLE + b"\0"), "too late"),
        (tagged(PICKLE, b"\xff" * 40), "damaged"),
        (tagged(PICKLE, STREAM), "damaged"),
        (tagged(STR, zlib.compress(bytes(RATIO * SIZE + 1))), "more than 32,768 bytes"),
        (tagged(STR, zlib.compress(bytes(10_000_000), 9)), "more than 32,768 bytes"),
        *((tagged(tag, zlib.compress(b"")), f"the tag {tag}") for tag in (BYTES, 4, 5, 6, INT, FLOAT, 9, 12, 255)),
        (tagged(DEFLATED, zlib.compress(tagged(PICKLE, WHOLE))), "the tag 11"),
        (tagged(STR, zlib.compress(b"\xff\xff")), "utf-8"),
        (tagged(PICKLE, zlib.compress(b"not a pickle")), "cannot be turned back"),
        (tagged(MAIN, zlib.compress(b"short")), "cannot be turned back"),
        (tagged(BUFFERS, zlib.compress(b"short")), "5 bytes are fewer"),
    ],
)
def test_damaged_payloads_are_deserialization_errors(payload: bytes, why: str) -> None:
    with pytest.raises(DeserializationError, match=why):
        Codec(DictStore(), SIZE).decode(payload, DEFLATED)


def test_a_payload_that_would_inflate_without_end_takes_no_memory() -> None:
    import tracemalloc

    bomb = tagged(STR, zlib.compress(bytes(10_000_000), 9))
    codec = Codec(DictStore(), SIZE)
    with pytest.raises(DeserializationError):
        codec.decode(tagged(STR, b""), DEFLATED)  # imports what is needed
    tracemalloc.start()
    try:
        with pytest.raises(DeserializationError):
            codec.decode(bomb, DEFLATED)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40 * RATIO * SIZE


def test_where_items_may_be_large_there_is_a_bound_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert deflate._limit(1 << 26) == 1 << 28
    monkeypatch.setattr(deflate, "_MOST", 1000)
    assert deflate.deflated(bytes(1001), STR, SIZE) is None
    deflated = deflate.deflated(bytes(1000), STR, SIZE)
    assert deflated is not None
    assert deflate.inflated(deflated, SIZE) == (bytes(1000), STR)
    with pytest.raises(DeserializationError, match="more than 1,000 bytes"):
        Codec(DictStore(), SIZE).decode(tagged(STR, zlib.compress(bytes(1001))), DEFLATED)


def test_a_hostile_payload_is_consumed_and_the_next_item_comes(
    make_queue: MakeQueue, engines: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    q = make_queue(item_size=SIZE)
    with monkeypatch.context() as patch:
        patch.setattr(deflate, "deflated", lambda *_: tagged(PICKLE, WHOLE[:-3]))
        q.put(ITEMS["dict"])
    q.put("next")
    with SharedMemoryQueue(q.name, run_id=q.run_id) as other:
        with pytest.raises(DeserializationError, match="too early") as caught:
            other.get()
        assert caught.value.raw == tagged(PICKLE, WHOLE[:-3])
        assert other.get() == "next"


# ---- logging --------------------------------------------------------------------------------------------------------


def nested(depth: int) -> None:
    if depth == 0:
        raise LookupError("no column 'price' in " + ", ".join(f"column_{i}" for i in range(60)))
    try:
        nested(depth - 1)
    except LookupError as error:
        raise LookupError(f"while reading part {depth}") from error


def test_a_log_record_with_a_long_traceback_arrives(make_queue: MakeQueue, engines: str) -> None:
    """Otherwise the put is refused, and logging prints the record on stderr, where it is easily missed."""
    q = make_queue(item_size=4096)
    handler = logging.handlers.QueueHandler(q)
    failures: list[logging.LogRecord] = []
    handler.handleError = failures.append  # type: ignore[method-assign, assignment]
    log = logging.Logger("worker")
    log.addHandler(handler)
    try:
        nested(12)
    except LookupError:
        log.exception("the import failed")
    assert not failures
    record = q.get_nowait()
    assert len(record.msg) > 4096
    assert "the import failed" in record.msg
    assert "while reading part 12" in record.msg
