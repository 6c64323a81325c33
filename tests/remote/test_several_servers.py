"""Queues of which several servers take care: sentinels, a cluster; and what servers do when they end."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from shared_multiprocess_queue import QueueRefusedError, QueueUnavailableError, RemoteQueue, ShutDown
from stress.remote.several import Cluster, Sentinels, until
from tests.support.places import REPOSITORY
from tests.support.servers import Server, free_port, programs_or_skip
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


class Told:
    """A server that answers each connection's requests with what it is told to, and counts the connections."""

    def __init__(self, answer: Callable[[], bytes]) -> None:
        self._answer = answer
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                with connection:
                    while request := connection.recv(1 << 16):
                        # redis-py begins by telling its name.
                        count = request.count(b"CLIENT")
                        connection.sendall(b"+OK\r\n" * count if count else self._answer())

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def told() -> Iterator[Callable[[Callable[[], bytes]], Told]]:
    made: list[Told] = []

    def tell(answer: Callable[[], bytes]) -> Told:
        made.append(Told(answer))
        return made[-1]

    yield tell
    for one in made:
        one.close()


Tell = Callable[[Callable[[], bytes]], Told]


def test_a_node_of_a_cluster_says_how_to_write_its_url(told: Tell) -> None:
    node = told(lambda: b"-MOVED 7 127.0.0.1:1\r\n")
    with pytest.raises(QueueRefusedError, match=r"redis\+cluster://"):
        RemoteQueue(f"redis://127.0.0.1:{node.port}/0#q", create=True)


def test_sentinels_are_asked_for_the_master(server: Server, told: Tell, run_id: str) -> None:
    """One is away, one does not know the service, and one knows its master: which is another one, later on."""
    port = free_port()  # where no server is
    unknowing = told(lambda: b"*-1\r\n")
    knowing = told(lambda: b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%d\r\n" % (len(str(port)), port))
    hosts = f"127.0.0.1:{free_port()},127.0.0.1:{unknowing.port},127.0.0.1:{knowing.port}"
    url = f"redis+sentinel://{hosts}/main/0#q"
    with pytest.raises(QueueUnavailableError) as caught:
        RemoteQueue[int](url, create=True, run_id=run_id, reconnect=0)
    assert caught.value.outcome == "not done"
    port = server.port
    with RemoteQueue[int](url, create=True, run_id=run_id) as q:
        q.put(1)

        async def get() -> int:
            item = await q.get_async()
            await q.aclose()
            return item

        asked = knowing.connections
        assert asyncio.run(get()) == 1
        assert knowing.connections > asked
    with RemoteQueue[int](url, run_id=run_id) as q:
        q.unlink()


def test_no_sentinel_that_knows_a_master_is_told(told: Tell) -> None:
    unknowing = told(lambda: b"*-1\r\n")
    with pytest.raises(QueueUnavailableError, match=r"'main'.*sentinels"):
        RemoteQueue[int](f"redis+sentinel://127.0.0.1:{unknowing.port}/main#q", reconnect=0)


def test_a_queue_is_where_a_node_of_a_cluster_says(server: Server, told: Tell, run_id: str) -> None:
    node = told(lambda: b"-MOVED 7 127.0.0.1:%d\r\n" % server.port)
    with RemoteQueue[int](f"redis+cluster://127.0.0.1:{node.port}#q", create=True, run_id=run_id) as q:
        q.put(1)
        assert q.get() == 1
        assert node.connections == 1
        q.unlink()


def test_a_connection_to_a_server_that_is_no_master_any_more_ends(own_server: Server) -> None:
    """The name of its host may be that of another one by now."""
    with RemoteQueue[int](own_server.url(), create=True) as q:
        assert own_server.command("REPLICAOF", "127.0.0.1", str(free_port())) == [b"+OK"]
        before = connections_received(own_server)
        put = in_thread(lambda: q.put(1))
        until(lambda: connections_received(own_server) > before + 3)
        own_server.command("REPLICAOF", "NO", "ONE")
        put.result(LONG)
        assert q.get() == 1


@pytest.mark.long
def test_all_of_this_holds_on_the_other_server(tmp_path: Path) -> None:
    """The tests of this folder run on the first of the two that is found: here on the second alone."""
    if len(programs_or_skip()) == 1:
        pytest.skip("only one of redis-server and valkey-server is installed")
    program = programs_or_skip()[1]
    (tmp_path / program).symlink_to(shutil.which(program) or "")
    here = str(Path(__file__).parent)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not long", here]
    done = subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, "PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_an_immediate_shutdown_of_the_server_loses_nothing(own_server: Server, run_id: str) -> None:
    traffic = Traffic(own_server.url(), run_id)
    for _ in range(3):
        traffic.goes_on()
        own_server.command("SHUTDOWN", "NOSAVE", "NOW")
        own_server.kill()
        own_server.start()
    traffic.goes_on()
    assert_nothing_lost(traffic)
    traffic.end()
    assert traffic.done == traffic.put


@pytest.mark.slow
def test_a_server_tells_when_a_put_is_on_its_disk(tmp_path: Path, program: str) -> None:
    """With everysec, and a server that has WAITAOF, on the connection of the put; the last one is used again."""
    server = Server(tmp_path, program, appendfsync="everysec")
    server.start()
    try:
        if b"waitaof" not in server.command("COMMAND", "INFO", "WAITAOF"):
            pytest.skip(f"this {program} is older than WAITAOF")
        with RemoteQueue[int](server.url(), create=True) as q:
            q.put(1)
            assert q._handle._link.command("WAITAOF", 1, 0, 4000) == [1, 0]
    finally:
        server.kill()


def connections_received(server: Server) -> int:
    lines = server.command("INFO", "stats")
    return next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"total_connections_received"))
