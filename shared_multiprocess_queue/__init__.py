"""A bounded FIFO of Python objects in named shared memory, for many processes and threads.

    >>> from shared_multiprocess_queue import SharedMemoryQueue

``SharedMemoryQueue`` is the whole interface, ``Queue`` and ``JoinableQueue`` are how programs of multiprocessing make
one, and ``Lease`` is what its ``lease`` returns. ``open_queue`` opens a local queue, or a ``RemoteQueue`` on a server
of Redis or Valkey; ``QueueLike`` is for annotations. The other names are the errors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._engine.lease import Lease
from .errors import (
    CorruptQueueError,
    DeserializationError,
    Empty,
    Full,
    ItemTooLargeError,
    LayoutVersionError,
    LeaseLostError,
    LeasesHeldError,
    LeasesRequiredError,
    QueueClosedError,
    QueueExistsError,
    QueueInUseError,
    QueueMismatchError,
    QueueNotFoundError,
    QueueNotReadyError,
    QueueRefusedError,
    QueueUnavailableError,
    RoleTakenError,
    SerializationError,
    SharedMemoryFullError,
    SharedMemoryQueueError,
    ShutDown,
    TooManyParticipantsError,
)
from .like import LeaseLike, QueueLike, open_queue
from .queue import SharedMemoryQueue
from .swap import JoinableQueue, Queue

if TYPE_CHECKING:
    from .remote import RemoteDeadLetter, RemoteLease, RemoteQueue

__version__ = "1.0.0.dev0"

__all__ = [
    "CorruptQueueError",
    "DeserializationError",
    "Empty",
    "Full",
    "ItemTooLargeError",
    "JoinableQueue",
    "LayoutVersionError",
    "Lease",
    "LeaseLike",
    "LeaseLostError",
    "LeasesHeldError",
    "LeasesRequiredError",
    "Queue",
    "QueueClosedError",
    "QueueExistsError",
    "QueueInUseError",
    "QueueLike",
    "QueueMismatchError",
    "QueueNotFoundError",
    "QueueNotReadyError",
    "QueueRefusedError",
    "QueueUnavailableError",
    "RemoteDeadLetter",
    "RemoteLease",
    "RemoteQueue",
    "RoleTakenError",
    "SerializationError",
    "SharedMemoryFullError",
    "SharedMemoryQueue",
    "SharedMemoryQueueError",
    "ShutDown",
    "TooManyParticipantsError",
    "open_queue",
]


def __getattr__(name: str) -> Any:
    """Import what needs redis-py when it is asked for."""
    if name in {"RemoteDeadLetter", "RemoteLease", "RemoteQueue"}:
        from . import remote  # noqa: PLC0415

        return getattr(remote, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
