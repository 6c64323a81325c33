"""Looking never writes: snapshots of live, stuck, full, damaged and half-made queues, on memory that can only be read.

What a snapshot says of a queue is compared with what the native engine says, which has its own code for it.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared_multiprocess_queue import (
    SharedMemoryQueue,
)
from shared_multiprocess_queue._engine import choice
from shared_multiprocess_queue._platform import clock
from shared_multiprocess_queue._platform.atomic_words import PlainWords
from shared_multiprocess_queue._ring import layout
from shared_multiprocess_queue._ring.snapshot import Look
from shared_multiprocess_queue._ring.stated_sizes import check
from stress.hostile import staging
from tests.support.lanes import examples
from tests.support.looks import answers, opened, path_of, seen
from tests.support.queues import MakeQueue
from tests.support.waiting import LONG

# ---- on memory that can only be read --------------------------------------------------------------------------------

LOOKER = """
import ctypes, mmap, os, sys
from shared_multiprocess_queue._platform.atomic_words import PlainWords
from shared_multiprocess_queue._ring.snapshot import Look, Snapshot
from shared_multiprocess_queue._ring.stated_sizes import check
name, times, writes = sys.argv[1], int(sys.argv[2]), len(sys.argv) > 3
descriptor = os.open("/dev/shm/" + name, os.O_RDONLY)
size = os.fstat(descriptor).st_size
mapping = mmap.mmap(descriptor, size, prot=mmap.PROT_READ)
words = PlainWords(memoryview(mapping))
geometry = check(words, name, lambda: size)
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


@pytest.mark.costly
@pytest.mark.parametrize("state", staging.STATES)
def test_a_queue_in_any_state_is_seen_on_memory_that_can_only_be_read(make_queue: MakeQueue, state: str) -> None:
    q = make_queue(capacity=3, engine="atomics")
    staging.STATES[state](staging.Stage(q), Random(5))
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


def test_a_queue_is_seen_beside_its_users_living_and_killed(make_queue: MakeQueue, each_engine: str) -> None:
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


def claims(stage: staging.Stage, rng: Random) -> None:
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


STATES = {**staging.STATES, "claims": claims}


@pytest.mark.skipif(not choice.has_native(), reason="the native engine was not built")
@settings(max_examples=examples(200), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(), state=st.sampled_from([*STATES, *["claims"] * len(STATES)]))
def test_sizes_are_those_of_the_native_engine(make_queue: MakeQueue, seed: int, state: str) -> None:
    rng = Random(seed)
    q = make_queue(f"q{next(_numbers)}", capacity=rng.choice([1, 2, 3, 7]), item_size=8, engine="native")
    try:
        stage = staging.Stage(q)
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
    stage = staging.Stage(q)
    stage.participant(9, alive=True, get_begin=0, get_end=1, lock_busy=1)
    holder = stage.participant(10, put_begin=2, put_end=5)
    stage.write(layout.BATCH_OWNER_AT, holder)
    stage.write(layout.record_at(11) + layout.OWNER, layout.owner_of(77, 1, 5))  # of a namespace that is in no table
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
    stage = staging.Stage(q)
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
    stage = staging.Stage(q)
    stage.participant(1, alive=True, put_begin=0, put_end=1, abandoned=is_abandoned)
    stage.write(layout.TAIL, 1)
    assert (q.qsize(), q.empty(), q.full()) == ((0, True, False) if is_abandoned else (1, False, True))
    assert len(seen(q).blockers) == (0 if is_abandoned else 1)


def test_a_process_that_goes_on_during_the_look_is_not_named_as_a_blocker(make_queue: MakeQueue) -> None:
    """It has withdrawn what its record said when that was read; another has claimed the slot."""
    q = make_queue(capacity=3, engine="atomics")
    stage = staging.Stage(q)
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
    """A batch that died in front of an item, and one behind it: the first is seen before it is made TOMBs."""
    q = make_queue(capacity=7)
    stage = staging.Stage(q)
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
