"""Descriptors that select, poll, epoll and event loops can wait on: one for each handle and side.

    the handle found nothing                       waker, after its change
    drain the socket                  [B0]         read the hint; armed?                                  [W4]
    set my bit                        [B1]         epoch + 1, wake sleepers                               [W5]
    arm the hint                      [W2]         if too few slept: clear a bit                          [B3]
    look again; if there is something [W3]         read the record's generation                           [B4]
    the descriptor becomes readable                ring that bell

The bit comes before the hint: in the other order a waker could find the hint armed and no bit, and disarm it. If a
doorbell is closed, it takes its bit back [B5] and wakes another waiter, because a ring may have been sent to it that it
will not answer. A doorbell owns a record that announces nothing, as a role does. If its owner dies, the bit that stays
leads to one refused ring.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol

from .._platform import bells
from .._platform.atomic_words import Words
from .._platform.bells import AT_ONCE
from .._ring import ending
from .._ring.batch_lock import is_shut
from .._ring.layout import GATE_AT, HEAD, HELD_SLICE, ITEMS, NONCE_AT, TAIL
from .._ring.parking import SLICE, Parking
from .._ring.participants import Record
from ..errors import QueueClosedError
from .records import Records, State, refuse_child


class Member(Protocol):
    """The part of ``Membership`` that doorbells need."""

    parking: Parking
    records: Records

    def is_empty(self) -> bool:
        """Whether a get would find nothing."""

    def is_full(self) -> bool:
        """Whether a put would find no room."""

    def may_be_over(self, words: Words) -> bool:
        """Whether a get may find the end of a queue that was shut down."""

    def settle(self) -> Records:
        """Return the records of this process."""

    def recover(self, record: Record) -> None:
        """Take back the record of an operation that an exception has cut short."""


class Doorbell:
    """An object with ``fileno()`` that is readable while a call that does not wait is worth a try.

    It is readable from the start. It becomes unreadable only when a call of its handle finds nothing. It becomes
    readable again when an item or room may be there, and ten times a second. Do not read from the descriptor.

    Args:
        member: the handle's part in the queue.
        record: the doorbell's own, which announces nothing.
        side: ITEMS or SPACE.

    Raises:
        io.UnsupportedOperation: this system has no such descriptors.
        OSError: too many descriptors are open.
    """

    def __init__(self, member: Member, record: Record, side: int) -> None:
        self._member = member
        self.record = record
        self._side = side
        self._lock = threading.RLock()
        self._is_over = False
        self._failed_at: tuple[int, int] | None = None  # head and tail when it was last shown at a look
        nonce = record.words.load(NONCE_AT)
        self._bell = bells.TimedBell(SLICE)
        _all.add(self)  # before it has descriptors, which a forked child must close
        try:
            self._bell.open(nonce, record.name)
            self.is_deaf = not bells.ring(nonce, record.name)
            self._bell.show(AT_ONCE)
        except BaseException:
            self._bell.close()  # at once, because the traceback keeps this object alive
            raise

    def fileno(self) -> int:
        """Return the descriptor to wait on.

        Raises:
            QueueClosedError: the handle is closed, or the doorbell is one of the parent in a forked child.
        """
        descriptor = self._bell.fileno()
        if descriptor < 0:
            raise QueueClosedError(
                "this doorbell cannot be used: its handle is closed, or it belongs to the parent process, or this "
                "program has closed its descriptor; ask the queue for its readable or writable again"
            )
        return descriptor

    def is_there(self) -> bool:
        """Whether the descriptors are open: neither the handle nor a fork nor the program has closed them."""
        return self._bell.is_whole()

    def quieten(self) -> None:
        """Begin to wait, because the handle has found nothing."""
        with self._lock:
            try:
                self._wait()
            except (IndexError, ValueError):
                if not self._is_over:  # a signal handler may have closed the handle, or forked
                    raise

    def _wait(self) -> None:
        if self._bell.fileno() < 0:
            return
        words, parking = self.record.words, self._member.parking
        self._bell.drain()  # [B0]
        parking.want_bell(words, self._side, self.record.index)  # [B1]
        parking.arm(words, self._side)  # [W2]
        if self._may_find(words):  # [W3]
            seen = words.load(HEAD), words.load(TAIL)
            # If nothing has moved since the last look, a call has just failed at what is there: no lease is free, or
            # there is room, but not for a batch. What changes that rings.
            self._bell.show(HELD_SLICE if seen == self._failed_at else AT_ONCE)
            self._failed_at = seen

    def _may_find(self, words: Words) -> bool:
        """Whether a call that does not wait may find an item, or room, whichever this side waits for; or the end."""
        is_closed = ending.is_closed(words)
        if self._side == ITEMS:
            return not self._member.is_empty() or (is_closed and self._member.may_be_over(words))
        if is_closed:
            return True
        gate = words.load(GATE_AT)
        return not (gate and is_shut(gate, self._member.parking.system.now())) and not self._member.is_full()

    def close(self) -> None:
        """Stop waiting, and give the record back. May be called again."""
        with self._lock:
            if not self._is_over:
                self._end()
        self._member.records.recover(self.record)  # the user may keep the doorbell, and so its record, alive

    def _end(self) -> None:
        self._bell.close()
        words, parking = self.record.words, self._member.parking
        parking.take_bell(words, self._side, self.record.index)  # [B5]
        # The wake is needed even if the bit is still set: it may be newer than the last ring, and that ring may
        # have been for the bit of a dead predecessor. Every ring that was not refused was sent before this.
        parking.wake(words, self._side, 1)
        self._is_over = True

    def forget(self) -> None:
        """In a forked child, close its copies of the descriptors; the bit is the parent's."""
        self._is_over = True
        self._bell.close()
        self._lock = threading.RLock()  # another thread of the parent may hold the old one


class Doorbells:
    """The doorbells of one handle, made when they are first asked for.

    A forked child has closed its copies of the parent's doorbells, so it makes new ones.
    """

    def __init__(self) -> None:
        self._by_side: dict[int, Doorbell] = {}

    def of(self, member: Member, side: int) -> Doorbell:
        """Return the doorbell of a side, ITEMS or SPACE; ``Doorbell`` says what is raised if it cannot be made.

        Args:
            member: the handle's part in the queue.
            side: ITEMS or SPACE.
        """
        records = member.settle()
        try:
            found = self._make(member, records, side)
        except Exception:
            if records.is_of_this_process():
                raise
        else:
            if records.is_of_this_process():
                return found
        return self.of(member, side)  # a signal handler has forked in this call, and that doorbell was the parent's

    def _make(self, member: Member, records: Records, side: int) -> Doorbell:
        with records.lock:
            found = self._by_side.get(side)
            if found is not None and not found.is_there():
                self._close(side)
                found = None
            if found is None:
                record = records.borrow()
                doorbell: Doorbell | None = None
                try:
                    doorbell = Doorbell(member, record, side)
                    if not records.is_of_this_process():  # a signal handler has forked in there: it is the parent's
                        refuse_child()
                    found = self._by_side[side] = doorbell
                    if records.state is not State.OPEN:  # another thread may have closed the doorbells before
                        records.refuse()
                except BaseException:
                    if doorbell is not None and not records.is_of_this_process():
                        doorbell.forget()
                    elif doorbell is not None:
                        doorbell.close()
                    self._by_side.pop(side, None)
                    member.recover(record)
                    raise
            return found

    def are_deaf(self) -> list[bool]:
        """Return for each bell that is there whether it cannot be rung."""
        return [bell.is_deaf for bell in list(self._by_side.values()) if bell.is_there()]

    def quieten(self, side: int) -> None:
        """Let the doorbell of a side, if there is one, wait for the item or room that a call has not found."""
        doorbell = self._by_side.get(side)
        if doorbell is not None:
            doorbell.quieten()

    def close(self) -> None:
        """Close all doorbells."""
        for side in list(self._by_side):
            self._close(side)

    def _close(self, side: int) -> None:
        """Close the doorbell of a side, if there is one; may be called again, also after an interrupt."""
        doorbell = self._by_side.get(side)
        if doorbell is not None:
            doorbell.close()
            if self._by_side.get(side) is doorbell:
                del self._by_side[side]


_all: weakref.WeakSet[Doorbell] = weakref.WeakSet()


def _forget_all() -> None:
    for doorbell in list(_all):
        doorbell.forget()


# All other state of the parent is given up at the first use in the child. By then the child may have closed these
# descriptors, and their numbers may mean other files; so they are closed at the fork. The segment is not touched.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
