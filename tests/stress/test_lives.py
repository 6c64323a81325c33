"""Whole lives of programs that clean up no queue, in short, and proof that the verdict can be a bad one."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from stress.chaos import lives
from stress.chaos.lives import KINDS, METHODS, End, Kind, Life, plan
from tests.support.places import SHM

PATIENCE = 60.0

pytestmark = pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files")


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_of_a_program_however_it_ends(kind: Kind) -> None:
    console = Console(file=io.StringIO())
    assert lives.run(1, 2, [kind], 1, PATIENCE, console), console.file.getvalue()  # type: ignore[attr-defined]


def test_each_end_meets_the_parent_the_child_and_both() -> None:
    for kind in ("exception", "exit", "terminate"):
        assert {plan(1, kind, "fork", number).roles for number in range(3)} == {
            ("parent",),
            ("child",),
            ("parent", "child"),
        }
    assert {plan(1, "kill-child", method, number).roles for method in METHODS for number in range(3)} == {("child",)}


@pytest.fixture
def leaving(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let a program end without a word of its queues: they stay until the next creation."""
    program = tmp_path / "program.py"
    program.write_text(Path(lives._PROGRAM).read_text("utf-8") + "    import os\n    os._exit(0)\n", "utf-8")
    monkeypatch.setattr(lives, "_PROGRAM", str(program))


@pytest.mark.usefixtures("leaving")
def test_what_is_left_of_a_life_that_ended_well_is_a_fault() -> None:
    result = lives.run_lives(1, "kill-child", "fork", [0], PATIENCE)
    assert any("left: ['anonymous-" in fault for fault in result.faults), result.faults
    again = Life("fork", End("exit", ("parent",), 0.0), PATIENCE)
    assert list(again.run()) == []
    assert not again.left()
