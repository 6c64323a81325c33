"""Objects to bytes and back: the one module that knows pickle and cloudpickle.

``bytes``, ``str``, ``float``, ``int`` of 64 bits, ``bool`` and None travel as they are. Everything else goes by plain
pickle where that suffices, and by cloudpickle, five times as slow, where pickle alone refuses: lambdas, closures,
classes made inside functions.

What a program defines in its ``__main__`` lies between the two. Pickle writes such a class as a bare name, which only
another process of the same program can resolve; cloudpickle writes all of it, 5 KB for a small dataclass, and the
reader then gets a copy of the class, for which ``isinstance`` and ``except`` do not hold. Here both are had:

- The item names what it uses of ``__main__`` and says at its end which program and which edition of it is meant. A
  process of that program reads the names as its own.
- Beside the queue, in a ``DefinitionStore``, lies the *definition* of each name: the class or function by value, put
  there with the first item that needs it. Any other process builds the class from that, once, for all items. A
  definition is code, without data of the program (``_by_value.py``), as it was at that moment. It refers to other
  names of ``__main__`` again by name, so that two definitions with a common base class get one base class, and each is
  stored once.
- What was built from a definition remembers its name. When it is sent on, it is the name that travels, and the program
  that it came from gets its own class back.

A *program* is the file that ``__main__`` came from; without a file (an interactive session, ``python -c``) it is a
token that forked children inherit. An *edition* tells apart what one name meant at different times: the content of the
file, and a random number from the moment on that a name is bound to something else. Within one program the name
decides, whatever its edition, as it does for ``multiprocessing``; only in an interactive program, which redefines
classes while its forked children keep the old ones, must the edition be one that the process knows, too.

A definition that the store has no room for travels with the item, as long as the item still fits into a slot.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from pickle import Pickler, Unpickler, UnpicklingError, dumps, loads
from struct import Struct
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any, NoReturn, Protocol

from . import _by_value, _clock, _deflate
from ._by_value import MAIN_MODULES
from ._late import late
from .errors import DeserializationError, ItemTooLargeError, SerializationError, SharedMemoryQueueError

__all__ = ["BYTES", "CONSTANTS", "DEFLATED", "FLOAT", "INT", "MAIN", "PICKLE", "STR", "Codec", "DefinitionStore"]

# Tags are written into the slots: a number, once used, keeps its meaning.
PICKLE = 0  # a pickle stream
BYTES = 1
STR = 2  # utf-8, lone surrogates included
MAIN = 3  # a pickle stream that names things of __main__, then the definitions that travel along, then _TRAILER
CONSTANTS = {4: None, 5: False, 6: True}  # their payloads are empty
INT = 7  # of 64 bits; this and the next in the byte order of the machine, which no queue leaves
FLOAT = 8
DEFLATED = 11  # see _deflate.py; 9, 10 and 255 are set aside

_DEFLATABLE = frozenset({PICKLE, STR, MAIN})  # bytes travel as they are; of the rest nothing is too large

_INT = Struct("=q")
_FLOAT = Struct("=d")
_INT_END = 1 << 63
_TAGS = {value: tag for tag, value in CONSTANTS.items()}

_PROTOCOL = 5
_NAMEABLE = (type, FunctionType)

# At the end and not in front, because loads() ignores what follows a stream: nothing has to be cut off or copied.
_TRAILER = Struct("<I8s8s")  # length of the definitions that travel along, edition, program

_STACK_GLOBAL = 0x93  # the opcode without which a stream names no class, function or module
_SEARCHED_SIZE = 2048  # to search a longer stream for a name costs more than to have it written by a _Tracker
_KEPT_SIZE = 1 << 16  # a _Tracker allocates a buffer for the longest stream that it has written, each time
_KEPT_TRACKERS = 8
_TRACKED_TYPES = 256
_REFUSED = 1_000_000_000  # ns

_SESSION = os.urandom(8)  # made at import, so that forked children inherit it


class DefinitionStore(Protocol):
    """Where the definitions of things of ``__main__`` lie, beside the queue, for all processes."""

    def add(self, key: bytes, definition: bytes) -> bool:
        """Store a definition, unless one is there under that key.

        Args:
            key: 16 bytes.
            definition: any number of bytes.

        Returns:
            Whether a definition is there now. ``False``: there is no room, or storing is not possible.
        """

    def find(self, key: bytes) -> bytes | None:
        """Look a definition up.

        Args:
            key: 16 bytes.

        Returns:
            The definition, or ``None`` if there is none under that key.
        """


class _OutOfReachError(BaseException):
    """The definitions cannot be looked at: not the fault of the item, which nothing on its way must take for its own.

    Attributes:
        reason: why.
    """

    def __init__(self, reason: SharedMemoryQueueError) -> None:
        super().__init__(reason)
        self.reason = reason


class Codec:
    """Turns items into bytes and back, for one queue.

    It may be used by several threads at once, and from within the methods that pickle calls.

    Args:
        definitions: where the definitions of things of ``__main__`` are stored and found.
        item_size: the greatest payload that the queue takes. Definitions that found no room in the store are left out
            of items that would become larger by them; a process of the same program can read such an item all the same.

    Example:
        >>> codec = Codec(store)
        >>> payload, tag = codec.encode({"pixels": 12})
        >>> codec.decode(payload, tag)
        {'pixels': 12}
    """

    def __init__(self, definitions: DefinitionStore, item_size: int = sys.maxsize) -> None:
        self._definitions = definitions
        self._item_size = item_size
        # Keys of names whose definitions are in the store, together with all that those need.
        self._stored: set[bytes] = set()
        # Until when what the store has refused is not offered again: a refusal may have taken its time.
        self._refused: dict[bytes, int] = {}
        # Types whose last item needed a _Tracker: the next one is not first pickled without. By id, because a type
        # need not be hashable; the values keep the types, and thereby the ids, alive.
        self.tracked: dict[int, type] = {}

    # The native engine does by itself what is most frequent, with these, and leaves the rest to the methods.
    dumps = staticmethod(dumps)
    loads = staticmethod(loads)

    def encode(self, item: object) -> tuple[bytes, int]:
        """Turn an item into bytes.

        Args:
            item: any object that pickle or cloudpickle can serialise.

        Returns:
            The payload, and the tag that ``decode`` needs with it. The payload of ``bytes`` is the object itself.

        Raises:
            SerializationError: neither pickle nor cloudpickle can serialise the item.
        """
        kind = type(item)
        if kind is bytes:
            return item, BYTES  # type: ignore[return-value]
        if kind is str:
            return item.encode("utf-8", "surrogatepass"), STR  # type: ignore[attr-defined]
        if kind is int and -_INT_END <= item < _INT_END:  # type: ignore[operator]
            return _INT.pack(item), INT
        if kind is float:
            return _FLOAT.pack(item), FLOAT
        if item is None or kind is bool:
            return b"", _TAGS[item]  # type: ignore[index]
        if self.tracked and id(kind) in self.tracked:
            return self._encode_tracked(item)
        try:
            stream = dumps(item, _PROTOCOL)
        except Exception as error:
            return self.encode_refused(item, error)
        return self.encode_named(item, stream) if _STACK_GLOBAL in stream else (stream, PICKLE)

    def encode_refused(self, item: object, error: Exception) -> tuple[bytes, int]:
        """Go on with ``encode`` where plain pickle has raised an error."""
        if _is_fine(item):
            try:
                raise error  # by a signal handler
            finally:
                del error  # or this frame and its traceback would keep each other, and the item
        # A _Tracker can do more than pickle only where things are known that were built from definitions.
        return self._encode_tracked(item) if _known.built else self._encode_by_cloudpickle(item)

    def encode_named(self, item: object, stream: bytes) -> tuple[bytes, int]:
        """Go on with ``encode`` where plain pickle has written a stream that names something."""
        if len(stream) <= _SEARCHED_SIZE and _is_plain(stream):
            return stream, PICKLE
        return self._encode_tracked(item)

    def fit(self, payload: bytes, tag: int, index: int | None = None) -> tuple[bytes, int]:
        """Make what ``encode`` returned fit into a slot, where it is too large for one.

        Args:
            payload: what ``encode`` returned.
            tag: the tag returned with it.
            index: the place of the item in its batch; ``None`` for a single item.

        Returns:
            A payload of ``item_size`` bytes at most, and its tag.

        Raises:
            ItemTooLargeError: deflated it is still too large, or it is ``bytes``, which travel as they are.
        """
        smaller = _deflate.deflated(payload, tag, self._item_size) if tag in _DEFLATABLE else None
        if smaller is None or len(smaller) > self._item_size:
            size = None if smaller is None else len(smaller)
            raise ItemTooLargeError(len(payload), self._item_size, index, size)
        return smaller, DEFLATED

    def decode(self, payload: bytes, tag: int) -> Any:
        """Turn bytes back into an item.

        Args:
            payload: what ``encode`` returned, in this process or another.
            tag: the tag returned with it.

        Returns:
            The item.

        Raises:
            DeserializationError: the item cannot be rebuilt in this process, or the tag is not one of this module's.
        """
        try:
            if tag == PICKLE:
                return loads(payload)
            if tag == BYTES:
                return payload
            if tag == STR:
                return payload.decode("utf-8", "surrogatepass")
            if tag == MAIN:
                return self._decode_main(payload)
            if tag == INT:
                return _INT.unpack(payload)[0]
            if tag == FLOAT:
                return _FLOAT.unpack(payload)[0]
            if tag in CONSTANTS and not payload:
                return CONSTANTS[tag]
        except _OutOfReachError as error:
            raise error.reason from None
        except Exception as error:
            self.fail_to_decode(payload, error)
        if tag == DEFLATED:
            return self.decode(*self._inflated(payload))
        raise DeserializationError(
            f"an item has the tag {tag}, which no known format has; use one version of shared-multiprocess-queue in "
            f"all processes; the item's bytes are in the attribute 'raw' of this error",
            payload,
        )

    def fail_to_decode(self, payload: bytes, error: Exception) -> NoReturn:
        """Raise what ``decode`` raises where unpickling has raised an error."""
        raise DeserializationError(
            f"an item cannot be turned back into an object: {_describe(error)}; this process must be able to "
            f"import what the item names and to rebuild it; its bytes are in the attribute 'raw' of this error",
            payload,
        ) from error

    def _inflated(self, payload: bytes) -> tuple[bytes, int]:
        try:
            original, tag = _deflate.inflated(payload, self._item_size)
            if tag not in _DEFLATABLE:
                raise ValueError(f"deflated within is the tag {tag}, which nothing that is deflated has")
        except ValueError as error:
            self.fail_to_decode(payload, error)
        return original, tag

    def _encode_tracked(self, item: object) -> tuple[bytes, int]:
        if _is_any_by_value():
            return self._encode_by_cloudpickle(item)
        try:
            tracker = _spare_trackers.pop()
        except IndexError:
            tracker = _Tracker()
        _program()  # so that nothing is remembered of another __main__
        try:
            tracker.dump(item)
        except Exception:
            return self._encode_by_cloudpickle(item)
        encoded = self._finish(item, tracker)
        if len(encoded[0]) <= _KEPT_SIZE and len(_spare_trackers) < _KEPT_TRACKERS:
            tracker.forget()
            _spare_trackers.append(tracker)
        return encoded

    def _encode_by_cloudpickle(self, item: object) -> tuple[bytes, int]:
        tracker = _cloud()()
        try:
            tracker.dump(item)
        except Exception as error:
            kind = type(item)
            raise SerializationError(
                f"an item of type {kind.__module__}.{kind.__qualname__} cannot be serialised: {_describe(error)}; "
                f"leave out what exists only in this process (locks, open files, sockets, generators), or let a class "
                f"say what to send instead, by __reduce__ or __getstate__"
            ) from error
        return self._finish(item, tracker)

    def _finish(self, item: object, tracker: _Tracking) -> tuple[bytes, int]:
        """Make the payload of what ``tracker`` has written."""
        if tracker.names:
            refused = {} if self._stored.issuperset(tracker.names) else self._store(tracker.names.values())
            tracker.parts.append(self._ending(tracker, refused) if refused or tracker.is_explicit else tracker.trailer)
        payload = b"".join(tracker.parts)
        kind = type(item)
        if not tracker.names and len(payload) <= _SEARCHED_SIZE:
            self.tracked.pop(id(kind), None)
        elif id(kind) not in self.tracked:
            if len(self.tracked) >= _TRACKED_TYPES:
                self.tracked.clear()
            self.tracked[id(kind)] = kind
        return payload, MAIN if tracker.names else PICKLE

    def _store(self, names: Iterable[_Name]) -> dict[bytes, bytes]:
        """Store the definitions of ``names`` and of all that those name in turn; return those that found no room."""
        found: dict[bytes, bytes] = {}
        todo = list(names)
        while todo:
            name = todo.pop()
            if name.key not in found and name.key not in self._stored:
                found[name.key], needs = name.definition()
                todo += needs
        # Backwards, so that what others need tends to be there before them, should this process die in between.
        refused = {key: found[key] for key in reversed(found) if not self._stores(key, found[key])}
        if not refused:
            self._stored.update(found)
        return refused

    def _stores(self, key: bytes, definition: bytes) -> bool:
        if _clock.now() < self._refused.get(key, 0):
            return False
        stored = self._definitions.add(key, definition)
        if not stored:
            self._refused[key] = _clock.now() + _REFUSED
        return stored

    def _ending(self, tracker: _Tracking, definitions: dict[bytes, bytes]) -> bytes:
        """What follows a stream that a bare ``loads`` cannot read; its definitions may be few or none, never absent."""
        along = dumps(definitions, _PROTOCOL)
        if sum(map(len, tracker.parts)) + len(along) + _TRAILER.size > self._item_size:
            along = dumps({}, _PROTOCOL)
        _, edition, program = _TRAILER.unpack(tracker.trailer or _program().trailer)
        return along + _TRAILER.pack(len(along), edition, program)

    def _decode_main(self, payload: bytes) -> Any:
        if payload[-_TRAILER.size :] not in _program().trailers:
            return self._read(payload)
        try:
            return loads(payload)
        except (AttributeError, ImportError):
            # What __main__ lacks here (a class below `if __name__ == "__main__":`, in a spawned child; one made after
            # the fork, in a forked one) still has its definition.
            return self._read(payload)

    def _read(self, payload: bytes) -> Any:
        end = len(payload) - _TRAILER.size
        length, edition, program = _TRAILER.unpack_from(payload, end)
        along: dict[bytes, bytes] = loads(payload[end - length : end]) if length else {}
        return _Reader(payload, program, edition, lambda key: along.get(key) or self._find(key)).load()

    def _find(self, key: bytes) -> bytes | None:
        try:
            return self._definitions.find(key)
        except SharedMemoryQueueError as error:
            raise _OutOfReachError(error) from None


def _is_fine(item: object) -> bool:
    """Whether plain pickle can do it."""
    try:
        dumps(item, _PROTOCOL)
    except Exception:
        return False
    return True


def _is_plain(stream: bytes) -> bool:
    """Whether plain pickle's ``stream``, which names something, is what cloudpickle would achieve, too."""
    return b"_main__" not in stream and not _is_any_by_value()


def _describe(error: Exception) -> str:
    return "".join(traceback.format_exception_only(error)).strip()  # copes with errors that cannot be printed


def _digest(size: int, *parts: bytes) -> bytes:
    return blake2b(b"".join(len(part).to_bytes(4) + part for part in parts), digest_size=size).digest()


# Programs and names
# ------------------


class _Name:
    """A qualified name in ``__main__`` of one program, in one edition, and the object that it means here."""

    __slots__ = ("_definition", "edition", "is_own", "key", "obj", "program", "qualname", "trailer")

    def __init__(self, program: bytes, edition: bytes, qualname: str, obj: Any, is_own: bool) -> None:
        self.program = program
        self.edition = edition
        self.qualname = qualname
        self.key = _key(program, edition, qualname)
        self.obj = obj
        self.is_own = is_own  # found in __main__, not built from a definition
        # Of a stream in which a bare `__main__.qualname` means this object.
        self.trailer = _TRAILER.pack(0, edition, program) if is_own else b""
        self._definition: tuple[bytes, list[_Name]] | None = None

    def definition(self) -> tuple[bytes, list[_Name]]:
        """The object by value, and the names that occur in it. Made once."""
        if self._definition is None:
            self._definition = _define(self)
        return self._definition

    def reference(self) -> _by_value.Reduction:
        """What a ``reducer_override`` returns to have the object written as a name that says all."""
        return _named, (self.program, self.edition, self.qualname)


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
        self.trailer = _TRAILER.pack(0, self.edition, self.id)
        self.trailers = {self.trailer}  # of all editions that this process has made or inherited
        self.names: dict[str, _Name] = {}

    def lookup(self, qualname: str) -> Any:
        """What ``qualname`` means in ``__main__`` now; ``None`` if nothing."""
        found: Any = self.main
        for part in qualname.split("."):
            found = getattr(found, part, None)
        return found

    def name(self, qualname: str, obj: Any) -> _Name:
        """The name of ``obj``, which ``lookup`` found under ``qualname``."""
        name = self.names.get(qualname)
        if name is None or name.obj is not obj:
            if name is None:
                edition = self.edition
            else:
                edition = os.urandom(8)
                _known.by_id.pop(id(name.obj), None)
            name = self.names[qualname] = _known.by_id[id(obj)] = _Name(self.id, edition, qualname, obj, is_own=True)
            self.trailers.add(name.trailer)
        return name

    def owns(self, program: bytes, edition: bytes) -> bool:
        """Whether names of that program and edition mean what they mean here."""
        return program == self.id and (not self.is_interactive or _TRAILER.pack(0, edition, program) in self.trailers)


def _file_of(main: ModuleType | None) -> str | None:
    path = getattr(main, "__file__", None)
    # Some call the file of a program that has none "<stdin>" or the like.
    return os.path.realpath(path) if isinstance(path, str) and not path.startswith("<") else None


def _content_digest(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return _digest(8, file.read())
    except OSError:
        return bytes(8)


class _Known:
    """What this process knows beyond single items."""

    def __init__(self) -> None:
        self.program: _Program | None = None
        self.built: dict[bytes, _Name] = {}  # from definitions
        # By the id of the object, which the name keeps alive: what was built, and what was found in __main__.
        self.by_id: dict[int, _Name] = {}
        # Held while something is built from a definition, so that no two threads build two classes of one name.
        self.lock = threading.RLock()
        self.unfinished: dict[bytes, _Name] = {}
        self.depth = 0

    def after_fork(self) -> None:
        """In a child: forget what another thread of the parent was at."""
        self.lock = threading.RLock()
        self.unfinished = {}
        self.depth = 0

    @contextlib.contextmanager
    def building(self) -> Iterator[None]:
        """When the outermost definition is complete, so are all that it needed, and they become known."""
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
    """The name under which other processes know a class or function, if it is one of some program's ``__main__``."""
    known = _known.by_id.get(id(obj))
    if known is not None and not known.is_own:
        return known
    if getattr(obj, "__module__", None) not in MAIN_MODULES:
        return None
    program = _program()
    qualname = obj.__qualname__
    return program.name(qualname, obj) if program.lookup(qualname) is obj else None


# Writing
# -------


class _Tracking:
    """What the picklers below have in common: they write into ``parts`` and note the names of ``__main__``."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        super().__init__(SimpleNamespace(write=self.parts.append), _PROTOCOL)  # type: ignore[call-arg]
        self.names: dict[bytes, _Name] = {}
        self.trailer = b""  # of the names that are written bare
        self.is_explicit = False  # whether there are others

    def refer(self, name: _Name) -> Any:
        """Note a name; return how to write it, for ``reducer_override``."""
        self.names[name.key] = name
        if not self.trailer:
            self.trailer = name.trailer
        if name.is_own and name.trailer == self.trailer:
            return NotImplemented
        self.is_explicit = True
        return name.reference()


class _Tracker(_Tracking, Pickler):
    """Plain pickle that notes names."""

    def reducer_override(self, obj: Any) -> Any:
        # Whether that name still means this object, pickle will find out.
        name = _known.by_id.get(id(obj))
        if name is None:
            if not issubclass(type(obj), _NAMEABLE):
                return NotImplemented
            name = _name_of(obj)
        return NotImplemented if name is None else self.refer(name)

    def forget(self) -> None:
        """Become as new."""
        self.memo = {}  # clear_memo() keeps the table as large as it ever was, and goes through all of it each time
        self.parts.clear()
        self.names.clear()
        self.trailer = b""
        self.is_explicit = False


# A pickler costs as much to make as to use. In here are those not in use, because there are threads, and items whose
# __reduce__ encodes another item.
_spare_trackers: list[_Tracker] = []


@late
def _cloud() -> type[Any]:
    """Import cloudpickle, which many programs never need, and return a pickler that is made of it."""
    import cloudpickle  # noqa: PLC0415

    class CloudTracker(_Tracking, cloudpickle.Pickler):  # type: ignore[misc]
        """Cloudpickle that leaves to their names what has one, and notes them."""

        def reducer_override(self, obj: Any) -> Any:
            name = _name_of(obj) if issubclass(type(obj), _NAMEABLE) else None
            return super().reducer_override(obj) if name is None else self.refer(name)

    return CloudTracker


def _is_any_by_value() -> bool:
    """Whether cloudpickle was told of modules whose classes and functions go by value."""
    registry = getattr(sys.modules.get("cloudpickle"), "list_registry_pickle_by_value", None)
    return registry is not None and bool(registry())


def _define(name: _Name) -> tuple[bytes, list[_Name]]:
    """Make the definition of ``name``; where that is impossible, the definition is the text that says why."""
    needs: dict[bytes, _Name] = {}

    def begin(build: Callable[..., Any], arguments: tuple[Any, ...]) -> _by_value.Reduction:
        return _begin, (name.program, name.edition, name.qualname, build, arguments)

    def refer(obj: Any) -> _by_value.Reduction | None:
        if type(obj) is FunctionType and obj.__qualname__.startswith(f"{name.qualname}."):
            return None  # methods belong to the class
        other = _name_of(obj)
        if other is None:
            return None
        needs[other.key] = other
        return other.reference()

    try:
        definition = _by_value.write(name.obj, begin, refer)
    except Exception as error:
        # Not an error of the item: a process of the same program does not need the definition.
        return dumps(_describe(error), _PROTOCOL), []
    return definition, list(needs.values())


# Reading
# -------


def _named(program: bytes, edition: bytes, qualname: str) -> NoReturn:
    """Stand in streams for the object of that name; a ``_Reader`` reads it as its own method ``resolve``."""
    raise UnpicklingError(f"{qualname!r} of a program's __main__ can only be read through the queue that it came by")


def _begin(program: bytes, edition: bytes, qualname: str, build: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Begin the object of a definition; it is found by its name from then on, because its parts may refer to it."""
    key = _key(program, edition, qualname)
    if key not in _known.unfinished:
        obj = build(*arguments)
        _known.unfinished[key] = _Name(program, edition, qualname, obj, is_own=False)
    return _known.unfinished[key].obj


class _Reader(Unpickler):
    """Reads a stream whose bare names of ``__main__`` belong to ``program`` and ``edition``."""

    def __init__(self, stream: bytes, program: bytes, edition: bytes, find: Callable[[bytes], bytes | None]) -> None:
        super().__init__(io.BytesIO(stream))
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
        """The object of that name: this program's own, or one built from the definition."""
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
                raise UnpicklingError(
                    f"{qualname!r} is a name in the __main__ of another program ({program.hex()}), and its definition "
                    f"is not in the queue: there was no room left for it, or it is neither a class nor a function; "
                    f"define it in a module that both programs import"
                )
            with _known.building():
                obj = _Reader(definition, program, edition, self._find).load()
                if isinstance(obj, str):
                    raise UnpicklingError(
                        f"{qualname!r} is a name in the __main__ of another program ({program.hex()}), which could not "
                        f"send its definition: {obj}; define it in a module that both programs import"
                    )
            return obj
