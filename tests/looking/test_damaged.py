"""Looks at segments that are damaged, cut, half-made, or of another layout."""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared_multiprocess_queue import (
    CorruptQueueError,
    LayoutVersionError,
    QueueNotReadyError,
)
from shared_multiprocess_queue._platform import shared_memory
from shared_multiprocess_queue._ring import layout
from shared_multiprocess_queue._ring.snapshot import Look, Snapshot
from shared_multiprocess_queue._ring.stated_sizes import check
from stress.hostile import staging
from tests.support.lanes import examples
from tests.support.looks import answers, look_at, opened, path_of, seen, written
from tests.support.queues import MakeQueue


@pytest.mark.parametrize("size", [1, 255, 256, 260, 264, 4096, layout.SLOTS_START - 1, layout.SLOTS_START, -1, -4096])
def test_a_segment_that_was_cut_is_said_to_be_damaged(make_queue: MakeQueue, tmp_path: Path, size: int) -> None:
    path = written(make_queue(), tmp_path / "copy", lambda copy: copy.__delitem__(slice(size, None)))
    with pytest.raises(CorruptQueueError, match="copy"):
        look_at(path)


def test_a_segment_that_is_cut_ends_a_look_with_the_readers_error(make_queue: MakeQueue, tmp_path: Path) -> None:
    path = written(make_queue(), tmp_path / "copy", lambda copy: None)
    with opened(path) as words:
        look = Look(words, check(words, "copy", words.size))
        os.truncate(path, layout.TAIL)
        with pytest.raises(CorruptQueueError, match="ends before"):
            Snapshot(look, True)


@pytest.mark.parametrize("size", [0, layout.MAGIC_AT + 8, 4096, 100_000])
def test_a_segment_in_the_making_is_not_ready(tmp_path: Path, size: int) -> None:
    path = tmp_path / "copy"
    path.touch()
    if size:
        with path.open("r+b") as file:
            file.seek(shared_memory.MARK_AT)
            file.write(shared_memory.MARK)
            file.truncate(size)
    with pytest.raises(QueueNotReadyError, match="copy"):
        look_at(path)


@pytest.mark.parametrize("version", [0, layout.VERSION + 1])
def test_another_layout_is_told(make_queue: MakeQueue, tmp_path: Path, version: int) -> None:
    path = written(
        make_queue(), tmp_path / "copy", lambda copy: struct.pack_into("=Q", copy, layout.VERSION_AT, version)
    )
    with pytest.raises(LayoutVersionError):
        look_at(path)


def test_random_bytes_are_no_queue(tmp_path: Path) -> None:
    path = tmp_path / "copy"
    path.write_bytes(random.Random(1).randbytes(100_000))
    with pytest.raises(CorruptQueueError, match="not a queue"):
        look_at(path)


CONSTANTS = {
    *(layout.LEASES_AT, layout.MAX_DELIVERIES_AT, layout.MAX_ITEM_SIZE_AT),
    *range(layout.MAGIC_AT, layout.MAGIC_AT + layout.LINE),
}
EDGES = [0, 1, 2, 3, layout.RECORDS, 1 << 61, (1 << 62) - 1, 1 << 62, 1 << 63, (1 << 64) - 1]


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(), capacity=st.sampled_from([1, 2, 7, 50]))
def test_any_words_are_looked_at_in_a_bounded_number_of_steps(tmp_path: Path, seed: int, capacity: int) -> None:
    """A header whose constants are right, and everything else at random, or near the edges."""
    rng = Random(seed)
    geometry = layout.Geometry.of(capacity, 8, "mpmc")
    words = [0] * (geometry.definitions // layout.WORD)
    for at, value in (
        (layout.MAGIC_AT, layout.MAGIC),
        (layout.VERSION_AT, layout.VERSION),
        (layout.CAPACITY_AT, capacity),
        (layout.ITEM_SIZE_AT, 8),
        (layout.MAX_ITEM_SIZE_AT, 8),
        (layout.RECORDS_AT, layout.RECORDS),
        (layout.DEFINITIONS_SIZE_AT, layout.DEFINITIONS_SIZE),
        (layout.SEGMENT_SIZE_AT, geometry.size),
    ):
        words[at // layout.WORD] = value
    near = rng.getrandbits(62)
    for number in range(len(words)):
        if number * layout.WORD not in CONSTANTS and rng.random() < 0.8:
            some = rng.choice([rng.choice(EDGES), near + rng.randint(-capacity, capacity), rng.getrandbits(64)])
            words[number] = rng.choice([some, some << layout.STATE_BITS | rng.randrange(4)]) & layout.WORD_MASK
    path = tmp_path / "copy"
    path.write_bytes(struct.pack(f"={len(words)}Q", *words))
    os.truncate(path, geometry.size)
    with opened(path) as reader:
        look = Look(reader, check(reader, "copy", reader.size))
        found = Snapshot(look, True)
        assert 0 <= found.items <= capacity
        answers(look)
        assert reader.loads < 100 + 50 * layout.RECORDS + 200 * capacity


def test_positions_that_cannot_be_are_said_to_be_damage(make_queue: MakeQueue) -> None:
    q = make_queue(capacity=3)
    assert not seen(q).is_damaged
    stage = staging.Stage(q)
    stage.write(layout.HEAD, 5)
    assert seen(q).is_damaged
    stage.write(layout.HEAD, 0)
    stage.write(layout.SLOTS_START, 1 << layout.STATE_BITS | layout.FREE)
    assert seen(q).is_damaged
    stage.write(layout.SLOTS_START, layout.FREE)
    assert not seen(q).is_damaged
    stage.write(layout.TAIL, 3_000_000)  # its slot is the first one, too, and nothing was put there yet
    assert seen(q).is_damaged
    stage.write(layout.TAIL, 0)
    stage.write(layout.SLOTS_START, 3 << layout.STATE_BITS | layout.FREE)  # of the next lap, which tail has not come to
    assert seen(q).is_damaged
    stage.write(layout.SLOTS_START, layout.FREE)
    assert not seen(q).is_damaged


def test_a_queue_that_goes_on_during_a_look_is_said_to_be_moving(make_queue: MakeQueue) -> None:
    q = make_queue(capacity=3)
    with opened(path_of(q)) as words:
        load = words.load

        def load_and_move(offset: int) -> int:
            found = load(offset)
            if offset == layout.RECORDS_USED_AT and not q.qsize():
                q.put(1)
            return found

        words.load = load_and_move  # type: ignore[method-assign]
        assert Snapshot(Look(words, check(words, "q", words.size)), True).is_moving
    assert not seen(q).is_moving
