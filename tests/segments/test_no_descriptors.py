"""What a process can do that has no descriptor left."""

from __future__ import annotations

import errno
import itertools
import os
from typing import Any

import pytest

from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue._engine import lifecycle, new_sizes
from shared_multiprocess_queue._platform import shared_memory
from tests.support.children import in_child
from tests.support.descriptors import descriptors, free_descriptors
from tests.support.places import SHM
from tests.support.segments import segments_of

pytestmark = [
    pytest.mark.usefixtures("alone"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files"),
]


def fail_from(monkeypatch: pytest.MonkeyPatch, first: int, error: int, count: int = 1 << 30) -> list[int]:
    """Let the opening of segments fail from the first-th call on, for so many calls; return the calls so far."""
    calls: list[int] = []
    real = shared_memory._posixshmem.shm_open  # type: ignore[attr-defined]

    def shm_open(*arguments: Any) -> int:
        calls.append(len(calls))
        if first <= calls[-1] < first + count:
            raise OSError(error, os.strerror(error))
        return int(real(*arguments))

    monkeypatch.setattr(shared_memory._posixshmem, "shm_open", shm_open)  # type: ignore[attr-defined]
    return calls


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE])
@pytest.mark.parametrize("count", [1, 1 << 30])
def test_a_create_that_runs_out_of_descriptors_leaves_nothing(
    run_id: str, monkeypatch: pytest.MonkeyPatch, error: int, count: int
) -> None:
    """Each opening in turn is the one that finds none."""
    before = descriptors()
    for first in itertools.count():
        with monkeypatch.context() as patch:
            fail_from(patch, first, error, count)
            try:
                q = SharedMemoryQueue("q", create=True, capacity=3, run_id=run_id)
            except OSError as raised:
                assert raised.errno == error  # noqa: PT017
            else:
                break
        assert segments_of(run_id) == set(), f"opening {first}"
        assert descriptors() == before, f"opening {first}"
    assert first >= 3, "it opens its segment twice, and that of the lock"
    q.close()
    q.unlink()


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE])
@pytest.mark.parametrize("is_closed", [False, True])
def test_unlink_works_whichever_opening_fails_for_want_of_descriptors(
    run_id: str, monkeypatch: pytest.MonkeyPatch, error: int, is_closed: bool
) -> None:
    before = descriptors()
    for first in itertools.count():
        q = SharedMemoryQueue("q", create=True, capacity=3, run_id=run_id)
        if is_closed:
            q.close()
        with monkeypatch.context() as patch:
            calls = fail_from(patch, first, error)
            q.unlink()
        assert segments_of(run_id) == set(), f"opening {first}"
        assert is_closed or q.get_metrics()["unlinked"]
        q.close()
        assert descriptors() == before
        if len(calls) <= first:
            break
    assert first >= 3, "this test has lost sight of the openings"


def test_without_a_descriptor_create_leaves_nothing_and_unlink_removes(run_id: str, each_engine: str) -> None:
    """The limit itself, and not an error that stands for it."""

    def child() -> None:
        q = SharedMemoryQueue("q", create=True, capacity=3, run_id=run_id)
        for count in range(3):
            with free_descriptors(count):
                try:
                    SharedMemoryQueue("other", create=True, capacity=3, run_id=run_id).unlink()
                except OSError as error:
                    assert error.errno == errno.EMFILE, error  # noqa: PT017
                else:
                    assert count == 2
            assert segments_of(run_id) == {f"{run_id}-q-queue", f"{run_id}-q-queue-lock"}, count
        with free_descriptors(0):
            q.put(1)
            q.unlink()
            assert q.get() == 1
            q.close()

    assert in_child(child) == 0
    assert segments_of(run_id) == set()


def test_without_a_descriptor_unlink_leaves_a_newer_queue_alone(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    old = SharedMemoryQueue("q", create=True, capacity=3, run_id=run_id)
    old.unlink()
    new = SharedMemoryQueue("q", create=True, capacity=3, run_id=run_id)
    with monkeypatch.context() as patch:
        fail_from(patch, 0, errno.EMFILE)
        old.unlink()
    assert len(segments_of(run_id)) == 2
    old.close()
    new.unlink()
    new.close()


@pytest.mark.parametrize("is_closed", [False, True])
def test_a_segment_that_was_cut_to_nothing_is_unlinked(run_id: str, each_engine: str, is_closed: bool) -> None:
    def child() -> None:
        q = SharedMemoryQueue("q", create=True, capacity=3, run_id=run_id)
        if is_closed:
            q.close()
        os.truncate(SHM / f"{run_id}-q-queue", 0)
        q.unlink()
        os._exit(0)

    assert in_child(child) == 0
    assert segments_of(run_id) == set()


def test_a_definition_is_kept_without_a_descriptor(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    segment, lock = lifecycle.create("q", run_id, new_sizes.geometry(3, 64, "mpmc"))
    size = segment.size()
    monkeypatch.setattr(shared_memory, "_POPULATE_WRITE", 9999)  # a kernel before 5.14
    segment.reserve(size - 10_000, 5_000)
    fail_from(monkeypatch, 0, errno.EMFILE)
    with pytest.raises(OSError, match="open files"):
        segment.reserve(size - 10_000, 5_000)
    monkeypatch.undo()
    fail_from(monkeypatch, 0, errno.EMFILE)
    used = (SHM / segment.name).stat().st_blocks
    segment.reserve(size - 1_000_000, 900_000)
    assert ((SHM / segment.name).stat().st_blocks - used) * 512 >= 800_000
    monkeypatch.undo()
    lifecycle.discard(segment, lock, "q", run_id)


def test_an_old_kernel_reserves_nothing_in_a_namesake(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another segment has the name only."""
    segment, lock = lifecycle.create("q", run_id, new_sizes.geometry(3, 64, "mpmc"))
    (SHM / segment.name).unlink()
    (SHM / segment.name).touch()
    monkeypatch.setattr(shared_memory, "_POPULATE_WRITE", 9999)
    with pytest.raises(FileNotFoundError, match="has lost its name"):
        segment.reserve(0, 5_000)
    assert (SHM / segment.name).stat().st_size == 0
    (SHM / segment.name).unlink()
    lock.close()
    segment.close()
    (SHM / f"{run_id}-q-queue-lock").unlink()
