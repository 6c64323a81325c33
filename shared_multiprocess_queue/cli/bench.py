"""The command ``shmq bench``: how fast a queue is on this machine, in a few seconds."""

from __future__ import annotations

import multiprocessing
import os
from typing import Any, Final

import click

from .._engine import choice
from .._engine.contract import EngineName
from .._platform import clock
from ..queue import SharedMemoryQueue
from .demo_counting import usable_cores
from .looks import json_option
from .output import EXIT_CODES, answering, console, print_json

_ITEM: Final = b"x" * 64
_CAPACITY: Final = 1024
_PATIENCE: Final = 30.0  # seconds that the other process gets
_AT_ONCE: Final = 500  # puts and gets, or items, between two looks at the clock


@click.command("bench", epilog=EXIT_CODES)
@click.option(
    "--seconds",
    type=click.FloatRange(0.05, 60),
    default=1.0,
    show_default=True,
    metavar="S",
    help="For how long each figure is measured.",
)
@json_option
@answering
def bench_command(seconds: float, as_json: bool) -> None:
    """Measure queues of each engine: items of 64 bytes, one process or two, queues of its own.

    The figures are of this machine at this moment: others that run beside it slow it down, and the load says whether
    there are any. A round trip goes to another process and back, and both wait by themselves, as programs do.
    """
    engines: list[EngineName] = ["native", "atomics"] if choice.has_native() else ["atomics"]
    cores, load = usable_cores(), os.getloadavg()[0]
    results = {engine: _measure(engine, seconds) for engine in engines}
    if as_json:
        print_json("bench", engines=results, cores=cores, load=load, item_bytes=len(_ITEM), seconds=seconds)
        return
    screen = console()
    us = "µs" if screen.encoding.lower().startswith("utf") else "us"
    screen.print(f"items of {len(_ITEM)} bytes; {cores} cores, load {load:.1f}")
    for engine, found in results.items():
        screen.print(f"{engine}:")
        screen.print(f"  put and get in one process       {found['put_get_us']:10,.2f} {us}")
        screen.print(f"  from one process to another      {found['items_per_second']:10,.0f} items/s")
        screen.print(f"  round trip between processes     {found['round_trip_us']:10,.2f} {us} (median)")
        screen.print(f"    of which one in a hundred took {found['round_trip_p99_us']:10,.2f} {us} or more")


def _measure(engine: EngineName, seconds: float) -> dict[str, float]:
    """Return the figures of an engine."""
    with _queue(engine) as there, _queue(engine) as back:
        found = {"put_get_us": _put_get(there, seconds)}
        child = multiprocessing.get_context("spawn").Process(target=_echo, args=(there, back), daemon=True)
        child.start()
        try:
            there.put(None)
            back.get(timeout=_PATIENCE)  # it is ready
            trips = _round_trips(there, back, seconds)
            found["round_trip_us"], found["round_trip_p99_us"] = (
                trips[len(trips) * part // 100] / 1e3 for part in (50, 99)
            )
            there.put(b"", timeout=_PATIENCE)  # from here on it only counts
            found["items_per_second"] = _rate(there, back, seconds)
            child.join(_PATIENCE)
        finally:
            child.kill()
            child.join()
    return found


def _queue(engine: EngineName) -> SharedMemoryQueue[Any]:
    return SharedMemoryQueue(capacity=_CAPACITY, item_size=len(_ITEM), engine=engine)


def _put_get(queue: SharedMemoryQueue[Any], seconds: float) -> float:
    count, began = 0, clock.now()
    while (passed := clock.now() - began) < seconds * 1e9:
        for _ in range(_AT_ONCE):
            queue.put(_ITEM)
            queue.get()
        count += _AT_ONCE
    return passed / count / 1e3


def _round_trips(there: SharedMemoryQueue[Any], back: SharedMemoryQueue[Any], seconds: float) -> list[int]:
    times, until = [], clock.now() + seconds * 1e9
    while (began := clock.now()) < until:
        there.put(_ITEM, timeout=_PATIENCE)
        back.get(timeout=_PATIENCE)
        times.append(clock.now() - began)
    return sorted(times)


def _rate(there: SharedMemoryQueue[Any], back: SharedMemoryQueue[Any], seconds: float) -> float:
    """Return how many items a second arrive: from the first put until the other process has said that all came."""
    count, began = 0, clock.now()
    while clock.now() - began < seconds * 1e9:
        for _ in range(_AT_ONCE):
            there.put(_ITEM, timeout=_PATIENCE)
        count += _AT_ONCE
    there.put(b"", timeout=_PATIENCE)
    assert back.get(timeout=_PATIENCE) == count
    return count / (clock.now() - began) * 1e9


def _echo(there: SharedMemoryQueue[Any], back: SharedMemoryQueue[Any]) -> None:
    """Run the other process: send back what comes, up to an empty item; then count up to the next, and say how many."""
    while (item := there.get(timeout=_PATIENCE)) != b"":
        back.put(item)
    count = 0
    while there.get(timeout=_PATIENCE) != b"":
        count += 1
    back.put(count)
