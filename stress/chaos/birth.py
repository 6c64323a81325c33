"""Creation, attachment, closing and unlinking of one name by many processes at once, some of which are killed in it.

Each live process has to make progress. When all are dead, a creation with good arguments succeeds. An attaching process
waits for a live creator, and for a second for a dead one; this does not count as a stall.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from queue import Empty, Full
from random import Random
from typing import Any, Final

from shared_multiprocess_queue import QueueExistsError, QueueNotFoundError, QueueNotReadyError, SharedMemoryQueue

from ..harness import engines
from ..harness.engines import Engine, Engines
from ..harness.logs import Log, Signals
from ..harness.processes import Processes, Watchdog, Worker, left_behind, new_prefix
from ..harness.rounds import Result, check_usable, wait_exactly
from .troubles import some_moment

_NAME: Final = "birth"
_GO_ON: Final = 20  # steps that the survivor has to do after the last kill


def run(seed: str, engine: Engines, patience: float) -> Result:
    """Let one survivor and several victims create, attach, close and unlink, and kill the victims.

    Args:
        seed: of the round.
        engine: of all handles, or "mixed".
        patience: seconds within which each process has to make progress.
    """
    prefix = new_prefix()
    try:
        result = _run(seed, engine, patience, prefix)
        result.faults += _create_at_last(prefix, engines.common(engine))
        result.faults += [f"segment {name} was left in shared memory" for name in left_behind(prefix)]
    finally:
        for name in left_behind(prefix):
            Path("/dev/shm", name).unlink()
    return result


def _run(seed: str, engine: Engines, patience: float, prefix: str) -> Result:
    """Run a round until all its processes are dead."""
    rng = Random(seed)
    result = Result(rounds=1)
    signals = Signals()
    with Processes() as processes:

        def start(fate: str) -> Worker:
            name = f"{fate} {len(processes.workers)}"
            log = Log(0, signals)
            return processes.start(name, log, _live, prefix, log, signals, f"{seed}/{name}", engine)

        survivor = start("survivor")
        victims = [start("victim") for _ in range(rng.randint(1, 3))]
        for _ in range(rng.randint(4, 10)):
            wait_exactly(some_moment(rng))
            signals.mark()
            victim = victims.pop(rng.randrange(len(victims)))
            processes.kill([victim])
            result.deaths += 1
            victims.append(start("victim"))
        processes.kill(victims)
        result.deaths += len(victims)
        goal = survivor.log.calls + _GO_ON
        dog = Watchdog(patience, [survivor.log])
        while survivor.running and survivor.log.calls < goal:
            if dog.barks():
                result.blocked = 1
                result.faults.append(f"the survivor does not get on ({survivor.log.doing})")
                break
            wait_exactly(1e-3)
        result.stalls = [survivor.log.longest_stall()]
        result.worst = result.stalls[0], survivor.name
        processes.kill([survivor])  # in the middle of a step, too
        result.deaths += 1
        result.faults += processes.failures()
    return result


def _live(prefix: str, log: Log, signals: Signals, seed: str, engine: Engines) -> None:
    rng = Random(seed)
    log.start()
    while not signals.stopped():
        chosen = engines.choose(rng, engine)
        try:
            _live_once(rng, prefix, chosen, log)
        except QueueExistsError:
            pass
        except (QueueNotFoundError, QueueNotReadyError):
            log.start()
        log.beat()


def _live_once(rng: Random, prefix: str, engine: Engine, log: Log) -> None:
    creates = rng.random() < 0.5
    capacity = rng.randint(1, 100)
    size: dict[str, Any] = {"capacity": capacity, "item_size": 64} if creates else {}
    with SharedMemoryQueue(_NAME, creates, run_id=prefix, engine=engine, **size) as queue:
        if not creates:
            log.start()  # restarts the stall clock
        with suppress(Full):
            queue.put_nowait(b"item")
        with suppress(Empty):
            queue.get_nowait()
        if rng.random() < 0.5:
            queue.unlink()


def _create_at_last(prefix: str, engine: Engine | None) -> list[str]:
    """Unlink a queue that the dead processes have left complete, make a new one, and return what is wrong with it."""
    try:
        try:
            queue = SharedMemoryQueue(_NAME, True, 3, 64, prefix, engine=engine)
        except QueueExistsError:
            with SharedMemoryQueue(_NAME, run_id=prefix, engine=engine) as left:
                left.unlink()
            queue = SharedMemoryQueue(_NAME, True, 3, 64, prefix, engine=engine)
    except OSError as error:
        return [f"after all were dead, a creation failed: {error!r}"]
    with queue:
        queue.unlink()
        return check_usable(queue)
