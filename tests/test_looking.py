"""Looking never writes: snapshots of live, stuck, full, damaged and half-made queues, on memory that can only be read.

What a snapshot says of a queue is compared with what the native engine says, which has its own code for it.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared_multiprocess_queue import (
    CorruptQueueError,
    LayoutVersionError,
    QueueClosedError,
    QueueExistsError,
    QueueNotReadyError,
    SharedMemoryQueue,
    TooManyParticipantsError,
)
from shared_multiprocess_queue._engine import choice
from shared_multiprocess_queue._platform import atomic_words, clock, shared_memory
from shared_multiprocess_queue._platform.atomic_words import PlainWords
from shared_multiprocess_queue._ring import layout
from shared_multiprocess_queue._ring.snapshot import Look, Snapshot, check
from stress.hostile import damage

from .conftest import MakeQueue
from .test_descriptors import in_child
from .waiting import LONG, eventually, in_thread

SHM = Path("/dev/shm")


class Pread:
    """The words of a file that is open for reading; counts them."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self._descriptor).st_size
        self.loads = 0

    def load(self, offset: int) -> int:
        self.loads += 1
        data = os.pread(self._descriptor, layout.WORD, offset)
        if len(data) < layout.WORD:
            raise CorruptQueueError(f"the file ends before byte {offset + layout.WORD:,}")
        return int.from_bytes(data, sys.byteorder)

    def close(self) -> None:
        os.close(self._descriptor)


@contextmanager
def opened(path: Path) -> Iterator[Pread]:
    words = Pread(path)
    try:
        yield words
    finally:
        words.close()


def path_of(q: SharedMemoryQueue) -> Path:
    return SHM / f"{q.run_id}-{q.name}-queue"


def seen(q: SharedMemoryQueue) -> Snapshot:
    """Return what is seen by reading the file."""
    with opened(path_of(q)) as words:
        return Snapshot(Look(words, check(words, q.name, words.size)), True)


def answers(look: Look) -> tuple[int, bool, bool]:
    return look.items(), look.is_empty(), look.is_full()


# ---- on memory that can only be read --------------------------------------------------------------------------------

LOOKER = """
import ctypes, mmap, os, sys
from shared_multiprocess_queue._platform.atomic_words import PlainWords
from shared_multiprocess_queue._ring.snapshot import Look, Snapshot, check
name, times, writes = sys.argv[1], int(sys.argv[2]), len(sys.argv) > 3
descriptor = os.open("/dev/shm/" + name, os.O_RDONLY)
size = os.fstat(descriptor).st_size
mapping = mmap.mmap(descriptor, size, prot=mmap.PROT_READ)
words = PlainWords(memoryview(mapping))
geometry = check(words, name, size)
if writes:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    ctypes.memset(libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0), 0, 8)
tail = head = 0
for _ in range(times):
    look = Look(words, geometry)
    seen = Snapshot(look, True)
    assert not seen.is_damaged, vars(seen)
    assert head <= seen.head and tail <= seen.tail and seen.head <= seen.tail, (head, tail, vars(seen))
    assert 0 <= seen.items <= geometry.capacity, vars(seen)
    assert isinstance(look.is_empty(), bool) and isinstance(look.is_full(), bool)
    head, tail = seen.head, seen.tail
print(seen.items, look.is_empty(), look.is_full(), sorted({one.process.pid for one in seen.participants}))
"""


def look_from_outside(q: SharedMemoryQueue, times: int, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LOOKER, path_of(q).name, str(times), *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=LONG, check=False)


def test_a_write_to_memory_that_can_only_be_read_ends_the_process(make_queue: MakeQueue) -> None:
    """Without this the tests beside it would show nothing."""
    assert look_from_outside(make_queue(), 1, "writes").returncode == -signal.SIGSEGV


@pytest.mark.parametrize("state", damage.STATES)
def test_a_queue_in_any_state_is_seen_on_memory_that_can_only_be_read(make_queue: MakeQueue, state: str) -> None:
    q = make_queue(capacity=3, engine="atomics")
    damage.STATES[state](damage.Stage(q), Random(5))
    words = PlainWords(q._membership.segment.buffer)
    expected = answers(Look(words, q._geometry))
    result = look_from_outside(q, 3)
    assert result.stderr == ""
    assert result.stdout.startswith("{} {} {} ".format(*expected))


BUSY = """
import sys
from shared_multiprocess_queue import SharedMemoryQueue
from queue import Full, Empty
q = SharedMemoryQueue("q", run_id=sys.argv[1], engine=sys.argv[2])
print("here", flush=True)
while True:
    try:
        q.put_batch([b"a", b"b"], timeout=0.01)
        q.put(b"c", timeout=0.01)
        q.get(timeout=0.01)
        q.get_batch(3, timeout=0.01)
    except (Full, Empty):
        pass
"""


@contextmanager
def busy(q: SharedMemoryQueue, engine: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", BUSY, q.run_id, engine]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "here\n"
            yield process
        finally:
            process.kill()


def test_a_queue_is_seen_beside_those_who_use_it_and_those_who_were_killed_in_it(
    make_queue: MakeQueue, each_engine: str
) -> None:
    q = make_queue(capacity=4)
    with busy(q, each_engine), busy(q, each_engine):
        for _ in range(2):
            with busy(q, each_engine) as killed:
                result = look_from_outside(q, 400)
                assert result.stderr == ""
                assert str(killed.pid) in result.stdout
            killed.wait(LONG)
            result = look_from_outside(q, 50)
            assert result.stderr == ""
    found = seen(q)
    assert not found.is_moving
    assert not found.is_damaged
    assert {one.process.pid for one in found.participants if one.liveness == "alive"} == {os.getpid()}
    assert found.blockers == ()
    assert (found.items, found.tail - found.head == 0 or found.items > 0 or found.dead > 0) == (q.qsize(), True)


# ---- what is seen is true -------------------------------------------------------------------------------------------


def claims(stage: damage.Stage, rng: Random) -> None:
    """Let puts and gets, live, dead or abandoned, hold some of the slots."""
    capacity, base = stage.geometry.capacity, rng.choice([0, 5, 1 << 40])
    items = rng.randint(0, capacity)
    head, tail = base + rng.randint(0, items), base + items + rng.randint(0, capacity - items)
    stage.place(base, items)
    stage.write(layout.HEAD, head)
    stage.write(layout.TAIL, tail)
    numbers = itertools.count(1)

    def claim(**announced: int) -> None:
        if rng.random() < 0.9:  # otherwise no record names the claim
            stage.participant(next(numbers), rng.random() < 0.5, abandoned=rng.random() < 0.2, **announced)

    for position in range(base, head):
        if rng.random() < 0.5:
            stage.slot(position + capacity, layout.FREE)
        else:
            claim(get_begin=position, get_end=position + 1)
    position = base + items
    while position < tail:
        size = rng.randint(1, min(3, tail - position))
        state = rng.choice([layout.FREE, layout.FREE, layout.FULL, layout.TOMB])
        for index in range(size):
            is_published = state == layout.FREE and index > 0 and rng.random() < 0.7
            stage.slot(position + index, layout.FULL if is_published else state, meta=1 | index << layout.TAG_BITS)
        if state == layout.FREE:
            claim(put_begin=position, put_end=position + size)
        position += size


STATES = {**damage.STATES, "claims": claims}


@pytest.mark.skipif(not choice.has_native(), reason="the native engine was not built")
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(), state=st.sampled_from([*STATES, *["claims"] * len(STATES)]))
def test_sizes_are_those_of_the_native_engine(make_queue: MakeQueue, seed: int, state: str) -> None:
    rng = Random(seed)
    q = make_queue(f"q{next(_numbers)}", capacity=rng.choice([1, 2, 3, 7]), item_size=8, engine="native")
    try:
        stage = damage.Stage(q)
        if rng.random() < 0.3:
            stage.place(rng.choice([0, 5, 1 << 40]), rng.randint(0, q.capacity))
        if state != "near the end of positions":
            STATES[state](stage, rng)
        with opened(path_of(q)) as words:
            look = Look(words, check(words, "q", words.size))
            assert answers(look) == (q.qsize(), q.empty(), q.full())
    finally:
        q.close()
        q.unlink()


_numbers = itertools.count()


def test_a_snapshot_says_who_takes_part_and_what_each_has_announced(make_queue: MakeQueue) -> None:
    q = make_queue(capacity=3, mode="spsc", engine="atomics")
    q.put_batch([1, 2])
    q.get()
    stage = damage.Stage(q)
    stage.participant(9, alive=True, get_begin=0, get_end=1, lock_busy=1)
    holder = stage.participant(10, put_begin=2, put_end=5)
    stage.write(layout.BATCH_OWNER_AT, holder)
    stage.write(layout.record_at(11) + layout.OWNER, layout.owner_of(77, 1, 5))  # of a namespace that nobody entered
    stage.write(layout.RECORDS_USED_AT, 12)
    found = seen(q)
    mine = [one for one in found.participants if one.number < 9]
    assert {one.process.pid for one in mine} == {os.getpid()}
    assert sorted(role for one in mine for role in one.roles) == ["consumer", "producer"]
    nine, ten, eleven = found.participants[-3:]
    assert (nine.liveness, nine.gets, len(nine.puts), nine.batch_lock) == ("alive", range(1), 0, "takes")
    assert (ten.liveness, ten.puts, len(ten.gets), ten.batch_lock) == ("dead", range(2, 5), 0, "holds")
    assert (eleven.liveness, eleven.process) == ("unknown", (77, 1, 5))
    assert [one.counts_as_live() for one in (nine, ten, eleven)] == [True, False, True]
    assert (found.head, found.tail, found.items, found.version) == (1, 2, 1, layout.VERSION)
    assert found.geometry == q._geometry
    assert found.creator.pid == os.getpid()
    assert not found.is_moving
    assert not found.is_unlinked
    stage.write(layout.BATCH_OWNER_AT, 0)


def test_blockers_are_named_with_position_and_deed(make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    q = make_queue(capacity=3, engine="atomics")
    stage = damage.Stage(q)
    stage.place(6, 2)
    stage.write(layout.HEAD, 7)  # 6 is claimed by a get, 7 full, 8 claimed by a put
    stage.write(layout.TAIL, 9)
    stage.participant(1, alive=True, get_begin=6, get_end=7)
    stage.participant(2, alive=True, put_begin=8, put_end=9)
    name = stage.participant(3, alive=True)
    assert [(blocker.position, blocker.doing) for blocker in seen(q).blockers] == [(6, "get")]
    stage.write(layout.HEAD, 8)  # 7 too, by a get that died
    stage.participant(4, get_begin=7, get_end=8)
    stage.write(layout.BATCH_OWNER_AT, name)
    found = [(blocker.position, blocker.doing) for blocker in seen(q).blockers]
    assert found == [(8, "put"), (6, "get"), (9, "put_batch")]
    assert {blocker.process.pid for blocker in seen(q).blockers} == {os.getpid()}
    monkeypatch.setattr(clock, "now", lambda: 1000)
    stage.write(layout.GATE_AT, 2000)  # the batch waits for room, as others do
    assert [blocker.doing for blocker in seen(q).blockers] == ["put", "get"]
    stage.write(layout.BATCH_OWNER_AT, 0)


@pytest.mark.parametrize("is_abandoned", [False, True])
def test_a_put_that_a_live_thread_has_abandoned_counts_as_dead(make_queue: MakeQueue, is_abandoned: bool) -> None:
    q = make_queue(capacity=1, engine="atomics")
    stage = damage.Stage(q)
    stage.participant(1, alive=True, put_begin=0, put_end=1, abandoned=is_abandoned)
    stage.write(layout.TAIL, 1)
    assert (q.qsize(), q.empty(), q.full()) == ((0, True, False) if is_abandoned else (1, False, True))
    assert len(seen(q).blockers) == (0 if is_abandoned else 1)


def test_a_process_that_goes_on_during_the_look_is_not_named_as_a_blocker(make_queue: MakeQueue) -> None:
    """It has withdrawn what its record said when that was read; another has claimed the slot."""
    q = make_queue(capacity=3, engine="atomics")
    stage = damage.Stage(q)
    stage.participant(1, alive=True, put_begin=0, put_end=1)
    stage.participant(2, alive=True, put_begin=0, put_end=1)
    stage.write(layout.TAIL, 1)
    with opened(path_of(q)) as words:
        look = Look(words, check(words, "q", words.size))
        participants = look.participants()
        assert len(list(look.blockers(participants, True))) == 2
        stage.write(layout.record_at(2) + layout.PUT_END, 0)
        assert len(list(look.blockers(participants, True))) == 1


def test_dead_puts_are_told_from_items(make_queue: MakeQueue, each_engine: str) -> None:
    """A batch that died in front of an item, and one behind it: the first is seen before anybody has buried it."""
    q = make_queue(capacity=7)
    stage = damage.Stage(q)
    stage.place(0, 0)
    stage.write(layout.TAIL, 6)
    for index, first in ((1, 0), (2, 4)):
        stage.participant(index, put_begin=first, put_end=first + 2)
        stage.slot(first + 1, layout.FULL, meta=1 | 1 << layout.TAG_BITS)
    stage.slot(2, layout.FULL)
    stage.slot(3, layout.FULL)
    found = seen(q)
    assert (found.items, found.dead, found.tombs) == (6, 2, 0)
    metrics = q.get_metrics()
    assert (metrics["queue_size"], metrics["dead_puts"], metrics["put_total"]) == (6, 2, 4)


# ---- damaged, cut, half-made ----------------------------------------------------------------------------------------


def written(q: SharedMemoryQueue, path: Path, change: Callable[[bytearray], object]) -> Path:
    """Write a copy of a segment that was changed."""
    copy = bytearray(q._membership.segment.buffer)
    change(copy)
    path.write_bytes(copy)
    return path


def look_at(path: Path) -> Snapshot:
    with opened(path) as words:
        return Snapshot(Look(words, check(words, "copy", words.size)), True)


@pytest.mark.parametrize("size", [1, 255, 256, 260, 264, 4096, layout.SLOTS_START - 1, layout.SLOTS_START, -1, -4096])
def test_a_segment_that_was_cut_is_said_to_be_damaged(make_queue: MakeQueue, tmp_path: Path, size: int) -> None:
    path = written(make_queue(), tmp_path / "copy", lambda copy: copy.__delitem__(slice(size, None)))
    with pytest.raises(CorruptQueueError, match="copy"):
        look_at(path)


def test_a_segment_that_is_cut_during_a_look_ends_it_with_the_readers_error(
    make_queue: MakeQueue, tmp_path: Path
) -> None:
    path = written(make_queue(), tmp_path / "copy", lambda copy: None)
    with opened(path) as words:
        look = Look(words, check(words, "copy", words.size))
        os.truncate(path, layout.TAIL)
        with pytest.raises(CorruptQueueError, match="ends before"):
            Snapshot(look, True)


@pytest.mark.parametrize("size", [0, layout.MAGIC_AT + 8, 4096, 100_000])
def test_a_segment_in_the_making_is_not_ready(tmp_path: Path, size: int) -> None:
    path = tmp_path / "copy"
    path.touch()
    if size:
        with path.open("r+b") as file:
            file.seek(shared_memory.MARK_AT)
            file.write(shared_memory.MARK)
            file.truncate(size)
    with pytest.raises(QueueNotReadyError, match="copy"):
        look_at(path)


@pytest.mark.parametrize("version", [0, layout.VERSION + 1])
def test_another_layout_is_told(make_queue: MakeQueue, tmp_path: Path, version: int) -> None:
    path = written(
        make_queue(), tmp_path / "copy", lambda copy: struct.pack_into("=Q", copy, layout.VERSION_AT, version)
    )
    with pytest.raises(LayoutVersionError):
        look_at(path)


def test_random_bytes_are_no_queue(tmp_path: Path) -> None:
    path = tmp_path / "copy"
    path.write_bytes(random.Random(1).randbytes(100_000))
    with pytest.raises(CorruptQueueError, match="not a queue"):
        look_at(path)


CONSTANTS = range(layout.MAGIC_AT, layout.MAGIC_AT + layout.LINE)
EDGES = [0, 1, 2, 3, layout.RECORDS, 1 << 61, (1 << 62) - 1, 1 << 62, 1 << 63, (1 << 64) - 1]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(), capacity=st.sampled_from([1, 2, 7, 50]))
def test_any_words_are_looked_at_in_a_bounded_number_of_steps(tmp_path: Path, seed: int, capacity: int) -> None:
    """A header whose constants are right, and everything else at random, or near the edges."""
    rng = Random(seed)
    geometry = layout.Geometry.of(capacity, 8, "mpmc")
    words = [0] * (geometry.definitions // layout.WORD)
    for at, value in (
        (layout.MAGIC_AT, layout.MAGIC),
        (layout.VERSION_AT, layout.VERSION),
        (layout.CAPACITY_AT, capacity),
        (layout.ITEM_SIZE_AT, 8),
        (layout.RECORDS_AT, layout.RECORDS),
        (layout.DEFINITIONS_SIZE_AT, layout.DEFINITIONS_SIZE),
        (layout.SEGMENT_SIZE_AT, geometry.size),
    ):
        words[at // layout.WORD] = value
    near = rng.getrandbits(62)
    for number in range(len(words)):
        if number * layout.WORD not in CONSTANTS and rng.random() < 0.8:
            some = rng.choice([rng.choice(EDGES), near + rng.randint(-capacity, capacity), rng.getrandbits(64)])
            words[number] = rng.choice([some, some << layout.STATE_BITS | rng.randrange(4)]) & layout.WORD_MASK
    path = tmp_path / "copy"
    path.write_bytes(struct.pack(f"={len(words)}Q", *words))
    os.truncate(path, geometry.size)
    with opened(path) as reader:
        look = Look(reader, check(reader, "copy", reader.size))
        found = Snapshot(look, True)
        assert 0 <= found.items <= capacity
        answers(look)
        assert reader.loads < 100 + 50 * layout.RECORDS + 200 * capacity


def test_positions_that_cannot_be_are_said_to_be_damage(make_queue: MakeQueue) -> None:
    q = make_queue(capacity=3)
    assert not seen(q).is_damaged
    stage = damage.Stage(q)
    stage.write(layout.HEAD, 5)
    assert seen(q).is_damaged
    stage.write(layout.HEAD, 0)
    stage.write(layout.SLOTS_START, 1 << layout.STATE_BITS | layout.FREE)
    assert seen(q).is_damaged
    stage.write(layout.SLOTS_START, layout.FREE)
    assert not seen(q).is_damaged


def test_a_queue_that_goes_on_during_a_look_is_said_to_be_moving(make_queue: MakeQueue) -> None:
    q = make_queue(capacity=3)
    with opened(path_of(q)) as words:
        load = words.load

        def load_and_move(offset: int) -> int:
            found = load(offset)
            if offset == layout.RECORDS_USED_AT and not q.qsize():
                q.put(1)
            return found

        words.load = load_and_move  # type: ignore[method-assign]
        assert Snapshot(Look(words, check(words, "q", words.size)), True).is_moving
    assert not seen(q).is_moving


# ---- the looks of a handle ------------------------------------------------------------------------------------------

LOOKS: dict[str, Callable[[SharedMemoryQueue], object]] = {
    "qsize": lambda q: q.qsize(),
    "empty": lambda q: q.empty(),
    "full": lambda q: q.full(),
    "repr": repr,
    "get_metrics": lambda q: q.get_metrics(),
}


@pytest.mark.parametrize("state", damage.STATES)
def test_a_handle_that_looks_writes_no_byte(make_queue: MakeQueue, each_engine: str, state: str) -> None:
    q = make_queue(capacity=3)
    damage.STATES[state](damage.Stage(q), Random(5))
    before = bytes(q._membership.segment.buffer)
    for name, look in LOOKS.items():
        look(q)
        assert bytes(q._membership.segment.buffer) == before, name


def test_metrics_need_no_record(make_queue: MakeQueue, each_engine: str) -> None:
    """All other records are taken, and the handle's own is that of a get that waits."""
    q = make_queue(capacity=3)
    stage = damage.Stage(q)
    waiting = in_thread(q.get)
    eventually(lambda: stage.word(layout.GET_WAITS_AT), "its sleep")
    filled = [index for index in range(layout.RECORDS) if not stage.word(layout.record_at(index) + layout.OWNER)]
    for index in filled:
        stage.participant(index, alive=True)
    try:
        with pytest.raises(TooManyParticipantsError):
            q.put("no record is left for this")
        metrics = q.get_metrics()
        assert metrics["participants"] == {os.getpid(): layout.RECORDS}
        assert (metrics["queue_size"], metrics["blocked_by"]) == (0, [])
        if each_engine == "atomics":
            assert (q.qsize(), q.empty(), q.full()) == (0, True, False)
    finally:
        for index in filled:
            stage.write(layout.record_at(index) + layout.OWNER, 0)
    q.put("end")
    assert waiting.result(LONG) == "end"


def test_a_creator_that_finds_the_name_taken_only_looks(make_queue: MakeQueue, run_id: str) -> None:
    """A process of a pid namespace that the header does not know yet."""
    q = make_queue()
    damage.Stage(q).write(layout.NAMESPACES_AT, 0)
    before = bytes(q._membership.segment.buffer)
    with pytest.raises(QueueExistsError, match=f"used by process {os.getpid()}"):
        SharedMemoryQueue("q", create=True, run_id=run_id)
    assert bytes(q._membership.segment.buffer) == before


def test_a_forked_child_that_only_looks_takes_no_record_and_sees_that_its_parent_is_gone(
    make_queue: MakeQueue,
) -> None:
    q = make_queue(engine="atomics")
    q.put(1)
    before = bytes(q._membership.segment.buffer)

    def child() -> None:
        assert (q.qsize(), q.empty(), q.full()) == (1, False, False)
        assert set(q.get_metrics()["participants"]) == {os.getppid()}
        assert bytes(q._membership.segment.buffer) == before

    assert in_child(child) == 0
    reading, writing = os.pipe()
    done, finished = os.pipe()

    def parent() -> None:
        inherited = SharedMemoryQueue("q", run_id=q.run_id, engine="atomics")
        me = os.getpid()
        if os.fork() == 0:
            status = b"?"
            with suppress(Exception):
                os.read(reading, 1)
                participants = inherited.get_metrics()["participants"]
                status = b"y" if me not in participants else b"n"
            os.write(finished, status)
            os._exit(0)

    assert in_child(parent) == 0
    os.write(writing, b"x")
    assert os.read(done, 1) == b"y"
    for descriptor in (reading, writing, done, finished):
        os.close(descriptor)


@pytest.mark.parametrize("is_ordered", [True, False])
def test_a_look_keeps_its_memory_while_the_handle_is_closed(
    make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch, is_ordered: bool
) -> None:
    """On processors whose plain loads are in no order it reads by other loads, and is as safe."""
    if not is_ordered:
        monkeypatch.setattr(atomic_words, "_PLAIN_IS_ORDERED", False)
    q = make_queue(engine="atomics")
    q.put(1)
    look = q._membership.look()
    mapped = path_of(q).name
    q.unlink()
    q.close()
    assert answers(look) == (1, False, False)
    assert mapped in Path("/proc/self/maps").read_text()
    del look
    assert mapped not in Path("/proc/self/maps").read_text()
    with pytest.raises(QueueClosedError):
        q._membership.look()
    with pytest.raises(QueueClosedError):
        q.qsize()
