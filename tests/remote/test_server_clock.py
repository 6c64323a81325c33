"""The server's clock is set back or forward, or the server is away: leases last, and nothing waits for ever.

What a script sees of that is a time of the last look that does not fit: so that is what these tests set.
"""

from __future__ import annotations

from typing import Any

import pytest

from shared_multiprocess_queue import Empty, Full, RemoteQueue
from tests.remote.conftest import MakeRemote
from tests.support.servers import Server
from tests.support.waiting import LONG, in_thread

HOUR = 3_600_000


def key_of(server: Server, kind: str) -> str:
    (key,) = (line.decode() for line in server.command("KEYS", f"*:{kind}") if line.startswith(b"shmq:"))
    return key


def move(server: Server, by: int, *, leased: bool = True) -> None:
    """Set the queue's times as they were if the clock had been so many ms ahead until now; behind, if negative."""
    meta = key_of(server, "m")
    server.command("HINCRBY", meta, "time", str(by))
    for field in ("gate_until", "getters", "putters"):
        if server.command("HEXISTS", meta, field)[0] == b":1":
            server.command("HINCRBY", meta, field, str(by))
    if leased:
        key = key_of(server, "l")
        for token in server.command("ZRANGE", key, "0", "-1")[2::2]:
            server.raw("ZINCRBY", key, str(by), token)


@pytest.mark.parametrize("by", [HOUR, -HOUR], ids=["back", "forward"])
def test_a_living_holder_keeps_its_lease_when_the_clock_is_set(
    make_remote: MakeRemote, server: Server, by: int
) -> None:
    q = make_remote(leases=2, lease=60)
    q.put("a")
    lease = q.lease()
    move(server, by)
    with pytest.raises(Empty):
        q.lease(block=False)
    (seen,) = q.get_metrics()["leased"]
    assert 0 < seen["ends_in"] < 61
    lease.done()


@pytest.mark.slow
@pytest.mark.parametrize("by", [HOUR, -HOUR], ids=["back", "forward"])
def test_the_item_of_a_dead_holder_comes_back_when_the_clock_is_set(
    make_remote: MakeRemote, server: Server, by: int
) -> None:
    q = make_remote(leases=2, lease=1)
    q.put("a")
    q._handle.run(q._handle.calls.take(1, 0, 0))  # nothing renews it
    move(server, by)
    with q.lease(timeout=LONG) as lease:
        assert (lease.item, lease.deliveries) == ("a", 2)


@pytest.mark.slow
def test_a_batch_that_waited_when_the_clock_was_set_back_keeps_no_put(make_remote: MakeRemote, server: Server) -> None:
    q = make_remote(capacity=2)
    q.put_batch([1, 2])
    call: Any = q._handle.calls.put([b"x", b"y"], float("inf"))  # its process dies while it waits
    assert q._handle._link.step(next(call)) == [b"full"]
    with pytest.raises(Full):
        q.put_nowait(3)
    move(server, HOUR, leased=False)
    q.get_batch(2)
    waiting = in_thread(q.put, 3)
    waiting.result(LONG)
    assert q.get() == 3


def test_calls_that_are_far_apart_see_the_end_of_a_lease(make_remote: MakeRemote, server: Server) -> None:
    """The first silence may have been the server's own; what comes then counts, if no holder is heard of."""
    q = make_remote(leases=2, lease=30)
    q.put("a")
    q._handle.run(q._handle.calls.take(1, 0, 0))
    move(server, -HOUR)
    with pytest.raises(Empty):
        q.get_nowait()
    move(server, -21_000)  # so much time passes; a third of a lease has counted
    assert q.get_nowait() == "a"


def test_a_holder_that_is_heard_of_outlasts_the_next_silence(make_remote: MakeRemote, server: Server) -> None:
    q = make_remote(leases=2, lease=60)
    q.put("a")
    lease = q.lease()
    for _ in range(2):
        move(server, -HOUR)
        q._handle.run(q._handle.calls.simple("keep", lease.held.token))
    q.put("b")
    with q.lease() as other:
        move(server, -HOUR)
        assert other.item == "b"
    lease.done()


def test_a_delay_ends_in_time_if_calls_are_rare(make_remote: MakeRemote, server: Server) -> None:
    q = make_remote(leases=2, lease=30)
    q.put("a")
    q.lease().release(delay=60)
    key = key_of(server, "r")
    for _ in range(3):
        with pytest.raises(Empty):
            q.get_nowait()
        (member,) = server.command("ZRANGE", key, "0", "-1")[2::2]
        server.raw("ZINCRBY", key, "-20000", member)
        move(server, -20_000, leased=False)  # so much time passes
    assert q.get_nowait() == "a"


def test_a_delay_is_as_long_as_before_when_the_clock_is_set_back(make_remote: MakeRemote, server: Server) -> None:
    q = make_remote(leases=2)
    q.put("a")
    q.lease().release(delay=0.3)
    key = key_of(server, "r")
    (member,) = server.command("ZRANGE", key, "0", "-1")[2::2]
    server.raw("ZINCRBY", key, str(HOUR), member)
    move(server, HOUR, leased=False)
    with q.lease(timeout=LONG) as lease:
        assert lease.item == "a"


def test_leases_last_while_the_server_is_away(own_server: Server) -> None:
    """A holder that lives cannot renew its lease meanwhile; the server does not hold that against it."""
    with RemoteQueue[Any](own_server.url(), create=True, capacity=3, leases=2, lease=60) as q:
        q.put("a")
        lease = q.lease()
        own_server.kill()
        own_server.start()
        move(own_server, -HOUR)  # it was away for an hour
        with pytest.raises(Empty):
            q.get_nowait()
        lease.done()
        assert q.join(timeout=0)
