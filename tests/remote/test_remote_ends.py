"""Forked children, closed handles, blocks that an exception leaves."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import NoScriptError

from shared_multiprocess_queue import (
    DeadLetterGoneError,
    QueueClosedError,
    QueueUnavailableError,
    RemoteQueue,
)
from shared_multiprocess_queue._remote import calls, handle, holdings, task_link
from shared_multiprocess_queue._remote.scripts import SCRIPTS
from stress.remote.cutting import CuttingProxy
from tests.remote.conftest import MakeRemote
from tests.support.children import in_child
from tests.support.servers import Server
from tests.support.waiting import LONG, eventually, in_thread

Through = Callable[..., RemoteQueue[Any]]


def letters(q: RemoteQueue[Any], count: int) -> list[Any]:
    q.put_batch(range(count))
    for lease in q.lease_batch(count):
        lease.release()
    return q.dead_letters()


@pytest.mark.parametrize(("most_bytes", "requests"), [(1 << 20, 1), (60, 2), (1, 4)])
def test_dead_letters_come_in_parts(
    make_remote: MakeRemote, monkeypatch: pytest.MonkeyPatch, most_bytes: int, requests: int
) -> None:
    q = make_remote(capacity=4, leases=4, max_deliveries=1)
    q.put_batch(b"%020d" % number for number in range(4))
    for lease in q.lease_batch(4):
        lease.release()
    monkeypatch.setattr(handle, "MOST_BYTES", most_bytes)
    asked = []
    parts: Any = q._handle._letters_of

    def noted(positions: list[int]) -> Any:
        asked.append(positions)
        return parts(positions)

    monkeypatch.setattr(q._handle, "_letters_of", noted)
    found = q.dead_letters()
    assert [(letter.item, letter.deliveries) for letter in found] == [(b"%020d" % number, 1) for number in range(4)]
    assert len(asked) == requests
    found[0].done()
    assert len(parts([letter.position for letter in found])) == 3, "one has gone since its number was told"


def test_a_child_ends_a_dead_letter_over_its_own_connections(make_remote: MakeRemote) -> None:
    q = make_remote(leases=3, max_deliveries=1)
    first, second = letters(q, 2)
    handle = q._handle

    def child() -> None:
        def refuse(data: bytes, seconds: float) -> Any:
            raise AssertionError("a connection of the parent")

        handle._link._asking.use = refuse  # type: ignore[method-assign]
        first.done()
        second.put_back()
        with pytest.raises(DeadLetterGoneError):
            first.done()
        assert first._queue is q._of_this_process()

    assert in_child(child) == 0
    assert q.dead_letters() == []
    assert q.get() == 1
    q.task_done()


def test_no_request_goes_over_connections_of_a_parent(make_remote: MakeRemote) -> None:
    q = make_remote()
    handle = q._handle

    async def put() -> None:
        await handle.run_in_task(handle.putting(2, 0))

    def child() -> None:
        with pytest.raises(QueueClosedError, match="forked"):
            handle.run(handle.putting(1, 0))
        with pytest.raises(QueueClosedError, match="forked"):
            handle.server()
        with pytest.raises(QueueClosedError):
            asyncio.run(put())
        q.put(3)

    assert in_child(child) == 0
    assert q.get() == 3
    assert q.empty()


def test_a_child_closes_no_connection_of_its_parents_tasks(
    make_remote: MakeRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loops of both watch the same descriptors; to close one in the child would make the parent deaf to it."""
    q = make_remote()
    lost: list[BaseException] = []
    before = task_link._TaskLines.use

    async def use(lines: Any, data: bytes, seconds: float) -> Any:
        try:
            return await before(lines, data, seconds)
        except NoScriptError:
            raise
        except BaseException as error:
            lost.append(error)
            raise

    def child() -> None:
        assert q.qsize() == 0
        gc.collect()

    async def main() -> None:
        await q.put_async(0)
        assert await q.get_async() == 0
        assert in_child(child) == 0
        await q.put_async(1)
        assert await q.get_async() == 1

    monkeypatch.setattr(task_link._TaskLines, "use", use)
    monkeypatch.setattr(task_link, "SILENCE", 0.5)
    asyncio.run(main())
    assert lost == []


def test_a_letter_that_was_interrupted_is_asked_for_again(
    make_remote: MakeRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    q = make_remote(leases=2, max_deliveries=1)
    (letter,) = letters(q, 1)
    asking = q._handle._link._asking
    use = asking.use

    def interrupted(data: bytes, seconds: float) -> Any:
        use(data, seconds)
        raise KeyboardInterrupt

    monkeypatch.setattr(asking, "use", interrupted)
    with pytest.raises(KeyboardInterrupt):
        letter.put_back()
    monkeypatch.undo()
    letter.put_back()
    with pytest.raises(DeadLetterGoneError):
        letter.put_back()
    assert q.qsize() == 1


def test_a_letter_is_not_asked_for_again_for_too_long(
    make_remote: MakeRemote, proxy: CuttingProxy, through: Through, monkeypatch: pytest.MonkeyPatch
) -> None:
    q = make_remote(leases=2, max_deliveries=1)
    letters(q, 1)
    (letter,) = through(reconnect=0).dead_letters()
    proxy.loses = SCRIPTS["end_letter"].digest.encode()
    with pytest.raises(QueueUnavailableError):
        letter.put_back()
    proxy.loses = b""
    monkeypatch.setattr(calls, "MEMORY", 0)
    with pytest.raises(DeadLetterGoneError):
        letter.put_back()


@pytest.mark.parametrize("kind", ["thread", "task"])
def test_close_ends_calls_that_wait_for_a_server_that_is_away(own_server: Server, kind: str) -> None:
    q = RemoteQueue[Any](own_server.url(), create=True, reconnect=None)
    link: Any = q._handle._link
    own_server.kill()
    if kind == "task":
        waiting = in_thread(lambda: asyncio.run(q.put_async(1)))
        eventually(lambda: q._handle._task_links)
    else:
        failed = threading.Event()
        pause = link._pause

        def noted(seconds: float) -> None:
            failed.set()
            pause(seconds)

        link._pause = noted
        waiting = in_thread(q.put, 1)
        assert failed.wait(LONG)
    q.close()
    with pytest.raises(QueueClosedError):
        waiting.result(LONG)


def test_a_handle_that_is_cut_waits_for_no_answer(own_server: Server) -> None:
    q = RemoteQueue[Any](own_server.url(), create=True, reconnect=None)
    own_server.send_signal(signal.SIGSTOP)
    asking = q._handle._link._asking
    waiting = in_thread(q.put, 1)
    eventually(lambda: asking._used)
    q._ferry("here").cut()
    with pytest.raises(QueueClosedError) as caught:
        waiting.result(LONG)
    assert type(caught.value.__context__).__name__ == "ConnectionError", "and not the end of its patience"
    own_server.send_signal(signal.SIGCONT)


def test_handles_are_made_while_others_count_leases(make_remote: MakeRemote) -> None:
    handle = make_remote(leases=2)._handle
    over = threading.Event()

    def make() -> None:
        while not over.is_set():
            holdings.Holdings(handle.calls, handle._place, 1.0)

    switches = sys.getswitchinterval()
    makers = [in_thread(make) for _ in range(2)]
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(3000):
            assert handle._holdings.of_this_process() == 0
    finally:
        sys.setswitchinterval(switches)
        over.set()
        for maker in makers:
            maker.result(LONG)


@pytest.mark.parametrize("kind", ["with", "async with"])
def test_the_exception_of_a_block_comes_though_its_queue_is_gone(make_remote: MakeRemote, kind: str) -> None:
    q = make_remote(leases=2, lease=60)
    q.put("a")

    async def leave() -> None:
        async with q.lease_async():
            q.unlink()
            raise KeyError("mine")

    def leave_with() -> None:
        with q.lease():
            q.unlink()
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        leave_with() if kind == "with" else asyncio.run(leave())


def test_an_exception_in_a_block_does_not_wait_for_a_server_that_is_away(
    make_remote: MakeRemote, proxy: CuttingProxy, through: Through
) -> None:
    q = make_remote(leases=2, lease=60)
    handle = through(reconnect=None)
    q.put_batch(["a", "b"])

    def leave() -> None:
        with handle.lease() as lease:
            assert lease.item == "a"
            proxy.is_down = True
            proxy.cut()
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        in_thread(leave).result(LONG)
    proxy.is_down = False
    with q.lease(timeout=LONG) as other:
        assert other.item == "b"
    with q.lease(timeout=LONG) as back:
        assert (back.item, back.deliveries) == ("a", 2)
