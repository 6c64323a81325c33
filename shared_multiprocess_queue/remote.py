"""``RemoteQueue``: the same queue on a server of Redis or Valkey."""

from __future__ import annotations

import os
import queue
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, SupportsIndex, overload

from ._engine import arguments as _arguments
from ._engine.arguments import DEFAULTS, NOT_GIVEN
from ._platform.clock import deadline_of
from ._remote import asked, metrics, where
from ._remote.ferry import Ferry
from ._remote.forms import Forms, Serializer
from ._remote.handle import Handle
from ._remote.lease import AwaitedItems, AwaitedLease, RemoteDeadLetter, RemoteLease
from .errors import LeasesRequiredError, QueueNotFoundError, ShutDown

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")

__all__ = ["RemoteDeadLetter", "RemoteLease", "RemoteQueue"]


class RemoteQueue(Generic[T]):
    """A bounded first-in-first-out queue on a server of Redis or Valkey, for processes of many machines.

    It has the calls, the exceptions and the meaning of a ``SharedMemoryQueue``; ``docs/remote.md`` has what differs,
    and what a network cannot promise. The items are everyday objects (``serializer="plain"``) unless it is said
    otherwise. Threads may share a handle, a forked child may use it, and it can be pickled.

    Args:
        url: of the server, with the queue's name behind a '#', as in ``rediss://user@host:6379/0#tasks``. Schemes:
            redis, valkey; rediss, valkeys (TLS); unix (socket); with +sentinel or +cluster behind them for several
            servers. SHMQ_PASSWORD has the password if the URL has none.
        create: make the queue; if False, attach to one that exists.
        capacity: largest number of items that wait. When attaching, leave what is fixed at creation out (capacity,
            item_size, leases, max_deliveries, lease), or pass the values of the queue; a default counts as left out.
        item_size: largest size of a serialised item, in bytes; at most 64 MiB.
        run_id: keeps queues of the same name apart.
        leases: most items that are in processing at once; 0: the queue does not know which are.
        max_deliveries: an item that comes back after it was delivered so often becomes a dead letter; 0: never.
        lease: seconds after which an item goes to another getter if the server does not hear of its holder. The handle
            renews its leases in the background, so an item may be processed for any time.
        exist_ok: with create: attach if the queue exists.
        wait: when attaching, seconds to wait for a queue that does not exist yet; None waits for ever.
        serializer: "plain" for everyday objects; "pickle" for all, which needs a secret or ``trust_the_server``.
        secret: 16 to 64 bytes, by which items are signed, and without which they are refused. Of a list the first
            signs, and each is accepted. It travels with a pickled handle.
        trust_the_server: read pickles that nothing has signed: whatever can write to the server can run code here.
        reconnect: seconds for which a call asks a server that does not answer; None: for as long as the server can
            tell that it was asked before, which is an hour. A call with a timeout asks for a second longer than that.
        accept_eviction: use a server that may drop the queue when its memory is full.

    Raises:
        ValueError: an argument can never work.
        QueueExistsError, QueueNotFoundError, QueueMismatchError, LayoutVersionError: as ``SharedMemoryQueue``.
        QueueUnavailableError: the server does not answer; a ConnectionError.
        QueueRefusedError: the server is too old, may drop keys, or refuses this user; an OSError.
        ModuleNotFoundError: redis-py is not installed; it comes with ``shared-multiprocess-queue[redis]``.
    """

    __slots__ = ("__dict__", "__orig_class__", "__weakref__", "_handle", "_place", "_run_id")

    Empty: ClassVar[type[queue.Empty]] = queue.Empty
    Full: ClassVar[type[queue.Full]] = queue.Full
    ShutDown: ClassVar[type[ShutDown]] = ShutDown

    def __init__(
        self,
        url: str,
        create: bool = False,
        capacity: SupportsIndex = DEFAULTS.capacity,
        item_size: SupportsIndex = DEFAULTS.item_size,
        run_id: str = "",
        *,
        leases: SupportsIndex = DEFAULTS.leases,
        max_deliveries: SupportsIndex = 0,
        lease: float = asked.LEASE,
        exist_ok: bool = False,
        wait: float | None = 0,
        serializer: Serializer = "plain",
        secret: bytes | Sequence[bytes] | None = None,
        trust_the_server: bool = False,
        reconnect: float | None = asked.RECONNECT,
        accept_eviction: bool = False,
    ) -> None:
        self._place = place = where.parse(url)
        self._run_id = str.__str__(run_id)
        is_new, may_exist = _arguments.ways_to_open(False, create, exist_ok, wait)
        wait_until = deadline_of(True, wait, "wait")
        forms = Forms(serializer, secret, trust_the_server)
        fixed = asked.fixed(capacity, item_size, leases, max_deliveries, lease, forms.name)
        patience = float("inf") if reconnect is None else asked.seconds("reconnect", reconnect)
        way = asked.Way(is_new, may_exist, wait_until, accept_eviction)
        self._handle = asked.handle(place, self._run_id, forms, patience, fixed, way)

    def _of_this_process(self) -> Handle:
        if self._handle.pid != os.getpid():
            self._handle = self._handle.here()
        return self._handle

    # ---- put --------------------------------------------------------------------------------------------------------

    @overload
    def put(self, item: T, block: bool = True, timeout: float | None = None) -> None: ...
    @overload
    def put(self, *, obj: T, block: bool = True, timeout: float | None = None) -> None: ...
    def put(self, item: T = NOT_GIVEN, block: bool = True, timeout: float | None = None, obj: T = NOT_GIVEN) -> None:
        """Put an item into the queue. When this returns, the server has it; a request that is repeated puts it once.

        Args:
            item: to put; what it may be is said at ``serializer``.
            block: wait for room if the queue is full.
            timeout: seconds to wait; None waits for ever, 0 does not wait.
            obj: the name that ``multiprocessing.Queue`` has for ``item``; give exactly one of the two.

        Raises:
            queue.Full: there was no room in time.
            ShutDown: the queue was shut down.
            ItemTooLargeError: the serialised item is larger than ``item_size``; a ValueError.
            SerializationError: the item cannot be serialised; a ValueError.
            QueueClosedError: this handle is closed; a ValueError and an OSError.
            QueueNotFoundError: the queue was removed, or its server has lost it.
            QueueUnavailableError: the server does not answer; its ``outcome`` says whether the item may be there.
            QueueRefusedError: the server's memory is full, for example.
        """
        until = deadline_of(block, timeout)
        handle = self._of_this_process()
        handle.run(handle.putting(_arguments.only_item("put", item, obj), until))

    @overload
    def put_nowait(self, item: T) -> None: ...
    @overload
    def put_nowait(self, *, obj: T) -> None: ...
    def put_nowait(self, item: T = NOT_GIVEN, obj: T = NOT_GIVEN) -> None:
        """Put an item if there is room now; as ``put(item, block=False)``."""
        self.put(_arguments.only_item("put_nowait", item, obj), False)

    def put_batch(self, items: Iterable[T], block: bool = True, timeout: float | None = None) -> None:
        """Put all of several items, or none. They are adjacent in the queue, and getters see all of them at once.

        Args:
            items: the items, in order; at most 10,000 and 16 MiB; nothing happens if there are none.
            block: wait until there is room for all of them.
            timeout: seconds to wait; None waits for ever, 0 does not wait.

        Raises:
            queue.Full: there was no room for all in time.
            ValueError: there are more items than the queue can ever hold.
            ShutDown, ItemTooLargeError, SerializationError, QueueClosedError, QueueNotFoundError,
                QueueUnavailableError, QueueRefusedError: as ``put``; all or nothing was put.
        """
        until = deadline_of(block, timeout)
        handle = self._of_this_process()
        handle.run(handle.putting_batch(items, until))

    async def put_async(self, item: T, timeout: float | None = None) -> None:
        """Put an item as ``put`` does, and await room."""
        handle = self._of_this_process()
        await handle.run_in_task(handle.putting(item, deadline_of(True, timeout)))

    async def put_batch_async(self, items: Iterable[T], timeout: float | None = None) -> None:
        """Put items as ``put_batch`` does, and await room."""
        handle = self._of_this_process()
        await handle.run_in_task(handle.putting_batch(items, deadline_of(True, timeout)))

    # ---- get --------------------------------------------------------------------------------------------------------

    def get(self, block: bool = True, timeout: float | None = None) -> T:
        """Take the next item out of the queue; if the queue has leases, until ``task_done``.

        Args:
            block: wait for an item if the queue is empty.
            timeout: seconds to wait; None waits for ever, 0 does not wait.

        Raises:
            queue.Empty: there was no item in time.
            ShutDown: the queue was shut down, and nothing can come any more.
            DeserializationError: the item was taken and cannot be deserialised; a ValueError that has its bytes.
            LeasesHeldError: this thread holds all leases by ``get``.
            QueueClosedError, QueueNotFoundError, QueueUnavailableError, QueueRefusedError: as ``put``.
        """
        handle = self._of_this_process()
        item: T = handle.run(handle.getting(1, deadline_of(block, timeout)))[0]
        return item

    def get_nowait(self) -> T:
        """Take the next item if there is one now; as ``get(block=False)``."""
        return self.get(False)

    def get_batch(self, max_items: SupportsIndex, block: bool = True, timeout: float | None = None) -> list[T]:
        """Wait for one item, and take it with all others that are there, up to a limit.

        Args:
            max_items: largest number of items to take.
            block: wait for an item if the queue is empty.
            timeout: seconds to wait; None waits for ever, 0 does not wait.

        Returns:
            One to ``max_items`` items, in their order. An item that cannot be deserialised ends the list.

        Raises:
            queue.Empty: there was no item in time.
            ValueError: max_items is below 1.
            ShutDown, DeserializationError, LeasesHeldError, QueueClosedError, QueueNotFoundError,
                QueueUnavailableError, QueueRefusedError: as ``get``.
        """
        until = deadline_of(block, timeout)
        handle = self._of_this_process()
        return handle.run(handle.getting(self._most(max_items), until))

    async def get_async(self, timeout: float | None = None) -> T:
        """Take the next item as ``get`` does, and await it.

        If the task is cancelled just as an item comes, the item goes back at once, and that was no delivery.
        """
        handle = self._of_this_process()
        item: T = (await handle.run_in_task(handle.getting(1, deadline_of(True, timeout))))[0]
        return item

    async def get_batch_async(self, max_items: SupportsIndex, timeout: float | None = None) -> list[T]:
        """Take items as ``get_batch`` does, and await the first."""
        handle = self._of_this_process()
        return await handle.run_in_task(handle.getting(self._most(max_items), deadline_of(True, timeout)))

    def lease_async(self, timeout: float | None = None) -> AwaitedLease[T]:
        """Take the next item as ``lease`` does, and await it.

        ``async with queue.lease_async() as lease`` ends the item at the end of its block, or gives it back after an
        exception, for example if the task is cancelled. ``await`` returns the lease.
        """
        return AwaitedLease(self._with_leases("lease_async"), timeout)

    async def join_async(self, timeout: float | None = None) -> bool:
        """Await that nothing is in the queue and nothing is being processed, as ``join`` does."""
        handle = self._with_leases("join_async")
        return await handle.run_in_task(handle.joining(deadline_of(True, timeout)))

    def __iter__(self) -> Iterator[T]:
        """Take one item after the other, and wait for the next, until the queue is shut down and nothing can come."""
        with suppress(ShutDown):
            while True:
                yield self.get()

    def __aiter__(self) -> AsyncIterator[T]:
        """Take one item after the other, and await the next, until the queue is shut down and nothing can come.

        A step that is cancelled takes nothing, and does not end the iteration.
        """
        return AwaitedItems(self.get_async)

    def _most(self, max_items: SupportsIndex) -> int:
        return min(_arguments.most_items(max_items), 1000)

    # ---- the end of work --------------------------------------------------------------------------------------------

    def shutdown(self, immediate: bool = False) -> None:
        """Shut the queue down, for all processes and for good, as ``SharedMemoryQueue.shutdown`` does.

        Args:
            immediate: drop what is in the queue: each ``get`` that begins from here on raises ShutDown.
        """
        self._of_this_process().shutdown(bool(immediate))

    @property
    def is_shutdown(self) -> bool:
        """Whether the queue was shut down, by any process."""
        return self._of_this_process().look().number("closed") > 0

    # ---- leases -----------------------------------------------------------------------------------------------------

    def lease(self, block: bool = True, timeout: float | None = None) -> RemoteLease[T]:
        """Take the next item as ``get`` does, for as long as it is being processed: it is this process's until then.

        Args:
            block: wait for an item, and for a lease, if there is none.
            timeout: seconds to wait; None waits for ever, 0 does not wait.

        Raises:
            queue.Empty: there was no item, or no lease for it, in time.
            ShutDown: the queue was shut down, and nothing can come any more, nor come back from another process.
            LeasesRequiredError: the queue was created without leases; a ValueError.
            LeasesHeldError, QueueClosedError, QueueNotFoundError, QueueUnavailableError: as ``get``.
        """
        handle = self._with_leases("lease")
        return handle.run(handle.leasing(1, deadline_of(block, timeout)))[0]

    def lease_batch(
        self, max_items: SupportsIndex, block: bool = True, timeout: float | None = None
    ) -> list[RemoteLease[T]]:
        """Wait for one item, and lease it with all others that are there, up to a limit; as ``get_batch``.

        Returns:
            One to ``max_items`` leases, each to be ended alone; fewer if fewer are free.
        """
        until = deadline_of(block, timeout)
        handle = self._with_leases("lease_batch")
        return handle.run(handle.leasing(self._most(max_items), until))

    @property
    def task_done(self) -> Callable[[], None]:
        """Say that an item is processed: the one that this thread has had longest, of those that ``get`` gave it.

        A queue without leases has no such method, for ``hasattr``. It raises ValueError if there is no such item, and
        LeaseLostError if the item's lease is over; the next call is then for the next item.
        """
        return self._with_leases("task_done").task_done

    @property
    def join(self) -> Callable[..., bool]:
        """Wait until nothing is in the queue and nothing is being processed: ``join(timeout=None)``.

        It returns whether there was such a moment in time. A queue without leases has no such method, for ``hasattr``.
        """
        self._with_leases("join")
        return self._join

    def _join(self, timeout: float | None = None) -> bool:
        return self._with_leases("join").join(deadline_of(True, timeout))

    def dead_letters(self) -> list[RemoteDeadLetter[T]]:
        """Return the dead letters: the items that came back after ``max_deliveries`` deliveries; the oldest first.

        There is room for as many as there are leases, at most 1,024. If it is taken, the oldest stay: the item is
        delivered again, behind all that is in the queue, and ``get_metrics()["dead_letters_refused"]`` counts it.
        """
        return self._of_this_process().letters()

    def _with_leases(self, method: str) -> Handle:
        handle = self._of_this_process()
        if not handle.fixed.leases:
            handle.check_open()
            raise LeasesRequiredError(method)
        return handle

    def _ferry(self, origin: str) -> Ferry:
        """Return the part of a bridge in this queue."""
        return Ferry(self._of_this_process(), origin)

    # ---- looking ----------------------------------------------------------------------------------------------------

    def qsize(self) -> int:
        """Return the number of items that no getter has; true when the server was asked."""
        return self._of_this_process().look().waiting

    def empty(self) -> bool:
        """Whether there is no item."""
        return self.qsize() == 0

    def full(self) -> bool:
        """Whether there is no room."""
        return self._of_this_process().look().in_line >= self.capacity

    def get_metrics(self) -> dict[str, Any]:
        """Return what an operator wants to know, as plain numbers and texts.

        Returns:
            ``queue_size``, ``queue_capacity``, ``queue_utilization_percent``, ``queue_item_size_bytes``, ``put_total``,
            ``got_total``, ``full_events``, ``empty_events``, ``leases``, ``leased`` (at most 1,000 of the items in
            processing: ``{"holder", "position", "deliveries", "ends_in"}``, the holder as ``host:pid``, the seconds
            until its lease ends unless it is renewed), ``redelivered``, ``lease_waits``, ``max_deliveries``,
            ``dead_letters``, ``dead_letters_total``, ``dead_letters_refused``, ``shut_down``, ``mode``, ``engine``,
            ``server`` (its name and version), ``server_is_durable`` (whether it writes a file of what it does),
            ``server_replicas``.
        """
        return metrics.of(self._of_this_process())

    @property
    def url(self) -> str:
        """The URL with which this handle was opened, without the password."""
        return self._place.shown

    @property
    def name(self) -> str:
        """The name of the queue."""
        return self._place.name

    @property
    def run_id(self) -> str:
        """The prefix that keeps queues of the same name apart; may be empty."""
        return self._run_id

    @property
    def capacity(self) -> int:
        """Largest number of items that wait."""
        return self._handle.fixed.capacity

    @property
    def item_size(self) -> int:
        """Largest size of a serialised item, in bytes."""
        return self._handle.fixed.item_size

    @property
    def leases(self) -> int:
        """Most items in processing at once; 0: the queue has no leases."""
        return self._handle.fixed.leases

    @property
    def max_deliveries(self) -> int:
        """Deliveries after which an item that comes back becomes a dead letter; 0: it never does."""
        return self._handle.fixed.max_deliveries

    @property
    def lease_seconds(self) -> float:
        """Seconds after which an item goes to another getter if the server does not hear of its holder."""
        return self._handle.fixed.lease / 1000

    @property
    def closed(self) -> bool:
        """Whether this handle is closed."""
        return self._handle.is_closed

    def __repr__(self) -> str:
        run = f", run_id={self._run_id!r}" if self._run_id else ""
        return f"<{type(self).__name__} {self.url!r}{run}{', closed' if self.closed else ''}>"

    # ---- the end ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close this handle; the queue stays. Its leases are given back; calls that wait end with QueueClosedError.

        If the server does not answer, it takes two seconds at most, and the leases end by time.
        """
        self._of_this_process().close()

    async def aclose(self) -> None:
        """Close this handle as ``close`` does, and the connections of this event loop. Other loops close theirs."""
        handle = self._of_this_process()
        await handle.close_in_task()

    def unlink(self) -> None:
        """Remove the queue with all its items. Handles that are attached get QueueNotFoundError from here on.

        It works on a closed handle, too, and does nothing if the queue is gone.
        """
        self._of_this_process().unlink()

    @staticmethod
    def remove(url: str, run_id: str = "", missing_ok: bool = False) -> None:
        """Remove the queue of a URL with all its items, whatever its sizes and its version.

        Args:
            url: of the queue.
            run_id: of the queue.
            missing_ok: it is no error if there is no such queue.

        Raises:
            QueueNotFoundError: there is no queue of that name; a FileNotFoundError.
            QueueUnavailableError, QueueRefusedError: as ``put``.
        """
        place = where.parse(url)
        if not asked.removed(place, run_id) and not missing_ok:
            raise QueueNotFoundError(f"there is no queue {place.shown} to remove; pass missing_ok=True if it may be")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        handle = self._of_this_process()
        handle.check_open()
        return _attach, (type(self), self._place.given, self._run_id, *handle.to_pickle()), self.__dict__ or None


def _attach(
    cls: type[RemoteQueue[Any]], url: str, run_id: str, uuid: str, forms: Forms, patience: float
) -> RemoteQueue[Any]:
    """Make a handle from a pickled one: find the same queue."""
    queue = cls.__new__(cls)
    queue._place = where.parse(url)
    queue._run_id = run_id
    queue._handle = asked.same_handle(queue._place, run_id, forms, patience, uuid)
    return queue
