"""The command ``shmq top``: all queues, again and again, with rates from two looks."""

from __future__ import annotations

import os
import select
import sys
import termios
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from .._platform import clock
from .._platform.segment_file import space
from ..looking import QueueFile
from ..looking.files import listed
from ..looking.rates import Change, Changes
from . import screens
from .output import EXIT_CODES, answering, console, is_interactive, print_json
from .stop_signals import StopSignals

_SLICE: Final = 0.1  # seconds between two looks at signals
_QUIT: Final = b"qQ\x04"  # \x04: the end of input, typed


class _Looks:
    """Looks at all queues of a pattern, and what has changed between them."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._changes = Changes()
        self.rows: list[tuple[QueueFile, Change]] = []
        self.others: list[QueueFile] = []

    def look(self) -> None:
        """Look again."""
        queues = listed(self._pattern, False, mapped=False)
        changes = self._changes.note(queues)
        self.rows = [(queue, changes[queue.name]) for queue in queues if queue.look is not None]
        self.others = [queue for queue in queues if queue.look is None]

    def screen(self, to: Console) -> RenderableType:
        """Return the screen of the last look, of at most as many lines as a terminal has."""
        most = max(to.height - 5, 1) if to.is_terminal else len(self.rows)
        shown: Sequence[tuple[QueueFile, Change]] = self.rows[:most]
        lines = [screens.summary([queue for queue, _ in self.rows], *space())]
        if len(shown) < len(self.rows):
            lines.append(f"{len(self.rows) - len(shown):,} more below; give a PATTERN to see them")
        if self.others:
            lines.append(f"{len(self.others):,} that cannot be looked into; shmq ls has them")
        below = Text("\n".join(lines), no_wrap=True, overflow="ellipsis")
        return Group(screens.table(to, screens.TOP, shown), Text(""), below) if shown else below

    def as_list(self) -> list[dict[str, Any]]:
        """Return the last look for JSON."""
        return [{**queue.as_dict(), "change": _change(change)} for queue, change in self.rows] + [
            {**queue.as_dict(), "change": None} for queue in self.others
        ]


def _change(change: Change) -> dict[str, Any]:
    blocked = None
    if change.blocked is not None:
        blocker, seconds = change.blocked
        blocked = {"pid": blocker.pid, "position": blocker.position, "doing": blocker.doing, "seconds": seconds}
    return {"seconds": change.seconds, "rates": change.rates, "totals": change.totals, "blocked": blocked}


@click.command("top", epilog=EXIT_CODES)
@click.argument("pattern", default="*")
@click.option(
    "-d",
    "--delay",
    type=click.FloatRange(0.1),
    default=1.0,
    show_default=True,
    metavar="S",
    help="Seconds between looks.",
)
@click.option("--once", is_flag=True, help="Print one interval.")
@click.option("-b", "--batch", type=click.IntRange(1), metavar="N", help="Print N intervals, one after the other.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each interval.")
@answering
def top_command(pattern: str, delay: float, once: bool, batch: int | None, as_json: bool) -> None:
    """Show all queues, with rates, again and again. q, Ctrl-C or the end of input quits."""
    looks = _Looks(pattern)
    most = 1 if once else batch
    with StopSignals() as signals:
        if most is None and not as_json and is_interactive():
            _show(looks, delay, signals)
            return
        looks.look()
        done = 0
        while most is None or done < most:
            _sleep(delay, signals)
            looks.look()
            if as_json:
                print_json("top", queues=looks.as_list())
            else:
                screen = console()
                screen.print(looks.screen(screen))
            sys.stdout.flush()
            done += 1


def _sleep(seconds: float, signals: StopSignals) -> None:
    until = clock.now() + seconds * 1e9
    while (left := (until - clock.now()) / 1e9) > 0:
        signals.check()
        clock.sleep(min(left, _SLICE))
    signals.check()


def _show(looks: _Looks, delay: float, signals: StopSignals) -> None:
    """Show screens until the user quits. The terminal is as before at the end, however that comes."""
    screen = console()
    with _keys(sys.stdin.fileno()), Live(console=screen, screen=True, auto_refresh=False) as live:
        while True:
            looks.look()
            live.update(looks.screen(screen), refresh=True)
            until = clock.now() + delay * 1e9
            while (left := (until - clock.now()) / 1e9) > 0:
                signals.check()
                if _wants_to_quit(sys.stdin.fileno(), min(left, _SLICE)):
                    return


def _wants_to_quit(descriptor: int, seconds: float) -> bool:
    if not select.select([descriptor], [], [], seconds)[0]:
        return False
    keys = os.read(descriptor, 64)
    return not keys or any(key in keys for key in _QUIT)


@contextmanager
def _keys(descriptor: int) -> Iterator[None]:
    """Let keys come one by one and without echo. Ctrl-C stays a signal; SIGTSTP or SIGQUIT would leave it so."""
    before = termios.tcgetattr(descriptor)
    changed = termios.tcgetattr(descriptor)
    changed[3] &= ~(termios.ICANON | termios.ECHO)
    changed[6][termios.VMIN], changed[6][termios.VTIME] = 1, 0
    changed[6][termios.VSUSP] = changed[6][termios.VQUIT] = b"\0"
    termios.tcsetattr(descriptor, termios.TCSADRAIN, changed)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
