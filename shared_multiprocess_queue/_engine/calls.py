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

from .._codec.formats import ItemCodec
from .._platform.clock import deadline_of, seconds_of
from .._ring.claim import CORRUPT, Home, Payload
from ..errors import CorruptQueueError, DeserializationError, SharedMemoryQueueError, ShutDown
from .arguments import NOT_GIVEN, check_slots, countable, most_items, only_item
from .contract import Calls
from .membership import Membership

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
        payload = self._codec.encode(item)  # before any claim, because this may run code of the user
        if len(payload[0]) > self._geometry.max_item_size:
            payload = self._codec.fit(*payload)
        try:
            self._engine.put(payload, until)
        except (Full, ShutDown, SharedMemoryQueueError):  # after any other exception the item may have been put
            self._codec.withdraw(payload[0])
            raise

    def put_batch(self, items: Iterable[object], block: bool, timeout: float | None) -> None:
        """Put several items at once."""
        until = deadline_of(block, timeout)
        self._membership.check_open()
        batch = countable(items, self._geometry.capacity)
        payloads: list[Payload] = []
        try:
            for i, item in enumerate(batch):
                payloads.append(self._checked(self._codec.encode(item), i))
            slots = sum(map(self._membership.ring.slots_of, (len(data) for data, _ in payloads)))
            check_slots(len(payloads), slots, self._geometry.capacity)
        except BaseException:
            self._withdraw(payloads)
            raise
        if payloads:
            try:
                self._engine.put_batch(payloads, until)
            except (Full, ShutDown, SharedMemoryQueueError):
                self._withdraw(payloads)
                raise

    def _withdraw(self, payloads: list[Payload]) -> None:
        for payload, _ in payloads:
            self._codec.withdraw(payload)

    def _checked(self, payload: Payload, index: int) -> Payload:
        if len(payload[0]) > self._geometry.max_item_size:
            return self._codec.fit(*payload, index)
        return payload

    # ---- get --------------------------------------------------------------------------------------------------------

    def __getitem__(self, wish: tuple[Any, ...]) -> Any:
        """Take one item for ``[block, timeout]``, a list of them for ``[max_items, block, timeout]``."""
        *most, block, timeout = wish
        until = deadline_of(block, timeout)
        limit = min(most_items(*most), self._geometry.capacity) if most else 1
        self._membership.check_open()
        if most:
            return self._engine.get(limit, until, self._deliver)
        return self._engine.get(1, until, self._deliver)[0]

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
        """Take one item for ``[block, timeout]``, a list of them for ``[max_items, block, timeout]``."""
        *most, block, timeout = wish
        seconds = seconds_of(block, timeout)
        limit = [most_items(*most)] if most else []
        return self._plain()[(*limit, True, seconds)]

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
