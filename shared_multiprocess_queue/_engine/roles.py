"""The one producer and the one consumer of mode "spsc"."""

from __future__ import annotations

from typing import NoReturn, Protocol

from .._platform import processes
from .._platform.atomic_words import Words
from .._platform.system import System
from .._ring.layout import CONSUMER_AT, NAP, PATIENCE, PRODUCER_AT
from .._ring.participants import Participants, Record
from ..errors import RoleTakenError
from .records import Records, refuse_child


class NativeRoles(Protocol):
    """The roles that an engine in C takes, under a name of its own."""

    def take_role(self, puts: bool, /) -> int | None:
        """Try to be the one producer (consumer); return the name of another participant that is, or None."""

    def leave_roles(self) -> None:
        """Be producer and consumer no longer; no operation is in progress."""


class Roles:
    """The roles of one handle, which its threads share.

    Args:
        participants: tell which owner is dead.
        records: lend the record whose name stands for this handle.
        system: tells the time.

    Attributes:
        record: the one whose name has the roles; it announces nothing. None until a role is asked for.
        native: has the roles instead, if puts and gets are in C.
    """

    def __init__(self, participants: Participants, records: Records, system: System) -> None:
        self._participants = participants
        self._records = records
        self._system = system
        self.record: Record | None = None
        self.native: NativeRoles | None = None

    def take(self, words: Words, role: int) -> None:
        """Be the one producer (consumer), or refuse; tail (head) is read after this, never before.

        Args:
            words: the caller's access.
            role: offset of the role, PRODUCER_AT or CONSUMER_AT.

        Raises:
            RoleTakenError: another live handle has it.
        """
        until = 0
        while (holder := self.attempt(words, role)) is not None:
            # A consumer that closes is the producer for as long as it puts items back.
            until = until or self._system.now() + PATIENCE
            if self._system.now() > until:
                self.refuse(words, role, holder)
            self._system.sleep(NAP / 1e9)

    def refuse(self, words: Words, role: int, holder: int) -> NoReturn:
        """Say that another has the role.

        Raises:
            RoleTakenError: always.
        """
        name = "producer" if role == PRODUCER_AT else "consumer"
        raise RoleTakenError(name, self._participants.pid_of(words, holder))

    def attempt(self, words: Words, role: int) -> int | None:
        """Try to be the one producer (consumer); return the name of another participant that is, or None."""
        native = self.native  # another thread may close meanwhile
        if native is not None:
            return native.take_role(role == PRODUCER_AT)
        mine = self._mine().name
        holder = self._participants.take_role(words, role, mine)
        return None if holder == mine else holder

    def _mine(self) -> Record:
        mine = self.record
        if mine is None:
            taken = self._records.borrow()
            mine = self.record
            if taken.forks != processes.forks:  # forked in here; the handler may have used the queue
                refuse_child()
            if mine is None:
                mine = self.record = taken
            else:  # another thread of this handle was faster
                self._records.idle[taken.index] = taken
        return mine

    def leave(self) -> None:
        """Be neither any more, once no operation is in progress; the record is the caller's to leave with."""
        if self.native is not None:
            self.native.leave_roles()
        elif self.record is not None:
            for role in (PRODUCER_AT, CONSUMER_AT):
                self._participants.leave_role(self.record.words, role, self.record.name)
