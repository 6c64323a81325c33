"""The pictures of the documents: the program that makes them runs, and they are of this version."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from shared_multiprocess_queue.cli import screens
from tests.support.places import REPOSITORY, SHM
from tests.support.waiting import LONG

FOLDER = REPOSITORY / "docs" / "tools"
HEADINGS = {
    "ls": " ".join(column.heading for column in screens.LIST[:9]).split(),
    "top": " ".join(column.heading for column in screens.TOP).split(),
    "show": ["PID", "RECORDS", "STATE", "DOING", "COMMAND", "LEASED", "PID", "DELIVERIES", "SINCE"],
}


def words(path: Path) -> list[str]:
    texts = ET.parse(path).iter("{http://www.w3.org/2000/svg}text")
    return " ".join("".join(text.itertext()) for text in texts).split()


def has_in_order(found: list[str], wanted: list[str]) -> bool:
    left = iter(found)
    return all(word in left for word in wanted)


@pytest.mark.parametrize("name", HEADINGS)
def test_a_picture_has_the_columns_of_this_version(name: str) -> None:
    assert has_in_order(words(FOLDER / f"{name}.svg"), HEADINGS[name])


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at segments as files")
def test_the_pictures_can_be_made(tmp_path: Path) -> None:
    """A copy of the program makes them, with queues that no other run has, and leaves none."""
    own = f"test{os.getpid()}-app-"
    text = (FOLDER / "pictures.py").read_text("utf-8")
    assert text.count('"app-') > 10
    (tmp_path / "pictures.py").write_text(text.replace('"app-', f'"{own}'), "utf-8")
    command = [sys.executable, str(tmp_path / "pictures.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONG, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for name, headings in HEADINGS.items():
        assert has_in_order(words(tmp_path / f"{name}.svg"), headings)
    assert f"{own}old" in words(tmp_path / "ls.svg")
    assert "dead" in words(tmp_path / "show.svg"), "one of the workers was killed"
    assert not [path for path in SHM.iterdir() if path.name.startswith(own)]
