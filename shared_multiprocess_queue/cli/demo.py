"""The work of ``shmq demo``: worker processes between two queues count the tokens of Python source files.

    main  --(index, path)-->  tasks  -->  workers  --counts-->  results  -->  main

Both queues are bounded and small. The main process puts tasks only while there is room, and empties the queue of
results in the same loop. So full queues slow the workers down, but never cause a deadlock.

A worker that dies loses only the file that it was counting: at the end the main process counts each file without a
result. If the main process dies, its workers remove the queues and end.
"""

from __future__ import annotations

import keyword
import multiprocessing
import multiprocessing.connection
import multiprocessing.resource_tracker
import os
import secrets
import signal
import sys
import sysconfig
import threading
import time
import tokenize
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.context import SpawnProcess
from multiprocessing.process import parent_process
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final, Self

from ..errors import Empty, Full, ItemTooLargeError
from ..queue import SharedMemoryQueue

EXCLUDED: Final = "site-packages"  # below the standard library, but not part of it
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
_TOKENS_BETWEEN_CHECKS: Final = 20_000


class InterruptedBySignal(BaseException):
    """A signal asked the demo to stop. No ``Exception``, like KeyboardInterrupt, because it is no error.

    Attributes:
        signal: the signal.
    """

    def __init__(self, received: signal.Signals) -> None:
        super().__init__(received)
        self.signal = received


class WorkersDiedError(Exception):
    """All workers died before all files were counted."""


class StopSignals:
    """Notes SIGINT, SIGTERM and SIGHUP while the ``with`` block lasts, and raises only where ``check`` is called.

    KeyboardInterrupt can come at any instruction, also between the creation of a segment and the code that would remove
    it. Signals that were ignored before stay ignored (``nohup``). After the first signal all are ignored until the
    process ends, so that a second Ctrl-C does not disturb the clean-up.
    """

    def __init__(self) -> None:
        names = ("SIGINT", "SIGTERM", "SIGHUP")
        self._signals: list[signal.Signals] = [getattr(signal, name) for name in names if hasattr(signal, name)]
        self._before: dict[signal.Signals, Any] = {}
        self._received: signal.Signals | None = None

    def check(self) -> None:
        """Do nothing, or raise InterruptedBySignal if a signal was received."""
        if self._received is not None:
            raise InterruptedBySignal(self._received)

    def __enter__(self) -> Self:
        for number in self._signals:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._received is None:
            self._received = signal.Signals(number)

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_IGN if self._received else handler)


# ---- one process -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FileCount:
    """The counts of one file.

    Attributes:
        tokens: number of tokens.
        names: how often each name occurs; keywords are no names.
        error: why the file cannot be tokenised, in which case the counts are empty; None if it can.
    """

    tokens: int
    names: dict[str, int]
    error: str | None = None


@dataclass(slots=True)
class Totals:
    """The counts of all files.

    Attributes:
        files: number of files, including those that cannot be tokenised.
        tokens: number of tokens.
        names: how often each name occurs.
        not_tokenised: the files that cannot be tokenised, each with the reason.
    """

    files: int = 0
    tokens: int = 0
    names: Counter[str] = field(default_factory=Counter)
    not_tokenised: dict[str, str] = field(default_factory=dict)

    def add(self, path: str, count: FileCount) -> None:
        """Add the counts of one more file."""
        self.files += 1
        self.tokens += count.tokens
        self.names.update(count.names)
        if count.error is not None:
            self.not_tokenised[path] = count.error

    def differences(self, other: Totals) -> list[str]:
        """Return a sentence for each difference between these counts and others; an empty list if they are equal."""
        return [
            *(
                f"{what}: {mine:,} and {theirs:,}"
                for what, mine, theirs in (("files", self.files, other.files), ("tokens", self.tokens, other.tokens))
                if mine != theirs
            ),
            *(
                f"name {name!r}: {self.names[name]:,} and {other.names[name]:,}"
                for name in sorted(self.names.keys() | other.names.keys())
                if self.names[name] != other.names[name]
            ),
            *(
                f"not tokenised by one only: {path!r}"
                for path in sorted(self.not_tokenised.keys() ^ other.not_tokenised.keys())
            ),
        ]


def standard_library() -> Path:
    """Return the folder of the running Python's standard library."""
    return Path(sysconfig.get_path("stdlib"))


def usable_cores() -> int:
    """Return how many cores this process may run on."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def python_files(root: Path) -> list[str]:
    """Return the Python source files in and below a folder, sorted.

    Args:
        root: a folder, of which subfolders called "site-packages" are left out; or one file.

    Raises:
        OSError: a folder cannot be read.
    """
    if root.is_file():
        return [str(root)]
    found = []
    for folder, folders, files in os.walk(root, onerror=_raise):
        folders[:] = [name for name in folders if name != EXCLUDED]
        paths = (os.path.join(folder, name) for name in files if name.endswith(".py"))
        found += [path for path in paths if os.path.isfile(path)]  # reading a pipe of that name might never end
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error


def count_file(path: str, check: Callable[[], None]) -> FileCount:
    """Count the tokens and the names in one file.

    Args:
        path: the file.
        check: called after every 20,000 tokens; may raise to stop the counting.
    """
    names: Counter[str] = Counter()
    tokens = 0
    try:
        with tokenize.open(path) as file:
            for tokens, token in enumerate(tokenize.generate_tokens(file.readline), 1):
                if token.type == tokenize.NAME and not keyword.iskeyword(token.string):
                    names[token.string] += 1
                if tokens % _TOKENS_BETWEEN_CHECKS == 0:
                    check()
    except (OSError, SyntaxError, tokenize.TokenError, LookupError, ValueError) as error:
        # All are errors of the file: unreadable, not Python, or with an encoding that is unknown or wrong.
        return FileCount(0, {}, f"{type(error).__name__}: {error}")
    return FileCount(tokens, dict(names))


def count_alone(files: Sequence[str], check: Callable[[], None], progress: Callable[[int], None]) -> Totals:
    """Count everything in this process.

    Args:
        files: paths.
        check: called between files; may raise to stop the counting.
        progress: called after each file, with the number of files counted.
    """
    totals = Totals()
    for path in files:
        check()
        totals.add(path, count_file(path, check))
        progress(totals.files)
    return totals


# ---- messages --------------------------------------------------------------------------------------------------------

Task = tuple[int, str]  # index of the file, its path
_STOP: Final = None  # in the place of a task; one for each worker


@dataclass(frozen=True, slots=True)
class _Counted:
    """A worker has counted a file; ``count`` is None if the result is too large for a slot."""

    worker: int
    index: int
    count: FileCount | None


@dataclass(frozen=True, slots=True)
class _Finished:
    """The last message of a worker that ends normally."""

    worker: int


# ---- a worker --------------------------------------------------------------------------------------------------------


def _work(worker: int, tasks: SharedMemoryQueue, results: SharedMemoryQueue) -> None:
    """Run a worker process: count files until there are no more.

    Args:
        worker: its number.
        tasks: queue of Tasks, with a _STOP at the end.
        results: queue for a _Counted of each task, with a _Finished at the end.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the main one decides
    threading.Thread(target=_leave_with_parent, args=(tasks, results), daemon=True).start()
    while (task := tasks.get()) is not _STOP:
        index, path = task
        try:
            results.put(_Counted(worker, index, count_file(path, _go_on)))
        except ItemTooLargeError:
            results.put(_Counted(worker, index, None))
    results.put(_Finished(worker))


def _go_on() -> None:
    """Do nothing: a worker need not check for signals, because the main process ends it if necessary."""


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
    """What one worker did.

    Attributes:
        pid: its process id.
        files: number of files that it counted.
        tokens: number of tokens in them.
        finished: whether it ended normally.
        exit_code: of the process, if it did not end normally; -n if signal n killed it.
    """

    pid: int
    files: int = 0
    tokens: int = 0
    finished: bool = False
    exit_code: int | None = None


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
        by_main: number of files that the main process counted, because a worker had died or the result was too large
            for a slot.
    """

    totals: Totals
    seconds: float
    workers: list[WorkerReport]
    queues: list[QueueReport]
    by_main: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the count has come.

    Attributes:
        files: number of files counted.
        tasks: number of items in the queue of tasks.
        results: number of items in the queue of results.
    """

    files: int
    tasks: int
    results: int


def count_with_workers(
    files: Sequence[str], workers: int, check: Callable[[], None], progress: Callable[[Progress], None]
) -> DemoResult:
    """Count everything with worker processes; afterwards no queue and no worker is left.

    Args:
        files: paths.
        workers: number of worker processes.
        check: called at least every fifth of a second; may raise to stop the counting.
        progress: called after each file.

    Raises:
        WorkersDiedError: all workers died before all files were counted.
        OSError: there is not enough shared memory.
    """
    began = time.perf_counter()
    run_id = f"shmq-demo-{os.getpid()}-{secrets.token_hex(4)}"  # so that two demos at once do not share queues
    with (
        _temporary_queue("tasks", TASKS, TASK_SIZE, run_id) as tasks,
        _temporary_queue("results", RESULTS, RESULT_SIZE, run_id) as results,
        _processes(workers, tasks, results) as processes,
    ):
        crew = _Crew(files, processes, tasks, results, check, progress)
        crew.run()
        queues = [_report_of(tasks), _report_of(results)]
        return DemoResult(crew.totals, time.perf_counter() - began, crew.reports, queues, crew.by_main)


@contextmanager
def _temporary_queue(name: str, capacity: int, item_size: int, run_id: str) -> Iterator[SharedMemoryQueue]:
    """Make a queue, and remove it when the ``with`` block ends."""
    queue = SharedMemoryQueue(name, create=True, capacity=capacity, item_size=item_size, run_id=run_id)
    try:
        yield queue
    finally:
        queue.close()
        queue.unlink()


@contextmanager
def _processes(count: int, tasks: SharedMemoryQueue, results: SharedMemoryQueue) -> Iterator[list[SpawnProcess]]:
    """Start workers, and end them when the ``with`` block ends."""
    spawn = multiprocessing.get_context("spawn")  # the same on all systems, and safe beside threads
    processes = [spawn.Process(target=_work, args=(i, tasks, results), daemon=True) for i in range(count)]
    try:
        with _sigint_blocked():
            for process in processes:
                process.start()
        yield processes
        for process in processes:
            process.join(_PATIENCE)
    finally:
        _end(processes)


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


class _Crew:
    """The main process's part of the work: puts tasks, collects results, and counts the files that are left over."""

    def __init__(
        self,
        files: Sequence[str],
        processes: Sequence[SpawnProcess],
        tasks: SharedMemoryQueue,
        results: SharedMemoryQueue,
        check: Callable[[], None],
        progress: Callable[[Progress], None],
    ) -> None:
        self.totals = Totals()
        self.reports = [WorkerReport(process.pid or 0) for process in processes]
        self.by_main = 0
        self._files = files
        self._processes = processes
        self._tasks = tasks
        self._results = results
        self._check = check
        self._progress = progress
        self._missing = dict(enumerate(files))  # the files that have no result yet
        self._to_feed: deque[Task | None] = deque([*enumerate(files), *[_STOP] * len(processes)])

    def run(self) -> None:
        """Count all files.

        Raises:
            WorkersDiedError: all workers died before all files were counted.
        """
        while not all(report.finished for report in self.reports):
            self._check()
            alive = any(process.is_alive() for process in self._processes)  # asked before their last results are taken
            self._feed()
            try:
                self._collect(self._results.get(timeout=_POLL))
            except Empty:
                if not alive:
                    break
        self._check()  # a signal to the process group ends workers, too; the demo then stops instead of counting on
        self._note_the_dead()
        for index in list(self._missing):
            self._count_here(index)

    def _feed(self) -> None:
        """Put tasks while there is room."""
        while self._to_feed:
            try:
                self._tasks.put_nowait(self._to_feed[0])
            except Full:
                return
            self._to_feed.popleft()

    def _collect(self, message: _Counted | _Finished) -> None:
        report = self.reports[message.worker]
        if isinstance(message, _Finished):
            report.finished = True
        elif message.count is None:
            self._count_here(message.index)
        elif message.index in self._missing:
            report.files += 1
            report.tokens += message.count.tokens
            self._add(message.index, message.count)

    def _count_here(self, index: int) -> None:
        self._check()
        self.by_main += 1
        self._add(index, count_file(self._files[index], self._check))

    def _add(self, index: int, count: FileCount) -> None:
        self.totals.add(self._missing.pop(index), count)
        self._progress(Progress(self.totals.files, self._tasks.qsize(), self._results.qsize()))

    def _note_the_dead(self) -> None:
        dead = [i for i, report in enumerate(self.reports) if not report.finished]
        for i in dead:
            self.reports[i].exit_code = self._processes[i].exitcode
        if len(dead) == len(self.reports) and self._missing:
            raise WorkersDiedError(
                f"all {len(dead)} workers died ({_causes([self.reports[i] for i in dead])}) when "
                f"{self.totals.files:,} of {len(self._files):,} files were counted; start the demo again, with fewer "
                f"workers if memory is short"
            )


def _causes(reports: Sequence[WorkerReport]) -> str:
    return ", ".join(sorted({cause_of_death(report) for report in reports}))


def cause_of_death(report: WorkerReport) -> str:
    """Return in words how a worker ended that did not end normally."""
    code = report.exit_code
    if code is not None and code < 0:
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"
    return f"exit code {code}"
