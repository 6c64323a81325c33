"""For how long somebody has been in the way of others."""

from __future__ import annotations

import pytest

from shared_multiprocess_queue._engine import metrics
from shared_multiprocess_queue._platform import clock


def test_the_holder_of_the_batch_lock_is_blamed_for_all_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process that stopped with the lock of batches is in the way all the time, though tail goes on.

    Each single put that went by set the seconds back to 0.
    """
    time = 0
    monkeypatch.setattr(clock, "now", lambda: time)
    watch = metrics.Watch()
    assert watch.seconds([(7, 100, "put_batch")]) == [0.0]
    time = 2_000_000_000
    assert watch.seconds([(7, 101, "put_batch"), (8, 5, "get")]) == [2.0, 0.0]
    time = 3_000_000_000
    assert watch.seconds([(7, 102, "put_batch"), (8, 6, "get")]) == [3.0, 0.0]
