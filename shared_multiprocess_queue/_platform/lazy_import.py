"""Imports that are done when they are needed, and that neither an interrupt nor a fork cuts short.

If an import is interrupted, the process may never be able to import that package. If a thread imports while another one
forks, the child waits for ever for the lock of the module, because it has no thread that would release it. So an import
runs in a thread of its own, where Python serves no signal, and a fork waits for it.

There is one exception: ``logging.config`` makes queues while it holds the lock of ``logging``, for which many modules
wait when they are imported. So a thread that holds this lock imports by itself.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_lock = threading.RLock()  # reentrant: a signal handler may need the import that this thread waits for
_importing: list[threading.Thread] = []


def late(load: Callable[[], T]) -> Callable[[], T]:
    """Return a function that returns the result of ``load``, which imports something and is called once."""
    loaded: list[T] = []

    def get() -> T:
        if not loaded:
            with _lock:
                if not loaded:
                    _run(lambda: loaded.append(load()))
        return loaded[0]

    return get


def _run(work: Callable[[], None]) -> None:
    if _has_lock_of_logging():
        work()
        return
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    try:
        _importing.append(thread)
        thread.start()
    except RuntimeError:  # no thread can be started, for example at the end of the interpreter
        _importing.remove(thread)
        work()
        return
    thread.join()
    _importing.remove(thread)
    if errors:
        raise errors[0]


def _has_lock_of_logging() -> bool:
    is_owned: Callable[[], bool] | None = getattr(getattr(sys.modules.get("logging"), "_lock", None), "_is_owned", None)
    return is_owned is not None and is_owned()


def _before_fork() -> None:
    _lock.acquire()
    for thread in list(_importing):  # threads of calls that were interrupted, or of a call further up in this thread
        if thread.is_alive() and thread is not threading.current_thread():
            thread.join()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_lock.release, after_in_child=_lock.release)
