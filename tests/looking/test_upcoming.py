"""The items that gets will come to next are copied whole, shown without running code, and none is taken."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from fractions import Fraction
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_multiprocess_queue import CorruptQueueError, LayoutVersionError
from shared_multiprocess_queue._codec import tags
from shared_multiprocess_queue._ring import layout
from shared_multiprocess_queue.looking.items import Items, QueuedItem
from shared_multiprocess_queue.looking.previews import KINDS, loaded, preview
from stress.hostile import staging
from tests.support.looks import path_of
from tests.support.queues import MakeQueue
from tests.support.waiting import LONG

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at segments as files")


def upcoming(run_id: str, most: int = 100) -> list[QueuedItem]:
    items = Items("q", run_id)
    try:
        return list(items.next(most))
    finally:
        items.close()


def test_items_in_order_and_after_laps(make_queue: MakeQueue, run_id: str, each_engine: str) -> None:
    q = make_queue(capacity=3)
    for lap in range(3):
        q.put_batch([b"a%d" % lap, b"b%d" % lap])
        assert [(one.position, one.payload, one.tag) for one in upcoming(run_id)] == [
            (2 * lap, b"a%d" % lap, tags.BYTES),
            (2 * lap + 1, b"b%d" % lap, tags.BYTES),
        ]
        assert len(upcoming(run_id, 1)) == 1
        q.get_batch(2)
    assert upcoming(run_id) == []


def test_what_came_back_is_first(make_queue: MakeQueue, run_id: str, each_engine: str) -> None:
    q = make_queue(capacity=5, leases=3)
    q.put_batch([b"a", b"b", b"c"])
    with q.lease() as kept:
        q.lease().release()
        found = upcoming(run_id)
        assert [(one.position, one.note, one.payload) for one in found] == [(1, "came back", b"b"), (2, "", b"c")]
        assert kept.raw == b"a"


def test_puts_under_way_and_batches_that_are_not_visible(make_queue: MakeQueue, run_id: str) -> None:
    q = make_queue(capacity=5, engine="atomics")
    stage = staging.Stage(q)
    stage.place(10, 1)
    stage.slot(11, layout.FREE)
    stage.slot(12, layout.FULL, meta=tags.BYTES | 1 << layout.TAG_BITS)  # the second of a batch
    stage.slot(13, layout.TOMB)
    stage.slot(14, layout.FULL, payload=b"last")
    stage.write(layout.TAIL, 15)
    assert [(one.position, one.note) for one in upcoming(run_id)] == [
        (10, ""),
        (11, "under way"),
        (12, "under way"),
        (14, ""),
    ]
    stage.write(layout.SLOTS_START + 14 % 5 * stage.geometry.stride + layout.SLOT_LENGTH, 1 << 31)
    assert upcoming(run_id)[-1] == QueuedItem(14, "damaged")


@pytest.mark.parametrize("state", [*staging.STATES])
def test_peeks_at_any_state_end(make_queue: MakeQueue, run_id: str, state: str) -> None:
    q = make_queue(capacity=3, engine="atomics")
    staging.STATES[state](staging.Stage(q), Random(3))
    before = path_of(q).read_bytes()
    assert len(upcoming(run_id)) <= 3
    assert path_of(q).read_bytes() == before


@pytest.mark.parametrize("leases", [0, 2])
def test_an_item_of_several_slots_is_one(make_queue: MakeQueue, run_id: str, each_engine: str, leases: int) -> None:
    q = make_queue(capacity=6, item_size=8, max_item_size=48, leases=leases)
    batch = [bytes(range(17)), b"", bytes(range(16))]
    for _ in range(3):  # from another slot each time
        q.put_batch(batch, block=False)
        assert [(one.payload, one.note) for one in upcoming(run_id)] == [(item, "") for item in batch]
        if leases:
            q.lease(block=False).release()
            assert [one.payload for one in upcoming(run_id)] == batch
        for item in batch:
            assert q.get_nowait() == item
            if leases:
                q.task_done()
        q.put(b"")
        q.get_nowait()
        if leases:
            q.task_done()


def test_a_large_item_that_cannot_be_is_damaged(make_queue: MakeQueue, run_id: str) -> None:
    q = make_queue(capacity=3, item_size=8, max_item_size=24, engine="atomics")
    q.put(bytes(20))
    stage = staging.Stage(q)
    at = layout.SLOTS_START + stage.geometry.stride + layout.SLOT_LENGTH
    stage.write(at, 8 | 1 << 32)  # the second slot is no later part any more
    assert next(one.note for one in upcoming(run_id)) == "damaged"


def test_what_cannot_be_peeked_at(make_queue: MakeQueue, run_id: str) -> None:
    q = make_queue(engine="atomics")
    staging.Stage(q).write(layout.CAPACITY_AT, 1 << 40)
    with pytest.raises(CorruptQueueError):
        Items("q", run_id)
    staging.Stage(q).write(layout.VERSION_AT, 9)
    with pytest.raises(LayoutVersionError):
        Items("q", run_id)


TRAFFIC = """
import sys, time
from shared_multiprocess_queue import SharedMemoryQueue
q = SharedMemoryQueue("q", run_id=sys.argv[1], engine=sys.argv[2])
print("here", flush=True)
number = 0
while True:
    for _ in range(3):
        q.put(number.to_bytes(8, "big") * (1 + number % 20))
        number += 1
    time.sleep(0.0002)  # or a look would find the queue empty nearly always
    q.get(); q.get(); q.get()
"""


def test_under_traffic_every_item_is_whole(make_queue: MakeQueue, run_id: str, each_engine: str) -> None:
    """The item of a position is that position, repeated as often as follows from it."""
    make_queue(capacity=4, item_size=160)
    command = [sys.executable, "-c", TRAFFIC, run_id, each_engine]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "here\n"
            items = Items("q", run_id)
            seen: set[int] = set()
            while len(seen) < 500:
                positions = []
                for one in items.next(4):
                    positions.append(one.position)
                    if one.payload is not None:
                        assert one.payload == one.position.to_bytes(8, "big") * (1 + one.position % 20)
                        seen.add(one.position)
                assert positions == sorted(set(positions))
            items.close()
        finally:
            process.kill()
    assert process.wait(LONG)


# ---- what they are --------------------------------------------------------------------------------------------------


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("echo it went off",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (Bomb(), {"posix.system"}),
        (OrderedDict(a=Fraction(1, 3), b=Fraction(1, 4)), {"collections.OrderedDict", "fractions.Fraction"}),
    ],
)
def test_pickles_are_named(item: object, expected: set[str], protocol: int) -> None:
    found = preview(pickle.dumps(item, protocol), tags.PICKLE, 100)
    assert expected <= set(found.replace(",", " ").split())


def test_the_outermost_object_of_a_pickle_is_named() -> None:
    assert preview(pickle.dumps({"a": [1, 2]}), tags.PICKLE, 100) == "dict"
    assert preview(pickle.dumps([Fraction(1, 3)]), tags.PICKLE, 100) == "list, with fractions.Fraction"
    assert preview(pickle.dumps(5), tags.PICKLE, 100) == "a constant"
    many = [type(f"C{i}", (), {"__module__": __name__, "__reduce__": lambda self, i=i: f"C{i}"})() for i in range(20)]
    globals().update({f"C{i}": one for i, one in enumerate(many)})
    assert preview(pickle.dumps(many), tags.PICKLE, 100).endswith(", ...")


@given(payload=st.binary(max_size=200), tag=st.sampled_from([*KINDS, 12, 200, 255]))
def test_any_bytes_have_a_preview(payload: bytes, tag: int) -> None:
    assert isinstance(preview(payload, tag, 100), str)


def test_what_is_loaded(make_queue: MakeQueue, run_id: str) -> None:
    q = make_queue()
    q.put(Fraction(1, 3))
    items = Items("q", run_id)
    (one,) = items.next(1)
    assert one.payload is not None
    assert one.tag is not None
    assert loaded(one.payload, one.tag, items, 4096) == "Fraction(1, 3)"
    assert loaded(one.payload[:-3], one.tag, items, 4096).startswith("(cannot be loaded: ")
    items.close()


DEFINES = """
import sys
from shared_multiprocess_queue import SharedMemoryQueue
class Job:
    def __init__(self, number): self.number = number
    def __repr__(self): return f"Job({self.number})"
q = SharedMemoryQueue("q", run_id=sys.argv[1])
q.put(Job(7))
"""


def test_an_item_of_another_programs_main_is_loaded_by_its_definition(make_queue: MakeQueue, run_id: str) -> None:
    make_queue()
    subprocess.run([sys.executable, "-c", DEFINES, run_id], check=True, timeout=LONG)
    items = Items("q", run_id)
    (one,) = items.next(1)
    assert one.payload is not None
    assert one.tag == tags.MAIN
    assert "Job" in preview(one.payload, one.tag, 4096)
    assert loaded(one.payload, one.tag, items, 4096) == "Job(7)"
    items.close()
