"""What the demo counts: the tokens and the names in Python source files, here in one process."""

from __future__ import annotations

import keyword
import os
import sys
import sysconfig
import tokenize
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

EXCLUDED: Final = "site-packages"  # below the standard library, but not part of it
_TOKENS_BETWEEN_CHECKS: Final = 20_000


@dataclass(frozen=True, slots=True)
class FileCount:
    """The counts of one file.

    Attributes:
        tokens: number of tokens.
        names: how often each name occurs; keywords are no names.
        error: why the file cannot be tokenised, in which case the counts are empty; None if it can.
    """

    tokens: int
    names: dict[str, int]
    error: str | None = None


@dataclass(slots=True)
class Totals:
    """The counts of all files.

    Attributes:
        files: number of files, including those that cannot be tokenised.
        tokens: number of tokens.
        names: how often each name occurs.
        not_tokenised: the files that cannot be tokenised, each with the reason.
    """

    files: int = 0
    tokens: int = 0
    names: Counter[str] = field(default_factory=Counter)
    not_tokenised: dict[str, str] = field(default_factory=dict)

    def add(self, path: str, count: FileCount) -> None:
        """Add the counts of one more file."""
        self.files += 1
        self.tokens += count.tokens
        self.names.update(count.names)
        if count.error is not None:
            self.not_tokenised[path] = count.error

    def differences(self, other: Totals) -> list[str]:
        """Return a sentence for each difference between these counts and others; an empty list if they are equal."""
        return [
            *(
                f"{what}: {mine:,} and {theirs:,}"
                for what, mine, theirs in (("files", self.files, other.files), ("tokens", self.tokens, other.tokens))
                if mine != theirs
            ),
            *(
                f"name {name!r}: {self.names[name]:,} and {other.names[name]:,}"
                for name in sorted(self.names.keys() | other.names.keys())
                if self.names[name] != other.names[name]
            ),
            *(
                f"not tokenised by one only: {path!r}"
                for path in sorted(self.not_tokenised.keys() ^ other.not_tokenised.keys())
            ),
        ]


def standard_library() -> Path:
    """Return the folder of the running Python's standard library."""
    return Path(sysconfig.get_path("stdlib"))


def usable_cores() -> int:
    """Return how many cores this process may run on."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def python_files(root: Path) -> list[str]:
    """Return the Python source files in and below a folder, sorted.

    Args:
        root: a folder, of which subfolders called "site-packages" are left out; or one file.

    Raises:
        OSError: a folder cannot be read.
    """
    if root.is_file():
        return [str(root)]
    found = []
    for folder, folders, files in os.walk(root, onerror=_raise):
        folders[:] = [name for name in folders if name != EXCLUDED]
        paths = (os.path.join(folder, name) for name in files if name.endswith(".py"))
        found += [path for path in paths if os.path.isfile(path)]  # reading a pipe of that name might never end
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error


def count_file(path: str, check: Callable[[], None]) -> FileCount:
    """Count the tokens and the names in one file.

    Args:
        path: the file.
        check: called after every 20,000 tokens; may raise to stop the counting.
    """
    names: Counter[str] = Counter()
    tokens = 0
    try:
        with tokenize.open(path) as file:
            for tokens, token in enumerate(tokenize.generate_tokens(file.readline), 1):
                if token.type == tokenize.NAME and not keyword.iskeyword(token.string):
                    names[token.string] += 1
                if tokens % _TOKENS_BETWEEN_CHECKS == 0:
                    check()
    except (OSError, SyntaxError, tokenize.TokenError, LookupError, ValueError) as error:
        # All are errors of the file: unreadable, not Python, or with an encoding that is unknown or wrong.
        return FileCount(0, {}, f"{type(error).__name__}: {error}")
    return FileCount(tokens, dict(names))


def count_alone(files: Sequence[str], check: Callable[[], None], progress: Callable[[int], None]) -> Totals:
    """Count everything in this process.

    Args:
        files: paths.
        check: called between files; may raise to stop the counting.
        progress: called after each file, with the number of files counted.
    """
    totals = Totals()
    for path in files:
        check()
        totals.add(path, count_file(path, check))
        progress(totals.files)
    return totals
