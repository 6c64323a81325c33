"""Awaited calls: what they return and raise, which comes first, and what the loop has of it."""

from __future__ import annotations

import asyncio
import pickle
import time
from collections.abc import Callable
from queue import Empty, Full
from typing import Any

import pytest

from shared_multiprocess_queue import ShutDown
from shared_multiprocess_queue.errors import ArgumentError, DeserializationError, SerializationError
from tests.support.children import python
from tests.support.queues import MakeQueue
from tests.support.waiting import LONG, in_thread
from tests.tasks.conftest import ENGINES, Pair, Run, asleep


def test_what_is_there_is_taken_at_once(pair: Pair, run: Run[Any]) -> None:
    waker, waiter = pair
    waker.put_batch([1, 2, 3])

    async def main() -> list[int]:
        return [await waiter.get_async(), *await waiter.get_batch_async(5)]

    assert run(main()) == [1, 2, 3]
    assert waiter.get_metrics()["get_waits"] == 0


def test_a_put_wakes_a_task(pair: Pair, run: Run[Any]) -> None:
    waker, waiter = pair

    async def main() -> Any:
        found = []
        for i in range(20):
            task = asyncio.create_task(waiter.get_async())
            await asleep(waiter, "get", i + 1)
            in_thread(waker.put, i)
            found.append(await task)
        assert waiter.get_metrics()["bells"] == "ring"
        return found

    assert run(main()) == list(range(20))


def test_items_with_large_buffers_wait_for_room_as_others_do(pair: Pair, run: Run[Any]) -> None:
    """Their payloads are in pieces, of which a waiting put makes one."""
    _, waiter = pair
    items = [bytearray(3000 * i) for i in (2, 3, 4)]
    wrapped = [{"buffer": pickle.PickleBuffer(item)} for item in items]

    async def main() -> Any:
        await waiter.put_batch_async([0, 1, 2])
        tasks = [asyncio.create_task(waiter.put_async(wrapped[0]))]
        await asleep(waiter, "put", 1)
        tasks.append(asyncio.create_task(waiter.put_async(wrapped[1])))
        tasks.append(asyncio.create_task(waiter.put_batch_async(wrapped[2:])))
        found = [await waiter.get_async(timeout=LONG) for _ in range(6)]
        await asyncio.gather(*tasks)
        return found

    assert run(main()) == [0, 1, 2, *({"buffer": item} for item in items)]


@pytest.mark.parametrize("is_batch", [False, True])
@pytest.mark.parametrize("engine", ENGINES)
def test_other_tasks_may_change_a_buffer_while_its_put_waits(
    make_queue: MakeQueue, run: Run[Any], engine: str, is_batch: bool
) -> None:
    queue = make_queue(capacity=1, item_size=10_000, engine=engine)
    mine = bytearray(b"x" * 5000)

    async def main() -> Any:
        await queue.put_async(0)
        buffer = pickle.PickleBuffer(mine)
        task = asyncio.create_task(queue.put_batch_async([buffer]) if is_batch else queue.put_async(buffer))
        await asleep(queue, "put", 1)
        mine[:] = bytes(5000)
        found = [await queue.get_async(), await queue.get_async()]
        await task
        return found

    assert run(main()) == [0, b"x" * 5000]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_put_of_several_slots_that_waits_keeps_single_puts_out(
    make_queue: MakeQueue, run: Run[Any], engine: str
) -> None:
    """As a batch does; otherwise they would take each slot that becomes free."""
    queue = make_queue(capacity=2, item_size=64, max_item_size=128, engine=engine)
    queue.put_batch([1, 2])

    async def main() -> Any:
        task = asyncio.create_task(queue.put_async(b"x" * 128))
        await asleep(queue, "put")
        found = [queue.get()]
        with pytest.raises(Full):
            queue.put_nowait("single")
        found.append(queue.get())
        await task
        return [*found, queue.get()]

    assert run(main()) == [1, 2, b"x" * 128]


def test_a_get_wakes_a_task_that_puts(pair: Pair, run: Run[Any]) -> None:
    waker, waiter = pair

    async def main() -> Any:
        for i in range(3):
            await waiter.put_async(i)
        for i in range(3, 20):
            task = asyncio.create_task(waiter.put_async(i))
            await asleep(waiter, "put", i - 2)
            assert waker.get() == i - 3
            await task
        return waker.get_batch(3)

    assert run(main()) == [17, 18, 19]


def test_a_call_ends_in_time(pair: Pair, run: Run[Any]) -> None:
    _, waiter = pair

    async def main() -> None:
        for timeout in (0, 0.03):
            start = time.monotonic()
            with pytest.raises(Empty):
                await waiter.get_async(timeout)
            with pytest.raises(Empty):
                await waiter.get_batch_async(2, timeout=timeout)
            assert time.monotonic() - start >= 2 * timeout - 0.002  # the timers of uvloop count whole milliseconds
        await waiter.put_batch_async([1, 2])
        for timeout in (0, 0.03):
            with pytest.raises(Full):
                await waiter.put_batch_async([3, 4], timeout=timeout)
        await waiter.put_async(3, timeout=0)
        for timeout in (0, 0.03):
            with pytest.raises(Full):
                await waiter.put_async(4, timeout)

    run(main())
    metrics = waiter.get_metrics()
    assert (metrics["empty_events"], metrics["full_events"]) == (4, 4)
    assert waiter.get_batch(5) == [1, 2, 3]
    waiter.put_nowait("the gate is open, and the lock is free")
    waiter.put_batch([1, 2], block=False)


def test_a_call_without_time_gives_other_tasks_a_turn(pair: Pair, run: Run[Any]) -> None:
    _, waiter = pair

    async def main() -> Any:
        putting = asyncio.create_task(waiter.put_async("by another task"))
        got = await waiter.get_async(timeout=0)
        await putting
        return got

    assert run(main()) == "by another task"


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_a_time_that_cannot_be_is_refused_first(pair: Pair, run: Run[Any], timeout: float) -> None:
    _, waiter = pair
    waiter.put(1)
    calls: list[Callable[[], Any]] = [
        lambda: waiter.get_async(timeout),
        lambda: waiter.get_batch_async(2, timeout),
        lambda: waiter.put_async(2, timeout),
        lambda: waiter.put_batch_async([2], timeout),
        lambda: waiter.get_batch_async(0),
        lambda: waiter.put_batch_async(range(4)),
    ]
    for call in calls:
        with pytest.raises(ArgumentError):
            run(call())
    assert waiter.get_batch(5) == [1]


def test_errors_of_items(pair: Pair, run: Run[Any]) -> None:
    waker, waiter = pair

    async def main() -> None:
        with pytest.raises(SerializationError):
            await waiter.put_async(i for i in range(3))
        task = asyncio.create_task(waiter.get_async())
        await asleep(waiter, "get")
        waker.put(Unreadable())
        with pytest.raises(DeserializationError):
            await task
        waker.put("next")
        assert await waiter.get_async() == "next"

    run(main())


def _fail() -> None:
    raise RuntimeError("cannot be read")


class Unreadable:
    def __reduce__(self) -> Any:
        return _fail, ()


class Counted:
    written = 0

    def __reduce__(self) -> Any:
        Counted.written += 1
        return Counted, ()


@pytest.mark.parametrize("count", [1, 2])
def test_an_item_is_serialised_once(pair: Pair, run: Run[Any], count: int) -> None:
    waker, waiter = pair
    waiter.put_batch([1, 2, 3])

    async def main() -> None:
        Counted.written = 0
        if count == 1:
            task = asyncio.create_task(waiter.put_async(Counted()))
        else:
            task = asyncio.create_task(waiter.put_batch_async([Counted(), Counted()]))
        await asleep(waiter, "put")
        waker.get()
        await asyncio.sleep(0.01)
        waker.get()
        await task

    run(main())
    assert Counted.written == count
    assert isinstance(waker.get_batch(3)[-1], Counted)


def test_tasks_get_in_the_order_in_which_they_came(pair: Pair, run: Run[Any]) -> None:
    waker, waiter = pair

    async def main() -> Any:
        tasks = []
        for i in range(6):
            tasks.append(asyncio.create_task(waiter.get_async()))
            if i < 5:
                await asyncio.sleep(0)
        await asleep(waiter, "get", 6)
        for item in range(3):
            waker.put(item)
        newcomer = asyncio.create_task(waiter.get_async())
        first = await asyncio.gather(*tasks[:3])
        for item in range(3, 6):
            waker.put(item)
        second = await asyncio.gather(*tasks[3:])
        assert not newcomer.done()
        waker.put("last")
        return [*first, *second, await newcomer]

    assert run(main()) == [*range(6), "last"]


def test_tasks_put_in_the_order_in_which_they_came(pair: Pair, run: Run[Any]) -> None:
    waker, waiter = pair

    async def main() -> Any:
        tasks = [asyncio.create_task(waiter.put_async(i)) for i in range(4)]
        tasks.append(asyncio.create_task(waiter.put_batch_async([4, 5])))
        tasks.append(asyncio.create_task(waiter.put_async(6)))
        got: list[int] = []
        while len(got) < 7:
            got.append(await waker.get_async())
        await asyncio.gather(*tasks)
        return got

    assert run(main()) == list(range(7))


def test_one_item_lets_one_task_look(pair: Pair, run: Run[Any]) -> None:
    """There is no herd: of ten loops, and of ten tasks of a loop, one looks; and then one more that finds nothing."""
    waker, waiter = pair

    async def main() -> int:
        tasks = [asyncio.create_task(waiter.get_async()) for _ in range(10)]
        await asleep(waiter, "get", 10)
        before = waiter.get_metrics()["get_waits"]
        waker.put(1)
        await tasks[0]
        for _ in range(10):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        slept: int = waiter.get_metrics()["get_waits"] - before
        return slept

    assert run(main()) == 1


def test_iteration_ends_with_the_queue(pair: Pair, run: Run[Any]) -> None:
    waker, waiter = pair

    async def main() -> Any:
        def put_all() -> None:
            for i in range(50):
                waker.put(i)
            waker.shutdown()

        in_thread(put_all)
        return [item async for item in waiter]

    assert run(main()) == list(range(50))


def test_shutdown_ends_calls_that_wait(pair: Pair, run: Run[Any]) -> None:
    waker, waiter = pair

    async def main() -> None:
        getting = [asyncio.create_task(waiter.get_async()) for _ in range(2)]
        await asleep(waiter, "get", 2)
        waker.shutdown()
        for task in getting:
            with pytest.raises(ShutDown):
                await task

    run(main())


def test_shutdown_ends_puts_that_wait(pair: Pair, run: Run[Any]) -> None:
    waker, waiter = pair
    waker.put_batch([1, 2, 3])

    async def main() -> None:
        putting = [asyncio.create_task(waiter.put_batch_async([4, 5])), asyncio.create_task(waiter.put_async(6))]
        await asleep(waiter, "put", 2)
        waker.shutdown()
        for task in putting:
            with pytest.raises(ShutDown):
                await task

    run(main())
    assert waker.get_batch(5) == [1, 2, 3]


def test_a_loop_that_always_finds_something_has_turns(pair: Pair, run: Run[Any]) -> None:
    _, waiter = pair

    async def main() -> int:
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(others())
        for _ in range(300):
            await waiter.put_async(1)
            await waiter.get_async()
        task.cancel()
        return turns

    assert run(main()) >= 8


def test_an_item_kept_back_wakes_a_task(pair: Pair, run: Run[Any]) -> None:
    _, waiter = pair

    async def main() -> Any:
        task = asyncio.create_task(waiter.get_async())
        await asleep(waiter, "get")
        waiter._membership.keep_back([(b"\x80\x04\x8c\x04back\x94.", 0)])
        with waiter._membership.operation() as record:
            waiter._membership.wake_all(record.words)
        return await task

    assert run(main()) == "back"


def test_nothing_is_imported_or_opened_before_a_call_waits() -> None:
    program = """if True:
        import os, sys
        from shared_multiprocess_queue import SharedMemoryQueue
        with SharedMemoryQueue() as q:
            q.put(1), q.get()
            doors = {f"shared_multiprocess_queue._engine.{name}" for name in ("awaiting", "tasks")}
            assert not doors & set(sys.modules)  # of asyncio, which the package shared_memory_lock imports, too
            import asyncio
            async def main():
                before = len(os.listdir("/proc/self/fd"))
                await q.put_async(1)
                assert await q.get_async() == 1
                assert len(os.listdir("/proc/self/fd")) == before
            asyncio.run(main())
    """
    python(program)
