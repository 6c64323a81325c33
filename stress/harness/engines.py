"""Which engine a handle has: one for all handles of a run, or both side by side."""

from __future__ import annotations

from random import Random
from typing import Final, Literal, get_args

Engine = Literal["atomics", "native"]
Mode = Literal["mpmc", "spsc"]
Engines = Literal["atomics", "native", "mixed"]

ENGINE: Final[tuple[Engine, ...]] = get_args(Engine)
ENGINES: Final[tuple[Engines, ...]] = get_args(Engines)
MIXED: Final[Literal["mixed"]] = "mixed"


def common(engines: Engines | None) -> Engine | None:
    """Return the engine of all handles; None: the best that is installed, or each handle has one of its own."""
    return None if engines == MIXED else engines


def choose(rng: Random, engines: Engines) -> Engine:
    """Return the engine of one handle."""
    return rng.choice(ENGINE) if engines == MIXED else engines
