"""A copy of the package in a folder of its own, perhaps with a bug, and with an extension that asks at every step."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Final

from ..sanitize import Mutation, SanitizeError, plant

_ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGE: Final = "shared_multiprocess_queue"
_FLAGS: Final = ("-shared", "-fPIC", "-std=c11", "-O1", "-g", "-Wno-clobbered")


def copy_package(folder: Path, compiler: str, has_extension: bool, bug: Mutation | None = None) -> None:
    """Make the copy.

    Args:
        folder: where.
        compiler: for the extension.
        has_extension: whether to build one.
        bug: to plant.

    Raises:
        SanitizeError: it cannot be built, or the bug has no place.
    """
    copy = folder / PACKAGE
    shutil.copytree(_ROOT / PACKAGE, copy, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    if bug is not None:
        path = copy / bug.file
        path.write_text(plant(bug, path.read_text(encoding="utf-8")), encoding="utf-8")
    if has_extension:
        _build(compiler, copy)


def _build(compiler: str, copy: Path) -> None:
    if shutil.which(compiler) is None:
        raise SanitizeError(f"there is no compiler {compiler!r} here; name another one by --compiler")
    target = copy / "_native" / f"extension{sysconfig.get_config_var('EXT_SUFFIX')}"
    seam = Path(__file__).with_name("explored.h")
    command = [compiler, *_FLAGS, f"-I{sysconfig.get_path('include')}", "-include", str(seam)]
    command += [str(copy / "_native" / "module.c"), "-o", str(target)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode != 0:
        raise SanitizeError(f"the explored extension cannot be built:\n{built.stderr}")


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a process that imports the copy."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(_ROOT)])}
