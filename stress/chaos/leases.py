"""Workers that lease items and are killed while they process, end or take over a lease, while another process joins.

Every item is ended at least once; no item is handed out after a worker that lives has ended it, nor while a worker that
lives has it; the number of deliveries is at least that of the workers that had the item; join returns.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from queue import Empty
from random import Random
from tempfile import TemporaryDirectory
from time import sleep
from typing import Final, NamedTuple

from shared_multiprocess_queue import SharedMemoryQueue

from ..harness import engines
from ..harness.engines import Engines
from ..harness.logs import Log, Signals
from ..harness.processes import Processes, Worker, new_prefix
from ..harness.rounds import Result

_NAME: Final = "leases"
_ITEMS: Final = 60
_WAVES: Final = 6
_LONGEST: Final = 4e-3  # seconds that an item is processed


class _Event(NamedTuple):
    """A line of the workers' diary: "has" an item, or "ends" it, about to call ``done``, or has "ended" it."""

    what: str
    pid: int
    item: int
    deliveries: int


def run(seed: str, engine: Engines, patience: float) -> Result:
    """Let workers process items, kill some of them in waves, and join.

    Args:
        seed: of the round.
        engine: of all handles, or "mixed".
        patience: seconds within which join has to return after the last kill.
    """
    rng = Random(seed)
    result = Result(rounds=1)
    signals = Signals()
    prefix = new_prefix()
    joined = threading.Event()
    with TemporaryDirectory() as folder, Processes() as processes:
        diary = Path(folder, "diary")
        with SharedMemoryQueue(
            _NAME, True, rng.randint(1, 5), 64, prefix, leases=rng.randint(1, 4), engine=engines.choose(rng, engine)
        ) as queue:

            def start(fate: str) -> Worker:
                name = f"{fate} {len(processes.workers)}"
                log = Log(0, signals)
                return processes.start(name, log, _work, prefix, log, signals, f"{seed}/{name}", engine, diary)

            def put_and_join() -> None:
                for number in range(_ITEMS):
                    queue.put(number)
                if queue.join():
                    joined.set()

            survivor = start("survivor")
            joiner = threading.Thread(target=put_and_join, daemon=True)
            joiner.start()
            for _ in range(_WAVES):
                victims = [start("victim") for _ in range(rng.randint(1, 2))]
                while joiner.is_alive() and not all(victim.log.started for victim in victims):
                    sleep(1e-3)
                sleep(rng.random() * rng.choice((2e-3, 10e-3, 40e-3)))
                processes.kill(victims)
                result.deaths += len(victims)
            if not joined.wait(patience):
                result.blocked = 1
                result.faults.append(f"join did not return in {patience} s; metrics: {queue.get_metrics()}")
            signals.stop()
            survivor.process.join(patience)
            result.faults += processes.failures()
            queue.unlink()
        killed = {worker.process.pid or 0 for worker in processes.workers if worker.killed}
        events = _read(diary)
        if joined.is_set():
            result.faults += [f"item {n} was never ended" for n in set(range(_ITEMS)) - {e.item for e in _ends(events)}]
        result.faults += _judge(events, killed)
        result.events = len(events)
    return result


def _work(prefix: str, log: Log, signals: Signals, seed: str, engine: Engines, diary: Path) -> None:
    rng = Random(seed)
    pid = os.getpid()
    book = os.open(diary, os.O_WRONLY | os.O_CREAT | os.O_APPEND)  # a line that is written stays, whatever dies
    with SharedMemoryQueue(_NAME, run_id=prefix, engine=engines.choose(rng, engine)) as queue:
        log.start()
        while not signals.stopped():
            with suppress(Empty):
                lease = queue.lease(timeout=0.05)
                item, deliveries = lease.item, lease.deliveries
                os.write(book, f"has {pid} {item} {deliveries}\n".encode())
                sleep(rng.random() * _LONGEST)
                os.write(book, f"ends {pid} {item} {deliveries}\n".encode())
                lease.done()
                os.write(book, f"ended {pid} {item} {deliveries}\n".encode())
            log.beat()


def _read(diary: Path) -> list[_Event]:
    lines = (line.split() for line in diary.read_text().splitlines())
    return [_Event(what, int(pid), int(item), int(deliveries)) for what, pid, item, deliveries in lines]


def _ends(events: list[_Event]) -> list[_Event]:
    return [event for event in events if event.what == "ends"]


def _judge(events: list[_Event], killed: set[int]) -> list[str]:
    """Return what is wrong; a worker that was killed may have died between a step and its line."""
    faults = []
    had: dict[int, list[int]] = defaultdict(list)  # pids of the workers that had an item
    ended: set[int] = set()
    for event in events:
        before = had[event.item]
        if event.what == "has":
            if event.item in ended:
                faults.append(f"item {event.item} was delivered after its end")
            if event.deliveries <= len(before):
                faults.append(f"item {event.item}: delivery {event.deliveries} after {len(before)} others")
            if not killed.issuperset(before):
                faults.append(f"item {event.item} was delivered again, although a worker that had it was not killed")
            before.append(event.pid)
        elif event.what == "ended":
            ended.add(event.item)
    return faults
