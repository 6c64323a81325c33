"""What an operator sees of a queue."""

from __future__ import annotations

from itertools import islice
from typing import Any

from .._platform import clock
from .._platform.atomic_words import Words
from .._ring.layout import (
    ADOPTED_AT,
    BELLS_REFUSED_AT,
    EMPTY_EVENTS_AT,
    FULL_EVENTS_AT,
    GET_BEGIN,
    GET_END,
    GET_WAITS_AT,
    HEAD,
    PUT_BEGIN,
    PUT_END,
    PUT_WAITS_AT,
    TAIL,
    TOMBS_AT,
    UNLINKED_AT,
    parse_owner,
)
from .contract import Engine
from .membership import Membership


class Watch:
    """Remembers since when this handle has seen somebody block the queue."""

    def __init__(self) -> None:
        self._since: dict[tuple[int, int, str], int] = {}

    def seconds(self, blockers: list[tuple[int, int, str]]) -> list[float]:
        """Return for each (owner, position, doing) for how long it has been seen; who is not named is forgotten."""
        now = clock.now()
        # The lock of batches is not held at a position; tail goes on meanwhile.
        keys = [(owner, 0 if doing == "put_batch" else position, doing) for owner, position, doing in blockers]
        self._since = {key: self._since.get(key, now) for key in keys}
        return [(now - self._since[key]) / 1e9 for key in keys]


def snapshot(engine: Engine, words: Words, watch: Watch) -> dict[str, Any]:
    """Return the metrics of a queue."""
    member, geometry = engine.membership, engine.membership.geometry
    size = member.ring.size(words)
    tombs = words.load(TOMBS_AT)
    doorbells = member.doorbells.made()
    put_total = max(words.load(TAIL) - tombs, 0)
    return {
        "queue_size": size,
        "queue_capacity": geometry.capacity,
        "queue_utilization_percent": size / geometry.capacity * 100,
        "queue_item_size_bytes": geometry.item_size,
        "put_total": put_total,
        "got_total": max(put_total - size, 0),
        "put_waits": words.load(PUT_WAITS_AT),
        "get_waits": words.load(GET_WAITS_AT),
        "full_events": words.load(FULL_EVENTS_AT),
        "empty_events": words.load(EMPTY_EVENTS_AT),
        "orphans_recovered": words.load(ADOPTED_AT),
        "dead_puts": tombs,
        "bells": "none" if not doorbells else "deaf" if any(bell.is_deaf for bell in doorbells) else "ring",
        "bells_refused": words.load(BELLS_REFUSED_AT),
        "participants": member.participants.live(words),
        "blocked_by": _blockers(member, words, watch),
        "unlinked": bool(words.load(UNLINKED_AT)),
        "mode": geometry.mode,
        "engine": engine.name,
    }


def _blockers(member: Membership, words: Words, watch: Watch) -> list[dict[str, Any]]:
    """Say which live processes hold what others need: a slot that a get or a put comes to next, or the lock of batches.

    A batch may need all slots, so the first that a get has claimed and not freed counts wherever it is.
    """
    head, tail = words.load(HEAD), words.load(TAIL)
    found: list[tuple[int, int, str]] = []
    if member.ring.is_claimed_by_put(words, head):
        found += [(owner, head, "put") for _, owner in member.participants.covering(words, head, PUT_BEGIN, PUT_END)]
    for owner, begin, end in member.participants.announcing(words, GET_BEGIN, GET_END):
        claimed = range(max(begin, tail - member.geometry.capacity), min(end, head, tail))
        held = (position for position in claimed if member.ring.is_claimed_by_get(words, position))
        found += [(owner, position, "get") for position in islice(held, 1)]
    found += [(owner, tail, "put_batch") for owner in member.batch_lock.holders(words)]
    return [
        {"pid": parse_owner(owner)[0], "position": position, "doing": doing, "seconds": seconds}
        for (owner, position, doing), seconds in zip(found, watch.seconds(found), strict=True)
    ]
