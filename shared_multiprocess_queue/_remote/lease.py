"""A leased item, and a dead letter, of a queue on a server."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol, Self

from .._platform import clock
from ..errors import SharedMemoryQueueError, ShutDown

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from .calls import Attempt
    from .holdings import Held
    from .requests import Call

    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")

__all__ = ["AwaitedItems", "AwaitedLease", "RemoteDeadLetter", "RemoteLease"]


class Ender(Protocol):
    """The handle, as leases and dead letters need it."""

    def decode(self, entry: bytes) -> Any:
        """Return the item of an entry."""

    def end(self, held: Held) -> None:
        """End a lease and its item."""

    def ending(self, held: Held) -> Call[None]:
        """Return the call that does so."""

    def give_back(self, held: Held, delay: float, last: bool) -> None:
        """End a lease and keep the item in the queue."""

    def giving_back(self, held: Held, delay: float, last: bool) -> Call[None]:
        """Return the call that does so."""

    def give_back_after_error(self, held: Held) -> None:
        """End a lease whose block an exception has left."""

    def giving_back_after_error(self, held: Held) -> Call[None]:
        """Return the call that does so."""

    def is_held(self, held: Held) -> bool:
        """Whether a lease has not been ended or lost."""

    async def run_in_task(self, call: Call[T]) -> T:
        """Run a call in this task."""

    def leasing(self, most: int, until: float) -> Call[list[RemoteLease[Any]]]:
        """Return the call that takes items for leases."""

    def drop(self, held: Held) -> None:
        """Give back what nothing refers to."""

    def end_letter(self, letter: RemoteDeadLetter[Any], puts_back: bool) -> None:
        """End a dead letter."""


class RemoteLease(Generic[T]):
    """An item of a ``RemoteQueue`` that this process has taken and has to end; as a ``Lease`` of a local queue.

    Its handle renews it in the background. If the server does not hear of it for ``lease`` seconds, as the process has
    died or cannot reach the server, another getter gets the item; then ``valid`` is False and ``done`` raises.
    """

    __slots__ = ("__orig_class__", "__weakref__", "_is_over", "_queue", "held")

    def __init__(self, queue: Ender, held: Held) -> None:
        self._queue = queue
        self.held = held
        self._is_over = False

    @property
    def item(self) -> T:
        """The item; it is deserialised each time.

        Raises:
            DeserializationError: that is not possible; the lease stays open.
        """
        item: T = self._queue.decode(self.held.entry)
        return item

    @property
    def raw(self) -> bytes:
        """The bytes of the item, as they lay on the server."""
        return self.held.entry

    @property
    def deliveries(self) -> int:
        """The number of times that the item was handed out, this time included; 1: for the first time."""
        return self.held.deliveries

    @property
    def position(self) -> int:
        """The number of the item in its queue: the same at each delivery, and no other item has it."""
        return self.held.position

    @property
    def valid(self) -> bool:
        """Whether no other getter can have the item now; asks no server, and is False before it is too late."""
        return not self._is_over and self._queue.is_held(self.held) and clock.now() < self.held.valid_until

    def done(self) -> None:
        """End the item: it is processed, and is delivered to none any more.

        Raises:
            LeaseLostError: the lease is over; the item was or will be delivered again.
            QueueUnavailableError: the server does not answer; call it again to learn whether this has ended the item.
        """
        self._queue.end(self.held)
        self._is_over = True

    def release(self, delay: float = 0.0, last: bool = False) -> None:
        """Give the item back, so that it is delivered again.

        Args:
            delay: seconds in which it is not delivered.
            last: whether all that is in the queue now is delivered before it.

        Raises:
            ValueError: the delay cannot be, or there is one although ``last``.
            LeaseLostError: the lease is over.
        """
        self._queue.give_back(self.held, delay, last)
        self._is_over = True

    async def done_async(self) -> None:
        """End the item as ``done`` does, from a task."""
        await self._queue.run_in_task(self._queue.ending(self.held))
        self._is_over = True

    async def release_async(self, delay: float = 0.0, last: bool = False) -> None:
        """Give the item back as ``release`` does, from a task."""
        await self._queue.run_in_task(self._queue.giving_back(self.held, delay, last))
        self._is_over = True

    async def release_after_error(self) -> None:
        """Give the item back behind all others, without an error, and without waiting for a server that is away."""
        with suppress(SharedMemoryQueueError):
            await self._queue.run_in_task(self._queue.giving_back_after_error(self.held))
        self._is_over = True

    @property
    def is_over(self) -> bool:
        """Whether it was ended by this object."""
        return self._is_over

    def note_end(self) -> None:
        """Note that the handle has ended it together with others."""
        self._is_over = True

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
            self._queue.give_back_after_error(self.held)
            self._is_over = True

    def __del__(self) -> None:
        with suppress(Exception):  # the interpreter may be shutting down
            if not self._is_over:
                self._queue.drop(self.held)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a lease cannot be pickled: it belongs to the process that took it; send its item instead")

    def __repr__(self) -> str:
        state = "over" if self._is_over else "open"
        return f"<{type(self).__name__} of position {self.position}, delivery {self.deliveries}, {state}>"


class AwaitedLease(Generic[T]):
    """What ``RemoteQueue.lease_async`` returns: ``async with`` awaits a lease and ends it; ``await`` gets it.

    It is for one lease.

    Args:
        queue: the handle.
        timeout: seconds to wait from when it is awaited on; None waits for ever.
    """

    __slots__ = ("_lease", "_queue", "_timeout")

    def __init__(self, queue: Ender, timeout: float | None) -> None:
        clock.seconds_of(True, timeout)
        self._queue: Ender | None = queue
        self._timeout = timeout

    async def _taking(self) -> RemoteLease[T]:
        queue, self._queue = self._queue, None
        if queue is None:
            raise RuntimeError("this was awaited before, and is for one lease; call lease_async() again for the next")
        (lease,) = await queue.run_in_task(queue.leasing(1, clock.deadline_of(True, self._timeout)))
        return lease

    def __await__(self) -> Generator[Any, Any, RemoteLease[T]]:
        return self._taking().__await__()

    async def __aenter__(self) -> RemoteLease[T]:
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
        if self._lease.is_over:
            return
        if exception is None:
            await self._lease.done_async()
        else:
            await self._lease.release_after_error()


class AwaitedItems(Generic[T]):
    """The items of a queue, each awaited; not an async generator, because an exception would end that."""

    def __init__(self, get: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._get = get

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        try:
            return await self._get()
        except ShutDown:
            raise StopAsyncIteration from None


class RemoteDeadLetter(Generic[T]):
    """An item that came back after ``max_deliveries`` deliveries, and is delivered no more.

    It stays where it is until a process ends it by ``done()``, or gives it back to the queue by ``put_back()``.
    """

    __slots__ = ("__orig_class__", "_deliveries", "_entry", "_position", "_queue", "attempt")

    def __init__(self, queue: Ender, position: int, deliveries: int, entry: bytes) -> None:
        self._queue = queue
        self._position = position
        self._deliveries = deliveries
        self._entry = entry
        self.attempt: Attempt | None = None  # the request to end it that was not answered

    @property
    def item(self) -> T:
        """The item; it is deserialised each time.

        Raises:
            DeserializationError: that is not possible.
        """
        item: T = self._queue.decode(self._entry)
        return item

    @property
    def raw(self) -> bytes:
        """The bytes of the item, as they lie on the server."""
        return self._entry

    @property
    def deliveries(self) -> int:
        """The number of times that the item was handed out."""
        return self._deliveries

    @property
    def position(self) -> int:
        """The number of the item in its queue."""
        return self._position

    def move_to(self, queue: Ender) -> None:
        """Belong to the handle of a forked child; what was asked without an answer is its parent's."""
        self._queue = queue
        self.attempt = None

    def done(self) -> None:
        """End the item.

        Raises:
            DeadLetterGoneError: the letter was ended or put back before.
            QueueUnavailableError: the server does not answer; call it again to learn whether this has ended it.
        """
        self._queue.end_letter(self, False)

    def put_back(self) -> None:
        """Give the item back to the queue, as if it was just put: its deliveries are counted anew.

        It comes before what waits, once a lease is free for it. It takes no place from puts.

        Raises:
            DeadLetterGoneError: the letter was ended or put back before.
            ShutDown: the queue was shut down; the letter stays.
            QueueUnavailableError: the server does not answer; call it again to learn whether this has put it back.
        """
        self._queue.end_letter(self, True)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of position {self._position}, {self._deliveries} deliveries>"
