"""Shared 64-bit words: the door to the package ``atomics``, and the seam where a test takes over every step.

Processes agree only through a ``Words``: by atomic loads, stores, compare-and-swaps and additions. Each of them is
sequentially consistent, which is at least what any edge of the protocol needs. The few plain accesses that the protocol
allows have names of their own (``peek``, ``announce``). Only this module decides what they are on which processor.

``atomics`` has a C library (patomic) and calls it through objects, which takes 6 µs a load. The same functions, taken
from the package's own table and called through ctypes, take 0.5 µs. They are called with the GIL held (``PYFUNCTYPE``):
otherwise each atomic operation could let another thread run between a claim and its publication. If that table is not
as expected, opening a queue raises an ImportError.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from typing import Any, Final, Protocol

from .lazy_import import late

_SEQ_CST: Final = 5  # memory_order_seq_cst of C11, as patomic takes it

# x86 stores and loads an aligned word by one instruction, keeps stores in order, and lets no load pass an older load.
# So there a plain store is a release store, and a plain load an acquire load. Its read-modify-writes are full barriers,
# so a plain load after one is sequentially consistent. Other processors guarantee none of this.
# Package ``platform`` knows the machine from the same two sources, and takes 1 ms to import.
_MACHINE: Final = os.uname().machine if hasattr(os, "uname") else os.environ.get("PROCESSOR_ARCHITECTURE", "")
_PLAIN_IS_ORDERED: Final = _MACHINE.lower() in {"x86_64", "amd64"} and sys.maxsize > 2**32


class Reader(Protocol):
    """What a snapshot needs of a segment: its words, and no way to write."""

    @property
    def load(self) -> Callable[[int], int]:
        """Return a function that loads the word at an offset; any number of threads may call it."""


class Words(Protocol):
    """Access to the words of one segment for one operation at a time; offsets are in bytes and aligned to 8.

    An access has scratch memory of its own, so two threads must not use the same one at once.
    """

    load: Callable[[int], int]
    """load(offset): the word, sequentially consistent."""
    store: Callable[[int, int], None]
    """store(offset, value): sequentially consistent."""
    cas: Callable[[int, int, int], bool]
    """cas(offset, expected, desired): change the word if it is as expected; never fails spuriously."""
    cas_noted: Callable[[int, int, int, list[int]], None]
    """cas_noted(offset, expected, desired, note): as cas, and append the outcome to note. There is no bytecode between
    the two, so a signal handler that raises cannot separate them."""
    add: Callable[[int, int], int]
    """add(offset, amount): add, and return the word as it was before."""
    peek: Callable[[int], int]
    """peek(offset): a plain load, for hints that an atomic load or a compare-and-swap confirms before they are used."""
    load_after_rmw: Callable[[int], int]
    """load_after_rmw(offset): a sequentially consistent load that follows a cas or add of this operation. If those are
    full barriers on this processor, it is a plain load."""
    announce: Callable[[int, int], None]
    """announce(offset, value): a release store to a word that only its owner writes."""
    announce_range: Callable[[int, int, int], None]
    """announce_range(offset, begin, end): announce begin, then end in the word behind it."""


class WordMemory(Protocol):
    """The words of one mapped segment."""

    def words(self) -> Words:
        """Return a new access, for one operation at a time."""

    def reader(self) -> Reader:
        """Return a reader for one snapshot. It keeps the memory alive while it is referred to.

        So a snapshot needs no operation for which ``release`` would have to wait.

        Raises:
            ValueError: the memory is gone.
        """

    def release(self) -> None:
        """Release the memory; an access that is used after this raises an IndexError or a ValueError.

        This holds at every step: Python serves no signal between the test whether the memory is there and the step.
        """


class _Access:
    __slots__ = (
        "add",
        "announce",
        "announce_range",
        "cas",
        "cas_noted",
        "load",
        "load_after_rmw",
        "peek",
        "store",
    )

    load: Callable[[int], int]
    store: Callable[[int, int], None]
    cas: Callable[[int, int, int], bool]
    cas_noted: Callable[[int, int, int, list[int]], None]
    add: Callable[[int, int], int]
    peek: Callable[[int], int]
    load_after_rmw: Callable[[int], int]
    announce: Callable[[int, int], None]
    announce_range: Callable[[int, int, int], None]


@late
def _atomics() -> Any:
    """Import ``atomics`` when the first queue is opened, because that takes longer than importing this package."""
    import atomics  # noqa: PLC0415

    return atomics


class _Operations:
    """patomic's functions for words of one width, called with the GIL held."""

    def __init__(self, width: int) -> None:
        from atomics._impl.patomic import Patomic  # noqa: PLC0415 (as above)

        table = Patomic.ops(width)
        pointer, order = ctypes.c_void_p, ctypes.c_int

        def function(field: Any, result: Any, *arguments: Any) -> Callable[..., Any]:
            address = ctypes.cast(field, ctypes.c_void_p).value
            if not address:
                raise AttributeError("this processor lacks an atomic operation of the table")
            return ctypes.PYFUNCTYPE(result, *arguments)(address)

        self.load = function(table.fp_load, None, pointer, order, pointer)
        self.store = function(table.fp_store, None, pointer, pointer, order)
        exchange = table.xchg_ops.fp_cmpxchg_strong
        self.cas = function(exchange, ctypes.c_int, pointer, pointer, pointer, order, order)
        self.add = function(table.unsigned_ops.fp_fetch_add, None, pointer, pointer, order, pointer)
        self._try_out(width)

    def _try_out(self, width: int) -> None:
        cells = (ctypes.c_uint64 * 3)(40, 40, 1)
        at = ctypes.addressof(cells)
        self.add(at, at + 16, _SEQ_CST, at + 8)
        ok = self.cas(at, at + 8, at + 16, _SEQ_CST, _SEQ_CST)  # expects 40 and finds 41
        if (cells[0], cells[1], ok) != (41, 41, 0):
            raise AttributeError("the table of atomics does not do what it did in version 1.0.3")


_GONE: Final = memoryview(b"")
_GONE.release()


class PlainWords:
    """A ``Reader`` of a mapping, which may be read-only: it uses plain loads, each of an aligned word.

    Args:
        buffer: the segment, from its start.
    """

    __slots__ = ("load",)

    def __init__(self, buffer: memoryview) -> None:
        words = buffer[: len(buffer) // 8 * 8].cast("Q")
        self.load: Callable[[int], int] = lambda offset: words[offset >> 3]


class MappedWords:
    """The words of a mapping, through patomic's table."""

    def __init__(self, buffer: memoryview, operations: _Operations) -> None:
        self._buffer = buffer
        self._operations = operations
        self._plain = buffer.cast("Q")
        self._anchor: Any = ctypes.c_char.from_buffer(buffer)
        self._bases = [ctypes.addressof(self._anchor)]  # empty after the release, so that each access then raises

    def words(self) -> Words:
        """Return a new access, for one operation at a time."""
        bases, plain, order = self._bases, self._plain, _SEQ_CST
        do_load, do_store = self._operations.load, self._operations.store
        do_cas, do_add = self._operations.cas, self._operations.add
        scratch = (ctypes.c_uint64 * 2)()  # reduces numbers modulo 2^64; larger ones come from damaged segments only
        first = ctypes.addressof(scratch)
        second = first + 8

        def load(offset: int) -> int:
            do_load(bases[0] + offset, order, first)
            return scratch[0]

        def store(offset: int, value: int) -> None:
            scratch[0] = value
            do_store(bases[0] + offset, first, order)

        def cas(offset: int, expected: int, desired: int) -> bool:
            scratch[0] = expected
            scratch[1] = desired
            return bool(do_cas(bases[0] + offset, first, second, order, order))

        def cas_noted(offset: int, expected: int, desired: int, note: list[int]) -> None:
            outcome = map(do_cas, (bases[0] + offset,), (first,), (second,), (order,), (order,))
            scratch[0] = expected
            scratch[1] = desired
            note.extend(outcome if bases else ())

        def add(offset: int, amount: int) -> int:
            scratch[0] = amount
            do_add(bases[0] + offset, first, order, second)
            return scratch[1]

        return _plain_access(_access(load, store, cas, cas_noted, add), plain)

    def reader(self) -> Reader:
        """Return a reader for one snapshot. It keeps the memory alive while it is referred to."""
        buffer = self._buffer
        return PlainWords(buffer) if _PLAIN_IS_ORDERED else _AtomicReader(buffer, self._operations)

    def release(self) -> None:
        """Release the memory; an access that is used after this raises an IndexError or a ValueError."""
        self._anchor = None
        self._buffer = _GONE
        self._bases.clear()
        self._plain.release()


class _AtomicReader:
    """A ``Reader`` with sequentially consistent loads, for processors on which plain loads have no order."""

    __slots__ = ("load",)

    def __init__(self, buffer: memoryview, operations: _Operations) -> None:
        anchor = ctypes.c_char.from_buffer(buffer)
        do_load, order = operations.load, _SEQ_CST

        def load(offset: int) -> int:
            found = ctypes.c_uint64()  # one for each call, because several threads may be in one
            do_load(ctypes.addressof(anchor) + offset, order, ctypes.addressof(found))
            return found.value

        self.load: Callable[[int], int] = load


def _access(
    load: Callable[[int], int],
    store: Callable[[int, int], None],
    cas: Callable[[int, int, int], bool],
    cas_noted: Callable[[int, int, int, list[int]], None],
    add: Callable[[int, int], int],
) -> _Access:
    access = _Access()
    access.load, access.store, access.cas, access.cas_noted, access.add = load, store, cas, cas_noted, add
    return access


def _plain_access(access: _Access, plain: memoryview) -> Words:
    """Add the accesses that may be plain on this processor."""
    if _PLAIN_IS_ORDERED:

        def peek(offset: int) -> int:
            return plain[offset >> 3]

        def announce(offset: int, value: int) -> None:
            plain[offset >> 3] = value

        def announce_range(offset: int, begin: int, end: int) -> None:
            index = offset >> 3
            plain[index] = begin
            plain[index + 1] = end

        access.peek = access.load_after_rmw = peek
        access.announce = announce
    else:
        access.peek = access.load_after_rmw = access.load
        access.announce = store = access.store

        def announce_range(offset: int, begin: int, end: int) -> None:
            store(offset, begin)
            store(offset + 8, end)

    access.announce_range = announce_range
    return access


@late
def _operations() -> _Operations:
    try:
        return _Operations(8)
    except (ImportError, AttributeError, TypeError, ctypes.ArgumentError) as error:
        raise ImportError(
            f"the package atomics that is installed has another table of operations than version 1.0 ({error}); "
            f"install one that is known to work: pip install 'atomics>=1.0.3,<1.1'"
        ) from error


def prepare() -> None:
    """Import what ``open_words`` needs, unless it is imported."""
    _atomics()
    _operations()


def open_words(buffer: memoryview) -> WordMemory:
    """Return the words of a mapped segment.

    Args:
        buffer: the whole segment, writable, aligned to 8 bytes (a mapping always is).

    Raises:
        ImportError: the installed version of the package ``atomics`` is not one that this module was written for.
    """
    return MappedWords(buffer, _operations())


class Flag:
    """One shared int32 that is 0 or 1, as ``shared_memory_lock`` keeps it."""

    _context: Any = None  # also if __init__ is interrupted

    def __init__(self, buffer: memoryview) -> None:
        atomics = _atomics()
        self._context: Any = atomics.atomicview(buffer[:4], atomics.INT)
        self._view: Any = self._context.__enter__()

    def set(self) -> bool:
        """Change 0 to 1; False if it was 1."""
        return bool(self._view.cmpxchg_strong(0, 1).success)

    def is_set(self) -> bool:
        """Whether it is 1 now."""
        return bool(self._view.load())

    def clear(self) -> None:
        """Store 0."""
        self._view.store(0)

    def release(self) -> None:
        """Release the memory; may be called again."""
        if self._context is not None:
            self._context.__exit__(None, None, None)

    def __del__(self) -> None:
        self.release()  # atomics complains on stderr about a context that is dropped while it is open


def keep_to_the_end(owner: object) -> None:
    """Keep an object that has words open alive until the end of the process.

    At its end the interpreter drops the objects of modules. If views of ``atomics`` were among them, they would print
    errors, because their C library is gone by then.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(owner))
