"""The identity of this process, and whether another process lives: the only door to process liveness.

A process is identified by its pid and its start time, so that a reused pid is another process. ``kill(pid, 0)`` alone
would be wrong, because it calls a zombie alive. A timeout would be wrong, because a paused process is alive. A process
that cannot be looked up from here (in another pid namespace) counts as alive.
"""

from __future__ import annotations

import os
import sys
import threading
from types import FrameType
from typing import NamedTuple

_LINUX = sys.platform.startswith("linux")
if not _LINUX:
    import psutil

# Fields of /proc/<pid>/stat after the command's closing parenthesis.
_STATE, _THREADS, _START = 0, 17, 19
_LONGEST_COMMAND = 4096  # bytes

START_BITS = 34
"""Start times are taken modulo 2**34 of their units, or 5 years, because they share a word with the pid."""

_START_MASK = (1 << START_BITS) - 1


class Identity(NamedTuple):
    """What identifies this process to others.

    Attributes:
        pid: process id in its own pid namespace.
        start: start time, in units of the system, so that it can only be compared for equality.
        namespace: number of the pid (and time) namespace, 0 if processes cannot be looked up from here.
    """

    pid: int
    start: int
    namespace: int


_identity: Identity | None = None


def identity() -> Identity:
    """Return the identity of this process, which is looked up once a process."""
    global _identity  # noqa: PLW0603
    while (found := _identity) is None:
        before = forks
        pid = os.getpid()
        found = Identity(pid, _start_time(pid) or 0, _namespace())
        if forks == before:  # otherwise a signal handler has forked, and this is the identity of the parent
            _identity = found
    return found


forks = 0
"""Number of forks between this process and its first ancestor in Python. If a handle remembers an older number, its
state is the parent's."""

settling = threading.RLock()
"""Held by the first thread that uses a handle after a fork, for the steps that are done once."""


def _forget() -> None:
    """Note the fork. Handles notice it when they are used, so the time of a fork does not grow with their number."""
    global _identity, forks, settling  # noqa: PLW0603
    _identity = None
    settling = threading.RLock()  # another thread of the parent may hold the old one
    forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def is_forked_inside() -> bool:
    """Whether the fork was inside a call of this package; asked in the child, by a function that runs after the fork.

    A signal handler may fork anywhere, and return in the child.
    """
    package = __name__.partition(".")[0]
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and (frame.f_globals.get("__package__") or "").partition(".")[0] != package:
        frame = frame.f_back
    return frame is not None


def is_alive(pid: int, start: int) -> bool:
    """Whether the process ``pid`` that started at ``start`` can still run an instruction.

    A zombie counts as dead if none of its threads is left; a paused process counts as alive.
    """
    if not _LINUX:
        return _is_alive_elsewhere(pid, start)
    fields = _stat(pid)
    if fields is None:
        return _exists(pid)  # /proc may hide it, or this process may have no descriptor left
    if start and int(fields[_START]) & _START_MASK != start:
        return False
    return fields[_STATE] not in (b"Z", b"X") or int(fields[_THREADS]) > 1


def that_map(device: int, inode: int) -> tuple[list[int], int]:
    """Return the processes that have a file mapped, and how many could not be looked at.

    Args:
        device: of the file, as ``stat`` gives it.
        inode: of the file.
    """
    found, hidden = mapped_files(device)
    return found.get(inode, []), hidden


def mapped_files(device: int) -> tuple[dict[int, list[int]], int]:
    """Return which processes have which files of a device mapped, and how many processes could not be looked at.

    Args:
        device: of the files, as ``stat`` gives it.

    Returns:
        Lists of pids, in order, by inode; and a number of processes.
    """
    found: dict[int, list[int]] = {}
    hidden = 0
    place = f" {os.major(device):02x}:{os.minor(device):02x} ".encode()
    for pid in _pids():
        try:
            with open(f"/proc/{pid}/maps", "rb") as file:
                inodes = {int(line.split(maxsplit=5)[4]) for line in file if place in line}
        except (FileNotFoundError, ProcessLookupError):  # it has ended
            continue
        except OSError:
            hidden += 1
            continue
        for inode in inodes:
            found.setdefault(inode, []).append(pid)
    return found, hidden


def command_of(pid: int) -> str:
    """Return the command line of a process, with its arguments; empty if it is gone or cannot be looked at.

    Another user may have chosen it, so it may have any characters.
    """
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return os.fsdecode(file.read(_LONGEST_COMMAND)).rstrip("\0").replace("\0", " ")
    except OSError:
        return ""


def is_paused(pid: int) -> bool:
    """Whether a process is stopped, by SIGSTOP or a debugger."""
    fields = _stat(pid)
    return fields is not None and fields[_STATE] in (b"T", b"t")


def locked_files(device: int) -> set[int]:
    """Return the inodes of a device on which any process has a lock of an open file description; empty if unknown.

    One look at all locks of the system; it costs less than one open for each of hundreds of files.
    """
    place = f"{os.major(device):02x}:{os.minor(device):02x}:".encode()
    try:
        with open("/proc/locks", "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        return set()
    files = [line.split()[-3] for line in lines if b" OFDLCK " in line]  # then the range, two fields
    return {int(file[len(place) :]) for file in files if file.startswith(place)}


def _pids() -> list[int]:
    try:
        return sorted(int(entry) for entry in os.listdir("/proc") if entry.isdecimal())
    except OSError:
        return []


def _stat(pid: int) -> list[bytes] | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it exists, and belongs to another user
        pass
    return True


def _start_time(pid: int) -> int | None:
    if _LINUX:
        fields = _stat(pid)
        return None if fields is None else int(fields[_START]) & _START_MASK
    return int(psutil.Process(pid).create_time() * 100) & _START_MASK


def _namespace() -> int:
    if not _LINUX:
        return 1
    try:
        if os.readlink("/proc/self") != str(os.getpid()):
            return 0  # /proc shows another pid namespace than ours
        pids = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0
    try:
        times = os.stat("/proc/self/ns/time").st_ino  # a time namespace counts start times from a boot of its own
    except OSError:
        times = 0
    return times << 32 | pids


def _is_alive_elsewhere(pid: int, start: int) -> bool:
    try:
        process = psutil.Process(pid)
        if start and int(process.create_time() * 100) & _START_MASK != start:
            return False
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True
