"""shmq drain loses nothing that it could not write."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue._codec import tags
from tests.support.demo import COMMAND
from tests.support.own_formats import from_json, to_json
from tests.support.queues import MakeQueue
from tests.support.shmq import shmq, shmq_json
from tests.support.waiting import LONG, eventually

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at segments as files"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def frames(data: bytes) -> list[tuple[int, bytes]]:
    """Return tags and bytes of the items in what drain has written."""
    found, at = [], 0
    while at < len(data):
        length, tag = struct.unpack_from("<II", data, at)
        found.append((tag, data[at + 8 : at + 8 + length]))
        at += 8 + length
    return found


@pytest.mark.parametrize("leases", [0, 2])
@pytest.mark.parametrize("mode", ["mpmc", "spsc"])
def test_drain_takes_items_as_bytes(
    make_queue: MakeQueue, run_id: str, tmp_path: Path, leases: int, mode: str, each_engine: str
) -> None:
    q = make_queue(capacity=5, leases=leases, mode=mode)
    q.put_batch([b"one", "two", b"three", b"four"])
    target = tmp_path / "items"
    found = shmq_json("drain", "--yes", "-n", 3, "--to", target, f"{run_id}-q")
    assert (found["items"], found["bytes"]) == (3, 11)
    assert frames(target.read_bytes()) == [(1, b"one"), (2, b"two"), (1, b"three")]
    assert shmq("drain", "--yes", "--to", target, f"{run_id}-q").code == 2, "the file is there"
    assert q.qsize() == 1
    assert shmq("drain", f"{run_id}-q", answer="n\n").code == 1
    assert shmq("drain", f"{run_id}-q", answer="y\n").output == "1 item of 4 B taken\n"
    assert shmq("drain", "--yes", f"{run_id}-q").output == "0 items of 0 B taken\n"
    assert q.empty()


@pytest.mark.parametrize("leases", [0, 1])
def test_drain_of_queues_of_any_format(make_queue: MakeQueue, run_id: str, tmp_path: Path, leases: int) -> None:
    """A program's own format is only a name here; what cannot be written goes back as it was."""
    make_queue("own", dumps=to_json, loads=from_json, leases=leases).put([1, 2])
    make_queue("plain", serializer="plain", leases=leases).put("text")
    for name, tag, payload in (("own", tags.OWN, b"[1, 2]"), ("plain", tags.STR, b"text")):
        command = [*COMMAND, "drain", "--yes", "--to", "-", f"{run_id}-{name}"]
        with Path("/dev/full").open("wb") as full:
            assert (
                subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=LONG, check=False).returncode == 1
            )
        target = tmp_path / name
        assert shmq("drain", "--yes", "--to", target, f"{run_id}-{name}").code == 0
        assert frames(target.read_bytes()) == [(tag, payload)]


def test_drain_of_a_queue_that_has_its_one_consumer(make_queue: MakeQueue, run_id: str) -> None:
    q = make_queue(mode="spsc")
    q.put_batch([1, 2])
    q.get()
    code, _, errors = shmq("drain", "--yes", f"{run_id}-q")
    assert code == 1
    assert f"its one consumer is process {os.getpid()}" in errors
    assert q.get() == 2


@pytest.mark.parametrize("leases", [0, 2])
def test_drain_into_a_pipe_that_is_closed_loses_nothing(make_queue: MakeQueue, run_id: str, leases: int) -> None:
    """What was written is taken; the item that could not be written is in the queue."""
    q = make_queue(capacity=100, item_size=5000, leases=leases)
    items = [number.to_bytes(4, "big") * 1000 for number in range(60)]
    q.put_batch(items)
    command = [*COMMAND, "drain", "--yes", "--to", "-", f"{run_id}-q"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as draining:
        assert draining.stdout is not None
        assert draining.stderr is not None
        read = draining.stdout.read(8 + 4000)
        draining.stdout.close()
        errors = draining.stderr.read().decode()
        assert draining.wait(LONG) == 1
    assert "an item could not be written, and went back: Broken pipe" in errors
    assert frames(read) == [(1, items[0])]
    left = all_of(q)
    assert 60 - len(left) <= 20, "only what the pipe held was taken"
    assert sorted(left) == items[-len(left) :], "each is there once"


@pytest.mark.parametrize("leases", [0, 1])
@pytest.mark.parametrize("is_over", [False, True])
def test_drain_to_a_full_disk_loses_nothing(make_queue: MakeQueue, run_id: str, leases: int, is_over: bool) -> None:
    q = make_queue(leases=leases)
    q.put_batch([b"one", b"two"])
    if is_over:
        q.shutdown()
    command = [*COMMAND, "drain", "--yes", "--to", "-", f"{run_id}-q"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=LONG, check=False)
    assert done.returncode == 1
    if is_over and not leases:  # the queue takes nothing back
        assert "No space left on device), nor go back: tag 1, bytes 6f6e65" in done.stderr
        assert all_of(q) == [b"two"]
    else:
        assert "an item could not be written, and went back: No space left on device" in done.stderr
        assert sorted(all_of(q)) == [b"one", b"two"]


TELLS_WHEN_IT_HAS_AN_ITEM = """
import os
from shared_multiprocess_queue.cli import app, removals

def stop(file, frame):
    print("has one", flush=True)
    os.read(0, 1)

removals._write = stop
app.main()
"""


@pytest.mark.parametrize("leases", [0, 2])
def test_drain_that_is_killed_loses_one_at_most(
    make_queue: MakeQueue, run_id: str, tmp_path: Path, leases: int
) -> None:
    """The one in hand, without leases."""
    q = make_queue(leases=leases)
    q.put_batch([b"one", b"two", b"three"])
    command = [sys.executable, "-c", TELLS_WHEN_IT_HAS_AN_ITEM, "drain", "--yes", "--to", str(tmp_path / "items")]
    with subprocess.Popen(
        [*command, f"{run_id}-q"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as draining:
        assert draining.stdout is not None
        assert draining.stdout.readline() == "has one\n"
        draining.kill()
    if leases:
        eventually(lambda: q.qsize() == 3, "the item of the dead process")
    assert sorted(all_of(q)) == sorted([b"two", b"three", b"one"][: 3 if leases else 2])


def all_of(q: SharedMemoryQueue[bytes]) -> list[bytes]:
    """Take all items, and end each."""
    found = []
    while not q.empty():
        found.append(q.get(timeout=LONG))
        if q.leases:
            q.task_done()
    return found
