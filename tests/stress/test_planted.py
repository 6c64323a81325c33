"""The planted bugs: each has its place in the source, compiles, breaks a rule that is named, and has a finder."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import get_args

import pytest

from stress.__main__ import COMMANDS
from stress.chaos import command as chaos
from stress.explore.corpus import expand
from stress.explore.program import parse_schedule
from stress.harness import copies
from stress.harness.engines import Engines
from stress.harness.errors import SetupError
from stress.harness.patches import apply_patch
from stress.native import check, sanitize
from stress.planted import BUGS, Bug, Task

COMPILER = copies.default_compiler()
PATCHED = [bug for bug in BUGS if bug.patch is not None]
ATTACKS = {*range(1, 17), 22} - {9, 15}  # see stress/planted


@pytest.mark.slow
@pytest.mark.parametrize("bug", PATCHED, ids=str)
def test_a_bug_has_its_place_and_compiles(bug: Bug, tmp_path: Path) -> None:
    copies.copy(tmp_path)
    assert bug.patch is not None
    apply_patch(bug.patch, tmp_path)
    package = tmp_path / copies.PACKAGE
    changed = [
        path
        for path in package.rglob("*.*")
        if path.is_file() and path.read_bytes() != (copies.ROOT / path.relative_to(tmp_path)).read_bytes()
    ]
    assert changed
    for path in changed:
        if path.suffix == ".py":
            compile(path.read_bytes(), path, "exec")
    if any(path.suffix != ".py" for path in changed):
        if shutil.which(COMPILER) is None or not sys.platform.startswith("linux"):
            pytest.skip("needs a C compiler, and futexes")
        sources = sorted((package / "_native").glob("*.c"))
        include = f"-I{sysconfig.get_path('include')}"
        subprocess.run([COMPILER, "-std=c11", "-fsyntax-only", include, *sources], check=True)


def _is_known(task: Task) -> bool:
    match task.tool, *task.how:
        case "sanitize", program:
            return program in sanitize.PROGRAMS
        case "explore", engines, *program:
            text, _, schedule = " ".join(program).partition("/")
            parse_schedule(schedule)
            return engines in get_args(Engines) and (not text or bool(list(expand(text))))
        case "check", *_:
            proof = check.proof_of(task)
            return any(proof.what == known.what for known in check.PROOFS)
        case "model", model, *_:
            return (copies.ROOT / "stress" / "model" / f"{model}.pml").exists()
        case ("codec",):
            return True
        case "chaos", kind, rounds:
            return kind in chaos.KINDS and rounds.isdigit()
    return False


def test_a_bug_breaks_a_rule_and_has_a_finder() -> None:
    for bug in BUGS:
        assert bug.rule.endswith("."), bug
        assert bug.tasks, bug
        for task in bug.tasks:
            assert task.tool in COMMANDS, bug
            assert _is_known(task), (bug, task)


def test_no_two_bugs_are_one() -> None:
    names = [str(bug) for bug in BUGS]
    planted = [bug.patch.read_bytes().partition(b"\n\n")[2] for bug in PATCHED if bug.patch is not None]
    assert len(set(planted)) == len(planted)
    assert len({(name, bug.tasks) for name, bug in zip(names, BUGS, strict=True)}) == len(names)


def test_every_attack_has_a_bug_that_stands_for_it() -> None:
    assert {int(attack.split()[0].removeprefix("R")) for bug in BUGS for attack in bug.attacks} == ATTACKS


@pytest.mark.costly
@pytest.mark.parametrize("bug", [bug for bug in PATCHED if any(task.tool == "check" for task in bug.tasks)], ids=str)
def test_a_bug_for_the_checker_fits_beside_its_smaller_sizes(bug: Bug, tmp_path: Path) -> None:
    for number, task in enumerate(task for task in bug.tasks if task.tool == "check"):
        folder = tmp_path / str(number)
        folder.mkdir()
        copies.copy(folder)
        assert bug.patch is not None
        apply_patch(bug.patch, folder)
        apply_patch(sanitize.SOURCES / f"{check.proof_of(task).program}.patch", folder)


PATCH = "About this\n\n--- a/file\n+++ b/file\n@@ -2,2 +2,2 @@\n b\n-c\n+C\n"


@pytest.mark.parametrize("text", ["a\nb\nc\nd\n", "b\nc\n", "0\n1\nxb\nc\nb\nc\n"])
def test_a_hunk_goes_where_its_lines_are(tmp_path: Path, text: str) -> None:
    (tmp_path / "patch").write_text(PATCH)
    (tmp_path / "file").write_text(text)
    apply_patch(tmp_path / "patch", tmp_path)
    assert (tmp_path / "file").read_text() == f"\n{text}".replace("\nb\nc\n", "\nb\nC\n").removeprefix("\n")


@pytest.mark.parametrize("text", ["", "b\nd\n", "xb\nc\n", "b\nc\nb\nc\n"])
def test_a_hunk_whose_place_is_not_clear_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "patch").write_text(PATCH)
    (tmp_path / "file").write_text(text)
    with pytest.raises(SetupError, match=r"does not fit file: these lines are there [02] times, not once"):
        apply_patch(tmp_path / "patch", tmp_path)
    assert (tmp_path / "file").read_text() == text


def test_a_patch_for_a_file_that_is_gone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "patch").write_text(PATCH)
    with pytest.raises(SetupError, match="is for file, which is not there"):
        apply_patch(tmp_path / "patch", tmp_path)
