"""CPython's own tests of its queues pass with ours in the place of theirs."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from tests.cpython import not_applicable
from tests.support.places import REPOSITORY

HAS_TESTS = importlib.util.find_spec("test._test_multiprocessing") is not None
HANGS = 240  # seconds

pytestmark = pytest.mark.skipif(not HAS_TESTS, reason="this Python comes without its tests (libpython3-testsuite)")


def run(start_method: str, *cases: str) -> None:
    names = [f"tests.cpython.adapter.{case}" for case in cases]
    program = subprocess.Popen(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "unittest", "-v", *names],
        cwd=REPOSITORY,
        env={**os.environ, "START_METHOD": start_method},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = program.communicate(timeout=HANGS)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)  # a child of a test that has failed
    assert program.returncode == 0, output


@pytest.mark.slow
@pytest.mark.usefixtures("each_engine")
def test_those_of_queue_pass() -> None:
    run("fork", "QueueTest", "FailingQueueTest", "SimpleQueueTest")


@pytest.mark.usefixtures("each_engine")
def test_those_of_multiprocessing_pass(start_method: str) -> None:
    run(start_method, "MultiprocessingQueueTest")


@pytest.mark.skipif(sys.version_info < (3, 13), reason="an older Python has fewer tests")
def test_each_test_that_does_not_apply_is_there() -> None:
    from tests.cpython import adapter

    for label in {**not_applicable.FAILING, **not_applicable.SKIPPED}:
        name, _, method = label.partition(".")
        assert hasattr(adapter.TESTS[name], method), label
