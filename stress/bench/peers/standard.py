"""The standard library: Queue, SimpleQueue and Pipe of multiprocessing, and the queues of threads."""

from __future__ import annotations

import multiprocessing
import queue
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ..channel import End, Peer, Size

_context = multiprocessing.get_context("fork")


def _end(put: Any, get: Any) -> End:
    end = End()
    end.put, end.get = put, get
    return end


class _Queue:
    """A queue whose handle is inherited."""

    def __init__(self, queue: Any) -> None:
        self._queue = queue

    def sender(self, number: int) -> End:
        return _end(self._queue.put, self._queue.get)

    receiver = sender

    def remove(self) -> None:
        close = getattr(self._queue, "close", None)  # the queues of threads have none
        if close is not None:
            close()


class _Pipe:
    def __init__(self, name: str, size: Size) -> None:
        self._reader, self._writer = _context.Pipe(duplex=False)
        self._pickled = size.pickled

    def sender(self, number: int) -> End:
        reader, writer = self._reader, self._writer
        return _end(writer.send, reader.recv) if self._pickled else _end(writer.send_bytes, reader.recv_bytes)

    receiver = sender

    def remove(self) -> None:
        self._reader.close()
        self._writer.close()


def _newer() -> Iterator[Peer]:
    """Yield the queue of the newest Python that is found, of 3.13 or later; not of one older than this.

    That Python asks for it, too, by its name, because it runs it.
    """
    for minor in range(_NEWEST, max(sys.version_info.minor, 13) - 1, -1):
        name = f"python3.{minor}"
        found = next(map(str, Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/{name}")), shutil.which(name))
        if found is not None:
            yield Peer(
                f"{_QUEUE}, newer Python", _make_queue, "parks", _MODULE, python=found, note="in a Python of its own"
            )
            return


def _make_queue(name: str, size: Size) -> _Queue:
    return _Queue(_context.Queue(size.capacity))


_NEWEST: Final = 15  # minor version to look for
_QUEUE: Final = "multiprocessing.Queue"
_MODULE: Final = "multiprocessing"
PEERS = [
    Peer(
        _QUEUE,
        _make_queue,
        "parks",
        _MODULE,
        note="a thread of the producer pickles and writes, so a put returns before that",
    ),
    *_newer(),
    Peer(
        "SimpleQueue",
        lambda name, size: _Queue(_context.SimpleQueue()),
        "parks",
        _MODULE,
        note="holds what fits into the buffer of a pipe, 64 KiB",
    ),
    Peer("Pipe", _Pipe, "parks", _MODULE, most_producers=1, most_consumers=1, note="holds what fits into 64 KiB"),
    Peer("queue.Queue", lambda name, size: _Queue(queue.Queue(size.capacity)), "parks", "queue", threads=True),
    Peer("queue.SimpleQueue", lambda name, size: _Queue(queue.SimpleQueue()), "parks", "queue", threads=True),
]
