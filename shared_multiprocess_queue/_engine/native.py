"""The native engine: put, get and their batches in C, on the same segment, by the same protocol.

The C code (_native/handle.h) has records of its own, does all that is frequent, and takes the roles of mode "spsc".
What is rare needs a record in Python, for the moment: definitions, the mark of an unlinked queue. Items that
interrupted gets had taken lie in one place for both.

There is no such module where the extension was not built: the import fails.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar, NoReturn

from .._codec.formats import ItemCodec
from .._native.extension import Handle, copy_of, note_fork, read_plain
from .._platform.lazy_import import late
from .._ring import parking
from .._ring.layout import ITEMS, SPACE
from ..errors import BufferTooSmallError, ItemTooLargeError, SerializationError
from .arguments import check_slots
from .calls import NotPlain, corrupt_slot
from .contract import Calls, EngineName
from .doorbell import Doorbell
from .membership import Membership
from .places import Place, copy_kept_back, refuse_item

if TYPE_CHECKING:
    from .native_leases import NativeLeasedCalls

os.register_at_fork(after_in_child=note_fork)


@late
def _leased_calls() -> type[NativeLeasedCalls]:
    from .native_leases import NativeLeasedCalls  # noqa: PLC0415 (few queues have leases)

    return NativeLeasedCalls


class NativeEngine:
    """The operations of one handle on one segment.

    Args:
        membership: the handle's part in the queue.
    """

    name: ClassVar[EngineName] = "native"

    def __init__(self, membership: Membership) -> None:
        self.membership = membership

    def open(self, codec: ItemCodec) -> Calls:
        """Take part in the queue; see ``Engine.open``."""
        member = self.membership
        self._codec = codec
        codec.read_plain_by(read_plain)
        codec.copy_by(copy_of)
        handle = Handle(
            segment=member.segment.buffer,
            lock=member.flag.buffer,
            capacity=member.geometry.capacity,
            item_size=member.geometry.item_size,
            at_once=member.at_once,
            spsc=member.geometry.mode == "spsc",
            owner=member.participants.owner,
            slice=parking.SLICE,
            may_spin=member.system.cores() > 1,
            engine=self,
            codec=codec,
            calls=NotPlain(member, self._handle),
            kept_back=member.records.kept_back,
            on_keep_back=member.on_keep_back,
            leases=member.geometry.leases,
            max_deliveries=member.geometry.max_deliveries,
            max_item_size=member.geometry.max_item_size,
        )
        member.add_native(handle)
        handle.begin()  # from here on other processes see that this one uses the queue
        return _leased_calls()(member, codec, handle) if member.geometry.leases else handle

    # ---- the end of work --------------------------------------------------------------------------------------------

    def shutdown(self, immediate: bool) -> None:
        """Shut the queue down; see ``Engine.shutdown``."""
        self._handle().shutdown(immediate)

    # ---- in place ---------------------------------------------------------------------------------------------------

    def reserve(self, length: int, tag: int, until: float) -> Place:
        """Claim a slot for a payload; see ``Places.reserve``."""
        return self._handle().reserve(length, tag, until)

    def view(self, until: float) -> Place | None:
        """Claim the next item, if it is one whose bytes are in place; see ``Places.view``."""
        return self._handle().view(until)

    # ---- looking ----------------------------------------------------------------------------------------------------

    def size(self) -> int:
        """Return about how many items are there."""
        return self._handle().size()

    def is_empty(self) -> bool:
        """Whether a get would find nothing."""
        return self._handle().is_empty()

    def is_full(self) -> bool:
        """Whether a put would find no room."""
        return self._handle().is_full()

    def doorbell(self, side: int) -> Doorbell:
        """Return the doorbell of a side, ITEMS or SPACE, of whose calls that find nothing C tells from here on."""
        found = self.membership.doorbells.of(self.membership, side)
        self._handle().set_doorbell(side == SPACE, True)
        return found

    def _handle(self) -> Handle:
        """Return the handle in C, which the membership has, and lets go at its end: it refers to this engine."""
        handle = self.membership.native
        if not isinstance(handle, Handle):
            self.membership.records.refuse()
        return handle

    # ---- what the C code asks for -----------------------------------------------------------------------------------

    def settle(self) -> None:
        """Begin in a forked child; not with a handle that another thread of the parent was closing."""
        records = self.membership.settle()
        self._handle().settle(self.membership.participants.owner, records.kept_back)

    def serve(self) -> None:  # what a signal handler raises shows here
        """Raise what signals and other threads have for this one: the interpreter looks when a function starts."""

    def nothing_found(self, puts: bool) -> None:
        """Let the doorbell of a side wait for what a call has not found."""
        self.membership.doorbells.quieten(SPACE if puts else ITEMS)

    def ended(self) -> None:
        """Leave, if this was the last operation of a handle that is closing."""
        self.membership.ended()

    def refuse(self) -> NoReturn:
        """Say that the handle is closed."""
        self.membership.records.refuse()

    def number(self, position: int, count: int) -> None:
        """Number the slots of positions, in a queue that takes memory as it is used."""
        with self.membership.operation() as record:
            if not self.membership.growth.number(record.words, position, count):
                self.corrupt(position, 0)

    def add_leases(self) -> None:
        """Give memory to more lease slots, in a queue that takes memory as it is used."""
        with self.membership.operation() as record:
            self.membership.growth.add_leases(record.words)

    def no_memory(self) -> NoReturn:
        """Say that there is no memory for an item."""
        self.membership.growth.refuse()

    def copy_kept_back(self, buffer: memoryview) -> int | None:
        """Take the next payload that was kept back into a buffer; see there."""
        return copy_kept_back(self.membership, self._codec, buffer)

    def too_small(self, size: int, room: int) -> NoReturn:
        """Say that the next item is larger than the buffer for it."""
        raise BufferTooSmallError(size, room)

    def refuse_item(self, tag: int, slots: int) -> NoReturn:
        """Say that the next item has no bytes to look at."""
        refuse_item(tag, slots)

    def corrupt(self, position: int, word: int) -> NoReturn:
        """Say that the slot of a position holds a word that no queue writes."""
        self.membership.ring.corrupt(position, word)

    def too_many_slots(self, count: int, slots: int) -> None:
        """Say that the items of a batch take more slots than there are."""
        check_slots(count, slots, self.membership.geometry.capacity)

    def say_which(self, error: ValueError, index: int) -> None:
        """Say in the error of an item which of its batch it is."""
        if isinstance(error, SerializationError | ItemTooLargeError):
            error.index = index

    def corrupt_slot(self) -> NoReturn:
        """Say that a slot stated what it cannot hold."""
        corrupt_slot(self.membership)
