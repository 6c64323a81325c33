"""Unrelated programs, which know no more of a queue than its name."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


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
