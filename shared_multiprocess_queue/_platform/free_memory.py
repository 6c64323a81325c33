"""How much memory the system can still give: the door to /proc/meminfo."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

_MEMINFO: Final = Path("/proc/meminfo")


def available() -> int | None:
    """Return how many bytes processes can still take, swap included; None if the system does not tell."""
    found = {}
    with suppress(OSError, ValueError):
        for line in _MEMINFO.read_text().splitlines():
            name, _, amount = line.partition(":")
            if name in ("MemAvailable", "SwapFree"):
                found[name] = int(amount.split()[0]) * 1024
    return sum(found.values()) if "MemAvailable" in found else None
