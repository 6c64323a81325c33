"""Removing a queue by its name: of any layout, damaged or half made, and only if no process uses it, unless forced."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from typing import Final, NoReturn

from .._platform import processes, removal, shared_memory
from .._platform.mutex import segment_name as name_of_lock
from .._platform.removal import Outcome
from .._platform.segment_file import SegmentFile
from .._ring.layout import MAGIC, MAGIC_AT, UNFINISHED, UNLINKED_AT, VERSION, VERSION_AT, WORD
from .._ring.leased_look import LeasedLook
from .._ring.snapshot import Look
from .._ring.stated_sizes import check
from ..errors import CorruptQueueError, QueueInUseError, QueueNotFoundError, QueueNotReadyError, SharedMemoryQueueError
from . import lifecycle

_MOST_SLOTS: Final = 100_000  # of claimed slots that the look for a refusal goes through for the first item


class _Kind(Enum):
    OURS = auto()  # of this layout, perhaps damaged, or not complete: the lock of use tells whether it is used
    OTHER_LAYOUT = auto()
    NO_QUEUE = auto()


def remove(name: str, run_id: str, missing_ok: bool, force: bool) -> None:
    """Remove a queue; see ``SharedMemoryQueue.remove``."""
    segment_name, lock_name = lifecycle.names(name, run_id)
    lock = name_of_lock(lock_name, run_id)
    outcome: Outcome = "gone"
    while outcome == "gone" and shared_memory.identity_of(segment_name) is not None:
        outcome = _remove(segment_name, lock, force)
    if outcome == "gone":
        _remove_lock_alone(lock, segment_name)
        if not missing_ok:
            raise QueueNotFoundError(f"there is no queue segment {segment_name!r} to remove")


def remove_if_unused(segment_name: str, identity: tuple[int, int], confirm: Callable[[], object]) -> Outcome:
    """Remove the queue that a look has found, if no process uses it, and none is making or removing it.

    Args:
        segment_name: of the queue.
        identity: of its segment.
        confirm: is asked at last, when no process uses the queue and none can begin to.

    Raises:
        OSError: for example, no descriptor is left.
        CorruptQueueError: a folder, a link or the like has the name now.
    """

    def decide(start: bytes) -> bool:
        return _may_go(_kind_of(start), segment_name)

    lock = f"{segment_name}-lock"
    return removal.remove_unused(segment_name, lock, decide, UNLINKED_AT, identity, confirm=confirm)


def _may_go(kind: _Kind, segment_name: str) -> bool:
    """Whether a queue goes if the lock of use is free; those of another layout may have none, so all must be seen."""
    return kind is _Kind.OURS or (kind is _Kind.OTHER_LAYOUT and not any(_users(segment_name)))


def _remove(segment_name: str, lock: str, force: bool) -> Outcome:
    kinds: list[_Kind] = []

    def decide(start: bytes) -> bool:
        kinds.append(_kind_of(start))
        return force or _may_go(kinds[0], segment_name)

    try:
        if force:
            return removal.remove_forced(segment_name, lock, UNLINKED_AT)
        outcome = removal.remove_unused(segment_name, lock, decide, UNLINKED_AT, patience=removal.LONG)
    except OSError as error:
        if shared_memory.lacks_means(error):
            error.add_note("whether the queue is used cannot be told without a descriptor; force=True removes it")
        raise
    if outcome == "busy":
        raise QueueNotReadyError(
            f"queue segment {segment_name!r} is being created or removed by a live process; try again when that is "
            f"over, or remove it with force=True"
        )
    if outcome == "kept" and kinds[0] is _Kind.NO_QUEUE:
        raise CorruptQueueError(
            f"segment {segment_name!r} is not a queue of this package, or its first words are damaged; if it is not "
            f"needed, remove it with force=True"
        )
    if outcome in ("kept", "used"):
        _refuse(segment_name)
    return outcome


def _kind_of(start: bytes) -> _Kind:
    magic, version = (int.from_bytes(start[at : at + WORD], sys.byteorder) for at in (MAGIC_AT, VERSION_AT))
    if magic == UNFINISHED or not start or (magic, version) == (MAGIC, VERSION):
        return _Kind.OURS
    return _Kind.OTHER_LAYOUT if magic == MAGIC else _Kind.NO_QUEUE


def _users(segment_name: str) -> tuple[list[int], int]:
    """Return the processes that have the segment mapped, and how many could not be looked at."""
    identity = shared_memory.identity_of(segment_name)
    return ([], 0) if identity is None else processes.that_map(*identity)


def _refuse(segment_name: str) -> NoReturn:
    users, hidden = _users(segment_name)
    raise QueueInUseError(segment_name, tuple(users), hidden, *_contents(segment_name))


def _contents(segment_name: str) -> tuple[int, int]:
    """Return how many items and dead letters a queue has; none if that cannot be told."""
    # Read as a file and not mapped, as another program may cut it.
    with suppress(Exception), SegmentFile(segment_name) as file:  # it is gone by now, damaged, or no descriptor is left
        geometry = check(file, segment_name, file.size)
        look = (LeasedLook if geometry.leases else Look)(file, geometry, most=_MOST_SLOTS)
        return look.items(), look.dead_letters()
    return 0, 0


def _remove_lock_alone(lock: str, segment_name: str) -> None:
    """Remove the lock of a queue whose remover died between the two names."""
    with suppress(OSError, SharedMemoryQueueError):  # the next creation of this name replaces it
        removal.remove_alone(lock, segment_name)
