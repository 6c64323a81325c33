"""One request and its answer on a connection that redis-py has made: bytes that are ready, in one sending.

The client library makes the connection, with its name, its user and TLS. Its own way to send and read costs as much as
the rest of a round trip; here are no callbacks and no other protocol, and an answer is all that comes.
"""

from __future__ import annotations

import socket
import struct
import sys
from contextlib import suppress
from typing import Any, Final

from redis import exceptions

__all__ = ["exchange", "moved"]

_SIZE: Final = 1 << 16  # bytes that are read at once
_LARGE: Final = 1 << 16  # bytes of a request that may be under way for longer than a server is silent
_MOVED: Final = slice(120, 136)  # of the system's TCP_INFO: bytes that have been acknowledged, and that have come
_TEXT, _ERROR, _NUMBER, _BYTES, _LIST = b"+-:$*"


def exchange(line: Any, request: bytes) -> Any:
    """Send a request; return the answer: bytes, numbers, lists of such, or None.

    Args:
        line: the connection; it is made first if it is not there.
        request: as it is sent.

    Raises:
        ResponseError: the server has answered that; the connection is good for more.
        RedisError: no answer has come, and the connection is not.
    """
    if line._sock is None:
        line.connect()
        _let_the_system_time(line._sock)
    answer = _Answer(line, len(request) > _LARGE)
    try:
        answer.send(request)
        return answer.read()
    except (TimeoutError, BlockingIOError):
        raise exceptions.TimeoutError("the server is silent") from None
    except OSError as error:
        raise exceptions.ConnectionError(f"the connection has ended: {error}") from error


def _let_the_system_time(connection: Any) -> None:
    """Let the system bound the times of a connection. Python would ask it before each sending and each reading."""
    seconds = connection.gettimeout()
    if sys.platform != "linux" or type(connection) is not socket.socket or not seconds:
        return  # TLS needs Python's
    times = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, option, times)
    connection.settimeout(None)


def moved(connection: Any) -> bytes:
    """Return what changes whenever bytes go or come over a connection; nothing if the system does not say it."""
    with suppress(Exception):  # it is none of TCP, or was closed
        info: bytes = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _MOVED.stop)
        return info[_MOVED]
    return b""


class _Answer:
    """Reads one answer.

    A connection is silent if nothing moves on it. How long a message takes says nothing: it may be large, and the link
    slow. What this process has sent may still wait in its system, so the system is asked.
    """

    def __init__(self, line: Any, is_large: bool) -> None:
        self._socket = line._sock
        self._moved = moved(line._sock) if is_large else None
        self._error = line._parser.parse_error
        self._data = b""
        self._at = 0

    def send(self, request: bytes) -> None:
        """Send the request of the answer."""
        sent = 0
        while sent < len(request):
            try:
                sent += self._socket.send(memoryview(request)[sent:] if sent else request)
            except (TimeoutError, BlockingIOError):
                self._check_moves()

    def _check_moves(self) -> None:
        """Go on with the exception that is handled, unless bytes have gone or come since this was asked last."""
        before, self._moved = self._moved, self._moved and moved(self._socket)
        if before == self._moved:
            raise  # noqa: PLE0704 (it is called by handlers)

    def read(self) -> Any:
        """Return the answer, which is all that has come."""
        first = self._head()
        if first[0] == _ERROR and self._at == len(self._data):
            raise self._error(first[1:].decode("utf-8", "replace"))
        answer = self._rest(first)
        if self._at != len(self._data):
            raise exceptions.InvalidResponse(f"{len(self._data) - self._at} bytes come behind an answer")
        return answer

    def _rest(self, head: bytes) -> Any:
        kind = head[0]
        if kind == _BYTES:
            return self._bytes(int(head[1:]))
        if kind == _NUMBER:
            return int(head[1:])
        if kind == _TEXT:
            return head[1:]
        if kind != _LIST:
            raise exceptions.InvalidResponse(f"what comes is no answer: {head[:100]!r}")
        count = int(head[1:])
        if count < 0:
            return None
        answers = []
        for _ in range(count):
            head = self._head()
            answers.append(self._bytes(int(head[1:])) if head[0] == _BYTES else self._rest(head))
        return answers

    def _head(self) -> bytes:
        """Return the next line, without its end."""
        at = self._at
        while (end := self._data.find(b"\r\n", at)) < 0:
            self._receive()
            at = 0
        self._at = end + 2
        return self._data[at:end]

    def _bytes(self, count: int) -> bytes | None:
        if count < 0:
            return None
        while len(self._data) < self._at + count + 2:
            self._receive()
        at = self._at
        self._at = at + count + 2
        return self._data[at : at + count]

    def _receive(self) -> None:
        while True:
            try:
                more = self._socket.recv(_SIZE)
                break
            except (TimeoutError, BlockingIOError):
                self._check_moves()
        if not more:
            raise exceptions.ConnectionError("the server has closed the connection")
        self._data = self._data[self._at :] + more if self._data else more
        self._at = 0
