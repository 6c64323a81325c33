"""The calls of a remote queue in tasks of an event loop."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest

from shared_multiprocess_queue import Empty, Full, QueueClosedError, RemoteQueue, ShutDown
from shared_multiprocess_queue.errors import ArgumentError
from tests.remote.conftest import MakeRemote
from tests.support.servers import Server


def test_tasks_put_and_get_and_wait_for_one_another(make_remote: MakeRemote) -> None:
    q = make_remote(capacity=2)

    async def main() -> list[Any]:
        async def produce() -> None:
            for i in range(10):
                await q.put_async(i)
            await q.put_batch_async([10, 11])

        producer = asyncio.create_task(produce())
        found = [await q.get_async() for _ in range(6)]
        while len(found) < 12:
            found += await q.get_batch_async(4)
        await producer
        with pytest.raises(Empty):
            await q.get_async(timeout=0.05)
        await q.put_batch_async([1, 2])
        with pytest.raises(Full):
            await q.put_async(3, timeout=0.05)
        await asyncio.to_thread(q.shutdown)
        with pytest.raises(ShutDown):
            await q.put_async(3)
        found += [item async for item in q]
        await q.aclose()
        with pytest.raises(QueueClosedError):
            await q.get_async()
        return found

    assert asyncio.run(main()) == [*range(12), 1, 2]


def test_many_tasks_wait_at_once(make_remote: MakeRemote) -> None:
    q = make_remote(capacity=3)

    async def main() -> None:
        getters = [asyncio.create_task(q.get_async()) for _ in range(20)]
        await asyncio.sleep(0)
        for i in range(20):
            await q.put_async(i)
        assert sorted(await asyncio.gather(*getters)) == list(range(20))
        await q.aclose()

    asyncio.run(main())


def test_a_lease_in_a_task_is_ended_or_given_back(make_remote: MakeRemote) -> None:
    q = make_remote(leases=2)
    q.put_batch([1, 2])

    async def main() -> None:
        async with q.lease_async() as lease:
            assert lease.item == 1
        with pytest.raises(LookupError):
            async with q.lease_async():
                raise LookupError
        lease = await q.lease_async(timeout=5)
        assert (lease.item, lease.deliveries) == (2, 2)
        await lease.done_async()
        assert await q.join_async(timeout=0)
        await q.aclose()

    asyncio.run(main())


def test_what_lease_async_returns_is_for_one_lease(make_remote: MakeRemote) -> None:
    q = make_remote(leases=2)
    q.put("a")

    async def main() -> None:
        awaited = q.lease_async(timeout=0.2)
        await asyncio.sleep(0.25)  # its time begins when it is awaited
        lease = await awaited
        await lease.done_async()
        with pytest.raises(RuntimeError, match="for one lease"):
            await awaited
        with pytest.raises(TypeError, match="async with"), q.lease_async():
            pass
        with pytest.raises(TypeError, match="cannot be pickled"):
            copy.copy(q.lease_async())
        with pytest.raises(ArgumentError, match="timeout"):
            q.lease_async(timeout=-1)

    asyncio.run(main())


def test_a_step_that_is_cancelled_does_not_end_the_iteration(make_remote: MakeRemote) -> None:
    q = make_remote()

    async def main() -> list[Any]:
        items = aiter(q)
        step = asyncio.ensure_future(anext(items))
        await asyncio.sleep(0.02)
        step.cancel()
        with pytest.raises(asyncio.CancelledError):
            await step
        await q.put_batch_async(["a", "b"])
        await asyncio.to_thread(q.shutdown)
        return [item async for item in items]

    assert asyncio.run(main()) == ["a", "b"]


def test_an_item_of_a_cancelled_task_is_not_lost(make_remote: MakeRemote) -> None:
    q = make_remote(leases=0)

    async def main() -> int:
        for _ in range(20):
            task = asyncio.create_task(q.get_async())
            await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await q.put_async(7)
        found: int = await q.get_async(timeout=60)
        await q.aclose()
        return found

    assert asyncio.run(main()) == 7


def test_a_server_that_restarts_is_waited_for(own_server: Server) -> None:
    async def main() -> None:
        q = RemoteQueue[int](own_server.url(), create=True)
        await q.put_async(1)
        await asyncio.to_thread(own_server.kill)
        get = asyncio.create_task(q.get_async())
        await asyncio.sleep(0.1)
        await asyncio.to_thread(own_server.start)
        assert await get == 1
        await q.aclose()

    asyncio.run(main())
