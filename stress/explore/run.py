"""The work of the command: it builds a copy to explore, starts the process that explores it, and reports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, cast

from rich.console import Console

from .. import planted
from ..harness import copies
from ..harness.engines import Engines
from ..planted import Bug, Task
from .program import FOUND

_SEAM: Final = Path(__file__).with_name("explored.h")
_WATCHDOG: Final = 600.0  # seconds; a search for a planted bug that takes longer hangs
_LONG_WATCHDOG: Final = 7200.0
_ROUNDS: Final = (8_000, 40_000, 160_000)
"""How many schedules a search for a planted bug runs, until one finds it."""


@dataclass(frozen=True)
class Plan:
    """What to explore.

    Attributes:
        engines: of the actors.
        schedules: how many to enumerate.
        draws: how many schedules hypothesis draws besides.
        seed: of what it draws.
        program: the only one to explore; empty: all of the corpus.
        replay: a program and a schedule to run instead of all this; empty: nothing.
        compiler: for the explored extension.
    """

    engines: Engines
    schedules: int
    draws: int
    seed: int
    program: str
    replay: str
    compiler: str


def _command(plan: Plan) -> list[str]:
    command = [sys.executable, "-m", "stress.explore.inside", plan.engines, "--schedules", str(plan.schedules)]
    command += ["--draws", str(plan.draws), "--seed", str(plan.seed)]
    return [*command, "--program", plan.program, "--replay", plan.replay]


def _has_native(plan: Plan) -> bool:
    text = plan.program or plan.replay
    return " n:" in text if text else plan.engines != "atomics"


def _explore(plan: Plan, bug: Bug | None, hear: Callable[[str], None]) -> int:
    """Build a copy, with a bug perhaps, explore it in a process of its own, and return that process's exit status."""
    with planted.planted_copy(bug) as folder:
        if _has_native(plan):
            copies.build_extension(folder, plan.compiler, ("-Wno-clobbered", "-include", str(_SEAM)))
        with subprocess.Popen(
            _command(plan),
            cwd=folder,  # otherwise the package of this folder would come first
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(copies.ROOT)])},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            watchdog = threading.Timer(_WATCHDOG if bug else _LONG_WATCHDOG, process.kill)
            watchdog.start()
            assert process.stdout is not None
            for line in process.stdout:
                hear(line.rstrip())
            watchdog.cancel()
        return process.returncode


def run(plans: Sequence[Plan], console: Console) -> bool:
    """Explore; return whether every rule was kept.

    Raises:
        SetupError: the explored extension cannot be built here.
    """

    def hear(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    statuses = [_explore(plan, None, hear) for plan in plans]  # all of them run, even if one finds something
    return not any(statuses)


def run_planted(plan: Plan, console: Console, bugs: Sequence[Bug] | None = None) -> bool:
    """Plant each bug, and return whether every one was found.

    Args:
        plan: of the search; engines, program and number of schedules, or the one schedule, are the bug's.
        console: where to say how.
        bugs: the only ones.

    Raises:
        SetupError: a bug has no place, or the explored extension cannot be built here.
    """

    def look_for(bug: Bug, task: Task) -> planted.Outcome:
        engines, text = cast(Engines, task.how[0]), " ".join(task.how[1:])
        if "/" in text:
            plans = [replace(plan, engines=engines, replay=text)]
        else:
            plans = [replace(plan, engines=engines, schedules=schedules, program=text) for schedules in _ROUNDS]
        lines: list[str] = []
        for chosen in plans:
            status = _explore(chosen, bug, lines.append)
            if status != 0:
                break
        how = next((line for line in lines if line.startswith("BROKEN")), f"exit status {status}")
        is_found = status in (FOUND, -signal.SIGSEGV, -signal.SIGABRT)  # not: ended by the watchdog
        return planted.Outcome(is_found, how.partition(": ")[2] or how)

    return planted.search_each("explore", look_for, console, bugs)
