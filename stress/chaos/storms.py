"""The end of work in a storm: joins and shutdowns while workers that lease items are killed and paused.

Each join returns, and only when all that was put before it is ended; each worker finds the end; see ``harness.diary``.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import Final

from shared_multiprocess_queue import ShutDown

from ..harness.engines import Engines
from ..harness.processes import Worker
from ..harness.rounds import Result, wait_exactly
from .leased import Crew, end_work, join_again, produce, run_crew, shut_down, work
from .troubles import some_moment

_MOST_LEASES: Final = 4
_WAVES: Final = 6
_HOLD: Final = 0.1  # seconds, at most, that a pause lasts
_LONG: Final = 5e-3  # seconds that a worker processes an item, at most


def run_joins(seed: str, engine: Engines, patience: float) -> Result:
    """Join from several processes while items come in bursts, and workers and a process in join are killed.

    Args:
        seed: of the round.
        engine: of all handles, or "mixed".
        patience: seconds within which each wait of a survivor has to end.
    """

    def trouble(crew: Crew) -> None:
        rng = crew.rng
        survivors = [crew.start("worker", work, most=2, gives_back=0.2)]
        survivors += [crew.start("producer", produce, burst=rng.randint(1, 20)) for _ in range(rng.randint(1, 2))]
        survivors += [crew.start("joiner", join_again) for _ in range(2)]
        crew.wait_for_start(survivors, patience)
        for _ in range(_WAVES):
            loops = [work, work, join_again, produce]
            victims = [crew.start("victim", loop, longest=_LONG) for loop in rng.sample(loops, rng.randint(1, 3))]
            crew.wait_for_start(victims, patience)
            wait_exactly(some_moment(rng))
            crew.kill(victims)

    return run_crew(seed, engine, patience, _MOST_LEASES, trouble)


def run_shutdown(seed: str, engine: Engines, patience: float) -> Result:
    """Shut the queue down, plainly or at once, while workers and the process that does it are killed, others paused."""

    def trouble(crew: Crew) -> None:
        rng, result = crew.rng, crew.result
        is_immediate = rng.random() < 0.5
        loops = [work, work, produce, join_again]
        survivors = [crew.start(loop.__name__, loop, longest=_LONG, gives_back=0.1) for loop in loops]
        victims = [
            crew.start("victim", rng.choice([work, work, produce]), longest=_LONG, most=2)
            for _ in range(rng.randint(1, 4))
        ]
        paused = [crew.start("paused", work, longest=_LONG) for _ in range(rng.randint(0, 2))]
        crew.wait_for_start([*survivors, *victims, *paused], patience)
        wait_exactly(some_moment(rng))
        _send(paused, signal.SIGSTOP)
        victims.append(crew.start("shutdown", shut_down, longest=some_moment(rng), most=1 + is_immediate))
        rng.shuffle(victims)
        for victim in victims:
            wait_exactly(some_moment(rng))
            crew.kill([victim])
        end_work(crew.queue, crew.book, is_immediate)  # the process that was to do it may have been killed before
        late = crew.start("late joiner", join_again)
        wait_exactly(rng.random() * _HOLD)
        _send(paused, signal.SIGCONT)
        result.events = len(paused)
        crew.signals.stop()  # for those that join
        if crew.must_end([*survivors, *paused, late], patience, "find the end"):
            if leased := crew.queue.get_metrics()["leased"]:
                result.faults.append(f"leases are held though all has ended: {leased}")
            for call in (crew.queue.get_nowait, lambda: crew.queue.put_nowait("late")):
                with suppress(ShutDown):
                    result.faults.append(f"a call after the end was not refused, and returned {call()!r}")

    return run_crew(seed, engine, patience, _MOST_LEASES, trouble)


def _send(paused: list[Worker], number: signal.Signals) -> None:
    for worker in paused:
        if worker.running:
            os.kill(worker.log.pid, number)
