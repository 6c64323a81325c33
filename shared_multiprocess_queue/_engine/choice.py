"""The choice of the engine that works on a queue."""

from __future__ import annotations

import os

from ..errors import ArgumentError, shown
from .atomics import AtomicsEngine
from .contract import Engine

ENVIRONMENT = "SHMQ_ENGINE"

_native: type[Engine] | None = None
_why_not = ""  # a text, because the traceback of the error would keep the frames of the importing modules
try:
    from . import native
except ImportError as error:
    _why_not = str(error)
else:
    _native = native.NativeEngine


def has_native() -> bool:
    """Whether the native engine is installed."""
    return _native is not None


def choose(engine: str | None) -> type[Engine]:
    """Return the engine to use. If an engine is asked for by name, no other one is used.

    Args:
        engine: "atomics" or "native"; None takes the value of the environment variable ``SHMQ_ENGINE``, or, if that is
            not set, the best engine that is installed.

    Raises:
        ArgumentError: there is no engine of that name.
        ImportError: the engine that was asked for is not installed.
    """
    asked = engine if engine is not None else os.environ.get(ENVIRONMENT) or None
    if asked not in (None, "atomics", "native"):
        where = "engine" if engine is not None else f"the environment variable {ENVIRONMENT}"
        raise ArgumentError(f"{where} must be 'atomics' or 'native', not {shown(asked)}")
    if _native is not None:
        return AtomicsEngine if asked == "atomics" else _native
    if asked == "native":
        raise ImportError(
            f"the native engine was not built in {os.path.dirname(os.path.dirname(__file__))} ({_why_not}): it needs "
            f"Linux, and a C compiler when the package is installed; install it again with one, or ask for "
            f"engine='atomics', or leave the choice to None"
        )
    return AtomicsEngine
