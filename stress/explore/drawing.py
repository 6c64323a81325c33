"""Programs and schedules that hypothesis draws, and shrinks when one breaks a rule."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from ..harness.engines import Engines, Mode
from .program import BELLS, DIES, JOIN, LOOKS, PUTS, TAKES, ActorPlan, Program, Schedule, Step, dies_asleep
from .search import Finding, try_schedule

_MODES: Final[tuple[Mode, ...]] = ("mpmc", "mpmc", "mpmc", "spsc")
_MOST_POINTS: Final = 160  # at which a call is interrupted; few calls have more


class _Broken(Exception):
    """A rule was broken."""


@st.composite
def cases(draw: st.DrawFn, engines: Engines) -> tuple[Program, Schedule]:
    """Draw a program and a schedule for it."""
    mode: Mode = draw(st.sampled_from(_MODES))
    capacity = draw(st.integers(1, 3))
    filled = draw(st.integers(0, capacity))
    has_large = capacity > 1 and draw(st.booleans())
    filled = min(filled, capacity - 1) if has_large else filled  # the first item takes two slots
    puts = [call for call, slots in PUTS.items() if sum(slots) <= capacity and (has_large or max(slots) == 1)]
    calls = [*TAKES, *puts, *LOOKS]
    actors = []
    for _ in range(draw(st.integers(2, 3))):
        engine = draw(st.sampled_from(["atomics", "native"])) if engines == "mixed" else engines
        steps = [Step(call) for call in draw(st.lists(st.sampled_from(calls), min_size=1, max_size=3))]
        if engine == "atomics" and draw(st.integers(0, 3)) == 3:
            which = draw(st.integers(0, len(steps) - 1))
            if steps[which].call not in BELLS:
                steps[which] = Step(steps[which].call, draw(st.integers(0, _MOST_POINTS)))
        if draw(st.integers(0, 7)) == 7:
            steps.insert(0, Step(JOIN))
        actors.append(ActorPlan(engine, tuple(steps)))
    numbers = range(len(actors))
    moves = st.tuples(st.integers(0, 40), st.sampled_from([*numbers, DIES, *map(dies_asleep, numbers)]))
    at, schedule = 0, []
    for gap, what in draw(st.lists(moves, max_size=8)):
        at += gap
        schedule.append((at, what))
    return Program(mode, capacity, filled, tuple(actors), has_large=has_large), tuple(schedule)


def draw(engines: Engines, most: int, seed: int) -> tuple[int, Finding | None]:
    """Let hypothesis look for a schedule that breaks a rule.

    Returns:
        How many were run, shrinking included; the simplest that was found.
    """
    tried = 0
    found: Finding | None = None

    @seeded(seed)
    @settings(
        max_examples=most,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),  # explaining needs the place of our trace function
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(cases(engines))
    def search(case: tuple[Program, Schedule]) -> None:
        nonlocal tried, found
        tried += 1
        finding = try_schedule(*case)
        if finding is not None:
            found = finding  # the last one that hypothesis tries is the simplest
            raise _Broken

    with suppress(_Broken):
        search()
    return tried, found
