"""One measurement of one process, with whichever package PYTHONPATH offers; started by compare, not by hand.

    peer_worker.py alone CORE ITEMS            put and get in turn
    peer_worker.py consume CORE ITEMS RUN_ID   make a queue, say so, get
    peer_worker.py produce CORE ITEMS RUN_ID   put

It uses nothing but what all releases of the package offer, and prints its result as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from typing import Any

import shared_multiprocess_queue
from shared_multiprocess_queue import SharedMemoryQueue

ITEM = {"data": "item_123", "timestamp": 1.5}
NAME = "compare"
CAPACITY = 1000
WARM_UP = 500


def alone(items: int, run_id: str) -> float:
    """Return the seconds that putting and getting takes in one process."""
    queue = SharedMemoryQueue(NAME, create=True, capacity=CAPACITY, run_id=run_id)
    try:
        _put_and_get(queue, WARM_UP)
        began = time.perf_counter()
        _put_and_get(queue, items)
        return time.perf_counter() - began
    finally:
        _remove(queue)


def _put_and_get(queue: Any, items: int) -> None:
    for _ in range(items):
        queue.put(ITEM)
        if queue.get() != ITEM:
            raise RuntimeError("the queue returned another item than was put")


def consume(items: int, run_id: str) -> float:
    """Return the seconds from the first item after the warm-up to the last one."""
    queue = SharedMemoryQueue(NAME, create=True, capacity=CAPACITY, run_id=run_id)
    try:
        print("ready", flush=True)
        for _ in range(WARM_UP):
            queue.get()
        began = time.perf_counter()
        for _ in range(items):
            queue.get()
        return time.perf_counter() - began
    finally:
        _remove(queue)


def produce(items: int, run_id: str) -> float:
    """Return the seconds that putting takes."""
    queue = SharedMemoryQueue(NAME, create=False, run_id=run_id)
    began = time.perf_counter()
    for _ in range(WARM_UP + items):
        queue.put(ITEM)
    seconds = time.perf_counter() - began
    queue.close()
    return seconds


def _remove(queue: Any) -> None:
    queue.close()
    with contextlib.suppress(FileNotFoundError):
        queue.unlink()


def main() -> None:
    """Measure what the command line says."""
    what, core, items, run_id = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    if core >= 0:
        os.sched_setaffinity(0, {core})
    seconds = {"alone": alone, "consume": consume, "produce": produce}[what](items, run_id)
    print(json.dumps({"seconds": seconds, "package": shared_multiprocess_queue.__file__}), flush=True)


if __name__ == "__main__":
    main()
