"""A queue that takes memory as it is used: slots get their numbers, and memory, when tail comes to them."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest

from shared_multiprocess_queue import CorruptQueueError, Empty, Full, JoinableQueue, Queue, SharedMemoryQueue, inspect
from shared_multiprocess_queue._codec.tags import BYTES
from shared_multiprocess_queue._platform.shared_memory import Segment
from shared_multiprocess_queue._ring.layout import AT_ONCE, NUMBERED_AT, SLOTS_START
from tests.support.places import SHM
from tests.support.queues import assert_works
from tests.support.waiting import LONG

pytestmark = pytest.mark.usefixtures("each_engine")

LARGE = bytes(range(256)) * 200


@contextmanager
def handles(maxsize: int) -> Iterator[tuple[Queue, SharedMemoryQueue]]:
    """Make a queue with two handles, of both engines if there are two."""
    with Queue(maxsize) as q, SharedMemoryQueue(q.name, engine="atomics") as other:
        yield q, other


def memory(q: SharedMemoryQueue) -> int:
    return (SHM / f"{q.name}-queue").stat().st_blocks * 512


def numbered(q: SharedMemoryQueue) -> int:
    with q._membership.operation() as record:
        return record.words.load(NUMBERED_AT)


@pytest.mark.parametrize("maxsize", [1, 2, 3, 63, 64, 65, 66, 130])
def test_a_queue_of_any_size_works_lap_after_lap(maxsize: int) -> None:
    with handles(maxsize) as (q, other):
        assert_works(q)
        assert_works(other)
        assert numbered(q) == maxsize


@pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files")
def test_memory_is_taken_by_the_first_put_that_needs_it() -> None:
    with Queue() as q:
        at_first = memory(q)
        assert at_first < 1 << 20
        for _ in range(1000):
            q.put(1)
        assert at_first + 900 * 2048 < memory(q) < at_first + 1200 * 2048
        before = memory(q)
        q.put(LARGE)
        assert before + len(LARGE) - 2 * 4096 < memory(q) < before + len(LARGE) + 100 * 4096
        assert q.get_batch(1000) == [1] * 1000
        assert q.get() == LARGE


@pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files")
@pytest.mark.parametrize("make", [Queue, JoinableQueue])
@pytest.mark.parametrize("maxsize", [1, 2, 10])
def test_few_places_take_no_more_memory_at_first(make: type[Queue], maxsize: int) -> None:
    with make(maxsize) as q:
        assert q.item_size > 1 << 20
        assert memory(q) < 200_000
        q.put(LARGE)
        assert memory(q) < 200_000 + len(LARGE)
        assert q.get() == LARGE


@pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files")
@pytest.mark.parametrize("maxsize", [1, 2, 65, 130])
def test_a_slot_without_a_number_is_no_damage(maxsize: int) -> None:
    """From outside, too, wherever head and tail are."""
    with Queue(maxsize) as q:
        for number in range(2 * maxsize + 2):
            assert inspect(q.name).state == "ok"
            q.put(number)
            assert inspect(q.name).state == "ok"
            assert q.get() == number


def test_a_get_that_comes_to_a_new_slot_finds_the_queue_empty() -> None:
    """At the border of the slots that have a number, head and tail stand at one that has none."""
    with handles(1000) as (q, other):
        for position in range(200):
            for getter in (q, other):
                assert getter.empty()
                with pytest.raises(Empty):
                    getter.get_nowait()
            assert not q.full()
            assert not other.full()
            (q if position % 2 else other).put_nowait(position)
            assert (other if position % 2 else q).get_nowait() == position


def test_a_batch_may_be_larger_than_what_is_numbered_at_once() -> None:
    with handles(1000) as (q, other):
        for putter, getter in ((q, other), (other, q), (q, other)):
            batch = list(range(900))
            putter.put_batch(batch)
            with pytest.raises(Full):
                putter.put_batch(range(101), block=False)
            assert getter.get_batch(1000) == batch


@pytest.mark.parametrize("size", [2, 2031, 2032, 2033, 2 * 2032, 2 * 2032 + 1, 70_000])
def test_items_of_several_slots_arrive_from_slots_that_are_new(size: int) -> None:
    with handles(0) as (q, other):
        for number in range(300):
            item = number.to_bytes(2, "little") + os.urandom(size - 2)
            (q if number % 2 else other).put_nowait(item)
            assert (other if number % 2 else q).get_nowait() == item


@pytest.mark.parametrize("size", [AT_ONCE - 1, AT_ONCE, AT_ONCE + 1, 4096, 65_519, 65_520])
def test_items_of_each_size_arrive(size: int) -> None:
    with handles(70) as (q, other):
        for number in range(150):
            item = number.to_bytes(2, "little") + os.urandom(size - 2)
            (q if number % 2 else other).put_nowait(item)
            assert (other if number % 2 else q).get_nowait() == item


def test_numbering_is_idempotent() -> None:
    """Another putter had counted the numbered slots before, and gives them their numbers again."""
    with handles(300) as (q, other):
        for number in range(100):
            q.put(number)
        with q._membership.operation() as record:
            record.words.store(NUMBERED_AT, 1)
        put_all(other, range(100, 300))
        assert q.full()
        assert q.get_batch(300) == list(range(300))


def put_all(q: SharedMemoryQueue, numbers: Iterable[int]) -> None:
    for number in numbers:
        q.put_nowait(number)


class Died(BaseException):
    pass


def test_a_death_in_the_middle_of_numbering_leaves_the_rest_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = itertools.count()
    real = Segment.reserve
    for fatal in range(0, 70, 3):
        with handles(200) as (q, other):
            q.put_nowait(0)

            def reserve(segment: Segment, start: int, length: int, at: int = next(calls) + fatal) -> None:
                if next(calls) > at:
                    raise Died
                real(segment, start, length)

            with monkeypatch.context() as patch:
                patch.setattr(Segment, "reserve", reserve)
                with pytest.raises(Died):
                    put_all(other, range(1, 200))
            done = q.qsize()
            put_all(q, range(done, 200))
            assert other.get_batch(200) == list(range(200))


def test_a_slot_that_has_lost_its_number_is_corrupt() -> None:
    with handles(300) as (q, other):
        for number in range(5):
            q.put(number)
        stride = q._geometry.stride
        with q._membership.operation() as record:
            record.words.store(SLOTS_START + 5 * stride, 0)
        for putter in (q, other):
            with pytest.raises(CorruptQueueError):
                putter.put_nowait(5)
        assert q.get_batch(5) == list(range(5))
        with q._membership.operation() as record:
            record.words.store(SLOTS_START + 5 * stride, 5 << 2)
        q.put(5)
        with q._membership.operation() as record:
            record.words.store(SLOTS_START + 5 * stride, 0)
        for getter in (q, other):
            with pytest.raises(CorruptQueueError):
                getter.get_nowait()


@pytest.mark.parametrize("item", [b"small", LARGE])
def test_a_close_that_finds_no_memory_for_an_item_kept_back_says_so(
    monkeypatch: pytest.MonkeyPatch, item: bytes
) -> None:
    def reserve(segment: Segment, start: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with handles(200) as (q, other):
        other.put(item)
        load = list(range(numbered(q) - 1))  # up to the first slot that has no number
        put_all(other, load)
        assert q.get() == item
        q._membership.keep_back([(item, BYTES)])
        with monkeypatch.context() as patch:
            patch.setattr(Segment, "reserve", reserve)
            with pytest.warns(ResourceWarning, match="1 items"):
                q.close()
        other.put_batch(["more"] * 3, timeout=LONG)
        assert other.get_batch(200) == [*load, *["more"] * 3]
        assert other.get_metrics()["blocked_by"] == []


SMALL_SHARED_MEMORY = """
import errno, os, sys
from shared_multiprocess_queue import Full, JoinableQueue, Queue, SharedMemoryFullError

SIZE = int(sys.argv[1])

def put_until(q, full):
    number = 0
    try:
        while True:
            q.put_nowait(number.to_bytes(2, "little") + bytes(SIZE))
            number += 1
    except full as error:
        assert full is Full or error.errno == errno.ENOSPC, error
    return number

with Queue(1000) as q:
    try:
        q.put_batch([bytes(10)] * 1000, timeout=10)  # there is memory for some of their slots
        raise AssertionError("there was room")
    except SharedMemoryFullError:
        assert q.empty()
q = Queue(1000)
number = put_until(q, SharedMemoryFullError)
assert number > 10, number
items = q.get_batch(1000)
assert [int.from_bytes(item[:2], "little") for item in items] == list(range(number)), (number, items)
assert q.empty() and q.get_metrics()["blocked_by"] == []
os.unlink("/dev/shm/others")
for lap in range(3):  # all its places have room beside an empty system, whatever has been in them
    assert put_until(q, Full) > 20
    assert len(q.get_batch(1000)) > 20
q.close()
open("/dev/shm/others", "wb").write(bytes(2_200_000))
with JoinableQueue() as q:
    for number in range(2):
        q.put(bytes([number]) * 300_000)
    try:
        q.get()
        raise AssertionError("there was memory for the lease")
    except SharedMemoryFullError:
        assert q.get_metrics()["blocked_by"] == []
    os.unlink("/dev/shm/others")
    for number in range(2):
        assert q.get() == bytes([number]) * 300_000
        q.task_done()
    assert q.join(timeout=0)
assert os.listdir("/dev/shm") == [], os.listdir("/dev/shm")
print("done")
"""


@pytest.mark.parametrize("size", [10, 30_000])
def test_a_full_shared_memory_is_an_error_and_no_sigbus(size: int) -> None:
    if shutil.which("unshare") is None or os.geteuid() != 0:
        pytest.skip("needs a mount namespace of its own")
    script = 'mount -t tmpfs -o size=3m tmpfs /dev/shm; head -c 2500000 /dev/zero > /dev/shm/others; exec "$@"'
    prefix = ["unshare", "--mount", "sh", "-ec", script, "sh"]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False, timeout=LONG).returncode != 0:
        pytest.skip("no mount namespace here")
    result = subprocess.run(
        [*prefix, sys.executable, "-c", SMALL_SHARED_MEMORY, str(size)],
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")
