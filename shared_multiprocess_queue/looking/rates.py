"""What has changed between two looks: rates, counters that never go down, and how long a blocker has been there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from .._platform import clock
from .found import QueueBlocker, QueueFile, QueueLook

COUNTERS: Final = (
    *("put_total", "got_total", "put_waits", "get_waits", "full_events", "empty_events"),
    *("orphans_recovered", "dead_puts", "bells_refused", "redelivered", "lease_waits"),
)
"""The attributes of a QueueLook that only grow."""

_Key = tuple[str, tuple[int, int, float]]  # the name of a queue, and what tells it from others of that name


@dataclass(frozen=True, slots=True)
class Change:
    """What is known of one queue from this look and those before it.

    Attributes:
        seconds: since the look before; 0 if this is the first at this queue.
        totals: each counter by its name, never smaller than in a look before.
        rates: how much each counter has grown in a second; empty at the first look.
        blocked: the longest-standing blocker and for how many seconds it has been seen; None if there is none.
    """

    seconds: float
    totals: dict[str, int]
    rates: dict[str, float]
    blocked: tuple[QueueBlocker, float] | None


class Changes:
    """Remembers the last look at each queue. A queue that takes the place of another begins anew."""

    def __init__(self) -> None:
        self._at: dict[_Key, int] = {}
        self._totals: dict[_Key, dict[str, int]] = {}
        self._blockers: dict[_Key, dict[QueueBlocker, int]] = {}

    def note(self, queues: Iterable[QueueFile]) -> dict[str, Change]:
        """Return the change of each queue that can be looked into, by its name; others are forgotten."""
        now = clock.now()
        found: dict[str, Change] = {}
        at: dict[_Key, int] = {}
        totals: dict[_Key, dict[str, int]] = {}
        blockers: dict[_Key, dict[QueueBlocker, int]] = {}
        for queue in queues:
            if queue.look is None:
                continue
            key = queue.name, queue.identity
            before, seconds = self._totals.get(key), (now - self._at.get(key, now)) / 1e9
            totals[key] = _totals(queue.look, before or {})
            since = self._blockers.get(key, {})
            blockers[key] = {one: since.get(one, now) for one in map(_steady, queue.look.blocked_by)}
            oldest = min(blockers[key].items(), key=lambda item: item[1], default=None)
            rates = _rates(before, totals[key], seconds) if before and seconds else {}
            blocked = None if oldest is None else (oldest[0], (now - oldest[1]) / 1e9)
            found[queue.name] = Change(seconds, totals[key], rates, blocked)
            at[key] = now
        self._at, self._totals, self._blockers = at, totals, blockers
        return found


def _rates(before: dict[str, int], now: dict[str, int], seconds: float) -> dict[str, float]:
    return {name: (now[name] - before[name]) / seconds for name in COUNTERS}


def _totals(look: QueueLook, before: dict[str, int]) -> dict[str, int]:
    """Return the counters of a look; the words of a look are of different moments, so one could seem to go down."""
    return {name: max(getattr(look, name), before.get(name, 0)) for name in COUNTERS}


def _steady(blocker: QueueBlocker) -> QueueBlocker:
    """Return a blocker as it stays from look to look: tail moves on while a process holds the batch lock."""
    return QueueBlocker(blocker.pid, 0, blocker.doing) if blocker.doing == "put_batch" else blocker
