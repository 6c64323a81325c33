"""A full /dev/shm: creation raises a clean error, a queue that exists still works, and no process gets a SIGBUS.

The test mounts a small tmpfs over /dev/shm, in a mount namespace of its own. If that is not allowed, it is skipped with
the reason.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Full
from random import Random
from typing import Any, Final

from shared_multiprocess_queue import SharedMemoryQueue

from ..harness import engines
from ..harness.engines import Engine, Engines
from ..harness.logs import Log, Signals
from ..harness.processes import Processes, new_prefix
from ..harness.rounds import Result
from .skip import Skip

_NEWNS, _NEWUSER = 0x20000, 0x10000000
_PRIVATE: Final = 0x40000 | 0x4000  # MS_PRIVATE | MS_REC
_SHM: Final = Path("/dev/shm")
_SIZE: Final = 1 << 20  # of the small /dev/shm
_ITEM_SIZE: Final = 8192
_STAYS_FREE: Final = (0, 0, 4096, 16384)  # bytes


class _Fault(Exception):
    """What must not happen with /dev/shm full."""


def run(seed: str, engine: Engines, patience: float) -> Result:
    """Fill a small /dev/shm, create queues in it, and use one that was there before.

    Args:
        seed: of the round.
        engine: of all handles, or "mixed".
        patience: seconds that this may take.

    Raises:
        Skip: no mount namespace to be had.
    """
    result = Result(rounds=1)
    signals = Signals()
    log = Log(0, signals)
    with Processes() as processes:
        worker = processes.start("full", log, _live, log, seed, engine, new_prefix())
        worker.process.join(patience)
        if worker.running:
            result.blocked = 1
            result.faults.append(f"with /dev/shm full, {log.calls} steps were done, and then nothing got on")
            return result
        if worker.process.exitcode == _SKIPPED:
            raise Skip("a mount namespace needs root, or user namespaces that are allowed")
        if worker.process.exitcode:
            result.faults += processes.failures()
    result.events = log.calls
    return result


_SKIPPED: Final = 77  # exit status

_names = itertools.count()


def _enter_small_shm() -> None:
    libc = ctypes.CDLL(None, use_errno=True)

    def call(function: str, *arguments: Any) -> None:
        if getattr(libc, function)(*arguments) != 0:
            raise OSError(ctypes.get_errno(), f"{function} failed")

    try:
        try:
            call("unshare", _NEWNS)
        except PermissionError:
            call("unshare", _NEWNS | _NEWUSER)
        call("mount", None, b"/", None, _PRIVATE, None)
        call("mount", b"tmpfs", str(_SHM).encode(), b"tmpfs", 0, f"size={_SIZE}".encode())
    except OSError:
        os._exit(_SKIPPED)


def _live(log: Log, seed: str, engine: Engines, prefix: str) -> None:
    log.start()
    _enter_small_shm()
    rng = Random(seed)

    def choose() -> Engine:
        return engines.choose(rng, engine)

    capacity = rng.randint(1, 3)
    with SharedMemoryQueue("full", True, capacity, _ITEM_SIZE, prefix, engine=choose()) as queue:
        log.beat()
        for _ in range(10):
            with _filled(rng.choice(_STAYS_FREE)):
                _create_in_vain(rng, choose(), prefix)
                log.beat()
                _use(rng, queue, choose())
                log.beat()
        queue.unlink()
    if left := os.listdir(_SHM):
        raise _Fault(f"left in the small /dev/shm: {left}")


@contextmanager
def _filled(stays_free: int) -> Iterator[None]:
    """Fill /dev/shm but for some bytes."""
    ballast = _SHM / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            while (free := os.statvfs(_SHM).f_bavail * os.statvfs(_SHM).f_frsize - stays_free) > 0:
                file.write(bytes(min(free, 65536)))
        yield
    finally:
        ballast.unlink()


def _create_in_vain(rng: Random, engine: Engine, prefix: str) -> None:
    """Ask for more than is left: an OSError of the right kind, and nothing of it remains."""
    before = sorted(os.listdir(_SHM))
    try:
        SharedMemoryQueue("more", True, rng.randint(1, 50), rng.randint(1, 10000), prefix, engine=engine)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise _Fault(f"the error of a full /dev/shm is {error!r}") from error
    else:
        raise _Fault("a queue was created in a full /dev/shm")
    if sorted(os.listdir(_SHM)) != before:
        raise _Fault(f"a creation in vain left {sorted(os.listdir(_SHM))}, and before it there were {before}")


def _use(rng: Random, queue: SharedMemoryQueue, engine: Engine) -> None:
    """Send items from a child: as many as fit, as large as fit, and some with a definition of ``__main__``."""
    made = [_make(rng) for _ in range(queue.capacity)]

    def send() -> None:
        with SharedMemoryQueue(queue.name, run_id=queue.run_id, engine=engine) as own:
            for item in made:
                own.put_nowait(item)
            with suppress(Full):
                own.put_nowait(b"one more")
                raise _Fault("the queue took more than its capacity")

    _in_child(send)
    got = [queue.get_nowait() for _ in made]
    for sent, received in zip(made, got, strict=True):
        if _as_value(received) != _as_value(sent):
            raise _Fault(f"{_as_value(sent)!r} was put, and {_as_value(received)!r} got")


def _make(rng: Random) -> object:
    if rng.random() < 0.3:
        return rng.randbytes(_ITEM_SIZE)
    # A new class of __main__: its definition goes into the part of the segment that has no memory yet, or, where there
    # is none, travels with the item.
    name = f"Parcel{next(_names)}"
    kind = type(name, (), {"__module__": "__main__", "text": "x" * rng.randrange(5000)})
    setattr(sys.modules["__main__"], name, kind)
    item: Any = kind()
    item.number = rng.random()
    return item


def _as_value(item: Any) -> object:
    return item if isinstance(item, bytes) else (type(item).__name__, item.text, item.number)


def _in_child(function: Callable[[], None]) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            function()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        raise _Fault(f"the child died of {signal.Signals(os.WTERMSIG(status)).name}")
    if status:
        raise _Fault("the child failed")
