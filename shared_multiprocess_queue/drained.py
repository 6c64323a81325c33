"""The items that ``shmq drain`` has written to a file, read back.

The file is frames: length and number, 32 bits each, little-endian, then so many bytes. The number is the tag of an
item, or ``DEFINITIONS``: what the queue had stored of ``__main__`` by then, for the items behind it.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Final, Self

from ._codec.formats import Format, Serializer
from ._engine.definition_log import search
from ._ring.layout import DEFINITIONS_FIRST
from .errors import DeserializationError

HEADER: Final = struct.Struct("<II")
DEFINITIONS: Final = 256  # above all tags, which are a byte
_MOST: Final = sys.maxsize >> 8  # bytes of a slot, as far as the file tells


def frame(payload: bytes, number: int) -> bytes:
    """Return a frame."""
    return HEADER.pack(len(payload), number) + payload


def read_drained(
    file: BinaryIO, serializer: Serializer = "pickle", loads: Callable[[bytes], Any] | None = None
) -> Iterator[Any]:
    """Return an iterator over the items of a file that ``shmq drain --to`` has written.

    As with ``get``, an item may be a pickle, which runs code; with serializer="plain" none is read. If an item cannot
    be turned back into an object, the iterator raises an error, and its next step goes on with the next item.

    Args:
        file: open for reading bytes.
        serializer: as of the queue.
        loads: as of the queue, if that had functions of the program.

    Raises:
        DeserializationError: from the iterator: an item cannot be rebuilt, or the file ends in the middle of it; it has
            the bytes in ``raw``.

    Example:
        >>> with open("tasks.items", "rb") as file:
        ...     for item in read_drained(file):
        ...         queue.put(item)
    """
    return _Drained(file, Format(serializer, None if loads is None else (loads, loads)))


class _Drained:
    """The items of a file; no generator, because an error would end that."""

    def __init__(self, file: BinaryIO, wanted: Format) -> None:
        self._file = file
        self._log = bytes(DEFINITIONS_FIRST)
        self._codec = wanted.codec(lambda: self, _MOST)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        while True:
            header = self._file.read(HEADER.size)
            if not header:
                raise StopIteration
            length, number = HEADER.unpack(header) if len(header) == HEADER.size else (1, 0)
            payload = self._file.read(length)
            if len(payload) < length:
                raise DeserializationError(
                    f"the file ends in the middle of an item, of which {len(payload):,} bytes are there; the end of "
                    f"it was not written",
                    payload,
                )
            if number != DEFINITIONS:
                return self._codec.decode(payload, number)
            self._log += payload

    def find(self, key: bytes) -> bytes | None:
        """Return the definition with a key, or None; see ``DefinitionStore``."""
        return search(self._log, key)

    def add(self, key: bytes, definition: bytes) -> bool:
        """Store nothing: nothing is put here."""
        return False
