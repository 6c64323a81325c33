"""Workers that lease items and are killed: while they process one, while they end one, while they take one over.

Meanwhile others put, process and join. Each item is ended, none is handed out while a living process has it or after
its end, ``deliveries`` tells how often it was handed out, and the join returns; see ``harness.diary``.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue._ring import layout

from ..harness.engines import Engines
from ..harness.logs import ENDING, PROCESSING, now
from ..harness.processes import Worker
from ..harness.rounds import Result, wait_exactly
from .leased import Crew, produce, run_crew, work, work_interrupted
from .troubles import some_moment

_MOST_LEASES: Final = 4
_WAVES: Final = 8
_LONG: Final = 20e-3  # seconds that a victim processes an item, at most
_FOREVER: Final = 1e6
_LAG: Final = 50e-6  # seconds, at most, between what a victim is to be killed in and the kill
_TAKEN_OVER: Final = 0.3  # seconds within which the items of the dead are taken over
_INTERRUPTS: Final = 500, 1500
_BETWEEN: Final = (20e-6, 100e-6, 500e-6)  # seconds between two interrupts, at most; a call takes about 50 us


def run_processing(seed: str, engine: Engines, patience: float) -> Result:
    """Kill workers that have an item.

    Args:
        seed: of the round.
        engine: of all handles, or "mixed".
        patience: seconds within which each wait of a survivor has to end.
    """

    def trouble(crew: Crew) -> None:
        rng = crew.rng
        _start_survivors(crew, patience)
        for _ in range(_WAVES):
            victims = [
                crew.start("victim", work, longest=_LONG, most=rng.randint(1, 3), gives_back=0.1)
                for _ in range(rng.randint(1, 3))
            ]
            crew.wait_until(lambda victims=victims: all(one.log.is_doing(PROCESSING) for one in victims))  # type: ignore[misc]
            wait_exactly(some_moment(rng) / 4)
            crew.kill(victims)

    return run_crew(seed, engine, patience, _MOST_LEASES, trouble)


def run_ending(seed: str, engine: Engines, patience: float) -> Result:
    """Kill workers that end an item or give it back."""

    def trouble(crew: Crew) -> None:
        rng = crew.rng
        _start_survivors(crew, patience)
        for _ in range(_WAVES):
            victims = [
                crew.start("victim", work, longest=0, most=rng.randint(1, 3), gives_back=0.3)
                for _ in range(rng.randint(1, 2))
            ]
            crew.wait_for_start(victims, patience)
            wait_exactly(some_moment(rng))
            crew.wait_until(lambda victims=victims: any(one.log.is_doing(ENDING) for one in victims))  # type: ignore[misc]
            wait_exactly(rng.random() * _LAG)
            crew.kill(victims)

    return run_crew(seed, engine, patience, _MOST_LEASES, trouble)


def run_heirs(seed: str, engine: Engines, patience: float) -> Result:
    """Kill workers that have all leases, and then those that take these over."""

    def trouble(crew: Crew) -> None:
        rng = crew.rng
        _start_survivors(crew, patience)
        for _ in range(_WAVES // 2):
            holders = [crew.start("holder", work, longest=_FOREVER) for _ in range(crew.queue.leases)]
            heirs = [crew.start("heir", work, longest=0, most=rng.randint(1, 2)) for _ in range(rng.randint(1, 3))]
            crew.wait_for_start(heirs, patience)
            crew.wait_until(lambda holders=holders: all(one.log.is_doing(PROCESSING) for one in holders))  # type: ignore[misc]
            crew.kill(holders)
            _wait_for_heir(crew.queue, heirs)
            wait_exactly(rng.choice((0.0, 0.0, _LAG)) * rng.random())
            crew.kill(heirs)

    return run_crew(seed, engine, patience, _MOST_LEASES, trouble)


def run_interrupted(seed: str, engine: Engines, patience: float) -> Result:
    """Interrupt workers in their calls: what they lease comes to them once, and what they end is ended once."""

    def trouble(crew: Crew) -> None:
        rng = crew.rng
        _start_survivors(crew, patience)
        victims = [crew.start("interrupted", work_interrupted, longest=0, most=rng.randint(1, 3), gives_back=0.2)]
        victims.append(crew.start("producer", produce))  # a victim that waits for items is hit in nothing else
        crew.wait_for_start(victims, patience)
        for _ in range(rng.randint(*_INTERRUPTS)):
            wait_exactly(rng.random() * rng.choice(_BETWEEN))
            os.kill(victims[0].log.pid, signal.SIGINT)
            crew.result.events += 1

    return run_crew(seed, engine, patience, _MOST_LEASES, trouble)


def _start_survivors(crew: Crew, patience: float) -> None:
    survivors = [crew.start("worker", work, most=crew.rng.randint(1, 2), gives_back=0.1)]
    survivors.append(crew.start("producer", produce))
    crew.wait_for_start(survivors, patience)


def _wait_for_heir(queue: SharedMemoryQueue, heirs: list[Worker]) -> None:
    """Return as soon as one of some workers has a lease slot, or after a time."""
    pids = {worker.log.pid for worker in heirs}
    until = now() + int(_TAKEN_OVER * 1e9)
    with _holders(queue) as holders:
        while now() < until:
            if any(layout.parse_owner(holders[at])[0] in pids for at in range(0, len(holders), _HEAD_WORDS)):
                return


_HEAD_WORDS: Final = layout.LEASE_HEAD_SIZE // layout.WORD


@contextmanager
def _holders(queue: SharedMemoryQueue) -> Iterator[memoryview]:
    """Yield the words of the lease heads; the first of each is its holder."""
    first, size = queue._geometry.lease_heads, queue.leases * layout.LEASE_HEAD_SIZE
    with queue._membership.segment.buffer[first : first + size] as part, part.cast("Q") as words:
        yield words
