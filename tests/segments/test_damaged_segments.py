"""What is not a queue, or not one any more, is refused with the reason."""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared_multiprocess_queue import (
    CorruptQueueError,
    LayoutVersionError,
    QueueExistsError,
    QueueNotFoundError,
    SharedMemoryQueueError,
)
from shared_multiprocess_queue._ring import layout
from tests.support.damage import poke
from tests.support.lanes import examples
from tests.support.places import SHM
from tests.support.segments import attach, create, remove, segments_of, works

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files"),
]


WORD = layout.WORD


def test_another_layout_version_is_refused_with_both_numbers(run_id: str, path: Path) -> None:
    q = create(run_id)
    for found in (0, layout.VERSION + 1, (1 << 64) - 1):
        poke(path, layout.VERSION_AT, struct.pack("=Q", found))
        with pytest.raises(LayoutVersionError) as caught:
            attach(run_id)
        assert (caught.value.found, caught.value.expected) == (found, layout.VERSION)
        assert str(found) in str(caught.value)
        assert isinstance(caught.value, RuntimeError)
        with pytest.raises(QueueExistsError):
            create(run_id)
    remove(q)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("MAGIC_AT", 1),
        ("MAGIC_AT", (1 << 64) - 1),
        ("CAPACITY_AT", 0),
        ("CAPACITY_AT", 2),
        ("CAPACITY_AT", 4),
        ("CAPACITY_AT", 1 << 31),
        ("CAPACITY_AT", (1 << 64) - 1),
        ("ITEM_SIZE_AT", 0),
        ("ITEM_SIZE_AT", 1),
        ("ITEM_SIZE_AT", 1 << 20),
        ("ITEM_SIZE_AT", (1 << 64) - 1),
        ("MODE_AT", 2),
        ("MODE_AT", (1 << 64) - 1),
        ("RECORDS_AT", 0),
        ("RECORDS_AT", layout.RECORDS + 1),
        ("DEFINITIONS_SIZE_AT", 0),
        ("DEFINITIONS_SIZE_AT", 1 << 60),
        ("SEGMENT_SIZE_AT", 0),
        ("SEGMENT_SIZE_AT", 1 << 60),
    ],
)
def test_a_header_that_cannot_be_true_is_a_corrupt_queue(run_id: str, path: Path, word: str, value: int) -> None:
    q = create(run_id)
    poke(path, getattr(layout, word), struct.pack("=Q", value))
    before = path.read_bytes()
    with pytest.raises(CorruptQueueError) as caught:
        attach(run_id)
    assert isinstance(caught.value, RuntimeError)
    assert path.name in str(caught.value)
    assert path.read_bytes() == before
    remove(q)


@pytest.mark.parametrize("missing", [1, 4, 8, 4096, "all but the header", "all but one page", "all but 100 bytes"])
def test_a_queue_that_was_cut_off_is_corrupt(run_id: str, path: Path, missing: Any) -> None:
    q = create(run_id)
    size = path.stat().st_size
    rest = {"all but the header": layout.SLOTS_START, "all but one page": 4096, "all but 100 bytes": 100}
    q.close()  # to touch what is cut off would be a SIGBUS
    with path.open("r+b") as file:
        file.truncate(rest[missing] if isinstance(missing, str) else size - missing)
        kept = file.read()
    if missing == "all but 100 bytes":
        poke(path, 0, b"not any more what a creator leaves")
        kept = path.read_bytes()
    with pytest.raises(CorruptQueueError):
        attach(run_id)
    with pytest.raises(QueueExistsError):
        create(run_id)
    assert path.read_bytes() == kept
    q.unlink()


def test_a_queue_without_its_lock_cannot_be_attached(run_id: str, lock_path: Path) -> None:
    q = create(run_id)
    lock_path.unlink()
    with pytest.raises(QueueNotFoundError, match=lock_path.name):
        attach(run_id)
    assert works(q), "who is attached goes on"
    remove(q)
    assert segments_of(run_id) == set()


@pytest.mark.parametrize("size", [0, 2])
def test_a_queue_whose_lock_was_cut_off_is_corrupt(run_id: str, lock_path: Path, size: int) -> None:
    q = create(run_id)
    os.truncate(lock_path, size)
    with pytest.raises(CorruptQueueError, match=lock_path.name):
        attach(run_id)
    q.unlink()
    q.close()


def test_a_queue_to_which_a_byte_was_added_is_corrupt(run_id: str, path: Path) -> None:
    q = create(run_id)
    with path.open("ab") as file:
        file.write(b"x")
    with pytest.raises(CorruptQueueError):
        attach(run_id)
    remove(q)


FOREIGN = {
    "a few bytes": b"hello",
    "a page": b"somebody else's data" * 200,
    "zeros where the magic would be": b"data" * 8 + bytes(4096),
    "much": b"somebody else's data" * 20_000,
    "much, and zeros where the magic would be": b"data" * 8 + bytes(200_000),
    "an odd number of bytes": b"x" * 100_001,
    "a zero": bytes(1),
    "a page of zeros": bytes(4096),
    "zeros, as many as a queue has bytes": bytes(layout.Geometry.of(3, 4096, "mpmc").size),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_segment_is_neither_used_nor_removed(run_id: str, path: Path, kind: str) -> None:
    path.write_bytes(FOREIGN[kind])
    inode = path.stat().st_ino
    with pytest.raises(QueueExistsError, match="exists already"):
        create(run_id)
    with pytest.raises(CorruptQueueError, match="not a queue"):  # and not: create it, which cannot work
        attach(run_id)
    assert path.read_bytes() == FOREIGN[kind]
    assert path.stat().st_ino == inode
    assert segments_of(run_id) == {path.name}
    path.unlink()


@settings(
    max_examples=examples(300), deadline=None, database=None, print_blob=True, suppress_health_check=list(HealthCheck)
)
@given(
    changes=st.lists(
        st.tuples(
            st.integers(0, layout.SLOTS_START // WORD + 40).map(lambda number: number * WORD)
            | st.integers(layout.MAGIC_AT // WORD, layout.MAGIC_AT // WORD + 7).map(lambda number: number * WORD),
            st.integers(0, (1 << 64) - 1) | st.integers(0, 5),
        ),
        min_size=1,
        max_size=4,
    ),
    cut=st.none() | st.integers(1, 70_000),
)
def test_whatever_stands_in_a_segment_attach_gives_a_reason_or_works(
    run_id: str, path: Path, impatient: None, changes: list[tuple[int, int]], cut: int | None
) -> None:
    """Attaching to any bytes is refused with a reason, or works."""
    q = create(run_id)
    q.put("an item")
    q.close()
    for at, value in changes:
        poke(path, at, struct.pack("=Q", value))
    if cut is not None:
        os.truncate(path, max(0, path.stat().st_size - cut))
    try:
        # An error of ours, or ENOENT and the like: never a TypeError, a struct.error or the end of this process.
        with suppress(SharedMemoryQueueError), attach(run_id) as found:
            with suppress(found.Empty, found.ShutDown, SharedMemoryQueueError):
                found.get(timeout=0)
            found.qsize()
            found.get_metrics()
    finally:
        for name in segments_of(run_id):
            (SHM / name).unlink()
