"""What ``python -m stress remote`` does."""

from __future__ import annotations

import sys
from typing import Final

import click
from rich.console import Console

from ..harness import options
from . import bridges, costs, getters, workers
from .server import PROGRAMS

_KINDS: Final = ("workers", "getters", "bridges-out", "bridges-in")


@click.command()
@click.option("--kind", "kinds", multiple=True, type=click.Choice(_KINDS), help="What to kill; all if not given.")
@click.option("--kills", type=click.IntRange(1), default=100, show_default=True, help="Of each kind.")
@click.option("--restarts", type=click.IntRange(0), default=10, show_default=True, help="Of the server, of each kind.")
@click.option("--costs", "measures", is_flag=True, help="Kill nothing; measure calls beside round trips.")
@options.seed
def command(kinds: tuple[str, ...], kills: int, restarts: int, measures: bool, seed: int | None) -> None:
    """Kill what uses a queue on a server, and the server: nothing that was acknowledged is lost, nothing is doubled."""
    console = Console()
    if not PROGRAMS:
        raise click.ClickException("neither redis-server nor valkey-server is installed; install one of them")
    if measures:
        for line in costs.lines(costs.measure()):
            console.print(line, highlight=False, soft_wrap=True)
        return
    seed = options.tell_seed(seed, console)
    ok = True
    for kind in kinds or _KINDS:
        outcome: workers.Outcome | getters.Outcome | bridges.Outcome
        if kind == "workers":
            outcome = workers.run(workers.Plan(kills, restarts, seed))
        elif kind == "getters":
            outcome = getters.run(workers.Plan(kills, restarts, seed))
        else:
            outcome = bridges.run("out" if kind == "bridges-out" else "in", kills, seed)
        ok &= outcome.is_right
        console.print(f"{kind}: {'right' if outcome.is_right else 'WRONG'}: {outcome}", highlight=False, soft_wrap=True)
    sys.exit(not ok)
