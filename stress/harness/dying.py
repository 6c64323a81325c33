"""Processes that die at a chosen atomic step: the engine as it is, over words that count.

The engine in Python counts in ``Fate``; the native one, built with stress/native/dying.h, in a variable of its own,
which ``NativeFate`` reaches.
"""

from __future__ import annotations

import ctypes
import os
import signal
import traceback
from collections.abc import Callable

from shared_multiprocess_queue._platform import atomic_words
from shared_multiprocess_queue._platform.mutex import LockFlag

COMPLETED = 0  # exit status of a child that ended its operation before the chosen step
FAILED = 3
WATCHDOG = 60  # seconds, after which a child hangs and is ended


class Fate:
    """Kills this process at the beginning of a step.

    Args:
        counts_loads: whether a load is a step, too. A death before it leaves the words as a death before the next
            change does, so two deaths in a row need no loads.
    """

    def __init__(self, counts_loads: bool = True) -> None:
        self.left = -1  # steps to live; negative: immortal
        self._counts_loads = counts_loads

    def load(self) -> None:
        """Begin a step that changes nothing."""
        if self._counts_loads:
            self.step()

    def step(self) -> None:
        """Begin a step."""
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1


class NativeFate(Fate):
    """Kills this process at the beginning of a step of either engine.

    Args:
        path: of the extension, built with stress/native/dying.h.
    """

    def __init__(self, path: str) -> None:
        self._counts_loads = True
        library = ctypes.CDLL(path)
        self._left = ctypes.c_long.in_dll(library, "shmq_steps_left")
        self.step = library.shmq_dying_step  # type: ignore[method-assign]

    @property
    def left(self) -> int:
        return self._left.value

    @left.setter
    def left(self, steps: int) -> None:
        self._left.value = steps


class DyingWords:
    """Access to words that calls fate before every step that others can see or that depends on others."""

    def __init__(self, inner: atomic_words.Words, fate: Fate) -> None:
        def dying(begin: Callable[[], object], operation: Callable[..., object]) -> Callable[..., object]:
            def run(*arguments: object) -> object:
                begin()
                return operation(*arguments)

            return run

        for name in ("load", "load_after_rmw", "peek"):
            setattr(self, name, dying(fate.load, getattr(inner, name)))
        for name in ("store", "cas", "cas_noted", "add", "announce"):
            setattr(self, name, dying(fate.step, getattr(inner, name)))

        def announce_range(offset: int, begin: int, end: int) -> None:
            self.announce(offset, begin)  # type: ignore[attr-defined]
            self.announce(offset + 8, end)  # type: ignore[attr-defined]

        self.announce_range = announce_range


class DyingMemory:
    """The words of a segment, for an operation that is to die."""

    def __init__(self, inner: atomic_words.WordMemory, fate: Fate) -> None:
        self._inner = inner
        self._fate = fate

    def words(self) -> atomic_words.Words:
        return DyingWords(self._inner.words(), self._fate)  # type: ignore[return-value]

    def reader(self) -> atomic_words.Reader:
        return self._inner.reader()

    def release(self) -> None:
        self._inner.release()


class DyingFlag:
    """The int32 of the batch lock, for an operation that is to die."""

    def __init__(self, inner: LockFlag, fate: Fate) -> None:
        self._inner = inner
        self._fate = fate

    def try_acquire(self) -> bool:
        self._fate.step()
        return self._inner.try_acquire()

    def is_held(self) -> bool:
        self._fate.load()
        return self._inner.is_held()

    def release(self) -> None:
        self._fate.step()
        self._inner.release()

    def close(self) -> None:
        self._inner.close()


def dies(prepare: Callable[[], Callable[[], object]], fate: Fate, steps: int) -> bool:
    """Run an operation in a child that is killed before its step number ``steps``.

    Args:
        prepare: returns the operation; is not killed.
        fate: of the child.
        steps: how many it may do.

    Returns:
        Whether it died; False means that the operation has fewer steps and was completed.
    """
    pid = os.fork()
    if pid == 0:
        status = FAILED
        signal.alarm(WATCHDOG)
        try:
            operation = prepare()
            fate.left = steps
            operation()
            fate.left = -1
            status = COMPLETED
        except BaseException:
            fate.left = -1
            traceback.print_exc()
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL, f"the child hung at step {steps}, signal {os.WTERMSIG(status)}"
        return True
    assert os.WEXITSTATUS(status) == COMPLETED, f"the child failed at step {steps}"
    return False
