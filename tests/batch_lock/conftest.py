"""The real package shared_memory_lock in a folder of its own, and ours in this process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from shared_multiprocess_queue._platform import mutex
from tests.support.lock_workers import VERSION


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the real package, which says that it needs a newer Python than it does, into a folder of its own."""
    folder = tmp_path_factory.mktemp("package")
    result = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"),
            *("--ignore-requires-python", "--target", str(folder), f"shared-memory-lock=={VERSION}"),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if result.returncode != 0:
        out_of_reach = ("No matching distribution", "Could not find a version", "onnection", "No module named pip")
        assert any(text in result.stderr for text in out_of_reach), result.stderr
        pytest.skip(f"pip reaches no index that has shared-memory-lock {VERSION}: {result.stderr.strip()[-200:]}")
    return folder


@pytest.fixture(autouse=True)
def ours_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process speak the protocol by itself, also where the package is installed."""
    monkeypatch.setattr(mutex, "lock_class", lambda: mutex.OwnLock)
