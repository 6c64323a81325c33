"""What the errors say that a new user makes first."""

from __future__ import annotations

import errno
import math
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue.errors import ArgumentError
from tests.support.children import end_of, fork
from tests.support.descriptors import free_descriptors
from tests.support.places import SHM
from tests.support.segments import create, remove

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files"),
]


@pytest.mark.parametrize("capacity", [0, -1, None, math.inf])
def test_who_wants_an_unlimited_queue_learns_that_there_is_none(run_id: str, capacity: Any) -> None:
    with pytest.raises(ArgumentError, match=r"no unlimited queue.*choose the most items that may ever wait"):
        create(run_id, capacity=capacity)
    with pytest.raises(ArgumentError) as refused:
        create(run_id, item_size=0)
    assert "unlimited" not in str(refused.value)


@pytest.mark.costly
@pytest.mark.skipif(sys.platform != "linux", reason="there are doorbells on Linux")
@pytest.mark.parametrize("free", range(4))
def test_a_doorbell_without_descriptors_says_what_it_takes(run_id: str, each_engine: str, free: int) -> None:
    def child() -> None:
        q = create(run_id)
        before = os.listdir("/proc/self/fd")
        with free_descriptors(free), pytest.raises(OSError, match=r"takes three descriptors.*ulimit -n") as refused:
            q.fileno()
        assert refused.value.errno == errno.EMFILE
        assert os.listdir("/proc/self/fd") == before
        with free_descriptors(4):
            q.fileno()
        remove(q)

    assert end_of(fork(child)) == 0


def test_a_capacity_in_the_place_of_the_name_is_told(run_id: str) -> None:
    with pytest.raises(ValueError, match=r"name must be a str, not int; the capacity is capacity=10"):
        SharedMemoryQueue(10, True, run_id=run_id)  # type: ignore[arg-type]


def test_a_spawned_child_that_makes_its_parents_queue_is_told_of_the_guard(run_id: str, tmp_path: Path) -> None:
    """As with multiprocessing, it imports the parent's script, in which the guard is missing."""
    script = tmp_path / "unguarded.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import multiprocessing
            from shared_multiprocess_queue import SharedMemoryQueue
            with SharedMemoryQueue("q", True, run_id={run_id!r}) as q:
                process = multiprocessing.get_context("spawn").Process(target=print)
                process.start()
                process.join()
                q.unlink()
            """
        )
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, check=False)
    assert "create the queue under `if __name__ == '__main__':`" in done.stderr
