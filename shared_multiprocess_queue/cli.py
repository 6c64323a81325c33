"""The command ``shmq``: parsing and printing; what it does is in ``demo``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NoReturn

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from . import __version__, demo
from .errors import SharedMemoryQueueError

_TOP_NAMES = 10
_LISTED_FILES = 10
_LISTED_DIFFERENCES = 5


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="shmq")
def main() -> None:
    """A queue of Python objects in shared memory: see it work."""


@main.command("demo")
@click.argument("path", required=False, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--workers",
    type=click.IntRange(1, demo.MOST_WORKERS),
    help="Number of worker processes.  [default: one for each usable core]",
)
@click.option("--check", is_flag=True, help="Count again in one process, and compare everything.")
def demo_command(path: Path | None, workers: int | None, check: bool) -> None:
    """Count the tokens in Python source files with worker processes.

    Tasks go to the workers through one shared-memory queue, results come back through another.

    PATH is a file, or a folder whose *.py files are counted, those of its folders included. Without PATH it is the
    standard library of the running Python. Folders called "site-packages" are left out. Files that cannot be tokenised
    are named at the end.

    Exit code: 0 all counted (and equal), 1 different or not all counted, 2 wrong usage, 128 + n ended by signal n.
    """
    console = Console(highlight=False)
    try:
        with demo.StopSignals() as signals:
            _run(console, path or demo.standard_library(), workers or demo.usable_cores(), check, signals)
    except demo.InterruptedBySignal as stop:
        click.echo(f"Stopped by {stop.signal.name}; the workers have ended and the queues are removed.", err=True)
        raise SystemExit(128 + stop.signal) from None
    except (demo.WorkersDiedError, SharedMemoryQueueError, OSError) as error:
        _fail(error)


def _fail(error: Exception) -> NoReturn:
    raise click.ClickException(str(error)) from error


def _run(console: Console, root: Path, workers: int, check: bool, signals: demo.StopSignals) -> None:
    """Do what the command line asks for.

    Args:
        console: where results are printed.
        root: what to count.
        workers: number of worker processes.
        check: whether to count again alone.
        signals: raise if the user wants to stop.
    """
    files = _files_of(root)
    workers = min(workers, len(files))
    console.print(
        f"Counting the tokens of {_number(len(files), 'file')} in", _plain(root, console), "with", _number(workers, "worker")
    )
    with _progress_bar(len(files)) as bar:
        result = demo.count_with_workers(files, workers, signals.check, bar.with_queues)
    _print_result(console, result)
    if check:
        _check(console, files, result, signals)


def _files_of(root: Path) -> list[str]:
    try:
        files = demo.python_files(root)
    except OSError as error:
        raise click.UsageError(f"cannot read folder {error.filename!r}: {error.strerror}; give another PATH") from error
    if not files:
        raise click.UsageError(f"there are no *.py files in {str(root)!r}; give a PATH that has some")
    return files
