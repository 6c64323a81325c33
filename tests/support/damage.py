"""Damage to a segment."""

from __future__ import annotations

from pathlib import Path


def poke(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)
