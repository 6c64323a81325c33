"""The items that ``shmq drain`` has written to a file, read back.

The file is frames: length and number, 32 bits each, little-endian, then so many bytes. The number is the tag of an
item; or ``DEFINITIONS``: what the queue had stored of ``__main__`` by then, for the items behind it; or ``SLOT_SIZE``:
the item size of the queue, 64 bits, by which the deflated items behind it are bounded.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Final, Self

from ._codec import scalars
from ._codec.formats import Format, Serializer
from ._codec.tags import DEFLATED, OBJECTS, OWN, PLACED
from ._engine.definition_log import search
from ._ring.layout import DEFINITIONS_FIRST
from .errors import DeserializationError

HEADER: Final = struct.Struct("<II")
DEFINITIONS: Final = 256  # this and the next are above all tags, which are a byte
SLOT_SIZE: Final = 257

_AT_ONCE: Final = 1 << 20  # bytes to read; a damaged length may be 4 GiB
_SIZE: Final = struct.Struct("<Q")
_OF_PLAIN: Final = frozenset({*scalars.TAGS, OBJECTS})
_OF_PICKLE: Final = frozenset({*range(DEFLATED + 1), PLACED})


def frame(payload: bytes, number: int) -> bytes:
    """Return a frame."""
    return HEADER.pack(len(payload), number) + payload


def is_deflated(tag: int) -> bool:
    """Whether an item of a tag needs a ``size_frame`` before it, or before another one."""
    return tag == DEFLATED


def size_frame(item_size: int) -> bytes:
    """Return the frame that tells of the item size of a queue."""
    return frame(_SIZE.pack(item_size), SLOT_SIZE)


def read_drained(
    file: BinaryIO, serializer: Serializer = "pickle", loads: Callable[[bytes], Any] | None = None
) -> Iterator[Any]:
    """Return an iterator over the items of a file that ``shmq drain --to`` has written.

    As with ``get``, an item may be a pickle, which runs code; with serializer="plain" none is read. If an item cannot
    be turned back into an object, the iterator raises an error, and its next step goes on with the next item. Nothing
    follows an item in the middle of which the file ends. As with ``get``, an item that was deflated takes 64 times the
    item size of the queue at most.

    Args:
        file: open for reading bytes; also a pipe without a buffer, if it blocks.
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
        self._wanted = wanted
        self._log = bytes(DEFINITIONS_FIRST)
        self._codec = wanted.codec(lambda: self, 0)
        self._has_size = False
        self._is_over = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        while not self._is_over:
            header = self._read(HEADER.size)
            if not header:
                break
            length, number = HEADER.unpack(header) if len(header) == HEADER.size else (1, 0)
            payload = self._read(length) if len(header) == HEADER.size else b""
            if len(payload) < length:
                self._is_over = True
                raise DeserializationError(
                    f"the file ends in the middle of an item, of which {len(payload):,} bytes are there; the end of "
                    f"it was not written",
                    payload,
                )
            if number == DEFINITIONS:
                self._log += payload
            elif number == SLOT_SIZE and length == _SIZE.size:
                self._codec = self._wanted.codec(lambda: self, *_SIZE.unpack(payload))
                self._has_size = True
            else:
                self._refuse_others(payload, number)
                return self._codec.decode(payload, number)
        self._is_over = True
        raise StopIteration

    def _read(self, size: int) -> bytes:
        """Return so many bytes, or fewer at the end of the file: one read of a pipe or a socket may return less."""
        found = bytearray()
        while len(found) < size:
            part: bytes | None = self._file.read(min(size - len(found), _AT_ONCE))
            if part is None:
                raise BlockingIOError("the file has no bytes yet and does not wait for them; let it block")
            if not part:
                break
            found += part
        return bytes(found)

    def _refuse_others(self, payload: bytes, number: int) -> None:
        """Raise DeserializationError for an item of another format than the one that was asked for."""
        if self._wanted.functions is not None:
            tags, hint = frozenset({OWN, PLACED}), "the program's own dumps has not written it: leave loads out"
        elif number == OWN:
            tags, hint = frozenset(), "the program's own dumps has written it: pass loads, as the queue has it"
        elif self._wanted.serializer == "plain":
            tags, hint = _OF_PLAIN, "it is no everyday object: leave serializer='plain' out if you trust its writer"
        else:
            tags, hint = _OF_PICKLE, "the file is damaged, or a newer version has written it"
            if not self._has_size:
                tags -= {DEFLATED}
        if number not in tags:
            raise DeserializationError(
                f"an item of the file has the tag {number}, and cannot be read in this way; {hint}; its bytes are in "
                f"the attribute 'raw' of this error",
                payload,
            )

    def find(self, key: bytes) -> bytes | None:
        """Return the definition with a key, or None; see ``DefinitionStore``."""
        return search(self._log, key)

    def add(self, key: bytes, definition: bytes) -> bool:
        """Store nothing: nothing is put here."""
        return False
