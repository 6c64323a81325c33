"""Large buffers beside the stream of a pickle: what they look like in a slot, and what is copied when.

The memory of an array need not go through the stream. Pickle hands out large buffers (protocol 5, "out of band"); a put
copies them from the sender's memory into the slot, and a get from the slot into memory of the receiver. The payload is
a head, the stream, and the buffers::

    u32 count | u32 length of the stream | u8 tag of the stream | u8 kept | u16 alignment
    count x {u32 length, u32 kind} | the stream | buffer 0 | buffer 1 | ...

Each buffer begins at the next multiple of the alignment, counted from the begin of the slot.

**The item is what pickle gives**, as it was when pickle met each object:

- The memory of an array arrives as memory that is aligned to a cache line, and that is the receiver's own. All other
  buffers arrive as pickle has them in its stream: those that may not be written as ``bytes``, a ``PickleBuffer`` of the
  user's as ``bytearray``. If pickle meets one PickleBuffer twice, one object arrives.
- Code of an object in the item could change an array: in the sender after pickle has met the array and before the put
  copies it, in the receiver before an interrupted get gives the item back. So if any class in the item has such code,
  the sender copies its arrays when pickle meets them, and says in the head that the receiver must keep the bytes too.
"""

from __future__ import annotations

import copyreg
import re
import struct
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping
from types import FunctionType
from typing import Any, Final, Protocol

from .._platform import memory
from . import classes
from .reducers import registered

__all__ = ["AnyPieces", "Buffers", "Pieces", "array_pieces", "key_of_array", "parts_of", "whole"]

SMALLEST: Final = 4096  # bytes of a buffer; smaller ones stay in the stream, because a copy of them costs less

# What the receiver makes of a buffer.
MEMORY: Final = 0
BYTES: Final = 1
BYTEARRAY: Final = 2
SAME: Final = 3  # nothing: it is the one whose index stands in place of the length

BEFORE: Final = 16  # bytes of a slot before its payload
ALIGNMENT: Final = 64
PACKED: Final = 8  # the alignment if the item would otherwise be too large; a word, because puts write words

_LARGEST: Final = (1 << 32) - 1  # bytes of a payload; of a slot, too
_GLANCE: Final = 2  # containers in each other

_HEAD: Final = struct.Struct("=IIBBH")
_ENTRY: Final = struct.Struct("=II")
FIRST: Final = _HEAD.size + _ENTRY.size  # bytes of a payload that say where its first buffer lies

# Modules whose classes change no array when they are pickled or unpickled, and the methods of others that may do so.
_KNOWN: Final = frozenset(
    {"builtins", "numpy", "pandas", "torch", "datetime", "decimal", "uuid", "collections"}
    | {"copyreg", "re", "multiprocessing"}
)
# The types of Cython's functions, which are pickled as their names. From Cython 3.1 on they state no module, as their
# objects have one, so that their name is their repr.
_OF_CYTHON: Final = re.compile(r"(<class ')?_cython_[0-9_]+\.(cython_function_or_method|fused_cython_function)('>)?")
_CODE: Final = frozenset(
    {"__reduce_ex__", "__reduce__", "__getstate__", "__setstate__", "__getnewargs_ex__", "__getnewargs__", "__new__"}
    | {"__getattribute__", "__getattr__", "__setattr__", "__setitem__", "__iter__", "items", "append", "extend"}
    | {"add", "update", "__del__"}
)
_REDUCTIONS: Final = frozenset({"__reduce_ex__", "__reduce__"})
_PLAIN: Final = frozenset({int, str, bytes, float, bool, complex, bytearray, type(None)})
_harmless: set[type] = set()  # of those modules


class Pieces:
    """A payload that lies in several places, as a put copies it into a slot.

    Attributes:
        pieces: where each one begins in the payload, and its bytes: a buffer of one dimension. In order. None if the
            payload is larger than any slot.
        keys: of the objects that multiprocessing keeps for the receiver.
    """

    __slots__ = ("_entries", "_parts", "_size", "keys", "pieces")

    pieces: tuple[tuple[int, Any], ...]

    def __init__(
        self,
        stream: bytes,
        tag: int,
        is_kept: bool,
        entries: list[tuple[int, int]],
        buffers: list[Any],
        keys: list[int],
    ) -> None:
        self._parts = stream, tag, is_kept, buffers
        self._entries = entries
        self.keys = keys
        self._lay(ALIGNMENT)

    def _lay(self, alignment: int) -> None:
        stream, tag, is_kept, buffers = self._parts
        end = _HEAD.size + len(self._entries) * _ENTRY.size + len(stream)
        pieces: list[tuple[int, Any]] = []
        for buffer in buffers:
            begin = _next(end, alignment)
            pieces.append((begin, buffer))
            end = begin + len(buffer)
        self._size = end
        self.pieces = ()
        if end <= _LARGEST:
            head = _HEAD.pack(len(self._entries), len(stream), tag, is_kept, alignment)
            table = b"".join(_ENTRY.pack(*entry) for entry in self._entries)
            self.pieces = ((0, head + table + stream), *pieces)

    def __len__(self) -> int:
        return self._size

    def pack(self, size: int) -> bool:
        """Lay the pieces closer, if they have then at most ``size`` bytes; return whether they have."""
        if self._size > size:
            self._lay(PACKED)
        return self._size <= size

    def release(self) -> None:
        """Let go of the sender's memory; nothing is left to put."""
        for buffer in self._parts[3]:
            if isinstance(buffer, memoryview):
                buffer.release()
        self.pieces = ()

    @staticmethod
    def is_safe_from(item: object) -> bool:
        """Whether it is seen at a glance that no code runs when another item of the batch is pickled."""
        return _runs_no_code(item, _GLANCE)

    def own(self) -> None:
        """Copy the sender's memory, because code may run that changes it."""
        stream, tag, is_kept, buffers = self._parts
        copies = list(map(bytes, buffers))
        self._parts = stream, tag, is_kept, copies
        begins = [begin for begin, _ in self.pieces[1:]]
        self.pieces = (*self.pieces[:1], *zip(begins, copies, strict=False))  # there may be none


class AnyPieces(Protocol):
    """A payload in pieces: ``Pieces``, or what the native engine has taken."""

    @property
    def pieces(self) -> tuple[tuple[int, Any], ...]:
        """Where each one begins in the payload, and its bytes."""

    def __len__(self) -> int: ...


class Buffers:
    """The large buffers of one item, as pickle hands them out.

    Attributes:
        size: bytes that they take, without what stands before them.
    """

    __slots__ = ("_done", "_entries", "_has_code", "_held", "_indexes", "_judged", "_views", "size")

    def __init__(self) -> None:
        self._entries: list[tuple[int, int]] = []
        self._views: list[Any] = []
        self._held: list[Any] = []  # so that the ids in _indexes stay theirs
        self._indexes: dict[int, int] = {}
        self._judged: set[type] = set()
        self._has_code = False
        self._done: object = None
        self.size = 0

    def take(self, buffer: Any, last: object, kinds: Iterable[type]) -> bool:
        """Take a buffer out of the stream.

        Args:
            buffer: a PickleBuffer, which is contiguous.
            last: the last object that pickle has asked about.
            kinds: of all objects that pickle has asked about.

        Returns:
            Whether the buffer goes into the stream instead, because it is small.
        """
        known = self._indexes.get(id(buffer))
        if known is not None:
            self._entries.append((known, SAME))
            return False
        view = buffer.raw()
        kind = self._kind(view, last)  # of small ones too, so that the next one is not taken for the array's
        if view.nbytes < SMALLEST:
            return True
        self.meet(kinds)
        self._indexes[id(buffer)] = len(self._entries)
        self._entries.append((view.nbytes, kind))
        self._held.append(buffer)
        self._views.append(bytes(view) if self._has_code else view)
        self.size += view.nbytes
        return False

    def meet(self, kinds: Iterable[type]) -> None:
        """Note the types of objects in the item. If one has code, copy what was taken before it runs."""
        if self._has_code:
            return
        for kind in kinds:
            if kind not in self._judged:
                self._judged.add(kind)
                if _has_code(kind):
                    self._has_code = True
                    self._views = list(map(bytes, self._views))
                    return

    def pieces(self, stream: bytes, tag: int, keys: list[int]) -> Pieces:
        """Return the payload of the item.

        Args:
            stream: without the buffers.
            tag: of the stream.
            keys: of the objects that multiprocessing keeps for the receiver.
        """
        return Pieces(stream, tag, self._has_code, self._entries, self._views, keys)

    def release(self) -> None:
        """Let go of the sender's memory; there will be no payload."""
        for view in self._views:
            if isinstance(view, memoryview):
                view.release()
        self._views.clear()
        self._held.clear()

    def _kind(self, view: memoryview, last: object) -> int:
        if view.readonly:
            return BYTES
        exporter = view.obj
        is_of_array = last is not self._done and _is_of_array(exporter, last)
        if is_of_array:
            self._done = last  # the next one is of the user, unless pickle asks about another object before
        return MEMORY if is_of_array or memory.is_ours(exporter) else BYTEARRAY

    def __bool__(self) -> bool:
        return bool(self._entries)


def _is_array(obj: object) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(obj) is getattr(numpy, "ndarray", None)


def key_of_array(item: Any) -> Hashable:
    """Return what the stream of an item depends on that is an array of numbers with a large buffer; None for others.

    Pickle meets nothing but numpy in such an item, and all that an array has besides its numbers is in the key.
    """
    if not _is_array(item) or item.nbytes < SMALLEST:
        return None
    dtype, flags = item.dtype, item.flags
    if dtype.isbuiltin != 1 or dtype.kind not in "biufc" or not flags.forc:
        return None
    # As pickle asks. numpy calls an array writeable that only warns when it is written, and its buffer read-only.
    return dtype.char, item.shape, flags.c_contiguous, memoryview(item).readonly


def array_pieces(stream: bytes, tag: int, buffer: Any) -> Pieces:
    """Return the payload of such an item, as ``Buffers.pieces`` does.

    Args:
        stream: without the buffer.
        tag: of the stream.
        buffer: a PickleBuffer of the array.
    """
    view = buffer.raw()
    return Pieces(stream, tag, False, [(view.nbytes, BYTES if view.readonly else MEMORY)], [view], [])


def _is_of_array(exporter: Any, last: Any) -> bool:
    """Whether numpy itself has made a buffer of this object: pickle has just asked about the array, or its function."""
    if not _is_array(exporter):
        return False
    if type(last) is FunctionType:
        return last.__name__ == "_frombuffer"
    # The memory of an array in Fortran order is that of its transposed view.
    return _is_array(last) and (exporter is last or exporter.base is last or exporter.base is last.base is not None)


def _has_code(kind: type) -> bool:
    """Whether a class may run code of its own when an object is pickled or unpickled."""
    reducer = copyreg.dispatch_table.get(kind) or (registered(kind) or {}).get(kind)
    if reducer is not None and not _is_known(getattr(reducer, "__module__", None)):
        return True
    if kind in _harmless:
        return False
    mro = classes.mro(kind)
    unknown = [
        classes.namespace(cls)
        for cls in mro
        if not (_is_known(classes.module(cls)) or _OF_CYTHON.fullmatch(classes.type_name(cls)))
    ]
    if not unknown:
        _harmless.add(kind)
        return False
    # What object reduces is made without __init__; what others reduce (exceptions, deque, Counter) is made by a call.
    is_called = any(not _REDUCTIONS.isdisjoint(classes.namespace(cls)) for cls in mro if cls is not object)
    return any(
        not _CODE.isdisjoint(names) or (is_called and "__init__" in names) or _may_be_key(names) for names in unknown
    )


def _runs_no_code(item: Any, depth: int) -> bool:
    kind = type(item)
    if _is_array(item):
        return not (item.dtype.hasobject or _has_code(kind))
    if kind not in (list, tuple, dict):
        return kind in _PLAIN
    parts = [*item, *item.values()] if kind is dict else list(item)
    return depth > 0 and all(_runs_no_code(part, depth - 1) for part in parts)


def _is_known(module: object) -> bool:
    return type(module) is str and module.partition(".")[0] in _KNOWN


def _may_be_key(names: Mapping[str, Any]) -> bool:
    """Whether a dict or set that is rebuilt may run code of a class with these names."""
    return names.get("__hash__", names.get("__eq__")) is not None


def whole(payload: bytes | AnyPieces) -> bytes:
    """Return a payload as one object."""
    if isinstance(payload, bytes):
        return payload
    found = bytearray(len(payload))
    for begin, piece in payload.pieces:
        view = memoryview(piece)
        found[begin : begin + view.nbytes] = view
    return bytes(found)


def parts_of(payload: bytes | AnyPieces, copy_of: Callable[[Any], Any]) -> tuple[bytes, int, list[Any]]:
    """Take a payload apart.

    Args:
        payload: of an item with the tag BUFFERS.
        copy_of: copies a buffer into memory of its own; see ``memory.copy_of``.

    Returns:
        The stream, its tag, and the buffers in the order in which the stream wants them.

    Raises:
        ValueError: no put has written this.
        MemoryError: there is no memory for the buffers; the payload is as it was.
    """
    first = payload if isinstance(payload, bytes) else payload.pieces[0][1]
    if len(first) < _HEAD.size:
        raise ValueError(f"its {len(first)} bytes are fewer than the {_HEAD.size} of a head")
    count, length, tag, _, alignment = _HEAD.unpack_from(first)
    begin = _HEAD.size + count * _ENTRY.size
    end = begin + length
    if end > len(first) or alignment not in (PACKED, ALIGNMENT):
        raise ValueError(f"its head states {count:,} buffers and a stream of {length:,} bytes, aligned to {alignment}")
    places: list[tuple[int, int, int]] = []
    for at in range(_HEAD.size, begin, _ENTRY.size):
        size, kind = _ENTRY.unpack_from(first, at)
        if kind == SAME:
            is_right = size < len(places) and places[size][2] != SAME
            places.append((size, size, kind))
        else:
            start = _next(end, alignment)
            end = start + size
            is_right = kind < SAME and end <= len(payload)
            places.append((start, end, kind))
        if not is_right:
            raise ValueError(f"its buffer {len(places) - 1:,} of {size:,} bytes and kind {kind} is none")
    if end != len(payload):
        raise ValueError(f"its buffers end at byte {end:,}, and it has {len(payload):,}")
    stream = bytes(first[begin : begin + length])
    taken = None if isinstance(payload, bytes) else iter(payload.pieces[1:])
    found: list[Any] = []
    for start, stop, kind in places:
        if kind == SAME:
            found.append(found[start])
        elif taken is not None:
            found.append(next(taken)[1])
        else:
            data = memoryview(first)[start:stop]
            make: Callable[[Any], Any] = bytes if kind == BYTES else bytearray if kind == BYTEARRAY else copy_of
            found.append(make(data))
    return stream, tag, found


def only_one(first: bytes, length: int) -> tuple[int, int] | None:
    """Return where in a payload its buffer begins, and its bytes; None if it has another number of them, or is damaged.

    Args:
        first: the first ``FIRST`` bytes of the payload; fewer if it has no more.
        length: of the payload.
    """
    if len(first) < FIRST:
        return None
    count, stream, _, _, alignment = _HEAD.unpack_from(first)
    if count != 1 or alignment not in (PACKED, ALIGNMENT):
        return None
    size, kind = _ENTRY.unpack_from(first, _HEAD.size)
    begin = _next(FIRST + stream, alignment)
    return (begin, size) if kind < SAME and begin + size == length else None


def _next(end: int, alignment: int) -> int:
    """Return where the buffer begins that comes behind a piece, counted from the begin of the payload."""
    return end + -(end + BEFORE) % alignment
