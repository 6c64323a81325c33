"""Definitions of ``__main__``, stored once a queue for readers that run another program.

They are a log in the last part of the segment, so they need no name of their own and are removed with the queue. The
memory of the log is reserved only when it is written. Layout: the end of the log in bytes, then from the second cache
line on entries of ``key (16 bytes) | length u64 | definition``, each padded to a multiple of 8.

An appender holds the header's word ``definitions_owner``: 0, or the name of a participant; if that is dead, the word is
taken over. The end is stored last. So the log has a whole entry or none, even if the appender dies, and readers need no
lock.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Final, Protocol

from .._platform import clock
from .._platform.atomic_words import Words
from .._platform.shared_memory import Segment
from .._ring.layout import DEFINITIONS_END, DEFINITIONS_FIRST, DEFINITIONS_OWNER_AT, DEFINITIONS_SIZE, WORD
from .._ring.participants import Participants, Record

_KEY: Final = 16
_HEAD: Final = _KEY + WORD
_PATIENCE: Final = 100_000_000  # ns to wait for another appender; after that the item itself takes its definition along


def search(log: memoryview | bytes, key: bytes) -> bytes | None:
    """Return the definition with a key in a log, which is given up to its end; None if it has none."""
    at = DEFINITIONS_FIRST
    while at + _HEAD <= len(log):
        data = at + _HEAD
        length = int.from_bytes(log[at + _KEY : data], "little")
        if length > len(log) - data:
            return None  # no queue writes this
        if log[at : at + _KEY] == key:
            return bytes(log[data : data + length])
        at = data + -(-length // WORD) * WORD
    return None


class Operations(Protocol):
    """The operations that the definitions need."""

    participants: Participants

    def operation(self) -> AbstractContextManager[Record]:
        """Lend a record while the ``with`` block lasts."""


class Definitions:
    """The definitions of one queue.

    Args:
        segment: the mapped segment.
        start: offset of the log in it.
        operations: lends a record for one call, and knows which participants are dead.
    """

    def __init__(self, segment: Segment, start: int, operations: Operations) -> None:
        self._segment = segment
        self._start = start
        self._operations = operations

    def add(self, key: bytes, definition: bytes) -> bool:
        """Store a definition with a key of 16 bytes; the first one with a key stays.

        Returns:
            Whether the log has a definition; False if there is no room, or another appender does not end.
        """
        with self._operations.operation() as record:
            words = record.words
            try:
                if not self._acquire(record):
                    return False
                return self._search(words, key) is not None or self._append(words, key, definition)
            finally:
                words.cas(DEFINITIONS_OWNER_AT, record.name, 0)

    def find(self, key: bytes) -> bytes | None:
        """Return the definition with a key, or None."""
        with self._operations.operation() as record:
            return self._search(record.words, key)

    def since(self, at: int) -> bytes:
        """Return the part of the log that begins at an offset, which was its end before."""
        with self._operations.operation() as record:
            return bytes(self._segment.buffer[self._start + at : self._start + self._end(record.words)])

    def _acquire(self, record: Record) -> bool:
        words = record.words
        until = clock.now() + _PATIENCE
        while True:
            owner = words.load(DEFINITIONS_OWNER_AT)
            if owner in (0, record.name) or self._operations.participants.is_dead(words, owner):
                if words.cas(DEFINITIONS_OWNER_AT, owner, record.name):
                    return True
            elif clock.now() > until:
                return False
            else:
                clock.sleep(0.001)

    def _end(self, words: Words) -> int:
        return min(max(words.load(self._start + DEFINITIONS_END), DEFINITIONS_FIRST), DEFINITIONS_SIZE)

    def _search(self, words: Words, key: bytes) -> bytes | None:
        memory = self._segment.buffer[self._start : self._start + self._end(words)]
        try:
            return search(memory, key)
        finally:
            memory.release()

    def _append(self, words: Words, key: bytes, definition: bytes) -> bool:
        end = self._end(words)
        entry = key + len(definition).to_bytes(WORD, "little") + definition
        entry += bytes(-len(entry) % WORD)
        if end + len(entry) > DEFINITIONS_SIZE:
            return False
        try:
            self._segment.reserve(self._start + end, len(entry))
        except OSError:
            return False  # shared memory is full
        self._segment.buffer[self._start + end : self._start + end + len(entry)] = entry
        words.store(self._start + DEFINITIONS_END, end + len(entry))  # last: the entry is complete
        return True
