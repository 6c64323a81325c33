"""A bounded FIFO of Python objects in named shared memory, for many processes and threads.

    >>> from shared_multiprocess_queue import SharedMemoryQueue

``SharedMemoryQueue`` is the whole interface, ``Queue`` and ``JoinableQueue`` are how programs of multiprocessing make
one, and ``Lease`` is what its ``lease`` returns; the other names are the errors that it raises.
"""

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
    RoleTakenError,
    SerializationError,
    SharedMemoryFullError,
    SharedMemoryQueueError,
    ShutDown,
    TooManyParticipantsError,
)
from .queue import SharedMemoryQueue
from .swap import JoinableQueue, Queue

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
    "LeaseLostError",
    "LeasesHeldError",
    "LeasesRequiredError",
    "Queue",
    "QueueClosedError",
    "QueueExistsError",
    "QueueInUseError",
    "QueueMismatchError",
    "QueueNotFoundError",
    "QueueNotReadyError",
    "RoleTakenError",
    "SerializationError",
    "SharedMemoryFullError",
    "SharedMemoryQueue",
    "SharedMemoryQueueError",
    "ShutDown",
    "TooManyParticipantsError",
]
