"""What a bridge asks of a queue on a server: batches that are put once, and the ends of many leases at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import Full, QueueRefusedError, SharedMemoryQueueError, ShutDown
from .calls import Attempt
from .handle import MOST_BYTES, Handle
from .lease import RemoteLease
from .requests import Call, T
from .trouble import is_of_memory

__all__ = ["Ferry", "SupersededError"]


class SupersededError(SharedMemoryQueueError):
    """Another bridge has begun to bring the items of the same queue."""


class Ferry:
    """A bridge's part in a queue on a server, for the life of the bridge.

    Each batch has the number of the bridge and its own, and the server refuses what is not newer than the last: so a
    request that has lingered in the network puts nothing, whatever the server has been told to forget since then.

    Args:
        handle: of the queue.
        origin: how the queue is called from which items are brought.
    """

    def __init__(self, handle: Handle, origin: str) -> None:
        self._handle = handle
        self._origin = origin
        self._epoch = 0
        self._sequence = 0

    @property
    def has_begun(self) -> bool:
        """Whether it has a number."""
        return self._epoch > 0

    def begin(self) -> None:
        """Get a number, which is higher than those of all bridges before, and take their place by an empty batch.

        Raises:
            Full: the server has no memory for that.
        """
        self._epoch = self._run(self._handle.calls.simple("bridge_begin"))[1]
        self.bring([], [])

    def entry_of(self, item: object) -> bytes:
        """Return what is put for an item."""
        return self._handle.entry_of(item)

    def bring(self, forgotten: Sequence[int], items: Sequence[tuple[int, bytes]]) -> int:
        """Put items of another queue, without those that a bridge has put before; it does not wait for room.

        Args:
            forgotten: positions of items that have ended in the other queue.
            items: position and entry of each.

        Returns:
            How many had been put before.

        Raises:
            Full: there is no room, or the server has no memory; or they have too many bytes for one request, and are
                more than one.
            SupersededError: another bridge has begun.
            ShutDown, QueueUnavailableError
        """
        if len(items) > 1 and sum(len(entry) for _, entry in items) > MOST_BYTES:
            raise Full
        self._sequence += 1
        return self._run(self._bringing(forgotten, items))

    def _run(self, call: Call[T]) -> T:
        try:
            return self._handle.run(call)
        except QueueRefusedError as error:
            if is_of_memory(error.__cause__):
                raise Full from error
            raise

    def _bringing(self, forgotten: Sequence[int], items: Sequence[tuple[int, bytes]]) -> Call[int]:
        calls = self._handle.calls
        flat = [part for item in items for part in item]
        ask = calls.ask("bring", self._epoch, self._sequence, len(forgotten), *forgotten, *flat)
        kind, *rest = calls.answered((yield ask.with_last_key(f":{self._origin}")))
        if kind == b"superseded":
            raise SupersededError("another bridge brings the items of this queue from now on")
        if kind != b"ok":
            raise Full if kind == b"full" else ShutDown
        return int(rest[0])

    def ending_all(self, leases: Sequence[RemoteLease[Any]]) -> Attempt:
        """Return the request that ends leases and their items; after an exception it may be run again."""
        return self._handle.ending_all(leases)

    def giving_all_back(self, leases: Sequence[RemoteLease[Any]]) -> Attempt:
        """Return the request that gives items back, as if they had not been delivered."""
        return self._handle.giving_all_back(leases)

    def cut(self) -> None:
        """End the call in which the bridge is, from another thread, and all that come."""
        self._handle.cut()

    def run(self, leases: Sequence[RemoteLease[Any]], attempt: Attempt) -> list[bool]:
        """Run such a request; return for each whether the lease had not been lost."""
        return self._handle.run_for_all(leases, attempt)
