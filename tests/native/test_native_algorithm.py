"""The algorithm of the native engine, in C: the table of _ring/layout.py, and the short forms of its own programs."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from shared_multiprocess_queue._codec import tags
from shared_multiprocess_queue._ring import layout
from stress import planted
from stress.harness.copies import default_compiler
from stress.native import sanitize
from stress.native.sanitize import PROGRAMS, Plan, Program
from tests.support.places import NATIVE

COMPILER = default_compiler()
SEED = 20240229


pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or shutil.which(COMPILER) is None, reason="needs a C compiler, and futexes"
)


TABLE = """
#include <inttypes.h>
#include <stdio.h>
#include "layout.h"
#include "tags.h"
int main(void)
{
#define ROW(name, value) printf("%s %" PRIu64 "\\n", #name, (uint64_t)(value));
    SHMQ_@WHICH@(ROW)
    return 0;
}
"""


def plan(seconds: float = 0.1) -> Plan:
    return Plan(SEED, seconds, long=False, compiler=COMPILER)


def table_in_c(folder: Path, which: str) -> dict[str, int]:
    source, binary = folder / "table.c", folder / "table"
    source.write_text(TABLE.replace("@WHICH@", which))
    subprocess.run([COMPILER, "-std=c11", "-Werror", "-I", NATIVE, "-o", binary, source], check=True)
    rows = subprocess.run([binary], check=True, capture_output=True, text=True).stdout.splitlines()
    return {name: int(value) for name, value in (row.split() for row in rows)}


def test_both_engines_have_the_same_table(tmp_path: Path) -> None:
    """Offsets, encodings, limits, and times."""
    python = {name: value for name, value in vars(layout).items() if name.isupper() and isinstance(value, int)}
    assert table_in_c(tmp_path, "LAYOUT") == python


def test_both_engines_have_the_same_tags(tmp_path: Path) -> None:
    """The native engine leaves the others to Python."""
    python = {name: value for name, value in vars(tags).items() if name.isupper() and isinstance(value, int)}
    native = table_in_c(tmp_path, "TAGS")
    assert native == {name: value for name, value in python.items() if name not in {"MAIN", "DEFLATED", "OWN"}}


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_the_algorithm_passes(program: Program) -> None:
    heard = io.StringIO()
    assert sanitize.run(plan(), Console(file=heard), [program]), heard.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize(
    "program", [pytest.param(each, marks=pytest.mark.long if each == "leases" else ()) for each in PROGRAMS]
)
def test_a_planted_bug_is_found(program: Program) -> None:
    """One for each program; ``python -m stress sanitize --plant`` plants them all."""
    bug = next(bug for bug, task in planted.found_by("sanitize") if task.how == (program,))
    heard = io.StringIO()
    assert sanitize.run_planted(plan(0.5), Console(file=heard), [bug]), heard.getvalue()
