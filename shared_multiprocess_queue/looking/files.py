"""Looks at queues from outside, by reading the files of their segments.

A look takes no record and no lock, writes nothing and wakes nothing. So it works on a queue that is stuck, full,
damaged, half made or of another layout, and beside anything that its users do.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

from .._platform import clock, processes
from .._platform.segment_file import FOLDER, IS_THERE, SegmentFile, names, status_of
from .._ring.batch_lock import is_shut
from .._ring.layout import (
    BATCH_OWNER_AT,
    GATE_AT,
    ITEMS,
    MAGIC,
    MAGIC_AT,
    SPACE,
    VERSION,
    VERSION_AT,
    WAKE_HINT,
)
from .._ring.leased_look import LeasedLook
from .._ring.seen import Participant
from .._ring.snapshot import Look, Snapshot
from .._ring.stated_sizes import check
from ..errors import CorruptQueueError, LayoutVersionError, QueueNotFoundError, QueueNotReadyError, shown
from .found import Liveness, QueueBlocker, QueueFile, QueueLease, QueueLook, QueueProcess, State

ENDING: Final = "-queue"
MOST_SLOTS: Final = 100_000  # of claimed slots that a look goes through for the first item; others are not counted
_NEW: Final = 1.0  # seconds for which a file without a byte may be that of a creator that has just begun


class Mappings(NamedTuple):
    """Which processes have which segments mapped.

    Attributes:
        pids: by inode.
        hidden: number of processes that could not be looked at; None if none was looked at.
    """

    pids: dict[int, list[int]]
    hidden: int | None


NOT_LOOKED: Final = Mappings({}, None)


def mappings() -> Mappings:
    """Look at the mappings of all processes, which takes some ten microseconds each."""
    return Mappings(*processes.mapped_files(os.stat(FOLDER).st_dev))


def list_queues(pattern: str = "*", *, foreign: bool = False) -> list[QueueFile]:
    """Return all queues of this user in shared memory, by name; nothing in them is changed.

    A queue that goes while the list is made is left out.

    Args:
        pattern: of the names to take, with ``*``, ``?`` and ``[...]`` as in a shell.
        foreign: also take what is no queue, and the files of other users.

    Raises:
        TypeError: the pattern is no str.
        NotImplementedError: this system does not show its shared memory as files, as Linux does.

    Example:
        >>> from shared_multiprocess_queue import SharedMemoryQueue, list_queues
        >>> jobs = SharedMemoryQueue("doc-list", create=True, capacity=5)
        >>> jobs.put("a job")
        >>> [(queue.name, queue.in_use, queue.look.items) for queue in list_queues("doc-li*")]
        [('doc-list', True, 1)]
        >>> jobs.close(); jobs.unlink()
    """
    return listed(pattern, foreign, mapped=True)


def listed(pattern: str, foreign: bool, mapped: bool) -> list[QueueFile]:
    """Return what ``list_queues`` does; ``mapped`` says whether to look at the mappings of processes, too."""
    _require_files()
    if not isinstance(pattern, str):
        raise TypeError(f"pattern must be a str, not {shown(pattern)}: '*' for all queues, or 'app-*'")
    found = [name for name in names(ENDING) if fnmatchcase(name.removesuffix(ENDING), pattern)]
    if not foreign:  # what another user has left there is not even opened
        found = [name for name in found if _is_own(name)]
    seen = mappings() if found and mapped else NOT_LOOKED
    queues = [queue for name in found if (queue := look_at(name, seen)) is not None]
    return [queue for queue in queues if foreign or (queue.uid == os.geteuid() and queue.state != "foreign")]


def _is_own(segment: str) -> bool:
    try:
        return status_of(segment).st_uid == os.geteuid()
    except FileNotFoundError:
        return False


def inspect(name: str, run_id: str = "") -> QueueFile:
    """Return what a look at one queue finds; nothing in it is changed.

    Args:
        name: of the queue.
        run_id: of the queue.

    Raises:
        QueueNotFoundError: there is no such queue; a FileNotFoundError.
        TypeError: the name or the run_id is no str.
        NotImplementedError: this system does not show its shared memory as files, as Linux does.

    Example:
        >>> from shared_multiprocess_queue import SharedMemoryQueue, inspect
        >>> jobs = SharedMemoryQueue("doc-inspect", create=True, capacity=5)
        >>> jobs.put("a job")
        >>> found = inspect("doc-inspect")
        >>> found.state, found.look.items, found.look.capacity
        ('ok', 1, 5)
        >>> jobs.close(); jobs.unlink()
    """
    return inspected(name, run_id, mapped=True)


def inspected(name: str, run_id: str, mapped: bool) -> QueueFile:
    """Return what ``inspect`` does; ``mapped`` says whether to look at the mappings of processes, too."""
    _require_files()
    for what, value in (("name", name), ("run_id", run_id)):
        if not isinstance(value, str):
            raise TypeError(f"{what} must be a str, not {shown(value)}; of a queue give queue.name and queue.run_id")
    segment = segment_of(name, run_id)
    found = look_at(segment, mappings() if mapped else NOT_LOOKED)
    if found is None:
        raise missing(segment)
    return found


def missing(segment: str) -> QueueNotFoundError:
    """Return the error that says that there is no such segment."""
    name = segment.removesuffix(ENDING)
    meant = name.removesuffix(ENDING)  # of the name of a segment's file
    is_there = meant != name and look_at(f"{meant}{ENDING}", NOT_LOOKED) is not None
    hint = f"did you mean {shown(meant)}?" if is_there else "the command shmq ls lists those that there are"
    return QueueNotFoundError(f"there is no queue {shown(name)}; {hint}")


def segment_of(name: str, run_id: str) -> str:
    """Return the name of a queue's segment; also one that no queue can have, of which there is none."""
    return f"{run_id}-{name}{ENDING}" if run_id else f"{name}{ENDING}"


def _require_files() -> None:
    if not IS_THERE:
        raise NotImplementedError("queues can be listed and looked at from outside on Linux only")


# ---- one segment ----------------------------------------------------------------------------------------------------


def open_look(file: SegmentFile) -> Look:
    """Return a look at a segment that is open.

    Raises:
        QueueNotReadyError, LayoutVersionError, CorruptQueueError: it is no queue of this layout, or not yet.
    """
    geometry = check(file, file.name, file.size)
    return (LeasedLook if geometry.leases else Look)(file, geometry, most=MOST_SLOTS)


def look_at(segment: str, seen: Mappings) -> QueueFile | None:
    """Look at one segment; None if there is none of that name."""
    try:
        with SegmentFile(segment) as file:
            return _found(file, seen)
    except FileNotFoundError:
        return None
    except (CorruptQueueError, OSError) as error:
        try:
            status = status_of(segment)
        except FileNotFoundError:
            return None
        state: State = "denied" if isinstance(error, OSError) else "foreign"
        why = f"user {os.geteuid()} may not read it" if isinstance(error, PermissionError) else str(error)
        return _file(segment, status, state, why, None, None, None)


def _found(file: SegmentFile, seen: Mappings) -> QueueFile:
    opened, in_use = file.status(), file.is_used()
    state: State = "ok"
    why, look, created = "", None, None
    layout = _layout_of(file)
    try:
        look, snapshot = _look(file, open_look(file), seen)
        in_use, layout = in_use or file.is_used(), VERSION  # its creation may have ended just now
        created = snapshot.created / 1e9
        if snapshot.is_damaged:
            state, why = "damaged", "its positions or words contradict each other"
    except QueueNotReadyError:
        is_new = not opened.st_size and clock.real() / 1e9 - opened.st_mtime < _NEW
        state = "unfinished" if in_use is not False or is_new else "leftover"
        why = (
            "a process is making it" if state == "unfinished" else "its creation has not ended, and no process uses it"
        )
    except LayoutVersionError as error:
        state, why = "layout", f"it has layout {error.found}, and this version reads {error.expected}"
    except CorruptQueueError as error:
        state, why = ("foreign" if layout is None else "damaged"), str(error)
    return _file(file.name, file.status(), state, why, in_use, layout, look, created)


def _layout_of(file: SegmentFile) -> int | None:
    """Return the number of the layout; None if the segment does not say that it is a queue."""
    try:
        return file.load(VERSION_AT) if file.load(MAGIC_AT) == MAGIC else None
    except CorruptQueueError:  # it is too short
        return None


def _file(
    segment: str,
    status: os.stat_result,
    state: State,
    why: str,
    in_use: bool | None,
    layout: int | None,
    look: QueueLook | None,
    created: float | None = None,
) -> QueueFile:
    return QueueFile(
        segment.removesuffix(ENDING),
        state,
        why,
        status.st_dev,
        status.st_ino,
        status.st_uid,
        status.st_size,
        status.st_blocks * 512,
        status.st_mtime if created is None else created,
        in_use,
        layout,
        look,
    )


def _look(file: SegmentFile, look: Look, mapped: Mappings) -> tuple[QueueLook, Snapshot]:
    seen = Snapshot(look, True)  # the int32 of the batch lock lies in another segment, which is not opened
    sizes = seen.geometry
    dead_puts = seen.tombs + seen.dead
    sleepers = [("getters", ITEMS), ("putters", SPACE)]
    now = clock.now()
    found = QueueLook(
        capacity=sizes.capacity,
        item_size=sizes.item_size,
        max_item_size=sizes.max_item_size,
        stride=sizes.stride,
        mode=sizes.mode,
        leases=sizes.leases,
        serializer=seen.serializer,
        items=seen.items,
        slots_used=seen.slots_used,
        empty=look.is_empty(),
        full=look.is_full(),
        head=seen.head,
        tail=seen.tail,
        put_total=max(seen.tail - dead_puts, 0),
        got_total=seen.slots_taken,
        put_waits=seen.put_waits,
        get_waits=seen.get_waits,
        full_events=seen.full_events,
        empty_events=seen.empty_events,
        orphans_recovered=seen.adopted,
        dead_puts=dead_puts,
        bells_refused=seen.bells_refused,
        redelivered=seen.redelivered,
        lease_waits=seen.lease_waits,
        dead_letters=seen.dead_letters,
        asleep=tuple(side for side, at in sleepers if file.load(at + WAKE_HINT) & 1),
        batch_lock="held" if file.load(BATCH_OWNER_AT) else "free",
        gate=is_shut(file.load(GATE_AT), now),
        shut_down=seen.is_shut_down,
        delete=seen.goes_with_users,
        unlinked=seen.is_unlinked,
        creator=seen.creator.pid,
        processes=tuple(_processes(seen.participants, mapped.pids.get(file.status().st_ino, []))),
        hidden=mapped.hidden,
        leased=tuple(
            QueueLease(one.process.pid, one.position, one.deliveries, max(now - one.since, 0) / 1e9)
            for one in seen.leased
        ),
        blocked_by=tuple(QueueBlocker(one.process.pid, one.position, one.doing) for one in seen.blockers),
    )
    return found, seen


# ---- its processes --------------------------------------------------------------------------------------------------


def _processes(records: Iterable[Participant], mapped: list[int]) -> list[QueueProcess]:
    """Join the records with the mappings: a process may have several records, or none yet."""
    owners: dict[tuple[Any, ...], list[Participant]] = {}
    for record in records:
        owners.setdefault(record.process, []).append(record)
    found = [_process(theirs) for theirs in owners.values()]
    known = {one.pid for one in found if one.state in ("alive", "paused")}
    for pid in mapped:
        if pid not in known:
            state: Liveness = "paused" if processes.is_paused(pid) else "alive"
            found.append(QueueProcess(pid, state, processes.command_of(pid), 0, "", ()))
    return sorted(found, key=lambda one: one.pid)


def _process(records: list[Participant]) -> QueueProcess:
    first = records[0]
    pid, is_here = first.process.pid, first.liveness == "alive"
    state: Liveness = "paused" if is_here and processes.is_paused(pid) else first.liveness
    doing = [text for record in records for text in _doing(record)]
    roles = tuple(sorted({role for record in records for role in record.roles}))
    return QueueProcess(pid, state, processes.command_of(pid) if is_here else "", len(records), ", ".join(doing), roles)


def _ends(positions: range) -> tuple[int, int]:
    """Return the first and the last position; a damaged record may have more of them than ``len`` can count."""
    return positions.start, positions.stop - 1


def _doing(record: Participant) -> list[str]:
    found = [
        f"{what} {first:,}" if first == last else f"{what} {first:,} to {last:,}"
        for what, (first, last) in (("put", _ends(record.puts)), ("get", _ends(record.gets)))
        if first <= last
    ]
    if record.batch_lock:
        found.append(f"{record.batch_lock} the batch lock")
    if record.is_abandoned:
        found.append("abandoned")
    return found
