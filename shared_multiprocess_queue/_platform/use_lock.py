"""The lock of use: whether any process can still use a segment.

A handle takes a read lock of the kind that belongs to an open file description (OFD) on byte 0 of its segment, on the
very description that it maps. The kernel keeps the lock until the last reference to that description is gone: its
descriptors and its mappings. So the lock lives as long as the mapping does and needs no descriptor, a forked child
inherits it with the mapping, it ends with a kill, and it works across pid namespaces. A process that can take the write
lock knows that no process uses the segment, and none begins to while the process holds that lock.

The lock is independent of flock, which guards creation and removal.

macOS has no such locks on shared memory, and some sandboxes have none. There nothing proves that a segment is not used,
so nothing is swept.
"""

from __future__ import annotations

import errno
import struct
import sys
from typing import Final

IS_THERE: Final = sys.platform.startswith("linux")
if IS_THERE:
    import fcntl

    # struct flock: type, whence (from the start), start, length, pid (0 for a description)
    _SHARED: Final = struct.pack("hhqqi", fcntl.F_RDLCK, 0, 0, 1, 0)
    _ALONE: Final = struct.pack("hhqqi", fcntl.F_WRLCK, 0, 0, 1, 0)


def share(descriptor: int) -> bool:
    """Take the read lock for a description; False if another process is about to remove the segment.

    Args:
        descriptor: open for reading; the lock stays when it is closed, if the description is mapped.
    """
    return not IS_THERE or _take(descriptor, _SHARED, unknown=True)


def take_alone(descriptor: int) -> bool:
    """Take the write lock; False if any process uses the segment, or if there are no such locks.

    Args:
        descriptor: open for writing.
    """
    return IS_THERE and _take(descriptor, _ALONE, unknown=False)


def is_used(descriptor: int) -> bool | None:
    """Whether any process uses the segment; None if that cannot be told. It takes no lock, and nothing is changed.

    Args:
        descriptor: open for reading or for writing, of a description that has no such lock itself.
    """
    if not IS_THERE:
        return None
    try:
        found = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _ALONE)
    except OSError:  # some sandboxes have no such locks
        return None
    (kind,) = struct.unpack_from("h", found)
    return bool(kind != fcntl.F_UNLCK)


def _take(descriptor: int, lock: bytes, unknown: bool) -> bool:
    """Return whether the lock was taken; ``unknown`` if the system does not know such locks, as some sandboxes."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, lock)
    except (BlockingIOError, PermissionError):  # EAGAIN or EACCES, whichever the system gives
        return False
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS):
            raise
        return unknown
    return True
