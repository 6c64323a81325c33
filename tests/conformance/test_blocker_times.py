"""For how long somebody has been in the way of others."""

from __future__ import annotations

import pytest

from shared_multiprocess_queue._engine import metrics
from shared_multiprocess_queue._platform import clock


def test_who_stopped_with_the_lock_of_batches_is_blamed_for_all_of_the_time_though_tail_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each single put that went by set the seconds back to 0."""
    time = 0
    monkeypatch.setattr(clock, "now", lambda: time)
    watch = metrics.Watch()
    assert watch.seconds([(7, 100, "put_batch")]) == [0.0]
    time = 2_000_000_000
    assert watch.seconds([(7, 101, "put_batch"), (8, 5, "get")]) == [2.0, 0.0]
    time = 3_000_000_000
    assert watch.seconds([(7, 102, "put_batch"), (8, 6, "get")]) == [3.0, 0.0]
