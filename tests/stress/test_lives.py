"""Whole lives of programs that clean up no queue, in short, and proof that the verdict can be a bad one."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from stress.chaos import lives
from stress.chaos.lives import KINDS, METHODS, Kind, plan
from tests.support.places import SHM

PATIENCE = 60.0

pytestmark = pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files")


@pytest.mark.costly
@pytest.mark.parametrize(("kind", "runs"), [("terminate", 1), *((kind, 2) for kind in KINDS)])
def test_nothing_is_left_of_a_program_however_it_ends(kind: Kind, runs: int) -> None:
    console = Console(file=io.StringIO())
    assert lives.run(1, runs, [kind], 1, PATIENCE, console), console.file.getvalue()  # type: ignore[attr-defined]


def test_each_end_meets_the_parent_the_child_and_both() -> None:
    for kind in ("exception", "exit", "terminate"):
        assert {plan(1, kind, "fork", number).roles for number in range(3)} == {
            ("parent",),
            ("child",),
            ("parent", "child"),
        }
    assert {plan(1, "kill-child", method, number).roles for method in METHODS for number in range(3)} == {("child",)}


@pytest.fixture
def leaving(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Let a program end with its queues replaced by files that no creation of a queue removes."""
    program = tmp_path / "program.py"
    listing = tmp_path / "left"
    program.write_text(Path(lives._PROGRAM).read_text("utf-8") + _REPLACE.format(str(listing)), "utf-8")
    monkeypatch.setattr(lives, "_PROGRAM", str(program))
    yield
    for name in listing.read_text("utf-8").split():
        (SHM / name).unlink()


_REPLACE = """
    import os
    names = [f"{{each.name}}-queue" for each in (tasks, results)]
    tasks.close()
    results.close()
    for name in names:
        with open(f"/dev/shm/{{name}}", "xb") as file:
            file.write(b"not a queue")
    with open({0!r}, "a") as listing:
        print(*names, file=listing)
"""


@pytest.mark.usefixtures("leaving")
def test_what_is_left_of_a_life_is_a_fault() -> None:
    result = lives.run_lives(1, "kill-child", "fork", [0], PATIENCE)
    assert any("left: ['anonymous-" in fault for fault in result.faults), result.faults
    assert any("of the one before are left" in fault for fault in result.faults), result.faults
