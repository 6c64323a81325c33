"""Answers that are lost, requests that linger, tasks that are cancelled: each item is with one getter, or there."""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import Callable
from typing import Any

import pytest
from redis import exceptions

from shared_multiprocess_queue import (
    DeadLetterGoneError,
    Full,
    LeaseLostError,
    QueueRefusedError,
    QueueUnavailableError,
    RemoteQueue,
    ShutDown,
)
from shared_multiprocess_queue._remote import trouble
from shared_multiprocess_queue._remote.scripts import SCRIPTS
from stress.remote.cutting import CuttingProxy
from tests.remote.conftest import MakeRemote
from tests.support.servers import Server
from tests.support.waiting import LONG, eventually, in_thread

Through = Callable[..., RemoteQueue[Any]]


def digest(name: str) -> bytes:
    return SCRIPTS[name].digest.encode()


@pytest.mark.parametrize("step", ["take", "done"])
def test_a_get_without_an_answer_loses_nothing(
    make_remote: MakeRemote, proxy: CuttingProxy, through: Through, step: str
) -> None:
    """The lease of a minute cannot end here: what the call had goes back at once, and that was no delivery."""
    q = make_remote(leases=0, lease=60)
    q.put("a")
    handle = through(reconnect=0)
    handle.qsize()
    proxy.loses = digest(step)
    with pytest.raises(QueueUnavailableError) as caught:
        handle.get()
    assert caught.value.outcome == "unknown"
    assert proxy.lost
    proxy.loses = b""
    assert q.get(timeout=LONG) == "a"
    metrics = q.get_metrics()
    assert (metrics["got_total"], metrics["redelivered"], metrics["queue_size"]) == (1, 0, 0)


@pytest.mark.parametrize("leases", [0, 2])
def test_a_get_that_is_cancelled_at_any_await_loses_nothing(make_remote: MakeRemote, leases: int) -> None:
    """The loop runs the task for one more of its steps each time, until it comes to its end."""
    q = make_remote(leases=leases, lease=60)
    q.put("a")

    async def cancelled_after(turns: int) -> bool:
        task = asyncio.create_task(q.get_async())
        for _ in range(turns):
            await asyncio.wait({task}, timeout=0.0005)
        task.cancel()
        try:
            return bool((await task) == "a")
        except asyncio.CancelledError:
            return False

    async def main() -> int:
        for turns in itertools.count():
            if await cancelled_after(turns):
                return turns
            await asyncio.to_thread(lambda: q.put(q.get(timeout=LONG)) or [q.task_done() for _ in range(leases and 1)])
        raise AssertionError

    assert asyncio.run(main()) > 1
    metrics = q.get_metrics()
    assert (metrics["queue_size"], metrics["redelivered"]) == (0, 0)


def test_a_put_that_was_full_puts_nothing_later(make_remote: MakeRemote, proxy: CuttingProxy, through: Through) -> None:
    """Its first request lingers in the network until there is room."""
    q = make_remote(capacity=1)
    q.put("a")
    handle = through()
    handle.qsize()
    proxy.holds = digest("put")
    put = in_thread(handle.put_nowait, "b")
    eventually(lambda: proxy.held)
    proxy.holds = b""
    with pytest.raises(Full):
        put.result(LONG)
    assert q.get() == "a"
    late = proxy.send_held()
    assert late
    assert q.empty()


def test_a_refusal_after_a_lost_answer_leaves_open_whether_it_was_done(own_server: Server) -> None:
    proxy = CuttingProxy(own_server.port)
    try:
        with RemoteQueue[Any](f"redis://127.0.0.1:{proxy.port}/0#q", create=True) as q:
            q.put("the server knows the script from now on")
            q.get()
            proxy.loses = digest("put")
            put = in_thread(q.put, "a")
            eventually(lambda: proxy.lost)
            own_server.command("CONFIG", "SET", "maxmemory", "1")
            proxy.loses = b""
            with pytest.raises(QueueRefusedError, match="memory is full") as caught:
                put.result(LONG)
            assert caught.value.outcome == "unknown"
            with pytest.raises(QueueRefusedError) as caught:
                q.put("b")
            assert caught.value.outcome == "not done"
            own_server.command("CONFIG", "SET", "maxmemory", "0")
            assert q.get(timeout=LONG) == "a"
    finally:
        proxy.close()


def test_a_request_is_not_repeated_for_longer_than_it_is_remembered(
    make_remote: MakeRemote, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    q = make_remote()
    asked: list[bytes] = []
    handle = RemoteQueue[Any](server.url(), run_id=q.run_id, reconnect=None)
    link = handle._handle._link
    minutes = itertools.count(0, int(60e9))  # each look at the clock is a minute later

    class Clock:
        FOREVER = float("inf")
        now = staticmethod(minutes.__next__)

    def lose(data: bytes, seconds: float) -> Any:
        asked.append(data)
        raise ConnectionResetError

    monkeypatch.setattr(trouble, "clock", Clock)
    monkeypatch.setattr(link._asking, "use", lose)
    monkeypatch.setattr(link, "_pause", lambda seconds: None)
    with pytest.raises(QueueUnavailableError):
        handle.put("a")
    monkeypatch.undo()
    assert len(asked) == 60
    q.put("b")
    sessions = [key for key in server.command("KEYS", "*:s:*") if key.startswith(b"shmq:")]
    assert sessions
    assert all(int(server.raw("TTL", key)[0][1:]) > 7000 for key in sessions), "twice as long"
    handle.close()


@pytest.mark.parametrize(
    "error",
    [
        exceptions.BusyLoadingError("Redis is loading the dataset in memory"),
        exceptions.ConnectionError("max number of clients reached"),
    ],
)
def test_what_a_busy_server_has_turned_away_is_not_done(
    make_remote: MakeRemote, server: Server, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    handle = RemoteQueue[Any](server.url(), run_id=make_remote().run_id, reconnect=0)

    def refuse(data: bytes, seconds: float) -> Any:
        raise error

    monkeypatch.setattr(handle._handle._link._asking, "use", refuse)
    with pytest.raises(QueueUnavailableError) as caught:
        handle.put("a")
    assert caught.value.outcome == "not done"
    handle.close()


@pytest.mark.parametrize(("first", "then"), [("done", "done"), ("release", "release"), ("release", "done")])
def test_the_end_of_a_lease_that_was_not_answered_can_be_asked_for_again(
    make_remote: MakeRemote, proxy: CuttingProxy, through: Through, first: str, then: str
) -> None:
    q = make_remote(leases=2)
    q.put("a")
    handle = through(reconnect=0)
    lease = handle.lease()
    proxy.loses = digest(first)
    with pytest.raises(QueueUnavailableError):
        getattr(lease, first)()
    proxy.loses = b""
    assert q.qsize() == (first == "release"), "it was done"
    if first == then:
        getattr(lease, then)()
        assert not lease.valid
    else:
        with pytest.raises(LeaseLostError):
            getattr(lease, then)()
    with pytest.raises(LeaseLostError):
        lease.done()
    assert q.get_metrics()["got_total"] == (first == "done")


def test_a_letter_that_was_put_back_without_an_answer_says_so(
    make_remote: MakeRemote, proxy: CuttingProxy, through: Through
) -> None:
    q = make_remote(leases=2, max_deliveries=1)
    q.put("a")
    q.lease().release()
    handle = through(reconnect=0)
    (letter,) = handle.dead_letters()
    proxy.loses = digest("end_letter")
    with pytest.raises(QueueUnavailableError):
        letter.put_back()
    proxy.loses = b""
    letter.put_back()
    with pytest.raises(DeadLetterGoneError):
        letter.put_back()
    assert q.qsize() == 1


def test_letters_that_are_put_back_take_no_lease_and_no_room(make_remote: MakeRemote) -> None:
    q = make_remote(capacity=2, leases=1, max_deliveries=1)
    q.put("a")
    q.lease().release()
    (letter,) = q.dead_letters()
    q.put_batch(["b", "c"])
    held = q.lease()
    q.put("d")
    letter.put_back()
    assert q.full()
    with pytest.raises(q.Full):
        q.put_nowait("e")
    assert q.get_metrics()["queue_size"] == 3
    with pytest.raises(q.Empty):
        q.lease(block=False)
    held.done()
    for expected in ("a", "c", "d"):
        with q.lease() as lease:
            assert (lease.item, lease.deliveries) == (expected, 1)
    q.put_batch(["f", "g"])
    assert q.full()


def test_a_former_lease_does_not_end_the_item_that_was_put_back(make_remote: MakeRemote) -> None:
    q = make_remote(leases=1, max_deliveries=1)
    q.put("a")
    former = q.lease()
    token = former.held.token
    former.release()
    (letter,) = q.dead_letters()
    letter.put_back()
    with q.lease() as lease:
        assert (lease.deliveries, lease.held.token != token) == (1, True)
        (was_mine,) = q._handle.run(q._handle.calls.once("done", token))
        assert not was_mine


def test_a_letter_stays_if_the_queue_was_shut_down(make_remote: MakeRemote) -> None:
    q = make_remote(leases=1, max_deliveries=1)
    q.put("a")
    q.lease().release()
    (letter,) = q.dead_letters()
    q.shutdown()
    with pytest.raises(ShutDown):
        letter.put_back()
    assert len(q.dead_letters()) == 1
    letter.done()
    assert q.dead_letters() == []


@pytest.mark.slow
def test_a_lease_whose_answer_took_long_is_not_over_when_it_begins(own_server: Server) -> None:
    with RemoteQueue[Any](own_server.url(), create=True, leases=2, lease=1) as q:
        q.put("a")
        own_server.send_signal(signal.SIGSTOP)
        lease = in_thread(q.lease)
        with pytest.raises(TimeoutError):
            lease.result(1.5)
        own_server.send_signal(signal.SIGCONT)
        assert lease.result(LONG).valid
        lease.result().done()


@pytest.mark.slow
def test_a_get_gives_up_in_time_between_its_trips(own_server: Server) -> None:
    with RemoteQueue[Any](own_server.url(), create=True, lease=60) as q:
        q.put("a")
        call: Any = q._handle.getting(1, 0)
        answer = q._handle._link.step(next(call))
        own_server.kill()
        with pytest.raises(QueueUnavailableError):
            q._handle._link.step(call.send(answer))
        call.close()
        q._handle._holdings.run_errands()
        own_server.start()
        assert q.get(timeout=LONG) == "a"
