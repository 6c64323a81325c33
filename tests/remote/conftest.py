"""One server for all tests of a worker, and queues on it that are removed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import pytest

from shared_multiprocess_queue import RemoteQueue, SharedMemoryQueue
from shared_multiprocess_queue._remote.scripts import SCRIPTS
from stress.remote.cutting import CuttingProxy
from tests.support.queues import MakeQueue
from tests.support.servers import Server, programs_or_skip


class MakeRemote(Protocol):
    def __call__(self, name: str = "q", **arguments: Any) -> RemoteQueue[Any]: ...


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that no test stops."""
    server = Server(tmp_path_factory.mktemp("server"), programs_or_skip()[0], appendfsync="no")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def server(shared_server: Server) -> Iterator[Server]:
    """The same, checked for keys that a test leaves; the records of sessions and bridges expire by themselves."""
    yield shared_server
    keys = [line for line in shared_server.command("KEYS", "shmq:*") if line.startswith(b"shmq:")]
    left = [key for key in keys if b":s:" not in key and b":b:" not in key]
    shared_server.command("FLUSHALL")
    assert not left, f"keys left behind: {left}"


@pytest.fixture
def own_server(tmp_path: Any) -> Iterator[Server]:
    """A server that a test may stop."""
    server = Server(tmp_path, programs_or_skip()[0])
    server.start()
    yield server
    server.kill()


@pytest.fixture
def proxy(server: Server) -> Iterator[CuttingProxy]:
    """A proxy in front of the server, which passes all on until it is told otherwise.

    The server knows all scripts, so no request is sent twice because of that.
    """
    for script in SCRIPTS.values():
        server.command("SCRIPT", "LOAD", script.text)
    made = CuttingProxy(server.port, seed=7)
    yield made
    made.close()


@pytest.fixture
def through(proxy: CuttingProxy, run_id: str) -> Iterator[Callable[..., RemoteQueue[Any]]]:
    """Open handles of a queue that reach it through the proxy."""
    made: list[RemoteQueue[Any]] = []

    def opened(name: str = "q", **arguments: Any) -> RemoteQueue[Any]:
        made.append(RemoteQueue[Any](f"redis://127.0.0.1:{proxy.port}/0#{name}", run_id=run_id, **arguments))
        return made[-1]

    yield opened
    proxy.loses = proxy.holds = b""
    proxy.is_down = False
    for queue in made:
        queue.close()


@pytest.fixture
def make_remote(server: Server, run_id: str) -> Iterator[MakeRemote]:
    """Make remote queues that are closed and removed after the test."""
    made: list[RemoteQueue[Any]] = []

    def make(name: str = "q", **arguments: Any) -> RemoteQueue[Any]:
        arguments = {"capacity": 3, "lease": 1.0, **arguments}
        queue = RemoteQueue[Any](server.url(name), create=True, run_id=run_id, **arguments)
        made.append(queue)
        return queue

    yield make
    for queue in made:
        queue.close()
        queue.unlink()


class MakeAny(Protocol):
    def __call__(self, **arguments: Any) -> Any: ...


@pytest.fixture(params=["remote", "local"])
def make_any(request: pytest.FixtureRequest) -> MakeAny:
    """Make queues of each kind with the same arguments."""
    make: MakeQueue | MakeRemote = request.getfixturevalue("make_remote" if request.param == "remote" else "make_queue")
    return make


@pytest.fixture
def again(server: Server, run_id: str) -> Iterator[Callable[[Any], Any]]:
    """Open another handle of a queue of any kind."""
    made: list[Any] = []

    def another(queue: Any) -> Any:
        if isinstance(queue, SharedMemoryQueue):
            made.append(SharedMemoryQueue[Any](queue.name, run_id=run_id))
        else:
            made.append(RemoteQueue[Any](server.url(queue.name), run_id=run_id))
        return made[-1]

    yield another
    for queue in made:
        queue.close()
