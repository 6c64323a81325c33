"""The recipe for everyday objects, in short: under sanitizers it finds nothing, but a planted bug it does."""

from __future__ import annotations

import io
import shutil
import sys

import pytest
from rich.console import Console

from stress import planted
from stress.codec import command
from stress.codec.likeness import alike
from stress.harness.copies import default_compiler

COMPILER = default_compiler()
PLAN = command.Plan(cases=1500, seed=20240229, compiler=COMPILER)

needs_compiler = pytest.mark.skipif(
    not sys.platform.startswith("linux") or shutil.which(COMPILER) is None, reason="needs a C compiler with sanitizers"
)


@pytest.mark.slow
@needs_compiler
def test_nothing_is_found() -> None:
    heard = io.StringIO()
    assert command.run(PLAN, Console(file=heard)), heard.getvalue()


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("place", ["python", "native"])
def test_a_planted_bug_is_found(place: str) -> None:
    """One of each engine; ``python -m stress codec --plant`` plants them all."""
    bug = next(bug for bug, _ in planted.found_by("codec") if bug.place == place)
    heard = io.StringIO()
    assert command.run_planted(PLAN, Console(file=heard), [bug]), heard.getvalue()


@pytest.mark.skipif(shutil.which("clang") is None, reason="needs clang")
@pytest.mark.slow
def test_the_fuzzer_runs_and_finds_nothing() -> None:
    heard = io.StringIO()
    assert command.fuzz(2, PLAN.seed, Console(file=heard), keeps=False), heard.getvalue()
    assert "cov: " in heard.getvalue()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (1, 1.0),
        (0.0, -0.0),
        ([1], (1,)),
        ({1: 2, 3: 4}, {3: 4, 1: 2}),
        ({1}, frozenset({1})),
        (b"", bytearray()),
    ],
)
def test_items_that_are_equal_are_told_apart(one: object, other: object) -> None:
    assert not alike(one, other)
    assert alike([one], [one])
