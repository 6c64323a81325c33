"""Creating, attaching to and unlinking a queue: from a name to a mapped segment with sizes that are checked."""

from __future__ import annotations

import os
import sys
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from .._platform import atomic_words, clock, shared_memory
from .._platform.atomic_words import Words, open_words
from .._platform.mutex import LockFlag, lock_class, open_lock, segment_name
from .._platform.shared_memory import Segment
from .._ring import stated_format
from .._ring.growth import Growth, size_at_first
from .._ring.layout import (
    CAPACITY_AT,
    CREATED_AT,
    CREATOR_AT,
    DEFINITIONS_SIZE,
    DEFINITIONS_SIZE_AT,
    DELETE_AT,
    FORMATS,
    ITEM_SIZE_AT,
    LEASES_AT,
    MAGIC,
    MAGIC_AT,
    MAX_DELIVERIES_AT,
    MAX_ITEM_SIZE_AT,
    MODE_AT,
    MODES,
    NONCE_AT,
    RECORDS,
    RECORDS_AT,
    SEGMENT_SIZE_AT,
    SLOTS_START,
    STATE_BITS,
    UNLINKED_AT,
    VERSION,
    VERSION_AT,
    WORD,
    Geometry,
    parse_owner,
)
from .._ring.participants import Participants
from .._ring.snapshot import Look
from .._ring.stated_sizes import check, check_size
from ..errors import (
    ArgumentError,
    CorruptQueueError,
    LayoutVersionError,
    QueueExistsError,
    QueueNotFoundError,
    QueueNotReadyError,
    SharedMemoryQueueError,
    shown,
)
from . import sweep
from .new_sizes import advice

_PAGE = 4096
_MOMENT = 20_000_000  # ns that unlink waits for the lock, and an attach for the successor of a leftover
_WAIT_FOR_CREATOR = 1_000_000_000  # ns between two looks at a creator's flock
_LONGEST_NAME = 255 - len("-lock")  # of a segment, in bytes, on Linux


def names(name: str, run_id: str) -> tuple[str, str]:
    """Return the name of a queue's segment and the name of its lock.

    Raises:
        ArgumentError: no segment can have such a name.
    """
    for what, text in (("name", name), ("run_id", run_id)):
        if not isinstance(text, str):
            hint = f"; the capacity is capacity={shown(text)}" if what == "name" and type(text) is int else ""
            raise ArgumentError(f"{what} must be a str, not {type(text).__name__}{hint}")
        if what == "name" and "://" in text:  # it may have a password in it
            raise ArgumentError("the name is a URL, of a queue on a server: open_queue(url) opens it, not this class")
        if "/" in text or "\0" in text:
            raise ArgumentError(
                f"{what} {shown(text)} must not contain '/' or NUL, because it becomes part of a file name"
            )
    name, run_id = str.__str__(name), str.__str__(run_id)  # a subclass, such as an enum, may format differently
    if not name:
        raise ArgumentError("name must not be empty; processes find the queue by it")
    segment = f"{run_id}-{name}-queue" if run_id else f"{name}-queue"
    try:
        length = len(segment.encode())
    except UnicodeEncodeError:
        raise ArgumentError(f"name {shown(name)} and run_id {shown(run_id)} must be encodable as UTF-8") from None
    if length > _LONGEST_NAME:
        raise ArgumentError(
            f"name and run_id together take {length} bytes in the segment's name, and the limit is {_LONGEST_NAME}; "
            f"choose shorter ones"
        )
    return segment, f"{name}-queue"


def _import_all() -> None:
    """Import the packages that are needed, before there is a segment or a flock for which others would wait."""
    atomic_words.prepare()
    lock_class()


def create(
    name: str,
    run_id: str,
    wanted: Geometry,
    delete: bool = False,
    as_used: bool = False,
    format_name: str = FORMATS[0],
) -> tuple[Segment, LockFlag]:
    """Make a queue, after the removal of queues that have lost their last users.

    Args:
        name: of the queue.
        run_id: of the queue.
        wanted: its sizes.
        delete: the queue goes with its last user.
        as_used: take memory for a slot when it is first used, and not now.
        format_name: of the format of the items.

    Raises:
        QueueExistsError: a queue or something else has that name; the message says which processes use it, or what it
            is.
        QueueNotReadyError: a live process is creating a queue of that name.
        OSError: there is not enough shared memory.
    """
    segment_of_queue, lock_name = names(name, run_id)
    lock_segment = segment_name(lock_name, run_id)
    locks: list[LockFlag] = []
    _import_all()
    sweep.sweep()
    mark = bytearray(shared_memory.MARK.ljust(DELETE_AT + WORD - MAGIC_AT, b"\0"))
    mark[DELETE_AT - MAGIC_AT :] = int(delete).to_bytes(WORD, sys.byteorder)

    def fill(segment: Segment) -> None:
        memory = open_words(segment.buffer)
        try:
            words = memory.words()
            for at, value in (
                (VERSION_AT, VERSION),
                (CAPACITY_AT, wanted.capacity),
                (ITEM_SIZE_AT, wanted.item_size),
                (MODE_AT, MODES.index(wanted.mode)),
                (LEASES_AT, wanted.leases),
                (MAX_DELIVERIES_AT, wanted.max_deliveries),
                (MAX_ITEM_SIZE_AT, wanted.max_item_size),
                (RECORDS_AT, RECORDS),
                (DEFINITIONS_SIZE_AT, DEFINITIONS_SIZE),
                (SEGMENT_SIZE_AT, wanted.size),
                (NONCE_AT, int.from_bytes(os.urandom(8), "little")),
                (CREATED_AT, clock.real()),
                (CREATOR_AT, Participants(words).owner),
                (DELETE_AT, delete),
            ):
                words.store(at, value)
            stated_format.write(words, stated_format.stated(format_name))
            if as_used:
                segment.reserve(wanted.definitions, _PAGE)
                Growth(segment, wanted).begin(words)
            else:
                _number_slots(segment, wanted)
            lock = open_lock(lock_name, run_id, create=True)
            locks.append(lock)
            lock.try_acquire()  # no other process uses it yet; a leftover 1 is harmless, see _ring/batch_lock.py
            words.store(MAGIC_AT, MAGIC)  # [X1] release, last: pairs with the load in attach
            lock.release()
        finally:
            memory.release()

    try:
        reserved = size_at_first(wanted) if as_used else wanted.definitions + _PAGE
        segment = shared_memory.create(
            segment_of_queue, wanted.size, reserved, fill, lock_segment, bytes(mark), advice(wanted)
        )
    except QueueExistsError:
        raise QueueExistsError(_who_has(segment_of_queue)) from None
    except BaseException:
        for lock in locks:
            lock.close()
        raise
    return segment, locks[0]


def discard(segment: Segment, lock: LockFlag, name: str, run_id: str) -> None:
    """Remove a queue that ``create`` has made, because its handle could not be completed; never raises an Exception.

    Args:
        segment: the segment that ``create`` returned; not closed yet.
        lock: the lock that it returned; not closed yet.
        name: of the queue.
        run_id: of the queue.
    """
    with suppress(Exception):
        unlink(name, run_id, segment.identity())
    for opened in (lock, segment):
        with suppress(Exception):
            opened.close()


def _number_slots(segment: Segment, wanted: Geometry) -> None:
    """Give each slot i the word FREE(i)."""
    words = segment.buffer.cast("Q")
    try:
        first, step = SLOTS_START // WORD, wanted.stride // WORD
        for start in range(0, wanted.capacity, 65536):
            end = min(start + 65536, wanted.capacity)
            fresh = array("Q", range(start << STATE_BITS, end << STATE_BITS, 1 << STATE_BITS))
            words[first + start * step : first + (end - 1) * step + 1 : step] = memoryview(fresh)
    finally:
        words.release()


def _who_has(segment_of_queue: str) -> str:
    """Return the error message that says which processes use the queue that exists."""
    try:
        segment = shared_memory.open_existing(segment_of_queue, uses=False)
        try:
            with _header(segment) as words:
                look = Look(words, check(words, segment.name, segment.size))
                pids = sorted({one.process.pid for one in look.participants() if one.liveness != "dead"})
                creator = words.load(CREATOR_AT)
                is_orphaned = look.liveness(creator) == "dead"
        finally:
            segment.close()
        if _imports_its_parents_script(pids):
            return (
                f"queue segment {segment_of_queue!r} exists already, and the parent of this spawned child uses it; "
                f"the child imports the parent's script, so create the queue under `if __name__ == '__main__':`, and "
                f"attach to it elsewhere with create=False"
            )
        users = f"used by process {', '.join(map(str, pids))}" if pids else "used by no live process"
        if pids and is_orphaned:
            users += (
                f", though process {parse_owner(creator)[0]}, which created it, is dead: if that was the parent of "
                f"these and has left them behind, end them (kill {' '.join(map(str, pids))})"
            )
    except (CorruptQueueError, LayoutVersionError, PermissionError) as error:
        return f"a segment {segment_of_queue!r} exists already: {getattr(error, 'strerror', None) or error}"
    except Exception:  # the queue is gone by now, or no descriptor is left
        users = "and its users cannot be told"
    return (
        f"queue segment {segment_of_queue!r} exists already, {users}; attach to it with create=False or exist_ok=True, "
        f"remove it first by SharedMemoryQueue.remove(), or choose another name or run_id; the command shmq show "
        f"{segment_of_queue.removesuffix('-queue')!r} tells more"
    )


def _imports_its_parents_script(users: list[int]) -> bool:
    """Whether this is a child of multiprocessing that imports the script of a parent which uses the queue.

    A child of forkserver has another parent than the process that starts it. While such a child, or one of spawn,
    imports the script, its process object says that it is inheriting.
    """
    process: Any = sys.modules.get("multiprocessing.process")
    if process is not None and getattr(process.current_process(), "_inheriting", False):
        return bool(users)
    return os.getppid() in users and "__mp_main__" in sys.modules


def attach(
    name: str, run_id: str, until: float = clock.FOREVER, identity: tuple[int, int] | None = None
) -> tuple[Segment, Geometry, LockFlag]:
    """Open a queue that exists. If it is being created, wait for it while its creator lives.

    Args:
        name: of the queue.
        run_id: of the queue.
        until: the time at which the wait ends.
        identity: of the segment, if only this one will do; then a newer queue of that name is not waited for.

    Raises:
        QueueNotFoundError: there is no such queue, or its creation was never finished.
        QueueNotReadyError: the time is over, and the queue is still being created or was replaced meanwhile.
        LayoutVersionError, CorruptQueueError: the queue cannot be used.
    """
    segment_of_queue, lock_name = names(name, run_id)
    _import_all()
    creation = _Creation(segment_of_queue)
    while True:
        if identity is not None and not shared_memory.means(segment_of_queue, identity):
            raise _pickled_and_gone(name, segment_of_queue)
        try:
            segment = shared_memory.open_existing(segment_of_queue)
        except QueueNotReadyError:
            creation.check(clock.now() > until)
            clock.sleep(0.001)
            continue
        except QueueNotFoundError:
            if not creation.may_go_on():
                raise
            clock.sleep(0.001)
            continue
        if identity not in (None, segment.identity()):
            segment.close()
            continue
        try:
            with _header(segment) as words:
                found = check(words, segment.name, segment.size)  # [X1]
            return segment, found, open_lock(lock_name, run_id, create=False)
        except (SharedMemoryQueueError, OSError):
            segment.close()
            if segment.has_name():
                raise
        except BaseException:
            segment.close()
            raise
        look_again(name, run_id, until)  # the lock was removed with the queue; a newer one may be in creation


def look_again(name: str, run_id: str, until: float) -> None:
    """Return if another queue has the name of one that was unlinked while this process attached to it.

    Raises:
        QueueNotFoundError: there is no queue of that name.
        QueueNotReadyError: there is one, but no time left to attach to it.
    """
    segment_of_queue, _ = names(name, run_id)
    if shared_memory.identity_of(segment_of_queue) is None:
        raise QueueNotFoundError(
            f"queue {name!r} was unlinked while this process attached; create it again with create=True"
        )
    if clock.now() > until:
        raise QueueNotReadyError(
            f"queue {name!r} was unlinked and created anew while this process attached; try again, or with a longer "
            f"timeout"
        )


def _pickled_and_gone(name: str, segment_of_queue: str) -> QueueNotFoundError:
    successor = "" if shared_memory.identity_of(segment_of_queue) is None else ", and another one has its name"
    return QueueNotFoundError(
        f"the queue {name!r} (segment {segment_of_queue!r}) whose handle was pickled is gone{successor}: it was "
        f"unlinked before this process attached, or went with the last process that had it open; keep it open, and do "
        f"not unlink it, until the processes that it is handed to have attached"
    )


class _Creation:
    """The state of a wait for the creation of a queue."""

    def __init__(self, segment_of_queue: str) -> None:
        self._name = segment_of_queue
        self._identity: tuple[int, int] | None = None
        self._look_at: float = 0
        self._gone_since = 0

    def may_go_on(self) -> bool:
        """Whether the name may be free for a moment only: a creator removes a leftover, and then makes its own."""
        if self._identity is None:
            return False
        self._gone_since = self._gone_since or clock.now()
        return clock.now() - self._gone_since < _MOMENT

    def check(self, is_late: bool) -> None:
        """Raise if the creator is dead, or if ``is_late``: the time of the caller is over.

        The creator takes its flock a moment after it has made the segment, and a look at the flock takes it for a
        moment, too, which may disturb the creator. So the flock of one segment is looked at only once a second, first
        after one second.
        """
        identity, time = shared_memory.identity_of(self._name), clock.now()
        self._gone_since = 0
        if identity != self._identity:
            self._identity, self._look_at = identity, time + _WAIT_FOR_CREATOR
        is_new = time < self._look_at
        if not is_late and is_new:
            return
        self._look_at = time + _WAIT_FOR_CREATOR
        why = shared_memory.why_unfinished(self._name, is_new)
        if is_late or (shared_memory.identity_of(self._name) == identity and not isinstance(why, QueueNotReadyError)):
            raise why


def format_name(segment: Segment) -> str:
    """Return the name of the format of the items, as a queue's segment states it."""
    with _header(segment) as words:
        return stated_format.read(words)


@contextmanager
def _header(segment: Segment) -> Iterator[Words]:
    """Yield the words of a segment's header.

    Raises:
        CorruptQueueError: the segment is too small to have a header.
    """
    check_size(segment.name, segment.size())
    memory = open_words(segment.buffer[:SLOTS_START])
    try:
        yield memory.words()
    finally:
        memory.release()


def unlink(name: str, run_id: str, identity: tuple[int, int]) -> bool:
    """Remove the names of a queue, and note it in the segment for the processes that are attached.

    Args:
        name: of the queue.
        run_id: of the queue.
        identity: of its segment; a newer queue of that name stays.

    Returns:
        Whether this call has removed the names, and the segment is not truncated, so that its words can be written.
    """
    segment_of_queue, lock_name = names(name, run_id)
    segment = lock = None
    held = is_cut = False
    try:
        if not shared_memory.means(segment_of_queue, identity):  # it may be another program's
            return False
        try:
            with _unless_means_lack():
                segment = shared_memory.open_existing(segment_of_queue, uses=False)
        except QueueNotReadyError:
            is_cut = True  # the segment is truncated to nothing; or it is a newer one, still in creation
        if segment is not None and segment.identity() != identity:
            return False
        with suppress(QueueNotFoundError, CorruptQueueError, PermissionError), _unless_means_lack():
            lock = open_lock(lock_name, run_id, create=False)
            held = _acquire_for_a_moment(lock)  # if possible, so that no batch sees the names go between its steps
        if not shared_memory.unlink(segment_of_queue, identity, segment_name(lock_name, run_id)):
            return False
        if segment is not None:
            with suppress(CorruptQueueError), _header(segment) as words:
                words.store(UNLINKED_AT, 1)
        return not is_cut
    except (SharedMemoryQueueError, OSError):
        if shared_memory.means(segment_of_queue, identity):
            raise
        return False
    finally:
        if lock is not None:
            if held:
                lock.release()
            lock.close()
        if segment is not None:
            segment.close()


@contextmanager
def _unless_means_lack() -> Iterator[None]:
    """Suppress the error if a segment cannot be opened because no descriptor or address space is left."""
    try:
        yield
    except OSError as error:
        if not shared_memory.lacks_means(error):
            raise


def _acquire_for_a_moment(lock: LockFlag) -> bool:
    give_up = clock.now() + _MOMENT
    while not lock.try_acquire():
        if clock.now() > give_up:
            return False  # a batch or a dead process holds it; the caller goes on without the lock
        clock.sleep(0.001)
    return True
