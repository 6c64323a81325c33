"""The calls of a queue with leases: what ``get`` takes is leased to its thread, and ends by ``task_done``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from .._platform.atomic_words import Words
from .._platform.clock import ONE_LOOK, deadline_of
from .._ring.claim import Home, Payload
from .._ring.layout import IDLE, WAKE_EPOCH
from .._ring.leased_ring import LeasedRing
from .._ring.parking import SLICE
from ..errors import CorruptQueueError, DeserializationError, LeasesHeldError, ShutDown
from .arguments import most_items, refuse_leases
from .calls import InPython, parts_of
from .leasing import Leasing
from .waiting import look_around

T = TypeVar("T")


class LeasedCalls(InPython):
    """The calls of one handle of a queue with leases; ``SharedMemoryQueue`` documents them."""

    def __getitem__(self, wish: tuple[Any, ...]) -> Any:
        """Take one item for ``[block, timeout]``, a list of them for ``[max_items, block, timeout]``; see above."""
        most, until = parts_of(wish)
        if most and type(most[0]) is memoryview:
            refuse_leases("get_into", self._geometry.leases)
        limit = self._limit(*most) if most else 1
        leasing = self._leasing()
        home = leasing.of_this_thread()
        if until != ONE_LOOK:  # another task of this thread may end one meanwhile
            self._check_that_some_are_left(home)
        try:
            items = self._engine.get(limit, until, self._deliver, home)
        except (DeserializationError, CorruptQueueError):
            leasing.end_failed()
            raise
        except ShutDown:
            leasing.drop_kept_back()
            raise
        return items if most else items[0]

    def _consume(self, taken: list[Payload]) -> None:
        self._leasing().failed.extend(map(taken.pop, (0,)))  # a single C call: it is in one of the two

    def lease(self, limit: int | None, block: bool, timeout: float | None, make: Callable[[Payload], T]) -> list[T]:
        """Take items for ``Lease`` objects.

        Args:
            limit: the most to take; None: one.
            block: as of ``get``.
            timeout: likewise.
            make: makes the object of a payload.
        """
        until = deadline_of(block, timeout)
        most = 1 if limit is None else self._limit(limit)
        self._check_that_some_are_left(self._leasing().of_this_thread())
        return self._lease(most, until, make)

    def try_lease(self, make: Callable[[Payload], T]) -> T:
        """Take one by one look; see ``lease``."""
        return self._lease(1, ONE_LOOK, make)[0]

    def _lease(self, most: int, until: float, make: Callable[[Payload], T]) -> list[T]:
        leasing = self._leasing()
        try:
            return self._engine.get(most, until, lambda taken: list(map(make, taken)), leasing.of_objects)
        except ShutDown:
            leasing.drop_kept_back()
            raise

    def task_done(self) -> None:
        """End the lease that this thread has had longest, of those that ``get`` gave it, or the oldest of others."""
        leasing = self._leasing()
        while (held := leasing.oldest()) is not None:
            if leasing.try_done(held.home, held):
                return
        raise ValueError(
            "task_done() called too many times: this process has no item from get() of this handle whose lease is not "
            "over; call it once for each item, in the process that got the item"
        )

    def join(self, timeout: float | None) -> bool:
        """Wait until nothing is in the queue and nothing is leased; return whether that came in time."""
        until = deadline_of(True, timeout)
        self._membership.check_open()
        return self.join_until(until)

    def join_until(self, until: float) -> bool:
        """Wait as ``join`` does, until a time in ns; 0 is always in the past."""
        member = self._membership
        with member.operation() as record:
            words = record.words
            while True:
                epoch = member.parking.arm(words, IDLE)
                if self._is_quiet(words):
                    return True
                now = member.system.now()
                if now >= until:
                    return False
                member.parking.sleep(IDLE + WAKE_EPOCH, epoch, min(until, now + SLICE))
                look_around(member)

    def _is_quiet(self, words: Words) -> bool:
        return cast(LeasedRing, self._membership.ring).is_quiet(words)

    def _limit(self, max_items: Any) -> int:
        return min(most_items(max_items), self._geometry.capacity, self._geometry.leases)

    def _leasing(self) -> Leasing:
        member = self._membership
        member.check_open()
        if not member.is_of_this_process():
            member.settle()
        leasing = member.leasing
        assert leasing is not None
        return leasing

    def has_all(self) -> bool:
        """Whether ``get`` gave all leases of the queue to the calling thread."""
        return len(self._leasing().of_this_thread()) >= self._geometry.leases

    def _check_that_some_are_left(self, home: Home) -> None:
        if len(home) >= self._geometry.leases:
            raise LeasesHeldError(self._geometry.leases)
