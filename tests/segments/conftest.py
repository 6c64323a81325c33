"""The segments of queue "q" as files, and checks that what fails leaves nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared_multiprocess_queue._engine import lifecycle
from tests.support.descriptors import open_descriptors
from tests.support.places import SHM
from tests.support.segments import segments_of


@pytest.fixture
def path(run_id: str) -> Path:
    """Where the segment of queue "q" lies."""
    return SHM / f"{run_id}-q-queue"


@pytest.fixture
def lock_path(run_id: str) -> Path:
    return SHM / f"{run_id}-q-queue-lock"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no process wait for a creator."""
    monkeypatch.setattr(lifecycle, "_WAIT_FOR_CREATOR", 0)


@pytest.fixture
def no_leaks(run_id: str) -> Iterator[None]:
    """Check that what fails keeps no descriptor open and leaves no segment."""
    before = open_descriptors()
    yield
    assert open_descriptors() <= before, "descriptors were left open"
    assert segments_of(run_id) == set()
