"""Taking items as bytes, for a tool that writes them elsewhere: no item becomes an object, so no code of one runs."""

from __future__ import annotations

import warnings
from contextlib import suppress
from typing import Any, Final, cast

from ._codec import in_place
from ._codec.formats import Format, Serializer
from ._codec.tags import BYTES, OWN, PADDING, PLACED
from ._engine import sweep
from ._engine.atomics import AtomicsEngine
from ._engine.definition_log import Definitions
from ._engine.lease import Lease
from ._platform.clock import deadline_of
from ._ring.claim import CORRUPT, Payload
from ._ring.layout import DEFINITIONS_FIRST
from .errors import Empty, ShutDown
from .queue import SharedMemoryQueue

_PATIENCE: Final = 1.0  # seconds to wait for a live creator


class Drain:
    """A consumer of a queue that takes one item at a time and ends it when it is safe elsewhere.

    With leases an item that was not ended comes back, whatever becomes of this process. By ``close`` it does so without
    a dead letter; a kill counts as a delivery. Without them it is this
    process's from ``take`` on: ``close`` puts it back, behind all others; a kill loses it.

    A queue that goes with its last user does not go with this one, unless ``take`` has found it empty.

    Args:
        name: of the queue.
        run_id: of the queue.
        serializer: as the queue states it; no item is read by it.
        identity: device and inode of its segment; another queue of its name is not attached to.

    Raises:
        QueueNotFoundError: another queue has its name.
        SharedMemoryQueueError, OSError: as of ``SharedMemoryQueue``, which attaches.
    """

    def __init__(self, name: str, run_id: str, serializer: str, identity: tuple[int, int]) -> None:
        as_stated = Format(cast(Serializer, serializer))  # that of a program has a name here, and no functions
        self._queue: SharedMemoryQueue[Any] = SharedMemoryQueue.__new__(SharedMemoryQueue)
        engine_class = self._queue._prepare(name, run_id, "atomics", as_stated)
        self._queue._attach(engine_class, identity=identity, until=deadline_of(True, _PATIENCE))
        member = self._queue._membership
        self._definitions = Definitions(member.segment, self._queue._geometry.definitions, member)
        self._told = DEFINITIONS_FIRST
        self._is_empty = False
        self._bare_tag = BYTES if serializer in ("pickle", "plain") else OWN
        self._lease: Lease[Any] | None = None
        self._payload: Payload | None = None

    def take(self) -> Payload | None:
        """Take an item; return its bytes and its tag, or None if there is nothing to take.

        Raises:
            RoleTakenError: mode "spsc", and another live handle is the consumer.
        """
        with suppress(Empty, ShutDown):
            if self._queue.leases:
                self._lease = self._queue.lease(block=False)
                self._payload = self._lease._payload
            else:
                self._payload = cast(AtomicsEngine, self._queue._engine).get(1, 0, lambda taken: taken[0])
            return self._as_put(*self._payload)
        self._is_empty = not self._queue.qsize()  # otherwise what waits, for a put before it for example, would go too
        return None

    def definitions(self) -> bytes:
        """Return what was stored of ``__main__`` since the last call, for items that name it."""
        found = self._definitions.since(self._told)
        self._told += len(found)
        return found

    @property
    def item_size(self) -> int:
        """Largest size of an item of the queue, in bytes."""
        return self._queue.item_size

    def end(self) -> None:
        """End the item that was taken last: it is safe elsewhere."""
        lease, self._lease, self._payload = self._lease, None, None
        if lease is not None:
            lease.done()

    def close(self) -> Payload | None:
        """Close the handle. An item that was taken and not ended goes back.

        Returns:
            That item, if it could not go back: without leases there was no room, or the queue was shut down.
        """
        lease, payload, self._lease, self._payload = self._lease, self._payload, None, None
        if lease is not None:
            leasing = lease._leasing()
            leasing.give_back_undelivered(leasing.of_objects, lease._held)
        elif payload is not None and payload[1] != CORRUPT:
            self._queue._membership.keep_back([payload])
        if not self._is_empty:
            sweep.keep(self._queue._membership.segment)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # the caller is told what is left
            self._queue.close()
        left = self._queue._membership.records.kept_back
        return self._as_put(*left.popleft()) if left else None

    def _as_put(self, payload: bytes, tag: int) -> Payload:
        """Return a payload as ``put`` would have written it: the padding of a reservation is of other items."""
        is_padded = tag == PLACED and len(payload) >= PADDING
        return (in_place.raw(payload, tag), self._bare_tag) if is_padded else (payload, tag)
