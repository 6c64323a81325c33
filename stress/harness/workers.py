"""The loops of producers and consumers, each in a process of its own.

A worker either attaches to the queue by its name or uses the handle that it inherited from its parent by fork; its seed
decides. Every way to call the queue is used: blocking, with a short timeout, and without waiting.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from queue import Empty, Full
from random import Random
from typing import Final, Literal

from shared_multiprocess_queue import CorruptQueueError, DeserializationError, RoleTakenError, SharedMemoryQueue

from . import items
from .engines import MIXED, choose
from .history import TORN
from .logs import Log, Signals

Calls = Literal["mixed", "singles", "batches"]

_SHORT: Final = 0.005  # seconds; a timeout that runs out often
LONG: Final = 0.1
"""Seconds that a consumer waits before it looks whether the run is over."""

_PAUSE: Final = 0.001  # seconds; between two looks at something else than the queue


@dataclass(frozen=True)
class Task:
    """What a worker is to do.

    Attributes:
        name: for messages.
        ident: its number among the producers, or among the consumers.
        seed: of all its choices.
        calls: singles, batches, or both.
        most: largest number of items of a batch.
        tight: to spend as little time as possible outside the queue's code; for victims.
        stands_by: to begin only after the first kill, as the standby of a role in mode "spsc".
        is_mixed: to choose an engine for a handle of its own, instead of that of the inherited one.
        visits: number of calls after which it leaves by itself; 0: it stays until the run is over.
        exits: to end its process without closing the handle.
    """

    name: str
    ident: int
    seed: str
    calls: Calls = "mixed"
    most: int = 1
    tight: bool = False
    stands_by: bool = False
    is_mixed: bool = False
    visits: int = 0
    exits: bool = False

    def lasts(self, calls: int) -> bool:
        """Whether it goes on after so many calls."""
        return not self.visits or calls < self.visits

    def batch(self, rng: Random) -> int:
        """Return for how many items the next call is; more than one call for a batch."""
        if self.calls == "singles" or (self.calls == "mixed" and rng.random() < 0.5):
            return 1
        return rng.randint(min(2, self.most), self.most)


def open_queue(rng: Random, inherited: SharedMemoryQueue, is_mixed: bool) -> SharedMemoryQueue:
    """Return the inherited handle, or one of this process's own on the same queue."""
    if rng.random() < 0.5:
        return inherited
    engine = choose(rng, MIXED) if is_mixed else inherited.engine
    return SharedMemoryQueue(inherited.name, run_id=inherited.run_id, engine=engine)


def produce(inherited: SharedMemoryQueue, log: Log, signals: Signals, task: Task) -> None:
    """Put items until the run is over."""
    rng = Random(task.seed)
    with open_queue(rng, inherited, task.is_mixed) as queue:
        put_items(queue, log, signals, task, rng)
        if task.exits:
            os._exit(0)


def put_items(queue: SharedMemoryQueue, log: Log, signals: Signals, task: Task, rng: Random) -> None:
    """Put items through a handle that is open, until the run is over or the visit."""
    for batch in batches(log, signals, task, rng):
        _put(queue, batch, rng)
        log.acknowledge()


def batches(log: Log, signals: Signals, task: Task, rng: Random) -> Iterator[list[object]]:
    """Yield the items of the next put, which the log knows then, until the run is over or the visit."""
    _stand_by(signals, task)
    log.start()
    serial = calls = 0
    while not signals.stopped() and log.has_room() and task.lasts(calls):
        count = task.batch(rng)
        batch = [_make(rng, task, serial + index) for index in range(count)]
        log.intend(serial, count)
        yield batch
        serial += count
        calls += 1
    log.end()


def _make(rng: Random, task: Task, serial: int) -> object:
    return items.make_quickly(task.ident, serial) if task.tight else items.make(rng, task.ident, serial)


def _put(queue: SharedMemoryQueue, batch: list[object], rng: Random) -> None:
    """Put one item by ``put``, several by ``put_batch``, and try again until they are in the queue."""
    while True:
        block, timeout = patience(rng, None)
        try:
            if len(batch) == 1:
                queue.put(batch[0], block, timeout)
            else:
                queue.put_batch(batch, block, timeout)
            return
        except Full:
            pass
        except RoleTakenError:  # mode spsc: the next victim has it
            time.sleep(_PAUSE)


def consume(inherited: SharedMemoryQueue, log: Log, signals: Signals, task: Task) -> None:
    """Get items until the run is over and the queue is empty."""
    rng = Random(task.seed)
    with open_queue(rng, inherited, task.is_mixed) as queue:
        get_items(queue, log, signals, task, rng)
        if task.exits:
            os._exit(0)


def get_items(queue: SharedMemoryQueue, log: Log, signals: Signals, task: Task, rng: Random) -> None:
    """Get items through a handle that is open, until the run is over and the queue is empty, or the visit is over."""
    _stand_by(signals, task)
    log.start()
    calls = 0
    while task.lasts(calls):
        draining = signals.draining()  # read before the get: if that raises Empty then, the queue stays empty
        block, timeout = patience(rng, LONG)
        limit = task.batch(rng)
        log.ask(limit)
        try:
            got = queue.get_batch(limit, block, timeout) if limit > 1 else [queue.get(block, timeout)]
        except Empty:
            log.deliver(())
            if draining:
                break
        except RoleTakenError:
            log.deliver(())
            time.sleep(_PAUSE)
        except (DeserializationError, CorruptQueueError):
            log.deliver((TORN,))
        else:
            log.deliver([items.identify(item) for item in got])
        calls += 1
    log.end()


def patience(rng: Random, longest: float | None) -> tuple[bool, float | None]:
    """Return ``block`` and ``timeout`` of the next call."""
    choice = rng.random()
    if choice < 0.7:
        return True, longest
    if choice < 0.9:
        return True, rng.random() * _SHORT
    return False, None


def _stand_by(signals: Signals, task: Task) -> None:
    while task.stands_by and not signals.marked():
        time.sleep(_PAUSE)


def idle(log: Log, _signals: Signals) -> None:
    """Sleep for a millisecond again and again; a late wake-up is due to the machine and not to the queue."""
    log.start()
    while True:
        time.sleep(_PAUSE)
        log.beat()
