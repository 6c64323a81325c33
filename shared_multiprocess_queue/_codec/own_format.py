"""The codec of a queue with a format of the program's own: its ``dumps`` and ``loads``, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, Final, NoReturn

from ..errors import DeserializationError, ItemTooLargeError, SerializationError
from . import classes
from .blame import describe, pass_on
from .definitions import MAIN_MODULES
from .tags import OWN

__all__ = ["OwnCodec", "name_of"]


class OwnCodec:
    """Turns items into bytes and back, for one queue, by functions of the program; as ``Codec`` does.

    Args:
        dumps: turns an item into an object with its bytes.
        loads: turns bytes back into an item.
        item_size: the largest payload that the queue takes, in bytes.
    """

    dumps: Final = None  # the native engine leaves all items to `encode` and `decode`
    loads: Final = None
    load: Final = None

    def __init__(self, dumps: Callable[[Any], Any], loads: Callable[[bytes], Any], item_size: int) -> None:
        self._dumps = dumps
        self._loads = loads
        self._item_size = item_size

    def read_plain_by(self, read: object) -> None:
        """Do nothing: ``loads`` reads all items."""

    def copy_by(self, copy: object) -> None:
        """Do nothing: no item has buffers beside it."""

    def encode(self, item: object) -> tuple[bytes, int]:
        """Turn an item into bytes, of whatever type it is.

        Raises:
            SerializationError: ``dumps`` has raised an error, or returned no bytes.
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
            return bytes(memoryview(found)), OWN
        except (TypeError, ValueError, BufferError) as error:
            hint = "; let it end in .encode()" if isinstance(found, str) else ""
            raise SerializationError(
                f"the queue's dumps, {name_of(self._dumps)}, has returned an object of type "
                f"{classes.type_name(type(found))}, and must return bytes, or what has a buffer of bytes{hint}"
            ) from error

    encode_object = encode

    def withdraw(self, payload: bytes) -> None:
        """Do nothing: no item has anything set aside for its receiver."""

    def fit(self, payload: bytes, tag: int, index: int | None = None) -> tuple[bytes, int]:
        """Refuse a payload that is too large for a slot: ``dumps`` is free to compress.

        Raises:
            ItemTooLargeError: always.
        """
        raise ItemTooLargeError(len(payload), self._item_size, index)

    def decode(self, payload: bytes, tag: int) -> Any:
        """Turn bytes back into an item.

        Raises:
            DeserializationError: ``loads`` has raised an error, or another program has written the bytes.
        """
        if tag != OWN:
            raise DeserializationError(
                f"an item has the tag {tag}, so that no dumps has written it, and this process has opened the queue "
                f"with loads={name_of(self._loads)}: a program that does not keep to that writes into the queue; the "
                f"item was not looked at, and its bytes are in the attribute 'raw' of this error",
                payload,
            )
        # No direct call: after a call the interpreter looks for exceptions of other threads (_engine/calls.py), and
        # would raise them inside the try, as if they were errors of the item.
        loading = map(self._loads, (payload,))
        try:
            for item in loading:
                return item
        except Exception as error:
            self.fail_to_decode(payload, error)
        self.fail_to_decode(payload, StopIteration())

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
    ``functools.partial`` or an object with ``__call__``.
    """
    qualname = getattr(function, "__qualname__", None)
    owner = getattr(function, "__self__", None)
    module = getattr(function, "__module__", None)
    if not isinstance(module, str):  # a function or a method in C
        module = owner.__name__ if isinstance(owner, ModuleType) else getattr(type(owner), "__module__", None)
    if not isinstance(qualname, str) or not isinstance(module, str) or "<lambda>" in qualname:
        return ""
    return f"{'__main__' if module in MAIN_MODULES else module}:{qualname}"
