"""What ``python -m stress planted`` does: it prints the list."""

from __future__ import annotations

import click
from rich.console import Console

from .bugs import BUGS


@click.command()
def command() -> None:
    """Print all planted bugs: which rule each breaks, and what has to find it."""
    console = Console(soft_wrap=True, markup=False, highlight=False)
    for bug in BUGS:
        console.print(f"{bug}\n    breaks: {bug.rule}")
        for task in bug.tasks:
            console.print(f"    found by: {' '.join((task.tool, *task.how))}")
    tools = sorted({task.tool for bug in BUGS for task in bug.tasks})
    console.print(f"{len(BUGS)} bugs, found by {', '.join(tools)}")
