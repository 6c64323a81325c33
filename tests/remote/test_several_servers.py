"""Queues of which several servers take care: sentinels, a cluster; and what servers do when they end."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from shared_multiprocess_queue import QueueRefusedError, QueueUnavailableError, RemoteQueue, ShutDown
from stress.remote.server import Server
from stress.remote.several import Cluster, Sentinels, until
from tests.support.servers import programs_or_skip
from tests.support.waiting import LONG, in_thread

SECRET = b"0123456789abcdef"


@pytest.fixture(params=["redis-server", "valkey-server"])
def program(request: pytest.FixtureRequest) -> str:
    if request.param not in programs_or_skip():
        pytest.skip(f"{request.param} is not installed")
    name: str = request.param
    return name


class Traffic:
    """A producer, and a holder of leases; each works until the other is told that it is over.

    Attributes:
        put: items whose put has returned.
        done: items whose lease was ended.
    """

    def __init__(self, url: str, run_id: str) -> None:
        self._arguments: dict[str, Any] = {"run_id": run_id, "secret": SECRET}
        self._url = url
        self._is_over = threading.Event()
        self.put: list[int] = []
        self.done: list[int] = []
        with RemoteQueue[int](url, create=True, capacity=20, leases=5, lease=5, **self._arguments):
            pass
        self._workers: list[Future[None]] = [in_thread(self._produce), in_thread(self._work)]

    def _produce(self) -> None:
        with RemoteQueue[int](self._url, **self._arguments) as q:
            number = 0
            while not self._is_over.is_set():
                q.put(number)
                self.put.append(number)
                number += 1
            q.shutdown()

    def _work(self) -> None:
        with RemoteQueue[int](self._url, **self._arguments) as q:
            while True:
                try:
                    lease = q.lease()
                except ShutDown:
                    return
                lease.done()
                self.done.append(lease.item)

    def goes_on(self) -> None:
        """Wait until more items have gone through."""
        goal = len(self.done) + 50
        until(lambda: len(self.done) >= goal or any(worker.done() for worker in self._workers))

    def end(self) -> None:
        """End both."""
        self._is_over.set()
        for worker in self._workers:
            worker.result(LONG)
        RemoteQueue.remove(self._url, self._arguments["run_id"])


@pytest.mark.long
def test_a_cluster_moves_a_queue_and_fails_over(tmp_path: Path, program: str, run_id: str) -> None:
    """A slot that moves, and a replica that is asked to take over, lose nothing; a killed master may lose the last."""
    with Cluster(tmp_path, program) as cluster:
        traffic = Traffic(cluster.url(), run_id)
        traffic.goes_on()
        slot = cluster.slot_of(f"{{{run_id}/q}}")
        owner = next(one for one in cluster.masters if one.command("CLUSTER", "COUNTKEYSINSLOT", str(slot)) != [b":0"])
        if owner is not cluster.masters[0]:
            cluster.move(slot, owner, cluster.masters[0])
            traffic.goes_on()
        cluster.move(slot, cluster.masters[0], cluster.masters[1])
        traffic.goes_on()
        cluster.move(slot, cluster.masters[1], cluster.masters[0])
        traffic.goes_on()
        cluster.replica.command("CLUSTER", "FAILOVER")
        until(lambda: b"role:master" in cluster.replica.command("INFO", "replication"))
        traffic.goes_on()
        until(lambda: b"master_link_status:up" in cluster.masters[0].command("INFO", "replication"))
        assert_nothing_lost(traffic)
        cluster.replica.kill()  # the master by now
        traffic.goes_on()
        traffic.end()
        assert len(set(traffic.done)) == len(traffic.done)


def assert_nothing_lost(traffic: Traffic) -> None:
    """Check that what was put has been done, once, up to an item that is on its way."""
    seen = len(traffic.put)
    until(lambda: len(traffic.done) >= seen)
    assert traffic.done[:seen] == traffic.put[:seen]


@pytest.mark.long
def test_sentinels_give_a_queue_another_master(tmp_path: Path, program: str, run_id: str) -> None:
    with Sentinels(tmp_path, program) as servers:
        traffic = Traffic(servers.url(), run_id)
        traffic.goes_on()
        assert_nothing_lost(traffic)
        servers.master.kill()
        traffic.goes_on()
        assert b"role:master" in servers.replica.command("INFO", "replication")
        servers.sentinels[0].kill()
        with RemoteQueue[int](servers.url(), run_id=run_id, secret=SECRET) as q:
            assert q.get_metrics()["server_is_durable"]

            async def look() -> int:
                await q.put_async(-1)
                await q.aclose()
                return 1

            assert asyncio.run(look()) == 1
        traffic.goes_on()
        traffic.end()
        assert len(set(traffic.done)) == len(traffic.done)


@pytest.mark.slow
def test_a_node_of_a_cluster_says_how_to_write_its_url(tmp_path: Path) -> None:
    settings = {"cluster-enabled": "yes", "cluster-require-full-coverage": "no"}
    server = Server(tmp_path, programs_or_skip()[0], **settings)
    server.start()
    try:
        server.command("CLUSTER", "ADDSLOTSRANGE", "0", "1")
        with pytest.raises((QueueRefusedError, QueueUnavailableError)):
            RemoteQueue(server.url(), create=True, reconnect=0)
    finally:
        server.kill()
