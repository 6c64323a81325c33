"""Queues of one run of the tests, and whether they are in order."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from shared_multiprocess_queue import Empty, Full, SharedMemoryQueue
from shared_multiprocess_queue._ring import layout
from stress.hostile import staging
from tests.support.places import SHM

RUN = f"test{os.getpid()}"  # every segment of this run has this prefix
ANONYMOUS = f"anonymous-{os.getpid()}-"  # or, if it has neither name nor run_id, this one

MakeQueue = Callable[..., SharedMemoryQueue]


def segments() -> set[str]:
    """Return the names in shared memory that belong to this run."""
    return (
        {path.name for path in SHM.iterdir() if f"{RUN}-" in path.name or path.name.startswith(ANONYMOUS)}
        if SHM.is_dir()
        else set()
    )


def drained(q: SharedMemoryQueue) -> list[Any]:
    """Take everything."""
    found: list[Any] = []
    with suppress(Empty):
        while True:
            found.append(q.get_nowait())
    return found


def let_look(queue: SharedMemoryQueue) -> None:
    """Let the next get look for dead holders of leases, as it does when 100 ms have gone since the last look."""
    staging.Stage(queue).write(layout.LOOK_AT, 0)


def assert_works(queue: SharedMemoryQueue) -> None:
    """A queue that is empty takes its capacity without waiting and gives it back in order, lap after lap."""
    assert queue.empty()
    for lap in range(3):
        expected = [f"after{lap}.{i}".encode() for i in range(queue.capacity)]
        for item in expected:
            queue.put_nowait(item)
        assert queue.full()
        with pytest.raises(Full):
            queue.put_nowait(b"too much")
        assert drained(queue) == expected
    metrics = queue.get_metrics()
    assert metrics["put_total"] == metrics["got_total"]
    assert metrics["blocked_by"] == []
