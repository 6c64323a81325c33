"""The native algorithm under sanitizers and under an explorer of schedules, without Python in between.

``ring_stress.c`` and ``ring_explore.c`` include only the headers of the algorithm. This module compiles and runs them;
planted bugs show that they can fail.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, cast, get_args

import click
from rich.console import Console

from .. import planted
from ..harness import options
from ..harness.copies import HEADERS, ROOT, compile_c
from ..planted import Bug, Task

Program = Literal["explore", "leases", "thread", "address"]
PROGRAMS: Final[tuple[Program, ...]] = get_args(Program)

SOURCES: Final = Path(__file__).resolve().parent
_WARNINGS: Final = ("-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wpedantic")
_WATCHDOG: Final = 300.0  # seconds; a short program takes less than a minute of a core, which others may use, too
_LONG_WATCHDOG: Final = 7200.0

_BUILDS: Final[dict[Program, tuple[str, tuple[str, ...]]]] = {
    "explore": ("ring_explore.c", ("-O2", "-Wno-clobbered")),
    "leases": ("lease_explore.c", ("-O2", "-Wno-clobbered")),
    "thread": ("ring_stress.c", ("-O1", "-Wno-clobbered", "-fsanitize=thread")),
    "address": (
        "ring_stress.c",
        ("-O1", "-Wno-clobbered", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    ),
}


@dataclass(frozen=True)
class Plan:
    """What to run.

    Attributes:
        seed: of the threads' choices; the explorer makes all of them and has none.
        seconds: how long each configuration of the threads runs.
        long: whether the explorer goes further and the threads longer.
        compiler: a C compiler.
    """

    seed: int
    seconds: float
    long: bool
    compiler: str


def _build(program: Program, compiler: str, headers: Path, folder: Path, *more: str) -> Path:
    source, flags = _BUILDS[program]
    if "clang" in compiler:
        flags = tuple(flag for flag in flags if flag != "-Wno-clobbered")
    binary = folder / program
    command = [compiler, "-std=c11", "-g", *_WARNINGS, *more, *flags, "-I", str(headers), "-pthread"]
    command += ["-o", str(binary), str(SOURCES / source)]
    compile_c(command)
    return binary


def _command(program: Program, binary: Path, plan: Plan) -> list[str]:
    if program in ("explore", "leases"):
        return [str(binary), *(["long"] if plan.long else [])]
    return [str(binary), str(plan.seed), str(plan.seconds), str(20000 if plan.long else 1000)]


def _environment() -> dict[str, str]:
    return {**os.environ, "TSAN_OPTIONS": "halt_on_error=1 exitcode=66", "ASAN_OPTIONS": "detect_leaks=1"}


def run(plan: Plan, console: Console, programs: Sequence[Program] = PROGRAMS) -> bool:
    """Build and run the programs; return whether all of them found nothing."""
    ok = True
    with tempfile.TemporaryDirectory() as folder:
        for program in programs:
            binary = _build(program, plan.compiler, HEADERS, Path(folder), "-Werror")
            console.print(f"{program}:", markup=False, highlight=False)
            began = time.monotonic()
            try:
                done = subprocess.run(
                    _command(program, binary, plan),
                    env=_environment(),
                    timeout=_LONG_WATCHDOG if plan.long else _WATCHDOG,
                    check=False,
                )
                found = done.returncode != 0
            except subprocess.TimeoutExpired:
                console.print("it hangs", markup=False, highlight=False)
                found = True
            seconds = time.monotonic() - began
            verdict = "FAILED" if found else "ok"
            console.print(f"{program}: {verdict}, {seconds:.1f} s", markup=False, highlight=False)
            ok = ok and not found
    return ok


def run_planted(plan: Plan, console: Console, bugs: Sequence[Bug] | None = None) -> bool:
    """Plant each bug, and return whether every one was found by the program that has to find it."""

    def look_for(bug: Bug, task: Task) -> planted.Outcome:
        (program,) = task.how
        with planted.planted_copy(bug) as folder:
            headers = folder / HEADERS.relative_to(ROOT)
            binary = _build(cast(Program, program), plan.compiler, headers, folder)
            command = _command(cast(Program, program), binary, plan)
            try:
                done = subprocess.run(
                    command, env=_environment(), timeout=_WATCHDOG, check=False, capture_output=True, text=True
                )
            except subprocess.TimeoutExpired:
                return planted.Outcome(True, "it hangs")
            return planted.Outcome(done.returncode != 0, _first_words(done.stderr))

    return planted.search_each("sanitize", look_for, console, bugs)


def _first_words(stderr: str) -> str:
    """Return the line of a program's complaint that says what it is."""
    for line in stderr.splitlines():
        if any(
            sign in line for sign in ("FAILED", "WARNING: ThreadSanitizer", "ERROR: AddressSanitizer", "runtime error")
        ):
            return line.partition(";")[0].strip()
    return stderr.strip().partition("\n")[0]


@click.command()
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    help="Of each of eight configurations of threads; 0.4, or 30 with --long, if not given.",
)
@click.option("--long", "is_long", is_flag=True, help="Explore further, too: minutes instead of seconds.")
@click.option(
    "--program", "programs", type=click.Choice(PROGRAMS), multiple=True, help="Only this; may be given again."
)
@options.plant
@options.compiler
@options.seed
def command(
    seconds: float | None, is_long: bool, programs: tuple[Program, ...], plant: bool, compiler: str, seed: int | None
) -> None:
    """Run the native algorithm, in C, under an explorer of schedules, and in threads under sanitizers."""
    console = Console()
    plan = Plan(options.tell_seed(seed, console), seconds or (30.0 if is_long else 0.4), is_long, compiler)
    chosen = [program for program in PROGRAMS if program in (programs or PROGRAMS)]
    ok = run_planted(plan, console) if plant else run(plan, console, chosen)
    sys.exit(not ok)
