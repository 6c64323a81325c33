"""Handles in event loops: several loops and threads, close, fork, the end of a loop, and what is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import multiprocessing
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio

from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue._platform import bells
from shared_multiprocess_queue._ring import layout
from shared_multiprocess_queue._ring import parking as _parking
from shared_multiprocess_queue.errors import QueueClosedError
from tests.support.children import end_of, fork, python
from tests.support.queues import MakeQueue
from tests.support.waiting import LONG, eventually, in_thread
from tests.tasks.conftest import ENGINES, Pair, Run, asleep, sides_of

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def names_of(q: SharedMemoryQueue) -> int:
    nonce = int.from_bytes(q._membership.segment.buffer[layout.NONCE_AT :][:8], sys.byteorder)
    return Path("/proc/net/unix").read_text().count(f"@shmq-{nonce:016x}-")


def test_several_loops_at_one_handle(pair: Pair, run: Run[Any]) -> None:
    waker, waiter = pair
    loops = [in_thread(run, waiter.get_async()) for _ in range(3)]
    eventually(lambda: waiter.get_metrics()["get_waits"] == 3)
    waker.put_batch([1, 2, 3])
    assert sorted(loop.result(LONG) for loop in loops) == [1, 2, 3]


def test_many_handles_in_a_loop(pair: Pair, run: Run[Any]) -> None:
    _, waiter = pair

    async def main() -> Any:
        with contextlib.ExitStack() as stack:
            handles = [
                stack.enter_context(SharedMemoryQueue(waiter.name, run_id=waiter.run_id, engine=waiter.engine))
                for _ in range(20)
            ]
            tasks = [asyncio.create_task(handle.get_async()) for handle in handles]
            await asleep(waiter, "get", 20)
            for i in range(20):
                await waiter.put_async(i)
            return sorted(await asyncio.gather(*tasks))

    assert run(main()) == list(range(20))


def test_one_loop_after_the_other(pair: Pair, run: Run[Any]) -> None:
    waker, waiter = pair

    async def main() -> Any:
        task = asyncio.create_task(waiter.get_async())
        await asleep(waiter, "get", sleeping + 1)
        waker.put(i)
        return await task

    run(waiter.put_async(-1))
    assert waiter.get() == -1
    before = descriptors()
    for i in range(3):
        sleeping = waiter.get_metrics()["get_waits"]
        assert run(main()) == i
    assert len(descriptors()) <= len(before) + 1
    assert names_of(waiter) == 1  # the next loop takes the place of the last
    waiter.close()
    assert names_of(waker) == 0
    assert not any(waker._membership.segment.buffer[layout.BELLS_AT : layout.RECORDS_START])


def test_close_ends_the_calls_of_its_loop(pair: Pair, run: Run[Any]) -> None:
    waker, waiter = pair
    waker.put_batch([1, 2, 3])

    async def main() -> None:
        before = descriptors()
        full = [asyncio.create_task(waiter.put_batch_async([4, 5])), asyncio.create_task(waiter.put_async(6))]
        await asleep(waiter, "put", 2)
        assert waker.get_batch(3) == [1, 2, 3]  # the batch is rung, and does not look before the close
        waiter.close()
        waiter.close()
        assert descriptors() <= before
        for task in full:
            with pytest.raises(QueueClosedError):
                await task
        with pytest.raises(QueueClosedError):
            await waiter.get_async()
        waker.put_batch([7, 8], block=False)  # the lock is free
        one, other = socket.socketpair()  # with the number of the bell, perhaps
        with one, other:
            readable = asyncio.Event()
            asyncio.get_running_loop().add_reader(one, readable.set)
            other.send(b"x")
            await readable.wait()
            asyncio.get_running_loop().remove_reader(one)

    run(main())
    assert waker.get_batch(5) == [7, 8]
    assert names_of(waker) == 0


def test_close_by_another_thread(pair: Pair, run: Run[Any]) -> None:
    waker, waiter = pair

    async def main() -> None:
        getting = [asyncio.create_task(waiter.get_async()) for _ in range(2)]
        await asleep(waiter, "get", 2)
        await asyncio.to_thread(waiter.close)
        for task in getting:
            with pytest.raises(QueueClosedError):
                await task

    run(main())
    assert names_of(waker) == 0
    assert waiter._membership.state.name == "CLOSED"


def test_close_beside_a_loop_that_is_busy(pair: Pair, run: Run[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop's thread waits for the close: this does not wait for ever, and the loop completes it."""
    waker, waiter = pair
    monkeypatch.setattr("shared_multiprocess_queue._engine.membership._QUIET", 10**6)

    async def main() -> None:
        getting = asyncio.create_task(waiter.get_async())
        await asleep(waiter, "get")
        in_thread(waiter.close).result(LONG)
        with pytest.raises(QueueClosedError):
            await getting

    run(main())
    with pytest.raises(QueueClosedError):
        waiter.qsize()
    assert waiter._membership.state.name == "CLOSED"
    assert names_of(waker) == 0


def test_a_handle_that_is_dropped_is_closed(pair: Pair, run: Run[Any]) -> None:
    waker, waiter = pair

    async def main() -> None:
        q = SharedMemoryQueue(waiter.name, run_id=waiter.run_id, engine=waiter.engine)
        task = asyncio.create_task(q.get_async())
        await asleep(waiter, "get")
        task.cancel()
        await asyncio.wait([task])
        del q, task
        for _ in range(3):
            await asyncio.sleep(0)
        gc.collect()
        assert names_of(waker) == 0

    run(main())


def test_a_forked_child_leaves_the_bell_to_its_parent(pair: Pair, run: Run[Any]) -> None:
    waker, waiter = pair

    async def main() -> Any:
        task = asyncio.create_task(waiter.get_async())
        batch = asyncio.create_task(waiter.put_batch_async([1]))
        await asleep(waiter, "get")
        assert await task == 1
        await batch
        task = asyncio.create_task(waiter.get_async())
        await asleep(waiter, "get", 2)

        def child() -> None:
            asyncio._set_running_loop(None)  # Python 3.12 does it by itself
            assert not sides_of(waiter)
            runner = asyncio.Runner()

            async def own() -> Any:
                # The parent waits, too. It is rung for one of the items, and has no turn.
                putting = asyncio.create_task(waiter.put_batch_async(["the child's"] * 2))
                found = [await waiter.get_async(timeout=LONG), await waiter.get_async(timeout=LONG)]
                await putting
                return found

            assert runner.run(own()) == ["the child's"] * 2

        pid = fork(child)
        assert end_of(pid) == 0
        waker.put("the parent's")
        return await task

    assert run(main()) == "the parent's"


def _await_for_ever(q: SharedMemoryQueue, told: Any) -> None:
    async def main() -> None:
        task = asyncio.create_task(q.get_async())
        while not q._membership.tasks or not q.get_metrics()["get_waits"]:
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        told.send(None)
        await task
        os.kill(os.getpid(), signal.SIGSTOP)

    asyncio.run(main())


@pytest.mark.parametrize("start_method", ["spawn"])
def test_a_waiter_that_was_killed_costs_one_ring(pair: Pair, run: Run[Any], start_method: str) -> None:
    waker, waiter = pair
    here, there = multiprocessing.Pipe()
    child = multiprocessing.get_context(start_method).Process(target=_await_for_ever, args=(waiter, there), daemon=True)  # type: ignore[attr-defined]
    child.start()
    assert here.poll(LONG)

    async def main() -> Any:
        sleeping = waiter.get_metrics()["get_waits"]
        task = asyncio.create_task(waiter.get_async())
        await asleep(waiter, "get", sleeping + 1)
        child.kill()
        child.join(LONG)
        waker.put("one")
        waker.put("two")  # one of the rings was refused, or both came here
        return await task, await waiter.get_async()

    assert run(main()) == ("one", "two")
    assert waker.get_metrics()["bells_refused"] <= 1


def test_the_tick_heals_a_ring_that_was_lost(pair: Pair, run: Run[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A waker that takes the bit and dies before it rings costs a slice; after that the bell is rung again."""
    waker, waiter = pair
    monkeypatch.setattr("shared_multiprocess_queue._engine.awaiting.SLICE", _parking.SLICE)

    async def main() -> Any:
        task = asyncio.create_task(waiter.get_async())
        await asleep(waiter, "get")
        (side,) = sides_of(waiter)
        record = side.opened()
        assert waiter._membership.parking.take_bell(record.words, layout.ITEMS, record.index)
        ring = bells.ring
        monkeypatch.setattr(bells, "ring", lambda nonce, name: True)
        waker.put(1)
        monkeypatch.setattr(bells, "ring", ring)
        found = await task
        task = asyncio.create_task(waiter.get_async())
        await asleep(waiter, "get", 2)
        assert waiter._membership.parking.take_bell(record.words, layout.ITEMS, record.index)
        while not waiter._membership.parking.wants_bell(record.words, layout.ITEMS, record.index):
            await asyncio.sleep(0.01)
        waker.put(2)
        return found, await task

    assert run(main()) == (1, 2)


@pytest.mark.parametrize("error", [NotImplementedError, None])
def test_without_bells_a_loop_looks_often(
    pair: Pair, run: Run[Any], monkeypatch: pytest.MonkeyPatch, error: type[Exception] | None
) -> None:
    waker, waiter = pair
    if error is None:
        monkeypatch.setattr(bells, "_library", lambda: None)

    async def main() -> Any:
        if error is not None:

            def add_reader(*_: Any) -> None:
                raise error

            monkeypatch.setattr(asyncio.get_running_loop(), "add_reader", add_reader, raising=False)
        task = asyncio.create_task(waiter.get_async())
        await asleep(waiter, "get")
        waker.put(1)
        return await task

    if error is not None and "uvloop" in repr(run):
        pytest.skip("methods of its loops cannot be replaced")
    assert run(main()) == 1


def test_hostile_masks_are_bounded(pair: Pair, run: Run[Any]) -> None:
    waker, waiter = pair

    async def main() -> Any:
        found = []
        memory = waker._membership.segment.buffer
        for i in range(3):
            task = asyncio.create_task(waiter.get_async())
            await asleep(waiter, "get", i + 1)
            memory[layout.RECORDS_USED_AT :][: layout.WORD] = b"\xff" * layout.WORD
            memory[layout.BELLS_AT : layout.RECORDS_START] = b"\xff" * (layout.RECORDS_START - layout.BELLS_AT)
            waker.put_batch([i, i])
            found += [await task, await waiter.get_async()]
        return found

    assert run(main()) == [0, 0, 1, 1, 2, 2]
    assert waker.get_metrics()["bells_refused"] <= 3 * 3 * layout.RECORDS


def test_the_end_of_a_program_that_waits_is_silent(make_queue: MakeQueue, each_engine: Any) -> None:
    q = make_queue(engine=each_engine)
    program = f"""if True:
        import asyncio
        from shared_multiprocess_queue import SharedMemoryQueue
        q = SharedMemoryQueue({q.name!r}, run_id={q.run_id!r}, engine={each_engine!r})
        async def main():
            asyncio.get_running_loop().slow_callback_duration = 60  # a busy machine is no noise of this package
            tasks = [asyncio.create_task(q.get_async()) for _ in range(3)]
            await asyncio.sleep(0.01)
            await q.put_async("done")
            print(await tasks[0])
        asyncio.run(main(), debug=True)
        asyncio.run(q.put_async("again"))
    """
    assert python(program).stdout == "done\n"
    assert q.get() == "again"
    assert names_of(q) == 0


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_anyio_and_trio_wait_for_the_descriptor(pair: Pair, backend: str) -> None:
    """Once that of the side, and once that of the handle."""
    waker, waiter = pair
    descriptors = [waiter.readable, waiter.fileno()]

    async def main() -> list[Any]:
        return [await take(descriptor) for descriptor in descriptors]

    async def take(descriptor: Any) -> Any:
        while True:
            await anyio.wait_readable(descriptor)
            with contextlib.suppress(waiter.Empty):
                return waiter.get_nowait()
            waker.put(backend)  # from here on it is not readable before that

    assert run_by_anyio(main, backend) == [backend] * 2


def test_trio_waits_for_room(pair: Pair) -> None:
    waker, waiter = pair
    waker.put_batch([1, 2, 3])

    async def main() -> None:
        with pytest.raises(waiter.Full):
            waiter.put_nowait(4)
        waker.get()
        await trio.lowlevel.wait_readable(waiter.writable)
        waiter.put_nowait(4)

    run_by_anyio(main, "trio")
    assert waker.get_batch(3) == [2, 3, 4]


@pytest.mark.parametrize("engine", ENGINES)
def test_rings_that_no_process_hears_keep_no_other_from_its_waiter(make_queue: MakeQueue, engine: Any) -> None:
    """The kernel charges a message to the socket that sends it until it is read: some 280 of them are the most."""
    crowd = make_queue("crowd", capacity=1, engine=engine)
    q = make_queue("other", capacity=1, engine=engine)

    async def main() -> bool:
        with contextlib.ExitStack() as stack:
            handles = [stack.enter_context(SharedMemoryQueue(crowd.name, run_id=crowd.run_id)) for _ in range(300)]
            tasks = [asyncio.create_task(handle.get_async()) for handle in handles]
            await asleep(crowd, "get", 300)
            q.fileno()
            assert q.empty()
            crowd.shutdown()  # rings all
            q.put("rung for")
            is_rung = bool(select.select([q], [], [], 0)[0])
            for task in tasks:
                with pytest.raises(crowd.ShutDown):
                    await task
            return is_rung

    assert asyncio.run(main())


def run_by_anyio(main: Callable[[], Coroutine[Any, Any, Any]], backend: str) -> Any:
    async def watched() -> Any:
        with anyio.fail_after(LONG):
            return await main()

    return anyio.run(watched, backend=backend)
