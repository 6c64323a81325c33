"""What an operator wants to know of a queue on a server."""

from __future__ import annotations

from typing import Any

from .handle import Handle

__all__ = ["of"]


def of(handle: Handle) -> dict[str, Any]:
    """Return it as plain numbers and texts; ``RemoteQueue.get_metrics`` says what they are."""
    seen, server, fixed = handle.look(), handle.server(), handle.fixed
    return {
        "queue_size": seen.waiting,
        "queue_capacity": fixed.capacity,
        "queue_utilization_percent": seen.waiting / fixed.capacity * 100,
        "queue_item_size_bytes": fixed.item_size,
        "put_total": seen.number("id"),
        "got_total": seen.number("got"),
        "full_events": seen.number("full"),
        "empty_events": seen.number("empty"),
        "leases": fixed.leases,
        "leased": [
            {"holder": holder, "position": position, "deliveries": deliveries, "ends_in": seconds}
            for holder, position, deliveries, seconds in seen.holders
        ],
        "redelivered": seen.number("redelivered"),
        "lease_waits": seen.number("lease_waits"),
        "max_deliveries": fixed.max_deliveries,
        "dead_letters": seen.dead,
        "dead_letters_total": seen.number("dead_total"),
        "dead_letters_refused": seen.number("dead_refused"),
        "shut_down": seen.number("closed") > 0,
        "mode": "mpmc",
        "engine": "redis",
        "server": server.version,
        "server_is_durable": server.is_durable,
        "server_replicas": server.replicas,
    }
