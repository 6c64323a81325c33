"""Bridges between a local and a remote queue, and their deaths."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Literal

import pytest

from shared_multiprocess_queue import Empty, LeasesRequiredError, RemoteQueue, SharedMemoryQueue
from shared_multiprocess_queue.bridge import Bridge, SupersededError
from stress.remote import bridges
from tests.support.queues import MakeQueue, drained
from tests.support.servers import Server, programs_or_skip
from tests.support.waiting import LONG, eventually


class Process:
    """A bridge in a process of its own."""

    def __init__(self, server: Server, run_id: str, direction: str, batch: int = 5) -> None:
        # A remote queue of a test has the run_id in its name, as the command has none for it.
        command = [sys.executable, "-m", "shared_multiprocess_queue", "bridge", "q", server.url(f"far{run_id}")]
        command += ["--direction", direction, "--batch", str(batch), "--run-id", run_id]
        self.popen = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def end(self, number: signal.Signals) -> tuple[str, int]:
        self.popen.send_signal(number)
        text, _ = self.popen.communicate(timeout=LONG)
        return text, self.popen.returncode


@pytest.fixture
def far(server: Server, run_id: str) -> Iterator[RemoteQueue[Any]]:
    queue = RemoteQueue[Any](server.url(f"far{run_id}"), create=True, capacity=10, leases=10, lease=1.0)
    yield queue
    queue.close()
    queue.unlink()


@pytest.fixture
def near(make_queue: MakeQueue) -> SharedMemoryQueue[Any]:
    return make_queue(capacity=10, leases=10)


def bridge(near: Any, far: Any, direction: Any, turns: int, batch: int = 4) -> tuple[Bridge, list[str]]:
    """Make a bridge that stops after some looks, and the list of its warnings."""
    left = iter(range(turns))
    warnings: list[str] = []
    return Bridge(near, far, direction, batch, lambda: next(left, None) is None, warnings.append), warnings


def test_items_go_out_and_come_in_and_the_source_is_done(near: Any, far: Any) -> None:
    near.put_batch(["a", "b", "c"])
    out, _ = bridge(near, far, "out", 1)
    out.run()
    assert (out.brought, out.again, out.refused) == (3, 0, 0)
    assert near.join(timeout=0)
    back, _ = bridge(near, far, "in", 1)
    back.run()
    assert back.brought == 3
    assert far.join(timeout=0)
    assert drained(near) == ["a", "b", "c"]
    for _ in range(3):
        near.task_done()


def test_an_item_that_was_put_before_its_bridge_died_is_left_out(near: Any, far: Any) -> None:
    near.put_batch(["a", "b"])
    first, _ = bridge(near, far, "out", 1)
    ferry = first._ferry
    ferry.begin()
    leases = near.lease_batch(2)
    assert ferry.bring([], [(one.position, ferry.entry_of(one.item)) for one in leases]) == 0
    for lease in leases:
        lease.release()  # as if its holder had died
    near.put("c")
    second, _ = bridge(near, far, "out", 2)
    second.run()
    assert (second.brought, second.again) == (3, 2)
    assert [far.get() for _ in range(3)] == ["a", "b", "c"]
    with pytest.raises(Empty):
        far.get_nowait()
    with pytest.raises(SupersededError):
        ferry.bring([], [])


def test_a_bridge_that_is_superseded_gives_back_and_ends(near: Any, far: Any) -> None:
    near.put("a")
    old, _ = bridge(near, far, "out", 2)
    old._ferry.begin()
    new, _ = bridge(near, far, "out", 2)
    new._ferry.begin()
    with pytest.raises(SupersededError):
        old.run()
    with near.lease(timeout=0) as lease:
        assert lease.item == "a"
    assert far.empty()


def test_what_cannot_be_sent_stays_and_others_go_on(near: Any, far: Any, make_queue: MakeQueue) -> None:
    near.put_batch(["a", Fraction(1, 3), "b"])
    out, warnings = bridge(near, far, "out", 1)
    out.run()
    assert (out.brought, out.refused) == (2, 1)
    assert "Fraction" in warnings[0]
    assert near.qsize() == 1
    far.put(os.urandom(1000))
    small = make_queue("small", capacity=5, item_size=100)
    into, warnings = bridge(small, far, "in", 1)
    into.run()
    assert (into.brought, into.refused, drained(small)) == (2, 1, ["a", "b"])
    assert "1,00" in warnings[0]


def test_a_full_target_is_waited_for_and_what_is_held_goes_back(near: Any, far: Any) -> None:
    far.put_batch(range(8))
    near.put_batch(["a", "b", "c", "d"])
    out, _ = bridge(near, far, "out", 4)
    out.run()
    assert (far.qsize(), out.brought) == (10, 2)
    assert [near.get(timeout=0), near.get(timeout=0)] == ["c", "d"]


def test_a_source_without_leases_is_refused(make_queue: MakeQueue, far: Any) -> None:
    with pytest.raises(LeasesRequiredError):
        bridge(make_queue(), far, "out", 1)


@pytest.mark.slow
def test_the_command_ends_by_a_signal_and_with_its_source(server: Server, near: Any, far: Any, run_id: str) -> None:
    process = Process(server, run_id, "out")
    near.put(1)
    eventually(lambda: near.join(timeout=0) and far.qsize() == 1)
    text, code = process.end(signal.SIGTERM)
    assert (text, code) == ("1 brought, 0 delivered again, 0 refused\n", 128 + signal.SIGTERM)
    near.put(2)
    near.shutdown()
    process = Process(server, run_id, "out")
    text, _ = process.popen.communicate(timeout=LONG)
    assert (text, process.popen.returncode) == ("1 brought, 0 delivered again, 0 refused\n", 0)
    assert [far.get(), far.get()] == [1, 2]


@pytest.mark.slow
def test_the_command_says_what_is_wrong(server: Server, run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process(server, run_id, "out")
    text, _ = process.popen.communicate(timeout=LONG)
    assert process.popen.returncode == 3
    assert "no queue" in text
    monkeypatch.setenv("SHMQ_SECRET", "xyz")
    process = Process(server, run_id, "out")
    text, _ = process.popen.communicate(timeout=LONG)
    assert process.popen.returncode == 2
    assert "hex" in text


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["out", "in"])
def test_killed_bridges_lose_nothing(direction: Literal["in", "out"]) -> None:
    """Out nothing is doubled, either; in at most a batch for each death."""
    programs_or_skip()
    outcome = bridges.run(direction, kills=6, seed=5)
    assert outcome.is_right, outcome
    assert outcome.put > 20
