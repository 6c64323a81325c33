"""Processes that fork while their other threads put and get through the handle that the children inherit.

A child uses the handle, closes it, or leaves without touching it; children are killed, and so are parents whose
children go on.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from shared_multiprocess_queue import SharedMemoryQueue

from ..harness import workers
from ..harness.engines import Engines
from ..harness.logs import Log, Signals
from ..harness.processes import Party, Worker, children
from ..harness.rounds import Result, Round, run_round, wait_exactly
from ..harness.workers import Task
from .troubles import setting_of, some_moment

_SUBREAPER: Final = 36  # PR_SET_CHILD_SUBREAPER: children of a dead child become ours
_POLL: Final = 0.005  # seconds
_LEAVE, _CLOSE = "leave", "close"


@dataclass(frozen=True)
class _Member:
    """A thread, or a child, of a family.

    Attributes:
        does: "producer" or "consumer"; "leave" or "close" for a child that does no more than that.
        log: of this member alone; unused if it puts and gets nothing.
        task: what it is to do.
    """

    does: str
    log: Log
    task: Task


def run(seed: str, engine: Engines, patience: float) -> Result:
    """Let families work, and kill some of their members.

    Args:
        seed: of the round.
        engine: of all handles, or "mixed".
        patience: seconds within which each process has to make progress.
    """
    rng, setting = setting_of(seed)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SUBREAPER, 1)

    def trouble(current: Round) -> None:
        parties: list[Party] = []
        before = set(children())

        def member(does: str, fate: str) -> _Member:
            if does in (_LEAVE, _CLOSE):
                return _Member(does, Log(0, current.signals), Task(does, 0, ""))
            name, number, log = current.join(does, fate)
            party = Party(name, log)
            current.enroll(does, party)
            parties.append(party)
            visits = rng.randint(1, 60)
            mixed = current.is_mixed
            task = Task(name, number, f"{seed}/{name}", "mixed", setting.capacity, is_mixed=mixed, visits=visits)
            return _Member(does, log, task)

        threads = [member(role, "thread") for role in ("producer", "consumer")]
        chosen = [rng.choice(("producer", "consumer", "producer", "consumer", _LEAVE, _CLOSE)) for _ in range(4)]
        forked = [member(does, "forked") for does in chosen]
        log = Log(0, current.signals)
        parent = current.processes.start("family", log, _live, current.queue, log, current.signals, threads, forked)
        current.result.events += len(forked)
        current.wait_for_start([parent])
        current.signals.mark()
        for victim in rng.sample(parties[2:], min(len(parties[2:]), rng.randint(0, 2))):
            wait_exactly(some_moment(rng))
            _kill_child(current, parent, victim)
        if rng.random() < 0.5:
            wait_exactly(some_moment(rng))
            _kill_parent(current, parent, parties[:2])
        current.wait([parent], lambda worker: not worker.running, "see all its children end")
        _wait_for_orphans(current, before)

    return run_round(setting, engine, patience, trouble)


def _kill_child(current: Round, parent: Worker, victim: Party) -> None:
    """Kill a child that runs; its parent, which runs too, has not collected it."""
    if parent.running and victim.log.started and not victim.log.ended:
        victim.killed = True
        os.kill(victim.log.pid, signal.SIGKILL)
        current.result.deaths += 1


def _kill_parent(current: Round, parent: Worker, threads: list[Party]) -> None:
    if parent.running:
        current.kill([parent])
        for party in threads:
            party.killed = True


def _wait_for_orphans(current: Round, before: set[int]) -> None:
    """Collect the children of a parent that was killed; they end by themselves."""
    ours = {worker.process.pid for worker in current.processes.workers}
    until = time.monotonic() + current.patience
    while orphans := set(children()) - ours - before:
        for pid in orphans:
            found, status = os.waitpid(pid, os.WNOHANG)
            if found and status not in (0, signal.SIGKILL):
                current.result.faults.append(f"a child whose parent was killed ended with status {status}")
        if time.monotonic() > until:
            for pid in orphans:
                os.kill(pid, signal.SIGKILL)
            current.result.blocked = 1
            current.result.faults.append(f"children of a killed parent did not get on: {sorted(orphans)}")
            until += current.patience
        time.sleep(_POLL)


# ---- in the family --------------------------------------------------------------------------------------------------


def _live(queue: SharedMemoryQueue, log: Log, signals: Signals, threads: list[_Member], forked: list[_Member]) -> None:
    """Start threads, fork children while they work, and wait for all."""
    running = [threading.Thread(target=_guarded, args=(_use, queue, member, signals)) for member in threads]
    for thread in running:
        thread.start()
    log.start()
    pids = []
    for member in forked:
        pid = os.fork()
        if pid == 0:
            _guarded(_be_child, queue, member, signals)
            os._exit(0)
        pids.append(pid)
        log.beat()
    for pid in pids:
        _, status = os.waitpid(pid, 0)
        log.beat()
        if status not in (0, signal.SIGKILL):
            raise RuntimeError(f"a forked child ended with status {status}")
    for thread in running:
        thread.join()
        log.beat()


def _use(queue: SharedMemoryQueue, member: _Member, signals: Signals) -> None:
    work = workers.put_items if member.does == "producer" else workers.get_items
    work(queue, member.log, signals, member.task, Random(member.task.seed))


def _be_child(queue: SharedMemoryQueue, member: _Member, signals: Signals) -> None:
    if member.does == _CLOSE:
        queue.close()
    elif member.does != _LEAVE:
        _use(queue, member, signals)


def _guarded(function: Callable[..., None], *arguments: object) -> None:
    """Call a function, and end the process if it fails."""
    try:
        function(*arguments)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
