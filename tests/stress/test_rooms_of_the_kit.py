"""The rooms of the stress kit, and its command line."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from stress.__main__ import COMMANDS, main
from tests.support.places import REPOSITORY

STRESS = REPOSITORY / "stress"
BELOW = {"harness": set[str](), "planted": {"harness"}}
OTHERS = {"harness", "planted"}


def imported_rooms(path: Path) -> set[str]:
    """Return the rooms that a module imports."""
    package = ["stress", *path.relative_to(STRESS).parts[:-1]]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = [*base, *(node.module or "").split(".")] if node.module else base
            names = [[*module, alias.name] for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        else:
            continue
        found |= {name[1] for name in names if name[0] == "stress" and len(name) > 1}
    return found


def test_a_room_imports_what_is_below_it() -> None:
    modules = sorted(STRESS.glob("*/**/*.py"))
    assert len(modules) > 50
    for path in modules:
        room = path.relative_to(STRESS).parts[0]
        assert imported_rooms(path) - {room} <= BELOW.get(room, OTHERS), path


def test_the_overview_has_a_line_for_each_command() -> None:
    done = CliRunner().invoke(main, ["-h"])
    assert done.exit_code == 0
    for name, (_, line) in COMMANDS.items():
        assert name in done.output
        assert " ".join(line.split()) in " ".join(done.output.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_explains_itself_and_its_options(name: str) -> None:
    done = CliRunner().invoke(main, [name, "-h"])
    assert done.exit_code == 0
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert " ".join((command.help or "?").split()[:6]) in " ".join(done.output.split())
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert all(option in done.output for option in parameter.opts)


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_option_is_refused(name: str) -> None:
    done = CliRunner().invoke(main, [name, "--no-such-option"])
    assert done.exit_code == 2
    assert "No such option" in done.output


def test_an_unknown_command_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stress", "soka"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "No such command 'soka'" in done.stderr


@pytest.mark.parametrize(
    "arguments", [["explore", "--program", "mpmc 1"], ["explore", "--replay", "mpmc 1 0 a:put/9y"]]
)
def test_a_program_that_is_none_is_refused_before_anything_is_built(arguments: list[str]) -> None:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert "is no " in done.output
