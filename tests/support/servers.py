"""Whether there is a server to test with; ``stress.remote.server`` starts it."""

from __future__ import annotations

import os

import pytest

from stress.remote.server import PROGRAMS, Server, free_port

__all__ = ["Server", "free_port", "programs_or_skip"]


def programs_or_skip() -> list[str]:
    """Return the programs that are installed; without any, skip the test, or fail it in the gate."""
    if not PROGRAMS:
        if os.environ.get("CI"):
            pytest.fail("redis-server is not installed; .ci/run installs it")
        pytest.skip("neither redis-server nor valkey-server is installed, and a queue on a server needs one")
    return PROGRAMS
