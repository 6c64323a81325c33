"""Items come out as they went in: first in, first out, lap after lap."""

from __future__ import annotations

import pytest

from shared_multiprocess_queue import Full
from tests.support.queues import MakeQueue, drained

pytestmark = [
    pytest.mark.usefixtures("engines"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


@pytest.mark.parametrize("capacity", [1, 2, 3])
def test_items_come_out_in_the_order_they_went_in_lap_after_lap(make: MakeQueue, capacity: int) -> None:
    q = make(capacity=capacity)
    put = got = 0
    for lap in range(30):
        for _ in range(lap % capacity + 1):
            q.put_nowait(put)
            put += 1
        while got < put:
            assert q.get_nowait() == got
            got += 1


@pytest.mark.parametrize("capacity", [1, 2, 3])
def test_a_queue_that_is_kept_full_wraps_in_order(make: MakeQueue, capacity: int) -> None:
    q = make(capacity=capacity)
    for item in range(capacity):
        q.put_nowait(item)
    for item in range(capacity, 10 * capacity):
        with pytest.raises(Full):
            q.put_nowait("no room")
        assert q.get_nowait() == item - capacity
        q.put_nowait(item)
    assert drained(q) == list(range(9 * capacity, 10 * capacity))


@pytest.mark.parametrize("item", [None, False, 0, "", b"", (), [], {}, 0.0, "ä\0\ud800", b"\0" * 64, 1 << 200])
def test_every_item_comes_back_as_itself_also_those_that_look_like_nothing(make: MakeQueue, item: object) -> None:
    q = make()
    q.put(item)
    q.put_batch([item, item])
    got = [q.get_nowait(), *q.get_batch(2)]
    assert got == [item] * 3
    assert [type(one) for one in got] == [type(item)] * 3


def test_an_item_is_what_it_was_when_it_was_put(make: MakeQueue) -> None:
    q = make()
    item = [1, 2]
    q.put(item)
    item.append(3)
    assert q.get() == [1, 2]


def test_functions_that_only_cloudpickle_can_send_are_items(make: MakeQueue) -> None:
    q = make()
    offset = 3
    q.put(lambda number: number + offset)
    assert q.get()(4) == 7
