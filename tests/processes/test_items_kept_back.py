"""An item that an interrupt left with a child goes back when the child ends."""

from __future__ import annotations

import os
from contextlib import suppress

import pytest

from shared_multiprocess_queue import SharedMemoryQueue
from tests.support.children import running
from tests.support.queues import MakeQueue
from tests.support.waiting import LONG

# From 3.12 on Python warns of every fork beside a thread; that is what some tests here are about.
pytestmark = [
    pytest.mark.usefixtures("engines"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


class Interrupts:
    """An item whose deserialisation is interrupted, but for the process that put it."""

    def __init__(self, home: int) -> None:
        self.home = home

    def __setstate__(self, state: dict[str, int]) -> None:
        if os.getpid() != state["home"]:
            raise KeyboardInterrupt
        self.home = state["home"]


def is_interrupted_and_ends(queue: SharedMemoryQueue) -> None:
    with suppress(KeyboardInterrupt):
        queue.get(timeout=LONG)


def test_a_child_that_ends_puts_back_what_an_interrupt_left_it_with(make_queue: MakeQueue, start_method: str) -> None:
    """Children of multiprocessing end without the functions of atexit."""
    queue = make_queue(capacity=2)
    queue.put(Interrupts(os.getpid()))
    with running(start_method, is_interrupted_and_ends, queue):
        pass
    assert queue.get(timeout=LONG).home == os.getpid()
