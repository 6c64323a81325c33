"""create=True, exist_ok=True makes a queue or attaches to it; wait= waits for one that does not exist yet."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from shared_multiprocess_queue import (
    CorruptQueueError,
    QueueMismatchError,
    QueueNotFoundError,
    QueueNotReadyError,
    SharedMemoryQueue,
)
from shared_multiprocess_queue._platform import clock
from tests.support.places import REPOSITORY, SHM
from tests.support.segments import LEFTOVERS, attach, create, remove, segments_of, slow_creator, works
from tests.support.waiting import LONG, SOON, eventually, in_thread

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files"),
]


def open_it(run_id: str, **arguments: object) -> SharedMemoryQueue:
    return create(run_id, exist_ok=True, **arguments)


def test_it_is_made_or_attached_to(run_id: str, engines: str) -> None:
    q = open_it(run_id)
    with open_it(run_id) as same, SharedMemoryQueue("q", create=True, exist_ok=True, run_id=run_id) as again:
        assert again.capacity == 3, "a size that is left out agrees"
        same.put("through another handle")
        assert again.get() == "through another handle"
    remove(q)


@pytest.mark.parametrize("arguments", [{"capacity": 9}, {"item_size": 99}, {"mode": "spsc"}, {"delete": True}])
def test_a_queue_with_other_values_is_refused(run_id: str, arguments: dict[str, object]) -> None:
    with create(run_id) as q:
        with pytest.raises(QueueMismatchError) as caught:
            open_it(run_id, **arguments)
        assert list(caught.value.asked) == list(arguments)
        q.unlink()


@pytest.mark.parametrize("kind", LEFTOVERS)
def test_what_a_dead_creator_left_is_replaced(run_id: str, path: Path, impatient: None, kind: str) -> None:
    path.write_bytes(LEFTOVERS[kind])
    q = open_it(run_id)
    assert works(q)
    remove(q)


def test_a_live_creator_is_waited_for(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with slow_creator(run_id, monkeypatch, "before its memory") as go_on:
        with pytest.raises(QueueNotReadyError):
            open_it(run_id, timeout=0.05)
        opened = in_thread(lambda: open_it(run_id))
        go_on()
        q = opened.result(LONG)
    assert q.get() == "made in the end"
    remove(q)


def test_a_queue_without_its_lock_is_an_error_and_no_endless_search(run_id: str, lock_path: Path) -> None:
    q = create(run_id)
    lock_path.unlink()
    with pytest.raises(QueueNotFoundError, match="the queue is incomplete"):
        in_thread(lambda: open_it(run_id)).result(SOON)
    remove(q)


def test_what_is_no_queue_is_refused(run_id: str, path: Path) -> None:
    path.write_bytes(b"foreign" * 9999)
    with pytest.raises(CorruptQueueError):
        open_it(run_id)
    path.unlink()


# ---- waiting for a queue --------------------------------------------------------------------------------------------


def test_a_queue_that_comes_is_waited_for(run_id: str, engines: str) -> None:
    attached = in_thread(lambda: attach(run_id, wait=LONG))
    with create(run_id) as q:
        other = attached.result(LONG)
        other.put("here")
        assert q.get() == "here"
        other.close()
        q.unlink()


def test_the_wait_ends_without_a_queue(run_id: str) -> None:
    begin = clock.now()
    with pytest.raises(QueueNotFoundError, match="there is no queue segment"):
        attach(run_id, wait=0.05)
    assert clock.now() - begin >= 50_000_000
    with pytest.raises(QueueNotFoundError):
        attach(run_id)


def test_the_timeout_begins_when_the_segment_is_there(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is for the end of a creation, and wait is for its beginning."""
    slept: list[float] = []
    real = clock.sleep

    def note(seconds: float) -> None:
        slept.append(seconds)
        real(seconds)

    monkeypatch.setattr(clock, "sleep", note)
    attached = in_thread(lambda: attach(run_id, wait=None, timeout=LONG))
    eventually(lambda: len(slept) > 20, "its wait")
    with create(run_id) as q:
        attached.result(LONG).close()
        q.unlink()


def test_a_leftover_is_no_queue_to_wait_for(run_id: str, path: Path, impatient: None) -> None:
    path.touch()
    attached = in_thread(lambda: attach(run_id, wait=LONG))
    with create(run_id) as q:
        attached.result(LONG).close()
        q.unlink()


# ---- programs that start at once ------------------------------------------------------------------------------------

PROGRAM = """
import sys
from shared_multiprocess_queue import SharedMemoryQueue
sys.stdout.write("ready")
sys.stdout.flush()
sys.stdin.read(1)
queue = SharedMemoryQueue("q", create=True, exist_ok=True, capacity=10, run_id=sys.argv[1], delete=sys.argv[2] == "1")
queue.put(queue._identity)
sys.stdout.write("done!")
sys.stdout.flush()
sys.stdin.read()
"""


def start_at_once(run_id: str, delete: bool, programs: int = 6) -> None:
    """Start several programs, let them open the queue at the same moment, and see that they have one queue."""
    command = [sys.executable, "-c", PROGRAM, run_id, str(int(delete))]
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY, bufsize=0)
        for _ in range(programs)
    ]
    try:
        for expected in (b"ready", b"done!"):
            if expected == b"done!":
                for process in running:
                    assert process.stdin is not None
                    process.stdin.write(b"x")
            for process in running:
                assert process.stdout is not None
                assert process.stdout.read(5) == expected
        with SharedMemoryQueue("q", run_id=run_id) as q:
            assert len({q.get(timeout=LONG) for _ in running}) == 1
            assert q.empty()
            if not delete:
                q.unlink()
    finally:
        for process in running:
            process.communicate(timeout=LONG)
    assert [process.returncode for process in running] == [0] * programs
    assert segments_of(run_id) == set()


@pytest.mark.costly
@pytest.mark.parametrize(("delete", "times"), [(True, 1), (True, 2), (False, 2)])
def test_six_programs_that_start_at_once_have_one_queue(run_id: str, delete: bool, times: int) -> None:
    for _ in range(times):
        start_at_once(run_id, delete)


@pytest.mark.long
def test_twenty_times_six_programs_have_one_queue(run_id: str) -> None:
    """The long form, `.ci/run nightly lives`, does this five times."""
    for number in range(20):
        start_at_once(run_id, delete=bool(number % 2))


# ---- many that make and remove it -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_makers_and_removers_beside_each_other_always_have_a_whole_queue(run_id: str) -> None:
    def use(times: int) -> None:
        for _ in range(times):
            with open_it(run_id, delete=True) as q:
                q.put_batch(["a"], timeout=LONG)
                q.get_batch(1, timeout=LONG)

    in_threads = [in_thread(use, 60) for _ in range(3)]
    for done in in_threads:
        done.result(LONG * 3)
    assert segments_of(run_id) == set()


def test_the_lock_of_creation_is_free_afterwards(run_id: str, path: Path) -> None:
    q = open_it(run_id)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    remove(q)
