"""What comes over workers while others go on: kills, pauses, a batch lock without its holder, comings and goings.

Each of these is a round of ``harness.rounds``; the survivors have to get on, and what was put and got is judged.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Final, Literal, cast, get_args

from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue._ring import layout

from ..harness.engines import Engines, Mode
from ..harness.logs import now
from ..harness.processes import POLL, Worker
from ..harness.rounds import Result, Round, Setting, run_round, wait_exactly
from ..harness.workers import Calls
from . import kill

_SCALES: Final = (100e-6, 1e-3, 5e-3, 20e-3)  # seconds; trouble comes at a random moment within one of these
_PAUSES: Final = 3  # calls that a survivor has to do during a pause, unless a paused worker holds it up
_HOLD: Final = 0.02  # seconds, at most, that a pause lasts longer than that
_LOCK_PATIENCE: Final = 0.5  # seconds to wait until a victim holds the batch lock
_CHURN: Final = (0.2, 0.6)  # seconds that visitors come, from and to
_VISITORS: Final = 4  # at the same time
_SPSC: Final = 0.2  # of the rounds of kills are in mode "spsc"

Role = Literal["producer", "consumer"]
_ROLES: Final[tuple[Role, ...]] = get_args(Role)


def setting_of(seed: str, least: int = 1) -> tuple[Random, Setting]:
    """Return the source of a round's choices, and a setting chosen from it.

    Args:
        seed: of the round.
        least: capacity.
    """
    rng = Random(seed)
    producers, consumers = rng.choice(((1, 1), (1, 1), (2, 1), (1, 2)))
    return rng, Setting(seed, rng.randint(least, 5), producers, consumers)


def some_moment(rng: Random) -> float:
    """Return a time to wait, in seconds: mostly short, so that it ends in the middle of something."""
    return rng.random() * rng.choice(_SCALES)


# ---- kills ----------------------------------------------------------------------------------------------------------


def run_kills(seed: str, engine: Engines, patience: float) -> Result:
    """Kill producers and consumers at random moments, in either mode: a round of ``kill``."""
    rng = Random(seed)
    victim = rng.choice(kill.KINDS)
    mode: Mode = "spsc" if rng.random() < _SPSC else "mpmc"
    return kill.run_planned(kill.plan_round(seed, victim, 0, mode), engine, mode, patience)


# ---- stop -----------------------------------------------------------------------------------------------------------


def run_stop(seed: str, engine: Engines, patience: float) -> Result:
    """Stop workers at random moments, and let them go on later.

    Meanwhile the survivors get on, or the queue's metrics name a stopped worker as what holds them up.
    """
    rng, setting = setting_of(seed)

    def trouble(current: Round) -> None:
        calls: tuple[Calls, ...] = ("singles", "batches", "mixed")
        paused = [
            current.start(rng.choice(_ROLES), "paused", rng.choice(calls), tight=True) for _ in range(rng.randint(1, 3))
        ]
        current.wait_for_start(paused)
        current.signals.mark()
        for _ in range(rng.randint(4, 8)):
            wait_exactly(some_moment(rng))
            chosen = rng.sample(paused, rng.randint(1, len(paused)))
            for worker in chosen:
                _send(worker, signal.SIGSTOP)
            try:
                _watch_pause(current, chosen)
                time.sleep(rng.random() * _HOLD)
            finally:
                for worker in chosen:
                    _send(worker, signal.SIGCONT)
            current.result.events += len(chosen)

    result = run_round(setting, engine, patience, trouble)
    if result.held_up:  # then they waited as long as the pause was, with reason
        result.stalls, result.worst = [], (0.0, "")
    return result


def _send(worker: Worker, number: signal.Signals) -> None:
    pid = worker.process.pid
    assert pid is not None
    os.kill(pid, number)
    if number == signal.SIGSTOP:
        os.waitid(os.P_PID, pid, os.WSTOPPED)


def _watch_pause(current: Round, paused: list[Worker]) -> None:
    """See that all survivors get on, or that a paused worker is named as what they wait for."""
    goals = {worker: worker.log.calls + _PAUSES for worker in current.survivors}
    pids = {worker.process.pid for worker in paused}
    since = now()

    def gets_on(worker: Worker) -> bool:
        if worker.log.calls >= goals[worker]:
            return True
        if now() - since < 1e9 * POLL * 10:
            return False
        return any(blocker["pid"] in pids for blocker in current.queue.get_metrics()["blocked_by"])

    current.wait(current.survivors, gets_on, "get on while others were stopped that held nothing")
    if any(worker.log.calls < goals[worker] for worker in current.survivors):
        current.result.held_up += 1


# ---- the batch lock -------------------------------------------------------------------------------------------------


def run_lock(seed: str, engine: Engines, patience: float) -> Result:
    """Kill the holder of the batch lock, and then its heir.

    Each death may cost others a sleep of 100 ms at the gate that the dead one has shut, so survivors get on in between.
    """
    rng, setting = setting_of(seed, least=2)

    def trouble(current: Round) -> None:
        victims = [current.start("producer", "victim", "batches", tight=True) for _ in range(rng.randint(3, 6))]
        current.wait_for_start(victims)
        with _lock_holder(current.queue) as holder:
            while victims:
                wait_exactly(some_moment(rng))
                lag = rng.choice((0.0, 0.0, 5e-6, 50e-6, 500e-6)) * rng.random()
                victim = _wait_for_holder(holder, victims) or rng.choice(victims)
                wait_exactly(lag)
                current.kill([victim])
                victims.remove(victim)
                if len(victims) % 2 == 0:
                    current.let_survivors_go_on(1)

    return run_round(setting, engine, patience, trouble)


class _Holder:
    """Tells which process holds the batch lock, by a look at the words: it takes less time than holders do."""

    def __init__(self, words: memoryview) -> None:
        self._words = words

    def pid(self) -> int:
        """Return the process id; 0 if no process holds it."""
        name = self._words[layout.BATCH_OWNER_AT // layout.WORD]
        if not name:
            return 0
        index, _ = layout.parse_name(name)
        return layout.parse_owner(self._words[(layout.record_at(index) + layout.OWNER) // layout.WORD])[0]


@contextmanager
def _lock_holder(queue: SharedMemoryQueue) -> Iterator[_Holder]:
    with queue._membership.segment.buffer[: layout.SLOTS_START] as part, part.cast("Q") as words:
        yield _Holder(words)


def _wait_for_holder(holder: _Holder, victims: list[Worker]) -> Worker | None:
    """Return the victim that holds the lock, as soon as one does; None if none does for long."""
    by_pid = {cast(int, worker.process.pid): worker for worker in victims}
    until = now() + int(_LOCK_PATIENCE * 1e9)
    while now() < until:
        if victim := by_pid.get(holder.pid()):
            return victim
    return None


# ---- churn ----------------------------------------------------------------------------------------------------------


def run_churn(seed: str, engine: Engines, patience: float) -> Result:
    """Let visitors attach, work a little, and leave: by closing, by exiting without that, or killed."""
    rng, setting = setting_of(seed)

    def trouble(current: Round) -> None:
        current.signals.mark()
        here: list[Worker] = []
        until = time.monotonic() + rng.uniform(*_CHURN)
        while time.monotonic() < until:
            if len(here) < _VISITORS:
                exits = rng.random() < 0.5
                here.append(current.start(rng.choice(_ROLES), "visitor", visits=rng.randint(1, 40), exits=exits))
                current.result.events += 1
            time.sleep(some_moment(rng))
            if here and rng.random() < 0.3:
                victim = here.pop(rng.randrange(len(here)))
                if victim.running:
                    current.kill([victim])
            here = [worker for worker in here if worker.running]
        current.wait(here, lambda worker: not worker.running, "end its visit")

    return run_round(setting, engine, patience, trouble)
