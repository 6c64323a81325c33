"""Doorbells beside what a call cannot take: they must not be readable all the time, and be rung when it can."""

from __future__ import annotations

import os
import select
import time
from queue import Empty, Full
from typing import Any

import pytest

from shared_multiprocess_queue._ring.layout import HELD_SLICE
from tests.support.queues import MakeQueue
from tests.support.waiting import LONG


@pytest.fixture(autouse=True)
def no_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared_multiprocess_queue._engine.doorbell.SLICE", 3600 * 10**9)


def rounds(bell: Any, call: Any, error: type[Exception], seconds: float) -> int:
    """Wait and call for some seconds; return how often the call was in vain."""
    until = time.monotonic() + seconds
    count = 0
    while time.monotonic() < until:
        if select.select([bell], [], [], until - time.monotonic())[0]:
            with pytest.raises(error):
                call()
            count += 1
    return count


def test_readable_beside_an_item_for_which_no_lease_is_free(make_queue: MakeQueue, each_engine: Any) -> None:
    q = make_queue(capacity=3, leases=1, engine=each_engine)
    q.put_batch([1, 2])
    held = q.lease()
    bell = q.readable
    most = 0.3e9 / HELD_SLICE + 3
    assert rounds(bell, lambda: q.lease(block=False), Empty, 0.3) <= most
    held.done()  # rings
    assert select.select([bell], [], [], LONG)[0]
    with q.lease(block=False) as lease:
        assert lease.item == 2


def test_writable_beside_room_that_is_too_small_for_a_batch(make_queue: MakeQueue, each_engine: Any) -> None:
    q = make_queue(capacity=3, engine=each_engine)
    q.put_batch([1, 2])
    bell = q.writable
    most = 0.3e9 / HELD_SLICE + 3
    assert rounds(bell, lambda: q.put_batch([3, 4], block=False), Full, 0.3) <= most
    assert q.get() == 1  # rings
    assert select.select([bell], [], [], LONG)[0]
    q.put_batch([3, 4], block=False)


def test_what_comes_meanwhile_is_shown_at_once(make_queue: MakeQueue, each_engine: Any) -> None:
    """A call that was right to find nothing, and an item that comes before the doorbell looks."""
    q = make_queue(capacity=3, engine=each_engine)
    bell = q.readable
    arm = q._membership.parking.arm

    def put_and_arm(words: Any, side: int) -> int:
        q._membership.parking.arm = arm  # type: ignore[method-assign]
        q.put(os.getpid())
        return arm(words, side)

    for _ in range(3):
        q._membership.parking.arm = put_and_arm  # type: ignore[method-assign]
        with pytest.raises(Empty):
            q.get_nowait()
        assert select.select([bell], [], [], 0)[0]
        assert q.get_nowait() == os.getpid()
