"""Death at the k-th atomic step of an operation, for each k, in either engine; and again in the recovery from it.

A round takes each operation once. Its victim dies before its first step, before its second, and so on until it
completes. After each death a survivor empties the queue, the items put and got are judged, and the queue has to take a
full load. In half of the cases another victim has died before, at a step of another operation, so that the death comes
in the middle of a recovery.

The native engine has to be built for this (stress/native/dying.h), in a copy of the package. So the rounds run in a
process of their own, which reads their names line by line.
"""

from __future__ import annotations

import faulthandler
import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from queue import Empty, Full
from random import Random
from typing import IO, Final

from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue._engine import membership
from shared_multiprocess_queue._platform import atomic_words

from ..harness import copies, dying, items
from ..harness.engines import ENGINE, MIXED, Engine, Engines, Mode
from ..harness.errors import SetupError
from ..harness.history import ConsumerHistory, ProducerHistory, Put, Verdict, judge, parse_id
from ..harness.items import LARGEST
from ..harness.processes import left_behind, new_prefix
from ..harness.rounds import Result, check_usable
from . import leased_steps
from .skip import Skip

_HEADER: Final = Path(__file__).resolve().parents[1] / "native" / "dying.h"
_ROUND: Final = 30  # times patience: for all the steps of a round

Operation = Callable[[SharedMemoryQueue, list[bytes]], object]


def _put_in_place(queue: SharedMemoryQueue, batch: list[bytes]) -> None:
    with queue.reserve(len(batch[0]), block=False) as memory:
        memory[:] = batch[0]


def _get_in_place(queue: SharedMemoryQueue, _: list[bytes]) -> None:
    with queue.view(block=False) as memory:
        bytes(memory)


_OPERATIONS: Final[dict[str, Operation]] = {
    "put": lambda queue, batch: queue.put_nowait(batch[0]),
    "put_batch": lambda queue, batch: queue.put_batch(batch, block=False),
    "get": lambda queue, _: queue.get_nowait(),
    "get_batch": lambda queue, batch: queue.get_batch(len(batch), block=False),
    "put in place": _put_in_place,
    "get in place": _get_in_place,
    "get into": lambda queue, _: queue.get_into(bytearray(LARGEST), block=False),
    "attach": lambda queue, _: SharedMemoryQueue(queue.name, run_id=queue.run_id, engine=queue.engine),
    "close": lambda queue, _: queue.close(),
}
_SINGLE: Final = ("put", "get", "put in place", "get in place", "get into")
_MODES: Final[tuple[Mode, ...]] = ("mpmc", "mpmc", "mpmc", "spsc")


class Host:
    """The process with the dying build; started when it is needed, and ended with the ``with`` block."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *exception: object) -> None:
        self._end()
        self._folder.cleanup()

    def run(self, seed: str, engine: Engines, patience: float) -> Result:
        """Let each operation die at each of its steps.

        Args:
            seed: of the round.
            engine: of all handles, or "mixed".
            patience: seconds within which each process has to make progress.

        Raises:
            Skip: the native engine cannot be built here.
        """
        return self._ask(seed, engine, patience, has_leases=False)

    def run_leased(self, seed: str, engine: Engines, patience: float) -> Result:
        """Let each operation of queues with leases die at each of its steps; see ``leased_steps``."""
        return self._ask(seed, engine, patience, has_leases=True)

    def _ask(self, seed: str, engine: Engines, patience: float, has_leases: bool) -> Result:
        if self._process is None:
            self._process = self._start()
        asking, answering = self._process.stdin, self._process.stdout
        assert asking is not None
        assert answering is not None
        with suppress(BrokenPipeError):
            print(json.dumps([seed, engine, patience, has_leases]), file=asking, flush=True)
        if line := answering.readline():
            fields = json.loads(line)
            return Result(**{**fields, "verdict": Verdict(**fields["verdict"]), "worst": tuple(fields["worst"])})
        self._end()
        return Result(rounds=1, blocked=1, faults=["the round did not come to its end; see stderr"])

    def _start(self) -> subprocess.Popen[str]:
        copy = Path(self._folder.name)
        if not (copy / "stress").exists():
            flags = ("-D_GNU_SOURCE", "-include", str(_HEADER))
            try:
                copies.copy(copy, "stress")
                copies.build_extension(copy, copies.default_compiler(), flags)
            except SetupError as error:
                raise Skip(str(error)) from None
        command = [sys.executable, "-m", __spec__.name]
        return subprocess.Popen(command, cwd=copy, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with process:  # closes its stdin, which makes it end
                pass


# ---- in the host ----------------------------------------------------------------------------------------------------


def serve(asking: IO[str], answering: IO[str]) -> None:
    """Run the rounds that are asked for, until the input ends."""
    from shared_multiprocess_queue._native import extension  # noqa: PLC0415 (it is built for this, and only here)

    fate = dying.NativeFate(extension.__file__)
    membership.open_words = lambda buffer: dying.DyingMemory(atomic_words.open_words(buffer), fate)  # type: ignore
    for line in asking:
        seed, engine, patience, has_leases = json.loads(line)
        faulthandler.dump_traceback_later(_ROUND * patience, exit=True)
        if has_leases:
            result = leased_steps.die_everywhere(seed, engine, patience, fate)
        else:
            result = _die_everywhere(seed, engine, fate)
        if result.deaths < len(_OPERATIONS):
            result.faults.append(f"only {result.deaths} victims died: the steps of this engine are not counted")
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps(asdict(result)), file=answering, flush=True)


def _die_everywhere(seed: str, engine: Engines, fate: dying.Fate) -> Result:
    result = Result()
    for name in _OPERATIONS:
        result.add(_Steps(name, f"{seed}/{name}", engine, fate).run())
    result.rounds = 1
    return result


class _Steps:
    """One operation, which dies at each of its steps.

    Args:
        operation: its name.
        seed: of all choices.
        engine: of all handles, or "mixed".
        fate: of the victims.
    """

    def __init__(self, operation: str, seed: str, engine: Engines, fate: dying.Fate) -> None:
        rng = Random(seed)
        engines: tuple[Engine, ...] = ENGINE if engine == MIXED else (engine,)
        self._fate = fate
        self._result = Result()
        self._capacity = rng.randint(1 if operation in _SINGLE else 2, 3)
        self._size = 1 if operation in _SINGLE else rng.randint(2, self._capacity)
        # Mostly so that a put has room, or a get has an item.
        least, most = (0, self._capacity - self._size) if operation.startswith("put") else (1, self._capacity)
        self._filled = rng.randint(least, most) if rng.random() < 0.8 else rng.randint(0, self._capacity)
        self._mode: Mode = rng.choice(_MODES)
        self._survivor = rng.choice(engines)
        self._operation, self._engine = operation, rng.choice(engines)
        self._before = (rng.choice(list(_OPERATIONS)), rng.choice(engines)) if rng.random() < 0.5 else None
        self._steps_before = rng.randrange(25)
        self._serials = itertools.count()

    def run(self) -> Result:
        prefix = new_prefix()
        with SharedMemoryQueue(
            "steps", True, self._capacity, LARGEST, prefix, mode=self._mode, engine=self._survivor
        ) as queue:
            try:
                self._die_everywhere(queue)
            finally:
                queue.unlink()
        self._result.faults += [f"segment {name} was left in shared memory" for name in left_behind(prefix)]
        return self._result

    def _die_everywhere(self, queue: SharedMemoryQueue) -> None:
        result = self._result
        for steps in itertools.count():
            filled = self._make(0, self._filled)
            for item in filled:
                queue.put_nowait(item)
            queue._membership.retire()  # a child may have the roles of mode spsc
            puts = [ProducerHistory(0, self._puts(filled, acknowledged=True))]
            gets: list[ConsumerHistory] = []
            if self._before is not None:
                self._die(queue, *self._before, self._steps_before, puts, gets)
            died = self._die(queue, self._operation, self._engine, steps, puts, gets)
            gets.append(ConsumerHistory("survivor", self._drain(queue)))
            verdict = judge(puts, gets)
            result.verdict.add(verdict)
            result.faults += check_usable(queue)
            if blockers := queue.get_metrics()["blocked_by"]:
                result.faults.append(f"the dead block the queue: {blockers}")
            if result.faults or not verdict.ok:
                dies = f"{self._operation} of {self._size} ({self._engine}) died at step {steps}"
                after = f", after {self._before} at step {self._steps_before}" if self._before else ""
                where = f"{self._mode}, capacity {self._capacity}, with {self._filled} items, survivor {self._survivor}"
                result.faults.append(f"{dies}{after}: {where}")
                return
            queue._membership.retire()
            if not died:
                return

    def _die(
        self,
        queue: SharedMemoryQueue,
        name: str,
        engine: Engine,
        steps: int,
        puts: list[ProducerHistory],
        gets: list[ConsumerHistory],
    ) -> bool:
        """Let a child die in an operation, and add what it may have done to the histories; return whether it died."""
        batch = self._make(len(puts), 1 if name in _SINGLE else self._size)

        def prepare() -> Callable[[], object]:
            own = SharedMemoryQueue(queue.name, run_id=queue.run_id, engine=engine)
            own._membership.batch_lock._flag = dying.DyingFlag(own._membership.flag, self._fate)  # type: ignore

            def operate() -> None:
                with suppress(Empty, Full):
                    _OPERATIONS[name](own, batch)

            return operate

        died = dying.dies(prepare, self._fate, steps)
        self._result.deaths += died
        if name.startswith("put"):
            puts.append(ProducerHistory(len(puts), self._puts(batch, acknowledged=False)))
        elif name.startswith("get"):
            gets.append(ConsumerHistory(f"victim {name}", [], killed=True, asked=len(batch)))
        return died

    def _make(self, producer: int, count: int) -> list[bytes]:
        return [items.make_quickly(producer, next(self._serials)) for _ in range(count)]

    @staticmethod
    def _puts(batch: list[bytes], acknowledged: bool) -> list[Put]:
        serials = [parse_id(items.identify(item))[1] for item in batch]
        if acknowledged:
            return [Put(serial, 1, True) for serial in serials]
        return [Put(serials[0], len(serials), False)]

    @staticmethod
    def _drain(queue: SharedMemoryQueue) -> list[int]:
        found = []
        with suppress(Empty):
            while True:
                found.append(items.identify(queue.get_nowait()))
        return found


if __name__ == "__main__":
    serve(sys.stdin, sys.stdout)
