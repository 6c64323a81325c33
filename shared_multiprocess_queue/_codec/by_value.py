"""Classes, functions and modules that no name leads to go by value: the parts of cloudpickle that an item may need.

Cloudpickle also pickles much that pickle refuses, but as something else: an open file as a StringIO with its text, a
memoryview as bytes. Items use none of that. Cloudpickle may also pickle the parts of classes and functions (code,
cells, properties), but only as parts: they are noted when their class or function is taken apart. A code object or cell
that merely lies in an item is refused, as pickle refuses it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from types import (
    CellType,
    ClassMethodDescriptorType,
    CodeType,
    EllipsisType,
    FunctionType,
    GetSetDescriptorType,
    MappingProxyType,
    MethodDescriptorType,
    ModuleType,
    NoneType,
    NotImplementedType,
    WrapperDescriptorType,
)
from typing import Any, ForwardRef, TypeVar

from .blame import is_of_a_signal_handler

__all__ = ["ByValue", "is_named"]

_SINGLETONS = (NoneType, EllipsisType, NotImplementedType)  # pickle knows these types, which have no names
_PARTS = (CodeType, CellType, property, classmethod, staticmethod, GetSetDescriptorType, MappingProxyType)
_MODULES_OF_HINTS = {"typing", "types", "collections.abc"}
_METHODS_IN_C = (MethodDescriptorType, WrapperDescriptorType, ClassMethodDescriptorType)
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: not compiled into the interpreter or an extension


def is_named(obj: Any) -> bool:
    """Return whether pickle can write a class or function as the name of its module and its own.

    Args:
        obj: a class, a function or a type variable.
    """
    module_name = getattr(obj, "__module__", None)
    qualname = getattr(obj, "__qualname__", None) or getattr(obj, "__name__", None)
    if not isinstance(module_name, str) or not isinstance(qualname, str):
        return False
    module = sys.modules.get(module_name)
    if module is None:
        try:
            __import__(module_name)
        except Exception as error:
            if is_of_a_signal_handler(error):
                raise
            return False
        module = sys.modules.get(module_name)
    if getattr(module, qualname, None) is obj:
        return True
    found: Any = module
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found is obj or (type(obj) is type and obj in _SINGLETONS)


class ByValue:
    """What goes by value within one pickle.

    Args:
        cloud: a ``cloudpickle.Pickler`` that writes nothing. It says how to reduce objects. It also remembers the
            globals that functions share, so that these share them in the reader, too.

    Attributes:
        definitions: the ids of the classes, functions and modules that go by value.
    """

    def __init__(self, cloud: Any) -> None:
        self._cloud = cloud
        self._parts: set[int] = set()  # ids; the pickler keeps their objects alive
        self.definitions: set[int] = set()

    def reduce(self, obj: Any) -> Any:
        """Return the reduction by value of a class, function, module or type variable, for a ``reducer_override``.

        Returns:
            The reduction; ``NotImplemented`` if a name leads to the object all the same.

        Raises:
            TypeError: the class is made in C, so the reader cannot make it.
        """
        kind = type(obj)
        if kind is FunctionType:
            return self._reduce_function(obj)
        if issubclass(kind, type):
            return self._reduce_class(obj)
        if kind not in self._cloud.dispatch_table:  # a module whose type is a class of the user
            return NotImplemented
        if kind is TypeVar:
            self._note_hints([obj.__bound__, *obj.__constraints__])
        reduction = self._cloud.dispatch_table[kind](obj)
        if kind is ModuleType and len(reduction[1]) > 1:  # the name of the module and its content
            self.definitions.add(id(obj))
        return reduction

    def _reduce_function(self, function: FunctionType) -> Any:
        reduction = self._cloud.reducer_override(function)
        if reduction is not NotImplemented:
            self.definitions.add(id(function))
            self._note((function.__code__, *(function.__closure__ or ())))
            self._note_hints(function.__annotations__.values())
            for argument in reduction[1]:
                if isinstance(argument, tuple):  # the cells of the new function, still empty
                    self._note(argument)
        return reduction

    def _reduce_class(self, cls: type) -> Any:
        reduction = self._cloud.reducer_override(cls)
        if reduction is NotImplemented or len(reduction) < 3:  # a class of the interpreter, which cloudpickle can name
            return reduction
        if _is_made_in_c(cls):
            raise TypeError(f"cannot pickle {cls!r}: no name leads to it, and it is made in C")
        self.definitions.add(id(cls))
        self._note(vars(cls).values())
        self._note_hints([*vars(cls).get("__annotations__", {}).values(), *vars(cls).get("__orig_bases__", ())])
        for field in vars(cls).get("__dataclass_fields__", {}).values():
            self._parts.update((id(field.metadata), id(field._field_type)))
        return reduction

    def reduce_part(self, obj: Any) -> Any:
        """Return how to reduce a part of something that goes by value; ``NotImplemented`` if ``obj`` is no part."""
        if id(obj) not in self._parts:
            return NotImplemented
        if type(obj) is CodeType:
            self._note(obj.co_consts)
        elif isinstance(obj, classmethod | staticmethod):
            self._note((obj.__func__,))
        reduction = self._cloud.dispatch_table[type(obj)](obj)
        if type(obj) is CodeType:
            return _make_code, (_magic(), *reduction[1])
        return reduction

    def _note(self, parts: Iterable[Any]) -> None:
        table = self._cloud.dispatch_table
        self._parts.update(id(part) for part in parts if issubclass(type(part), _PARTS) and type(part) in table)

    def _note_hints(self, hints: Iterable[Any]) -> None:
        """Note the code in forward references, which may lie deep in hints such as ``list["Name"] | None``."""
        todo = list(hints)
        while todo:
            hint = todo.pop()
            if type(hint) is ForwardRef:
                self._note((getattr(hint, "__forward_code__", None),))
            elif type(hint) in {list, tuple}:
                todo += hint
            elif type(hint).__module__ in _MODULES_OF_HINTS:
                todo += getattr(hint, "__args__", ())


def _magic() -> bytes:
    from importlib.util import MAGIC_NUMBER  # noqa: PLC0415 (only for what goes by value)

    return MAGIC_NUMBER


def _make_code(magic: bytes, *arguments: Any) -> CodeType:
    """Make a code object again; that of another version of Python would crash the interpreter.

    Raises:
        TypeError: the version of Python that wrote it has other byte code.
    """
    if magic != _magic():
        raise TypeError(
            "a function or class in it travels as code, and was sent by another version of Python, which has other "
            "byte code; define it in a module that both programs can import"
        )
    return CodeType(*arguments)


def _is_made_in_c(cls: type) -> bool:
    """Whether neither a class statement nor cloudpickle can make this class again."""
    metaclass: type = type(cls)
    if not cls.__flags__ & _HEAP_TYPE or any(base.__module__ == "_ctypes" for base in metaclass.__mro__):
        return True
    return any(type(value) in _METHODS_IN_C and value.__objclass__ is cls for value in vars(cls).values())
