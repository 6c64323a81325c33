"""The command ``shmq``: usage, version, and what it lacks."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from shared_multiprocess_queue import __version__
from tests.support.demo import run

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc and /dev/shm")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such-folder"], "'no-such-folder' does not exist"),
        (["--workers", "0"], "0 is not in the range"),
        (["--workers", "many"], "'many' is not a valid integer"),
        (["."], "there are no *.py files in '.'"),
    ],
)
def test_wrong_usage_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, output, errors = run("demo", *arguments)
    assert (code, output) == (2, "")
    assert "Usage: " in errors
    assert message in errors


def test_version() -> None:
    code, output, _ = run("--version")
    assert (code, output) == (0, f"shmq, version {__version__}\n")


@pytest.mark.parametrize("package", ["click", "rich"])
def test_the_command_says_what_it_lacks(package: str) -> None:
    script = f"import sys; sys.modules[{package!r}] = None; from shared_multiprocess_queue.__main__ import main; main()"
    code, output, errors = run(command=[sys.executable, "-c", script])
    assert (code, output) == (1, "")
    assert errors == f"shmq needs the package {package}: pip install 'shared-multiprocess-queue[cli]'\n"


def test_importing_the_package_imports_nothing_of_the_command() -> None:
    names = ("click", "rich", "shared_multiprocess_queue.cli.demo")
    script = f"import sys, shared_multiprocess_queue; print([name for name in {names} if name in sys.modules])"
    code, output, _ = run("-c", script, command=[sys.executable])
    assert (code, output) == (0, "[]\n")
