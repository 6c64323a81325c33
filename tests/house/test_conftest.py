"""What every test stands on, put to the test itself."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.places import REPOSITORY

HANGS = """
import threading
import tests.conftest
tests.conftest.WATCHDOG = 1

def test_that_hangs():
    print("it has begun")
    this_one_waits_for_ever()

def this_one_waits_for_ever():
    threading.Event().wait()
"""


INTERRUPTS = """
import os, signal, subprocess, sys
import pytest

def test_sigint_here_and_in_a_child():
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    child = "import signal; signal.raise_signal(signal.SIGINT)"
    assert subprocess.run([sys.executable, "-c", child], stderr=subprocess.DEVNULL).returncode == -signal.SIGINT
"""


VARIANTS = """
import pytest
from hypothesis import settings

slow = pytest.mark.slow
n = pytest.mark.parametrize("n", [pytest.param(0, marks=slow), 1, 2])
m = pytest.mark.parametrize("m", "ab")

@pytest.mark.costly
@n
@m
def test_costly(n, m):
    assert (n, m) == (1, "a")

@n
@m
def test_star(n, m):
    assert (n, m) in [(1, "a"), (2, "a"), (1, "b")]

@m
@pytest.mark.parametrize("engine", ["native", "atomics"])
@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_engine(m, engine, start_method):
    assert start_method == "fork"

def test_few():
    assert settings().max_examples == 25
"""


def run(folder: Path, test: str, workers: str, marks: str = "", **popen: object) -> subprocess.CompletedProcess[str]:
    """Run a test under the conftest of these tests."""
    (folder / "test_it.py").write_text(test, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-p", "no:cacheprovider", f"-n{workers}"]
    return subprocess.run(  # type: ignore[no-any-return]
        [*command, "-m", marks, f"--rootdir={folder}", str(folder)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **popen,  # type: ignore[call-overload]
    )


@pytest.mark.costly
@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_test_that_hangs_shows_its_stack_and_ends(tmp_path: Path, workers: str) -> None:
    done = run(tmp_path, HANGS, workers)
    assert done.returncode != 0
    assert "this_one_waits_for_ever" in done.stderr, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "1"])
def test_tests_can_be_interrupted_where_sigint_is_ignored(tmp_path: Path, workers: str) -> None:
    done = run(tmp_path, INTERRUPTS, workers, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_stress_kit_can_be_interrupted_where_sigint_is_ignored() -> None:
    program = """
import signal
from stress.__main__ import main

@main.command()
def probe() -> None:
    signal.raise_signal(signal.SIGINT)

main(["probe"], standalone_mode=False)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert done.returncode != 0
    assert "Abort" in done.stderr or "KeyboardInterrupt" in done.stderr


@pytest.mark.slow
def test_the_fast_lane_has_one_costly_variant_and_of_others_a_star(tmp_path: Path) -> None:
    done = run(tmp_path, VARIANTS, "0", "not slow")
    assert "7 passed, 14 deselected" in done.stdout
