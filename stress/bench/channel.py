"""What the benchmark knows of a queue: a channel between processes, and the two ends that processes hold of it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pickle import dumps, loads
from typing import Any, Literal, Protocol


class End:
    """The end of a producer or of a consumer, opened in its process.

    Attributes:
        put: waits for room, and puts an item.
        get: waits for an item, and takes it.
        queue: what has the calls of ``queue.Queue`` that do not wait; only for this package.
    """

    put: Callable[[Any], object]
    get: Callable[[], Any]
    queue: Any

    def put_batch(self, items: Sequence[Any]) -> None:
        """Wait for room, and put items in one call; only for peers that have batches."""
        raise NotImplementedError

    def get_batch(self, most: int) -> Sequence[Any]:
        """Wait for one item, and take up to so many; only for peers that have batches."""
        raise NotImplementedError

    def flush(self) -> None:
        """Return when all that was put is on its way, without another put."""

    def close(self) -> None:
        """Let go of the end; what was put still arrives."""


class Channel(Protocol):
    """A queue between processes, made in the process that is the parent of all others, before they are forked."""

    def sender(self, number: int) -> End:
        """Open the end of producer ``number``, counted from 0, in its process."""

    def receiver(self, number: int) -> End:
        """Open the end of consumer ``number``, counted from 0, in its process."""

    def remove(self) -> None:
        """Remove all that is left of the channel, when all other processes have ended."""


@dataclass(frozen=True)
class Size:
    """How large a channel has to be.

    Attributes:
        capacity: items that it holds at least; peers that count bytes take as many of ``item_size``.
        item_size: bytes of an item, serialised.
        pickled: whether items are objects; peers that carry bytes then get pickles. Otherwise all items are bytes.
        producers: processes that put.
        consumers: processes that get.
        slot: bytes of a slot, of queues whose items may take several; 0: item_size. The room is the same.
    """

    capacity: int
    item_size: int
    pickled: bool = False
    producers: int = 1
    consumers: int = 1
    slot: int = 0


# What a get does while there is nothing: sleep in the kernel, look without end, or look and sleep by turns.
Waiting = Literal["parks", "spins", "polls"]


def carried(
    size: Size, put: Callable[[bytes], object], get: Callable[[], bytes]
) -> tuple[Callable[[Any], object], Callable[[], Any]]:
    """Return put and get of items for a peer that carries bytes: the items are bytes, or they are pickled here."""
    if not size.pickled:
        return put, get
    return (lambda item: put(dumps(item, 5))), (lambda: loads(get()))


@dataclass(frozen=True)
class Peer:
    """A queue to measure.

    Attributes:
        name: for tables; also on the command line.
        make: makes a channel with a name of its own.
        waiting: what its get does while there is nothing; ``spins`` is the adapter's doing where there is no get that
            waits.
        module: what has to be imported for it.
        distribution: package on PyPI that it comes from; None for the standard library and this package.
        most_producers: processes that may put at once; None for any number.
        most_consumers: processes that may get at once; None for any number.
        batches: whether several items go in one call.
        threads: whether it serves the threads of one process only.
        answers: whether an item arrives before more are put; not so where batches are hidden.
        most_bytes: of an item; None for any number.
        python: the Python that runs it; this one if empty.
        note: what a reader of its figures has to know, a sentence or nothing.
    """

    name: str
    make: Callable[[str, Size], Channel]
    waiting: Waiting
    module: str
    distribution: str | None = None
    most_producers: int | None = None
    most_consumers: int | None = None
    batches: bool = False
    threads: bool = False
    answers: bool = True
    most_bytes: int | None = None
    python: str = ""
    note: str = ""

    def version(self) -> str | None:
        """Return the version of its package, or of its own Python; None if it is not installed."""
        if self.python:
            done = subprocess.run([self.python, "-V"], capture_output=True, text=True, check=False)
            return done.stdout.strip() if done.returncode == 0 else None  # a shim may stand for none
        if self.distribution is None:
            return "" if importlib.util.find_spec(self.module) else None
        try:
            return importlib.metadata.version(self.distribution)
        except importlib.metadata.PackageNotFoundError:
            return None
