"""Copies of as many bytes as items have, by themselves: what a queue that copies an item twice can do at best."""

from __future__ import annotations

from collections.abc import Callable


def copier(size: int, different: int, block: int) -> Callable[[], None]:
    """Return what copies the bytes of a block of items as a queue has to: each into its slot, and then out of it.

    Args:
        size: of an item, in bytes.
        different: number of items that are put in turn.
        block: number of items that are copied.
    """
    items = [bytearray(size) for _ in range(min(different, block))]
    slots = [bytearray(size) for _ in range(block)]
    taken = bytearray(size)  # the receiver lets go of each item before the next

    def copy_all() -> None:
        for number, slot in enumerate(slots):
            slot[:] = items[number % len(items)]
        for slot in slots:
            taken[:] = slot

    return copy_all
