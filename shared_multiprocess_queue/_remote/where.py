"""URLs of queues on servers: which server, which queue; texts that show no password."""

from __future__ import annotations

import os
from typing import Final, NamedTuple
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

from ..errors import ArgumentError, shown

__all__ = ["PASSWORD", "Place", "parse"]

PASSWORD: Final = "SHMQ_PASSWORD"
"""The environment variable that has the password, if the URL has none."""

_SCHEMES: Final = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss", "unix": "unix"}


class Place(NamedTuple):
    """Where a queue is.

    Attributes:
        server: the URL of the server, as redis-py takes it; it may have a password.
        name: of the queue.
        shown: the whole URL without password.
        given: the whole URL, as it was given.
    """

    server: str
    name: str
    shown: str
    given: str


def parse(url: str) -> Place:
    """Take a URL apart.

    Raises:
        ArgumentError: it is no URL of a queue on a server.
    """
    text = str.__str__(url)
    try:
        parts = urlsplit(text)
        has_password = bool(parts.password)
    except ValueError as error:
        raise ArgumentError(f"the URL {_without_password(text)} cannot be read: {error}") from None
    if parts.scheme not in _SCHEMES:
        raise ArgumentError(
            f"there is no kind of queue for the scheme {shown(parts.scheme)}; give the name of a local queue, or a URL "
            f"that begins with one of {', '.join(f'{scheme}://' for scheme in _SCHEMES)}"
        )
    name = unquote(parts.fragment)
    if not name or "\0" in name:
        raise ArgumentError(
            f"the URL {_without_password(text)} names no queue; write the queue's name behind a '#', as in "
            f"redis://host:6379/0#tasks"
        )
    secret = os.environ.get(PASSWORD, "")
    server = parts._replace(scheme=_SCHEMES[parts.scheme], fragment="")
    if secret and not has_password:
        server = server._replace(netloc=_with_password(parts, secret))
    return Place(urlunsplit(server), name, _without_password(text), text)


def key_of(name: str, run_id: str) -> str:
    """Return the beginning of all keys of a queue; the braces put them into one slot of a cluster."""
    return f"shmq:{{{quote(run_id, safe='')}/{quote(name, safe='')}}}:"


def _with_password(parts: SplitResult, secret: str) -> str:
    user, _, host = parts.netloc.rpartition("@")
    return f"{user.rstrip(':')}:{quote(secret, safe='')}@{host}"


def _without_password(url: str) -> str:
    scheme, found, rest = url.partition("://")
    before, at, host = rest.rpartition("@")
    if not at:
        return url
    user, colon, _ = before.partition(":")
    return f"{scheme}{found}{user}{':***' if colon else ''}@{host}"
