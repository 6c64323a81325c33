"""Ctrl-C at every point of a shutdown and of the calls that it ends; items that an interrupted get has kept back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from shared_multiprocess_queue import SharedMemoryQueue, ShutDown
from shared_multiprocess_queue._ring import layout
from tests.support.interrupting import interrupted_at, points
from tests.support.queues import MakeQueue


def refused(operation: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        with pytest.raises(ShutDown):
            operation()

    return run


@pytest.mark.costly
@pytest.mark.parametrize("immediate", [False, True])
def test_an_interrupted_shutdown_happened_or_can_be_called_again(
    make_queue: MakeQueue, mode: str, immediate: bool
) -> None:
    point, outcomes = 0, set()
    while True:
        queue = make_queue(f"q{point}", capacity=2, mode=mode)
        queue.put("there")
        where = interrupted_at(point, lambda: queue.shutdown(immediate))  # noqa: B023 (called at once)
        outcomes.add(queue.is_shutdown)
        queue.shutdown(immediate)
        assert list(queue) == ([] if immediate else ["there"]), f"interrupted at {where}"
        queue.close()
        if where is None:
            break
        point += 1
    assert outcomes == {False, True}


@pytest.mark.costly
@pytest.mark.parametrize("how", ["put", "put_batch", "get"])
def test_an_interrupt_of_a_refused_call_leaves_nothing(make_queue: MakeQueue, mode: str, how: str) -> None:
    queue = make_queue(capacity=2, mode=mode)
    queue.shutdown()
    call = {"put": lambda: queue.put(1), "put_batch": lambda: queue.put_batch([1, 2]), "get": queue.get}[how]
    for _ in points(refused(call)):
        look = queue._membership.look()
        assert look.load(layout.BATCH_OWNER_AT) == 0
        assert all(not record.puts and not record.gets for record in look.participants())
        with pytest.raises(ShutDown):
            queue.get_nowait()


def test_an_interrupted_get_of_the_last_item_keeps_it_for_the_next(make_queue: MakeQueue, mode: str) -> None:
    queue = make_queue(capacity=2, mode=mode)
    queue.put("last")
    queue.shutdown()
    taken: list[object] = []
    for point in range(1000):
        if interrupted_at(point, lambda: taken.append(queue.get())) is None:
            break
        assert queue.qsize() == 1 - len(taken)
    assert taken == ["last"]
    with pytest.raises(ShutDown):
        queue.get()


def holding(queue: SharedMemoryQueue) -> None:
    """Let an interrupted get keep the item back."""
    queue._membership.keep_back([queue._codec.encode("kept")])


@pytest.mark.usefixtures("engines")
def test_what_is_kept_back_at_the_end_is_delivered_by_this_handle(make_queue: MakeQueue) -> None:
    queue = make_queue(capacity=2)
    holding(queue)
    queue.shutdown()
    assert queue.qsize() == 1
    assert list(queue) == ["kept"]


@pytest.mark.usefixtures("engines")
def test_close_says_that_what_was_kept_back_is_lost(make_queue: MakeQueue) -> None:
    queue = make_queue(capacity=2)
    holding(queue)
    queue.shutdown()
    with pytest.warns(ResourceWarning, match="1 items .* are lost with it, as the queue is full, was shut down or"):
        queue.close()


@pytest.mark.usefixtures("engines")
@pytest.mark.filterwarnings("error::ResourceWarning")
def test_what_is_kept_back_is_dropped_by_an_immediate_shutdown(make_queue: MakeQueue) -> None:
    queue = make_queue(capacity=2)
    holding(queue)
    queue.shutdown(immediate=True)
    assert (queue.qsize(), queue.empty(), list(queue)) == (0, True, [])
    queue.close()
