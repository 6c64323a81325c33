"""What the protocol asks of the system: the time, sleep on a word, and which processes live.

One object, which the parts of the ring are given. An explorer of schedules gives them another.
"""

from __future__ import annotations

import os
from typing import Final

from . import clock, futex, processes
from .processes import Identity


class System:
    """The system that this process runs on.

    Attributes:
        looks: at an announcement that is in the way, before it is asked whether its owner lives. An operation whose
            process has a processor mostly ends in less time than these take, 8 µs; to ask takes 13 µs.
    """

    looks: int = 8

    def now(self) -> int:
        """Return the monotonic time in nanoseconds."""
        return clock.now()

    def sleep(self, seconds: float) -> None:
        """Sleep for some seconds."""
        clock.sleep(seconds)

    def wait(self, address: int, expected: int, timeout: int) -> None:
        """Sleep while a word has its expected value; see ``futex.wait``."""
        futex.wait(address, expected, timeout)

    def wake(self, address: int, count: int) -> int:
        """Wake sleepers of a word, and return how many there were; see ``futex.wake``."""
        return futex.wake(address, count)

    def identity(self) -> Identity:
        """Return what tells this process from all others."""
        return processes.identity()

    def is_alive(self, pid: int, start: int) -> bool:
        """Whether a process can still run an instruction; see ``processes.is_alive``."""
        return processes.is_alive(pid, start)

    def cores(self) -> int:
        """Return how many processors there are; if a process is pinned to one, its partner may be on another."""
        return os.cpu_count() or 1


SYSTEM: Final = System()
