"""One batch at a time (labels L), and the gate that lets it through a busy queue (label Q).

The int32 of ``shared_memory_lock`` has no owner, so it cannot be inherited when its holder dies. The header's word
``batch_owner`` is the ownership: 0, or the name of the participant that holds the lock. The int32 is taken before it
and freed after it.

    acquire   lock_busy in my record; int32 0 -> 1; batch_owner 0 (or a dead name) -> me; clear lock_busy
    held?     batch_owner is dead: dead -> me inherits
              batch_owner is 0 and no other live record is lock_busy: its holder died between the words; 0 -> me
    release   batch_owner me -> 0, and only if that succeeds int32 = 0

The lock keeps batches from starving each other and is given back as soon as tail is claimed. The ring's safety does not
depend on it: the claim is a compare-and-swap of tail.

The gate: a batch that has twice found no room writes into the header until when single puts behave as if the queue
were full, so that room for the whole batch can gather. It is a lease on the monotonic clock. A batch that waits renews
it if head has moved since the last time, so a batch that is stopped leaves no closed gate, and one that waits for a get
does not keep out for ever the put that the getter waits for. A put looks whether the batch lives before it sleeps on
account of the gate. Fairness is not safety; here, and only here, a clock decides.
"""

from __future__ import annotations

from collections.abc import Callable

from .._platform.atomic_words import Words
from .._platform.mutex import LockFlag
from .layout import BATCH_OWNER_AT, BETWEEN, FAR_AHEAD, GATE_AT, GATE_LEASE, HEAD, LOCK_BUSY, SPACE
from .parking import Parking
from .participants import Participants, Record


class BatchLock:
    """The lock of ``put_batch``.

    Args:
        flag: the int32.
        participants: tell which owner is dead.
        parking: where to sleep.
    """

    def __init__(self, flag: LockFlag, participants: Participants, parking: Parking) -> None:
        self._flag = flag
        self._participants = participants
        self._parking = parking

    def acquire(self, record: Record, until: float, check: Callable[[], None]) -> bool:
        """Take the lock, from a dead holder too.

        Args:
            record: the batch's.
            until: monotonic time in ns; False is returned when it is over.
            check: called before and after each sleep; may raise.
        """
        words = record.words
        while True:
            if self.try_acquire(record):
                return True
            check()
            owner = words.load(BATCH_OWNER_AT)
            now = self._parking.system.now()
            if now >= until:
                return False
            # If there is no owner, an operation is between the two words, and its wake may already have been.
            self._parking.sleep(BATCH_OWNER_AT, owner, until if owner else min(until, now + BETWEEN))
            check()

    def try_acquire(self, record: Record) -> bool:
        """Try once to take the lock, from a dead holder too."""
        words = record.words
        words.store(record.at + LOCK_BUSY, 1)  # [L3] seq, before the int32
        won = False
        if self._flag.try_acquire():
            owner = words.load(BATCH_OWNER_AT)
            won = (owner == 0 or self._participants.is_dead(words, owner)) and words.cas(
                BATCH_OWNER_AT, owner, record.name
            )  # [L1] acquire, pairs with [L2]
        words.store(record.at + LOCK_BUSY, 0)
        if won:
            return True
        owner = words.load(BATCH_OWNER_AT)
        if owner:
            left = self._participants.is_dead(words, owner)
        else:  # its holder is between the two words, or died there
            left = self._flag.is_held() and not self._participants.another_takes_the_lock(words, record)
        return left and words.cas(BATCH_OWNER_AT, owner, record.name)  # [L1]

    def release(self, record: Record) -> None:
        """Give the lock back if it is the record's; may be called at any time by its owner."""
        words = record.words
        words.store(record.at + LOCK_BUSY, 1)
        if words.cas(BATCH_OWNER_AT, record.name, 0):  # [L2] release, pairs with [L1]
            self._flag.release()
        words.store(record.at + LOCK_BUSY, 0)
        self._parking.wake_turn(words)

    def has_no_live_owner(self, words: Words) -> bool:
        """Whether no live batch holds the lock, so that a closed gate means nothing."""
        owner = words.load(BATCH_OWNER_AT)
        return owner == 0 or self._participants.is_dead(words, owner)

    def recover(self, record: Record) -> None:
        """Clear what an interrupted batch may have left standing of the lock."""
        words = record.words
        if words.load(BATCH_OWNER_AT) == record.name:
            self.release(record)
        words.announce(record.at + LOCK_BUSY, 0)


def is_shut(gate: int, now: int) -> bool:
    """Whether single puts have to wait for a batch, by what the gate's word says [Q1] at this time."""
    return now < gate <= now + FAR_AHEAD


class Gate:
    """The gate of one batch that found no room.

    Args:
        parking: where the putters sleep that the gate keeps out.
    """

    __slots__ = ("_head", "_mine", "_parking")

    def __init__(self, parking: Parking) -> None:
        self._parking = parking
        self._mine = self._head = 0

    def shut(self, words: Words) -> None:
        """Close the gate, or keep it closed for as long as gets make room.

        If head has not moved since the last time, the getters may wait for a single put. Then the lease ends, and the
        gate is closed again after the next get.
        """
        before, self._head = self._head, words.peek(HEAD)  # [Q1]
        # In any case another value: putters pass a wake on once for each.
        is_renewed = not self._mine or self._head != before
        self._mine = self._parking.system.now() + GATE_LEASE if is_renewed else self._mine + 1
        words.store(GATE_AT, self._mine)

    def open(self, words: Words, whosever: bool = False) -> None:
        """Open the gate that this batch has closed, and wake a putter that waits for it.

        Args:
            words: the caller's access.
            whosever: open it whichever batch has closed it; the caller holds the lock, so that batch is dead or gone.
        """
        closed = words.load(GATE_AT) if whosever else self._mine
        self._mine = 0
        if closed and words.cas(GATE_AT, closed, 0):
            self._parking.wake(words, SPACE, 1)
