"""The program whose ends ``lives`` watches: two queues, a child, and nothing that cleans up.

It takes the start method, how the parent ends, how the child ends, and after how many seconds. An end is "exception",
"exit", or empty: then the process goes on, for half a minute at most.
"""

import multiprocessing
import sys
import time
from contextlib import suppress
from queue import Empty

from shared_multiprocess_queue import Queue

LONGEST = 30.0


def end(how: str) -> None:
    if how == "exception":
        raise RuntimeError("on purpose")
    if how == "exit":
        sys.exit(3)


def echo(tasks: Queue, results: Queue, how: str, seconds: float) -> None:
    until = time.monotonic() + (seconds if how else LONGEST)
    while time.monotonic() < until:
        with suppress(Empty):
            results.put(tasks.get(timeout=0.02))
    end(how)


if __name__ == "__main__":
    method, parent_ends, child_ends, seconds = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
    tasks, results = Queue(), Queue()
    print(tasks.name, results.name, flush=True)
    multiprocessing.set_start_method(method)
    child = multiprocessing.Process(target=echo, args=(tasks, results, child_ends, seconds), daemon=True)
    child.start()
    print(child.pid, flush=True)
    until = time.monotonic() + (seconds if parent_ends else LONGEST)
    while child.is_alive() and time.monotonic() < until:
        tasks.put("item")
        with suppress(Empty):
            results.get(timeout=0.02)
    if parent_ends:
        end(parent_ends)
