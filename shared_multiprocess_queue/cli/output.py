"""What all commands print in one way: names as data, sizes and times, JSON, errors and their exit codes."""

from __future__ import annotations

import functools
import json
import math
import re
import signal
import sys
from collections.abc import Callable
from typing import Any, Final, ParamSpec

import click
from rich.console import Console
from rich.text import Text

from ..errors import (
    CorruptQueueError,
    LayoutVersionError,
    QueueNotFoundError,
    QueueNotReadyError,
    SharedMemoryQueueError,
)
from ..looking.found import SCHEMA, QueueFile
from .stop_signals import InterruptedBySignal

P = ParamSpec("P")

NO: Final = 1  # a question was answered "no", or something could not be done
NOT_THERE: Final = 3
NOT_PERMITTED: Final = 4
NOT_USABLE: Final = 5  # damaged, half made, no queue, or of another layout

_CODES: Final[tuple[tuple[type[BaseException], int], ...]] = (
    (QueueNotFoundError, NOT_THERE),
    (PermissionError, NOT_PERMITTED),
    (CorruptQueueError, NOT_USABLE),
    (LayoutVersionError, NOT_USABLE),
    (QueueNotReadyError, NOT_USABLE),
    (SharedMemoryQueueError, NO),
    (NotImplementedError, NO),
    (OSError, NO),
)
EXIT_CODES: Final = (
    "Exit codes: 0 done; 1 a question was answered no, or something could not be done; 2 wrong usage; 3 no such queue; "
    "4 not permitted; 5 the queue is damaged, half made, no queue or of another layout; 128 + n stopped by signal n."
)
_UNLIMITED: Final = 10_000  # columns of an output that is no terminal
_BAR: Final = 10
_UNITS: Final = ("KiB", "MiB", "GiB", "TiB")
_AGES: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(d|h|m|min|s|)", re.ASCII)
_SECONDS: Final = {"d": 86_400, "h": 3_600, "m": 60, "min": 60, "s": 1, "": 1}


# ---- errors and exit codes ------------------------------------------------------------------------------------------


class Failed(click.ClickException):
    """Ends a command with a message and an exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = code  # type: ignore[misc]  # click reads it of the instance, too


def fail(message: str, code: int = NO) -> Failed:
    """Return the exception that ends a command with a message and an exit code."""
    return Failed(safe(message), code)


def code_of(error: BaseException) -> int:
    """Return the exit code for an error."""
    return next(code for kind, code in _CODES if isinstance(error, kind))


def answering(command: Callable[P, None]) -> Callable[P, None]:
    """Let a command end by an exit code and a message, instead of a traceback, at whatever goes wrong in it."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        if sys.stdout is None:  # its descriptor would be given to the next file that is opened
            raise fail("stdout is closed; send it to /dev/null if it is not wanted")
        try:
            command(*args, **kwargs)
        except BrokenPipeError:
            raise  # click ends quietly
        except (SharedMemoryQueueError, NotImplementedError, OSError) as error:
            raise fail(str(error), code_of(error)) from error
        except InterruptedBySignal as stop:
            raise SystemExit(128 + stop.signal) from None
        except KeyboardInterrupt:
            raise SystemExit(128 + signal.SIGINT) from None

    return run


def ask(question: str) -> None:
    """Ask on stderr, and end the command with exit code 1 if the answer is no, or if no answer comes."""
    try:
        click.confirm(safe(question), abort=True, err=True)
    except click.Abort as abort:
        if isinstance(abort.__context__, KeyboardInterrupt):
            raise SystemExit(128 + signal.SIGINT) from None
        raise


# ---- JSON -----------------------------------------------------------------------------------------------------------


def print_json(command: str, **fields: Any) -> None:
    """Print one object in one line; ``schema`` is the number of its form."""
    click.echo(json.dumps({"schema": SCHEMA, "command": command, **fields}, default=list))


# ---- texts ----------------------------------------------------------------------------------------------------------


def safe(text: str) -> str:
    """Return a text in which whatever is no printable character is escaped: it may come from another program.

    So it cannot move the cursor, change colours, turn the direction of writing, or pretend to be another line.
    """
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def name(text: str) -> str:
    """Return the name of a queue, or another text of one line, as it is printed."""
    return safe(text).replace("\n", "\\n")


def console(stderr: bool = False) -> Console:
    """Return the console of the output: no markup, colours and a limit of width only in a terminal."""
    found = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not found.is_terminal:
        found.width = _UNLIMITED
    return found


def encodable(screen: Console, text: str) -> str:
    """Return a text with escapes for what the encoding of a console lacks."""
    return text.encode(screen.encoding, "backslashreplace").decode(screen.encoding)


def cell(screen: Console, text: str, style: str = "") -> Text:
    """Return a text for a table, as data: rich finds no markup in it."""
    return Text(encodable(screen, name(text)), style=style)


def number(count: int, noun: str) -> str:
    """Return a number with a noun: "1 queue", "2 queues"; of process "processes"."""
    ending = "" if count == 1 else "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}{ending}"


def size(count: float) -> str:
    """Return a number of bytes: "256 B", "1.0 KiB", "632.0 KiB"."""
    if count < 1024:
        return f"{count:.0f} B"
    power = min(int(math.log2(count) // 10), len(_UNITS))
    return f"{count / 1024**power:,.1f} {_UNITS[power - 1]}"


def age(seconds: float) -> str:
    """Return a time that has passed: "5 s", "4 min", "2 d"."""
    unit, letter = next(((unit, letter) for unit, letter in _AGES if seconds >= unit), (1, "s"))
    return f"{max(seconds, 0) / unit:.0f} {letter}"


def bar(screen: Console, part: float, length: int = _BAR) -> Text:
    """Return a bar for a part of 1, green, or yellow above 0.7, or red above 0.9; the figure stands beside it."""
    filled = min(math.ceil(part * length), length)
    full, empty = ("█", "░") if screen.encoding.lower().startswith("utf") else ("#", ".")
    style = "red" if part > 0.9 else "yellow" if part > 0.7 else "green"
    return Text(full * filled + empty * (length - filled), style=style)


def state_of(queue: QueueFile) -> str:
    """Return in a word or two how a queue is: whether it is used, or what is wrong."""
    if queue.state == "layout":
        return f"layout {queue.layout}"
    if queue.state != "ok":
        return queue.state
    return {True: "in use", False: "no user", None: "unknown"}[queue.in_use]


def reason(queue: QueueFile) -> str:
    """Return why a queue cannot be looked into, and what helps if it is not ready."""
    advice = {"unfinished": "; look again in a moment", "leftover": "; shmq gc removes it"}
    return queue.why + advice.get(queue.state, "")


class Duration(click.ParamType[float]):
    """A time span: "2d", "3h", "90m", "45s"; without a unit seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds."""
        if isinstance(value, float):
            return value
        found = _DURATION.fullmatch(str(value))
        if found is None:
            self.fail(f"{name(str(value))!r} is no time span: 2d, 3h, 90m, 45s, or a number of seconds", param, ctx)
        return float(found[1]) * _SECONDS[found[2]]


def is_interactive() -> bool:
    """Whether a person sits at both ends."""
    return sys.stdin.isatty() and sys.stdout.isatty()
