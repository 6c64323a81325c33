"""Leases and the end of a queue have the same meaning locally and remotely."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

import pytest

from shared_multiprocess_queue import (
    Empty,
    LeaseLostError,
    LeasesHeldError,
    LeasesRequiredError,
    ShutDown,
)
from tests.remote.conftest import MakeAny
from tests.support.waiting import LONG, eventually, in_thread

Again = Callable[[Any], Any]


def test_a_lease_has_the_item_until_it_ends(make_any: MakeAny) -> None:
    q = make_any(leases=2)
    q.put_batch(["a", "b", "c"])
    with q.lease() as lease:
        assert (lease.item, lease.deliveries) == ("a", 1)
        assert q.qsize() == 2
        assert not q.join(timeout=0)
    with pytest.raises(LeaseLostError, match="is over"):
        lease.done()
    with pytest.raises(KeyError), q.lease():
        raise KeyError
    lease = q.lease()
    assert (lease.item, lease.deliveries) == ("c", 1)
    lease.done()
    with q.lease() as lease:
        assert (lease.item, lease.deliveries) == ("b", 2)
    assert q.join(timeout=0)
    assert q.get_metrics()["redelivered"] == 1


def test_what_is_given_back_comes_first_or_last_or_later(make_any: MakeAny) -> None:
    q = make_any(leases=3)
    q.put_batch(["a", "b"])
    q.lease().release()
    first = q.lease()
    assert first.item == "a"
    first.release(last=True)
    second = q.lease()
    assert second.item == "b"
    second.release(delay=0.3)
    first = q.lease()
    assert first.item == "a"
    first.done()
    with pytest.raises(Empty):
        q.get_nowait()
    with q.lease(timeout=LONG) as second:
        assert (second.item, second.deliveries) == ("b", 2)
    lease = in_thread(q.lease)
    q.put("c")
    with lease.result(LONG) as third:
        for wrong in ({"delay": -1}, {"delay": 1, "last": True}):
            with pytest.raises(ValueError, match="delay"):
                third.release(**wrong)


def test_get_leases_until_task_done(make_any: MakeAny) -> None:
    q = make_any(leases=2, capacity=4)
    q.put_batch([1, 2, 3])
    assert q.get_batch(9) == [1, 2]
    with pytest.raises(LeasesHeldError):
        q.get()
    with pytest.raises(Empty):
        in_thread(q.get, timeout=0.05).result(LONG)
    q.task_done()
    assert q.get() == 3
    assert not q.join(timeout=0.05)
    joined = in_thread(q.join)
    q.task_done()
    q.task_done()
    assert joined.result(LONG)
    with pytest.raises(ValueError, match="too many times"):
        q.task_done()
    assert q.join()


def test_a_get_waits_for_a_lease(make_any: MakeAny) -> None:
    q = make_any(leases=1)
    q.put_batch([1, 2])
    lease = q.lease()
    got = in_thread(q.lease)
    eventually(lambda: q.get_metrics()["lease_waits"] > 0)
    lease.done()
    with got.result(LONG) as second:
        assert second.item == 2


def test_a_queue_without_leases_has_no_such_calls(make_any: MakeAny) -> None:
    q = make_any()
    with pytest.raises(LeasesRequiredError):
        q.lease()
    for name in ("task_done", "join"):
        assert not hasattr(q, name)
        with pytest.raises(LeasesRequiredError):
            getattr(q, name)()


def test_shutdown_lets_the_rest_be_taken(make_any: MakeAny, again: Again) -> None:
    q = make_any()
    q.put_batch([1, 2])
    waiting = in_thread(again(q).put_batch, [3, 4])
    assert not q.is_shutdown
    q.shutdown()
    assert q.is_shutdown
    with pytest.raises(ShutDown):
        waiting.result(LONG)
    with pytest.raises(ShutDown):
        q.put(3)
    assert list(q) == [1, 2]
    with pytest.raises(ShutDown):
        q.get()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_shutdown_wakes_getters_and_waits_for_leases_of_others(make_any: MakeAny) -> None:
    context = multiprocessing.get_context("fork")
    q = make_any(leases=2)
    q.put("a")
    has_it, may_end = context.Event(), context.Event()

    def hold() -> None:
        with q.lease():
            has_it.set()
            may_end.wait(LONG)

    holder = context.Process(target=hold)
    holder.start()
    assert has_it.wait(LONG)
    getter = in_thread(q.get)
    q.shutdown()
    with pytest.raises(Empty):
        q.get(timeout=0.05)
    assert not getter.done()
    may_end.set()
    holder.join(LONG)
    with pytest.raises(ShutDown):
        getter.result(LONG)


def test_the_holder_of_the_last_item_does_not_wait_for_itself(make_any: MakeAny) -> None:
    q = make_any(leases=2)
    q.put("a")
    lease = q.lease()
    q.shutdown()
    with pytest.raises(ShutDown):
        q.get()
    lease.done()


def test_immediate_shutdown_drops_what_is_there(make_any: MakeAny, again: Again) -> None:
    q = make_any(leases=2)
    q.put_batch([1, 2, 3])
    lease, back = again(q).lease_batch(2)
    q.shutdown()
    q.shutdown(immediate=True)
    with pytest.raises(ShutDown):
        q.get()
    assert not q.join(timeout=0)
    lease.done()
    back.release()
    assert q.join(timeout=LONG)
    with pytest.raises(ShutDown):
        q.get()
    assert q.qsize() == 0
