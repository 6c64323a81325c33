"""shmq drain loses nothing that it could not write."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import pickle
import signal
import struct
import subprocess
import sys
import termios
import tracemalloc
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shared_multiprocess_queue import DeserializationError, SharedMemoryQueue, drained, inspect, read_drained
from shared_multiprocess_queue._codec import tags
from shared_multiprocess_queue._engine import sweep
from shared_multiprocess_queue._ring import layout
from shared_multiprocess_queue.cli import removals
from shared_multiprocess_queue.cli.stop_signals import StopSignals
from stress.hostile import staging
from tests.support.demo import COMMAND
from tests.support.own_formats import from_json, to_json
from tests.support.queues import MakeQueue
from tests.support.segments import attach, create
from tests.support.shmq import shmq, shmq_json
from tests.support.waiting import LONG, eventually

pytestmark = [
    pytest.mark.costly,
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


@pytest.mark.parametrize(("leases", "own"), [(0, False), (2, False), (0, True)])
def test_what_lay_in_a_reservation_before_is_not_written(
    make_queue: MakeQueue, tmp_path: Path, leases: int, own: bool
) -> None:
    q = make_queue(capacity=1, leases=leases, **({"dumps": to_json, "loads": from_json} if own else {}))
    q.put("of another consumer" * 9)
    q.get()
    with q.reserve(3) as memory:
        memory[:] = b"[7]"
    target = tmp_path / "items"
    told = shmq_json("drain", q.name, "--run-id", q.run_id, "--yes", "--to", str(target))
    assert told["bytes"] == 3
    assert frames(target.read_bytes()) == [(tags.OWN if own else tags.BYTES, b"[7]")]


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
    assert shmq("drain", f"{run_id}-q", answer="y\n").output == "1 item taken, 4 B in all\n"
    assert shmq("drain", "--yes", f"{run_id}-q").output == "0 items taken, 0 B in all\n"
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


def test_drain_to_a_full_disk_makes_no_dead_letter(make_queue: MakeQueue, run_id: str) -> None:
    q = make_queue(leases=1, max_deliveries=1)
    q.put(b"one")
    command = [*COMMAND, "drain", "--yes", "--to", "-", f"{run_id}-q"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=LONG, check=False)
    assert done.returncode == 1
    assert q.dead_letters() == []
    assert q.get(block=False) == b"one"
    q.task_done()


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


def test_drain_of_a_queue_that_goes_with_its_last_user(
    make_queue: MakeQueue, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked to go if it is empty, and by no drain that leaves items in it. Here it stays, as this process has it.

    One that no process has can go at any moment of this test: any creation of a queue removes it.
    """
    q = make_queue(delete=True)
    q.put_batch([b"one", b"two", b"three"])
    asked: list[str] = []
    monkeypatch.setattr(sweep, "_remove", lambda name, identity: asked.append(name))
    monkeypatch.setattr(removals, "inspect", lambda *_: replace(inspect("q", run_id), in_use=False))
    assert "goes with its last user" in shmq("drain", f"{run_id}-q", answer="n\n").errors
    monkeypatch.setattr(sweep, "_ours", {})  # it belongs to no other handle of this process
    assert shmq("drain", "--yes", "-n", 1, f"{run_id}-q").output == "1 item taken, 3 B in all\n"
    with monkeypatch.context() as patch:
        patch.setattr(removals, "_write", no_room)
        assert "went back" in shmq("drain", "--yes", "--to", tmp_path / "items", f"{run_id}-q").errors
    assert asked == []
    assert shmq("drain", "--yes", f"{run_id}-q").output == "2 items taken, 8 B in all\n"
    assert set(asked) == {f"{run_id}-q-queue"}


def test_drain_counts_what_only_its_program_can_read(make_queue: MakeQueue, run_id: str, tmp_path: Path) -> None:
    make_queue().put("text")
    program = (
        "import sys\nfrom shared_multiprocess_queue import SharedMemoryQueue\n"
        "class Own: ...\n"
        "with SharedMemoryQueue('q', run_id=sys.argv[1]) as q: q.put(Own()); q.put([Own(), bytearray(3000)])\n"
    )
    subprocess.run([sys.executable, "-c", program, run_id], timeout=LONG, check=True)
    found = shmq_json("drain", "--yes", "--to", tmp_path / "items", f"{run_id}-q")
    assert (found["items"], found["of_main"]) == (3, 2)


@pytest.mark.parametrize("leases", [0, 1])
def test_what_drain_has_written_is_read_back(make_queue: MakeQueue, run_id: str, tmp_path: Path, leases: int) -> None:
    items = [b"one", "two", None, True, 3, 4.5, {"a": [1]}, {1: {2}, 3: object}, "long " * 5000, 2**70]
    make_queue(capacity=20, leases=leases).put_batch([*items, bytearray(3000), pickle.PickleBuffer(bytes(3000))])
    shmq("drain", "--yes", "--to", tmp_path / "items", f"{run_id}-q")
    with (tmp_path / "items").open("rb") as file:
        assert list(read_drained(file)) == [*items, bytearray(3000), bytes(3000)]


def test_what_drain_has_written_in_another_format_is_read_back(
    make_queue: MakeQueue, run_id: str, tmp_path: Path
) -> None:
    make_queue("own", dumps=to_json, loads=from_json).put([1, 2])
    make_queue("plain", serializer="plain").put([3])
    for name in ("own", "plain"):
        shmq("drain", "--yes", "--to", tmp_path / name, f"{run_id}-{name}")
    with (tmp_path / "own").open("rb") as file:
        assert list(read_drained(file, loads=from_json)) == [[1, 2]]
    with (tmp_path / "plain").open("rb") as file:
        assert list(read_drained(file, serializer="plain")) == [[3]]


def test_what_drain_has_written_of_another_program_is_read_back(
    make_queue: MakeQueue, run_id: str, tmp_path: Path
) -> None:
    """What the queue had stored of its ``__main__`` is in the file, before the first item that needs it, once."""
    q = make_queue(capacity=5, delete=False)
    program = (
        "import sys\nfrom shared_multiprocess_queue import SharedMemoryQueue\n"
        "class Own:\n  def twice(self): return 2 * self.value\n"
        "class Other(Own): pass\n"
        "with SharedMemoryQueue('q', run_id=sys.argv[1]) as q:\n"
        "  for kind in Own, Other, Own:\n    one = kind(); one.value = 21; q.put([one, bytearray(3000)])\n"
    )
    q.put("before")
    subprocess.run([sys.executable, "-c", program, run_id], timeout=LONG, check=True)
    shmq("drain", "--yes", "--to", tmp_path / "items", f"{run_id}-q")
    q.unlink()
    assert [tag == drained.DEFINITIONS for tag, _ in frames((tmp_path / "items").read_bytes())] == [0, 1, 0, 0, 0]
    with (tmp_path / "items").open("rb") as file:
        first, *rest = read_drained(file)
    assert first == "before"
    assert [(type(one).__name__, one.twice()) for one, _ in rest] == [("Own", 42), ("Other", 42), ("Own", 42)]


def test_an_item_that_cannot_be_read_costs_no_other() -> None:
    pickled = pickle.dumps(print, 5)
    data = drained.frame(b"one", tags.BYTES) + drained.frame(pickled, tags.PICKLE) + drained.frame(b"two", tags.BYTES)
    items = read_drained(io.BytesIO(data + drained.frame(b"three", tags.BYTES)[:-2]), serializer="plain")
    assert next(items) == b"one"
    with pytest.raises(DeserializationError) as refused:
        next(items)
    assert refused.value.raw == pickled
    assert next(items) == b"two"
    with pytest.raises(DeserializationError, match="ends in the middle of an item, of which 3 bytes are there") as cut:
        next(items)
    assert cut.value.raw == b"thr"
    assert list(items) == []
    assert list(read_drained(io.BytesIO(b""))) == []
    with pytest.raises(DeserializationError, match="of which 0 bytes"):
        next(read_drained(io.BytesIO(b"\0\0\0")))


class Piecewise(io.RawIOBase):
    """As a pipe without a buffer: a read returns five bytes at most."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._file.readinto(memoryview(buffer)[:5])


def test_bytes_of_an_item_are_never_read_as_another_item() -> None:
    """Whatever a read returns, and also if the file ends in the middle of it."""
    hostile = bytes(100) + drained.frame(pickle.dumps(print, 5), tags.PICKLE)
    data = drained.frame(hostile, tags.BYTES) + drained.frame(b"two", tags.BYTES)
    assert list(read_drained(Piecewise(data))) == [hostile, b"two"]  # type: ignore[arg-type]
    for size in range(len(data) - len(b"two") - 8):
        items = read_drained(Piecewise(data[:size]))  # type: ignore[arg-type]
        if size:
            with pytest.raises(DeserializationError, match="ends in the middle"):
                next(items)
        assert list(items) == []


class Waiting(io.RawIOBase):
    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> None:
        return None  # as a pipe that does not block


def test_a_file_that_does_not_block_is_not_taken_for_its_end() -> None:
    with pytest.raises(BlockingIOError, match="let it block"):
        next(read_drained(Waiting()))  # type: ignore[arg-type]


def test_a_deflated_item_takes_no_more_than_a_get_would(make_queue: MakeQueue, run_id: str, tmp_path: Path) -> None:
    text = "long " * 5000
    q = make_queue(item_size=1000)
    q.put_batch([text, text])
    shmq("drain", "--yes", "--to", tmp_path / "items", f"{run_id}-q")
    with (tmp_path / "items").open("rb") as file:
        assert list(read_drained(file)) == [text, text]
    bomb = b"\x01" + zlib.compress(bytes(64_001))
    assert [number for number, _ in frames((tmp_path / "items").read_bytes())] == [drained.SLOT_SIZE, 11, 11]
    for before, why in ((drained.size_frame(1000), "it inflates to more than 64,000 bytes"), (b"", "is damaged")):
        with pytest.raises(DeserializationError, match=why):
            next(read_drained(io.BytesIO(before + drained.frame(bomb, tags.DEFLATED))))


def test_a_damaged_length_takes_no_memory() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(DeserializationError, match="of which 3 bytes are there"):
            next(read_drained(io.BytesIO(drained.HEADER.pack(0xFFFF_FFFF, tags.BYTES) + b"abc")))
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("tag", "arguments", "hint"),
    [
        (tags.OWN, {}, "pass loads"),
        (tags.OWN, {"serializer": "plain"}, "pass loads"),
        (tags.PICKLE, {"loads": from_json}, "leave loads out"),
        (tags.PICKLE, {"serializer": "plain"}, "leave serializer='plain' out"),
        (99, {}, "the file is damaged"),
        (drained.SLOT_SIZE, {}, "the file is damaged"),
    ],
)
def test_an_item_of_another_format_says_how_to_read_it(tag: int, arguments: dict[str, Any], hint: str) -> None:
    with pytest.raises(DeserializationError, match="an item of the file") as refused:
        next(read_drained(io.BytesIO(drained.frame(b"[1]", tag)), **arguments))
    assert hint in str(refused.value)
    assert refused.value.raw == b"[1]"


def no_room(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_what_drain_cannot_write_is_told_though_its_count_cannot_be(
    make_queue: MakeQueue, run_id: str, tmp_path: Path
) -> None:
    q = make_queue()
    q.put(b"one")
    q.shutdown()
    limited = ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *COMMAND]
    with Path("/dev/full").open("wb") as full:
        command = [*limited, "drain", "--yes", "--to", str(tmp_path / "items"), f"{run_id}-q"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=LONG, check=False)
    assert done.returncode
    assert "File too large), nor go back: tag 1, bytes 6f6e65" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("options", [[], ["--yes"]], ids=["at the question", "at the attach"])
def test_drain_takes_nothing_of_a_queue_that_it_did_not_ask_about(
    run_id: str, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    first = create(run_id)

    def renew(asked: object) -> object:
        first.unlink()
        with create(run_id) as other:
            other.put("an item that nobody was asked about")
        return asked

    if options:
        monkeypatch.setattr(StopSignals, "__enter__", renew)
    else:
        monkeypatch.setattr(removals, "ask", renew)
    assert shmq("drain", *options, f"{run_id}-q").code == (3 if options else 1)
    first.close()
    with attach(run_id) as q:
        assert q.qsize() == 1
        q.unlink()


def test_drain_makes_a_file_of_ones_own_and_none_without_a_queue(
    make_queue: MakeQueue, run_id: str, tmp_path: Path
) -> None:
    q = make_queue(mode="spsc")
    q.put_batch([b"one", b"two"])
    target = tmp_path / "items"
    assert shmq("drain", "--yes", "--to", target, f"{run_id}-q").code == 0
    assert target.stat().st_mode & 0o777 == 0o600
    stage = staging.Stage(make_queue("damaged", engine="atomics"))
    stage.write(layout.HEAD, 99)
    other = tmp_path / "other"
    code, _, errors = shmq("drain", "--yes", "--to", other, f"{run_id}-damaged")
    assert code == 5
    assert "contradict" in errors
    assert not other.exists()


@pytest.mark.parametrize("leases", [0, 1])
def test_drain_into_a_full_pipe_can_be_stopped(make_queue: MakeQueue, run_id: str, leases: int) -> None:
    q = make_queue(item_size=20_000, leases=leases)
    q.put_batch([b"1" * 20_000, b"2" * 20_000])
    reader, writer = os.pipe()
    try:
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)

        def waiting() -> int:
            return int.from_bytes(fcntl.ioctl(reader, termios.FIONREAD, bytes(4)), sys.byteorder)

        command = [*COMMAND, "drain", "--yes", "--to", "-", f"{run_id}-q"]
        with subprocess.Popen(command, stdout=writer, stderr=subprocess.PIPE, text=True) as draining:
            try:
                eventually(lambda: waiting() == 4096, "a full pipe")
                draining.send_signal(signal.SIGTERM)
                assert draining.wait(LONG) == 128 + signal.SIGTERM
            finally:
                draining.kill()
        assert sorted(item[:1] for item in all_of(q)) == [b"1", b"2"]
    finally:
        os.close(reader)
        os.close(writer)


TELLS_WHEN_IT_HAS_AN_ITEM = """
import os
from shared_multiprocess_queue.cli import app, removals

def stop(file, frame, signals):
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
