"""A demo that runs in a process group of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from shared_multiprocess_queue.cli import demo

COMMAND = [sys.executable, "-m", "shared_multiprocess_queue"]
WATCHDOG = 120  # seconds; nothing here is about speed
MANY = 3 * (demo.TASKS + demo.RESULTS)  # files, more than the queues have places


def left_segments(pid: int) -> list[str]:
    return [name for name in os.listdir("/dev/shm") if f"shmq-demo-{pid}-" in name]


def processes_of_group(group: int) -> list[int]:
    """Return the live processes of a process group."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (OSError, NotADirectoryError):
            continue
        if fields and int(fields[2]) == group and fields[0] not in "ZX":
            found.append(int(entry.name))
    return found


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Wait until a function returns something true."""
    until = time.monotonic() + WATCHDOG
    while not condition():
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(0.01)


class Run:
    """A demo that runs in a process group of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.pid = process.pid

    def workers(self) -> list[int]:
        """Return the workers' process ids; the resource tracker is no worker."""
        found = []
        for pid in processes_of_group(self.pid):
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if b"spawn_main" in command:
                found.append(pid)
        return found

    def wait_for_workers(self, count: int) -> list[int]:
        wait_until(lambda: len(self.workers()) == count, f"{count} workers")
        return self.workers()

    def end(self) -> tuple[int, str, str]:
        """Wait for the end; return exit code, output and errors, once nothing of it is left."""
        output, errors = self.process.communicate(timeout=WATCHDOG)
        wait_until(lambda: not processes_of_group(self.pid), "the end of all processes")
        assert "Traceback" not in errors
        assert left_segments(self.pid) == []
        return self.process.returncode, output, errors


@contextmanager
def running(*arguments: object, command: list[str] = COMMAND) -> Iterator[Run]:
    process = subprocess.Popen(
        [*command, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield Run(process)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def run(*arguments: object, command: list[str] = COMMAND) -> tuple[int, str, str]:
    with running(*arguments, command=command) as demo_run:
        return demo_run.end()
