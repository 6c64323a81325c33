"""Type checkers see what goes through a queue."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.places import REPOSITORY

PROGRAM = Path(__file__).with_name("typed_program.py")


@pytest.mark.slow
def test_a_type_checker_knows_what_a_queue_holds_and_refuses_the_rest(tmp_path: Path) -> None:
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed")
    options = ["--strict", f"--cache-dir={tmp_path}", "--no-error-summary"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(PROGRAM)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        stdin=subprocess.DEVNULL,
        cwd=REPOSITORY,
    )
    assert (done.stdout, done.returncode) == ("", 0), done.stderr
