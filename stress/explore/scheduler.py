"""Actors that take turns: greenlets, of which one runs until a decision, its end, or a wait.

Before each access to shared memory an actor calls ``step``. Time stands still while any actor can move. An actor that
waits lets the others run; if no other can, time jumps to the end of the wait. So a wait that only a timeout ends is
seen, and takes no time.
"""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from types import CodeType
from typing import Final, cast

from greenlet import getcurrent, greenlet

from .interrupts import Interrupter, watch
from .program import DIES, Schedule, dies_asleep

PLACES: Final[defaultdict[tuple[CodeType, int], int]] = defaultdict(int)
"""How often a step was taken at each place in Python: code, and offset of the instruction."""

_MOST_STEPS: Final = 100_000  # a call of a task tries for 10,000 steps to take a role that another process has
_FOR_EVER: Final = "somebody goes round for ever"
_NAP: Final = 10_000_000  # ns that a short wait takes while other actors move
_LONG: Final = 1_000_000_000  # ns that it takes if no other actor can
_START: Final = 1_000_000_000_000  # ns


class Violation(Exception):
    """A rule that was broken."""


Fork = tuple[int, int | None, list[int], list[int]]
"""A moment at which another actor might run, or one might die: the number of the next step; the actor that takes it
(None: the one before has ended or sleeps, NAPPER: naps, and another was chosen); the actors that could; and those that
wait on a bell."""

NAPPER: Final = -1


class Actor:
    """An actor of a program.

    Attributes:
        number: its place among the actors.
        process: which it is a thread of; they die together.
        body: what it does.
        is_done: whether it came to its end.
        is_dead: whether it died.
        sleeps_on: address of the word on which it sleeps, or the number of a bell; None: it does not.
        until: when it wakes by itself.
    """

    def __init__(self, number: int, process: int, body: Callable[[], None]) -> None:
        self.number = number
        self.process = process
        self.greenlet = greenlet(self._run)
        self._body = body
        self.is_done = False
        self.is_dead = False
        self.sleeps_on: int | None = None
        self.until = 0
        self.error: BaseException | None = None

    def _run(self) -> None:
        try:
            self._body()
        except BaseException as error:
            self.error = error
        self.is_done = True


class Scheduler:
    """Decides before every step which actor moves.

    Attributes:
        now: the time, in ns.
        count: how many steps were taken.
        forks: the moments since the last decision at which something else might have happened.
        on_death: called with the number of a process that dies.
        on_stall: called when all live actors sleep.
        on_step: called before each step.
        on_wait: called where the running actor is about to wait, or asks whether a process lives.
        current: the running actor; None while steps are not scheduled.
    """

    def __init__(self) -> None:
        self.now = _START
        self.count = 0
        self.forks: list[Fork] = []
        self.on_death: Callable[[int], None] = lambda number: None
        self.on_stall: Callable[[], None] = lambda: None
        self.on_step: Callable[[], None] = lambda: None
        self.on_wait: Callable[[], None] = lambda: None
        self.current: Actor | None = None
        self._actors: Sequence[Actor] = ()
        self._stop = 0
        self._hub = getcurrent()
        self._others: list[int] = []
        self._at_bells: list[int] = []
        self._gives_way = False
        self._left: int | None = None

    # ---- what actors call -------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """Wait for this actor's turn; called before each step. Return False while steps are not scheduled."""
        actor = self.current
        if actor is None:
            self._count_down()
            return False
        if self.count == self._stop:
            self._wait_for_turn()
            if self.current is None:
                return False
        self.forks.append((self.count, actor.number, self._others, self._at_bells))
        self.count += 1
        self.on_step()
        frame = sys._getframe(2)
        PLACES[frame.f_code, frame.f_lasti] += 1
        return True

    def _count_down(self) -> None:
        """End an actor that goes round for ever while it is run out."""
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise Violation(_FOR_EVER)

    def nap(self, _seconds: float = 0) -> None:
        """Let others run, for a moment."""
        if self.current is None:
            self.now += _LONG
            return
        self.on_wait()
        self.now += _NAP if self._others else _LONG
        if self._others:
            self._gives_way = True
            self._wait_for_turn()

    def sleep(self, address: int, is_as_expected: bool, timeout: int) -> None:
        """Sleep until another actor wakes the sleepers on that word, or the time is over."""
        actor = self.current
        if not is_as_expected:
            return
        if actor is None:
            self.now += timeout
            return
        self.on_wait()
        actor.sleeps_on, actor.until = address, self.now + timeout
        self._gives_way = True
        self._wait_for_turn()

    def wake(self, address: int, count: int) -> int:
        """Wake up to ``count`` actors that sleep on a word; return how many there were."""
        woken = 0
        for actor in self._actors:
            if woken < count and actor.sleeps_on == address and not actor.is_dead:
                actor.sleeps_on = None
                woken += 1
        if woken:
            self._note_others(self.current)
        return woken

    def _wait_for_turn(self) -> None:
        trace = sys.gettrace()  # of this actor, whose call is to be interrupted; the others have their own
        loop = asyncio._get_running_loop()  # likewise
        if trace is not None:
            watch(None)
        self._hub.switch()
        asyncio._set_running_loop(loop)
        if trace is not None and self.current is not None:
            watch(cast(Interrupter, trace))

    def clock(self) -> int:
        """Return the time."""
        return self.now

    # ---- which actor runs --------------------------------------------------------------------------------------------

    def run(self, actors: Sequence[Actor], schedule: Schedule) -> None:
        """Run actors to their ends.

        Raises:
            Violation: they never come there.
        """
        self._hub = getcurrent()
        self._actors = actors
        self.count = 0
        self.forks = []
        left = list(reversed(schedule))
        running: Actor | None = None
        last = -1
        napper: Actor | None = None
        while True:
            while left and left[-1][0] <= self.count:
                _, what = left.pop()
                self.forks = []
                if what >= 0:
                    running = actors[what] if self._can_move(actors[what]) else running
                elif what == DIES and running is not None:
                    self._kill(running)
                    running = None
                elif what < DIES and self._is_at_bell(actors[dies_asleep(what)]):
                    self._kill(actors[dies_asleep(what)])
            if running is None:
                running = self._next(last, napper)
                napper = None
                if running is None:
                    if all(actor.is_done or actor.is_dead for actor in actors):
                        return
                    self._let_time_pass()
                    continue
            last = running.number
            self._note_others(running)
            self._stop = left[-1][0] if left else _MOST_STEPS
            self.current = running
            self._gives_way = False
            running.greenlet.switch()
            self.current = None
            if running.error is not None:
                raise running.error
            if self.count >= _MOST_STEPS:
                raise Violation(_FOR_EVER)
            if running.is_done or self._gives_way:
                napper = None if running.is_done or running.sleeps_on is not None else running
                running = None

    def run_out(self) -> None:
        """Let the dead end outside of the world, so that nothing is left of their frames."""
        self.current = None
        for actor in self._actors:
            if actor.greenlet:  # it has begun, and not ended
                self._left = _MOST_STEPS
                actor.greenlet.switch()
        self._left = None

    def _can_move(self, actor: Actor) -> bool:
        return not (actor.is_done or actor.is_dead) and actor.sleeps_on is None

    def _is_at_bell(self, actor: Actor) -> bool:
        return not actor.is_dead and actor.sleeps_on is not None and actor.sleeps_on < 0

    def _kill(self, victim: Actor) -> None:
        self.on_death(victim.process)
        for actor in self._actors:
            actor.is_dead = actor.is_dead or (actor.process == victim.process and not actor.is_done)

    def _note_others(self, running: Actor | None) -> None:
        self._others = [actor.number for actor in self._actors if actor is not running and self._can_move(actor)]
        self._at_bells = [actor.number for actor in self._actors if self._is_at_bell(actor)]

    def _next(self, last: int, napper: Actor | None) -> Actor | None:
        """Choose the actor that runs when none has to: the next in turn."""
        able = [actor for actor in self._actors if self._can_move(actor)]
        if not able:
            return None
        chosen = next((actor for actor in able if actor.number > last), able[0])
        others = [actor.number for actor in able if actor is not chosen and actor is not napper]
        at_bells = [actor.number for actor in self._actors if self._is_at_bell(actor)]
        self.forks.append((self.count, None if napper is None else NAPPER, others, at_bells))
        return chosen

    def _let_time_pass(self) -> None:
        self.on_stall()
        first = min((a for a in self._actors if a.sleeps_on is not None and not a.is_dead), key=lambda a: a.until)
        self.now = max(self.now, first.until)
        first.sleeps_on = None
