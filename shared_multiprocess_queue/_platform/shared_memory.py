"""Named shared memory: the only door to it, and how a segment is born and goes (labels X of the protocol).

The calls beneath ``multiprocessing.shared_memory`` are used without that class, because before Python 3.13 it cannot
open a segment without telling the resource tracker, which then removes the segment from everybody when one process
ends. Registering and taking it back would be wrong too: that removes the entry of another process.

Birth: open exclusively, then flock the descriptor as proof of life (the kernel lets go of it when the process dies),
then see that the name still means this segment, write the mark UNFINISHED, give it its size, reserve the memory, fill
it, and store the magic over the mark last. The write of the mark is the first that makes the segment longer than
nothing, so what a dead creator leaves is empty or carries the mark. Both with its flock taken is in the making; with
its flock free it is a leftover, which whoever wants the name removes. Everything else is somebody's.

A name is removed by who holds the flock of the segment that it means, and has looked that it does. So nobody, however
slow, removes the name of a newer segment. One exception: a process that has no descriptor left cannot take a flock. It
looks what the name means, and removes it in the next system call.

A mapping needs no descriptor, and a handle keeps none: a program that closes all descriptors, as a daemon does, loses
nothing, and no number is closed that may mean another's file by then. A segment is known by its device and inode.

A forked child closes its copies of descriptors that are flocked, and a descriptor that is flocked is never the one that
is mapped (a mapping would keep the flock as well): the flock of a dead creator does not live on in its children. Not so
in a child that C code forks without Python's knowledge, or one forked by another thread while the creator is inside the
very call that opens: if the creator dies in that creation, the segment looks unfinished but alive until that child ends
or executes another program.

Where shared memory has no flock (macOS), a leftover cannot be told from a segment in the making: it is reported as not
ready and has to be unlinked by hand. On Windows a segment lives while somebody has it open, and ``unlink`` does
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
from . import clock

_POSIX: Final = sys.platform != "win32"
if _POSIX:
    import _posixshmem
    import fcntl
    import resource

_HAS_FLOCK: Final = sys.platform.startswith("linux")  # and shared memory can be read and written as a file
_PROBE: Final = 4096  # bytes of a segment that are looked at before it is mapped
# What a segment has in the place of its first constant until its creation is complete; the layout states the same.
MARK_AT: Final = 256
MARK: Final = int.from_bytes(b"SHMQBORN", "little").to_bytes(8, sys.byteorder)
_PATIENCE: Final = 1_000_000_000  # ns to wait for a flock that others take for a moment only
_MOMENT: Final = 20_000_000  # ns to wait for the flock of a leftover, at which another may be looking
_SHM_FOLDER: Final = "/dev/shm"
_LACKING: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_POPULATE_WRITE: Final = 23  # MADV_POPULATE_WRITE, Linux 5.14
_MAP_FIXED: Final = 0x10
_GENTLY: Final = os.O_NOFOLLOW | os.O_NONBLOCK if _HAS_FLOCK else 0  # whatever lies there, do not follow it or wait
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
    """A segment that is open; closed at the latest when nobody refers to it any more, whatever interrupts its user."""

    def __init__(self) -> None:
        self._numbers: list[int] = []  # none or one

    def open(self, name: str, flags: int = os.O_RDWR) -> None:
        """Open what has a name.

        Raises:
            FileNotFoundError, FileExistsError: as the flags have it.
            PermissionError: this user may not; says whose it is.
            CorruptQueueError: a folder, a link, a FIFO or the like has the name.
            OSError: no descriptor is left, for example.
        """
        try:
            # One call, so that no signal handler can raise between the opening and the noting.
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
            self.unlock()  # a child forked without our knowledge may have a copy, which would keep the flock
        self.forget()

    def forget(self) -> None:
        """Close it without giving up the flock, which is the parent's if this is a forked child."""
        _locked.discard(self)
        numbers, self._numbers = self._numbers, []
        for number in numbers:
            os.close(number)

    def identity(self) -> tuple[int, int]:
        status = os.fstat(self.number)
        return status.st_dev, status.st_ino

    def is_ours(self) -> bool:
        """Whether it belongs to this user or to root."""
        return os.fstat(self.number).st_uid in (os.geteuid(), 0)

    def means(self, name: str) -> bool:
        """Whether this is the segment that has that name."""
        return identity_of(name) == self.identity()

    def lock(self, patience: int) -> bool:
        """Take the flock; True also where shared memory has none."""
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

    def unlock(self) -> None:
        with suppress(OSError):
            fcntl.flock(self.number, fcntl.LOCK_UN)
        _locked.discard(self)

    def is_locked_by_another(self) -> bool:
        """Whether somebody has the flock; for as short a time as possible, because a creator may want it now."""
        try:
            fcntl.flock(self.number, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        fcntl.flock(self.number, fcntl.LOCK_UN)
        return False

    def is_empty(self) -> bool:
        """Whether the segment has no bytes: its creator has hardly begun, or somebody cut it."""
        return os.fstat(self.number).st_size == 0

    def is_unfinished(self) -> bool:
        """Whether this is what a creator has before its end; what somebody else made never is, unless it is empty."""
        if self.is_empty():
            return True
        if _HAS_FLOCK:
            return os.pread(self.number, _PROBE, 0)[MARK_AT : MARK_AT + len(MARK)] == MARK
        with mmap.mmap(self.number, min(os.fstat(self.number).st_size, _PROBE), access=mmap.ACCESS_READ) as probe:
            start = probe[:]
        return start[MARK_AT : MARK_AT + len(MARK)] == MARK or not any(start)

    def __del__(self) -> None:
        try:  # noqa: SIM105 (the interpreter may be half gone, and suppress with it)
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
    """Return what tells the segment of a name from others that had it or will have it; None: nobody has the name.

    Where segments are files of a folder, this needs no descriptor.
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
    """Whether a name means the segment of that identity; nothing is opened for that where segments are files."""
    return not _POSIX or identity_of(name) == identity


def _status_of(name: str) -> os.stat_result | None:
    """Return what the file system says of a name, without opening anything; None: it does not say."""
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
            f"or, if nobody needs it, remove it: rm -r {_SHM_FOLDER}/{name!r}"
        )


def _not_permitted(name: str) -> PermissionError:
    """Return the error that says why this user may not open, or make, a segment."""
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
    """Map a segment; no descriptor is needed any more.

    An ``mmap.mmap`` of a file keeps a duplicate of its descriptor (before Python 3.13 always). So this is one of no
    file, whose pages are then replaced by those of the segment. It unmaps them when the last view on them is gone. It
    is a shared one, because private memory counts against RLIMIT_DATA.
    """
    try:
        mapping = mmap.mmap(-1, size, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | _MAP_NORESERVE)
        at = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
        if _MMAP(at, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED | _MAP_FIXED, number, 0) != at:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise _no_address_space(name, size) from error
        raise
    return mapping


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
        buffer: all of it, writable; released when the segment is closed.
        size: bytes.
    """

    def __init__(self, name: str, identity: tuple[int, int], mapping: mmap.mmap) -> None:
        self.name = name
        self.size = len(mapping)
        self._identity = identity
        self._mapping: mmap.mmap | None = mapping
        self.buffer = memoryview(mapping)

    @property
    def buf(self) -> memoryview:
        """The buffer, under the name that ``SharedMemory`` gives it."""
        return self.buffer

    def has_name(self) -> bool:
        """Whether the segment can still be found: its name was not removed."""
        return means(self.name, self._identity)

    def identity(self) -> tuple[int, int]:
        """Return what tells this segment from another one that has its name later."""
        return self._identity

    def reserve(self, start: int, length: int) -> None:
        """Make sure that a range has memory behind it.

        Raises:
            OSError: there is none left, or no way to find out. (Without this, writing there would end the process with
                SIGBUS.)
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
        """Let go of the memory; may be called again.

        The memory goes with the last that refers to it. That may be later: another thread that has dropped its view
        may not have come to freeing it.
        """
        buffer, self.buffer = self.buffer, _GONE
        self._mapping = None
        with suppress(BufferError):
            buffer.release()


def create(name: str, size: int, reserved: int, fill: Callable[[Segment], None], companion: str) -> Segment:
    """Make a segment that nobody has yet, or nothing at all.

    Args:
        name: without the leading slash.
        size: bytes.
        reserved: how many of them, from the start, get memory at once.
        fill: writes everything, the magic last; others see nothing before that.
        companion: name of a segment that ``fill`` may make; it goes as well if the creation fails.

    Raises:
        QueueExistsError: the name is taken.
        QueueNotReadyError: a live process is making a segment of that name.
        ArgumentError: all the shared memory of this machine would not hold it.
        OSError: there is not enough shared memory left.
    """
    if not _POSIX:
        return _create_on_windows(name, size, fill)
    _refuse_more_than_there_is(name, reserved)
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
                guard.close()  # somebody took the newborn for a leftover and removed it
                continue
            mapped.open(name)
            if _HAS_FLOCK:
                os.pwrite(guard.number, MARK, MARK_AT)
            os.ftruncate(guard.number, size)
            segment = Segment(name, guard.identity(), _map(name, mapped.number, size))
            mapped.close()
            _reserve(guard, reserved)
            segment.buffer[MARK_AT : MARK_AT + len(MARK)] = MARK
            fill(segment)
            guard.close()
            return segment
        except BaseException as error:
            # An interrupt that comes after the unlocking meets a queue that is complete; it goes all the same.
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
                raise _no_space(name, reserved) from error
            raise


def open_existing(name: str) -> Segment:
    """Map a segment that exists, as long as it is; its content may be anything.

    Raises:
        QueueNotFoundError: nobody has that name.
        QueueNotReadyError: its creation has not ended; ``why_unfinished`` tells more.
        PermissionError: it belongs to another user.
        CorruptQueueError: it is a folder, a link, a FIFO or the like.
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
        size = os.fstat(descriptor.number).st_size
        if size == 0 or descriptor.is_unfinished():
            raise _still_being_created(name)
        return Segment(name, descriptor.identity(), _map(name, descriptor.number, size))
    finally:
        descriptor.close()


def why_unfinished(name: str, is_new: bool) -> QueueNotReadyError | QueueNotFoundError:
    """Return the error that tells whether the creator of an unfinished segment lives.

    Args:
        name: of the segment.
        is_new: the segment may have come just now. An empty one whose flock is free then says nothing of its creator,
            which takes the flock before it writes the mark.
    """
    descriptor = _Descriptor()
    try:
        descriptor.open(name)
        says_nothing = is_new and descriptor.is_empty()  # first: later it may have the mark of a creator that lives
        # In the other order the creation may end meanwhile.
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


def how_to_remove(name: str) -> str:
    """Say, in an error message, how to remove a segment that cannot be opened as what it should be."""
    return f"remove it: rm /dev/shm/{name!r}*" if os.path.isdir(_SHM_FOLDER) else "remove it"


def remove(segment_name: str) -> None:
    """Remove a name; who has the segment mapped keeps it."""
    if _POSIX:
        with suppress(FileNotFoundError):
            _posixshmem.shm_unlink("/" + segment_name)


def unlink(name: str, identity: tuple[int, int], companion: str) -> bool:
    """Remove the name of a segment, and that of its companion, if it still means the segment of that identity.

    Returns:
        Whether it did.

    Raises:
        QueueNotReadyError: another process has been about to remove it for a second, and is alive.
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
    """Make a segment of a few bytes, all zero, in the place of whatever has that name.

    Who fails or is interrupted here leaves the name to whoever removes it as a companion.
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
    """Take the memory of a new segment now, as far as it is needed; writing to it later never fails."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor.number, 0, length)


def _remove_unguarded(name: str, identity: tuple[int, int] | None) -> bool:
    """Remove a name if it means the segment of that identity, with no descriptor left for its flock.

    Between the look and the removal another process may give the name to a new segment, if a third has just removed the
    old one. Then the new one loses its name.
    """
    found = identity_of(name)
    if found is None or found != identity:
        return False
    remove(name)
    return True


def _remove_leftover(name: str) -> None:
    """Remove what a dead creator left under a name; return if the name may be free now.

    Raises:
        QueueExistsError: it is no leftover.
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
    """Remove a name and its companion's, for who holds the flock of the segment that has the name.

    Until the first name is gone nobody makes another companion; afterwards a creator may, and only the old one goes.
    """
    beside = _Descriptor()
    identity = None
    try:
        beside.open(companion)
    except CorruptQueueError:
        pass  # a folder or the like, which is nobody's lock
    except OSError as error:
        identity = identity_of(companion) if lacks_means(error) else None
    remove(name)  # queue first: nobody finds a queue without a lock
    if beside.is_open():
        _remove_exactly(companion, beside)
    else:
        _remove_unguarded(companion, identity)


def _remove_exactly(name: str, descriptor: _Descriptor) -> bool:
    """Remove a name if it means this segment, and close that; False if another keeps us from knowing."""
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
        f"there is no queue segment {name!r}; create it first with create=True, and use the same name and run_id"
    )


def _still_being_created(name: str) -> QueueNotReadyError:
    return QueueNotReadyError(
        f"queue segment {name!r} is still being created by a live process; try again when that process is ready"
    )


def _busy(name: str) -> QueueNotReadyError:
    return QueueNotReadyError(
        f"queue segment {name!r} is being created by a live process, or removed; try again when that process is ready"
    )


def _refuse_more_than_there_is(name: str, size: int) -> None:
    """Fail before filling the shared memory to its brim, if it cannot hold the segment anyway."""
    if os.path.isdir(_SHM_FOLDER):
        filesystem = os.statvfs(_SHM_FOLDER)
        total = filesystem.f_blocks * filesystem.f_frsize
        if size > total > 0:
            raise ArgumentError(
                f"segment {name!r} would take {size:,} bytes, and {_SHM_FOLDER} holds {total:,} in all; choose a "
                f"smaller capacity or item_size"
            )
        if size > filesystem.f_bavail * filesystem.f_frsize:
            raise _no_space(name, size)


def _no_space(name: str, size: int) -> OSError:
    free = ""
    if os.path.isdir(_SHM_FOLDER):
        filesystem = os.statvfs(_SHM_FOLDER)
        free = f", and {_SHM_FOLDER} has {filesystem.f_bavail * filesystem.f_frsize:,} left"
    return OSError(
        errno.ENOSPC,
        f"not enough shared memory for segment {name!r}: it takes {size:,} bytes{free}; choose a smaller capacity or "
        f"item_size, or unlink queues that nobody uses",
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
