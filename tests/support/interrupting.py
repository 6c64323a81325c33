"""KeyboardInterrupt at the k-th point of a call at which Python serves signals."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Iterator

from shared_multiprocess_queue import Empty, Full
from stress.explore.interrupts import Interrupter, watch


def interrupted_at(point: int, operation: Callable[[], object]) -> str | None:
    """Run an operation and interrupt it; return where, or None if it has fewer points and was completed."""
    interrupter = Interrupter(point)
    gc.disable()  # an exception in a call of the collector would not be seen
    watch(interrupter)
    try:
        operation()
    except KeyboardInterrupt:
        return interrupter.where
    except (Empty, Full):
        assert not interrupter.where
        return None
    finally:
        watch(None)
        gc.enable()
    assert not interrupter.where, f"the interrupt at {interrupter.where} was swallowed"
    return None


def interrupted_with_traceback(point: int, operation: Callable[[], object]) -> tuple[str | None, BaseException | None]:
    """As ``interrupted_at``, and keep the exception, whose traceback keeps the frames."""
    kept: list[BaseException] = []

    def keep() -> None:
        try:
            operation()
        except BaseException as error:
            kept.append(error)
            raise

    return interrupted_at(point, keep), kept[0] if kept else None


def points(operation: Callable[[], object], every: int = 1) -> Iterator[str]:
    """Interrupt an operation at its point 0, every, 2 * every, ... until it is completed; yield after each."""
    for point in itertools.count(0, every):
        where = interrupted_at(point, operation)
        if where is None:
            assert point > 20, "hardly any points: nothing was tested"
            return
        yield where
