"""The codec of a queue with a format of the program's own: its ``dumps`` and ``loads``, and nothing else."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any, Final, NoReturn

from ..errors import DeserializationError, ItemTooLargeError, SerializationError
from . import classes
from .blame import describe, pass_on
from .definitions import MAIN_MODULES
from .tags import OWN, PADDING, PLACED

__all__ = ["OwnCodec", "name_of"]


class _Loading(partial[Any]):
    """Calls a function by ``loading[payload]``.

    After a call the interpreter looks for exceptions of other threads (_engine/calls.py), and would raise them in the
    ``try`` of ``decode``, as if they were errors of the item. After a subscription in C it does not look.
    """

    __getitem__ = partial.__call__


class OwnCodec:
    """Turns items into bytes and back, for one queue, by functions of the program; as ``Codec`` does.

    Args:
        dumps: turns an item into an object with its bytes.
        loads: turns bytes back into an item.
        max_item_size: the largest payload that the queue takes, in bytes.
    """

    bare_tag: Final = OWN
    dumps: Final = None  # the native engine leaves all items to `encode` and `decode`
    loads: Final = None
    load: Final = None

    def __init__(self, dumps: Callable[[Any], Any], loads: Callable[[bytes], Any], max_item_size: int) -> None:
        self._dumps = dumps
        self._loads = loads
        self._loading = _Loading(loads)
        self._max_item_size = max_item_size

    def read_plain_by(self, read: object) -> None:
        """Do nothing: ``loads`` reads all items."""

    def copy_by(self, copy: object) -> None:
        """Do nothing: no item has buffers beside it."""

    def encode(self, item: object) -> tuple[bytes, int]:
        """Turn an item into bytes, of whatever type it is.

        Raises:
            SerializationError: ``dumps`` has raised an error, or returned no bytes.
            ItemTooLargeError: it has returned a buffer that is too large, which is not copied.
        """
        try:
            found = self._dumps(item)
        except Exception as error:
            pass_on(error)
            raise SerializationError(
                f"an item of type {classes.type_name(type(item))} cannot be serialised: the queue's dumps, "
                f"{name_of(self._dumps)}, has raised {describe(error)}"
            ) from error
        if type(found) is bytes:
            return found, OWN
        try:
            with memoryview(found) as view:
                size = view.nbytes
                data = bytes(view) if size <= self._max_item_size else b""
        except Exception as error:
            pass_on(error)
            hint = "; let it end in .encode()" if isinstance(found, str) else ""
            raise SerializationError(
                f"the queue's dumps, {name_of(self._dumps)}, has returned an object of type "
                f"{classes.type_name(type(found))}, and must return bytes, or what has a buffer of bytes{hint}"
            ) from error
        if size > self._max_item_size:
            raise ItemTooLargeError(size, self._max_item_size)
        return data, OWN

    encode_object = encode

    def withdraw(self, payload: bytes) -> None:
        """Do nothing: no item has anything set aside for its receiver."""

    def fit(self, payload: bytes, tag: int, index: int | None = None) -> tuple[bytes, int]:
        """Refuse a payload that is too large for a slot: ``dumps`` is free to compress.

        Raises:
            ItemTooLargeError: always.
        """
        raise ItemTooLargeError(len(payload), self._max_item_size, index)

    def decode(self, payload: bytes, tag: int) -> Any:
        """Turn bytes back into an item.

        Raises:
            DeserializationError: ``loads`` has raised an error, or another program has written the bytes.
        """
        if tag == PLACED and len(payload) >= PADDING:
            payload, tag = payload[PADDING:], OWN
        if tag != OWN:
            raise DeserializationError(
                f"an item has the tag {tag}, so that no dumps has written it, and this process has opened the queue "
                f"with loads={name_of(self._loads)}: a program that does not keep to that writes into the queue; the "
                f"item was not looked at, and its bytes are in the attribute 'raw' of this error",
                payload,
            )
        try:
            return self._loading[payload]
        except Exception as error:
            self.fail_to_decode(payload, error)

    def fail_to_decode(self, payload: bytes, error: Exception) -> NoReturn:
        """Raise the error of ``decode`` for an error that ``loads`` has raised."""
        pass_on(error)
        raise DeserializationError(
            f"an item cannot be turned back into an object: the queue's loads, {name_of(self._loads)}, has raised "
            f"{describe(error)}; the item's bytes are in the attribute 'raw' of this error",
            payload,
        ) from error


def name_of(function: Callable[..., Any]) -> str:
    """Return the name by which other processes know a function: "module:qualified name", as in an entry point.

    Of a method it is that of its class, whatever object it is bound to. "" if the function has none, as a lambda, a
    ``functools.partial`` or an object with ``__call__``. The module of ``python -m package.module`` has its own name.
    """
    qualname = getattr(function, "__qualname__", None)
    module = getattr(function, "__module__", None)
    if not isinstance(module, str):
        module = _module_in_c(function)
    if not isinstance(qualname, str) or not isinstance(module, str) or "<lambda>" in qualname:
        return ""
    if module in MAIN_MODULES:
        module = getattr(getattr(sys.modules.get("__main__"), "__spec__", None), "name", "__main__")
    return f"{module}:{qualname}"


def _module_in_c(function: Callable[..., Any]) -> object:
    """Return the name of the module of a function in C that does not know it, or of a method: that of its class."""
    owner = getattr(function, "__self__", None)
    if isinstance(owner, ModuleType):
        return owner.__name__
    cls = getattr(function, "__objclass__", owner if isinstance(owner, type) else type(owner))
    return getattr(cls, "__module__", None)
