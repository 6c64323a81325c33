"""The table of participants, and processes of other pid namespaces."""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from shared_multiprocess_queue import TooManyParticipantsError
from shared_multiprocess_queue._platform import processes as _processes
from shared_multiprocess_queue._platform.atomic_words import open_words
from shared_multiprocess_queue._ring import layout, participants
from tests.support.children import end_of, fork
from tests.support.descriptors import open_descriptors
from tests.support.places import SHM
from tests.support.segments import attach, create, remove, works
from tests.support.waiting import LONG

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files"),
]


@pytest.fixture
def header() -> Iterator[memoryview]:
    memory = mmap.mmap(-1, layout.SLOTS_START)
    view = memoryview(memory)
    yield view
    view.release()
    memory.close()


def test_pid_namespaces_are_numbered_once_each(header: memoryview) -> None:
    memory = open_words(header)
    words = memory.words()
    numbers = [participants._namespace_number(words, 1000 + identity) for identity in range(layout.NAMESPACES)]
    assert numbers == list(range(1, layout.NAMESPACES + 1))
    again = [participants._namespace_number(words, 1000 + identity) for identity in range(layout.NAMESPACES)]
    assert again == numbers
    assert max(numbers) < 1 << (64 - layout.OWNER_NAMESPACE_SHIFT)
    assert participants._namespace_number(words, 5) == 0, "the table is full"
    assert participants._namespace_number(words, 0) == 0, "this process cannot be looked up"
    del words
    memory.release()


def test_processes_of_other_pid_namespaces_count_as_alive(header: memoryview, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = fork(lambda: None)
    end_of(gone)
    memory = open_words(header)
    words = memory.words()
    me = _processes.identity()
    mine = participants.Participants(words)
    _, _, number = layout.parse_owner(mine.owner)
    assert not mine.is_alive(layout.owner_of(gone, 1, number)), "a dead process of my own namespace"
    assert mine.is_alive(layout.owner_of(gone, 1, number + 1)), "nobody can tell"
    assert mine.is_alive(layout.owner_of(gone, 1, 0)), "nobody can tell"
    monkeypatch.setattr(_processes, "_identity", _processes.Identity(me.pid, me.start, me.namespace + 1))
    stranger = participants.Participants(words)
    assert layout.parse_owner(stranger.owner)[2] == number + 1
    assert stranger.is_alive(layout.owner_of(gone, 1, number))
    del words
    memory.release()


IN_A_NAMESPACE = """
import os, sys
from shared_multiprocess_queue import SharedMemoryQueue
assert os.getpid() == 1
with SharedMemoryQueue("q", run_id=sys.argv[1]) as q:
    assert q.get() == "in"
    q.put_batch(["out", "out again"])
    print(sorted(q.get_metrics()["participants"]))
    os.kill(os.getpid(), 9) if sys.argv[2] == "kill" else None
    os._exit(0) if sys.argv[2] == "exit" else None
"""


@pytest.mark.costly
@pytest.mark.parametrize("how", ["close", "exit"])
def test_a_process_in_another_pid_namespace_shares_a_queue(run_id: str, how: str) -> None:
    prefix = ["unshare", "--pid", "--fork", "--mount-proc"]
    if shutil.which("unshare") is None:
        pytest.skip("no unshare")
    if subprocess.run([*prefix, "true"], capture_output=True, check=False, timeout=LONG).returncode != 0:
        pytest.skip("no pid namespace here")
    q = create(run_id)
    q.put("in")
    result = subprocess.run(
        [*prefix, sys.executable, "-c", IN_A_NAMESPACE, run_id, how],
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert eval(result.stdout) == sorted({1, os.getpid()}), "each counts the other as alive"
    assert q.get_batch(2, timeout=LONG) == ["out", "out again"]
    assert (1 in q.get_metrics()["participants"]) is (how == "exit"), "who cannot be looked up is not declared dead"
    assert works(q)
    remove(q)


def test_a_full_table_of_participants_is_an_error_that_changes_nothing(run_id: str) -> None:
    q = create(run_id)
    q.put("before")
    memory = q._membership.memory
    words = memory.words()
    filled = [index for index in range(layout.RECORDS) if not words.load(layout.record_at(index) + layout.OWNER)]
    for index in filled:
        words.store(layout.record_at(index) + layout.OWNER, q._membership.participants.owner)
    descriptors = open_descriptors()
    for _ in range(3):
        with pytest.raises(TooManyParticipantsError, match=str(layout.RECORDS)) as caught:
            attach(run_id)
        assert caught.value.limit == layout.RECORDS
        assert isinstance(caught.value, OSError)
    del caught
    assert open_descriptors() <= descriptors, "a handle that never came to be keeps its descriptors"
    q.put("the handle has its record")
    assert q.get_batch(3) == ["before", "the handle has its record"]
    for index in filled:
        words.store(layout.record_at(index) + layout.OWNER, 0)
    del words
    with attach(run_id) as other:
        assert works(other)
    remove(q)


def test_records_of_the_dead_are_taken_when_no_others_are_free(run_id: str) -> None:
    gone = fork(lambda: None)
    end_of(gone)
    q = create(run_id)
    words = q._membership.memory.words()
    _, _, namespace = layout.parse_owner(q._membership.participants.owner)
    for index in range(layout.RECORDS):
        if not words.load(layout.record_at(index) + layout.OWNER):
            words.store(layout.record_at(index) + layout.OWNER, layout.owner_of(gone, 1, namespace))
    assert set(q.get_metrics()["participants"]) == {os.getpid()}
    with attach(run_id) as other:
        assert works(other)
        assert set(other.get_metrics()["participants"]) == {os.getpid()}
    del words
    remove(q)
