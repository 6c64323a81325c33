"""Plants one bug after the other, and reports which were found."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from ..harness import copies
from ..harness.patches import apply_patch
from .bugs import Bug, Task, found_by


@dataclass(frozen=True)
class Outcome:
    """The result of a tool for a bug.

    Attributes:
        found: whether it found something.
        how: what it found, or said instead, in one line.
    """

    found: bool
    how: str


@contextmanager
def planted_copy(bug: Bug | None) -> Iterator[Path]:
    """Yield a folder with a copy of the package that has the bug; without a bug, a copy of the package as it is.

    Raises:
        SetupError: the patch does not fit the source.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copies.copy(folder)
        if bug is not None and bug.patch is not None:
            apply_patch(bug.patch, folder)
        yield folder


def search_each(
    tool: str, look_for: Callable[[Bug, Task], Outcome], console: Console, bugs: Sequence[Bug] | None = None
) -> bool:
    """Let a tool look for each bug that it has to find; return whether it found them all.

    Args:
        tool: a command of the kit.
        look_for: plants a bug and looks for it.
        console: where to say how.
        bugs: the only ones; None: all that the tool has to find.
    """
    ok = True
    for bug, task in found_by(tool):
        if bugs is not None and bug not in bugs:
            continue
        began = time.monotonic()
        outcome = look_for(bug, task)
        seconds = time.monotonic() - began
        by = " ".join((tool, *task.how))
        said = f"{by}: {outcome.how}" if outcome.found else f"NOT FOUND by {by} ({outcome.how})"
        console.print(f"{bug}\n    {said}, {seconds:.1f} s", markup=False, highlight=False, soft_wrap=True)
        ok = ok and outcome.found
    return ok
