"""The codec of a queue whose writers are not trusted: everyday objects, and nothing that runs code.

It has no way to pickle, cloudpickle, definitions, reducers or zlib. What lies under their tags is refused with its
bytes. An item is read by what this process has asked for, and never by what the segment says of it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, NoReturn

from ..errors import DeserializationError, ItemTooLargeError, SerializationError
from . import classes, plain, plain_writing, scalars
from .blame import describe, pass_on, path_to
from .tags import BYTES, OBJECTS

__all__ = ["PlainCodec"]

_COUNTED: Final = 8  # times max_item_size: how far the size of an item is counted that is too large
_TYPES: Final = (
    "None, bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset, date, time, datetime, "
    "timedelta, Decimal and UUID"
)


class PlainCodec:
    """Turns items into bytes and back, for one queue with ``serializer="plain"``; as ``Codec`` does.

    Args:
        max_item_size: the largest payload that the queue takes, in bytes.
    """

    bare_tag: Final = BYTES
    dumps: Final = None  # what the native engine would pickle with
    loads: Final = None

    def __init__(self, max_item_size: int) -> None:
        self._max_item_size = max_item_size
        self.read_plain: Callable[[bytes], Any] = plain.read  # until an engine has its own; see read_plain_by

    @staticmethod
    def load(name: str) -> Any:
        """Return a module to which everyday objects belong, for the native engine, which reads these itself."""
        return plain.load(name)

    def read_plain_by(self, read: Callable[[Callable[[str], Any], bytes], Any]) -> None:
        """Read everyday objects by a reader of the engine from here on."""
        self.read_plain = partial(read, self.load)

    def copy_by(self, copy: object) -> None:
        """Do nothing: no item has buffers beside it."""

    def encode(self, item: object) -> tuple[bytes, int]:
        """Turn an item into bytes.

        Returns:
            The payload, and its tag. Of an item that is too large, the payload may be only the beginning, which is too
            large, too.

        Raises:
            SerializationError: something in the item is no everyday object; the message says where it is.
        """
        return scalars.encode(item) or self.encode_object(item)

    def encode_object(self, item: object) -> tuple[bytes, int]:
        """Turn an item that is no bare value into bytes, for ``encode``."""
        try:
            return plain_writing.write(item, _COUNTED * self._max_item_size), OBJECTS
        except plain_writing.NotPlainError as error:
            raise SerializationError(_complaint(item, error)) from error
        except RecursionError as error:
            pass_on(error)
            raise SerializationError(
                f"an item of type {classes.type_name(type(item))} cannot be serialised: {describe(error)}; put it "
                f"where fewer calls are in progress, or raise sys.setrecursionlimit()"
            ) from error

    def withdraw(self, payload: bytes) -> None:
        """Do nothing: no item has anything set aside for its receiver."""

    def fit(self, payload: bytes, tag: int, index: int | None = None) -> tuple[bytes, int]:
        """Refuse a payload that is too large for a slot: to inflate what a stranger has deflated takes memory.

        Raises:
            ItemTooLargeError: always.
        """
        is_exact = tag != OBJECTS or len(payload) <= _COUNTED * self._max_item_size
        raise ItemTooLargeError(len(payload), self._max_item_size, index, is_exact=is_exact)

    def decode(self, payload: bytes, tag: int) -> Any:
        """Turn bytes back into an item.

        Raises:
            DeserializationError: they are no everyday object.
        """
        try:  # any other exception comes from a signal handler or another thread, and is no error of the item
            if tag in scalars.TAGS:
                return scalars.decode(payload, tag)
            if tag == OBJECTS:
                return self.read_plain(payload)
        except (ValueError, TypeError, ArithmeticError) as error:
            self.fail_to_decode(payload, error)
        raise DeserializationError(
            f"an item has the tag {tag}, which says that it is no everyday object, and this process has opened the "
            f"queue with serializer='plain': a program that does not keep to that writes into the queue; the item was "
            f"not looked at, and its bytes are in the attribute 'raw' of this error",
            payload,
        )

    def fail_to_decode(self, payload: bytes, error: Exception) -> NoReturn:
        """Raise the error of ``decode`` for an error that reading has raised."""
        pass_on(error)
        raise DeserializationError(
            f"an item cannot be turned back into an object: {describe(error)}; no put has written its bytes, which are "
            f"in the attribute 'raw' of this error",
            payload,
        ) from error


def _complaint(item: object, error: plain_writing.NotPlainError) -> str:
    culprit = error.culprit
    path = "item" if culprit is item else path_to(culprit, item, ()) or "something in the item"
    return (
        f"{path} cannot be put into a queue with serializer='plain': {error}; such a queue takes {_TYPES}, of these "
        f"exact types, in at most {plain.DEPTH} containers"
    )
