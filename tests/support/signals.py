"""Signals that come again and again."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def alarms(handler: Callable[[FrameType | None], object], seconds: float) -> Iterator[None]:
    """Interrupt this thread by a signal again and again; its handler is interrupted, too, but only so often."""
    active, depth = True, 0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal depth
        depth += 1
        if active and depth < 3:
            signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            handler(frame)
        finally:
            depth -= 1
            if active:
                signal.setitimer(signal.ITIMER_REAL, seconds)

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        active = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
