"""What select, poll, epoll and event loops can wait on: one descriptor for each handle and side.

    the handle found nothing                       waker, after its change
    drain the socket                  [B0]         read the hint; armed?                                  [W4]
    set my bit                        [B1]         epoch + 1, wake sleepers                               [W5]
    arm the hint                      [W2]         fewer than there is to take: take a bit away           [B3]
    look again; if there is something [W3]         read the record's generation                           [B4]
    the descriptor becomes readable                ring that bell

The bit comes before the hint: in the other order a waker finds the hint armed and no bit, and disarms it. A doorbell
that goes takes its bit back [B5] and wakes another waiter, because a ring may have been sent that nobody will answer.
It owns a record as a role does, which announces nothing. Its bit in a dead owner's record costs one refused ring.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol

from .._platform import bells
from .._ring.layout import NONCE_AT
from .._ring.parking import SLICE, Parking
from .._ring.participants import Record
from ..errors import QueueClosedError


class Waiter(Protocol):
    """What a doorbell needs of an engine."""

    parking: Parking

    def may_find(self, side: int) -> bool:
        """Whether a call that does not wait may find what the side waits for."""


class Doorbell:
    """An object with ``fileno()`` that is readable while a call that does not wait is worth a try.

    It is readable from the start. It becomes unreadable only when a call of its handle finds nothing, and readable
    again when something may be there, and ten times a second. Nothing is read from it.

    Args:
        engine: of the handle.
        record: the doorbell's own, which announces nothing.
        side: ITEMS or SPACE.

    Raises:
        io.UnsupportedOperation: this system has no such descriptors.
        OSError: too many descriptors are open.
    """

    def __init__(self, engine: Waiter, record: Record, side: int) -> None:
        self._engine = engine
        self.record = record
        self._side = side
        self._lock = threading.RLock()
        self._is_over = False
        nonce = record.words.load(NONCE_AT)
        self._bell = bells.Bell(SLICE)
        _all.add(self)  # before there is a descriptor that a forked child could have a copy of
        try:
            self._bell.open(nonce, record.name)
            self.is_deaf = not bells.ring(nonce, record.name)
            self._bell.show()
        except BaseException:
            self._bell.close()  # the traceback keeps this object
            raise

    def fileno(self) -> int:
        """Return the descriptor to wait on.

        Raises:
            QueueClosedError: the handle is closed, or was this doorbell's only before a fork.
        """
        descriptor = self._bell.fileno()
        if descriptor < 0:
            raise QueueClosedError(
                "this doorbell went with its handle, belongs to the parent process, or this program has closed its "
                "descriptor; ask the queue for its readable or writable again"
            )
        return descriptor

    def is_there(self) -> bool:
        """Whether it has its descriptors: the handle is open, and neither a fork nor the program has closed them."""
        return self._bell.is_whole()

    def quieten(self) -> None:
        """Wait: the handle has found nothing."""
        with self._lock:
            if self._bell.fileno() < 0:
                return
            words, parking = self.record.words, self._engine.parking
            self._bell.drain()  # [B0]
            parking.want_bell(words, self._side, self.record.index)  # [B1]
            parking.arm(words, self._side)  # [W2]
            if self._engine.may_find(self._side):  # [W3]
                self._bell.show()

    def close(self) -> None:
        """Wait no more; the record is the engine's to take back. May be called again."""
        with self._lock:
            if self._is_over:
                return
            self._bell.close()
            words, parking = self.record.words, self._engine.parking
            parking.take_bell(words, self._side, self.record.index)  # [B5]
            # A bit that is there says nothing: it may be newer than the last ring, and the ring may have been for the
            # bit of a dead predecessor. All that was sent and not refused was sent before this.
            parking.wake(words, self._side, 1)
            self._is_over = True

    def forget(self) -> None:
        """Close a forked child's copies of the descriptors; the bit is the parent's."""
        self._is_over = True
        self._bell.close()
        self._lock = threading.RLock()  # another thread of the parent may have the old one


_all: weakref.WeakSet[Doorbell] = weakref.WeakSet()


def _forget_all() -> None:
    for doorbell in list(_all):
        doorbell.forget()


# At once, unlike all else that a child has of its parent's: by its first use it may have closed these descriptors and
# have others under their numbers. Nothing in the segment is touched.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
