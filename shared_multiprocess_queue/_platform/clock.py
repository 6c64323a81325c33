"""Time: the only door to the clock. All deadlines are on the monotonic clock, in nanoseconds."""

from __future__ import annotations

import math
import time

from ..errors import ArgumentError, shown

now = time.monotonic_ns
real = time.time_ns  # to show a time to people; no decision depends on it
sleep = time.sleep

FOREVER = math.inf
ONE_LOOK = -2.0  # in the place of a deadline: wait for nothing at all; an event loop waits instead


def deadline_of(block: bool, timeout: float | None, what: str = "timeout") -> float:
    """Return when a call has to end, with the rules of ``queue.Queue``; see ``seconds_of`` for arguments and errors.

    Returns:
        A monotonic time in nanoseconds; ``FOREVER``; or 0, which is always in the past.
    """
    seconds = seconds_of(block, timeout, what)
    return now() + seconds * 1e9 if seconds else 0


def seconds_of(block: bool, timeout: float | None, what: str = "timeout") -> float:
    """Return for how long a call may wait, with the rules of ``queue.Queue``.

    Args:
        block: if False, the call does not wait, and ``timeout`` is ignored.
        timeout: seconds; None waits for ever, 0 does not wait.
        what: the name of that argument.

    Returns:
        Seconds; infinity means for ever.

    Raises:
        ArgumentError: the timeout is negative or NaN.
        TypeError: the timeout is no number.
    """
    if not block:
        return 0
    if timeout is None:
        return FOREVER
    return _non_negative(timeout, what, ", or None to wait for ever", "; None waits for ever, 0 does not wait")


def delay_of(delay: float) -> float:
    """Return the argument ``delay`` of a call, in seconds.

    Raises:
        ArgumentError: it is negative or NaN.
        TypeError: it is no number.
    """
    return _non_negative(delay, "delay", "", "")


def _non_negative(timeout: float, what: str, choice: str, advice: str) -> float:
    kind = type(timeout)
    try:
        # No call for the usual types: what a signal handler raises after a call would be taken for an error of the
        # number. The addition refuses a text, which float() would parse.
        seconds = timeout + 0.0 if kind is int or kind is float else float(timeout + 0)
    except OverflowError:
        seconds = math.copysign(math.inf, timeout > 0 or -1)  # an int that is too large for a float
    except (TypeError, ValueError, ArithmeticError):
        raise TypeError(f"{what!r} must be a number of seconds{choice}, not {shown(timeout)}") from None
    if not seconds >= 0:
        raise ArgumentError(f"{what!r} must be a non-negative number of seconds, not {shown(timeout)}{advice}")
    return seconds
