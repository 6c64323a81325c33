"""Items that are written and read in their slot: what ``reserve`` and ``view`` of a queue return.

A reservation is a put whose claim lasts as long as a ``with`` block, a view is a get whose claim does. Each is announced
all the while, so what a process leaves that dies in the block is what any dead put or get leaves: the put never was, and
the item goes to another getter.

A *place* is such a claim, of either engine. It is given up when nothing refers to it any more. An exception from outside
may come between any two steps here: before the block has the memory it gives the place up, and later it ends the place
as the end of the block does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from queue import Empty
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

from .._codec.buffers import parts_of, whole
from .._codec.formats import ItemCodec
from .._codec.in_place import FIRST, laid, place_of
from .._codec.tags import BUFFERS
from .._platform import processes
from .._platform.clock import deadline_of, seconds_of
from .._platform.lent_memory import lend, take_back
from .._ring.claim import Payload
from .._ring.ring import SHUT_DOWN, UNFIT
from ..errors import BufferTooSmallError, NotABufferError, QueueClosedError, ShutDown

if TYPE_CHECKING:
    from .._ring.large import Items
    from .._ring.participants import Record
    from .membership import Membership

KEPT_BACK: Final = -1
"""What a get in place has found, beside what the ring finds: payloads of this handle that come first."""


class Place(Protocol):
    """A claim that lasts. When one of its methods has returned, the others do nothing; in a forked child none does."""

    @property
    def memory(self) -> memoryview:
        """What was claimed."""

    def publish(self) -> None:
        """Let getters have the item that was written."""

    def free(self) -> None:
        """Drop the item that was read."""

    def give_up(self) -> None:
        """Undo the claim: of a put nothing is left but a tomb, the item of a get goes to another one."""


class Unwritten:
    """A payload of so many bytes, of which a put writes none."""

    __slots__ = ("_length",)

    pieces: tuple[tuple[int, Any], ...] = ()

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length


class ClaimedPlace:
    """A place of the engine in Python.

    Args:
        membership: the handle's part in the queue.
        record: of the operation that has the claim.
        start: offset of the memory in the segment.
        size: its bytes.
    """

    __slots__ = ("_membership", "_record", "_size", "_start")

    def __init__(self, membership: Membership, record: Record, start: int, size: int) -> None:
        self._record: Record | None = record
        self._membership = membership
        self._start = start
        self._size = size

    @property
    def memory(self) -> memoryview:
        """What was claimed."""
        return self._membership.segment.buffer[self._start : self._start + self._size]

    def publish(self) -> None:
        """Let getters have the item that was written."""
        record, self._record = self._record, None
        if record is not None and record.forks == processes.forks:
            try:
                self._membership.ring.publish(record, record.claim.place, 1, 1)
            except BaseException:
                self._membership.recover(record)
                raise
            self._membership.records.idle[record.index] = record

    def free(self) -> None:
        """Drop the item that was read."""
        record, self._record = self._record, None
        if record is not None and record.forks == processes.forks:
            record.claim.is_seen = True
            try:
                self._membership.ring.drop(record)
            except BaseException:
                self._membership.recover(record)
                raise
            self._membership.records.idle[record.index] = record

    def give_up(self) -> None:
        """Undo the claim."""
        record, self._record = self._record, None
        if record is not None:
            self._membership.recover(record)

    __del__ = give_up


class Wish:
    """What a get in place looks at before it claims.

    Args:
        ring: of the queue.
        codec: likewise.
        room: bytes of the buffer for the item; None: it has to lie in one slot.

    Attributes:
        begin: where in its payload the bytes begin of the item that was looked at last.
        size: their number.
    """

    __slots__ = ("_codec", "_ring", "_room", "_slots", "_tag", "begin", "size")

    def __init__(self, ring: Items, codec: ItemCodec, room: int | None) -> None:
        self._ring = ring
        self._codec = codec
        self._room = room
        self._tag = self._slots = self.begin = self.size = 0

    def __call__(self, position: int, slots: int) -> bool:
        """Whether an item is wanted that is there or was there just now; nothing that is read here is believed."""
        ring, codec = self._ring, self._codec
        length, self._tag = ring.measure(position, slots)
        self._slots = slots
        first = ring.beginning(position, min(length, FIRST))
        place = place_of(first, length, self._tag, codec.bare_tag, codec.loads is not None)
        if place is None or (slots > 1 and self._room is None):
            self.begin = self.size = 0
            return False
        self.begin, self.size = place
        return self._room is None or self.size <= self._room

    def refuse(self, found: int) -> None:
        """Say what was found that is no item that is wanted; return if it is a payload that was kept back.

        Raises:
            Empty, ShutDown: there is no item.
            NotABufferError, BufferTooSmallError: it is another one.
        """
        if found == UNFIT:
            if self._room is not None and self.size > self._room:
                raise BufferTooSmallError(self.size, self._room)
            refuse_item(self._tag, self._slots)
        if found != KEPT_BACK:
            raise ShutDown if found == SHUT_DOWN else Empty


class Places(Protocol):
    """What an engine has for items in place."""

    membership: Membership

    def reserve(self, length: int, tag: int, until: float) -> Place:
        """Claim a slot for a payload of so many bytes, and write its length and tag.

        Raises:
            Full, ShutDown, QueueClosedError, RoleTakenError, SharedMemoryFullError: as of a put.
        """

    def view(self, until: float) -> Place | None:
        """Claim the next item, if it is one whose bytes are in place; None if payloads are kept back, which come first.

        Raises:
            NotABufferError: it is another one.
            Empty, ShutDown, QueueClosedError, RoleTakenError, CorruptQueueError: as of a get.
        """


class _Block(ABC):
    """A ``with`` block that has memory of the queue.

    Args:
        queue: kept while this is there, because a queue that is collected closes its handle.
        engine: of its handle.
        codec: of the queue.
        block: as of ``put``.
        timeout: likewise.
    """

    __slots__ = ("__weakref__", "_block", "_codec", "_engine", "_forks", "_lent", "_place", "_queue", "_timeout")

    def __init__(self, queue: object, engine: Places, codec: ItemCodec, block: bool, timeout: float | None) -> None:
        self._engine = engine
        self._place: Place | None = None
        seconds_of(block, timeout)  # refuses what cannot be
        self._queue = queue
        self._codec = codec
        self._block = block
        self._timeout = timeout
        self._forks = 0
        self._lent: tuple[memoryview, memoryview] | None = None

    @abstractmethod
    def _claim(self, until: float) -> Place:
        """Claim."""

    @abstractmethod
    def _memory(self, place: Place) -> memoryview:
        """Return the bytes of the item in what was claimed."""

    @abstractmethod
    def _end(self, place: Place, is_kept: bool) -> None:
        """End the claim; ``is_kept`` tells whether an item that was written is to be put."""

    def __enter__(self) -> memoryview:
        if self._place is not None:
            raise RuntimeError("this is the block of another with statement; call reserve() or view() again for each")
        self._engine.membership.check_open()
        self._engine.membership.add_block(self)  # from here on a close ends what is claimed
        place = self._claim(deadline_of(self._block, self._timeout))
        try:
            memory = self._memory(place)
            view = lend(memory)
        except BaseException:
            place.give_up()
            raise
        self._forks = processes.forks
        self._lent = memory, view
        self._place = place
        return view

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        place, self._place = self._place, None
        lent, self._lent = self._lent, None
        is_free = True
        if place is not None and lent is not None:
            try:
                is_free = take_back(*lent)
                self._end(place, is_free and exception is None)
            finally:
                self._end(place, False)
                self._engine.membership.drop_block(self)
        if exception is not None or self._forks != processes.forks:
            return
        if place is None:
            self._refuse_closed()
        if not is_free:
            self._refuse_outlived()

    def close(self) -> None:
        """End the claim, because the handle is being closed; the memory stays for those that refer to it."""
        place, self._place = self._place, None
        if place is not None:
            self._end(place, False)

    def __del__(self) -> None:
        self.close()
        self._engine.membership.drop_block(self)

    @abstractmethod
    def _refuse_closed(self) -> NoReturn:
        """Say that the handle was closed inside the block."""

    @abstractmethod
    def _refuse_outlived(self) -> NoReturn:
        """Say that something refers to the memory beyond the block."""

    def __reduce__(self) -> NoReturn:
        raise TypeError("memory of a queue cannot be pickled: it belongs to the block of a with statement")


class Reservation(_Block):
    """What ``SharedMemoryQueue.reserve`` returns; see there.

    Args:
        queue: as of ``_Block``; so are the others.
        engine: likewise.
        codec: likewise.
        size: bytes to reserve, at most those of a slot.
        block: likewise.
        timeout: likewise.
    """

    __slots__ = ("_laid",)

    def __init__(
        self, queue: object, engine: Places, codec: ItemCodec, size: int, block: bool, timeout: float | None
    ) -> None:
        super().__init__(queue, engine, codec, block, timeout)
        self._laid = laid(size, engine.membership.geometry.item_size, codec.bare_tag)

    def _claim(self, until: float) -> Place:
        length, tag, _ = self._laid
        return self._engine.reserve(length, tag, until)

    def _memory(self, place: Place) -> memoryview:
        return place.memory[self._laid[2] :]

    def _end(self, place: Place, is_kept: bool) -> None:
        if is_kept:
            place.publish()
        else:
            place.give_up()

    def _refuse_closed(self) -> NoReturn:
        raise QueueClosedError(
            "this handle of the queue was closed inside the block of reserve(), so nothing was put; close it behind "
            "the block"
        )

    def _refuse_outlived(self) -> NoReturn:
        raise BufferError(
            "something refers to the memory of reserve() beyond its block, for example an array that was made of the "
            "view or a slice of it, and could write into another item; so nothing was put: delete it before the block "
            "ends"
        )


class View(_Block):
    """What ``SharedMemoryQueue.view`` returns; see there."""

    __slots__ = ()

    def _claim(self, until: float) -> Place:
        place: Place | None = None
        while place is None:
            place = self._engine.view(until)
            if place is None:
                place = _take_kept_back(self._engine.membership, self._codec)
        return place

    def _memory(self, place: Place) -> memoryview:
        return place.memory.toreadonly()

    def _end(self, place: Place, is_kept: bool) -> None:
        place.free()

    def _refuse_closed(self) -> NoReturn:
        raise QueueClosedError(
            "this handle of the queue was closed inside the block of view(), so other items may have come into its "
            "memory while it was read; close the handle behind the block"
        )

    def _refuse_outlived(self) -> NoReturn:
        raise BufferError(
            "something refers to the memory of view() beyond its block, for example an array that was made of the view "
            "or a slice of it, and will find other items there; the item was taken: copy what is needed, and delete "
            "the rest before the block ends"
        )


class _KeptBack:
    """A place that is a payload which was kept back."""

    def __init__(self, membership: Membership, payload: Payload, memory: memoryview) -> None:
        self._membership = membership
        self._payload: Payload | None = payload
        self.memory = memory

    def publish(self) -> None:
        """Do nothing: it is no put's."""

    def free(self) -> None:
        self._payload = None

    def give_up(self) -> None:
        payload, self._payload = self._payload, None
        if payload is not None:
            self._membership.keep_back([payload])


def _take_kept_back(member: Membership, codec: ItemCodec) -> Place | None:
    """Take the next payload that was kept back, to be looked at; None if another thread was faster."""
    payload = _next_kept_back(member)
    if payload is None:
        return None
    memory = _bytes_of(payload, codec)
    if memory is None:
        refuse_item(payload[1], 1)
    place = _KeptBack(member, payload, memory)
    kept = member.records.kept_back
    if not kept or kept[0] is not payload:
        return None
    del kept[0]  # a statement, after which the interpreter does not look for signals; nor does it after the return
    return place


def copy_kept_back(member: Membership, codec: ItemCodec, buffer: memoryview) -> int | None:
    """Take the next payload that was kept back into a buffer; return its bytes, or None if another was faster."""
    payload = _next_kept_back(member)
    if payload is None:
        return None
    memory = _bytes_of(payload, codec)
    if memory is None:
        refuse_item(payload[1], 1)
    size = memory.nbytes
    if size > buffer.nbytes:
        raise BufferTooSmallError(size, buffer.nbytes)
    buffer[:size] = memory
    kept = member.records.kept_back
    if not kept or kept[0] is not payload:
        return None
    del kept[0]  # as above
    return size


def _next_kept_back(member: Membership) -> Payload | None:
    try:
        return member.records.kept_back[0]
    except IndexError:
        return None


def _bytes_of(payload: Payload, codec: ItemCodec) -> memoryview | None:
    """Return the bytes of a payload of this process that can be looked at in place; None if it has none."""
    data, tag = payload
    if tag == BUFFERS and not isinstance(data, bytes):
        found = parts_of(data, memoryview)[2] if codec.loads is not None else []
        return memoryview(found[0]).cast("B") if len(found) == 1 else None
    data = whole(data)
    place = place_of(data[:FIRST], len(data), tag, codec.bare_tag, codec.loads is not None)
    return None if place is None else memoryview(data)[place[0] : sum(place)]


def writable(buffer: Any) -> memoryview:
    """Return the memory of a buffer that items are copied into.

    Raises:
        TypeError: it cannot be written, or does not lie in one piece.
    """
    view = memoryview(buffer)
    if view.readonly or not view.c_contiguous:
        raise TypeError(f"into must be a buffer that can be written, in one piece, not {type(buffer).__name__!r}")
    return view.cast("B")


def refuse_item(tag: int, slots: int) -> NoReturn:
    """Say that the next item has no bytes to look at.

    Args:
        tag: its tag, which says what it is.
        slots: that it takes.

    Raises:
        NotABufferError: always.
    """
    why = (
        f"takes {slots:,} slots, and so does not lie in one piece of memory: take it by get(), or by get(into=buffer)"
        if slots > 1
        else f"is neither bytes nor an object with one large buffer (its tag is {tag}): take it by get()"
    )
    raise NotABufferError(f"the next item {why}; it is still in the queue")
