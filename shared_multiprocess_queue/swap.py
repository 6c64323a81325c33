"""``Queue`` and ``JoinableQueue``: what a program takes in the place of those of ``multiprocessing``."""

from __future__ import annotations

from typing import ClassVar, Final, NamedTuple, SupportsIndex

from ._platform import shared_memory
from ._ring.layout import SLOT_PAYLOAD
from .errors import ArgumentError, shown
from .queue import SharedMemoryQueue, T

SHARE: Final = (
    4  # what a queue without a maxsize, or one item, takes at most is one part in so many of all shared memory
)
PLACES: Final = 1 << 31  # bytes of all places of a queue without a maxsize, at most
ADDRESSES: Final = 1 << 36  # bytes that the places of a queue with a maxsize may span, and so may all leases
LARGEST: Final = 1 << 29  # maxsize
LARGEST_ITEM: Final = 1 << 26
MOST_LEASES: Final = 1024
_PLACE: Final = 2048  # from one place to the next, at least; so what each needs first lies in one page
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


def default_sizes(maxsize: int, memory: int | None, addresses: int | None) -> Sizes:
    """Return the sizes of a queue.

    Without a maxsize there are as many small places as fit, and a larger item takes several. With one there are so many
    places, each for an item of any size: they take addresses for it, and memory as it is used. If they are more than
    1,024, the addresses are shared among them, and then a large item may take several, too.

    Args:
        maxsize: largest number of items; 0 or less: as many as fit.
        memory: bytes that all shared memory together may take; None if the system does not tell.
        addresses: bytes that all mappings of this process together may take; None if there is no limit.
    """
    share = PLACES if memory is None else memory // SHARE
    span = ADDRESSES if addresses is None else min(ADDRESSES, addresses // SHARE)
    largest = max(min(LARGEST_ITEM, share), _PLACE)
    if maxsize > 0:
        capacity, stride = maxsize, min(max(span // maxsize, _PLACE), largest + _PAGE)
        stride -= stride % (_PAGE if stride > _PAGE else _PLACE)
    else:
        capacity, stride = max(min(PLACES, share, span) // _PLACE, 1), _PLACE
    item_size = min(stride - SLOT_PAYLOAD, largest)
    max_item_size = min(largest, capacity * item_size)
    return Sizes(capacity, item_size, max_item_size, min(max(span // max_item_size, 1), MOST_LEASES))


class Queue(SharedMemoryQueue[T]):
    """A queue without a name, made as ``multiprocessing.Queue`` is, and used as it is.

    It is there as long as a process has it open. Processes get it as an argument of theirs, or by fork. It takes items
    of up to 64 MiB, or of a quarter of all shared memory, if that is less, and memory as it is used. ``qsize()`` counts
    places, so without a maxsize an item of 10 KB counts as five.

    Args:
        maxsize: largest number of items; 0 or less means as many as fit: a quarter of all shared memory, 2 GiB at most,
            is made into places of 2 KiB. An item of up to 2,032 bytes takes one, a larger one as many as it needs.
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
        sizes = default_sizes(wanted, shared_memory.size_of_all(), shared_memory.address_limit())
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
    item, also if there is no ``join``; without that a ``Queue`` is right. 1,024 items can be in processing at once,
    fewer where the addresses of a process are limited; beyond that a ``get`` waits for a ``task_done``.

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
