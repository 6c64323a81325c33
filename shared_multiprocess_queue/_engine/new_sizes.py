"""The sizes of a new queue: whether they can be together, and what to choose smaller if there is no room for it."""

from __future__ import annotations

from .._ring.layout import MAX_BATCH, MAX_ITEM_SIZE, MAX_SEGMENT_SIZE, SLOTS_START, Geometry, Mode
from ..errors import ArgumentError, shown


def geometry(
    capacity: int, item_size: int, mode: Mode, leases: int = 0, max_deliveries: int = 0, max_item_size: int = 0
) -> Geometry:
    """Return the geometry of a new queue, from values of which each one is possible.

    Raises:
        ArgumentError: together they make the segment too large, contradict each other, or an item has no room in the
            slots.
    """
    if max_deliveries and not leases:
        raise ArgumentError(
            f"max_deliveries={max_deliveries} needs leases: without them no item comes back; add leases=N, N being the "
            f"number of items in processing at once"
        )
    found = Geometry.of(capacity, item_size, mode, leases, max_deliveries, max_item_size)
    most = min(min(capacity, MAX_BATCH) * item_size, MAX_ITEM_SIZE)
    if not item_size <= found.max_item_size <= most:
        is_small = found.max_item_size < item_size
        raise ArgumentError(
            f"max_item_size={shown(found.max_item_size)} must be between item_size={item_size} and {most:,} bytes, the "
            f"most in capacity={capacity} slots; choose a {'larger' if is_small else 'smaller'} one, or "
            f"{'smaller' if is_small else 'more or larger'} slots"
        )
    if found.size > MAX_SEGMENT_SIZE:
        also = f" and leases={leases} for them" if leases else ""
        raise ArgumentError(
            f"capacity={capacity} slots of item_size={item_size} bytes{also} take {found.size:,} bytes, and no segment "
            f"can have more than {MAX_SEGMENT_SIZE:,}; {advice(found)}"
        )
    return found


def advice(wanted: Geometry) -> str:
    """Return which sizes to choose smaller, for a message: those of the part that takes most."""
    slots = wanted.lease_heads - SLOTS_START
    leases = wanted.definitions - wanted.lease_heads
    if slots >= leases:
        return "choose a smaller capacity or item_size"
    largest = "max_item_size" if wanted.max_item_size > wanted.item_size else "item_size"
    letters = f", and {wanted.dead} dead letters likewise," if wanted.dead else ""
    return (
        f"choose fewer leases or a smaller {largest}: leases={wanted.leases} of "
        f"{largest}={wanted.max_item_size} bytes each{letters} take {leases:,} of them"
    )
