"""Items that are written and read in their slot: what ``reserve`` and ``view`` of a queue return.

A reservation is a put whose claim lasts as long as a ``with`` block, a view is a get whose claim does. Each is
announced all the while, so if its process dies in the block, it leaves what any dead put or get leaves: the put never
was, and the item goes to another getter.

An exception from outside may come between any two steps here. Before the block has the memory, the place is given up;
later it ends as at the end of the block.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn, Protocol

from .._codec.formats import ItemCodec
from .._codec.in_place import laid
from .._platform import processes
from .._platform.clock import now, seconds_of
from .._platform.lent_memory import Loan
from ..errors import QueueClosedError
from .places import Place, take_kept_back
from .records import refuse_child

if TYPE_CHECKING:
    from .membership import Membership


_DROPPED: Final = (
    "nothing refers to a block of reserve() or view() any more, so it has ended, but something refers to its memory, "
    "in which other items will lie: use a with statement"
)


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

    __slots__ = ("__weakref__", "_codec", "_engine", "_forks", "_is_entered", "_lent", "_place", "_queue", "_seconds")

    def __init__(self, queue: object, engine: Places, codec: ItemCodec, block: bool, timeout: float | None) -> None:
        self._engine = engine
        self._is_entered = False
        self._place: Place | None = None
        self._seconds = seconds_of(block, timeout)
        self._queue = queue
        self._codec = codec
        self._forks = 0
        self._lent: Loan | None = None

    _is_shown: ClassVar[bool]
    """Whether the block reads what was there."""

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
        if self._is_entered:
            raise RuntimeError("this is the block of another with statement; call reserve() or view() again for each")
        self._is_entered = True  # no call since the check, so no other thread has come between
        try:
            self._forks = processes.forks
            self._engine.membership.blocks.add(self)  # from here on a close ends what is claimed
            place = self._claim(now() + self._seconds * 1e9 if self._seconds else 0)
            try:
                lent = Loan(self._memory(place))
                if self._forks != processes.forks:
                    refuse_child()
            except BaseException:
                place.give_up()
                raise
        except BaseException:
            self._is_entered = False
            self._engine.membership.blocks.drop(self)
            raise
        self._lent = lent
        place.is_shown = self._is_shown  # no call, so no exception comes between this and the block
        self._place = place
        return lent.view

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._is_entered:
            raise RuntimeError("this block has not begun, or has ended already")
        place, self._place = self._place, None
        lent, self._lent = self._lent, None
        is_free = True
        try:
            if lent is not None:
                is_free = lent.take_back()
            if place is not None:
                self._end(place, is_free and exception is None)
        finally:
            self._is_entered = False
            if place is not None:
                self._end(place, False)  # nothing, if it has ended
        self._engine.membership.blocks.drop(self)
        if exception is not None or self._forks != processes.forks:
            return
        if place is None:
            self._refuse_closed()
        if not is_free:
            self._refuse_outlived()

    def close(self) -> bool:
        """End the claim and take the memory back, because the handle is being closed; may be called again.

        Returns:
            Whether nothing refers to the memory any more. Otherwise it stays mapped, and may be used for other items.
        """
        lent = self._lent
        is_free = lent is None or lent.take_back()
        self._lent = None
        place, self._place = self._place, None
        if place is not None:
            self._end(place, False)
        return is_free

    def __del__(self) -> None:
        if getattr(self, "_place", None) is not None:  # __init__ may have been interrupted
            is_free = self.close()
            self._engine.membership.blocks.drop(self)
            if not is_free:
                warnings.warn(_DROPPED, ResourceWarning, stacklevel=1, source=self)

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

    _is_shown = False

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

    _is_shown = True

    def _claim(self, until: float) -> Place:
        place: Place | None = None
        while place is None:
            place = self._engine.view(until)
            if place is None:
                place = take_kept_back(self._engine.membership, self._codec)
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


def writable(buffer: Any) -> memoryview:
    """Return the memory of a buffer that items are copied into.

    Raises:
        TypeError: it cannot be written, or does not lie in one piece.
    """
    view = memoryview(buffer)
    if view.readonly or not view.c_contiguous:
        raise TypeError(f"get_into() needs a buffer that can be written, in one piece, not {type(buffer).__name__!r}")
    return view.cast("B")
