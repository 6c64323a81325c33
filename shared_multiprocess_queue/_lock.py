"""The lock that processes share: the only door to ``shared_memory_lock``.

What crosses processes is one int32 in a segment of its own, 0 or 1, changed by compare-and-swap. The package declares
that it needs Python 3.13.7; on older Pythons, where it is not installed, a class of ours speaks the same protocol on
the same segment, so that processes of both kinds work together.

The int32 knows neither its holder nor whether he lives. Both stand in the queue's own header, see _batch_lock.
"""

from __future__ import annotations

from typing import Any, Protocol

from . import _segment
from ._words import Flag
from .errors import CorruptQueueError, QueueNotFoundError, QueueNotReadyError

try:
    from shared_memory_lock import SharedMemoryLock
except ImportError:
    SharedMemoryLock = None

_SIZE = 4


class LockFlag(Protocol):
    """The int32, without waiting."""

    @property
    def buffer(self) -> memoryview:
        """The memory in which it lies, for whoever has atomic operations of his own."""

    def try_acquire(self) -> bool:
        """Change 0 to 1; False if it was 1."""

    def is_held(self) -> bool:
        """Whether it is 1."""

    def release(self) -> None:
        """Store 0."""

    def close(self) -> None:
        """Let go of the segment."""


def segment_name(name: str, run_id: str) -> str:
    """Return the name that ``shared_memory_lock`` gives the segment of a lock."""
    return f"{run_id}-{name}-lock" if run_id else f"{name}-lock"


def open_lock(name: str, run_id: str, create: bool) -> LockFlag:
    """Return the lock of that name.

    Args:
        name: of the lock.
        run_id: prefix of the segment's name; may be empty.
        create: make it anew, whatever is there; otherwise it must exist.

    Raises:
        QueueNotFoundError: there is none.
        CorruptQueueError: it is no lock.
    """
    target = segment_name(name, run_id)
    try:
        segment = _segment.replace(target, _SIZE) if create else _segment.open_existing(target)
    except QueueNotFoundError:
        raise QueueNotFoundError(
            f"the queue is incomplete: the segment {target!r} of its lock is gone, though the queue's own is there; "
            f"{_segment.how_to_remove(name)}, and create it again"
        ) from None
    except QueueNotReadyError:
        if create:
            raise
        raise CorruptQueueError(f"segment {target!r} is not a lock: it is empty") from None
    try:
        if segment.size < _SIZE:
            raise CorruptQueueError(f"segment {target!r} is not a lock: it has {segment.size} bytes, not {_SIZE}")
        lock: LockFlag = _lock_class(name, run_id, segment)
        return lock
    except BaseException:
        segment.abandon()
        raise


class OwnLock:
    """The protocol of ``shared_memory_lock``, for Pythons where that is not installed."""

    def __init__(self, name: str, run_id: str, segment: _segment.Segment) -> None:
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
        """Let go of the segment."""
        self._flag.release()
        self._segment.close()


_lock_class: Any = OwnLock

if SharedMemoryLock is not None:
    from atomics import INT, atomicview

    class PackageLock(SharedMemoryLock):  # type: ignore[misc]
        """``SharedMemoryLock`` on a segment that no resource tracker knows; the locking is the package's."""

        def __init__(self, name: str, run_id: str, segment: _segment.Segment) -> None:
            self.name = name
            self.run_id = run_id
            self._shm = self._segment = segment
            self._closed = False  # close() copes with what an interrupt leaves of the rest
            self._atomic_ctx = atomicview(segment.buffer[:_SIZE], INT)
            self._atomic = self._atomic_ctx.__enter__()

        @property
        def buffer(self) -> memoryview:
            """The memory in which it lies."""
            return self._segment.buffer

        def try_acquire(self) -> bool:
            """Change 0 to 1; False if it was 1."""
            return bool(self.acquire(blocking=False))

        def is_held(self) -> bool:
            """Whether it is 1."""
            return bool(self._atomic.load())

        def close(self) -> None:
            """Let go of the segment; may be called again, after an interrupt."""
            super().close()
            self._segment.close()  # the package does it once, whatever comes of it

    _lock_class = PackageLock
