"""Ctrl-C at each point of a call of a queue on a server: nothing lost, nothing counted, and the handle works on."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from shared_multiprocess_queue import QueueUnavailableError, RemoteQueue
from shared_multiprocess_queue._remote.trouble import CONNECTIONS
from stress.remote.cutting import CuttingProxy
from tests.remote.conftest import MakeRemote
from tests.support.interrupting import points
from tests.support.steps import SAMPLED
from tests.support.waiting import LONG

CALLS: dict[str, Callable[[RemoteQueue[Any]], object]] = {
    "get": lambda q: q.get_nowait(),
    "get_batch": lambda q: q.get_batch(3, block=False),
    "lease": lambda q: q.lease(block=False),
}


@SAMPLED
@pytest.mark.parametrize(("call", "leases"), [("get", 0), ("get", 2), ("get_batch", 0), ("lease", 2)])
def test_an_interrupted_get_gives_back_what_it_has(
    make_remote: MakeRemote, again: Callable[[Any], RemoteQueue[Any]], call: str, leases: int, every: int
) -> None:
    q = make_remote(leases=leases, lease=60)
    look = again(q)
    look.put("warm")
    q.get()
    if leases:
        q.task_done()
    look.put("item")
    for where in points(lambda: CALLS[call](q), every):
        assert _next(look, leases) == ("item", 1), f"interrupted at {where}"
        look.put("item")
    link: Any = q._handle._link
    assert link._asking._left.qsize() == CONNECTIONS
    if not leases:
        return
    q.close()
    assert _next(look, leases)[0] == "item"


def _next(look: RemoteQueue[Any], leases: int) -> tuple[Any, int]:
    """Return the next item and the number of its deliveries; it has to come at once, and not when a lease ends."""
    if not leases:
        return look.get(timeout=LONG), 1
    with look.lease(timeout=LONG) as lease:
        return lease.item, lease.deliveries


def test_no_call_waits_in_a_lock_that_an_interrupt_leaves_locked(
    make_remote: MakeRemote, proxy: CuttingProxy, through: Callable[..., RemoteQueue[Any]]
) -> None:
    make_remote(leases=2).put_batch([1, 2])
    q = through(reconnect=0.05)
    q.get()  # the thread of leases is there
    found = set()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if frame.f_code.co_filename == threading.__file__:
            found.add(frame.f_code.co_qualname)

    sys.setprofile(note)
    try:
        q.get()
        q.put(1)
        proxy.is_down = True
        proxy.cut()
        with pytest.raises(QueueUnavailableError):
            q.put(1)
    finally:
        sys.setprofile(None)
    assert "current_thread" in found
    assert not [name for name in found if name.startswith(("Condition", "Event", "Semaphore"))]


def test_leases_whose_thread_cannot_start_are_given_back(
    make_remote: MakeRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    q = make_remote(leases=2, lease=60)
    q.put_batch([1, 2])

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            q.lease()
    holdings: Any = q._handle._holdings
    assert not len(holdings)
    with q.lease(timeout=LONG) as second:
        assert second.item == 2
        assert holdings._thread.is_alive()
        with q.lease(timeout=LONG) as first:  # which that thread has given back
            assert (first.item, first.deliveries) == (1, 1)
