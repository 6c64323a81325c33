"""The command line of the stress kit: ``python -m stress soak|kill|compare|sanitize|extension``."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console

from . import check as checking
from . import compare as comparing
from . import extension as extending
from . import kill as killing
from . import model as modelling
from . import sanitize as sanitizing
from . import soak as soaking
from . import workers
from .workers import Calls

_ENGINES = click.Choice(["atomics", "native"])
_MODES = click.Choice(["mpmc", "spsc"])

engine_option = click.option(
    "--engine",
    type=click.Choice(["atomics", "native", workers.MIXED]),
    help="Of all handles, or both engines side by side; the best that is installed if not given.",
)
mode_option = click.option("--mode", type=_MODES, default="mpmc", show_default=True, help="Of the queue.")
seed_option = click.option("--seed", type=int, help="Of all choices; a random one if not given.")
patience_option = click.option(
    "--patience",
    type=click.FloatRange(0, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds without progress after which this gives up and says who waits for what.",
)


@click.group()
def main() -> None:
    """Stress SharedMemoryQueue."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that nothing is left of a run


@contextmanager
def _engine_needed() -> Iterator[None]:
    """Turn the error about an engine that is not installed into one of the command line."""
    try:
        yield
    except ImportError as error:
        raise click.ClickException(str(error)) from None


def _seed(given: int | None, console: Console) -> int:
    seed = killing.default_seed() if given is None else given
    console.print(f"seed {seed}", markup=False, highlight=False)
    return seed


@main.command()
@click.option("--seconds", type=click.FloatRange(0), default=60.0, show_default=True, help="How long to put.")
@click.option("--producers", type=click.IntRange(1), default=2, show_default=True)
@click.option("--consumers", type=click.IntRange(1), default=2, show_default=True)
@click.option("--capacity", type=click.IntRange(1), default=3, show_default=True, help="Small ones wrap around often.")
@click.option("--batches/--singles", default=None, help="Only batches, or only single items; both if not given.")
@engine_option
@mode_option
@seed_option
@patience_option
def soak(
    seconds: float,
    producers: int,
    consumers: int,
    capacity: int,
    batches: bool | None,
    engine: str | None,
    mode: str,
    seed: int | None,
    patience: float,
) -> None:
    """Send many items, and see that none is lost, doubled, torn or out of order. Ctrl-C ends it early."""
    if mode == "spsc" and (producers, consumers) != (1, 1):
        raise click.UsageError(
            f"mode spsc has one producer and one consumer, not {producers} and {consumers}; "
            f"add --producers 1 --consumers 1"
        )
    console = Console()
    calls: Calls = "mixed" if batches is None else "batches" if batches else "singles"
    seed = _seed(seed, console)
    plan = soaking.Plan(seconds, producers, consumers, engine, capacity, mode, calls, seed, patience)
    with _engine_needed():
        ok = soaking.run(plan, console).ok
    sys.exit(not ok)


@main.command()
@click.option("--rounds", type=click.IntRange(1), default=50, show_default=True, help="Of each kind.")
@click.option("--first", type=click.IntRange(0), default=0, show_default=True, help="Number of the first round.")
@click.option("--kinds", default=",".join(killing.KINDS), show_default=True, help="Who is killed.")
@click.option("--capacity", type=click.IntRange(1), help="Of all queues; mostly 1 to 5 if not given.")
@click.option(
    "--stall-limit",
    type=click.FloatRange(0, min_open=True),
    default=0.5,
    show_default=True,
    help="Seconds that no survivor may stall for; 'inf' only reports.",
)
@engine_option
@mode_option
@seed_option
@patience_option
def kill(
    rounds: int,
    first: int,
    kinds: str,
    capacity: int | None,
    stall_limit: float,
    engine: str | None,
    mode: str,
    seed: int | None,
    patience: float,
) -> None:
    """Kill producers and consumers at random moments, and see that nothing is lost and nobody is blocked."""
    known = {str(kind): kind for kind in killing.KINDS}
    asked = [kind.strip() for kind in kinds.split(",")]
    if unknown := [kind for kind in asked if kind not in known]:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(known)}", param_hint="--kinds")
    console = Console()
    seed = _seed(seed, console)
    chosen = tuple(known[kind] for kind in asked)
    plan = killing.Plan(rounds, first, chosen, engine, mode, capacity, seed, patience, stall_limit)
    with _engine_needed():
        ok = killing.run(plan, console)
    sys.exit(not ok)


@main.command()
@click.option("--items", type=click.IntRange(1), default=20000, show_default=True, help="Of each measurement.")
@click.option("--repeats", type=click.IntRange(1), default=7, show_default=True)
@click.option(
    "--peer",
    type=click.Path(file_okay=False, path_type=Path),
    help=f"Folder with release {comparing.PEER}, installed there if it is not; a temporary one if not given.",
)
@click.option("--least", type=float, default=3.0, show_default=True, help="Least ratio.")
@click.option("--engine", type=_ENGINES, default="atomics", show_default=True)
def compare(items: int, repeats: int, peer: Path | None, least: float, engine: str) -> None:
    """See how many times as fast this package is as the release before the rewrite."""
    try:
        ok = comparing.run(items, repeats, engine, peer, least, Console())
    except comparing.MeasurementError as error:
        raise click.ClickException(str(error)) from None
    sys.exit(not ok)


@main.command()
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    help="Of each of eight configurations of threads; 0.4, or 30 with --long, if not given.",
)
@click.option("--long", "is_long", is_flag=True, help="Explore further, too: minutes instead of seconds.")
@click.option(
    "--program",
    "programs",
    type=click.Choice(["explore", "thread", "address"]),
    multiple=True,
    help="Only this; may be given again.",
)
@click.option("--plant", is_flag=True, help="Plant bugs instead, and see that each is found.")
@click.option("--compiler", default=sanitizing.default_compiler(), show_default=True)
@seed_option
def sanitize(
    seconds: float | None, is_long: bool, programs: tuple[str, ...], plant: bool, compiler: str, seed: int | None
) -> None:
    """Run the native algorithm, in C, under an explorer of schedules, and in threads under sanitizers."""
    console = Console()
    seed = _seed(seed, console)
    plan = sanitizing.Plan(seed, seconds or (30.0 if is_long else 0.4), is_long, compiler)
    chosen = [program for program in sanitizing.PROGRAMS if program in (programs or sanitizing.PROGRAMS)]
    try:
        ok = sanitizing.run_planted(plan, console) if plant else sanitizing.run(plan, console, chosen)
    except sanitizing.SanitizeError as error:
        raise click.ClickException(str(error)) from None
    sys.exit(not ok)


@main.command(context_settings={"ignore_unknown_options": True})
@click.option("--compiler", default=sanitizing.default_compiler(), show_default=True)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def extension(compiler: str, arguments: tuple[str, ...]) -> None:
    """Run tests on the extension, built with sanitizers; ARGUMENTS are for pytest, after a --."""
    try:
        ok = extending.run(compiler, arguments, Console())
    except sanitizing.SanitizeError as error:
        raise click.ClickException(str(error)) from None
    sys.exit(not ok)


@main.command()
@click.option("--long", "is_long", is_flag=True, help="Larger sizes, too: half an hour and 8 GB instead of a minute.")
@click.option("--plant", is_flag=True, help="Plant bugs instead, and see that each is found.")
@click.option("--compiler", default=sanitizing.default_compiler(), show_default=True)
def model(is_long: bool, plant: bool, compiler: str) -> None:
    """Go through all states of the Spin models of the protocol."""
    try:
        ok = modelling.run(Console(), compiler, long=is_long, plant=plant)
    except modelling.ModelError as error:
        raise click.ClickException(str(error)) from None
    sys.exit(not ok)


@main.command()
@click.option("--long", "is_long", is_flag=True, help="Larger sizes, too.")
@click.option("--plant", is_flag=True, help="Plant bugs instead, and see that each is found.")
def check(is_long: bool, plant: bool) -> None:
    """Prove things about the native algorithm, in C, with a bounded model checker."""
    try:
        ok = checking.run_planted(Console()) if plant else checking.run(Console(), long=is_long)
    except checking.CheckError as error:
        raise click.ClickException(str(error)) from None
    sys.exit(not ok)


if __name__ == "__main__":
    main()
