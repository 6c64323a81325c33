"""The work of ``shmq demo``: worker processes count the tokens of Python source files, and some are killed at work.

    main  --(index, path)-->  tasks, leased  -->  workers  --counts-->  results  -->  main

A worker leases a file, sends its counts, and ends the lease after that. If it dies in between, another worker gets the
file; so a result may come twice, and the main process adds the first one only. The main process kills workers at random
moments, always one that has a file in hand, and starts another in its place.

Both queues are bounded and small. The main process puts tasks only while there is room, and empties the queue of
results in the same loop. So full queues slow the workers down, but never cause a deadlock. If the main process dies,
its workers remove the queues and end.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import multiprocessing.resource_tracker
import os
import random
import secrets
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.context import SpawnProcess
from multiprocessing.process import parent_process
from types import TracebackType
from typing import Final, Self

from ..errors import Empty, Full, ItemTooLargeError, ShutDown
from ..queue import SharedMemoryQueue
from .demo_counting import FileCount, Totals, count_file

MOST_WORKERS: Final = 256

# A task has a path: at most 4,096 bytes on Linux, and up to three times as many once encoded if it is not text.
TASK_SIZE: Final = 16 * 1024
TASKS: Final = 32
# A result has all names of a file with their counts. The largest file of the standard library needs 35 KB. If a result
# is larger than this, the main process counts the file itself.
RESULT_SIZE: Final = 128 * 1024
RESULTS: Final = 32

_POLL: Final = 0.2  # seconds between checks for signals and dead workers, which no queue reports
_PATIENCE: Final = 5.0  # seconds that a worker gets to end
_MOST_DEATHS: Final = 8  # of workers that this process has not killed


class WorkersDiedError(Exception):
    """Workers die again and again, and not by this process."""


# ---- messages --------------------------------------------------------------------------------------------------------

Task = tuple[int, str]  # index of the file, which is the position of its task in the queue, and its path


@dataclass(frozen=True, slots=True)
class _Counted:
    """A worker has counted a file; ``count`` is None if the result is too large for a slot."""

    worker: int
    index: int
    count: FileCount | None


# ---- a worker --------------------------------------------------------------------------------------------------------


def _work(worker: int, tasks: SharedMemoryQueue[Task], results: SharedMemoryQueue[_Counted]) -> None:
    """Run a worker process: count files until there are no more, and none can come back from another worker.

    Args:
        worker: its number.
        tasks: queue of files.
        results: queue for a _Counted of each.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the main one decides
    threading.Thread(target=_leave_with_parent, args=(tasks, results), daemon=True).start()
    with suppress(ShutDown):
        while True:
            with tasks.lease() as lease:
                index, path = lease.item
                try:
                    results.put(_Counted(worker, index, count_file(path, lambda: None)))
                except ItemTooLargeError:
                    results.put(_Counted(worker, index, None))


def _leave_with_parent(*queues: SharedMemoryQueue) -> None:
    """Wait for the death of the main process, then remove its queues and end this process."""
    parent = parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    for queue in queues:
        queue.unlink()
    os._exit(1)


# ---- the main process ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class WorkerReport:
    """What one worker did, and those that came in its place.

    Attributes:
        pid: process id of the last.
        files: number of files that were counted.
        tokens: number of tokens in them.
        killed: how often this process has killed it.
        died: how often it has died otherwise.
    """

    pid: int
    files: int = 0
    tokens: int = 0
    killed: int = 0
    died: int = 0


@dataclass(frozen=True, slots=True)
class Death:
    """A worker has died.

    Attributes:
        worker: its number, from 0.
        pid: its process id.
        cause: in words.
        path: the file that it had in hand; None if this process has not killed it.
        files: number of files counted by then.
    """

    worker: int
    pid: int
    cause: str
    path: str | None
    files: int


@dataclass(frozen=True, slots=True)
class QueueReport:
    """What went through one queue.

    Attributes:
        name: of the queue.
        capacity: its number of slots.
        item_size: bytes in each.
        items: number of items that went through.
        full: times that a put found no room; the main process then collected results, and a worker slept.
        empty: times that a get slept because there was no item.
    """

    name: str
    capacity: int
    item_size: int
    items: int
    full: int
    empty: int


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the workers counted together.

    Attributes:
        totals: the counts.
        seconds: from before the start of the workers until everything was counted.
        workers: a report for each worker.
        queues: a report for each queue: tasks, then results.
        by_main: number of files that the main process counted, because the result was too large for a slot.
        deaths: of workers.
        redelivered: times that a file went to another worker.
        repeated: results that came a second time, and were not added.
    """

    totals: Totals
    seconds: float
    workers: list[WorkerReport]
    queues: list[QueueReport]
    by_main: int
    deaths: list[Death]
    redelivered: int
    repeated: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the count has come.

    Attributes:
        files: number of files counted.
        tasks: number of items in the queue of tasks.
        results: number of items in the queue of results.
        deaths: of workers.
    """

    files: int
    tasks: int
    results: int
    deaths: int


def count_with_workers(
    files: Sequence[str], workers: int, kills: int, check: Callable[[], None], progress: Callable[[Progress], None]
) -> DemoResult:
    """Count everything with worker processes; afterwards no queue and no worker is left.

    Args:
        files: paths.
        workers: number of worker processes.
        kills: how often a worker is killed while it has a file in hand; fewer if there are fewer files.
        check: called at least every fifth of a second; may raise to stop the counting.
        progress: called after each file.

    Raises:
        WorkersDiedError: workers die though this process does not kill them.
        OSError: there is not enough shared memory.
    """
    began = time.perf_counter()
    run_id = f"shmq-demo-{os.getpid()}-{secrets.token_hex(4)}"  # so that two demos at once do not share queues
    with (
        _temporary_queue("tasks", TASKS, TASK_SIZE, run_id, leases=2 * workers) as tasks,
        _temporary_queue("results", RESULTS, RESULT_SIZE, run_id) as results,
        _Workers(workers, tasks, results) as crew,
    ):
        main = _Main(files, crew, tasks, results, check, progress)
        main.run(sorted(random.sample(range(len(files)), min(kills, len(files)))))
        queues = [_report_of(tasks), _report_of(results)]
        seconds = time.perf_counter() - began
        redelivered = tasks.get_metrics()["redelivered"]
        return DemoResult(
            main.totals, seconds, main.reports, queues, main.by_main, main.deaths, redelivered, main.repeated
        )


@contextmanager
def _temporary_queue(
    name: str, capacity: int, item_size: int, run_id: str, leases: int = 0
) -> Iterator[SharedMemoryQueue]:
    """Make a queue, and remove it when the ``with`` block ends."""
    queue = SharedMemoryQueue(name, create=True, capacity=capacity, item_size=item_size, run_id=run_id, leases=leases)
    try:
        yield queue
    finally:
        queue.close()
        queue.unlink()


class _Workers:
    """The worker processes, which start with the ``with`` block and end with it.

    Attributes:
        processes: by their numbers.
    """

    def __init__(self, count: int, tasks: SharedMemoryQueue, results: SharedMemoryQueue) -> None:
        self._queues = tasks, results
        self.processes = [self._process(number) for number in range(count)]

    def _process(self, number: int) -> SpawnProcess:
        spawn = multiprocessing.get_context("spawn")  # the same on all systems, and safe beside threads
        return spawn.Process(target=_work, args=(number, *self._queues), daemon=True)

    def replace(self, number: int) -> None:
        """Start another process in the place of a dead one."""
        self.processes[number] = self._process(number)
        with _sigint_blocked():
            self.processes[number].start()

    def __enter__(self) -> Self:
        try:
            with _sigint_blocked():
                for process in self.processes:
                    process.start()
        except BaseException:
            _end(self.processes)
            raise
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exception is None:
            for process in self.processes:
                process.join(_PATIENCE)
        _end(self.processes)


@contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Block SIGINT in processes that start meanwhile, so that Ctrl-C does not end them before they ignore it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    multiprocessing.resource_tracker.ensure_running()  # its start unblocks SIGINT, so it comes first
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(processes: Sequence[SpawnProcess]) -> None:
    """End processes, by SIGTERM first, and wait until they are gone."""
    started = [process for process in processes if process.pid is not None]
    for process in started:
        process.terminate()
    for process in started:
        process.join(_PATIENCE)
        process.kill()
        process.join()


def _report_of(queue: SharedMemoryQueue) -> QueueReport:
    metrics = queue.get_metrics()
    return QueueReport(
        name=queue.name,
        capacity=queue.capacity,
        item_size=queue.item_size,
        items=metrics["put_total"],
        full=metrics["full_events"] + metrics["put_waits"],
        empty=metrics["get_waits"],
    )


class _Main:
    """The main process's part of the work: puts tasks, collects results, kills workers and starts others."""

    def __init__(
        self,
        files: Sequence[str],
        crew: _Workers,
        tasks: SharedMemoryQueue,
        results: SharedMemoryQueue,
        check: Callable[[], None],
        progress: Callable[[Progress], None],
    ) -> None:
        self.totals = Totals()
        self.reports = [WorkerReport(process.pid or 0) for process in crew.processes]
        self.deaths: list[Death] = []
        self.by_main = 0
        self.repeated = 0
        self._files = files
        self._crew = crew
        self._tasks = tasks
        self._results = results
        self._check = check
        self._progress = progress
        self._missing = set(range(len(files)))  # the files that have no result yet
        self._to_feed: deque[Task] = deque(enumerate(files))

    def run(self, kill_at: list[int]) -> None:
        """Count all files.

        Args:
            kill_at: the numbers of counted files from which on the next worker is killed, in order.

        Raises:
            WorkersDiedError: workers die though this process does not kill them.
        """
        while self._missing:
            self._check()
            self._feed()
            if kill_at and self.totals.files >= kill_at[0] and self._kill():
                del kill_at[0]
            self._replace_the_dead()
            with suppress(Empty):
                self._collect(self._results.get(timeout=_POLL))
        while not self._tasks.join(_POLL):  # a worker that dies before it ends its lease leaves its file to another
            self._check()
            self._replace_the_dead()
        with suppress(Empty):
            while True:
                self._collect(self._results.get_nowait())

    def _feed(self) -> None:
        """Put tasks while there is room; behind the last the queue is shut down."""
        while self._to_feed:
            try:
                self._tasks.put_nowait(self._to_feed[0])
            except Full:
                return
            self._to_feed.popleft()
            if not self._to_feed:
                self._tasks.shutdown()

    def _kill(self) -> bool:
        """Kill a worker if it has a file in hand; return whether it had one."""
        number = random.randrange(len(self._crew.processes))
        process = self._crew.processes[number]
        pid = process.pid
        if pid is None or process.exitcode is not None:
            return False
        os.kill(pid, signal.SIGSTOP)  # what it has is asked when it has stopped; before that it may end its lease
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        try:
            lease = next((lease for lease in self._tasks.get_metrics()["leased"] if lease["pid"] == pid), None)
            if lease is None:
                return False
            process.kill()
        finally:
            os.kill(pid, signal.SIGCONT)
        process.join()
        self.reports[number].killed += 1
        self._replace(number, self._files[lease["position"]])
        return True

    def _replace_the_dead(self) -> None:
        for number, process in enumerate(self._crew.processes):
            if process.exitcode not in (None, 0):
                self._check()  # a signal to the process group ends workers, too; the demo then stops
                self.reports[number].died += 1
                self._replace(number, None)
        if sum(report.died for report in self.reports) > _MOST_DEATHS:
            causes = ", ".join(sorted({death.cause for death in self.deaths if death.path is None}))
            raise WorkersDiedError(
                f"workers died again and again ({causes}) when {self.totals.files:,} of {len(self._files):,} files "
                f"were counted; start the demo again, with fewer workers if memory is short"
            )

    def _replace(self, number: int, path: str | None) -> None:
        process = self._crew.processes[number]
        cause = _cause_of_death(process.exitcode)
        self.deaths.append(Death(number, process.pid or 0, cause, path, self.totals.files))
        self._crew.replace(number)
        self.reports[number].pid = self._crew.processes[number].pid or 0

    def _collect(self, message: _Counted) -> None:
        if message.index not in self._missing:
            self.repeated += 1  # its worker died after it had sent the result
        elif message.count is None:
            self.by_main += 1
            self._add(message.index, count_file(self._files[message.index], self._check))
        else:
            self.reports[message.worker].files += 1
            self.reports[message.worker].tokens += message.count.tokens
            self._add(message.index, message.count)

    def _add(self, index: int, count: FileCount) -> None:
        self._missing.remove(index)
        self.totals.add(self._files[index], count)
        self._progress(Progress(self.totals.files, self._tasks.qsize(), self._results.qsize(), len(self.deaths)))


def _cause_of_death(code: int | None) -> str:
    """Return in words how a worker has died."""
    if code is not None and code < 0:
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"
    return f"exit code {code}"
