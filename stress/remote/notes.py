"""Lines of numbers in a file that survives its writers, and processes that are killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path


class Notes:
    """Lines of numbers; each line is one write."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch()

    def add(self, *numbers: int) -> None:
        """Write one line."""
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        os.write(descriptor, (" ".join(map(str, numbers)) + "\n").encode())
        os.close(descriptor)

    def all(self) -> list[tuple[int, ...]]:
        """Return the lines."""
        return [tuple(map(int, line.split())) for line in self._path.read_text("ascii").splitlines()]


def start(job: Callable[[], object]) -> int:
    """Run a job in a forked child; return its process id."""
    pid = os.fork()
    if pid == 0:
        try:
            job()
        finally:
            os._exit(1)
    return pid


def end(pid: int) -> None:
    """Kill a child."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
