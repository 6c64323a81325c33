"""Many items through one queue, without a death: no item may be lost, doubled, torn, or out of order."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import click
from rich.console import Console
from rich.table import Table

from shared_multiprocess_queue import SharedMemoryQueue

from ..harness import options, workers
from ..harness.engines import MIXED, Engines, Mode
from ..harness.engines import common as common_engine
from ..harness.history import Verdict, judge
from ..harness.items import LARGEST
from ..harness.logs import Log, Signals
from ..harness.processes import Processes, Watchdog, Worker, children, left_behind, new_prefix
from ..harness.workers import Calls, Task

_POLL = 0.05
_CALLS_PER_SECOND = 300_000  # of a producer, at most; its log has room for so many


@dataclass(frozen=True)
class Plan:
    """What a soak is to do.

    Attributes:
        seconds: how long producers put.
        producers: number of them.
        consumers: number of them.
        engine: of all handles.
        capacity: of the queue.
        mode: of the queue.
        calls: singles, batches, or both.
        seed: of all choices.
        patience: seconds without any progress after which the soak has failed.
    """

    seconds: float
    producers: int
    consumers: int
    engine: Engines | None
    capacity: int
    mode: Mode
    calls: Calls
    seed: int
    patience: float


@dataclass
class Result:
    """What came out of a soak.

    Attributes:
        verdict: over all items.
        faults: what went wrong besides, in words.
    """

    verdict: Verdict
    faults: list[str]

    @property
    def ok(self) -> bool:
        """Whether nothing went wrong."""
        return self.verdict.ok and not self.faults


class _Interrupt:
    """Whether Ctrl-C was pressed; a second one ends the program as always."""

    pressed = False

    def __call__(self, *_: object) -> None:
        self.pressed = True
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def _listening() -> Iterator[_Interrupt]:
    interrupt = _Interrupt()
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)


def run(plan: Plan, console: Console) -> Result:
    """Run a soak and print its tables."""
    prefix = new_prefix()
    common = common_engine(plan.engine)
    queue = SharedMemoryQueue("soak", True, plan.capacity, LARGEST, prefix, mode=plan.mode, engine=common)
    try:
        with Processes() as processes, _listening() as interrupt:
            result = _soak(plan, queue, processes, interrupt, console)
    finally:
        queue.close()
        queue.unlink()
    result.faults += [f"segment {name} was left in shared memory" for name in left_behind(prefix)]
    result.faults += [f"process {pid} was left" for pid in children()]
    _print_totals(result, console)
    return result


def _soak(
    plan: Plan, queue: SharedMemoryQueue, processes: Processes, interrupt: _Interrupt, console: Console
) -> Result:
    signals = Signals()
    room = int(plan.seconds * _CALLS_PER_SECOND) + 1000
    producers = [_start(processes, queue, signals, plan, "producer", n, room) for n in range(plan.producers)]
    # The count of the consumers decides in the end; their logs have room for all items that were put.
    most_items = room * plan.producers * min(plan.capacity, 4)
    consumers = [_start(processes, queue, signals, plan, "consumer", n, most_items) for n in range(plan.consumers)]
    began = time.monotonic()
    faults: list[str] = []

    def wait(workers: list[Worker], enough: Callable[[], bool]) -> None:
        if faults:
            return
        dog = Watchdog(plan.patience, [worker.log for worker in processes.workers])
        while not faults and not enough() and any(worker.running for worker in workers):
            time.sleep(_POLL)
            faults.extend(processes.failures())
            if dog.barks():
                faults.append(f"nothing made progress for {plan.patience} s; stderr has what each worker waits for")
        if faults:
            processes.dump(queue)

    wait(producers, lambda: interrupt.pressed or time.monotonic() - began > plan.seconds)
    signals.stop()
    wait(producers, lambda: False)
    seconds = time.monotonic() - began
    signals.drain()
    wait(consumers, lambda: False)
    processes.end()
    faults.extend(fault for fault in processes.failures() if fault not in faults)
    if not faults:
        faults += [f"the queue still has an item after consumers found it empty: {item!r}" for item in _rest(queue)]
    verdict = judge(
        [worker.log.as_producer(number) for number, worker in enumerate(producers)],
        [worker.log.as_consumer(worker.name) for worker in consumers],
    )
    _print_workers(producers, consumers, seconds, console)
    return Result(verdict, faults)


def _start(
    processes: Processes, queue: SharedMemoryQueue, signals: Signals, plan: Plan, role: str, number: int, room: int
) -> Worker:
    name = f"{role} {number}"
    # With batches of up to 4, small and large batches meet even in a small queue.
    is_mixed = plan.engine == MIXED
    task = Task(name, number, f"{plan.seed}/{name}", plan.calls, min(plan.capacity, 4), is_mixed=is_mixed)
    loop = workers.produce if role == "producer" else workers.consume
    log = Log(room, signals)
    return processes.start(name, log, loop, queue, log, signals, task)


def _rest(queue: SharedMemoryQueue) -> Iterator[object]:
    while True:
        try:
            yield queue.get_nowait()
        except queue.Empty:
            return


def _print_workers(producers: list[Worker], consumers: list[Worker], seconds: float, console: Console) -> None:
    table = Table("worker", "calls", "items", "items/s", title=f"{seconds:.1f} s")
    for column in table.columns[1:]:
        column.justify = "right"
    for worker in producers + consumers:
        items = worker.log.items_put() if worker in producers else worker.log.items_got()
        table.add_row(worker.name, f"{worker.log.calls:,}", f"{items:,}", f"{items / seconds:,.0f}")
    console.print(table)


def _print_totals(result: Result, console: Console) -> None:
    verdict = result.verdict
    table = Table("acknowledged", "delivered", "lost", "doubled", "torn", "out of order", "cut batches")
    table.add_row(
        *(
            f"{number:,}"
            for number in (
                verdict.acknowledged,
                verdict.delivered,
                verdict.lost,
                verdict.doubled,
                verdict.torn,
                verdict.out_of_order,
                verdict.cut,
            )
        )
    )
    console.print(table)
    if result.faults and verdict.lost:
        console.print(
            "The run did not come to its end: items that are missing may still be in the queue.", markup=False
        )
    for line in verdict.findings + result.faults:
        console.print(line, style="red", markup=False)
    console.print("ok" if result.ok else "FAILED", style="green" if result.ok else "bold red")


@click.command()
@click.option("--seconds", type=click.FloatRange(0), default=60.0, show_default=True, help="How long to put.")
@click.option("--producers", type=click.IntRange(1), default=2, show_default=True)
@click.option("--consumers", type=click.IntRange(1), default=2, show_default=True)
@click.option("--capacity", type=click.IntRange(1), default=3, show_default=True, help="Small ones wrap around often.")
@click.option("--batches/--singles", default=None, help="Only batches, or only single items; both if not given.")
@options.engines
@options.mode
@options.seed
@options.patience
def command(
    seconds: float,
    producers: int,
    consumers: int,
    capacity: int,
    batches: bool | None,
    engine: Engines | None,
    mode: Mode,
    seed: int | None,
    patience: float,
) -> None:
    """Send many items, and see that none is lost, doubled, torn or out of order. Ctrl-C ends it early."""
    if mode == "spsc" and (producers, consumers) != (1, 1):
        raise click.UsageError(
            f"mode spsc has one producer and one consumer, not {producers} and {consumers}; "
            f"add --producers 1 --consumers 1"
        )
    console = Console()
    calls: Calls = "mixed" if batches is None else "batches" if batches else "singles"
    seed = options.tell_seed(seed, console)
    plan = Plan(seconds, producers, consumers, engine, capacity, mode, calls, seed, patience)
    with options.engine_needed():
        ok = run(plan, console).ok
    sys.exit(not ok)
