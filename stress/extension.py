"""The extension under AddressSanitizer and UndefinedBehaviorSanitizer, while tests of the package use it.

A copy of the package and of its tests gets an extension of its own, so that nothing of a checkout changes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console

from .sanitize import SanitizeError

_ROOT: Final = Path(__file__).resolve().parents[1]
_PACKAGE: Final = "shared_multiprocess_queue"
_FLAGS: Final = ("-shared", "-fPIC", "-std=c11", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-fno-omit-frame-pointer")
_SANITIZERS: Final = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
_LIBRARIES: Final = ("libasan.so", "libubsan.so")  # to be there before Python
_TESTS: Final = ("tests/native/test_native_engine.py", "tests/conformance", "tests/processes")


def run(compiler: str, arguments: Sequence[str], console: Console) -> bool:
    """Build the extension with sanitizers and run tests on it; return whether they passed.

    Args:
        compiler: gcc, or what understands its options.
        arguments: for pytest; the tests of the native engine if there are none.
        console: where to say what was run.

    Raises:
        SanitizeError: it cannot be built here.
    """
    with built(compiler) as (copy, environment):
        chosen = arguments or (*_TESTS, "-k", "native")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen]
        console.print("pytest", *chosen, markup=False, highlight=False)
        return (
            subprocess.run(command, cwd=copy, env=environment | {"SHMQ_ENGINE": "native"}, check=False).returncode == 0
        )


@contextmanager
def built(compiler: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """Give a folder with the package, its tests and this kit, in which the extension has sanitizers.

    Args:
        compiler: gcc, or what understands its options.

    Yields:
        The folder, and the environment for what is run there.

    Raises:
        SanitizeError: it cannot be built here.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        copy_and_build(copy, compiler, _SANITIZERS)
        yield (
            copy,
            dict(
                os.environ,
                LD_PRELOAD=" ".join(_library(compiler, name) for name in _LIBRARIES),
                # Python itself leaves much to the end of the process. Without memory, malloc returns NULL as ever.
                ASAN_OPTIONS="detect_leaks=0:allocator_may_return_null=1",
            ),
        )


def copy_and_build(copy: Path, compiler: str, flags: Sequence[str]) -> Path:
    """Copy the package, its tests and this kit, and give the copy an extension of its own.

    Args:
        copy: folder for it.
        compiler: gcc, or what understands its options.
        flags: for the compiler, besides the usual ones.

    Returns:
        The path of the extension.

    Raises:
        SanitizeError: it cannot be built here.
    """
    for part in (_PACKAGE, "tests", "stress"):
        shutil.copytree(_ROOT / part, copy / part, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    shutil.copy(_ROOT / "pyproject.toml", copy)
    if shutil.which(compiler) is None:
        raise SanitizeError(f"there is no compiler {compiler!r} here; name another one by --compiler")
    target = copy / _PACKAGE / "_native" / f"extension{sysconfig.get_config_var('EXT_SUFFIX')}"
    source = copy / _PACKAGE / "_native" / "module.c"
    command = [compiler, *_FLAGS, *flags, f"-I{sysconfig.get_path('include')}", str(source), "-o", str(target)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode != 0:
        raise SanitizeError(f"the extension cannot be built with {' '.join(flags)}:\n{built.stderr}")
    return target


def _library(compiler: str, name: str) -> str:
    result = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return result.stdout.strip()
