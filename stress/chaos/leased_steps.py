"""Death at the k-th atomic step of an operation of a queue with leases, for each k; and again in the recovery from it.

Half of the operations have queues on which what comes back is a dead letter. Each death has a queue of its own. In half
of the cases another victim has died before at a step of another operation, so that the death comes while a lease is
taken over or a slot settled. Afterwards a survivor ends what it gets: each item that the victims cannot have ended
comes once, with deliveries that the deaths explain, and a join returns.
"""

from __future__ import annotations

import itertools
import os
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, Full
from random import Random
from typing import Final, NamedTuple

from shared_multiprocess_queue import DeadLetterGoneError, RoleTakenError, SharedMemoryQueue, ShutDown
from shared_multiprocess_queue._ring import layout

from ..harness import dying
from ..harness.engines import ENGINE, MIXED, Engine, Engines, Mode
from ..harness.processes import POLL, left_behind, new_prefix
from ..harness.rounds import Result

Operation = Callable[[], object]
Prepare = Callable[[SharedMemoryQueue], Operation]

_PUT: Final = 1 << 20  # all items that victims put are larger
_MODES: Final[tuple[Mode, ...]] = ("mpmc", "mpmc", "mpmc", "spsc")


class _Kind(NamedTuple):
    """An operation that dies.

    Attributes:
        prepare: is not killed; returns the operation.
        may_end: whether it may end the first item of the queue, which it has leased by then.
        is_the_end: whether no item comes after it: it shuts the queue down immediately.
    """

    prepare: Prepare
    may_end: bool = False
    is_the_end: bool = False


def _own_item() -> int:
    """Return the first of two items that no other victim puts."""
    return _PUT + 2 * os.getpid()


def _calling(call: Callable[[SharedMemoryQueue], object]) -> Prepare:
    return lambda queue: lambda: call(queue)


def _with_lease(end: str, **choices: object) -> Prepare:
    def prepare(queue: SharedMemoryQueue) -> Operation:
        try:
            lease = queue.lease(block=False)
        except (Empty, RoleTakenError):
            return lambda: None

        def operate() -> object:
            return getattr(lease, end)(**choices)

        return operate

    return prepare


def _task_done(queue: SharedMemoryQueue) -> Operation:
    try:
        queue.get_nowait()
    except (Empty, RoleTakenError):
        return lambda: None
    return queue.task_done


def _with_letter(end: str) -> Prepare:
    def prepare(queue: SharedMemoryQueue) -> Operation:
        with suppress(Empty, RoleTakenError):
            queue.lease(block=False).release()

        def operate() -> None:
            for letter in queue.dead_letters():
                getattr(letter, end)()

        return operate

    return prepare


def _close(queue: SharedMemoryQueue) -> Operation:
    with suppress(Empty, RoleTakenError):
        queue.get_nowait()
    return queue.close


_OPERATIONS: Final[dict[str, _Kind]] = {
    "lease": _Kind(_calling(lambda queue: queue.lease(block=False))),
    "lease_batch": _Kind(_calling(lambda queue: queue.lease_batch(2, block=False))),
    "get": _Kind(_calling(lambda queue: queue.get_nowait())),
    "done": _Kind(_with_lease("done"), may_end=True),
    "task_done": _Kind(_task_done, may_end=True),
    "release": _Kind(_with_lease("release")),
    "release last": _Kind(_with_lease("release", last=True)),
    "release later": _Kind(_with_lease("release", delay=1e-3)),
    "letter.done": _Kind(_with_letter("done"), may_end=True),
    "letter.put_back": _Kind(_with_letter("put_back")),
    "put": _Kind(_calling(lambda queue: queue.put_nowait(_own_item()))),
    "put_batch": _Kind(
        _calling(lambda queue: queue.put_batch([_own_item(), _own_item() + 1][: queue.capacity], block=False))
    ),
    "join": _Kind(_calling(lambda queue: queue.join(0.0))),
    "close": _Kind(_close),
    "shutdown": _Kind(_calling(lambda queue: queue.shutdown())),
    "stop": _Kind(_calling(lambda queue: queue.shutdown(immediate=True)), is_the_end=True),
}
_BEFORE: Final = tuple(name for name, kind in _OPERATIONS.items() if not kind.is_the_end and name != "shutdown")


def die_everywhere(seed: str, engine: Engines, patience: float, fate: dying.Fate) -> Result:
    """Let each operation die at each of its steps.

    Args:
        seed: of the round.
        engine: of all handles, or "mixed".
        patience: seconds within which the survivor has to find what is left.
        fate: of the victims.
    """
    result = Result()
    for name in _OPERATIONS:
        result.add(_Steps(name, f"{seed}/{name}", engine, patience, fate).run())
    result.rounds = 1
    return result


class _Steps:
    """One operation, which dies at each of its steps."""

    def __init__(self, operation: str, seed: str, engine: Engines, patience: float, fate: dying.Fate) -> None:
        rng = Random(seed)
        engines: tuple[Engine, ...] = ENGINE if engine == MIXED else (engine,)
        self._fate = fate
        self._patience = patience
        self._result = Result()
        self._capacity, self._leases = rng.randint(1, 3), rng.randint(1, 2)
        self._filled = rng.randint(1, self._capacity) if rng.random() < 0.8 else 0
        self._mode: Mode = rng.choice(_MODES)
        self._max_deliveries = rng.randrange(2)
        self._survivor = rng.choice(engines)
        self._operation, self._engine = operation, rng.choice(engines)
        self._before = (rng.choice(_BEFORE), rng.choice(engines)) if rng.random() < 0.5 else None
        self._steps_before = rng.randrange(60)

    def run(self) -> Result:
        prefix = new_prefix()
        for steps in itertools.count():
            with SharedMemoryQueue(
                *("steps", True, self._capacity, 64, prefix),
                mode=self._mode,
                engine=self._survivor,
                leases=self._leases,
                max_deliveries=self._max_deliveries,
            ) as queue:
                try:
                    has_died = self._die_once(queue, steps)
                finally:
                    queue.unlink()
            result = self._result
            if result.faults or not result.verdict.ok:
                dies = f"{self._operation} ({self._engine}) died at step {steps}"
                after = f", after {self._before} at step {self._steps_before}" if self._before else ""
                where = f"{self._mode}, capacity {self._capacity}, {self._leases} leases, with {self._filled} items"
                where += ", letters after 1 delivery" * self._max_deliveries
                result.faults.append(f"{dies}{after}: {where}, survivor {self._survivor}")
                break
            if not has_died:
                break
        self._result.faults += [f"segment {name} was left in shared memory" for name in left_behind(prefix)]
        return self._result

    def _die_once(self, queue: SharedMemoryQueue, steps: int) -> bool:
        for item in range(self._filled):
            queue.put_nowait(item)
        queue._membership.retire()  # a child may have the roles of mode spsc
        deaths = 0
        if self._before is not None:
            deaths += self._die(queue, *self._before, self._steps_before)
        has_died = self._die(queue, self._operation, self._engine, steps)
        deaths += has_died
        self._result.deaths += deaths
        self._look_at_what_is_left(queue, has_died, deaths)
        return has_died

    def _die(self, queue: SharedMemoryQueue, name: str, engine: Engine, steps: int) -> bool:
        def prepare() -> Operation:
            own = SharedMemoryQueue(queue.name, run_id=queue.run_id, engine=engine)
            own._membership.batch_lock._flag = dying.DyingFlag(own._membership.flag, self._fate)  # type: ignore
            operation = _OPERATIONS[name].prepare(own)

            def operate() -> None:
                with suppress(Empty, Full, RoleTakenError, ShutDown, DeadLetterGoneError):
                    operation()

            return operate

        _look_now(queue)
        return dying.dies(prepare, self._fate, steps)

    def _look_at_what_is_left(self, queue: SharedMemoryQueue, has_died: bool, deaths: int) -> None:
        """Judge what the survivor gets: the items of each operation, but for those that the victims may have ended."""
        verdict, faults = self._result.verdict, self._result.faults
        kind = _OPERATIONS[self._operation]
        if kind.is_the_end or self._operation == "shutdown":  # the victim may have died before it said so
            queue.shutdown(immediate=kind.is_the_end)
        found = self._end_all(queue)
        verdict.acknowledged += self._filled
        verdict.delivered += len(found)
        items = [item for item, _ in found]
        verdict.doubled += len(items) - len(set(items))
        missing = set(range(self._filled)) - set(items)
        victims = [kind, *([_OPERATIONS[self._before[0]]] if self._before else [])]
        excused = len(missing) if kind.is_the_end else sum(victim.may_end for victim in victims)
        verdict.unaccounted += min(len(missing), excused)
        verdict.lost += max(len(missing) - excused, 0)
        faults += [f"item {item} came and was not put" for item in items if item >= self._filled and item < _PUT]
        most = 1 + 2 * len(victims)  # a victim that leases, and gives back or dies, adds one or two
        faults += [f"item {item} was told {told} deliveries" for item, told in found if not 1 <= told <= most]
        if deaths and (blockers := queue.get_metrics()["blocked_by"]):
            faults.append(f"the dead block the queue: {blockers}")
        if leased := queue.get_metrics()["leased"]:
            faults.append(f"leases are held though all has ended: {leased}")
        if not queue.is_shutdown:
            self._fill(queue)

    def _end_all(self, queue: SharedMemoryQueue) -> list[tuple[int, int]]:
        """End what comes until a join returns; return the items and their deliveries."""
        found = []
        until = time.monotonic() + self._patience
        while not queue.join(0.0):
            _look_now(queue)
            with suppress(Empty, ShutDown):
                lease = queue.lease(block=False)
                found.append((lease.item, lease.deliveries))
                lease.done()
                continue
            if time.monotonic() > until:
                self._result.blocked += 1
                self._result.faults.append(f"a join did not return; metrics: {queue.get_metrics()}")
                break
            time.sleep(POLL)
        for letter in queue.dead_letters():
            found.append((letter.item, letter.deliveries))
            letter.done()
        return found

    def _fill(self, queue: SharedMemoryQueue) -> None:
        load = [f"load {number}" for number in range(queue.capacity)]
        try:
            for item in load:
                queue.put_nowait(item)
            for item in load:
                _look_now(queue)  # a lease slot may have nothing in it but the name of a dead process
                with queue.lease(block=False) as lease:
                    if (lease.item, lease.deliveries) != (item, 1):
                        self._result.faults.append(f"{item} came as {lease.item}, delivery {lease.deliveries}")
        except (Empty, Full) as error:
            self._result.faults.append(f"a full load ended in {type(error).__name__}")


def _look_now(queue: SharedMemoryQueue) -> None:
    """Let the next get look for dead holders of leases."""
    struct.pack_into("=Q", queue._membership.segment.buffer, layout.LOOK_AT, 0)
