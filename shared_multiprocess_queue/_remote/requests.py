"""Requests to a server: scripts with their keys and arguments, as bytes; sessions, which number them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Generator, Iterable
from typing import Any, Final, NamedTuple, TypeVar

from .lua import Script

__all__ = ["Ask", "Call", "Head", "Session", "Step", "T", "Wake", "packed"]


class Head(NamedTuple):
    """What all requests of one script to one queue, in one session, begin with.

    Attributes:
        script: which.
        keys: their names on the server.
        uuid: of the queue.
        data: ``EVALSHA`` with all of these, as it is sent.
        words: number of words in it.
    """

    script: Script
    keys: tuple[str, ...]
    uuid: str
    data: bytes
    words: int

    @classmethod
    def of(cls, script: Script, keys: tuple[str, ...], uuid: str) -> Head:
        """Return the head of requests."""
        words = ("EVALSHA", script.digest, len(keys), *keys, uuid)
        return cls(script, keys, uuid, b"".join(_words(words)), len(words))


class Ask(NamedTuple):
    """A script to run.

    Attributes:
        head: of the request.
        arguments: of the script, behind the queue's uuid.
        until: monotonic time in ns after which a server that does not answer is given up; the link may do so earlier.
    """

    head: Head
    arguments: tuple[Any, ...]
    until: float

    def data(self) -> bytes:
        """Return the bytes that are sent."""
        count = b"*%d\r\n" % (self.head.words + len(self.arguments))
        return b"".join((count, self.head.data, *_words(self.arguments)))

    def with_last_key(self, suffix: str) -> Ask:
        """Return the same request with another name of its last key."""
        keys = self.head.keys
        return self._replace(
            head=Head.of(self.head.script, (*keys[:-1], keys[-1] + suffix), self.head.uuid),
        )

    def data_with_text(self) -> bytes:
        """Return the bytes for a server that does not know the script."""
        head = self.head
        return packed("EVAL", head.script.text, len(head.keys), *head.keys, head.uuid, *self.arguments)


class Wake(NamedTuple):
    """A wake to wait for.

    Attributes:
        key: of the list of wake tokens; None: nothing but the time.
        seconds: to wait at most.
    """

    key: str | None
    seconds: float


Step = Ask | Wake
T = TypeVar("T")
Call = Generator[Step, Any, T]

_NAME: Final = 32  # bytes of a session's name; see ``Session``


class Session:
    """Numbers the requests of one call after the other, so that each is done once however often it is sent.

    Its name makes tokens longer than 64 bytes. A sorted set of shorter ones is a list, which the server searches from
    the beginning for each of them.

    Attributes:
        name: of the session.
        heads: of the requests that were sent, by the names of the scripts.
    """

    def __init__(self) -> None:
        self.name = os.urandom(_NAME).hex()
        self.heads: dict[str, Head] = {}
        self._numbers = itertools.count(1)

    def next(self) -> int:
        """Return the number of a new request."""
        return next(self._numbers)


def packed(*words: Any) -> bytes:
    """Return a command as it is sent."""
    return b"".join((b"*%d\r\n" % len(words), *_words(words)))


def _words(words: Iterable[Any]) -> list[bytes]:
    parts: list[bytes] = []
    for word in words:
        data = word if isinstance(word, bytes) else str(word).encode()
        parts += (b"$%d\r\n" % len(data), data, b"\r\n")
    return parts
