"""Ctrl-C at every point of an item in place: before the block, at its end, and in ``get_into``."""

from __future__ import annotations

import gc
import itertools
import pickle
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from shared_multiprocess_queue import QueueClosedError
from tests.support.interrupting import interrupted_at, interrupted_with_traceback
from tests.support.queues import MakeQueue, assert_works, drained

pytestmark = pytest.mark.usefixtures("each_engine")

FEW = 5  # points that each call has at least, in the native engine


def points(operation: Callable[[], object]) -> Iterator[str]:
    for point in itertools.count():
        where = interrupted_at(point, operation)
        if where is None:
            assert point > FEW
            return
        yield where


def test_an_interrupted_reservation_happened_or_did_not(make_queue: MakeQueue, mode: str) -> None:
    queue = make_queue(capacity=1, mode=mode)
    outcomes = set()

    def put() -> None:
        with queue.reserve(4) as memory:
            memory[:] = b"item"

    for where in points(put):
        found = drained(queue)
        assert found in ([], [b"item"]), f"interrupted at {where}"
        outcomes.add(len(found))
        assert_works(queue)
    assert drained(queue) == [b"item"]
    assert 0 in outcomes


def test_an_interrupted_view_has_shown_its_item_or_left_it(make_queue: MakeQueue, mode: str) -> None:
    queue = make_queue(capacity=1, mode=mode)
    seen: list[bytes] = []
    outcomes = set()

    def look() -> None:
        with queue.view() as memory:
            seen.append(bytes(memory))

    queue.put(b"item")
    for where in points(look):
        assert drained(queue) + seen == [b"item"], f"interrupted at {where}"
        outcomes.add(len(seen))
        seen.clear()
        assert_works(queue)
        queue.put(b"item")
    assert seen == [b"item"]
    assert outcomes == {0, 1}
    assert_works(queue)


def test_an_interrupted_close_gives_away_no_item_that_was_shown(make_queue: MakeQueue) -> None:
    queue = make_queue(capacity=1)
    for point in itertools.count():
        queue.put(b"item")
        other = pickle.loads(pickle.dumps(queue))
        block = other.view()
        assert bytes(block.__enter__()) == b"item"
        where = interrupted_at(point, other.close)
        with suppress(QueueClosedError):
            block.__exit__(None, None, None)
        other.close()
        del block
        gc.collect()
        assert drained(queue) == [], f"interrupted at {where}"
        assert queue.get_metrics()["blocked_by"] == []
        assert_works(queue)
        if where is None:
            break
    assert point > FEW


@pytest.mark.parametrize("kept", [False, True])
def test_an_interrupted_get_into_loses_no_item(make_queue: MakeQueue, mode: str, kept: bool) -> None:
    queue = make_queue(capacity=1, mode=mode)
    buffer = bytearray(4)
    sizes: list[int] = []

    def prepare() -> None:
        if kept:
            queue._membership.keep_back([(b"item", 1)])
        else:
            queue.put(b"item")

    prepare()
    for point in itertools.count():
        where = interrupted_at(point, lambda: sizes.append(queue.get_into(buffer)))
        if where is None:
            break
        assert drained(queue) == [b"item"] * (not sizes), f"interrupted at {where}"
        sizes.clear()
        assert_works(queue)
        prepare()
    assert point > 1
    assert (sizes, bytes(buffer)) == ([4], b"item")
    assert_works(queue)


@pytest.mark.parametrize("what", ["reserve", "view"])
def test_an_interrupted_block_lets_go_though_its_traceback_is_kept(make_queue: MakeQueue, what: str) -> None:
    """But for the point before the first step of its end, which nothing can guard: there it waits for the traceback."""
    queue = make_queue(capacity=1)

    def block() -> None:
        with queue.reserve(4) if what == "reserve" else queue.view() as memory:
            bytes(memory)

    late = set()
    for point in itertools.count():
        if what == "view":
            queue.put(b"item")
        where, error = interrupted_with_traceback(point, block)
        if where is None:
            break
        if queue.get_metrics()["blocked_by"]:
            late.add(where)
            del error
            gc.collect()
        drained(queue)
        assert_works(queue)
    (start,) = late
    assert "__exit__" in start
    assert point > FEW
