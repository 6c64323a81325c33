"""Time: the only door to the clock. All deadlines are on the monotonic clock, in nanoseconds."""

from __future__ import annotations

import math
import time

from ..errors import ArgumentError, shown

now = time.monotonic_ns
real = time.time_ns  # for people; nothing is decided by it
sleep = time.sleep

FOREVER = math.inf


def deadline_of(block: bool, timeout: float | None) -> float:
    """Return when a call has to end, with the rules of ``queue.Queue``; see ``seconds_of`` for arguments and errors.

    Returns:
        A monotonic time in nanoseconds; ``FOREVER``; or 0, which is always past.
    """
    seconds = seconds_of(block, timeout)
    return now() + seconds * 1e9 if seconds else 0


def seconds_of(block: bool, timeout: float | None) -> float:
    """Return for how long a call may wait, with the rules of ``queue.Queue``.

    Args:
        block: False means that the call does not wait at all; ``timeout`` is then ignored.
        timeout: seconds; None waits for ever, 0 means now.

    Returns:
        Seconds; infinity waits for ever.

    Raises:
        ArgumentError: the timeout is negative or NaN.
        TypeError: it is no number.
    """
    if not block:
        return 0
    if timeout is None:
        return FOREVER
    try:
        seconds = float(timeout + 0)  # not what float() makes of a text
    except OverflowError:
        seconds = math.copysign(math.inf, timeout > 0 or -1)  # more than any number of seconds
    except (TypeError, ValueError, ArithmeticError):  # what else is raised here comes from outside
        raise TypeError(
            f"'timeout' must be a number of seconds, or None to wait for ever, not {shown(timeout)}"
        ) from None
    if not seconds >= 0:
        raise ArgumentError(
            f"'timeout' must be a non-negative number of seconds, not {shown(timeout)}; None waits for ever, 0 does "
            f"not wait"
        )
    return seconds
