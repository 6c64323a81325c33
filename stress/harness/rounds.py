"""One round: survivors work, a trouble happens, and then the survivors have to make progress.

Afterwards the items put and got are judged, and the queue has to take a full load. The caller brings the trouble.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, Full
from typing import Any, Final

from shared_multiprocess_queue import SharedMemoryQueue

from . import workers
from .engines import MIXED, Engines, Mode
from .engines import common as common_engine
from .history import Verdict, judge
from .items import LARGEST
from .logs import Log, Signals, now
from .processes import POLL, Loop, Party, Processes, Watchdog, Worker, left_behind, new_prefix
from .workers import Calls, Task

_ROOM: Final = 1 << 20  # entries of a log; untouched memory costs nothing
_GO_ON: Final = 20  # calls that each survivor has to do after the last trouble
_LOOPS: Final = {"producer": workers.produce, "consumer": workers.consume}
_SETTLE: Final = 0.02  # seconds that survivors at least continue to run


@dataclass(frozen=True)
class Setting:
    """The setting of a round.

    Attributes:
        seed: of the workers' choices.
        capacity: of the queue.
        producers: that survive.
        consumers: that survive.
        mode: of the queue.
        standbys: "producer" and "consumer", if the survivors of that side wait for a role of mode "spsc".
        item_size: bytes of a slot; if they are fewer than an item may have, it takes several.
        loops: what workers do, by their role.
    """

    seed: str
    capacity: int
    producers: int = 1
    consumers: int = 1
    mode: Mode = "mpmc"
    standbys: tuple[str, ...] = ()
    item_size: int = LARGEST
    loops: Mapping[str, Loop] = field(default_factory=lambda: dict(_LOOPS))

    @property
    def most(self) -> int:
        """Largest number of items of a batch."""
        return self.capacity * min(self.item_size, LARGEST) // LARGEST


# ---- what came out --------------------------------------------------------------------------------------------------


@dataclass
class Result:
    """The result of one round, or of all rounds of a kind.

    Attributes:
        rounds: number of them.
        deaths: number of victims.
        events: number of troubles without a death: pauses, interrupts, visits, forks.
        held_up: pauses in which a worker waited for something that a paused one held.
        verdict: over all items.
        stalls: the longest stall of each survivor, in seconds, in rounds in which the machine was free.
        busy: the same for rounds in which even an idle process woke late, so that they say nothing about the queue.
        lateness: of the idle process, for each round, in seconds.
        worst: the longest stall, with its round and its process, in words.
        adopted: items of dead consumers that others delivered.
        buried: positions that were given up because their producer was dead.
        moments: of the kills, where that is known: what the victims were doing.
        blocked: rounds in which a process made no progress.
        faults: what went wrong besides lost items and the like, in words.
    """

    rounds: int = 0
    deaths: int = 0
    events: int = 0
    held_up: int = 0
    verdict: Verdict = field(default_factory=Verdict)
    stalls: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    lateness: list[float] = field(default_factory=list)
    worst: tuple[float, str] = (0.0, "")
    adopted: int = 0
    buried: int = 0
    moments: dict[str, int] = field(default_factory=dict)
    blocked: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether there was no error, stalls aside."""
        return self.verdict.ok and not self.faults

    def add(self, other: Result) -> None:
        """Add the result of another round."""
        self.rounds += other.rounds
        self.deaths += other.deaths
        self.events += other.events
        self.held_up += other.held_up
        self.verdict.add(other.verdict)
        self.stalls += other.stalls
        self.busy += other.busy
        self.lateness += other.lateness
        self.worst = max(self.worst, other.worst)
        self.adopted += other.adopted
        self.buried += other.buried
        for moment, count in other.moments.items():
            self.moments[moment] = self.moments.get(moment, 0) + count
        self.blocked += other.blocked
        self.faults += other.faults


# ---- a round --------------------------------------------------------------------------------------------------------


class _Blocked(Exception):
    """A worker made no progress; the message says which."""


class _Crashed(Exception):
    """A worker ended by an exception; its traceback is on stderr, and the message says which it was."""


class Round:
    """One round in progress.

    Args:
        setting: where it happens.
        queue: of this round.
        processes: of this round.
        patience: seconds within which each process has to make progress.
        is_mixed: whether the engines are.

    Attributes:
        setting: as given.
        queue: as given.
        processes: as given.
        patience: as given.
        is_mixed: as given.
        signals: to all workers.
        survivors: workers that have to make progress.
        result: of the round.
    """

    def __init__(
        self, setting: Setting, queue: SharedMemoryQueue, processes: Processes, patience: float, is_mixed: bool
    ) -> None:
        self.setting = setting
        self.queue = queue
        self.processes = processes
        self.patience = patience
        self.is_mixed = is_mixed
        self.signals = Signals()
        self.survivors: list[Worker] = []
        self.result = Result(rounds=1)
        self._producers: list[Party] = []
        self._consumers: list[Party] = []

    def run(self, trouble: Callable[[Round], None]) -> Result:
        """Let survivors work, bring the trouble, and return the result."""
        result = self.result
        try:
            self._start_survivors()
            trouble(self)
            time.sleep(_SETTLE)
            self.let_survivors_go_on(_GO_ON)
            result.stalls = [worker.log.longest_stall() for worker in self.survivors]
            result.worst = max(zip(result.stalls, (worker.name for worker in self.survivors), strict=True))
            self._finish()
        except _Blocked as blocked:
            result.blocked = 1
            result.faults.append(str(blocked))
            self.processes.dump(self.queue)
        except _Crashed as crashed:
            result.faults.append(str(crashed))
        metrics = self.queue.get_metrics()
        result.adopted, result.buried = metrics["orphans_recovered"], metrics["dead_puts"]
        self.processes.end()
        result.faults += [failure for failure in self.processes.failures() if failure not in result.faults]
        if not result.faults:
            result.faults += check_usable(self.queue)
            result.verdict = self._judge()
        return result

    # ---- what a trouble may use -------------------------------------------------------------------------------------

    def start(self, role: str, fate: str, calls: Calls = "mixed", loop: Loop | None = None, **choices: Any) -> Worker:
        """Start a worker.

        Args:
            role: "producer" or "consumer".
            fate: for its name.
            calls: which it makes.
            loop: what it does; if None, what the setting says.
            choices: fields of its task.
        """
        name, number, log = self.join(role, fate)
        task = Task(
            name, number, f"{self.setting.seed}/{name}", calls, self.setting.most, is_mixed=self.is_mixed, **choices
        )
        loop = loop or self.setting.loops[role]
        worker = self.processes.start(name, log, loop, self.queue, log, self.signals, task)
        self.enroll(role, worker)
        return worker

    def join(self, role: str, fate: str) -> tuple[str, int, Log]:
        """Return name, number and log of the next party; ``enroll`` has to follow."""
        number = len(self._side(role))
        return f"{fate} {role} {number}", number, Log(_ROOM, self.signals)

    def enroll(self, role: str, party: Party) -> None:
        """Count the items that a worker puts (gets)."""
        self._side(role).append(party)

    def _side(self, role: str) -> list[Party]:
        return self._producers if role == "producer" else self._consumers

    def kill(self, victims: Sequence[Worker]) -> None:
        """Kill -9 workers, all at once."""
        self.signals.mark()
        self.processes.kill(victims)
        self.result.deaths += len(victims)

    def wait_for_start(self, starting: Sequence[Worker]) -> None:
        """Wait until workers have begun."""
        self.wait(starting, lambda worker: worker.log.started, "begin")

    def let_survivors_go_on(self, calls: int) -> None:
        """Wait until each survivor has done some more calls."""
        goals = {worker: worker.log.calls + calls for worker in self.survivors}
        self.wait(self.survivors, lambda worker: worker.log.calls >= goals[worker], "go on after the trouble")

    def wait(self, awaited: Sequence[Worker], ready: Callable[[Worker], bool], what: str) -> None:
        """Wait until all of some workers are ready; if they make no progress, the round ends."""
        dog = Watchdog(self.patience, [worker.log for worker in awaited])
        until = time.monotonic() + 3 * self.patience  # for a worker that makes no progress while others do
        while waiting := [worker for worker in awaited if not ready(worker)]:
            if failures := self.processes.failures():
                raise _Crashed("; ".join(failures))
            if dog.barks() or time.monotonic() > until:
                names = ", ".join(f"{worker.name} ({worker.log.doing})" for worker in waiting)
                raise _Blocked(f"did not {what}: {names}")
            time.sleep(POLL)

    # ---- its course -------------------------------------------------------------------------------------------------

    def _start_survivors(self) -> None:
        setting = self.setting
        for role, count in (("producer", setting.producers), ("consumer", setting.consumers)):
            standby = role in setting.standbys
            self.survivors += [self.start(role, "survivor", stands_by=standby) for _ in range(count)]
        self.wait(self.survivors, lambda worker: worker.log.started or setting.mode == "spsc", "begin")

    def _finish(self) -> None:
        """End the workers that still run: all producers, and then, when the queue is empty, all consumers."""

        def still_running(side: list[Party]) -> list[Worker]:
            return [party for party in side if isinstance(party, Worker) and not party.killed]

        self.signals.stop()
        self.wait(still_running(self._producers), lambda worker: not worker.running, "end its put")
        self.signals.drain()
        self.wait(still_running(self._consumers), lambda worker: not worker.running, "empty the queue")

    def _judge(self) -> Verdict:
        return judge(
            [party.log.as_producer(number) for number, party in enumerate(self._producers)],
            [party.log.as_consumer(party.name, party.killed) for party in self._consumers],
        )


def check_usable(queue: SharedMemoryQueue) -> list[str]:
    """See that the queue is empty, and that every slot can be used."""
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


def wait_exactly(seconds: float) -> None:
    """Wait to the microsecond; time.sleep alone would round up to its tick."""
    until = now() + int(seconds * 1e9)
    if seconds > 1e-3:
        time.sleep(seconds - 1e-3)
    while now() < until:
        pass


def run_round(setting: Setting, engine: Engines | None, patience: float, trouble: Callable[[Round], None]) -> Result:
    """Make a queue and a processes, run a round with them, and see that nothing is left.

    Args:
        setting: where it happens.
        engine: of all handles, or "mixed"; None takes the best that is installed.
        patience: seconds within which each process has to make progress.
        trouble: what happens while survivors work.
    """
    return in_a_queue(
        setting.capacity,
        setting.mode,
        engine,
        lambda queue, processes: Round(setting, queue, processes, patience, engine == MIXED).run(trouble),
        setting.item_size,
    )


def in_a_queue(
    capacity: int,
    mode: Mode,
    engine: Engines | None,
    run: Callable[[SharedMemoryQueue, Processes], Result],
    item_size: int = LARGEST,
) -> Result:
    """Make a queue and processes, run something with them, and see that nothing is left."""
    prefix = new_prefix()
    queue = SharedMemoryQueue(
        "round", True, capacity, item_size, prefix, mode=mode, engine=common_engine(engine), max_item_size=LARGEST
    )
    try:
        with Processes() as processes:
            result = run(queue, processes)
    finally:
        queue.close()
        queue.unlink()
    result.faults += [f"segment {name} was left in shared memory" for name in left_behind(prefix)]
    return result


# ---- how it is told --------------------------------------------------------------------------------------------------


def tell(result: Result, number: int, lateness: float, stall_limit: float) -> str:
    """Put the stalls of a round aside if the machine was busy, and return what is to be said about them.

    Args:
        result: of the round.
        number: of the round.
        lateness: of the idle process, in seconds.
        stall_limit: seconds that no survivor may stall for.
    """
    result.lateness = [lateness]
    longest, name = result.worst
    stalled = f"{name} stalled for {longest:.3f} s" if name else "no survivor got so far that a stall can be told"
    report = f"round {number}: {stalled}, the idle process woke {lateness:.3f} s late"
    if lateness > stall_limit / 2:
        result.stalls, result.busy, result.worst = [], result.stalls, (0.0, "")
    else:
        result.worst = longest, report
    return report
