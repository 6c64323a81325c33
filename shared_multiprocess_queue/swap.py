"""``Queue`` and ``JoinableQueue``: what a program takes in the place of those of ``multiprocessing``."""

from __future__ import annotations

from typing import ClassVar, Final, NamedTuple, SupportsIndex

from ._platform import shared_memory
from ._ring.layout import LINE, SLOT_PAYLOAD
from .errors import ArgumentError, shown
from .queue import SharedMemoryQueue, T

SHARE: Final = 4  # all places of a queue, and its largest item, take at most one part in so many of all shared memory
PLACES: Final = (
    1 << 27
)  # bytes of all places, at most, unless there are so many that each has the least that it can have
ADDRESSES: Final = 1 << 36  # bytes that all leases may span
LARGEST: Final = 1 << 29  # maxsize
LARGEST_ITEM: Final = 1 << 26
LARGEST_LEASED: Final = 1 << 24  # item of a queue with leases, because each lease spans the addresses for one
LEASES: Final = 512  # at least, unless there are addresses for less
MOST_LEASES: Final = 4096
_PLACE: Final = 2048  # from one place to the next, mostly at least; so what each needs first lies in one page
_LEAST: Final = 128  # the same, where there is little memory for many
_PAGE: Final = 4096


class Sizes(NamedTuple):
    """The sizes of a queue.

    Attributes:
        capacity: number of places.
        item_size: bytes of an item that takes one place.
        max_item_size: bytes of the largest item.
        leases: of a joinable queue.
    """

    capacity: int
    item_size: int
    max_item_size: int
    leases: int


def default_sizes(maxsize: int, memory: int | None, addresses: int | None, has_leases: bool = False) -> Sizes:
    """Return the sizes of a queue.

    An item that is larger than a place takes several. So all places together need no more memory than a few of the
    largest items, and the memory that a queue keeps does not grow with the number of its places.

    Args:
        maxsize: number of places; 0 or less: as many of 2 KiB as fit.
        memory: bytes that all shared memory together may take; None if the system does not tell.
        addresses: bytes that all mappings of this process together may take; None if there is no limit.
        has_leases: whether the queue is joinable.
    """
    span = ADDRESSES if addresses is None else min(ADDRESSES, addresses // SHARE)
    share = span if memory is None else min(span, memory // SHARE)
    largest = min(LARGEST_ITEM, share)
    if has_leases:
        largest = min(largest, LARGEST_LEASED, span // LEASES)
    largest = max(largest, _PLACE)
    if maxsize > 0:
        capacity, stride = maxsize, _stride(maxsize, share, largest + _PAGE)
    else:
        capacity, stride = max(min(PLACES, share) // _PLACE, 1), _PLACE
    item_size = min(stride - SLOT_PAYLOAD, largest)
    max_item_size = min(largest, capacity * item_size)
    return Sizes(capacity, item_size, max_item_size, max(min(span // max_item_size, MOST_LEASES), 1))


def _stride(places: int, share: int, most: int) -> int:
    """Return how far one place is from the next, if all may take ``share`` bytes, and each ``most``."""
    each = min(PLACES, share) // places
    if each >= _PAGE:
        each = min(each, most)
        return each - each % _PAGE
    if each >= _PLACE:
        return _PLACE
    return max(min(share // places, _PLACE) // LINE * LINE, _LEAST)


class Queue(SharedMemoryQueue[T]):
    """A queue without a name, made as ``multiprocessing.Queue`` is, and used as it is.

    It is there as long as a process has it open. Processes get it as an argument of theirs, or by fork. It takes items
    of up to 64 MiB, or of a quarter of all shared memory, if that is less, and memory as it is used: for its places
    128 MiB at most, or as much as a quarter of all shared memory, if that is less.

    Args:
        maxsize: number of places, which is the largest number of items; 0 or less means as many of 2 KiB as fit, 65,536
            at most. The places share the memory, and an item that is larger than a place takes several.
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
        memory, addresses = shared_memory.size_of_all(), shared_memory.address_limit()
        sizes = default_sizes(wanted, memory, addresses, self._HAS_LEASES)
        super().__init__(
            capacity=sizes.capacity,
            item_size=sizes.item_size,
            leases=sizes.leases if self._HAS_LEASES else 0,
            max_item_size=sizes.max_item_size,
        )

    @property
    def maxsize(self) -> int:
        """Number of places: the largest number of items."""
        return self.capacity


class JoinableQueue(Queue[T]):
    """A ``Queue`` with ``task_done`` and ``join``, made as ``multiprocessing.JoinableQueue`` is, and used as it is.

    It has leases: if a process dies before its ``task_done``, the item goes to another. So call ``task_done`` for each
    item, also if there is no ``join``; without that a ``Queue`` is right. 4,096 items can be in processing at once, 512
    where the addresses of a process are limited; beyond that a ``get`` waits for a ``task_done``. Its largest item has
    16 MiB, or less where addresses are limited.

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
