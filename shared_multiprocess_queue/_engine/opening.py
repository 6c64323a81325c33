"""Opening a queue that may not be there yet, or that other processes make and remove meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .._platform import clock, shared_memory
from ..errors import QueueExistsError, QueueNotFoundError, QueueNotReadyError

_NAP: Final = 0.002  # seconds between two looks for a queue that does not exist yet

Attach = Callable[..., None]
"""Attaches to the queue, and waits for a creator until a time, its argument ``until``."""


def make_or_attach(segment_name: str, create: Callable[[], None], attach: Attach, until: float) -> None:
    """Make a queue, or attach to it if it exists, whatever other processes do at the same time.

    A creator that is slow is waited for. If it dies, or if the queue is removed meanwhile, this begins again.

    Raises:
        QueueNotReadyError: a live process is still creating the queue when the time is over.
        QueueNotFoundError: the queue is there and incomplete, for good.
        SharedMemoryQueueError, OSError: as the two raise them.
    """
    incomplete: tuple[int, int] | None = None
    while True:
        exists = False
        try:
            create()
        except QueueExistsError:
            exists = True
        except (QueueNotReadyError, QueueNotFoundError):
            pass  # it is being created, or was unlinked as soon as it was
        else:
            return
        try:
            attach(until=until)
        except QueueNotFoundError:
            found = shared_memory.identity_of(segment_name) if exists else None
            if found is not None and found == incomplete:
                raise
            incomplete = found
        else:
            return


def attach_when_there(segment_name: str, attach: Attach, wait_until: float, timeout: float | None) -> None:
    """Attach to a queue; if it does not exist, wait for it.

    Args:
        segment_name: of the queue.
        attach: attaches to it.
        wait_until: the time at which the wait for a queue ends.
        timeout: seconds to wait for the end of a creation that has begun.

    Raises:
        QueueNotFoundError: the queue did not exist in time.
        SharedMemoryQueueError, OSError: as ``attach`` raises them.
    """
    while True:
        try:
            attach(until=clock.deadline_of(True, timeout))
        except QueueNotFoundError:
            if clock.now() >= wait_until:
                raise
        else:
            return
        clock.sleep(_NAP)
        while shared_memory.identity_of(segment_name) is None and clock.now() < wait_until:
            clock.sleep(_NAP)
