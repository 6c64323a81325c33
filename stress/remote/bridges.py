"""Bridges are killed at random moments while items go through them, and their connections are cut.

At the end each item is looked for.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from typing import Any, Literal, NamedTuple

from shared_multiprocess_queue import Empty, Full, RemoteQueue, SharedMemoryQueue

from .cutting import CuttingProxy
from .server import served

BATCH = 5


class Outcome(NamedTuple):
    """What was found.

    Attributes:
        put: items.
        lost: that did not arrive.
        doubled: times that an item arrived again.
        most: times that this may happen.
        cuts: of connections.
    """

    put: int
    lost: int
    doubled: int
    most: int
    cuts: int

    @property
    def is_right(self) -> bool:
        """Whether nothing is lost, and no more doubled than is said."""
        return not self.lost and self.doubled <= self.most


def run(direction: Literal["in", "out"], kills: int, seed: int, often: float = 0) -> Outcome:
    """Kill bridges so often, and cut their connections at such a part of messages; return what was found."""
    with served(appendfsync="no") as (server, _):
        run_id = f"bridges{os.getpid()}"
        with (
            SharedMemoryQueue[int]("near", create=True, capacity=20, leases=20, run_id=run_id) as near,
            RemoteQueue[int](server.url("far"), create=True, capacity=20, leases=20, lease=1.0) as far,
        ):
            proxy = CuttingProxy(server.port, seed, often)
            try:
                url = f"redis://127.0.0.1:{proxy.port}/0#far"
                put, lost, doubled = _run_between(near, far, url, direction, kills, seed)
                most = 0 if direction == "out" else (kills + 1) * BATCH
                return Outcome(put, lost, doubled, most, proxy.cuts)
            finally:
                proxy.close()
                near.unlink()


def _run_between(
    near: SharedMemoryQueue[int], far: RemoteQueue[int], url: str, direction: str, kills: int, seed: int
) -> tuple[int, int, int]:
    source: Any = near if direction == "out" else far
    target: Any = far if direction == "out" else near
    command = [sys.executable, "-m", "shared_multiprocess_queue", "bridge", "near", url, "--run-id", near.run_id]
    command += ["--direction", direction, "--batch", str(BATCH)]
    chance = random.Random(seed)
    put, found = 0, Counter[int]()
    for kill in range(kills + 1):
        bridge = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        goal = len(found) + chance.randrange(5, 60)
        try:
            while len(found) < (goal if kill < kills else put):
                assert bridge.poll() is None, f"the bridge has ended with code {bridge.returncode}"
                if kill < kills:
                    with suppress(Full):
                        source.put_nowait(put)
                        put += 1
                with suppress(Empty):
                    found[_got(target)] += 1
            if kill == kills:
                while not source.join(timeout=0):
                    time.sleep(0.01)
        finally:
            bridge.kill()
            bridge.wait()
    while not target.empty():
        found[_got(target)] += 1
    return put, put - len(found), sum(found.values()) - len(found)


def _got(queue: Any) -> int:
    item: int = queue.get(timeout=0.01)
    queue.task_done()
    return item
