"""Unrelated programs come, use a queue, and leave as they like."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shared_multiprocess_queue import SharedMemoryQueue
from tests.support.places import REPOSITORY
from tests.support.queues import MakeQueue, drained
from tests.support.strangers import stranger
from tests.support.waiting import LONG

# From 3.12 on Python warns of every fork beside a thread; that is what some tests here are about.
pytestmark = [
    pytest.mark.usefixtures("engines"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


# ---- how they leave -------------------------------------------------------------------------------------------------


USES_AND_LEAVES = """
import os, signal, sys
from shared_multiprocess_queue import SharedMemoryQueue
q = SharedMemoryQueue(sys.argv[1], run_id=sys.argv[2])
assert q.get(timeout=60) == "for the stranger"
q.put("from the stranger")
how = sys.argv[3]
if how == "exception":
    raise RuntimeError("on purpose")
if how == "kill -9":
    os.kill(os.getpid(), signal.SIGKILL)
if how == "os._exit":
    os._exit(0)
if how == "sys.exit":
    sys.exit(0)
if how == "terminate":
    os.kill(os.getpid(), signal.SIGTERM)
if how == "close":
    q.close()
if how == "cycle":
    q.itself = q
if how == "thread":
    import threading
    def look_for_ever():
        while True:
            q.get_metrics()
    threading.Thread(target=look_for_ever, daemon=True).start()
"""


LEAVES = {
    "end": 0,
    "exception": 1,
    "kill -9": -signal.SIGKILL,
    "os._exit": 0,
    "sys.exit": 0,
    "terminate": -signal.SIGTERM,
    "close": 0,
    "cycle": 0,
    "thread": 0,
}


@pytest.mark.costly
@pytest.mark.parametrize("how", LEAVES)
def test_a_stranger_may_leave_as_it_likes_and_the_queue_stays(make_queue: MakeQueue, mode: str, how: str) -> None:
    q = make_queue(mode=mode, capacity=5)
    q.put_batch(["for the stranger", "for others"])
    if mode == "spsc":  # give the stranger both roles
        q.close()
        q = SharedMemoryQueue("q", run_id=q.run_id)
    with stranger(USES_AND_LEAVES, "q", q.run_id, how) as process:
        _, complaints = process.communicate(timeout=LONG)
        assert process.returncode == LEAVES[how]
    if how == "exception":
        assert complaints.startswith("Traceback (most recent call last):")
        assert complaints.endswith("RuntimeError: on purpose\n")
        assert "Exception ignored" not in complaints
        assert "resource_tracker" not in complaints
    else:
        assert complaints == ""
    assert q.get_metrics()["participants"] in ({os.getpid(): 1}, {})
    assert drained(q) == ["for others", "from the stranger"]
    q.put("goes on")
    with SharedMemoryQueue("q", run_id=q.run_id) as new:
        assert new.qsize() == 1
    q.close()


CREATES_AND_LEAVES = """
import os, signal, sys
from shared_multiprocess_queue import SharedMemoryQueue
q = SharedMemoryQueue("made", create=True, capacity=3, run_id=sys.argv[1])
q.put("from its creator")
if sys.argv[2] == "kill -9":
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "exception":
    raise RuntimeError("on purpose")
"""


@pytest.mark.costly
@pytest.mark.parametrize("how", ["end", "exception", "kill -9"])
def test_a_queue_outlives_its_creator(run_id: str, how: str) -> None:
    with stranger(CREATES_AND_LEAVES, run_id, how) as process:
        _, complaints = process.communicate(timeout=LONG)
    assert (complaints == "") is (how != "exception")
    with SharedMemoryQueue("made", run_id=run_id) as q:
        assert q.get_nowait() == "from its creator"
        q.unlink()


# ---- how they end ---------------------------------------------------------------------------------------------------


OF_ITS_OWN_CLASS = """
import dataclasses, multiprocessing, sys
from shared_multiprocess_queue import SharedMemoryQueue

@dataclasses.dataclass
class Job:
    number: int

def put(queue):
    queue.put(Job(2))

if __name__ == "__main__":
    name, run_id, role = sys.argv[1:]
    queue = SharedMemoryQueue(name, run_id=run_id)
    if role == "reader":
        print(queue.get(timeout=60).number)
    elif role == "main":
        queue.put(Job(1))
    else:
        child = multiprocessing.get_context(role).Process(target=put, args=(queue,))
        child.start()
        child.join()
"""


@pytest.mark.costly
@pytest.mark.parametrize("role", ["main", "fork", "spawn", "forkserver"])
def test_a_program_that_ends_with_its_handle_open_says_nothing(
    make_queue: MakeQueue, tmp_path: Path, role: str
) -> None:
    """Its classes kept the handle alive until atomics had lost its C library, and complained on stderr."""
    queue = make_queue()
    for name, who in (("one.py", role), ("two.py", "reader")):
        (tmp_path / name).write_text(OF_ITS_OWN_CLASS)
        ended = subprocess.run(
            [sys.executable, tmp_path / name, queue.name, queue.run_id, who],
            capture_output=True,
            text=True,
            check=False,
            timeout=LONG,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
        assert (ended.returncode, ended.stderr) == (0, "")
    assert queue.empty()
