"""Time: the only door to the clock. All deadlines are on the monotonic clock, in nanoseconds."""

from __future__ import annotations

import math
import time

from .errors import ArgumentError

now = time.monotonic_ns
sleep = time.sleep

FOREVER = math.inf


def deadline_of(block: bool, timeout: float | None) -> float:
    """Return when a call has to end, with the rules of ``queue.Queue``.

    Args:
        block: False means that the call does not wait at all; ``timeout`` is then ignored.
        timeout: seconds; None waits for ever, 0 means now.

    Returns:
        A monotonic time in nanoseconds; ``FOREVER``; or 0, which is always past.

    Raises:
        ArgumentError: the timeout is negative or not a number.
    """
    if not block:
        return 0
    if timeout is None:
        return FOREVER
    if not timeout >= 0:
        raise ArgumentError(
            f"'timeout' must be a non-negative number of seconds, not {timeout!r}; None waits for ever, 0 does not wait"
        )
    return now() + timeout * 1e9 if timeout else 0
