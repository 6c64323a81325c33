"""The records of one handle: lent to operations, given back, and found again when an interrupt has lost one.

Python serves signals between two steps, so a handler that raises (Ctrl-C does) can end an operation anywhere, and can
end its recovery as well. What must survive that does not live in frames. Everything a handle owns stands in a list of
holds, put there before it is owned; each knows its record weakly. So a record that neither an operation nor the pool
has any more is gone from its hold, and ``sweep`` takes it up again, together with its claim.

Giving back is a plain store into a dictionary, at which Python serves no signal: a record is either the operation's or
the pool's, never lost on the way and never both.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Final, NoReturn

from ._claim import Claim
from ._layout import RECORDS
from ._participants import Participants, Record
from ._words import Words
from .errors import QueueClosedError, TooManyParticipantsError

_TRIES: Final = 10  # times that a recovery which is itself interrupted begins again


def _nothing() -> None:
    """Stand for a record that is lost."""


class _Hold:
    """What a handle knows of one of its records.

    Attributes:
        record: the record, weakly; gone when it is lost.
        claim: the record's; outlives it.
        index: its place in the table, or the one that is being tried.
        won: the outcome of the compare-and-swap that takes it; empty before that is decided.
        generation: the record's; 0 until the record is settled.
    """

    __slots__ = ("claim", "generation", "index", "record", "won")

    def __init__(self, record: Record) -> None:
        self.record: Callable[[], Record | None] = weakref.ref(record)
        self.claim = record.claim
        self.index = 0
        self.won: list[int] = []
        self.generation = 0


class Pool:
    """The records of one handle.

    Args:
        participants: the table they come from.
        new_words: makes an access to the words.
        resolve: tells of a dead record whether nothing is left of its operation, see ``Participants.takeable``.
        end: ends the operation of a record that an exception cut short; returns whether the record is clean again.

    Attributes:
        idle: records that no operation uses, by index; an operation that ended well stores its record here.
        closed: whether the handle is closed and lends no records any more.
        lock: of this process; one thread at a time takes records, sweeps, or leaves.
    """

    def __init__(
        self,
        participants: Participants,
        new_words: Callable[[], Words],
        resolve: Callable[[Words, int], bool],
        end: Callable[[Record], bool],
    ) -> None:
        self._participants = participants
        self._new_words = new_words
        self._resolve = resolve
        self._end = end
        self._holds: list[_Hold] = []
        self.lock = threading.RLock()
        self.idle: dict[int, Record] = {}
        self.closed = False

    def borrow(self) -> Record:
        """Lend a record, which announces nothing and whose claim is empty.

        Raises:
            TooManyParticipantsError: the table is full.
            QueueClosedError: the handle is closed.
        """
        try:
            _, record = self.idle.popitem()
        except KeyError:
            record = self._take()
        if self.closed:
            self.idle[record.index] = record
            self.refuse()
        return record

    def refuse(self) -> NoReturn:
        """Say that the handle is closed."""
        raise QueueClosedError("this queue handle is closed; open the queue again by its name to go on")

    def _take(self) -> Record:
        with self.lock:
            record = Record(self._new_words(), Claim())
            hold = _Hold(record)
            self._holds.append(hold)
            if self.closed:  # looked at after the line above, from which on close waits for this record
                self.refuse()
            self.sweep()
            if self.idle:
                return self.idle.popitem()[1]
            for hold.index, owner in self._participants.takeable(record.words, self._resolve):
                hold.won.clear()
                self._participants.take(record.words, hold.index, owner, hold.won)
                if hold.won[0]:
                    self._settle(hold, record)
                    return record
            raise TooManyParticipantsError(RECORDS)

    def _settle(self, hold: _Hold, record: Record) -> None:
        if not hold.generation:
            hold.generation = self._participants.settle(record.words, hold.index)
        record.place(hold.index, hold.generation)

    def recover(self, record: Record) -> None:
        """Take back the record of an operation that an exception has cut short.

        Raises:
            BaseException: what interrupted the recovery; that is complete nevertheless, or the next sweep completes it.
        """
        late: BaseException | None = None
        for _ in range(_TRIES):
            try:
                if self._end(record):
                    self.idle[record.index] = record
                else:
                    self._lose(record)
                break
            except BaseException as error:
                late = error
        if late is not None:
            raise late

    def _lose(self, record: Record) -> None:
        """Leave a record to the next sweep, although a traceback may keep the frames that have it."""
        for hold in self._holds:
            if hold.record() is record:
                hold.record = _nothing

    def sweep(self) -> None:
        """End the operations whose records are lost, and lend those records again."""
        if all(hold.record() for hold in self._holds):
            return
        with self.lock:
            for hold in list(self._holds):
                seen = hold.record
                if seen() is None:
                    self._take_up(hold, seen)

    def _take_up(self, hold: _Hold, seen: Callable[[], Record | None]) -> None:
        words = self._new_words()
        taken = bool(hold.won and hold.won[0])
        if not taken or (hold.generation and not self._participants.is_mine(words, hold.index, hold.generation)):
            self._holds.remove(hold)  # it was never taken, or it has been left
            return
        record = Record(words, hold.claim)
        reference = weakref.ref(record)
        if hold.record is not seen:
            return  # a signal handler has just used the queue, and swept
        hold.record = reference  # between this look and this store Python serves no signal
        self._settle(hold, record)
        if self._end(record):
            self.idle[record.index] = record

    def leave(self, role: Record | None = None) -> bool:
        """Give up all records that no operation uses.

        Args:
            role: one that stands for something else than an operation; it is left to the caller.

        Returns:
            Whether no operation has a record any more.
        """
        with self.lock:
            self.sweep()
            for hold in list(self._holds):
                record = hold.record()
                if record is not None and self.idle.pop(record.index, None) is record:
                    self.leave_with(record)
            return all(hold.record() is role for hold in self._holds)

    def leave_with(self, record: Record) -> None:
        """Give up a record that no operation uses, and that is not idle."""
        self._participants.leave(record)
        self._holds[:] = [hold for hold in self._holds if hold.record() is not record]
