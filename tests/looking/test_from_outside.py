"""list_queues and inspect: what they find of queues in any state, and that they change nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from shared_multiprocess_queue import QueueFile, QueueNotFoundError, inspect, list_queues
from shared_multiprocess_queue._platform import segment_file, shared_memory
from shared_multiprocess_queue._ring import layout
from shared_multiprocess_queue.looking import files
from stress.hostile import damage, staging
from tests.support.children import fork
from tests.support.damage import poke
from tests.support.descriptors import descriptors
from tests.support.looks import path_of
from tests.support.places import SHM
from tests.support.queues import MakeQueue
from tests.support.segments import MARK
from tests.support.shmq import shmq

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at segments as files")


def found(run_id: str, foreign: bool = True) -> dict[str, QueueFile]:
    return {queue.name.removeprefix(f"{run_id}-"): queue for queue in list_queues(f"{run_id}-*", foreign=foreign)}


def test_queues_are_listed_and_inspected(make_queue: MakeQueue, run_id: str, each_engine: str) -> None:
    q = make_queue("a", capacity=4, leases=2, item_size=100)
    q.put_batch([1, 2, 3])
    lease = q.lease()
    make_queue("b").close()
    both = found(run_id)
    assert [(name, queue.state, queue.in_use) for name, queue in both.items()] == [
        ("a", "ok", True),
        ("b", "ok", False),
    ]
    queue = inspect("a", run_id)
    assert queue.look is not None
    look, metrics = queue.look, q.get_metrics()
    assert (look.capacity, look.item_size, look.leases, look.mode) == (4, 100, 2, "mpmc")
    assert (look.items, look.head, look.tail) == (2, 1, 3) == (q.qsize(), 1, 3)
    assert (look.empty, look.full) == (q.empty(), q.full())
    assert (look.slots_used, metrics["queue_slots_used"]) == (2, 2)
    for name in ("put_total", "got_total", "put_waits", "full_events", "dead_puts", "redelivered"):
        assert getattr(look, name) == metrics[name]
    (leased,) = look.leased
    assert (leased.pid, leased.position, leased.deliveries) == (os.getpid(), 0, 1)
    (process,) = look.processes
    assert (process.pid, process.state) == (os.getpid(), "alive")
    assert process.command
    assert inspect(f"{run_id}-a").inode == queue.inode == path_of(q).stat().st_ino
    lease.done()


def test_a_queue_is_as_full_as_its_slots(make_queue: MakeQueue, run_id: str, each_engine: str) -> None:
    q = make_queue("large", capacity=9, item_size=100, max_item_size=900)
    name = f"{run_id}-large"
    for item, used, taken in ((bytes(900), 9, 0), (bytes(250), 3, 9)):
        q.put(item)
        metrics, look = q.get_metrics(), inspect(name).look
        assert look is not None
        assert (metrics["queue_size"], look.items) == (1, 1)
        assert (metrics["queue_slots_used"], look.slots_used) == (used, used)
        assert (metrics["put_total"], metrics["got_total"]) == (used + taken, taken) == (look.put_total, look.got_total)
        assert metrics["queue_utilization_percent"] == pytest.approx(used / 9 * 100)
        assert f"1 item in {used} of 9 slots" in shmq("show", name).output
        assert q.get() == item


def test_what_is_no_name_is_refused(make_queue: MakeQueue, run_id: str) -> None:
    q: Any = make_queue()
    none: Any = None
    number: Any = 7
    for given in (q, none, number):
        with pytest.raises(TypeError, match=r"^name must be a str, not .*; of a queue give queue\.name and ") as error:
            inspect(given)
        assert repr(given) in str(error.value)
        with pytest.raises(TypeError, match="pattern must be a str, not ") as error:
            list_queues(given)
        assert repr(given) in str(error.value)
    with pytest.raises(TypeError, match="run_id must be a str, not None"):
        inspect("q", none)
    assert inspect(q.name, q.run_id).state == "ok"


def test_what_is_not_there(make_queue: MakeQueue, run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(QueueNotFoundError, match="shmq ls"):
        inspect("none", run_id)
    for name in ("../etc", "a\0b", "", "x" * 300, "\ud800", "\udce9"):
        with pytest.raises(QueueNotFoundError):
            inspect(name)
    make_queue("a")
    names = segment_file.names
    monkeypatch.setattr(files, "names", lambda ending: [f"{run_id}-gone-queue", *names(ending)])
    assert list(found(run_id)) == ["a"], "one that goes after the listing is left out"


def test_where_segments_are_no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "IS_THERE", False)
    for look in (list_queues, lambda: inspect("q")):
        with pytest.raises(NotImplementedError, match="on Linux only"):
            look()
    assert shmq("ls").code == 1


@pytest.mark.parametrize("leases", [0, 2])
@pytest.mark.parametrize("state", [*staging.STATES, *staging.LEASED_STATES])
def test_a_look_at_any_state_changes_nothing(make_queue: MakeQueue, run_id: str, state: str, leases: int) -> None:
    if state in staging.LEASED_STATES and not leases:
        pytest.skip("a state of queues with leases")
    q = make_queue(capacity=3, engine="atomics", leases=leases)
    {**staging.STATES, **staging.LEASED_STATES}[state](staging.Stage(q), Random(5))
    path = path_of(q)
    before, opened = (path.read_bytes(), path.stat().st_mtime_ns), descriptors()
    queue = inspect("q", run_id)
    assert queue.look is not None
    assert 0 <= queue.look.items <= 3 + leases
    assert (queue.look.items, queue.look.empty, queue.look.full) == (q.qsize(), q.empty(), q.full())
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert descriptors() == opened


@pytest.mark.parametrize("seed", [*range(20), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(20, 80))])
def test_a_look_at_a_damaged_segment_ends(make_queue: MakeQueue, run_id: str, seed: int) -> None:
    rng = Random(seed)
    case = damage.make_case(rng, ("atomics",), ("put",))
    q = make_queue(
        capacity=case.capacity,
        item_size=case.item_size,
        leases=case.leases,
        max_deliveries=case.max_deliveries,
        max_item_size=case.max_item_size,
        engine="atomics",
    )
    copy = SHM / f"{run_id}-copy-queue"
    states = {**staging.STATES, **staging.LEASED_STATES, **staging.LARGE_STATES}
    states[case.state](staging.Stage(q), rng)
    memory = bytearray(q._membership.segment.buffer)
    for hit in case.hits:
        hit.strike(memoryview(memory))
    q.unlink()  # before its memory is looked at again, which is the copy's affair
    copy.write_bytes(memory[: len(memory) + min(case.size, 0)])
    try:
        queue = inspect("copy", run_id)
        assert queue.state in {"ok", "damaged", "layout", "foreign", "unfinished", "leftover"}
        assert (queue.why == "") == (queue.state == "ok")
        assert queue.look is not None or queue.state != "ok"
        assert copy.read_bytes() == memory[: len(memory) + min(case.size, 0)]
    finally:
        copy.unlink()


def test_states(make_queue: MakeQueue, run_id: str) -> None:
    made: dict[str, Callable[[Path], object]] = {
        "leftover": lambda path: path.write_bytes(MARK + bytes(5000)),
        "foreign": lambda path: path.write_bytes(b"other" * 5000),
        "short": lambda path: path.write_bytes(b"x"),
        "unfinished": lambda path: path.write_bytes(b""),  # as its creator has it in its first moment
    }
    try:
        for name, make in made.items():
            make(SHM / f"{run_id}-{name}-queue")
        poke(path_of(make_queue("layout")), layout.VERSION_AT, b"\1")
        poke(path_of(make_queue("damaged")), layout.CAPACITY_AT, b"\xff")
        os.truncate(path_of(make_queue("cut")), layout.SLOTS_START)
        all_states = {name: queue.state for name, queue in found(run_id).items()}
        assert all_states.pop("short") == "foreign"
        assert all_states.pop("cut") == "damaged"
        assert all_states == {name: name for name in all_states}
        assert len(all_states) == 5
        assert "foreign" not in found(run_id, foreign=False)
        os.utime(SHM / f"{run_id}-unfinished-queue", (0, 0))
        assert found(run_id)["unfinished"].state == "leftover", "its creator would have gone on long ago"
        assert found(run_id)["layout"].layout == 1
    finally:
        for name in made:
            (SHM / f"{run_id}-{name}-queue").unlink(missing_ok=True)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


NO_FILES: dict[str, Callable[[Path], object]] = {
    "a FIFO": os.mkfifo,
    "a folder": os.mkdir,
    "a symbolic link": lambda path: os.symlink("/etc/passwd", path),
    "a socket": a_socket,
}


@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_file_is_not_followed_and_not_waited_for(run_id: str, kind: str) -> None:
    path = SHM / f"{run_id}-x-queue"
    NO_FILES[kind](path)
    try:
        queue = found(run_id)["x"]
        assert (queue.state, queue.look) == ("foreign", None)
        assert kind in queue.why
        assert found(run_id, foreign=False) == {}
    finally:
        os.rmdir(path) if kind == "a folder" else path.unlink()


@pytest.mark.parametrize("kind", ["a FIFO", "a symbolic link"])
def test_what_becomes_no_file_before_it_is_opened(run_id: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path, file = SHM / f"{run_id}-x-queue", SHM / f"{run_id}-file"
    file.touch()
    NO_FILES[kind](path)
    monkeypatch.setattr(segment_file, "status_of", lambda name: os.stat(file))
    try:
        assert found(run_id)["x"].state in {"foreign", "denied"}
    finally:
        path.unlink()
        file.unlink()


def test_a_queue_whose_records_are_all_taken(make_queue: MakeQueue, run_id: str) -> None:
    q = make_queue(engine="atomics")
    stage = staging.Stage(q)
    for index in range(1, layout.RECORDS):
        stage.participant(index, alive=True)
    look = inspect("q", run_id).look
    assert look is not None
    assert [(one.pid, one.records) for one in look.processes] == [(os.getpid(), layout.RECORDS)]


def test_processes_are_told_apart(make_queue: MakeQueue, run_id: str) -> None:
    """One at work, one that is paused and has not used its handle, one that is dead, one of another pid namespace."""
    q = make_queue(engine="atomics")
    child = fork(signal.pause)
    try:
        os.kill(child, signal.SIGSTOP)
        os.waitpid(child, os.WUNTRACED)
        stage = staging.Stage(q)
        stage.participant(1, put_begin=4, put_end=5, get_begin=1, get_end=3)
        stage.write(layout.record_at(2) + layout.OWNER, layout.owner_of(77, 1, 5))
        stage.write(layout.RECORDS_USED_AT, 3)
        look = inspect("q", run_id).look
        assert look is not None
        states = {one.pid: (one.state, one.records, one.doing) for one in look.processes}
        assert states[child] == ("paused", 0, "")
        assert states[77] == ("unknown", 1, "")
        assert ("dead", 1, "put 4, get 1 to 2") in [
            (one.state, one.records, one.doing) for one in look.processes if one.pid == os.getpid()
        ]
        assert [look.count(state) for state in ("alive", "paused", "unknown", "dead")] == [1, 1, 1, 1]
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_the_magic_mark_of_a_creator_is_what_the_look_knows() -> None:
    assert layout.UNFINISHED.to_bytes(8, sys.byteorder) == shared_memory.MARK


def test_a_look_goes_through_a_bounded_number_of_slots(
    make_queue: MakeQueue, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a batch leaves it that was killed before it published."""
    q = make_queue(capacity=8, engine="atomics")
    stage = staging.Stage(q)
    stage.write(layout.TAIL, 5)
    look = inspect(f"{run_id}-q").look
    assert look is not None
    assert (look.items, look.empty, look.dead_puts) == (0, True, 5)
    monkeypatch.setattr(files, "MOST_SLOTS", 3)
    look = inspect(f"{run_id}-q").look
    assert look is not None
    assert (look.items, look.empty, look.dead_puts) == (5, False, 3)
    assert q.empty()


def test_as_dict_has_what_json_has(make_queue: MakeQueue, run_id: str) -> None:
    make_queue()
    listed = inspect(f"{run_id}-q").as_dict()
    assert listed == json.loads(json.dumps(listed))
    assert listed["look"]["processes"]
