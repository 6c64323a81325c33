"""What a put or get makes possible wakes the call that waits for it."""

from __future__ import annotations

import time

import pytest

from shared_multiprocess_queue import Empty, Full
from tests.support.queues import MakeQueue, drained
from tests.support.waiting import LONG, eventually, in_thread, sleeps

pytestmark = [
    pytest.mark.usefixtures("engines"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


@pytest.mark.usefixtures("only_wakes")
def test_a_put_wakes_a_blocked_get(make: MakeQueue) -> None:
    q = make()
    got = in_thread(q.get)
    eventually(sleeps(q, "get"))
    assert not got.done()
    q.put("wake up")
    assert got.result(LONG) == "wake up"


@pytest.mark.usefixtures("only_wakes")
def test_a_batch_wakes_every_blocked_get_that_it_has_an_item_for(make: MakeQueue) -> None:
    q = make(capacity=3)
    got = [in_thread(q.get) for _ in range(3)]
    eventually(lambda: q.get_metrics()["get_waits"] >= 3)
    q.put_batch([1, 2, 3])
    assert sorted(future.result(LONG) for future in got) == [1, 2, 3]


@pytest.mark.usefixtures("only_wakes")
def test_a_get_wakes_a_blocked_put(make: MakeQueue) -> None:
    q = make(capacity=1)
    q.put("first")
    put = in_thread(q.put, "second")
    eventually(sleeps(q, "put"))
    assert not put.done()
    assert q.get() == "first"
    put.result(LONG)
    assert q.get() == "second"


@pytest.mark.usefixtures("only_wakes")
def test_gets_wake_a_batch_as_soon_as_there_is_room_for_all_of_it(make: MakeQueue) -> None:
    q = make(capacity=3)
    q.put_batch([1, 2, 3])
    put = in_thread(q.put_batch, [4, 5])
    eventually(sleeps(q, "put"))
    assert [q.get(), q.get()] == [1, 2]
    put.result(LONG)
    assert drained(q) == [3, 4, 5]


def test_a_batch_that_has_room_for_a_part_of_it_goes_on_waiting(make: MakeQueue) -> None:
    q = make(capacity=3)
    q.put_batch([1, 2, 3])
    put = in_thread(q.put_batch, [4, 5])
    eventually(sleeps(q, "put"))
    assert q.get() == 1
    before = q.get_metrics()["put_waits"]
    eventually(sleeps(q, "put", before))  # it has looked again, and sleeps again
    assert not put.done(), "there is room for one of the two only"
    assert q.qsize() == 2
    assert q.get() == 2
    put.result(LONG)
    assert drained(q) == [3, 4, 5]


@pytest.mark.usefixtures("only_wakes")
def test_two_who_wait_for_each_other_in_turn_never_miss_a_wake(make_queue: MakeQueue) -> None:
    there, back = make_queue("there", capacity=1), make_queue("back", capacity=1)

    def echo() -> None:
        while (item := there.get()) is not None:
            back.put(item)

    answered = in_thread(echo)
    for number in range(200):
        there.put(number)
        assert back.get(timeout=LONG) == number
    there.put(None)
    answered.result(LONG)


@pytest.mark.costly
@pytest.mark.parametrize("what", ["get", "put", "put_batch"])
def test_who_is_blocked_uses_no_processor_time(make_queue: MakeQueue, what: str) -> None:
    """The bound is on time of the processor, which does not depend on what else the machine does."""
    q = make_queue(capacity=1)

    def blocked() -> float:
        start = time.thread_time()
        if what == "get":
            with pytest.raises(Empty):
                q.get(timeout=1)
        else:
            with pytest.raises(Full):
                q.put(1, timeout=1) if what == "put" else q.put_batch([1], timeout=1)
        return time.thread_time() - start

    if what != "get":
        q.put(0)
    assert in_thread(blocked).result(LONG) < 0.1


@pytest.mark.usefixtures("only_wakes")
def test_a_batch_that_gets_its_room_wakes_the_next_batch(make: MakeQueue) -> None:
    q = make(capacity=3)
    q.put_batch([1, 2, 3])
    puts = [in_thread(q.put_batch, [name] * 3) for name in "ab"]
    eventually(sleeps(q, "put"))
    got = [q.get(timeout=LONG) for _ in range(9)]
    for put in puts:
        put.result(LONG)
    assert got in ([1, 2, 3, *"aaabbb"], [1, 2, 3, *"bbbaaa"])
