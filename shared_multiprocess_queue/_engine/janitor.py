"""The janitor that a process leaves behind when it ends: see _native/janitor.h, which is all that there is of it.

A process that waits in C is ended by a signal without a step of Python, so only C can act then. Where the extension is
not installed, what a janitor would remove stays until the next creation of a queue.
"""

from __future__ import annotations

import os
from collections.abc import Callable


def _nothing() -> None:
    pass


watch_signals: Callable[[], None] = _nothing
"""See that a janitor comes if this process ends by SIGTERM or SIGHUP, because the program does not handle them."""
note_child: Callable[[], None] = _nothing
"""Note that a child of this process begins, which may use its queues."""
leave: Callable[[], None] = _nothing
"""At the end of this process, whose queues are still used: leave a janitor, if a child has just begun."""

try:
    from .._native import extension
except ImportError:
    pass
else:
    watch_signals, note_child, leave = extension.watch_signals, extension.note_child, extension.leave_janitor
    os.register_at_fork(after_in_parent=note_child)
