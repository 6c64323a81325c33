"""SIGINT at random moments, to workers that catch KeyboardInterrupt and continue.

KeyboardInterrupt is raised only inside a call of the queue, and at most once a call, so that the worker's own notes are
complete. An interrupted put has happened or has not; an interrupted get loses no item.
"""

from __future__ import annotations

import os
import signal
from queue import Empty
from random import Random

from shared_multiprocess_queue import Full, SharedMemoryQueue

from ..harness import items
from ..harness.engines import Engines
from ..harness.logs import Log, Signals
from ..harness.processes import Worker
from ..harness.rounds import Result, Round, run_round, wait_exactly
from ..harness.workers import LONG, Task, batches, open_queue, patience
from .troubles import setting_of, some_moment

_VICTIMS = (("producer",), ("consumer",), ("producer", "consumer"), ("consumer", "consumer"))


def run(seed: str, engine: Engines, seconds: float) -> Result:
    """Interrupt producers and consumers.

    Args:
        seed: of the round.
        engine: of all handles, or "mixed".
        seconds: within which each process has to make progress.
    """
    rng, setting = setting_of(seed)

    def trouble(current: Round) -> None:
        loops = {"producer": produce, "consumer": consume}
        victims = [current.start(role, "interrupted", loop=loops[role], tight=True) for role in rng.choice(_VICTIMS)]
        current.wait_for_start(victims)
        current.signals.mark()
        for _ in range(rng.randint(100, 300)):
            wait_exactly(some_moment(rng) / 8)
            _interrupt(rng.choice(victims))
            current.result.events += 1

    return run_round(setting, engine, seconds, trouble)


def _interrupt(victim: Worker) -> None:
    assert victim.process.pid is not None
    os.kill(victim.process.pid, signal.SIGINT)


class CtrlC:
    """The signal handler: raises once while it is armed."""

    armed = False

    def __call__(self, *_: object) -> None:
        if self.armed:
            self.armed = False
            raise KeyboardInterrupt


def listen() -> CtrlC:
    ctrl_c = CtrlC()
    signal.signal(signal.SIGINT, ctrl_c)
    return ctrl_c


def produce(inherited: SharedMemoryQueue, log: Log, signals: Signals, task: Task) -> None:
    """Put items until the run is over; an item is not put again if its put was interrupted."""
    rng = Random(task.seed)
    ctrl_c = listen()
    with open_queue(rng, inherited, task.is_mixed) as queue:
        for batch in batches(log, signals, task, rng):
            if _put(queue, batch, ctrl_c):
                log.acknowledge()
            else:
                log.give_up_put()


def _put(queue: SharedMemoryQueue, batch: list[object], ctrl_c: CtrlC) -> bool:
    """Put items; return whether the call was not interrupted."""
    while True:
        ctrl_c.armed = True
        try:
            if len(batch) == 1:
                queue.put(batch[0], timeout=LONG)
            else:
                queue.put_batch(batch, timeout=LONG)
            returned = True
            ctrl_c.armed = False
        except KeyboardInterrupt:
            return False  # it may also have returned before the interrupt; there is no way to know
        except Full:
            ctrl_c.armed = False
        else:
            return returned


def consume(inherited: SharedMemoryQueue, log: Log, signals: Signals, task: Task) -> None:
    """Get items until the run is over and the queue is empty."""
    rng = Random(task.seed)
    ctrl_c = listen()
    with open_queue(rng, inherited, task.is_mixed) as queue:
        log.start()
        while True:
            draining = signals.draining()
            limit = task.batch(rng)
            block, timeout = patience(rng, LONG)
            log.ask(limit)
            result = None
            ctrl_c.armed = True
            try:
                result = queue.get_batch(limit, block, timeout)
                ctrl_c.armed = False
            except KeyboardInterrupt:
                if result is None:
                    log.give_up_get()
                    continue
            except Empty:
                ctrl_c.armed = False
                log.deliver(())
                if draining:
                    break
                continue
            log.deliver([items.identify(item) for item in result])
        log.end()
