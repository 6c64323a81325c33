"""Unrelated programs, which know no more of a queue than its name."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from shared_multiprocess_queue import SharedMemoryQueue


def records_of_one(q: SharedMemoryQueue) -> dict[int, int]:
    """Return what the metrics say while this is the only handle; a native one has a record for the metrics' sake."""
    return {os.getpid(): 2 if q.engine == "native" else 1}


@contextmanager
def stranger(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start an unrelated program, which knows no more than names."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


BLOCKED = """
import sys
from shared_multiprocess_queue import SharedMemoryQueue
q = SharedMemoryQueue("q", run_id=sys.argv[1])
print("here", flush=True)
getattr(q, sys.argv[2])(*eval(sys.argv[3]))
print("done", flush=True)
sys.stdin.read()
"""
