"""Everyday objects to bytes, by the package's writer in Python, for comparison with the native engine's."""

from __future__ import annotations

from shared_multiprocess_queue._codec import plain_writing


def write(item: object, limit: int) -> bytes | None:
    """Return the bytes of an item; None if it is not plain, or they are more than so many."""
    try:
        payload = plain_writing.write(item, limit)
    except plain_writing.NotPlainError:
        return None
    return payload if len(payload) <= limit else None
