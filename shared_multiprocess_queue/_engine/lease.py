"""A leased item: what ``SharedMemoryQueue.lease`` returns."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from types import MethodType, TracebackType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Self, cast

from .._codec import in_place
from .._ring.claim import CORRUPT, Payload, held_by
from ..errors import LeaseLostError, LeasesRequiredError, QueueClosedError
from .arguments import delay_of
from .calls import corrupt_slot

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from .._codec.formats import ItemCodec
    from .leasing import Leasing
    from .membership import Membership

    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")

F = TypeVar("F", bound=Callable[..., Any])


class _OnlyWithLeases:
    """A method that a queue without leases does not have: as if it had no such name, for ``hasattr``.

    ``logging.handlers.QueueListener`` calls ``task_done`` if a queue has it, and a ``multiprocessing.Queue`` has not.

    Args:
        method: of the class of queues.
    """

    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method

    def __get__(self, queue: Any, owner: type) -> Callable[..., Any]:
        if queue is None:
            return self._method
        if not queue.leases:
            raise LeasesRequiredError(self._method.__name__)
        return MethodType(self._method, queue)


def only_with_leases(method: F) -> F:
    """Take a method away from the queues that have no leases."""
    return cast(F, _OnlyWithLeases(method))


class Lease(Generic[T]):
    """An item that this process has taken and has to end: by ``done()``, or by ``release()``, which gives it back.

    Leaving its ``with`` block ends the item; leaving it by an exception gives it back, behind what is in the queue now.
    If the process dies before that, another getter gets the item. A lease that nothing refers to any more is given
    back, with a ResourceWarning. Threads may share a lease; it cannot be pickled, and a forked child does not have it.

    Example:
        >>> from shared_multiprocess_queue import SharedMemoryQueue
        >>> jobs = SharedMemoryQueue("doc-lease", create=True, leases=4)
        >>> jobs.put("a job")
        >>> with jobs.lease(timeout=1.0) as lease:
        ...     lease.item, lease.deliveries
        ('a job', 1)
        >>> jobs.join()
        True
        >>> jobs.close(); jobs.unlink()
    """

    __slots__ = ("__orig_class__", "__weakref__", "_codec", "_held", "_is_over", "_membership", "_payload", "_queue")

    def __init__(self, queue: object, membership: Membership, codec: ItemCodec, payload: Payload) -> None:
        self._queue = queue  # an open lease keeps its handle
        self._membership = membership
        self._codec = codec
        self._payload = payload
        self._held = held_by(payload)
        self._is_over = False

    @property
    def item(self) -> T:
        """The item; it is deserialised each time, so that ``deliveries`` can be looked at before that.

        Raises:
            DeserializationError: that is not possible; the lease stays open. If this exception leaves the ``with``
                block, the item comes again; ``done()`` ends it.
        """
        data, tag = self._payload
        if tag == CORRUPT:
            corrupt_slot(self._membership)
        item: T = self._codec.decode(data, tag)
        return item

    @property
    def raw(self) -> bytes:
        """The bytes of the item, as they lay in the queue."""
        return in_place.raw(*self._payload)

    @property
    def deliveries(self) -> int:
        """At least the number of times that the item was handed out, this time included; 1: for the first time."""
        return self._held.deliveries

    @property
    def position(self) -> int:
        """The number of the item in its queue: the same at each delivery, and no other item has it."""
        return self._held.position

    def done(self) -> None:
        """End the item: it is processed, and is delivered to none any more.

        Raises:
            LeaseLostError: the lease is over.
        """
        leasing = self._leasing()
        leasing.done(leasing.of_objects, self._held)
        self._is_over = True

    def release(self, delay: float = 0.0, last: bool = False) -> None:
        """Give the item back, so that it is delivered again; after its last delivery it becomes a dead letter.

        A dead letter takes up no lease, whatever the arguments. See ``max_deliveries`` of the queue.

        Args:
            delay: seconds in which it is not delivered.
            last: whether all that is in the queue now is delivered before it. Until then it takes up one of the leases:
                if all others are in processing, the queue waits for one of them to end.

        Raises:
            ValueError: the delay cannot be, or there is one although ``last``.
            LeaseLostError: the lease is over.
        """
        wait = delay_of(delay, last)
        leasing = self._leasing()
        leasing.give_back(leasing.of_objects, self._held, wait, last)
        self._is_over = True

    def _leasing(self) -> Leasing:
        leasing = self._membership.leasing
        assert leasing is not None
        return leasing

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_over:
            return
        if exception is None:
            self.done()
        else:
            with suppress(LeaseLostError, QueueClosedError):
                self.release(last=True)

    def __del__(self) -> None:
        with suppress(Exception):  # the interpreter may be shutting down
            held, leasing = self._held, self._leasing()
            if held in leasing.of_objects:
                leasing.drop(leasing.of_objects, "a Lease was dropped without done() or release()", held)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Lease cannot be pickled: it belongs to the process that took it; send its item instead")

    def __repr__(self) -> str:
        state = "over" if self._is_over else "open"
        return f"<{type(self).__name__} of position {self._held.position}, delivery {self.deliveries}, {state}>"


class AwaitedLease(Generic[T]):
    """What ``SharedMemoryQueue.lease_async`` returns: ``async with`` awaits a ``Lease`` and ends it; ``await`` gets it.

    It is for one lease.

    Args:
        take: awaits a lease.
    """

    __slots__ = ("_lease", "_take")

    def __init__(self, take: Callable[[], Coroutine[Any, Any, Lease[T]]]) -> None:
        self._take: Callable[[], Coroutine[Any, Any, Lease[T]]] | None = take

    def _taking(self) -> Coroutine[Any, Any, Lease[T]]:
        take, self._take = self._take, None
        if take is None:
            raise RuntimeError("this was awaited before, and is for one lease; call lease_async() again for the next")
        return take()

    def __await__(self) -> Generator[Any, Any, Lease[T]]:
        return self._taking().__await__()

    async def __aenter__(self) -> Lease[T]:
        self._lease = await self._taking()
        return self._lease

    def __enter__(self) -> NoReturn:
        raise TypeError("what lease_async() returns is for 'async with'; lease() is for 'with'")

    def __exit__(self, *_: object) -> None:
        """Be there, so that ``with`` comes to the error of ``__enter__``."""

    def __reduce__(self) -> NoReturn:
        raise TypeError("what lease_async() returns cannot be pickled or copied: it belongs to this process")

    async def __aexit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lease.__exit__(exception_type, exception, traceback)
