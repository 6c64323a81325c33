"""The cause of an error of pickle: where in the item the culprit is, or that the error is not the item's at all."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Collection, Iterator
from itertools import chain, pairwise
from types import (
    BuiltinFunctionType,
    CodeType,
    FrameType,
    FunctionType,
    MethodType,
    ModuleType,
    NoneType,
    TracebackType,
)
from typing import Any

from .._platform.lazy_import import late
from . import classes

__all__ = ["describe", "global_text", "is_of_a_signal_handler", "pass_on", "path_to"]

_LEAVES = (NoneType, bool, int, float, complex, str, bytes, bytearray)
_MOST = 20_000  # objects that a search looks at
_LONGEST = 300  # characters of a path
_LONGEST_KEY = 40

_Step = tuple[str, str, Any]  # the text before the path of the whole, the text after it, and the part


@late
def _formatter() -> Callable[[BaseException], list[str]]:
    from traceback import format_exception_only  # noqa: PLC0415  # takes 1.5 ms, and most programs never need it

    return format_exception_only


def describe(error: BaseException) -> str:
    """Return the type and the text of an error, as in the last line of a traceback.

    Args:
        error: any error; if it cannot be printed, only its type is returned.
    """
    try:
        return "".join(_formatter()(error)).strip()
    except Exception as other:  # for example, printing an AttributeError asks its object for all its names
        if is_of_a_signal_handler(other):
            raise
        return f"{classes.type_name(type(error))}: <it cannot be printed>"


def advice(error: BaseException, text: str) -> str:
    """Return what to do about an item that pickle refuses with this error, which ``text`` describes."""
    if type(error) is RecursionError:
        return "send an item that is nested less deeply, or raise sys.setrecursionlimit()"
    if type(error) is RuntimeError and "through inheritance" in text:  # what multiprocessing says of its own
        return "hand it to the process as an argument of multiprocessing.Process instead"
    return (
        "leave out what exists only in this process (locks, open files, generators), or let a class say what to send "
        "instead, by __reduce__ or __getstate__"
    )


def global_text(frame: FrameType, name: str) -> str:
    """Return a global of a frame's function; "" if it is not a str."""
    found = dict.get(frame.f_globals, name)
    return found if type(found) is str else ""


def is_of_a_signal_handler(error: BaseException) -> bool:
    """Return whether an error was raised by a signal handler, or by something that it called.

    Python calls a handler from the frame that the signal has interrupted, and passes it a signal number and that frame.

    Args:
        error: an error with its traceback.
    """
    entry: TracebackType | None = error.__traceback__
    while entry is not None:
        frame = entry.tb_frame
        # Frames of this package are skipped. They still run: their f_locals would keep the error, and the error them.
        if global_text(frame, "__package__") != __package__ and _is_a_handlers(frame):
            return True
        entry = entry.tb_next
    return False


def pass_on(error: Exception) -> None:
    """Raise an error again, as it is, if a signal handler has raised it; do nothing about any other."""
    if is_of_a_signal_handler(error):
        try:
            raise error
        finally:
            del error  # otherwise this frame and the traceback would keep each other alive


def _is_a_handlers(frame: FrameType) -> bool:
    code, found = frame.f_code, frame.f_locals
    names = code.co_varnames[: code.co_argcount + bool(code.co_flags & 4)]  # 4: the last one is that of `*arguments`
    arguments: list[Any] = []
    for name in names:
        value = found.get(name)
        arguments.extend(value if type(value) is tuple else (value,))
    return frame.f_back is not None and any(
        following is frame.f_back and type(number) is int and number in signal.valid_signals()
        for number, following in pairwise(arguments)
    )


def path_to(culprit: object, item: object, definitions: Collection[int]) -> str | None:
    """Return the shortest path from an item to an object in it, such as ``item['sink'].file``.

    The search runs no code of the user: it reads attributes and containers as they are.

    Args:
        culprit: the object to look for.
        item: the item to look in.
        definitions: ids of the classes, functions and modules to look into; others went by their names.

    Returns:
        The path; ``None`` if the object is not in the item, but in something that the item has made for pickle.
    """
    try:
        return _path_to(culprit, item, definitions)
    except Exception as error:  # another thread changes the item, or memory is short; a message without a path will do
        if is_of_a_signal_handler(error):
            raise
        return None


def _path_to(culprit: object, item: object, definitions: Collection[int]) -> str | None:
    seen = {id(item): item}
    todo = deque([("item", item)])
    as_type: str | None = None  # where an object of that type is, if the type itself is no part
    while todo:
        path, whole = todo.popleft()
        if as_type is None and type(whole) is culprit:
            as_type = f"type({path})"
        for before, after, part in _steps(whole, definitions):
            if part is culprit:
                return f"{before}{path}{after}"
            if any(type(part) is leaf for leaf in _LEAVES) or id(part) in seen or len(path) > _LONGEST:
                continue
            if len(seen) >= _MOST:
                return as_type
            seen[id(part)] = part
            todo.append((f"{before}{path}{after}", part))
    return as_type


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
        fields = _fields(whole, kind)
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
    yield from _attributes(whole)
    if id(kind) in definitions:
        yield "type(", ")", kind


def _fields(whole: Any, kind: type) -> tuple[str, ...]:
    """The names of the parts of a named tuple; none if its ``_fields`` are not what a named tuple has."""
    names_of_all = map(classes.namespace, classes.mro(kind))
    found = next((names["_fields"] for names in names_of_all if "_fields" in names), ())
    is_right = type(found) is tuple and len(found) == tuple.__len__(whole) and all(type(name) is str for name in found)
    return found if is_right else ()


def _attributes(whole: Any) -> Iterator[_Step]:
    yield from _steps_of_mapping(classes.attributes(whole), ".__dict__")
    for name, content in classes.slots(whole):
        yield "", f".{name}", content


def _steps_of_mapping(attributes: dict[Any, Any], mapping: str) -> Iterator[_Step]:
    for number, (name, value) in enumerate(attributes.items()):
        if type(name) is str:
            yield "", f".{name}", value
        else:
            yield "list(", f"{mapping}.values())[{number}]", value


def _steps_of_definition(whole: Any) -> Iterator[_Step]:
    kind = type(whole)
    if kind is FunctionType:
        for name, cell in zip(whole.__code__.co_freevars, whole.__closure__ or (), strict=False):
            try:
                yield "", f".__closure__[{name!r}]", cell.cell_contents
            except ValueError:  # it is empty
                continue
        yield "", ".__defaults__", whole.__defaults__
        yield "", ".__kwdefaults__", whole.__kwdefaults__
        for name in _names_in(whole.__code__):
            if dict.__contains__(whole.__globals__, name):
                yield "", f".__globals__[{name!r}]", dict.__getitem__(whole.__globals__, name)
    if issubclass(kind, type):
        yield from _steps_of_mapping(classes.namespace(whole), ".__dict__")
        yield "", ".__bases__", classes.bases(whole)
    else:
        yield from _steps_of_mapping(classes.attributes(whole), ".__dict__")


def _names_in(code: CodeType) -> Iterator[str]:
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return chain(code.co_names, *map(_names_in, inner))


def _subscript(key: Any) -> str:
    if type(key) is str or type(key) is bytes:
        shown = repr(key[:_LONGEST_KEY])
        return f"[{shown}]" if len(key) <= _LONGEST_KEY else f"[{shown}...]"
    if type(key) is bool or type(key) is float or key is None or (type(key) is int and key.bit_length() <= 64):
        return f"[{key!r}]"
    return ""  # the repr of any other key may run code of the user
