"""Options that several commands have, and what these do with them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import click
from rich.console import Console

from .copies import default_compiler
from .engines import ENGINE, ENGINES
from .errors import SetupError

T = TypeVar("T")

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

ONE_ENGINE: Final = click.Choice(ENGINE)
ANY_ENGINES: Final = click.Choice(ENGINES)

engines: Final[Decorator] = click.option(
    "--engine",
    type=ANY_ENGINES,
    help="Of all handles, or both engines side by side; the best that is installed if not given.",
)
mode: Final[Decorator] = click.option(
    "--mode", type=click.Choice(["mpmc", "spsc"]), default="mpmc", show_default=True, help="Of the queue."
)
seed: Final[Decorator] = click.option("--seed", type=int, help="Of all choices; a random one if not given.")
first: Final[Decorator] = click.option(
    "--first", type=click.IntRange(0), default=0, show_default=True, help="Number of the first round."
)
patience: Final[Decorator] = click.option(
    "--patience",
    type=click.FloatRange(0, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds without progress after which this gives up and says what each worker waits for.",
)
stall_limit: Final[Decorator] = click.option(
    "--stall-limit",
    type=click.FloatRange(0, min_open=True),
    default=0.5,
    show_default=True,
    help="Seconds that no survivor may stall for; 'inf' only reports.",
)
compiler: Final[Decorator] = click.option("--compiler", default=default_compiler(), show_default=True)
plant: Final[Decorator] = click.option("--plant", is_flag=True, help="Plant bugs instead, and see that each is found.")


def tell_seed(given: int | None, console: Console) -> int:
    """Return the seed of a run, a random one if none is given, and print it."""
    chosen = int.from_bytes(os.urandom(4), "little") if given is None else given
    console.print(f"seed {chosen}", markup=False, highlight=False)
    return chosen


def parse_kinds(given: str, known: Sequence[T]) -> tuple[T, ...]:
    """Return the kinds that a list separated by commas names."""
    by_name = {str(kind): kind for kind in known}
    asked = [kind.strip() for kind in given.split(",")]
    if unknown := [kind for kind in asked if kind not in by_name]:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(by_name)}", param_hint="--kinds")
    return tuple(by_name[kind] for kind in asked)


@contextmanager
def engine_needed() -> Iterator[None]:
    """Turn the error about an engine that is not installed into one of the command line."""
    try:
        yield
    except ImportError as error:
        raise SetupError(str(error)) from None
