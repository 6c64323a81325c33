"""What the machine can do at best: cache lines, futexes and memory by a program in C, pickle by itself."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from pickle import dumps, loads
from statistics import median
from typing import Final

from ..harness.copies import default_compiler
from .scenarios import DICTS

_SOURCE: Final = Path(__file__).resolve().parents[1] / "native" / "limits.c"
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
    figures["pickle of the dict"] = _pickle(seconds)
    return figures


def _pickle(seconds: float) -> dict[str, float]:
    pickles = [dumps(item, 5) for item in DICTS]
    dumping, loading = [], []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        start = time.perf_counter_ns()
        for item in DICTS:
            dumps(item, 5)
        middle = time.perf_counter_ns()
        for data in pickles:
            loads(data)
        dumping.append((middle - start) / len(DICTS))
        loading.append((time.perf_counter_ns() - middle) / len(DICTS))
    return {"dumps": median(dumping), "loads": median(loading)}
