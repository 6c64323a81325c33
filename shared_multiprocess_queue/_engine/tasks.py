"""The calls of a handle that tasks of asyncio await.

Each is one look, which waits for nothing at all, and a wait on the bell of its side if that finds nothing; see
``awaiting.py``. An item is serialised once, before its task awaits anything.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from queue import Empty, Full
from typing import Any, SupportsIndex, TypeVar, cast

from .._codec.buffers import whole
from .._codec.formats import ItemCodec
from .._platform.clock import seconds_of
from .._ring.claim import Payload
from .._ring.layout import CONSUMER_AT, ITEMS, NAP, PATIENCE, PRODUCER_AT, SPACE
from ..errors import LeasesHeldError, SharedMemoryQueueError, ShutDown
from .arguments import countable, most_items
from .awaiting import Batch, Side
from .calls import encoded, encoded_batch, withdraw
from .contract import Calls, LeaseCalls
from .membership import Membership

T = TypeVar("T")


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
        self._roles: set[int] = set()  # of mode "spsc", which this handle has
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
        if self._member.geometry.leases and seconds != 0:
            self._check_that_a_lease_can_end()
        if side.is_busy() or self._lacks(CONSUMER_AT):
            side = await self._turn(ITEMS, CONSUMER_AT)
        if not side.has_calls():
            with suppress(Empty):
                return attempt()
        return await side.wait(attempt, Empty, seconds)

    def _check_that_a_lease_can_end(self) -> None:
        """Refuse a wait for itself: the thread has all leases by ``get``, and its event loop has no other task.

        Another task may end one, or may not; that cannot be known.
        """
        if cast(LeaseCalls, self._calls).has_all() and len(asyncio.all_tasks()) == 1:
            raise LeasesHeldError(self._member.geometry.leases)

    async def put(self, item: Any, timeout: float | None) -> None:
        """Put an item."""
        seconds = None if timeout is None else seconds_of(True, timeout)
        side = self._side(SPACE)
        is_busy = side.is_busy() or self._lacks(PRODUCER_AT)
        if is_busy or side.has_calls():
            payloads: list[Payload] | None = [encoded(self._codec, self._member.geometry, item)]
        else:
            payloads = self._calls.try_put(item)
        if payloads and len(payloads[0][0]) > self._member.geometry.item_size:
            await self._put_as_batch(side, payloads, seconds, is_busy)
        elif payloads:
            [(payload, tag)] = payloads
            attempt = partial(self._put, whole(payload), tag)
            with self._withdrawn_unless_put(payloads):
                if is_busy:
                    side = await self._turn(SPACE, PRODUCER_AT)
                await self._wait_to_put(side, attempt, seconds, is_busy)

    async def put_batch(self, items: Iterable[Any], timeout: float | None) -> None:
        """Put several items at once."""
        seconds = None if timeout is None else seconds_of(True, timeout)
        batch = countable(items, self._member.geometry.capacity)
        side = self._side(SPACE)
        is_busy = side.is_busy() or self._lacks(PRODUCER_AT)
        if is_busy or side.has_calls():
            payloads: list[Payload] | None = encoded_batch(self._codec, self._member.geometry, batch)
        else:
            payloads = self._calls.try_put_batch(batch)
        if payloads:
            await self._put_as_batch(side, payloads, seconds, is_busy)

    async def _put_as_batch(self, side: Side, payloads: list[Payload], seconds: float | None, is_busy: bool) -> None:
        """Wait to put a batch, or an item of several slots, behind a shut gate."""
        copies = [(whole(payload), tag) for payload, tag in payloads]  # other tasks may change arrays meanwhile
        with self._withdrawn_unless_put(payloads):
            if is_busy:
                side = await self._turn(SPACE, PRODUCER_AT)
            waiting = Batch(side, self._member, copies)
            try:
                await self._wait_to_put(side, waiting.attempt, seconds, is_busy)
            finally:
                waiting.let_go()

    def _put(self, data: bytes, tag: int) -> None:
        if not self._calls.try_put_payload(data, tag):
            raise Full

    async def _wait_to_put(
        self, side: Side, attempt: Callable[[], None], seconds: float | None, is_first_look: bool
    ) -> None:
        if is_first_look and not side.has_calls():
            with suppress(Full):
                return attempt()
        return await side.wait(attempt, Full, seconds)

    @contextmanager
    def _withdrawn_unless_put(self, payloads: list[Payload]) -> Iterator[None]:
        try:
            yield
        except (Full, ShutDown, SharedMemoryQueueError, OSError, asyncio.CancelledError, GeneratorExit):
            withdraw(self._codec, payloads)  # after any other exception they may have been put
            raise

    # ---- turns and roles --------------------------------------------------------------------------------------------

    async def _turn(self, kind: int, role: int) -> Side:
        """Give the loop a turn, or as many as another handle may need to leave the role; return the side after that.

        The looks of an engine would wait for the role, and the loop with them.
        """
        system = self._member.system
        until = system.now() + PATIENCE  # a consumer that closes is the producer for as long as it puts items back
        await asyncio.sleep(0)
        while self._lacks(role, until < system.now()):
            await asyncio.sleep(NAP / 1e9)
        return self._side(kind)  # another one, if the first is over

    def _lacks(self, role: int, is_late: bool = False) -> bool:
        """Try to be the one producer (consumer) of mode "spsc"; return whether another is, or refuse if late."""
        if self._member.geometry.mode != "spsc" or role in self._roles:
            return False
        with self._member.operation() as own:
            holder = self._member.roles.attempt(own.words, role)
            if holder is None:
                self._roles.add(role)
            elif is_late:
                self._member.roles.refuse(own.words, role, holder)
        return holder is not None

    # ---- the sides --------------------------------------------------------------------------------------------------

    def _side(self, side: int) -> Side:
        key = asyncio.get_running_loop(), side
        found = self._sides.get(key)
        if found is None or found.is_over:
            self._member.check_open()
            self._sweep()
            found = self._sides[key] = Side(self._member, side)
        return found

    def _sweep(self) -> None:
        """Close the sides of loops that are closed."""
        for key in list(self._sides):
            side = self._sides.pop(key, None) if key[0].is_closed() else None  # another thread may be faster
            if side is not None:
                side.close()

    def are_deaf(self) -> list[bool]:
        """Return for each bell that is there whether it cannot be rung."""
        return [side.is_deaf for side in list(self._sides.values()) if side.record is not None and not side.is_over]

    def close(self) -> None:
        """End all calls that wait; may be called again."""
        for side in list(self._sides.values()):  # they stay: one may end only at the next close
            side.close()

    def forget(self) -> None:
        """In a forked child, leave all that waits to the parent."""
        for side in self._sides.values():
            side.forget()
        self._sides, self._roles = {}, set()


_all: weakref.WeakSet[Tasks] = weakref.WeakSet()


def _forget_all() -> None:
    for tasks in list(_all):
        tasks.forget()


os.register_at_fork(after_in_child=_forget_all)
