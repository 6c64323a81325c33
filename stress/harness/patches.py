"""Patches: unified diffs. The place of a hunk is the one place where the file has the lines that the hunk removes.

Line numbers are for readers only, so a patch still fits after its file has changed elsewhere. Lines before the first
``---`` are a head, which is skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from .errors import SetupError

_FILE = re.compile(r"^--- a/(?P<file>.+)\n\+\+\+ b/(?P=file)\n", re.MULTILINE)
_HUNK = re.compile(r"^@@ .*\n", re.MULTILINE)


def apply_patch(patch: Path, folder: Path) -> None:
    """Apply a patch to a copy of the checkout.

    Raises:
        SetupError: the patch does not fit.
    """
    for file, hunks in _parse(patch.read_text(encoding="utf-8")):
        path = folder / file
        if not path.exists():
            raise SetupError(f"{patch} is for {file}, which is not there; name the file that has this code now")
        text = path.read_text(encoding="utf-8")
        places = []
        for old, new in hunks:
            found = [match.start() for match in re.finditer(f"^{re.escape(old)}", text, re.MULTILINE)]
            if len(found) != 1:
                raise SetupError(
                    f"{patch} does not fit {file}: these lines are there {len(found)} times, not once; change them, or "
                    f"add lines around them, until they are\n{old}"
                )
            places.append((found[0], old, new))
        for at, old, new in sorted(places, reverse=True):
            text = text[:at] + new + text[at + len(old) :]
        path.write_text(text, encoding="utf-8")


def _parse(text: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield each file of a patch, and of each of its hunks the lines before and after."""
    _, *parts = _FILE.split(text)
    for file, body in zip(parts[::2], parts[1::2], strict=True):
        _, *hunks = _HUNK.split(body)
        yield file, [(_side(hunk, "-"), _side(hunk, "+")) for hunk in hunks]


def _side(hunk: str, sign: str) -> str:
    # Editors trim lines that have only the space of a context line.
    lines = [line if line.strip("\n") else f" {line}" for line in hunk.splitlines(keepends=True)]
    return "".join(line[1:] for line in lines if line[0] in f" {sign}")
