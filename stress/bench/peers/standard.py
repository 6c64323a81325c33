"""The standard library: Queue, SimpleQueue and Pipe of multiprocessing."""

from __future__ import annotations

import multiprocessing
from typing import Any

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
        self._queue.close()


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


_MODULE = "multiprocessing"
PEERS = [
    Peer(
        "multiprocessing.Queue",
        lambda name, size: _Queue(_context.Queue(size.capacity)),
        "parks",
        _MODULE,
        note="a thread of the producer pickles and writes, so a put returns before that",
    ),
    Peer(
        "SimpleQueue",
        lambda name, size: _Queue(_context.SimpleQueue()),
        "parks",
        _MODULE,
        note="holds what fits into the buffer of a pipe, 64 KiB",
    ),
    Peer("Pipe", _Pipe, "parks", _MODULE, most_producers=1, most_consumers=1, note="holds what fits into 64 KiB"),
]
