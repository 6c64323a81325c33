"""Links that are slow, and loops that come late: a server is silent only if nothing moves."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from shared_multiprocess_queue import RemoteQueue
from shared_multiprocess_queue._remote import task_link
from shared_multiprocess_queue._remote.link import Link
from shared_multiprocess_queue._remote.scripts import SCRIPTS
from tests.remote.conftest import MakeRemote
from tests.support.servers import Server

SILENCE = 0.3  # seconds
RATE = 8 << 20  # bytes a second
ITEMS = [os.urandom(1 << 20) for _ in range(8)]  # which take more than three times as long


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(1 << 16):
            target.sendall(part)
            time.sleep(len(part) / RATE)
    for end in (source, target):
        end.close()


@pytest.fixture
def slow_port(server: Server) -> Iterator[int]:
    """The port of a slow link to the server, which knows all scripts."""
    for script in SCRIPTS.values():
        server.command("SCRIPT", "LOAD", script.text)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)

    def accept() -> None:
        with suppress(OSError):
            while True:
                client = listener.accept()[0]
                there = socket.create_connection(("127.0.0.1", server.port))
                for ends in ((client, there), (there, client)):
                    threading.Thread(target=_pass_on, args=ends, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.fixture
def slow(slow_port: int, make_remote: MakeRemote, monkeypatch: pytest.MonkeyPatch) -> Iterator[RemoteQueue[Any]]:
    """A handle of a queue over a slow link, with little patience."""
    q = make_remote(capacity=100, leases=0, lease=30, item_size=1 << 21)
    handle = RemoteQueue[Any](f"redis://127.0.0.1:{slow_port}/0#q", run_id=q.run_id, reconnect=SILENCE)
    inner: Any = handle._handle
    inner._link = Link(inner._place, SILENCE, silence=SILENCE)
    monkeypatch.setattr(task_link, "SILENCE", SILENCE)
    yield handle
    handle.close()


@pytest.mark.slow
def test_batches_that_take_longer_than_a_silence_arrive(slow: RemoteQueue[Any]) -> None:
    slow.put_batch(ITEMS)
    assert slow.get_batch(100) == ITEMS


@pytest.mark.slow
def test_batches_of_tasks_that_take_longer_than_a_silence_arrive(slow: RemoteQueue[Any]) -> None:
    async def both() -> list[Any]:
        await slow.put_batch_async(ITEMS)
        return await slow.get_batch_async(100)

    assert asyncio.run(both()) == ITEMS


def test_a_loop_that_comes_late_reads_what_is_there(make_remote: MakeRemote, monkeypatch: pytest.MonkeyPatch) -> None:
    q = make_remote()
    q._handle._patience = 0  # the first silence is the last
    monkeypatch.setattr(task_link, "SILENCE", 0.05)

    async def late(call: Callable[[], Any]) -> Any:
        task = asyncio.create_task(call())
        await asyncio.sleep(0)  # it has sent its request
        time.sleep(0.1)
        return await task

    async def calls() -> Any:
        await q.put_async("connected")
        await late(lambda: q.put_async("item"))
        return [await late(q.get_async) for _ in range(2)]

    assert asyncio.run(calls()) == ["connected", "item"]
