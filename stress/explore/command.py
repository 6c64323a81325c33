"""What ``python -m stress explore`` does."""

from __future__ import annotations

import sys

import click
from rich.console import Console

from ..harness import options
from ..harness.engines import ENGINES, Engines
from .corpus import expand
from .program import ProgramError, parse_program, parse_schedule
from .run import Plan, run, run_planted


@click.command()
@click.option("--engine", type=options.ANY_ENGINES, help="All three if not given.")
@click.option("--schedules", type=click.IntRange(0), default=25_000, show_default=True, help="How many to enumerate.")
@click.option(
    "--draws", type=click.IntRange(0), default=300, show_default=True, help="How many hypothesis draws besides."
)
@click.option("--program", default="", help="Only this, as the module stress.explore.program says.")
@click.option("--replay", default="", help="A program and a schedule, as a finding prints them, instead.")
@options.plant
@options.compiler
@options.seed
def command(
    engine: Engines | None,
    schedules: int,
    draws: int,
    program: str,
    replay: str,
    plant: bool,
    compiler: str,
    seed: int | None,
) -> None:
    """Run both engines in one process that decides before every atomic step which actor moves, and which dies."""
    _check(program, replay)
    console = Console()
    seed = options.tell_seed(seed, console)
    every: tuple[Engines, ...] = ("mixed",) if program or replay else ENGINES
    chosen = every if engine is None else (engine,)
    plans = [Plan(one, schedules, draws, seed, program, replay, compiler) for one in chosen]
    sys.exit(not (run_planted(plans[0], console) if plant else run(plans, console)))


def _check(program: str, replay: str) -> None:
    """Refuse texts that mean nothing, before anything is built."""
    try:
        if program:
            list(expand(program))
        if replay:
            text, _, schedule = replay.partition("/")
            parse_program(text)
            parse_schedule(schedule)
    except ProgramError as error:
        raise click.UsageError(str(error)) from None
