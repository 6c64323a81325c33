"""Reading classes without running their code: a metaclass may answer for any attribute, or raise."""

from __future__ import annotations

from collections.abc import Iterator
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any

__all__ = ["attributes", "bases", "module", "mro", "namespace", "slots", "type_name"]


def namespace(cls: type) -> dict[str, Any]:
    """Return a copy of the attributes of a class itself, without those of its bases."""
    return dict(_of_type("__dict__", cls))


def type_name(cls: type) -> str:
    """Return the name of a class with its module; if one of them is missing, the repr of the class."""
    try:
        module, qualname = (_of_type(name, cls) for name in ("__module__", "__qualname__"))
    except AttributeError:  # it was deleted
        return type.__repr__(cls)
    return f"{module}.{qualname}" if type(module) is type(qualname) is str else type.__repr__(cls)


def module(cls: type) -> str:
    """Return the name of the module of a class; "" if it has none."""
    try:
        found = _of_type("__module__", cls)
    except AttributeError:  # it was deleted
        return ""
    return found if type(found) is str else ""


def attributes(obj: Any) -> dict[Any, Any]:
    """Return the attributes of an object that lie in its ``__dict__``; none if it has no ``__dict__``."""
    for cls in mro(type(obj)):
        descriptor: Any = namespace(cls).get("__dict__")
        if type(descriptor) in (GetSetDescriptorType, MemberDescriptorType):
            found = descriptor.__get__(obj)
            if issubclass(type(found), dict):
                return dict(dict.items(found))
    return {}


def slots(obj: Any) -> Iterator[tuple[str, Any]]:
    """Yield the names and contents of an object's slots."""
    for cls in mro(type(obj)):
        for name, descriptor in namespace(cls).items():
            if type(descriptor) is MemberDescriptorType and type(name) is str:
                try:
                    yield name, descriptor.__get__(obj)
                except (AttributeError, TypeError):  # the slot is empty, or belongs to another class
                    continue


def mro(cls: type) -> tuple[type, ...]:
    """Return a class and its bases, in the order in which attributes are looked up."""
    found: tuple[type, ...] = _of_type("__mro__", cls)
    return found


def bases(cls: type) -> tuple[type, ...]:
    """Return the bases that a class statement names."""
    found: tuple[type, ...] = _of_type("__bases__", cls)
    return found


def _of_type(name: str, cls: type) -> Any:
    descriptor: Any = type.__dict__[name]
    return descriptor.__get__(cls)
