"""Who is the one producer and the one consumer of mode "spsc"."""

from __future__ import annotations

from typing import Final

from .._platform import clock, processes
from .._platform.atomic_words import Words
from .._ring.layout import CONSUMER_AT, PRODUCER_AT
from .._ring.participants import Participants, Record
from ..errors import RoleTakenError
from .records import Records, refuse_child

_PATIENCE: Final = 100_000_000  # ns; a consumer that closes is the producer for as long as it puts items back
_NAP: Final = 0.0002  # seconds


class Roles:
    """The roles of one handle, which its threads share.

    Args:
        participants: tell who is dead.
        records: lend the record whose name stands for this handle.

    Attributes:
        record: the one whose name has the roles; it announces nothing. None until a role is asked for.
    """

    def __init__(self, participants: Participants, records: Records) -> None:
        self._participants = participants
        self._records = records
        self.record: Record | None = None

    def take(self, words: Words, at: int) -> int:
        """Be the one producer (consumer), or refuse; tail (head) is read after this, never before.

        Args:
            words: the caller's access.
            at: offset of the role, PRODUCER_AT or CONSUMER_AT.

        Returns:
            The name of the participant that has the role.

        Raises:
            RoleTakenError: another live handle has it.
        """
        name = self._mine().name
        if words.load(at) == name:
            return name
        until = clock.now() + _PATIENCE
        while (holder := words.load(at)) != name:
            if holder == 0 or self._participants.is_dead(words, holder):
                words.cas(at, holder, name)
            elif clock.now() > until:
                role = "producer" if at == PRODUCER_AT else "consumer"
                raise RoleTakenError(role, self._participants.pid_of(words, holder))
            else:
                clock.sleep(_NAP)
        return name

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

    def give_up(self) -> None:
        """Be neither any more; the record is the caller's to leave with."""
        if self.record is not None:
            for at in (PRODUCER_AT, CONSUMER_AT):
                self.record.words.cas(at, self.record.name, 0)
