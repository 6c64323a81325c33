"""How a class or function of ``__main__`` is written as a definition, and built from one: code without data.

Only other programs read a definition; the program that made it reads the name. So making one must have no side effects:
the put that makes it may hold locks of the program, and the item may be tiny. Therefore no method of an object of the
program runs (``__reduce_ex__``, ``__getstate__``, properties), and no data of the program go along:

- A *global* that a function mentions goes along if it is a class, a function (bare, bound, partial, cached), an object
  that can be imported by its name, a member of an enumeration, a logger, a compiled pattern, a construct of ``typing``,
  or an exact built-in constant. The constants of one definition take at most ``GLOBALS_SIZE``.
- A value in the *body* (class attributes, defaults, cells, annotations) may also be an exact built-in container, a
  value of the standard library such as a ``timedelta``, or an instance of a class that does not redefine pickling, if
  all its parts may go along, up to ``BODY_SIZE``. It is a snapshot.

Everything else is left out, and a reader that needs it gets an error: for a global a NameError, for a class attribute
an AttributeError, and for a function that lacks a default or the content of a cell a NameError when it is called.
"""

from __future__ import annotations

import abc
import builtins
import functools
import gc
import importlib
import importlib.util
import io
import marshal
import operator
import struct
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from copyreg import dispatch_table
from enum import Enum, EnumType, Flag, FlagBoundary
from pickle import Pickler, PicklingError
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NoReturn, TypeVar, cast

from .._platform.lazy_import import late
from . import classes
from .blame import is_of_a_signal_handler

__all__ = ["MAIN_MODULES", "Reduction", "write"]

MAIN_MODULES = ("__main__", "__mp_main__")  # the second in children that multiprocessing spawns

GLOBALS_SIZE = 1 << 12
BODY_SIZE = 1 << 16  # generous for values that stand in the source; larger ones were computed
DEFINITION_SIZE = 1 << 20  # the room that the store of a queue has for all definitions together

Reduction = tuple[Any, ...]
"""The result of a ``reducer_override``."""

_PROTOCOL = 5
_POINTER = struct.calcsize("P")
_HEAP_TYPE = 1 << 9  # of type.__flags__: made by a class statement, or by an extension that could have been
_WHAT_TO_DO = "put it into the item, or define both in a module that both programs import"


class _LeftOutError(Exception):
    """An object does not go along; the text says what it is."""


class _Written:
    """Takes the place of an object in the pickle; says how to write that object."""

    __slots__ = ("reduction",)

    def __init__(self) -> None:
        self.reduction: Reduction = ()


# What may go along
# -----------------


def _is_class(obj: Any) -> bool:
    return issubclass(type(obj), type)


def _names_in(module: Any) -> dict[str, Any]:
    """The globals of a module, without triggering the import of a lazy one."""
    names: dict[str, Any] = object.__getattribute__(module, "__dict__")
    return names


def _is_importable_module(module: Any) -> bool:
    if not issubclass(type(module), ModuleType):
        return False
    names = _names_in(module)
    name = names.get("__name__")
    if type(name) is not str or name in MAIN_MODULES or sys.modules.get(name) is not module:
        return False
    return names.get("__spec__") is not None and not _goes_by_value(name)


def _goes_by_value(module: str) -> bool:
    """Whether the program has registered this module with cloudpickle, so that its classes go by value."""
    registry: set[str] = getattr(sys.modules.get("cloudpickle"), "list_registry_pickle_by_value", set)()
    while registry and module:
        if module in registry:
            return True
        module = module.rpartition(".")[0]
    return False


def _is_importable(obj: Any) -> bool:
    """Whether the name of a class or function leads to it, in a module that can be imported."""
    module = obj.__module__
    found: Any = sys.modules.get(module) if type(module) is str else None
    if not _is_importable_module(found):
        return False
    for part in obj.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is obj


def _attribute_of(module: Any, obj: Any) -> Reduction | None:
    """``obj`` as an attribute of a module that can be imported."""
    if _is_importable_module(module):
        for name, value in list(_names_in(module).items()):
            if value is obj:
                return getattr, (module, name)
    return None


def _imported_as(name: str, obj: Any) -> Reduction | None:
    """``obj`` as a global of the same name of an importable module, as after ``from settings import TABLE``."""
    for module in list(sys.modules.values()):
        is_module = issubclass(type(module), ModuleType)
        if is_module and _names_in(module).get(name) is obj and _is_importable_module(module):
            return getattr, (module, name)
    return None


_CONSTANTS: dict[type, Callable[[Any], int]] = {
    type(None): lambda _: 1,
    bool: lambda _: 1,
    type(...): lambda _: 1,
    type(NotImplemented): lambda _: 1,
    int: lambda value: int(value.bit_length()) // 8 + 2,
    float: lambda _: 9,
    complex: lambda _: 18,
    str: len,
    bytes: len,
}
_CONTAINERS = (tuple, frozenset)
_MUTABLE_CONTAINERS = (list, set, dict, bytearray)


def _builtin(function: Any) -> Reduction:
    """A function or method of C."""
    owner = function.__self__
    if owner is None or issubclass(type(owner), ModuleType):
        found = _attribute_of(sys.modules.get(function.__module__ or "builtins"), function)
        if found is not None:
            return found
    elif _is_class(owner):  # a class method, such as dict.fromkeys
        return getattr, (owner, function.__name__)
    raise _LeftOutError("a function of C that belongs to an object")


def _type_variable(variable: Any) -> Reduction:
    imported = _attribute_of(sys.modules.get(variable.__module__), variable)
    limits = variable.__constraints__, variable.__bound__, variable.__covariant__, variable.__contravariant__
    return imported or (_make_type_variable, (variable.__name__, *limits, _tracker_of(variable)))


# Types that wrap functions, or refer to an object by its name.
_WRAPPERS: dict[type, Callable[[Any], Reduction]] = {
    staticmethod: lambda it: (staticmethod, (it.__func__,)),
    classmethod: lambda it: (classmethod, (it.__func__,)),
    property: lambda it: (property, (it.fget, it.fset, it.fdel, it.__doc__)),
    MethodType: lambda it: (MethodType, (it.__func__, it.__self__)),
    functools.partial: lambda it: (_partial, (functools.partial, it.func, it.args, tuple(it.keywords.items()))),
    functools.partialmethod: lambda it: (
        _partial,
        (functools.partialmethod, it.func, it.args, tuple(it.keywords.items())),
    ),
    functools.cached_property: lambda it: (_cached_property, (it.func, it.attrname)),
    type(functools.lru_cache(len)): lambda it: (_lru_cache, (it.__wrapped__, *it.cache_parameters().values())),
    types.WrapperDescriptorType: lambda it: (getattr, (it.__objclass__, it.__name__)),
    types.MethodDescriptorType: lambda it: (getattr, (it.__objclass__, it.__name__)),
    types.ClassMethodDescriptorType: lambda it: (getattr, (it.__objclass__, it.__name__)),
    types.GetSetDescriptorType: lambda it: (getattr, (it.__objclass__, it.__name__)),
    types.MemberDescriptorType: lambda it: (getattr, (it.__objclass__, it.__name__)),
}

_WRAPPERS[types.BuiltinFunctionType] = _builtin

# By name, because few programs have imported them. They are made of a name or of constants only.
_NAMED: dict[str, Callable[[Any], Reduction]] = {
    "logging.Logger": lambda it: (sys.modules["logging"].getLogger, (it.name,)),
    "logging.RootLogger": lambda it: (sys.modules["logging"].getLogger, ()),
    "re.Pattern": lambda it: (sys.modules["re"].compile, (it.pattern, it.flags)),
    "typing.TypeVar": _type_variable,
    "typing.ParamSpec": lambda it: (type(it), (it.__name__,)),
    "typing.TypeVarTuple": lambda it: (type(it), (it.__name__,)),
}
# Their own pickling runs only code of the standard library.
_CONSTRUCTS = {"types.GenericAlias", "types.UnionType"}  # and all of typing
_VALUES = {
    *(f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta", "timezone")),
    *(f"collections.{name}" for name in ("OrderedDict", "defaultdict", "deque", "Counter")),
    "_collections._tuplegetter",
    "collections._tuplegetter",  # the same in Python 3.12
    *(f"pathlib.{name}" for name in ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")),
    *(f"pathlib._local.{name}" for name in ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")),
    "decimal.Decimal",
    "fractions.Fraction",
    "uuid.UUID",
    "builtins.range",
    "builtins.slice",
}


def _as_pickled(obj: Any) -> Reduction:
    """How pickle writes an object of the standard library."""
    kind = type(obj)
    reducer = dispatch_table.get(kind)
    reduced: Any = obj.__reduce_ex__(2) if reducer is None else reducer(obj)
    if isinstance(reduced, str):
        found = _attribute_of(sys.modules.get(kind.__module__), obj)
        if found is None:
            raise _LeftOutError(f"a {classes.type_name(kind)}")
        return found
    function, arguments, *rest = reduced
    if getattr(function, "__name__", "") == "__newobj__":  # which pickle takes for the class of what it writes
        function = _new
    state, items, pairs = (*rest, None, None, None)[:3]
    extra = [(None if part is None else list(part)) for part in (items, pairs)]
    return _rebuilt, (function, tuple(arguments), state, *extra)


def _as_instance(obj: Any) -> Reduction | None:
    """How an instance of a Python class that does not redefine pickling is written; ``None`` for any other object."""
    kind = type(obj)
    state: dict[str, Any] = {}
    slots = 0
    for base in kind.__mro__[:-1]:
        names = classes.namespace(base)
        if not base.__flags__ & _HEAP_TYPE or _PICKLING.intersection(names) or base in dispatch_table:
            return None
        for name, member in names.items():
            if type(member) is types.MemberDescriptorType:
                slots += 1
                try:
                    state.setdefault(name, member.__get__(obj))
                except AttributeError:  # the slot was never set
                    continue
            elif name == "__dict__" and type(member) is types.GetSetDescriptorType:
                state.update(member.__get__(obj))
    # A class of C may also be a heap type, but its instances are larger than the attributes that are seen here.
    seen = object.__basicsize__ + _POINTER * (slots + (kind.__dictoffset__ > 0) + (kind.__weakrefoffset__ > 0))
    return (_instance, (kind, state)) if kind.__basicsize__ <= seen and not kind.__itemsize__ else None


_PICKLING = {"__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__getnewargs__", "__getnewargs_ex__"}


class _Snapshot:
    """Copies the values that go along with one definition, so that they cannot change while they are written."""

    def __init__(self) -> None:
        self._room = {"global": GLOBALS_SIZE, "body": BODY_SIZE}
        # Original and copy, so that one object stays one object. The originals are kept, so that no id is reused.
        self._copies: dict[tuple[int, str], tuple[Any, Any]] = {}

    def take(self, value: Any, where: str, name: str = "") -> Any:
        """Copy a value.

        Args:
            value: anything.
            where: "global" or "body".
            name: of a global; the value is also looked for under this name in other modules.

        Raises:
            _LeftOutError: the value does not go along.
        """
        room, known = self._room[where], len(self._copies)
        try:
            return self._copy(value, where, name)
        except Exception as error:
            self._room[where] = room
            for key in list(self._copies)[known:]:
                del self._copies[key]
            if type(error) is _LeftOutError or is_of_a_signal_handler(error):
                raise
            # The value changed meanwhile, or is nested too deeply.
            raise _LeftOutError(f"a {classes.type_name(type(value))}") from None

    def _spend(self, size: int, where: str) -> None:
        self._room[where] -= size
        if self._room[where] < 0:
            limit = GLOBALS_SIZE if where == "global" else BODY_SIZE
            raise _LeftOutError(f"more than the {limit:,} bytes of constants that go along")

    def _copy(self, value: Any, where: str, name: str = "") -> Any:
        kind = type(value)
        size = _CONSTANTS.get(kind)
        if size is not None:
            self._spend(size(value), where)
            return value
        if kind is FunctionType or _is_class(value) or _is_importable_module(value):
            return value
        copied = self._copies.get((id(value), where))
        if copied is not None:
            return copied[1]
        if kind in _CONTAINERS or (kind in _MUTABLE_CONTAINERS and where == "body"):
            return self._copy_container(value, where)
        written = _Written()
        self._copies[id(value), where] = value, written
        function, arguments = self._reduction(value, where, name)[:2]
        written.reduction = function, self._copy(tuple(arguments), where)
        return written

    def _copy_container(self, value: Any, where: str) -> Any:
        kind = type(value)
        self._spend(len(value) + 1, where)
        if kind is bytearray:
            return bytearray(value)
        if kind in _CONTAINERS:
            return kind([self._copy(part, where) for part in value])
        copied = kind()
        self._copies[id(value), where] = value, copied
        if kind is dict:
            copied.update([(self._copy(key, where), self._copy(part, where)) for key, part in value.copy().items()])
        elif kind is list:
            copied.extend([self._copy(part, where) for part in value.copy()])
        else:
            copied.update([self._copy(part, where) for part in value.copy()])
        return copied

    def _reduction(self, value: Any, where: str, name: str) -> Reduction:
        kind = type(value)
        imported = _attribute_of(sys.modules.get(kind.__module__), value) or (name and _imported_as(name, value))
        if imported:
            return imported
        wrapper = _WRAPPERS.get(kind)
        if wrapper is not None:
            return wrapper(value)
        if issubclass(kind, Enum):
            return _member(value)
        type_name = classes.type_name(kind)
        if _is_importable(kind) or not kind.__flags__ & _HEAP_TYPE:
            if type_name in _NAMED:
                return _NAMED[type_name](value)
            if type_name in _CONSTRUCTS or kind.__module__ == "typing":
                return _as_pickled(value)
            if type_name in _VALUES and where == "body":
                if kind.__module__ == "collections" and hasattr(kind, "__len__"):
                    self._spend(len(value), where)  # before it is copied
                return _as_pickled(value)
        if where == "body":
            if kind is types.MappingProxyType:
                [mapping] = gc.get_referents(value)
                if type(mapping) is dict:
                    return types.MappingProxyType, (mapping,)
            instance = _as_instance(value)
            if instance is not None:
                return instance
        raise _LeftOutError(f"a {type_name}")


def _member(member: Enum) -> Reduction:
    cls, names = type(member), object.__getattribute__(member, "__dict__")
    name, value = names.get("_name_"), names.get("_value_")
    if name in classes.namespace(cls).get("_member_map_", {}):
        return operator.getitem, (cls, name)
    if issubclass(cls, Flag):  # several members in one
        return cls, (value,)
    raise _LeftOutError(f"a {classes.type_name(cls)}")


# Writing
# -------


def write(obj: Any, begin: Callable[..., Reduction], refer: Callable[[Any], Reduction | None]) -> bytes:
    """Write a definition.

    Args:
        obj: a class or function.
        begin: returns how to write the beginning of ``obj``, given a function and arguments that build it.
        refer: returns how to write another class or function as a name; ``None`` if it has none and goes by value.

    Returns:
        The definition: a pickle stream.

    Raises:
        PicklingError: the definition cannot be written; the text says why.
    """
    file = _LimitedFile()
    _Writer(file, obj, begin, refer).dump(obj)
    return file.getvalue()


class _LimitedFile(io.BytesIO):
    def write(self, data: Any) -> int:
        if self.tell() + memoryview(data).nbytes > DEFINITION_SIZE:
            raise PicklingError(f"by value it takes more than {DEFINITION_SIZE:,} bytes")
        return super().write(data)


class _Writer(Pickler):
    def __init__(
        self, file: io.BytesIO, obj: Any, begin: Callable[..., Reduction], refer: Callable[[Any], Reduction | None]
    ) -> None:
        super().__init__(file, _PROTOCOL)
        self._obj = obj
        self._begin = begin
        self._refer = refer
        self._snapshot = _Snapshot()
        self._scopes: dict[int, dict[str, Any]] = {}  # by the id of the globals, so that functions still share them

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is _Written:
            return obj.reduction
        if obj is self._obj:
            function, arguments, *rest = self._by_value(obj)
            return (*self._begin(function, arguments), *rest)
        if kind is FunctionType or _is_class(obj):
            reference = self._refer(obj)
            if reference is not None:
                return reference
            return NotImplemented if _is_importable(obj) else self._by_value(obj)
        if _is_importable_module(obj):
            return importlib.import_module, (obj.__name__,)
        if kind in _CONSTANTS or obj is getattr or obj is operator.getitem:  # reductions use these two
            return NotImplemented
        raise PicklingError(f"a {classes.type_name(kind)} does not go along with a definition")

    def _by_value(self, obj: Any) -> Reduction:
        if type(obj) is FunctionType:
            return self._function(obj)
        if not obj.__flags__ & _HEAP_TYPE:
            found = _attribute_of(types, obj)
            if found is None:
                raise PicklingError(f"{classes.type_name(obj)} is made in C and cannot be imported")
            return found
        return self._class(obj)

    def _function(self, function: FunctionType) -> Reduction:
        code = function.__code__
        take = self._snapshot.take
        try:
            defaults = take(function.__defaults__, "body")
            keyword_defaults = take(function.__kwdefaults__, "body")
            cells = [self._content(cell) for cell in function.__closure__ or ()]
        except _LeftOutError as error:
            return _stand_in, (function.__name__, function.__qualname__, function.__module__, str(error))
        scope = self._scopes.setdefault(
            id(function.__globals__),
            {
                name: text
                for name in ("__name__", "__package__", "__file__")
                if type(text := function.__globals__.get(name)) is str
            },
        )
        known, left_out = self._globals(function)
        attributes = {
            "__module__": function.__module__,
            "__qualname__": function.__qualname__,
            "__doc__": self._optional(function.__doc__),
            "__defaults__": defaults,
            "__kwdefaults__": keyword_defaults,
            "__annotations__": self._mapping(function.__annotations__),
        }
        return (
            _make_function,
            (
                importlib.util.MAGIC_NUMBER,
                marshal.dumps(code),
                scope,
                function.__name__,
                left_out,
                self._obj.__qualname__,
            ),
            (attributes, self._mapping(function.__dict__), known, cells, _submodules(code, known.values())),
            None,
            None,
            _fill_function,
        )

    def _content(self, cell: CellType) -> tuple[Any, ...]:
        try:
            content = cell.cell_contents
        except ValueError:
            return ()
        return (self._snapshot.take(content, "body"),)

    def _globals(self, function: FunctionType) -> tuple[dict[str, Any], dict[str, str]]:
        """The globals that a function mentions: those that go along, and for each of the others, what it is."""
        known: dict[str, Any] = {}
        left_out: dict[str, str] = {}
        before = cast(Any, function).__builtins__
        for name in _global_names(function.__code__):
            if name in function.__globals__:
                try:
                    known[name] = self._snapshot.take(function.__globals__[name], "global", name)
                except _LeftOutError as error:
                    left_out[name] = str(error)
            elif type(before) is _Explaining and name in before.left_out:
                left_out[name] = before.left_out[name][0]
        return known, left_out

    def _mapping(self, mapping: Any) -> dict[str, Any]:
        """Those attributes or annotations that may go along; nothing depends on the others."""
        found = {}
        for name, value in mapping.copy().items() if type(mapping) is dict else ():
            try:
                found[name] = self._snapshot.take(value, "body")
            except _LeftOutError:
                continue
        return found

    def _optional(self, value: Any) -> Any:
        try:
            return self._snapshot.take(value, "body")
        except _LeftOutError:
            return None

    def _class(self, cls: type) -> Reduction:
        namespace = classes.namespace(cls)
        take = self._snapshot.take
        slots = [n for n, it in namespace.items() if type(it) is types.MemberDescriptorType and it.__objclass__ is cls]
        first: dict[str, Any] = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
        if "__slots__" in namespace:
            first["__slots__"] = (*slots, *(name for name in ("__dict__", "__weakref__") if name in namespace))
        bases: tuple[Any, ...] = cls.__bases__
        if "__orig_bases__" in namespace:  # such as Generic[T], which Generic looks for when the class is made
            try:
                first["__orig_bases__"] = take(namespace["__orig_bases__"], "body")
            except _LeftOutError as error:
                raise PicklingError(
                    f"{cls.__qualname__} has {error} among its bases, which does not go along"
                ) from None
            # The metaclass of TypedDict accepts only bases that it has made.
            if classes.type_name(type(cls)) == "typing._TypedDictMeta":
                bases = first.pop("__orig_bases__")
        registered: list[type] = []
        if "_abc_impl" in namespace:
            registered = [
                other
                for reference in abc._get_dump(cls)[0]  # type: ignore[attr-defined]
                if (other := reference()) is not None
            ]
        is_enum = issubclass(cls, Enum)
        members, features = self._members(namespace) if is_enum else ({}, {})
        skipped = {"__dict__", "__weakref__", "__slots__", "__orig_bases__", "_abc_impl", *slots, *first, *members}
        attributes: dict[str, Any] = {}
        left_out: dict[str, str] = {}
        for name, value in namespace.items():
            if name in skipped or (is_enum and _is_made_by_enum(name)):
                continue
            if type(value) is _LeftOut:
                left_out[name] = value.kind
            elif name == "__annotations__":
                attributes[name] = self._mapping(value)
            else:
                try:
                    attributes[name] = take(value, "body")
                except _LeftOutError as error:
                    left_out[name] = str(error)
        tracker = None if cls is self._obj else _tracker_of(cls)
        return (
            _make_class,
            (type(cls), cls.__name__, bases, first, members, features, tracker),
            (attributes, left_out, self._obj.__qualname__, registered, self._extras(namespace) if is_enum else {}),
            None,
            None,
            _fill_class,
        )

    def _members(self, namespace: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The members of an enumeration, aliases included, and the keywords of its class statement."""
        members = {}
        for name, member in namespace["_member_map_"].items():
            try:
                members[name] = self._snapshot.take(object.__getattribute__(member, "__dict__")["_value_"], "body")
            except _LeftOutError as error:
                raise PicklingError(f"the value of its member {name} is {error}, which does not go along") from None
        boundary = namespace.get("_boundary_")
        return members, {} if boundary is None else {"boundary": _member(boundary)[1][1]}

    def _extras(self, namespace: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """The attributes that the __init__ or __new__ of an enumeration has given its members."""
        extras = {
            name: self._mapping(
                {
                    key: value
                    for key, value in object.__getattribute__(member, "__dict__").items()
                    if key not in _OF_MEMBERS
                }
            )
            for name, member in namespace["_member_map_"].items()
        }
        return {name: extra for name, extra in extras.items() if extra}


_OF_MEMBERS = {"_value_", "_name_", "__objclass__", "_sort_order_", "_inverted_"}


def _is_made_by_enum(name: str) -> bool:
    if name in {"__new__", "__new_member__"}:
        return True
    return name[0] == name[-1] == "_" and name[1] != "_" and name != "_missing_"


@late
def _dis() -> Any:
    import dis  # noqa: PLC0415

    return dis


@late
def _cloudpickle() -> Any:
    import cloudpickle.cloudpickle  # noqa: PLC0415

    return cloudpickle.cloudpickle


def _global_names(code: CodeType) -> Iterator[str]:
    """The globals that a function and those inside it mention."""
    seen = set()
    todo = [code]
    while todo:
        code = todo.pop()
        todo += [constant for constant in code.co_consts if type(constant) is CodeType]
        for instruction in _dis().get_instructions(code):
            if instruction.opname in _GLOBAL_OPERATIONS and instruction.argval not in seen:
                seen.add(instruction.argval)
                yield instruction.argval


# The body of a class in a function uses LOAD_NAME, and from Python 3.12 on LOAD_FROM_DICT_OR_GLOBALS.
_GLOBAL_OPERATIONS = {"LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}


def _submodules(code: CodeType, known: Iterable[Any]) -> list[ModuleType]:
    """Modules that a function reaches through their packages, such as ``concurrent.futures`` through ``concurrent``."""
    found = []
    for package in known:
        if issubclass(type(package), ModuleType) and "__path__" in _names_in(package):
            start = f"{package.__name__}."
            for name, module in list(sys.modules.items()):
                if name.startswith(start) and set(name[len(start) :].split(".")) <= set(code.co_names):
                    found.append(module)
    return [module for module in found if _is_importable_module(module)]


def _tracker_of(obj: Any) -> str:
    """The id by which cloudpickle knows a class without a name, or a type variable; items may have these, too."""
    return str(_cloudpickle()._get_or_create_tracker_id(obj))


# Building: streams name these functions
# --------------------------------------


class _Explaining(dict[str, Any]):
    """The builtins of a function with globals that were left out: a failed look-up says why."""

    def __init__(self) -> None:
        super().__init__(vars(builtins))  # a copy, because C code reads the dictionary without __missing__
        self.left_out: dict[str, tuple[str, str]] = {}  # by name: what the global was, and in which definition

    def __missing__(self, name: str) -> Any:
        if name in vars(builtins):  # it was added after the copy
            return vars(builtins)[name]
        if name not in self.left_out:
            raise KeyError(name)  # which the interpreter turns into its own NameError
        kind, owner = self.left_out[name]
        raise NameError(
            f"name {name!r} is not defined: it is {kind} in the __main__ of the program that sent the definition of "
            f"{owner!r}, and data of a program's __main__ do not travel with definitions; {_WHAT_TO_DO}",
            name=name,
        )


class _LeftOut:
    """Takes the place of an attribute that was left out, in a class that was built from a definition."""

    def __init__(self, name: str, kind: str, owner: str) -> None:
        self.name = name
        self.kind = kind
        self.owner = owner

    def __get__(self, instance: object, cls: type | None = None) -> NoReturn:
        raise AttributeError(
            f"{self.name!r} did not travel with the definition of {self.owner!r}, which comes from another program's "
            f"__main__: it is {self.kind}, and data do not travel with definitions; {_WHAT_TO_DO}"
        )


def _stand_in(name: str, qualname: str, module: str, kind: str) -> FunctionType:
    """Make a function that takes the place of one that lacks a default or the content of a cell."""

    def function(*_: Any, **__: Any) -> NoReturn:
        raise NameError(
            f"{qualname!r} cannot be called here: a default or a variable around it is {kind} in the __main__ of "
            f"another program, and data of a program's __main__ do not travel with definitions; {_WHAT_TO_DO}"
        )

    function.__name__, function.__qualname__, function.__module__ = name, qualname, module
    return cast(FunctionType, function)


def _make_function(
    magic: bytes, code: bytes, scope: dict[str, Any], name: str, left_out: dict[str, str], owner: str
) -> FunctionType:
    if magic != importlib.util.MAGIC_NUMBER:
        raise TypeError(f"the definition of {owner!r} was made by another version of Python, with other byte code")
    compiled: CodeType = marshal.loads(code)
    before = scope.get("__builtins__", vars(builtins))
    explaining = before if type(before) is _Explaining else None
    if left_out:
        explaining = explaining or _Explaining()
        explaining.left_out.update((key, (kind, owner)) for key, kind in left_out.items())
    # A function keeps the builtins with which it is made. A function of which nothing was left out gets the real ones,
    # which are faster. Functions made inside a function get theirs from its globals, so the globals keep the explaining
    # ones.
    scope["__builtins__"] = explaining if left_out else vars(builtins)
    cells = tuple(CellType() for _ in compiled.co_freevars)
    function = FunctionType(compiled, scope, name, None, cells)
    scope["__builtins__"] = explaining or vars(builtins)
    return function


def _fill_function(function: FunctionType, state: tuple[Any, ...]) -> None:
    attributes, own, known, cells, _ = state
    for name, value in attributes.items():
        setattr(function, name, value)
    function.__dict__.update(own)
    function.__globals__.update(known)
    for cell, content in zip(function.__closure__ or (), cells, strict=True):
        if content:
            [cell.cell_contents] = content


def _make_class(
    metaclass: Any,
    name: str,
    bases: tuple[Any, ...],
    first: dict[str, Any],
    members: dict[str, Any],
    features: dict[str, Any],
    tracker: str | None,
) -> type:
    if issubclass(metaclass, EnumType):
        if features:
            features = {key: FlagBoundary[value] for key, value in features.items()}
        namespace = metaclass.__prepare__(name, bases, **features)
        for key, value in {**first, **members}.items():
            namespace[key] = value
        cls: type = metaclass.__new__(metaclass, name, bases, namespace, **features)
    else:
        cls = types.new_class(name, bases, {"metaclass": metaclass}, lambda names: names.update(first))
    return cls if tracker is None else cast(type, _tracked(tracker, cls))


def _make_type_variable(
    name: str, constraints: tuple[Any, ...], bound: Any, covariant: bool, contravariant: bool, tracker: str
) -> Any:
    variable = TypeVar(name, *constraints, bound=bound, covariant=covariant, contravariant=contravariant)  # type: ignore[misc]
    return _tracked(tracker, variable)


def _tracked(tracker: str, obj: Any) -> Any:
    """The object that this process already has under that id; otherwise ``obj``."""
    return _cloudpickle()._lookup_class_or_track(tracker, obj)


def _fill_class(cls: Any, state: tuple[Any, ...]) -> None:
    attributes, left_out, owner, registered, extras = state
    for name, value in attributes.items():
        setattr(cls, name, value)
    for name, kind in left_out.items():
        if name not in classes.namespace(cls):  # the metaclass may have made the attribute again
            setattr(cls, name, _LeftOut(name, kind, owner))
    for other in registered:
        cls.register(other)
    for name, extra in extras.items():
        vars(cls._member_map_[name]).update(extra)


def _new(cls: type, *arguments: Any) -> Any:
    return cls.__new__(cls, *arguments)


def _instance(cls: type, state: dict[str, Any]) -> Any:
    obj: Any = object.__new__(cls)
    for name, value in state.items():
        object.__setattr__(obj, name, value)
    return obj


def _rebuilt(function: Any, arguments: tuple[Any, ...], state: Any, items: Any, pairs: Any) -> Any:
    obj = function(*arguments)
    if hasattr(obj, "__setstate__") and state is not None:
        obj.__setstate__(state)
    else:
        for part in state if isinstance(state, tuple) else (state,):
            for name, value in (part or {}).items():
                object.__setattr__(obj, name, value)
    if items is not None:
        obj.extend(items)
    for key, value in pairs or ():
        obj[key] = value
    return obj


def _partial(kind: type, function: Any, arguments: tuple[Any, ...], keywords: tuple[tuple[str, Any], ...]) -> Any:
    return kind(function, *arguments, **dict(keywords))


def _cached_property(function: Any, name: str | None) -> Any:
    prop = functools.cached_property(function)
    prop.attrname = name
    return prop


def _lru_cache(function: Callable[..., Any], maxsize: int | None, typed: bool) -> Any:
    return functools.lru_cache(maxsize, typed)(function)
