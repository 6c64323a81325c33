"""What the machine can do at best: cache lines, futexes and memory by a program in C, pickle by itself."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from pickle import dumps, loads
from statistics import median
from typing import Any, Final

from ..harness.copies import default_compiler
from . import items

_SOURCE: Final = Path(__file__).resolve().parents[1] / "native" / "limits.c"
_BRIEFLY: Final = 0.01  # seconds
_PAUSE: Final = 2000  # µs before a wake-up, as in the scenario of the queues


def build(folder: Path) -> Path:
    """Compile the program, and return where it is."""
    binary = folder / "limits"
    subprocess.run([default_compiler(), "-std=c11", "-O2", "-o", str(binary), str(_SOURCE)], check=True)
    return binary


def measure(binary: Path, seconds: float) -> dict[str, dict[str, float]]:
    """Return the figures of one run: those of time in µs, those of ``pickle`` in ns an item."""
    done = subprocess.run(
        [str(binary), str(seconds), str(_PAUSE)], check=True, capture_output=True, text=True, timeout=60 + 10 * seconds
    )
    figures: dict[str, dict[str, float]] = json.loads(done.stdout)
    figures["pickle of dict"] = _pickle(items.dicts(), seconds / 2)
    figures["pickle of dict of ten fields"] = _pickle(items.dicts_of_ten(), seconds / 2)
    return figures


def ping_pong(binary: Path) -> float:
    """Return how long a line of cache takes to and fro between two processors now, in µs, median."""
    done = subprocess.run([str(binary), str(_BRIEFLY)], check=True, capture_output=True, text=True, timeout=60)
    figures: dict[str, dict[str, float]] = json.loads(done.stdout)
    return figures["ping-pong"]["p50"]


def _pickle(some: Sequence[Any], seconds: float) -> dict[str, float]:
    pickles = [dumps(item, 5) for item in some]
    dumping, loading = [], []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        start = time.perf_counter_ns()
        for item in some:
            dumps(item, 5)
        middle = time.perf_counter_ns()
        for data in pickles:
            loads(data)
        dumping.append((middle - start) / len(some))
        loading.append((time.perf_counter_ns() - middle) / len(some))
    return {"dumps": median(dumping), "loads": median(loading)}
