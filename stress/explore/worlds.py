"""The world of a program: with leases or without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .bells import Kernel
from .handles import taken_over
from .leased_world import LeasedWorld
from .program import Program
from .scheduler import Scheduler
from .world import World


@contextmanager
def open_world(program: Program) -> Iterator[World]:
    """Set a program up, in a process that belongs to it alone for the time."""
    scheduler, dead = Scheduler(), set[int]()
    kernel = Kernel(scheduler)
    kind = LeasedWorld if program.leases else World
    with taken_over(scheduler, dead, kernel), kernel.replaces_that_of_the_package():
        yield kind(program, scheduler, dead, kernel)
