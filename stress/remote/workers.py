"""Producers, holders of leases and the server are killed at random moments; then each item is looked for.

A producer notes each item when ``put`` has returned. A worker notes the item and its position before ``done``, and
again after it. So if a worker dies in between, the first note says that the item may have ended. Then

- an item that was noted as put is noted as ended, or is in the queue at the end, or has a first note;
- no item is ended twice;
- no item has two positions: it was put once, however often its request was sent.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from shared_multiprocess_queue import LeaseLostError, RemoteQueue, ShutDown

from .notes import Notes, end, start
from .server import PROGRAMS, Server

PRODUCERS, WORKERS = 2, 3
_EACH = 10**7  # numbers of items of one producer


class Plan(NamedTuple):
    """What to do.

    Attributes:
        kills: of producers and workers, together.
        restarts: of the server.
        seed: of the moments and victims.
    """

    kills: int
    restarts: int
    seed: int


class Outcome(NamedTuple):
    """What was found.

    Attributes:
        acknowledged: items whose put has returned.
        unnoted: items that were put by a producer that died before its note.
        unsure: items that ended, as far as a dead worker's first note tells.
        lost: acknowledged items that are nowhere.
        ended_twice: items whose lease was ended twice.
        put_twice: items that have two positions.
        redelivered: times that an item was handed out again.
    """

    acknowledged: int
    unnoted: int
    unsure: int
    lost: list[int]
    ended_twice: list[int]
    put_twice: list[int]
    redelivered: int

    @property
    def is_right(self) -> bool:
        """Whether nothing is lost and nothing doubled."""
        return not (self.lost or self.ended_twice or self.put_twice)


def run(plan: Plan) -> Outcome:
    """Kill as planned, and return what was found."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        server = Server(place, PROGRAMS[0], appendfsync="always")
        server.start()
        try:
            return _run_on(server, plan, place)
        finally:
            server.kill()


def _run_on(server: Server, plan: Plan, place: Path) -> Outcome:
    put, begun, ended = (Notes(place / name) for name in ("put", "begun", "ended"))
    queue = RemoteQueue[int](server.url(), create=True, capacity=50, leases=2 * WORKERS, lease=1.0)
    chance = random.Random(plan.seed)
    numbers = iter(range(10**6))

    def produce() -> None:
        first = next(numbers) * _EACH
        for item in range(first, first + _EACH):
            queue.put(item)
            put.add(item)

    def work() -> None:
        while True:
            lease = queue.lease()
            begun.add(lease.item, lease.position)
            with suppress(LeaseLostError):
                lease.done()
                ended.add(lease.item, lease.position)

    jobs = [produce] * PRODUCERS + [work] * WORKERS
    pids = []
    for job in jobs:
        pids.append(start(job))
        next(numbers)  # the child has taken it
    try:
        restarts = sorted(chance.sample(range(plan.kills), min(plan.restarts, plan.kills)))
        for kill in range(plan.kills):
            time.sleep(chance.uniform(0.0, 0.05))
            victim = chance.randrange(len(jobs))
            end(pids[victim])
            if kill in restarts:
                server.kill()
                server.start()
            pids[victim] = start(jobs[victim])
            next(numbers)
        goal = queue.get_metrics()["got_total"] + 50  # the server, after its last start, serves those that are left
        while queue.get_metrics()["got_total"] < goal:
            time.sleep(0.01)
    finally:
        for pid in pids:
            end(pid)
    queue.shutdown()
    left = []
    with suppress(ShutDown):
        while True:
            lease = queue.lease()
            with suppress(LeaseLostError):
                lease.done()
                left.append((lease.item, lease.position))
    redelivered = queue.get_metrics()["redelivered"]
    queue.close()
    queue.unlink()
    acknowledged = {item for (item,) in put.all()}
    over = [(line[0], line[1]) for line in ended.all()] + left
    seen = {(line[0], line[1]) for line in begun.all()} | set(over)
    known = {item for item, _ in over}
    return Outcome(
        acknowledged=len(acknowledged),
        unnoted=len({item for item, _ in seen} - acknowledged),
        unsure=len({item for item, _ in seen} - known),
        lost=sorted(acknowledged - {item for item, _ in seen}),
        ended_twice=sorted(item for item, count in Counter(item for item, _ in over).items() if count > 1),
        put_twice=sorted(item for item, count in Counter(item for item, _ in seen).items() if count > 1),
        redelivered=redelivered,
    )
