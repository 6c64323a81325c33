"""The calls of a queue with leases in the native engine: C does all but to note which thread has which lease."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from .._codec.formats import ItemCodec
from .._platform.atomic_words import Words
from .._ring.claim import Held, Home, LeasedPayload, Payload, notes_of
from .leased_calls import LeasedCalls
from .membership import Membership

if TYPE_CHECKING:
    from .._native.extension import Handle

T = TypeVar("T")


class NativeGets:
    """The gets of one handle in C, as ``LeasedCalls`` wants them.

    Args:
        membership: the handle's part in the queue.
        handle: in C.
    """

    def __init__(self, membership: Membership, handle: Handle) -> None:
        self.membership = membership
        self._handle = handle

    def get(
        self,
        limit: int,
        until: float,
        deliver: Callable[[list[Payload]], T],
        home: Home | None = None,
    ) -> T:
        """Lease one to ``limit`` items; what ``deliver`` leaves in its list when it raises is kept back."""
        assert home is not None
        noted = home

        def deliver_with_notes(taken: list[Payload]) -> tuple[T, Home]:
            return deliver(taken), notes_of(taken, noted)

        # A subscription, as every get; see calls.py.
        result: T = self._handle[limit, until, self._payload, deliver_with_notes, noted]
        return result

    def _payload(self, data: bytes, tag: int, index: int, position: int, deliveries: int) -> LeasedPayload:
        payload = LeasedPayload((data, tag))
        held = payload.held = Held(index, self.membership.participants.owner)
        held.won.append(1)
        held.position = position
        held.deliveries = deliveries
        return payload


class NativeLeasedCalls(LeasedCalls):
    """The calls of one handle of a queue with leases, of which C serves the puts, takes the items and looks."""

    def __init__(self, membership: Membership, codec: ItemCodec, handle: Handle) -> None:
        super().__init__(NativeGets(membership, handle), codec)  # type: ignore[arg-type]  # the puts stand below
        self._native = handle

    def put(self, item: object, block: bool, timeout: float | None, obj: object) -> None:
        """Put an item, which is called ``item`` or ``obj``."""
        self._native.put(item, block, timeout, obj)

    def put_batch(self, items: Any, block: bool, timeout: float | None) -> None:
        """Put several items at once."""
        self._native.put_batch(items, block, timeout)

    def try_put(self, item: object) -> list[Payload] | None:
        """Put an item by one look; if there is no room, return what is encoded, for later looks."""
        return self._native.try_put(item)

    def try_put_batch(self, items: list[object]) -> list[Payload] | None:  # type: ignore[override]
        """Put several items by one look, likewise; there are not too many."""
        return self._native.try_put_batch(items)

    def try_put_payload(self, data: bytes, tag: int) -> bool:
        """Put what is encoded by one look; return whether there was room."""
        return self._native.try_put_payload(data, tag)

    def join_until(self, until: float) -> bool:
        """Wait as ``join`` does, until a time in ns; 0 is always in the past."""
        return self._native.is_quiet() or super().join_until(until)

    def _is_quiet(self, words: Words) -> bool:
        return self._native.is_quiet()
