"""The edges of the protocol that the explored steps have covered.

The native engine names the edge in each step. In the Python engine the label stands in a comment on the line of the
step, or above it.
"""

from __future__ import annotations

import ctypes
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType

import shared_multiprocess_queue

from .handles import explored_library
from .scheduler import PLACES

_PACKAGE = str(Path(shared_multiprocess_queue.__file__).parent)
_LABEL = re.compile(r"\[([A-Z]\d+)\]")
_ABOVE = 3  # lines
_OF_OTHERS = re.compile(r"(?:with|by|after|before|as|behind) (?:\[[A-Z]\d+\])+")


def _atomics() -> Counter[str]:
    found: Counter[str] = Counter()
    for (code, instruction), times in PLACES.items():
        if code.co_filename.startswith(_PACKAGE):
            for label in _labels(code, instruction):
                found[label] += times
    return found


def _labels(code: CodeType, instruction: int) -> list[str]:
    """Return the labels in the comment of the line on which an instruction stands, or of one closely above."""
    number = next((line for start, end, line in code.co_lines() if start <= instruction < end and line), 0)
    lines = Path(code.co_filename).read_text(encoding="utf-8").splitlines()
    for at in range(number - 1, max(number - 2 - _ABOVE, -1), -1):
        if found := _own_labels(lines[at]):
            return found
        if lines[at].strip() == "" or lines[at].lstrip().startswith("def "):
            break
    return []


def _own_labels(line: str) -> list[str]:
    return _LABEL.findall(_OF_OTHERS.sub("", line.partition("#")[2]))


def _native() -> Counter[str]:
    library = explored_library()
    if library is None:
        return Counter()
    library.explored_coverage.restype = ctypes.py_object
    found: Counter[str] = Counter()
    for label, times in library.explored_coverage():
        found[label] += times
    return found


def report(say: Callable[[str], None]) -> None:
    """Print how often steps were taken at each edge."""
    for engine, counts in (("atomics", _atomics()), ("native", _native())):
        if counts:
            say(f"steps of the {engine} engine at each edge: {', '.join(_sorted(counts))}")


def _sorted(counts: Counter[str]) -> Iterator[str]:
    for label, times in sorted(counts.items()):
        yield f"{label} {times:,}"
