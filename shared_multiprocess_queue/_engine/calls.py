"""The work of put, get and their batches, behind the signatures of the public class.

**A get is a subscription**, ``calls[block, timeout]``, so that an exception from outside cannot take the place of an
item. CPython looks for signals, for exceptions that another thread has set (``PyThreadState_SetAsyncExc``), and for
threads that want the GIL when a function starts, when a loop jumps back, and after a call of C. It does not look after
a subscription, whether C or Python serves it, nor when a function of Python returns to its caller. So no exception can
come between the freeing of a slot and the caller's own next step. After a call of a method in C the interpreter would
look before the caller has stored the item, and an exception would lose it.

The native engine's ``Handle`` serves the same calls. It leaves those of a closed handle, and those with wrong or
unusual arguments, to ``NotPlain``. So C needs no messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from queue import Full
from typing import Any, NoReturn, Protocol, TypeVar

from .._codec.buffers import Pieces
from .._codec.formats import ItemCodec
from .._platform.clock import ONE_LOOK, deadline_of, seconds_of
from .._ring.claim import CORRUPT, Home, Payload
from .._ring.layout import Geometry
from ..errors import (
    CorruptQueueError,
    DeserializationError,
    ItemTooLargeError,
    SerializationError,
    SharedMemoryQueueError,
    ShutDown,
)
from .arguments import NOT_GIVEN, check_slots, countable, most_items, only_item
from .contract import Calls
from .membership import Membership
from .places import copy_kept_back

T = TypeVar("T")


class Operations(Protocol):
    """The operations of an engine on payloads; see ``AtomicsEngine``."""

    membership: Membership

    def put(self, payload: Payload, until: float) -> None:
        """Put one item."""

    def put_batch(self, payloads: list[Payload], until: float) -> None:
        """Put all items, or none."""

    def get(
        self,
        limit: int,
        until: float,
        deliver: Callable[[list[Payload]], T],
        home: Home | None = None,
    ) -> T:
        """Take one to ``limit`` items."""

    def get_into(self, buffer: memoryview, until: float) -> int | None:
        """Take the next item into a buffer."""


def parts_of(wish: tuple[Any, ...]) -> tuple[tuple[Any, ...], float]:
    """Return ``max_items``, or nothing for one item, and when a get has to end.

    Args:
        wish: ``(block, timeout)`` or ``(max_items, block, timeout)``; by one look, ``()`` or ``(max_items,)``.
    """
    if len(wish) < 2:
        return wish, ONE_LOOK
    return wish[:-2], deadline_of(*wish[-2:])


def encoded(codec: ItemCodec, geometry: Geometry, item: object, index: int | None = None) -> Payload:
    """Return the payload of an item, made to fit; its index if it is one of a batch."""
    payload = codec.encode(item)
    return payload if len(payload[0]) <= geometry.max_item_size else codec.fit(*payload, index)


def encoded_batch(codec: ItemCodec, geometry: Geometry, items: list[object]) -> list[Payload]:
    """Return the payloads of a batch.

    Raises:
        ArgumentError: they take more slots than there are.
    """
    payloads: list[Payload] = []
    in_pieces: list[Pieces] = []  # those that refer to the sender's memory
    try:
        for index, item in enumerate(items):
            if in_pieces and not Pieces.is_safe_from(item):
                for pieces in in_pieces:
                    pieces.own()
                in_pieces.clear()
            try:
                payloads.append(encoded(codec, geometry, item, index))
                if isinstance(payloads[-1][0], Pieces):
                    in_pieces.append(payloads[-1][0])
            except (SerializationError, ItemTooLargeError) as error:
                error.index = index
                raise
        slots = sum([-(-len(data) // geometry.item_size) or 1 for data, _ in payloads])
        check_slots(len(payloads), slots, geometry.capacity)
    except BaseException:
        withdraw(codec, payloads)
        raise
    return payloads


def withdraw(codec: ItemCodec, payloads: list[Payload]) -> None:
    """Close what was set aside for the receivers of items that were not put."""
    for data, _ in payloads:
        codec.withdraw(data)


class InPython:
    """The calls of one handle, in Python; ``SharedMemoryQueue`` documents them.

    Args:
        engine: of the handle.
        codec: of the queue.
    """

    def __init__(self, engine: Operations, codec: ItemCodec) -> None:
        self._membership = engine.membership
        self._engine = engine
        self._codec = codec
        self._geometry = engine.membership.geometry

    # ---- put --------------------------------------------------------------------------------------------------------

    def put(self, item: object, block: bool, timeout: float | None, obj: object) -> None:
        """Put an item, which is called ``item`` or ``obj``."""
        item = only_item("put", item, obj)
        until = deadline_of(block, timeout)
        self._membership.check_open()
        payload = encoded(self._codec, self._geometry, item)  # before any claim: it may run code of the user
        try:
            self._engine.put(payload, until)
        except (Full, ShutDown, SharedMemoryQueueError):  # after any other exception the item may have been put
            self._codec.withdraw(payload[0])
            raise

    def try_put(self, item: object) -> list[Payload] | None:
        """Put an item by one look; if there is no room, return what is encoded, for later looks."""
        self._membership.check_open()
        payload = encoded(self._codec, self._geometry, item)
        return None if self.try_put_payload(*payload) else [payload]

    def try_put_payload(self, data: bytes, tag: int) -> bool:
        """Put what is encoded by one look; return whether there was room."""
        try:
            self._engine.put((data, tag), ONE_LOOK)
        except Full:
            return False
        except (ShutDown, SharedMemoryQueueError):
            self._codec.withdraw(data)
            raise
        return True

    def put_batch(self, items: Iterable[object], block: bool, timeout: float | None) -> None:
        """Put several items at once."""
        until = deadline_of(block, timeout)
        self._membership.check_open()
        payloads = self.try_put_batch(countable(items, self._geometry.capacity))
        if payloads:
            try:
                self._engine.put_batch(payloads, until)
            except (Full, ShutDown, SharedMemoryQueueError):
                withdraw(self._codec, payloads)
                raise

    def try_put_batch(self, items: list[object]) -> list[Payload]:
        """Return what a batch is, encoded: all of it is for later looks, because this engine has no faster one."""
        return encoded_batch(self._codec, self._geometry, items)

    # ---- get --------------------------------------------------------------------------------------------------------

    def __getitem__(self, wish: tuple[Any, ...]) -> Any:
        """Take one item for ``[block, timeout]``, a list for ``[max_items, block, timeout]``; or by one look.

        With a memoryview in the place of ``max_items``, take one into that memory, and return its bytes.
        """
        most, until = parts_of(wish)
        if most and type(most[0]) is memoryview:
            return self._get_into(most[0], until)
        limit = min(most_items(*most), self._geometry.capacity) if most else 1
        self._membership.check_open()
        if most:
            return self._engine.get(limit, until, self._deliver)
        return self._engine.get(1, until, self._deliver)[0]

    def _get_into(self, buffer: memoryview, until: float) -> int:
        member = self._membership
        member.check_open()
        while (size := self._engine.get_into(buffer, until)) is None:
            size = copy_kept_back(member, self._codec, buffer)
            if size is not None:
                return size
        return size

    def _deliver(self, taken: list[Payload]) -> list[Any]:
        items: list[Any] = []
        for data, tag in taken:
            try:
                if tag == CORRUPT:
                    corrupt_slot(self._membership)
                items.append(self._codec.decode(data, tag))
            except (DeserializationError, CorruptQueueError):
                self._membership.keep_back(taken, max(len(items), 1))
                if not items:
                    self._consume(taken)  # this item is consumed; any other exception is no error of the item
                    raise
        return items

    def _consume(self, taken: list[Payload]) -> None:
        """Let the one payload that is left go with its error."""
        taken.clear()


class NotPlain:
    """The calls that C does not serve: those of a closed handle, and those with arguments that are made plain here.

    Args:
        membership: the handle's part in the queue.
        plain: returns an object that serves all calls with plain arguments.
    """

    def __init__(self, membership: Membership, plain: Callable[[], Calls]) -> None:
        self._membership = membership
        self._plain_calls = plain

    def put(self, item: object, block: bool, timeout: float | None, obj: object) -> None:
        """Put an item, which is called ``item`` or ``obj``."""
        item = only_item("put", item, obj)
        seconds = seconds_of(block, timeout)
        self._plain().put(item, True, seconds, NOT_GIVEN)

    def put_batch(self, items: Iterable[object], block: bool, timeout: float | None) -> None:
        """Put several items at once."""
        seconds = seconds_of(block, timeout)
        handle = self._plain()
        handle.put_batch(countable(items, self._membership.geometry.capacity), True, seconds)

    def __getitem__(self, wish: tuple[Any, ...]) -> Any:
        """Take one item for ``[block, timeout]``, a list for ``[max_items, block, timeout]``; or by one look."""
        most, wait = (wish[:-2], wish[-2:]) if len(wish) > 1 else (wish, ())
        seconds = (True, seconds_of(*wait)) if wait else ()
        limit = [most_items(*most)] if most else []
        return self._plain()[(*limit, *seconds)]

    def _plain(self) -> Calls:
        self._membership.check_open()
        return self._plain_calls()


def corrupt_slot(membership: Membership) -> NoReturn:
    """Raise the error for a slot that states what it cannot hold.

    Raises:
        CorruptQueueError: always.
    """
    raise CorruptQueueError(
        f"a slot stated an item that cannot be there, for example of more bytes than the "
        f"{membership.geometry.max_item_size:,} of the largest item of this queue; it is lost, and "
        f"a program other than this package writes into segment {membership.segment.name!r}"
    )
