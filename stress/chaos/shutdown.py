"""Shutdown in a storm: producers and consumers are killed and paused while the queue is shut down.

What was acknowledged is delivered, what was refused is not, and every survivor finds the end.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Final

from shared_multiprocess_queue import SharedMemoryQueue, ShutDown

from ..harness import workers
from ..harness.engines import MIXED, Engines
from ..harness.history import judge, parse_id
from ..harness.logs import Log, Signals
from ..harness.processes import POLL, Processes, Worker
from ..harness.rounds import Result, in_a_queue, wait_exactly
from ..harness.workers import Task
from .troubles import some_moment

_ROOM: Final = 1 << 20  # entries of a log
_HOLD: Final = 0.2  # seconds, at most, that a pause lasts


def run(seed: str, engine: Engines, patience: float) -> Result:
    """Run a round."""
    rng = Random(seed)
    return in_a_queue(
        rng.randint(1, 5),
        "mpmc",
        engine,
        lambda queue, processes: _Round(rng, seed, queue, processes, engine == MIXED).run(patience),
    )


class _Round:
    def __init__(self, rng: Random, seed: str, queue: SharedMemoryQueue, processes: Processes, is_mixed: bool) -> None:
        self._rng = rng
        self._seed = seed
        self._queue = queue
        self._processes = processes
        self._is_mixed = is_mixed
        self._signals = Signals()
        self._producers: list[Worker] = []
        self._consumers: list[Worker] = []

    def run(self, patience: float) -> Result:
        rng, result = self._rng, Result(rounds=1)
        survivors = [self._start(is_producer) for is_producer in (True, False)]
        victims = [self._start(rng.random() < 0.5) for _ in range(rng.randint(1, 4))]
        paused = [self._start(rng.random() < 0.5) for _ in range(rng.randint(0, 2))]
        self._wait(lambda: all(worker.log.started for worker in (*survivors, *victims, *paused)), patience)
        self._signals.mark()
        wait_exactly(some_moment(rng))
        _send(paused, signal.SIGSTOP)
        ending = self._processes.start("shutdown", Log(1, self._signals), _shut_down, self._queue, some_moment(rng))
        victims.append(ending)
        rng.shuffle(victims)
        for victim in victims:
            wait_exactly(some_moment(rng))
            self._processes.kill([victim])
        self._queue.shutdown()  # the process that was to do it may have been killed before
        wait_exactly(rng.random() * _HOLD)
        _send(paused, signal.SIGCONT)
        result.deaths, result.events = len(victims), len(paused)
        if not self._wait(lambda: not any(worker.running for worker in (*survivors, *paused)), patience):
            waiting = [f"{worker.name} ({worker.log.doing})" for worker in (*survivors, *paused) if worker.running]
            result.blocked = 1
            result.faults.append(f"did not find the end: {', '.join(waiting)}")
            self._processes.dump(self._queue)
        self._processes.end()
        result.faults += self._processes.failures()
        if not result.faults:
            self._judge(result)
        return result

    def _start(self, is_producer: bool) -> Worker:
        side = self._producers if is_producer else self._consumers
        name = f"{'producer' if is_producer else 'consumer'} {len(side)}"
        log = Log(_ROOM, self._signals)
        task = Task(name, len(side), f"{self._seed}/{name}", most=self._queue.capacity, is_mixed=self._is_mixed)
        loop = _produce if is_producer else _consume
        worker = self._processes.start(name, log, loop, self._queue, log, self._signals, task)
        side.append(worker)
        return worker

    def _wait(self, is_over: Callable[[], bool], patience: float) -> bool:
        until = time.monotonic() + 3 * patience
        while not is_over():
            if time.monotonic() > until:
                return False
            time.sleep(POLL)
        return True

    def _judge(self, result: Result) -> None:
        metrics = self._queue.get_metrics()
        result.adopted, result.buried = metrics["orphans_recovered"], metrics["dead_puts"]
        for name, call in (("get", self._queue.get_nowait), ("put", lambda: self._queue.put_nowait("late"))):
            with suppress(ShutDown):
                result.faults.append(f"after all had found the end a {name} was not refused: {call()!r}")
        consumers = [worker.log.as_consumer(worker.name, worker.killed) for worker in self._consumers]
        producers = [worker.log.as_producer(number) for number, worker in enumerate(self._producers)]
        result.verdict = judge(producers, consumers)
        delivered = {parse_id(ident) for consumer in consumers for ident in consumer.delivered}
        for worker, producer in zip(self._producers, producers, strict=True):
            refused = [put for put in producer.puts if not worker.killed and not put.acknowledged]
            came = [put for put in refused if (producer.ident, put.first) in delivered]
            result.faults += [f"item {put.first} of {worker.name} came though its put was refused" for put in came]


def _produce(inherited: SharedMemoryQueue, log: Log, signals: Signals, task: Task) -> None:
    rng = Random(task.seed)
    with workers.open_queue(rng, inherited, task.is_mixed) as queue, suppress(ShutDown):
        workers.put_items(queue, log, signals, task, rng)
    log.end()


def _consume(inherited: SharedMemoryQueue, log: Log, signals: Signals, task: Task) -> None:
    rng = Random(task.seed)
    with workers.open_queue(rng, inherited, task.is_mixed) as queue, suppress(ShutDown):
        workers.get_items(queue, log, signals, task, rng)
    log.end()


def _shut_down(queue: SharedMemoryQueue, delay: float) -> None:
    wait_exactly(delay)
    queue.shutdown()


def _send(paused: list[Worker], number: signal.Signals) -> None:
    for worker in paused:
        if worker.process.pid is not None and worker.running:
            os.kill(worker.process.pid, number)
