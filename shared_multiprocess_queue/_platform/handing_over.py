"""The use of a segment that goes to a child, from the moment at which multiprocessing starts the child.

A child that is not forked attaches by name when it unpickles its arguments. Until then only its parent would use the
segment, and may end that use as soon as ``start()`` has returned. So the child is given a descriptor that has the lock
of use, as multiprocessing gives it descriptors of connections. From then on the kernel keeps the lock for as long as
the child lives, and the child closes the descriptor when it has attached.
"""

from __future__ import annotations

import os
import sys
import weakref
from contextlib import suppress
from typing import Any, Final

from ..errors import SharedMemoryQueueError
from .shared_memory import Segment, _Descriptor, open_existing

_MOST: Final = 64  # descriptors for one child; forkserver can send 251


class _Held:
    """What this process holds until a child has been started, or, without a descriptor for it, has ended."""

    def __init__(self, popen: Any, use: _Descriptor | Segment) -> None:
        self._popen = weakref.ref(popen)
        self.use = use

    def is_for(self, popen: Any) -> bool:
        return self._popen() is popen

    def is_over(self) -> bool:
        popen = self._popen()
        if popen is None:
            return True
        return getattr(popen, "pid" if isinstance(self.use, _Descriptor) else "returncode", None) is not None


_held: list[_Held] = []
_taken_over: set[int] = set()  # descriptors of this process, which its parent gave it


Ticket = tuple[int, Any]
"""What is pickled for the child: the process id of its parent, and multiprocessing's object for a descriptor."""


def hand_over(name: str, identity: tuple[int, int]) -> Ticket | None:
    """Give the use of a segment to the child that multiprocessing is starting in this thread.

    Args:
        name: of the segment, which this process uses.
        identity: of the segment.

    Returns:
        What the child needs for ``take_over``; None if no child is being started, or none that can be given anything.
    """
    release()
    context: Any = sys.modules.get("multiprocessing.context")
    popen: Any = None if context is None else context.get_spawning_popen()
    if not hasattr(popen, "DupFd"):
        return None
    with suppress(OSError, SharedMemoryQueueError):  # the name is gone: the child will say so
        if sum(held.is_for(popen) for held in _held) >= _MOST:
            segment = open_existing(name)
            if segment.identity() == identity:
                _held.append(_Held(popen, segment))
            return None
        descriptor = _Descriptor()
        descriptor.open(name)  # closed with its last reference
        if descriptor.identity() == identity:
            descriptor.share_use(name)
            _held.append(_Held(popen, descriptor))
            return os.getpid(), popen.DupFd(popen.duplicate_for_child(descriptor.number))
    return None


def take_over(ticket: Ticket | None, identity: tuple[int, int]) -> None:
    """Close the descriptor that the parent gave this process; called when the segment is attached."""
    if ticket is None or ticket[0] == os.getpid():  # the parent has copied the handle while it was starting a child
        return
    with suppress(OSError, LookupError, TypeError):  # the pickle has come to a process for which it was not made
        number = ticket[1].detach()
        status = os.fstat(number)
        if number not in _taken_over and (status.st_dev, status.st_ino) == identity:
            _taken_over.add(number)
            os.close(number)


def release() -> None:
    """Let go of what children have by now."""
    for held in list(_held):
        if held.is_over():
            _let_go(held)


def release_all() -> None:
    """Let go of everything, at the end of this process."""
    for held in list(_held):
        _let_go(held)


def _let_go(held: _Held) -> None:
    with suppress(ValueError):  # another thread was faster
        _held.remove(held)
    held.use.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=release_all)  # a forked child has the mapping of its parent
