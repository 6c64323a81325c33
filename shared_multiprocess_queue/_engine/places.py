"""Places: claims that last as long as a block of the program wants, and what a get in place looks at before it claims.

A place is given up when nothing refers to it any more, so an exception from outside that comes between claim and block
leaves nothing claimed. In the native engine this is ``_native/places.h``.
"""

from __future__ import annotations

import weakref
from queue import Empty
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

from .._codec.buffers import parts_of, whole
from .._codec.formats import ItemCodec
from .._codec.in_place import FIRST, place_of
from .._codec.tags import BUFFERS
from .._platform import processes
from .._ring.claim import CORRUPT, Payload
from .._ring.ring import SHUT_DOWN, UNFIT
from ..errors import BufferTooSmallError, NotABufferError, ShutDown

if TYPE_CHECKING:
    from .._ring.large import Items
    from .._ring.participants import Record
    from .membership import Membership

KEPT_BACK: Final = -1
"""What a get in place has found, beside what the ring finds: payloads of this handle that come first."""


class Place(Protocol):
    """A claim that lasts. When one of its methods has returned, the others do nothing; in a forked child none does.

    Attributes:
        is_shown: whether the program has the item of a get. Then no other process may have it, so it is freed where the
            claim would be undone, also if nothing refers to the place any more.
    """

    is_shown: bool

    @property
    def memory(self) -> memoryview:
        """What was claimed."""

    def publish(self) -> None:
        """Let getters have the item that was written."""

    def free(self) -> None:
        """Drop the item that was read."""

    def give_up(self) -> None:
        """Undo the claim: of a put nothing is left but a tomb, the item of a get goes to another one unless shown."""


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

    __slots__ = ("_membership", "_record", "_size", "_start", "is_shown")

    def __init__(self, membership: Membership, record: Record, start: int, size: int) -> None:
        self.is_shown = False
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
        """Undo the claim, or free what was shown."""
        if self.is_shown:
            return self.free()
        record, self._record = self._record, None
        if record is not None:
            self._membership.recover(record)

    def __del__(self) -> None:
        if getattr(self, "_record", None) is not None:  # __init__ may have been interrupted
            self.give_up()


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
        """Say what was found in the place of an item that is wanted, unless it is a payload that was kept back.

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


class Block(Protocol):
    """A ``with`` block that has a place."""

    def close(self) -> bool:
        """End the claim, if there is one."""


class OpenBlocks:
    """The blocks of one handle that have a place, or are about to claim one; of all threads."""

    def __init__(self) -> None:
        self._blocks: dict[int, weakref.ref[Block]] = {}  # by id

    def add(self, block: Block) -> None:
        """Note a block, before it claims."""
        self._blocks[id(block)] = weakref.ref(block)

    def drop(self, block: Block) -> None:
        """Note that a block has no place any more."""
        self._blocks.pop(id(block), None)

    def close(self) -> None:
        """End the claims of all, because the handle is being closed; may be called again."""
        for reference in list(self._blocks.values()):
            block = reference()
            if block is not None:
                block.close()


class KeptBack:
    """A place that is a payload which was kept back."""

    def __init__(self, membership: Membership, payload: Payload, memory: memoryview) -> None:
        self.is_shown = False
        self._membership = membership
        self._payload: Payload | None = payload
        self.memory = memory

    def publish(self) -> None:
        """Do nothing: it is no put's."""

    def free(self) -> None:
        self._payload = None

    def give_up(self) -> None:
        payload, self._payload = self._payload, None
        if payload is not None and not self.is_shown:
            self._membership.keep_back([payload])


def take_kept_back(member: Membership, codec: ItemCodec) -> Place | None:
    """Take the next payload that was kept back, to be looked at; None if another thread was faster."""
    payload = _next_kept_back(member)
    if payload is None:
        return None
    memory = _bytes_of(payload, codec)
    if memory is None:
        refuse_item(payload[1], 1)
    place = KeptBack(member, payload, memory)
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


def refuse_item(tag: int, slots: int) -> NoReturn:
    """Say that the next item has no bytes to look at.

    Args:
        tag: its tag, which says what it is.
        slots: that it takes.

    Raises:
        NotABufferError: always.
    """
    if tag == CORRUPT:
        raise NotABufferError(
            "the next item has a damaged slot, which states a length that cannot be: get() raises CorruptQueueError "
            "and drops it"
        )
    why = (
        f"takes {slots:,} slots, and so does not lie in one piece of memory: take it by get(), or by get_into()"
        if slots > 1
        else "is neither bytes nor an object with exactly one buffer of 4,096 bytes or more: take it by get()"
    )
    raise NotABufferError(f"the next item {why}; it is still in the queue")
