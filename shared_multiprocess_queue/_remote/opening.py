"""Creating, finding and removing a queue on a server, and what the server must be like."""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from .._platform import clock
from ..errors import (
    CorruptQueueError,
    LayoutVersionError,
    QueueExistsError,
    QueueMismatchError,
    QueueNotFoundError,
    QueueRefusedError,
)
from .calls import Calls
from .link import Link
from .lua import META
from .trouble import is_of_login
from .where import Place, key_of

__all__ = ["VERSION", "Fixed", "Server", "attach", "create", "remove", "server_of"]

VERSION: Final = 1
"""Of what lies on the server."""

_OLDEST: Final = 7
_LOOK: Final = 0.25  # seconds between two looks for a queue that does not exist yet


class Fixed(NamedTuple):
    """What is fixed when a queue is created.

    Attributes:
        lease: milliseconds.
        serializer: and whether entries are signed.
    """

    capacity: int
    item_size: int
    leases: int
    max_deliveries: int
    lease: int
    serializer: str


class Server(NamedTuple):
    """What a server says of itself; empty texts if this user may not ask.

    Attributes:
        version: name and version.
        is_durable: whether it writes what it does to a file (appendonly).
        replicas: that are connected.
    """

    version: str
    is_durable: bool
    replicas: int


def server_of(link: Link) -> tuple[Server, str]:
    """Return what a server says of itself, and its eviction policy."""
    try:
        text = link.command("INFO").decode("utf-8", "replace")
    except QueueRefusedError as error:
        if is_of_login(error.__cause__):
            raise
        return Server("", False, 0), ""
    info = dict(line.partition(":")[::2] for line in text.splitlines())
    name = "valkey" if "valkey_version" in info else "redis"
    version = f"{name} {info.get(f'{name}_version', '')}"
    server = Server(version, info.get("aof_enabled") == "1", int(info.get("connected_slaves", 0)))
    return server, info.get("maxmemory_policy", "")


def check(link: Link, place: Place, accepts_eviction: bool) -> None:
    """Check that a server can keep a queue.

    Raises:
        QueueRefusedError: it is too old, or may drop keys when its memory is full.
    """
    server, policy = server_of(link)
    number = server.version.rpartition(" ")[2].partition(".")[0]
    if number.isdecimal() and int(number) < _OLDEST:
        raise QueueRefusedError(f"{place.shown} is {server.version}, and a queue needs version {_OLDEST} or newer")
    if policy.startswith("allkeys") and not accepts_eviction:
        raise QueueRefusedError(
            f"the server of {place.shown} has maxmemory-policy {policy}, so it drops queues when its memory is full; "
            f"set it to noeviction, or pass accept_eviction=True (shmq bridge: --accept-eviction) if that may happen"
        )
    if policy.startswith("volatile"):
        warnings.warn(
            f"the server of {place.shown} has maxmemory-policy {policy}: when its memory is full, it drops what tells "
            f"that a request was sent twice, and an item may then be put twice; set it to noeviction",
            RuntimeWarning,
            stacklevel=4,
        )


def create(link: Link, place: Place, run_id: str, fixed: Fixed) -> Calls:
    """Make a queue.

    Raises:
        QueueExistsError: there is one of that name.
    """
    calls = Calls(key_of(place.name, run_id), os.urandom(16).hex(), place.shown, holder())
    fields = [word for pair in fixed._asdict().items() for word in pair]
    (kind, *_) = link.run(calls.simple("create", "version", VERSION, *fields))
    if kind == b"exists":
        raise QueueExistsError(
            f"there is a queue {place.shown} already; open it without create=True, or with exist_ok=True, or remove it"
        )
    return calls


def attach(
    link: Link, place: Place, run_id: str, asked: Mapping[str, Any], until: float, uuid: str = ""
) -> tuple[Calls, Fixed]:
    """Find a queue.

    Args:
        link: to its server.
        place: of the queue.
        run_id: of the queue.
        asked: what it is to be like, by the names of ``Fixed``.
        until: monotonic time in ns up to which it is waited for.
        uuid: of the queue, if it must be that one.

    Raises:
        QueueNotFoundError: there is no such queue.
        QueueMismatchError: it is another one than was asked for.
        LayoutVersionError: another version of this package made it.
    """
    prefix = key_of(place.name, run_id)
    began = clock.now()
    while not (found := _fields(link, prefix)) and clock.now() < until:
        clock.sleep(min(_LOOK, max(until - clock.now(), 0) / 1e9))
    if not found or (uuid and found.get("uuid") != uuid):
        if until > began:
            waited = f"{(clock.now() - began) / 1e9:.1f} s"
            raise QueueNotFoundError(f"there is no queue {place.shown}; waited {waited} for it; see what creates it")
        raise QueueNotFoundError(
            f"there is no queue {place.shown}{' any more' if uuid else ''}; create it with create=True, or wait for it "
            f"with wait=seconds"
        )
    try:
        version = int(found["version"])
        if version == VERSION:
            numbers = {name: int(found[name]) for name in Fixed._fields if name != "serializer"}
            fixed = Fixed(**numbers, serializer=found["serializer"])
            bytes.fromhex(found["uuid"])
    except (KeyError, ValueError):
        raise CorruptQueueError(
            f"what lies on the server for the queue {place.shown} is no queue that this package writes; remove it by "
            f"RemoteQueue.remove(url), and create it again"
        ) from None
    if version != VERSION:
        raise LayoutVersionError(place.shown, version, VERSION)
    wanted, own = _as_arguments(asked), _as_arguments(fixed._asdict())
    differing = [name for name, value in wanted.items() if own[name] != value]
    if differing:
        raise QueueMismatchError(
            place.shown, {name: wanted[name] for name in differing}, {name: own[name] for name in differing}
        )
    return Calls(prefix, found["uuid"], place.shown, holder()), fixed


def _as_arguments(fixed: Mapping[str, Any]) -> dict[str, float | str]:
    """Return what is fixed by the names and in the units of the arguments, the secret first."""
    words: dict[str, float | str] = {}
    for name, value in fixed.items():
        if name != "serializer":
            words[name] = value / 1000 if name == "lease" else value
    if "serializer" not in fixed:
        return words
    serializer, _, signed = str(fixed["serializer"]).partition(", ")
    return {"secret": signed or "not signed", "serializer": serializer, **words}


def remove(link: Link, place: Place, run_id: str) -> bool:
    """Remove the queue of a name, also one that is damaged; return whether there was one."""
    prefix = key_of(place.name, run_id)
    try:
        uuid = link.command("HGET", prefix + META, "uuid")
    except CorruptQueueError:
        uuid = None
    if uuid:
        calls = Calls(prefix, uuid.decode("utf-8", "replace"), place.shown, holder())
        try:
            link.run(calls.simple("unlink"))
        except QueueNotFoundError:
            return False
        return True
    return bool(link.command("UNLINK", prefix + META))


def holder() -> str:
    """Return how this process is called in tokens."""
    return f"{''.join(platform.node().split())}:{os.getpid()}"


def _fields(link: Link, prefix: str) -> dict[str, str]:
    words = [word.decode("utf-8", "replace") for word in link.command("HGETALL", prefix + META)]
    return dict(zip(words[::2], words[1::2], strict=True))
