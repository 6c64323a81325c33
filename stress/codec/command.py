"""Builds the native codec of everyday objects with sanitizers, and runs cases on it, or a fuzzer on its reader."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
from rich.console import Console

from .. import planted
from ..harness import options
from ..harness.copies import HEADERS, PACKAGE, ROOT, build_module, compile_c, sanitizing
from ..harness.errors import SetupError
from ..planted import Bug, Task
from .cases import CORPUS, read_corpus

SOURCES: Final = Path(__file__).resolve().parent
_SECONDS_A_CASE: Final = 0.02  # with sanitizers on a busy machine
_WATCHDOG: Final = 120.0
_MOST_MEMORY: Final = 64  # MB in one piece; an item that asks for more is a finding
_LONGEST: Final = 4096  # bytes of an input of the fuzzer
_LONGEST_KEPT: Final = 128
_FUZZING: Final = "address,undefined,fuzzer"


@dataclass(frozen=True)
class Plan:
    """What to run.

    Attributes:
        cases: how many.
        seed: of all choices.
        compiler: gcc, or what understands its options.
    """

    cases: int
    seed: int
    compiler: str


def run(plan: Plan, console: Console, bug: Bug | None = None) -> bool:
    """Run cases on a copy of the package, with a bug in it perhaps; return whether nothing was found.

    Raises:
        SetupError: the codec cannot be built here.
    """
    said = _said(plan, bug)
    if said:
        console.print(said, markup=False, highlight=False, soft_wrap=True)
    return not said


def _said(plan: Plan, bug: Bug | None) -> str:
    """Run cases; return the complaint, which is empty if nothing was found."""
    with planted.planted_copy(bug) as folder:
        build_module(folder / "plain_codec", SOURCES / "plain_codec.c", folder / PACKAGE / "_native", plan.compiler)
        environment = {
            **os.environ,
            **sanitizing(plan.compiler),
            "ASAN_OPTIONS": f"detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb={_MOST_MEMORY}",
            "PYTHONMALLOC": "malloc",
            "PYTHONPATH": os.pathsep.join((str(folder), str(ROOT))),
        }
        command = [sys.executable, "-P", "-m", "stress.codec.cases", str(plan.cases), str(plan.seed)]
        limit = _WATCHDOG + plan.cases * _SECONDS_A_CASE
        try:
            done = subprocess.run(
                command, cwd=folder, env=environment, timeout=limit, check=False, capture_output=True, text=True
            )
        except subprocess.TimeoutExpired:
            return "it hangs"
    return _complaint(done.stderr) if done.returncode != 0 else ""


def _complaint(stderr: str) -> str:
    signs = ("FAILED", "ERROR: AddressSanitizer", "runtime error")
    lines = [line for line in stderr.splitlines() if any(sign in line for sign in signs)]
    return (lines or stderr.strip().splitlines()[-1:] or ["it ended without a word"])[0]


def run_planted(plan: Plan, console: Console, bugs: Sequence[Bug] | None = None) -> bool:
    """Plant each bug, and return whether every one was found."""

    def look_for(bug: Bug, task: Task) -> planted.Outcome:
        said = _said(plan, bug)
        return planted.Outcome(bool(said), said[:150] or "nothing was wrong")

    return planted.search_each("codec", look_for, console, bugs)


def fuzz(seconds: int, seed: int, console: Console, *, keeps: bool) -> bool:
    """Fuzz the reader; return whether nothing was found.

    Args:
        seconds: how long.
        seed: of the fuzzer.
        console: where to say what was found.
        keeps: whether the corpus becomes what the fuzzer has found, of its short inputs as few as reach what
            they all reach.

    Raises:
        SetupError: clang is not here.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found, smaller = folder / "found", folder / "smaller"
        found.mkdir()
        smaller.mkdir()
        for number, data in enumerate(read_corpus()):
            (found / str(number)).write_bytes(data)
        fuzzer = [str(_build_fuzzer(folder)), "-detect_leaks=0", f"-max_len={_LONGEST}"]
        asked = [
            f"-max_total_time={seconds}",
            f"-seed={seed % (1 << 32)}",
            f"-malloc_limit_mb={_MOST_MEMORY}",
            "-print_final_stats=1",
        ]
        environment = {**os.environ, "PYTHONMALLOC": "malloc", "PYTHONHOME": sys.base_prefix}
        done = subprocess.run(
            [*fuzzer, *asked, f"-artifact_prefix={folder}/bad-", str(found)],
            env=environment,
            timeout=seconds + _WATCHDOG,
            check=False,
            capture_output=True,
            text=True,
        )
        for line in done.stderr.splitlines():
            if line.startswith("stat::number_of_executed_units") or ("cov: " in line and "DONE" in line):
                console.print(line, markup=False, highlight=False)
        bad = [path.read_bytes().hex() for path in folder.glob("bad-*")]
        if done.returncode != 0 or bad:
            said = f"FAILED: {_complaint(done.stderr)}; of {', '.join(bad) or 'no input'}"
            console.print(said, markup=False, highlight=False, soft_wrap=True)
            return False
        if keeps:
            subprocess.run(
                [*fuzzer, "-merge=1", str(smaller), str(found)], env=environment, check=True, capture_output=True
            )
            short = (path.read_bytes() for path in smaller.iterdir() if path.stat().st_size <= _LONGEST_KEPT)
            kept = sorted(short, key=lambda data: (len(data), data))
            CORPUS.write_text("".join(f"{data.hex()}\n" for data in kept), encoding="utf-8")
        return True


def _build_fuzzer(folder: Path) -> Path:
    library, place = sysconfig.get_config_var("LDLIBRARY"), sysconfig.get_config_var("LIBDIR")
    if not sysconfig.get_config_var("Py_ENABLE_SHARED"):
        raise SetupError("this Python has no shared library, into which the fuzzer could be built; take one that has")
    binary = folder / "fuzzer"
    flags = ["-std=c11", "-g", "-O1", f"-fsanitize={_FUZZING}", "-fno-sanitize-recover=all"]
    includes = ["-I", str(HEADERS), "-I", sysconfig.get_path("include")]
    python = [f"-L{place}", f"-Wl,-rpath,{place}", f"-l:{library}"]
    compile_c(["clang", *flags, *includes, str(SOURCES / "plain_fuzz.c"), *python, "-o", str(binary)])
    return binary


@click.command()
@click.option("--cases", type=click.IntRange(1), default=20_000, show_default=True, help="How many.")
@click.option(
    "--fuzz", "seconds", type=click.IntRange(1), help="Fuzz the reader for so many seconds instead; needs clang."
)
@click.option(
    "--keep", "keeps", is_flag=True, help="With --fuzz: the corpus becomes what reaches all that was reached."
)
@options.plant
@options.compiler
@options.seed
def command(cases: int, seconds: int | None, keeps: bool, plant: bool, compiler: str, seed: int | None) -> None:
    """Everyday objects in C and in Python beside pickle, whole and damaged, under sanitizers."""
    console = Console()
    plan = Plan(cases, options.tell_seed(seed, console), compiler)
    if seconds is not None:
        ok = fuzz(seconds, plan.seed, console, keeps=keeps)
    else:
        ok = run_planted(plan, console) if plant else run(plan, console)
    console.print("ok" if ok else "FAILED", markup=False, highlight=False)
    sys.exit(not ok)
