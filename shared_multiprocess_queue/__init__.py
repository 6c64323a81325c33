"""A bounded FIFO of Python objects in named shared memory, for many processes and threads.

    >>> from shared_multiprocess_queue import SharedMemoryQueue

``SharedMemoryQueue`` is the whole interface, ``Queue`` and ``JoinableQueue`` are how programs of multiprocessing make
one, ``Lease`` is what its ``lease`` returns, and ``DeadLetter`` what its ``dead_letters`` returns. ``list_queues`` and
``inspect`` look at queues from outside; what they return has names that begin with ``Queue``. The other names are the
errors.
"""

from typing import TYPE_CHECKING, Any

from ._engine.dead_letter import DeadLetter
from ._engine.lease import Lease
from .errors import (
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
    from .looking import QueueBlocker, QueueFile, QueueLease, QueueLook, QueueProcess, inspect, list_queues

__version__ = "1.0.0.dev0"

__all__ = [
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
]

_OF_LOOKING = {"QueueBlocker", "QueueFile", "QueueLease", "QueueLook", "QueueProcess", "inspect", "list_queues"}


def __getattr__(name: str) -> Any:
    """Import what looks at queues when it is first asked for: most programs never do, and it would slow the import."""
    if name not in _OF_LOOKING:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import looking  # noqa: PLC0415

    return getattr(looking, name)
