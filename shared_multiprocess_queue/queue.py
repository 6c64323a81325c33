"""The public class."""

from __future__ import annotations

import atexit
import os
import queue
import sys
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, SupportsIndex, overload

from ._codec.formats import Format, Serializer
from ._engine import arguments as _arguments
from ._engine import choice, in_place, lifecycle, metrics, new_sizes, opening, sweep
from ._engine.arguments import DEFAULT_FORMAT, DEFAULTS, NOT_GIVEN, Sizes
from ._engine.contract import Engine, EngineName, LeaseCalls
from ._engine.dead_letter import DeadLetter
from ._engine.definition_log import Definitions
from ._engine.doorbell import Doorbell
from ._engine.in_place import Reservation, View
from ._engine.lease import AwaitedLease, Lease, only_with_leases
from ._engine.membership import Membership
from ._engine.records import State
from ._platform import processes
from ._platform.atomic_words import keep_to_the_end
from ._platform.clock import FOREVER, deadline_of
from ._platform.handing_over import Ticket
from ._platform.lazy_import import late
from ._platform.mutex import LockFlag
from ._platform.shared_memory import Segment
from ._ring import ending
from ._ring.layout import ITEMS, SPACE, UNLINKED_AT, Mode
from .errors import LeasesRequiredError, QueueClosedError, QueueNotFoundError, ShutDown, TooManyParticipantsError

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # type checkers know it, and that of Python 3.11 has no default

    from ._engine.tasks import Tasks

    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")


@late
def _tasks_class() -> type[Tasks]:
    from ._engine.tasks import Tasks  # noqa: PLC0415 (most programs do not import asyncio)

    return Tasks


class _AwaitedItems(Generic[T]):
    """The items of a queue, each awaited; not an async generator, because an exception would end that."""

    def __init__(self, queue: SharedMemoryQueue[T]) -> None:
        self._queue = queue

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        try:
            return await self._queue.get_async()
        except ShutDown:
            raise StopAsyncIteration from None


class SharedMemoryQueue(Generic[T]):
    """A bounded first-in-first-out queue of Python objects in named shared memory.

    Many processes and threads, related or not, use one queue through handles of this class. ``put`` and ``get`` have
    the arguments and errors of ``queue.Queue``, and take no lock, but for large items of a ``Queue``. A process may die
    at any instruction: items that others have put are not lost, and no other process is blocked.

    A queue stays until ``unlink()``, even if all its processes end before that, unless it was made with ``delete=True``
    or without a name. A handle can be pickled and copied: the copy attaches by name, and keeps the class and the
    attributes that were set. A forked child may use a handle of its parent, and threads may share one.
    ``SharedMemoryQueue[T]`` says that the items are of type T.

    Args:
        name: the name by which processes find the queue: any text without '/' and NUL, about 240 bytes with the run_id.
            Without a name the queue is new and anonymous: its name cannot be guessed, and it has ``delete=True``.
        create: make the queue; if False, attach to one that exists.
        capacity: number of slots, each for one item. When attaching, leave capacity, item_size, mode, leases,
            max_deliveries, max_item_size and delete out, or pass the values of the queue; a default counts as left out.
        item_size: largest size of a serialised item in one slot, in bytes. The queue takes memory for capacity x
            item_size.
        run_id: keeps queues of the same name apart: it is a prefix of the segment's name, which is
            ``{run_id}-{name}-queue``, or ``{name}-queue`` without a run_id.
        lock: ignored; accepted because earlier versions took one.
        mode: "mpmc" for any number of producers and consumers. "spsc" for at most one handle that produces and at most
            one that consumes, which is enforced; threads may share such a handle.
        leases: most items that are in processing at once, so that the item of a consumer that dies goes to another; see
            ``lease``. 0: the queue does not know which items are being processed.
        max_deliveries: an item that comes back after it was delivered so often becomes a dead letter; see
            ``dead_letters``. Needs leases. 0: it is delivered as often as it comes back.
        max_item_size: largest size of a serialised item, in bytes, from ``item_size`` to ``capacity * item_size``; None
            means ``item_size``. An item that is larger than a slot takes several adjacent ones, at most all; a put
            waits until so many are free.
        serializer: "pickle": items may be anything. "plain": only everyday objects, so that no item can run code in the
            process that gets it; for queues whose writers are not trusted. Each process passes the same; leaving it out
            asks for "pickle".
        dumps: turns an item into bytes, or an object with a buffer, in the place of the serializer; a function with a
            name, because the queue keeps its name. Each process passes the same, and ``loads`` as well.
        loads: turns these bytes back into an item.
        engine: "atomics" or "native" to insist on one; None takes the value of the environment variable SHMQ_ENGINE,
            or, without it, the best engine that is installed.
        timeout: when attaching, seconds to wait for a process that is creating the queue, from the moment at which its
            segment is there (with exist_ok: from the call); None waits for as long as that process lives.
        delete: the queue goes when no process uses it any more: when the last handle is closed or its process ends. If
            that process was killed, the next creation of any queue by the same account removes it.
        exist_ok: with create: attach if the queue exists.
        wait: when attaching, seconds to wait for a queue that does not exist yet; None waits for ever.

    Raises:
        ValueError: an argument can never work.
        QueueExistsError: with create, without exist_ok: a queue of that name exists; a FileExistsError.
        QueueNotFoundError: without create: there is no queue of that name; a FileNotFoundError.
        QueueMismatchError: the queue exists and has another value of one of these, or another format; a
            ValueError.
        QueueNotReadyError: a live process is still creating the queue when the timeout is over; a TimeoutError.
        LayoutVersionError: another version of this package made the queue.
        CorruptQueueError: the segment is damaged, or is no queue.
        OSError: there is not enough shared memory, or no permission.

    Example:
        >>> tasks = SharedMemoryQueue("doc-tasks", create=True, capacity=10)
        >>> tasks.put({"id": 1})
        >>> same = SharedMemoryQueue("doc-tasks")  # in any other process
        >>> same.get(timeout=1.0)
        {'id': 1}
        >>> same.close(); tasks.close(); tasks.unlink()
    """

    # The handle's own state lies in slots. So its __dict__ holds only what users and subclasses set, and pickle takes
    # only that along. SharedMemoryQueue[T](...) sets __orig_class__, and T need not be picklable.
    __slots__ = (
        "__dict__",
        "__orig_class__",
        "__weakref__",
        "_calls",
        "_codec",
        "_engine",
        "_format",
        "_geometry",
        "_identity",
        "_membership",
        "_name",
        "_run_id",
        "_wanted_engine",
        "_watch",
    )

    _TAKES_MEMORY_AS_USED: ClassVar[bool] = False

    Empty: ClassVar[type[queue.Empty]] = queue.Empty
    Full: ClassVar[type[queue.Full]] = queue.Full
    ShutDown: ClassVar[type[ShutDown]] = ShutDown

    def __init__(
        self,
        name: str = NOT_GIVEN,
        create: bool = False,
        capacity: SupportsIndex = DEFAULTS.capacity,
        item_size: SupportsIndex = DEFAULTS.item_size,
        run_id: str = "",
        lock: object = None,
        *,
        mode: Mode = DEFAULTS.mode,
        leases: SupportsIndex = DEFAULTS.leases,
        max_deliveries: SupportsIndex = DEFAULTS.max_deliveries,
        max_item_size: SupportsIndex | None = None,
        serializer: Serializer = DEFAULT_FORMAT.serializer,
        dumps: Callable[[Any], Any] | None = None,
        loads: Callable[[bytes], Any] | None = None,
        engine: EngineName | None = None,
        timeout: float | None = None,
        delete: bool = False,
        exist_ok: bool = False,
        wait: float | None = 0,
    ) -> None:
        is_anonymous = name is NOT_GIVEN
        wanted_format = _arguments.format_of(serializer, dumps, loads)
        engine_class = self._prepare(sweep.anonymous_name() if is_anonymous else name, run_id, engine, wanted_format)
        is_new, may_exist = _arguments.ways_to_open(is_anonymous, create, exist_ok, wait)
        until, wait_until = deadline_of(True, timeout), deadline_of(True, wait, "wait")
        asked = _arguments.sizes(capacity, item_size, mode, leases, max_deliveries, delete, is_anonymous, max_item_size)
        make, attach = partial(self._create, engine_class, asked), partial(self._attach, engine_class, asked)
        segment_name, _ = lifecycle.names(self._name, self._run_id)
        if may_exist:
            opening.make_or_attach(segment_name, make, attach, until)
        elif is_new:
            make()
        else:
            opening.attach_when_there(segment_name, attach, wait_until, timeout)

    def _prepare(self, name: str, run_id: str, engine: EngineName | None, wanted: Format) -> type[Engine]:
        self._wanted_engine = engine
        self._format = wanted
        lifecycle.names(name, run_id)  # refuses names that cannot be
        self._name = str.__str__(name)
        self._run_id = str.__str__(run_id)
        return choice.choose(engine)

    def _create(self, engine_class: type[Engine], wanted: Sizes) -> None:
        self._geometry = new_sizes.geometry(
            wanted.capacity,
            wanted.item_size,
            wanted.mode,
            wanted.leases,
            wanted.max_deliveries,
            wanted.max_item_size,
        )
        segment, flag = lifecycle.create(
            self._name, self._run_id, self._geometry, wanted.delete, self._TAKES_MEMORY_AS_USED, self._format.name
        )
        try:
            sweep.opened(segment)
            if not self._start(engine_class, segment, flag):
                raise QueueNotFoundError(
                    f"queue {self._name!r} was unlinked by another process just as this one had created it; create it "
                    f"again, and make sure that only one process unlinks it"
                )
        except BaseException:
            self._abandon(segment, flag)
            lifecycle.discard(segment, flag, self._name, self._run_id)
            raise

    def _attach(
        self,
        engine_class: type[Engine],
        asked: Sizes = DEFAULTS,
        until: float = FOREVER,
        identity: tuple[int, int] | None = None,
    ) -> None:
        while True:
            segment, self._geometry, flag = lifecycle.attach(self._name, self._run_id, until, identity)
            try:
                sweep.opened(segment)
                goes = sweep.goes_with_its_users(segment)
                found_format = lifecycle.format_name(segment)
                _arguments.agree(self._name, asked, self._geometry, goes, self._format, found_format)
                if self._start(engine_class, segment, flag):
                    return
            except BaseException:
                self._abandon(segment, flag)
                raise
            self._abandon(segment, flag)
            if identity is None:
                lifecycle.look_again(self._name, self._run_id, until)

    def _abandon(self, segment: Segment, flag: LockFlag) -> None:
        """Release everything after a failed start, at once: the traceback may keep this handle alive for long."""
        with suppress(Exception):
            self._close(wait=True)
        flag.close()
        segment.close()
        sweep.closed(segment)

    def _start(self, engine_class: type[Engine], segment: Segment, flag: LockFlag) -> bool:
        """Begin to use the queue; return False if the segment has lost its name."""
        self._identity = segment.identity()
        self._watch = metrics.BlockerTimes()
        self._membership = member = Membership(
            segment, self._geometry, flag, on_keep_back=_retire_at_exit, name=self._name
        )
        _live[id(self)] = weakref.ref(self, partial(_forget, id(self)))
        self._engine = engine_class(member)
        definitions = partial(Definitions, segment, self._geometry.definitions, member)
        self._codec = self._format.codec(definitions, self._geometry.max_item_size)  # not by what the segment states
        self._calls = self._engine.open(self._codec)  # from here on others see this process
        return segment.has_name()

    # ---- put --------------------------------------------------------------------------------------------------------

    @overload
    def put(self, item: T, block: bool = True, timeout: float | None = None) -> None: ...
    @overload
    def put(self, *, obj: T, block: bool = True, timeout: float | None = None) -> None: ...
    def put(self, item: T = NOT_GIVEN, block: bool = True, timeout: float | None = None, obj: T = NOT_GIVEN) -> None:
        """Put an item into the queue.

        Args:
            item: anything that ``multiprocessing.Queue`` can send; also functions and classes without a name.
            block: wait for room if the queue is full.
            timeout: seconds to wait; None waits for ever, 0 does not wait.
            obj: the name that ``multiprocessing.Queue`` has for ``item``; give exactly one of the two.

        Raises:
            queue.Full: there was no room in time.
            ShutDown: the queue was shut down.
            ItemTooLargeError: the serialised item is larger than ``max_item_size``, with serializer="pickle" even
                deflated; a ValueError.
            SerializationError: the item cannot be serialised, or has no place in this queue's format; a ValueError.
            QueueClosedError: this handle is closed; a ValueError and an OSError.
            RoleTakenError: mode "spsc", and another live handle is the producer.
        """
        self._calls.put(item, block, timeout, obj)

    @overload
    def put_nowait(self, item: T) -> None: ...
    @overload
    def put_nowait(self, *, obj: T) -> None: ...
    def put_nowait(self, item: T = NOT_GIVEN, obj: T = NOT_GIVEN) -> None:
        """Put an item if there is room now; as ``put(item, block=False)``."""
        if obj is not NOT_GIVEN or item is NOT_GIVEN:
            item = _arguments.only_item("put_nowait", item, obj)
        self.put(item, False)

    def put_batch(self, items: Iterable[T], block: bool = True, timeout: float | None = None) -> None:
        """Put all of several items, or none. They are adjacent in the queue, and getters see all of them at once.

        Args:
            items: the items, in order; nothing happens if there are none.
            block: wait until there is room for all of them.
            timeout: seconds to wait; None waits for ever, 0 does not wait.

        Raises:
            queue.Full: there was no room for all in time.
            ShutDown: the queue was shut down; nothing was put.
            ValueError: there are more items than the queue can ever hold, or they take more slots than there are.
            ItemTooLargeError, SerializationError, QueueClosedError, RoleTakenError: as ``put``; nothing was put.
        """
        self._calls.put_batch(items, block, timeout)

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
            QueueClosedError: this handle is closed; a ValueError and an OSError.
            RoleTakenError: mode "spsc", and another live handle is the consumer.
        """
        return self._calls[block, timeout]  # type: ignore[no-any-return]  # not a call: see _engine/calls.py

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
            One to ``max_items`` items, in their order. An item that cannot be deserialised ends the list: the next call
            raises its DeserializationError, and the call after that returns the items behind it.

        Raises:
            queue.Empty: there was no item in time.
            ValueError: max_items is below 1.
            ShutDown, DeserializationError, QueueClosedError, RoleTakenError: as ``get``.
        """
        taken: list[T] = self._calls[max_items, block, timeout]
        return taken

    def __iter__(self) -> Iterator[T]:
        """Take one item after the other, and wait for the next, until the queue is shut down and nothing can come."""
        with suppress(ShutDown):
            while True:
                yield self.get()

    # ---- in place ---------------------------------------------------------------------------------------------------

    def get_into(self, buffer: Any, block: bool = True, timeout: float | None = None) -> int:
        """Take the next item into memory of the caller, with one copy, as ``socket.recv_into`` does.

        The item must be one that ``view`` takes, but may take several slots. If it is another one, or does not fit, it
        stays in the queue. The atomics engine copies twice.

        Args:
            buffer: any object with a buffer that can be written, in one piece; the item is copied to its beginning.
            block: wait for an item if the queue is empty.
            timeout: seconds to wait; None waits for ever, 0 does not wait.

        Returns:
            The number of bytes of the item.

        Raises:
            BufferTooSmallError: the item has more bytes than the buffer, and is still in the queue; a ValueError.
            NotABufferError: the item has no bytes to copy, and is still in the queue; a TypeError.
            queue.Empty, ShutDown, QueueClosedError, RoleTakenError: as ``get``.
            ValueError: the queue has leases: use ``lease``.

        Example:
            >>> frames = SharedMemoryQueue("doc-into", create=True)
            >>> frames.put(b"RGB")
            >>> memory = bytearray(4)
            >>> memory[: frames.get_into(memory)]
            bytearray(b'RGB')
            >>> frames.close(); frames.unlink()
        """
        return self._calls[in_place.writable(buffer), block, timeout]  # type: ignore[no-any-return]  # as get

    def reserve(self, nbytes: SupportsIndex, block: bool = True, timeout: float | None = None) -> Reservation:
        """Write an item in the memory of the queue, in a ``with`` block, at whose end it is put.

        The block gets a memoryview of so many bytes, with whatever lay there before. It is aligned to 64 bytes if
        ``nbytes`` is at most ``item_size`` - 48, otherwise to 16. For ``get`` the item is bytes; in a queue with
        ``dumps`` and ``loads`` it is what ``dumps`` would have returned.

        If an exception leaves the block, nothing is put; nor if the process dies in it, or if something refers to the
        memory beyond it. Until the block ends, getters wait for all that is put behind it: let it take milliseconds.

        Args:
            nbytes: size of the item, at most ``item_size``: it lies in one slot.
            block: when the block begins, wait for room if the queue is full.
            timeout: seconds to wait then; None waits for ever, 0 does not wait.

        Raises:
            ValueError: ``nbytes`` is not possible.
            queue.Full, ShutDown, QueueClosedError, RoleTakenError, SharedMemoryFullError: when the block begins; as
                ``put``.
            BufferError: at the end of the block: something refers to the memory, an array for example.
            QueueClosedError: at the end of the block: this handle was closed in it.

        Example:
            >>> frames = SharedMemoryQueue("doc-reserve", create=True, item_size=1 << 20)
            >>> with frames.reserve(3) as memory:
            ...     memory[:] = b"RGB"
            >>> with frames.view() as memory:
            ...     print(memory[0])
            82
            >>> frames.close(); frames.unlink()
        """
        member = self._check_open()
        size = _arguments.reserved(nbytes, member.geometry.item_size)
        return in_place.Reservation(self, self._engine, self._codec, size, block, timeout)

    def view(self, block: bool = True, timeout: float | None = None) -> View:
        """Read the next item in the memory of the queue, in a ``with`` block, at whose end it is gone.

        The item must be bytes, or what ``reserve`` has put, in one slot; or an object with one large buffer, such as an
        array, of which the block gets the bytes of that buffer and nothing else. In a queue with ``dumps`` and
        ``loads`` it is what ``dumps`` has returned. The block gets a memoryview that can only be read.

        The item is this process's when the block begins, also if an exception leaves it. If the process dies in it,
        another getter gets the item. Until the block ends, its slot is not free: let it take milliseconds.

        Args:
            block: when the block begins, wait for an item if the queue is empty.
            timeout: seconds to wait then; None waits for ever, 0 does not wait.

        Raises:
            NotABufferError: when the block begins: the item is another one, and is still in the queue; a TypeError.
            queue.Empty, ShutDown, QueueClosedError, RoleTakenError: when the block begins; as ``get``.
            BufferError: at the end of the block: something refers to the memory, an array for example.
            QueueClosedError: at the end of the block: this handle was closed in it.
            ValueError: the queue has leases: use ``lease``.
        """
        _arguments.refuse_leases("view", self._check_open().geometry.leases)
        return in_place.View(self, self._engine, self._codec, block, timeout)

    # ---- awaiting ---------------------------------------------------------------------------------------------------

    async def get_async(self, timeout: float | None = None) -> T:
        """Take the next item as ``get`` does, in a task of asyncio; other tasks run while this one waits.

        If the task is cancelled, it has taken nothing. Tasks of one event loop that wait at one handle get items in the
        order in which they began to wait.

        Args:
            timeout: seconds to wait; None waits for ever, 0 gives other tasks one turn.

        Raises:
            queue.Empty: there was no item in time.
            OSError: too many descriptors are open; a handle takes one for each event loop and side.
            LeasesHeldError: this thread holds all leases by ``get``, and its event loop has no other task, which could
                end one. Beside other tasks the call waits.
            ShutDown, DeserializationError, QueueClosedError, RoleTakenError: as ``get``.

        Example:
            >>> import asyncio
            >>> async def main():
            ...     with SharedMemoryQueue(capacity=10) as answers:
            ...         asyncio.get_running_loop().call_later(0.01, answers.put, "from anywhere")
            ...         return await answers.get_async(timeout=5)
            >>> asyncio.run(main())
            'from anywhere'
        """
        item: T = await self._tasks().get(timeout)
        return item

    async def get_batch_async(self, max_items: SupportsIndex, timeout: float | None = None) -> list[T]:
        """Take one item with all others that are there, as ``get_batch`` does, and await the first as ``get_async``.

        Args:
            max_items: largest number of items to take.
            timeout: seconds to wait; None waits for ever, 0 gives other tasks one turn.

        Returns:
            One to ``max_items`` items, in their order; as ``get_batch``.

        Raises:
            ValueError: max_items is below 1.
            queue.Empty, OSError, LeasesHeldError, ShutDown, DeserializationError, QueueClosedError, RoleTakenError: as
                ``get_async``.
        """
        taken: list[T] = await self._tasks().get_batch(max_items, timeout)
        return taken

    async def put_async(self, item: T, timeout: float | None = None) -> None:
        """Put an item as ``put`` does, in a task of asyncio; other tasks run while this one waits.

        The item is serialised once, before anything is awaited. If the task is cancelled, the item is not put.

        Args:
            item: as of ``put``.
            timeout: seconds to wait; None waits for ever, 0 gives other tasks one turn.

        Raises:
            queue.Full: there was no room in time.
            OSError: too many descriptors are open; a handle takes one for each event loop and side.
            ShutDown, ItemTooLargeError, SerializationError, QueueClosedError, RoleTakenError: as ``put``.
        """
        await self._tasks().put(item, timeout)

    async def put_batch_async(self, items: Iterable[T], timeout: float | None = None) -> None:
        """Put all of several items, or none, as ``put_batch`` does; other tasks run while this one waits.

        A batch that waits for room keeps single puts out, so that it gets its turn. An event loop that is kept busy for
        longer than 0.25 s lets them in again; then the batch may wait longer.

        Args:
            items: the items, in order; nothing happens if there are none.
            timeout: seconds to wait; None waits for ever, 0 gives other tasks one turn.

        Raises:
            queue.Full: there was no room for all in time.
            ValueError: there are more items than the queue can ever hold.
            OSError, ShutDown, ItemTooLargeError, SerializationError, QueueClosedError, RoleTakenError: as
                ``put_async``; nothing was put.
        """
        await self._tasks().put_batch(items, timeout)

    def __aiter__(self) -> AsyncIterator[T]:
        """Take one item after the other, and await the next, until the queue is shut down and nothing can come.

        A step that is cancelled takes nothing, and does not end the iteration.
        """
        return _AwaitedItems(self)

    def lease_async(self, timeout: float | None = None) -> AwaitedLease[T]:
        """Take the next item as ``lease`` does, by ``async with`` or by ``await``; other tasks run meanwhile.

        ``async with`` ends the item as ``with`` ends a ``Lease``: leaving the block by an exception, as of a task that
        is cancelled, gives the item back. ``await`` returns a ``Lease``. In a task use this rather than ``get_async``
        with ``task_done``, which ends the oldest item of the thread, and all tasks of an event loop have one thread.

        Args:
            timeout: seconds to wait; None waits for ever, 0 gives other tasks one turn.

        Raises:
            LeasesRequiredError: the queue was created without leases; a ValueError.
            queue.Empty, OSError, LeasesHeldError, ShutDown, QueueClosedError, RoleTakenError: when it is awaited; as
                ``get_async``.

        Example:
            >>> async def work(jobs):
            ...     async with jobs.lease_async(timeout=5) as lease:
            ...         return lease.item
            >>> with SharedMemoryQueue(leases=4) as jobs:
            ...     jobs.put("a job")
            ...     asyncio.run(work(jobs))
            'a job'
        """
        self._with_leases("lease_async")
        make = partial(Lease, self, self._membership, self._codec)
        return AwaitedLease(partial(self._tasks().lease, make, timeout))

    def _tasks(self) -> Tasks:
        member = self._check_open()
        if member.tasks is None:
            make = _tasks_class()
            with processes.settling:  # threads with a loop each may come here at the same time
                member.tasks = member.tasks or make(member, self._calls, self._codec)
        return member.tasks

    # ---- the end of work --------------------------------------------------------------------------------------------

    def shutdown(self, immediate: bool = False) -> None:
        """Shut the queue down, for all processes and for good: no ``put`` that begins from here on is accepted.

        All calls that wait are woken. Items that are there, and those of puts under way, can still be taken; then each
        ``get`` raises ShutDown, and no item ever comes again. It can be called again, also to drop the rest.

        Args:
            immediate: drop what is in the queue: each ``get`` that begins from here on raises ShutDown.

        Raises:
            QueueClosedError: this handle is closed; a ValueError and an OSError.
            TooManyParticipantsError: every record of the queue is in use; an OSError.

        Example:
            >>> pages = SharedMemoryQueue("doc-shutdown", create=True, capacity=10)
            >>> pages.put_batch(["a", "b"])
            >>> pages.shutdown()
            >>> for page in pages:  # in any process; it ends when nothing can come any more
            ...     print(page)
            a
            b
            >>> pages.close(); pages.unlink()
        """
        self._check_open()
        self._engine.shutdown(bool(immediate))

    @property
    def is_shutdown(self) -> bool:
        """Whether the queue was shut down, by any process."""
        return ending.is_closed(self._check_open().look())

    # ---- leases -----------------------------------------------------------------------------------------------------

    def lease(self, block: bool = True, timeout: float | None = None) -> Lease[T]:
        """Take the next item as ``get`` does, for as long as it is being processed: it is this process's until then.

        Leaving the ``with`` block of the lease ends the item; ``Lease`` has an example. If the process dies before
        that, the item goes to another getter. ``get`` leases, too; its leases end by ``task_done``.

        Args:
            block: wait for an item, and for a lease, if there is none.
            timeout: seconds to wait; None waits for ever, 0 does not wait.

        Raises:
            queue.Empty: there was no item, or no lease for it, in time.
            ShutDown: the queue was shut down, and nothing can come any more, nor come back from another process.
            LeasesRequiredError: the queue was created without leases; a ValueError.
            LeasesHeldError: this thread holds all leases by ``get``; a RuntimeError.
            QueueClosedError, RoleTakenError: as ``get``.
        """
        return self._lease("lease", None, block, timeout)[0]

    def lease_batch(self, max_items: SupportsIndex, block: bool = True, timeout: float | None = None) -> list[Lease[T]]:
        """Wait for one item, and lease it with all others that are there, up to a limit; as ``get_batch``.

        Args:
            max_items: largest number of items to lease.
            block: wait for an item, and for a lease, if there is none.
            timeout: seconds to wait; None waits for ever, 0 does not wait.

        Returns:
            One to ``max_items`` leases, each to be ended alone; fewer if fewer are free.

        Raises:
            ValueError: max_items is below 1.
            queue.Empty, LeasesRequiredError, LeasesHeldError, ShutDown, QueueClosedError, RoleTakenError: as ``lease``.
        """
        return self._lease("lease_batch", max_items, block, timeout)

    def _lease(self, method: str, most: SupportsIndex | None, block: bool, timeout: float | None) -> list[Lease[T]]:
        make = partial(Lease, self, self._membership, self._codec)
        return self._with_leases(method).lease(most, block, timeout, make)

    @only_with_leases
    def task_done(self) -> None:
        """Say that an item is processed: the one that this thread has had longest, of those that ``get`` gave it.

        If this thread has none, it is the oldest one that other threads of this handle have. A ``Lease`` says which
        item it means.

        Raises:
            ValueError: this handle has none in this process: ``task_done`` was called too often, or the items have
                come back because the thread that got them has ended.
            LeasesRequiredError: the queue was created without leases; a ValueError.
            QueueClosedError: this handle is closed; a ValueError and an OSError.
        """
        self._with_leases("task_done").task_done()

    @only_with_leases
    def join(self, timeout: float | None = None) -> bool:
        """Wait until nothing is in the queue and nothing is being processed.

        Args:
            timeout: seconds to wait; None waits for ever, 0 does not wait.

        Returns:
            Whether there was a moment, during the call, at which every item put so far was done.

        Raises:
            LeasesRequiredError: the queue was created without leases; a ValueError.
        """
        return self._with_leases("join").join(timeout)

    def dead_letters(self) -> list[DeadLetter[T]]:
        """Return the dead letters: the items that came back after ``max_deliveries`` deliveries; the oldest first.

        An item goes there when its lease is given back, or when a get finds that the process that had it is dead. There
        is room for as many as there are leases, at most 1,024. If it is taken, the oldest stay: the item is delivered
        again, behind all that is in the queue, and ``get_metrics()["dead_letters_refused"]`` counts it.

        No letter is changed. The call ends what dead processes have left half done: items that were becoming letters,
        and letters that were being put back. A letter stays until its ``done()`` or ``put_back()``; ``DeadLetter`` has
        an example.

        Raises:
            QueueClosedError: this handle is closed; a ValueError and an OSError.
            TooManyParticipantsError: every record of the queue is in use; an OSError.
        """
        member = self._check_open()
        with member.operation() as record:
            leases = member.ring.leases
            if leases is None:
                return []
            letters = leases.letters(record.words, record.claim)
        return [DeadLetter(self, member, self._codec, letter) for letter in letters]

    def _with_leases(self, method: str) -> LeaseCalls:
        self._check_open()
        if not self.leases:
            raise LeasesRequiredError(method)
        return self._calls  # type: ignore[return-value]  # those of a queue with leases

    # ---- looking ----------------------------------------------------------------------------------------------------

    def qsize(self) -> int:
        """Return the number of items; approximate while other threads and processes put and get."""
        self._check_open()
        return self._engine.size()

    def empty(self) -> bool:
        """Whether there is no item; a put of another thread or process can change this at once."""
        member = self._check_open()
        found = self._engine.is_empty()
        if found:
            member.doorbells.quieten(ITEMS)
        return found

    def full(self) -> bool:
        """Whether there is no free slot; a get of another thread or process can change this at once.

        The put of an item that takes several slots may wait although this is False.
        """
        member = self._check_open()
        found = self._engine.is_full()
        if found:
            member.doorbells.quieten(SPACE)
        return found

    # ---- waiting on descriptors -------------------------------------------------------------------------------------

    @property
    def readable(self) -> Doorbell:
        """A descriptor to wait on, with select, selectors and event loops, until a ``get`` is worth a try.

        An object with ``fileno()``. It is readable from the start, and for a moment every 0.1 s even if no item came.
        It becomes unreadable when a call of this handle finds nothing (``Empty``, or ``empty()`` returning True). So
        call ``get_nowait()`` until it raises ``Empty``, or once, and then wait again. Expect ``Empty`` at any time:
        another consumer may be faster. Do not read from the descriptor; closing the handle closes it.

        Raises:
            QueueClosedError: this handle is closed.
            io.UnsupportedOperation: not on Linux.
            OSError: too many descriptors are open.

        Example:
            >>> from multiprocessing.connection import wait
            >>> results = SharedMemoryQueue("doc-readable", create=True)
            >>> results.put("done")
            >>> if results.readable in wait([results.readable], timeout=5):  # and the sentinel of a process beside it
            ...     results.get_nowait()
            'done'
            >>> results.close(); results.unlink()
        """
        return self._doorbell(ITEMS)

    @property
    def writable(self) -> Doorbell:
        """As ``readable``, until a ``put`` is worth a try. This descriptor, too, becomes *readable*, never writable."""
        return self._doorbell(SPACE)

    def fileno(self) -> int:
        """Return the descriptor of ``readable``, so that the queue itself can be waited on.

        It is a hint: it becomes unreadable only when a call of this handle finds nothing.
        """
        return self.readable.fileno()

    def _doorbell(self, side: int) -> Doorbell:
        self._check_open()
        return self._engine.doorbell(side)

    def get_metrics(self) -> dict[str, Any]:
        """Return what an operator wants to know, as plain numbers and texts.

        The call only looks: it writes nothing, takes no record and waits for nothing. The numbers may be of moments
        that are microseconds apart.

        Returns:
            ``queue_size`` (items), ``queue_capacity`` and ``queue_slots_used`` (slots), ``queue_utilization_percent``
            (of the slots), ``queue_item_size_bytes``, ``queue_max_item_size_bytes``; ``put_total`` and ``got_total``
            (slots filled by puts and freed by gets, one for each item or as many as it takes, since creation; an item
            that comes back from a lease is not counted again), ``put_waits`` and ``get_waits`` (times that a put
            or get slept), ``full_events`` and ``empty_events`` (times that Full and Empty were raised),
            ``orphans_recovered`` (items of dead getters that were delivered after all), ``dead_puts`` (positions given
            up because their producer died), ``bells`` (the bells of this handle's descriptors: "none", if the handle
            has no such descriptor; "ring"; "deaf", if the bells cannot be rung here, so that the descriptor becomes
            readable only ten times a second), ``bells_refused`` (rings for waiters that were gone), ``leases`` (of the
            queue), ``leased`` (the items in processing: a list of ``{"pid", "position", "deliveries", "seconds"}``),
            ``redelivered`` (times that an item was handed out again), ``lease_waits`` (times that a get found an item
            and no lease for it), ``max_deliveries`` (of the queue), ``dead_letters`` (that are there),
            ``dead_letters_total`` (items that became one), ``dead_letters_refused`` (times that an item did not,
            because their places were taken), ``participants`` (records of each live process, by process id),
            ``unlinked``, ``delete``, ``shut_down``, ``mode``, ``serializer``, ``engine``, and ``blocked_by``: a list of
            ``{"pid", "position", "doing", "seconds"}``, one for each live process that blocks others now, with the
            seconds since this handle first saw it there.
        """
        self._check_open()
        return metrics.read(self._engine, self._watch)

    @property
    def name(self) -> str:
        """The name with which this handle was opened."""
        return self._name

    @property
    def run_id(self) -> str:
        """The prefix that keeps queues of the same name apart; may be empty."""
        return self._run_id

    @property
    def capacity(self) -> int:
        """Number of slots: the largest number of items."""
        return self._geometry.capacity

    @property
    def item_size(self) -> int:
        """Largest size of a serialised item in one slot, in bytes."""
        return self._geometry.item_size

    @property
    def max_item_size(self) -> int:
        """Largest size of a serialised item, in bytes; one larger than ``item_size`` takes several slots."""
        return self._geometry.max_item_size

    @property
    def mode(self) -> Mode:
        """Which kind of ring this is, "mpmc" or "spsc"."""
        return self._geometry.mode

    @property
    def leases(self) -> int:
        """Most items in processing at once; 0: the queue has no leases."""
        return self._geometry.leases

    @property
    def max_deliveries(self) -> int:
        """Deliveries after which an item that comes back becomes a dead letter; 0: it never does."""
        return self._geometry.max_deliveries

    @property
    def serializer(self) -> str:
        """How items are written: "pickle", "plain", or the names of ``dumps`` and ``loads``."""
        return self._format.name

    @property
    def engine(self) -> EngineName:
        """The engine that this handle works with, "atomics" or "native"."""
        return self._engine.name

    @property
    def closed(self) -> bool:
        """Whether this handle is closed."""
        member = self._member()
        return member is None or member.state is not State.OPEN

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"{self._engine.size()}/{self.capacity} items"
        if self.leases and not self.closed:
            state += f", {len(self._membership.look().leased())}/{self.leases} leased"
        if self.max_deliveries and not self.closed and (dead := self._membership.look().dead_letters()):
            state += f", {dead} dead"
        run = f", run_id={self._run_id!r}" if self._run_id else ""
        written = "" if self._format == DEFAULT_FORMAT else f", serializer={self.serializer!r}"
        return f"<{type(self).__name__} {self._name!r}{run}, {self.mode}{written}, {state}>"

    # ---- the end ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close this handle; the queue stays. Calls that wait in other threads end with QueueClosedError.

        ``close`` may be called again, also to complete a call that was interrupted. Items that an interrupted ``get``
        had taken go back into the queue, at its end.
        """
        if self._close(wait=True) and (left := self._membership.kept_back()):
            warnings.warn(
                f"{left} items that this handle had taken and not returned are lost with it, as the queue is full, was "
                f"shut down or, in mode 'spsc', has another producer",
                ResourceWarning,
                stacklevel=2,
            )

    def _close(self, wait: bool) -> bool:
        """Close, or continue an interrupted close; return whether this call has completed it."""
        member = self._member()
        if member is None:
            return False
        is_new = member.state is not State.CLOSED
        if is_new and not member.close(wait):
            return False
        _live.pop(id(self), None)  # a traceback may keep this handle for long
        sweep.closed(member.segment)
        return is_new

    def join_thread(self) -> None:
        """Do nothing: there is no thread to join, as in a ``multiprocessing.Queue``, because ``put`` itself puts."""

    def cancel_join_thread(self) -> None:
        """Do nothing: there is no thread, and a process that ends does not wait until its items are taken."""

    def unlink(self) -> None:
        """Remove the queue's name: no handle can attach any more, and the memory is freed with the last open handle.

        Handles that are attached can still be used. ``unlink`` works on a closed handle, too. It does nothing if the
        queue is gone or its name belongs to another queue by now.
        """
        member = self._member()
        if lifecycle.unlink(self._name, self._run_id, self._identity) and member is not None:
            with suppress(QueueClosedError, TooManyParticipantsError), member.operation() as record:
                record.words.store(UNLINKED_AT, 1)  # without a descriptor only this handle can say it
                member.wake_all(record.words)

    @staticmethod
    def remove(name: str, run_id: str = "", missing_ok: bool = False, force: bool = False) -> None:
        """Remove the queue of a name, also one that is damaged, half made, or of another version of this package.

        Args:
            name: of the queue.
            run_id: of the queue.
            missing_ok: it is no error if there is no such queue.
            force: remove it although a process uses it, or although its segment does not say that it is a queue. The
                processes that use it go on with a queue that has no name. Needed if no descriptor is left, and on
                systems other than Linux, because it cannot be told there whether the queue is used.

        Raises:
            QueueInUseError: a live process uses the queue; an OSError that names the processes.
            QueueNotFoundError: there is no queue of that name; a FileNotFoundError.
            QueueNotReadyError: a live process is creating or removing it; a TimeoutError.
            CorruptQueueError: it is no queue.
            OSError: for example, it is another user's.
        """
        from ._engine import removing  # noqa: PLC0415 (most programs never need it)

        removing.remove(name, run_id, missing_ok, force)

    def _member(self) -> Membership | None:
        """Return the handle's part in the queue; None if the start has failed, or if ``__init__`` has not run."""
        return getattr(self, "_membership", None)

    def _check_open(self) -> Membership:
        member = self._member()
        if member is None:
            raise QueueClosedError(f"this handle of queue {self._name!r} was not opened; its constructor has failed")
        member.check_open()
        return member

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        with suppress(Exception):  # the interpreter may be shutting down, or __init__ may not have run
            self._close(wait=False)

    def __reduce__(self) -> tuple[Any, ...]:
        self._check_open()
        opened = self._name, self._run_id, self._wanted_engine, self._format
        arguments = type(self), _new_arguments(self), *opened, self._identity
        return _attach, (*arguments, sweep.hand_over(self._membership.segment)), self.__getstate__()

    def __getstate__(self) -> Any:
        state = super().__getstate__()
        if isinstance(state, tuple):  # the __dict__ and the values of the slots
            attributes, slots = state
            slots = {name: value for name, value in slots.items() if name not in _OWN_SLOTS}
            return (attributes, slots) if slots else attributes
        return state


_OWN_SLOTS = frozenset(SharedMemoryQueue.__slots__)


def _new_arguments(handle: SharedMemoryQueue) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments for ``__new__``; a subclass names them by ``__getnewargs__``, as for any pickle."""
    cls: Any = type(handle)
    if hasattr(cls, "__getnewargs_ex__"):
        arguments, keywords = cls.__getnewargs_ex__(handle)
        return arguments, keywords
    return (cls.__getnewargs__(handle) if hasattr(cls, "__getnewargs__") else ()), {}


def _attach(
    cls: type[SharedMemoryQueue],
    new_arguments: tuple[tuple[Any, ...], dict[str, Any]],
    name: str,
    run_id: str,
    engine: EngineName | None,
    wanted: Format,
    identity: tuple[int, int],
    ticket: Ticket | None,
) -> SharedMemoryQueue:
    """Make a handle from a pickled one: open the queue by name. Pickle then sets the state of the subclass."""
    arguments, keywords = new_arguments
    handle = cls.__new__(cls, *arguments, **keywords)
    # As the __init__ of SharedMemoryQueue does; the __init__ of a subclass may have any arguments.
    try:
        engine_class = SharedMemoryQueue._prepare(handle, name, run_id, engine, wanted)
        SharedMemoryQueue._attach(handle, engine_class, identity=identity)
    finally:
        sweep.take_over(ticket, identity)
    return handle


_live: dict[int, weakref.ref[SharedMemoryQueue]] = {}  # by id, because a subclass may have no hash


def _forget(number: int, _: object) -> None:
    _live.pop(number, None)


def _retire_at_exit() -> None:
    """Register the putting back of items with multiprocessing, whose children end without calling ``atexit``."""
    global _retires_in  # noqa: PLW0603
    util: Any = sys.modules.get("multiprocessing.util")  # every such child has it
    if util is not None and _retires_in != os.getpid():
        util.Finalize(None, _retire_all, exitpriority=0)
        _retires_in = os.getpid()


_retires_in = 0


@atexit.register
def _retire_all() -> None:
    """At the end of the process, give up roles, records and items kept back; running operations are left alone."""
    for reference in list(_live.values()):
        handle = reference()
        if handle is not None:
            handle._membership.retire()
            keep_to_the_end(handle)
