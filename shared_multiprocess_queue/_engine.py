"""Which engine works on a queue."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ._atomics_engine import AtomicsEngine
from .errors import ArgumentError, shown

ENVIRONMENT = "SHMQ_ENGINE"

F = TypeVar("F", bound=Callable[..., Any])


class Attached:
    """What the public class is made of, so that the native engine finds its handle; without that engine just a slot."""

    __slots__ = ("_direct",)


_native: type[AtomicsEngine] | None = None
_direct: Callable[[Any], Any] | None = None
_why_not = ""  # not the error itself, whose traceback would keep the frames of whoever imports this
try:
    from . import _native_engine
except ImportError as error:
    _why_not = str(error)
else:
    _native, _direct = _native_engine.NativeEngine, _native_engine.direct
    if not TYPE_CHECKING:
        Attached = _native_engine.Attached


def direct(method: F) -> F:
    """Let the native engine run a method of the public class without a Python frame, on queues that it works on."""
    return method if _direct is None else _direct(method)


def has_native() -> bool:
    """Whether the native engine is installed."""
    return _native is not None


def choose(engine: str | None) -> type[AtomicsEngine]:
    """Return the engine to use; one that is asked for by name is used or is an error.

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
        raise ArgumentError(f"{where} must be 'atomics' or 'native', not {shown(asked)}")
    if _native is not None:
        return AtomicsEngine if asked == "atomics" else _native
    if asked == "native":
        raise ImportError(
            f"the native engine was not built here ({_why_not}): it needs Linux, and a C compiler when the package is "
            f"installed; install it again with one, or ask for engine='atomics', or leave the choice to None"
        )
    return AtomicsEngine
