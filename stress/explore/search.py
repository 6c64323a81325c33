"""All schedules of a program up to a number of switches and deaths, or those that hypothesis draws and shrinks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from .program import BELLS, DIES, Program, Schedule, dies_asleep, schedule_text
from .scheduler import NAPPER, Fork
from .worlds import open_world


@dataclass(frozen=True)
class Finding:
    """A schedule under which a program breaks a rule."""

    program: Program
    schedule: Schedule
    what: str
    story: str

    def __str__(self) -> str:
        schedule = schedule_text(self.schedule)
        return (
            f"{self.what}\n  story     {self.story}\n  program   {self.program}\n  schedule  {schedule}\n"
            f'  again     python -m stress explore --replay "{self.program} / {schedule}"'
        )


@dataclass
class Bounds:
    """How far to go.

    Attributes:
        switches: how often an actor that could go on gives way to another.
        deaths: how many actors die.
        most: how many schedules of one program.
        seed: of the order in which they come, which matters where there are more.
    """

    switches: int
    deaths: int
    most: int
    seed: int


def describe(error: BaseException) -> str:
    """Return what an error in a run says."""
    return f"{type(error).__name__}: {error}"


def try_schedule(program: Program, schedule: Schedule) -> Finding | None:
    """Run a program under one schedule."""
    with open_world(program) as world:
        try:
            world.run(schedule)
        except Exception as error:
            return Finding(program, schedule, describe(error), world.story())
    return None


def enumerate_schedules(program: Program, bounds: Bounds) -> tuple[int, Finding | None, bool]:
    """Run a program under all schedules within bounds.

    Every schedule extends another by one decision behind its last one, so each is run once.

    Returns:
        How many were run; the first that broke a rule; whether there were no more than ``bounds.most``.
    """
    tried = 0
    order = Random(bounds.seed)
    left: list[tuple[Schedule, int, int]] = [((), bounds.switches, bounds.deaths)]
    with open_world(program) as world:
        while left:
            if tried == bounds.most:
                return tried, None, False
            schedule, switches, deaths = left.pop()
            tried += 1
            try:
                forks = world.run(schedule)
            except Exception as error:
                return tried, Finding(program, schedule, describe(error), world.story()), True
            last = schedule[-1][0] if schedule and schedule[-1][1] >= 0 else -1
            alternatives = list(_alternatives(forks, last))
            order.shuffle(alternatives)
            for decision, switched, died in alternatives:
                if switched <= switches and died <= deaths:
                    left.append(((*schedule, decision), switches - switched, deaths - died))
    return tried, None, True


def draw_schedules(program: Program, most: int, seed: int) -> tuple[int, Finding | None]:
    """Run a program under schedules with up to four switches and two deaths at random steps.

    Returns:
        How many were run; the first that broke a rule.
    """
    random = Random(seed)
    actors = range(len(program.actors))
    has_bells = any(step.call in BELLS for actor in program.actors for step in actor.steps)
    length = 1
    with open_world(program) as world:
        for tried in range(1, most + 1):
            switches = [(random.randrange(length), random.choice(actors)) for _ in range(random.randint(1, 4))]
            deaths = [
                (
                    random.randrange(length),
                    random.choice((DIES, DIES, *map(dies_asleep, actors))) if has_bells else DIES,
                )
                for _ in range(random.choice((0, 0, 1, 1, 2)))
            ]
            schedule = tuple(sorted([(0, random.choice(actors)), *switches, *deaths]))
            try:
                world.run(schedule)
            except Exception as error:
                return tried, Finding(program, schedule, describe(error), world.story())
            length = max(length, world.scheduler.count)
    return most, None


def _alternatives(forks: list[Fork], last: int) -> Iterator[tuple[tuple[int, int], int, int]]:
    """Yield what else might have been decided, and how many switches and deaths that costs.

    Args:
        forks: of the run.
        last: number of the step at which the last switch was decided; another there would be a detour.
    """
    for at, actor, others, at_bells in forks:
        if at != last:
            for other in others:
                yield (at, other), int(actor is not None), 0
        if actor is None or actor == NAPPER:
            last = at
        else:
            yield (at, DIES), 0, 1
        for sleeper in at_bells:
            yield (at, dies_asleep(sleeper)), 0, 1
