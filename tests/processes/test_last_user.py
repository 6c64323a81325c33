"""A queue without a name goes with the last of several processes, in whatever way they were started and end."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue._platform import handing_over
from tests.support.children import running
from tests.support.descriptors import descriptors
from tests.support.places import REPOSITORY, SHM
from tests.support.segments import remove, segments_of
from tests.support.waiting import LONG, eventually

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files"),
]


def make(run_id: str) -> SharedMemoryQueue:
    return SharedMemoryQueue(run_id=run_id, capacity=3)


def make_any_queue(run_id: str) -> None:
    remove(SharedMemoryQueue("any", create=True, capacity=1, item_size=8, run_id=run_id))


# ---- handed to a child ----------------------------------------------------------------------------------------------


def put_when_told(queue: SharedMemoryQueue, results: SharedMemoryQueue) -> None:
    results.put(queue.get(timeout=LONG))


def test_a_parent_may_close_as_soon_as_the_child_is_started(run_id: str, each_engine: str, start_method: str) -> None:
    """Creations, which sweep, do not take the queue from a child that has not attached yet."""
    before = descriptors() if start_method != "forkserver" else set()
    queue, results = make(run_id), make(run_id)
    queue.put("for the child")
    with running(start_method, put_when_told, queue, results):
        queue.close()
        del queue
        make_any_queue(run_id)
        assert results.get(timeout=LONG) == "for the child"
    results.close()
    make_any_queue(run_id)
    assert segments_of(run_id) == set()
    if start_method == "fork":
        assert descriptors() <= before


def test_a_child_that_never_attaches_keeps_it_until_its_end(run_id: str) -> None:
    """It is stopped before it runs anything. Then it is killed, and nothing of its parent keeps the queue."""
    queue = make(run_id)
    process = multiprocessing.get_context("spawn").Process(target=print, args=(queue,))
    process.start()
    pid = process.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    queue.close()
    for _ in range(3):
        make_any_queue(run_id)
    assert len(segments_of(run_id)) == 2
    os.kill(pid, signal.SIGKILL)
    process.join()
    make_any_queue(run_id)
    assert segments_of(run_id) == set()


def wait_to_be_killed(*queues: SharedMemoryQueue) -> None:
    for queue in queues:
        queue.put("attached")
    signal.pause()


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_more_queues_than_descriptors_go_to_a_child(run_id: str, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handing_over, "_MOST", 2)
    queues = [make(run_id) for _ in range(5)]
    names = [queue.name for queue in queues]
    process: BaseProcess = multiprocessing.get_context(method).Process(target=wait_to_be_killed, args=queues)  # type: ignore[attr-defined]
    process.start()
    for queue in queues:
        queue.close()
    make_any_queue(run_id)
    for name in names:
        with SharedMemoryQueue(name, run_id=run_id) as queue:
            assert queue.get(timeout=LONG) == "attached"
    process.kill()
    process.join()
    make_any_queue(run_id)
    assert segments_of(run_id) == set()


def attach_again(queue: SharedMemoryQueue, data: bytes) -> None:
    """Unpickle data with tickets twice; the second time the descriptor's number may be another file's."""
    before = descriptors()
    for _ in range(2):
        with pickle.loads(data) as other:
            other.put("again")
    with open(os.devnull, "rb") as file, pickle.loads(data):
        assert file.read() == b""
    assert descriptors() <= before
    queue.put("done")


class Packed:
    """Holds a queue as bytes, which are made while a child is started, and copies it meanwhile."""

    def __init__(self, queue: SharedMemoryQueue) -> None:
        self.queue = queue

    def __reduce__(self) -> tuple[Any, ...]:
        copy.copy(self.queue).close()
        return bytes, (pickle.dumps(self.queue),)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_pickle_made_for_a_child_may_be_loaded_again(run_id: str, method: str) -> None:
    queue = make(run_id)
    with running(method, attach_again, queue, Packed(queue)):
        assert [queue.get(timeout=LONG) for _ in range(3)] == ["again", "again", "done"]
    queue.close()
    assert segments_of(run_id) == set()


def test_a_pickle_made_at_another_time_keeps_nothing(run_id: str) -> None:
    before = descriptors()
    queue = make(run_id)
    data = pickle.dumps(queue)
    with pickle.loads(data) as other:
        queue.close()
        other.put(1)
    assert segments_of(run_id) == set()
    assert descriptors() == before


# ---- programs that end ----------------------------------------------------------------------------------------------

PROGRAM = """
import multiprocessing, os, signal, sys, threading, time
from shared_multiprocess_queue import SharedMemoryQueue

def work(queue):
    for item in iter(queue.get, None):
        queue.put(item if type(item) is tuple else ("done", item))  # its own answer may come back to it
        time.sleep(0.05)
    if {child!r} == "hangs":
        time.sleep(600)
    if {child!r} == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)

def main():
    context = multiprocessing.get_context({method!r})
    queue = SharedMemoryQueue(run_id={run_id!r})
    process = context.Process(target=work, args=(queue,), daemon={child!r} == "hangs")
    process.start()
    queue.put(1)
    while True:
        item = queue.get()
        if item == ("done", 1):
            break
        queue.put(item)
        time.sleep(0.01)
    queue.put(None)
    if {child!r} != "hangs":
        process.join()
    {extra}
    print("ready", flush=True)
    {end}

if __name__ == "__main__":
    main()
"""

ENDS = {
    "returns": "pass",
    "closes": "queue.close()",
    "exits": "sys.exit(0)",
    "raises": "raise RuntimeError('on purpose')",
    "is interrupted": "time.sleep(600)",
    "is terminated": "time.sleep(600)",
    "is killed": "time.sleep(600)",
}
SIGNALS = {"is interrupted": signal.SIGINT, "is terminated": signal.SIGTERM, "is killed": signal.SIGKILL}


def run(folder: Path, run_id: str, method: str, end: str, child: str, extra: str = "pass") -> None:
    """Run a program of two processes to its end, and see that there is nothing in shared memory after that."""
    code = textwrap.dedent(PROGRAM).format(run_id=run_id, method=method, end=ENDS[end], child=child, extra=extra)
    program = folder / "program.py"
    program.write_text(code, "utf-8")
    process = subprocess.Popen(
        [sys.executable, str(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=REPOSITORY,
        start_new_session=True,
    )
    with process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"ready\n"
            if end in SIGNALS:
                # Ctrl-C and the others reach all processes of a terminal
                os.killpg(process.pid, SIGNALS[end])
            process.wait(LONG)
            eventually(lambda: not has_group(process.pid), "the end of all processes")
        finally:
            if has_group(process.pid):
                os.killpg(process.pid, signal.SIGKILL)
    if end in ("is killed", "is terminated"):
        make_any_queue(run_id)
    assert segments_of(run_id) == set()


def has_group(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("child", ["returns", "hangs", "is killed"])
def test_nothing_is_left_when_all_have_ended(run_id: str, tmp_path: Path, method: str, end: str, child: str) -> None:
    run(tmp_path, run_id, method, end, child)


@pytest.mark.costly
@pytest.mark.parametrize("end", ["returns", "is killed"])
def test_nothing_is_left_by_a_program_of_two_processes(run_id: str, tmp_path: Path, end: str) -> None:
    run(tmp_path, run_id, "spawn", end, "returns")


DAEMON = """threading.Thread(target=queue.get, daemon=True).start()
    while not queue.get_metrics()["get_waits"]: time.sleep(0.001)"""


@pytest.mark.costly
@pytest.mark.parametrize("end", ["returns", "exits"])
def test_a_thread_that_waits_at_the_end_keeps_nothing(run_id: str, tmp_path: Path, end: str) -> None:
    """A daemon thread is inside a get when its process ends."""
    run(tmp_path, run_id, "fork", end, "returns", DAEMON)
