"""What processes did with leased items, line by line in the order in which it happened, and the verdict over it.

A process writes a line before what others may see of a step, or after what it has seen of others. So the order of the
lines is one in which it can have happened, and these rules are exact:

- An item is handed out only if its put was not refused, and not after its end, and not while a process has it that was
  not killed.
- ``deliveries`` is the number of times that the item was handed out, and one more at most for each kill and interrupt.
- An accepted item is ended. A process that is killed while it ends an item may have ended it.
- When a join returns, all items whose put had returned before it are ended, and none of them is handed out again. If it
  began after an immediate shutdown, no living process has an item then, and none is handed out at all.
- After a plain shutdown, no item is handed out once a get of a process without a lease has found the end.

With dead letters a join does not wait for these. So when it returns, no living process has an item that it had when the
join began, and no more is known. What was put back begins its deliveries anew.
"""

from __future__ import annotations

import os
import struct
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NamedTuple, get_args

from .history import Verdict

What = Literal[
    "puts", "put", "refused",  # a put begins, has returned, was refused
    "has", "ends", "ended", "gives",  # an item was handed out, is being ended, is ended, is being given back
    "looks", "puts back", "keeps",  # at letters; one is being put back; one could not be ended, as it was gone
    "interrupted", "kills", "killed",  # an interrupt has come; a kill comes, and has come
    "joins", "joined",  # a join begins, has returned
    "stops", "stopped", "found the end",  # an immediate shutdown begins, has returned; a get was refused
]  # fmt: skip
_WHATS: Final[tuple[What, ...]] = get_args(What)
_LINE: Final = struct.Struct("=QqIIQ")  # a divisor of a page: no kill cuts the write of a line in two
_MOST_FINDINGS: Final = 20

UNKNOWN: Final = 0
"""Deliveries of an item whose getter was not told."""


class Line(NamedTuple):
    """A line of a diary.

    Attributes:
        at: monotonic time, in ns.
        item: number of the item; -1: none.
        pid: of the process that does it, or that is killed.
        deliveries: that the getter was told.
        what: happens.
    """

    at: int
    item: int
    pid: int
    deliveries: int
    what: What


class Diary:
    """A file to which all processes of a round append; it survives each of them.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(self, what: What, item: int = -1, deliveries: int = UNKNOWN, pid: int = 0) -> None:
        """Append a line.

        Args:
            what: happens.
            item: its number.
            deliveries: that the getter was told.
            pid: of the process; 0: the calling one.
        """
        line = time.monotonic_ns(), item, pid or os.getpid(), deliveries, _WHATS.index(what)
        os.write(self._file, _LINE.pack(*line))

    def read(self) -> Iterator[Line]:
        """Yield all lines."""
        for at, item, pid, deliveries, what in _LINE.iter_unpack(self._path.read_bytes()):
            yield Line(at, item, pid, deliveries, _WHATS[what])

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


@dataclass
class Judgement:
    """What is wrong, and what is worth telling.

    Attributes:
        verdict: over the items.
        faults: what is wrong besides lost items and doubled ones, in words.
        waits: from the death of each process that had an item, or of the last that may have taken it over, to the next
            time that this was handed out, and from the last end of an item to the return of a join, in seconds.
        moments: of kills: what the process was doing.
        most_deliveries: that a getter was told.
    """

    verdict: Verdict = field(default_factory=Verdict)
    faults: list[str] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    moments: Counter[str] = field(default_factory=Counter)
    most_deliveries: int = 0


def judge(lines: Iterable[Line], is_over: bool = True, has_letters: bool = False) -> Judgement:
    """Judge a diary.

    Args:
        lines: of it.
        is_over: whether all that was put must have been ended.
        has_letters: whether items may become dead letters.
    """
    judging = _Judging(has_letters)
    for line in lines:
        judging.read(line)
    return judging.conclude(is_over)


class _Judging:
    def __init__(self, has_letters: bool) -> None:
        self._has_letters = has_letters
        self._result = Judgement()
        self._state: dict[int, What] = {}  # of an item: the last of puts, put, refused; never what its getters do
        self._holder: dict[int, int] = {}
        self._handed: Counter[int] = Counter()
        self._ending: dict[int, set[int]] = {}  # items that may be ended, and by which processes
        self._had_since: dict[int, int] = {}  # of an item that was handed out: when
        self._offered: set[int] = set()  # letters that may have been put back
        self._last: dict[int, What] = {}  # what a process wrote last
        self._ended: set[int] = set()
        self._dead: set[int] = set()
        self._orphaned: dict[int, int] = {}  # items of dead processes, and when these died
        self._joins: dict[int, tuple[Line, frozenset[int], bool]] = {}  # what was put when one began, and stopped
        self._joined: set[int] = set()  # items that were ended when a join returned
        self._losses = 0
        self._last_end = 0
        self._is_stopping = self._is_stopped = False
        self._is_over = ""  # why nothing may come any more

    def read(self, line: Line) -> None:
        if line.what not in ("kills", "killed"):
            self._last[line.pid] = line.what
        match line.what:
            case "puts" | "put" | "refused":
                self._state[line.item] = line.what
            case "has":
                self._hand_out(line)
            case "ends":
                self._ending.setdefault(line.item, set()).add(line.pid)
                self._last_end = line.at
                if self._holder.get(line.item) != line.pid:  # a letter
                    self._orphaned.pop(line.item, None)
                    self._last[line.pid] = "looks"
            case "ended":
                self._end(line)
            case "gives":
                self._holder.pop(line.item, None)
            case "puts back":
                self._offered.add(line.item)
                self._orphaned.pop(line.item, None)
            case "keeps":
                self._ending.get(line.item, set()).discard(line.pid)
            case "interrupted":
                self._losses += 1
            case "kills":
                self._losses += 1
                self._dead.add(line.pid)
            case "killed":
                self._bury(line)
            case "joins":
                put = frozenset(item for item, state in self._state.items() if state == "put")
                self._joins[line.pid] = line, put, self._is_stopped
            case "joined":
                self._join(line)
            case "stops":
                self._is_stopping = True
            case "stopped":
                self._is_stopped = True
            case "found the end":
                if not self._is_stopping:
                    self._is_over = "a get had found the end"

    def _hand_out(self, line: Line) -> None:
        item, result = line.item, self._result
        result.verdict.delivered += 1
        if self._state.get(item) in (None, "refused"):
            self._find("torn", f"item {item} was handed out and not put")
        holder = self._holder.get(item)
        if item in self._ended:
            self._find("doubled", f"item {item} was handed out after its end")
        elif holder is not None and holder not in self._dead:
            self._find("doubled", f"item {item} was handed out to process {line.pid} while {holder} had it and lived")
        if self._is_over or item in self._joined:
            self._fault(f"item {item} was handed out after {self._is_over or 'the return of a join'}")
        self._handed[item] += 1
        most = self._handed[item] + self._losses
        least = 1 if item in self._offered else self._handed[item]
        self._result.most_deliveries = max(self._result.most_deliveries, line.deliveries)
        if line.deliveries != UNKNOWN and not least <= line.deliveries <= most:
            self._fault(f"item {item} was handed out {self._handed[item]} times, and its getter told {line.deliveries}")
        if item in self._orphaned:
            result.waits.append((line.at - self._orphaned.pop(item)) / 1e9)
        self._holder[item] = line.pid
        self._had_since[item] = line.at
        self._ending.pop(item, None)

    def _end(self, line: Line) -> None:
        if line.item in self._ended:
            self._find("doubled", f"item {line.item} was ended twice")
        self._ended.add(line.item)
        self._holder.pop(line.item, None)
        self._last_end = line.at

    def _bury(self, line: Line) -> None:
        self._last_end = line.at
        mine = [item for item, holder in self._holder.items() if holder == line.pid]
        for item in (*mine, *self._orphaned):  # it may have taken over the items of others, and said nothing yet
            self._orphaned[item] = line.at
        moment = "in a call for items"
        if mine:
            moment = "ending an item" if any(item in self._ending for item in mine) else "processing"
        elif self._last.get(line.pid) in ("looks", "puts back"):
            moment = "at dead letters"
        elif self._last.get(line.pid) == "gives":
            moment = "giving an item back, or after that"
        self._result.moments[moment] += 1

    def _join(self, line: Line) -> None:
        began, put, was_stopped = self._joins[line.pid]
        left: set[int] = set()
        if was_stopped:
            left = self._in_work()
            self._is_over = "an immediate shutdown and a join"
        elif self._has_letters:
            left = {item for item in self._in_work() if self._had_since[item] < began.at}
        elif not self._is_stopping:
            left = {item for item in set(put) - self._ended if not self._ending.get(item)}
            self._joined |= put
        if left:
            self._fault(f"a join returned before the end of {_some(left)}")
        self._result.waits.append(max(line.at - max(began.at, self._last_end), 0) / 1e9)

    def _in_work(self) -> set[int]:
        """Return the items that living processes have, and do not end."""
        living = {item for item, holder in self._holder.items() if holder not in self._dead}
        return {item for item in living if not self._ending.get(item)}

    def conclude(self, is_over: bool) -> Judgement:
        accepted = {item for item, state in self._state.items() if state == "put"}
        self._result.verdict.acknowledged = len(accepted)
        left = accepted - self._ended
        may_be_ended = {item for item in left if not self._dead.isdisjoint(self._ending.get(item, ()))}
        self._result.verdict.unaccounted = len(may_be_ended)
        came = {item for item, state in self._state.items() if state == "refused" and self._handed[item]}
        if came:
            self._find("torn", f"handed out though the put was refused: {_some(came)}", len(came))
        if is_over and not self._is_stopping and (lost := left - may_be_ended):
            self._find("lost", f"never ended: {_some(lost)}", len(lost))
        return self._result

    def _find(self, kind: str, what: str, count: int = 1) -> None:
        verdict = self._result.verdict
        setattr(verdict, kind, getattr(verdict, kind) + count)
        verdict.note(f"{kind}: {what}")

    def _fault(self, what: str) -> None:
        if len(self._result.faults) < _MOST_FINDINGS:
            self._result.faults.append(what)


def _some(items: set[int]) -> str:
    told = sorted(items)
    return f"item {', '.join(map(str, told[:5]))}{' and others' if len(told) > 5 else ''}"
