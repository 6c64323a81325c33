"""The list of planted bugs, read from the heads of the patches and of ``models.txt``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).resolve().parent
MODELS: Final = FOLDER / "models.txt"
_KEYS: Final = ("Bug", "Rule", "Attack", "Found-by")


@dataclass(frozen=True)
class Task:
    """What one tool has to find.

    Attributes:
        tool: a command of the kit.
        how: further words for that tool: which of its programs, at which sizes.
    """

    tool: str
    how: tuple[str, ...]


@dataclass(frozen=True)
class Bug:
    """One planted bug.

    Attributes:
        name: the wrong behaviour.
        rule: the rule that it breaks.
        attacks: the attacks on the design that it stands for.
        tasks: the tools that have to find it; the cheapest comes first.
        patch: file that plants it; None for a bug of a model, which has it behind a switch.
    """

    name: str
    rule: str
    attacks: tuple[str, ...]
    tasks: tuple[Task, ...]
    patch: Path | None

    @property
    def place(self) -> str:
        """Where it is planted: "python", "native" or "models"."""
        return MODELS.stem if self.patch is None else self.patch.parent.name

    def __str__(self) -> str:
        return f"{self.place}: {self.name}"


def _parse(lines: Sequence[str], patch: Path | None) -> Bug:
    head: dict[str, list[str]] = {key: [] for key in _KEYS}
    for line in lines:
        key, colon, value = line.partition(": ")
        if key not in head or not colon:
            raise ValueError(f"{line!r} is no line of the head of a planted bug; those are {', '.join(_KEYS)}")
        head[key].append(value)
    (name,), (rule,) = head["Bug"], head["Rule"]
    tasks = [words.split() for words in head["Found-by"]]
    return Bug(name, rule, tuple(head["Attack"]), tuple(Task(tool, tuple(how)) for tool, *how in tasks), patch)


def _heads(text: str) -> Iterator[list[str]]:
    """Yield the paragraphs of a text."""
    for part in text.split("\n\n"):
        if part.strip():
            yield part.strip().splitlines()


def read() -> tuple[Bug, ...]:
    """Return all planted bugs, those of the models last."""
    patches = sorted(FOLDER.glob("*/*.patch"))
    engines = [_parse(next(_heads(path.read_text(encoding="utf-8"))), path) for path in patches]
    models = [_parse(lines, None) for lines in _heads(MODELS.read_text(encoding="utf-8"))]
    return (*engines, *models)


BUGS: Final = read()


def found_by(tool: str) -> list[tuple[Bug, Task]]:
    """Return the bugs that a tool has to find."""
    return [(bug, task) for bug in BUGS for task in bug.tasks if task.tool == tool]


def find(name: str) -> Bug:
    """Return the bug of a name, as ``str`` gives it."""
    return next(bug for bug in BUGS if str(bug) == name)
