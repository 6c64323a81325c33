"""Starting, watching and killing processes, and checking that nothing is left of a run."""

from __future__ import annotations

import ctypes
import faulthandler
import itertools
import multiprocessing
import os
import pprint
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final

from shared_multiprocess_queue import SharedMemoryQueue

from .logs import Log

POLL: Final = 0.0005  # seconds between two looks of the parent
_PR_SET_PDEATHSIG: Final = 1
_SHM: Final = Path("/dev/shm")
_DUMP: Final = signal.SIGUSR1  # makes a worker write its stacks

Loop = Callable[..., None]
"""The function that a worker runs."""

# Fork, so that workers inherit the logs, which have no name, and a handle of the queue.
_context = multiprocessing.get_context("fork")
_runs = itertools.count()


def new_prefix() -> str:
    """Return a new run_id; the names of all that a run leaves in shared memory begin with it."""
    return f"stress-{os.getpid()}-{next(_runs)}"


def left_behind(prefix: str) -> list[str]:
    """Return the names of segments that begin with a prefix."""
    return sorted(path.name for path in _SHM.glob(f"{prefix}-*")) if _SHM.is_dir() else []


def children() -> list[int]:
    """Return the pids of this process's children, zombies included."""
    me = os.getpid()
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(path.read_bytes().rpartition(b")")[2].split()[1]) == me:
                found.append(int(path.parent.name))
    return found


@dataclass(eq=False)
class Party:
    """A process that puts or gets, or a thread of one.

    Attributes:
        name: for messages.
        log: what it writes down.
        killed: whether it was killed on purpose.
    """

    name: str
    log: Log
    killed: bool = field(default=False, kw_only=True)


@dataclass(eq=False)
class Worker(Party):
    """A process of a run.

    Attributes:
        process: the process.
    """

    process: BaseProcess

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.is_alive()


class Processes:
    """The processes of one run; all of them have ended when the ``with`` block is left."""

    def __init__(self) -> None:
        self.workers: list[Worker] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *exception: object) -> None:
        self.end()

    def start(self, name: str, log: Log, loop: Loop, *arguments: Any) -> Worker:
        """Start a process that runs ``loop(*arguments)``."""
        process = _context.Process(target=_main, args=(loop, arguments), name=name, daemon=True)
        sys.stdout.flush()
        sys.stderr.flush()
        process.start()
        worker = Worker(name, log, process)
        self.workers.append(worker)
        return worker

    def kill(self, workers: Iterable[Worker]) -> None:
        """Kill -9 workers, all at once, and wait until they are dead."""
        victims = list(workers)
        for worker in victims:
            worker.killed = True
            worker.process.kill()
        for worker in victims:
            worker.process.join()

    def failures(self) -> list[str]:
        """Return what went wrong with workers that ended by themselves."""
        return [
            f"{worker.name} ended with exit code {worker.process.exitcode}"
            for worker in self.workers
            if worker.process.exitcode not in (None, 0, -signal.SIGKILL if worker.killed else 0)
        ]

    def dump(self, queue: SharedMemoryQueue) -> None:
        """Write to stderr what each worker waits for: the queue's metrics, what each worker does, and its stacks."""
        _say("the queue's metrics:\n" + pprint.pformat(queue.get_metrics(), width=110))
        for worker in self.workers:
            if worker.running and worker.process.pid is not None:
                _say(f"{worker.name} (pid {worker.process.pid}): {worker.log.calls} calls done; {worker.log.doing}")
                os.kill(worker.process.pid, _DUMP)
                time.sleep(0.2)  # so that the stacks come below their name

    def end(self) -> None:
        """Kill the workers that still run, and collect all."""
        self.kill([worker for worker in self.workers if worker.running])
        for worker in self.workers:
            worker.process.join()


class Watchdog:
    """Tells when nothing has happened for too long.

    Args:
        patience: seconds.
        logs: of the workers, of which at least one has to make progress.
    """

    def __init__(self, patience: float, logs: Iterable[Log]) -> None:
        self._patience = patience
        self._logs = list(logs)
        self._seen = -1
        self._since = 0.0

    def barks(self) -> bool:
        """Whether no call has done its work for ``patience`` seconds."""
        calls = sum(log.calls + log.started + log.ended for log in self._logs)
        if calls != self._seen:
            self._seen, self._since = calls, time.monotonic()
        return time.monotonic() - self._since > self._patience


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _main(loop: Loop, arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the run
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _die_with_parent()
    faulthandler.register(_DUMP, all_threads=True, chain=False)
    try:
        loop(*arguments)
    except BaseException:
        traceback.print_exc()
        raise SystemExit(1) from None


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        die_with(parent.pid or 0)


def die_with(parent: int) -> None:
    """Ask Linux to kill this process if its parent ends before it, for example by kill -9."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != parent:  # it had ended before that
            os.kill(os.getpid(), signal.SIGKILL)
