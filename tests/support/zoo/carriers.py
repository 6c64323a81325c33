"""Where a thing lies in an item, and whether two items are the same."""

from __future__ import annotations

import collections
import functools
import re
import types
from collections.abc import Callable
from typing import Any

from tests.support.zoo.kinds import (
    Attributes,
    Pair,
    PartialChild,
    Plain,
    Stateful,
    close_over,
    local_class,
    with_default,
)

CARRIERS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "itself": (lambda thing: thing, ""),
    "a value": (lambda thing: {"a": 1, "sink": thing}, "item['sink']"),
    "an element": (lambda thing: [0, (1, thing)], "item[1][1]"),
    "an attribute": (lambda thing: {"x": Attributes(file=thing)}, "item['x'].file"),
    "beside a lambda": (lambda thing: [lambda: 5, Attributes(file=thing)], "item[1].file"),
    "in a closure": (lambda thing: [close_over(thing)], "item[0].__closure__['value']"),
    "a default": (with_default, "item.__defaults__[0]"),
    "in a local object": (lambda thing: set_attribute(local_class()(), thing), "item.file"),
    "in a field": (lambda thing: Pair(1, Plain(thing)), "item.right.x"),
    "in a state": (lambda thing: Stateful(file=thing), "item.file"),
    "in a partial": (lambda thing: functools.partial(PartialChild, thing), "item.args[0]"),
    "in a deque": (lambda thing: collections.deque([1, thing]), "item[1]"),
    "in an exception": (lambda thing: ValueError(1, thing), "item.args[1]"),
}
"""Where a thing lies in an item, and what the item calls it there."""


def set_attribute(obj: Any, thing: Any) -> Any:
    obj.file = thing
    return obj


def is_same(one: Any, other: Any, depth: int = 0) -> bool:
    """Whether two objects are of the same type, and equal as far as one can see."""
    if type(one) is not type(other):
        return type(one).__qualname__ == type(other).__qualname__ and "<locals>" in type(one).__qualname__
    if one is other or depth > 8:
        return True
    if hasattr(one, "__array__"):
        import numpy as np

        if isinstance(one, np.ndarray):
            return (one.dtype == other.dtype and one.shape == other.shape and one.tolist() == other.tolist()) or (
                one.dtype == object and all(map(is_same, one.ravel(), other.ravel()))
            )
    if type(one) in {list, tuple}:
        return len(one) == len(other) and all(is_same(a, b, depth + 1) for a, b in zip(one, other, strict=True))
    if isinstance(one, BaseException):
        return is_same(one.args, other.args) and is_same(vars(one), vars(other))
    try:
        if one == other or (one != one and other != other):  # noqa: PLR0124
            return True
    except Exception:
        pass
    if isinstance(one, dict):
        return list(one) == list(other) and all(is_same(one[key], other[key], depth + 1) for key in one)
    if isinstance(one, types.FunctionType):
        return one.__code__.co_code == other.__code__.co_code  # type: ignore[no-any-return]
    if isinstance(one, types.ModuleType):
        return one.__name__ == other.__name__  # type: ignore[no-any-return]
    if isinstance(one, type):
        return one.__qualname__ == other.__qualname__ and set(vars(one)) == set(vars(other))
    try:
        states = one.__reduce_ex__(4), other.__reduce_ex__(4)
    except Exception:
        addresses = re.compile(r"(at )?0x[0-9a-fA-F]+")
        return addresses.sub("", repr(one)) == addresses.sub("", repr(other))
    return is_same(*states, depth + 1)
