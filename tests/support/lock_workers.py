"""Processes with and without the package shared_memory_lock, and what the segment of a lock says."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue._ring import layout
from tests.support.places import SHM
from tests.support.waiting import LONG

VERSION = "0.1.5"
KINDS = ["ours", "package"]


WORKER = """
import json, os, sys
from shared_multiprocess_queue import Full, SharedMemoryQueue
from shared_multiprocess_queue._platform import mutex as _lock

kind, folder, name, run_id = sys.argv[1:]
if kind == "package":
    import shared_memory_lock
    assert os.path.dirname(os.path.dirname(shared_memory_lock.__file__)) == folder, shared_memory_lock.__file__
    assert issubclass(_lock.lock_class(), shared_memory_lock.SharedMemoryLock)
else:
    _lock.lock_class = lambda: _lock.OwnLock
q = SharedMemoryQueue(name, run_id=run_id)
assert isinstance(q._membership.flag, shared_memory_lock.SharedMemoryLock if kind == "package" else _lock.OwnLock)


class Raw:
    '''The lock of the package on the queue's segment, without the queue's rules.'''

    def __init__(self):
        from multiprocessing import resource_tracker
        resource_tracker.register = lambda *_: None  # or the segment would go with this process
        self.lock = shared_memory_lock.SharedMemoryLock(name=f"{name}-queue", run_id=run_id)


print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    try:
        answer = eval(line)
    except Full:
        answer = "Full"
    print(json.dumps(answer), flush=True)
"""


class Worker:
    """A process that evaluates what it is told."""

    def __init__(self, kind: str, package: Path, q: SharedMemoryQueue) -> None:
        environment = os.environ | ({"PYTHONPATH": str(package)} if kind == "package" else {})
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, kind, str(package), q.name, q.run_id],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self.answer() == "ready"

    def tell(self, command: str) -> None:
        assert self.process.stdin is not None
        print(command, file=self.process.stdin, flush=True)

    def answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate(timeout=LONG)[1]
        return json.loads(line)

    def ask(self, command: str) -> Any:
        self.tell(command)
        return self.answer()

    def end(self) -> None:
        """Let it end by itself, in silence."""
        _, complaints = self.process.communicate(timeout=LONG)
        assert complaints == ""
        assert self.process.returncode == 0


@contextmanager
def worker(kind: str, package: Path, q: SharedMemoryQueue) -> Iterator[Worker]:
    started = Worker(kind, package, q)
    try:
        yield started
    finally:
        started.process.kill()
        started.process.communicate()


def int32(q: SharedMemoryQueue) -> int:
    """Return what the segment of the lock says."""
    (value,) = struct.unpack("=i", (SHM / f"{q.run_id}-{q.name}-queue-lock").read_bytes())
    return int(value)


def set_int32(q: SharedMemoryQueue, value: int) -> None:
    with (SHM / f"{q.run_id}-{q.name}-queue-lock").open("r+b") as file:
        file.write(struct.pack("=i", value))


def owner(q: SharedMemoryQueue) -> int:
    """Return the name of the participant that holds the lock."""
    return q._membership.memory.words().load(layout.BATCH_OWNER_AT)


def is_held(q: SharedMemoryQueue) -> bool:
    return int32(q) == 1 and owner(q) != 0
