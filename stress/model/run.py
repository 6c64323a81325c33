"""The protocol under Spin: each order of steps of the models of this folder, at small sizes.

``spin`` turns each configuration of a model into C, which is compiled and run to its end: if not all its states were
seen, or one was wrong, the run has failed. Planted bugs show that the models can fail.
"""

from __future__ import annotations

import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
from rich.console import Console

from .. import planted
from ..harness import options
from ..harness.errors import SetupError
from ..planted import Bug, Task
from .configurations import CONFIGURATIONS, Configuration

MODELS: Final = Path(__file__).resolve().parent

_MEMORY: Final = {False: 2000, True: 8000}  # MB of the search, of the short and of the long form
_WATCHDOG: Final = {False: 300.0, True: 3600.0}  # seconds; a search that takes longer has grown, or is starved
_PATIENCE_WITH_BITS: Final = 300.0  # a search that is not complete anyway
_DEPTH: Final = 2_000_000


@dataclass(frozen=True)
class Outcome:
    """What a search found.

    Attributes:
        states: how many it saw.
        complete: whether these are all.
        error: what was wrong, or an empty string.
        seconds: of CPU that it took, its compilation included.
        megabytes: of memory.
    """

    states: int
    complete: bool
    error: str
    seconds: float
    megabytes: float


def search(configuration: Configuration, compiler: str, *, long: bool = False) -> Outcome:
    """Build and run one configuration.

    Raises:
        SetupError: Spin or the compiler is missing, or the model is wrong.
    """
    began = _spent()
    with tempfile.TemporaryDirectory() as folder:
        for path in MODELS.glob("*.pml"):
            shutil.copy(path, folder)
        _run(["spin", "-a", *configuration.defines.split(), f"{configuration.model}.pml"], folder)
        flags = ["-DSAFETY", "-DVECTORSZ=2048", f"-DMEMLIM={_MEMORY[long]}"]
        flags.append("-DBITSTATE" if configuration.bits else "-DCOLLAPSE")
        # For a short search, compiling takes longer than running.
        _run([compiler, "-O2" if configuration.long else "-O0", "-w", *flags, "-o", "pan", "pan.c"], folder)
        command = ["./pan", f"-m{_DEPTH}", *(["-w35"] if configuration.bits else [])]
        searching = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
        try:
            report, _ = searching.communicate(timeout=_PATIENCE_WITH_BITS if configuration.bits else _WATCHDOG[long])
        except subprocess.TimeoutExpired:
            searching.send_signal(signal.SIGINT)  # it reports the states that it has seen so far
            report, _ = searching.communicate()
        finally:
            searching.kill()
    return _read(report, _spent() - began)


def _spent() -> float:
    """Return the seconds of CPU that children have taken."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def _run(command: Sequence[str], folder: str) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    except FileNotFoundError:
        spin, other = "install Spin (apt-get install spin)", "install one, or name one by --compiler"
        advice = spin if command[0] == "spin" else other
        raise SetupError(f"there is no {command[0]!r} here; {advice}") from None
    if done.returncode != 0:
        raise SetupError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def _read(report: str, seconds: float) -> Outcome:
    """Return what a search has reported."""

    def number(pattern: str) -> float:
        found = re.search(pattern, report, re.MULTILINE)
        return float(found.group(1)) if found else 0.0

    error = re.search(r"^pan:\d+: (.*?) \(at depth", report, re.MULTILINE)
    return Outcome(
        states=int(number(r"^\s*([\d.e+]+) states, stored")),
        complete="errors: 0" in report and "Search not completed" not in report and "Interrupted" not in report,
        error=error.group(1) if error else "",
        seconds=seconds,
        megabytes=number(r"^\s*([\d.]+)\s+total actual memory usage"),
    )


def run(console: Console, compiler: str, *, long: bool = False) -> bool:
    """Search all configurations of a form; return whether each was as it should be."""
    ok = True
    for configuration in CONFIGURATIONS:
        if configuration.long and not long:
            continue
        outcome = search(configuration, compiler, long=long)
        verdict, good = judge(configuration, outcome, planted=False)
        ok = ok and good
        figures = f"{outcome.states:11,} states  {outcome.seconds:6.1f} s  {outcome.megabytes:6.0f} MB"
        sizes = configuration.defines.replace("-D", "")
        line = f"{figures}  {configuration.model}: {configuration.what} ({sizes}): {verdict}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(f"{_spent():.0f} s of CPU", markup=False, highlight=False)
    return ok


def planted_configuration(bug: Bug, task: Task) -> Configuration:
    """Return the model and the sizes at which a bug has to be found."""
    model, *defines = task.how
    return Configuration(model, bug.name, " ".join(defines))


def run_planted(console: Console, compiler: str, bugs: Sequence[Bug] | None = None) -> bool:
    """Search the models with each bug, and return whether every one was found."""

    def look_for(bug: Bug, task: Task) -> planted.Outcome:
        configuration = planted_configuration(bug, task)
        verdict, good = judge(configuration, search(configuration, compiler), planted=True)
        return planted.Outcome(good, verdict)

    return planted.search_each("model", look_for, console, bugs)


def judge(configuration: Configuration, outcome: Outcome, planted: bool) -> tuple[str, bool]:
    """Say what an outcome means, and whether it is what the configuration is there for."""
    if planted:
        return (outcome.error, True) if outcome.error else ("nothing found", False)
    if outcome.error:
        return f"FAILED: {outcome.error}", False
    if configuration.bits:
        return "nothing found, not complete", outcome.states > 0
    return ("ok", True) if outcome.complete else ("FAILED: not complete", False)


@click.command()
@click.option("--long", "is_long", is_flag=True, help="Larger sizes, too: half an hour and 8 GB instead of a minute.")
@options.plant
@options.compiler
def command(is_long: bool, plant: bool, compiler: str) -> None:
    """Go through all states of the Spin models of the protocol."""
    console = Console()
    ok = run_planted(console, compiler) if plant else run(console, compiler, long=is_long)
    sys.exit(not ok)
