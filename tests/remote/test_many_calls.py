"""Many calls at once, forks at any moment, ends without a server."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from typing import Any

import pytest

from shared_multiprocess_queue import Empty, LeaseLostError, QueueClosedError, RemoteQueue
from shared_multiprocess_queue._remote.trouble import CONNECTIONS
from tests.remote.conftest import MakeRemote
from tests.support.children import in_child
from tests.support.servers import Server
from tests.support.waiting import LONG, eventually, in_thread

THREADS = CONNECTIONS + 60


def connections(server: Server) -> int:
    (line,) = (line for line in server.command("INFO", "clients") if line.startswith(b"connected_clients"))
    return int(line.partition(b":")[2]) - 1


@pytest.mark.slow
def test_more_calls_than_connections_wait_and_leases_are_renewed(make_remote: MakeRemote, server: Server) -> None:
    q = make_remote(capacity=1000, leases=1, lease=1)
    q.put("held")
    lease = q.lease()
    getters = [in_thread(q.get, timeout=2.5) for _ in range(THREADS)]
    eventually(lambda: connections(server) >= CONNECTIONS)
    for getter in getters:
        with pytest.raises(Empty):
            getter.result(LONG)
    assert lease.valid
    lease.done()
    assert connections(server) <= 2 * CONNECTIONS + 5
    assert q.get_metrics()["redelivered"] == 0


@pytest.mark.slow
def test_more_tasks_than_connections_wait(make_remote: MakeRemote) -> None:
    q = make_remote(capacity=3)

    async def main() -> list[Any]:
        getters = [asyncio.create_task(q.get_async()) for _ in range(3 * CONNECTIONS)]
        await asyncio.sleep(0)
        for i in range(3 * CONNECTIONS):
            await q.put_async(i)
        return await asyncio.gather(*getters)

    assert sorted(asyncio.run(main())) == list(range(3 * CONNECTIONS))


@pytest.mark.slow
def test_closing_without_a_server_ends_soon(own_server: Server) -> None:
    """A server that is gone, with the longest patience."""
    q = RemoteQueue[Any](own_server.url(), create=True, leases=2, reconnect=None)
    q.put_batch([1, 2])
    lease = q.lease()
    q.get()
    own_server.kill()
    began = time.monotonic()
    in_thread(q.close).result(LONG / 2)
    assert time.monotonic() - began < LONG / 4  # half a minute would be the patience of a call
    with pytest.raises((LeaseLostError, QueueClosedError)):
        lease.done()


def test_an_item_that_comes_to_a_closed_handle_goes_back(make_remote: MakeRemote, run_id: str, server: Server) -> None:
    q = make_remote(leases=2, lease=60)
    other = RemoteQueue[Any](server.url(), run_id=run_id)
    handle = other._handle
    q.put("a")
    call: Any = handle.getting(1, 0)
    answer = handle._link.step(next(call))
    other.close()
    with pytest.raises(QueueClosedError):
        call.send(answer)
    handle._holdings.run_errands()
    with q.lease(timeout=LONG) as lease:
        assert (lease.item, lease.deliveries) == ("a", 1)


class Undone:
    """Errands that the thread has not begun when its process forks."""

    def empty(self) -> bool:
        return False


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_needs_no_lock_that_a_thread_of_its_parent_had(
    make_remote: MakeRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    q = make_remote(leases=2)
    q.put_batch(["a", "b"])
    lease = q.lease()
    holdings = q._handle._holdings
    connections_left = q._handle._link._asking._left
    for _ in range(CONNECTIONS):  # all of them are in use
        connections_left.get()
    monkeypatch.setattr(holdings, "_post", Undone())
    ready, over = threading.Event(), threading.Event()

    def hold() -> None:
        with holdings._lock:
            ready.set()
            over.wait(LONG)

    holder = threading.Thread(target=hold)
    holder.start()
    ready.wait(LONG)

    def child() -> None:
        assert q.get() == "b"
        q.task_done()
        with pytest.raises(LeaseLostError):
            lease.done()
        gc.collect()
        q.close()

    try:
        assert in_child(child) == 0
    finally:
        over.set()
        holder.join()
        monkeypatch.undo()
        for _ in range(CONNECTIONS):
            connections_left.put(None)
    lease.done()


@pytest.mark.filterwarnings("ignore:a Lease was dropped:ResourceWarning")
def test_a_lease_is_dropped_while_its_thread_has_every_lock(make_remote: MakeRemote) -> None:
    """``__del__`` may come in the middle of any of them, in the same thread."""
    q = make_remote(leases=2, lease=60)
    q.put("a")
    lease = q.lease()

    def drop() -> None:
        nonlocal lease
        with q._handle._holdings._lock:
            del lease
            gc.collect()

    in_thread(drop).result(LONG)
    assert q.get(timeout=LONG) == "a"


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_threads_of_a_child_share_its_handle(make_remote: MakeRemote) -> None:
    q = make_remote(capacity=30)

    def child() -> None:
        barrier = threading.Barrier(8)

        def handle() -> object:
            barrier.wait(LONG)
            return q._of_this_process()

        assert len({id(one.result(LONG)) for one in [in_thread(handle) for _ in range(8)]}) == 1

    assert in_child(child) == 0
    assert q._handle.pid == os.getpid()


@pytest.mark.filterwarnings("error::ResourceWarning")
def test_loops_that_end_leave_no_connections(make_remote: MakeRemote, server: Server) -> None:
    q = make_remote()
    q.qsize()
    before = connections(server)

    async def main() -> None:
        await q.put_async(1)
        assert await q.get_async() == 1

    for _ in range(5):
        asyncio.run(main())
    assert len(q._handle._task_links) == 1
    gc.collect()
    eventually(lambda: connections(server) <= before + 1)
    q.close()
    gc.collect()
    eventually(lambda: connections(server) == 0)
