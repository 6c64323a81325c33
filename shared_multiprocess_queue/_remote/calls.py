"""The calls of a remote queue, as generators: they yield what is to be asked of the server, and get the answers.

So one text serves threads and tasks: ``link.py`` runs it with the blocking client, ``task_link.py`` with that of
asyncio. Nothing here waits or knows a client. A link that gives a call up (no answer comes, the task is cancelled, the
user interrupts) closes the generator: what then has to be put right is an errand, which a thread of the handle sends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, NoReturn

from .._platform import clock
from ..errors import Empty, Full, QueueClosedError, QueueNotFoundError, QueueUnavailableError, ShutDown
from .lua import GETTERS, JOINERS, MEMORY, META, PUTTERS, SESSION
from .requests import Ask, Call, Head, Session, Wake
from .scripts import SCRIPTS

__all__ = ["Attempt", "Calls", "Claim", "Taken", "closed"]

_SLICE: Final = 1.0  # seconds that a call sleeps at most before it looks again
_SHORTEST: Final = 0.005  # seconds; the timer of the server is no finer
_GRACE: Final = 1e9  # ns for which a call with a timeout goes on asking a server that does not answer
_PART: Final = 3  # of a lease: an answer that took longer is followed by a renewal


class Taken(NamedTuple):
    """An item that a take has got.

    Attributes:
        token: of the lease.
        entry: the item's bytes.
        asked: monotonic time in ns from which on the lease certainly lasts.
    """

    token: str
    entry: bytes
    asked: int


class Claim:
    """What a take has got, until its call has handed it out or abandoned it.

    Attributes:
        taken: the items.
        session: of the take.
        number: likewise.
        confirmation: number of the request that is to confirm it, and may have been sent; 0: none was.
    """

    def __init__(self, taken: list[Taken], session: Session, number: int) -> None:
        self.taken = taken
        self.session = session
        self.number = number
        self.confirmation = 0


class Attempt(NamedTuple):
    """A request to end a lease, which may have been sent without an answer.

    Attributes:
        kind: of the end.
        ask: the request.
        session: its session.
        made: monotonic time in ns.
    """

    kind: str
    ask: Ask
    session: Session
    made: int

    @property
    def is_old(self) -> bool:
        """Whether the server may have forgotten it, so that it must not be sent again."""
        return clock.now() - self.made > MEMORY / 2 * 1e9


class Calls:
    """The calls to one queue on a server, by one handle in one process.

    Args:
        prefix: what all keys of the queue begin with.
        uuid: of the queue, in hex.
        shown: how the queue is called in messages.
        holder: how this process is called in tokens.

    Attributes:
        is_closed: whether calls that wait are to end.
        free: sessions of calls that are over. Two calls at a time never have the same: the later one would be refused.
        lease: ns for which a lease lasts.
        errand: takes a request that is to be sent although its call is over.
    """

    def __init__(self, prefix: str, uuid: str, shown: str, holder: str) -> None:
        self.prefix = prefix
        self.uuid = uuid
        self._shown = shown
        self._holder = holder
        self.free: list[Session] = []
        self._heads: dict[str, Head] = {}
        self.is_closed = False
        self.lease = clock.FOREVER
        self.errand: Callable[[Ask], None] = _no_errand

    def of_holder(self, holder: str) -> Calls:
        """Return the calls of another process to the same queue."""
        return Calls(self.prefix, self.uuid, self._shown, holder)

    # ---- single requests --------------------------------------------------------------------------------------------

    def key(self, kind: str) -> str:
        """Return the name of a key on the server."""
        return f"{self.prefix}{kind}" if kind == META else f"{self.prefix}{self.uuid}:{kind}"

    def ask(self, name: str, *arguments: Any, until: float = clock.FOREVER) -> Ask:
        """Return a request that may be sent again without harm."""
        head = self._heads.get(name)
        if head is None:
            script = SCRIPTS[name]
            head = self._heads[name] = Head.of(script, tuple(map(self.key, script.keys)), self.uuid)
        return Ask(head, arguments, until)

    def ask_once(self, session: Session, name: str, *arguments: Any, until: float = clock.FOREVER) -> Ask:
        """Return a request of a session; its number is the first of the arguments."""
        head = session.heads.get(name)
        if head is None:
            script = SCRIPTS[name]
            keys = [self.key(kind) for kind in script.keys]
            keys[script.keys.index(SESSION)] += f":{session.name}"
            head = session.heads[name] = Head.of(script, tuple(keys), self.uuid)
        return Ask(head, arguments, until)

    def answered(self, answer: list[Any]) -> list[Any]:
        """Return an answer, if it is one."""
        kind = answer[0]
        if kind == b"gone":
            raise QueueNotFoundError(
                f"the queue {self._shown} is gone: it was removed, or its server has lost it; create it again, and "
                f"open it anew"
            )
        if kind == b"late":
            raise QueueUnavailableError(
                f"the server of {self._shown} has had a later request of this call: what is sent to it is repeated or "
                f"delayed on its way"
            )
        return answer

    def simple(self, name: str, *arguments: Any) -> Call[list[Any]]:
        """Run a script that may be run again without harm."""
        return self.answered((yield self.ask(name, *arguments)))

    def once(self, name: str, *arguments: Any) -> Call[list[bool]]:
        """Run a script that is to have its effect once; return for each thing that it was asked for whether it was."""
        return self.attempted(self.attempt(name, *arguments))

    def attempt(
        self, kind: str, *arguments: Any, session: Session | None = None, until: float = clock.FOREVER
    ) -> Attempt:
        """Return a request that is to have its effect once, however often it is sent; ``attempted`` sends it."""
        session = session or self._session()
        return Attempt(
            kind, self.ask_once(session, kind, session.next(), *arguments, until=until), session, clock.now()
        )

    def attempted(self, attempt: Attempt) -> Call[list[bool]]:
        """Send such a request; after an exception it may be sent again.

        Raises:
            ShutDown
        """
        answer = self.answered((yield attempt.ask))
        self.free.append(attempt.session)
        if answer[0] == b"shut":
            raise ShutDown
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
        session = self._session()
        number = session.next()
        while True:
            self._check_open()
            now = clock.now()
            waits = now < until
            ask = self.ask_once(
                session, "put", number, session.name, int(waits), *entries, until=max(until, now) + _GRACE
            )
            (kind, *_) = self.answered((yield ask))
            if kind == b"full" and waits:
                yield self._wake(PUTTERS, until)
                continue
            self.free.append(session)  # not after an exception: a late request of this call must meet none of another
            if kind == b"full":
                raise Full
            if kind == b"shut":
                raise ShutDown
            return

    def take(self, most: int, until: float, held: int) -> Call[Claim]:
        """Lease one item, and up to ``most`` if they are there. The caller ends the claim.

        Args:
            most: items to take.
            until: monotonic time in ns up to which it waits for the first one.
            held: leases that this process has, for which the end of the queue does not wait.

        Raises:
            Empty, ShutDown, QueueClosedError
        """
        session = self._session()
        number = session.next()
        owes = False  # whether something may be leased to this call that it has not handed to its caller
        try:
            while True:
                self._check_open()
                asked = clock.now()
                waits = asked < until
                token = f"{session.name}.{number}:{self._holder}"
                owes = True
                ask = self.ask_once(
                    session, "take", number, token, int(waits), most, held, until=max(until, asked) + _GRACE
                )
                kind, *found = self.answered((yield ask))
                if kind == b"ok":
                    pairs = zip(found[::2], found[1::2], strict=True)
                    taken = [Taken(token.decode(), entry, asked) for token, entry in pairs]
                    if clock.now() - asked > self.lease / _PART:
                        taken = yield from self._renewed(taken)
                    if taken:
                        claim = Claim(taken, session, number)
                        owes = False
                        return claim
                    owes = False
                    number = session.next()  # the answer was lost for so long that others got what it had
                    continue
                owes = False
                if kind == b"none" and waits:
                    yield self._wake(GETTERS, until, found[0] / 1000)
                    continue
                self.free.append(session)
                raise ShutDown if kind == b"shut" else Empty
        finally:
            if owes:
                self.errand(self.ask_once(session, "abandon", session.next(), number, 0))

    def _renewed(self, taken: list[Taken]) -> Call[list[Taken]]:
        """Renew leases that may be over, as the answer took so long; return those that are not."""
        while True:
            asked = clock.now()
            answer = self.answered((yield self.ask("keep", *(one.token for one in taken))))
            taken = [one._replace(asked=asked) for one, bit in zip(taken, answer[1], strict=True) if bit == ord("1")]
            if not taken or clock.now() - asked <= self.lease / _PART:
                return taken

    def confirm(self, claim: Claim, until: float) -> Call[list[bool]]:
        """End the leases of a claim; return for each whether it had not been lost. The caller ends the claim.

        Args:
            claim: which.
            until: monotonic time in ns up to which the call would have waited for an item.
        """
        claim.confirmation = claim.session.next()
        until = max(until, clock.now()) + _GRACE
        tokens = [one.token for one in claim.taken]
        answer = yield self.ask_once(claim.session, "done", claim.confirmation, *tokens, until=until)
        return [bit == ord("1") for bit in self.answered(answer)[1]]

    def abandon(self, claim: Claim) -> None:
        """Give back what a claim has, also what its confirmation has ended."""
        session, number = claim.session, claim.session.next()
        pairs = [word for one in claim.taken for word in (one.token, one.entry)] if claim.confirmation else []
        self.errand(self.ask_once(session, "abandon", number, claim.number, claim.confirmation, *pairs))

    def join(self, until: float) -> Call[bool]:
        """Wait until the queue has been idle, up to a monotonic time in ns; return whether it was."""
        before = None
        while True:
            self._check_open()
            waits = clock.now() < until
            _, left, idle = self.answered((yield self.ask("join", int(waits))))
            if left == 0 or (before is not None and idle != before):
                return True
            before = idle
            if not waits:
                return False
            yield self._wake(JOINERS, until)

    def _session(self) -> Session:
        try:
            return self.free.pop()
        except IndexError:
            return Session()

    def _wake(self, kind: str, until: float, most: float = _SLICE) -> Wake:
        left = min((until - clock.now()) / 1e9, most, _SLICE)
        return Wake(None, max(left, 0)) if left < _SHORTEST else Wake(self.key(kind), left)

    def _check_open(self) -> None:
        if self.is_closed:
            closed(self._shown)


def closed(name: str) -> NoReturn:
    """Raise the error of a handle that is closed."""
    raise QueueClosedError(f"this handle of queue {name} is closed; open the queue again")


def _no_errand(ask: Ask) -> None:
    """Do nothing: before a queue is open, no call takes anything."""
