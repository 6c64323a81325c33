"""How much memory the system can still give: the door to /proc/meminfo."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

_MEMINFO: Final = "/proc/meminfo"


def available() -> int | None:
    """Return how many bytes processes can still take, swap included; None if the system does not tell."""
    found = {}
    with suppress(OSError, ValueError), open(_MEMINFO, encoding="ascii") as file:
        for line in file:
            name, _, amount = line.partition(":")
            if name in ("MemAvailable", "SwapFree"):
                found[name] = int(amount.split()[0]) * 1024
    return sum(found.values()) if "MemAvailable" in found else None
