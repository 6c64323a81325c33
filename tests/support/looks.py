"""Looks at segments from outside: by reading the file."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from shared_multiprocess_queue import (
    CorruptQueueError,
    SharedMemoryQueue,
)
from shared_multiprocess_queue._ring import layout
from shared_multiprocess_queue._ring.snapshot import Look, Snapshot
from shared_multiprocess_queue._ring.stated_sizes import check

SHM = Path("/dev/shm")


class Pread:
    """The words of a file that is open for reading; counts them."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.loads = 0

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def load(self, offset: int) -> int:
        self.loads += 1
        data = os.pread(self._descriptor, layout.WORD, offset)
        if len(data) < layout.WORD:
            raise CorruptQueueError(f"the file ends before byte {offset + layout.WORD:,}")
        return int.from_bytes(data, sys.byteorder)

    def close(self) -> None:
        os.close(self._descriptor)


@contextmanager
def opened(path: Path) -> Iterator[Pread]:
    words = Pread(path)
    try:
        yield words
    finally:
        words.close()


def path_of(q: SharedMemoryQueue) -> Path:
    return SHM / f"{q.run_id}-{q.name}-queue"


def seen(q: SharedMemoryQueue) -> Snapshot:
    """Return what is seen by reading the file."""
    with opened(path_of(q)) as words:
        return Snapshot(Look(words, check(words, q.name, words.size)), True)


def answers(look: Look) -> tuple[int, bool, bool]:
    return look.items(), look.is_empty(), look.is_full()


def written(q: SharedMemoryQueue, path: Path, change: Callable[[bytearray], object]) -> Path:
    """Write a copy of a segment that was changed."""
    copy = bytearray(q._membership.segment.buffer)
    change(copy)
    path.write_bytes(copy)
    return path


def look_at(path: Path) -> Snapshot:
    with opened(path) as words:
        return Snapshot(Look(words, check(words, "copy", words.size)), True)
