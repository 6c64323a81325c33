"""Nothing that a stranger writes into a plain queue, or into one with its own format, runs code in its readers."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_multiprocess_queue import (
    CorruptQueueError,
    DeserializationError,
    Empty,
    QueueMismatchError,
    SharedMemoryQueue,
)
from shared_multiprocess_queue._codec import codec as _codec
from shared_multiprocess_queue._codec import deflate, scalars
from shared_multiprocess_queue._codec.tags import OBJECTS, OWN, PADDING, PICKLE, PLACED
from shared_multiprocess_queue._engine.definition_log import Definitions
from shared_multiprocess_queue._ring.layout import FORMAT_AT, SLOT_META, SLOTS_START, TAG_MASK
from tests.support.everyday import put_payload
from tests.support.hostile_settings import few
from tests.support.own_formats import Attack, attacks, from_json, ran, to_json
from tests.support.queues import MakeQueue

FORMATS: dict[str, dict[str, Any]] = {
    "plain": {"serializer": "plain"},
    "own": {"dumps": to_json, "loads": from_json},
}
ATTACKS = attacks()
READ = {"plain": {*scalars.TAGS, OBJECTS}, "own": {OWN}}


def of_lease(q: SharedMemoryQueue) -> list[Any]:
    with q.lease(block=False) as lease:
        try:
            return [lease.item]
        finally:
            lease.done()


def of_leases(q: SharedMemoryQueue) -> list[Any]:
    leases = q.lease_batch(4, block=False)
    try:
        return [lease.item for lease in leases]
    finally:
        for lease in leases:
            lease.done()


def of_iteration(q: SharedMemoryQueue) -> list[Any]:
    return [next(iter(q))]


WAYS: dict[str, Callable[[SharedMemoryQueue], list[Any]]] = {
    "get": lambda q: [q.get(block=False)],
    "get with a timeout": lambda q: [q.get(timeout=0.0)],
    "get_batch": lambda q: q.get_batch(4, block=False),
    "iteration": of_iteration,
    "lease": of_lease,
    "lease_batch": of_leases,
}


@pytest.fixture(params=FORMATS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def no_way_out(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail if anything looks for a definition, inflates or unpickles, and see what was run."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a stranger's bytes have come here")

    monkeypatch.setattr(Definitions, "find", refuse)
    monkeypatch.setattr(deflate, "inflated", refuse)
    monkeypatch.setattr(_codec.Codec, "decode", refuse)
    monkeypatch.setattr(_codec.Codec, "loads", refuse)
    ran.clear()
    yield
    gc.collect()
    assert ran == []


@pytest.mark.costly
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.usefixtures("no_way_out")
def test_no_tag_leads_to_code(make_queue: MakeQueue, each_engine: str, run_id: str, kind: str, way: str) -> None:
    q = make_queue(capacity=4, leases=4 if "lease" in way else 0, **FORMATS[kind])
    with SharedMemoryQueue("q", run_id=run_id, engine="atomics", **FORMATS[kind]) as stranger:
        for tag in range(TAG_MASK + 1):
            for payload in ATTACKS.values():
                if kind == "own" and len(payload) >= {OWN: 1, PLACED: PADDING}.get(tag, 1 << 30):
                    continue  # the program's own loads reads it
                put_payload(stranger, payload, tag)
                if tag in READ[kind]:
                    with suppress(DeserializationError):
                        (item,) = WAYS[way](q)
                        assert type(item) in {bytes, str, int, float, bool, type(None)}
                else:
                    with pytest.raises(DeserializationError, match=f"tag {tag}, .* was not looked at") as caught:
                        WAYS[way](q)
                    assert caught.value.raw == payload
                assert q.empty()
    if not q.leases:
        q.put({"after": 1})
        assert q.get() == {"after": 1}


@pytest.mark.usefixtures("no_way_out")
def test_a_batch_ends_before_what_is_refused(make_queue: MakeQueue, each_engine: str, run_id: str, kind: str) -> None:
    q = make_queue(capacity=4, **FORMATS[kind])
    q.put_batch([[1], {"a": 2}])
    with SharedMemoryQueue("q", run_id=run_id, engine="atomics", **FORMATS[kind]) as stranger:
        put_payload(stranger, ATTACKS["pickle"], PICKLE)
    q.put([3])
    assert q.get_batch(4) == [[1], {"a": 2}]
    with pytest.raises(DeserializationError):
        q.get_batch(4)
    assert q.get_batch(4) == [[3]]


@pytest.mark.usefixtures("no_way_out")
def test_what_a_reader_keeps_back_is_not_read_at_its_end(
    make_queue: MakeQueue, each_engine: str, run_id: str, kind: str
) -> None:
    q = make_queue(capacity=4, **FORMATS[kind])
    with SharedMemoryQueue("q", run_id=run_id, **FORMATS[kind]) as reader:
        with SharedMemoryQueue("q", run_id=run_id, engine="atomics", **FORMATS[kind]) as stranger:
            q.put([1])
            put_payload(stranger, ATTACKS["pickle"], PICKLE)
        assert reader.get_batch(4) == [[1]]
        assert "items" in repr(reader)
        reader.get_metrics()
    assert q.qsize() == 1
    with pytest.raises(DeserializationError):
        q.get_nowait()


@pytest.mark.usefixtures("no_way_out")
def test_the_segment_does_not_choose_how_a_reader_reads(
    make_queue: MakeQueue, each_engine: str, run_id: str, kind: str
) -> None:
    """A stranger may say there that the queue has pickles: a reader that has asked for no pickles reads none."""
    q = make_queue(capacity=4, **FORMATS[kind])
    words = q._membership.memory.words()
    before = words.load(FORMAT_AT)
    words.store(FORMAT_AT, 0)
    with pytest.raises(QueueMismatchError):
        SharedMemoryQueue("q", run_id=run_id, **FORMATS[kind])
    put_payload_by_word(q, run_id)
    with pytest.raises(DeserializationError):
        q.get_nowait()
    words.store(FORMAT_AT, before)
    SharedMemoryQueue("q", run_id=run_id, **FORMATS[kind]).close()


def put_payload_by_word(q: SharedMemoryQueue, run_id: str) -> None:
    """Put a pickle into a queue that says it has pickles, as a program with other arguments."""
    with SharedMemoryQueue("q", run_id=run_id) as stranger:
        stranger.put(Attack("put"))


@pytest.mark.usefixtures("no_way_out")
def test_a_tag_that_changes_in_the_slot_leads_nowhere(make_queue: MakeQueue, each_engine: str, kind: str) -> None:
    q = make_queue(capacity=1, **FORMATS[kind])
    segment = q._membership.segment.buffer
    for tag in range(TAG_MASK + 1):
        q.put({"a": "b" * 300})
        segment[SLOTS_START + SLOT_META] = tag  # its low byte, on a little-endian machine
        try:
            q.get_nowait()
        except DeserializationError:
            assert tag != (OWN if kind == "own" else OBJECTS)
        else:
            assert tag in READ[kind]


@pytest.mark.parametrize("length", [0, 5, 4096, 4097, 1 << 31, (1 << 32) - 1])
@pytest.mark.usefixtures("no_way_out")
def test_a_length_that_a_stranger_states_is_an_error(
    make_queue: MakeQueue, each_engine: str, kind: str, length: int
) -> None:
    q = make_queue(capacity=1, **FORMATS[kind])
    q.put({"a": "b" * 300})
    segment = q._membership.segment.buffer
    segment[SLOTS_START + 8 : SLOTS_START + 12] = length.to_bytes(4, "little")
    with pytest.raises((DeserializationError, CorruptQueueError)):
        q.get_nowait()
    q.put([1])
    assert q.get() == [1]


@pytest.mark.usefixtures("no_way_out")
def test_any_bytes_under_any_tag_are_an_item_or_an_error(
    make_queue: MakeQueue, each_engine: str, run_id: str, kind: str
) -> None:
    q = make_queue(capacity=4, **FORMATS[kind])

    @few
    @given(st.binary(max_size=80) | st.sampled_from(sorted(ATTACKS.values())), st.integers(0, TAG_MASK))
    def any_bytes(payload: bytes, tag: int) -> None:
        put_payload(stranger, payload, tag)
        with suppress(DeserializationError):
            q.get_nowait()
            assert tag in READ[kind]
        with pytest.raises(Empty):
            q.get_nowait()

    with SharedMemoryQueue("q", run_id=run_id, engine="atomics", **FORMATS[kind]) as stranger:
        any_bytes()
