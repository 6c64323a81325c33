"""The command line of the stress kit: see ``python -m stress --help``."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import click
from rich.console import Console

from . import bench as benching
from . import check as checking
from . import compare as comparing
from . import explore as exploring
from . import extension as extending
from . import hostile as attacking
from . import kill as killing
from . import model as modelling
from . import sanitize as sanitizing
from . import soak as soaking
from . import storm as storming
from . import workers
from .chaos import command as chaotic
from .damage import Engine
from .explore.corpus import Engines
from .workers import Calls

T = TypeVar("T")

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
stall_option = click.option(
    "--stall-limit",
    type=click.FloatRange(0, min_open=True),
    default=0.5,
    show_default=True,
    help="Seconds that no survivor may stall for; 'inf' only reports.",
)


@click.group()
def main() -> None:
    """Stress SharedMemoryQueue."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a script starts with it ignored
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


def _chosen(given: str, known: Sequence[T]) -> tuple[T, ...]:
    """Return the kinds that a list separated by commas names."""
    by_name = {str(kind): kind for kind in known}
    asked = [kind.strip() for kind in given.split(",")]
    if unknown := [kind for kind in asked if kind not in by_name]:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(by_name)}", param_hint="--kinds")
    return tuple(by_name[kind] for kind in asked)


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
@stall_option
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
    chosen = _chosen(kinds, killing.KINDS)
    console = Console()
    seed = _seed(seed, console)
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
@click.option("--quick", is_flag=True, help="Once, and briefly: three minutes.")
@click.option("--repeats", type=click.IntRange(1), help="Of each measurement; 5 if not given.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="Of each measurement; 1 if not given.")
@click.option("--scenario", "scenarios", multiple=True, help="Only this; may be given again.")
@click.option("--peer", "peers", multiple=True, help="Only this; may be given again.")
@click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), help="Folder for all figures, tables and pictures."
)
def bench(
    quick: bool,
    repeats: int | None,
    seconds: float | None,
    scenarios: tuple[str, ...],
    peers: tuple[str, ...],
    output: Path | None,
) -> None:
    """Measure this package beside its peers, those that are installed, and beside the limits of the machine."""
    for given, known in ((scenarios, benching.SCENARIOS), (peers, benching.PEERS)):
        if unknown := [name for name in given if name not in known]:
            raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(known)}")
    console = Console()
    plan = benching.Plan(
        scenarios, peers, repeats or (1 if quick else 5), seconds or (0.15 if quick else 1.0), not quick
    )
    results = benching.run(plan, console)
    if output is not None:
        benching.write(results, output)
    benching.print_all(results, console)


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
@click.option("--engine", type=click.Choice(["atomics", "native", workers.MIXED]), help="All three if not given.")
@click.option("--schedules", type=click.IntRange(0), default=25_000, show_default=True, help="How many to enumerate.")
@click.option(
    "--draws", type=click.IntRange(0), default=300, show_default=True, help="How many hypothesis draws besides."
)
@click.option("--program", default="", help="Only this, as the module stress.explore.program says.")
@click.option("--replay", default="", help="A program and a schedule, as a finding prints them, instead.")
@click.option("--plant", is_flag=True, help="Plant bugs instead, and see that each is found.")
@click.option("--compiler", default=sanitizing.default_compiler(), show_default=True)
@seed_option
def explore(
    engine: Engines | None,
    schedules: int,
    draws: int,
    program: str,
    replay: str,
    plant: bool,
    compiler: str,
    seed: int | None,
) -> None:
    """Run both engines in one process that decides before every atomic step who moves, who dies."""
    console = Console()
    seed = _seed(seed, console)
    try:
        ok = exploring.explore(engine, schedules, draws, seed, program, replay, plant, compiler, console)
    except (sanitizing.SanitizeError, exploring.ProgramError) as error:
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
@click.option("--seconds", type=click.FloatRange(0), default=20.0, show_default=True, help="How long.")
@click.option("--engine", type=_ENGINES, help="Of all handles; both, side by side, if not given.")
@click.option("--case", "only", type=click.IntRange(0), help="Number of the only case to run.")
@click.option("--compiler", default=sanitizing.default_compiler(), show_default=True)
@click.option("--plain", is_flag=True, help="With the extension that is installed, not one built with sanitizers.")
@seed_option
def hostile(
    seconds: float, engine: Engine | None, only: int | None, compiler: str, plain: bool, seed: int | None
) -> None:
    """Damage segments in every way, use them, and see that nothing but this package's own errors comes of it."""
    console = Console()
    plan = attacking.Plan(seconds, engine, _seed(seed, console), only)
    try:
        with _engine_needed():
            ok = attacking.run(plan, console) if plain else attacking.run_sanitized(plan, compiler)
    except sanitizing.SanitizeError as error:
        raise click.ClickException(str(error)) from None
    sys.exit(not ok)


@main.command()
@click.option("--interrupts", type=click.IntRange(1), default=30_000, show_default=True, help="In all.")
@click.option("--engine", type=_ENGINES, help="Of all handles; both in turn if not given.")
@seed_option
def storm(interrupts: int, engine: Engine | None, seed: int | None) -> None:
    """Interrupt consumers by signals and from other threads, and see that no item is lost."""
    console = Console()
    plan = storming.Plan(interrupts, (engine,) if engine else ("atomics", "native"), _seed(seed, console))
    with _engine_needed():
        ok = storming.run(plan, console)
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


@main.command()
@click.option("--rounds", type=click.IntRange(1), help="Of the kinds that have most; 100, or 8 with --short.")
@click.option("--first", type=click.IntRange(0), default=0, show_default=True, help="Number of the first round.")
@click.option("--kinds", default=",".join(chaotic.KINDS), show_default=True, help="Of trouble.")
@click.option("--engine", type=click.Choice(chaotic.ENGINES), help="Only this; all in turn if not given.")
@click.option("--short", is_flag=True, help="A minute and a half.")
@stall_option
@seed_option
@patience_option
def chaos(
    rounds: int | None,
    first: int,
    kinds: str,
    engine: str | None,
    short: bool,
    stall_limit: float,
    seed: int | None,
    patience: float,
) -> None:
    """Bring all kinds of trouble over processes, and see that nothing is lost and nobody is blocked."""
    chosen = _chosen(kinds, chaotic.KINDS)
    console = Console()
    seed = _seed(seed, console)
    engines = chaotic.ENGINES if engine is None else (engine,)
    plan = chaotic.Plan(rounds or (8 if short else 100), first, chosen, engines, seed, patience, stall_limit)
    with _engine_needed():
        ok = chaotic.run(plan, console)
    sys.exit(not ok)


if __name__ == "__main__":
    main()
