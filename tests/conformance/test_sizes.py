"""Sizes and metrics."""

from __future__ import annotations

import json
import os

import pytest

from shared_multiprocess_queue import Full
from tests.support.queues import MakeQueue, drained

pytestmark = [
    pytest.mark.usefixtures("engines"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def test_sizes_follow_every_put_and_get(make: MakeQueue) -> None:
    q = make(capacity=2)
    assert (q.qsize(), q.empty(), q.full()) == (0, True, False)
    q.put(1)
    assert (q.qsize(), q.empty(), q.full()) == (1, False, False)
    q.put(2)
    assert (q.qsize(), q.empty(), q.full()) == (2, False, True)
    q.get()
    assert (q.qsize(), q.empty(), q.full()) == (1, False, False)


def test_metrics_say_what_was_put_and_got_and_who_is_there(make: MakeQueue, mode: str) -> None:
    q = make(capacity=3, item_size=77)
    q.put_batch([1, 2, 3])
    q.get()
    with pytest.raises(Full):
        q.put_batch([4, 5], timeout=0)
    q.put(6)
    with pytest.raises(Full):
        q.put(7, timeout=0.01)
    q.get()
    metrics = q.get_metrics()
    assert metrics["queue_size"] == 2
    assert metrics["queue_capacity"] == 3
    assert metrics["queue_item_size_bytes"] == 77
    assert metrics["queue_utilization_percent"] == pytest.approx(200 / 3)
    assert f"{metrics['queue_utilization_percent']:.1f}" == "66.7"
    assert metrics["put_total"] == 4
    assert metrics["got_total"] == 2
    assert metrics["full_events"] == 2
    assert metrics["empty_events"] == 0
    assert metrics["put_waits"] >= 1
    assert metrics["get_waits"] == 0
    assert metrics["orphans_recovered"] == metrics["dead_puts"] == 0
    assert list(metrics["participants"]) == [os.getpid()]
    assert metrics["blocked_by"] == []
    assert metrics["unlinked"] is False
    assert (metrics["mode"], metrics["engine"]) == (mode, q.engine)
    drained(q)
    assert q.get_metrics()["empty_events"] == 1
    assert json.loads(json.dumps(metrics))["put_total"] == 4, "plain numbers and texts"
