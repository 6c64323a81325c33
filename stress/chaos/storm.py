"""Hundreds of thousands of exceptions from outside, and a count of each item that a consumer was given.

A consumer takes the numbers that a producer puts, and is interrupted all the time: by signals of a timer, by signals of
another process, or by exceptions that another thread sets (``PyThreadState_SetAsyncExc``). It keeps items by ``got +=
take()``: between the return of a function and the end of that statement the interpreter raises nothing, so each item
that the queue has returned is in the list. At the end the queue is emptied, and the list must have all items that were
put, in order.

An exception is sent for a token that the consumer has offered, so there is one at a time, and none outside of the loop.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from mmap import PAGESIZE, mmap
from pathlib import Path
from queue import Empty, Full
from random import Random
from traceback import walk_tb
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table

import shared_multiprocess_queue
from shared_multiprocess_queue import SharedMemoryQueue

from ..harness import options
from ..harness.engines import ENGINE, Engine, Mode
from ..harness.processes import die_with, left_behind, new_prefix
from ..harness.rounds import wait_exactly

_ROUND: Final = 500  # interrupts
_PACKAGE: Final = str(Path(shared_multiprocess_queue.__file__).parent)
_context = multiprocessing.get_context("fork")


class Stop(Exception):
    """The exception that interrupts a consumer."""


Take = Callable[[], list[Any]]

TAKES: Final[dict[str, Callable[[SharedMemoryQueue], Take]]] = {
    "get": lambda queue: lambda: [queue.get()],
    "get, timeout": lambda queue: lambda: [queue.get(timeout=0.001)],
    "get_nowait": lambda queue: lambda: [queue.get_nowait()],
    "get_batch": lambda queue: lambda: queue.get_batch(3),
}

# From a number to an item, and back.
ITEMS: Final[dict[str, tuple[Callable[[int], Any], Callable[[Any], int]]]] = {
    "int": (int, int),
    "bytes": (lambda number: number.to_bytes(64, "little"), lambda item: int.from_bytes(item, "little")),
    "str": (str, int),
    "dict": (lambda number: {"number": number}, lambda item: item["number"]),
}

_MODES: Final[tuple[Mode, ...]] = ("mpmc", "spsc")
PACES: Final = ("busy", "waiting")  # the usual state of a consumer


@dataclass(frozen=True)
class Plan:
    """What to do.

    Attributes:
        interrupts: exceptions that are raised, in all.
        engines: of all handles, in turn.
        seed: of all choices.
    """

    interrupts: int
    engines: tuple[Engine, ...]
    seed: int


@dataclass
class Tally:
    """What came out.

    Attributes:
        raised: exceptions that were raised.
        inside: of them, in a call of the queue.
        items: that were put.
        faults: what was wrong.
    """

    raised: int = 0
    inside: int = 0
    items: int = 0
    faults: list[str] = field(default_factory=list)


def run(plan: Plan, console: Console) -> bool:
    """Run rounds until there were enough interrupts, print a table, and return whether nothing was lost or doubled."""
    tallies: dict[tuple[Engine, str], Tally] = {}
    rng = Random(plan.seed)
    rows = [(engine, source) for engine in plan.engines for source in SOURCES]
    share = -(-plan.interrupts // len(rows))
    for row in rows:
        tally = tallies[row] = Tally()
        while tally.raised < share and not tally.faults:
            _round(*row, min(_ROUND, share - tally.raised), rng, tally)
    table = Table(
        "engine", "interrupted by", *[f"[right]{name}" for name in ("raised", "in a call", "items", "faults")]
    )
    for (engine, source), tally in tallies.items():
        table.add_row(engine, source, *[f"{n:,}" for n in (tally.raised, tally.inside, tally.items, len(tally.faults))])
    console.print(table)
    faults = [f"{', '.join(row)}: {fault}" for row, tally in tallies.items() for fault in tally.faults]
    for fault in faults:
        console.print(fault, markup=False, highlight=False)
    raised, items = sum(t.raised for t in tallies.values()), sum(t.items for t in tallies.values())
    console.print(f"{raised:,} interrupts, {items:,} items, {len(faults)} rounds with faults", highlight=False)
    return not faults


def _round(engine: Engine, source: str, interrupts: int, rng: Random, tally: Tally) -> None:
    mode, capacity = rng.choice(_MODES), rng.choice((1, 3, 50))
    how, kind, pace = rng.choice(list(TAKES)), rng.choice(list(ITEMS)), rng.choice(PACES)
    prefix, seed = new_prefix(), rng.getrandbits(32)
    make, number_of = ITEMS[kind]
    with SharedMemoryQueue("storm", True, capacity, 200, run_id=prefix, mode=mode, engine=engine) as queue:
        queue.unlink()
        consumer = _Consumer(TAKES[how](queue), interrupts)
        words = memoryview(mmap(-1, PAGESIZE)).cast("Q")
        with _given_back(consumer), _process(_produce, queue, words, make, pace, seed):
            try:
                SOURCES[source](consumer, seed)
            finally:
                words[_STOP] = 1
        got, put = consumer.got, words[_PUT]
        with suppress(Empty):
            while True:
                got.append(queue.get_nowait())
    tally.raised += consumer.raised
    tally.inside += consumer.inside
    tally.items += put
    numbers = [number_of(item) for item in got]
    if numbers != list(range(put)):
        lost, doubled = sorted(set(range(put)) - set(numbers)), len(numbers) - len(set(numbers))
        what = f"{len(lost)} lost {lost[:5]}, {doubled} doubled" if lost or doubled else "out of order"
        tally.faults.append(f"{mode}, capacity {capacity}, {how}, {kind}, {pace}: of {put:,} items {what}")
    tally.faults.extend(f"{name} is left" for name in left_behind(prefix))


# ---- producer and consumer ------------------------------------------------------------------------------------------

_STOP, _PUT = range(2)  # words: whether to end, and how many items were put


@contextmanager
def _process(work: Callable[..., None], *arguments: Any) -> Iterator[None]:
    """Run something in a process, which ends by itself after this."""
    process = _context.Process(target=_main, args=(os.getpid(), work, arguments), daemon=True)
    process.start()
    try:
        yield
    finally:
        process.join()
    if process.exitcode:
        raise RuntimeError(f"{work.__name__} ended with exit code {process.exitcode}")


def _main(parent: int, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the run
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    die_with(parent)
    work(*arguments)


def _produce(queue: SharedMemoryQueue, words: memoryview, make: Callable[[int], Any], pace: str, seed: int) -> None:
    rng = Random(seed)
    while not words[_STOP]:
        try:
            queue.put(make(words[_PUT]), timeout=0.01)
        except Full:
            continue
        words[_PUT] += 1
        if pace == "waiting":
            time.sleep(rng.random() / 5000)
    queue.close()


class _Consumer:
    """Takes items, and is interrupted a number of times."""

    def __init__(self, take: Take, interrupts: int) -> None:
        self._take = take
        self._interrupts = interrupts
        self.tokens: list[None] = []  # one while an exception is expected
        self.got: list[Any] = []
        self.raised = self.inside = 0

    def run(self) -> None:
        tokens, take, got = self.tokens, self._take, self.got
        while self.raised < self._interrupts:
            try:
                tokens.append(None)
                while True:
                    try:
                        while True:
                            got += take()
                    except Empty:
                        pass
            except Stop as stop:  # no other can come, because the token is gone
                self.raised += 1
                self.inside += any(
                    frame.f_code.co_filename.startswith(_PACKAGE) for frame, _ in walk_tb(stop.__traceback__)
                )

    def interrupt(self) -> None:
        """Raise, in the consumer's own thread, if an exception is expected."""
        if self.tokens:
            self.tokens.pop()
            raise Stop


@contextmanager
def _given_back(consumer: _Consumer) -> Iterator[None]:
    """Offer the token of an exception again that Python has swallowed, as it does with exceptions of finalisers."""
    before = sys.unraisablehook

    def swallowed(unraisable: sys.UnraisableHookArgs) -> None:
        if isinstance(unraisable.exc_value, Stop):
            consumer.tokens.append(None)
        else:
            before(unraisable)

    sys.unraisablehook = swallowed
    try:
        yield
    finally:
        sys.unraisablehook = before


# ---- where exceptions come from --------------------------------------------------------------------------------------


@contextmanager
def _handling(number: int, handler: Callable[..., None]) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def _by_timer(consumer: _Consumer, seed: int) -> None:
    rng = Random(seed)
    is_over = False

    def handle(*_: object) -> None:
        if not is_over:
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(20e-6, 150e-6))
            consumer.interrupt()

    with _handling(signal.SIGALRM, handle):
        signal.setitimer(signal.ITIMER_REAL, 1e-3)
        try:
            consumer.run()
        finally:
            is_over = True  # set first, because the handler sets the timer again
            signal.setitimer(signal.ITIMER_REAL, 0)


def _by_process(consumer: _Consumer, seed: int) -> None:
    words = memoryview(mmap(-1, PAGESIZE)).cast("Q")
    with (
        _handling(signal.SIGINT, lambda *_: consumer.interrupt()),
        _process(_signal, os.getpid(), words, seed),
    ):
        try:
            consumer.run()
        finally:
            words[_STOP] = 1


def _signal(victim: int, words: memoryview, seed: int) -> None:
    rng = Random(seed)
    while not words[_STOP]:
        wait_exactly(rng.uniform(5e-6, 60e-6))
        os.kill(victim, signal.SIGINT)


def _by_thread(consumer: _Consumer, seed: int) -> None:
    rng = Random(seed)
    failed: list[BaseException] = []

    def consume() -> None:
        try:
            consumer.run()
        except BaseException as error:
            failed.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # the shorter, the more places at which this thread can run
    thread = threading.Thread(target=consume)
    thread.start()
    while thread.is_alive():
        try:
            consumer.tokens.pop()
        except IndexError:
            time.sleep(0)
            continue
        if rng.random() < 0.5:
            time.sleep(rng.random() / 10000)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Stop))
    thread.join()
    sys.setswitchinterval(before)
    if failed:
        raise failed[0]


SOURCES: Final[dict[str, Callable[[_Consumer, int], None]]] = {
    "signals of a timer": _by_timer,
    "signals of a process": _by_process,
    "another thread": _by_thread,
}


@click.command()
@click.option("--interrupts", type=click.IntRange(1), default=30_000, show_default=True, help="In all.")
@click.option("--engine", type=options.ONE_ENGINE, help="Of all handles; both in turn if not given.")
@options.seed
def command(interrupts: int, engine: Engine | None, seed: int | None) -> None:
    """Interrupt consumers by signals and from other threads, and see that no item is lost."""
    console = Console()
    plan = Plan(interrupts, ENGINE if engine is None else (engine,), options.tell_seed(seed, console))
    with options.engine_needed():
        ok = run(plan, console)
    sys.exit(not ok)
