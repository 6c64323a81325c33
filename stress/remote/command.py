"""What ``python -m stress remote`` does."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Final

import click
from rich.console import Console

from ..harness import options
from . import bridges, costs, getters, workers
from .server import PROGRAMS

_KINDS: Final = ("workers", "getters", "bridges-out", "bridges-in", "cuts")
_OFTEN: Final = 0.1  # a bridge sends few messages

_Outcome = workers.Outcome | getters.Outcome | bridges.Outcome


@click.command()
@click.option("--kind", "kinds", multiple=True, type=click.Choice(_KINDS), help="Of trouble; all if not given.")
@click.option("--kills", type=click.IntRange(1), default=100, show_default=True, help="Of all that is killed, each.")
@click.option("--restarts", type=click.IntRange(0), default=10, show_default=True, help="Of the server, of each kind.")
@click.option("--cuts", type=click.IntRange(1), default=500, show_default=True, help="Of connections of workers.")
@click.option("--fsync", type=click.Choice(["always", "everysec"]), default="always", show_default=True)
@click.option("--costs", "measures", is_flag=True, help="Make no trouble; measure calls beside others.")
@options.seed
def command(
    kinds: tuple[str, ...], kills: int, restarts: int, cuts: int, fsync: str, measures: bool, seed: int | None
) -> None:
    """Kill what uses a queue on a server, and the server, and cut connections in the middle of messages.

    Nothing that was acknowledged is lost, and nothing is doubled.
    """
    console = Console()
    if not PROGRAMS:
        raise click.ClickException("neither redis-server nor valkey-server is installed; install one of them")
    if measures:
        for line in (*costs.lines(costs.measure()), *costs.lines(costs.hand_over())):
            console.print(line, highlight=False, soft_wrap=True)
        return
    seed = options.tell_seed(seed, console)
    plan = workers.Plan(kills, restarts, seed, fsync=fsync)
    ok = True
    for kind in kinds or _KINDS:
        for outcome in _outcomes(kind, plan, cuts):
            ok &= outcome.is_right
            right = "right" if outcome.is_right else "WRONG"
            console.print(f"{kind}: {right}: {outcome}", highlight=False, soft_wrap=True)
    sys.exit(not ok)


def _outcomes(kind: str, plan: workers.Plan, cuts: int) -> Iterator[_Outcome]:
    if kind == "workers":
        yield workers.run(plan)
    elif kind == "getters":
        yield getters.run(plan)
    elif kind == "bridges-out":
        yield bridges.run("out", plan.kills, plan.seed)
    elif kind == "bridges-in":
        yield bridges.run("in", plan.kills, plan.seed)
    else:
        yield workers.run(plan._replace(kills=0, restarts=0, cuts=cuts))
        yield bridges.run("out", plan.kills // 10, plan.seed, _OFTEN)
        yield bridges.run("in", plan.kills // 10, plan.seed, _OFTEN)
