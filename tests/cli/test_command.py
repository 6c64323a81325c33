"""The command ``shmq``: usage, version, and what it lacks."""

from __future__ import annotations

import re
import sys
from glob import escape
from pathlib import Path
from typing import get_args

import click
import pytest

from shared_multiprocess_queue import (
    LayoutVersionError,
    QueueExistsError,
    QueueNotFoundError,
    SharedMemoryQueue,
    __version__,
)
from shared_multiprocess_queue.cli.app import COMMANDS, main
from shared_multiprocess_queue.looking.found import State
from tests.support.demo import run
from tests.support.places import REPOSITORY
from tests.support.queues import MakeQueue
from tests.support.shmq import shmq

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc and /dev/shm")


@pytest.mark.costly
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


@pytest.mark.costly
@pytest.mark.parametrize(
    ("package", "command", "extra"),
    [("click", "ls", "cli"), ("rich", "ls", "cli"), ("redis", "bridge q redis://127.0.0.1#q", "cli,redis")],
)
def test_the_command_says_what_it_lacks(package: str, command: str, extra: str) -> None:
    script = f"import sys; sys.modules[{package!r}] = None; from shared_multiprocess_queue.__main__ import main; main()"
    code, output, errors = run(*command.split(), command=[sys.executable, "-c", script])
    assert (code, output) == (1, "")
    assert errors == f"shmq needs the package {package}: pip install 'shared-multiprocess-queue[{extra}]'\n"


def test_the_command_has_what_the_page_of_the_tools_has() -> None:
    page = (REPOSITORY / "docs" / "tools.md").read_text("utf-8")
    named = set(re.findall(r"^\| \[?`shmq (\w+)", page, re.MULTILINE))
    assert named == set(COMMANDS) - {"demo"}
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        assert command.help
        assert set(re.findall(rf"shmq {name} (?:\S+ )*?(--\w[\w-]*)", page)) <= {
            option for parameter in command.params for option in parameter.opts
        }


def test_the_page_of_the_tools_names_all_states() -> None:
    page = (REPOSITORY / "docs" / "tools.md").read_text("utf-8")
    (text,) = re.findall(r"^- STATE is (.*?)^- ", page, re.MULTILINE | re.DOTALL)
    named = set(re.findall(r"`([\w ]+)`", text))
    assert named == {"in use", "no user", "unknown", "layout N", *get_args(State)} - {"ok", "layout"}


def test_the_help_of_json_says_how_many_objects_there_are() -> None:
    assert re.search(r"--json +Print one JSON object for each interval\.", run("top", "--help")[1])
    assert re.search(r"--json +Print one JSON object\.", run("ls", "--help")[1])


def test_names_with_brackets_are_found_as_the_page_says(make_queue: MakeQueue, run_id: str) -> None:
    make_queue("a[1]")
    make_queue("a1")
    assert (
        shmq("ls", "-q", f"{run_id}-a[[]1]").output
        == f"{run_id}-a[1]\n"
        == shmq("ls", "-q", escape(f"{run_id}-a[1]")).output
    )
    assert shmq("ls", "-q", f"{run_id}-a[1]").output == f"{run_id}-a1\n"
    for command in ("ls", "metrics"):
        assert shmq(command, f"{run_id}-none*").code == 0


def test_errors_name_the_command_that_helps(make_queue: MakeQueue, run_id: str) -> None:
    make_queue()
    with pytest.raises(QueueExistsError, match=rf"the command shmq show '{run_id}-q' tells more"):
        SharedMemoryQueue("q", create=True, run_id=run_id)
    with pytest.raises(QueueNotFoundError, match="the command shmq ls lists the queues"):
        SharedMemoryQueue("none", run_id=run_id)
    assert f"by the command shmq rm {run_id}-q," in str(LayoutVersionError(f"{run_id}-q-queue", 1, 2))


def test_importing_the_package_imports_nothing_of_the_command() -> None:
    names = ("click", "rich", "shared_multiprocess_queue.cli.demo")
    script = f"import sys, shared_multiprocess_queue; print([name for name in {names} if name in sys.modules])"
    code, output, _ = run("-c", script, command=[sys.executable])
    assert (code, output) == (0, "[]\n")
