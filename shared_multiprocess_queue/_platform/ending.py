"""The end of this process: functions that run then, in the children of multiprocessing, too.

A child of multiprocessing ends without calling ``atexit``; it runs its finalizers instead, and forgets those that were
registered before it began. So they are registered when a child begins, by a hook of multiprocessing.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

_LAST: Final = -100  # priority among the finalizers of multiprocessing: after it has joined the children
_functions: list[Callable[[], None]] = []
_hooked_in: list[Any] = []  # the module multiprocessing.util, once it has the hook
_ends_in = 0  # process id
_is_watching = False


def at_end(function: Callable[[], None]) -> None:
    """Call a function when this process ends, and when its forked children do. It may be called more than once."""
    _functions.append(function)


def watch() -> None:
    """See that the functions run at the end, also if this process is a child of multiprocessing or forks one."""
    global _is_watching  # noqa: PLW0603
    _is_watching = True
    util: Any = sys.modules.get("multiprocessing.util")
    if util is None:  # it is asked for again before a fork
        return
    if util not in _hooked_in:
        _hooked_in.append(util)
        util.register_after_fork(_run, _begin)
    if _ends_in != os.getpid():
        _begin()


def _begin(_: object = None) -> None:
    global _ends_in  # noqa: PLW0603
    _ends_in = os.getpid()
    sys.modules["multiprocessing.util"].Finalize(None, _run_as_finalizer, exitpriority=_LAST)


def _run_as_finalizer() -> None:
    """Run the functions, unless threads go on working: a child of multiprocessing waits for them after this."""
    here = threading.current_thread()
    if all(thread.daemon or thread is here for thread in threading.enumerate()):
        _run()


@atexit.register
def _run() -> None:
    for function in list(_functions):
        function()


def _before_fork() -> None:
    if _is_watching:
        watch()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork)
