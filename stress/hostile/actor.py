"""The process of a case: it makes a queue in some state, damages its segment, and calls everything, with both engines.

Each call may raise this package's own errors, Empty or Full; anything else is a finding, which ends the process.
"""

from __future__ import annotations

import faulthandler
import mmap
import os
import pickle
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, Full
from random import Random
from typing import IO, Any, Final, cast

from shared_multiprocess_queue import DeadLetter, Lease, SharedMemoryQueue, SharedMemoryQueueError, ShutDown
from shared_multiprocess_queue._engine.definition_log import Definitions

from ..harness import guard_pages, processes
from .damage import Case
from .staging import LARGE_STATES, LEASED_STATES, STATES, Stage

SHORT: Final = 0.01
"""Seconds; a timeout."""

DUMP: Final = signal.SIGUSR1
"""Makes the process write its stacks."""

MARK: Final = "FOUND "
"""Begins the line that says what was found."""

SHM: Final = Path("/dev/shm")

_ALLOWED: Final = (SharedMemoryQueueError, Empty, Full, ShutDown)
_GROWTH: Final = 256 << 10  # KiB that a case may make its process grow
_FOUND: Final = 3  # exit code
_STUCK: Final = 8  # seconds, after which a forked child writes its stacks; less than the limit of a call


# ---- calls ------------------------------------------------------------------------------------------------------


def _definitions(queue: SharedMemoryQueue) -> None:
    log = Definitions(queue._membership.segment, queue._geometry.definitions, queue._membership)
    log.find(b"k" * 16)
    log.add(b"k" * 16, b"definition")


def _fork(queue: SharedMemoryQueue) -> None:
    pid = os.fork()
    if pid == 0:
        processes.die_with(os.getppid())
        faulthandler.register(signal.SIGALRM)
        signal.alarm(_STUCK)  # the signal for the stacks goes to the parent, which only waits
        with suppress(*_ALLOWED):
            queue.put_nowait(1)
        with suppress(*_ALLOWED):
            queue.get_nowait()
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if status:
        raise RuntimeError(f"a forked child ended with status {status}")


def _lease(queue: SharedMemoryQueue) -> None:
    with queue.lease(timeout=SHORT) as lease:
        repr((lease, lease.raw, lease.deliveries, lease.item))


def _lease_batch(queue: SharedMemoryQueue) -> None:
    for lease in queue.lease_batch(3, timeout=SHORT):
        lease.done()


def _give_back(queue: SharedMemoryQueue) -> None:
    for choices in ({}, {"last": True}, {"delay": SHORT / 2}):
        queue.lease(block=False).release(**choices)


def _get_and_end(queue: SharedMemoryQueue) -> None:
    queue.get(timeout=SHORT)
    queue.task_done()


_kept: Final[list[Lease]] = []
"""Open leases, which later calls end."""


def _end_kept(_: SharedMemoryQueue) -> None:
    while _kept:
        _kept.pop().done()


def _look_at_letters(queue: SharedMemoryQueue) -> None:
    for letter in queue.dead_letters():
        with suppress(*_ALLOWED):
            repr((letter, letter.raw, letter.deliveries, letter.item))


def _move_letters(queue: SharedMemoryQueue, end: Callable[[DeadLetter], None]) -> None:
    for letter in queue.dead_letters():
        end(letter)


def _attach_by_pickle(queue: SharedMemoryQueue) -> None:
    pickle.loads(pickle.dumps(queue)).close()


def _create_again(queue: SharedMemoryQueue) -> None:
    with SharedMemoryQueue(queue.name, create=True, capacity=1, run_id=queue.run_id) as another:
        another.unlink()


def _reserve(queue: SharedMemoryQueue) -> None:
    with queue.reserve(queue.item_size, timeout=SHORT) as memory:
        memory[:] = b"r" * len(memory)


def _view(queue: SharedMemoryQueue) -> None:
    with queue.view(timeout=SHORT) as memory:
        bytes(memory)


CALLS: Final[dict[str, Callable[[SharedMemoryQueue], Any]]] = {
    "put": lambda q: q.put(7, timeout=SHORT),
    "put bytes": lambda q: q.put(b"y" * q.item_size, timeout=SHORT),
    "put large": lambda q: q.put(b"l" * q.max_item_size, timeout=SHORT),
    "put object": lambda q: q.put((1, "two"), timeout=SHORT),
    "put_nowait": lambda q: q.put_nowait(None),
    "put_batch": lambda q: q.put_batch([1, b"2"][: q.capacity], timeout=SHORT),
    "put_batch full": lambda q: q.put_batch([b"z"] * q.capacity, block=False),
    "get": lambda q: q.get(timeout=SHORT),
    "get_nowait": lambda q: q.get_nowait(),
    "get_batch": lambda q: q.get_batch(5, timeout=SHORT),
    "get_batch 1": lambda q: q.get_batch(1, block=False),
    "reserve": _reserve,
    "view": _view,
    "get_into": lambda q: q.get_into(bytearray(100), timeout=SHORT),
    "get_into large": lambda q: q.get_into(bytearray(q.max_item_size), timeout=SHORT),
    "lease": _lease,
    "lease_batch": _lease_batch,
    "lease and give back": _give_back,
    "lease and keep": lambda q: _kept.append(q.lease(block=False)),
    "end what was kept": _end_kept,
    "get and task_done": _get_and_end,
    "look at letters": _look_at_letters,
    "end letters": lambda q: _move_letters(q, DeadLetter.done),
    "put letters back": lambda q: _move_letters(q, DeadLetter.put_back),
    "join": lambda q: q.join(SHORT),
    "qsize": lambda q: q.qsize(),
    "empty": lambda q: q.empty(),
    "full": lambda q: q.full(),
    "get_metrics": lambda q: q.get_metrics(),
    "is_shutdown": lambda q: q.is_shutdown,
    "repr": repr,
    "readable": lambda q: q.readable,
    "writable": lambda q: q.writable,
    "definitions": _definitions,
    "fork": _fork,
    "attach by pickle": _attach_by_pickle,
    "create again": _create_again,
    "shutdown": lambda q: q.shutdown(),
    "shutdown at once": lambda q: q.shutdown(immediate=True),
    "retire": lambda q: q._membership.retire(),
    "close": lambda q: q.close(),
    "unlink": lambda q: q.unlink(),
}


# ---- in the process of a case -----------------------------------------------------------------------------------


def _found(what: str) -> None:
    """Report, and end the process."""
    print(f"{MARK}{what}", file=sys.stderr)
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
        self._path = SHM / f"{run_id}-q-queue"
        self._handles: list[SharedMemoryQueue | None] = [None, None]

    def run(self) -> None:
        case = self._case
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        first = SharedMemoryQueue(
            "q", create=True, capacity=case.capacity, item_size=case.item_size, mode=case.mode,
            leases=case.leases, max_deliveries=case.max_deliveries, max_item_size=case.max_item_size,
            run_id=self._run_id, engine=case.engines[0],
        )  # fmt: skip
        {**STATES, **LEASED_STATES, **LARGE_STATES}[case.state](Stage(first), self._rng)
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
        except ResourceWarning as warning:  # a damaged ring may have no room for an item that is kept back
            if name != "close":
                _found(f"{warning} from {name}")
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
                    processes.die_with(os.getppid())
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


def act(case: Case, run_id: str, seed: str, calls: memoryview, output: IO[bytes]) -> None:
    """Be the process of a case, to its end."""
    processes.die_with(os.getppid())
    os.dup2(output.fileno(), 2)
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    faulthandler.enable()
    faulthandler.register(DUMP, all_threads=True, chain=False)
    sys.unraisablehook = lambda raised: _found(f"{raised.exc_type.__name__} ignored in {raised.object!r}")
    guard_pages.set_up()
    try:
        _Actor(case, run_id, Random(seed), calls).run()
    except BaseException as error:
        _found(f"{type(error).__name__} outside of any call")
    os._exit(0)
