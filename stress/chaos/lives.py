"""Whole lives of a program that cleans up no queue: after each end nothing is left, and the next start works.

A life ends by an exception, by sys.exit, by Ctrl-C, or by SIGTERM or SIGKILL, of the parent, of the child, or of both,
at a random moment. If SIGKILL has ended the last user, no code of it ran any more; then the queues are there until the
next creation of a queue, which is that of the next life. Where the extension is not installed, which has the janitor,
so it is after SIGTERM, and if Ctrl-C comes while the child starts.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final, Literal, get_args

import click
from rich.console import Console
from rich.table import Table

from shared_multiprocess_queue._engine import choice

from ..harness import options
from ..harness.engines import Engine
from . import life

Kind = Literal["exception", "exit", "interrupt", "terminate", "kill-parent", "kill-child", "kill-both"]
Method = Literal["fork", "spawn", "forkserver"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
METHODS: Final[tuple[Method, ...]] = get_args(Method)

_PROGRAM: Final = life.__file__
_SHM: Final = Path("/dev/shm")
_SIGNALS: Final = {"interrupt": signal.SIGINT, "terminate": signal.SIGTERM, "kill": signal.SIGKILL}
_ROLES: Final = (("parent",), ("child",), ("parent", "child"))
_GRACE: Final = 2.0  # seconds that a child has to end by itself
_LATEST: Final[dict[Method, float]] = {"fork": 0.06, "spawn": 0.6, "forkserver": 0.9}  # seconds; the child is at work


@dataclass
class Result:
    """What came of the lives of one kind and start method.

    Attributes:
        lives: number of them.
        left: lives after which the queues were there until the next creation.
        faults: what went wrong, in words.
    """

    lives: int = 0
    left: int = 0
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class End:
    """How a life ends.

    Attributes:
        how: "exception", "exit", "interrupt", "terminate", "kill", or "" for a life that ends well.
        roles: "parent" and "child", as far as it ends them.
        delay: seconds from the start of the queues, or of the child, to the end.
    """

    how: str
    roles: tuple[str, ...]
    delay: float

    def is_of_the_last_user(self) -> bool:
        """Whether a signal ends the process that is the last to use the queues."""
        return self.how in ("terminate", "kill") and "parent" in self.roles

    def runs_no_code(self) -> bool:
        """Whether it may be that no code of the package runs when the last user ends."""
        if choice.has_native():
            return self.how == "kill" and self.is_of_the_last_user()
        return self.how in _SIGNALS


_WELL: Final = End("exit", ("parent",), 0.0)


def plan(seed: int, kind: Kind, method: Method, number: int) -> End:
    """Return how a life is to end; the same arguments give the same end."""
    how, _, role = kind.partition("-")
    roles = {"parent": _ROLES[0], "child": _ROLES[1], "both": _ROLES[2]}.get(role, _ROLES[number % 3])
    if how == "interrupt":
        roles = _ROLES[2]  # a terminal sends it to all
    return End(how, roles, Random(f"{seed}/{kind}/{method}/{number}").random() * _LATEST[method])


class Life:
    """One run of the program.

    Args:
        method: by which its child starts.
        end: how it ends.
        patience: seconds that each part of it may take.

    Attributes:
        segments: the names of its queues and their locks.
    """

    def __init__(self, method: Method, end: End, patience: float) -> None:
        self._end = end
        self._patience = patience
        own = end.how if end.how not in _SIGNALS else ""
        ends = [own if role in end.roles else "" for role in ("parent", "child")]
        self._program = subprocess.Popen(
            [sys.executable, _PROGRAM, method, *ends, str(end.delay)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._program.stdout is not None
        self._lines = self._program.stdout
        self.segments = [f"{name}-queue{lock}" for name in self._lines.readline().split() for lock in ("", "-lock")]

    def run(self) -> Iterator[str]:
        """Bring the end about, wait until no process is left, and yield what went wrong."""
        if self._end.how in _SIGNALS:
            self._send(_SIGNALS[self._end.how])
        program = self._program
        try:
            program.wait(self._patience)
        except subprocess.TimeoutExpired:
            yield "the parent did not end"
        until = time.monotonic() + _GRACE
        while not self._end.is_of_the_last_user() and any(self._users()) and time.monotonic() < until:
            time.sleep(0.002)
        self._signal_all(signal.SIGTERM)  # a child that the parent has left would wait for ever
        if not self._all_gone():
            yield "a process did not end"
            self._signal_all(signal.SIGKILL)
            self._all_gone()
        _, errors = program.communicate()
        if not self.segments:
            yield f"no queue was made: {errors}"
        elif "shared_multiprocess_queue.errors." in errors:
            yield errors
        elif program.returncode not in self._expected():
            yield f"the parent ended with {program.returncode}: {errors}"

    def left(self) -> list[str]:
        """Return the segments of this life that are there."""
        return [name for name in self.segments if (_SHM / name).exists()]

    def _send(self, number: signal.Signals) -> None:
        if self._end.roles == ("child",):
            pid = int(self._lines.readline() or 0)
            time.sleep(self._end.delay)
            if pid:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
            return
        time.sleep(self._end.delay)
        if "child" in self._end.roles:
            self._signal_all(number)
        else:
            self._program.send_signal(number)

    def _users(self) -> Iterator[int]:
        """Yield the processes, but for the parent, that have a queue of this life mapped or open."""
        for pid in _of_session(self._program.pid):
            with suppress(OSError):
                folder = Path(f"/proc/{pid}")
                held = [(folder / "maps").read_text(), *map(os.readlink, (folder / "fd").iterdir())]
                if pid != self._program.pid and any(name in text for text in held for name in self.segments):
                    yield pid

    def _expected(self) -> tuple[int, ...]:
        if "parent" not in self._end.roles:
            return (0,)
        if self._end.how in _SIGNALS:
            return (-_SIGNALS[self._end.how],)
        return (1,) if self._end.how == "exception" else (3,)

    def _signal_all(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._program.pid, number)

    def _all_gone(self) -> bool:
        """Wait until no process of the program is left but the parent, which this process reaps."""
        until = time.monotonic() + self._patience
        while any(pid != self._program.pid for pid in _of_session(self._program.pid)):
            if time.monotonic() > until:
                return False
            time.sleep(0.002)
        return True


def _of_session(leader: int) -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_bytes().rpartition(b")")[2].split()
            if int(fields[3]) == leader and fields[0] not in (b"Z", b"X"):
                yield int(path.parent.name)


def run_lives(seed: int, kind: Kind, method: Method, numbers: Sequence[int], patience: float) -> Result:
    """Run lives one after the other; each looks whether the one before has left anything."""
    result = Result()
    before: Life | None = None
    for number, end in itertools.chain(((n, plan(seed, kind, method, n)) for n in numbers), [(-1, _WELL)]):
        current = Life(method, end, patience)
        if before is not None and before.left():
            result.faults.append(f"the next life has made its queues, and of the one before are left: {before.left()}")
        faults = list(current.run())
        if current.left():
            result.left += 1
            if not end.runs_no_code():
                faults.append(f"left: {current.left()}")
        result.faults += [f"{kind} under {method}, life {number}, {end}: {fault}" for fault in faults]
        result.lives += number >= 0
        before = current
    if before is not None and before.left():
        result.faults.append(f"after a life that ended well are left: {before.left()}")
    return result


def run(seed: int, runs: int, kinds: Sequence[Kind], jobs: int, patience: float, console: Console) -> bool:
    """Run all lives, print the table, and return whether nothing went wrong."""
    table = Table("", *METHODS, caption="lives, and those after which the queues were there until the next creation")
    faults: list[str] = []
    with ThreadPoolExecutor(jobs) as pool:
        for kind in kinds:
            cells = []
            for method in METHODS:
                slices = [range(job, runs, jobs) for job in range(jobs)]
                waiting = [pool.submit(run_lives, seed, kind, method, numbers, patience) for numbers in slices]
                results = [each.result() for each in waiting]
                faults += [fault for each in results for fault in each.faults]
                cells.append(f"{sum(each.lives for each in results):,} / {sum(each.left for each in results):,}")
            table.add_row(kind, *cells)
    console.print(table)
    for fault in faults:
        console.print(f"FAULT {fault}", markup=False, highlight=False)
    console.print("nothing was left, and each next start worked" if not faults else f"{len(faults)} faults")
    return not faults


@click.command()
@click.option("--runs", type=click.IntRange(1), default=20, show_default=True, help="Lives of each kind and method.")
@click.option("--kinds", default=",".join(KINDS), show_default=True, help="Of ends.")
@click.option("--jobs", type=click.IntRange(1), default=os.cpu_count(), show_default=True, help="Lives at a time.")
@click.option("--engine", type=options.ONE_ENGINE, help="Of all handles; the best that is installed if not given.")
@options.seed
@options.patience
def command(runs: int, kinds: str, jobs: int, engine: Engine | None, seed: int | None, patience: float) -> None:
    """End programs in every way at random moments, and see that their queues go and the next start works."""
    chosen = options.parse_kinds(kinds, KINDS)
    console = Console()
    seed = options.tell_seed(seed, console)
    with options.engine_needed():
        choice.choose(engine)
    if engine is not None:
        os.environ[choice.ENVIRONMENT] = engine
    sys.exit(not run(seed, runs, chosen, jobs, patience, console))
