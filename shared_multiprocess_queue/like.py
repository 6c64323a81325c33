"""``QueueLike``, what every queue can do; and ``open_queue``, which opens a local or a remote one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, SupportsIndex

from .errors import ArgumentError
from .queue import SharedMemoryQueue

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from .remote import RemoteQueue

    T = TypeVar("T", default=Any)
    T_co = TypeVar("T_co", covariant=True, default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")
    T_co = TypeVar("T_co", covariant=True)

__all__ = ["LeaseLike", "QueueLike", "open_queue"]

_MISTYPED: Final = re.compile(
    r"\s*(//|(redis|rediss|valkey|valkeys|unix)(\+[a-z]*)?:).*[#@]", re.IGNORECASE | re.DOTALL
)

_ON_SERVERS_ALONE: Final = ("accept_eviction", "lease", "reconnect", "secret", "trust_the_server")
_HERE_ALONE: Final = ("delete", "dumps", "engine", "loads", "lock", "max_item_size", "mode", "timeout")


class LeaseLike(Protocol[T_co]):
    """An item that is being processed: a ``Lease``, or a ``RemoteLease``."""

    @property
    def item(self) -> T_co:
        """The item."""

    @property
    def raw(self) -> bytes:
        """Its bytes."""

    @property
    def deliveries(self) -> int:
        """The number of times that it was handed out."""

    @property
    def position(self) -> int:
        """The number of the item in its queue."""

    def done(self) -> None:
        """End the item."""

    def release(self, delay: float = 0.0, last: bool = False) -> None:
        """Give the item back."""

    def __enter__(self) -> Self:
        """Return the lease."""

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the item, or give it back after an exception."""


class QueueLike(Protocol[T]):
    """The calls that all queues have, for annotations: ``SharedMemoryQueue`` and ``RemoteQueue`` document them.

    Example:
        >>> from shared_multiprocess_queue import QueueLike, SharedMemoryQueue
        >>> def work(tasks: QueueLike[int]) -> int:
        ...     return sum(tasks)
        >>> tasks = SharedMemoryQueue("doc-like", create=True)
        >>> tasks.put_batch([1, 2]); tasks.shutdown()
        >>> work(tasks)
        3
        >>> tasks.close(); tasks.unlink()
    """

    def put(self, item: T, block: bool = True, timeout: float | None = None) -> None:
        """Put an item."""

    def put_nowait(self, item: T) -> None:
        """Put an item if there is room now."""

    def put_batch(self, items: Iterable[T], block: bool = True, timeout: float | None = None) -> None:
        """Put all of several items, or none."""

    def get(self, block: bool = True, timeout: float | None = None) -> T:
        """Take the next item."""

    def get_nowait(self) -> T:
        """Take the next item if there is one now."""

    def get_batch(self, max_items: SupportsIndex, block: bool = True, timeout: float | None = None) -> list[T]:
        """Wait for one item, and take what is there."""

    async def put_async(self, item: T, timeout: float | None = None) -> None:
        """Put an item, and await room."""

    async def put_batch_async(self, items: Iterable[T], timeout: float | None = None) -> None:
        """Put all of several items, or none, and await room."""

    async def get_async(self, timeout: float | None = None) -> T:
        """Take the next item, and await it."""

    async def get_batch_async(self, max_items: SupportsIndex, timeout: float | None = None) -> list[T]:
        """Await one item, and take what is there."""

    def __iter__(self) -> Iterator[T]:
        """Take one item after the other."""

    def shutdown(self, immediate: bool = False) -> None:
        """Accept no more items."""

    @property
    def is_shutdown(self) -> bool:
        """Whether it was shut down."""

    def lease(self, block: bool = True, timeout: float | None = None) -> LeaseLike[T]:
        """Take the next item for as long as it is being processed."""

    @property
    def task_done(self) -> Any:
        """``task_done()``: say that an item is processed."""

    @property
    def join(self) -> Any:
        """``join(timeout=None) -> bool``: wait until nothing is in the queue and nothing is being processed."""

    def qsize(self) -> int:
        """Return the number of items."""

    def empty(self) -> bool:
        """Whether there is no item."""

    def full(self) -> bool:
        """Whether there is no room."""

    def get_metrics(self) -> dict[str, Any]:
        """Return what an operator wants to know."""

    @property
    def name(self) -> str:
        """The name of the queue."""

    @property
    def run_id(self) -> str:
        """The prefix that keeps queues of the same name apart."""

    @property
    def capacity(self) -> int:
        """Largest number of items that wait."""

    @property
    def item_size(self) -> int:
        """Largest size of a serialised item, in bytes."""

    @property
    def leases(self) -> int:
        """Most items in processing at once."""

    @property
    def closed(self) -> bool:
        """Whether this handle is closed."""

    def close(self) -> None:
        """Close this handle."""

    def unlink(self) -> None:
        """Remove the queue."""

    def __enter__(self) -> Self:
        """Return the handle."""

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the handle."""


def open_queue(where: str, create: bool = False, **options: Any) -> SharedMemoryQueue[Any] | RemoteQueue[Any]:
    """Open a queue of this machine by its name, or one on a server by its URL.

    Args:
        where: a name, for a ``SharedMemoryQueue``; or a URL such as ``redis://host:6379/0#tasks``, for a
            ``RemoteQueue``. What has '://' in it is a URL.
        create: make the queue.
        options: the other arguments of that class.

    Raises:
        TypeError: that class has no such option.
        ValueError, OSError: as that class.

    Example:
        >>> from shared_multiprocess_queue import open_queue
        >>> tasks = open_queue("doc-open", create=True, capacity=10)
        >>> tasks.put("a")
        >>> tasks.get()
        'a'
        >>> tasks.close(); tasks.unlink()
    """
    if isinstance(where, str) and "://" in where:
        from .remote import RemoteQueue as Remote  # noqa: PLC0415  # imports redis-py

        for option in options:
            if option in _HERE_ALONE:
                advice = "; its item_size may be up to 64 MiB" if option == "max_item_size" else "; leave it out"
                raise TypeError(f"a queue on a server has no {option}{advice}")
        return Remote(where, create, **options)
    if isinstance(where, str) and _MISTYPED.match(where):
        raise ArgumentError(
            "the name begins as a URL does, without its '://', and may have a password in it; write "
            "redis://host:6379/0#tasks, or a name without '#' and '@'"
        )
    for option in options:
        if option in _ON_SERVERS_ALONE:
            raise TypeError(
                f"a queue of this machine has no {option}; leave it out, or give the URL of a queue on a server"
            )
    return SharedMemoryQueue(where, create, **options)
