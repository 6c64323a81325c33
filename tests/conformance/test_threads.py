"""Many threads on one queue: every item exactly once."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.queues import MakeQueue
from tests.support.waiting import LONG, in_thread

pytestmark = [
    pytest.mark.usefixtures("engines"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


@pytest.mark.usefixtures("eager", "only_wakes")
@pytest.mark.parametrize("capacity", [1, 3, 16])
def test_many_threads_put_and_get_every_item_exactly_once(make_queue: MakeQueue, capacity: int) -> None:
    q = make_queue(capacity=capacity)
    each = 150

    def produce(me: int) -> None:
        for number in range(each):
            q.put((me, number))

    def consume() -> list[tuple[int, int]]:
        return list(iter(q.get, None))

    producers = [in_thread(produce, me) for me in range(3)]
    consumers = [in_thread(consume) for _ in range(3)]
    for producer in producers:
        producer.result(LONG)
    for _ in consumers:
        q.put(None)
    got = [consumer.result(LONG) for consumer in consumers]
    assert Counter(item for items in got for item in items) == Counter((me, n) for me in range(3) for n in range(each))
    for items in got:  # the order of each producer holds for each consumer
        for me in range(3):
            numbers = [number for who, number in items if who == me]
            assert numbers == sorted(numbers)
    assert q.empty()


@pytest.mark.usefixtures("eager", "only_wakes")
def test_threads_that_share_a_handle_share_its_roles(make: MakeQueue) -> None:
    q = make(capacity=2)

    def produce(me: int) -> None:
        for number in range(100):
            q.put((me, number))

    producers = [in_thread(produce, me) for me in range(2)]
    got = [in_thread(lambda: [q.get() for _ in range(100)]) for _ in range(2)]
    for producer in producers:
        producer.result(LONG)
    assert Counter(item for future in got for item in future.result(LONG)) == Counter(
        (me, number) for me in range(2) for number in range(100)
    )


@pytest.mark.usefixtures("eager")
def test_who_has_put_an_item_always_finds_one(make_queue: MakeQueue) -> None:
    """A cheap probe of linearizability: after a thread's put there is an item for it, whatever the others do."""
    threads = 3
    q = make_queue(capacity=threads)

    def put_then_get(me: int) -> int:
        for number in range(100):
            q.put_nowait((me, number))  # at most one item of each: there is always room
            q.get_nowait()
        return me

    futures = [in_thread(put_then_get, me) for me in range(threads)]
    assert [future.result(LONG) for future in futures] == list(range(threads))
    assert q.empty()
