"""Named shared memory: the only door to it, and how a segment is created and removed (labels X of the protocol).

The functions below ``multiprocessing.shared_memory`` are used without that class. Before Python 3.13 the class
registers each segment that it opens with the resource tracker, which then removes the segment for all processes when
one of them ends. To register and unregister would be wrong, too: it would remove the entry of another process.

A creator opens the name exclusively and takes the flock of the descriptor, which the kernel releases when the process
dies. It checks that the name still means this segment. Then it writes the mark UNFINISHED, gives the segment its size,
reserves the memory, fills it, and at last stores the magic over the mark. Before the write of the mark the segment has
no bytes. So an empty or UNFINISHED segment is being created while its flock is held; if the flock is free, its creator
has died, and the next creator removes it. Every other segment is complete; the module removal says when one goes.

A process removes a name while it holds the flock of the segment that the name means, and after it has checked that. So
even a slow process never removes the name of a newer segment. There is one exception: a process that has no descriptor
left cannot take a flock. It checks what the name means, and removes it in the next system call.

A mapping needs no descriptor, and a handle keeps none. So a program may close all its descriptors, as a daemon does,
and a handle never closes a number that belongs to another file by then. Device and inode identify a segment.

The flock of a dead creator must not live on in its children. So a forked child closes its copies of flocked
descriptors, and a flocked descriptor is never the one that is mapped, because a mapping would keep the flock. Two kinds
of children escape this: one that C code forks without Python's knowledge, and one that another thread forks while the
creator is inside the system call that opens. If the creator dies in that creation, the segment seems to be in creation
until that child ends or executes another program.

If shared memory has no flock (macOS), a leftover cannot be told from a segment that is being created: it is reported as
not ready, and has to be unlinked by hand. On Windows a segment lives while a process has it open, and ``unlink`` does
nothing.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import stat
import sys
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from ..errors import ArgumentError, CorruptQueueError, QueueExistsError, QueueNotFoundError, QueueNotReadyError
from . import clock, free_memory, use_lock

_POSIX: Final = sys.platform != "win32"
if _POSIX:
    import _posixshmem
    import fcntl
    import resource

_HAS_FLOCK: Final = sys.platform.startswith("linux")  # there shared memory can also be read and written as a file
_PROBE: Final = 4096  # bytes of a segment that are looked at before it is mapped
# The first constant of a segment until its creation is complete; the layout states the same.
MARK_AT: Final = 256
MARK: Final = int.from_bytes(b"SHMQBORN", "little").to_bytes(8, sys.byteorder)
_PATIENCE: Final = 1_000_000_000  # ns to wait for a flock that other processes take only for a moment
_MOMENT: Final = 20_000_000  # ns to wait for the flock of a leftover, which another process may be looking at
_SHM_FOLDER: Final = "/dev/shm"
_MUCH: Final = 1 << 26  # bytes; with less the system is not asked how much memory it has left
_LACKING: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_POPULATE_WRITE: Final = 23  # MADV_POPULATE_WRITE, Linux 5.14
_MAP_FIXED: Final = 0x10
_GENTLY: Final = os.O_NOFOLLOW | os.O_NONBLOCK if _HAS_FLOCK else 0  # do not follow a link or wait for a FIFO
_MAP_NORESERVE: Final = 0x4000 if sys.platform.startswith("linux") else 0


def lacks_means(error: OSError) -> bool:
    """Whether a call failed because this process, or the system, has no descriptor or no address space left."""
    return error.errno in _LACKING


def _c_mmap() -> Any:
    function = ctypes.CDLL(None, use_errno=True).mmap
    function.restype = ctypes.c_void_p
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long)
    return function


_MMAP: Any = _c_mmap() if _POSIX else None


class _Descriptor:
    """A segment that is open; closed at the latest when the last reference to it goes, even after an interrupt."""

    def __init__(self) -> None:
        self._numbers: list[int] = []  # none or one

    def open(self, name: str, flags: int = os.O_RDWR) -> None:
        """Open the segment of a name.

        Raises:
            FileNotFoundError, FileExistsError: the segment does not exist, or exists and the flags forbid it.
            PermissionError: this user may not open it; the message names its owner.
            CorruptQueueError: a folder, a link, a FIFO or the like has the name.
            OSError: for example, no descriptor is left.
        """
        try:
            # One C call, so that no signal handler can raise between opening the descriptor and noting it.
            self._numbers.extend(map(_posixshmem.shm_open, ("/" + name,), (flags | _GENTLY,), (0o600,)))
        except (FileNotFoundError, FileExistsError):
            raise
        except OSError as error:
            _refuse_what_is_no_file(name, _status_of(name))
            if isinstance(error, PermissionError):
                raise _not_permitted(name) from None
            raise
        if _HAS_FLOCK and not flags & os.O_CREAT:
            try:
                _refuse_what_is_no_file(name, os.fstat(self.number))
            except BaseException:
                self.close()
                raise

    @property
    def number(self) -> int:
        return self._numbers[0]

    def is_open(self) -> bool:
        return bool(self._numbers)

    def close(self) -> None:
        if self in _locked:
            self.unlock()  # a child that C code has forked may have a copy, which would keep the flock
        self.forget()

    def forget(self) -> None:
        """Close the descriptor without releasing the flock, which in a forked child is the parent's."""
        _locked.discard(self)
        numbers, self._numbers = self._numbers, []
        for number in numbers:
            os.close(number)

    def identity(self) -> tuple[int, int]:
        status = os.fstat(self.number)
        return status.st_dev, status.st_ino

    def is_ours(self) -> bool:
        """Whether the segment belongs to this user or to root."""
        return os.fstat(self.number).st_uid in (os.geteuid(), 0)

    def means(self, name: str) -> bool:
        """Whether this is the segment that has that name."""
        return identity_of(name) == self.identity()

    def lock(self, patience: int) -> bool:
        """Take the flock; True also if shared memory has no flocks."""
        give_up = clock.now() + patience
        _locked.add(self)
        while True:
            try:
                fcntl.flock(self.number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if clock.now() > give_up:
                    return False
                clock.sleep(0.0005)
            except OSError:
                return True
            else:
                return True

    def share_use(self, name: str) -> None:
        """Take the lock of use, which a process holds alone while it removes a segment that is not used.

        Raises:
            QueueNotFoundError: the segment has been removed.
            QueueNotReadyError: another process has held the lock alone for a second.
        """
        give_up = clock.now() + _PATIENCE
        while not use_lock.share(self.number):
            if not self.means(name):
                raise _not_found(name)
            if clock.now() > give_up:
                raise _busy(name)
            clock.sleep(0.0005)

    def unlock(self) -> None:
        with suppress(OSError):
            fcntl.flock(self.number, fcntl.LOCK_UN)
        _locked.discard(self)

    def is_locked_by_another(self) -> bool:
        """Whether another process holds the flock; tried as briefly as possible, because a creator may want it now."""
        try:
            fcntl.flock(self.number, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        fcntl.flock(self.number, fcntl.LOCK_UN)
        return False

    def is_empty(self) -> bool:
        """Whether the segment has no bytes: its creator has just begun, or it was truncated."""
        return os.fstat(self.number).st_size == 0

    def is_unfinished(self) -> bool:
        """Whether the segment is as a creator has it before the end; one of another program never is, unless empty."""
        if self.is_empty():
            return True
        if _HAS_FLOCK:
            return os.pread(self.number, _PROBE, 0)[MARK_AT : MARK_AT + len(MARK)] == MARK
        with mmap.mmap(self.number, min(os.fstat(self.number).st_size, _PROBE), access=mmap.ACCESS_READ) as probe:
            start = probe[:]
        return start[MARK_AT : MARK_AT + len(MARK)] == MARK or not any(start)

    def __del__(self) -> None:
        try:  # noqa: SIM105 (the interpreter may be shutting down, and suppress may be gone)
            self.close()
        except Exception:
            pass


_locked: weakref.WeakSet[_Descriptor] = weakref.WeakSet()


def _forget_flocks() -> None:
    for descriptor in list(_locked):
        descriptor.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_flocks)


def identity_of(name: str) -> tuple[int, int] | None:
    """Return what tells the segment of a name from earlier and later ones; None if there is none.

    If segments are files in a folder, this needs no descriptor.
    """
    if _HAS_FLOCK:
        status = _status_of(name)
        return None if status is None else (status.st_dev, status.st_ino)
    try:
        descriptor = _Descriptor()
        try:
            descriptor.open(name)
            return descriptor.identity()
        finally:
            descriptor.close()
    except FileNotFoundError:
        return None


def means(name: str, identity: tuple[int, int]) -> bool:
    """Whether a name means the segment of that identity; if segments are files, nothing is opened for that."""
    return not _POSIX or identity_of(name) == identity


def _status_of(name: str) -> os.stat_result | None:
    """Return what the file system says of a name, without opening anything; None if it cannot tell."""
    if not _HAS_FLOCK:
        return None
    try:
        return os.stat(f"{_SHM_FOLDER}/{name}".encode(), follow_symlinks=False)  # as shm_open does
    except OSError:
        return None


_KINDS: Final = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


def _refuse_what_is_no_file(name: str, status: os.stat_result | None) -> None:
    kind = None if status is None else _KINDS.get(stat.S_IFMT(status.st_mode))
    if kind is not None:
        raise CorruptQueueError(
            f"segment {name!r} is not a queue: {kind} has that name in {_SHM_FOLDER}; choose another name or run_id, "
            f"or, if it is not needed, remove it: rm -r {_SHM_FOLDER}/{name!r}"
        )


def _not_permitted(name: str) -> PermissionError:
    """Return the error that says why this user may not open or make a segment."""
    status = _status_of(name)
    if status is not None and status.st_uid == os.geteuid():
        why = (
            f"is this user's own, and its mode {stat.S_IMODE(status.st_mode):04o} does not let this user read and "
            f"write; chmod it to 0600 if it is a queue"
        )
    elif status is None and _HAS_FLOCK:
        why = f"cannot be made: this user may not make files in {_SHM_FOLDER}; give the user access to it"
    else:
        owner = "another user" if status is None else f"user {status.st_uid}"
        why = f"belongs to {owner}, and not to this user or root; run as that user, or choose another name or run_id"
    return PermissionError(errno.EACCES, f"segment {name!r} {why}")


def _map(name: str, number: int, size: int) -> mmap.mmap:
    """Map a segment; afterwards no descriptor is needed.

    An ``mmap.mmap`` of a file keeps a duplicate of its descriptor (before Python 3.13 always). So an anonymous one is
    made, and its pages are replaced by those of the segment. It unmaps them when the last view on them goes. It is
    shared, because private memory counts against RLIMIT_DATA.
    """
    try:
        mapping = mmap.mmap(-1, size, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | _MAP_NORESERVE)
        _map_over(mapping, number)
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise _no_address_space(name, size) from error
        raise
    return mapping


def _map_over(mapping: mmap.mmap, number: int) -> None:
    """Replace the pages of a mapping by those of a segment, in one step: another thread may be reading and writing."""
    at, size = ctypes.addressof(ctypes.c_char.from_buffer(mapping)), len(mapping)
    if _MMAP(at, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED | _MAP_FIXED, number, 0) != at:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def _no_address_space(name: str, size: int) -> OSError:
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    why = (
        "the system lets this process map no more (vm.max_map_count, vm.overcommit_memory)"
        if limit == resource.RLIM_INFINITY
        else f"all mappings of this process together may take {limit:,} (RLIMIT_AS, ulimit -v)"
    )
    return OSError(
        errno.ENOMEM,
        f"segment {name!r} cannot be mapped: it takes {size:,} bytes of address space, and {why}; raise the limit, "
        f"close queues that this process does not use, or choose a smaller capacity or item_size",
    )


_GONE: Final = memoryview(b"")
_GONE.release()


class Segment:
    """A mapped segment.

    Attributes:
        name: its name, without the leading slash.
        buffer: the whole segment, writable; released when the segment is closed.
    """

    def __init__(self, name: str, identity: tuple[int, int], mapping: mmap.mmap) -> None:
        self.name = name
        self._size = len(mapping)
        self._identity = identity
        self._mapping: mmap.mmap | None = mapping
        self.buffer = memoryview(mapping)

    @property
    def buf(self) -> memoryview:
        """The buffer, under the name that ``SharedMemory`` gives it."""
        return self.buffer

    def size(self) -> int:
        """Return the size, in bytes."""
        return self._size

    def has_name(self) -> bool:
        """Whether the segment can still be found, because its name was not removed."""
        return means(self.name, self._identity)

    def identity(self) -> tuple[int, int]:
        """Return what tells this segment from a later one of its name."""
        return self._identity

    def end_use(self) -> None:
        """Let go of the lock of use and keep the memory, which threads of this process may still be using.

        The pages are mapped again by another description, on which there is no lock.

        Raises:
            OSError: the segment has lost its name, or no descriptor is left.
        """
        mapping = self._mapping
        descriptor = _Descriptor()
        try:
            descriptor.open(self.name)
            if mapping is not None and descriptor.identity() == self._identity:
                _map_over(mapping, descriptor.number)
        finally:
            descriptor.close()

    def reserve(self, start: int, length: int) -> None:
        """Make sure that a range has memory behind it.

        Raises:
            OSError: no memory is left, or there is no way to find out. (Without this check SIGBUS would end the process
                when it writes there.)
        """
        if not hasattr(os, "posix_fallocate") or not length:
            return
        first = start - start % mmap.PAGESIZE
        try:
            if self._mapping is not None:
                self._mapping.madvise(_POPULATE_WRITE, first, start + length - first)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._reserve_by_name(start, length)  # an old kernel

    def _reserve_by_name(self, start: int, length: int) -> None:
        descriptor = _Descriptor()
        try:
            descriptor.open(self.name)
            if descriptor.identity() != self._identity:
                raise FileNotFoundError(errno.ENOENT, f"segment {self.name!r} has lost its name")
            os.posix_fallocate(descriptor.number, start, length)
        except CorruptQueueError as error:
            raise FileNotFoundError(errno.ENOENT, f"segment {self.name!r} has lost its name") from error
        finally:
            descriptor.close()

    def close(self) -> None:
        """Release the memory; may be called again.

        The memory is unmapped with the last reference to it. That may be later: another thread may have dropped its
        view without having freed it yet.
        """
        buffer, self.buffer = self.buffer, _GONE
        self._mapping = None
        with suppress(BufferError):
            buffer.release()


def create(
    name: str,
    size: int,
    reserved: int,
    fill: Callable[[Segment], None],
    companion: str,
    mark: bytes = MARK,
    advice: str = "choose a smaller one",
) -> Segment:
    """Make a segment with a name that is free; if this fails, nothing is left.

    Args:
        name: without the leading slash.
        size: in bytes.
        reserved: number of bytes, from the start, that get memory at once.
        fill: writes the content, the magic last; other processes see nothing before that.
        companion: name of a segment that ``fill`` may make; it is removed, too, if the creation fails.
        mark: begins with MARK; what stands behind it is there as soon as the segment has the mark.
        advice: what to do if there is no room for it, for the message.

    Raises:
        QueueExistsError: the name is taken.
        QueueNotReadyError: a live process is creating a segment of that name.
        ArgumentError: the segment is larger than all the shared memory of this machine.
        OSError: there is not enough shared memory left.
    """
    if not _POSIX:
        return _create_on_windows(name, size, fill)
    if identity_of(name) is None:  # otherwise another error says what is there
        _refuse_more_than_there_is(name, reserved, advice)
    while True:
        guard, mapped = _Descriptor(), _Descriptor()
        segment = None
        try:
            try:
                guard.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            except FileExistsError:
                _remove_leftover(name)
                continue
            if not guard.lock(_PATIENCE):
                raise _busy(name)
            if not guard.means(name):
                guard.close()  # before the flock was taken, another process took this for a leftover and removed it
                continue
            mapped.open(name)
            mapped.share_use(name)
            if _HAS_FLOCK:
                os.pwrite(guard.number, mark, MARK_AT)
            os.ftruncate(guard.number, size)
            segment = Segment(name, guard.identity(), _map(name, mapped.number, size))
            mapped.close()
            _reserve(guard, reserved)
            segment.buffer[MARK_AT : MARK_AT + len(MARK)] = MARK
            fill(segment)
            guard.close()
            return segment
        except BaseException as error:
            # If the flock is released already, the queue is complete; it is removed all the same.
            if guard.is_open():
                if guard.lock(_PATIENCE) and guard.means(name):
                    _remove_both(name, companion)
            elif segment is not None:
                with suppress(QueueNotReadyError):
                    unlink(name, segment.identity(), companion)
            if segment is not None:
                segment.close()
            mapped.close()
            guard.close()
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise _no_space(name, reserved, advice) from error
            raise


def open_existing(name: str, uses: bool = True) -> Segment:
    """Map the whole of a segment that exists; its content may be anything.

    Args:
        name: of the segment.
        uses: with the lock of use; False for a process that only looks, or removes the name.

    Raises:
        QueueNotFoundError: there is no segment of that name.
        QueueNotReadyError: its creation has not ended; ``why_unfinished`` tells more.
        PermissionError: the segment belongs to another user.
        CorruptQueueError: the name is that of a folder, a link, a FIFO or the like.
    """
    if not _POSIX:
        return _open_on_windows(name)
    descriptor = _Descriptor()
    try:
        descriptor.open(name)
    except FileNotFoundError:
        raise _not_found(name) from None
    try:
        if not descriptor.is_ours():
            raise _not_permitted(name)
        if descriptor.is_unfinished():
            raise _still_being_created(name)
        size = os.fstat(descriptor.number).st_size  # after the state: a creation that ends in between gives the size
        if size == 0:  # another program has just cut it
            raise _still_being_created(name)
        if uses:
            descriptor.share_use(name)
        return Segment(name, descriptor.identity(), _map(name, descriptor.number, size))
    finally:
        descriptor.close()


def why_unfinished(name: str, is_new: bool) -> QueueNotReadyError | QueueNotFoundError:
    """Return the error that tells whether the creator of an unfinished segment lives.

    Args:
        name: of the segment.
        is_new: the segment may have been created just now. Then nothing follows from an empty one whose flock is free:
            its creator may be about to take the flock, which it does before it writes the mark.
    """
    descriptor = _Descriptor()
    try:
        descriptor.open(name)
        says_nothing = is_new and descriptor.is_empty()  # asked first: a live creator may write its mark later
        # This order, because the creation may end between the two.
        if descriptor.is_locked_by_another() or not descriptor.is_unfinished():
            return _still_being_created(name)
        if says_nothing:
            return QueueNotReadyError(
                f"queue segment {name!r} is being created, or its creator died as it began; try again with a timeout "
                f"of more than a second, which tells them apart, or, if no process creates it, with create=True"
            )
    except FileNotFoundError:
        return _not_found(name)
    finally:
        descriptor.close()
    return QueueNotFoundError(
        f"the creation of queue segment {name!r} was never finished, its process is gone; create it again with "
        f"create=True"
    )


def size_of_all() -> int | None:
    """Return how many bytes all shared memory together may take; None if the system does not tell."""
    if not os.path.isdir(_SHM_FOLDER):
        return None
    filesystem = os.statvfs(_SHM_FOLDER)
    return filesystem.f_blocks * filesystem.f_frsize or None  # 0: no limit


def address_limit() -> int | None:
    """Return how many bytes all mappings of this process together may take; None if there is no limit."""
    if not _POSIX:
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def how_to_remove(name: str) -> str:
    """Return the part of an error message that says how to remove a segment that is no queue or no lock."""
    return f"remove it: SharedMemoryQueue.remove({name.removesuffix('-queue')!r}, force=True)"


def remove(segment_name: str) -> None:
    """Remove a name; processes that have the segment mapped keep it."""
    if _POSIX:
        with suppress(FileNotFoundError):
            _posixshmem.shm_unlink("/" + segment_name)


def unlink(name: str, identity: tuple[int, int], companion: str) -> bool:
    """Remove the name of a segment, and that of its companion, if it still means the segment of that identity.

    Returns:
        Whether it meant that segment.

    Raises:
        QueueNotReadyError: another live process has held the flock for a second.
    """
    if not _POSIX:
        return True
    descriptor = _Descriptor()
    try:
        descriptor.open(name)
        if descriptor.identity() != identity:
            return False
        if not descriptor.lock(_PATIENCE):
            raise _busy(name)
        if not descriptor.means(name):
            return False
        _remove_both(name, companion)
    except FileNotFoundError:
        return False
    except OSError as error:
        if not lacks_means(error):
            raise
        beside = identity_of(companion)
        if not _remove_unguarded(name, identity):
            return False
        _remove_unguarded(companion, beside)
    finally:
        descriptor.close()
    return True


def replace(name: str, size: int) -> Segment:
    """Make a segment of a few bytes, all zero; if the name is taken, its segment is replaced.

    If this fails or is interrupted, the name stays, and is removed later as the companion of its queue.
    """
    if not _POSIX:
        return _create_on_windows(name, size, lambda segment: None)
    while True:
        descriptor = _Descriptor()
        try:
            descriptor.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            with suppress(FileNotFoundError):
                descriptor.open(name)
                if not _remove_exactly(name, descriptor):
                    raise _busy(name) from None
            continue
        try:
            os.ftruncate(descriptor.number, size)
            _reserve(descriptor, size)
            return Segment(name, descriptor.identity(), _map(name, descriptor.number, size))
        finally:
            descriptor.close()


# ---- POSIX
# --------------------------------------------------------------------------------------------------------------


def _reserve(descriptor: _Descriptor, length: int) -> None:
    """Reserve the memory at the start of a new segment now, so that writing to it later never fails."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor.number, 0, length)


def _remove_unguarded(name: str, identity: tuple[int, int] | None) -> bool:
    """Remove a name if it means the segment of that identity, without its flock, as no descriptor is left.

    If another process removes the old segment and makes a new one between the check and the removal, the new one loses
    its name.
    """
    found = identity_of(name)
    if found is None or found != identity:
        return False
    remove(name)
    return True


def _remove_leftover(name: str) -> None:
    """Remove the segment that a dead creator has left under a name; return if the name may be free now.

    Raises:
        QueueExistsError: the segment is no leftover.
        QueueNotReadyError: its creator lives.
    """
    descriptor = _Descriptor()
    try:
        descriptor.open(name)
        if not descriptor.is_ours() or not descriptor.is_unfinished():
            raise QueueExistsError(f"a segment {name!r} exists already")
        if not _HAS_FLOCK or not descriptor.lock(_MOMENT):
            raise _busy(name)
        if descriptor.is_unfinished() and descriptor.means(name):
            remove(name)
    except FileNotFoundError:
        return
    except (CorruptQueueError, PermissionError) as error:
        raise QueueExistsError(f"a segment {name!r} exists already") from error
    finally:
        descriptor.close()


def _remove_both(name: str, companion: str) -> None:
    """Remove a name and its companion's; the caller holds the flock of the segment that has the name.

    While the first name exists, no process makes another companion. Afterwards a creator may; only the old one is
    removed.
    """
    beside = _Descriptor()
    identity = None
    try:
        beside.open(companion)
    except CorruptQueueError:
        pass  # a folder or the like, which is no lock
    except OSError as error:
        identity = identity_of(companion) if lacks_means(error) else None
    remove(name)  # the queue first, so that no process finds a queue without a lock
    if beside.is_open():
        _remove_exactly(companion, beside)
    else:
        _remove_unguarded(companion, identity)


def _remove_exactly(name: str, descriptor: _Descriptor) -> bool:
    """Remove a name if it means this segment, and close it; False if another process holds the flock."""
    try:
        if not descriptor.lock(_PATIENCE):
            return False
        if descriptor.means(name):
            remove(name)
        return True
    finally:
        descriptor.close()


def _not_found(name: str) -> QueueNotFoundError:
    return QueueNotFoundError(
        f"there is no queue segment {name!r}; create it first with create=True, and use the same name and run_id; the "
        f"command shmq ls lists the queues that there are"
    )


def _still_being_created(name: str) -> QueueNotReadyError:
    return QueueNotReadyError(
        f"queue segment {name!r} is still being created by a live process; try again when that process is ready"
    )


def _busy(name: str) -> QueueNotReadyError:
    return QueueNotReadyError(
        f"queue segment {name!r} is being created by a live process, or removed; try again when that process is ready"
    )


def _refuse_more_than_there_is(name: str, size: int, advice: str) -> None:
    """Raise if the shared memory cannot hold the segment, instead of filling it up first."""
    if os.path.isdir(_SHM_FOLDER):
        filesystem = os.statvfs(_SHM_FOLDER)
        total = filesystem.f_blocks * filesystem.f_frsize
        if size > total > 0:
            raise ArgumentError(
                f"segment {name!r} would take {size:,} bytes, and {_SHM_FOLDER} holds {total:,} in all; {advice}"
            )
        if size > filesystem.f_bavail * filesystem.f_frsize:
            raise _no_space(name, size, advice)
    if size >= _MUCH:  # shared memory may be larger than what there is, and taking all ends other processes
        available = free_memory.available()
        if available is not None and size > available:
            raise _no_space(name, size, advice, f", and the system has {available:,} bytes of memory left")


def _no_space(name: str, size: int, advice: str, free: str = "") -> OSError:
    if not free and os.path.isdir(_SHM_FOLDER):
        filesystem = os.statvfs(_SHM_FOLDER)
        free = f", and {_SHM_FOLDER} has {filesystem.f_bavail * filesystem.f_frsize:,} left"
    return OSError(
        errno.ENOSPC,
        f"not enough shared memory for segment {name!r}: it takes {size:,} bytes{free}; {advice}, or unlink queues "
        f"that are no longer used",
    )


# ---- Windows (written for, not tested)
# ----------------------------------------------------------------------------------


def _create_on_windows(name: str, size: int, fill: Callable[[Segment], None]) -> Segment:
    from multiprocessing.shared_memory import SharedMemory  # noqa: PLC0415 (no resource tracker there)

    try:
        memory: Any = SharedMemory(name, create=True, size=size)
    except FileExistsError:
        raise QueueExistsError(f"a segment {name!r} exists already") from None
    segment = Segment(name, (0, 0), memory._mmap)
    fill(segment)
    return segment


def _open_on_windows(name: str) -> Segment:
    from multiprocessing.shared_memory import SharedMemory  # noqa: PLC0415

    try:
        memory: Any = SharedMemory(name)
    except FileNotFoundError:
        raise QueueNotFoundError(f"there is no queue segment {name!r}; create it first with create=True") from None
    return Segment(name, (0, 0), memory._mmap)
