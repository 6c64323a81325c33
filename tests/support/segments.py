"""The segments of queue "q" of a test, as files and as handles."""

from __future__ import annotations

import os
import signal
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue._engine import lifecycle
from shared_multiprocess_queue._ring import layout
from tests.support.children import end_of, fork
from tests.support.places import SHM
from tests.support.waiting import LONG

ROOT = os.geteuid() == 0
NOBODY = 65534

MARK = bytes(layout.MAGIC_AT) + struct.pack("=Q", layout.UNFINISHED)
LEFTOVERS = {"empty": b"", "the mark alone": MARK, "much, with the mark": MARK + bytes(1 << 20)}


def segments_of(run_id: str) -> set[str]:
    return {path.name for path in SHM.iterdir() if path.name.startswith(run_id)}


def create(run_id: str, **arguments: Any) -> SharedMemoryQueue:
    return SharedMemoryQueue("q", create=True, run_id=run_id, **{"capacity": 3, **arguments})


def attach(run_id: str, **arguments: Any) -> SharedMemoryQueue:
    return SharedMemoryQueue("q", run_id=run_id, **arguments)


def works(q: SharedMemoryQueue) -> bool:
    """Whether items go through in every way; a batch needs the lock, too."""
    q.put_batch(["a", "b"], timeout=LONG)
    return bool(q.get_batch(2, timeout=LONG) == ["a", "b"])


def remove(q: SharedMemoryQueue) -> None:
    q.close()
    q.unlink()


@contextmanager
def slow_creator(run_id: str, monkeypatch: pytest.MonkeyPatch, where: str) -> Iterator[Callable[[], None]]:
    """Have a child create a queue and stop in the middle; give a function that lets it go on to its end."""
    ready, is_ready = os.pipe()
    go, may_go = os.pipe()
    module, function = {
        "before its size": (os, "ftruncate"),
        "before its memory": (os, "posix_fallocate"),
        "before its lock": (lifecycle, "open_lock"),
    }[where]

    def child() -> None:
        real = getattr(module, function)

        def stop(*arguments: Any, **keywords: Any) -> Any:
            monkeypatch.undo()
            os.write(is_ready, b"x")
            os.read(go, 1)
            return real(*arguments, **keywords)

        monkeypatch.setattr(module, function, stop)
        create(run_id).put("made in the end")

    pid = fork(child)
    status: list[int] = []

    def go_on() -> None:
        os.write(may_go, b"x")
        status.append(end_of(pid))

    try:
        assert os.read(ready, 1)
        yield go_on
    finally:
        if not status:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        for descriptor in (ready, is_ready, go, may_go):
            os.close(descriptor)
    assert status == [0]
