"""The extension under AddressSanitizer and UndefinedBehaviorSanitizer, while tests of the package use it.

A copy of the package and of its tests gets an extension of its own, so that nothing of a checkout changes.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import Final

import click
from rich.console import Console

from ..harness import options
from ..harness.copies import sanitized

_TESTS: Final = ("tests/test_native_engine.py", "tests/test_semantics.py", "tests/test_sharing.py")


def run(compiler: str, arguments: Sequence[str], console: Console) -> bool:
    """Build the extension with sanitizers and run tests on it; return whether they passed.

    Args:
        compiler: gcc, or what understands its options.
        arguments: for pytest; the tests of the native engine if there are none.
        console: where to say what was run.

    Raises:
        SetupError: it cannot be built here.
    """
    with sanitized(compiler, "tests", "stress", "pyproject.toml") as (copy, environment):
        chosen = arguments or (*_TESTS, "-k", "native")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen]
        console.print("pytest", *chosen, markup=False, highlight=False)
        return (
            subprocess.run(command, cwd=copy, env=environment | {"SHMQ_ENGINE": "native"}, check=False).returncode == 0
        )


@click.command()
@options.compiler
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(compiler: str, arguments: tuple[str, ...]) -> None:
    """Run tests on the extension, built with sanitizers; ARGUMENTS are for pytest, after a --."""
    sys.exit(not run(compiler, arguments, Console()))
