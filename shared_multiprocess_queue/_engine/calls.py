"""What put, get and their batches do, behind the signatures of the public class.

**A get is a subscription**, ``calls[block, timeout]``, so that no exception from outside takes the place of an item.
CPython looks for signals, for exceptions that another thread has set (``PyThreadState_SetAsyncExc``), and for threads
that want the GIL when a function starts, when a loop jumps back, and after a call of C. It does not look after a
subscription, whether C or Python serves it, nor when a function of Python returns to its caller. So nothing can be
raised between the freeing of a slot and the caller's own next step. A call of a method in C would be followed by such a
look, at which the item is in nobody's hands yet.

The native engine's ``Handle`` answers the same calls, and leaves to this what is not plain: a handle that is closed,
arguments that are wrong or unusual. So there is one place that knows the messages.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from queue import Full
from typing import Any

from .._codec.codec import Codec
from .._platform.clock import deadline_of
from .._ring.claim import CORRUPT, Payload
from .._ring.layout import MAX_BATCH, Geometry
from ..errors import ArgumentError, CorruptQueueError, DeserializationError, SharedMemoryQueueError
from .arguments import most_items, only_item
from .atomics import AtomicsEngine


class Calls:
    """The calls of one handle, in Python; ``SharedMemoryQueue`` documents them.

    Args:
        engine: of the handle.
        codec: of the queue.
        geometry: its sizes.
        check_open: method of the handle that raises if it is closed; held weakly, for the handle has these calls.
    """

    def __init__(self, engine: AtomicsEngine, codec: Codec, geometry: Geometry, check_open: Callable[[], None]) -> None:
        self._engine = engine
        self._codec = codec
        self._geometry = geometry
        self._handles_check = weakref.WeakMethod(check_open)

    def _check_open(self) -> None:
        check = self._handles_check()
        if check is not None:
            check()

    def settle(self) -> None:
        """Begin in a forked child; not with a handle that another thread of the parent was closing."""
        self._check_open()
        self._engine.settle()

    # ---- put --------------------------------------------------------------------------------------------------------

    def put(self, item: object, block: bool, timeout: float | None, obj: object) -> None:
        """Put an item, which is called ``item`` or ``obj``."""
        item = only_item("put", item, obj)
        until = deadline_of(block, timeout)
        self._check_open()
        payload = self._codec.encode(item)  # before anything is claimed: this may run the user's code
        if len(payload[0]) > self._geometry.item_size:
            payload = self._codec.fit(*payload)
        try:
            self._engine.put(payload, until)
        except (Full, SharedMemoryQueueError):  # after any other exception it may have been put
            self._codec.withdraw(payload[0])
            raise

    def put_batch(self, items: Iterable[object], block: bool, timeout: float | None) -> None:
        """Put several items at once."""
        until = deadline_of(block, timeout)
        self._check_open()
        batch = self._countable(items)
        payloads: list[Payload] = []
        try:
            for i, item in enumerate(batch):
                payloads.append(self._checked(self._codec.encode(item), i))
        except BaseException:
            self._withdraw(payloads)
            raise
        if payloads:
            try:
                self._engine.put_batch(payloads, until)
            except (Full, SharedMemoryQueueError):
                self._withdraw(payloads)
                raise

    def _withdraw(self, payloads: list[Payload]) -> None:
        for payload, _ in payloads:
            self._codec.withdraw(payload)

    def _countable(self, items: Iterable[object]) -> list[object]:
        batch = list(items)
        limit = min(self._geometry.capacity, MAX_BATCH)
        if len(batch) > limit:
            raise ArgumentError(
                f"a batch of {len(batch):,} items can never fit: this queue holds {limit:,}; split the batch, or "
                f"create the queue with a larger capacity"
            )
        return batch

    def _checked(self, payload: Payload, index: int) -> Payload:
        if len(payload[0]) > self._geometry.item_size:
            return self._codec.fit(*payload, index)
        return payload

    # ---- get --------------------------------------------------------------------------------------------------------

    def __getitem__(self, wish: tuple[Any, ...]) -> Any:
        """Take one item for ``[block, timeout]``, a list of them for ``[max_items, block, timeout]``."""
        *most, block, timeout = wish
        until = deadline_of(block, timeout)
        limit = min(most_items(*most), self._geometry.capacity) if most else 1
        self._check_open()
        if most:
            return self._engine.get(limit, until, self._deliver)
        return self._engine.get(1, until, self._deliver)[0]

    def _deliver(self, taken: list[Payload]) -> list[Any]:
        items: list[Any] = []
        for data, tag in taken:
            try:
                if tag == CORRUPT:
                    self._engine.corrupt_slot()
                items.append(self._codec.decode(data, tag))
            except (DeserializationError, CorruptQueueError):
                self._engine.keep_back(taken, max(len(items), 1))
                if not items:
                    taken.clear()  # this one is consumed; whatever else may be raised is not the item's fault
                    raise
        return items
