"""The protocol under Spin: every order of steps of the models in ``model/``, at small sizes.

Each configuration of a model is turned into C by ``spin``, compiled, and run to its end: either all its states were
seen and none was wrong, or the run has failed. With planted bugs, it shows that the models can fail.
"""

from __future__ import annotations

import re
import resource
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

MODELS: Final = Path(__file__).resolve().parent / "model"

_MEMORY: Final = {False: 2000, True: 8000}  # MB of the search, of the short and of the long form
_WATCHDOG: Final = {False: 300.0, True: 3600.0}  # seconds; a search that takes longer has grown, or is starved
_PATIENCE_WITH_BITS: Final = 300.0  # a search that is not complete anyway
_DEPTH: Final = 2_000_000


class ModelError(Exception):
    """The models cannot be run here."""


@dataclass(frozen=True)
class Configuration:
    """A model at certain sizes.

    Attributes:
        model: a file of ``model/``, without its ending.
        what: what is in it, for people.
        defines: the sizes that are not the model's own; ``BUG_...`` plants a bug.
        long: whether only the long form runs it.
        bits: whether states are remembered as bits of a hash: it has too many, and some are taken for others, so this
            searches for errors and proves nothing.
    """

    model: str
    what: str
    defines: str = ""
    long: bool = False
    bits: bool = False


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


def _ring(what: str, defines: str, *, long: bool = False, bits: bool = False) -> Configuration:
    return Configuration("ring", what, defines, long, bits)


CONFIGURATIONS: Final = (
    _ring("a batch of two, two getters of two", ""),
    _ring("a batch of two, dies", "-DCRASH=1 -DGETTERS=1"),
    _ring("a batch of three, dies", "-DPUT0=3 -DCAP=3 -DCRASH=1 -DGETTERS=1"),
    _ring("a batch of two, a getter of two dies", "-DCRASH=1 -DMORTAL=2"),
    _ring("a batch of two is abandoned, or dies, or both", "-DGETTERS=1 -DCRASH=1 -DINTR=1"),
    _ring("two puts, one dies, nobody gets meanwhile", "-DPUTTERS=2 -DPUT0=1 -DCAP=1 -DGETTERS=1 -DCRASH=1 -DIDLE"),
    _ring("an item, a getter dies, two adopt", "-DPUTTERS=0 -DFILLED=1 -DCAP=1 -DGETTERS=3 -DCRASH=1 -DMORTAL=1"),
    _ring("an item, a get is abandoned", "-DPUTTERS=0 -DFILLED=1 -DGETTERS=2 -DCAP=3 -DINTR=1"),
    _ring(
        "an item, a getter dies, its record is taken",
        "-DPUTTERS=0 -DFILLED=1 -DGETTERS=2 -DNEWCOMER=1 -DNO_SPARE -DCRASH=1 -DCAP=3",
    ),
    _ring("spsc: two producers, one dies", "-DSPSC -DPUTTERS=2 -DPUT0=1 -DGETTERS=1 -DCAP=1 -DCRASH=1"),
    _ring("spsc: a batch, two consumers, one dies", "-DSPSC -DGETTERS=2 -DCRASH=1"),
    _ring("a batch of two, two getters of two, a death", "-DCRASH=1", long=True),
    _ring("the same, every step apart", "-DCRASH=1 -DTORN", long=True),
    _ring("a batch of two and a put, a death", "-DPUTTERS=2 -DGETTERS=1 -DCRASH=1", long=True),
    _ring("two batches of two, a death", "-DPUTTERS=2 -DPUT1=2 -DGETTERS=1 -DCRASH=1", long=True),
    _ring("a batch of two, a newcomer, a death", "-DGETTERS=1 -DNEWCOMER=1 -DCRASH=1", long=True),
    _ring("an item, two of three getters die", "-DPUTTERS=0 -DFILLED=1 -DCAP=1 -DGETTERS=3 -DCRASH=2", long=True),
    _ring("a ring that is full, a put, getters, a death", "-DFILLED=2 -DPUT0=1 -DCRASH=1", long=True),
    _ring(
        "spsc: two producers, one is interrupted", "-DSPSC -DPUTTERS=2 -DPUT0=1 -DGETTERS=1 -DCAP=1 -DINTR=1", long=True
    ),
    _ring("a batch of two and a put, an interrupt", "-DPUTTERS=2 -DGETTERS=1 -DINTR=1", long=True),
    _ring("a batch of two, two getters of two, a death and an interrupt", "-DCRASH=1 -DINTR=1", long=True),
    _ring(
        "a batch of two, a newcomer, a death and an interrupt", "-DGETTERS=1 -DNEWCOMER=1 -DCRASH=1 -DINTR=1", long=True
    ),
    _ring(
        "all of it: batches on both sides, a newcomer, a death and an interrupt",
        "-DGETTERS=2 -DNEWCOMER=1 -DCRASH=1 -DINTR=1 -DINTERRUPTIBLE=3",
        long=True,
        bits=True,
    ),
    _ring("a batch of two and a put, two getters of two, a death", "-DPUTTERS=2 -DCRASH=1", long=True, bits=True),
    Configuration("lock", "two, twice each, a death", "-DN=2 -DROUNDS=2 -DCRASH=1"),
    Configuration("lock", "two, a death and an interrupt", "-DN=2 -DCRASH=1 -DINTR=1"),
    Configuration("lock", "three, a late release", "-DLATE_RELEASE"),
    Configuration("lock", "three, two die", "-DCRASH=2", long=True),
    Configuration("lock", "three, a death and an interrupt", "-DCRASH=1 -DINTR=1", long=True),
    Configuration("gate", "a batch dies, a batch stops", "-DCRASH=1 -DSTOPPED=1"),
    Configuration("wake", "two and two"),
    Configuration("wake", "three items of one, three getters", "-DPRODUCERS=1 -DITEMS=3 -DGETTERS=3", long=True),
    Configuration("wake", "three producers, a getter of three", "-DPRODUCERS=3 -DGETTERS=1", long=True),
    Configuration("doorbell", "an item, two doorbells, a death", "-DCRASH=1"),
    Configuration("doorbell", "an item, two doorbells, one may leave", "-DLEAVES=1"),
    Configuration("doorbell", "a batch of two, two doorbells", "-DBATCH=2"),
    Configuration("doorbell", "an item, a sleeper and a doorbell, a death", "-DSLEEPERS=1 -DBELLS=1 -DCRASH=1"),
    Configuration("doorbell", "an item, two doorbells, everybody is woken meanwhile", "-DWAKE_ALL=1"),
    Configuration("doorbell", "an item, two doorbells, a death, a successor", "-DCRASH=1 -DSUCCESSORS=1", long=True),
    Configuration("doorbell", "two items, two doorbells", "-DPRODUCERS=2", long=True),
    Configuration("doorbell", "the same, after a death in its sleep", "-DPRODUCERS=2 -DFALLEN=1", long=True),
    Configuration("doorbell", "two items, a sleeper and a doorbell", "-DPRODUCERS=2 -DSLEEPERS=1 -DBELLS=1", long=True),
    Configuration("doorbell", "an item, two doorbells, one may leave, a death", "-DLEAVES=1 -DCRASH=1", long=True),
    Configuration("birth", "a creator, an unlinker, an attacher, a death", "-DCREATORS=1 -DUNLINKERS=1 -DCRASH=1"),
    Configuration("birth", "two creators, an unlinker, an attacher, a death", "-DCRASH=1", long=True),
    Configuration("birth", "the same, two die", "-DCRASH=2", long=True),
    Configuration("birth", "a creator, two unlinkers, two die", "-DCREATORS=1 -DUNLINKERS=2 -DCRASH=2", long=True),
    Configuration("handle", "close, and a fork"),
)

_DEATH: Final = "-DGETTERS=1 -DCRASH=1"
_TWO_PRODUCERS: Final = "-DSPSC -DPUTTERS=2 -DPUT0=1 -DGETTERS=1 -DCAP=1"

PLANTED: Final = (
    _ring("no second read before a put is buried [S4]", f"{_DEATH} -DBUG_NO_SECOND_READ"),
    _ring("bury only the first slot of a batch", f"{_DEATH} -DBUG_BURY_ONE"),
    _ring("end the search for a batch at its first FREE slot", f"{_DEATH} -DPUT0=3 -DCAP=3 -DBUG_END_AT_FREE"),
    _ring("publish from the first slot to the last", f"{_DEATH} -DBUG_PUBLISH_FORWARD"),
    _ring("announce a put after its claim", "-DGETTERS=1 -DBUG_LATE_ANNOUNCE"),
    _ring("announce a get after its claim", "-DBUG_LATE_ANNOUNCE_GET"),
    _ring("withdraw a put before it is published", "-DGETTERS=1 -DBUG_WITHDRAW_FIRST"),
    _ring("withdraw a get before its slots are freed", "-DBUG_WITHDRAW_FIRST_GET"),
    _ring("park with an announcement", f"{_DEATH} -DPUTTERS=2 -DPUT1=2 -DBUG_PARK_STALE"),
    _ring("nobody but getters frees tombs", f"{_DEATH} -DPUTTERS=2 -DPUT0=1 -DCAP=1 -DIDLE -DBUG_ONLY_GETTERS_FREE"),
    _ring("no rule for a slot of the lap before", "-DFILLED=2 -DPUT0=1 -DCRASH=1 -DBUG_NO_EARLIER"),
    _ring("adopt by a store", "-DPUTTERS=0 -DFILLED=1 -DCAP=1 -DGETTERS=3 -DCRASH=1 -DMORTAL=1 -DBUG_ADOPT_STORE"),
    _ring(
        "take the record of a dead get that is not resolved",
        "-DPUTTERS=0 -DFILLED=1 -DGETTERS=2 -DNEWCOMER=1 -DNO_SPARE -DCRASH=1 -DCAP=3 -DBUG_REUSE_UNRESOLVED",
    ),
    _ring("publish after an interrupt", "-DGETTERS=1 -DINTR=1 -DBUG_ABANDON_PUBLISH"),
    _ring("announce under an old mark", "-DGETTERS=1 -DINTR=1 -DBUG_CLEAR_LATE"),
    _ring(
        "withdraw an abandoned get that is not resolved",
        "-DPUTTERS=0 -DFILLED=1 -DGETTERS=2 -DCAP=3 -DINTR=1 -DBUG_ABANDON_EARLY",
    ),
    _ring("spsc: read tail before the role is taken", f"{_TWO_PRODUCERS} -DCRASH=1 -DBUG_TAIL_BEFORE_ROLE"),
    _ring("spsc: a forked child believes that it has the role", f"{_TWO_PRODUCERS} -DBUG_ROLE_CACHED"),
    _ring("spsc: announce after the store", f"{_TWO_PRODUCERS} -DCRASH=1 -DBUG_LATE_ANNOUNCE"),
    _ring("spsc: an abandoned record keeps its name", f"{_TWO_PRODUCERS} -DINTR=1 -DBUG_SAME_NAME"),
    Configuration("lock", "no word for the owner", "-DN=3 -DCRASH=1 -DBUG_NO_OWNER_WORD"),
    Configuration("lock", "no inheritance", "-DN=2 -DCRASH=1 -DBUG_NO_INHERITANCE"),
    Configuration("lock", "an abandoned record keeps its name", "-DN=3 -DINTR=1 -DBUG_SAME_NAME"),
    Configuration("gate", "no gate", "-DBUG_NO_GATE"),
    Configuration("gate", "a gate without a lease", "-DSTOPPED=1 -DBUG_NO_LEASE"),
    Configuration("wake", "no chain of wakes", "-DBUG_NO_CHAIN"),
    Configuration("wake", "arm the hint before the epoch is read", "-DBUG_ARM_FIRST"),
    Configuration("wake", "disarm whatever the hint is by now", "-DBUG_DISARM_STORE"),
    Configuration("wake", "wake before the change", "-DBUG_WAKE_FIRST"),
    Configuration("doorbell", "arm the hint before the bit is set", "-DPRODUCERS=2 -DBELLS=1 -DBUG_ARM_FIRST"),
    Configuration("doorbell", "drain the socket after the look", "-DPRODUCERS=2 -DBELLS=1 -DBUG_DRAIN_LATE"),
    Configuration("doorbell", "no look after the hint is armed", "-DBELLS=1 -DBUG_NO_LOOK"),
    Configuration("doorbell", "ring before the bit is taken", "-DPRODUCERS=2 -DBELLS=1 -DBUG_RING_FIRST"),
    Configuration(
        "doorbell", "read the generation before the bit is taken", "-DPRODUCERS=2 -DFALLEN=1 -DBUG_GENERATION_FIRST"
    ),
    Configuration("doorbell", "count a refused ring", "-DCRASH=1 -DBUG_TRUST_DEAD"),
    Configuration("doorbell", "disarm the hint although a bell is rung", "-DPRODUCERS=2 -DBUG_FORGET_BELLS"),
    Configuration("doorbell", "disarm whatever the hint is by now", "-DPRODUCERS=2 -DBUG_DISARM_STORE"),
    Configuration("doorbell", "do not pass a ring on at the end", "-DLEAVES=1 -DBUG_NO_PASS_ON"),
    Configuration("doorbell", "pass a ring on only if the bit is gone", "-DFALLEN=1 -DLEAVES=1 -DBUG_TRUST_BIT"),
    Configuration("doorbell", "no chain of wakes", "-DPRODUCERS=2 -DSLEEPERS=1 -DBELLS=1 -DBUG_NO_CHAIN"),
    Configuration("birth", "remove a leftover without its flock", "-DBUG_NO_FLOCK"),
    Configuration("birth", "do not look whether the name means the newborn", "-DBUG_NO_MEANS"),
    Configuration("birth", "do not look again whether it is finished", "-DBUG_NO_SECOND_LOOK"),
    Configuration("birth", "make the lock after the magic", "-DBUG_LOCK_LATE"),
    Configuration("birth", "remove the lock before the queue", "-DBUG_LOCK_FIRST"),
    Configuration("birth", "remove whatever lock has the name", "-DBUG_ANY_COMPANION"),
    Configuration("handle", "a child gives its parent's record back to its handle", "-DBUG_NO_LIFE"),
    Configuration("handle", "a child counts its parent's operations", "-DBUG_KEEP_OPERATIONS"),
    Configuration("handle", "a child uses its parent's idle records", "-DBUG_KEEP_IDLE"),
    Configuration("handle", "close does not wait for operations", "-DBUG_CLOSE_AT_ONCE"),
)


def search(configuration: Configuration, compiler: str, *, long: bool = False) -> Outcome:
    """Build and run one configuration.

    Raises:
        ModelError: Spin or the compiler is missing, or the model is wrong.
    """
    began = _spent()
    with tempfile.TemporaryDirectory() as folder:
        name = f"{configuration.model}.pml"
        shutil.copy(MODELS / name, folder)
        _run(["spin", "-a", *configuration.defines.split(), name], folder)
        flags = ["-DSAFETY", "-DVECTORSZ=2048", f"-DMEMLIM={_MEMORY[long]}"]
        flags.append("-DBITSTATE" if configuration.bits else "-DCOLLAPSE")
        # For a short search, to compile takes longer than to run.
        _run([compiler, "-O2" if configuration.long else "-O0", "-w", *flags, "-o", "pan", "pan.c"], folder)
        command = ["./pan", f"-m{_DEPTH}", *(["-w35"] if configuration.bits else [])]
        searching = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
        try:
            report, _ = searching.communicate(timeout=_PATIENCE_WITH_BITS if configuration.bits else _WATCHDOG[long])
        except subprocess.TimeoutExpired:
            searching.send_signal(signal.SIGINT)  # it reports what it saw so far
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
        raise ModelError(f"there is no {command[0]!r} here; {advice}") from None
    if done.returncode != 0:
        raise ModelError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


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


def run(console: Console, compiler: str, *, long: bool = False, plant: bool = False) -> bool:
    """Search all configurations of a form, or those with planted bugs; return whether each was as it should be."""
    asked = PLANTED if plant else CONFIGURATIONS
    ok = True
    for configuration in asked:
        if configuration.long and not long:
            continue
        outcome = search(configuration, compiler, long=long)
        verdict, good = judge(configuration, outcome, plant)
        ok = ok and good
        figures = f"{outcome.states:11,} states  {outcome.seconds:6.1f} s  {outcome.megabytes:6.0f} MB"
        sizes = configuration.defines.replace("-D", "")
        line = f"{figures}  {configuration.model}: {configuration.what} ({sizes}): {verdict}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(f"{_spent():.0f} s of CPU", markup=False, highlight=False)
    return ok


def judge(configuration: Configuration, outcome: Outcome, planted: bool) -> tuple[str, bool]:
    """Say what an outcome means, and whether it is what the configuration is there for."""
    if planted:
        return (f"found: {outcome.error}", True) if outcome.error else ("NOT FOUND", False)
    if outcome.error:
        return f"FAILED: {outcome.error}", False
    if configuration.bits:
        return "nothing found, not complete", outcome.states > 0
    return ("ok", True) if outcome.complete else ("FAILED: not complete", False)
