"""Waiting until something may have changed, and waking who waits (labels W of the protocol).

Each side (getters wait for items, putters for space) has two shared words: ``epoch``, on which they sleep, and
``hint = version << 1 | armed``, which tells a waker that somebody may be asleep, so that waking costs one load when
nobody is. There is no count of waiters: a waiter that dies leaves nothing behind but one spare wake.

    waiter                                      waker
    read epoch                        [W1]      publish or free a slot           [P8][G6][T1-T3]
    arm the hint (version + 1)        [W2]      read the hint; armed?            [W4]
    look again at the words           [W3]      epoch + 1                        [W5]
    sleep while epoch is as read                wake n; nobody there: disarm the hint, if it is as read

Either the waiter's second look sees the change or the waker sees the hint: both are read-modify-writes followed by a
sequentially consistent load. The epoch is read before the hint is armed: in the other order a waker in between would
change the epoch first, and the waiter would sleep through it. No sleep lasts longer than ``SLICE``, which heals what
remains: a waker that dies between its change and its wake.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Any, Final, TypeVar

from . import _clock, _futex
from ._layout import WAKE_EPOCH, WAKE_HINT
from ._words import Words

SLICE: Final = 100_000_000  # ns; the longest sleep between two looks

_MOST_LOOKS: Final = 16  # of one spin; a look takes some 3 µs in this engine

T = TypeVar("T")


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Spin:
    """Looks a few times before anybody sleeps; more when that paid off last time, fewer when not, none on one core."""

    __slots__ = ("_looks", "_most")

    def __init__(self) -> None:
        self._most = _MOST_LOOKS if cores() > 1 else 0
        self._looks = self._most

    def until(self, look: Callable[[], T]) -> T | None:
        """Call ``look`` until it returns something true; return that, or None when spinning does not pay."""
        looks = self._looks
        for _ in range(looks):
            found = look()
            if found:
                self._looks = min(looks * 2, self._most)
                return found
        self._looks = max(looks // 2, min(1, self._most))
        return None


class Parking:
    """Where the getters and putters of one segment sleep.

    Args:
        buffer: the mapped segment.
    """

    def __init__(self, buffer: memoryview) -> None:
        self._anchor: Any = ctypes.c_char.from_buffer(buffer)
        self._base = ctypes.addressof(self._anchor)

    def release(self) -> None:
        """Let go of the memory."""
        self._anchor = None

    def wake(self, words: Words, side: int, count: int) -> None:
        """Wake up to ``count`` waiters of a side, after a change that they can use."""
        hint = words.load_after_rmw(side + WAKE_HINT)  # [W4] seq, after the caller's change; pairs with [W2]
        if hint & 1:
            words.add(side + WAKE_EPOCH, 1)  # [W5] release; the kernel compares with [W1]
            if not _futex.wake(self._base + side + WAKE_EPOCH, count):
                words.cas(side + WAKE_HINT, hint, hint & ~1)  # a newer arming has another version and stays

    def wake_all(self, words: Words, side: int) -> None:
        """Wake everybody of a side, so that each looks again."""
        words.add(side + WAKE_EPOCH, 1)
        _futex.wake(self._base + side + WAKE_EPOCH, 0x7FFFFFFF)

    def armed(self, words: Words, side: int) -> bool:
        """Whether somebody may be asleep on this side; a hint for the chain of wakes, which the slice backs up."""
        return bool(words.peek(side + WAKE_HINT) & 1)

    def arm(self, words: Words, side: int) -> int:
        """Say that somebody is about to sleep on this side; the caller looks once more [W3] before he does.

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
        left = until - _clock.now()
        if left > 0:
            _futex.wait(self._base + offset, expected, int(min(left, SLICE)))

    def wake_word(self, offset: int) -> None:
        """Wake one that sleeps on the word at ``offset``."""
        _futex.wake(self._base + offset, 1)
