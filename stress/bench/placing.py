"""An item that is written and read in place, in one process, beside one copy of as many bytes."""

from __future__ import annotations

import mmap
import os
import time
from statistics import median

from .channel import Peer
from .scenarios import Scenario


def place(peer: Peer, scenario: Scenario, seconds: float) -> dict[str, float]:
    """Return the microseconds that an item takes in place, and those of a copy."""
    item = scenario.make()[0]
    size, now = len(item), time.perf_counter_ns
    own = memoryview(mmap.mmap(-1, size * scenario.capacity))  # shared, and as much as the queue walks through
    placed: list[float] = []
    copied: list[float] = []
    channel = peer.make(f"bench-{os.getpid()}-place", scenario.channel_size())
    try:
        end = channel.sender(0)
        queue = end.queue
        until = now() + int(seconds * 1e9)
        while now() < until or len(copied) < 3:
            for i in range(scenario.capacity):
                start = now()
                with queue.reserve(size) as memory:
                    memory[:] = item
                with queue.view() as memory:
                    assert memory[-1] == item[-1]
                middle = now()
                own[i * size : (i + 1) * size] = item
                copied.append((now() - middle) / 1e3)
                placed.append((middle - start) / 1e3)
        end.close()
    finally:
        channel.remove()
    return {"in place": median(placed), "copy": median(copied)}
