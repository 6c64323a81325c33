"""Segments as files, for looks from outside: open for reading, never mapped, and nothing is changed or waited for.

A mapping of a segment that another program cuts ends its process by SIGBUS; a read of the file only ends early.
"""

from __future__ import annotations

import os
import stat
import sys
from io import FileIO
from itertools import chain
from types import TracebackType
from typing import Final, Self

from ..errors import CorruptQueueError
from . import use_lock
from .shared_memory import _GENTLY, _KINDS, _SHM_FOLDER

IS_THERE: Final = sys.platform.startswith("linux")
FOLDER: Final = _SHM_FOLDER
_WORD: Final = 8
_LONGEST_NAME: Final = 255  # bytes


def names(ending: str) -> list[str]:
    """Return the names in shared memory that have an ending, in order; some may be of no regular file."""
    # One C call, so that no signal handler can raise while the folder is open.
    entries = chain.from_iterable(map(os.scandir, (FOLDER,)))
    return sorted(name for name in [entry.name for entry in list(entries)] if name.endswith(ending))


def status_of(name: str) -> os.stat_result:
    """Return what the file system says of a name, without opening it.

    Raises:
        FileNotFoundError: there is no such name, or no segment can have it.
    """
    return os.stat(_path_of(name), follow_symlinks=False)


def space() -> tuple[int, int]:
    """Return how many bytes shared memory has in all, and how many are left."""
    filesystem = os.statvfs(FOLDER)
    return filesystem.f_blocks * filesystem.f_frsize, filesystem.f_bavail * filesystem.f_frsize


def reserve_and_give_back(size: int) -> None:
    """Take shared memory and give it back, to find out whether there is some.

    Raises:
        OSError: there is none, or this user may not make files there.
    """
    descriptor = os.open(FOLDER, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size)
    finally:
        os.close(descriptor)


class SegmentFile:
    """A segment that is open for reading. It is a ``Reader``: it can load words and cannot store them.

    Args:
        name: of the segment.

    Attributes:
        name: the same.

    Raises:
        FileNotFoundError: there is no such segment.
        PermissionError: this user may not read it.
        CorruptQueueError: a folder, a link, a FIFO or the like has the name.
        OSError: for example, no descriptor is left.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        path = _path_of(name)
        kind = _KINDS.get(stat.S_IFMT(status_of(name).st_mode))
        if kind is None:  # what it may have become by now is not followed and not waited for
            self._file = FileIO(
                os.fsdecode(path), opener=lambda path, flags: os.open(path, flags | os.O_CLOEXEC | _GENTLY)
            )
            kind = _KINDS.get(stat.S_IFMT(self.status().st_mode))
            if kind is not None:
                self._file.close()
        if kind is not None:
            raise CorruptQueueError(f"segment {name!r} is not a queue: {kind} has that name in {FOLDER}")

    def status(self) -> os.stat_result:
        """Return what the file system says of the segment now."""
        return os.fstat(self._file.fileno())

    def size(self) -> int:
        """Return the size now, in bytes."""
        return self.status().st_size

    def load(self, offset: int) -> int:
        """Return the word at an offset.

        Raises:
            CorruptQueueError: the file ends before it.
        """
        return int.from_bytes(self.read(offset, _WORD), sys.byteorder)

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes of the segment.

        Raises:
            CorruptQueueError: the file ends before their end.
        """
        data = os.pread(self._file.fileno(), length, offset)
        if len(data) < length:
            raise CorruptQueueError(
                f"segment {self.name!r} was cut: it ends before byte {offset + length:,}, of which its header speaks"
            )
        return data

    def is_used(self) -> bool | None:
        """Whether any process uses the segment; None if that cannot be told."""
        return use_lock.is_used(self._file.fileno())

    def close(self) -> None:
        """Close the file; may be called again."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _path_of(name: str) -> bytes:
    """Return the path of a segment.

    Raises:
        FileNotFoundError: no segment can have that name.
    """
    try:
        encoded = os.fsencode(name)
    except UnicodeEncodeError:
        encoded = b""
    if not 0 < len(encoded) <= _LONGEST_NAME or b"/" in encoded or b"\0" in encoded:
        raise FileNotFoundError(f"no segment can have the name {name!r}")
    return f"{FOLDER}/".encode() + encoded
