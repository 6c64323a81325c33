"""Connections that are cut in the middle of messages: nothing lost, nothing doubled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from shared_multiprocess_queue import RemoteQueue, ShutDown
from shared_multiprocess_queue._remote.requests import Wake
from stress.remote import workers
from stress.remote.cutting import CuttingProxy
from tests.remote.conftest import MakeRemote
from tests.support.servers import Server, programs_or_skip
from tests.support.waiting import LONG, in_thread

PUTS = 150
Through = Callable[..., RemoteQueue[Any]]


def test_each_item_comes_once_however_often_connections_are_cut(
    make_remote: MakeRemote, proxy: CuttingProxy, through: Through
) -> None:
    q = make_remote(capacity=3, leases=0, lease=30)

    def produce(number: int) -> None:
        with through() as handle:
            for i in range(PUTS):
                if i % 10:
                    handle.put((number, i))
                else:
                    handle.put_batch([(number, i), (number, -i - 1)])

    def consume() -> list[Any]:
        with through() as handle:
            return list(handle)

    handles_are_open = [in_thread(through().close) for _ in range(2)]
    for one in handles_are_open:
        one.result(LONG)
    proxy.often = 0.03
    producers = [in_thread(produce, number) for number in range(2)]
    consumers = [in_thread(consume) for _ in range(2)]
    for producer in producers:
        producer.result(LONG)
    q.shutdown()
    found = Counter(item for consumer in consumers for item in consumer.result(LONG))
    assert proxy.cuts > 10
    expected = {(number, i) for number in range(2) for i in range(PUTS)}
    expected |= {(number, -i - 1) for number in range(2) for i in range(0, PUTS, 10)}
    assert set(found) == expected
    assert set(found.values()) == {1}


@pytest.mark.slow
def test_leases_through_cut_connections_end_once(
    make_remote: MakeRemote, proxy: CuttingProxy, through: Through
) -> None:
    """A lease of half a minute cannot end by itself here: each item is done once, and none comes again."""
    q = make_remote(capacity=PUTS, leases=4, lease=30)
    q.put_batch(range(PUTS))
    q.shutdown()

    def work() -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        with through() as handle:
            proxy.often = 0.03
            while True:
                try:
                    leases = handle.lease_batch(2)
                except ShutDown:
                    return found
                for lease in leases:
                    lease.done()
                    found.append((lease.item, lease.deliveries))

    workers = [in_thread(work) for _ in range(2)]
    found = [one for worker in workers for one in worker.result(LONG)]
    assert sorted(found) == [(i, 1) for i in range(PUTS)]
    assert proxy.cuts > 5
    assert q.get_metrics()["got_total"] == PUTS


def test_a_request_that_comes_late_changes_nothing(make_remote: MakeRemote) -> None:
    """Bytes can linger in a network until long after their request was repeated and answered."""
    q = make_remote(capacity=5, leases=2)
    handle = q._handle
    session_calls = handle.calls

    def sent(call: Any) -> list[Any]:
        """Return the requests of a call, and run it."""
        asked, answer = [], None
        try:
            while True:
                step = call.send(answer)
                asked.append(step)
                answer = handle._link.step(step)
        except StopIteration:
            return asked

    (put,) = sent(handle.putting("a", 0))
    assert handle._link.step(put) == [b"ok", b""], "the same request again: the same answer"
    (take,) = sent(session_calls.take(1, 0, 0))
    assert handle._link.step(put) == [b"late"]
    first = handle._link.step(take)
    assert first == handle._link.step(take)
    (done,) = sent(session_calls.once("done", first[1].decode()))
    assert handle._link.step(take) == [b"ok"], "what it had taken has ended"
    assert handle._link.step(done) == [b"ok", b"1"]
    assert q.get_metrics()["put_total"] == q.get_metrics()["got_total"] == 1
    assert q.qsize() == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_kills_of_workers_and_of_the_server_lose_nothing() -> None:
    programs_or_skip()
    outcome = workers.run(workers.Plan(kills=10, restarts=3, seed=3))
    assert outcome.is_right, outcome
    assert outcome.acknowledged > 50


def stepped(handle: Any, call: Any, answer: Any = None) -> Any:
    """Send an answer to a call, run what it asks for, and return the answer to that."""
    return handle._link.step(call.send(answer))


def test_an_item_whose_confirmation_came_too_late_is_not_returned(make_remote: MakeRemote, server: Server) -> None:
    """The process was stopped for longer than a lease, between the two round trips of its get."""
    q = make_remote(leases=0)
    q.put_batch(["a", "b"])
    call = q._handle.getting(1, 0)
    answer = stepped(q._handle, call)
    (leased,) = (line.decode() for line in server.command("KEYS", "*:l") if line.startswith(b"shmq:"))
    server.raw("ZADD", leased, "1", answer[1])
    assert q.get() == "a", "another one has it"
    answer = stepped(q._handle, call, answer)
    assert answer == [b"ok", b"0"]
    answer = stepped(q._handle, call, answer)
    answer = stepped(q._handle, call, answer)
    with pytest.raises(StopIteration) as end:
        call.send(answer)
    assert end.value.value == ["b"]


def test_join_returns_for_an_idle_moment_that_no_look_has_met(make_remote: MakeRemote) -> None:
    q = make_remote(leases=1)
    q.put(1)
    call: Any = q._handle.joining(float("inf"))
    answer = stepped(q._handle, call)
    q.get()
    q.task_done()
    q.put(2)
    assert isinstance(call.send(answer), Wake)
    answer = stepped(q._handle, call)
    assert answer[1] == 1, "busy again"
    with pytest.raises(StopIteration) as end:
        call.send(answer)
    assert end.value.value is True
