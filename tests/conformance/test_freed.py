"""A handle that is closed leaves nothing to the collector of garbage, which a program may have switched off."""

from __future__ import annotations

import gc
import weakref

import pytest

from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue._engine.contract import EngineName
from shared_multiprocess_queue.errors import ArgumentError


def test_a_closed_handle_is_freed_at_once(run_id: str, each_engine: EngineName) -> None:
    queue = SharedMemoryQueue("q", create=True, run_id=run_id, capacity=3, engine=each_engine)
    queue.put(1)
    assert queue.get() == 1
    assert queue.readable
    with pytest.raises(ArgumentError):
        queue.get(timeout=-1)
    freed = weakref.ref(queue._membership)
    gc.disable()
    try:
        queue.close()
        queue.unlink()
        del queue
        assert freed() is None
    finally:
        gc.enable()
