"""Folders of sources for the command."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.demo import MANY


@pytest.fixture(autouse=True)
def nobody_ignores_signals() -> Iterator[None]:
    """A run under nohup ignores SIGHUP, and its children would inherit that."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small folder of sources, one of them in a folder and one that does not count."""
    (tmp_path / "one.py").write_text("for one in range(3):\n    print(one)\n")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "two.py").write_text("two = 'two'  # two\n")
    (tmp_path / "inner" / "site-packages").mkdir()
    (tmp_path / "inner" / "site-packages" / "three.py").write_text("three = 3\n")
    (tmp_path / "notes.txt").write_text("no source\n")
    return tmp_path


@pytest.fixture
def many_files(tmp_path: Path) -> Path:
    """A folder with more files than the queues have places."""
    for i in range(MANY):
        (tmp_path / f"file{i}.py").write_text(f"name_{i} = {i}\n")
    return tmp_path
