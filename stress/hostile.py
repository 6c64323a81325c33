"""Damaged segments, and everything that one can do with a queue: only its own errors may come of it.

A case builds a queue in some state (see ``damage``), damages its segment, and then calls everything, with both engines.
Each runs in a process of its own, in which segments lie between pages that nobody may touch, and each call has a
watchdog. What must not happen: an exception that is not this package's, Empty or Full; a signal; a call that does not
end; memory that grows; a name that stays after ``unlink``. A case that shows one of these is made smaller and printed.
"""

from __future__ import annotations

import faulthandler
import itertools
import math
import mmap
import os
import pickle
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, Full
from random import Random
from typing import IO, Any, Final, cast, get_args

from rich.console import Console

from shared_multiprocess_queue import SharedMemoryQueue, SharedMemoryQueueError
from shared_multiprocess_queue._engine.definition_log import Definitions

from . import crew, extension, fence
from .damage import STATES, Case, Engine, Stage, make_case

_ALLOWED: Final = (SharedMemoryQueueError, Empty, Full)
_CALL_LIMIT: Final = 10.0  # seconds, after which a call hangs; those of this module wait for less than one
_AT_ONCE: Final = 4  # cases; they wait more than they work
_SHRINKING: Final = 60.0  # seconds, after which no smaller case is looked for
_SHORT: Final = 0.01  # seconds; a timeout
_GROWTH: Final = 256 << 10  # KiB that a case may make its process grow
_FOUND: Final = 3  # exit code
_DUMP: Final = signal.SIGUSR1  # makes a process write its stacks
_MARK: Final = "FOUND "
_SHM: Final = Path("/dev/shm")


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


# ---- calls ------------------------------------------------------------------------------------------------------


def _definitions(queue: SharedMemoryQueue) -> None:
    log = Definitions(queue._membership.segment, queue._geometry.definitions, queue._membership)
    log.find(b"k" * 16)
    log.add(b"k" * 16, b"definition")


def _fork(queue: SharedMemoryQueue) -> None:
    pid = os.fork()
    if pid == 0:
        crew.die_with(os.getppid())
        with suppress(*_ALLOWED):
            queue.put_nowait(1)
        with suppress(*_ALLOWED):
            queue.get_nowait()
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if status:
        raise RuntimeError(f"a forked child ended with status {status}")


def _attach_by_pickle(queue: SharedMemoryQueue) -> None:
    pickle.loads(pickle.dumps(queue)).close()


def _create_again(queue: SharedMemoryQueue) -> None:
    with SharedMemoryQueue(queue.name, create=True, capacity=1, run_id=queue.run_id) as another:
        another.unlink()


CALLS: Final[dict[str, Callable[[SharedMemoryQueue], Any]]] = {
    "put": lambda q: q.put(7, timeout=_SHORT),
    "put bytes": lambda q: q.put(b"y" * q.item_size, timeout=_SHORT),
    "put object": lambda q: q.put((1, "two"), timeout=_SHORT),
    "put_nowait": lambda q: q.put_nowait(None),
    "put_batch": lambda q: q.put_batch([1, b"2"][: q.capacity], timeout=_SHORT),
    "put_batch full": lambda q: q.put_batch([b"z"] * q.capacity, block=False),
    "get": lambda q: q.get(timeout=_SHORT),
    "get_nowait": lambda q: q.get_nowait(),
    "get_batch": lambda q: q.get_batch(5, timeout=_SHORT),
    "get_batch 1": lambda q: q.get_batch(1, block=False),
    "qsize": lambda q: q.qsize(),
    "empty": lambda q: q.empty(),
    "full": lambda q: q.full(),
    "get_metrics": lambda q: q.get_metrics(),
    "repr": repr,
    "readable": lambda q: q.readable,
    "writable": lambda q: q.writable,
    "definitions": _definitions,
    "fork": _fork,
    "attach by pickle": _attach_by_pickle,
    "create again": _create_again,
    "retire": lambda q: q._membership.retire(),
    "close": lambda q: q.close(),
    "unlink": lambda q: q.unlink(),
}


# ---- in the process of a case -----------------------------------------------------------------------------------


def _found(what: str) -> None:
    """Report, and end the process."""
    print(f"{_MARK}{what}", file=sys.stderr)
    traceback.print_exc()
    sys.stderr.flush()
    os._exit(_FOUND)


class _Actor:
    """Runs one case in this process."""

    def __init__(self, case: Case, run_id: str, rng: Random, calls: memoryview) -> None:
        self._case = case
        self._calls = calls
        self._run_id = run_id
        self._rng = rng
        self._path = _SHM / f"{run_id}-q-queue"
        self._handles: list[SharedMemoryQueue | None] = [None, None]

    def run(self) -> None:
        case = self._case
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        first = SharedMemoryQueue(
            "q", create=True, capacity=case.capacity, item_size=case.item_size, mode=case.mode,
            run_id=self._run_id, engine=case.engines[0],
        )  # fmt: skip
        STATES[case.state](Stage(first), self._rng)
        self._handles[0] = first
        storm = self._damage(first)
        self._attach(1)
        for name, number in case.program:
            if self._handles[number] is None:
                self._attach(number)
            queue = self._handles[number]
            if queue is not None:
                self._attempt(name, lambda name=name, queue=queue: CALLS[name](queue))  # type: ignore[misc]
                if name == "close":
                    self._handles[number] = None
        if storm:
            os.kill(storm, signal.SIGKILL)
            os.waitpid(storm, 0)
        self._end(first)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        if grown > _GROWTH:
            _found(f"the process grew by {grown >> 10} MiB")

    def _attempt(self, name: str, call: Callable[[], Any]) -> Any:
        """Call something; it may raise what is allowed."""
        self._calls[0] += 1
        try:
            return call()
        except _ALLOWED:
            return None
        except BaseException as error:
            _found(f"{type(error).__name__} from {name}")

    def _damage(self, first: SharedMemoryQueue) -> int:
        """Do the damage; return the pid of the process that goes on with it, or 0."""
        case = self._case
        if case.size < 0:  # to touch what is cut off would be a SIGBUS
            self._attempt("close", first.close)
            self._handles[0] = None
        storm = 0
        with self._path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapping, memoryview(mapping) as memory:
            for hit in case.hits:
                hit.strike(memory)
            if case.storm and case.size >= 0:
                storm = os.fork()
                if storm == 0:
                    crew.die_with(os.getppid())
                    _storm(case, memory)
        if case.lock is not None:
            with Path(f"{self._path}-lock").open("r+b") as file:
                file.write(case.lock.to_bytes(4, sys.byteorder, signed=True))
        if case.size:
            os.truncate(self._path, max(self._path.stat().st_size + case.size, 0))
        return storm

    def _attach(self, number: int) -> None:
        engine = self._case.engines[number]
        self._handles[number] = cast(
            "SharedMemoryQueue | None",
            self._attempt("attach", lambda: SharedMemoryQueue("q", run_id=self._run_id, engine=engine)),
        )

    def _end(self, first: SharedMemoryQueue) -> None:
        self._attempt("unlink", first.unlink)
        for queue in self._handles:
            if queue is not None:
                self._attempt("close", queue.close)
        if self._path.exists():
            _found("the name is still there after unlink")


def _storm(case: Case, memory: memoryview) -> None:
    """Go on with the damage, and with undoing it, until killed."""
    struck = [hit for hit in case.hits if hit.at + hit.width <= len(memory)]
    before = [bytes(memory[hit.at : hit.at + hit.width]) for hit in struck]
    while True:
        for hit, old in zip(struck, before, strict=True):
            hit.strike(memory)
            memory[hit.at : hit.at + hit.width] = old
        time.sleep(0)


def _act(case: Case, run_id: str, seed: str, calls: memoryview, output: IO[bytes]) -> None:
    """Be the process of a case, to its end."""
    crew.die_with(os.getppid())
    os.dup2(output.fileno(), 2)
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    faulthandler.enable()
    faulthandler.register(_DUMP, all_threads=True, chain=False)
    sys.unraisablehook = lambda raised: _found(f"{raised.exc_type.__name__} ignored in {raised.object!r}")
    fence.set_up()
    try:
        _Actor(case, run_id, Random(seed), calls).run()
    except BaseException as error:
        _found(f"{type(error).__name__} outside of any call")
    os._exit(0)


# ---- the run ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """What a case has shown.

    Attributes:
        what: in a line, the same for what has the same cause.
        output: all that its process said.
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
        self._run_id = crew.new_prefix()
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        self._calls = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")  # how many were begun
        self._seen, self._since = 0, time.monotonic()
        self._pid = os.fork()
        if self._pid == 0:
            _act(case, self._run_id, seed, self._calls, self._output)

    def has_ended(self) -> bool:
        """Whether it is over; ``finding`` says then what was wrong."""
        if self._calls[0] != self._seen:
            self._seen, self._since = self._calls[0], time.monotonic()
        if time.monotonic() > self._since + _CALL_LIMIT:
            os.kill(self._pid, _DUMP)
            time.sleep(_SHORT)
            os.write(self._output.fileno(), f"\n{_MARK}a call does not end\n".encode())
            os.kill(self._pid, signal.SIGKILL)
            self._since = math.inf
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
            time.sleep(crew.POLL)
        return self.finding


def _clear(prefix: str) -> None:
    for name in crew.left_behind(prefix):
        (_SHM / name).unlink()


def _name(code: int, said: str) -> str:
    for line in said.splitlines():
        if line.startswith(_MARK):
            return line.removeprefix(_MARK)
        if "runtime error:" in line or "ERROR: AddressSanitizer" in line:
            return line.partition("==ERROR: ")[2].partition(" on ")[0] or line
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def shrink(case: Case, seed: str, finding: Finding) -> tuple[Case, Finding]:
    """Leave out of a case what is not needed to show the same."""
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
    engines = (plan.engine,) if plan.engine else get_args(Engine)
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
            time.sleep(crew.POLL)
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
    for pid in crew.children():
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    _clear(f"stress-{os.getpid()}")


def run_sanitized(plan: Plan, compiler: str) -> bool:
    """Do the same with an extension that is built with sanitizers.

    Raises:
        SanitizeError: it cannot be built here.
    """
    arguments = [f"--seconds={plan.seconds}", f"--seed={plan.seed}"]
    arguments += [f"--engine={plan.engine}"] if plan.engine else []
    arguments += [f"--case={plan.only}"] if plan.only is not None else []
    with extension.built(compiler) as (copy, environment):
        command = [sys.executable, "-m", "stress", "hostile", "--plain", *arguments]
        process = subprocess.Popen(command, cwd=copy, env=environment)
        try:
            return process.wait() == 0
        finally:
            process.terminate()  # and not killed: it removes what its cases have
            process.wait()


def _print(seed: int, number: int, case: Case, finding: Finding, console: Console) -> None:
    lines = [
        f"case {number}: {finding.what}",
        f"  engines {', '.join(case.engines)}; mode {case.mode}; capacity {case.capacity}; item_size {case.item_size}",
        f"  state {case.state}; size {case.size:+}; lock {case.lock}; storm {case.storm}",
        f"  damage: {'; '.join(map(str, case.hits)) or 'none'}",
        f"  calls: {', '.join(f'{name} ({number})' for name, number in case.program)}",
        f"  again: python -m stress hostile --seed {seed} --case {number}",
        *("  | " + line for line in finding.output.splitlines()[-30:]),
    ]
    console.print("\n".join(lines), markup=False, highlight=False)
