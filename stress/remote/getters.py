"""Getters of a queue without leases are killed or cancelled at random moments, and the server is killed.

A getter notes each item when its get has returned. So at the end

- no item was noted twice;
- each item that was put was noted, but for at most one for each kill: what a get had confirmed when its process died.
  Tasks that are cancelled, of which there are many more, lose none.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from shared_multiprocess_queue import Empty, QueueUnavailableError, RemoteQueue

from .notes import Notes, end, start
from .server import Server, served
from .workers import Plan

THREADS, TASKS = 2, 2  # getters that are killed, and getters whose tasks are cancelled
_EACH = 10  # items that are put for each kill


class Outcome(NamedTuple):
    """What was found.

    Attributes:
        put: items.
        lost: that no getter has noted.
        doubled: that were noted more than once.
        kills: of getters.
        cancelled: gets.
    """

    put: int
    lost: int
    doubled: int
    kills: int
    cancelled: int

    @property
    def is_right(self) -> bool:
        """Whether nothing is doubled, and no more lost than kills may have."""
        return not self.doubled and self.lost <= self.kills


def run(plan: Plan) -> Outcome:
    """Kill as planned, and return what was found."""
    with served(appendfsync=plan.fsync) as (server, place):
        return _run_on(server, plan, place)


def _run_on(server: Server, plan: Plan, place: Path) -> Outcome:
    got, cancelled = (Notes(place / name) for name in ("got", "cancelled"))
    queue = RemoteQueue[int](server.url(), create=True, capacity=50, lease=1.0)
    chance = random.Random(plan.seed)

    def get() -> None:
        while True:
            got.add(queue.get())

    async def get_and_cancel() -> None:
        moments = random.Random(plan.seed)
        while True:
            try:
                async with asyncio.timeout(moments.uniform(0.0, 0.004)):
                    item = await queue.get_async()
            except TimeoutError:
                cancelled.add(1)
            else:
                got.add(item)

    killed = [start(get) for _ in range(THREADS)]
    others = [start(lambda: asyncio.run(get_and_cancel())) for _ in range(TASKS)]
    put = 0
    try:
        restarts = sorted(chance.sample(range(plan.kills), min(plan.restarts, plan.kills)))
        for kill in range(plan.kills):
            for _ in range(chance.randrange(_EACH)):
                queue.put(put)
                put += 1
            time.sleep(chance.uniform(0.0, 0.01))
            victim = chance.randrange(THREADS)
            end(killed[victim])
            if kill in restarts:
                server.kill()
                server.start()
            killed[victim] = start(get)
        until = time.monotonic() + 10  # leases of what the dead had end after one second, each time
        while len({item for (item,) in got.all()}) < put and time.monotonic() < until:
            time.sleep(0.05)
    finally:
        for pid in killed + others:
            end(pid)
    # A second, so that what the last ones had comes back.
    left = []
    with suppress(Empty, QueueUnavailableError):
        while True:
            left.append(queue.get(timeout=3))
    queue.close()
    queue.unlink()
    found = Counter([item for (item,) in got.all()] + left)
    doubled = sum(found.values()) - len(found)
    return Outcome(put, put - len(found), doubled, plan.kills + THREADS + TASKS, len(cancelled.all()))
