"""kill -9 in tight loops: what was acknowledged is delivered once, and the survivors go on.

A round has a small queue, one or two survivors of each side, and waves of victims that are killed at random moments of
their loops (sometimes two at once, sometimes while they still attach). Later victims find the records of the dead.
Afterwards the survivors have to get on, what was put and got is judged, and the queue has to take a full load.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import Empty, Full
from random import Random
from statistics import quantiles
from typing import Final, Literal, get_args

from rich.console import Console
from rich.table import Table

from shared_multiprocess_queue import SharedMemoryQueue

from . import workers
from .crew import POLL, Crew, Watchdog, Worker, children, left_behind, new_prefix
from .history import Verdict, judge
from .items import LARGEST
from .logs import Log, Signals, now
from .workers import Calls, Task

Kind = Literal["producer", "consumer", "batch-producer", "batch-consumer"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

_ROOM: Final = 1 << 20  # entries of a log; untouched memory costs nothing
_ENOUGH: Final = 5  # bad rounds of a kind, after which no more are done
_GO_ON: Final = 20  # calls that each survivor has to do after the last kill
_SETTLE: Final = 0.02  # seconds that survivors run on at least
_SCALES: Final = (100e-6, 1e-3, 5e-3, 20e-3)  # seconds; the kill comes at a random moment within one of these
_ATTACHING: Final = 10e-3  # seconds in which a victim attaches, or a little less


# ---- what a round is to do ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wave:
    """Victims that are killed at once.

    Attributes:
        kinds: of the victims.
        delay: seconds from the moment that all have begun to the kill.
        attaching: the delay counts from the start of their processes instead.
    """

    kinds: tuple[Kind, ...]
    delay: float
    attaching: bool


@dataclass(frozen=True)
class RoundPlan:
    """What a round is to do; the same seed gives the same plans.

    Attributes:
        seed: of the workers' choices.
        capacity: of the queue.
        producers: that survive.
        consumers: that survive.
        waves: one after the other.
    """

    seed: str
    capacity: int
    producers: int
    consumers: int
    waves: tuple[Wave, ...]


def plan_round(seed: int, kind: Kind, number: int, mode: str, capacity: int | None = None) -> RoundPlan:
    """Return what a round is to do; without a given capacity, mostly one from 1 to 5."""
    name = f"{seed}/{mode}/{kind}/{number}"
    rng = Random(name)
    # In a small queue everybody meets all the time; a long batch is more often hit in its middle.
    chosen = rng.randint(16, 64) if "batch" in kind and rng.random() < 0.25 else rng.randint(1, 5)
    capacity = chosen if capacity is None else capacity
    if mode == "spsc":  # the victim has the role, and its heir stands by
        return RoundPlan(name, capacity, 1, 1, (_plan_wave(rng, (kind,), False),))
    producers, consumers = rng.choice(((1, 1), (1, 1), (2, 1), (1, 2)))
    waves = []
    for _ in range(rng.randint(1, 4)):
        kinds = (kind, rng.choice((kind, *KINDS))) if rng.random() < 0.25 else (kind,)
        waves.append(_plan_wave(rng, kinds, rng.random() < 0.1))
    return RoundPlan(name, capacity, producers, consumers, tuple(waves))


def _plan_wave(rng: Random, kinds: tuple[Kind, ...], attaching: bool) -> Wave:
    return Wave(kinds, rng.random() * (_ATTACHING if attaching else rng.choice(_SCALES)), attaching)


# ---- what came out --------------------------------------------------------------------------------------------------


@dataclass
class Result:
    """What came out of one round, or of all rounds of a kind.

    Attributes:
        rounds: number of them.
        deaths: number of victims.
        verdict: over all items.
        stalls: the longest stall of each survivor, in seconds, in rounds in which the machine was free.
        busy: the same for rounds in which even an idle process woke late, so that they say nothing about the queue.
        lateness: of the idle process, for each round, in seconds.
        worst: the longest stall, and in which round it was and whose, in words.
        adopted: items of dead consumers that others delivered.
        buried: positions that were given up because their producer was dead.
        blocked: rounds in which somebody did not get on.
        faults: what went wrong besides lost items and the like, in words.
    """

    rounds: int = 0
    deaths: int = 0
    verdict: Verdict = field(default_factory=Verdict)
    stalls: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    lateness: list[float] = field(default_factory=list)
    worst: tuple[float, str] = (0.0, "")
    adopted: int = 0
    buried: int = 0
    blocked: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing went wrong, stalls aside."""
        return self.verdict.ok and not self.faults

    def add(self, other: Result) -> None:
        """Add what came out of another round."""
        self.rounds += other.rounds
        self.deaths += other.deaths
        self.verdict.add(other.verdict)
        self.stalls += other.stalls
        self.busy += other.busy
        self.lateness += other.lateness
        self.worst = max(self.worst, other.worst)
        self.adopted += other.adopted
        self.buried += other.buried
        self.blocked += other.blocked
        self.faults += other.faults


# ---- a round --------------------------------------------------------------------------------------------------------


class _Blocked(Exception):
    """Somebody did not get on; the message says who."""


class _Crashed(Exception):
    """A worker ended by an exception; its traceback is on stderr, and the message says which it was."""


class _Round:
    """One round in progress.

    Args:
        plan: what to do.
        queue: of this round.
        crew: of this round.
        patience: seconds that nobody may need for getting on.
        is_mixed: whether the engines are.
    """

    def __init__(self, plan: RoundPlan, queue: SharedMemoryQueue, crew: Crew, patience: float, is_mixed: bool) -> None:
        self._plan = plan
        self._queue = queue
        self._crew = crew
        self._patience = patience
        self._is_mixed = is_mixed
        self._signals = Signals()
        self._producers: list[Worker] = []
        self._consumers: list[Worker] = []

    def run(self) -> Result:
        result = Result(rounds=1)
        try:
            survivors = self._start_survivors()
            for wave in self._plan.waves:
                self._kill(wave)
                result.deaths += len(wave.kinds)
            self._go_on(survivors)
            result.stalls = [worker.log.longest_stall() for worker in survivors]
            result.worst = max(zip(result.stalls, (worker.name for worker in survivors), strict=True))
            self._finish(survivors)
        except _Blocked as blocked:
            result.blocked = 1
            result.faults.append(str(blocked))
            self._crew.dump(self._queue)
        except _Crashed as crashed:
            result.faults.append(str(crashed))
        metrics = self._queue.get_metrics()
        result.adopted, result.buried = metrics["orphans_recovered"], metrics["dead_puts"]
        self._crew.end()
        result.faults += [failure for failure in self._crew.failures() if failure not in result.faults]
        if not result.faults:
            result.faults += self._check_usable()
            result.verdict = self._judge()
        return result

    def _start_survivors(self) -> list[Worker]:
        plan, spsc = self._plan, self._queue.mode == "spsc"
        victim = plan.waves[0].kinds[0]
        survivors = [
            self._start("producer", "survivor", "mixed", spsc and "producer" in victim) for _ in range(plan.producers)
        ]
        survivors += [
            self._start("consumer", "survivor", "mixed", spsc and "consumer" in victim) for _ in range(plan.consumers)
        ]
        self._wait(survivors, lambda worker: worker.log.started or spsc, "begin")
        return survivors

    def _start(self, role: str, fate: str, calls: Calls, stands_by: bool = False) -> Worker:
        ours = self._producers if role == "producer" else self._consumers
        name = f"{fate} {role} {len(ours)}"
        seed = f"{self._plan.seed}/{name}"
        is_victim = fate == "victim"
        task = Task(name, len(ours), seed, calls, self._plan.capacity, is_victim, stands_by, self._is_mixed)
        log = Log(_ROOM, self._signals)
        loop = workers.produce if role == "producer" else workers.consume
        worker = self._crew.start(name, log, loop, self._queue, log, self._signals, task)
        ours.append(worker)
        return worker

    def _kill(self, wave: Wave) -> None:
        victims = [
            self._start(kind.removeprefix("batch-"), "victim", "batches" if "batch" in kind else "singles")
            for kind in wave.kinds
        ]
        if not wave.attaching:
            self._wait(victims, lambda worker: worker.log.started, "begin")
        _wait_exactly(wave.delay)
        self._signals.mark()
        self._crew.kill(victims)

    def _go_on(self, survivors: list[Worker]) -> None:
        goals = {worker: worker.log.calls + _GO_ON for worker in survivors}
        time.sleep(_SETTLE)
        self._wait(survivors, lambda worker: worker.log.calls >= goals[worker], "go on after the kill")

    def _finish(self, survivors: list[Worker]) -> None:
        self._signals.stop()
        self._wait([w for w in survivors if w in self._producers], lambda worker: not worker.running, "end its put")
        self._signals.drain()
        self._wait([w for w in survivors if w in self._consumers], lambda worker: not worker.running, "empty the queue")

    def _wait(self, who: Sequence[Worker], ready: Callable[[Worker], bool], what: str) -> None:
        dog = Watchdog(self._patience, [worker.log for worker in who])
        until = time.monotonic() + 3 * self._patience  # for one who does not get on while others do
        while waiting := [worker for worker in who if not ready(worker)]:
            if failures := self._crew.failures():
                raise _Crashed("; ".join(failures))
            if dog.barks() or time.monotonic() > until:
                names = ", ".join(f"{worker.name} ({worker.log.doing})" for worker in waiting)
                raise _Blocked(f"did not {what}: {names}")
            time.sleep(POLL)

    def _judge(self) -> Verdict:
        return judge(
            [worker.log.as_producer(number) for number, worker in enumerate(self._producers)],
            [worker.log.as_consumer(worker.name, worker.killed) for worker in self._consumers],
        )

    def _check_usable(self) -> list[str]:
        """See that the queue is empty, and that every slot can be used."""
        queue = self._queue
        faults = []
        try:
            while True:
                faults.append(f"consumers found the queue empty, and left in it was {queue.get_nowait()!r}")
        except Empty:
            pass
        load = list(range(queue.capacity))
        try:
            queue.put_batch(load, block=False)
        except Full:
            return [*faults, f"the empty queue refused {queue.capacity} items, its capacity"]
        try:
            queue.put_nowait("one more")
            faults.append(f"the queue took more than {queue.capacity} items, its capacity")
        except Full:
            pass
        got = queue.get_batch(queue.capacity, block=False)
        if got != load:
            faults.append(f"of a full load {load} the queue returned {got}")
        return faults


def _wait_exactly(seconds: float) -> None:
    """Wait to the microsecond, where time.sleep alone would round up to its tick."""
    until = now() + int(seconds * 1e9)
    if seconds > 1e-3:
        time.sleep(seconds - 1e-3)
    while now() < until:
        pass


def _run_round(plan: RoundPlan, engine: str | None, mode: str, patience: float) -> Result:
    prefix = new_prefix()
    common = workers.engine_of_all(engine)
    queue = SharedMemoryQueue("kill", True, plan.capacity, LARGEST, prefix, mode=mode, engine=common)
    try:
        with Crew() as crew:
            result = _Round(plan, queue, crew, patience, engine == workers.MIXED).run()
    finally:
        queue.close()
        queue.unlink()
    result.faults += [f"segment {name} was left in shared memory" for name in left_behind(prefix)]
    return result


# ---- all rounds -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What to do.

    Attributes:
        rounds: of each kind.
        first: number of the first round, to repeat one of an earlier run.
        kinds: of victims.
        engine: of all handles.
        mode: of the queues.
        capacity: of the queues; if None, one for each round, mostly from 1 to 5.
        seed: of all choices.
        patience: seconds after which somebody who does not get on is blocked.
        stall_limit: seconds that no survivor may stall for.
    """

    rounds: int
    first: int
    kinds: tuple[Kind, ...]
    engine: str | None
    mode: str
    capacity: int | None
    seed: int
    patience: float
    stall_limit: float


def run(plan: Plan, console: Console) -> bool:
    """Run all rounds, print the table, and return whether nothing went wrong."""
    results = {}
    with Crew() as crew:
        control_log = Log(0, signals := Signals())
        signals.mark()
        control = crew.start("idle", control_log, workers.idle, control_log, signals)
        for kind in plan.kinds:
            results[kind] = _run_kind(plan, kind, control, console)
    print_table(results, console)
    for kind, result in results.items():
        console.print(f"{kind}, longest stall: {result.worst[1] or 'none'}", markup=False, highlight=False)
    faults = [f"process {pid} was left" for pid in children()]
    slow = [
        f"{kind}: a survivor stalled for longer than {plan.stall_limit} s"
        for kind, result in results.items()
        if max(result.stalls, default=0) > plan.stall_limit
    ]
    for line in faults + slow:
        console.print(line, style="red", markup=False)
    ok = not faults and not slow and all(result.ok for result in results.values())
    console.print("ok" if ok else "FAILED", style="green" if ok else "bold red")
    return ok


def _run_kind(plan: Plan, kind: Kind, control: Worker, console: Console) -> Result:
    total = Result()
    bad = 0
    for number in range(plan.first, plan.first + plan.rounds):
        round_plan = plan_round(plan.seed, kind, number, plan.mode, plan.capacity)
        control.log.forget_stalls()
        result = _run_round(round_plan, plan.engine, plan.mode, plan.patience)
        lateness = control.log.longest_stall()
        result.lateness = [lateness]
        longest, who = result.worst
        stalled = f"{who} stalled for {longest:.3f} s" if who else "nobody got so far that a stall can be told"
        report = f"round {number}: {stalled}, the idle process woke {lateness:.3f} s late"
        if lateness > plan.stall_limit / 2:
            result.stalls, result.busy, result.worst = [], result.stalls, (0.0, "")
        else:
            result.worst = longest, report
        if not result.ok or max(result.stalls, default=0) > plan.stall_limit:
            again = f"--seed {plan.seed} --kinds {kind} --mode {plan.mode} --first {number} --rounds 1"
            if plan.capacity is not None:
                again += f" --capacity {plan.capacity}"
            for line in (f"{again}: {round_plan}", *result.verdict.findings, *result.faults, report):
                console.print(line, style="red", markup=False)
            bad += 1
        total.add(result)
        if bad == _ENOUGH:
            console.print(f"{kind}: given up after {bad} bad rounds", style="red", markup=False)
            break
    return total


_CAPTION = (
    "unaccounted: may be missing, because a killed consumer was in a call; adopted: got from a dead consumer after "
    "all; buried: puts of dead producers; times: median / 99 % / longest, those of rounds on a busy machine apart"
)


def print_table(results: dict[Kind, Result], console: Console) -> None:
    """Print a column for each kind of victim."""
    rows: list[tuple[str, Callable[[Result], str]]] = [
        ("rounds", lambda r: f"{r.rounds:,}"),
        ("victims", lambda r: f"{r.deaths:,}"),
        ("acknowledged", lambda r: f"{r.verdict.acknowledged:,}"),
        ("delivered", lambda r: f"{r.verdict.delivered:,}"),
        ("unaccounted", lambda r: f"{r.verdict.unaccounted:,}"),
        ("adopted", lambda r: f"{r.adopted:,}"),
        ("buried puts", lambda r: f"{r.buried:,}"),
        ("lost", lambda r: f"{r.verdict.lost:,}"),
        ("doubled", lambda r: f"{r.verdict.doubled:,}"),
        ("torn", lambda r: f"{r.verdict.torn:,}"),
        ("out of order", lambda r: f"{r.verdict.out_of_order:,}"),
        ("cut batches", lambda r: f"{r.verdict.cut:,}"),
        ("blocked", lambda r: f"{r.blocked:,}"),
        ("other faults", lambda r: f"{len(r.faults) - r.blocked:,}"),
        ("stall, ms", lambda r: _distribution(r.stalls)),
        ("idle late, ms", lambda r: _distribution(r.lateness)),
        ("stall, busy, ms", lambda r: _distribution(r.busy)),
    ]
    table = Table("", *results, caption=_CAPTION)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, cell in rows:
        table.add_row(name, *(cell(result) for result in results.values()))
    console.print(table)


def _distribution(seconds: list[float]) -> str:
    if len(seconds) < 2:
        return f"{seconds[0] * 1e3:.0f}" if seconds else "-"
    cuts = quantiles(seconds, n=100, method="inclusive")
    return f"{cuts[49] * 1e3:.0f} / {cuts[98] * 1e3:.0f} / {max(seconds) * 1e3:.0f}"


def default_seed() -> int:
    """Return a seed that no other run has."""
    return int.from_bytes(os.urandom(4), "little")
