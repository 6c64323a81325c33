"""Producers, holders of leases and the server are killed at random moments, or their connections are cut.

At the end each item is looked for.

A producer notes each item when ``put`` has returned. A worker notes the item and its position before ``done``, and
again after it. So if a worker dies in between, the first note says that the item may have ended. Then

- an item that was noted as put is noted as ended, or is in the queue at the end, or has a first note;
- no item is ended twice;
- no item has two positions: it was put once, however often its request was sent.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from shared_multiprocess_queue import LeaseLostError, RemoteQueue, ShutDown

from .cutting import CuttingProxy
from .notes import Notes, end, start
from .server import Server, free_port, served

PRODUCERS, WORKERS = 2, 3
OFTEN = 0.02
"""The part of messages at which a connection is cut."""

_EACH = 10**7  # numbers of items of one producer


class Plan(NamedTuple):
    """What to do.

    Attributes:
        kills: of producers, and as many of workers.
        restarts: of the server, which is killed.
        seed: of the moments and victims.
        cuts: of connections.
        fsync: how often the server's file is written to the disk: "always", or "everysec".
    """

    kills: int
    restarts: int
    seed: int
    cuts: int = 0
    fsync: str = "always"


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
        cuts: of connections.
        is_safe: whether the server writes before it answers; one that does not may lose a second or two.
    """

    acknowledged: int
    unnoted: int
    unsure: int
    lost: list[int]
    ended_twice: list[int]
    put_twice: list[int]
    redelivered: int
    cuts: int
    is_safe: bool

    @property
    def is_right(self) -> bool:
        """Whether nothing is lost and nothing doubled, as far as the server can tell."""
        return not self.put_twice and not (self.is_safe and (self.lost or self.ended_twice))


def run(plan: Plan) -> Outcome:
    """Kill as planned, and return what was found."""
    with served(appendfsync=plan.fsync) as (server, place):
        return _run_on(server, plan, place)


def _run_on(server: Server, plan: Plan, place: Path) -> Outcome:
    put, begun, ended = (Notes(place / name) for name in ("put", "begun", "ended"))
    queue = RemoteQueue[int](server.url(), create=True, capacity=50, leases=2 * WORKERS, lease=1.0)
    numbers = iter(range(10**6))
    port = free_port()

    def opened() -> RemoteQueue[int]:
        """Return the parent's handle, which a forked child may use; or one through the proxy."""
        return RemoteQueue[int](f"redis://127.0.0.1:{port}/0#{queue.name}") if plan.cuts else queue

    def produce() -> None:
        into = opened()
        first = next(numbers) * _EACH
        for item in range(first, first + _EACH):
            into.put(item)
            put.add(item)

    def work() -> None:
        out_of = opened()
        while True:
            lease = out_of.lease()
            begun.add(lease.item, lease.position)
            with suppress(LeaseLostError):
                lease.done()
                ended.add(lease.item, lease.position)

    def started(job: Callable[[], None]) -> int:
        pid = start(job)
        next(numbers)  # the child has taken it
        return pid

    jobs = [produce] * PRODUCERS + [work] * WORKERS
    pids = [started(job) for job in jobs]
    proxy = CuttingProxy(server.port, plan.seed, OFTEN, port)  # behind the forks, for it has threads
    try:
        _trouble(server, plan, pids, lambda victim: started(jobs[victim]))
        while proxy.cuts < plan.cuts:
            time.sleep(0.01)
        proxy.often = 0
        goal = queue.get_metrics()["got_total"] + 50  # the server, after its last start, serves those that are left
        while queue.get_metrics()["got_total"] < goal:
            time.sleep(0.01)
    finally:
        for pid in pids:
            end(pid)
        proxy.close()
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
        cuts=proxy.cuts,
        is_safe=plan.fsync == "always",
    )


def _trouble(server: Server, plan: Plan, pids: list[int], started: Callable[[int], int]) -> None:
    """Kill a producer and a worker in turn, and start another in its place; sometimes kill the server, too."""
    chance = random.Random(plan.seed)
    kills = 2 * plan.kills
    restarts = set(chance.sample(range(kills), min(plan.restarts, kills)))
    for kill in range(kills):
        time.sleep(chance.uniform(0.0, 0.05))
        victim = chance.randrange(PRODUCERS) if kill % 2 else PRODUCERS + chance.randrange(WORKERS)
        end(pids[victim])
        if kill in restarts:
            server.kill()
            server.start()
        pids[victim] = started(victim)
