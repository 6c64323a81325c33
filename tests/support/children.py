"""Child processes of a test, which must end, and programs that must say nothing."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess

from tests.support.waiting import LONG, eventually


def fork(function: Callable[[], object]) -> int:
    """Run a function in a child made by os.fork alone, which then goes without any ceremony; return its process id."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        function()
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def end_of(pid: int) -> int:
    """Return how a child ended."""
    try:
        eventually(lambda: os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT), "the child's end")
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    finally:
        _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def in_child(function: Callable[[], object]) -> int:
    """Run a function in a forked child and return how that ended."""
    return end_of(fork(function))


@contextmanager
def forked(function: Callable[[], object]) -> Iterator[int]:
    """Run a function in a forked child beside the block, give its process id, and see that it ends well."""
    pid = fork(function)
    try:
        yield pid
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    assert end_of(pid) == 0


@contextmanager
def running(method: str, target: Callable[..., object], *arguments: object) -> Iterator[BaseProcess]:
    """Run a function in a child; at the end of the block the child must end well, and by itself."""
    process = multiprocessing.get_context(method).Process(target=target, args=arguments)  # type: ignore[attr-defined]
    process.start()
    try:
        yield process
        # Not join with a timeout, which waits for grandchildren, too: they have the pipe that it waits for.
        eventually(lambda: process.exitcode is not None, "the child's end")
        assert process.exitcode == 0
    finally:
        if process.is_alive():
            process.kill()
        process.join()


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program that has to end well and to say nothing on stderr."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result
