"""How long a process has blocked others."""

from __future__ import annotations

from typing import Literal

import pytest

from shared_multiprocess_queue._engine import metrics
from shared_multiprocess_queue._platform import clock
from shared_multiprocess_queue._platform.processes import Identity
from shared_multiprocess_queue._ring.seen import Blocker


def blocker(pid: int, position: int, doing: Literal["put", "get", "put_batch"]) -> Blocker:
    return Blocker(Identity(pid, 1, 1), position, doing)


def test_the_holder_of_the_batch_lock_is_blamed_for_all_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process that stopped with the lock of batches is in the way all the time, though tail goes on.

    Each single put that went by set the seconds back to 0.
    """
    time = 0
    monkeypatch.setattr(clock, "now", lambda: time)
    watch = metrics.BlockerTimes()
    assert watch.seconds([blocker(7, 100, "put_batch")]) == [0.0]
    time = 2_000_000_000
    assert watch.seconds([blocker(7, 101, "put_batch"), blocker(8, 5, "get")]) == [2.0, 0.0]
    time = 3_000_000_000
    assert watch.seconds([blocker(7, 102, "put_batch"), blocker(8, 6, "get")]) == [3.0, 0.0]
