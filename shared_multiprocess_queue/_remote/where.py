"""URLs of queues on servers: which server, which queue; texts that show no password."""

from __future__ import annotations

import os
import re
from typing import Final, NamedTuple
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit

from ..errors import ArgumentError, shown

__all__ = ["PASSWORD", "Place", "key_of", "parse"]

PASSWORD: Final = "SHMQ_PASSWORD"
"""The environment variable that has the password, if the URL has none."""

_SCHEMES: Final = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss", "unix": "unix"}
_KINDS: Final = {"sentinel": 26379, "cluster": 6379}
"""What may stand behind a scheme and a '+', for several servers; with the usual port."""

_OF_TLS: Final = frozenset(
    {"ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname"}
)
_FILES: Final = frozenset({"ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"})
_REQUIREMENTS: Final = ("none", "optional", "required")
_SCHEME: Final = re.compile(r"[A-Za-z0-9+.-]*")
_DATABASE: Final = re.compile(r"/?[0-9]*")
_SERVICE: Final = re.compile(r"/([^/]+)(/[0-9]*)?")
_HOST: Final = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+(%[A-Za-z0-9]+)?")


class Place(NamedTuple):
    """Where a queue is.

    Attributes:
        server: the URL of the server, as redis-py takes it; it may have a password.
        name: of the queue.
        shown: the whole URL without user, password and options.
        given: the whole URL, as it was given.
        nodes: hosts and ports of sentinels, or of nodes of a cluster; none if ``server`` is the one.
        service: what the sentinels call the server; empty for a cluster.
        sentinel: the URL of a sentinel, without a user and a password.
    """

    server: str
    name: str
    shown: str
    given: str
    nodes: tuple[tuple[str, int], ...] = ()
    service: str = ""
    sentinel: str = ""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.shown}>"


def parse(url: str) -> Place:
    """Take a URL apart. No message shows a part of it in which a password may be.

    Raises:
        ArgumentError: it is no URL of a queue on a server.
    """
    text = str.__str__(url)
    scheme, has_scheme, _ = text.partition("://")
    if not has_scheme or not _SCHEME.fullmatch(scheme):
        raise ArgumentError("a URL of a queue begins with a scheme and '://'; write redis://host:6379/0#tasks")
    scheme, _, kind = scheme.lower().partition("+")
    if scheme not in _SCHEMES or (kind and (kind not in _KINDS or scheme == "unix")):
        raise ArgumentError(
            f"there is no kind of queue for the scheme {shown(f'{scheme}+{kind}' if kind else scheme)}; give the name "
            f"of a local queue, or a URL that begins with one of {', '.join(f'{scheme}://' for scheme in _SCHEMES)}, "
            f"redis+sentinel://, redis+cluster://"
        )
    if kind:
        return _parse_several(text, scheme, kind)
    parts = _parts(text, scheme)
    try:
        name = unquote(parts.fragment, errors="strict")
    except UnicodeDecodeError as error:
        raise ArgumentError(
            f"the name of the queue in the URL {_shown(parts)} is no UTF-8 ({error.reason}); write a name as it is, or "
            f"as urllib.parse.quote writes it"
        ) from None
    if not name or "\0" in name:
        raise ArgumentError(
            f"the URL {_shown(parts)} names no queue; write the queue's name behind a '#', as in "
            f"redis://host:6379/0#tasks"
        )
    _check_options(parts)
    server = parts._replace(scheme=_SCHEMES[scheme], fragment="")
    secret = os.environ.get(PASSWORD, "")
    if secret and not parts.password:
        server = server._replace(netloc=_with_password(parts, secret))
    return Place(_joined(server), name, _shown(parts), text)


def _parse_several(text: str, scheme: str, kind: str) -> Place:
    """Take a URL of several servers apart, as one of the first of them."""
    _, _, rest = text.partition("://")
    end = next((at for at, letter in enumerate(rest) if letter in "/?#"), len(rest))
    user, at, hosts = rest[:end].rpartition("@")
    path, rest = _service_of(rest[end:], scheme) if kind == "sentinel" else ("", rest[end:])
    nodes = _nodes(hosts, scheme, kind)
    place = parse(f"{scheme}://{user}{at}{hosts.split(',')[0]}{rest}")
    server = urlsplit(place.server)
    if kind == "cluster" and (server.path.strip("/0") or parse_qs(server.query).get("db", ["0"]) != ["0"]):
        raise ArgumentError("a cluster has database 0 alone; leave the number out of the URL")
    first, _, behind = place.shown.partition("://")[2].partition(hosts.split(",")[0])
    return place._replace(
        shown=f"{scheme}+{kind}://{first}{hosts}{f'/{path}' if path else ''}{behind}",
        given=text,
        nodes=nodes,
        service=unquote(path),
        sentinel=_joined(server._replace(netloc="sentinel", path="")) if path else "",
    )


def _service_of(rest: str, scheme: str) -> tuple[str, str]:
    """Return the service that a URL of sentinels names, and what stands behind their hosts without it."""
    end = next((at for at, letter in enumerate(rest) if letter in "?#"), len(rest))
    found = _SERVICE.fullmatch(rest[:end])
    if found is None:
        raise ArgumentError(
            f"the URL that begins with {scheme}+sentinel:// names no service; write "
            f"redis+sentinel://host1,host2,host3/service/0#tasks"
        )
    return found[1], (found[2] or "") + rest[end:]


def _nodes(hosts: str, scheme: str, kind: str) -> tuple[tuple[str, int], ...]:
    found = []
    for host in hosts.split(","):
        try:
            parts = urlsplit(f"//{host}")
            found.append((parts.hostname or "", parts.port or _KINDS[kind]))
        except ValueError:  # its text may have a part of the password
            found.append(("", 0))
    if not all(_HOST.fullmatch(host) for host, _ in found):
        raise ArgumentError(
            f"the URL that begins with {scheme}+{kind}:// cannot be read: behind the scheme there may be "
            f"user:password@, then hosts with ports and commas between them"
        ) from None
    return tuple(found)


def key_of(name: str, run_id: str) -> str:
    """Return the beginning of all keys of a queue; the braces put them into one slot of a cluster."""
    return f"shmq:{{{quote(run_id, safe='')}/{quote(name, safe='')}}}:"


def _parts(text: str, scheme: str) -> SplitResult:
    """Split a URL, if it is certain where its password ends."""
    wrong = "" if text.isprintable() and " " not in text else "it has a space, or what is not printable"
    try:
        parts = urlsplit(text)
        try:
            if parts.port is not None and scheme == "unix":
                wrong = wrong or "a socket has no port"
        except ValueError:
            wrong = wrong or "what stands behind the ':' of its host is no number of a port"
    except ValueError:  # its text may have a part of the password
        wrong = wrong or "its host is none; an address of IPv6 stands in brackets"
    if wrong:
        raise ArgumentError(
            f"the URL that begins with {scheme}:// cannot be read: {wrong}; behind the scheme there may be "
            f"user:password@, then a host and a :port, a /database, and the queue's name behind a '#'"
        )
    if text.count("@") > parts.netloc.count("@") or parts.netloc.count("@") > 1:
        raise ArgumentError(
            f"the URL that begins with {scheme}:// has an '@' that does not end a user or a password; in a user, a "
            f"password or the name of a queue write %40 for '@', %23 for '#', %2F for '/' and %3F for '?'"
        )
    if "?" in parts.fragment:
        raise ArgumentError(
            f"the URL that begins with {scheme}:// has a '?' behind its '#': options stand before the '#'; in the name "
            f"of a queue write %3F for '?'"
        )
    if scheme == "unix" and (parts.netloc.rpartition("@")[2] or not parts.path.strip("/")):
        raise ArgumentError(
            "the URL that begins with unix:// has no path of a socket behind the scheme, or behind user:password@; "
            "write unix:///run/redis.sock#tasks"
        )
    if scheme != "unix" and not _DATABASE.fullmatch(parts.path):
        raise ArgumentError(
            f"the URL {_shown(parts._replace(path=''))} has something behind its host that is no number of a database; "
            f"write redis://host:6379/0#tasks"
        )
    return parts


def _check_options(parts: SplitResult) -> None:
    """Refuse options that are not of the server's place: those of the client are this package's."""
    allowed = {"db"} | (_OF_TLS if _SCHEMES[parts.scheme] == "rediss" else set())
    options = parse_qs(parts.query, keep_blank_values=True)
    for option, values in options.items():
        if option not in allowed:
            raise ArgumentError(
                f"the URL {_shown(parts)} has an option that is not known here; it may have "
                f"{', '.join(sorted(allowed))}; a password stands before the host, or in the environment variable "
                f"{PASSWORD}"
            )
        value = values[0]
        is_right = len(values) == 1 and (
            value.isdecimal() if option == "db" else value in _REQUIREMENTS if option == "ssl_cert_reqs" else value
        )
        if not is_right:
            raise ArgumentError(
                f"the URL {_shown(parts)} has an option {option!r} without one value that can be; "
                f"write {_example(option)}"
            )
        if option in _FILES and not os.path.exists(value):
            raise ArgumentError(
                f"the URL {_shown(parts)} has an option {option!r} with a path at which nothing is: {shown(value)}"
            )
    if "db" in options and parts.scheme != "unix" and parts.path.strip("/"):
        raise ArgumentError(
            f"the URL {_shown(parts)} has a database behind its host and an option 'db', too; leave one of them out"
        )


def _example(option: str) -> str:
    if option in _FILES or option == "ssl_ca_path":
        return f"{option}=path, once"
    return {"db": "db=0", "ssl_cert_reqs": "ssl_cert_reqs=required"}.get(option, f"{option}=true") + ", once"


def _with_password(parts: SplitResult, secret: str) -> str:
    user, _, host = parts.netloc.rpartition("@")
    return f"{user.rstrip(':')}:{quote(secret, safe='')}@{host}"


def _shown(parts: SplitResult) -> str:
    """Return a URL without its options, and without a user: some write a password in its place."""
    host = parts.netloc.rpartition("@")
    return _joined(parts._replace(netloc=f"{'***@' if host[1] else ''}{host[2]}", query=""))


def _joined(parts: SplitResult) -> str:
    """Return a URL from its parts. ``urlunsplit`` leaves '//' out if there is no host, as for a socket."""
    query, fragment = f"?{parts.query}" if parts.query else "", f"#{parts.fragment}" if parts.fragment else ""
    return f"{parts.scheme}://{parts.netloc}{parts.path}{query}{fragment}"
