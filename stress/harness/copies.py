"""Copies of the checkout that a run may change, and an extension for them that is built in another way."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from .errors import SetupError

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGE: Final = "shared_multiprocess_queue"
HEADERS: Final = ROOT / PACKAGE / "_native"

_SANITIZERS: Final = (
    *("-Wall", "-Wextra", "-Werror", "-fno-omit-frame-pointer"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
)
_LIBRARIES: Final = ("libasan.so", "libubsan.so")  # to be there before Python
_SHARED: Final = ("-shared", "-fPIC", "-std=c11", "-g", "-O1")


def default_compiler() -> str:
    """Return the compiler to use: that of the environment variable CC, or cc."""
    return os.environ.get("CC") or "cc"


def copy(folder: Path, *parts: str) -> None:
    """Copy the package, and further parts of the checkout, into a folder."""
    for part in (PACKAGE, *parts):
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        else:
            shutil.copy(source, folder)


def build_extension(folder: Path, compiler: str, flags: Sequence[str]) -> Path:
    """Give a copy an extension.

    Args:
        folder: with the copy.
        compiler: gcc, or what understands its options.
        flags: for the compiler, besides the usual ones.

    Returns:
        The path of the extension.

    Raises:
        SetupError: it cannot be built here.
    """
    target = folder / PACKAGE / "_native" / f"extension{sysconfig.get_config_var('EXT_SUFFIX')}"
    sources = sorted(str(path) for path in target.parent.glob("*.c"))
    include = f"-I{sysconfig.get_path('include')}"
    compile_c([compiler, *_SHARED, *flags, include, *sources, "-o", str(target)])
    return target


def build_module(target: Path, source: Path, headers: Path, compiler: str) -> None:
    """Build a module of Python with sanitizers, for a process that has the environment of ``sanitizing``.

    Args:
        target: the path of the module, without an ending.
        source: its one file of C.
        headers: the folder with what it includes.
        compiler: gcc, or what understands its options.

    Raises:
        SetupError: it cannot be built here.
    """
    includes = ["-I", str(headers), "-I", sysconfig.get_path("include")]
    module = target.with_name(target.name + str(sysconfig.get_config_var("EXT_SUFFIX")))
    compile_c([compiler, *_SHARED, *_SANITIZERS, *includes, str(source), "-o", str(module)])


def compile_c(command: Sequence[str]) -> None:
    """Run a compiler.

    Raises:
        SetupError: it is not installed, or refuses the source.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise SetupError(
            f"there is no C compiler {command[0]!r} here; install one, or name another one by --compiler"
        ) from None
    if done.returncode != 0:
        raise SetupError(f"{' '.join(command)}\n{done.stderr}")


@contextmanager
def sanitized(compiler: str, *parts: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """Give a folder with the package and further parts of the checkout, in which the extension has sanitizers.

    Args:
        compiler: gcc, or what understands its options.
        parts: of the checkout.

    Yields:
        The folder, and the environment for what is run there.

    Raises:
        SetupError: it cannot be built here.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy(folder, *parts)
        build_extension(folder, compiler, _SANITIZERS)
        yield folder, {**os.environ, **sanitizing(compiler)}


def sanitizing(compiler: str) -> dict[str, str]:
    """Return what the environment of Python has besides, so that it can load what was built with sanitizers."""
    return {
        "LD_PRELOAD": " ".join(_library(compiler, name) for name in _LIBRARIES),
        # Python itself leaves much to the end of the process. Without memory, malloc returns NULL as ever.
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
    }


def _library(compiler: str, name: str) -> str:
    result = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return result.stdout.strip()
