"""Tasks that are cancelled, or whose time is over: nothing is lost, nothing comes twice, no other waits for them."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import random
import threading
from queue import Empty, Full
from typing import Any

import pytest

from shared_multiprocess_queue import LeasesHeldError, SharedMemoryQueue
from tests.support.queues import MakeQueue
from tests.support.waiting import LONG, in_thread
from tests.tasks.conftest import Pair, Run, asleep, sides_of


async def cancelled(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with pytest.raises(asyncio.CancelledError):
            await task


def test_the_next_task_answers_for_one_that_was_rung(pair: Pair, run: Run[Any]) -> None:
    """The first of three is cancelled after the ring, before it looks; and again, before the loop hears the ring."""
    waker, waiter = pair

    async def main() -> Any:
        tasks = [asyncio.create_task(waiter.get_async()) for _ in range(3)]
        await asleep(waiter, "get", 3)
        waker.put("one")
        await cancelled(tasks[0])  # the ring is not heard yet
        got = [await tasks[1]]
        (side,) = sides_of(waiter)
        tasks = [tasks[2], asyncio.create_task(waiter.get_async())]
        await asleep(waiter, "get", 5)
        waker.put("two")
        side.hear()  # the first is about to look
        await cancelled(tasks[0])
        got.append(await tasks[1])
        return got

    assert run(main()) == ["one", "two"]


@pytest.mark.parametrize("is_heard", [True, False])
def test_the_last_task_passes_a_ring_on(pair: Pair, run: Run[Any], is_heard: bool) -> None:
    waker, waiter = pair

    async def main(other: SharedMemoryQueue) -> Any:
        tasks = {q: asyncio.create_task(q.get_async()) for q in (waiter, other)}
        await asleep(waiter, "get", 2)
        sides = {q: sides_of(q)[0] for q in tasks}
        first, second = sorted(tasks, key=lambda q: sides[q].opened().index)  # the first is rung
        waker.put("passed on")
        if is_heard:
            sides[first].hear()
        await cancelled(tasks[first])
        return await tasks[second]

    with SharedMemoryQueue(waiter.name, run_id=waiter.run_id, engine=waiter.engine) as other:
        assert run(main(other)) == "passed on"


def test_a_cancelled_put_is_not_put(pair: Pair, run: Run[Any]) -> None:
    waker, waiter = pair
    waker.put_batch([1, 2, 3])

    async def main() -> None:
        single = asyncio.create_task(waiter.put_async("never"))
        batch = asyncio.create_task(waiter.put_batch_async(["never", "either"]))
        last = asyncio.create_task(waiter.put_async(4))
        await asleep(waiter, "put", 3)
        waker.get()
        await cancelled(single, batch)
        await last

    run(main())
    assert waker.get_batch(5) == [2, 3, 4]


def test_a_cancelled_batch_lets_others_put(pair: Pair, run: Run[Any]) -> None:
    """It gives back the lock, and opens the gate, at once."""
    waker, waiter = pair
    waker.put_batch([1, 2, 3])

    async def main() -> None:
        first = asyncio.create_task(waiter.put_batch_async([4, 5]))
        await asleep(waiter, "put")
        waker.get()
        with pytest.raises(Full):
            waker.put_nowait("the gate is shut")
        await cancelled(first)
        waker.put_nowait(6)

    run(main())
    assert waker.get_batch(5) == [2, 3, 6]
    waker.put_batch([1, 2, 3], block=False)


def test_batches_take_turns(pair: Pair, run: Run[Any]) -> None:
    """One that awaits the lock is rung when another, of another handle, leaves it: put, cancelled, or of a thread."""
    waker, waiter = pair
    waker.put_batch([1, 2, 3])

    async def main(other: SharedMemoryQueue) -> None:
        first = asyncio.create_task(other.put_batch_async([4, 5]))
        await asleep(waiter, "put")
        second = asyncio.create_task(waiter.put_batch_async([6, 7]))
        await asleep(waiter, "put", 2)
        assert waker.get_batch(2) == [1, 2]
        await first
        assert waker.get_batch(5) == [3, 4, 5]
        await second
        assert waker.get_batch(5) == [6, 7]
        waker.put_batch([1, 2, 3])
        sleeping = waiter.get_metrics()["put_waits"]
        first = asyncio.create_task(other.put_batch_async([4, 5]))
        await asleep(waiter, "put", sleeping + 1)
        second = asyncio.create_task(waiter.put_batch_async([6]))
        await asleep(waiter, "put", sleeping + 2)
        await cancelled(first)
        waker.get()
        await second
        assert waker.get_batch(5) == [2, 3, 6]

    with SharedMemoryQueue(waiter.name, run_id=waiter.run_id, engine=waker.engine) as other:
        run(main(other))


def test_a_batch_of_a_thread_wakes_one_that_awaits_its_turn(pair: Pair, run: Run[Any]) -> None:
    waker, waiter = pair
    waker.put_batch([1, 2, 3])

    async def main() -> None:
        putting = in_thread(waker.put_batch, [4, 5, 6])
        await asleep(waiter, "put")
        second = asyncio.create_task(waiter.put_batch_async([7]))
        await asleep(waiter, "put", 2)
        assert await asyncio.to_thread(waiter.get_batch, 3) == [1, 2, 3]
        await asyncio.wrap_future(putting)
        assert waiter.get() == 4
        await second

    run(main())
    assert waiter.get_batch(5) == [5, 6, 7]


def test_a_time_that_ends_when_an_item_comes_loses_nothing(pair: Pair, run: Run[Any]) -> None:
    waker, waiter = pair

    async def main() -> int:
        got = 0
        for i in range(300):
            waker.put(i)
            try:
                assert await asyncio.wait_for(waiter.get_async(), 0.0 if i % 3 else 1e-9) == got
                got += 1
            except TimeoutError:
                assert waiter.get_nowait() == got
                got += 1
            task = asyncio.create_task(waiter.get_async(timeout=1e-6 * (i % 50)))
            await asyncio.sleep(1e-6 * (i % 40))
            waker.put(i)
            try:
                assert await task == i
            except Empty:
                assert waiter.get_nowait() == i
        return got

    assert run(main()) == 300


def _consume(q: SharedMemoryQueue, run: Run[Any], items: int, seed: int) -> collections.Counter[int]:
    """Await items by many tasks, and end tasks at random."""
    chance = random.Random(seed)
    got: collections.Counter[int] = collections.Counter()

    async def get() -> None:
        kind = chance.randrange(4)
        if kind == 0:
            got[await q.get_async()] += 1
        elif kind == 1:
            got.update(await q.get_batch_async(3))
        elif kind == 2:
            got[await q.get_async(timeout=chance.random() * 1e-3)] += 1
        else:
            async with asyncio.timeout(chance.random() * 1e-3):
                got[await q.get_async()] += 1

    async def main() -> None:
        tasks: set[asyncio.Task[None]] = set()
        while got.total() < items:
            while len(tasks) < 8:
                tasks.add(asyncio.create_task(get()))
            await asyncio.sleep(chance.random() * 2e-4)
            for task in chance.sample(sorted(tasks, key=id), chance.randrange(4)):
                task.cancel()
            for task in [task for task in tasks if task.done()]:
                tasks.remove(task)
                if not task.cancelled() and (error := task.exception()) is not None:
                    assert isinstance(error, Empty | TimeoutError), error
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run(main())
    return got


def test_every_item_comes_once_whatever_is_cancelled(pair: Pair, run: Run[Any]) -> None:
    waker, waiter = pair
    items = 2000
    putting = in_thread(lambda: [waker.put(i) for i in range(items)])
    got = _consume(waiter, run, items, seed=1)
    putting.result()
    assert got == collections.Counter(range(items))


def test_what_is_put_comes_once_whatever_is_cancelled(pair: Pair, run: Run[Any]) -> None:
    waker, waiter = pair
    chance = random.Random(2)
    put: set[int] = set()
    is_over = threading.Event()
    got: list[int] = []

    def consume() -> None:
        while not (is_over.is_set() and waker.empty()):
            with contextlib.suppress(Empty):
                got.extend(waker.get_batch(2, timeout=0.01))

    async def putting(i: int) -> None:
        items = [i] if i % 3 else [i, -i]
        if len(items) == 1:
            await waiter.put_async(i, timeout=chance.choice([None, 1e-3]))
        else:
            await waiter.put_batch_async(items, timeout=chance.choice([None, 1e-3]))
        put.update(items)

    async def main() -> None:
        tasks: list[asyncio.Task[None]] = []
        for i in range(1, 1200):
            tasks.append(asyncio.create_task(putting(i)))
            if i % 8 == 0:
                await asyncio.sleep(chance.random() * 1e-3)
                for task in chance.sample(tasks[-20:], 3) if i > 20 else []:
                    task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert not [error for error in done if error and not isinstance(error, Full | asyncio.CancelledError)]

    consuming = in_thread(consume)
    run(main())
    is_over.set()
    consuming.result()
    assert sorted(got) == sorted(put)
    assert len(put) > 500
    waker.put_batch([1, 2, 3], block=False)


def test_a_lease_of_a_cancelled_task_comes_back(make_queue: MakeQueue, each_engine: Any, run: Run[Any]) -> None:
    jobs = make_queue(capacity=3, leases=2, engine=each_engine)

    async def main() -> None:
        started: asyncio.Queue[str] = asyncio.Queue()

        async def work() -> None:
            async with jobs.lease_async() as lease:
                started.put_nowait(lease.item)
                await asyncio.sleep(100 if lease.deliveries == 1 else 0)

        first = asyncio.create_task(work())
        await asleep(jobs, "get")
        jobs.put("a job")
        assert await started.get() == "a job"
        second = asyncio.create_task(work())
        await asleep(jobs, "get", 2)
        await cancelled(first)
        await second

    run(main())
    assert jobs.join(timeout=0)


def test_a_lease_that_ends_wakes_a_task(make_queue: MakeQueue, each_engine: Any, run: Run[Any]) -> None:
    """Tasks of one thread wait for each other's leases, of get_async, too."""
    jobs = make_queue(capacity=3, leases=1, engine=each_engine)
    jobs.put_batch([1, 2, 3])

    async def main() -> None:
        assert await jobs.get_async() == 1
        getting = asyncio.create_task(jobs.get_async())
        await asleep(jobs, "get")
        jobs.task_done()
        assert await getting == 2
        leasing = asyncio.ensure_future(jobs.lease_async())
        await asleep(jobs, "get", 2)
        jobs.task_done()
        lease = await leasing
        assert lease.item == 3
        lease.done()

    run(main())
    assert jobs.join(timeout=0)


def test_the_only_task_does_not_wait_for_its_own_leases(make_queue: MakeQueue, each_engine: Any) -> None:
    jobs = make_queue(capacity=4, leases=2, engine=each_engine)
    jobs.put_batch([1, 2, 3, 4])
    found: list[Any] = []

    async def take_all() -> None:
        async for item in jobs:
            found.append(item)

    async def main() -> None:
        async with asyncio.timeout(LONG):  # which is no task, as wait_for is on Python 3.11
            with pytest.raises(LeasesHeldError, match="all 2 leases"):
                await take_all()
            for call in (jobs.get_async, jobs.lease_async):
                with pytest.raises(LeasesHeldError):
                    await call(timeout=LONG)
            with pytest.raises(Empty):
                await jobs.get_async(timeout=0)
            jobs.task_done()
            found.append(await jobs.get_async())

    asyncio.run(main())
    assert found == [1, 2, 3]
