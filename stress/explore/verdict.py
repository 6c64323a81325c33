"""The rules that a history of calls has to keep.

If no actor died or was interrupted in a get, the history must be that of a sequential bounded queue: there must be an
order of the calls, each between its begin and its end, in which such a queue gives the same answers. A call that did
not end, because its actor died or was interrupted, happened in that order or not at all.

Otherwise the items of that get may come late, so order is not judged, but the rest is: an item is delivered once, or is
lost with a get that had freed its slot; a batch comes whole or not at all; no item comes that was not put.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from .program import PUTS, TAKES
from .scheduler import Violation


@dataclass
class Call:
    """One call of one actor.

    Attributes:
        actor: its number.
        name: of the call.
        items: what it puts.
        began: number of the step before which it began.
        ended: number of the step before which it ended; None: it did not.
        answer: see ``Handle.call``; of a call that did not end, nothing.
        held: if its actor died in it, the items that were in slots at that moment.
    """

    actor: int
    name: str
    items: list[str]
    began: int
    ended: int | None = None
    answer: list[str] | bool | None = None
    held: list[str] | None = None

    @property
    def is_put(self) -> bool:
        return self.name in PUTS

    @property
    def is_take(self) -> bool:
        return self.name in TAKES


@dataclass
class History:
    """What happened in one run.

    Attributes:
        capacity: of the queue.
        filled: items that were there at the start.
        calls: in the order of their begins.
        kept: items that handles had kept back from interrupted gets, at the end.
        rest: what a survivor found when all had ended, in its order.
    """

    capacity: int
    filled: list[str]
    calls: list[Call] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    rest: list[str] = field(default_factory=list)


def judge(history: History) -> None:
    """Judge a history.

    Raises:
        Violation: it breaks a rule.
    """
    _judge_deliveries(history)
    cut_short = [call for call in history.calls if call.ended is None]
    if not any(call.is_take for call in cut_short):
        _judge_order(history, is_complete=not cut_short)


def _judge_deliveries(history: History) -> None:
    taken = [call.answer for call in history.calls if call.is_take and isinstance(call.answer, list)]
    delivered = Counter(item for answer in (*taken, history.kept, history.rest) for item in answer)
    doubled = [item for item, times in delivered.items() if times > 1]
    if doubled:
        raise Violation(f"delivered more than once: {', '.join(doubled)}")
    puts = [call for call in history.calls if call.is_put]
    known = {item for call in puts for item in call.items} | set(history.filled)
    if unknown := set(delivered) - known:
        raise Violation(f"delivered and never put: {', '.join(sorted(unknown))}")
    refused = [item for call in puts if call.ended is not None and not call.answer for item in call.items]
    if wrong := [item for item in refused if item in delivered]:
        raise Violation(f"delivered though its put was refused: {', '.join(wrong)}")
    missing = [item for item in history.filled if item not in delivered]
    for call in puts:
        absent = [item for item in call.items if item not in delivered]
        if call.answer or 0 < len(absent) < len(call.items):
            missing += absent
    _judge_missing(history, missing)


def _judge_missing(history: History, missing: Sequence[str]) -> None:
    """What is missing must have died with a get that had freed its slot."""
    graves = [call for call in history.calls if call.is_take and call.held is not None]
    room = [TAKES[call.name] for call in graves]
    for item in missing:
        which = next((i for i, call in enumerate(graves) if room[i] and item not in (call.held or [])), None)
        if which is None:
            raise Violation(f"lost: {item}")
        room[which] -= 1


# ---- order ----------------------------------------------------------------------------------------------------------


def _judge_order(history: History, is_complete: bool) -> None:
    calls = [call for call in history.calls if (call.is_put or call.is_take) and call.answer is not False]
    gates = any(call.name == "batch_wait" for call in calls)
    checker = _Checker(history.capacity, calls, tuple(history.rest), is_complete and not gates)
    if not checker.explains(0, tuple(history.filled)):
        raise Violation("no order of the calls explains their answers")


class _Checker:
    """Searches for an order of calls that a bounded queue explains."""

    def __init__(self, capacity: int, calls: Sequence[Call], rest: tuple[str, ...], judges_full: bool) -> None:
        self._capacity = capacity
        self._calls = calls
        self._rest = rest
        self._judges_full = judges_full  # not behind a gate, and not where the dead keep places
        self._all = (1 << len(calls)) - 1
        self._seen: set[tuple[int, tuple[str, ...]]] = set()
        self._before = [
            sum(
                1 << j
                for j, other in enumerate(calls)
                if other.ended is not None and other.ended <= call.began and i != j
            )
            for i, call in enumerate(calls)
        ]

    def explains(self, done: int, queue: tuple[str, ...]) -> bool:
        """Whether the calls that are not done yet can follow on this state."""
        if done == self._all and queue == self._rest:
            return True
        if (done, queue) in self._seen:
            return False
        self._seen.add((done, queue))
        for i, call in enumerate(self._calls):
            if done >> i & 1 or self._before[i] & ~done:
                continue
            after = done | 1 << i
            if call.ended is None and self.explains(after, queue):  # it never happened
                return True
            follows = self._apply(call, queue)
            if follows is not None and self.explains(after, follows):
                return True
        return False

    def _apply(self, call: Call, queue: tuple[str, ...]) -> tuple[str, ...] | None:
        """Return the state after a call, or None if it cannot be answered so here."""
        answer = call.answer
        if call.is_put:
            if call.ended is not None and answer is None:
                return queue if not self._judges_full or len(queue) + len(call.items) > self._capacity else None
            return (*queue, *call.items) if len(queue) + len(call.items) <= self._capacity else None
        if not isinstance(answer, list):
            return queue if not queue else None
        return queue[len(answer) :] if queue[: len(answer)] == tuple(answer) else None
