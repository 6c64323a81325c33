"""Removing the names of segments that no process uses: proven by the lock of use, never guessed.

A remover opens the segment and takes its flock, so that no creator and no other remover is at work. It takes the lock
of use alone, so that no process has the segment mapped and none can begin to use it. Then it checks that the name still
means this segment, and removes the name and that of the companion. A process that opens the segment in between is
refused the lock of use until then, and finds that the name is gone.

If a remover dies, the kernel takes back its locks. Of the two names that of the queue goes first.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Container
from contextlib import suppress
from itertools import chain
from typing import Final, Literal

from ..errors import CorruptQueueError
from . import clock, processes, use_lock
from .shared_memory import (
    _SHM_FOLDER,
    _Descriptor,
    _remove_both,
    _remove_exactly,
    _remove_unguarded,
    identity_of,
    lacks_means,
)

START: Final = 4096  # bytes of a segment that tell whether it may be removed
LONG: Final = 1_000_000_000  # ns to wait for the flock of another remover
_MOMENT: Final = 20_000_000  # ns to wait for a flock that another process may have taken for a look

Decision = Callable[[bytes], object]


Outcome = Literal["removed", "gone", "kept", "busy", "used"]
"""What became of a removal: the name is gone, by this call; it was gone before; the decision was not to remove it; a
creator or another remover is at work; a process uses it, or that cannot be told."""


def remove_unused(
    name: str,
    companion: str,
    decide: Decision,
    mark_at: int,
    identity: tuple[int, int] | None = None,
    patience: int = _MOMENT,
    confirm: Callable[[], object] = lambda: True,
) -> Outcome:
    """Remove a segment that no process uses.

    Args:
        name: of the segment.
        companion: name of the segment that goes with it.
        decide: is given the first bytes of the segment, and says whether it may be removed.
        mark_at: offset of the word that becomes 1 when the names are gone.
        identity: of the segment, if only this one will do.
        patience: ns to wait for the flock.
        confirm: says the same when no process uses the segment and none can begin to.

    Raises:
        OSError: the segment cannot be opened; for example, no descriptor is left.
        CorruptQueueError: a folder, a link or the like has the name.
    """
    descriptor = _Descriptor()
    try:
        descriptor.open(name)
        if identity not in (None, descriptor.identity()):
            return "gone"
        if not descriptor.lock(patience):
            return "busy"
        if not decide(os.pread(descriptor.number, START, 0)):
            return "kept"
        if not use_lock.take_alone(descriptor.number):
            return "used"
        if not descriptor.means(name):
            return "gone"
        if not confirm():
            return "kept"
        _remove_both(name, companion)
        _mark(descriptor, mark_at)
        return "removed"
    except FileNotFoundError:
        return "gone"
    finally:
        descriptor.close()


def remove_forced(name: str, companion: str, mark_at: int) -> Outcome:
    """Remove a segment, whether it is used or not; without a descriptor, too.

    Args:
        name: of the segment.
        companion: name of the segment that goes with it.
        mark_at: offset of the word that becomes 1 when the names are gone.

    Raises:
        OSError: the segment is another user's.
        CorruptQueueError: a folder, a link or the like has the name.
    """
    descriptor = _Descriptor()
    try:
        descriptor.open(name)
        descriptor.lock(LONG)  # a process that is stopped may hold the flock: then without it
        if not descriptor.means(name):
            return "gone"
        _remove_both(name, companion)
        _mark(descriptor, mark_at)
    except FileNotFoundError:
        return "gone"
    except OSError as error:
        if not lacks_means(error):
            raise
        beside = identity_of(companion)
        if not _remove_unguarded(name, identity_of(name)):
            return "gone"
        _remove_unguarded(companion, beside)
    finally:
        descriptor.close()
    return "removed"


def remove_alone(name: str, segment: str) -> None:
    """Remove a companion that was left without its segment.

    A creator makes its segment first, and its companion anew after that. So a companion that was there while there was
    no segment is that of none.

    Args:
        name: of the companion.
        segment: name of the segment that it went with.

    Raises:
        OSError: it cannot be opened.
        CorruptQueueError: a folder, a link or the like has the name.
    """
    descriptor = _Descriptor()
    with suppress(FileNotFoundError):
        descriptor.open(name)
        if identity_of(segment) is None:
            _remove_exactly(name, descriptor)
        descriptor.close()


def _mark(descriptor: _Descriptor, mark_at: int) -> None:
    if os.fstat(descriptor.number).st_size >= mark_at + 8:
        os.pwrite(descriptor.number, (1).to_bytes(8, sys.byteorder), mark_at)


class Listing:
    """The segments of this user whose names end alike. Of each it is asked once whether it matters.

    Args:
        ending: of their names.
        companion: what stands behind that in the name of a companion.
    """

    def __init__(self, ending: str, companion: str) -> None:
        self._ending = ending
        self._companion = companion
        self._known: dict[str, tuple[int, bool]] = {}  # inode, and the answer

    def unused(
        self, matters: Callable[[str, bytes], bool | None], skipped: Container[str], limit: int
    ) -> tuple[list[str], list[str]]:
        """Return the names of segments that matter and may be unused, and of companions that seem to have no segment.

        Args:
            matters: is given a name and the first bytes of the segment; None means that this may change.
            skipped: names of segments that are not looked at.
            limit: largest number of segments that are opened for this, and of those returned.

        Raises:
            OSError: for example, no descriptor is left.
        """
        if not use_lock.IS_THERE:
            return [], []
        segments, companions = self._entries()
        lone = [name for name in companions if name.removesuffix(self._companion) not in segments]
        known, found, most = {}, {}, limit
        names = list(segments)
        first = clock.now() % len(names) if names else 0  # another one each time, if there are more than the limit
        for name in names[first:] + names[:first]:
            inode = segments[name]
            answer = self._known.get(name)
            if answer is None or answer[0] != inode:
                if limit == 0 or name in skipped:
                    continue
                limit -= 1
                start = _start_of(name)
                new = False if start is None else matters(name, start)
                if new is None:
                    continue
                answer = inode, new
            known[name] = answer
            if answer[1] and name not in skipped:
                found[name] = inode
        self._known = known
        used = processes.locked_files(os.stat(_SHM_FOLDER).st_dev) if found else set()
        return [name for name, inode in found.items() if inode not in used][:most], lone

    def _entries(self) -> tuple[dict[str, int], list[str]]:
        segments: dict[str, int] = {}
        companions: list[str] = []
        ending = self._ending + self._companion
        # One C call, so that no signal handler can raise while the folder is open.
        for entry in list(chain.from_iterable(map(os.scandir, (_SHM_FOLDER,)))):
            name = entry.name
            if name.endswith(self._ending):
                segments[name] = entry.inode()
            elif name.endswith(ending):
                companions.append(name)
        return segments, companions


def _start_of(name: str) -> bytes | None:
    """Return the first bytes of a segment; None if this user has no such segment.

    Raises:
        OSError: for example, no descriptor is left.
    """
    descriptor = _Descriptor()
    try:
        descriptor.open(name, os.O_RDONLY)
        if os.fstat(descriptor.number).st_uid != os.geteuid():
            return None
        return os.pread(descriptor.number, START, 0)
    except (FileNotFoundError, PermissionError, CorruptQueueError, UnicodeEncodeError):
        return None
    finally:
        descriptor.close()
