"""A bounded FIFO of Python objects in named shared memory, for many processes and threads.

    >>> from shared_multiprocess_queue import SharedMemoryQueue

``SharedMemoryQueue`` is the whole interface, ``Queue`` and ``JoinableQueue`` are how programs of multiprocessing make
one, ``Lease`` is what its ``lease`` returns, and ``DeadLetter`` what its ``dead_letters`` returns. ``open_queue`` opens
a local queue, or a ``RemoteQueue`` on a server of Redis or Valkey; ``QueueLike`` is for annotations. ``list_queues``
and ``inspect`` look at queues from outside; what they return has names that begin with ``Queue``. ``read_drained``
reads what the command ``shmq drain`` has written. The other names are the errors.
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
    from .drained import read_drained
    from .looking import QueueBlocker, QueueFile, QueueLease, QueueLook, QueueProcess, inspect, list_queues
    from .remote import RemoteDeadLetter as RemoteDeadLetter
    from .remote import RemoteLease as RemoteLease
    from .remote import RemoteQueue as RemoteQueue

__version__ = "1.0.0.dev0"

# Not the names of queues on a server: they need an extra, and an import of all names must not.
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
    "LeaseLike",
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
    "QueueLike",
    "QueueLook",
    "QueueMismatchError",
    "QueueNotFoundError",
    "QueueNotReadyError",
    "QueueProcess",
    "QueueRefusedError",
    "QueueUnavailableError",
    "RoleTakenError",
    "SerializationError",
    "SharedMemoryFullError",
    "SharedMemoryQueue",
    "SharedMemoryQueueError",
    "ShutDown",
    "TooManyParticipantsError",
    "inspect",
    "list_queues",
    "open_queue",
    "read_drained",
]

_OF_LOOKING = {"QueueBlocker", "QueueFile", "QueueLease", "QueueLook", "QueueProcess", "inspect", "list_queues"}
_OF_REMOTE = {"RemoteDeadLetter", "RemoteLease", "RemoteQueue"}


def __getattr__(name: str) -> Any:
    """Import what most programs never use when it is first asked for, because it would slow the import."""
    if name in _OF_LOOKING:
        from . import looking as module  # noqa: PLC0415
    elif name in _OF_REMOTE:
        from . import remote as module  # type: ignore[no-redef]  # noqa: PLC0415
    elif name == "read_drained":
        from . import drained as module  # type: ignore[no-redef]  # noqa: PLC0415
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(module, name)
