"""``Bridge``: brings the items of a local queue to a remote one, or those of a remote queue to a local one.

It is a consumer of one queue, with leases, and a producer of the other: it leases, puts, and then ends its leases. If
it is killed in between, the items are leased to its successor and brought again.

**out**, from local to remote: the server keeps the positions of what was put until the bridge says, with its next
batch, that they have ended locally. So what is brought again is left out: each item arrives once. Batches are numbered
for the life of a bridge, and a successor supersedes its predecessor, so a request that comes late puts nothing.

**in**, from remote to local: nothing in the local queue tells what was put before. So each death of a bridge may bring
a batch twice, and ``again`` counts what was delivered more than once. Before it puts a batch it leaves out what its
leases on the server no longer cover: that is another getter's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Literal, cast

from ._platform import clock
from ._remote.calls import Attempt
from ._remote.ferry import SupersededError
from ._remote.lease import RemoteLease
from ._ring.layout import NONCE_AT, UNLINKED_AT
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
from .like import LeaseLike
from .queue import SharedMemoryQueue
from .remote import RemoteQueue

__all__ = ["Bridge", "Direction", "SupersededError"]

Direction = Literal["in", "out"]

_LOOK = 0.5  # seconds after which it looks whether it is to stop
_LATER = 60.0  # seconds in which an item that cannot be sent is not delivered again


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
        self._is_out = direction == "out"
        self._source: SharedMemoryQueue[Any] | RemoteQueue[Any] = local if self._is_out else remote
        if not self._source.leases:
            raise LeasesRequiredError("bridge")
        self._batch = max(1, min(batch, self._source.leases, local.capacity, remote.capacity))
        self._stops = stops
        self._warn = warn
        self._ended: list[int] = []  # positions whose leases have ended, which the server may forget
        # The random number of its segment: no other queue has it, also if the machine's memory is mounted anew.
        self._ferry = remote._ferry(f"{self._word(NONCE_AT):016x}")
        self._left: Sequence[LeaseLike[Any]] = ()  # what is leased and not put
        self._later: list[int] = []  # monotonic times in ns up to which items that cannot be sent take up their leases
        self._has_said = False  # that no lease is free
        self.brought = self.again = self.refused = 0

    def run(self) -> None:
        """Bring items until it is to stop, or the source is shut down and empty.

        Raises:
            SupersededError: another bridge has taken its place.
            QueueNotFoundError: one of the queues was removed, and what was not put has been given back.
            ShutDown: the target was shut down.
        """
        while not self._stops():
            try:
                self._begin()
                leases = self._leased()
            except (Empty, QueueUnavailableError):
                self._check_name()
                self._say_if_no_lease_is_free()
                continue
            except Full:  # the server has no memory
                clock.sleep(_LOOK / 10)
                continue
            if leases is None:
                break
            self._left = [lease for lease in leases if self._can_be_sent(lease)]
            try:
                self._bring()
            except BaseException:
                self._give_back(self._left)
                raise
        self._forget()

    def cut(self) -> None:
        """End ``run`` from another thread, by a QueueClosedError if it waits for the server."""
        self._ferry.cut()

    def _begin(self) -> None:
        if self._is_out and not self._ferry.has_begun:
            self._ferry.begin()

    def _leased(self) -> Sequence[LeaseLike[Any]] | None:
        """Return what was leased; None at the end of the source."""
        try:
            return self._source.lease_batch(self._batch, timeout=_LOOK)
        except ShutDown:
            return None

    def _forget(self) -> None:
        """Let the server forget what has ended; if it does not answer, it does so a week later."""
        if self._ended:
            with suppress(QueueUnavailableError, QueueNotFoundError, QueueClosedError, ShutDown, SupersededError):
                self._ferry.bring(self._ended, [])
                self._ended = []

    def _check_name(self) -> None:
        """Check that the local queue has its name: of one that was unlinked no new process takes anything."""
        if self._word(UNLINKED_AT):
            raise QueueNotFoundError(
                f"the local queue {self._local.name!r} was unlinked, so its name may belong to another by now; start "
                f"the bridge again when the queue is there"
            )

    def _word(self, at: int) -> int:
        with self._local._check_open().operation() as record:
            return record.words.load(at)

    def _can_be_sent(self, lease: LeaseLike[Any]) -> bool:
        """Whether the other queue takes an item; if not, it comes again later, and others go on."""
        self.again += lease.deliveries > 1
        try:
            item = lease.item
            if self._is_out:
                self._ferry.entry_of(item)
        except (SerializationError, DeserializationError, ItemTooLargeError) as error:
            self._refuse(lease, error)
            return False
        return True

    def _refuse(self, lease: LeaseLike[Any], error: Exception) -> None:
        self.refused += 1
        is_last = 0 < self._source.max_deliveries <= lease.deliveries
        then = "becomes a dead letter" if is_last else f"is tried again in {_LATER:.0f} s"
        self._warn(
            f"the item of position {lease.position} of {self._called(self._source)} cannot go over, and {then}: {error}"
        )
        with suppress(LeaseLostError, QueueUnavailableError):
            lease.release(delay=_LATER)
            if not is_last:
                self._later.append(clock.now() + int(_LATER * 1e9))

    def _say_if_no_lease_is_free(self) -> None:
        """Say it once, until one is: nothing else tells why no item goes over."""
        self._later = [until for until in self._later if until > clock.now()]
        is_free = len(self._later) < self._source.leases
        if not is_free and not self._has_said:
            self._warn(
                f"no lease is free: {len(self._later):,} items cannot go over, and each takes up a lease until it "
                f"is tried again; create {self._called(self._source)} with more leases, or with max_deliveries=N, by "
                f"which such an item becomes a dead letter"
            )
        self._has_said = not is_free

    @staticmethod
    def _called(queue: SharedMemoryQueue[Any] | RemoteQueue[Any]) -> str:
        return f"queue {queue.url}" if isinstance(queue, RemoteQueue) else f"the local queue {queue.name!r}"

    def _bring(self) -> None:
        """Put items, halves of them if there is no room for all, and end their leases; or give them back to stop."""
        while some := self._still_leased(self._left):
            self._left = some
            try:
                is_put = self._put(some)
                while not is_put:
                    if self._stops():
                        self._give_back(self._left)
                        return
                    if len(some) > 1:
                        some = some[: len(some) // 2]
                    else:
                        clock.sleep(_LOOK / 10)
                    some = self._still_leased(some)
                    is_put = self._put(some)
            except ItemTooLargeError as error:  # for the local queue
                too_large = some[error.index or 0]
                self._refuse(too_large, error)
                self._left = [lease for lease in self._left if lease is not too_large]
                continue
            put = {id(lease) for lease in some}
            self._left = [lease for lease in self._left if id(lease) not in put]  # before the end, which may fail
            self.brought += len(some)
            self._end(some)

    def _still_leased(self, leases: Sequence[LeaseLike[Any]]) -> Sequence[LeaseLike[Any]]:
        """Return those whose items no other getter can have by now. A local lease ends with its process only."""
        if self._is_out:
            return leases
        lost = [lease for lease in cast(Sequence[RemoteLease[Any]], leases) if not lease.valid]
        if lost:
            self._give_back(lost)
        return [lease for lease in leases if lease not in lost]

    def _put(self, leases: Sequence[LeaseLike[Any]]) -> bool:
        """Put items without waiting; return False if there is no room, or no server."""
        try:
            if self._is_out:
                items = [(lease.position, self._ferry.entry_of(lease.item)) for lease in leases]
                self._ferry.bring(self._ended, items)
                self._ended = []
            else:
                self._check_name()
                self._local.put_batch([lease.item for lease in leases], block=False)
                self._check_name()  # if it was unlinked just now, the items go back
        except (Full, QueueUnavailableError):
            return False
        return True

    def _end(self, leases: Sequence[LeaseLike[Any]]) -> None:
        if self._is_out or not leases:
            for lease in leases:
                with suppress(LeaseLostError):
                    lease.done()
                    self._ended.append(lease.position)
            return
        remote = cast(Sequence[RemoteLease[Any]], leases)
        ending: Attempt = self._ferry.ending_all(remote)
        while True:
            try:
                self._ferry.run(remote, ending)  # what is lost comes again
            except QueueUnavailableError:
                if self._stops():
                    return
                continue
            return

    def _give_back(self, leases: Sequence[LeaseLike[Any]]) -> None:
        if self._is_out:
            for lease in leases:
                with suppress(LeaseLostError, QueueNotFoundError, QueueClosedError):
                    lease.release()
            return
        remote = [lease for lease in cast(Sequence[RemoteLease[Any]], leases) if not lease.is_over]
        if remote:
            with suppress(QueueUnavailableError, QueueNotFoundError, QueueClosedError):
                self._ferry.run(remote, self._ferry.giving_all_back(remote))
