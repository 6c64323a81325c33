"""Threads whose outcome is a future, and waiting for what must come to be."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from shared_multiprocess_queue import SharedMemoryQueue

LONG = 60.0  # seconds; a watchdog, never a measure
SOON = 20.0  # seconds; a watchdog for what waits for ever if it waits

T = TypeVar("T")


def in_thread(function: Callable[..., T], *arguments: Any, **keywords: Any) -> Future[T]:
    """Run a function in a thread of its own."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(function(*arguments, **keywords))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def eventually(condition: Callable[[], object], what: str = "") -> None:
    """Wait until a condition holds."""
    give_up = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < give_up, f"it never came true: {what or inspect.getsource(condition).strip()}"
        time.sleep(0.001)


def sleeps(q: SharedMemoryQueue, side: str, more_than: int = 0) -> Callable[[], bool]:
    """Return a function that tells whether a get or a put has gone to sleep."""
    return lambda: q.get_metrics()[f"{side}_waits"] > more_than


def over_after(seconds: float) -> Callable[[], bool]:
    """Return whether so much time has gone: how long they try; nothing waits for anything here."""
    timer = threading.Timer(seconds, lambda: None)
    timer.start()
    return lambda: not timer.is_alive()
