"""Where a queue's server is now, if its URL names sentinels, or nodes of a cluster.

Sentinels are asked for the master of their service. A node of a cluster says itself where a queue is, whose keys all
lie in one slot: it answers a request with MOVED. What was found holds until a connection or an answer says otherwise.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

from .requests import packed
from .trouble import no_retry, options
from .where import Place
from .wire import exchange

import redis  # isort: skip  # behind trouble.py, which says what to install if it is not there
from redis import exceptions  # isort: skip

__all__ = ["Finder", "is_elsewhere"]

_SILENCE: Final = 1.0  # seconds without an answer after which the next sentinel is asked


class Finder:
    """Finds the server of a place; for the threads and tasks of one link.

    Args:
        place: of the queue.
    """

    def __init__(self, place: Place) -> None:
        self._service = place.service
        self._nodes = place.nodes  # the one to ask is the first
        self._found: tuple[str, int] | None = None
        if self._service:
            self._pool = redis.ConnectionPool.from_url(place.sentinel, retry=no_retry(), **options(_SILENCE))

    def direct(self, line: Any) -> None:
        """Let a connection that is to be made lead to the server.

        Raises:
            ConnectionError: no sentinel knows a master.
        """
        if not self._nodes:
            return  # its URL says where
        found = self._found
        if found is None:
            found = self._found = self._master() if self._service else self._nodes[0]
        line.host, line.port = found

    def note(self, error: BaseException) -> None:
        """Note that a connection was lost, or that the server has said that it is not the one."""
        if not self._nodes:
            return
        if isinstance(error, exceptions.MovedError):
            last = self._found or self._nodes[0]
            self._found = (error.host or last[0], int(error.port))
        elif isinstance(error, (exceptions.RedisError, OSError)):
            self._found = None
            self._nodes = (*self._nodes[1:], self._nodes[0])

    def _master(self) -> tuple[str, int]:
        for node in self._nodes:
            line: Any = self._pool.make_connection()
            line.host, line.port = node
            with suppress(exceptions.RedisError, OSError):
                try:
                    found = exchange(line, packed("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service))
                finally:
                    line.disconnect()
                if found:
                    return found[0].decode(), int(found[1])
        raise exceptions.ConnectionError(
            f"Error connecting to the master of {self._service!r}: none of {len(self._nodes)} sentinels knows one"
        )


def is_elsewhere(error: BaseException) -> bool:
    """Whether a server has answered that another one has the queue, so that the connection is of no use."""
    return isinstance(error, (exceptions.MovedError, exceptions.ReadOnlyError))
