"""``Bridge``: brings the items of a local queue to a remote one, or those of a remote queue to a local one.

It is a consumer of one queue, with leases, and a producer of the other: it leases, puts, and then ends its leases. If
it is killed in between, the items are leased to its successor and brought again.

**out**, from local to remote: the server keeps the positions of what was put until the bridge says, with its next
batch, that they have ended locally. So what is brought again is left out: each item arrives once. A successor
supersedes its predecessor, so that a late request of that one puts nothing.

**in**, from remote to local: nothing in the local queue tells what was put before. So each death of a bridge may bring
a batch twice, and ``again`` counts what was delivered more than once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Literal, Protocol

from ._platform import clock, processes
from .errors import (
    DeserializationError,
    Empty,
    Full,
    ItemTooLargeError,
    LeaseLostError,
    LeasesRequiredError,
    QueueClosedError,
    QueueNotFoundError,
    QueueUnavailableError,
    SerializationError,
    ShutDown,
)
from .queue import SharedMemoryQueue
from .remote import RemoteQueue

__all__ = ["Bridge", "Direction", "SupersededError"]

Direction = Literal["in", "out"]

_LOOK = 0.5  # seconds after which it looks whether it is to stop
_LATER = 60.0  # seconds in which an item that cannot be sent is not delivered again


class SupersededError(Exception):
    """Another bridge has begun to bring the items of the same queue."""


class _Leased(Protocol):
    """A lease of either queue."""

    @property
    def item(self) -> Any:
        """The item."""

    @property
    def deliveries(self) -> int:
        """How often it was handed out."""

    @property
    def position(self) -> int:
        """The number of the item in its queue."""

    def done(self) -> None:
        """End it."""

    def release(self, delay: float = 0.0, last: bool = False) -> None:
        """Give it back."""


class Bridge:
    """Brings items from one queue to the other.

    Args:
        local: the queue of this machine; for "out" it has leases.
        remote: that on a server; for "in" it has leases.
        direction: "out" from local to remote, "in" from remote to local.
        batch: most items at once.
        stops: whether the bridge is to end; asked about twice a second.
        warn: is told of items that cannot be sent.

    Attributes:
        brought: items that were put into the other queue.
        again: items that this bridge got although they had been delivered before.
        refused: times that an item could not be sent.
    """

    def __init__(
        self,
        local: SharedMemoryQueue[Any],
        remote: RemoteQueue[Any],
        direction: Direction,
        batch: int,
        stops: Callable[[], bool],
        warn: Callable[[str], None],
    ) -> None:
        self._local = local
        self._remote = remote
        self._is_out = direction == "out"
        self._source: SharedMemoryQueue[Any] | RemoteQueue[Any] = local if self._is_out else remote
        if not self._source.leases:
            raise LeasesRequiredError("bridge")
        self._batch = max(1, min(batch, self._source.leases, local.capacity, remote.capacity))
        self._stops = stops
        self._warn = warn
        self._ended: list[int] = []  # positions whose leases have ended, which the server may forget
        self._origin = f"{processes.boot()}:{':'.join(map(str, local._identity))}"  # no other queue has or will have it
        self._epoch = 0
        self.brought = self.again = self.refused = 0

    def run(self) -> None:
        """Bring items until it is to stop, or the source is shut down and empty.

        Raises:
            SupersededError: another bridge has taken its place.
            QueueNotFoundError: one of the queues was removed.
            ShutDown: the target was shut down.
        """
        while not self._stops():
            try:
                if self._is_out and not self._epoch:
                    self._epoch = self._remote.begin_bridge(self._origin)
                leases: Sequence[_Leased] = self._source.lease_batch(self._batch, timeout=_LOOK)
            except (Empty, QueueUnavailableError):
                if self._local.get_metrics()["unlinked"]:
                    return
                continue
            except ShutDown:
                return
            leases = [lease for lease in leases if self._can_be_sent(lease)]
            try:
                self._bring(leases)
            except BaseException:
                self._give_back(leases)
                raise

    def _can_be_sent(self, lease: _Leased) -> bool:
        """Whether the other queue takes an item; if not, it comes again later, and others go on."""
        self.again += lease.deliveries > 1
        try:
            item = lease.item
            if self._is_out:
                self._remote.entry_of(item)
        except (SerializationError, DeserializationError, ItemTooLargeError) as error:
            self._refuse(lease, error)
            return False
        return True

    def _refuse(self, lease: _Leased, error: Exception) -> None:
        self.refused += 1
        self._warn(f"the item of position {lease.position} stays where it is: {error}")
        with suppress(LeaseLostError, QueueUnavailableError):
            lease.release(delay=_LATER)

    def _bring(self, leases: Sequence[_Leased]) -> None:
        """Put items, halves of them if there is no room for all, and end their leases; or give them back to stop."""
        while leases:
            some = leases
            try:
                is_put = self._put(some)
            except ItemTooLargeError as error:  # for the local queue
                too_large = some[error.index or 0]
                self._refuse(too_large, error)
                leases = [lease for lease in leases if lease is not too_large]
                continue
            while not is_put:
                if self._stops():
                    self._give_back(leases)
                    return
                if len(some) > 1:
                    some = some[: len(some) // 2]
                else:
                    clock.sleep(_LOOK / 10)
                is_put = self._put(some)
            self.brought += len(some)
            for lease in some:
                self._end(lease)
            leases = leases[len(some) :]

    def _put(self, leases: Sequence[_Leased]) -> bool:
        """Put items without waiting; return False if there is no room, or no server."""
        try:
            if self._is_out:
                items = [(lease.position, self._remote.entry_of(lease.item)) for lease in leases]
                if self._remote.bring(self._origin, self._epoch, self._ended, items) is None:
                    raise SupersededError
                self._ended = []
            else:
                self._local.put_batch([lease.item for lease in leases], block=False)
        except (Full, QueueUnavailableError):
            return False
        return True

    def _end(self, lease: _Leased) -> None:
        while True:
            try:
                lease.done()
            except QueueUnavailableError:
                if self._stops():
                    return
                continue
            except LeaseLostError:  # it comes again: to a remote queue for nothing, to a local one twice
                return
            if self._is_out:
                self._ended.append(lease.position)
            return

    @staticmethod
    def _give_back(leases: Sequence[_Leased]) -> None:
        for lease in leases:
            try:
                lease.release()
            except (LeaseLostError, QueueUnavailableError, QueueNotFoundError, QueueClosedError):
                continue
