"""What an item is, said without running its code: pickles are named by their opcodes and not loaded."""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from .._codec import deflate
from .._codec.buffers import parts_of
from .._codec.codec import Codec, DefinitionStore
from .._codec.tags import BUFFERS, BYTES, CONSTANTS, DEFLATED, FLOAT, INT, MAIN, OBJECTS, OWN, PICKLE, PLACED, STR
from ..errors import DeserializationError, shown

KINDS: Final = {
    PICKLE: "pickle",
    BYTES: "bytes",
    STR: "text",
    MAIN: "pickle of __main__",
    **{tag: "bool" if type(constant) is bool else "None" for tag, constant in CONSTANTS.items()},
    INT: "int",
    FLOAT: "float",
    OBJECTS: "plain",
    BUFFERS: "pickle and buffers",
    DEFLATED: "deflated",
    PLACED: "bytes in place",
    OWN: "own",
}
_PICKLES: Final = (PICKLE, MAIN)
_MUCH: Final = 1 << 16  # bytes of a pickle whose opcodes are read
_MOST_NAMES: Final = 8
_STRINGS: Final = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"}
_GETS: Final = {"BINGET", "LONG_BINGET", "GET"}
_PUTS: Final = {"BINPUT", "LONG_BINPUT", "PUT"}
_OUTERMOST: Final = {"EMPTY_DICT": "dict", "EMPTY_LIST": "list", "EMPTY_SET": "set", "MARK": "tuple or frozenset"}


def kind_of(tag: int) -> str:
    """Return in a word how an item travels."""
    return KINDS.get(tag, f"tag {tag}")


def names_main(payload: bytes, tag: int) -> bool:
    """Whether an item is of ``__main__``: away from its queue, which has the definitions, few programs can read it."""
    if tag == DEFLATED:
        return payload[:1] == bytes([MAIN])
    if tag == BUFFERS:
        with suppress(ValueError):
            return parts_of(payload, memoryview)[1] == MAIN
    return tag == MAIN


def preview(payload: bytes, tag: int, max_item_size: int) -> str:
    """Return a text that shows an item, which may be hostile; no code of the item runs.

    Args:
        payload: its bytes.
        tag: as it stands beside them.
        max_item_size: of the queue, in bytes.
    """
    if tag == DEFLATED:
        try:
            payload, tag = deflate.inflated(payload, max_item_size)
        except (ValueError, IndexError) as error:
            return f"(damaged: {error})"
        return f"{kind_of(tag)}: {preview(payload, tag, max_item_size)}" if tag != DEFLATED else "(deflated twice)"
    if tag in _PICKLES:
        return _named(payload)
    if tag == BUFFERS:
        try:
            stream, _, found = parts_of(payload, memoryview)
        except ValueError as error:
            return f"(damaged: {error})"
        return f"{_named(stream)}; {len(found):,} buffers of {sum(map(len, found)):,} bytes"
    if tag == STR:
        return shown(payload.decode("utf-8", "replace"))
    if tag in (BYTES, OWN) or tag not in KINDS:
        return shown(payload)
    try:
        return shown(Codec(_NO_DEFINITIONS).decode(payload, tag))
    except DeserializationError as error:
        return f"(damaged: {error})"


def loaded(payload: bytes, tag: int, definitions: DefinitionStore, max_item_size: int) -> str:
    """Return a text that shows an item that was loaded: this runs whatever code the item names.

    Args:
        payload: its bytes.
        tag: as it stands beside them.
        definitions: of the queue.
        max_item_size: of the queue, in bytes.
    """
    try:
        return shown(Codec(definitions, max_item_size).decode(payload, tag))
    except DeserializationError as error:
        return f"(cannot be loaded: {error})"


class _NoDefinitions:
    """A store that is empty."""

    def add(self, key: bytes, definition: bytes) -> bool:
        return False

    def find(self, key: bytes) -> bytes | None:
        return None


_NO_DEFINITIONS: Final = _NoDefinitions()


def _named(payload: bytes) -> str:
    """Return what a pickle is and names, as far as its opcodes tell."""
    names: dict[str, None] = {}
    outermost = ""
    try:
        for outer, name in _read(payload[:_MUCH]):
            outermost = outermost or outer
            if name:
                names[name] = None
            if len(names) > _MOST_NAMES:
                break
    except Exception as error:  # genops raises what its readers do
        if len(payload) <= _MUCH:
            return f"(damaged pickle: {error})"
    texts = list(names)[:_MOST_NAMES] + ["..."] * (len(names) > _MOST_NAMES)
    if outermost and texts:
        return f"{outermost}, with {', '.join(texts)}"
    return outermost or ", ".join(texts) or "a constant"


def _read(payload: bytes) -> Iterator[tuple[str, str]]:
    """Yield what the outermost object is, once, and each class or function that the pickle names."""
    strings: list[str | None] = []  # what was pushed, where it is a string
    memo: dict[int, str | None] = {}
    is_first = True
    for opcode, argument, _ in pickletools.genops(payload):
        kind = opcode.name
        if kind in ("PROTO", "FRAME"):
            continue
        if is_first:
            is_first = False
            yield _OUTERMOST.get(kind, ""), ""
        if kind in _STRINGS:
            strings.append(str(argument))
        elif kind == "MEMOIZE":
            memo[len(memo)] = strings[-1] if strings else None
        elif kind in _PUTS:
            memo[int(str(argument))] = strings[-1] if strings else None
        elif kind in _GETS:
            strings.append(memo.get(int(str(argument))))
        elif kind in ("GLOBAL", "INST"):
            yield "", str(argument).replace(" ", ".")
            strings.append(None)
        elif kind == "STACK_GLOBAL":
            module, name = (strings[-2], strings[-1]) if len(strings) > 1 else (None, None)
            yield "", f"{module or '?'}.{name or '?'}"
            strings.append(None)
        else:
            strings.append(None)
