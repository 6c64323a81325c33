"""Queues of each mode, eager threads, and sleepers that look again for a wake only."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue._engine import waiting
from shared_multiprocess_queue._ring import parking
from tests.support.queues import MakeQueue


@pytest.fixture
def make(make_queue: MakeQueue, mode: str) -> MakeQueue:
    """Make queues of this run's mode."""

    def made(name: str = "q", **arguments: object) -> SharedMemoryQueue:
        return make_queue(name, mode=mode, **arguments)

    return made


@pytest.fixture
def eager() -> Iterator[None]:
    """Let threads take turns far more often than they do by themselves."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(2e-5)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def only_wakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no sleep end by itself, so that a missed wake is not healed by the end of a slice."""
    for module in (parking, waiting):
        monkeypatch.setattr(module, "SLICE", 10**18)
