"""Attempts to put or to get, with spins and sleeps between them; in C this is wait.h.

A waiter spins for a while, then sleeps until it is woken, a slice at most. Nothing is announced while it sleeps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from .._platform.atomic_words import Words
from .._platform.clock import ONE_LOOK
from .._platform.system import System
from .._ring.layout import (
    EMPTY_EVENTS_AT,
    FULL_EVENTS_AT,
    GET_WAITS_AT,
    HELD_SLICE,
    NAP,
    PATIENCE,
    PUT_WAITS_AT,
    SPACE,
    WAKE_EPOCH,
    YIELDING,
)
from .._ring.parking import SLICE
from .._ring.ring import DONE, HELD, NOTHING, SHUT_DOWN
from .membership import Membership
from .records import State, refuse_child

_LOOKS: Final = 32  # of one spin; a look takes some 3 µs in this engine, and a wake-up takes 50 µs
_MOST_MISSES: Final = 6

T = TypeVar("T")


class Spin:
    """Looks for a while before its thread sleeps.

    After spins in vain, the next waits do without: one wait, then three, up to 2^6 - 1. Never for good, or two
    processes that answer each other would go on to wake each other for ever.

    Args:
        system: tells how many processors there are; with one alone a spin keeps the partner from running.
    """

    __slots__ = ("_may_spin", "_misses", "_skips")

    def __init__(self, system: System) -> None:
        self._misses = self._skips = 0
        self._may_spin = system.cores() > 1

    def until(self, look: Callable[[], T]) -> T | None:
        """Call ``look`` until it returns something true; return that, or None when spinning does not pay."""
        if not self._may_spin:
            return None
        if self._skips > 0:
            self._skips -= 1
            return None
        for _ in range(_LOOKS):
            found = look()
            if found:
                self._misses = 0
                return found
        self._misses = min(self._misses + 1, _MOST_MISSES)
        self._skips = (1 << self._misses) - 1
        return None


class Waiting:
    """The waits of one handle on one side.

    Args:
        membership: the handle's part in the queue.
        side: ITEMS or SPACE, where to sleep.
    """

    def __init__(self, membership: Membership, side: int) -> None:
        self._membership = membership
        self._side = side
        self._waits_at, self._events_at = (
            (PUT_WAITS_AT, FULL_EVENTS_AT) if side == SPACE else (GET_WAITS_AT, EMPTY_EVENTS_AT)
        )
        self._spin = Spin(membership.system)
        self._scanned = 0  # when a waiting thread last looked at all records

    def until(
        self,
        words: Words,
        attempt: Callable[[bool], int],
        until: float,
        before_sleep: Callable[[], None] | None = None,
        after_sleep: Callable[[], None] | None = None,
    ) -> int:
        """Attempt until it is done, the queue is shut down or the time is over.

        Args:
            words: the operation's access.
            attempt: tries; its argument tells whether to look for the dead, which costs a scan.
            until: when to give up.
            before_sleep: called before each sleep.
            after_sleep: called after each.

        Returns:
            DONE, SHUT_DOWN, or NOTHING in time.
        """
        found = NOTHING

        def is_over(sure: bool = False) -> bool:
            nonlocal found
            found = attempt(sure)
            return found in (DONE, SHUT_DOWN)

        def look() -> bool:
            """Attempt; one thread of this handle a slice looks at all records, and each batch, of which there is one.

            So a claim whose owner is dead is met as soon as by one thread alone; that thread wakes the others.
            """
            if is_over(before_sleep is not None):
                return True
            if before_sleep is None:
                time = system.now()
                if time - self._scanned >= (HELD_SLICE if found == HELD else SLICE):
                    self._scanned = time
                    return is_over(True)
            return False

        member, system, side = self._membership, self._membership.system, self._side
        member.records.recover_lost()  # what an interrupt has left may be what this waits for
        if until == ONE_LOOK:
            return attempt(True)
        if until == 0:
            return self._look_once(words, attempt)
        if self._spin.until(is_over) or look():
            return found
        while system.now() < until:
            if before_sleep is not None:
                before_sleep()
            words.add(self._waits_at, 1)
            epoch = member.parking.arm(words, side)
            if member.state is not State.OPEN:
                found = HELD
            elif look():  # [W3] seq, after [W2]
                return found
            if member.state is State.OPEN:
                # No wake comes from a claim whose owner dies, so that is looked at more often.
                longest = system.now() + (HELD_SLICE if found == HELD else SLICE)
                member.parking.sleep(side + WAKE_EPOCH, epoch, min(until, longest))
            self.after_sleep()
            if after_sleep is not None:
                after_sleep()
            if is_over():
                return found
        return self._look_once(words, attempt)

    def _look_once(self, words: Words, attempt: Callable[[bool], int]) -> int:
        """Attempt once more, and be patient with an operation that is about to end: it is no reason to say no."""
        system = self._membership.system
        start = system.now()
        while True:
            found = attempt(True)
            waited = system.now() - start
            if found in (DONE, SHUT_DOWN):
                return found
            if found == NOTHING or waited > PATIENCE:
                words.add(self._events_at, 1)
                self._membership.doorbells.quieten(self._side)
                return NOTHING
            system.sleep(0 if waited < YIELDING else NAP / 1e9)

    def after_sleep(self) -> None:
        """Go on, unless the handle was closed or this is a child that a signal handler has forked."""
        look_around(self._membership)


def look_around(member: Membership) -> None:
    """Go on after a sleep, unless the handle was closed or this is a child that a signal handler has forked."""
    records = member.records
    if not records.is_of_this_process():
        refuse_child()
    if records.state is not State.OPEN:
        records.refuse()
    records.recover_lost()
