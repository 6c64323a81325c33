"""What ``python -m stress hostile`` does."""

from __future__ import annotations

import subprocess
import sys

import click
from rich.console import Console

from ..harness import options
from ..harness.copies import sanitized
from ..harness.engines import Engine
from .run import Plan, run


@click.command()
@click.option("--seconds", type=click.FloatRange(0), default=20.0, show_default=True, help="How long.")
@click.option("--engine", type=options.ONE_ENGINE, help="Of all handles; both, side by side, if not given.")
@click.option("--case", "only", type=click.IntRange(0), help="Number of the only case to run.")
@options.compiler
@click.option("--plain", is_flag=True, help="With the extension that is installed, not one built with sanitizers.")
@options.seed
def command(
    seconds: float, engine: Engine | None, only: int | None, compiler: str, plain: bool, seed: int | None
) -> None:
    """Damage segments in every way, use them, and see that nothing but this package's own errors comes of it."""
    console = Console()
    plan = Plan(seconds, engine, options.tell_seed(seed, console), only)
    with options.engine_needed():
        ok = run(plan, console) if plain else _run_sanitized(plan, compiler)
    sys.exit(not ok)


def _run_sanitized(plan: Plan, compiler: str) -> bool:
    """Do the same with an extension that is built with sanitizers.

    Raises:
        SetupError: it cannot be built here.
    """
    arguments = [f"--seconds={plan.seconds}", f"--seed={plan.seed}"]
    arguments += [f"--engine={plan.engine}"] if plan.engine else []
    arguments += [f"--case={plan.only}"] if plan.only is not None else []
    with sanitized(compiler, "stress") as (copy, environment):
        command = [sys.executable, "-m", "stress", "hostile", "--plain", *arguments]
        process = subprocess.Popen(command, cwd=copy, env=environment)
        try:
            return process.wait() == 0
        finally:
            process.terminate()  # and not killed: it removes what its cases have
            process.wait()
