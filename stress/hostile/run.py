"""All calls of a queue with a damaged segment: they may raise only errors of this package.

A case builds a queue in some state (see ``damage``), damages its segment, and then calls everything, with both engines.
Each case runs in a process of its own, in which segments lie between pages that cannot be accessed, and each call has a
watchdog. These must not happen: an exception that is not this package's, Empty or Full; a signal; a call that does not
end; memory that grows; a name that stays after ``unlink``. A case that shows one of these is made smaller and printed.
"""

from __future__ import annotations

import itertools
import math
import mmap
import os
import signal
import tempfile
import time
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from rich.console import Console

from ..harness import processes
from ..harness.engines import ENGINE, Engine
from .actor import CALLS, DUMP, MARK, SHM, SHORT, act
from .damage import Case, make_case

_CALL_LIMIT: Final = 10.0  # seconds, after which a call hangs; those of a case wait for less than one
_LOOK_LIMIT: Final = 0.1  # seconds between two looks that count; a machine that stands still longer hangs no call
_AT_ONCE: Final = 4  # cases in parallel, because they mostly wait
_SHRINKING: Final = 60.0  # seconds, after which no smaller case is looked for


@dataclass(frozen=True)
class Plan:
    """What to run.

    Attributes:
        seconds: how long.
        engine: of all handles; None for both, side by side.
        seed: of all choices.
        only: number of the only case to run, for example one that has failed.
    """

    seconds: float
    engine: Engine | None
    seed: int
    only: int | None = None


@dataclass(frozen=True)
class Finding:
    """What a case has shown.

    Attributes:
        what: a line, which is the same for findings with the same cause.
        output: all output of its process.
    """

    what: str
    output: str


class Trial:
    """A case that runs in a process of its own.

    Args:
        case: what to run.
        number: of the case.
        seed: of the state.
    """

    def __init__(self, case: Case, number: int, seed: str) -> None:
        self.case, self.number, self.seed = case, number, seed
        self.finding: Finding | None = None
        self._run_id = processes.new_prefix()
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        self._calls = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")  # how many were begun
        self._seen, self._looked, self._waited = 0, time.monotonic(), 0.0
        self._pid = os.fork()
        if self._pid == 0:
            act(case, self._run_id, seed, self._calls, self._output)

    def has_ended(self) -> bool:
        """Whether it is over; ``finding`` says then what was wrong."""
        now = time.monotonic()
        self._looked, passed = now, now - self._looked
        self._waited += min(passed, _LOOK_LIMIT)
        if self._calls[0] != self._seen:
            self._seen, self._waited = self._calls[0], 0.0
        if self._waited > _CALL_LIMIT:
            os.kill(self._pid, DUMP)
            time.sleep(SHORT)
            os.write(self._output.fileno(), f"\n{MARK}a call does not end\n".encode())
            os.kill(self._pid, signal.SIGKILL)
            self._waited = -math.inf
        ended, status = os.waitpid(self._pid, os.WNOHANG)
        if not ended:
            return False
        with self._output as output:
            output.seek(0)
            said = output.read().decode(errors="replace")
        _clear(self._run_id)
        code = os.waitstatus_to_exitcode(status)
        self.finding = Finding(_name(code, said), said) if code else None
        return True

    def wait(self) -> Finding | None:
        while not self.has_ended():
            time.sleep(processes.POLL)
        return self.finding


def _clear(prefix: str) -> None:
    for name in processes.left_behind(prefix):
        (SHM / name).unlink()


def _name(code: int, said: str) -> str:
    for line in said.splitlines():
        if line.startswith(MARK):
            return line.removeprefix(MARK)
        if "runtime error:" in line or "ERROR: AddressSanitizer" in line:
            return line.partition("==ERROR: ")[2].partition(" on ")[0] or line
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def shrink(case: Case, seed: str, finding: Finding) -> tuple[Case, Finding]:
    """Leave out the parts of a case that are not needed for the same finding."""
    until = time.monotonic() + _SHRINKING
    simpler = True
    while simpler and time.monotonic() < until:
        simpler = False
        for smaller in _smaller(case):
            shown = Trial(smaller, 0, seed).wait()
            if shown is not None and shown.what == finding.what:
                case, finding, simpler = smaller, shown, True
                break
    return case, finding


def _smaller(case: Case) -> list[Case]:
    found = [replace(case, hits=case.hits[:i] + case.hits[i + 1 :]) for i in range(len(case.hits))]
    found += [replace(case, program=case.program[:i] + case.program[i + 1 :]) for i in range(len(case.program))]
    found += [replace(case, lock=None)] if case.lock is not None else []
    found += [replace(case, size=0)] if case.size else []
    found += [replace(case, storm=False)] if case.storm else []
    return found


def run(plan: Plan, console: Console) -> bool:
    """Run cases until the time is over; return whether nothing was found."""
    engines = (plan.engine,) if plan.engine else ENGINE
    until = time.monotonic() + plan.seconds
    numbers = (
        iter((plan.only,))
        if plan.only is not None
        else itertools.takewhile(lambda _: time.monotonic() < until, itertools.count())
    )
    seen: set[str] = set()
    count = 0
    running: list[Trial] = []
    try:
        while True:
            for number in itertools.islice(numbers, _AT_ONCE - len(running)):
                seed = f"{plan.seed}/{number}"
                running.append(Trial(make_case(Random(seed), engines, tuple(CALLS)), number, seed))
            if not running:
                break
            time.sleep(processes.POLL)
            ended = [trial for trial in running if trial.has_ended()]
            running = [trial for trial in running if trial not in ended]
            count += len(ended)
            for trial in ended:
                if trial.finding is not None and trial.finding.what not in seen:
                    seen.add(trial.finding.what)
                    console.print(
                        f"case {trial.number}: {trial.finding.what}; made smaller:", markup=False, highlight=False
                    )
                    _print(plan.seed, trial.number, *shrink(trial.case, trial.seed, trial.finding), console)
    finally:
        _end_all()
    console.print(f"{count} cases, {len(seen)} findings", markup=False, highlight=False)
    return not seen


def _end_all() -> None:
    """End the cases that an interrupt has left running; a second one does not cut this short."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    for pid in processes.children():
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    _clear(f"stress-{os.getpid()}")


def _print(seed: int, number: int, case: Case, finding: Finding, console: Console) -> None:
    lines = [
        f"case {number}: {finding.what}",
        f"  engines {', '.join(case.engines)}; mode {case.mode}; capacity {case.capacity}; item_size {case.item_size}; "
        f"max_item_size {case.max_item_size}; leases {case.leases}; max_deliveries {case.max_deliveries}",
        f"  state {case.state}; size {case.size:+}; lock {case.lock}; storm {case.storm}",
        f"  damage: {'; '.join(map(str, case.hits)) or 'none'}",
        f"  calls: {', '.join(f'{name} ({number})' for name, number in case.program)}",
        f"  again: python -m stress hostile --seed {seed} --case {number}",
        *("  | " + line for line in finding.output.splitlines()[-30:]),
    ]
    console.print("\n".join(lines), markup=False, highlight=False)
