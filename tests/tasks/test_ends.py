"""What ends while tasks wait: handles, loops, iterations, leases, and roles."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import errno
import gc
import os
import pickle
import threading
import weakref
from queue import Full
from typing import Any

import pytest

from shared_multiprocess_queue import RoleTakenError, SharedMemoryQueue
from shared_multiprocess_queue._engine import awaiting
from shared_multiprocess_queue._engine.awaiting import Side
from shared_multiprocess_queue._platform import bells
from shared_multiprocess_queue._ring import parking as _parking
from shared_multiprocess_queue.errors import QueueClosedError
from tests.support.queues import MakeQueue
from tests.support.waiting import LONG, in_thread
from tests.tasks.conftest import Pair, Run, asleep, sides_of


def loop_with_call(q: SharedMemoryQueue, calls: int = 1) -> asyncio.AbstractEventLoop:
    """Return a loop in which calls wait."""
    loop = asyncio.new_event_loop()
    before = q.get_metrics()["get_waits"]
    for _ in range(calls):
        loop.create_task(q.get_async())._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.run_until_complete(asyncio.wait_for(asleep(q, "get", before + calls), LONG))
    return loop


# ---- handles --------------------------------------------------------------------------------------------------------


def test_an_error_at_one_side_ends_no_looks_at_others(
    pair: Pair, run: Run[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread closes handles just when the loop looks; a ring is lost at another handle."""
    waker, waiter = pair
    monkeypatch.setattr("shared_multiprocess_queue._engine.awaiting.SLICE", _parking.SLICE // 5)
    looked: set[int] = set()

    def refuse(which: int) -> Any:
        def refusing(*_: Any) -> bool:
            looked.add(which)
            raise QueueClosedError("closed just now")

        return refusing

    async def main() -> Any:
        with contextlib.ExitStack() as stack:
            closing = [stack.enter_context(SharedMemoryQueue(capacity=1, engine=waiter.engine)) for _ in range(8)]
            tasks = [asyncio.create_task(q.get_async()) for q in closing]
            task = asyncio.create_task(waiter.get_async())
            for which, q in enumerate(closing):
                await asleep(q, "get")
                monkeypatch.setattr(q._membership, "waits_rightly", refuse(which))
            await asleep(waiter, "get")
            ring = bells.ring
            monkeypatch.setattr(bells, "ring", lambda nonce, name: True)
            waker.put("found by a look")
            monkeypatch.setattr(bells, "ring", ring)
            found = await task
            while len(looked) < len(closing):
                await asyncio.sleep(0.01)
            for failing in tasks:
                failing.cancel()
            await asyncio.wait(tasks)
            return found

    assert run(main()) == "found by a look"


@pytest.mark.parametrize("puts", [False, True])
def test_a_call_that_gives_the_loop_a_turn_meets_a_close(pair: Pair, run: Run[Any], puts: bool) -> None:
    """Another thread has closed the bells, and has come no further, when one of 64 calls in a row goes on."""
    _, waiter = pair
    if puts:
        waiter.put_batch([1, 2, 3])

    async def main() -> None:
        tasks = [asyncio.create_task(waiter.put_async(4) if puts else waiter.get_async())]
        await asleep(waiter, "put" if puts else "get")
        tasks[0].cancel()
        await asyncio.wait(tasks)
        (side,) = sides_of(waiter)
        while not side.is_busy():
            pass
        side._in_a_row = awaiting._IN_A_ROW - 1
        task = asyncio.create_task(waiter.put_async(4) if puts else waiter.get_async())
        asyncio.get_running_loop().call_soon(waiter._membership._close_bells)
        while not side.is_over:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiter.close()
        with pytest.raises(QueueClosedError):
            await task

    run(main())


def test_a_call_of_a_side_that_is_over_is_refused(pair: Pair, run: Run[Any]) -> None:
    _, waiter = pair

    async def main() -> None:
        task = asyncio.create_task(waiter.get_async())
        await asleep(waiter, "get")
        (side,) = sides_of(waiter)
        waiter._membership._close_bells()
        with pytest.raises(QueueClosedError, match=r"this handle of queue .* is closed"):  # of a thread, no fork
            await task
        with pytest.raises(QueueClosedError, match=r"this handle of queue .* is closed"):
            await side.wait(waiter.get_nowait, waiter.Empty, None)

    run(main())


def test_a_close_beside_a_loop_that_stops_is_completed_by_the_next(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    _, waiter = pair
    monkeypatch.setattr("shared_multiprocess_queue._engine.membership._QUIET", 10**6)
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        task = loop.create_task(waiter.get_async())
        loop.run_until_complete(asyncio.wait_for(asleep(waiter, "get"), LONG))

        def close() -> None:
            in_thread(waiter.close).result(LONG)
            loop.stop()

        loop.call_soon(close)
        loop.run_forever()
        assert waiter._membership.state.name == "CLOSING"
        waiter.close()
        assert waiter._membership.state.name == "CLOSED"
        with pytest.raises(QueueClosedError):
            loop.run_until_complete(asyncio.wait_for(task, LONG))


# ---- loops ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("calls", [1, 2])
def test_a_handle_is_closed_after_a_loop_in_which_calls_waited(pair: Pair, calls: int) -> None:
    _, waiter = pair
    loop_with_call(waiter, calls).close()
    with pytest.raises(ZeroDivisionError), waiter:
        1 / 0  # noqa: B018
    assert waiter._membership.state.name == "CLOSED"


def test_a_handle_is_used_after_a_loop_in_which_calls_waited(pair: Pair, run: Run[Any]) -> None:
    waker, waiter = pair
    loop_with_call(waiter, 2).close()
    for i in range(2):
        waker.put(i)
        assert run(waiter.get_async()) == i


def test_nothing_keeps_a_loop_that_is_closed(pair: Pair) -> None:
    _, waiter = pair
    loop = loop_with_call(waiter)
    loop.close()
    waiter.close()
    found = weakref.ref(loop)
    waiter._membership.tasks = None
    del loop
    gc.collect()
    assert found() is None


def test_threads_sweep_the_same_sides(pair: Pair, run: Run[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A second thread is faster just when the first closes one of three."""
    waker, waiter = pair
    for loop in [loop_with_call(waiter) for _ in range(3)]:
        loop.close()
    tasks = waiter._membership.tasks
    assert tasks is not None
    close = Side.close
    sweeping = threading.Lock()

    def close_beside_another(side: Side) -> None:
        if sweeping.acquire(blocking=False):
            in_thread(tasks._sweep).result(LONG)
        close(side)

    monkeypatch.setattr(Side, "close", close_beside_another)
    waker.put(1)
    assert run(waiter.get_async()) == 1
    assert sweeping.locked()
    monkeypatch.undo()


# ---- what a call has ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_batch", [False, True])
def test_an_item_is_put_as_it_was_when_the_call_began(pair: Pair, run: Run[Any], is_batch: bool) -> None:
    """One of 64 calls in a row gives the loop a turn, in which another task changes the item."""
    waker, waiter = pair

    async def main() -> None:
        item = [0]

        async def change() -> None:
            item[0] = -1

        for i in range(2 * awaiting._IN_A_ROW):
            item[0] = i
            changing = asyncio.create_task(change())
            await (waiter.put_batch_async([item]) if is_batch else waiter.put_async(item))
            assert waker.get() == [i]
            await changing

    run(main())


def test_a_call_without_time_gets_beside_one_that_waits(pair: Pair, run: Run[Any]) -> None:
    waker, waiter = pair

    async def main() -> Any:
        waiting = asyncio.create_task(waiter.get_async())
        await asleep(waiter, "get")
        waker.put_batch([1, 2, 3])
        found = await waiter.get_async(timeout=0)
        return await waiting, found

    assert run(main()) == (1, 2)


def test_a_call_without_time_puts_beside_one_that_waits(pair: Pair, run: Run[Any]) -> None:
    waker, waiter = pair
    waker.put_batch([1, 2, 3])

    async def main() -> None:
        waiting = asyncio.create_task(waiter.put_async(4))
        await asleep(waiter, "put")
        waker.get_batch(2)
        await waiter.put_async(5, timeout=0)
        await waiting

    run(main())
    assert waker.get_batch(5) == [3, 4, 5]


def test_a_batch_that_gives_up_leaves_the_turn_of_another(pair: Pair, run: Run[Any]) -> None:
    """Two batches of one side wait for the lock; the second one's time is over, then the lock is free."""
    waker, waiter = pair
    waker.put_batch([1, 2])

    async def main() -> None:
        member = waker._membership
        with member.operation() as record:
            assert member.batch_lock.try_acquire(record)
            first = asyncio.create_task(waiter.put_batch_async([3]))
            await asleep(waiter, "put")
            for timeout in (0, 0.01):
                with pytest.raises(Full):
                    await waiter.put_batch_async([4], timeout=timeout)
            for _ in range(5):
                await asyncio.sleep(0)  # the first has looked by now
            member.batch_lock.release(record)
        await first

    run(main())
    assert waker.get_batch(5) == [1, 2, 3]


@pytest.mark.parametrize("is_batch", [False, True])
def test_an_item_is_withdrawn_if_no_bell_can_be_opened(
    pair: Pair, run: Run[Any], monkeypatch: pytest.MonkeyPatch, is_batch: bool
) -> None:
    _, waiter = pair
    waiter.put_batch([1, 2, 3])
    withdrawn: list[bytes] = []

    def fail(*_: Any) -> None:
        raise OSError(errno.EMFILE, "too many")

    monkeypatch.setattr(bells.Bell, "_open", fail)
    monkeypatch.setattr(waiter._codec, "withdraw", withdrawn.append, raising=False)

    async def main() -> None:
        with pytest.raises(OSError, match="one descriptor for each event loop"):
            await (waiter.put_batch_async(["a", "b"]) if is_batch else waiter.put_async("a"))

    run(main())
    assert len(withdrawn) == 1 + is_batch


# ---- iterations -----------------------------------------------------------------------------------------------------


def test_a_step_that_is_cancelled_does_not_end_the_iteration(pair: Pair, run: Run[Any]) -> None:
    waker, waiter = pair

    async def main() -> Any:
        items = aiter(waiter)
        step = asyncio.ensure_future(anext(items))
        await asleep(waiter, "get")
        step.cancel()
        await asyncio.wait([step])
        waker.put_batch([1, 2])
        waker.shutdown()
        found = [item async for item in items]
        with pytest.raises(StopAsyncIteration):
            await anext(items)
        return found

    assert run(main()) == [1, 2]


def test_tasks_share_an_iteration(pair: Pair, run: Run[Any]) -> None:
    waker, waiter = pair

    async def main() -> Any:
        items = aiter(waiter)

        async def first() -> Any:
            async for item in items:
                return item

        both = [asyncio.create_task(first()) for _ in range(2)]
        await asleep(waiter, "get", 2)
        waker.put_batch([1, 2])
        return await asyncio.gather(*both)

    assert run(main()) == [1, 2]


# ---- leases ---------------------------------------------------------------------------------------------------------


def test_what_lease_async_returns_is_for_one_lease(make_queue: MakeQueue, each_engine: Any, run: Run[Any]) -> None:
    jobs = make_queue(capacity=3, leases=2, engine=each_engine)
    jobs.put_batch(["a", "b"])

    async def main() -> None:
        once = jobs.lease_async()
        async with once as lease:
            with pytest.raises(RuntimeError, match="call lease_async"):
                await once
            with pytest.raises(RuntimeError, match="call lease_async"):
                async with once:
                    pass
            assert lease.item == "a"
        for send in (pickle.dumps, copy.copy):
            with pytest.raises(TypeError, match="cannot be pickled"):
                send(once)
        with pytest.raises(TypeError, match="async with"), jobs.lease_async():
            pass

    run(main())
    assert jobs.get() == "b"


# ---- roles ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["get", "put", "put_batch"])
def test_a_loop_runs_on_while_another_handle_has_the_role(
    make_queue: MakeQueue, each_engine: Any, run: Run[Any], call: str
) -> None:
    other = make_queue(capacity=4, mode="spsc", engine=each_engine)
    other.put("its own")
    other.put("left")
    assert other.get() == "its own"

    async def main(q: SharedMemoryQueue) -> None:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        await asyncio.sleep(0)

        def begin() -> asyncio.Task[Any]:
            if call == "get":
                return asyncio.create_task(q.get_async())
            return asyncio.create_task(q.put_async(1) if call == "put" else q.put_batch_async([1, 2]))

        before = turns
        with pytest.raises(RoleTakenError):
            await begin()
        assert turns > before + 5
        waiting = begin()
        await asyncio.sleep(0)
        other.close()
        assert await waiting == ("left" if call == "get" else None)
        counting.cancel()

    with SharedMemoryQueue(other.name, run_id=other.run_id, engine=each_engine) as q:
        run(main(q))


@pytest.mark.parametrize("is_reused", [False, True])
def test_a_program_that_closes_the_descriptor_of_waiting_tasks_is_told(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, is_reused: bool
) -> None:
    """The tick sees that a ring was lost, and why. The item stays, and the next call waits with another descriptor.

    Not in uvloop: libuv ends a program in which the descriptor that it waits for is closed.
    """
    waker, waiter = pair
    monkeypatch.setattr("shared_multiprocess_queue._engine.awaiting.SLICE", 10**7)

    async def main() -> Any:
        task = asyncio.create_task(waiter.get_async())
        await asleep(waiter, "get")
        descriptor = sides_of(waiter)[0]._bell.fileno()
        strangers = os.memfd_create("a stranger's")
        if is_reused:
            os.dup2(strangers, descriptor)
        else:
            os.close(descriptor)
        waker.put("not lost")
        with pytest.raises(QueueClosedError, match="has closed the descriptor with which its tasks wait"):
            await task
        if is_reused:
            os.close(descriptor)
        os.close(strangers)
        return await waiter.get_async(), await waiting()

    async def waiting() -> Any:
        task = asyncio.create_task(waiter.get_async())
        await asleep(waiter, "get", 2)
        waker.put("rung for")
        return await task

    assert asyncio.run(asyncio.wait_for(main(), LONG)) == ("not lost", "rung for")
