"""Tasks of asyncio that put and get, are cancelled and run out of time, in processes of which some are killed.

A call that is cancelled, or whose time is over, has done nothing: a put is made again with the same items, and a get
has taken none. So each item has to come once, as from threads. If a process was killed in the put of a batch, stalls
are not judged, because it may have died with the batch lock.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import replace
from queue import Empty, Full
from random import Random
from typing import Any, Final

from shared_multiprocess_queue import CorruptQueueError, DeserializationError, SharedMemoryQueue

from ..harness import items
from ..harness.engines import MIXED, Engines
from ..harness.history import TORN
from ..harness.logs import PUT_BATCH, Log, Signals
from ..harness.processes import Processes, Worker
from ..harness.rounds import Result, Round, Setting, in_a_queue, wait_exactly
from ..harness.workers import Task, batches, open_queue
from .troubles import some_moment

_WAVES: Final = 3  # of victims
_VICTIMS: Final = 2  # of a wave, at most
_STEPS: Final = {"native": 20, "mixed": 8, "atomics": 1}  # of a wave
_CALLS: Final = 50  # that each survivor makes in a step, beside the victims
_TAKERS: Final = 3  # tasks of a consumer
_SHORT: Final = 2e-3  # seconds, at most, until a call is over or cancelled
_REST: Final = 2e-3  # seconds, at most, for which a producer rests, so that getters fall asleep
_ON_UVLOOP: Final = 0.3  # of the processes, where it is installed


def run(seed: str, engine: Engines, patience: float) -> Result:
    """Kill processes whose tasks wait, or wake others.

    Args:
        seed: of the round.
        engine: of all handles, or "mixed".
        patience: seconds within which each survivor has to make progress.
    """
    rng = Random(seed)
    producers, consumers = rng.choice(((1, 1), (2, 1), (1, 2)))
    capacity = rng.choice((rng.randint(1, 5), rng.randint(16, 64)))
    setting = Setting(seed, capacity, producers, consumers, loops={"producer": produce, "consumer": consume})

    batches: list[Worker] = []  # killed in the put of one

    def trouble(current: Round) -> None:
        for _ in range(_WAVES):
            victims = [
                current.start(rng.choice(("producer", "consumer")), "victim", tight=True)
                for _ in range(rng.randint(1, _VICTIMS))
            ]
            current.wait_for_start(victims)
            for _ in range(_STEPS[engine]):
                current.let_survivors_go_on(_CALLS)
            wait_exactly(some_moment(rng))
            current.kill(victims)
            batches.extend(victim for victim in victims if victim.log.is_doing(PUT_BATCH))

    def run_in(queue: SharedMemoryQueue, processes: Processes) -> Result:
        return Round(setting, queue, processes, patience, engine == MIXED).run(trouble)

    result = in_a_queue(capacity, "mpmc", engine, run_in)
    if batches:
        result.stalls, result.worst = [], (0.0, "")
    return result


# ---- in the processes -----------------------------------------------------------------------------------------------


def _run(work: Coroutine[Any, Any, None], rng: Random) -> None:
    has_uvloop = importlib.util.find_spec("uvloop") is not None and rng.random() < _ON_UVLOOP
    factory = importlib.import_module("uvloop").new_event_loop if has_uvloop else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(work)


def consume(inherited: SharedMemoryQueue, log: Log, signals: Signals, task: Task) -> None:
    """Get items by several tasks until the run is over and the queue is empty."""
    rng = Random(task.seed)
    with open_queue(rng, inherited, task.is_mixed) as queue:
        _run(_Consumer(queue, log, task.most, rng).run(signals), rng)


class _Consumer:
    def __init__(self, queue: SharedMemoryQueue, log: Log, most: int, rng: Random) -> None:
        self._queue = queue
        self._log = log
        self._most = most
        self._rng = rng

    async def run(self, signals: Signals) -> None:
        self._log.start()
        self._log.ask(self._most)
        takers = [asyncio.create_task(self._take()) for _ in range(_TAKERS)]
        while not signals.draining():
            await asyncio.sleep(self._rng.random() * _SHORT)
            await _cancel(takers.pop(self._rng.randrange(_TAKERS)))
            takers.append(asyncio.create_task(self._take()))
        for taker in takers:
            await _cancel(taker)
        try:
            while True:
                self._note([await self._queue.get_async(timeout=0)])
        except Empty:
            self._log.deliver(())
        self._log.end()

    async def _take(self) -> None:
        """Get items, in all ways, until the task is cancelled."""
        queue, rng = self._queue, self._rng
        while True:
            choice, seconds = rng.random(), rng.random() * _SHORT
            try:
                if choice < 0.4:
                    async for item in queue:
                        self._note([item])
                elif choice < 0.6:
                    self._note([await queue.get_async(timeout=seconds)])
                elif choice < 0.8:
                    self._note(await queue.get_batch_async(self._most, timeout=seconds))
                else:
                    async with asyncio.timeout(seconds):
                        self._note([await queue.get_async()])
            except (Empty, TimeoutError):
                pass
            except (DeserializationError, CorruptQueueError):
                self._log.deliver((TORN,))

    def _note(self, got: list[Any]) -> None:
        """Note what a call has returned: in its step, so that no other task's call comes in between."""
        self._log.deliver([items.identify(item) for item in got])
        self._log.ask(self._most)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def produce(inherited: SharedMemoryQueue, log: Log, signals: Signals, task: Task) -> None:
    """Put items until the run is over."""
    rng = Random(task.seed)
    with open_queue(rng, inherited, task.is_mixed) as queue:
        _run(_put_items(queue, log, signals, task, rng), rng)


async def _put_items(queue: SharedMemoryQueue, log: Log, signals: Signals, task: Task, rng: Random) -> None:
    for batch in batches(log, signals, replace(task, tight=True), rng):  # to await takes long enough
        while not await _put(queue, batch, rng):
            pass
        log.acknowledge()
        if rng.random() < 0.01:
            await asyncio.sleep(rng.random() * _REST)


async def _put(queue: SharedMemoryQueue, batch: list[object], rng: Random) -> bool:
    """Put by one call; return whether that was not cancelled, and not too late."""

    async def put(timeout: float | None) -> None:
        if len(batch) == 1:
            await queue.put_async(batch[0], timeout)
        else:
            await queue.put_batch_async(batch, timeout)

    choice, seconds = rng.random(), rng.random() * _SHORT
    try:
        if choice < 0.8:
            await put(None)
        elif choice < 0.9:
            await put(seconds)
        else:
            async with asyncio.timeout(seconds):
                await put(None)
    except (Full, TimeoutError):
        return False
    return True
