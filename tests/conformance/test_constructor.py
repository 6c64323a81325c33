"""What a queue is made or attached with."""

from __future__ import annotations

import queue
import threading

import pytest

import shared_multiprocess_queue
from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue.errors import ArgumentError
from tests.support.queues import MakeQueue

pytestmark = [
    pytest.mark.usefixtures("engines"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def test_empty_and_full_are_those_of_queue_wherever_one_looks(make_queue: MakeQueue) -> None:
    q = make_queue(capacity=1)
    assert shared_multiprocess_queue.Empty is SharedMemoryQueue.Empty is q.Empty is queue.Empty
    assert shared_multiprocess_queue.Full is SharedMemoryQueue.Full is q.Full is queue.Full
    with pytest.raises(q.Empty) as empty:
        q.get(timeout=0)
    q.put(1)
    with pytest.raises(q.Full) as full:
        q.put(1, timeout=0)
    assert (empty.type, full.type) == (queue.Empty, queue.Full), "not some subclass"


def test_a_lock_is_accepted_and_ignored(run_id: str) -> None:
    lock = threading.Lock()
    with SharedMemoryQueue("locked", True, 3, 100, run_id, lock) as q:
        with lock:
            q.put_batch([1, 2])
            assert q.get() == 1
        with SharedMemoryQueue("locked", run_id=run_id, lock=object()) as again:
            assert again.get() == 2
        q.unlink()


def test_who_attaches_takes_the_sizes_and_the_mode_from_the_queue(make: MakeQueue, run_id: str, mode: str) -> None:
    make(capacity=5, item_size=99)
    with SharedMemoryQueue("q", run_id=run_id) as q:
        assert (q.capacity, q.item_size, q.mode) == (5, 99, mode)


def test_the_engine_that_is_asked_for_is_used_or_refused(
    make_queue: MakeQueue, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert make_queue(engine="atomics").engine == "atomics"
    with pytest.raises(ArgumentError, match="'atomics' or 'native'"):
        SharedMemoryQueue("q", run_id=run_id, engine="quantum")  # type: ignore[arg-type]
    monkeypatch.setenv("SHMQ_ENGINE", "atomics")
    with SharedMemoryQueue("q", run_id=run_id) as q:
        assert q.engine == "atomics"
    monkeypatch.setenv("SHMQ_ENGINE", "quantum")
    with pytest.raises(ArgumentError, match="SHMQ_ENGINE"):
        SharedMemoryQueue("q", run_id=run_id)
    with SharedMemoryQueue("q", run_id=run_id, engine="atomics") as q:
        assert q.engine == "atomics"
