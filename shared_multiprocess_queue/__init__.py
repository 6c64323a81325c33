"""A bounded FIFO of Python objects in named shared memory, for many processes and threads.

    >>> from shared_multiprocess_queue import SharedMemoryQueue

``SharedMemoryQueue`` is the whole interface, ``Queue`` and ``JoinableQueue`` are how programs of multiprocessing make
one, ``Lease`` is what its ``lease`` returns, and ``DeadLetter`` what its ``dead_letters`` returns. ``list_queues`` and
``inspect`` look at queues from outside; what they return has names that begin with ``Queue``. ``read_drained`` reads
what the command ``shmq drain`` has written. The other names are the errors.
"""

from typing import TYPE_CHECKING, Any

from ._engine.dead_letter import DeadLetter
from ._engine.lease import Lease
from .errors import (
    BufferTooSmallError,
    CorruptQueueError,
    DeadLetterGoneError,
    DeserializationError,
    Empty,
    Full,
    ItemTooLargeError,
    LayoutVersionError,
    LeaseLostError,
    LeasesHeldError,
    LeasesRequiredError,
    NotABufferError,
    QueueClosedError,
    QueueExistsError,
    QueueInUseError,
    QueueMismatchError,
    QueueNotFoundError,
    QueueNotReadyError,
    RoleTakenError,
    SerializationError,
    SharedMemoryFullError,
    SharedMemoryQueueError,
    ShutDown,
    TooManyParticipantsError,
)
from .queue import SharedMemoryQueue
from .swap import JoinableQueue, Queue

if TYPE_CHECKING:
    from .drained import read_drained
    from .looking import QueueBlocker, QueueFile, QueueLease, QueueLook, QueueProcess, inspect, list_queues

__version__ = "1.0.0.dev0"

__all__ = [
    "BufferTooSmallError",
    "CorruptQueueError",
    "DeadLetter",
    "DeadLetterGoneError",
    "DeserializationError",
    "Empty",
    "Full",
    "ItemTooLargeError",
    "JoinableQueue",
    "LayoutVersionError",
    "Lease",
    "LeaseLostError",
    "LeasesHeldError",
    "LeasesRequiredError",
    "NotABufferError",
    "Queue",
    "QueueBlocker",
    "QueueClosedError",
    "QueueExistsError",
    "QueueFile",
    "QueueInUseError",
    "QueueLease",
    "QueueLook",
    "QueueMismatchError",
    "QueueNotFoundError",
    "QueueNotReadyError",
    "QueueProcess",
    "RoleTakenError",
    "SerializationError",
    "SharedMemoryFullError",
    "SharedMemoryQueue",
    "SharedMemoryQueueError",
    "ShutDown",
    "TooManyParticipantsError",
    "inspect",
    "list_queues",
    "read_drained",
]

_OF_LOOKING = {"QueueBlocker", "QueueFile", "QueueLease", "QueueLook", "QueueProcess", "inspect", "list_queues"}


def __getattr__(name: str) -> Any:
    """Import what most programs never use when it is first asked for, because it would slow the import."""
    if name in _OF_LOOKING:
        from . import looking  # noqa: PLC0415

        return getattr(looking, name)
    if name == "read_drained":
        from .drained import read_drained  # noqa: PLC0415

        return read_drained
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
