"""The calls of a local and of a remote queue have the same meaning and the same exceptions."""

from __future__ import annotations

import datetime
import decimal
import os
import pickle
import random
import threading
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from shared_multiprocess_queue import (
    Empty,
    Full,
    ItemTooLargeError,
    LeaseLostError,
    QueueClosedError,
    QueueExistsError,
    QueueLike,
    QueueMismatchError,
    QueueNotFoundError,
    SerializationError,
    open_queue,
)
from shared_multiprocess_queue.errors import ArgumentError
from tests.remote.conftest import MakeAny, MakeRemote
from tests.support.children import in_child
from tests.support.queues import MakeQueue, drained
from tests.support.servers import Server
from tests.support.waiting import LONG, in_thread

Again = Callable[[Any], Any]


@pytest.mark.parametrize(
    "item",
    [
        *(None, True, 0, -1, 127, 128, -(2**31), 2**63, 2**200, -(2**200), 1.5, float("inf"), 2 + 3j),
        *("", "a" * 63, "a" * 64, "ä\ud800", b"", b"\0\xff", bytearray(b"x"), [], (), {}, set(), frozenset({1})),
        {"a": [1, (2, {"b": {3}})], 2: None},
        *(datetime.datetime(2020, 1, 2, 3, 4, 5, 6, datetime.UTC), datetime.date(1, 1, 1), datetime.timedelta(-1, 2)),
        *(datetime.time(1, 2, fold=1), decimal.Decimal("-1.50"), uuid.UUID(int=7)),
    ],
    ids=repr,
)
def test_what_comes_out_is_what_went_in(make_any: MakeAny, item: object) -> None:
    q = make_any()
    q.put(item)
    got = q.get()
    assert (type(got), got) == (type(item), item)


def test_capacity_order_and_the_errors_of_both_ends(make_any: MakeAny) -> None:
    q = make_any(capacity=2)
    assert q.empty()
    with pytest.raises(Empty):
        q.get_nowait()
    with pytest.raises(Empty):
        q.get(timeout=0.05)
    q.put(1)
    q.put_nowait(obj=2)
    assert (q.qsize(), q.full(), q.empty()) == (2, True, False)
    with pytest.raises(Full):
        q.put_nowait(3)
    with pytest.raises(Full):
        q.put(3, timeout=0.05)
    assert drained(q) == [1, 2]
    metrics = q.get_metrics()
    assert (metrics["put_total"], metrics["got_total"], metrics["full_events"]) == (2, 2, 2)
    assert metrics["empty_events"] == 3


def test_batches_are_whole_or_absent(make_any: MakeAny) -> None:
    q = make_any(capacity=3)
    q.put_batch([])
    q.put(0)
    with pytest.raises(Full):
        q.put_batch([1, 2, 3], block=False)
    with pytest.raises(Full):
        q.put_batch([1, 2, 3], timeout=0.05)
    with pytest.raises(ArgumentError, match="4 items can never fit"):
        q.put_batch(range(4))
    with pytest.raises(ItemTooLargeError) as caught:
        q.put_batch([1, b"x" * 5000])
    assert (caught.value.index, caught.value.limit) == (1, 4096)
    assert q.qsize() == 1
    q.put_batch(iter([1, 2]))
    assert q.get_batch(2) == [0, 1]
    assert q.get_batch(5) == [2]
    with pytest.raises(Empty):
        q.get_batch(5, timeout=0.05)


def test_after_a_batch_that_gave_up_single_puts_go_on(make_any: MakeAny) -> None:
    q = make_any(capacity=3)
    q.put_batch([0, 1])
    with pytest.raises(Full):
        q.put_batch([2, 3], timeout=0.05)
    q.put(2, timeout=LONG)
    assert drained(q) == [0, 1, 2]


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_timeouts_that_cannot_be(make_any: MakeAny, timeout: float) -> None:
    q = make_any()
    with pytest.raises(ArgumentError, match="timeout"):
        q.get(timeout=timeout)
    with pytest.raises(ArgumentError, match="timeout"):
        q.put(1, timeout=timeout)
    with pytest.raises(TypeError):
        q.put(1, timeout="1")
    with pytest.raises(ArgumentError, match="max_items"):
        q.get_batch(0)
    with pytest.raises(TypeError, match="needs an item"):
        q.put()
    assert q.qsize() == 0


def test_calls_wait_for_one_another(make_any: MakeAny, again: Again) -> None:
    q = make_any(capacity=1)
    other = again(q)
    got = in_thread(other.get)
    q.put("first")
    assert got.result(LONG) == "first"
    q.put("fills")
    batch = in_thread(other.put, "waits")
    assert q.get(timeout=LONG) == "fills"
    batch.result(LONG)
    assert q.get(timeout=LONG) == "waits"


def test_a_closed_handle_says_so_and_the_queue_stays(make_any: MakeAny, again: Again) -> None:
    q = make_any(leases=2)
    other = again(q)
    q.put_batch([1, 2])
    assert other.get() == 1
    lease = other.lease()
    other.close()
    other.close()
    assert other.closed
    uses: list[Callable[[], object]] = [
        other.get,
        lambda: other.put(1),
        lambda: other.put_batch([1]),
        other.qsize,
        other.lease,
        other.shutdown,
        other.get_metrics,
        lambda: pickle.dumps(other),
    ]
    for use in uses:
        with pytest.raises(QueueClosedError, match="closed"):
            use()
    with pytest.raises((LeaseLostError, QueueClosedError)):
        lease.done()
    assert [q.get(timeout=LONG), q.get(timeout=LONG)] == [1, 2], "its leases came back"


@pytest.mark.parametrize("call", ["get", "put", "put_batch", "join"])
def test_closing_ends_what_waits(make_any: MakeAny, again: Again, call: str) -> None:
    q = make_any(capacity=2, leases=1)
    if call != "get":
        q.put_batch([1, 2])
    other = again(q)
    given: dict[str, list[Any]] = {"put": [3], "put_batch": [[3, 4]]}
    arguments = given.get(call, [])
    waiting = in_thread(getattr(other, call), *arguments)
    with pytest.raises(TimeoutError):
        waiting.result(0.2)
    other.close()
    with pytest.raises(QueueClosedError):
        waiting.result(LONG)


def test_what_exists_and_what_does_not(make_any: MakeAny, again: Again, run_id: str, server: Server) -> None:
    q = make_any(capacity=7, item_size=99, leases=2)
    where = q.name if not hasattr(q, "url") else server.url(q.name)
    with pytest.raises(QueueExistsError):
        open_queue(where, create=True, run_id=run_id)
    with open_queue(where, create=True, exist_ok=True, run_id=run_id) as same:
        assert (same.capacity, same.item_size, same.leases, same.name, same.run_id) == (7, 99, 2, "q", run_id)
    with pytest.raises(QueueMismatchError) as caught:
        open_queue(where, run_id=run_id, capacity=8)
    assert (caught.value.asked, caught.value.found) == ({"capacity": 8}, {"capacity": 7})
    with pytest.raises(QueueNotFoundError):
        open_queue(where + "x", run_id=run_id)
    late = in_thread(open_queue, where + "y", run_id=run_id, wait=LONG)
    made = open_queue(where + "y", create=True, run_id=run_id)
    found = late.result(LONG)
    made.put(1)
    assert found.get() == 1
    made.unlink()
    made.close()
    found.close()


@pytest.mark.parametrize(
    "wrong",
    [{"capacity": 0}, {"item_size": 0}, {"leases": -1}, {"capacity": 1.5}, {"create": 5}, {"wait": 1}, {"create": "x"}],
    ids=repr,
)
def test_arguments_that_cannot_be(make_any: MakeAny, run_id: str, server: Server, wrong: dict[str, Any]) -> None:
    where = "q" if "local" in str(make_any) else server.url()
    with pytest.raises(ArgumentError):
        open_queue(where, **{"create": True, "run_id": run_id, **wrong})


def test_a_handle_is_pickled_by_where_it_is(make_any: MakeAny) -> None:
    q = make_any(leases=1)
    q.put(1)
    with pickle.loads(pickle.dumps(q)) as same:
        assert same.get() == 1
        with pytest.raises(ValueError, match="too many times"):
            q.task_done()
        same.task_done()
    q.put(2)
    with q.lease() as lease, pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(lease)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_uses_the_handle_and_has_no_leases_of_its_parent(make_any: MakeAny) -> None:
    q = make_any(leases=2)
    q.put_batch([1, 2])
    lease = q.lease()

    def child() -> None:
        with pytest.raises(LeaseLostError):
            lease.done()
        assert q.get() == 2
        q.task_done()
        q.put("from the child")

    in_child(child)
    assert q.get(timeout=LONG) == "from the child"
    q.task_done()
    lease.done()
    assert q.join(timeout=0)


def test_a_lease_that_nothing_refers_to_comes_back_with_a_warning(make_any: MakeAny) -> None:
    q = make_any(leases=2)
    q.put(1)
    with pytest.warns(ResourceWarning, match="dropped without done"):
        q.lease()
    with q.lease(timeout=LONG) as lease:
        assert (lease.item, lease.deliveries) == (1, 2)


@pytest.mark.filterwarnings("ignore:a thread ended without task_done:ResourceWarning")
def test_what_a_thread_leaves_comes_back(make_any: MakeAny) -> None:
    q = make_any(leases=2)
    q.put(1)
    assert in_thread(q.get).result(LONG) == 1
    assert q.get(timeout=LONG) == 1
    q.task_done()


def test_many_threads_put_and_get_each_item_once(make_any: MakeAny, again: Again) -> None:
    q = make_any(capacity=2)
    handles = [again(q) for _ in range(2)]
    count = 40
    found: list[Any] = []
    lock = threading.Lock()

    def put(number: int, handle: Any) -> None:
        for i in range(count):
            handle.put((number, i), timeout=LONG)

    def take(handle: Any) -> None:
        for item in handle:
            with lock:
                found.append(item)

    producers = [in_thread(put, number, handles[number % 2]) for number in range(4)]
    consumers = [in_thread(take, handles[number % 2]) for number in range(3)]
    for one in producers:
        one.result(LONG)
    q.shutdown()
    for one in consumers:
        one.result(LONG)
    assert sorted(found) == [(number, i) for number in range(4) for i in range(count)]


@pytest.mark.parametrize("seed", range(3))
def test_random_calls_have_the_outcome_of_a_plain_list(make_any: MakeAny, seed: int) -> None:
    chance = random.Random(seed)
    q = make_any(capacity=3, leases=2)
    waiting: deque[int] = deque()
    back: list[int] = []
    leased: list[tuple[Any, int]] = []
    for number in range(120):
        match chance.randrange(6):
            case 0 | 1:
                batch = [10 * number + i for i in range(chance.randint(1, 3))]
                if len(waiting) + len(batch) <= 3:
                    q.put_batch(batch, block=False)
                    waiting.extend(batch)
                else:
                    with pytest.raises(Full):
                        q.put_batch(batch, block=False)
            case 2 | 3:
                if back or (waiting and len(leased) + len(back) < 2):
                    back.sort()
                    leased.append((q.lease(block=False), back.pop(0) if back else waiting.popleft()))
                    assert leased[-1][0].item == leased[-1][1]
                else:
                    with pytest.raises(Empty):
                        q.lease(block=False)
            case 4 if leased:
                leased.pop(chance.randrange(len(leased)))[0].done()
            case 5 if leased:
                lease, item = leased.pop(0)
                lease.release()
                back.append(item)
        assert q.qsize() == len(waiting) + len(back)
        assert q.join(timeout=0) == (not waiting and not leased and not back)
    while leased:
        leased.pop()[0].done()


def test_an_item_that_no_one_kind_takes(make_remote: MakeRemote, make_queue: MakeQueue) -> None:
    """What the kinds differ in: without a secret a remote queue takes data only, and says what it met."""
    remote, local = make_remote(), make_queue()
    local.put(os.stat_result)
    assert local.get() is os.stat_result
    with pytest.raises(SerializationError, match=r"of type .*type.*serializer='pickle'"):
        remote.put(os.stat_result)


def test_both_kinds_fit_the_protocol(make_remote: MakeRemote, make_queue: MakeQueue) -> None:
    """The type checker sees the two assignments; the names are looked at here."""
    remote: QueueLike[Any] = make_remote(leases=1)
    local: QueueLike[Any] = make_queue(leases=1)
    names = {name for name in vars(QueueLike) if not name.startswith("_")}
    assert len(names) > 20
    assert [name for name in names for queue in (remote, local) if not hasattr(queue, name)] == []
