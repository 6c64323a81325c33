"""The command line of the stress kit: each command is in the room that does its work."""

from __future__ import annotations

import importlib
import signal
import sys
from typing import Final

import click

# name: module, what it does
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "explore": ("explore.command", "Both engines under every order of their steps, within bounds."),
    "model": ("model.run", "The protocol in Spin: all states of small configurations."),
    "check": ("native.check", "The ring in C under a bounded model checker."),
    "sanitize": ("native.sanitize", "The ring in C: an explorer of schedules, and threads under sanitizers."),
    "codec": ("codec.command", "Everyday objects in C and in Python beside pickle, damaged ones too; a fuzzer."),
    "extension": ("native.extension", "Tests of the package on the extension, built with sanitizers."),
    "hostile": ("hostile.command", "Damaged segments: nothing but this package's own errors comes of them."),
    "chaos": ("chaos.command", "Real processes: kills, pauses, Ctrl-C, forks, full memory, deaths at every step."),
    "kill": ("chaos.kill", "kill -9 in tight loops, at random moments."),
    "soak": ("chaos.soak", "Many items without a death: nothing lost, doubled, torn or out of order."),
    "storm": ("chaos.storm", "Signals and exceptions of other threads by the hundred thousand: no item lost."),
    "lives": ("chaos.lives", "Whole programs that end in every way: their queues go, and the next start works."),
    "remote": (
        "remote.command",
        "Queues on a server: kills of workers, bridges and the server; cut connections.",
    ),
    "bench": ("bench.command", "This package beside other queues, and beside the limits of the machine."),
    "planted": ("planted.command", "The list of planted bugs: which rule each breaks, and what has to find it."),
}


class _Kit(click.Group):
    """Commands that are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        command = importlib.import_module(f"{__package__}.{COMMANDS[cmd_name][0]}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.command(cls=_Kit, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Stress SharedMemoryQueue. Each command has its own --help."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a script starts with it ignored
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that nothing is left of a run


if __name__ == "__main__":
    main()
