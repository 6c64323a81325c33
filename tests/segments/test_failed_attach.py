"""An attach that fails keeps nothing open."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from shared_multiprocess_queue import (
    CorruptQueueError,
    LayoutVersionError,
    QueueNotFoundError,
    SharedMemoryQueue,
    SharedMemoryQueueError,
)
from shared_multiprocess_queue._engine import choice
from shared_multiprocess_queue._platform import shared_memory
from shared_multiprocess_queue._ring import layout
from tests.support.damage import poke
from tests.support.descriptors import open_descriptors
from tests.support.places import SHM
from tests.support.segments import attach, create

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files"),
]


def test_an_attach_that_fails_keeps_nothing_open(run_id: str, path: Path, lock_path: Path, impatient: None) -> None:
    q = create(run_id)
    good = path.read_bytes()
    descriptors = open_descriptors()

    def fails(expected: type[Exception]) -> None:
        for _ in range(3):
            with pytest.raises(expected):
                attach(run_id)

    poke(path, layout.VERSION_AT, struct.pack("=Q", 77))
    fails(LayoutVersionError)
    poke(path, layout.MAGIC_AT, b"whatever")
    fails(CorruptQueueError)
    poke(path, 0, good[: layout.SLOTS_START])
    lock_path.rename(lock_path.with_suffix(".away"))
    fails(QueueNotFoundError)
    lock_path.with_suffix(".away").rename(lock_path)
    if not choice.has_native():
        with pytest.raises(ImportError):
            SharedMemoryQueue("q", run_id=run_id, engine="native")
    attach(run_id).close()
    q.unlink()
    fails(QueueNotFoundError)
    path.touch(0o600)
    fails(QueueNotFoundError)
    path.write_bytes(b"foreign")
    fails(SharedMemoryQueueError)
    path.unlink()
    assert open_descriptors() <= descriptors
    q.close()


def test_an_attach_to_a_queue_unlinked_meanwhile_keeps_nothing(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The attach fails, and keeps nothing open."""
    q = create(run_id)
    descriptors = open_descriptors()
    real = shared_memory.Segment.has_name

    def unlinked_just_now(self: shared_memory.Segment) -> bool:
        monkeypatch.undo()
        q.unlink()
        return real(self)

    monkeypatch.setattr(shared_memory.Segment, "has_name", unlinked_just_now)
    with pytest.raises(QueueNotFoundError, match="unlinked while"):
        attach(run_id)
    assert open_descriptors() <= descriptors
    assert q.get_metrics()["participants"] == {os.getpid(): 1}
    q.close()
