"""What a call returns or raises."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def outcome(function: Callable[[], T]) -> T | type[Exception]:
    try:
        return function()
    except Exception as error:
        return type(error)
