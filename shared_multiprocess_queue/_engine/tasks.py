"""The calls of a handle that tasks of asyncio await.

Each is one look, which waits for nothing at all, and a wait on the bell of its side if that finds nothing; see
``awaiting.py``. An item is serialised once, before its task awaits anything.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from functools import partial
from queue import Empty, Full
from typing import Any, Final, SupportsIndex, TypeVar, cast

from .._codec.buffers import whole
from .._codec.formats import ItemCodec
from .._platform.clock import seconds_of
from .._ring.claim import Payload
from .._ring.layout import (
    ITEMS,
    SPACE,
)
from ..errors import SharedMemoryQueueError, ShutDown
from .arguments import countable, most_items
from .awaiting import Batch, Side
from .calls import encoded, encoded_batch, withdraw
from .contract import Calls, LeaseCalls
from .membership import Membership

T = TypeVar("T")

_IN_A_ROW: Final = 64  # calls of a side that need not wait, before one gives the loop a turn
_WITHOUT_BELLS: Final = 10_000_000  # ns between two looks where there are no bells


class Tasks:
    """The awaited calls of one handle; ``SharedMemoryQueue`` documents them.

    Args:
        member: the handle's part in the queue.
        calls: the same calls, for threads.
        codec: of the queue.
    """

    def __init__(self, member: Membership, calls: Calls, codec: ItemCodec) -> None:
        self._member = member
        self._calls = calls
        self._codec = codec
        self._sides: dict[tuple[asyncio.AbstractEventLoop, int], Side] = {}
        _all.add(self)

    # ---- the calls --------------------------------------------------------------------------------------------------

    def get(self, timeout: float | None) -> Coroutine[Any, Any, Any]:
        """Take the next item."""
        return self._take(lambda: self._calls[()], timeout)

    def get_batch(self, max_items: SupportsIndex, timeout: float | None) -> Coroutine[Any, Any, Any]:
        """Wait for one item, and take it with all others that are there, up to a limit."""
        most = (most_items(max_items),)
        return self._take(lambda: self._calls[most], timeout)

    def lease(self, make: Callable[[Payload], Any], timeout: float | None) -> Coroutine[Any, Any, Any]:
        """Lease the next item, as what ``make`` makes of it."""
        calls = cast(LeaseCalls, self._calls)
        return self._take(lambda: calls.try_lease(make), timeout)

    async def _take(self, attempt: Callable[[], Any], timeout: float | None) -> Any:
        seconds = None if timeout is None else seconds_of(True, timeout)
        side = self._side(ITEMS)
        if side.is_busy():
            await asyncio.sleep(0)
        if not side.has_calls():
            with suppress(Empty):
                return attempt()
        return await side.wait(attempt, Empty, seconds)

    async def put(self, item: Any, timeout: float | None) -> None:
        """Put an item."""
        seconds = None if timeout is None else seconds_of(True, timeout)
        side = self._side(SPACE)
        if side.is_busy():
            await asyncio.sleep(0)
        if side.has_calls():
            payloads: list[Payload] | None = [encoded(self._codec, self._member.geometry, item)]
        else:
            payloads = self._calls.try_put(item)
        if payloads:
            [(payload, tag)] = payloads
            await self._wait_to_put(side, payloads, partial(self._put, whole(payload), tag), seconds)

    async def put_batch(self, items: Iterable[Any], timeout: float | None) -> None:
        """Put several items at once."""
        seconds = None if timeout is None else seconds_of(True, timeout)
        batch = countable(items, self._member.geometry.capacity)
        side = self._side(SPACE)
        if side.is_busy():
            await asyncio.sleep(0)
        if side.has_calls():
            payloads: list[Payload] | None = encoded_batch(self._codec, self._member.geometry, batch)
        else:
            payloads = self._calls.try_put_batch(batch)
        if payloads:
            waiting = Batch(side, self._member, payloads)
            try:
                await self._wait_to_put(side, payloads, waiting.attempt, seconds)
            finally:
                waiting.let_go()

    def _put(self, data: bytes, tag: int) -> None:
        if not self._calls.try_put_payload(data, tag):
            raise Full

    async def _wait_to_put(
        self, side: Side, payloads: list[Payload], attempt: Callable[[], None], seconds: float | None
    ) -> None:
        try:
            await side.wait(attempt, Full, seconds)
        except (Full, ShutDown, SharedMemoryQueueError, asyncio.CancelledError, GeneratorExit):
            withdraw(self._codec, payloads)  # after any other exception they may have been put
            raise

    # ---- the sides --------------------------------------------------------------------------------------------------

    def _side(self, side: int) -> Side:
        key = asyncio.get_running_loop(), side
        found = self._sides.get(key)
        if found is None:
            self._member.check_open()
            self._sweep()
            found = self._sides[key] = Side(self._member, side)
        return found

    def _sweep(self) -> None:
        """Close the sides of loops that are closed."""
        for key in [key for key in self._sides if key[0].is_closed()]:
            self._sides.pop(key).close()

    def are_deaf(self) -> list[bool]:
        """Return for each bell that is there whether it cannot be rung."""
        return [side.is_deaf for side in list(self._sides.values()) if side.record is not None]

    def close(self) -> None:
        """End all calls that wait; may be called again."""
        while self._sides:
            _, side = self._sides.popitem()
            side.close()

    def forget(self) -> None:
        """In a forked child, leave all that waits to the parent."""
        for side in self._sides.values():
            side.forget()
        self._sides = {}


_all: weakref.WeakSet[Tasks] = weakref.WeakSet()


def _forget_all() -> None:
    for tasks in list(_all):
        tasks.forget()


os.register_at_fork(after_in_child=_forget_all)
