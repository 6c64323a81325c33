"""The package shared_memory_lock and ours share one int32 and one protocol."""

from __future__ import annotations

import itertools
import textwrap
from pathlib import Path

import pytest

from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue._platform import mutex
from shared_multiprocess_queue._ring import layout
from tests.support.lock_workers import KINDS, VERSION, worker
from tests.support.places import SHM
from tests.support.queues import MakeQueue

pytestmark = [
    pytest.mark.costly,
    pytest.mark.usefixtures("each_engine"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files"),
]


def test_the_worker_uses_the_real_package_beside_ours(make_queue: MakeQueue, package: Path) -> None:
    q = make_queue()
    assert type(q._membership.flag) is mutex.OwnLock
    with worker("package", package, q) as process:
        assert process.ask("_lock.lock_class().__name__") == "PackageLock"
        assert process.ask("shared_memory_lock.__version__") == VERSION
        process.end()


@pytest.mark.parametrize("kind", KINDS)
def test_the_segment_is_the_one_that_the_package_would_make(make_queue: MakeQueue, package: Path, kind: str) -> None:
    q = make_queue()
    file = SHM / f"{q.run_id}-q-queue-lock"
    assert file.read_bytes() == bytes(4), "one int32, free"
    with worker("package", package, q) as process:
        assert process.ask("Raw().lock._shm.name") == file.name
        assert process.ask("SharedMemoryQueue('made', create=True, capacity=3, run_id=run_id).close()") is None
        assert (SHM / f"{q.run_id}-made-queue-lock").read_bytes() == bytes(4)
        process.end()
    with SharedMemoryQueue("made", run_id=q.run_id) as made:
        made.put_batch([1, 2])
        assert made.get_batch(2) == [1, 2]
        made.unlink()


def test_the_lock_of_the_package_sees_our_hold_and_we_see_its(make_queue: MakeQueue, package: Path) -> None:
    q = make_queue()
    with worker("package", package, q) as process:
        assert process.ask("globals().update(raw=Raw().lock)") is None
        assert process.ask("raw.acquire(blocking=False)") is True
        assert q._membership.flag.is_held()
        assert not q._membership.flag.try_acquire()
        assert process.ask("raw.release()") is None
        assert not q._membership.flag.is_held()
        assert q._membership.flag.try_acquire()
        assert process.ask("raw.acquire(blocking=False)") is False
        assert process.ask("raw.acquire(timeout=0.01)") is False
        process.tell("raw.acquire(timeout=60)")
        q._membership.flag.release()
        assert process.answer() is True
        assert process.ask("raw.release()") is None
        process.end()


@pytest.mark.parametrize(("one", "other"), list(itertools.product(KINDS, KINDS)))
def test_one_int32_lets_one_in_at_a_time(make_queue: MakeQueue, package: Path, one: str, other: str) -> None:
    """Both add to one number by a plain, losable addition, under the int32 alone."""
    q = make_queue()
    count = textwrap.dedent(
        """
        def count(times):
            words = q._membership.memory.words()
            at = {at}
            for _ in range(times):
                while not q._membership.flag.try_acquire():
                    os.sched_yield()
                words.announce(at, words.peek(at) + 1)
                q._membership.flag.release()
        """
    ).format(at=layout.GATE_AT)
    with worker(one, package, q) as first, worker(other, package, q) as second:
        for process in (first, second):
            process.ask(f"exec({count!r}, globals())")
            process.tell("count(3000)")
        assert first.answer() is second.answer() is None
        words = q._membership.memory.words()
        assert words.load(layout.GATE_AT) == 6000
        words.store(layout.GATE_AT, 0)
        first.end()
        second.end()
