"""What a bridge does when requests linger, leases are lost, the server is away, and items are large."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shared_multiprocess_queue import (
    QueueNotFoundError,
    QueueRefusedError,
    RemoteQueue,
    SharedMemoryQueue,
    ShutDown,
)
from shared_multiprocess_queue._remote import ferry as ferry_module
from shared_multiprocess_queue._remote.ferry import Ferry
from shared_multiprocess_queue._remote.scripts import SCRIPTS
from shared_multiprocess_queue.bridge import Bridge, Direction
from stress.remote.cutting import CuttingProxy
from tests.remote.conftest import MakeRemote
from tests.support.queues import MakeQueue, drained
from tests.support.servers import Server
from tests.support.waiting import LONG, eventually, in_thread

Through = Callable[..., RemoteQueue[Any]]


@pytest.fixture
def near(make_queue: MakeQueue) -> SharedMemoryQueue[Any]:
    return make_queue(capacity=10, leases=10)


@pytest.fixture
def far(make_remote: MakeRemote) -> RemoteQueue[Any]:
    return make_remote("far", capacity=10, leases=10, lease=60)


def bridge(near: Any, far: Any, direction: Direction, stops: Callable[[], bool], batch: int = 4) -> Bridge:
    return Bridge(near, far, direction, batch, stops, lambda text: None)


def after(turns: int) -> Callable[[], bool]:
    left = iter(range(turns))
    return lambda: next(left, None) is None


def digest(name: str) -> bytes:
    return SCRIPTS[name].digest.encode()


def test_a_server_without_memory_is_a_target_without_room(near: SharedMemoryQueue[Any], own_server: Server) -> None:
    with RemoteQueue[Any](own_server.url("far"), create=True, capacity=10) as far:
        near.put_batch([1, 2, 3])
        near.shutdown()
        own_server.command("CONFIG", "SET", "maxmemory", "1")
        turns = iter(range(10))

        def stops() -> bool:
            if next(turns, None) is None:
                own_server.command("CONFIG", "SET", "maxmemory", "0")
            return False

        bridge(near, far, "out", stops).run()
        assert far.get_batch(10) == [1, 2, 3]
        far.unlink()


def test_a_batch_that_comes_late_is_not_put_again(far: Any, proxy: CuttingProxy, through: Through) -> None:
    """It lingered until its items had ended on the other side, and the server had been told to forget them."""
    late = Ferry(through("far", reconnect=0)._of_this_process(), "here")
    late.begin()
    proxy.holds = digest("bring")
    with pytest.raises(ConnectionError):
        late.bring([], [(0, late.entry_of("a")), (1, late.entry_of("b"))])
    proxy.holds = b""
    assert late.bring([], [(0, late.entry_of("a")), (1, late.entry_of("b"))]) == 0
    assert late.bring([0, 1], []) == 0
    assert b"late" in b"".join(proxy.send_held())
    assert [far.get(), far.get()] == ["a", "b"]
    assert far.empty()


def test_a_batch_of_a_former_bridge_is_not_put(far: Any, proxy: CuttingProxy, through: Through) -> None:
    former = Ferry(through("far", reconnect=0)._of_this_process(), "here")
    former.begin()
    proxy.holds = digest("bring")
    with pytest.raises(ConnectionError):
        former.bring([], [(0, former.entry_of("a"))])
    held, proxy.held, proxy.holds = proxy.held, [], digest("bridge_begin")
    with pytest.raises(ConnectionError):
        Ferry(through("far", reconnect=0)._of_this_process(), "here").begin()  # this one dies at its beginning
    proxy.holds = b""
    new = Ferry(far._of_this_process(), "here")
    new.begin()
    assert new.bring([], [(0, new.entry_of("a"))]) == 0
    assert new.bring([0], []) == 0
    proxy.held += held
    answers = b"".join(proxy.send_held())
    assert b"superseded" in answers
    assert new.bring([], [(1, new.entry_of("b"))]) == 0, "and a begin that lingers supersedes nobody"
    assert [far.get(), far.get()] == ["a", "b"]
    assert far.empty()


def test_an_answer_that_is_lost_doubles_no_batch(near: Any, far: Any, proxy: CuttingProxy, through: Through) -> None:
    del far
    handle = through("far", reconnect=0)
    near.put_batch(["a", "b", "c"])
    out = bridge(near, handle, "out", after(4))
    out._ferry.begin()
    proxy.loses = digest("bring")
    done = in_thread(out.run)
    eventually(lambda: proxy.lost)
    proxy.loses = b""
    done.result(LONG)
    assert [handle.get() for _ in range(3)] == ["a", "b", "c"]
    assert handle.empty()
    assert near.join(timeout=LONG)


def test_what_a_bridge_no_longer_holds_is_not_put(make_queue: MakeQueue, far: Any) -> None:
    """It was stopped for longer than a lease while the local queue was full; another has the items by now."""
    near = make_queue(capacity=4)
    near.put_batch(range(4))
    far.put_batch(["a", "b", "c"])
    looks = iter(range(100))
    others: list[Any] = []

    def stops() -> bool:
        look = next(looks)
        if look == 2:  # it waits for room
            for held in list(far._handle._holdings._held.values()):
                held.valid_until = 0
                (was_mine,) = far._handle.run(far._handle.calls.once("done", held.token))
                others.append(was_mine)
            drained(near)
        return look > 2

    into = bridge(near, far, "in", stops)
    into.run()
    assert others == [True] * 3
    assert into.brought == 0
    assert near.empty()


@pytest.mark.parametrize("direction", ["in", "out"])
def test_a_batch_takes_as_many_requests_as_one_item(
    near: Any, far: Any, direction: Direction, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = near if direction == "out" else far
    source.put_batch(range(8))
    link = far._handle._link
    asked: list[str] = []
    before = link.step

    def step(one: Any) -> Any:
        asked.append(one.head.script.name if hasattr(one, "head") else "wait")
        return before(one)

    monkeypatch.setattr(link, "step", step)
    bridge(near, far, direction, after(1), batch=8).run()
    assert asked == (["take", "done"] if direction == "in" else ["bridge_begin", "bring", "bring", "bring"])
    assert source.join(timeout=0)


def test_a_batch_has_no_more_bytes_than_a_server_should_get_at_once(
    make_queue: MakeQueue, make_remote: MakeRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ferry_module, "MOST_BYTES", 2500)
    near = make_queue(capacity=8, leases=8)
    far = make_remote("far", capacity=8)
    near.put_batch([os.urandom(1000) for _ in range(7)])
    sizes: list[int] = []
    near.shutdown()
    out = bridge(near, far, "out", lambda: False, batch=8)
    put = out._ferry._bringing

    def bringing(forgotten: Any, items: Any) -> Any:
        sizes.append(len(items))
        return put(forgotten, items)

    monkeypatch.setattr(out._ferry, "_bringing", bringing)
    out.run()
    assert (out.brought, max(sizes)) == (7, 2)


def test_the_server_forgets_what_has_ended(near: Any, far: Any, server: Server) -> None:
    near.put_batch(["a", "b"])
    bridge(near, far, "out", after(1)).run()
    (key,) = (line for line in server.command("KEYS", "*:b:*") if line.startswith(b"shmq:"))
    words = server.command("HKEYS", key.decode())
    assert sorted(word for word in words if word[:1] not in (b"$", b"*")) == [b"answer", b"epoch", b"sequence"]


def test_nothing_is_put_into_a_local_queue_without_a_name(
    make_queue: MakeQueue, far: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither before it is looked at, nor while the bridge waits for room, nor just after a put."""
    for moment in ("before", "waiting", "after"):
        near = make_queue(moment, capacity=2)
        far.put_batch(["a", "b"])
        looks = 0

        def stops(near: Any = near, moment: str = moment) -> bool:
            nonlocal looks
            looks += 1
            if (moment, looks) in (("before", 1), ("waiting", 2)):
                near.unlink()
            return looks > 50

        if moment == "waiting":
            near.put_batch([0, 0])
        into = bridge(near, far, "in", stops)
        if moment == "after":

            def put_batch(items: Any, block: bool, near: Any = near, put: Any = near.put_batch) -> None:
                put(items, block=block)
                near.unlink()

            monkeypatch.setattr(near, "put_batch", put_batch)
        with pytest.raises(QueueNotFoundError, match="unlinked"):
            into.run()
        assert into.brought == 0
        assert [far.get(timeout=0), far.get(timeout=0)] == ["a", "b"]
        assert looks < 5
        far.task_done()
        far.task_done()


def test_a_queue_in_the_place_of_another_loses_nothing(make_queue: MakeQueue, far: Any) -> None:
    """A file may get the number of the last one, in memory that is mounted anew: so the name does not come from it."""
    names = set()
    for number in range(2):
        near = make_queue("here", capacity=4, leases=4)
        identity, near._identity = near._identity, (1, 1)
        out = bridge(near, far, "out", after(1))
        near._identity = identity
        names.add(out._ferry._origin)
        near.put(number)
        out._ferry.begin()
        (lease,) = near.lease_batch(1)
        assert out._ferry.bring([], [(lease.position, out._ferry.entry_of(lease.item))]) == 0
        lease.done()
        near.close()
        near.unlink()
    assert len(names) == 2
    assert [far.get(), far.get()] == [0, 1]


def test_what_was_put_is_not_given_back_after_a_refusal(near: Any, far: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    far.put_batch(["a", "b"])
    into = bridge(near, far, "in", after(3))

    def refuses(*_: Any) -> Any:
        raise QueueRefusedError("MISCONF", "not done")

    monkeypatch.setattr(into._ferry, "ending_all", refuses)
    with pytest.raises(QueueRefusedError):
        into.run()
    assert drained(near) == ["a", "b"]
    assert far.empty()


def test_a_target_with_too_much_in_it_is_waited_for(near: Any, make_remote: MakeRemote) -> None:
    far = make_remote("full", capacity=1, leases=2)
    far.put("a")
    lease = far.lease()
    far.put("b")
    lease.release(last=True)
    near.put("c")
    out = bridge(near, far, "out", after(3))
    out.run()
    assert (out.brought, near.qsize(), far.qsize()) == (0, 1, 2)


def test_a_target_that_is_shut_down_at_the_start_is_an_error(near: Any, make_remote: MakeRemote) -> None:
    far = make_remote("shut")
    far.shutdown()
    with pytest.raises(ShutDown):
        bridge(near, far, "out", after(3)).run()


ASKS_FOR_AN_HOUR = """
from shared_multiprocess_queue.__main__ import main
from shared_multiprocess_queue.cli import bridge
bridge._PATIENCE = 3600
main()
"""


@pytest.fixture
def command(own_server: Server, run_id: str, make_queue: MakeQueue) -> Iterator[subprocess.Popen[str]]:
    """A bridge that by itself does not give its server up, so that only what bounds its stop ends it."""
    near = make_queue("near", capacity=200, leases=200)
    far = RemoteQueue[Any](own_server.url("far"), create=True, run_id="R", capacity=200, leases=200)
    far.put_batch(range(100))
    for i in range(150):
        near.put(i)
    words = [sys.executable, "-c", ASKS_FOR_AN_HOUR, "bridge", "near", own_server.url("far")]
    words += ["--direction", "in", "--run-id", run_id, "--remote-run-id", "R", "--batch", "100"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    yield process
    process.kill()
    process.wait()
    far.close()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["away", "silent"])
def test_a_signal_ends_a_bridge_without_a_server(command: subprocess.Popen[str], own_server: Server, how: str) -> None:
    """It has half of a batch of a hundred, and cannot give the rest back."""
    far = RemoteQueue[Any](own_server.url("far"), run_id="R")
    eventually(lambda: far.get_metrics()["got_total"] > 0)
    far.close()
    own_server.kill() if how == "away" else own_server.send_signal(signal.SIGSTOP)
    command.send_signal(signal.SIGTERM)
    text, _ = command.communicate(timeout=LONG)
    assert command.returncode == 128 + signal.SIGTERM
    assert "brought" in text
