"""The schedule explorer: both engines, as they are, in one process that decides before every atomic step who moves.

program    what is explored: a queue, its actors and their calls; a schedule; both as text
scheduler  actors as greenlets, each step a decision; time and sleep that are part of the schedule
handles    the engines over memory whose every access asks the scheduler
world      one program: set up, run under a schedule, and looked at afterwards
verdict    the rules that a history has to keep: a pure function
search     all schedules up to a number of switches and deaths, or those that hypothesis draws
build      a copy of the package whose steps in C ask the scheduler, with a bug in it perhaps
bugs       bugs to plant, and which attack each stands for
inside     the search, in the process that has that copy
run        what the command does: builds, starts that process, reports
"""

from __future__ import annotations

from typing import get_args

from rich.console import Console

from .corpus import Engines
from .program import ProgramError
from .run import Plan, run, run_planted

__all__ = ["ProgramError", "explore"]


def explore(
    engine: Engines | None,
    schedules: int,
    draws: int,
    seed: int,
    program: str,
    replay: str,
    plant: bool,
    compiler: str,
    console: Console,
) -> bool:
    """Explore, or plant bugs; return whether all was as it should be."""
    every: tuple[Engines, ...] = ("mixed",) if program or replay else get_args(Engines)
    plans = [
        Plan(one, schedules, draws, seed, program, replay, compiler) for one in (every if engine is None else (engine,))
    ]
    return run_planted(plans[0], console) if plant else run(plans, console)
