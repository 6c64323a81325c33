"""``Queue`` and ``JoinableQueue``: what a program takes in the place of those of ``multiprocessing``."""

from __future__ import annotations

from typing import ClassVar, Final, SupportsIndex

from ._platform import shared_memory
from ._ring.layout import SLOT_PAYLOAD
from .errors import ArgumentError, shown
from .queue import SharedMemoryQueue, T

MOST: Final = 32_767  # items of a queue without a maxsize; as multiprocessing has it on macOS
SHARE: Final = 4  # such a queue, full of items of the largest size, takes one part in so many of all shared memory
LARGEST: Final = 1 << 29  # maxsize; twice as many slots, with the header, would not fit into an address space
ITEM_SIZE: Final = 65_536 - SLOT_PAYLOAD  # slots are 64 KiB apart, so what each needs first lies in one page


class Queue(SharedMemoryQueue[T]):
    """A queue without a name, made as ``multiprocessing.Queue`` is, and used as it is.

    It is there as long as a process has it open. Processes get it as an argument of theirs, or by fork.

    Args:
        maxsize: largest number of items; 0 or less means as many as fit: 32,767, or, if the system has less than 8 GiB
            of shared memory, one for each 256 KiB of it.
        ctx: ignored; ``multiprocessing.queues.Queue`` takes a context by this name.

    Example:
        >>> from shared_multiprocess_queue import Queue
        >>> tasks = Queue()
        >>> tasks.put({"id": 1})
        >>> tasks.get()
        {'id': 1}
        >>> tasks.close()
    """

    __slots__ = ()
    _TAKES_MEMORY_AS_USED: ClassVar[bool] = True
    _HAS_LEASES: ClassVar[bool] = False

    def __init__(self, maxsize: SupportsIndex = 0, *, ctx: object = None) -> None:
        try:
            wanted = maxsize.__index__()
        except AttributeError:
            raise ArgumentError(
                f"maxsize must be a whole number, not {shown(maxsize)}; 0 means as many as fit"
            ) from None
        if wanted > LARGEST:
            raise ArgumentError(f"maxsize must be at most {LARGEST:,}, not {shown(maxsize)}; 0 means as many as fit")
        most = as_many_as_fit(shared_memory.size_of_all())
        super().__init__(
            capacity=wanted if wanted > 0 else most, item_size=ITEM_SIZE, leases=most if self._HAS_LEASES else 0
        )

    @property
    def maxsize(self) -> int:
        """Largest number of items."""
        return self.capacity


class JoinableQueue(Queue[T]):
    """A ``Queue`` with ``task_done`` and ``join``, made as ``multiprocessing.JoinableQueue`` is, and used as it is.

    It has leases: if a process dies before its ``task_done``, the item goes to another. So call ``task_done`` for each
    item, also if there is no ``join``; without that a ``Queue`` is right. As many items can be in processing at once as
    fit into a queue without a maxsize, and each takes 64 KiB; beyond that a ``get`` waits for a ``task_done``.

    Args:
        maxsize: as of ``Queue``.
        ctx: likewise.

    Example:
        >>> from shared_multiprocess_queue import JoinableQueue
        >>> tasks = JoinableQueue()
        >>> tasks.put("a task")
        >>> tasks.get()
        'a task'
        >>> tasks.join(timeout=0)
        False
        >>> tasks.task_done()
        >>> tasks.join()
        True
        >>> tasks.close()
    """

    __slots__ = ()
    _HAS_LEASES: ClassVar[bool] = True


def as_many_as_fit(size: int | None) -> int:
    """Return the capacity of a queue without a maxsize, and the number of leases of a joinable one.

    Args:
        size: of all shared memory, in bytes; None if the system does not tell.
    """
    return MOST if size is None else max(1, min(MOST, size // SHARE // (ITEM_SIZE + SLOT_PAYLOAD)))
