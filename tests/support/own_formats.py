"""Formats of a program, and what a hostile program writes in their place."""

from __future__ import annotations

import json
import pickle
import zlib
from typing import Any

from shared_multiprocess_queue._codec.codec import Codec
from shared_multiprocess_queue._codec.tags import DEFLATED, MAIN, OBJECTS, PICKLE
from tests.support.main_programs import DictStore


def to_json(item: object) -> bytes:
    return json.dumps(item).encode()


def from_json(data: bytes) -> Any:
    return json.loads(data)


ran: list[str] = []
"""What a stream that was read has run."""


class Attack:
    """An item whose pickle runs code of its sender."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __reduce__(self) -> Any:
        return ran.append, (self.how,)


def _of_main(how: str) -> bytes:
    """A stream that names objects of a program's ``__main__``, with its definitions."""
    codec = Codec(DictStore(room=0))
    payload, tag = codec.encode([Attack(how), lambda: how])
    names = b"Attack"
    assert tag in (PICKLE, MAIN)
    found: bytes = payload + names + len(names).to_bytes(4, "little") + bytes(20)
    return found


def attacks() -> dict[str, bytes]:
    """Return payloads that run code in a process that reads them as what they are, or that take much memory."""
    stream = pickle.dumps(Attack("pickle"), 5)
    return {
        "pickle": stream,
        "of main": _of_main("main"),
        "deflated pickle": bytes([PICKLE]) + zlib.compress(stream),
        "deflated of main": bytes([MAIN]) + zlib.compress(_of_main("deflated main")),
        "deflated twice": bytes([DEFLATED]) + zlib.compress(bytes([PICKLE]) + zlib.compress(stream)),
        "deflated objects": bytes([OBJECTS]) + zlib.compress(b"\xd1\x01"),
        "bomb": b"\x01" + zlib.compress(bytes(3_000_000)),
        "nothing": b"",
    }
