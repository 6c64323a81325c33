"""The examples: each ends by itself, prints what it says, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.support.places import REPOSITORY
from tests.support.waiting import LONG

FOLDER = REPOSITORY / "examples"
EXAMPLES = sorted(path.name for path in FOLDER.glob("*.py"))
# A program that has threads may fork; from Python 3.12 on that is a warning.
WARNINGS = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]

_numbers = count()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The examples, with queues that no other run has."""
    number = next(_numbers)
    for path in FOLDER.rglob("*.py"):
        target = tmp_path / path.relative_to(FOLDER)
        target.parent.mkdir(exist_ok=True)
        target.write_text(path.read_text("utf-8").replace('"example-', f'"example-{os.getpid()}-{number}-'), "utf-8")
    return tmp_path


def start(path: Path, start_method: str = "fork") -> subprocess.Popen[str]:
    """Start a program whose processes are started in a given way, by what Python imports before each program."""
    path.with_name("sitecustomize.py").write_text(
        f"import multiprocessing as m\nm.set_start_method({start_method!r})\n"
    )
    return subprocess.Popen(
        [sys.executable, *WARNINGS, str(path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(path.parent), *filter(None, sys.path)])},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def outcome(program: subprocess.Popen[str]) -> tuple[str, int | Any]:
    """Return what a program has printed; on stderr, bars are all that it may print."""
    try:
        output, errors = program.communicate(timeout=LONG)
    finally:
        program.kill()
        program.wait()
    assert program.returncode == 0, errors
    assert "Traceback" not in errors
    assert "Warning" not in errors
    return output, errors


@pytest.mark.costly
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_prints_what_it_says(folder: Path, name: str, start_method: str) -> None:
    before = set(os.listdir("/dev/shm"))
    program = start(folder / name, start_method)
    output, _ = outcome(program)
    said = re.findall(r"^ *print\(.*\)\s+# (.*)$", (folder / name).read_text("utf-8"), re.MULTILINE)
    assert said
    assert output.splitlines() == said
    left = set(os.listdir("/dev/shm")) - before
    assert not [segment for segment in left if segment.startswith(f"anonymous-{program.pid}-")]


@pytest.mark.costly
@pytest.mark.parametrize("order", [("producer", "consumer"), ("consumer", "producer")])
def test_two_programs_may_be_started_in_any_order(folder: Path, order: tuple[str, str]) -> None:
    first = start(folder / "two_programs" / f"{order[0]}.py")
    if order[0] == "producer":
        outcome(first)  # it has ended before the other begins
    second = start(folder / "two_programs" / f"{order[1]}.py")
    outputs = [outcome(program)[0] for program in (first, second) if program.returncode is None]
    assert "".join(outputs).splitlines() == [f"{{'path': '{n}.txt', 'size': {n * 100}}}" for n in range(3)]
    name = re.search(r'"(example-[\w-]+)"', (folder / "two_programs" / "producer.py").read_text("utf-8"))
    assert name is not None
    assert not [segment for segment in os.listdir("/dev/shm") if segment.startswith(name[1])]


@pytest.mark.slow
def test_a_second_producer_says_why_it_puts_nothing(folder: Path) -> None:
    for code, said in ((0, ""), (1, "another producer has been here; start the consumer, which takes its jobs\n")):
        program = start(folder / "two_programs" / "producer.py")
        assert program.communicate(timeout=LONG) == ("", said)
        assert program.returncode == code
    outcome(start(folder / "two_programs" / "consumer.py"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "before", "killed", "error"),
    [
        ("fan_out.py", "for message in", "subscribers", "_queue.Empty"),
        ("pipeline.py", "for line in read()", "[adder]", "queue.Full"),
        ("pipeline.py", "for line in read()", "parsers", "queue.Full"),
    ],
)
def test_an_example_ends_though_its_processes_are_killed(
    folder: Path, name: str, before: str, killed: str, error: str
) -> None:
    path = folder / name
    text = path.read_text("utf-8").replace("PATIENCE = 60.0", "PATIENCE = 0.5")
    assert text.count(f"    {before}") == 1
    kill = f"    for process in {killed}:\n        process.kill()\n"
    path.write_text(text.replace(f"    {before}", f"{kill}    {before}"), "utf-8")
    program = start(path)
    try:
        _, errors = program.communicate(timeout=LONG)
    finally:
        program.kill()
        program.wait()
    assert program.returncode == 1
    assert errors.splitlines()[-1] == error


def test_each_example_is_in_the_list() -> None:
    text = (FOLDER / "README.md").read_text("utf-8")
    assert len(EXAMPLES) > 10
    assert [name for name in EXAMPLES if f"({name})" not in text] == []
