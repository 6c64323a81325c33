"""The records of one handle: lent to operations, given back, and found again when an interrupt has lost one.

Beside them lie the items that interrupted gets had taken, for the next gets of the handle.

Python serves signals between two steps, so a handler that raises (Ctrl-C does) can end an operation anywhere, and can
end its recovery as well. State that must survive this is kept outside stack frames. Before a record is taken, it is
registered, with a weak reference only. If an interrupt loses the record, the reference dies, and ``recover_lost``
recovers the record and its claim.

An operation gives its record back by a plain store into a dictionary, during which Python serves no signal. So a record
is either the operation's or idle, never both and never lost in between.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from itertools import repeat
from typing import Final, NoReturn

from .._platform import processes
from .._platform.atomic_words import Words
from .._ring.batch_lock import BatchLock
from .._ring.claim import Claim, Payload
from .._ring.layout import DEFINITIONS_OWNER_AT, ITEMS, RECORDS, SPACE
from .._ring.parking import Parking
from .._ring.participants import Participants, Record
from .._ring.ring import Ring
from ..errors import QueueClosedError, TooManyParticipantsError

_TRIES: Final = 10  # times that a recovery begins again after an interrupt


def _nothing() -> None:
    """Take the place of the weak reference to a record that is lost."""


class State(Enum):
    """The state of a handle."""

    OPEN = 1  # records are lent
    CLOSING = 2  # no record is lent; operations in progress are ending
    CLOSED = 3  # the memory is released


class _Registration:
    """The entry of one record in the list of its handle.

    Attributes:
        record: a weak reference to the record, which returns None if the record is lost.
        claim: of the record; outlives it.
        index: place of the record in the table, or the place that is being tried.
        won: the outcome of the compare-and-swap that takes the record; empty before that.
        generation: of the record; 0 until the record is settled.
        left: the outcome of the compare-and-swap that gives up the record; empty before that.
    """

    __slots__ = ("claim", "generation", "index", "left", "record", "won")

    def __init__(self, record: Record) -> None:
        self.record: Callable[[], Record | None] = weakref.ref(record)
        self.claim = record.claim
        self.index = 0
        self.won: list[int] = []
        self.generation = 0
        self.left: list[int] = []

    def is_ours(self) -> bool:
        """Whether the record was taken and was not given up."""
        return bool(self.won and self.won[0]) and not (self.left and self.left[0])


class Records:
    """The records of one handle, and the items that its interrupted gets had taken.

    Args:
        participants: the table of records.
        ring: the ring on which their operations work.
        batch_lock: the lock that their operations may hold.
        parking: wakes waiters.
        new_words: makes an access to the words.
        on_keep_back: called when items are kept back.
        renew: in a forked child, replaces these records of the parent by new ones, and returns them.

    Attributes:
        idle: records that no operation uses, by index; an operation that has ended normally stores its record here.
        kept_back: payloads that were taken and not delivered; the next get of this handle takes them first.
        state: of the handle.
        lock: of this process; one thread at a time takes records, recovers lost ones, or gives them up.
    """

    def __init__(
        self,
        participants: Participants,
        ring: Ring,
        batch_lock: BatchLock,
        parking: Parking,
        new_words: Callable[[], Words],
        on_keep_back: Callable[[], None],
        renew: Callable[[], Records],
    ) -> None:
        self._participants = participants
        self._ring = ring
        self._batch_lock = batch_lock
        self._parking = parking
        self._new_words = new_words
        self._on_keep_back = on_keep_back
        self._renew: Callable[[], Records] | None = renew  # of the membership, which holds these records, until the end
        self._forks = participants.forks
        self._registered: list[_Registration] = []
        self.idle: dict[int, Record] = {}
        self.kept_back: deque[Payload] = deque()
        self.state = State.OPEN
        self.lock = threading.RLock()

    def is_of_this_process(self) -> bool:
        """Whether these records are this process's; False in a forked child that has not used the queue yet."""
        return self._forks == processes.forks

    # ---- records ----------------------------------------------------------------------------------------------------

    def borrow(self) -> Record:
        """Lend a record, which announces nothing and whose claim is empty.

        Raises:
            TooManyParticipantsError: the table is full.
            QueueClosedError: the handle is closed.
        """
        if self._forks != processes.forks:
            return self._renewed().borrow()
        try:
            try:
                _, record = self.idle.popitem()
            except KeyError:
                record = None
            if record is None:  # outside of the handler above, so that an error has no KeyError as its context
                record = self._take()
            if self.state is not State.OPEN:
                self.idle[record.index] = record
                self.refuse()
            return record
        except (IndexError, ValueError):
            if self._forks == processes.forks:
                raise
        return self._renewed().borrow()  # a signal handler has forked in this call, and no operation has begun

    def _renewed(self) -> Records:
        if self._renew is None:
            self.refuse()
        return self._renew()

    def end_renewal(self) -> None:
        """Let go of the membership, which holds these records."""
        self._renew = None

    def refuse(self) -> NoReturn:
        """Raise the error of a closed handle.

        Raises:
            QueueClosedError: always.
        """
        raise QueueClosedError(
            "this handle of the queue is closed; open the queue again by its name, if it has one and is still there"
        )

    def borrow_last(self) -> Record:
        """Lend a record to a handle that is closing.

        Raises:
            TooManyParticipantsError: the table is full.
        """
        return self._take(is_last=True)

    def _take(self, *, is_last: bool = False) -> Record:
        record = Record(self._new_words(), Claim())
        entry = _Registration(record)
        try:
            with self.lock:
                self._registered.append(entry)
                # Checked after the record is registered, because from then on close waits for it.
                if self.state is not State.OPEN and not is_last:
                    self.refuse()
                self.recover_lost()
                if self.idle:
                    return self.idle.popitem()[1]
                self._search(entry, record)
        except BaseException:
            self.recover(record)  # until it is settled, an announcement of its last owner may stand under our name
            raise
        return record

    def _search(self, entry: _Registration, record: Record) -> None:
        verdicts: dict[int, bool] = {}
        for entry.index in range(RECORDS):
            owner = self._participants.takeable(record.words, entry.index, self._ring.resolve, verdicts)
            if owner is not None:
                entry.won.clear()
                self._participants.take(record.words, entry.index, owner, entry.won)
                if entry.won[0]:
                    self._settle(entry, record)
                    return
        raise TooManyParticipantsError(RECORDS)

    def _settle(self, entry: _Registration, record: Record) -> None:
        if entry.generation:
            entry.generation = self._participants.generation(record.words, entry.index)
        else:
            entry.generation = self._participants.settle(record.words, entry.index)
        record.place(entry.index, entry.generation)

    def recover(self, record: Record) -> None:
        """Take back the record of an operation that an exception has cut short.

        Frames that have the record may live on in a traceback. So it is marked lost first, and then recovered as a new
        object.

        If a signal handler has forked inside the operation, nothing is done in the child: record and operation are the
        parent's.

        Raises:
            BaseException: what interrupted the recovery. The recovery is complete nevertheless, or the next
                ``recover_lost`` completes it.
        """
        if not self.is_of_this_process():
            return
        pending_error: BaseException | None = None
        for _ in range(_TRIES):
            try:
                self.mark_lost(record)
                self.recover_lost()
                break
            except BaseException as error:
                pending_error = error
        if pending_error is not None:
            try:
                raise pending_error
            finally:
                pending_error = None  # otherwise this frame and the traceback would keep each other alive

    def mark_lost(self, *records: Record | None) -> None:
        """Leave records to the next ``recover_lost``, even if frames still have them."""
        for entry in list(self._registered):
            record = entry.record()
            if record is not None and record in records:
                entry.record = _nothing

    def recover_lost(self) -> None:
        """End the operations whose records are lost, so that those records can be lent again."""
        if None not in [entry.record() for entry in list(self._registered)]:
            return
        with self.lock:
            for entry in list(self._registered):
                seen = entry.record
                if seen() is None:
                    self._adopt_lost(entry, seen)

    def _adopt_lost(self, entry: _Registration, seen: Callable[[], Record | None]) -> None:
        if not entry.is_ours():
            self._forget(entry)
            return
        record = Record(self._new_words(), entry.claim)
        reference = weakref.ref(record)
        if entry.record is not seen:
            return  # a signal handler has just used the queue, and has recovered the record
        entry.record = reference  # Python serves no signal between the comparison and this store
        try:
            self._settle(entry, record)
            if self.end(record):
                entry.generation = record.generation
                self.idle[record.index] = record
            else:
                entry.record = _nothing
        except BaseException:
            entry.record = _nothing
            raise

    def end(self, record: Record) -> bool:
        """End an operation that an exception has cut short, and keep the items that it had taken for the next gets.

        Returns:
            Whether the record is clean; otherwise this has to be called again before the record is used.
        """
        words = record.words
        self._batch_lock.recover(record)  # before the record may get a new name
        if words.load(DEFINITIONS_OWNER_AT) == record.name:
            words.store(DEFINITIONS_OWNER_AT, 0)
        clean = self._ring.abandon(record)
        if record.claim.taken:
            self.keep_back(record.claim.taken)
        # For items kept back, and because the interrupt may have come between a change and its wake.
        self._parking.wake_all(words, ITEMS)
        self._parking.wake_all(words, SPACE)
        self._parking.wake_turn(words)
        return clean

    # ---- items kept back --------------------------------------------------------------------------------------------

    def keep_back(self, payloads: list[Payload], first: int = 0) -> None:
        """Keep payloads that were taken and not delivered; the next gets take them first.

        Args:
            payloads: a list; the payloads that are kept back are removed from it.
            first: index of the first payload to keep back.
        """
        # A single C call: CPython runs no signal handler inside it, so each payload is always in exactly one of the two
        # containers. It moves from the end of the list.
        self.kept_back.extendleft(map(list.pop, repeat(payloads, len(payloads) - first)))
        if self.kept_back:
            self._on_keep_back()

    def take_kept_back(self, limit: int, claim: Claim) -> bool:
        """Move up to ``limit`` payloads to the ``taken`` of a claim; return whether there were any."""
        with suppress(IndexError):  # there are fewer than limit
            claim.taken.extend(map(deque.popleft, repeat(self.kept_back, limit)))  # a single C call, as above
        return bool(claim.taken)

    # ---- the end ----------------------------------------------------------------------------------------------------

    def leave_idle(self) -> None:
        """Give up the records that no operation uses now."""
        with self.lock:
            while self.idle:
                popped: list[tuple[int, Record]] = []
                try:
                    popped.extend(map(dict.popitem, (self.idle,)))  # a single C call: popped and noted
                    self.leave_with(popped[0][1])
                except KeyError:  # another thread has borrowed the last one
                    break
                except BaseException:
                    self.mark_lost(popped[0][1] if popped else None)
                    raise

    def leave(self, *others: Record | None) -> bool:
        """Give up all records that no operation uses.

        Args:
            others: records that serve something else than an operation, such as a role; the caller gives them up.

        Returns:
            Whether no operation has a record.
        """
        with self.lock:
            self.recover_lost()
            self.leave_idle()
            rest = [entry.record() for entry in self._registered]  # a lost one may wait for another operation to end
            return not [record for record in rest if record is None or record not in others]

    def leave_with(self, *records: Record | None) -> None:
        """Give up records that no operation uses and that are not idle; if this is interrupted, they are lost."""
        for entry in list(self._registered):
            record = entry.record()
            if record is not None and record in records:
                self._participants.leave(record, entry.left)
                self._forget(entry)

    def _forget(self, entry: _Registration) -> None:
        with suppress(ValueError):  # a signal handler may have been faster
            self._registered.remove(entry)


def refuse_child() -> NoReturn:
    """Raise the error for a forked child in which an operation of the parent goes on.

    Raises:
        RuntimeError: always.
    """
    raise RuntimeError(
        "a signal handler has forked this process inside a call of a queue; the call goes on in the parent, call again "
        "in the child"
    ) from None
