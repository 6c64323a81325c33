"""Which engine works on a queue."""

from __future__ import annotations

import os

from .errors import ArgumentError

ENVIRONMENT = "SHMQ_ENGINE"


def choose(engine: str | None) -> str:
    """Return the name of the engine to use; one that is asked for by name is used or is an error.

    Args:
        engine: "atomics" or "native"; None leaves it to the environment variable ``SHMQ_ENGINE`` and, where that is not
            set, to what is installed.

    Raises:
        ArgumentError: there is no engine of that name.
        ImportError: the engine that was asked for is not installed.
    """
    asked = engine if engine is not None else os.environ.get(ENVIRONMENT) or None
    if asked not in (None, "atomics", "native"):
        where = "engine" if engine is not None else f"the environment variable {ENVIRONMENT}"
        raise ArgumentError(f"{where} must be 'atomics' or 'native', not {asked!r}")
    if asked == "native":
        raise ImportError("this version has no native engine; ask for engine='atomics', or leave it to None")
    return "atomics"
