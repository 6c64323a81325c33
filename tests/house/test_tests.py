"""The rules for tests: short files and names, no test that imports another, and a fast lane that has every promise."""

from __future__ import annotations

import ast
import collections
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.places import REPOSITORY

LINES = 500
LONGEST_NAME = 70
TESTS = sorted((REPOSITORY / "tests").rglob("*.py"))
SOURCES = sorted(
    path
    for folder in ("shared_multiprocess_queue", "stress")
    for path in (REPOSITORY / folder).rglob("*")
    if path.suffix in {".py", ".pyi", ".c", ".h", ".pml"}
)

# Sources that are longer than LINES. This list may only become shorter.
STILL_LONG = {
    "shared_multiprocess_queue/_codec/codec.py",
    "shared_multiprocess_queue/_codec/definitions.py",
    "shared_multiprocess_queue/_platform/shared_memory.py",
    "shared_multiprocess_queue/queue.py",
}

# What the guarantees name and the fast lane leaves out, with the reason.
SLOW_ONLY: dict[str, str] = {
    "test_death_of_removers.py": "a process dies at each step of a removal, of which there are hundreds",
    "test_death_in_remove": "the same",
    "test_death_in_gc": "the same",
    "test_death_of_a_creator_that_may_find_the_queue": "the same, of a creation",
    "test_nobody_is_given_a_queue_that_gc_removes": "processes create, attach and collect at once, for a while",
    "test_a_second_interrupt_in_the_recovery_from_the_first_loses_nothing": "two interrupts, at all pairs of points",
    "test_workers_that_await_and_are_killed": "workers are killed, again and again",
    "test_with_leases_no_record_is_lost_though_listeners_are_killed": "listeners are killed, one after the other",
    "test_the_end_of_the_program_waits_for_all_records": "whole programs, with a child each",
    "test_nobody_is_given_a_queue_that_goes_under_it": "many processes create and remove at once, for a while",
    "test_typing.py": "mypy goes over a program; the recipe types does, too",
}


def name_of(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def functions(path: Path) -> list[str]:
    return re.findall(r"^def (\w+)", path.read_text("utf-8"), re.MULTILINE)


def lines_of(path: Path) -> int:
    return len(path.read_text("utf-8").splitlines())


def test_no_file_of_tests_is_long() -> None:
    assert {name_of(path): lines_of(path) for path in TESTS if lines_of(path) > LINES} == {}


def test_no_source_becomes_long() -> None:
    long = {name_of(path) for path in SOURCES if lines_of(path) > LINES}
    assert long - STILL_LONG == set(), f"they have more than {LINES} lines: split them by idea"
    assert STILL_LONG - long == set(), "they have become short: take them from STILL_LONG"


def test_no_name_of_a_test_is_long() -> None:
    names = {name for path in TESTS for name in functions(path) if name.startswith("test_")}
    assert len(names) > 500
    assert {name for name in names if len(name) > LONGEST_NAME} == set()


def test_a_document_can_name_a_test_without_its_folder() -> None:
    files = collections.Counter(path.name for path in TESTS if path.name.startswith("test_"))
    assert [name for name, count in files.items() if count > 1] == []


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_no_test_module_is_imported() -> None:
    """What two of them need is in tests/support."""
    found = {(name_of(path), name) for path in TESTS for name in imports(path)}
    assert ("tests/house/test_tests.py", "tests.support.places.REPOSITORY") in found
    assert [(path, name) for path, name in found if re.search(r"^\.|^tests\..*\btest_", name)] == []


def test_only_the_settings_of_pytest_change_the_path_of_imports() -> None:
    assert [name_of(path) for path in TESTS if re.search(r"^sys\.path\b", path.read_text("utf-8"), re.MULTILINE)] == []


@cache
def fast_lane() -> tuple[str, ...]:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "not slow", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=240, check=True)
    return tuple(line.partition("[")[0] for line in done.stdout.splitlines() if "::" in line)


@pytest.mark.slow
def test_the_fast_lane_has_a_variant_of_each_test_that_holds_a_promise() -> None:
    guarantees = (REPOSITORY / "docs" / "guarantees.md").read_text("utf-8")
    named = set(re.findall(r"`(test_\w+(?:\.py)?)", guarantees))
    assert len(named) > 40
    there = {part for line in fast_lane() for part in (line.split("::")[0].rpartition("/")[2], line.split("::")[1])}
    assert named - there == set(SLOW_ONLY)


@pytest.mark.slow
def test_the_fast_lane_has_a_variant_of_nearly_every_test() -> None:
    """What is slow is a product of parameters; the marker itself is for few."""
    everything = {name for path in TESTS for name in functions(path) if name.startswith("test_")}
    assert len({line.split("::")[1] for line in fast_lane()}) > 0.9 * len(everything)
