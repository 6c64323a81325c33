"""What the words of leases decide: times, hints and holders, written as no call would write them at that moment."""

from __future__ import annotations

import time
from typing import cast

import pytest

from shared_multiprocess_queue import Empty, LeaseLostError, SharedMemoryQueue
from shared_multiprocess_queue._platform.atomic_words import Words
from shared_multiprocess_queue._ring import layout
from shared_multiprocess_queue._ring.leased_ring import LeasedRing
from stress.hostile import staging
from tests.support.queues import MakeQueue

HOUR = 3600 * 10**9


def head_of(q: SharedMemoryQueue, lease: int = 0) -> int:
    return q._geometry.lease_heads + lease * layout.LEASE_HEAD_SIZE


@pytest.mark.parametrize("ahead", [HOUR, -HOUR])
def test_a_time_of_another_clock_is_due(make_leased: MakeQueue, ahead: int) -> None:
    q = make_leased()
    q.put("item")
    q.lease().release(delay=30)
    assert q.empty()
    staging.Stage(q).write(head_of(q) + layout.LEASE_DUE, time.monotonic_ns() + ahead)
    assert not q.empty()
    assert q.get(block=False) == "item"


def test_each_get_looks_for_the_dead_when_it_is_time(make_leased: MakeQueue) -> None:
    q = make_leased()
    q.put_batch(["of the dead", "next"])
    lease = q.lease()
    pid, start, namespace = layout.parse_owner(q._membership.participants.owner)
    stage = staging.Stage(q)
    stage.write(head_of(q) + layout.LEASE_HOLDER, layout.owner_of(pid, start + 1, namespace))  # had this pid before
    stage.write(layout.LOOK_AT, 1)
    assert q.get(block=False) == "of the dead"
    with pytest.raises(LeaseLostError):
        lease.done()


def test_releases_do_not_put_off_the_look_for_the_dead(make_leased: MakeQueue) -> None:
    q = make_leased()
    q.put("item")
    stage = staging.Stage(q)
    for _ in range(3):
        look_at = time.monotonic_ns() + 9 * 10**8
        stage.write(layout.LOOK_AT, look_at)
        q.lease(block=False).release()
        assert stage.word(layout.LOOK_AT) == look_at or time.monotonic_ns() > look_at


def test_the_end_of_a_lease_wakes_no_get_in_vain(make_leased: MakeQueue) -> None:
    q = make_leased()
    stage = staging.Stage(q)
    for rest in ([], ["next"]):
        q.put_batch(["item", *rest])
        lease = q.lease(block=False)
        epoch = stage.word(layout.ITEMS + layout.WAKE_EPOCH)
        stage.write(layout.ITEMS + layout.WAKE_HINT, stage.word(layout.ITEMS + layout.WAKE_HINT) | 1)
        lease.done()
        assert (stage.word(layout.ITEMS + layout.WAKE_EPOCH) != epoch) == bool(rest)


class CountedWords:
    """Words that count how often they are loaded."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self.loads = 0

    def load(self, offset: int) -> int:
        self.loads += 1
        return self._words.load(offset)


def test_the_search_for_a_leased_item_begins_where_the_last_one_found_one(make_leased: MakeQueue) -> None:
    """Each end of a lease beside a join makes one; over all lease slots, the ends of N leases would take N² steps."""
    number = 64
    q = make_leased(capacity=number, leases=number)
    q.put_batch(range(number))
    assert len(q.get_batch(number)) == number
    leases, words = q._membership.ring.leases, CountedWords(q._membership.memory.words())
    assert leases is not None
    for _ in range(number):
        assert leases.has_items(cast(Words, words))
        q.task_done()
    assert not leases.has_items(cast(Words, words))
    assert words.loads < 10 * number


@pytest.mark.parametrize("first", [0, 1])
def test_of_those_that_go_last_with_one_due_the_oldest_comes_first(make_leased: MakeQueue, first: int) -> None:
    """In whichever lease slots they lie; all of these wait for head, which cannot move."""
    q = make_leased()
    for number in range(first):
        q.put(number)
        q.lease().done()
    q.put_batch(["before", "older", "newer"])
    before, older = q.lease(), q.lease()
    before.done()
    newer = q.lease()
    q.put("next")
    newer.release(last=True)
    older.release(last=True)
    assert q.get() == "older"


def test_a_join_minds_its_deadline_though_the_ring_never_rests(
    make_leased: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    q = make_leased()
    ring = cast(LeasedRing, q._membership.ring)
    monkeypatch.setattr(ring, "_is_ring_finished", lambda words, tail: None)
    with q._membership.operation() as record:
        assert not ring.is_quiet(record.words)


def test_what_goes_last_waits_for_a_lease_to_end(make_leased: MakeQueue) -> None:
    """It has a lease slot, and the other one is in use; a worker that fails at an item would get it at once again."""
    q = make_leased()
    q.put_batch(["long", "fails", "next"])
    long = q.lease()
    q.lease().release(last=True)
    with pytest.raises(Empty):
        q.lease(block=False)
    long.done()
    assert [q.get(block=False), q.get(block=False)] == ["next", "fails"]
