"""shmq drain says what it could not take, and what is in the way."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue._engine import sweep
from shared_multiprocess_queue.cli import removals
from shared_multiprocess_queue.draining import Drain
from tests.support.children import fork
from tests.support.queues import MakeQueue
from tests.support.shmq import shmq, shmq_json
from tests.support.waiting import LONG, eventually

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at segments as files"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


@pytest.mark.parametrize("leases", [0, 2])
def test_items_behind_a_put_of_a_paused_process_are_told(make_queue: MakeQueue, run_id: str, leases: int) -> None:
    q = make_queue(capacity=5, leases=leases)
    q.put("before")

    def reserves() -> None:
        with q.reserve(4) as memory:
            memory[:] = b"last"
            os.kill(os.getpid(), signal.SIGSTOP)

    child = fork(reserves)
    try:
        os.waitpid(child, os.WUNTRACED)
        q.put("behind")
        code, output, errors = shmq("drain", "--yes", f"{run_id}-q")
        assert (code, output) == (1, "1 item taken, 6 B in all\n")
        assert errors == (
            f"Error: {run_id}-q has 2 items left that cannot be taken now: a put or reservation of process {child} "
            f"has not ended; it is paused: kill -CONT {child}\n"
        )
        assert shmq_json("drain", "--yes", f"{run_id}-q", code=1)["items"] == 0
    finally:
        os.kill(child, signal.SIGCONT)
        os.waitpid(child, 0)
    assert shmq("drain", "--yes", f"{run_id}-q").output.startswith("2 items taken, ")


def test_a_put_that_ends_soon_is_waited_for(
    make_queue: MakeQueue, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removals, "_PATIENCE", LONG)
    q = make_queue(capacity=5)

    def reserves() -> None:
        with q.reserve(4):
            eventually(lambda: q.get_metrics()["empty_events"], "the drain")

    child = fork(reserves)
    try:
        eventually(lambda: q.get_metrics()["blocked_by"], "the reservation")
        assert shmq("drain", "--yes", f"{run_id}-q") == (0, "1 item taken, 4 B in all\n", "")
    finally:
        os.waitpid(child, 0)


@pytest.mark.parametrize("leases", [1, 2])
def test_items_for_which_no_lease_is_free_are_told(make_queue: MakeQueue, run_id: str, leases: int) -> None:
    q = make_queue(capacity=5, leases=leases)
    q.put_batch([1, 2, 3])
    held = [q.lease() for _ in range(leases)]
    code, output, errors = shmq("drain", "--yes", f"{run_id}-q")
    assert (code, output) == (1, "0 items taken, 0 B in all\n")
    which = "the one lease is" if leases == 1 else "all 2 leases are"
    assert f"left that cannot be taken now: {which} held by process {os.getpid()}; drain again" in errors
    held.pop().done()
    code, output, errors = shmq("drain", "--yes", f"{run_id}-q")
    assert (code, output.split()[0]) == (0, str(3 - leases))
    assert errors == ("" if leases == 1 else f"{run_id}-q has 1 item leased by process {os.getpid()}\n")
    for lease in held:
        lease.done()


def test_dead_letters_are_told(make_queue: MakeQueue, run_id: str) -> None:
    q = make_queue(leases=1, max_deliveries=1)
    q.put("bad")
    q.lease().release()
    code, output, errors = shmq("drain", "--yes", f"{run_id}-q")
    assert (code, output) == (0, "0 items taken, 0 B in all\n")
    assert errors.startswith(f"{run_id}-q has 1 dead letter left; dead_letters() of the library")


def test_dead_letters_that_go_with_the_queue_are_told(
    make_queue: MakeQueue, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes when drain closes it. One without another user could go before, with any creation of a queue."""
    q = make_queue(leases=1, max_deliveries=1)
    q.put("bad")
    q.lease().release()
    close = Drain.close

    def closes(drain: Drain) -> object:
        SharedMemoryQueue.remove("q", run_id, missing_ok=True, force=True)
        return close(drain)

    monkeypatch.setattr(Drain, "close", closes)
    code, _, errors = shmq("drain", "--yes", f"{run_id}-q")
    assert (code, errors) == (0, f"{run_id}-q went with drain, its last user, and 1 dead letter with it\n")


def test_items_with_a_delay_are_told_and_do_not_go_with_the_queue(
    make_queue: MakeQueue, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    q = make_queue(leases=1, delete=True)
    q.put("later")
    q.lease().release(delay=60)
    asked: list[str] = []
    monkeypatch.setattr(sweep, "_remove", lambda name, identity: asked.append(name))
    monkeypatch.setattr(sweep, "_ours", {})  # it belongs to no other handle of this process
    code, _, errors = shmq("drain", "--yes", f"{run_id}-q")
    assert code == 1
    assert "has 1 item left that cannot be taken now: they come back from leases after a delay" in errors
    assert asked == []
