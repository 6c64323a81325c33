"""What one handle has leased: for the threads that called ``get``, and for ``Lease`` objects.

A lease is noted in one place at a time: in the claim of the get that takes it, then in its home, then in the claim of
the operation that ends it. Each move is one step for signals, so an interrupt leaves the lease in one of them.
"""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Final, Protocol

from .._platform import processes
from .._platform.atomic_words import Words
from .._ring.claim import Claim, Held, Home, Payload, held_by
from .._ring.ending import is_stopped
from .._ring.layout import Geometry, parse_owner
from ..errors import LeaseLostError, QueueClosedError, SharedMemoryQueueError
from .records import Records, State

if TYPE_CHECKING:
    from .._ring.leases import Leases
    from .._ring.participants import Record
    from .native_records import NativeRecords

_OVER: Final = "is over"
_CLOSED: Final = "ended when its handle was closed, and the item was given back"


class Member(Protocol):
    """What leases need of the handle's part in the queue, its ``Membership``."""

    @property
    def native(self) -> NativeRecords | None:
        """The records in C, if the engine has any."""

    @property
    def state(self) -> State:
        """Whether the handle is open."""

    @property
    def geometry(self) -> Geometry:
        """The sizes of the queue."""

    @property
    def records(self) -> Records:
        """The records in Python."""

    def kept_back(self) -> int:
        """Return how many payloads are kept back."""

    def operation(self) -> AbstractContextManager[Record]:
        """Lend a record."""


class _OfThread:
    """The leases of one thread; when it ends, they come back."""

    __slots__ = ("__weakref__", "_leasing", "home")

    def __init__(self, leasing: Leasing) -> None:
        self._leasing = weakref.ref(leasing)
        self.home: Home = {}

    def __del__(self) -> None:
        leasing = self._leasing()
        if leasing is not None and self.home:
            leasing.drop(self.home, "a thread ended without task_done()")


class Leasing:
    """The leases of one handle in one process.

    Args:
        membership: the handle's part in the queue.
        leases: the lease slots.

    Attributes:
        of_objects: the leases of ``Lease`` objects.
        failed: payloads that could not be deserialised, whose leases are being ended.
    """

    def __init__(self, membership: Member, leases: Leases) -> None:
        self._membership = membership
        self._leases = leases
        self.of_objects: Home = {}
        self.failed: list[Payload] = []
        self._local = threading.local()
        self._threads: weakref.WeakValueDictionary[int, _OfThread] = weakref.WeakValueDictionary()  # by id
        self._closing = Claim()

    def of_this_thread(self) -> Home:
        """Return the leases that ``get`` gave the calling thread."""
        mine: _OfThread | None = getattr(self._local, "mine", None)
        if mine is None:
            mine = self._local.mine = _OfThread(self)
            self._threads[id(mine)] = mine
        return mine.home

    def _of_threads(self) -> list[Home]:
        found = [reference() for reference in self._threads.valuerefs()]  # other threads may add theirs meanwhile
        return [one.home for one in found if one is not None]

    def oldest(self) -> Held | None:
        """Return the lease that the calling thread has had longest by ``get``, or else the oldest of other threads."""
        mine = self.of_this_thread()
        while mine:
            with suppress(RuntimeError, StopIteration):  # another thread has ended one just now
                return next(iter(mine))
        others = [held for home in self._of_threads() for held in list(home)]
        return min(others, key=lambda held: held.position, default=None)

    # ---- the end of a lease -----------------------------------------------------------------------------------------

    def done(self, home: Home, held: Held) -> None:
        """End a lease and its item.

        Raises:
            LeaseLostError: it is over, or another process's.
        """
        if not self.try_done(home, held):
            raise _lost(held, _OVER)

    def try_done(self, home: Home, held: Held) -> bool:
        """End a lease and its item; return False if another thread was faster."""
        native = self._membership.native  # another thread may close meanwhile
        if native is None or held.forks != processes.forks:
            return self._end(home, held, self._leases.done)
        return self._check(held, native.done(home, held, held.index, held.position, held.deliveries))

    def give_back(self, home: Home, held: Held, delay: int = 0, last: bool = False) -> None:
        """End a lease, so that its item is handed out again; see ``Leases.give_back``.

        Raises:
            LeaseLostError: it is over, or another process's.
        """
        native = self._membership.native  # as above
        if native is None or held.forks != processes.forks:
            is_ended = self._end(home, held, lambda words, held: self._leases.give_back(words, held, delay, last))
        else:
            place = held.index, held.position, held.deliveries
            is_ended = self._check(held, native.give_back(home, held, *place, delay, last))
        if not is_ended:
            raise _lost(held, _OVER)

    def _end(self, home: Home, held: Held, end: Callable[[Words, Held], bool]) -> bool:
        if held.forks != processes.forks:
            raise LeaseLostError(
                f"the lease of position {held.position} belongs to process {parse_owner(held.owner)[0]}, which forked "
                f"this one; only that process can end it"
            )
        if held not in home:
            return self._check(held, None)
        try:
            with self._membership.operation() as record:
                ending = record.claim.ending
                ending.extend(map(home.pop, (held,)))  # a single C call: the lease is in one of the two
                is_mine = end(record.words, held)
                ending.clear()
        except KeyError:
            return False
        except QueueClosedError:
            raise _lost(held, _CLOSED) from None
        return self._check(held, is_mine)

    def _check(self, held: Held, is_mine: bool | None) -> bool:
        """Return whether a lease was ended now: not if it was not in its home, None; raise if it was not ours."""
        if is_mine is None:
            if self._membership.state is not State.OPEN:
                raise _lost(held, _CLOSED)
            return False
        if not is_mine:
            raise _lost(held, "is not this process's any more")
        return True

    def end_failed(self) -> None:
        """End the leases of payloads that could not be deserialised; goes on where an interrupt has cut it."""
        while self.failed:
            held = held_by(self.failed[-1])
            held.home = {held: held}
            with suppress(LeaseLostError):
                self.done(held.home, held)
            del self.failed[-1:]

    def drop_kept_back(self) -> None:
        """End the leases of items that interrupted gets have left, if the queue was stopped: no get returns them."""
        member = self._membership
        if not member.kept_back():
            return
        with member.operation() as record:
            words, claim = record.words, record.claim
            while is_stopped(words, member.geometry.mode) and member.records.take_kept_back(1, claim):
                self._leases.done(words, held_by(claim.taken[0]))
                claim.taken.clear()

    def drop(self, home: Home, why: str, *only: Held) -> None:
        """Give back leases to which nothing refers any more, and warn; in a forked child nothing is done.

        Args:
            home: where they are noted.
            why: it happens.
            only: some of them; none: all.
        """
        mine = [held for held in only or list(home) if held.forks == processes.forks]
        for held in mine:
            with suppress(SharedMemoryQueueError):
                self.give_back(home, held)
        if mine:
            warnings.warn(
                f"{why}: {len(mine)} leased items are given back and will be delivered again",
                ResourceWarning,
                stacklevel=3,
            )

    def give_back_all(self, words: Words, kept_back: Callable[[Claim], bool]) -> None:
        """Give back everything, at the end of the handle; goes on where an interrupt has cut it.

        Args:
            words: the caller's access; no operation is in progress.
            kept_back: moves a payload that interrupted gets have left to the ``taken`` of a claim.
        """
        closing, leases = self._closing, self._leases
        leases.recover(words, closing)
        for held in map(held_by, self.failed):
            leases.done(words, held)
        self.failed.clear()
        for home in (self.of_objects, *self._of_threads()):
            for held in list(home):
                closing.ending.extend(map(home.pop, (held,)))  # as above
                leases.give_back(words, held)
                closing.ending.clear()
        while closing.taken or kept_back(closing):
            leases.give_back(words, held_by(closing.taken[0]), was_delivered=False)
            closing.taken.clear()


def _lost(held: Held, why: str) -> LeaseLostError:
    return LeaseLostError(
        f"the lease of position {held.position} {why}; end a lease once, in the process that took it, before its "
        f"handle is closed"
    )
