"""The lock that processes share.

The processes share one int32 in a segment of its own, which is 0 or 1 and is changed by compare-and-swap. The package
``shared_memory_lock`` declares that it needs Python 3.13.7. On older Pythons, which lack it, a class of this module
follows the same protocol on the same segment, so that processes of both kinds work together.

The int32 does not say which process holds the lock. That stands in the queue's own header, see _ring/batch_lock.py.
"""

from __future__ import annotations

from typing import Protocol

from ..errors import CorruptQueueError, QueueNotFoundError, QueueNotReadyError
from . import shared_memory
from .atomic_words import Flag
from .lazy_import import late

_SIZE = 4


class LockFlag(Protocol):
    """The int32, without waiting."""

    @property
    def buffer(self) -> memoryview:
        """The memory in which it lies, for an engine that has atomic operations of its own."""

    def try_acquire(self) -> bool:
        """Change 0 to 1; False if it was 1."""

    def is_held(self) -> bool:
        """Whether it is 1."""

    def release(self) -> None:
        """Store 0."""

    def close(self) -> None:
        """Close the segment."""


def segment_name(name: str, run_id: str) -> str:
    """Return the name that ``shared_memory_lock`` gives the segment of a lock."""
    return f"{run_id}-{name}-lock" if run_id else f"{name}-lock"


@late
def lock_class() -> type:
    """Return the class of the lock: that of the package, if it is installed.

    The package is imported when the first queue is opened and not before, because its own import of ``atomics`` takes
    longer than all of this package.
    """
    try:
        from .package_mutex import PackageLock  # noqa: PLC0415
    except ImportError:
        return OwnLock
    return PackageLock


def open_lock(name: str, run_id: str, create: bool) -> LockFlag:
    """Return the lock of that name.

    Args:
        name: of the lock.
        run_id: prefix of the segment's name; may be empty.
        create: make a new one, even if there is one already; if False, it must exist.

    Raises:
        QueueNotFoundError: there is no lock of that name.
        CorruptQueueError: the segment is no lock.
    """
    target = segment_name(name, run_id)
    try:
        segment = shared_memory.replace(target, _SIZE) if create else shared_memory.open_existing(target, uses=False)
    except QueueNotFoundError:
        raise QueueNotFoundError(
            f"the queue is incomplete: the segment {target!r} of its lock is gone, though the queue's own is there; "
            f"{shared_memory.how_to_remove(target.removesuffix('-lock'))}, and create it again"
        ) from None
    except QueueNotReadyError:
        if create:
            raise
        raise CorruptQueueError(f"segment {target!r} is not a lock: it is empty") from None
    try:
        if segment.size() < _SIZE:
            raise CorruptQueueError(f"segment {target!r} is not a lock: it has {segment.size()} bytes, not {_SIZE}")
        lock: LockFlag = lock_class()(name, run_id, segment)
        return lock
    except BaseException:
        segment.close()
        raise


class OwnLock:
    """The protocol of ``shared_memory_lock``, for Pythons in which that is not installed."""

    def __init__(self, name: str, run_id: str, segment: shared_memory.Segment) -> None:
        self._segment = segment
        self._flag = Flag(segment.buffer)

    @property
    def buffer(self) -> memoryview:
        """The memory in which it lies."""
        return self._segment.buffer

    def try_acquire(self) -> bool:
        """Change 0 to 1; False if it was 1."""
        return self._flag.set()

    def is_held(self) -> bool:
        """Whether it is 1."""
        return self._flag.is_set()

    def release(self) -> None:
        """Store 0."""
        self._flag.clear()

    def close(self) -> None:
        """Close the segment."""
        self._flag.release()
        self._segment.close()
