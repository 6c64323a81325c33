"""Awaiting beside its peers: how fast an event loop has items that are put elsewhere, and what a hundred waits cost.

A row is the time from just before a put to just after the await that slept, the items a second of a loop that has much
to take, or the processor time of a loop in which all handles wait. What has no processes gets its items from a thread.
Beside them stand an eventfd with ``add_reader``, and a loop that wakes as often: what an event loop costs by itself.
"""

from __future__ import annotations

import asyncio
import importlib.util
import mmap
import multiprocessing
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from statistics import median, quantiles
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from shared_multiprocess_queue import SharedMemoryQueue

CAPACITY: Final = 1024
PAUSE: Final = 0.002  # seconds between two items, in which the loop falls asleep
HANDLES: Final = 100
_LOOKS: Final = 0.24  # seconds between two looks of a loop at a queue without leases

Get = Callable[[], Awaitable[Any]]
Put = Callable[[Any], object]
Open = Callable[[], AbstractContextManager[tuple[Get, Put, Any]]]  # get, put, and what starts a producer


def _put_all(put: Put, pause: float, count: int) -> None:
    for _ in range(count):
        if pause:
            time.sleep(pause)
        put(time.perf_counter_ns())


def _process(*arguments: Any) -> Any:
    return multiprocessing.get_context("fork").Process(target=_put_all, args=arguments, daemon=True)


def _thread(*arguments: Any) -> Any:
    return threading.Thread(target=_put_all, args=arguments, daemon=True)


@contextmanager
def _ours(get: Callable[[SharedMemoryQueue], Get]) -> Iterator[tuple[Get, Put, Any]]:
    with SharedMemoryQueue(capacity=CAPACITY) as queue:
        yield get(queue), queue.put, _process


def _by_iteration(queue: SharedMemoryQueue) -> Get:
    return aiter(queue).__anext__


def _by_thread(queue: SharedMemoryQueue) -> Get:
    return lambda: asyncio.to_thread(queue.get)


@contextmanager
def _asyncio_queue() -> Iterator[tuple[Get, Put, Any]]:
    queue: asyncio.Queue[Any] = asyncio.Queue(CAPACITY)
    loop = asyncio.get_running_loop()
    yield queue.get, lambda item: asyncio.run_coroutine_threadsafe(queue.put(item), loop).result(), _thread


@contextmanager
def _janus() -> Iterator[tuple[Get, Put, Any]]:
    import janus  # noqa: PLC0415

    queue = janus.Queue(CAPACITY)
    yield queue.async_q.get, queue.sync_q.put, _thread
    queue.close()


@contextmanager
def _aioprocessing() -> Iterator[tuple[Get, Put, Any]]:
    import aioprocessing  # noqa: PLC0415

    queue = aioprocessing.AioQueue(CAPACITY)
    yield queue.coro_get, queue.put, _process
    queue.close()


PEERS: Final[dict[str, tuple[Open, str]]] = {
    "get_async": (lambda: _ours(lambda queue: queue.get_async), ""),
    "async for": (lambda: _ours(_by_iteration), ""),
    "to_thread(get)": (lambda: _ours(_by_thread), ""),
    "aioprocessing": (_aioprocessing, "aioprocessing"),
    "janus, a thread puts": (_janus, "janus"),
    "asyncio.Queue, a thread puts": (_asyncio_queue, ""),
}


async def _wake(open_it: Open, count: int) -> list[float]:
    """Return the microseconds from a put to its item, of each item."""
    with open_it() as (get, put, producer):
        process = producer(put, PAUSE, count)
        process.start()
        took = []
        for _ in range(count):
            sent = await get()
            took.append((time.perf_counter_ns() - sent) / 1000)
        await asyncio.to_thread(process.join)
        return took


async def _rate(open_it: Open, count: int) -> float:
    """Return the items a second."""
    with open_it() as (get, put, producer):
        process = producer(put, 0, count)
        process.start()
        await get()
        start = time.perf_counter()
        for _ in range(count - 1):
            await get()
        took = time.perf_counter() - start
        await asyncio.to_thread(process.join)
        return (count - 1) / took


def _wake_of_a_thread(count: int) -> list[float]:
    """Return the same as ``_wake`` of a get that blocks: what an await is compared with."""
    with SharedMemoryQueue[int](capacity=CAPACITY) as queue:
        process = _process(queue.put, PAUSE, count)
        process.start()
        took: list[float] = []
        for _ in range(count):
            sent = queue.get()
            took.append((time.perf_counter_ns() - sent) / 1000)
        process.join()
        return took


async def _wake_by_eventfd(count: int) -> list[float]:
    """Return the same of a future that the reader of an eventfd ends: without a queue."""
    times = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")
    descriptor = os.eventfd(0, os.EFD_NONBLOCK)
    loop = asyncio.get_running_loop()
    heard = loop.create_future()

    def put(sent: int) -> None:
        times[0] = sent
        os.eventfd_write(descriptor, 1)

    def hear() -> None:
        if not heard.done():
            heard.set_result(os.eventfd_read(descriptor))

    loop.add_reader(descriptor, hear)
    process = _process(put, PAUSE, count)
    process.start()
    took: list[float] = []
    left = count
    while left > 0:
        left -= await heard  # more than one, if this was late
        took.append((time.perf_counter_ns() - times[0]) / 1000)
        heard = loop.create_future()
    await asyncio.to_thread(process.join)
    loop.remove_reader(descriptor)
    os.close(descriptor)
    return took


async def _idle_loop(seconds: float) -> float:
    """Return the same as ``_idle`` of a loop that has no handle, and wakes as often as that for its looks."""
    before = time.process_time()
    for _ in range(int(seconds / _LOOKS) or 1):
        await asyncio.sleep(_LOOKS)
    return (time.process_time() - before) / seconds * 1000


async def _idle(seconds: float) -> float:
    """Return the milliseconds of the processor in a second, of a loop in which ``HANDLES`` handles wait."""
    with ExitStack() as stack:
        tasks = [
            asyncio.create_task(stack.enter_context(SharedMemoryQueue(capacity=1)).get_async()) for _ in range(HANDLES)
        ]
        await asyncio.sleep(0.5)
        before = time.process_time()
        await asyncio.sleep(seconds)
        used = time.process_time() - before
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return used / seconds * 1000


def measure(seconds: float, console: Console) -> None:
    """Measure and print everything.

    Args:
        seconds: of each measurement, about.
        console: where to print.
    """
    table = Table("", "wake-up p50 µs", "p99 µs", "items/s")
    count = max(int(seconds / PAUSE), 10)

    def add(name: str, took: list[float], rate: str) -> None:
        table.add_row(name, f"{median(took):.0f}", f"{quantiles(took, n=100)[98]:.0f}", rate)

    of_a_thread = _wake_of_a_thread(count)
    add("get, blocking", of_a_thread, "")
    add("eventfd and add_reader, no queue", asyncio.run(_wake_by_eventfd(count)), "")
    ratios: dict[str, float] = {}
    loops: dict[str, Any] = {"": None}
    if importlib.util.find_spec("uvloop"):
        loops[", uvloop"] = importlib.import_module("uvloop").new_event_loop
    for name, (open_it, module) in PEERS.items():
        if module and not importlib.util.find_spec(module):
            continue
        for suffix, factory in loops.items():
            with asyncio.Runner(loop_factory=factory) as runner:
                took = runner.run(_wake(open_it, count))
                ratios[name + suffix] = median(took) / median(of_a_thread)
                rate = runner.run(_rate(open_it, int(seconds * 20_000) + 10))
                add(name + suffix, took, f"{rate:,.0f}")
    console.print(table)
    console.print(f"wake-up of get_async: {ratios['get_async']:.1f} times that of a blocking get; the goal is 3")
    idle, without = asyncio.run(_idle(seconds)), asyncio.run(_idle_loop(seconds))
    console.print(
        f"{HANDLES} handles that wait: {idle:.2f} ms of the processor in a second; the goal is 2; "
        f"a loop without any: {without:.2f}"
    )
