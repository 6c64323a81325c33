"""The dict that ``get_metrics()`` returns. What Prometheus exports is in ``prometheus.py``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from .._platform import clock
from .._ring.seen import Blocker
from .._ring.snapshot import Snapshot
from .contract import Engine


class BlockerTimes:
    """Remembers since when this handle has seen each blocker."""

    def __init__(self) -> None:
        self._since: dict[Blocker, int] = {}

    def seconds(self, blockers: Sequence[Blocker]) -> list[float]:
        """Return for each blocker how long it has been seen; blockers that are not given are forgotten."""
        now = clock.now()
        # The batch lock is not held at a position, and tail moves on while it is held.
        keys = [blocker._replace(position=0) if blocker.doing == "put_batch" else blocker for blocker in blockers]
        since = self._since  # another thread may replace it
        since = self._since = {key: since.get(key, now) for key in keys}
        return [(now - since[key]) / 1e9 for key in keys]


def read(engine: Engine, watch: BlockerTimes) -> dict[str, Any]:
    """Return the metrics of a queue; nothing in it is changed."""
    member = engine.membership
    seen = Snapshot(member.look(), member.is_batch_lock_held())
    dead_puts = seen.tombs + seen.dead
    return {
        "queue_size": seen.items,
        "queue_capacity": seen.geometry.capacity,
        "queue_slots_used": seen.slots_used,
        "queue_utilization_percent": seen.slots_used / seen.geometry.capacity * 100,
        "queue_item_size_bytes": seen.geometry.item_size,
        "queue_max_item_size_bytes": seen.geometry.max_item_size,
        "put_total": max(seen.tail - dead_puts, 0),
        "got_total": seen.slots_taken,
        "put_waits": seen.put_waits,
        "get_waits": seen.get_waits,
        "full_events": seen.full_events,
        "empty_events": seen.empty_events,
        "orphans_recovered": seen.adopted,
        "dead_puts": dead_puts,
        "bells": member.bells(),
        "bells_refused": seen.bells_refused,
        "leases": seen.geometry.leases,
        "leased": [
            {
                "pid": one.process.pid,
                "position": one.position,
                "deliveries": one.deliveries,
                "seconds": max(clock.now() - one.since, 0) / 1e9,
            }
            for one in seen.leased
        ],
        "redelivered": seen.redelivered,
        "lease_waits": seen.lease_waits,
        "max_deliveries": seen.geometry.max_deliveries,
        "dead_letters": seen.dead_letters,
        "dead_letters_total": seen.dead_letters_total,
        "dead_letters_refused": seen.dead_letters_refused,
        "participants": dict(Counter(one.process.pid for one in seen.participants if one.liveness != "dead")),
        "blocked_by": [
            {"pid": blocker.process.pid, "position": blocker.position, "doing": blocker.doing, "seconds": seconds}
            for blocker, seconds in zip(seen.blockers, watch.seconds(seen.blockers), strict=True)
        ],
        "unlinked": seen.is_unlinked,
        "delete": seen.goes_with_users,
        "shut_down": seen.is_shut_down,
        "mode": seen.geometry.mode,
        "serializer": seen.serializer,
        "engine": engine.name,
    }
