"""The engine that interrupts are for."""

from __future__ import annotations

import pytest

from shared_multiprocess_queue._engine import choice


@pytest.fixture(autouse=True)
def atomics_unless_told(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut operations between the bytecodes of the engine that has some; the rest here is run on each engine."""
    if "engines" not in request.fixturenames:
        monkeypatch.setenv(choice.ENVIRONMENT, "atomics")
