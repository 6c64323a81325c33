"""Named shared memory: the only door to it, and how a segment is born and goes (labels X of the protocol).

The calls beneath ``multiprocessing.shared_memory`` are used without that class, because before Python 3.13 it cannot
open a segment without telling the resource tracker, which then removes the segment from everybody when one process
ends. Registering and taking it back would be wrong too: that removes the entry of another process.

Birth: open exclusively, then flock the descriptor as proof of life (the kernel lets go of it when the process dies),
then see that the name still means this segment, reserve the memory, fill it, and store the magic last. So a segment
without magic is being made if its flock is taken, and is the leftover of a dead creator if not; whoever wants the name
removes the leftover *while holding its flock*.

Where shared memory has no flock (macOS), a leftover cannot be told from a segment in the making: it is reported as not
ready and has to be unlinked by hand. On Windows a segment lives while somebody has it open, and ``unlink`` does
nothing.
"""

from __future__ import annotations

import errno
import mmap
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from ._layout import MAGIC_AT, UNFINISHED, WORD
from .errors import ArgumentError, QueueExistsError, QueueNotFoundError, QueueNotReadyError

_POSIX: Final = sys.platform != "win32"
if _POSIX:
    import _posixshmem
    import fcntl

_PROBE: Final = 4096  # bytes of a foreign segment that are looked at
_SHM_FOLDER: Final = "/dev/shm"


class Segment:
    """A mapped segment.

    Attributes:
        name: its name, without the leading slash.
        buffer: all of it, writable.
        size: bytes.
    """

    def __init__(self, name: str, descriptor: int, mapping: mmap.mmap) -> None:
        self.name = name
        self.size = len(mapping)
        self.buffer = memoryview(mapping)
        self._mapping = mapping
        self._descriptor = descriptor

    @property
    def buf(self) -> memoryview:
        """The buffer, under the name that ``SharedMemory`` gives it."""
        return self.buffer

    def has_name(self) -> bool:
        """Whether the segment can still be found: its name was not removed."""
        return not _POSIX or os.fstat(self._descriptor).st_nlink > 0

    def identity(self) -> tuple[int, int]:
        """Return what tells this segment from another one that has its name later."""
        if not _POSIX:
            return 0, 0
        status = os.fstat(self._descriptor)
        return status.st_dev, status.st_ino

    def reserve(self, start: int, length: int) -> None:
        """Make sure that a range has memory behind it.

        Raises:
            OSError: there is none left. (Without this, writing there would end the process with SIGBUS.)
        """
        if hasattr(os, "posix_fallocate") and length:
            os.posix_fallocate(self._descriptor, start, length)

    def close(self) -> None:
        """Unmap the segment; everything that refers to its buffer has been released."""
        self.buffer.release()
        self._mapping.close()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def create(name: str, size: int, reserved: int, fill: Callable[[Segment], None]) -> Segment:
    """Make a segment that nobody has yet.

    Args:
        name: without the leading slash.
        size: bytes.
        reserved: how many of them, from the start, get memory at once.
        fill: writes everything, the magic last; others see nothing before that.

    Raises:
        QueueExistsError: the name is taken.
        QueueNotReadyError: a live process is making a segment of that name.
        ArgumentError: all the shared memory of this machine would not hold it.
        OSError: there is not enough shared memory left.
    """
    if not _POSIX:
        return _create_on_windows(name, size, fill)
    _refuse_more_than_there_is(name, reserved)
    while True:
        try:
            descriptor = _open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            _remove_leftover(name)
            continue
        try:
            if not _flock(descriptor) or not _means(name, descriptor):
                os.close(descriptor)  # somebody took the newborn for a leftover and removed it
                continue
            os.ftruncate(descriptor, size)
            segment = Segment(name, descriptor, mmap.mmap(descriptor, size))
            segment.reserve(0, reserved)
            segment.buffer[MAGIC_AT : MAGIC_AT + WORD] = UNFINISHED.to_bytes(WORD, sys.byteorder)
            fill(segment)
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            return segment
        except BaseException as error:
            remove(name)
            os.close(descriptor)
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise _no_space(name, reserved) from error
            raise


def open_existing(name: str) -> Segment:
    """Map a segment that exists, as long as it is; its content may be anything.

    Raises:
        QueueNotFoundError: nobody has that name.
        PermissionError: it belongs to another user.
    """
    if not _POSIX:
        return _open_on_windows(name)
    try:
        descriptor = _open(name, os.O_RDWR)
    except FileNotFoundError:
        raise QueueNotFoundError(
            f"there is no queue segment {name!r}; create it first with create=True, and use the same name and run_id"
        ) from None
    try:
        status = os.fstat(descriptor)
        if status.st_uid not in (os.geteuid(), 0):
            raise PermissionError(
                errno.EPERM, f"segment {name!r} belongs to user {status.st_uid}, not to this user or root; not attached"
            )
        if status.st_size == 0:  # opened, and not yet given a size
            raise _unfinished(name, descriptor)
        return Segment(name, descriptor, mmap.mmap(descriptor, status.st_size))
    except BaseException:
        os.close(descriptor)
        raise


def in_the_making(segment: Segment) -> QueueNotReadyError | QueueNotFoundError:
    """Return the error that tells why a segment without magic cannot be used."""
    return _unfinished(segment.name, segment._descriptor)


def remove(segment_name: str) -> None:
    """Remove a name; who has the segment mapped keeps it."""
    if _POSIX:
        with suppress(FileNotFoundError):
            _posixshmem.shm_unlink("/" + segment_name)


def create_small(name: str, size: int) -> Segment:
    """Make a segment of a few bytes, all zero, in the place of whatever has that name."""
    if not _POSIX:
        return _create_on_windows(name, size, lambda segment: None)
    while True:
        remove(name)
        try:
            descriptor = _open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            continue
        os.ftruncate(descriptor, size)
        segment = Segment(name, descriptor, mmap.mmap(descriptor, size))
        segment.reserve(0, size)
        return segment


# ---- POSIX
# --------------------------------------------------------------------------------------------------------------


def _open(name: str, flags: int) -> int:
    descriptor: int = _posixshmem.shm_open("/" + name, flags, mode=0o600)
    return descriptor


def _flock(descriptor: int) -> bool:
    """Take the flock of a segment, without waiting; True also where shared memory has none."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _has_flock() -> bool:
    return sys.platform.startswith("linux")


def _means(name: str, descriptor: int) -> bool:
    """Whether ``name`` means the open segment."""
    try:
        other = _open(name, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        mine, theirs = os.fstat(descriptor), os.fstat(other)
    finally:
        os.close(other)
    return (mine.st_dev, mine.st_ino) == (theirs.st_dev, theirs.st_ino)


def _remove_leftover(name: str) -> None:
    """Remove what a dead creator left under a name; return if the name may be free now.

    Raises:
        QueueExistsError: it is no leftover.
        QueueNotReadyError: its creator lives.
    """
    try:
        descriptor = _open(name, os.O_RDWR)
    except FileNotFoundError:
        return
    try:
        if not _is_unfinished(descriptor):
            raise QueueExistsError(f"a segment {name!r} exists already")
        if not _has_flock() or not _flock(descriptor):
            raise QueueNotReadyError(f"queue segment {name!r} is being created by a live process")
        if _is_unfinished(descriptor) and _means(name, descriptor):
            _posixshmem.shm_unlink("/" + name)
    finally:
        os.close(descriptor)


def _is_unfinished(descriptor: int) -> bool:
    """Whether this is a queue segment whose creation has not ended; what somebody else made never is."""
    size = os.fstat(descriptor).st_size
    if size == 0:
        return True
    with mmap.mmap(descriptor, min(size, _PROBE), access=mmap.ACCESS_READ) as probe:
        start = probe[:]
    return start[MAGIC_AT : MAGIC_AT + WORD] == UNFINISHED.to_bytes(WORD, sys.byteorder) or not any(start)


def _unfinished(name: str, descriptor: int) -> QueueNotReadyError | QueueNotFoundError:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return QueueNotReadyError(
            f"queue segment {name!r} is still being created by a live process; try again when that process is ready"
        )
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return QueueNotFoundError(
        f"the creation of queue segment {name!r} was never finished, its process is gone; create it again with "
        f"create=True"
    )


def _refuse_more_than_there_is(name: str, size: int) -> None:
    """Fail before filling the shared memory to its brim, if it cannot hold the segment anyway."""
    if os.path.isdir(_SHM_FOLDER):
        filesystem = os.statvfs(_SHM_FOLDER)
        total = filesystem.f_blocks * filesystem.f_frsize
        if size > total > 0:
            raise ArgumentError(
                f"segment {name!r} would take {size:,} bytes, and {_SHM_FOLDER} holds {total:,} in all; choose a "
                f"smaller capacity or item_size"
            )
        if size > filesystem.f_bavail * filesystem.f_frsize:
            raise _no_space(name, size)


def _no_space(name: str, size: int) -> OSError:
    free = ""
    if os.path.isdir(_SHM_FOLDER):
        filesystem = os.statvfs(_SHM_FOLDER)
        free = f", and {_SHM_FOLDER} has {filesystem.f_bavail * filesystem.f_frsize:,} left"
    return OSError(
        errno.ENOSPC,
        f"not enough shared memory for segment {name!r}: it takes {size:,} bytes{free}; choose a smaller capacity or "
        f"item_size, or unlink queues that nobody uses",
    )


# ---- Windows (written for, not tested)
# ----------------------------------------------------------------------------------


def _create_on_windows(name: str, size: int, fill: Callable[[Segment], None]) -> Segment:
    from multiprocessing.shared_memory import SharedMemory  # noqa: PLC0415 (no resource tracker there)

    try:
        memory: Any = SharedMemory(name, create=True, size=size)
    except FileExistsError:
        raise QueueExistsError(f"a segment {name!r} exists already") from None
    segment = Segment(name, -1, memory._mmap)
    fill(segment)
    return segment


def _open_on_windows(name: str) -> Segment:
    from multiprocessing.shared_memory import SharedMemory  # noqa: PLC0415

    try:
        memory: Any = SharedMemory(name)
    except FileNotFoundError:
        raise QueueNotFoundError(f"there is no queue segment {name!r}; create it first with create=True") from None
    return Segment(name, -1, memory._mmap)
