"""Waiting until something may have changed, and waking the waiters (labels W of the protocol).

How long a call spins, and when it sleeps, is decided in ``_engine/waiting.py``.

Each side (getters wait for items, putters for space) has two shared words: ``epoch``, on which they sleep, and
``hint = version << 1 | armed``, which tells a waker that a waiter may be asleep, so that waking costs one load if
none is. There is no count of waiters: a waiter that dies leaves nothing behind but one spare wake.

    waiter                                      waker
    read epoch                        [W1]      publish or free a slot           [P8][G6][T1-T3]
    arm the hint (version + 1)        [W2]      read the hint; armed?            [W4]
    look again at the words           [W3]      epoch + 1                        [W5]
    sleep while epoch is as read                wake n; fewer there: ring bells [B3][B4];
                                                none at all: disarm the hint, if it is as read

Either the waiter's second look sees the change or the waker sees the hint: both are read-modify-writes followed by a
sequentially consistent load. The epoch is read before the hint is armed: in the other order a waker in between would
change the epoch first, and the waiter would sleep through it. No sleep lasts longer than ``SLICE``, which heals what
remains: a waker that dies between its change and its wake.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

from .._platform import bells
from .._platform.atomic_words import Words
from .._platform.system import SYSTEM, System
from .layout import (
    BELLS_REFUSED_AT,
    GENERATION,
    IDLE,
    ITEMS,
    NONCE_AT,
    RECORDS,
    RECORDS_USED_AT,
    RETURNED_AT,
    TAIL,
    TURN,
    WAKE_EPOCH,
    WAKE_HINT,
    WORD,
    WORD_MASK,
    bells_of,
    name_of,
    record_at,
)

SLICE: Final = 100_000_000  # ns; the longest sleep between two looks


def first_at(turn: int, waiting: int) -> int:
    """Return which of ``waiting`` bells is the first to be rung at a turn, a number that is another one each time.

    By multiples of the golden ratio, which are spread evenly even if only every second turn, say, comes here.
    """
    return (turn * 0x9E3779B9 & 0xFFFFFFFF) * waiting >> 32


class Parking:
    """Where the getters and putters of one segment sleep.

    Args:
        buffer: the mapped segment.
        system: how to sleep and to wake.
    """

    def __init__(self, buffer: memoryview, system: System = SYSTEM) -> None:
        self.system = system
        self._anchor: Any = ctypes.c_char.from_buffer(buffer)
        self._base = ctypes.addressof(self._anchor)

    def release(self) -> None:
        """Let go of the memory."""
        self._anchor = None

    def wake(self, words: Words, side: int, count: int) -> None:
        """Wake up to ``count`` waiters of a side, after a change that they can use."""
        hint = words.load_after_rmw(side + WAKE_HINT)  # [W4] seq, after the caller's change; pairs with [W2]
        if hint & 1:
            turn = words.add(side + WAKE_EPOCH, 1)  # [W5] release; the kernel compares with [W1]
            woken = self.system.wake(self._base + side + WAKE_EPOCH, count)
            if woken < count:
                woken += self._ring_bells(words, side, turn, count - woken)
            if not woken:
                words.cas(side + WAKE_HINT, hint, hint & ~1)  # a newer arming has another version and stays

    def wake_all(self, words: Words, side: int) -> None:
        """Wake all waiters of a side, so that each looks again."""
        words.add(side + WAKE_EPOCH, 1)
        self.system.wake(self._base + side + WAKE_EPOCH, 0x7FFFFFFF)
        self._ring_bells(words, side, 0, RECORDS)

    def _ring_bells(self, words: Words, side: int, turn: int, count: int) -> int:
        """Ring up to ``count`` of the bells that wait on a side; return how many were there.

        The mask is read once, so one that others keep filling is no reason to stay. A bell that begins to wait
        meanwhile looks again after it has armed the hint anew [W3]. ``turn`` is another number each time. All have
        their turn: if the walk always began with the first record, its bell would be rung whenever it waits, and the
        others hardly ever.
        """
        if side == IDLE:
            return 0  # no bell waits there
        # A bell raises the mark before it sets its bit [R2][B1], and this comes after the hint that was armed later.
        used = min(words.load(RECORDS_USED_AT), RECORDS)
        waiting = []
        for base in range(0, used, 64):
            bits = words.load(bells_of(side) + base // 64 * WORD) & (1 << min(used - base, 64)) - 1
            while bits:
                waiting.append(base + (bits & -bits).bit_length() - 1)
                bits &= bits - 1
        first = first_at(turn, len(waiting))
        rung = 0
        for index in waiting[first:] + waiting[:first]:
            if rung == count:
                break
            if not self.take_bell(words, side, index):  # [B3] acq_rel, before the ring; pairs with [B1][B5]
                continue
            # [B4] acquire, after [B3]; pairs with [R2]: a successor's bit is rung under the successor's name
            generation = words.load(record_at(index) + GENERATION)
            if bells.ring(words.load(NONCE_AT), name_of(index, generation)):
                rung += 1
            else:
                words.add(BELLS_REFUSED_AT, 1)
        return rung

    def want_bell(self, words: Words, side: int, index: int) -> None:
        """Say that the bell of a record waits on a side; the caller arms the hint afterwards."""
        at, bit = bells_of(side) + index // 64 * WORD, 1 << index % 64
        while not (bits := words.load(at)) & bit:
            if words.cas(at, bits, bits | bit):  # [B1] seq, before [W2]; pairs with [B3]
                return

    def wants_bell(self, words: Words, side: int, index: int) -> bool:
        """Whether the bit of a record's bell is set."""
        return bool(words.load(bells_of(side) + index // 64 * WORD) & 1 << index % 64)

    def take_bell(self, words: Words, side: int, index: int) -> bool:
        """Take the bit of a record's bell away; return whether it was there."""
        at, bit = bells_of(side) + index // 64 * WORD, 1 << index % 64
        while (bits := words.load(at)) & bit:
            if words.cas(at, bits, bits & ~bit):  # [B3][B5] acq_rel
                return True
        return False

    def is_armed(self, words: Words, side: int) -> bool:
        """Whether a waiter may be asleep on this side; a hint for the chain of wakes, which the slice backs up."""
        return bool(words.peek(side + WAKE_HINT) & 1)

    def arm(self, words: Words, side: int) -> int:
        """Say that the caller is about to sleep on this side; it looks once more [W3] before it does.

        Returns:
            The epoch, which ``sleep`` is to expect.
        """
        epoch = words.load(side + WAKE_EPOCH)  # [W1] acquire, before [W2]; pairs with [W5]
        while True:
            hint = words.load(side + WAKE_HINT)
            if words.cas(side + WAKE_HINT, hint, (hint | 1) + 2):  # [W2] seq; pairs with [W4]
                return epoch

    def sleep(self, offset: int, expected: int, until: float) -> None:
        """Sleep while the word at ``offset`` is as ``expected``, for a slice at most and not beyond ``until``."""
        left = until - self.system.now()
        if left > 0:
            self.system.wait(self._base + offset, expected, int(min(left, SLICE)))

    def note_return(self, words: Words, armed: int = 0) -> None:
        """Count that an item comes back, so that a look of join knows that it was no moment."""
        while True:
            returned = words.load(RETURNED_AT)
            if words.cas(RETURNED_AT, returned, (returned | armed) + 2 & WORD_MASK):
                return

    def say_returned(self, words: Words) -> None:
        """Let gets look for what came back, and wake one."""
        self.note_return(words, armed=1)  # [E10] seq, after [E9]: once this is armed, the item can be taken
        self.wake(words, ITEMS, 1)

    def wake_turn(self, words: Words, everyone: bool = False) -> None:
        """Wake a batch that waits for the lock, which was just left, or all: one that sleeps, or else one with a bell.

        There is no hint: the bell sets its bit [B1] before it tries the lock again.
        """
        if not self.wake_word(TURN, everyone) or everyone:
            self._ring_bells(words, TURN, words.load(TAIL), RECORDS if everyone else 1)

    def wake_word(self, offset: int, everyone: bool = False) -> int:
        """Wake one that sleeps on the word at ``offset``, or all of them; return how many there were."""
        return self.system.wake(self._base + offset, 0x7FFFFFFF if everyone else 1)
