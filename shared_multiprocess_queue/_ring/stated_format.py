"""What the header states of the format of the items: "pickle", "plain", or the name of a program's own format.

It is written once, at creation, and only compared: no process chooses by it how it reads an item, because any process
that can write to the segment could then choose for it.
"""

from __future__ import annotations

import sys
from hashlib import blake2b
from typing import Final

from .._platform.atomic_words import Reader, Words
from .layout import FORMAT_AT, FORMAT_NAME_AT, FORMAT_NAME_SIZE, FORMATS, WORD

_DIGEST: Final = 8  # bytes, of a name for which there is no room
_CUT: Final = "..."
_OWN: Final = FORMATS.index("own")


def stated(name: str) -> str:
    """Return the name as a header states it: one that is too long is cut, and ends with a digest of the whole."""
    data = name.encode("utf-8", "backslashreplace")
    if len(data) <= FORMAT_NAME_SIZE and name.isprintable():
        return name
    digest = f"{_CUT}{blake2b(data, digest_size=_DIGEST).hexdigest()}"
    return ascii(name)[1:-1][: FORMAT_NAME_SIZE - len(digest)] + digest


def is_known(name: str) -> bool:
    """Return whether ``stated`` may have returned this name, so that the header is not damaged for all one can tell."""
    return name in FORMATS[:_OWN] or ":" in name or _CUT in name


def write(words: Words, name: str) -> None:
    """Write the format of a new queue, by the name that ``stated`` has returned."""
    number = FORMATS.index(name) if name in FORMATS else _OWN
    words.store(FORMAT_AT, number)
    if number == _OWN:
        data = name.encode().ljust(FORMAT_NAME_SIZE, b"\0")
        for at in range(0, FORMAT_NAME_SIZE, WORD):
            words.store(FORMAT_NAME_AT + at, int.from_bytes(data[at : at + WORD], sys.byteorder))


def read(words: Reader) -> str:
    """Return the name of the format that a header states; of a damaged one, a name that no format has."""
    number = words.load(FORMAT_AT)
    if number != _OWN:
        return FORMATS[number] if number < _OWN else f"format {number}"
    parts = (words.load(FORMAT_NAME_AT + at) for at in range(0, FORMAT_NAME_SIZE, WORD))
    data = b"".join(part.to_bytes(WORD, sys.byteorder) for part in parts)
    name = data.rstrip(b"\0").decode("utf-8", "backslashreplace")
    return name if name.isprintable() else ascii(name)[1:-1]
