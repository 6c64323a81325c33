"""What the server must be like, and what becomes of calls when it is not, or is away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import Any

import pytest

from shared_multiprocess_queue import (
    DeadLetterGoneError,
    Empty,
    LayoutVersionError,
    LeaseLostError,
    QueueNotFoundError,
    QueueRefusedError,
    QueueUnavailableError,
    RemoteQueue,
    open_queue,
)
from shared_multiprocess_queue.errors import ArgumentError
from tests.remote.conftest import MakeRemote
from tests.support.servers import Server, free_port
from tests.support.waiting import LONG, eventually, in_thread


def opened(server: Server, name: str = "q", **arguments: Any) -> RemoteQueue[Any]:
    return RemoteQueue[Any](server.url(name), create=True, **{"capacity": 3, "lease": 1.0, **arguments})


@pytest.mark.parametrize(
    "url",
    [
        "http://host#q",
        "redis://host",
        "redis://host/0",
        "redis://host#",
        "redis://host#a%00b",
        "redis://[::1#q",
        "://#q",
    ],
)
def test_urls_that_cannot_be(url: str) -> None:
    with pytest.raises(ArgumentError, match=r"URL|scheme"):
        open_queue(url)


@pytest.mark.parametrize("arguments", [{"create": True}, {}])
def test_a_password_that_is_missing_is_named(own_server: Server, arguments: dict[str, bool]) -> None:
    own_server.command("CONFIG", "SET", "requirepass", "s3cret")
    with pytest.raises(QueueRefusedError, match="user and a password"):
        open_queue(own_server.url(), **arguments)


def test_a_password_is_never_shown(own_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    own_server.command("ACL", "SETUSER", "worker", "on", ">s3cr:et@", "~shmq:*", "+@all", "-info", "-config")
    own_server.command("CONFIG", "SET", "requirepass", "other")
    monkeypatch.setenv("SHMQ_PASSWORD", "s3cr:et@")
    with RemoteQueue[Any](own_server.url(user="worker@"), create=True, secret=b"x" * 16) as q:
        assert "s3cr" not in repr(q) + q.url
        q.put(1)
        assert q.get_metrics()["server"] == "", "this user may not ask"
        q.unlink()
    with pytest.raises(QueueRefusedError) as caught:
        open_queue(own_server.url(user="worker:wr0ng@"), create=True)
    assert "wr0ng" not in str(caught.value)
    assert "user and a password" in str(caught.value)


def test_a_server_that_may_drop_keys_is_refused(own_server: Server) -> None:
    own_server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    with pytest.raises(QueueRefusedError, match="allkeys-lru"):
        opened(own_server)
    opened(own_server, accept_eviction=True).close()
    own_server.command("CONFIG", "SET", "maxmemory-policy", "volatile-lru")
    with pytest.warns(RuntimeWarning, match="volatile-lru"):
        RemoteQueue(own_server.url()).close()


def test_a_full_server_refuses_puts_and_lets_the_rest_be_taken(own_server: Server) -> None:
    with opened(own_server, capacity=10, leases=3, item_size=100_000) as q:
        q.put_batch([b"x" * 50_000] * 5)
        own_server.command("CONFIG", "SET", "maxmemory", "100kb")
        with pytest.raises(QueueRefusedError, match="memory is full"):
            q.put_batch([b"y" * 50_000] * 2)
        assert q.qsize() == 5
        q.lease().release()
        for _ in range(5):
            with q.lease() as lease:
                assert lease.item == b"x" * 50_000
        assert q.join(timeout=0)


def test_a_server_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(QueueUnavailableError, match="does not answer") as caught:
        open_queue(f"redis://127.0.0.1:{free_port()}/0#q", create=True, reconnect=0)
    assert caught.value.outcome == "not done"
    assert isinstance(caught.value, ConnectionError)


def test_a_killed_server_comes_back_with_all_that_was_acknowledged(own_server: Server) -> None:
    with opened(own_server, capacity=10, leases=2, lease=60) as q:
        q.put_batch([1, 2, 3])
        lease = q.lease()
        own_server.kill()
        waiting = in_thread(q.put, 4)
        with pytest.raises(TimeoutError):
            waiting.result(0.1)
        own_server.start()
        waiting.result(LONG)
        lease.done()
        for expected in (2, 3, 4):
            with q.lease() as lease:
                assert lease.item == expected
        assert q.join(timeout=0)


@pytest.mark.slow
def test_a_call_with_a_timeout_gives_a_server_up_that_is_away(own_server: Server) -> None:
    with opened(own_server) as q:
        own_server.kill()
        for call in (lambda: q.put(1, timeout=0.1), lambda: q.put_nowait(1), lambda: q.get(timeout=0.1)):
            with pytest.raises(QueueUnavailableError):
                call()
        own_server.start()
        assert q.qsize() == 0


def test_a_server_that_has_lost_the_queue_says_so(own_server: Server) -> None:
    with opened(own_server, leases=1) as q:
        q.put(1)
        lease = q.lease()
        own_server.command("FLUSHALL")
        for use in (q.get, lambda: q.put(1), q.qsize, lease.done, q.join, q.shutdown, q.dead_letters):
            with pytest.raises(QueueNotFoundError, match="is gone"):
                use()


def test_a_handle_never_touches_a_successor_of_its_queue(own_server: Server) -> None:
    with opened(own_server) as old:
        RemoteQueue.remove(own_server.url())
        with opened(own_server) as new:
            new.put(1)
            with pytest.raises(QueueNotFoundError):
                old.get()
            old.unlink()
            assert new.get() == 1
    with pytest.raises(QueueNotFoundError):
        RemoteQueue.remove(own_server.url("other"))
    RemoteQueue.remove(own_server.url("other"), missing_ok=True)


def test_scripts_that_the_server_has_forgotten_are_sent_again(own_server: Server) -> None:
    with opened(own_server) as q:
        q.put(1)
        own_server.command("SCRIPT", "FLUSH")
        assert q.get() == 1


def test_a_queue_of_a_newer_version_is_refused(own_server: Server) -> None:
    with opened(own_server) as q:
        (meta,) = (line for line in own_server.command("KEYS", "*:m") if line.startswith(b"shmq:"))
        own_server.command("HSET", meta.decode(), "version", "9")
        with pytest.raises(LayoutVersionError, match=r"version 9.*RemoteQueue\.remove"):
            RemoteQueue(own_server.url())
        q.unlink()


# ---- leases and time ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_holder_that_lives_keeps_its_lease_for_any_time(make_remote: MakeRemote) -> None:
    q = make_remote(leases=2)
    q.put(1)
    lease = q.lease()
    with pytest.raises(Empty):
        q.get(timeout=2.5)
    assert lease.valid
    lease.done()
    assert not lease.valid


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_the_item_of_a_killed_holder_goes_to_another(make_remote: MakeRemote) -> None:
    q = make_remote(leases=2, max_deliveries=2)
    q.put("a")
    for deliveries in (1, 2):
        pid = os.fork()
        if pid == 0:
            try:
                assert q.lease(timeout=LONG).deliveries == deliveries
            finally:
                os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(pid, 0)
    with pytest.raises(Empty):
        q.get(timeout=2.5)
    (letter,) = q.dead_letters()
    assert (letter.item, letter.deliveries) == ("a", 2)
    assert q.join(timeout=0)
    letter.put_back()
    with pytest.raises(DeadLetterGoneError, match="is gone"):
        letter.done()
    with q.lease() as lease:
        assert (lease.item, lease.deliveries) == ("a", 1)
    assert q.get_metrics()["dead_letters_total"] == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_frozen_holder_is_told_that_it_has_lost_its_lease(make_remote: MakeRemote) -> None:
    q = make_remote(leases=2)
    q.put("a")
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            lease = q.lease(timeout=LONG)
            os.write(writer, b"x")
            eventually(lambda: not lease.valid)
            with pytest.raises(LeaseLostError):
                lease.done()
            code = 0
        finally:
            os._exit(code)
    os.read(reader, 1)
    os.kill(pid, signal.SIGSTOP)
    try:
        with q.lease(timeout=LONG) as lease:
            assert (lease.item, lease.deliveries) == ("a", 2)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert os.waitpid(pid, 0)[1] == 0
    os.close(reader)
    os.close(writer)


@pytest.mark.slow
def test_without_the_client_a_url_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['redis'] = None\n"
        "from shared_multiprocess_queue import open_queue\n"
        "open_queue('redis://127.0.0.1:1/0#q')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: a queue on a server needs redis-py: pip install 'shared-multiprocess-queue[redis]'"
    )


def test_task_done_ends_no_item_of_another_thread_for_a_lost_one(make_remote: MakeRemote) -> None:
    q = make_remote(leases=3, lease=60)
    q.put_batch(["lost", "mine", "another's"])
    assert [q.get(), q.get()] == ["lost", "mine"]
    lost = q._handle._holdings.oldest()
    assert lost is not None
    q._handle.run(q._handle.calls.once("done", lost.token))  # the server gave it to another, which has ended it
    got = threading.Event()
    ends = threading.Event()

    def take_one() -> None:
        q.get()
        got.set()
        ends.wait(LONG)
        q.task_done()

    other = in_thread(take_one)
    assert got.wait(LONG)
    with pytest.raises(LeaseLostError):
        q.task_done()
    q.task_done()
    with pytest.raises(ValueError, match="too many times"):
        q.task_done()
    assert [one["position"] for one in q.get_metrics()["leased"]] == [3]
    ends.set()
    other.result(LONG)
    assert q.join(timeout=0)
