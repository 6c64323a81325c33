"""A process that dies at a chosen step: each call that the package makes, and each return, is one."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from tests.support.children import end_of, fork
from tests.support.places import PACKAGE, SHM


def entries_of(run_id: str) -> Callable[[object], tuple[dict[str, int], list[str]]]:
    """Return what ``Listing._entries`` finds of one test, so that the number of steps does not depend on others."""

    def entries(_: object) -> tuple[dict[str, int], list[str]]:
        found = {path.name: path.stat().st_ino for path in SHM.iterdir() if path.name.startswith(run_id)}
        locks = [name for name in found if name.endswith("-queue-lock")]
        return {name: inode for name, inode in found.items() if name not in locks}, locks

    return entries


# Of an operation of hundreds of steps all tests take each seventh one, and the long ones each.
SAMPLED = pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.long)])

# Of one of a hundred steps the fast lane takes each seventh one, and all tests each.
SPARSE = pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])

DONE = 7  # exit status of a child that came to its end


def die_at(step: int) -> Callable[[FrameType, str, Any], None]:
    """Return a profile function that kills this process when the package calls, or returns, for the step-th time."""
    steps = itertools.count()

    def count(frame: FrameType, event: str, argument: Any) -> None:
        if frame.f_code.co_filename.startswith(str(PACKAGE)) and next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    return count


def start_to_die_at(step: int, prepare: Callable[[], Callable[[], object]]) -> int:
    """Run an operation in a child that dies at a step of it, or ends with DONE before; return its process id.

    Args:
        step: number of the step.
        prepare: runs in the child before, and returns the operation.
    """

    def child() -> None:
        operation = prepare()
        profile = die_at(step)
        sys.setprofile(profile)
        operation()
        sys.setprofile(None)
        os._exit(DONE)

    return fork(child)


def has_died(pid: int) -> bool:
    """Whether such a child has died at its step, and did not end before."""
    status = end_of(pid)
    assert status in (-signal.SIGKILL, DONE)
    return status == -signal.SIGKILL


def dies_at(step: int, prepare: Callable[[], Callable[[], object]]) -> bool:
    """Run such a child, and return whether it has died at the step."""
    return has_died(start_to_die_at(step, prepare))
