"""Programs that this process plays, and a store for the definitions of their ``__main__``."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

from shared_multiprocess_queue._codec.codec import Codec


class DictStore:
    """A DefinitionStore of limited room."""

    def __init__(self, room: int = sys.maxsize) -> None:
        self.room = room
        self.definitions: dict[bytes, bytes] = {}
        self.calls = 0

    def add(self, key: bytes, definition: bytes) -> bool:
        self.calls += 1
        assert len(key) == 16
        if key not in self.definitions:
            if self.size() + len(definition) > self.room:
                return False
            self.definitions[key] = definition
        return True

    def find(self, key: bytes) -> bytes | None:
        assert len(key) == 16
        return self.definitions.get(key)

    def size(self) -> int:
        return sum(map(len, self.definitions.values()))


Enter = Callable[..., types.ModuleType]


def round_trip(codec: Codec, item: object) -> Any:
    payload, tag = codec.encode(item)
    return codec.decode(bytes(bytearray(payload)), tag)  # nothing but the bytes gets through


POINT = """
from dataclasses import dataclass
@dataclass
class Point:
    x: int
    y: int
def norm(point):
    return point.x + point.y
"""
