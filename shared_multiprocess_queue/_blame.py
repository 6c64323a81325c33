"""What an error of pickle is due to: where in the item the culprit is, or that it is not the item's error at all."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Collection, Iterator
from itertools import chain, pairwise
from types import (
    BuiltinFunctionType,
    CodeType,
    FrameType,
    FunctionType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
    NoneType,
    TracebackType,
)
from typing import Any

__all__ = ["is_of_a_signal_handler", "path_to"]

_LEAVES = frozenset({NoneType, bool, int, float, complex, str, bytes, bytearray})
_MOST = 20_000  # objects to look at
_LONGEST = 300  # of a path, in characters
_LONGEST_KEY = 40

_Step = tuple[str, str, Any]  # what comes before and after the path of the whole, and the part


def is_of_a_signal_handler(error: BaseException) -> bool:
    """Return whether an error was raised by a signal handler, or by something that it called.

    Python calls a handler with a number and the frame that the signal has interrupted, from this very frame.

    Args:
        error: with its traceback.
    """
    traceback: TracebackType | None = error.__traceback__
    while traceback is not None:
        frame = traceback.tb_frame
        # Not of this package, whose frames still run: f_locals would keep the error, which keeps the frame.
        if frame.f_globals.get("__package__") != __package__ and _is_a_handlers(frame):
            return True
        traceback = traceback.tb_next
    return False


def _is_a_handlers(frame: FrameType) -> bool:
    code, found = frame.f_code, frame.f_locals
    names = code.co_varnames[: code.co_argcount + bool(code.co_flags & 4)]  # 4: the last one is that of `*arguments`
    arguments: list[Any] = []
    for name in names:
        value = found.get(name)
        arguments.extend(value if type(value) is tuple else (value,))
    return frame.f_back is not None and any(
        following is frame.f_back and isinstance(number, int) and number in signal.valid_signals()
        for number, following in pairwise(arguments)
    )


def path_to(culprit: object, item: object, definitions: Collection[int]) -> str | None:
    """Return how an item leads to something in it, as ``item['sink'].file``; the shortest way.

    No code of the user runs for it: it goes through attributes and containers as they are.

    Args:
        culprit: what to look for.
        item: where.
        definitions: ids of the classes, functions and modules to look into; others went by their names.

    Returns:
        ``None``: it is not there, but in something that the item has made for pickle.
    """
    seen = {id(item): item}
    todo = deque([("item", item)])
    while todo:
        path, whole = todo.popleft()
        if type(whole) is culprit:
            return f"type({path})"
        for before, after, part in _steps(whole, definitions):
            if part is culprit:
                return f"{before}{path}{after}"
            if type(part) in _LEAVES or id(part) in seen or len(path) > _LONGEST:
                continue
            if len(seen) >= _MOST:
                return None
            seen[id(part)] = part
            todo.append((f"{before}{path}{after}", part))
    return None


def _steps(whole: Any, definitions: Collection[int]) -> Iterator[_Step]:
    kind = type(whole)
    if issubclass(kind, type | FunctionType | ModuleType):
        if id(whole) in definitions:
            yield from _steps_of_definition(whole)
        return
    if issubclass(kind, dict):
        for number, (key, value) in enumerate(list(dict.items(whole))):
            shown = _subscript(key)
            yield ("", shown, value) if shown else ("list(", f".values())[{number}]", value)
            yield "list(", f")[{number}]", key
    elif issubclass(kind, tuple):
        fields = getattr(kind, "_fields", ())
        for number, part in enumerate(list(tuple.__iter__(whole))):
            yield "", f".{fields[number]}" if number < len(fields) else f"[{number}]", part
    elif issubclass(kind, list):
        yield from (("", f"[{number}]", part) for number, part in enumerate(list(list.__iter__(whole))))
    elif issubclass(kind, deque):
        yield from (("", f"[{number}]", part) for number, part in enumerate(list(deque.__iter__(whole))))
    elif issubclass(kind, set | frozenset):
        iterate = set.__iter__ if issubclass(kind, set) else frozenset.__iter__
        yield from (("list(", f")[{number}]", part) for number, part in enumerate(list(iterate(whole))))
    elif issubclass(kind, BuiltinFunctionType | MethodType):
        yield "", ".__self__", whole.__self__
    elif issubclass(kind, BaseException):
        yield "", ".args", BaseException.args.__get__(whole)  # type: ignore[attr-defined]
    yield from _attributes(whole, kind)
    if id(kind) in definitions:
        yield "type(", ")", kind


def _attributes(whole: Any, kind: type) -> Iterator[_Step]:
    try:
        for name, value in list(object.__getattribute__(whole, "__dict__").items()):
            yield "", f".{name}", value
    except AttributeError:
        pass
    for cls in kind.__mro__:
        for name, descriptor in list(vars(cls).items()):
            if type(descriptor) is MemberDescriptorType:
                try:
                    yield "", f".{name}", descriptor.__get__(whole)
                except AttributeError:
                    continue


def _steps_of_definition(whole: Any) -> Iterator[_Step]:
    if isinstance(whole, FunctionType):
        for name, cell in zip(whole.__code__.co_freevars, whole.__closure__ or (), strict=False):
            try:
                yield "", f".__closure__[{name!r}]", cell.cell_contents
            except ValueError:  # it is empty
                continue
        yield "", ".__defaults__", whole.__defaults__
        yield "", ".__kwdefaults__", whole.__kwdefaults__
        for name in _names_in(whole.__code__):
            if name in whole.__globals__:
                yield "", f".__globals__[{name!r}]", whole.__globals__[name]
        attributes = whole.__dict__
    else:
        attributes = vars(whole)
    for name, value in list(attributes.items()):
        yield "", f".{name}", value
    if isinstance(whole, type):
        yield "", ".__bases__", whole.__bases__


def _names_in(code: CodeType) -> Iterator[str]:
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return chain(code.co_names, *map(_names_in, inner))


def _subscript(key: Any) -> str:
    if type(key) in {str, bytes}:
        shown = repr(key[:_LONGEST_KEY])
        return f"[{shown}]" if len(key) <= _LONGEST_KEY else f"[{shown}...]"
    if type(key) in {bool, float, NoneType} or (type(key) is int and key.bit_length() <= 64):
        return f"[{key!r}]"
    return ""  # to show it may run code of the user
