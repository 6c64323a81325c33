"""Objects as pickles that stand alone: their classes and functions of ``__main__`` travel in them, by value."""

from __future__ import annotations

import pickle
from typing import Any

from .._platform.lazy_import import late
from ..errors import SerializationError
from . import blame

__all__ = ["dump", "load"]


@late
def _cloudpickle() -> Any:
    import cloudpickle  # noqa: PLC0415

    return cloudpickle


def dump(item: object) -> bytes:
    """Return the pickle of an item.

    Raises:
        SerializationError: something in the item cannot be pickled.
    """
    try:
        pickled: bytes = _cloudpickle().dumps(item, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        blame.pass_on(error)
        text = blame.describe(error)
        raise SerializationError(f"the item cannot be serialised: {text}; {blame.advice(error, text)}") from error
    return pickled


def load(payload: bytes) -> Any:
    """Return the object of a pickle. It may run any code: the caller has made sure that it may be trusted."""
    return pickle.loads(payload)
