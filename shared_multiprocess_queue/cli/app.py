"""The command ``shmq``: its commands, each of which is imported when it is asked for."""

from __future__ import annotations

import importlib
from typing import Final

import click

# name: module, what it does
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "ls": ("looks", "List the queues in shared memory."),
    "show": ("looks", "Show all about one queue."),
    "top": ("top", "Show all queues, with rates, again and again."),
    "peek": ("looks", "Show the next items of a queue without taking them."),
    "wait": ("looks", "Wait until something is true of a queue."),
    "drain": ("removals", "Take items out of a queue, and count or write them."),
    "rm": ("removals", "Remove queues."),
    "gc": ("removals", "Remove the queues that no process uses."),
    "doctor": ("doctor", "Check this machine, and the queues that are there."),
    "metrics": ("metrics_command", "Print metrics for Prometheus, or serve them."),
    "bridge": ("bridge", "Bring items between a queue here and one on a server."),
    "bench": ("bench", "Measure queues on this machine."),
    "demo": ("demo_command", "Count with worker processes, and kill some at work."),
}


class _Commands(click.Group):
    """Commands that are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(f".{COMMANDS[cmd_name][0]}", __package__), f"{cmd_name}_command")
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="shared-multiprocess-queue", prog_name="shmq")
def main() -> None:
    """See and care for queues of Python objects in shared memory. To look at a queue changes nothing in it."""
