"""The schedule explorer, in its short form: both engines under schedules that decide before every step who moves."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

import pytest
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the kit is not installed with the package

from stress import sanitize
from stress.explore.corpus import Engines
from stress.explore.run import Plan, run

COMPILER = sanitize.default_compiler()
SEED = 20240229

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or shutil.which(COMPILER) is None, reason="needs a C compiler, and futexes"
)


def explored(engines: Engines, schedules: int, draws: int = 0, program: str = "") -> str:
    """Explore; return what was said if a rule was broken, and nothing otherwise."""
    heard = io.StringIO()
    ok = run([Plan(engines, schedules, draws, SEED, program, "", COMPILER)], Console(file=heard, width=200))
    return "" if ok else heard.getvalue()


@pytest.mark.parametrize("engine", ["a", "n"])
def test_a_put_is_not_refused_because_of_a_get_that_ends_while_it_looks(engine: str) -> None:
    """It found no live get for the slot, because that had just ended, and took the item for one of the dead."""
    program = f"mpmc 1 1 {engine}:take {engine}:take {engine}:put"
    assert not explored("native" if engine == "n" else "atomics", 2_500, program=program)
