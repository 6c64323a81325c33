"""What the benchmark knows of a queue: a channel between processes, and the two ends that processes hold of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol


class Sender(Protocol):
    """The end of a producer, opened in its process."""

    def put(self, item: Any) -> None:
        """Wait for room, and put an item."""

    def put_batch(self, items: Sequence[Any]) -> None:
        """Wait for room, and put items in one call; only for peers that have batches."""

    def finish(self) -> None:
        """Return when everything that was put will arrive although this process ends; then let go of the end."""


class Receiver(Protocol):
    """The end of a consumer, opened in its process."""

    def get(self) -> Any:
        """Wait for an item, and take it."""

    def get_batch(self, most: int) -> Sequence[Any]:
        """Wait for one item, and take up to so many; only for peers that have batches."""

    def finish(self) -> None:
        """Let go of the end."""


class Channel(Protocol):
    """A queue between processes, made in the process that is the parent of all others, before they are forked."""

    def sender(self, number: int) -> Sender:
        """Open the end of producer ``number``, counted from 0, in its process."""

    def receiver(self, number: int) -> Receiver:
        """Open the end of consumer ``number``, counted from 0, in its process."""

    def remove(self) -> None:
        """Remove all that is left of the channel, when all other processes have ended."""


@dataclass(frozen=True)
class Size:
    """How large a channel has to be.

    Attributes:
        capacity: items that it holds at least; peers that count bytes take as many of ``item_size``.
        item_size: bytes of the largest item, serialised.
        producers: processes that put.
        consumers: processes that get.
    """

    capacity: int
    item_size: int
    producers: int = 1
    consumers: int = 1


# What a get does while there is nothing: sleep in the kernel, look without end, or sleep and look by turns.
Waiting = Literal["parks", "spins", "polls"]


@dataclass(frozen=True)
class Peer:
    """A queue to measure.

    Attributes:
        name: for tables; also on the command line.
        distribution: package on PyPI that it comes from; None for the standard library.
        make: makes a channel of a name that nobody else uses.
        waiting: what its get does while there is nothing.
        carries: ``objects``, or ``bytes``, and then the adapter pickles what is no bytes.
        most_producers: processes that may put at once; None for any number.
        most_consumers: processes that may get at once; None for any number.
        has_batches: whether several items go in one call.
        note: what a reader of its figures has to know, a sentence or nothing.
    """

    name: str
    distribution: str | None
    make: Callable[[str, Size], Channel]
    waiting: Waiting
    carries: Literal["objects", "bytes"] = "objects"
    most_producers: int | None = None
    most_consumers: int | None = None
    has_batches: bool = False
    note: str = ""
