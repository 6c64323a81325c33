"""The rules that a history of calls has to keep.

If no actor died or was interrupted in a get, the history must be that of a sequential bounded queue: there must be an
order of the calls, each between its begin and its end, in which such a queue gives the same answers. A call that did
not end, because its actor died or was interrupted, happened in that order or not at all.

Otherwise the items of that get may come late, so order is not judged, but the rest is: an item is delivered once, or is
lost with a get that had freed its slot; a batch comes whole or not at all; no item comes that was not put.

After a shutdown the queue is closed: puts are refused, and gets are when it is empty. An immediate one is two calls,
which may come apart: one that closes the queue, and one that stops it, and drops what is in it. Whatever has died, no
put that begins after it is accepted, and nothing comes once a get was refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from .program import ENDS, PUTS, TAKES, slots_of
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
        is_refused: whether it has raised ShutDown; then there is no answer.
    """

    actor: int
    name: str
    items: list[str]
    began: int
    ended: int | None = None
    answer: list[str] | bool | None = None
    held: list[str] | None = None
    is_refused: bool = False

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
    judge_end(history)
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
    if not any(call.name == "stop" for call in history.calls):
        _judge_missing(history, missing)


def judge_end(history: History) -> None:
    """What holds after a shutdown, whatever has died."""
    never = float("inf")
    shut = [call for call in history.calls if call.name in ENDS]
    stops = [call for call in shut if call.name == "stop"]
    closed = min((call.ended for call in history.calls if call.ended is not None and _closes(call)), default=never)
    stopped = min((call.ended for call in stops if call.ended is not None), default=never)
    stopping = min((call.began for call in stops), default=never)
    over = [call.ended for call in history.calls if call.is_take and call.is_refused and call.ended is not None]
    over = [ended for ended in over if ended < stopping]
    final = min(over, default=never)
    for call in history.calls:
        if call.ended is None or call.answer is False:
            continue
        if call.is_refused and not any(other.began <= call.ended for other in shut):
            raise Violation(f"a {call.name} was refused, and nothing was shut down")
        if call.is_put and call.began >= closed and not call.is_refused:
            raise Violation(f"a {call.name} that began after the shutdown was not refused")
        if call.is_take and call.began >= final and call.answer:
            raise Violation(f"a {call.name} took an item after a get had found the end")
        if call.is_take and call.began >= stopped and not call.is_refused:
            raise Violation(f"a {call.name} that began after the immediate shutdown was not refused")
    if history.rest and (over or stopped != never):
        raise Violation(f"left after a get had found the end: {', '.join(history.rest)}")


def _closes(call: Call) -> bool:
    """Whether puts are refused from the end of this call on."""
    return call.name in ENDS or call.is_refused


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
    for call in history.calls:
        if call.name in ENDS:
            calls.append(replace(call, name=_CLOSE))
            calls += [replace(call, name=_STOP)] * (call.name == "stop")
    holds = ("batch_wait", "batch_await", "large_wait", "fail", "leak")  # keep places without an item
    gates = any(call.name in holds for call in history.calls)
    checker = _Checker(history.capacity, calls, tuple(history.rest), is_complete and not gates)
    if not checker.explains(0, _State(tuple(history.filled))):
        raise Violation("no order of the calls explains their answers")


_CLOSE = "close"
_STOP = "halt"


class _State(NamedTuple):
    """A sequential bounded queue that can be shut down."""

    queue: tuple[str, ...]
    is_closed: bool = False
    is_stopped: bool = False


class _Checker:
    """Searches for an order of calls that a bounded queue explains."""

    def __init__(self, capacity: int, calls: Sequence[Call], rest: tuple[str, ...], judges_full: bool) -> None:
        self._capacity = capacity
        self._calls = calls
        self._rest = rest
        self._judges_full = judges_full  # not behind a gate, and not where the dead keep places
        self._all = (1 << len(calls)) - 1
        self._seen: set[tuple[int, _State]] = set()
        self._before = [
            sum(
                1 << j
                for j, other in enumerate(calls)
                if other.ended is not None and other.ended <= call.began and i != j
            )
            for i, call in enumerate(calls)
        ]

    def explains(self, done: int, state: _State) -> bool:
        """Whether the calls that are not done yet can follow on this state."""
        if done == self._all and self._rest == (() if state.is_stopped else state.queue):
            return True
        if (done, state) in self._seen:
            return False
        self._seen.add((done, state))
        for i, call in enumerate(self._calls):
            if done >> i & 1 or self._before[i] & ~done:
                continue
            after = done | 1 << i
            if call.ended is None and self.explains(after, state):  # it never happened
                return True
            follows = self._apply(call, state)
            if follows is not None and self.explains(after, follows):
                return True
        return False

    def _apply(self, call: Call, state: _State) -> _State | None:
        """Return the state after a call, or None if it cannot be answered so here."""
        if call.name == _CLOSE:
            return state._replace(is_closed=True)
        if call.name == _STOP:
            return state._replace(is_stopped=True) if state.is_closed else None
        if call.is_refused:
            is_over = state.is_closed and (call.is_put or state.is_stopped or not state.queue)
            return state if is_over else None
        if state.is_closed if call.is_put else state.is_stopped:
            return None
        follows = self._queue_after(call, state.queue)
        return None if follows is None else state._replace(queue=follows)

    def _queue_after(self, call: Call, queue: tuple[str, ...]) -> tuple[str, ...] | None:
        answer = call.answer
        if call.is_put:
            follows = (*queue, *call.items)
            has_room = sum(map(slots_of, follows)) <= self._capacity
            if call.ended is not None and answer is None:
                return queue if not self._judges_full or not has_room else None
            return follows if has_room else None
        if not isinstance(answer, list):
            return queue if not queue else None
        return queue[len(answer) :] if queue[: len(answer)] == tuple(answer) else None
