"""The command ``shmq demo``: parsing and printing. The work itself is in ``demo``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ..errors import SharedMemoryQueueError
from . import demo, demo_counting
from .stop_signals import InterruptedBySignal, StopSignals

_TOP_NAMES = 10
_LISTED = 10  # files that cannot be tokenised, and differences


@click.command("demo")
@click.argument("path", required=False, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(1, demo.MOST_WORKERS),
    show_default="number of usable cores",
    help="Number of worker processes.",
)
@click.option(
    "--kills",
    metavar="N",
    type=click.IntRange(0),
    default=5,
    show_default=True,
    help="How often a worker is killed while it counts a file.",
)
@click.option("--check", is_flag=True, help="Count again in one process, and compare everything.")
def demo_command(path: Path | None, workers: int | None, kills: int, check: bool) -> None:
    """Count the tokens in Python source files with worker processes, of which some are killed while they work.

    Tasks go to the workers through one shared-memory queue, which leases them, and results come back through another.
    A worker that is killed loses nothing: another one gets its file, and each file is counted exactly once.

    PATH is a file, or a folder whose *.py files are counted, with those of its subfolders. Without PATH it is the
    standard library of the running Python. Folders called site-packages are left out. Files that cannot be tokenised
    count as files, and are listed at the end.

    Exit codes: 0 all files were counted (and the counts are equal), 1 some were not (or the counts differ), 2 wrong
    usage, 128 + n stopped by signal n.
    """
    console = Console(highlight=False, soft_wrap=True)
    try:
        with StopSignals() as signals:
            root = path or demo_counting.standard_library()
            files = _files_of(root)
            workers = min(workers or demo_counting.usable_cores(), len(files))
            console.print(
                _plain(
                    console, f"Counting tokens in {root}: {_number(len(files), 'file')}, {_number(workers, 'worker')}."
                )
            )
            _run(console, files, workers, kills, check, signals)
    except InterruptedBySignal as stop:
        click.echo(f"Stopped by {stop.signal.name}: the workers have ended, the queues are removed.", err=True)
        raise SystemExit(128 + stop.signal) from None


def _files_of(root: Path) -> list[str]:
    """Return the files to count.

    Raises:
        click.UsageError: there is none, or a folder cannot be read.
    """
    context = click.get_current_context()
    try:
        files = demo_counting.python_files(root)
    except OSError as error:
        raise click.UsageError(
            f"cannot read folder {error.filename!r}: {error.strerror}; give a PATH that can be read", context
        ) from error
    if not files:
        raise click.UsageError(f"there are no *.py files in {str(root)!r}; give a PATH that has some", context)
    return files


def _run(console: Console, files: list[str], workers: int, kills: int, check: bool, signals: StopSignals) -> None:
    """Count, print, and count again if ``check`` is set.

    Raises:
        click.ClickException: the workers could not count everything, or the counts differ.
        InterruptedBySignal: the user wants to stop.
    """
    try:
        with _progress_bar("with workers", len(files)) as show:
            result = demo.count_with_workers(
                files, workers, kills, signals.check, lambda now: show(now.files, _queue_levels(now))
            )
    except (demo.WorkersDiedError, SharedMemoryQueueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    signals.check()
    _print_result(console, result)
    if check:
        _check(console, files, result, signals)


def _check(console: Console, files: list[str], result: demo.DemoResult, signals: StopSignals) -> None:
    """Count alone and compare.

    Raises:
        click.ClickException: the counts differ.
        InterruptedBySignal: the user wants to stop.
    """
    began = time.perf_counter()
    with _progress_bar("alone", len(files)) as show:
        alone = demo_counting.count_alone(files, signals.check, lambda done: show(done, ""))
    seconds = time.perf_counter() - began
    durations = f"{_number(len(result.workers), 'worker')} {result.seconds:.2f} s, alone {seconds:.2f} s"
    differences = result.totals.differences(alone)
    if differences:
        raise click.ClickException(
            f"the counts differ ({durations}), first with workers, then alone:\n{_shortened(differences)}\n"
            f"If no file has changed meanwhile, please report this."
        )
    console.print(
        f"Equal: {alone.files:,} files, {alone.tokens:,} tokens, the counts of all {len(alone.names):,} names "
        f"({durations})."
    )


# ---- printing --------------------------------------------------------------------------------------------------------


@contextmanager
def _progress_bar(description: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """Show a progress bar on standard error, if that is a terminal; it disappears when the ``with`` block ends.

    Yields:
        A function to call with the number of files counted and a note.
    """
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_interactive) as progress:
        bar = progress.add_task(description, total=total, note="")
        yield lambda done, note: progress.update(bar, completed=done, note=note)


def _queue_levels(now: demo.Progress) -> str:
    return f"tasks {now.tasks}/{demo.TASKS} results {now.results}/{demo.RESULTS} killed {now.deaths}"


def _print_result(console: Console, result: demo.DemoResult) -> None:
    """Print the deaths, the tables, and the files that were not tokenised."""
    for death in result.deaths:
        had = "" if death.path is None else f"; it had {death.path}"
        counted = f"when {_number(death.files, 'file')} were counted{had}"
        console.print(_plain(console, f"Worker {death.worker + 1} (process {death.pid}): {death.cause} {counted}"))
    console.print(_summary(console, result), soft_wrap=False)
    console.print(_worker_table(result), soft_wrap=False)
    totals = result.totals
    if totals.not_tokenised:
        reasons = [f"{path}: {reason}" for path, reason in sorted(totals.not_tokenised.items())]
        console.print(_plain(console, f"Not tokenised:\n{_shortened(reasons)}"))


def _summary(console: Console, result: demo.DemoResult) -> Table:
    totals = result.totals
    table = Table(title="Summary", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    table.add_row("files", f"{totals.files:,}")
    table.add_row("not tokenised", f"{len(totals.not_tokenised):,}")
    table.add_row("tokens", f"{totals.tokens:,}")
    table.add_row("different names", f"{len(totals.names):,}")
    top = sorted(totals.names.items(), key=lambda item: (-item[1], item[0]))[:_TOP_NAMES]
    table.add_row("top names", _plain(console, ", ".join(f"{name} {count:,}" for name, count in top)))
    table.add_row("seconds", f"{result.seconds:.2f}")
    table.add_row("files a second", f"{totals.files / result.seconds:,.0f}")
    table.add_row("tokens a second", f"{totals.tokens / result.seconds:,.0f}")
    table.add_row("workers killed", f"{sum(report.killed for report in result.workers):,}")
    table.add_row("files that came back", f"{result.redelivered:,}")
    table.add_row("results that came twice", f"{result.repeated:,}, added once")
    for queue in result.queues:
        table.add_row(
            f"queue of {queue.name}",
            f"{queue.items:,} items through {queue.capacity} slots of {queue.item_size:,} bytes; "
            f"full {_number(queue.full, 'time')}, empty {_number(queue.empty, 'time')}",
        )
    return table


def _worker_table(result: demo.DemoResult) -> Table:
    table = Table(title="Workers")
    table.add_column("worker")
    for heading in ("last process", "files", "tokens", "files a second", "killed", "died"):
        table.add_column(heading, justify="right")
    for i, report in enumerate(result.workers, 1):
        rate = f"{report.files / result.seconds:,.0f}"
        numbers = f"{report.files:,}", f"{report.tokens:,}", rate, str(report.killed), str(report.died)
        table.add_row(str(i), str(report.pid), *numbers)
    if result.by_main:
        table.add_row("main", "", f"{result.by_main:,}", "", "", "", "")
    return table


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _shortened(lines: list[str]) -> str:
    more = [f"  and {len(lines) - _LISTED:,} more"] if len(lines) > _LISTED else []
    return "\n".join([f"  {line}" for line in lines[:_LISTED]] + more)


def _plain(console: Console, text: str) -> Text:
    """Return text without markup that the console can print, even if a file name in it cannot be encoded."""
    return Text(text.encode(console.encoding, "backslashreplace").decode(console.encoding))
