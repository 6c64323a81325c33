"""The gate: single puts wait for a batch, but not for ever."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from shared_multiprocess_queue import Full, SharedMemoryQueue
from shared_multiprocess_queue._ring.batch_lock import Gate
from shared_multiprocess_queue._ring.layout import GATE_AT
from tests.support.queues import MakeQueue, drained
from tests.support.waiting import LONG, eventually, in_thread


@pytest.mark.parametrize("is_batch", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["item", "batch"])
def test_a_worker_that_puts_before_it_gets_again_is_not_kept_out_for_ever(
    make_queue: MakeQueue, each_engine: str, is_batch: bool
) -> None:
    """The batch waits for the next get, which comes after the put."""
    q = make_queue(capacity=10, item_size=64, max_item_size=640)
    other = SharedMemoryQueue(q.name, run_id=q.run_id)
    words = q._membership.memory.words()
    for item in range(5):
        q.put(item)
    wanted: list[Any] = list(range(5, 13)) if is_batch else [bytes(8 * 64)]
    batch = in_thread(partial(other.put_batch, wanted, timeout=LONG) if is_batch else partial(other.put, *wanted))
    eventually(lambda: words.load(GATE_AT), "the gate shut")
    assert q.get(timeout=LONG) == 0
    q.put("what follows", timeout=LONG)
    assert not batch.done()
    assert [q.get(timeout=LONG) for _ in range(3)] == [1, 2, 3]
    batch.result(LONG)
    assert drained(q) == [4, "what follows", *wanted]
    other.close()


def test_a_batch_that_waits_changes_its_gate_and_keeps_its_end(make_queue: MakeQueue, each_engine: str) -> None:
    """Putters pass a wake on once for each value, so one that stays would let wakes get lost."""
    q = make_queue(capacity=2)
    words = q._membership.memory.words()
    q.put("in the way")
    batch = in_thread(partial(q.put_batch, [1, 2], timeout=LONG))
    eventually(lambda: words.load(GATE_AT), "the gate shut")
    first = words.load(GATE_AT)
    eventually(lambda: words.load(GATE_AT) != first, "another value")
    assert first < words.load(GATE_AT) < first + 1_000_000, "a look adds a nanosecond; a lease would add more"
    assert q.get(timeout=LONG) == "in the way"
    batch.result(LONG)


def test_a_batch_renews_its_gate_after_a_get(make_queue: MakeQueue) -> None:
    q = make_queue(capacity=2, engine="atomics")
    words, gate = q._membership.memory.words(), Gate(q._membership.parking)
    gate.shut(words)
    first = words.load(GATE_AT)
    gate.shut(words)
    assert words.load(GATE_AT) == first + 1, "not renewed, but another value: a putter passes a wake on once for each"
    words.store(GATE_AT, 0)
    q.put("item")
    with pytest.raises(Full):
        q.put_batch([1, 2], block=False)
    gate.shut(words)
    assert words.load(GATE_AT) == first + 2, "a put makes no room"
    q.get()
    gate.shut(words)
    assert words.load(GATE_AT) > first
    gate.open(words)
    assert words.load(GATE_AT) == 0
