"""A process that a signal ends leaves a janitor, which removes the queues that have no user left.

Other processes may make queues meanwhile, which removes them, too. So what is left is looked at as soon as the program
and its janitor have ended.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue._engine import choice
from stress.chaos.lives import _of_session
from tests.support.places import SHM
from tests.support.segments import attach, segments_of
from tests.support.waiting import LONG, eventually

pytestmark = [
    pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files"),
    pytest.mark.skipif(not choice.has_native(), reason="the janitor is written in C"),
]

MAKE = """
import ctypes, signal, sys, time
from shared_multiprocess_queue import SharedMemoryQueue
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup lets all that it starts ignore it
q = SharedMemoryQueue({what}capacity=3, run_id={run_id!r}, engine={engine!r})
"""


def make(run_id: str, name: str = "q", engine: str = "native", delete: bool = True) -> str:
    """Return code that makes a queue; it is anonymous if the name is empty."""
    what = f"{name!r}, create=True, {delete=}, " if name else ""
    return MAKE.format(what=what, run_id=run_id, engine=engine)


Program = subprocess.Popen[str]
READY = 'print("ready", flush=True)\n'
WAIT = "time.sleep(60)\n"
IN_C = "ctypes.PyDLL(None).pause()\n"  # holds the lock of the interpreter
IN_GET = "q.get()\n"


class Programs:
    """Programs of a test; those that are left are ended with it."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.started: list[Program] = []

    def start(self, *code: str, name: str = "q", engine: str = "native", delete: bool = True) -> Program:
        return self.run(make(self.run_id, name, engine, delete) + "".join(code))

    def run(self, text: str) -> Program:
        program = subprocess.Popen(
            [sys.executable, "-c", text], stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self.started.append(program)
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        return program

    def left(self) -> set[str]:
        return segments_of(self.run_id)


@pytest.fixture
def programs(run_id: str) -> Iterator[Programs]:
    all_programs = Programs(run_id)
    yield all_programs
    for program in all_programs.started:
        program.kill()
        program.communicate()
        eventually(partial(has_gone, program))


def has_gone(program: Program) -> bool:
    """Whether the program and its janitor have ended."""
    return not list(_of_session(program.pid))


def end(program: Program, number: signal.Signals = signal.SIGTERM) -> None:
    program.send_signal(number)
    assert program.wait(LONG) == -number


@pytest.mark.costly
@pytest.mark.parametrize(
    ("name", "waits", "number"),
    [
        ("q", WAIT, signal.SIGTERM),
        ("q", WAIT, signal.SIGHUP),
        ("q", IN_C, signal.SIGTERM),
        ("q", IN_GET, signal.SIGTERM),
        ("", WAIT, signal.SIGTERM),
    ],
    ids=["sleeps", "hung up", "in C", "in get", "anonymous"],
)
def test_a_queue_goes_with_a_user_that_a_signal_ends(
    programs: Programs, each_engine: str, name: str, waits: str, number: signal.Signals
) -> None:
    program = programs.start(READY, waits, name=name, engine=each_engine)
    assert len(programs.left()) == 2
    end(program, number)
    eventually(partial(has_gone, program))
    assert programs.left() == set()


def test_a_queue_stays_while_another_process_uses_it(programs: Programs, run_id: str) -> None:
    program = programs.start('q.put("item")\n', READY, WAIT)
    with attach(run_id) as q:
        end(program)
        eventually(partial(has_gone, program))
        assert len(programs.left()) == 2
        assert q.get() == "item"
    assert programs.left() == set()


def test_of_several_users_that_end_at_once_the_last_removes_it(programs: Programs, run_id: str) -> None:
    first = programs.start(READY, WAIT)
    others = [
        programs.run(
            "import time; from shared_multiprocess_queue import SharedMemoryQueue\n"
            f"q = SharedMemoryQueue('q', run_id={run_id!r})\n" + READY + WAIT
        )
        for _ in range(3)
    ]
    for program in (first, *others):
        program.terminate()
    for program in (first, *others):
        assert program.wait(LONG) == -signal.SIGTERM
        eventually(partial(has_gone, program))
    assert programs.left() == set()


def test_it_waits_for_another_remover_that_is_slow(programs: Programs) -> None:
    program = programs.start(READY, WAIT)
    (segment,) = [name for name in programs.left() if name.endswith("-queue")]
    with (SHM / segment).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        program.terminate()
        assert program.wait(LONG) == -signal.SIGTERM
        time.sleep(0.15)
    eventually(partial(has_gone, program))
    assert programs.left() == set()


def test_many_queues_go_at_once(programs: Programs) -> None:
    program = programs.start(
        "more = [SharedMemoryQueue(capacity=1, run_id=q.run_id) for _ in range(50)]\n", READY, WAIT
    )
    assert len(programs.left()) == 102
    end(program)
    eventually(partial(has_gone, program))
    assert programs.left() == set()


def test_a_queue_that_does_not_go_with_its_users_stays(programs: Programs, run_id: str) -> None:
    program = programs.start("own = SharedMemoryQueue(capacity=1, run_id=q.run_id)\n", READY, WAIT, delete=False)
    end(program)
    eventually(partial(has_gone, program))
    assert len(programs.left()) == 2
    attach(run_id).unlink()


def test_a_process_without_such_a_queue_has_no_handler(programs: Programs, run_id: str) -> None:
    for delete, is_caught in ((False, False), (True, True)):
        program = programs.start(READY, WAIT, name=f"q{delete}", delete=delete)
        status = Path(f"/proc/{program.pid}/status").read_text()
        caught = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")), 16)
        assert bool(caught >> signal.SIGTERM - 1 & 1) == is_caught
        program.kill()
        program.wait()
    SharedMemoryQueue.remove("qFalse", run_id=run_id)
    SharedMemoryQueue.remove("qTrue", run_id=run_id, missing_ok=True)  # a creation has swept it perhaps


def test_a_handler_of_the_program_stays(programs: Programs) -> None:
    says_so = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
    before = programs.run("import signal, sys\n" + says_so + make(programs.run_id, "before") + READY + WAIT)
    after = programs.start("assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL\n", says_so, READY, WAIT)
    ignored = programs.run(
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        + make(programs.run_id, "ignored")
        + READY
        + WAIT
    )
    for program in (before, after):
        program.terminate()
        assert program.wait(LONG) == 7
    ignored.terminate()
    assert len(programs.left()) == 2
    assert ignored.poll() is None
    end(ignored, signal.SIGHUP)


CHILD = """
import multiprocessing, os, signal, time, sys
from shared_multiprocess_queue import Queue

def work(q):
    pass

if __name__ == "__main__":
    q = Queue()
    child = multiprocessing.get_context("spawn").Process(target=work, args=(q,))
    child.start()
    print(q.name, child.pid, flush=True)
    {how}
else:
    time.sleep(60)  # before it attaches
"""


@pytest.mark.costly
@pytest.mark.parametrize(
    ("how", "status"),
    [("time.sleep(60)", -signal.SIGTERM), ("child._popen = None; multiprocessing.process._children.clear()", 0)],
    ids=["signal", "exit"],
)
def test_a_child_that_never_attached_keeps_no_queue(tmp_path: Path, how: str, status: int) -> None:
    (tmp_path / "program.py").write_text(CHILD.format(how=how))
    program = subprocess.Popen(
        [sys.executable, tmp_path / "program.py"], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert program.stdout is not None
    name, child = program.stdout.readline().split()
    segment = SHM / f"{name}-queue"
    try:
        if status:
            program.terminate()
        assert program.wait(LONG) == status
        assert segment.exists()
    finally:
        subprocess.run(["kill", "-KILL", child], check=True)
    program.communicate()
    eventually(partial(has_gone, program))
    assert not segment.exists()
    assert not (SHM / f"{name}-queue-lock").exists()


def test_a_janitor_that_waits_keeps_no_pipe_open(programs: Programs, run_id: str) -> None:
    child = "import os\nif os.fork() == 0:\n    os.closerange(0, 3)\n    time.sleep(60)\n"
    program = programs.start(child, READY, WAIT)
    end(program)
    assert program.stdout is not None
    assert program.stdout.read() == ""
    assert len(list(_of_session(program.pid))) == 2  # the child, and the janitor
    os.killpg(program.pid, signal.SIGKILL)
    eventually(partial(has_gone, program))
    SharedMemoryQueue.remove("q", run_id=run_id, missing_ok=True)
