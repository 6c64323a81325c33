"""Objects to bytes and back: the one module that knows pickle and cloudpickle.

``bytes``, ``str``, ``float``, ``int`` of 64 bits, ``bool`` and None travel as they are. All other items go through one
pickler in one pass, which asks each object for its state once. For each object the pickler decides how it travels:

- If multiprocessing has a reducer for it, it goes by that reducer (``_codec/reducers.py``).
- Classes, functions and modules go by name. Those that no name leads to (lambdas, classes made inside functions) go by
  value, as cloudpickle reduces them (``_codec/by_value.py``). Cloudpickle is used for nothing else.
- Everything else goes by pickle. An object that pickle refuses is refused, and the message has the path to it
  (``_codec/blame.py``).

Classes and functions that a program defines in its ``__main__`` lie between name and value. Pickle writes such a class
as a bare name, which only another process of the same program can resolve. Cloudpickle writes all of it, 5 KB for a
small dataclass, and the reader then gets a copy of the class, for which ``isinstance`` and ``except`` do not hold. This
codec has the advantages of both:

- The item names what it uses of ``__main__``, and its end says which program and which edition of it is meant. A
  process of that program reads the names as its own.
- Beside the queue, in a ``DefinitionStore``, lies the *definition* of each name: the class or function by value, stored
  with the first item that needs it. Any other process builds the class from that, once for all items. A definition is
  code without data of the program (``definitions.py``), as it was when it was stored. It refers to other names of
  ``__main__`` by name. So two definitions with a common base class get one base class, and each is stored once.
- An object that was built from a definition keeps its name. If it is sent on, the name travels, and the program that it
  came from gets its own class back.

A *program* is the file that ``__main__`` came from; without a file (an interactive session, ``python -c``) it is a
token that forked children inherit. An *edition* distinguishes the meanings of one name at different times: at first it
is the content of the file, and once a name is bound to something else, a random number. Within one program the name
decides, in any edition, as it does for ``multiprocessing``. Only an interactive program is different, because it
redefines classes while its forked children keep the old ones: there the process must know the edition, too.

A definition for which the store has no room travels with the item, if the item then still fits into a slot.
"""

from __future__ import annotations

import contextlib
import copyreg
import io
import os
import struct
import sys
import threading
import weakref
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from functools import partial
from hashlib import blake2b
from pickle import PickleBuffer, Pickler, Unpickler, UnpicklingError, dumps, loads
from types import BuiltinFunctionType, FunctionType, ModuleType, SimpleNamespace
from typing import Any, NoReturn, Protocol, TypeVar

from .._platform import clock, memory
from .._platform.lazy_import import late
from ..errors import DeserializationError, ItemTooLargeError, SerializationError, SharedMemoryQueueError
from . import classes, deflate, scalars
from . import definitions as _defining
from .blame import advice, describe, is_of_a_signal_handler, pass_on, path_to
from .buffers import AnyPieces, Buffers, Pieces, array_pieces, key_of_array, parts_of, whole
from .by_value import ByValue, is_named
from .definitions import MAIN_MODULES
from .reducers import explanation, key_of_shared, newest_shared, registered, send, withdraw
from .tags import BUFFERS, BYTES, DEFLATED, MAIN, OBJECTS, PICKLE, STR

__all__ = ["Codec", "DefinitionStore"]

_DEFLATABLE = frozenset({PICKLE, STR, MAIN, BUFFERS})  # bytes travel as they are; other items are never too large

_PROTOCOL = 5

# It stands at the end, because loads() ignores everything behind a stream: so nothing has to be cut off or copied.
_TRAILER = struct.Struct("<II8s8s")  # lengths of the names and of the definitions that travel along, edition, program
_SEPARATOR = b"\0"  # between names
_CHECKSUM = 16  # bytes in front of the stream of a definition; damaged code could crash the process that runs it
_ANY_MAIN = b"_main__"  # in each of MAIN_MODULES
_OF_SPAWNED = MAIN_MODULES[1]

_KEPT_SIZE = 1 << 16  # for each item an _ItemPickler allocates a buffer of the longest stream that it has ever written
_KEPT_PICKLERS = 8
_KEPT_STREAMS = 256
_LARGEST_FRAME = 1 << 18  # of pickle, which closes a frame at 64 KiB; a longer part is data
_REFUSED = 1_000_000_000  # ns in which a refused definition is not offered again

_REDUCE: Any = object.__reduce__
_REDUCE_EX: Any = object.__reduce_ex__

_SESSION = os.urandom(8)  # made at import, so that forked children inherit it


class DefinitionStore(Protocol):
    """The place beside the queue in which the definitions of ``__main__`` lie, for all processes."""

    def add(self, key: bytes, definition: bytes) -> bool:
        """Store a definition, unless there is one with that key.

        Args:
            key: 16 bytes.
            definition: any number of bytes.

        Returns:
            Whether there is a definition now; ``False`` if there is no room, or storing is not possible.
        """

    def find(self, key: bytes) -> bytes | None:
        """Look a definition up.

        Args:
            key: 16 bytes.

        Returns:
            The definition, or ``None`` if there is none with that key.
        """


class _OutOfReachError(BaseException):
    """The definitions cannot be read. No ``Exception``, so that no code on the way takes this for an error of the item.

    Attributes:
        reason: the error that says why.
    """

    def __init__(self, reason: SharedMemoryQueueError) -> None:
        super().__init__(reason)
        self.reason = reason


class _Leading(bytes):
    """The payload of an item that refers to objects which this process has set aside for the receiver.

    Attributes:
        keys: of those objects.
    """

    keys: list[int]


class Codec:
    """Turns items into bytes and back, for one queue.

    Several threads may use it at once, and so may the methods that pickle calls.

    Args:
        definitions: the store for definitions of ``__main__``.
        max_item_size: the largest payload that the queue takes. If a definition found no room in the store, and would
            make the item larger than this, it is left out; a process of the same program can still read the item.

    Example:
        >>> codec = Codec(store)
        >>> payload, tag = codec.encode({"pixels": 12})
        >>> codec.decode(payload, tag)
        {'pixels': 12}
    """

    def __init__(self, definitions: DefinitionStore, max_item_size: int = sys.maxsize) -> None:
        self._definitions = definitions
        self._max_item_size = max_item_size
        # Until an engine has its own; see read_plain_by and copy_by.
        self.read_plain: Callable[[bytes], Any] = _read_plain
        self._copy_of: Callable[[Any], Any] = memory.copy_of
        # Keys of names whose definitions are in the store, together with the definitions that those need.
        self._stored: set[bytes] = set()
        # The time until which a refused definition is not offered again, because a refusal may take long.
        self._refused: dict[bytes, int] = {}

    bare_tag = BYTES

    # The native engine uses these for the most frequent items, and the methods for all others. It may use `dumps` only
    # for items of exact built-in types: to pickle those runs no code of the user.
    dumps = staticmethod(dumps)
    loads = staticmethod(loads)

    @staticmethod
    def load(name: str) -> Any:
        """Return a module to which everyday objects belong, for the native engine, which reads these itself."""
        return _plain().load(name)

    def read_plain_by(self, read: Callable[[Callable[[str], Any], bytes], Any]) -> None:
        """Read everyday objects by a reader of the engine from here on."""
        self.read_plain = partial(read, self.load)

    def copy_by(self, copy: Callable[[Any], Any]) -> None:
        """Copy buffers that arrive by a function of the engine from here on; see ``memory.copy_of``."""
        self._copy_of = copy

    def encode(self, item: object) -> tuple[Any, int]:
        """Turn an item into bytes.

        Args:
            item: any object that pickle, or a reducer that is registered with multiprocessing, can serialise; it may
                contain any classes, functions and modules.

        Returns:
            The payload, and the tag that ``decode`` needs with it. The payload of ``bytes`` is the object itself. A
            payload in ``Pieces`` refers to memory of the item, from which the put copies it.

        Raises:
            SerializationError: an object in the item can exist only in this process.
        """
        return scalars.encode(item) or self.encode_object(item)

    def encode_object(self, item: Any) -> tuple[Any, int]:
        """Turn an item that needs pickle into bytes, for ``encode``."""
        key = key_of_array(item)
        if key is not None and not _has_reducer(type(item)):
            return array_pieces(_stream_of_array(item, key), PICKLE, PickleBuffer(item)), BUFFERS
        try:
            pickler = _spare_picklers.pop()
        except IndexError:
            pickler = _ItemPickler()
        parts = pickler.parts
        try:
            try:
                pickler.dump(item)
            except Exception as error:
                if is_of_a_signal_handler(error):
                    raise
                raise SerializationError(pickler.complaint(item, error)) from error
            tag = MAIN
            if pickler.names or pickler.is_explicit:
                self._finish(pickler)
            elif pickler.may_name and pickler.has_text_of_main():
                parts.append(_program().ending)
            else:
                tag = PICKLE
            stream = parts[0] if len(parts) == 1 else b"".join(parts)
            payload: Any = stream
            if pickler.buffers:
                payload, tag = pickler.buffers.pieces(stream, tag, pickler.set_aside), BUFFERS
            elif pickler.set_aside:
                payload = _leading(stream, pickler.set_aside)
        except BaseException:
            pickler.buffers.release()
            withdraw(pickler.set_aside)
            raise
        if len(stream) <= _KEPT_SIZE and len(_spare_picklers) < _KEPT_PICKLERS:
            pickler.forget()
            _spare_picklers.append(pickler)
        return payload, tag

    def withdraw(self, payload: bytes | Pieces) -> None:
        """Close the objects set aside for the receiver, as the item was not put; ``encode`` returned the payload."""
        if isinstance(payload, _Leading | Pieces):
            withdraw(payload.keys)
        if isinstance(payload, Pieces):
            payload.release()

    def fit(self, payload: bytes | Pieces, tag: int, index: int | None = None) -> tuple[Any, int]:
        """Make a payload smaller that is too large for a slot.

        Args:
            payload: returned by ``encode``.
            tag: the tag returned with it.
            index: the place of the item in its batch; ``None`` for a single item.

        Returns:
            A payload of at most ``max_item_size`` bytes, and its tag.

        Raises:
            ItemTooLargeError: the payload is too large even deflated, or is ``bytes``, which travel as they are.
        """
        if isinstance(payload, Pieces) and payload.pack(self._max_item_size):
            return payload, tag
        is_laid = not isinstance(payload, Pieces) or bool(payload.pieces)
        smaller = deflate.deflated(payload, tag, self._max_item_size) if tag in _DEFLATABLE and is_laid else None
        if smaller is None or len(smaller) > self._max_item_size:
            self.withdraw(payload)
            size = None if smaller is None else len(smaller)
            raise ItemTooLargeError(len(payload), self._max_item_size, index, size)
        return _leading(smaller, payload.keys if isinstance(payload, _Leading | Pieces) else []), DEFLATED

    def decode(self, payload: bytes | AnyPieces, tag: int) -> Any:
        """Turn bytes back into an item.

        Args:
            payload: returned by ``encode``, in this process or another.
            tag: the tag returned with it.

        Returns:
            The item.

        Raises:
            DeserializationError: the item cannot be rebuilt in this process, or the tag is not one of this module.
        """
        if tag == BUFFERS:
            return self._decode_buffers(payload)
        if not isinstance(payload, bytes):  # only those of buffers are in pieces
            payload = whole(payload)
        if tag == PICKLE:
            return self._unpickle(payload, loads, payload)
        if tag == MAIN:
            return self._decode_main(payload, payload, ())
        try:  # any other exception comes from a signal handler or another thread, and is no error of the item
            if tag in scalars.TAGS:
                return scalars.decode(payload, tag)
            if tag == OBJECTS:
                return self.read_plain(payload)
        except (ValueError, TypeError, ArithmeticError) as error:
            self.fail_to_decode(payload, error)
        if tag == DEFLATED:
            return self.decode(*self._inflated(payload))
        raise DeserializationError(
            f"an item has the tag {tag}, which no known format has; use one version of shared-multiprocess-queue in "
            f"all processes; the item's bytes are in the attribute 'raw' of this error",
            payload,
        )

    def _unpickle(self, payload: bytes | AnyPieces, load: Callable[[Any], Any], source: object) -> Any:
        # No direct call of load: after a call the interpreter looks for exceptions of other threads (_engine/calls.py),
        # and would raise them inside the try, as if they were errors of the item.
        unpickling = map(load, (source,))
        try:
            (item,) = unpickling
        except _OutOfReachError as error:
            raise error.reason from None
        except Exception as error:
            self.fail_to_decode(payload, error)
        return item

    def fail_to_decode(self, payload: bytes | AnyPieces, error: Exception) -> NoReturn:
        """Raise the error of ``decode`` for an error that unpickling has raised."""
        pass_on(error)
        raise DeserializationError(
            f"an item cannot be turned back into an object: {describe(error)}{explanation(error)}; this process must "
            f"be able to import what the item names and to rebuild it; its bytes are in the attribute 'raw' of this "
            f"error",
            whole(payload),
        ) from error

    def _finish(self, pickler: _ItemPickler) -> None:
        """Write the end of an item that names objects of ``__main__``, behind its stream."""
        names = pickler.names
        refused = {} if self._stored.issuperset(names) else self._store(names.values())
        is_complete = not refused and not pickler.is_explicit
        pickler.parts.append(_ending(names.values()) if is_complete else self._ending(pickler, refused))

    def _inflated(self, payload: bytes) -> tuple[bytes, int]:
        try:
            original, tag = deflate.inflated(payload, self._max_item_size)
            if tag not in _DEFLATABLE:
                raise ValueError(f"its deflated bytes have the tag {tag}, and items with that tag are never deflated")
        except ValueError as error:
            self.fail_to_decode(payload, error)
        return original, tag

    def _store(self, names: Iterable[_Name]) -> dict[bytes, bytes]:
        """Store the definitions of ``names`` and of all names that these need; return those that found no room."""
        found: dict[bytes, bytes] = {}
        todo = list(names)
        while todo:
            name = todo.pop()
            if name.key not in found and name.key not in self._stored:
                found[name.key], needs = name.definition()
                todo += needs
        # Backwards: if this process dies in between, the definitions that others need are mostly stored already.
        refused = {key: found[key] for key in reversed(found) if not self._stores(key, found[key])}
        if not refused:
            self._stored.update(found)
        return refused

    def _stores(self, key: bytes, definition: bytes) -> bool:
        if clock.now() < self._refused.get(key, 0):
            return False
        stored = self._definitions.add(key, definition)
        if not stored:
            self._refused[key] = clock.now() + _REFUSED
        return stored

    def _ending(self, pickler: _ItemPickler, definitions: dict[bytes, bytes]) -> bytes:
        """The end of an item that a bare ``loads`` cannot read; the dictionary of definitions may be empty."""
        along = dumps(definitions, _PROTOCOL)
        size = pickler.buffers.size + sum(map(len, pickler.parts)) + len(along) + _TRAILER.size
        if size > self._max_item_size:
            along = dumps({}, _PROTOCOL)
        origin = pickler.origin or _program().origin
        return along + _TRAILER.pack(0, len(along), origin[:8], origin[8:])

    def _decode_buffers(self, payload: bytes | AnyPieces) -> Any:
        try:
            stream, tag, buffers = parts_of(payload, self._copy_of)
            if tag not in (PICKLE, MAIN):
                raise ValueError(f"its stream has the tag {tag}, and streams with that tag have no buffers")
        except ValueError as error:
            self.fail_to_decode(payload, error)
        if tag == MAIN:
            return self._decode_main(stream, payload, buffers)
        return self._unpickle(payload, partial(loads, buffers=buffers), stream)

    def _decode_main(self, stream: bytes, payload: bytes | AnyPieces, buffers: Collection[Any]) -> Any:
        """Read a stream with the tag MAIN, which stands in a payload, and wants buffers."""
        end = len(stream) - _TRAILER.size
        if end < 0:
            self.fail_to_decode(payload, UnpicklingError("its end is missing"))
        names, along, edition, program = _TRAILER.unpack_from(stream, end)
        own = _program()
        if own.owns(program, edition) and not along:
            bare = stream[end - names : end]
            # A name that __main__ lacks here (in a spawned child, a class below `if __name__ == "__main__":`; in a
            # forked child, one made after the fork) still has its definition. A failed `loads` could have built parts
            # of the item already, and a second try would build them twice. So the names are looked up first.
            has_all = own.has_plainly(bare) or self._unpickle(payload, own.has_all, bare)
            if has_all and own.has_name_of_spawned(stream):
                return self._unpickle(payload, partial(loads, buffers=buffers), stream)
        definitions: dict[bytes, bytes] = {}
        if along:
            definitions = self._unpickle(payload, loads, stream[end - along : end])
        reader = _Reader(stream, program, edition, lambda key: definitions.get(key) or self._find(key), buffers)
        return self._unpickle(payload, _Reader.load, reader)

    def _find(self, key: bytes) -> bytes | None:
        try:
            return self._definitions.find(key)
        except SharedMemoryQueueError as error:
            raise _OutOfReachError(error) from None


def _has_reducer(kind: type) -> bool:
    return kind in copyreg.dispatch_table or kind in (registered(kind) or ())


def _stream_of_array(item: object, key: Hashable) -> bytes:
    """Return the stream of an array, without its numbers; it is the same for all arrays with that key."""
    stream = _streams_of_arrays.get(key)
    if stream is None:
        stream = dumps(item, _PROTOCOL, buffer_callback=lambda buffer: False)
        if len(_streams_of_arrays) >= _KEPT_STREAMS:
            _streams_of_arrays.clear()
        _streams_of_arrays[key] = stream
    return stream


def _digest(size: int, *parts: bytes) -> bytes:
    return blake2b(b"".join(len(part).to_bytes(4) + part for part in parts), digest_size=size).digest()


def _leading(payload: bytes, keys: list[int]) -> bytes:
    if not keys:
        return payload
    found = _Leading(payload)
    found.keys = keys
    return found


# Programs and names
# ------------------


class _Name:
    """A qualified name in ``__main__`` of one program, in one edition, and the object that it means here."""

    __slots__ = ("_definition", "edition", "ending", "is_own", "key", "obj", "origin", "program", "qualname")

    def __init__(self, program: bytes, edition: bytes, qualname: str, obj: Any, is_own: bool) -> None:
        self.program = program
        self.edition = edition
        self.qualname = qualname
        self.key = _key(program, edition, qualname)
        self.obj = obj
        self.is_own = is_own  # found in __main__, not built from a definition
        self.origin = edition + program
        # The end of an item in which this name is the only bare one.
        bare = qualname.encode("utf-8", "surrogatepass")
        self.ending = bare + _TRAILER.pack(len(bare), 0, edition, program)
        self._definition: tuple[bytes, list[_Name]] | None = None

    def definition(self) -> tuple[bytes, list[_Name]]:
        """The checksum and the object by value, and the names that occur in it. Made once."""
        if self._definition is None:
            stream, needs = _define(self)
            self._definition = _checksum(self.key, stream) + stream, needs
        return self._definition

    def reference(self) -> _defining.Reduction:
        """The reduction that writes the object as a name with its program and edition."""
        return _named, (self.program, self.edition, self.qualname)


def _ending(names: Collection[_Name]) -> bytes:
    """The end of an item in which these names are the bare ones; all are of one edition of a program."""
    first = next(iter(names))
    if len(names) == 1:
        return first.ending
    bare = _SEPARATOR.join(name.qualname.encode("utf-8", "surrogatepass") for name in names)
    return bare + _TRAILER.pack(len(bare), 0, first.edition, first.program)


def _checksum(key: bytes, stream: bytes) -> bytes:
    return _digest(_CHECKSUM, key, stream)


def _key(program: bytes, edition: bytes, qualname: str) -> bytes:
    return _digest(16, program, edition, qualname.encode("utf-8", "surrogatepass"))


class _Program:
    """The program that this process runs, as long as ``main`` is its ``__main__``."""

    def __init__(self, main: ModuleType | None) -> None:
        self.main = main
        path = _file_of(main)
        self.is_interactive = path is None
        self.id = _SESSION if path is None else _digest(8, os.fsencode(path))
        self.edition = bytes(8) if path is None else _content_digest(path)
        self.origin = self.edition + self.id
        self.ending = _TRAILER.pack(0, 0, self.edition, self.id)  # of an item with names that have no definition
        self.origins = {self.origin}  # of all editions that this process has made or inherited
        self.names: dict[str, _Name] = {}

    def lookup(self, qualname: str) -> Any:
        """The object of this name in ``__main__`` now, or ``None``; an empty name is that of the module itself."""
        found: Any = self.main
        for part in qualname.split(".") if qualname else ():
            found = getattr(found, part, None)
        return found

    def has_plainly(self, names: bytes) -> bool:
        """Whether all the names that stand bare in a stream are globals of ``__main__`` now; runs no user code."""
        found: dict[str, Any] = getattr(self.main, "__dict__", {})
        return not names or found.keys() >= set(names.decode("utf-8", "replace").split("\0"))

    def has_all(self, names: bytes) -> bool:
        """Whether ``__main__`` now has an object for each name that stands bare in a stream."""
        return all(self.lookup(name) is not None for name in names.decode("utf-8", "surrogatepass").split("\0"))

    def has_name_of_spawned(self, payload: bytes) -> bool:
        """Whether this process can read the name that spawned children give ``__main__``, if it is in a payload.

        It can in every program that has imported multiprocessing, unless ``__main__`` was replaced since.
        """
        return sys.modules.get(_OF_SPAWNED) is self.main or _OF_SPAWNED.encode() not in payload

    def name(self, qualname: str, obj: Any) -> _Name:
        """The ``_Name`` of ``obj``, which ``lookup`` has found by ``qualname``."""
        name = self.names.get(qualname)
        if name is None or name.obj is not obj:
            if name is None:
                edition = self.edition
            else:
                edition = os.urandom(8)
                _known.by_id.pop(id(name.obj), None)
            name = self.names[qualname] = _known.by_id[id(obj)] = _Name(self.id, edition, qualname, obj, is_own=True)
            self.origins.add(name.origin)
        return name

    def owns(self, program: bytes, edition: bytes) -> bool:
        """Whether names of that program and edition mean the objects of this process."""
        return program == self.id and (not self.is_interactive or edition + program in self.origins)


def _file_of(main: ModuleType | None) -> str | None:
    path = getattr(main, "__file__", None)
    # Some programs that have no file have "<stdin>" or the like as its name.
    return os.path.realpath(path) if isinstance(path, str) and not path.startswith("<") else None


def _content_digest(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return _digest(8, file.read())
    except OSError:
        return bytes(8)


class _Known:
    """The knowledge of this process that outlives single items."""

    def __init__(self) -> None:
        self.program: _Program | None = None
        self.built: dict[bytes, _Name] = {}  # from definitions
        # By the id of the object, which the name keeps alive: objects built, and objects found in __main__.
        self.by_id: dict[int, _Name] = {}
        # Held while an object is built from a definition, so that no two threads build two classes of one name.
        self.lock = threading.RLock()
        self.unfinished: dict[bytes, _Name] = {}
        self.depth = 0

    def after_fork(self) -> None:
        """In a forked child, forget what another thread of the parent was building."""
        self.lock = threading.RLock()
        self.unfinished = {}
        self.depth = 0

    @contextlib.contextmanager
    def building(self) -> Iterator[None]:
        """Build a definition. When the outermost one is complete, so are all that it needs, and they become known."""
        self.depth += 1
        try:
            yield
            if self.depth == 1:
                self.by_id.update((id(name.obj), name) for name in self.unfinished.values())
                self.built.update(self.unfinished)
        finally:
            self.depth -= 1
            if self.depth == 0:
                self.unfinished = {}


_known = _Known()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_known.after_fork)


def _program() -> _Program:
    # In a spawned child __main__ is replaced after this module has been imported.
    main = sys.modules.get("__main__")
    program = _known.program
    if program is None or program.main is not main:
        program = _known.program = _Program(main)
        _known.by_id = {id(name.obj): name for name in _known.built.values()}
    return program


def _name_of(obj: Any) -> _Name | None:
    """The name by which other processes know a class or function of any program's ``__main__``; otherwise ``None``."""
    known = _known.by_id.get(id(obj))
    if known is not None and not known.is_own:
        return known
    if getattr(obj, "__module__", None) not in MAIN_MODULES:
        return None
    program = _program()
    qualname = obj.__qualname__
    if known is not None and program.names.get(qualname) is known and program.main.__dict__.get(qualname) is obj:
        return known
    return program.name(qualname, obj) if program.lookup(qualname) is obj else None


# Writing
# -------


class _ItemPickler(Pickler):
    """Writes an item into ``parts``, and notes the names of ``__main__`` in it.

    Attributes:
        parts: of the stream, in order.
        names: of ``__main__`` of any program, by key.
        origin: edition and program of the names that stand bare in the stream, if there are any.
        is_explicit: whether there are other names, which a bare ``loads`` cannot read.
        may_name: whether the stream may have names that were not noted: of an ``lru_cache``, a type variable, or any
            object whose ``__reduce__`` returns a str.
        set_aside: keys of the objects that multiprocessing keeps for the receiver of the item.
        buffers: that are too large for the stream.
    """

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        parts = self.parts

        def write(part: Any) -> None:
            # Pickle passes a large buffer itself, which may change before the parts are joined.
            parts.append(part if type(part) is bytes else bytes(part))

        this = weakref.ref(self)  # a circle would keep the buffer of a pickler that is dropped

        def take(buffer: Any) -> bool:
            pickler = this()
            assert pickler is not None
            return pickler.buffers.take(buffer, pickler._last, pickler._met)

        super().__init__(SimpleNamespace(write=write), _PROTOCOL, buffer_callback=take)
        self.names: dict[bytes, _Name] = {}
        self.origin = b""
        self.is_explicit = False
        self._last: object = None  # the last object that pickle has asked about
        self._reducers: Mapping[type, Callable[[Any], Any]] | None = None  # None while there are none
        self._by_value: ByValue | None = None
        # Types of objects that go by pickle. As with ForkingPickler, a reducer that is registered meanwhile is used for
        # the next item.
        self._left_to_pickle: set[type] = set()
        self._met: set[type] = set()  # those, and types with a reducer of multiprocessing
        self.buffers = Buffers()
        self.may_name = False
        self.set_aside: list[int] = []
        self._newest_before = 0

    def forget(self) -> None:
        """Return to the state of a new pickler."""
        self.memo = {}  # clear_memo() would keep the table at its largest size, and clear all of it each time
        self.parts.clear()
        if self.names:
            self.names.clear()
            self.origin = b""
        self.is_explicit = False
        self._last = self._reducers = self._by_value = None
        self.may_name = False
        if self.set_aside:
            self.set_aside = []  # the payload keeps the old list
        self._left_to_pickle.clear()
        self._met.clear()
        if self.buffers:
            self.buffers = Buffers()

    def reducer_override(self, obj: Any) -> Any:
        """Tell pickle how to reduce any object that is not of an exact built-in type."""
        self._last = obj
        kind = type(obj)
        if kind is type or kind is FunctionType:
            return self._reduce_nameable(obj)
        if kind not in self._left_to_pickle:
            self._met.add(kind)
            if self.buffers:
                self.buffers.meet((kind,))
            reducers = self._reducers
            if reducers is None:
                reducers = self._reducers = registered(kind)
                self._newest_before = newest_shared()
            if reducers is not None:
                reduce = reducers.get(kind)
                if reduce is not None:
                    reduced = send(obj, reduce)
                    self.may_name |= isinstance(reduced, str)
                    return reduced
            if kind in copyreg.dispatch_table:
                if issubclass(kind, type):  # a metaclass, as of numpy's dtypes; the module is that of the class
                    self.may_name |= obj.__module__ in MAIN_MODULES
                    return NotImplemented
                self.may_name = True
            elif issubclass(kind, type):
                return self._reduce_nameable(obj)
            elif kind is ModuleType:
                return self._refer_to_main() if obj is _program().main else self._reduce_by_value(obj)
            elif kind is TypeVar:
                self.may_name = True
                return NotImplemented if is_named(obj) else self._reduce_by_value(obj)
            elif kind.__reduce__ is not _REDUCE or kind.__reduce_ex__ is not _REDUCE_EX:
                # Pickle asks the object for its module; an object without a __dict__ has that of its class.
                module = kind.__dict__.get("__module__", "")
                if kind.__dictoffset__ or type(module) is not str or module in MAIN_MODULES:
                    self.may_name |= kind is not BuiltinFunctionType  # it belongs to a module in C
            else:
                key = key_of_shared(obj, kind, self._newest_before)
                if key:
                    self.set_aside.append(key)
                    return NotImplemented
            self._left_to_pickle.add(kind)
        return NotImplemented if self._by_value is None else self._by_value.reduce_part(obj)

    def _reduce_nameable(self, obj: Any) -> Any:
        module_name = obj.__module__
        if module_name not in MAIN_MODULES:
            # A shortcut: for most objects the code below would find out the same.
            module = sys.modules.get(module_name)
            if module is not None and getattr(module, obj.__qualname__, None) is obj and not _is_any_by_value():
                return NotImplemented
        name = _name_of(obj)
        if name is not None:
            return self._refer(name)
        return NotImplemented if is_named(obj) and not _is_any_by_value() else self._reduce_by_value(obj)

    def _reduce_by_value(self, obj: Any) -> Any:
        if self._by_value is None:
            self._by_value = ByValue(_cloud()(io.BytesIO(), _PROTOCOL))
        return self._by_value.reduce(obj)

    def _refer(self, name: _Name) -> Any:
        """Note a name; return how to write it."""
        self.names[name.key] = name
        if name.is_own and self.origin in (name.origin, b""):
            self.origin = name.origin
            return NotImplemented
        self.is_explicit = True
        return name.reference()

    def _refer_to_main(self) -> Any:
        """Return how to write the module itself; its bare name would mean the reader's own ``__main__``."""
        self.is_explicit = True
        program = _program()
        return _named, (program.id, program.edition, "")

    def has_text_of_main(self) -> bool:
        """Whether the stream may have a name of ``__main__``. A false alarm does no harm."""
        return any(_ANY_MAIN in part for part in self.parts if len(part) <= _LARGEST_FRAME)

    def complaint(self, item: object, error: Exception) -> str:
        """Return the message that says why ``item`` cannot be written; pickle has raised ``error``."""
        culprit = self._last
        path = None
        if culprit is not None and culprit is not item and type(error) is not RecursionError:
            path = path_to(culprit, item, () if self._by_value is None else self._by_value.definitions)
        where = "" if path is None else f" (at {path})"
        what = f"an item of type {classes.type_name(type(item))} cannot be serialised"
        why = describe(error)
        return f"{what}: {why}{where}; {advice(error, why)}"


# Making a pickler takes as long as using it, so these are kept. There are several, because there are threads, and items
# whose __reduce__ encodes another item.
_spare_picklers: list[_ItemPickler] = []

_streams_of_arrays: dict[Hashable, bytes] = {}


@late
def _cloud() -> type[Any]:
    """Import cloudpickle, which many programs never need, and return its pickler class."""
    import cloudpickle  # noqa: PLC0415

    pickler: type[Any] = cloudpickle.Pickler
    return pickler


@late
def _plain() -> Any:
    """Import the reader of everyday objects, which a program with the native engine rarely needs."""
    from . import plain  # noqa: PLC0415

    return plain


def _read_plain(payload: bytes) -> Any:
    return _plain().read(payload)


def _is_any_by_value() -> bool:
    """Whether the program has registered modules with cloudpickle, so that their classes and functions go by value."""
    if "cloudpickle" not in sys.modules:
        return False
    registry = getattr(sys.modules["cloudpickle"], "list_registry_pickle_by_value", None)
    return registry is not None and bool(registry())


def _define(name: _Name) -> tuple[bytes, list[_Name]]:
    """Make the definition of ``name``; if that is impossible, the definition is the text that says why."""
    needs: dict[bytes, _Name] = {}

    def begin(build: Callable[..., Any], arguments: tuple[Any, ...]) -> _defining.Reduction:
        return _begin, (name.program, name.edition, name.qualname, build, arguments)

    def refer(obj: Any) -> _defining.Reduction | None:
        if type(obj) is FunctionType and obj.__qualname__.startswith(f"{name.qualname}."):
            return None  # a method belongs to its class
        other = _name_of(obj)
        if other is None:
            return None
        needs[other.key] = other
        return other.reference()

    try:
        definition = _defining.write(name.obj, begin, refer)
    except Exception as error:
        if is_of_a_signal_handler(error):
            raise
        # No error of the item, because a process of the same program does not need the definition.
        return dumps(describe(error), _PROTOCOL), []
    return definition, list(needs.values())


# Reading
# -------


def _named(program: bytes, edition: bytes, qualname: str) -> NoReturn:
    """Stand in a stream for the object of that name; a ``_Reader`` replaces it by its own method ``resolve``."""
    raise UnpicklingError(f"{qualname!r} of a program's __main__ can only be read through the queue that it came by")


def _begin(program: bytes, edition: bytes, qualname: str, build: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Begin to build the object of a definition. Its name leads to it at once, because its parts may refer to it."""
    key = _key(program, edition, qualname)
    if key not in _known.unfinished:
        obj = build(*arguments)
        _known.unfinished[key] = _Name(program, edition, qualname, obj, is_own=False)
    return _known.unfinished[key].obj


class _Reader(Unpickler):
    """Reads a stream in which the bare names of ``__main__`` belong to ``program`` and ``edition``."""

    def __init__(
        self,
        stream: bytes,
        program: bytes,
        edition: bytes,
        find: Callable[[bytes], bytes | None],
        buffers: Collection[Any] = (),
    ) -> None:
        super().__init__(io.BytesIO(stream), buffers=buffers)
        self._program = program
        self._edition = edition
        self._find = find

    def find_class(self, module: str, name: str) -> Any:
        if module in MAIN_MODULES:
            return self.resolve(self._program, self._edition, name)
        if module == __name__ and name == _named.__name__:
            return self.resolve
        return super().find_class(module, name)

    def resolve(self, program: bytes, edition: bytes, qualname: str) -> Any:
        """The object of that name: this program's own object, or one built from the definition."""
        own = _program()
        if own.owns(program, edition):
            obj = own.lookup(qualname)
            if obj is not None:
                return obj
        key = _key(program, edition, qualname)
        built = _known.built.get(key)
        return self._build(program, edition, qualname, key) if built is None else built.obj

    def _build(self, program: bytes, edition: bytes, qualname: str, key: bytes) -> Any:
        with _known.lock:
            known = _known.built.get(key) or _known.unfinished.get(key)
            if known is not None:
                return known.obj
            definition = self._find(key)
            if definition is None:
                raise NameError(_missing(program, qualname or "__main__"), name=qualname or "__main__")
            checksum, stream = definition[:_CHECKSUM], definition[_CHECKSUM:]
            if checksum != _checksum(key, stream):
                raise UnpicklingError(
                    f"the definition of {qualname!r}, of the __main__ of program {program.hex()}, is damaged: something"
                    f" has written into the queue's memory; unlink the queue and create it again"
                )
            with _known.building():
                obj = _Reader(stream, program, edition, self._find).load()
                if isinstance(obj, str):
                    raise UnpicklingError(
                        f"{qualname!r} is a name in the __main__ of another program ({program.hex()}), which could not "
                        f"send its definition: {obj}; define it in a module that both programs import"
                    )
            return obj


def _missing(program: bytes, qualname: str) -> str:
    if program == _program().id:
        return (
            f"{qualname!r} is a name in the __main__ of this program which this process does not have, and its "
            f"definition is not in the queue: there was no room left for it, or it is neither a class nor a function; "
            f"define it before the process starts, outside of `if __name__ == '__main__':`, or in a module"
        )
    return (
        f"{qualname!r} is a name in the __main__ of another program ({program.hex()}), and its definition is not in "
        f"the queue: there was no room left for it, or it is neither a class nor a function; define it in a module "
        f"that both programs import"
    )
