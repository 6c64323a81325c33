"""What the kinds of trouble with leases share: workers that process items, a producer that joins, and their diary."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, Full
from random import Random
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

from shared_multiprocess_queue import DeadLetterGoneError, LeaseLostError, SharedMemoryQueue, ShutDown

from ..harness import diary, engines
from ..harness.diary import UNKNOWN, Diary
from ..harness.engines import Engines
from ..harness.logs import BETWEEN, ENDED, ENDING, GET, JOINING, PROCESSING, PUT, Log, Signals
from ..harness.processes import POLL, Loop, Processes, Worker, left_behind, new_prefix
from ..harness.rounds import Result
from .interrupt import CtrlC, listen

_NAME: Final = "leases"
_MOST_ITEMS: Final = 1 << 32  # of a producer
_WAIT: Final = 0.05  # seconds that a call waits before its process looks whether the round is over
_DELAY: Final = 1e-3  # seconds for which an item is given back
_LEFT: Final = 10.0  # seconds within which what is left at the end of a round is ended
_UNTIL_CHOSEN: Final = 0.5  # seconds within which a victim mostly does what it is to be killed in


@dataclass(frozen=True)
class Job:
    """What a process is to do.

    Attributes:
        ident: its number in the round.
        seed: of all its choices.
        engine: of its handle, or "mixed".
        longest: seconds that it processes an item, at most.
        most: items of one call, at most.
        gives_back: share of the items that it gives back.
        burst: of a producer: items after which it rests; 0: it never does.
    """

    ident: int
    seed: str
    engine: Engines
    longest: float = 1e-3
    most: int = 1
    gives_back: float = 0.0
    burst: int = 0


class Crew:
    """The processes of one round, on one queue.

    Args:
        seed: of the round.
        engine: of all handles, or "mixed".
        queue: of the round.
        processes: of the round.
        book: their diary.

    Attributes:
        rng: source of the round's choices.
        queue: as given.
        signals: to all processes.
        book: as given.
        result: of the round.
    """

    def __init__(
        self, seed: str, engine: Engines, rng: Random, queue: SharedMemoryQueue, processes: Processes, book: Diary
    ) -> None:
        self.rng = rng
        self.queue = queue
        self.signals = Signals()
        self.book = book
        self.result = Result(rounds=1)
        self._seed = seed
        self._engine = engine
        self._processes = processes
        self._workers: list[Worker] = []

    # ---- what a trouble may use -------------------------------------------------------------------------------------

    def start(self, name: str, loop: Loop, **choices: float) -> Worker:
        """Start a process.

        Args:
            name: for messages.
            loop: what it does.
            choices: fields of its job.
        """
        ident = len(self._processes.workers)
        log = Log(0, self.signals)
        job = Job(ident, f"{self._seed}/{ident}", self._engine, **choices)  # type: ignore[arg-type]
        arguments = self.queue.run_id, log, self.signals, self.book, job
        worker = self._processes.start(f"{name} {ident}", log, loop, *arguments)
        if loop in (work, work_interrupted, tend):
            self._workers.append(worker)
        return worker

    def kill(self, victims: Sequence[Worker]) -> None:
        """Kill processes, all at once."""
        pids = [victim.process.pid or 0 for victim in victims]
        for pid in pids:
            self.book.note("kills", pid=pid)
        self._processes.kill(victims)
        for pid in pids:
            self.book.note("killed", pid=pid)
        self.result.deaths += len(victims)

    def wait_until(self, is_so: Callable[[], bool], seconds: float = _UNTIL_CHOSEN) -> bool:
        """Wait until something is so; return whether that came in time."""
        until = time.monotonic() + seconds
        while not is_so():
            if time.monotonic() > until:
                return False
            time.sleep(POLL / 5)
        return True

    def wait_for_start(self, workers: Sequence[Worker], patience: float) -> None:
        """Wait until workers have attached."""
        self.wait_until(lambda: all(worker.log.started or not worker.running for worker in workers), patience)

    def must_end(self, workers: Sequence[Worker], patience: float, what: str) -> bool:
        """Wait until workers have ended by themselves; if one does not, the round has failed."""
        if self.wait_until(lambda: not any(worker.running for worker in workers), 3 * patience):
            return True
        waiting = ", ".join(f"{worker.name} ({worker.log.doing})" for worker in workers if worker.running)
        self.result.blocked = 1
        self.result.faults.append(f"did not {what}: {waiting}; metrics: {self.queue.get_metrics()}")
        self._processes.dump(self.queue)
        return False

    # ---- its end ----------------------------------------------------------------------------------------------------

    def finish(self, patience: float) -> None:
        """Let producers end and join, and then workers; see that nothing is left."""
        self.signals.stop()
        others = [one for one in self._processes.workers if one not in self._workers]
        if self.must_end(others, patience, "return from join"):
            self.signals.drain()
            if self.must_end(self._workers, patience, "end"):
                self._end_what_is_left()
                self.see_that_nothing_is_left()

    def _end_what_is_left(self) -> None:
        """End the dead letters, and what was put back."""
        until = time.monotonic() + _LEFT
        while self.queue.max_deliveries and time.monotonic() < until:
            with suppress(Empty):
                lease = self.queue.lease(timeout=_WAIT)
                self.book.note("has", lease.item, lease.deliveries)
                self.book.note("ends", lease.item)
                lease.done()
                self.book.note("ended", lease.item)
                continue
            for letter in self.queue.dead_letters():
                self.book.note("ends", letter.item)
                letter.done()
                self.book.note("ended", letter.item)
            if self.queue.join(0.0):
                break

    def see_that_nothing_is_left(self) -> None:
        """See that no lease is held, and that every slot and every lease can be used."""
        queue, faults = self.queue, self.result.faults
        if leased := queue.get_metrics()["leased"]:
            faults.append(f"leases are held though all has ended: {leased}")
        load = list(range(queue.capacity))
        try:
            queue.put_batch(load, block=False)
            got: list[int] = []
            while len(got) < len(load):
                leases = queue.lease_batch(queue.capacity, timeout=_WAIT)
                got += [lease.item for lease in leases]
                for lease in leases:
                    lease.done()
            if got != load:
                faults.append(f"of a full load {load} the queue gave {got}")
        except (Empty, Full) as error:
            faults.append(f"a full load ended in {type(error).__name__}")
        if not queue.join(_WAIT):
            faults.append("a join did not return though nothing was left")

    def judge(self, is_over: bool) -> None:
        """Judge the diary."""
        self._processes.end()
        most, metrics = self.queue.max_deliveries, self.queue.get_metrics()
        result, found = self.result, diary.judge(self.book.read(), is_over, bool(most))
        result.verdict, result.moments = found.verdict, dict(found.moments)
        result.faults += [*self._processes.failures(), *found.faults]
        if most and found.most_deliveries > most and not metrics["dead_letters_refused"]:
            result.faults.append(f"an item was handed out {found.most_deliveries} times, and not {most} at most")
        if most and metrics["dead_letters"]:
            result.faults.append(f"dead letters are left though all were ended: {metrics}")
        if found.waits:
            result.stalls = [max(found.waits)]
            result.worst = max(found.waits), "an item of a dead process, or a join,"


def run_crew(
    seed: str,
    engine: Engines,
    patience: float,
    most_leases: int,
    trouble: Callable[[Crew], None],
    max_deliveries: int = 0,
) -> Result:
    """Make a queue with leases and a crew, run a round with them, and see that nothing is left.

    Args:
        seed: of the round.
        engine: of all handles, or "mixed".
        patience: seconds within which each wait of a survivor has to end.
        most_leases: that the queue has.
        trouble: starts processes, and what happens to them.
        max_deliveries: of the queue.
    """
    rng = Random(seed)
    prefix = new_prefix()
    capacity, leases, own = rng.randint(1, 5), rng.randint(1, most_leases), engines.choose(rng, engine)
    with (
        TemporaryDirectory() as folder,
        closing(Diary(Path(folder, "diary"))) as book,
        Processes() as processes,
        SharedMemoryQueue(
            *(_NAME, True, capacity, 64, prefix), leases=leases, max_deliveries=max_deliveries, engine=own
        ) as queue,
    ):
        crew = Crew(seed, engine, rng, queue, processes, book)
        try:
            trouble(crew)
            if not queue.is_shutdown:
                crew.finish(patience)
            crew.judge(is_over=not crew.result.blocked)
        finally:
            queue.unlink()
    crew.result.faults += [f"segment {name} was left in shared memory" for name in left_behind(prefix)]
    return crew.result


# ---- in the processes -----------------------------------------------------------------------------------------------


class _Taken(NamedTuple):
    """An item that was handed out.

    Attributes:
        item: its number.
        deliveries: as told.
        done: ends it.
        give_back: gives it back; None: there is no call for that.
    """

    item: int
    deliveries: int
    done: Callable[[], None]
    give_back: Callable[..., None] | None


def work(run_id: str, log: Log, signals: Signals, book: Diary, job: Job) -> None:
    """Lease items, process and end them, until the round is over or the queue is shut down."""
    rng = Random(job.seed)
    with SharedMemoryQueue(_NAME, run_id=run_id, engine=engines.choose(rng, job.engine)) as queue:
        log.start()
        while not signals.draining():
            log.turn(GET)
            try:
                taken = _take(queue, rng.randint(1, job.most), with_get=rng.random() < 0.2)
            except Empty:
                continue
            except ShutDown:
                book.note("found the end")
                break
            for one in taken:
                book.note("has", one.item, one.deliveries)
            log.turn(PROCESSING)
            time.sleep(rng.random() * job.longest)
            for one in taken:
                _end(one, rng, log, book, job)
            log.beat()
    log.turn(ENDED)


def _take(queue: SharedMemoryQueue, most: int, with_get: bool) -> list[_Taken]:
    if with_get:
        got = queue.get_batch(most, timeout=_WAIT)
        return [_Taken(item, UNKNOWN, queue.task_done, None) for item in got]
    leases = queue.lease_batch(most, timeout=_WAIT)
    return [_Taken(lease.item, lease.deliveries, lease.done, lease.release) for lease in leases]


def _end(one: _Taken, rng: Random, log: Log, book: Diary, job: Job) -> None:
    if one.give_back is not None and rng.random() < job.gives_back:
        book.note("gives", one.item)
        log.turn(ENDING)
        rng.choice((one.give_back, partial(one.give_back, last=True), partial(one.give_back, delay=_DELAY)))()
    else:
        book.note("ends", one.item)
        log.turn(ENDING)
        one.done()
        book.note("ended", one.item)


def tend(run_id: str, log: Log, signals: Signals, book: Diary, job: Job) -> None:
    """Look at dead letters, and end them or put them back, until the round is over."""
    rng = Random(job.seed)
    with SharedMemoryQueue(_NAME, run_id=run_id, engine=engines.choose(rng, job.engine)) as queue:
        log.start()
        while not signals.draining():
            book.note("looks")
            log.turn(ENDING)
            for letter in queue.dead_letters():
                if rng.random() < 0.5:
                    book.note("puts back", letter.item)
                    with suppress(DeadLetterGoneError):
                        letter.put_back()
                    continue
                book.note("ends", letter.item)
                try:
                    letter.done()
                except DeadLetterGoneError:
                    book.note("keeps", letter.item)
                else:
                    book.note("ended", letter.item)
            log.turn(BETWEEN)
            time.sleep(rng.random() * job.longest)
            log.beat()
    log.turn(ENDED)


def work_interrupted(run_id: str, log: Log, signals: Signals, book: Diary, job: Job) -> None:
    """Do the same while signals interrupt each call."""
    rng = Random(job.seed)
    ctrl_c = listen()
    with SharedMemoryQueue(_NAME, run_id=run_id, engine=engines.choose(rng, job.engine)) as queue:
        log.start()
        while not signals.draining():
            leases = None
            ctrl_c.armed = True
            try:
                leases = queue.lease_batch(rng.randint(1, job.most), timeout=_WAIT)
                ctrl_c.armed = False
            except Empty:
                ctrl_c.armed = False
                continue
            except KeyboardInterrupt:
                book.note("interrupted")
                if leases is None:
                    continue
            for lease in leases:
                book.note("has", lease.item, lease.deliveries)
            time.sleep(rng.random() * job.longest)
            for lease in leases:
                is_given_back = rng.random() < job.gives_back
                book.note("gives" if is_given_back else "ends", lease.item)
                _until_it_is_over(lease.release if is_given_back else lease.done, ctrl_c, book)
                if not is_given_back:
                    book.note("ended", lease.item)
            log.beat()
    log.turn(ENDED)


def _until_it_is_over(end: Callable[[], None], ctrl_c: CtrlC, book: Diary) -> None:
    """End a lease; an interrupted call has done that, or has not and is made again."""
    is_again = False
    while True:
        ctrl_c.armed = True
        try:
            end()
            ctrl_c.armed = False
        except KeyboardInterrupt:
            book.note("interrupted")
            is_again = True
        except LeaseLostError:
            ctrl_c.armed = False
            if not is_again:
                raise
            return
        else:
            return


def produce(run_id: str, log: Log, signals: Signals, book: Diary, job: Job) -> None:
    """Put items until the round is over or the queue is shut down, and join."""
    rng = Random(job.seed)
    with SharedMemoryQueue(_NAME, run_id=run_id, engine=engines.choose(rng, job.engine)) as queue:
        log.start()
        serial = job.ident * _MOST_ITEMS
        while not signals.stopped():
            if job.burst and serial % job.burst == job.burst - 1:
                time.sleep(rng.random() * 2 * _WAIT)
            book.note("puts", serial)
            log.turn(PUT)
            if not _put(queue, serial, signals):
                book.note("refused", serial)
                break
            book.note("put", serial)
            log.beat()
            serial += 1
        _join(queue, None, log, book)
    log.turn(ENDED)


def _put(queue: SharedMemoryQueue, item: int, signals: Signals) -> bool:
    while not signals.stopped():
        with suppress(Full):
            try:
                queue.put(item, timeout=_WAIT)
            except ShutDown:
                return False
            return True
    return False


def join_again(run_id: str, log: Log, signals: Signals, book: Diary, job: Job) -> None:
    """Join again and again, with and without patience, until the round is over; and then once more."""
    rng = Random(job.seed)
    with SharedMemoryQueue(_NAME, run_id=run_id, engine=engines.choose(rng, job.engine)) as queue:
        log.start()
        is_over = False
        while not is_over:
            is_over = signals.stopped()
            _join(queue, None if is_over else rng.choice((None, 0.0, rng.random() * _WAIT)), log, book)
    log.turn(ENDED)


def _join(queue: SharedMemoryQueue, timeout: float | None, log: Log, book: Diary) -> None:
    book.note("joins")
    log.turn(JOINING)
    if queue.join(timeout):
        book.note("joined")
    elif timeout is None:
        raise RuntimeError("a join without a timeout said that its time was over")
    log.beat()


def shut_down(run_id: str, log: Log, signals: Signals, book: Diary, job: Job) -> None:
    """Shut the queue down; immediately, if the job takes more than one item."""
    rng = Random(job.seed)
    with SharedMemoryQueue(_NAME, run_id=run_id, engine=engines.choose(rng, job.engine)) as queue:
        log.start()
        time.sleep(rng.random() * job.longest)
        end_work(queue, book, job.most > 1)
    log.turn(ENDED)


def end_work(queue: SharedMemoryQueue, book: Diary, immediate: bool) -> None:
    """Shut a queue down, and note it if nothing is delivered after that."""
    if immediate:
        book.note("stops")
    queue.shutdown(immediate=immediate)
    if immediate:
        book.note("stopped")
