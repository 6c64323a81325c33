"""Queues with leases, of each engine that has them."""

from __future__ import annotations

import os

import pytest

from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue._engine import choice
from tests.support.queues import MakeQueue

ENGINES = ["atomics", *(["native"] if choice.has_native() else [])]


@pytest.fixture(params=ENGINES)
def leasing_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let all handles have this engine."""
    engine: str = request.param
    monkeypatch.setenv("SHMQ_ENGINE", engine)
    return engine


@pytest.fixture
def make_leased(make_queue: MakeQueue, leasing_engine: str) -> MakeQueue:
    """Make queues with leases, 2 if it is not said."""
    assert leasing_engine == os.environ["SHMQ_ENGINE"]

    def made(name: str = "q", **arguments: object) -> SharedMemoryQueue:
        return make_queue(name, **{"leases": 2, "capacity": 4, **arguments})

    return made
