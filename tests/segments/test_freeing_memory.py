"""When the memory of a closed handle goes."""

from __future__ import annotations

import gc
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from shared_multiprocess_queue import QueueClosedError, SharedMemoryQueue
from tests.support.places import SHM
from tests.support.queues import MakeQueue
from tests.support.waiting import LONG, eventually

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files"),
]


def test_a_handle_is_closed_by_a_thread_that_never_used_it(make_queue: MakeQueue, run_id: str, engines: str) -> None:
    """The threads that used it have died."""
    q = make_queue(capacity=8)
    for _ in range(60):
        opened: list[SharedMemoryQueue] = []

        def use(opened: list[SharedMemoryQueue] = opened) -> None:
            handle = SharedMemoryQueue("q", run_id=run_id)
            opened.append(handle)
            with suppress(QueueClosedError):  # it may be closed by now
                handle.put_batch([1, 2])
                handle.get_batch(2)

        thread = threading.Thread(target=use)
        thread.start()
        eventually(lambda opened=opened: opened, "the handle")  # type: ignore[misc]
        opened[0].close()
        thread.join(LONG)
        assert not thread.is_alive()
        while not q.empty():
            q.get()


def test_memory_to_which_something_refers_late_goes_when_that_does(run_id: str) -> None:
    """As a ctypes object does that another thread has dropped and not come to freeing."""

    def mapped() -> bool:
        return run_id in Path("/proc/self/maps").read_text()

    q = SharedMemoryQueue("q", create=True, capacity=3, run_id=run_id)
    memory = q._membership.memory
    late = getattr(memory, "_anchor", None)
    export = memoryview(q._membership.segment.buffer)
    ctypes_like = (late, export)
    q.unlink()
    q.close()
    assert q.closed
    assert mapped(), "it was unmapped under somebody"
    assert len(bytes(export[:8])) == 8
    del late, export, ctypes_like
    gc.collect()
    assert not mapped()
