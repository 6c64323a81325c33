"""What the command does: builds a copy to explore, starts the process that explores it, and reports."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from .build import copy_package, environment
from .corpus import Engines


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


def run(plans: Sequence[Plan], console: Console) -> bool:
    """Explore; return whether every rule was kept.

    Raises:
        SanitizeError: the explored extension cannot be built here.
    """
    ok = True
    for plan in plans:
        with tempfile.TemporaryDirectory() as folder:
            copy_package(Path(folder), plan.compiler, _has_native(plan))
            with subprocess.Popen(
                _command(plan),
                cwd=folder,  # or the package of this folder would come first
                env=environment(Path(folder)),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            ) as process:
                assert process.stdout is not None
                for line in process.stdout:
                    console.print(line.rstrip(), markup=False, highlight=False, soft_wrap=True)
            ok = ok and process.returncode == 0
    return ok
