"""Queues that go with their last user: made with ``delete=True``.

Such a queue is removed by the user that closes its last handle, or at the end of the process that does. If no user came
to that, because all were killed, the next creation of any queue by the same user finds and removes it. The lock of use
decides: a queue goes when no process has it mapped, and never before.

A process that ends by SIGTERM or SIGHUP, because the program does not handle them, runs no Python any more; and a child
that has just begun may die before it knows of its queues. So a process leaves a janitor behind, which removes them.

Between the pickling of a handle for a child that multiprocessing starts and the attachment of that child, the child has
a descriptor with the lock of use, which the kernel gives it at its start. So the parent may close its handle right
after that.
"""

from __future__ import annotations

import os
import sys
import weakref
from contextlib import suppress
from functools import partial
from typing import Final

from .._platform import ending, handing_over, removal, shared_memory, use_lock
from .._platform.shared_memory import Segment
from .._ring.layout import DELETE_AT, MAGIC, MAGIC_AT, UNFINISHED, UNLINKED_AT, VERSION, VERSION_AT, WORD
from ..errors import SharedMemoryQueueError
from . import janitor

_ENDING: Final = "-queue"
_LOCK: Final = "-lock"
_ANONYMOUS: Final = "anonymous"
_TOKEN: Final = 16  # bytes
_MOST: Final = 1000  # new segments that one creation opens to find those without users
_OVER: Final = ("removed", "gone")


def anonymous_name() -> str:
    """Return a name that cannot be guessed and that no other queue has."""
    return f"{_ANONYMOUS}-{os.getpid()}-{os.urandom(_TOKEN).hex()}"


def is_anonymous(segment_name: str) -> bool:
    """Whether a queue has a name of this module's making: no other process makes one of that name."""
    parts = segment_name.removesuffix(_ENDING).rsplit("-", 3)[-3:]
    return len(parts) == 3 and parts[0] == _ANONYMOUS and parts[1].isdecimal() and len(parts[2]) == 2 * _TOKEN


def goes_with_its_users(segment: Segment) -> bool:
    """Whether a queue was made with ``delete=True``."""
    return _word(segment.buffer, DELETE_AT) == 1


def _word(start: bytes | memoryview, at: int) -> int:
    return int.from_bytes(start[at : at + WORD], sys.byteorder)


# ---- the users in this process --------------------------------------------------------------------------------------


_ours: dict[tuple[str, tuple[int, int]], weakref.WeakSet[Segment]] = {}
"""The queues that this process may be the last user of, by name and identity, with its open segments of each."""


def opened(segment: Segment) -> None:
    """Note that this process uses a queue, if it goes with its users."""
    if use_lock.IS_THERE and goes_with_its_users(segment):
        _forget_those_gone()
        _ours.setdefault((segment.name, segment.identity()), weakref.WeakSet()).add(segment)
        ending.watch()
        janitor.watch_signals()


def closed(segment: Segment) -> None:
    """Remove a queue of which this process has closed a handle, if no process uses it any more."""
    key = segment.name, segment.identity()
    segments = _ours.get(key)
    if segments is not None:
        segments.discard(segment)
        handing_over.release()
        _remove(*key)


def keep(segment: Segment) -> None:
    """Let a queue that goes with its users outlive its use by this process: the next creation of a queue removes it."""
    key = segment.name, segment.identity()
    _ours.get(key, weakref.WeakSet()).discard(segment)
    if not _ours.get(key):
        _ours.pop(key, None)


def hand_over(segment: Segment) -> handing_over.Ticket | None:
    """Give the use of a queue to the child that multiprocessing is starting now, if the queue goes with its users."""
    if not goes_with_its_users(segment):
        return None
    janitor.note_child()
    return handing_over.hand_over(segment.name, segment.identity())


take_over = handing_over.take_over


def _remove(name: str, identity: tuple[int, int]) -> None:
    with suppress(OSError, SharedMemoryQueueError):  # no descriptor is left, for example; others will remove it
        if removal.remove_unused(name, name + _LOCK, lambda _: True, UNLINKED_AT, identity) in _OVER:
            _ours.pop((name, identity), None)


_pruned_at = 0


def _forget_those_gone() -> None:
    """Keep the table small in a process that opens many queues which others remove."""
    global _pruned_at  # noqa: PLW0603
    if len(_ours) > 2 * _pruned_at + 100:
        for name, identity in list(_ours):
            if not shared_memory.means(name, identity):
                _ours.pop((name, identity), None)
        _pruned_at = len(_ours)


def _end() -> None:
    """End the use of all queues, although threads may be in an operation, and remove those that no other process uses.

    Nothing is unmapped: daemon threads run until the very end.
    """
    handing_over.release_all()
    for (name, identity), segments in list(_ours.items()):
        for segment in list(segments):
            with suppress(OSError, SharedMemoryQueueError):
                segment.end_use()
        _remove(name, identity)
    if _ours:
        janitor.leave()


ending.at_end(_end)


# ---- what no process came to remove ---------------------------------------------------------------------------------


_listing: Final = removal.Listing(_ENDING, _LOCK)


def sweep() -> None:
    """Remove the queues of this user that go with their users and have none left.

    Of all other queues each is opened once, and not again while it is used.
    """
    handing_over.release()
    used = {name for (name, _), segments in list(_ours.items()) if segments}
    try:
        unused, lone = _listing.unused(_goes, used, _MOST)
    except OSError:  # no descriptor is left, or the folder cannot be read: the next creation sweeps
        return
    for name in unused:
        with suppress(OSError, SharedMemoryQueueError):
            removal.remove_unused(name, name + _LOCK, partial(_goes, name), UNLINKED_AT)
    for lock in lone:
        segment = lock.removesuffix(_LOCK)
        # A queue has its name before its lock has one, and the name of an anonymous queue does not come back.
        if is_anonymous(segment):
            with suppress(OSError, SharedMemoryQueueError):
                removal.remove_alone(lock, segment)


def _goes(name: str, start: bytes) -> bool | None:
    """Whether a segment without users is to be removed; None if that may change."""
    magic = _word(start, MAGIC_AT)
    if magic == UNFINISHED or not start:  # the flock tells whether its creator lives
        return True if is_anonymous(name) or _word(start, DELETE_AT) == 1 else None
    return magic == MAGIC and _word(start, VERSION_AT) == VERSION and _word(start, DELETE_AT) == 1
