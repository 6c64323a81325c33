"""A handle's part in its queue: records, liveness, what a fork makes of them, and the end.

Both engines have one, and neither has a second: what the native engine keeps in C it joins here as ``native``.

Python serves signals after a call returns, so a handler that raises (Ctrl-C does) can cut an operation between any two
steps. Nothing touches the shared words but operations that have a record. So an operation that was cut is found by its
record, and ``close`` knows when it may unmap the words.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

from .._platform import processes
from .._platform.atomic_words import WordMemory, Words, open_words
from .._platform.lazy_import import late
from .._platform.mutex import LockFlag
from .._platform.shared_memory import Segment
from .._platform.system import SYSTEM, System
from .._ring import ending
from .._ring.batch_lock import BatchLock
from .._ring.claim import Claim, Payload
from .._ring.growth import Growth
from .._ring.layout import ITEMS, NAP, PATIENCE, PRODUCER_AT, SPACE, Geometry
from .._ring.parking import Parking
from .._ring.participants import Participants, Record
from .._ring.ring import DONE, HELD, Ring
from .._ring.snapshot import Look
from ..errors import QueueClosedError, RoleTakenError, SharedMemoryFullError, TooManyParticipantsError
from .doorbell import Doorbells
from .places import OpenBlocks
from .records import Records, State, refuse_child
from .roles import Roles

if TYPE_CHECKING:
    from .._ring.leased_look import LeasedLook
    from .._ring.leased_ring import LeasedRing
    from .leasing import Leasing
    from .native_records import NativeRecords
    from .tasks import Tasks

_QUIET: Final = 2_000_000_000  # ns that close waits for the operations of other threads


class _Leased(NamedTuple):
    """What a queue with leases has in the place of a ring and a look, and for itself."""

    ring: type[LeasedRing]
    look: type[LeasedLook]
    leasing: type[Leasing]


@late
def _leased() -> _Leased:
    from .._ring.leased_look import LeasedLook  # noqa: PLC0415 (few queues have leases)
    from .._ring.leased_ring import LeasedRing  # noqa: PLC0415
    from .leasing import Leasing  # noqa: PLC0415

    return _Leased(LeasedRing, LeasedLook, Leasing)


class Membership:
    """One handle's part in one queue.

    Args:
        segment: the mapped segment of a complete queue.
        geometry: its sizes, checked.
        flag: the int32 of the batch lock.
        memory: access to the words; by default those of the segment.
        on_keep_back: called when payloads are kept back that were taken and could not be delivered.
        system: tells the time, which processes live, and how to sleep.
        name: of the queue, for error messages.

    Attributes:
        native: the records in C, if the engine has any.
        at_once: bytes of an item for which there is always memory; item_size, if all memory was reserved at creation.
        blocks: those that have a claim of this handle.
        leasing: what this handle has leased; None if the queue has no leases.
        tasks: the awaited calls; None before the first one.
    """

    def __init__(
        self,
        segment: Segment,
        geometry: Geometry,
        flag: LockFlag,
        memory: WordMemory | None = None,
        on_keep_back: Callable[[], None] = lambda: None,
        system: System = SYSTEM,
        name: str = "",
    ) -> None:
        self._name = name
        self.segment = segment
        self.geometry = geometry
        self.flag = flag
        self.memory = memory if memory is not None else open_words(segment.buffer)
        self.on_keep_back = on_keep_back
        self.system = system
        self.parking = Parking(segment.buffer, system)
        self.growth = Growth(segment, geometry)
        self.at_once = self.growth.at_once(self.memory.words())
        self.native: NativeRecords | None = None
        self._last: Record | None = None  # with which a handle that closes puts items back
        self._forks = processes.forks
        self._closing = threading.RLock()
        self._is_closing = False
        self.doorbells = Doorbells()
        self.tasks: Tasks | None = None
        self.blocks = OpenBlocks()
        self._begin()
        _all.add(self)

    def _begin(self) -> None:
        """Start with nothing that belongs to a process; a forked child does this again, when it uses the queue."""
        self.participants = Participants(self.memory.words(), self.system)
        kind = _leased().ring if self.geometry.leases else Ring
        self.ring = kind(self.segment.buffer, self.geometry, self.participants, self.parking)
        if self.at_once < self.geometry.item_size:
            self.ring.growth = self.growth
            if self.ring.leases is not None:
                self.ring.leases.growth = self.growth
        self.leasing = None if self.ring.leases is None else _leased().leasing(self, self.ring.leases)
        self.batch_lock = BatchLock(self.flag, self.participants, self.parking)
        self.records = Records(  # last but for what needs it: from here on other threads use it
            self.participants,
            self.ring,
            self.batch_lock,
            self.parking,
            self.memory.words,
            self.on_keep_back,
            self.settle,
        )
        self.roles = Roles(self.participants, self.records, self.system)
        self.roles.native = self.native

    def add_native(self, native: NativeRecords) -> None:
        """Have records in C beside those in Python, and the roles there instead."""
        self.native = self.roles.native = native

    @property
    def state(self) -> State:
        """Whether the handle is open, closing, or closed."""
        return self.records.state

    def is_of_this_process(self) -> bool:
        """Whether this is not the parent's, in a forked child that has not used the queue yet."""
        return self.records.is_of_this_process()

    # ---- fork -------------------------------------------------------------------------------------------------------

    def settle(self) -> Records:
        """Forget, in a forked child that uses the queue for the first time, what belongs to the parent.

        In the child, frames of the parent's other threads never run again; they must not keep the mapping alive. If a
        signal handler forked during an operation, the child must not continue it.

        Returns:
            The records of this process.

        Raises:
            QueueClosedError: another thread of the parent was closing the handle.
        """
        with processes.settling:
            if not self.is_of_this_process():
                if self.state is not State.OPEN:
                    self.records.refuse()
                self.cut_off()
                self.memory = open_words(self.segment.buffer)
                self._last = None
                self._begin()
            return self.records

    def cut_off(self) -> None:
        """Make each further step of an operation that has a record raise, in a forked child: it is the parent's."""
        with suppress(BufferError):
            self.ring.release()
        self.memory.release()

    def _settle_end(self) -> None:
        """Make ready for closing in a forked child, where another thread of the parent may have been closing."""
        with processes.settling:
            if self._forks == processes.forks:
                return
            if self.state is not State.OPEN:  # the child cannot know how far that thread got
                self.records.state = State.CLOSED
                self._shut_native()  # that thread may not have come to it
            self._closing = threading.RLock()
            self._is_closing = False
            self._forks = processes.forks

    def check_open(self) -> None:
        """Check that the handle is open; if it is closing, go on with that.

        Raises:
            QueueClosedError: it is not.
        """
        if self.state is not State.OPEN:
            self.close(wait=False)  # what a close() in a signal handler of this thread could not complete
            self.refuse()

    def refuse(self) -> NoReturn:
        """Raise the error of a closed handle.

        Raises:
            QueueClosedError: always.
        """
        raise QueueClosedError(
            f"this handle of queue {self._name!r} is closed; open the queue again by its name, if it has "
            f"one and is still there"
        )

    # ---- operations -------------------------------------------------------------------------------------------------

    @contextmanager
    def operation(self) -> Iterator[Record]:
        """Lend a record for a while."""
        record = self.records.borrow()
        try:
            yield record
            if record.forks != processes.forks:
                refuse_child()
        except BaseException:
            self.recover(record)
            raise
        self.records.idle[record.index] = record
        if self.native is not None:  # what is frequent has records in C
            self.records.leave_idle()

    def recover(self, record: Record) -> None:
        """Take back the record of an operation that an exception has cut short.

        Raises:
            RuntimeError: this is a child, which a signal handler has forked inside the operation, and was cut off.
        """
        if record.forks != processes.forks:
            if type(sys.exception()) in (IndexError, ValueError):
                refuse_child()
            return
        self.records.recover(record)
        self.ended()

    def ended(self) -> None:
        """Leave, if ``close`` has waited for just this operation, and in vain as it came from its own thread."""
        if self.state is State.CLOSING:
            self._leave()

    def wake_all(self, words: Words) -> None:
        """Let all waiters look again."""
        self.parking.wake_all(words, ITEMS)
        self.parking.wake_all(words, SPACE)
        self.parking.wake_turn(words)

    # ---- looking ----------------------------------------------------------------------------------------------------

    def look(self) -> Look:
        """Return a look at the queue, which needs no record; it ends well although the handle is closed meanwhile."""
        kind = _leased().look if self.geometry.leases else Look
        try:
            return kind(self.memory.reader(), self.geometry, self.system)
        except ValueError:
            if self.is_of_this_process():  # another thread has closed the handle just now
                self.records.refuse()
        self.settle()  # this is a child that was forked inside a call, and cut off
        return self.look()

    def is_empty(self) -> bool:
        """Whether a get would find nothing."""
        if (native := self.native) is not None:  # another thread may close meanwhile
            return native.is_empty()
        look = self.look()
        return ending.is_stopped(look, self.geometry.mode) or (not self.kept_back() and look.is_empty())

    def is_full(self) -> bool:
        """Whether a put would find no room."""
        if (native := self.native) is not None:  # as above
            return native.is_full()
        return self.look().is_full()

    def want_bell(self, words: Words, side: int, index: int) -> None:
        """Note that the bell of a record waits on a side, and arm the hint; the caller looks again after this [W3]."""
        if (native := self.native) is not None:  # as above
            native.want_bell(side == SPACE, index)
        else:
            self.parking.want_bell(words, side, index)  # [B1]
            self.parking.arm(words, side)  # [W2]

    def take_bell(self, words: Words, side: int, index: int) -> bool:
        """Take the bit of the bell of a record on a side back; return whether it was there."""
        if (native := self.native) is not None:  # as above
            return native.take_bell(side == SPACE, index)
        return self.parking.take_bell(words, side, index)  # [B5]

    def waits_rightly(self, words: Words, side: int, index: int) -> bool:
        """Whether a bell still waits on a side, and a call that does not wait would find nothing there."""
        if (native := self.native) is not None:  # as above
            return native.waits_rightly(side == SPACE, index)
        if ending.is_closed(words) or not self.parking.wants_bell(words, side, index):
            return False
        return self.is_empty() if side == ITEMS else self.is_full()

    def may_be_over(self, words: Words) -> bool:
        """Whether a get that does not wait may find the end of a queue that was shut down."""
        return self.ring.may_be_over(words)

    def bells(self) -> str:
        """Return whether bells of this handle can be rung, in the words of the metrics: "none", "ring" or "deaf"."""
        deaf = self.doorbells.are_deaf()
        if self.tasks is not None:
            deaf += self.tasks.are_deaf()
        return "none" if not deaf else "deaf" if any(deaf) else "ring"

    def is_batch_lock_held(self) -> bool:
        """Whether the int32 of the batch lock is taken; False if the handle is closed."""
        with suppress(ValueError):
            return any(self.flag.buffer[:4])
        return False

    # ---- items kept back --------------------------------------------------------------------------------------------

    def keep_back(self, payloads: list[Payload], first: int = 0) -> None:
        """Make payloads that ``get`` was about to deliver the next that it takes; see ``Records.keep_back``."""
        self.records.keep_back(payloads, first)

    def kept_back(self) -> int:
        """Return how many payloads are kept back."""
        return len(self.records.kept_back) if self.is_of_this_process() else 0

    def take_kept_back(self, words: Words, limit: int, claim: Claim) -> bool:
        """Move kept-back payloads to a claim, unless all was dropped; see ``Records.take_kept_back``."""
        return not ending.is_stopped(words, self.geometry.mode) and self.records.take_kept_back(limit, claim)

    def _put_back(self, record: Record) -> None:
        """Put items back that were taken and could not be delivered, as far as there is room for them.

        After an immediate shutdown they are dropped, as all other items are.
        """
        if ending.is_stopped(record.words, self.geometry.mode):
            self.records.kept_back.clear()
        moving = record.claim
        with suppress(QueueClosedError, RoleTakenError):  # in mode "spsc" only while no other handle is the producer
            while self.records.take_kept_back(1, moving) and self._put_one_back(record, moving.taken[0]):
                moving.taken.clear()
        self.records.keep_back(moving.taken)

    def _put_one_back(self, record: Record, payload: Payload) -> bool:
        if self.geometry.mode == "spsc":
            self.roles.take(record.words, PRODUCER_AT)
        until = self.system.now() + PATIENCE
        try:
            while (found := self.ring.try_put(record, (payload,), True)) == HELD and self.system.now() < until:
                self.system.sleep(NAP / 1e9)
        except SharedMemoryFullError:
            self.records.end(record)
            return False
        return found == DONE

    # ---- the end ----------------------------------------------------------------------------------------------------

    def retire(self) -> None:
        """Give up what can be given up while other threads may be in an operation: items kept back, idle records."""
        if self.state is State.CLOSED or not self.is_of_this_process():
            return
        self._close_bells()
        if self.records.kept_back and self.leasing is None:
            if self.native is not None:
                self.native.leave()  # the table may be full
            with suppress(QueueClosedError, TooManyParticipantsError), self.operation() as record:
                self._put_back(record)
        self._leave()

    def close(self, wait: bool) -> bool:
        """End the operations of this handle's threads, leave, and unmap the segment.

        Args:
            wait: for up to two seconds, for threads that are in an operation.

        Returns:
            Whether the handle is closed; if not, or after an interrupt, this may be called again, also to complete what
            a call in a signal handler could not.
        """
        self._settle_end()
        held: list[bool] = []
        try:
            # A signal handler may come here while its thread holds a lock for which the thread that is closing waits.
            longest = _QUIET / 1e9 if wait else 0
            held.extend(map(self._closing.acquire, (True,), (longest,)))  # one call: acquired, and noted as such
            if not held[0]:
                return False
            if self._is_closing:  # this is a signal handler that has interrupted a close, which goes on after it
                return False
            self._is_closing = True
            try:
                return self.state is State.CLOSED or self._end(wait)
            finally:
                self._is_closing = False
        finally:
            if held and held[0]:
                self._closing.release()

    def _end(self, wait: bool) -> bool:
        forks = processes.forks
        try:
            if not self._leave_for_good(wait):
                return False
        except (IndexError, ValueError, RuntimeError):
            if forks == processes.forks:
                raise
            return self._end(wait)  # a signal handler has forked in here; what was given up is the parent's
        self.ring.release()
        self.parking.release()
        self.memory.release()
        if self.native is not None:
            self.native.release()
        self.flag.close()
        self.segment.close()
        self.records.state = State.CLOSED
        self.records.end_renewal()
        self.native = self.roles.native = None  # which refers to this
        return True

    def _leave_for_good(self, wait: bool) -> bool:
        with processes.settling:
            is_mine = self.is_of_this_process()
            if not is_mine:
                self.records.state = State.CLOSING  # so that no other thread of the child settles from here on
        if not is_mine:
            self._shut_native()
            return True
        self._close_bells()
        if self.state is State.OPEN:
            with suppress(TooManyParticipantsError):
                self._last = self.records.borrow()
            self.records.state = State.CLOSING
            self._close_bells()  # another thread may have made one, and makes none from here on
        self._shut_native()
        if self._last is None and self.records.kept_back:
            with suppress(TooManyParticipantsError):  # then what is kept back is lost; close says so
                self._last = self.records.borrow_last()
        until = self.system.now() + _QUIET
        self.blocks.close()  # and again in the loop, because a thread may have been about to claim
        while not self._leave():
            if not wait or self.system.now() > until:
                return False
            self.wake_all(self.memory.words())
            self.system.sleep(0.001)
            self.blocks.close()
        return True

    def _close_bells(self) -> None:
        self.doorbells.close()
        if self.tasks is not None:
            self.tasks.close()

    def _shut_native(self) -> None:
        if self.native is not None:
            self.native.shut()
            self.native.leave()

    def _leave(self) -> bool:
        """Leave with all records that no operation uses, and then with the rest; return whether that was possible."""
        is_left = (native := self.native) is None or native.leave()
        with self.records.lock:
            if not self.records.leave(self.roles.record, self._last) or not is_left:
                return False
            if self._last is not None:
                if not self.records.end(self._last):  # an interrupt has cut short what follows
                    return False
                if self.leasing is None:
                    self._put_back(self._last)
            if self.leasing is not None:
                self.leasing.give_back_all(self.memory.words(), partial(self.records.take_kept_back, 1))
            self.roles.leave()
            role, self.roles.record = self.roles.record, None
            last, self._last = self._last, None
            try:
                self.records.leave_with(role, last)
            except BaseException:
                self.records.mark_lost(role, last)
                raise
            return True


_all: weakref.WeakSet[Membership] = weakref.WeakSet()


def _cut_off_all() -> None:
    if processes.is_forked_inside():
        for membership in list(_all):
            membership.cut_off()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_cut_off_all)
