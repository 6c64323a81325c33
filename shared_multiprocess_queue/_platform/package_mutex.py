"""The lock of the package ``shared_memory_lock``, if that is installed: the only door to it."""

from __future__ import annotations

from atomics import INT, atomicview
from shared_memory_lock import SharedMemoryLock

from . import shared_memory

SIZE = 4
"""Bytes of its segment."""


class PackageLock(SharedMemoryLock):  # type: ignore[misc]
    """``SharedMemoryLock`` on a segment that no resource tracker knows; the package does the locking."""

    def __init__(self, name: str, run_id: str, segment: shared_memory.Segment) -> None:
        self.name = name
        self.run_id = run_id
        self._shm = self._segment = segment
        self._closed = False  # close() works even if an interrupt ends this method after any later line
        self._atomic_ctx = atomicview(segment.buffer[:SIZE], INT)
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
        """Close the segment; may be called again, after an interrupt."""
        super().close()
        self._segment.close()  # again, because the package tries it only once, even if that fails
