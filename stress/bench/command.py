"""What ``python -m stress bench`` does."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import click
from rich.console import Console

from ..harness.errors import SetupError
from .awaiting import measure
from .output import write
from .peers import ALL
from .report import print_all
from .run import Plan, run
from .scenarios import GROWTH, MAIN

_PEERS = [peer.name for peer in ALL]
_SCENARIOS = [scenario.name for scenario in (*MAIN, *GROWTH)]


@click.command()
@click.option("--quick", is_flag=True, help="Once, and briefly: three minutes.")
@click.option("--repeats", type=click.IntRange(1), help="Of each measurement; 5 if not given.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="Of each measurement; 1 if not given.")
@click.option("--awaiting", is_flag=True, help="Only tasks of asyncio, beside aioprocessing, janus and threads.")
@click.option("--scenario", "scenarios", multiple=True, help="Only this; may be given again.")
@click.option("--peer", "peers", multiple=True, help="Only this; may be given again.")
@click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), help="Folder for all figures, tables and pictures."
)
def command(
    quick: bool,
    repeats: int | None,
    seconds: float | None,
    awaiting: bool,
    scenarios: tuple[str, ...],
    peers: tuple[str, ...],
    output: Path | None,
) -> None:
    """Measure this package beside its peers, those that are installed, and beside the limits of the machine."""
    for given, known in ((scenarios, _SCENARIOS), (peers, _PEERS)):
        if unknown := [name for name in given if name not in known]:
            raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(known)}")
    if output is not None and find_spec("matplotlib") is None:
        raise SetupError("--output draws pictures, and matplotlib is not installed; pip install -e '.[bench]'")
    console = Console()
    if awaiting:
        measure(seconds or (0.15 if quick else 1.0), console)
        return
    plan = Plan(scenarios, peers, repeats or (1 if quick else 5), seconds or (0.15 if quick else 1.0), not quick)
    results = run(plan, console)
    if output is not None:
        write(results, output)
    print_all(results, console)
