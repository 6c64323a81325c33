"""The errors of this package.

All have one base, ``SharedMemoryQueueError``. Each is also the built-in error that a caller would expect in its place,
and has the numbers of its message as attributes. ``Empty``, ``Full`` and ``ShutDown`` are answers and not errors: they
*are* ``queue.Empty``, ``queue.Full`` and, from Python 3.13 on, ``queue.ShutDown``.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Mapping
from queue import Empty, Full
from typing import Final, Literal

if sys.version_info >= (3, 13):
    from queue import ShutDown
else:

    class ShutDown(Exception):
        """The queue was shut down: nothing can be put into it, or nothing can come out of it, any more."""


__all__ = [
    "ArgumentError",
    "ClaimLostError",
    "CorruptQueueError",
    "DeserializationError",
    "Empty",
    "Full",
    "ItemTooLargeError",
    "LayoutVersionError",
    "LeaseLostError",
    "LeasesHeldError",
    "LeasesRequiredError",
    "QueueClosedError",
    "QueueExistsError",
    "QueueInUseError",
    "QueueMismatchError",
    "QueueNotFoundError",
    "QueueNotReadyError",
    "QueueRefusedError",
    "QueueUnavailableError",
    "RoleTakenError",
    "SerializationError",
    "SharedMemoryFullError",
    "SharedMemoryQueueError",
    "ShutDown",
    "TooManyParticipantsError",
]


_LONGEST_SHOWN: Final = 100  # characters


def shown(value: object) -> str:
    """Return the text by which an error message shows a value that was refused; any value has one."""
    try:
        text = repr(value)
    except Exception:  # a repr of the user may raise, and so does that of an int of more than 4300 digits
        text = f"something of type {type(value).__name__} that has no text"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}... ({len(text):,} characters)"


class SharedMemoryQueueError(Exception):
    """The base of every error of this package."""


class ArgumentError(SharedMemoryQueueError, ValueError):
    """An argument that can never work: a name, a size, a timeout, a batch that is too long."""


class ItemTooLargeError(SharedMemoryQueueError, ValueError):
    """The item, serialised, is larger than the queue takes.

    Attributes:
        size: bytes that the item needs; at least so many, if ``is_exact`` is False.
        limit: the largest item of the queue, in bytes.
        index: place of the item in its batch, from 0; None for a single item.
        deflated: bytes that the item needs when it is deflated. None if that was not tried: ``bytes`` travel as they
            are, an item of more than 64 times the limit, or of more than 256 MiB, is too large to try, and only a queue
            with serializer="pickle" deflates.
        is_exact: False if the item was not counted to its end: with serializer="plain", beyond 8 times the limit.
        argument: name of the limit when the queue is created: ``max_item_size``, of a queue on a server ``item_size``.
    """

    def __init__(
        self,
        size: int,
        limit: int,
        index: int | None = None,
        deflated: int | None = None,
        is_exact: bool = True,
        argument: str = "max_item_size",
    ) -> None:
        super().__init__(size, limit, index, deflated, is_exact, argument)
        self.size = size
        self.limit = limit
        self.index = index
        self.deflated = deflated
        self.is_exact = is_exact
        self.argument = argument

    def __str__(self) -> str:
        which = "the item" if self.index is None else f"the item at index {self.index} of the batch"
        size = f"{self.size:,}" if self.is_exact else f"at least {self.size:,}"
        deflated = "" if self.deflated is None else f" and {self.deflated:,} bytes deflated"
        enough = f"{self.argument}={self.size} or more" if self.is_exact else f"a larger {self.argument}"
        is_remote = self.argument == "item_size"
        kind = "the queue" if is_remote else "a SharedMemoryQueue"  # a Queue has no such argument
        slots = "" if is_remote else ", and with a capacity * item_size that is as large"
        return (
            f"{which} takes {size} bytes once serialised{deflated}, and this queue takes items of up to "
            f"{self.limit:,}; create {kind} with {enough}{slots}, or send a smaller item"
        )


class NotABufferError(SharedMemoryQueueError, TypeError):
    """The next item is no bytes in one piece of memory, so that it cannot be looked at in place; it is in the queue."""


class BufferTooSmallError(SharedMemoryQueueError, ValueError):
    """The next item has more bytes than the buffer for it; it is in the queue.

    Attributes:
        size: bytes of the item.
        room: bytes of the buffer.
    """

    def __init__(self, size: int, room: int) -> None:
        super().__init__(size, room)
        self.size = size
        self.room = room

    def __str__(self) -> str:
        return (
            f"the next item has {self.size:,} bytes, and the buffer for it has {self.room:,}; the item is still in the "
            f"queue: take it with a larger buffer, or by get() without one"
        )


class SerializationError(SharedMemoryQueueError, ValueError):
    """Something in the item cannot be turned into bytes; the message says where it is, ``__cause__`` why.

    Attributes:
        index: place of the item in its batch, from 0; None for a single item.
    """

    index: int | None = None

    def __str__(self) -> str:
        text = super().__str__()
        return text if self.index is None else f"at index {self.index} of the batch: {text}"


class DeserializationError(SharedMemoryQueueError, ValueError):
    """An item was taken from the queue and cannot be turned back into an object; ``__cause__`` is the reason.

    The item is no longer in the queue. The queue and its other items can be used as before.

    Attributes:
        raw: the item's bytes as they lay in the slot, so that a caller can look into them or try again.
    """

    def __init__(self, message: str, raw: bytes) -> None:
        super().__init__(message, raw)
        self.raw = raw

    def __str__(self) -> str:
        return str(self.args[0])


class QueueClosedError(SharedMemoryQueueError, ValueError, OSError):
    """This handle was closed, by ``close()`` or by leaving its ``with`` block."""


class SharedMemoryFullError(SharedMemoryQueueError, OSError):
    """There is no shared memory for an item, in a queue that takes memory as it is used; ``errno`` is ENOSPC."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.errno = errno.ENOSPC


class CorruptQueueError(SharedMemoryQueueError, RuntimeError):
    """The segment holds something that no queue writes."""


class QueueNotFoundError(SharedMemoryQueueError, FileNotFoundError):
    """No queue of that name exists, or its creation was never finished; ``errno`` is ENOENT."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.errno = errno.ENOENT


class QueueExistsError(SharedMemoryQueueError, FileExistsError):
    """A queue of that name exists already; ``errno`` is EEXIST."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.errno = errno.EEXIST


class QueueInUseError(SharedMemoryQueueError, OSError):
    """A queue was to be removed, and a live process uses it; ``errno`` is EBUSY.

    Attributes:
        pids: ids of the processes that have the queue open, as far as they can be told.
        hidden: number of processes that could not be looked at.
        items: number of items in the queue, as far as that can be told.
        dead_letters: number of dead letters in it, likewise.
    """

    def __init__(self, name: str, pids: tuple[int, ...], hidden: int, items: int = 0, dead_letters: int = 0) -> None:
        super().__init__(name, pids, hidden, items, dead_letters)
        self.errno = errno.EBUSY
        self.pids = pids
        self.hidden = hidden
        self.items = items
        self.dead_letters = dead_letters

    def __str__(self) -> str:
        users = f"process {', '.join(map(str, self.pids))}" if self.pids else "a process that cannot be told"
        others = "process" if self.hidden == 1 else "processes"
        more = f" ({self.hidden:,} {others} could not be looked at)" if self.hidden else ""
        held = [
            f"{count:,} {noun}{'s' * (count != 1)}"
            for count, noun in ((self.items, "item"), (self.dead_letters, "dead letter"))
            if count
        ]
        has = f" It has {' and '.join(held)}." if held else ""
        return (
            f"queue segment {self.args[0]!r} is used by {users}{more}.{has} End its users first, or remove it with "
            f"force=True: then they go on with a queue that has no name"
        )


class QueueMismatchError(SharedMemoryQueueError, ValueError):
    """The queue exists, but was made with other sizes, another mode or another format than the caller asked for.

    Attributes:
        asked: the values that differ, as the caller passed them, by the names of the arguments.
        found: the values of the queue, by the same names. For a format that is "serializer": "pickle", "plain", or the
            names of dumps and loads. A queue on a server has "secret", too: "signed" or "not signed".
    """

    def __init__(self, name: str, asked: Mapping[str, float | str], found: Mapping[str, float | str]) -> None:
        super().__init__(name, asked, found)
        self.asked = asked
        self.found = found

    def __str__(self) -> str:
        if "secret" in self.found:  # of a queue on a server
            others = [f"; it has {what}={own!r}, not {self.asked[what]!r}" for what, own in self.found.items()][1:]
            advice = (
                "pass secret= (shmq bridge: SHMQ_SECRET)" if self.found["secret"] == "signed" else "leave secret out"
            )
            return f"the items of queue {self.args[0]!r} are {self.found['secret']}; {advice}{''.join(others)}"
        sizes = {what: own for what, own in self.found.items() if what != "serializer"}
        differing = " and ".join(f"{what}={own!r}, not {self.asked[what]!r}," for what, own in sizes.items())
        own = ", ".join(f"{what}={own!r}" for what, own in sizes.items())
        if "serializer" in self.found:
            asked, found = (self._way_to_ask(str(names["serializer"])) for names in (self.asked, self.found))
            also = f"; it has {differing} too" if sizes else ""
            and_own = f", and with {own}" if sizes else ""
            return (
                f"the items of queue {self.args[0]!r} are written with {found}, and this process asks for {asked}"
                f"{also}; open it with {found}, as all its processes have to{and_own}; for another format create a "
                f"queue of another name or run_id"
            )
        return (
            f"the queue {self.args[0]!r} has {differing} and keeps what it was created with; to attach to it leave "
            f"{' and '.join(sizes)} out, or pass {own}; for other values create a queue of another name or run_id"
        )

    def _way_to_ask(self, format_name: str) -> str:
        """Return the text that says by what arguments a process asks for a format."""
        if format_name in {"pickle", "plain"}:
            default = "plain" if "://" in self.args[0] else "pickle"
            return f"serializer={format_name!r}" + (" (the default)" if format_name == default else "")
        return "dumps={} and loads={}".format(*f"{format_name} ?".split(" ")[:2])


class QueueNotReadyError(SharedMemoryQueueError, TimeoutError):
    """A live process is still creating the queue of that name."""


class QueueUnavailableError(SharedMemoryQueueError, ConnectionError):
    """The server of a remote queue could not be reached for too long.

    Attributes:
        outcome: "unknown" if the call may have had its effect all the same, as its request was sent and no answer came;
            "not done" if it has not.
    """

    def __init__(self, message: str, outcome: Literal["not done", "unknown"] = "unknown") -> None:
        super().__init__(message)
        self.outcome = outcome


class QueueRefusedError(SharedMemoryQueueError, OSError):
    """The server of a remote queue refuses what is asked: its memory is full, or a right or a setting is missing.

    Attributes:
        outcome: "not done"; or "unknown" if an answer to the same request was lost before it was refused, so that the
            call may have had its effect all the same.
    """

    def __init__(self, message: str, outcome: Literal["not done", "unknown"] = "not done") -> None:
        super().__init__(message)
        self.outcome = outcome


class LayoutVersionError(SharedMemoryQueueError, RuntimeError):
    """The queue was made by a version of this package with another layout.

    Attributes:
        found: layout version in the segment.
        expected: layout version that this package reads and writes.
    """

    def __init__(self, name: str, found: int, expected: int) -> None:
        super().__init__(name, found, expected)
        self.found = found
        self.expected = expected

    def __str__(self) -> str:
        from shlex import quote  # noqa: PLC0415 (only for this message)

        if "://" in self.args[0]:
            return (
                f"the queue {self.args[0]} has version {self.found} of what lies on a server, and this package reads "
                f"version {self.expected}; use one version of shared-multiprocess-queue in all processes, or, if the "
                f"queue is no longer needed, remove it by RemoteQueue.remove(url, run_id), and create it again"
            )
        return (
            f"queue segment {self.args[0]!r} has layout version {self.found}, and this package reads version "
            f"{self.expected}; use one version of shared-multiprocess-queue in all processes, or, if the queue is no "
            f"longer needed, remove it by SharedMemoryQueue.remove({self.args[0].removesuffix('-queue')!r}), or by the "
            f"command shmq rm {quote(self.args[0].removesuffix('-queue'))}, and create it again"
        )


class RoleTakenError(SharedMemoryQueueError, RuntimeError):
    """A queue of mode "spsc" has a live producer (or consumer) already.

    Attributes:
        pid: id of the process that has the role.
    """

    def __init__(self, role: str, pid: int) -> None:
        super().__init__(role, pid)
        self.pid = pid

    def __str__(self) -> str:
        who = "another handle of this very process" if self.pid == os.getpid() else "which is alive"
        return (
            f"this queue has mode 'spsc', and its one {self.args[0]} is process {self.pid}, {who}; use that, or "
            f"mode='mpmc' for more than one {self.args[0]}, or wait until it closes the queue or ends"
        )


class TooManyParticipantsError(SharedMemoryQueueError, OSError):
    """Every participant record of the queue is in use.

    Attributes:
        limit: number of records, which is the number of operations that can be in progress at once.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit

    def __str__(self) -> str:
        return (
            f"all {self.limit} participant records of the queue are taken; each open handle keeps one for every thread "
            f"that was in an operation at the same time: close handles that are no longer needed"
        )


class ClaimLostError(SharedMemoryQueueError, RuntimeError):
    """Another process took this put for dead while it was alive: its item is not in the queue.

    This does not happen to processes of one machine that see each other. If it happens, please report it.
    """


class LeasesRequiredError(SharedMemoryQueueError, ValueError, AttributeError):
    """The call needs to know which items are being processed, and this queue was created without leases.

    It is an AttributeError, too, so that ``hasattr(queue, "task_done")`` is False.
    """

    def __init__(self, method: str) -> None:
        super().__init__(method)

    def __str__(self) -> str:
        return (
            f"{self.args[0]}() needs leases: this queue does not know which items are being processed; create it with "
            f"leases=N, N being the number of items in processing at once, or take a JoinableQueue in the place of a "
            f"Queue"
        )


class LeaseLostError(SharedMemoryQueueError, RuntimeError):
    """A lease was ended that is over already, or is not this process's: that item may be delivered again."""


class DeadLetterGoneError(SharedMemoryQueueError, RuntimeError):
    """A dead letter was ended or put back, by this process or another, after it was looked at.

    Attributes:
        position: of its item in the queue.
    """

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.position = position

    def __str__(self) -> str:
        return (
            f"the dead letter of position {self.position} is gone: it was ended or put back before; call "
            f"dead_letters() again to see which are left"
        )


class LeasesHeldError(SharedMemoryQueueError, RuntimeError):
    """This thread got all leases of the queue by ``get``, so a call that takes another item would wait for itself.

    Attributes:
        leases: number of leases of the queue.
    """

    def __init__(self, leases: int) -> None:
        super().__init__(leases)
        self.leases = leases

    def __str__(self) -> str:
        return (
            f"this thread holds all {self.leases} leases of the queue, so it would wait for itself; call task_done() "
            f"for what it has got, or create the queue with more leases"
        )
