"""What is imported when it is needed first: an interrupt, a fork or a slow disk in the middle of it does no harm."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from shared_multiprocess_queue._platform import lazy_import
from tests.support.waiting import LONG

pytestmark = pytest.mark.skipif(not hasattr(sys, "getdlopenflags"), reason="needs fork and signals")


def run(program: str) -> str:
    """Run a program in a fresh interpreter, in which nothing was imported late; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=LONG, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_an_interrupted_first_import_leaves_a_process_that_works() -> None:
    """After an interrupt in the first import, at whatever point, the process can open queues.

    The submodules of a package whose import was cut short stayed, without it, and no queue could be opened again.
    """
    said = run(
        """
        import os, signal, sys
        from shared_multiprocess_queue import SharedMemoryQueue

        def interrupt(*_):
            raise KeyboardInterrupt

        interrupted = 0
        for number in range(20):
            if (pid := os.fork()) == 0:
                name = f"late-{os.getpid()}"
                signal.signal(signal.SIGALRM, interrupt)
                queue, hit = None, False
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.002 * (number + 1))
                    queue = SharedMemoryQueue(name, create=True, capacity=1)
                    signal.setitimer(signal.ITIMER_REAL, 0)
                except KeyboardInterrupt:
                    hit = True
                if queue is None:
                    queue = SharedMemoryQueue(name, create=True, capacity=1)
                queue.close()
                queue.unlink()
                os._exit(10 + hit)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            assert code in (10, 11), code
            interrupted += code == 11
        print(interrupted)
        """
    )
    assert int(said) > 0, "no interrupt came in time: nothing was tested"


SLOW = """
import importlib.abc, os, sys, threading, time
from shared_multiprocess_queue import SharedMemoryQueue

slow = threading.Event()

class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "atomics._impl.patomic":
            slow.set()
            time.sleep(0.3)

sys.meta_path.insert(0, Slow())
name = f"late-{os.getpid()}"

def use(name):
    queue = SharedMemoryQueue(name, create=True, capacity=1)
    queue.close()
    queue.unlink()

thread = threading.Thread(target=use, args=(name,))
thread.start()
slow.wait()
"""


def test_a_child_forked_during_an_import_can_open_queues() -> None:
    """Another thread was importing at the fork.

    It waited for ever for the lock of a module, whose thread it does not have.
    """
    said = run(
        SLOW
        + textwrap.dedent(
            """
            import faulthandler
            if (pid := os.fork()) == 0:
                faulthandler.dump_traceback_later(20, exit=True)
                use(f"late-{os.getpid()}")
                os._exit(7)
            thread.join()
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            """
        )
    )
    assert said == "7\n"


def test_nobody_waits_for_a_creator_who_imports() -> None:
    """It imported between the making of the name and the mark that the queue is complete."""
    assert run(SLOW + "print([n for n in os.listdir('/dev/shm') if name in n])\nthread.join()") == "[]\n"


def test_an_error_of_an_import_comes_through_and_the_next_call_tries_again() -> None:
    calls: list[int] = []

    @lazy_import.late
    def load() -> int:
        calls.append(1)
        if len(calls) == 1:
            raise ImportError("not now")
        return len(calls)

    with pytest.raises(ImportError, match="not now"):
        load()
    assert load() == 2
    assert load() == 2


HOLDS_THE_LOCK_OF_LOGGING = """
import logging
from shared_multiprocess_queue._platform.lazy_import import late
with logging._lock:
    late(lambda: logging.getLogger("another"))()
"""

CONFIGURES = """
import logging.config
queue = {"()": "shared_multiprocess_queue.SharedMemoryQueue", "capacity": 1}
handler = {"class": "shared_multiprocess_queue.logging.QueueHandler", "queue": queue}
logging.config.dictConfig({"version": 1, "handlers": {"q": handler}})
"""


@pytest.mark.parametrize(
    "program",
    [
        HOLDS_THE_LOCK_OF_LOGGING,
        pytest.param(CONFIGURES, marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="it knows no queues")),
    ],
)
def test_an_import_does_not_wait_for_a_thread_that_waits_for_logging(program: str) -> None:
    """``logging.config`` makes a queue while it holds a lock that the modules need which the first queue imports."""
    run(program)


def test_an_import_of_all_names_needs_no_extra() -> None:
    run("import sys; sys.modules['redis'] = None; from shared_multiprocess_queue import *")
