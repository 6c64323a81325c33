"""What the public class needs of an engine: the contract that both fulfil, and neither inherits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal, Protocol

from .._codec.formats import ItemCodec
from .._ring.claim import Payload
from .doorbell import Doorbell
from .membership import Membership
from .places import Place

EngineName = Literal["atomics", "native"]


class Calls(Protocol):
    """What answers ``put`` and ``get``, with the arguments of the public class; ``calls.py`` tells why in this form."""

    def put(self, item: Any, block: bool, timeout: float | None, obj: Any, /) -> None:
        """Put an item, which is called ``item`` or ``obj``."""

    def put_batch(self, items: Any, block: bool, timeout: float | None, /) -> None:
        """Put all items at once, or none."""

    def __getitem__(self, wish: tuple[Any, ...], /) -> Any:
        """Take one item for ``[block, timeout]``, a list of them for ``[max_items, block, timeout]``.

        With a memoryview in the place of ``max_items``, take one into that memory, and return its bytes.

        By one look, which waits for nothing at all, it is ``[()]`` or ``[(max_items,)]``.
        """

    def try_put(self, item: Any, /) -> list[Payload] | None:
        """Put an item by one look; if there is no room, return what is encoded, for later looks."""

    def try_put_batch(self, items: list[Any], /) -> list[Payload] | None:
        """Put several items by one look, likewise; there are not too many."""

    def try_put_payload(self, data: bytes, tag: int, /) -> bool:
        """Put what is encoded by one look; return whether there was room."""


class LeaseCalls(Protocol):
    """What answers the calls that only a queue with leases has; see ``LeasedCalls``."""

    def lease(self, limit: Any, block: bool, timeout: float | None, make: Callable[[Payload], Any], /) -> list[Any]:
        """Take items for ``Lease`` objects."""

    def try_lease(self, make: Callable[[Payload], Any], /) -> Any:
        """Take one by one look."""

    def has_all(self) -> bool:
        """Whether ``get`` gave all leases of the queue to the calling thread."""

    def task_done(self) -> None:
        """End the lease that this thread has had longest."""

    def join(self, timeout: float | None, /) -> bool:
        """Wait until nothing is in the queue and nothing is leased."""


class Engine(Protocol):
    """The operations of one handle on one segment.

    Attributes:
        name: which engine this is.
        membership: the handle's records, liveness, fork and end, which no engine has for itself.
    """

    name: ClassVar[EngineName]
    membership: Membership

    def __init__(self, membership: Membership) -> None: ...

    def open(self, codec: ItemCodec) -> Calls:
        """Take part in the queue: from here on other processes see that this one uses it.

        Args:
            codec: of the queue.
        """

    def shutdown(self, immediate: bool) -> None:
        """Let no put be accepted any more, and wake all waiters; may be called again.

        Args:
            immediate: drop what is in the queue.
        """

    def size(self) -> int:
        """Return about how many items are there."""

    def is_empty(self) -> bool:
        """Whether a get would find nothing."""

    def is_full(self) -> bool:
        """Whether a put would find no room."""

    def reserve(self, length: int, tag: int, until: float) -> Place:
        """Claim a slot for a payload; see ``Places``."""

    def view(self, until: float) -> Place | None:
        """Claim the next item, if its bytes are in place; see ``Places``."""

    def doorbell(self, side: int) -> Doorbell:
        """Return the doorbell of a side, ITEMS or SPACE; see ``Doorbell`` for what is raised when it cannot be made."""
