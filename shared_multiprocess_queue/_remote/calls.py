"""The calls of a remote queue, as generators: they yield what is to be asked of the server, and get the answers.

So one text serves threads and tasks: ``link.py`` runs it with the blocking client, ``task_link.py`` with that of
asyncio. Nothing here waits or knows a client.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Generator, Sequence
from typing import Any, Final, NamedTuple, NoReturn, TypeVar

from .._platform import clock
from ..errors import (
    Empty,
    Full,
    QueueClosedError,
    QueueNotFoundError,
    QueueUnavailableError,
    ShutDown,
)
from .lua import GETTERS, JOINERS, META, PUTTERS, SESSION, Script
from .scripts import SCRIPTS

__all__ = ["Ask", "Call", "Calls", "Session", "Step", "Taken", "Wake"]

_SLICE: Final = 1.0  # seconds that a call sleeps at most before it looks again
_SHORTEST: Final = 0.005  # seconds; the timer of the server is no finer
_GRACE: Final = 1e9  # ns for which a call with a timeout goes on asking a server that does not answer


class Ask(NamedTuple):
    """A script to run.

    Attributes:
        script: which.
        keys: their names on the server.
        arguments: of the script.
        until: monotonic time in ns after which a server that does not answer is given up; the link may do so earlier.
    """

    script: Script
    keys: tuple[str, ...]
    arguments: tuple[Any, ...]
    until: float


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


class Session:
    """Numbers the requests of one call after the other, so that each is done once however often it is sent."""

    def __init__(self) -> None:
        self.name = os.urandom(6).hex()
        self._numbers = itertools.count(1)

    def next(self) -> int:
        """Return the number of a new request."""
        return next(self._numbers)


class Taken(NamedTuple):
    """What a take has got.

    Attributes:
        token: of the lease.
        entry: the item's bytes.
        asked: monotonic time in ns at which the request was sent for the last time.
    """

    token: str
    entry: bytes
    asked: float


class Calls:
    """The calls to one queue on a server, by one handle in one process.

    Args:
        prefix: what all keys of the queue begin with.
        uuid: of the queue, in hex.
        shown: how the queue is called in messages.
        holder: how this process is called in tokens.

    Attributes:
        is_closed: whether calls that wait are to end.
    """

    def __init__(self, prefix: str, uuid: str, shown: str, holder: str) -> None:
        self._prefix = prefix
        self.uuid = uuid
        self._shown = shown
        self._holder = holder
        self._free: list[Session] = []
        self.is_closed = False

    def of_holder(self, holder: str) -> Calls:
        """Return the calls of another process to the same queue."""
        return Calls(self._prefix, self.uuid, self._shown, holder)

    # ---- single requests --------------------------------------------------------------------------------------------

    def key(self, kind: str) -> str:
        """Return the name of a key on the server."""
        return f"{self._prefix}{kind}" if kind == META else f"{self._prefix}{self.uuid}:{kind}"

    def _ask(self, name: str, *arguments: Any, session: Session | None = None, until: float = clock.FOREVER) -> Ask:
        script = SCRIPTS[name]
        keys = [self.key(kind) for kind in script.keys]
        if session is not None:
            keys[script.keys.index(SESSION)] += f":{session.name}"
        return Ask(script, tuple(keys), (self.uuid, *arguments), until)

    def _answered(self, answer: list[Any]) -> list[Any]:
        kind = answer[0]
        if kind == b"gone":
            raise QueueNotFoundError(
                f"the queue {self._shown} is gone: it was removed, or its server has lost it; create it again, and "
                f"open it anew"
            )
        if kind == b"late":
            raise QueueUnavailableError("a request of this call was overtaken by a later one; please report it")
        return answer

    def simple(self, name: str, *arguments: Any) -> Call[list[Any]]:
        """Run a script that may be run again without harm."""
        return self._answered((yield self._ask(name, *arguments)))

    def once(self, name: str, *arguments: Any) -> Call[list[bool]]:
        """Run a script that is to have its effect once; return for each thing that it was asked for whether it was."""
        session = self._free.pop() if self._free else Session()
        answer = self._answered((yield self._ask(name, session.next(), *arguments, session=session)))
        self._free.append(session)  # not after an exception: a late request of that call must meet none of another
        return [bit == ord("1") for bit in answer[1]]

    # ---- calls that wait --------------------------------------------------------------------------------------------

    def put(self, entries: Sequence[bytes], until: float) -> Call[None]:
        """Put all of several entries, or none.

        Args:
            entries: to put.
            until: monotonic time in ns up to which it waits for room.

        Raises:
            Full, ShutDown, QueueClosedError
        """
        session = self._free.pop() if self._free else Session()
        number = session.next()
        while True:
            self._check_open()
            waits = clock.now() < until
            ask = self._ask("put", number, session.name, int(waits), *entries, session=session, until=_patience(until))
            (kind, *_) = self._answered((yield ask))
            if kind == b"full" and waits:
                yield self._wake(PUTTERS, until)
                continue
            self._free.append(session)
            if kind == b"full":
                raise Full
            if kind == b"shut":
                raise ShutDown
            return

    def take(self, most: int, until: float, held: int) -> Call[list[Taken]]:
        """Lease one item, and up to ``most`` if they are there.

        Args:
            most: items to take.
            until: monotonic time in ns up to which it waits for the first one.
            held: leases that this process has, for which the end of the queue does not wait.

        Raises:
            Empty, ShutDown, QueueClosedError
        """
        session = self._free.pop() if self._free else Session()
        number = session.next()
        while True:
            self._check_open()
            asked = clock.now()
            waits = asked < until
            ask = self._ask(
                "take", number, self._holder, int(waits), most, held, session=session, until=_patience(until)
            )
            kind, *found = self._answered((yield ask))
            if kind == b"ok" and found:
                self._free.append(session)
                pairs = zip(found[::2], found[1::2], strict=True)
                return [Taken(token.decode(), entry, asked) for token, entry in pairs]
            if kind == b"ok":  # the answer was lost for so long that all it had was given to others
                number = session.next()
                continue
            if kind == b"none" and waits:
                yield self._wake(GETTERS, until, found[0] / 1000)
                continue
            self._free.append(session)
            raise ShutDown if kind == b"shut" else Empty

    def bridge_begin(self, origin: str) -> Call[int]:
        """Begin to bring items of a queue; a bridge that has begun before is superseded from here on."""
        ask = self._ask("bridge_begin")
        answer = self._answered((yield ask._replace(keys=(ask.keys[0], f"{ask.keys[1]}:{origin}"))))
        epoch: int = answer[1]
        return epoch

    def bring(
        self, origin: str, epoch: int, forgotten: Sequence[int], items: Sequence[tuple[int, bytes]]
    ) -> Call[int | None]:
        """Put items of another queue, without those that a bridge has put before; it does not wait for room.

        Args:
            origin: how the other queue is called.
            epoch: what ``bridge_begin`` has returned.
            forgotten: positions of items that have ended in the other queue.
            items: position and entry of each.

        Returns:
            How many had been put before; None if the bridge is superseded.

        Raises:
            Full, ShutDown
        """
        self._check_open()
        session = self._free.pop() if self._free else Session()
        flat = [part for item in items for part in item]
        ask = self._ask("bring", session.next(), epoch, len(forgotten), *forgotten, *flat, session=session)
        keys = (*ask.keys[:-1], f"{ask.keys[-1]}:{origin}")
        kind, *rest = self._answered((yield ask._replace(keys=keys)))
        self._free.append(session)
        if kind == b"superseded":
            return None
        if kind != b"ok":
            raise Full if kind == b"full" else ShutDown
        return int(rest[0])

    def join(self, until: float) -> Call[bool]:
        """Wait until the queue has been idle, up to a monotonic time in ns; return whether it was."""
        before = None
        while True:
            self._check_open()
            waits = clock.now() < until
            _, left, idle = self._answered((yield self._ask("join", int(waits))))
            if left == 0 or (before is not None and idle != before):
                return True
            before = idle
            if not waits:
                return False
            yield self._wake(JOINERS, until)

    def _wake(self, kind: str, until: float, most: float = _SLICE) -> Wake:
        left = min((until - clock.now()) / 1e9, most, _SLICE)
        return Wake(None, max(left, 0)) if left < _SHORTEST else Wake(self.key(kind), left)

    def _check_open(self) -> None:
        if self.is_closed:
            closed(self._shown)


def _patience(until: float) -> float:
    """Return until when a call asks a server that does not answer; one that does not wait asks as long as others."""
    return max(until, clock.now()) + _GRACE


def closed(name: str) -> NoReturn:
    """Raise the error of a handle that is closed."""
    raise QueueClosedError(f"this handle of queue {name} is closed; open the queue again")
