"""Bells: sockets in the abstract namespace that wake a waiter on a descriptor; the only door to sockets and timers.

A bell has no file and is not inherited. It ends with its process, so the kernel refuses to ring for a dead process.
"""

from __future__ import annotations

import ctypes
import errno
import io
import os
import select
import sys
from collections import deque
from contextlib import suppress
from itertools import repeat
from typing import Any, ClassVar, Final

from .lazy_import import late

_MONOTONIC: Final = 1
AT_ONCE: Final = 1  # ns


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Timer(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("first", _Timespec))


@late
def _socket() -> Any:
    """Import ``socket`` when the first bell is rung or made, because few programs wait on descriptors."""
    import socket  # noqa: PLC0415

    return socket


@late
def _library() -> Any:
    library = ctypes.CDLL(None, use_errno=True) if sys.platform.startswith("linux") else None
    return library if hasattr(library, "timerfd_create") else None


def _address(nonce: int, name: int) -> bytes:
    return b"\0shmq-%016x-%x" % (nonce, name)


def ring(nonce: int, name: int) -> bool:
    """Ring the bell of a participant in the segment with this nonce, without waiting; return whether the bell exists.

    The socket lives for this one ring. One that is kept would be charged for all rings that no process has heard yet:
    after some three hundred of them it would send no more, whatever the name. It would also stay in the network
    namespace of its first ring, and the program could close it.
    """
    if not sys.platform.startswith("linux"):
        return False
    socket = _socket()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto(b"", socket.MSG_NOSIGNAL, _address(nonce, name))
    except OSError as error:
        return isinstance(error, BlockingIOError) or error.errno == _NO_BUFFERS  # it is full, so it has been rung
    return True


_NO_BUFFERS: Final = 105  # ENOBUFS of Linux
_NONE_LEFT: Final = (
    "to wait on a queue takes {}, and too few are left; raise the limit (ulimit -n), or close files or queues that are "
    "no longer needed"
)


class Bell:
    """A socket that becomes readable when its name is rung.

    It is closed until ``open``. A descriptor that an interrupt leaves open is closed by ``close``, or with the object.

    Attributes:
        takes: the descriptors of a bell, for an error message.
    """

    takes: ClassVar = "one descriptor for each event loop and side of a handle, two while it is made"

    def __init__(self) -> None:
        self._socket: Any = None
        self._identity: tuple[int, int] | None = None

    def open(self, nonce: int, name: int) -> None:
        """Take a name.

        Args:
            nonce: of the segment.
            name: of the participant that waits.

        Raises:
            io.UnsupportedOperation: this system has no such sockets or timers.
            OSError: too many descriptors are open.
        """
        try:
            if _library() is None:
                raise io.UnsupportedOperation("waiting for a queue with select or an event loop needs Linux")
            self._open(nonce, name)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
                raise OSError(error.errno, _NONE_LEFT.format(self.takes)) from error
            raise

    def _open(self, nonce: int, name: int) -> None:
        socket = _socket()
        self._socket = bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._identity = _identity_of(bell.fileno())
        bell.bind(_address(nonce, name))

    def is_whole(self) -> bool:
        """Whether the descriptors are still this bell's: a program may close all its descriptors, as a daemon does."""
        bell, identity = self._socket, self._identity  # copies, because another thread may close the bell
        return None not in (bell, identity) and _identity_of(bell.fileno()) == identity

    def fileno(self) -> int:
        """Return the descriptor; -1 if the bell is closed, or if the program has closed its descriptors."""
        bell = self._socket  # as above
        return bell.fileno() if bell is not None and self.is_whole() else -1

    def hear(self) -> bool:
        """Take one ring away; return whether there was one."""
        bell = self._socket  # as above
        if bell is None:
            return False
        try:
            bell.recv(1)  # a ring has no bytes
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Close the descriptors; in a forked child, only the child's copies. May be called again."""
        bell = self._socket
        if bell is not None and self._identity not in (None, _identity_of(bell.fileno())):
            bell.detach()  # the program has closed it, so the number may belong to another file by now
        if bell is not None:
            bell.close()
        self._socket = self._identity = None

    def __del__(self) -> None:
        try:  # noqa: SIM105 (the interpreter may be shutting down, and have no suppress any more)
            self.close()
        except Exception:
            pass


class TimedBell(Bell):
    """A descriptor that becomes readable when its name is rung, and once a period.

    Args:
        period: nanoseconds after which it becomes readable without a ring, again and again.
    """

    takes: ClassVar = "three descriptors, four while they are made"

    def __init__(self, period: int) -> None:
        self._numbers: list[int] = []  # of the descriptors beside the socket
        self._identities: dict[int, tuple[int, int] | None] = {}  # of what they are, as far as that is known
        self._timer = self._poll = -1
        self._period = period
        super().__init__()

    def _open(self, nonce: int, name: int) -> None:
        super()._open(nonce, name)
        timer = self._note(_library().timerfd_create, _MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if timer < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        with select.epoll() as poll:
            poll.register(self._socket, select.EPOLLIN)
            poll.register(timer, select.EPOLLIN)
            self._timer = timer
            self._poll = self._note(os.dup, poll.fileno())  # a number, because the object would close it
        self._identities = {number: _identity_of(number) for number in self._numbers}

    def _note(self, make: Any, *arguments: int) -> int:
        """Make a descriptor and note it, in one C call: an interrupt can come only after both."""
        self._numbers.extend(map(make, *((argument,) for argument in arguments)))
        return self._numbers[-1]

    def is_whole(self) -> bool:
        """Whether the descriptors are still this bell's.

        All that are no files or sockets have one inode, so another epoll or timer in their place is not seen.
        """
        poll = self._poll  # as above
        return poll >= 0 and self._is_own(poll) and super().is_whole()

    def _is_own(self, number: int) -> bool:
        identity = _identity_of(number)
        return identity is not None and self._identities.get(number, identity) == identity

    def fileno(self) -> int:
        """Return the descriptor; -1 if the bell is closed, or if the program has closed its descriptors."""
        poll = self._poll
        return poll if self.is_whole() else -1

    def show(self, after: int) -> None:
        """Make the descriptor readable after some nanoseconds."""
        if self.is_whole():
            self._start(after)

    def drain(self) -> None:
        """Make the descriptor unreadable until the next ring [B0], or the end of a period."""
        if not self.is_whole():
            return
        while self.hear():
            pass
        self._start(self._period)

    def _start(self, first: int) -> None:
        setting = _Timer(_timespec(self._period), _timespec(first))
        if _library().timerfd_settime(self._timer, 0, ctypes.byref(setting), None) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def close(self) -> None:
        """Close the descriptors; in a forked child, only the child's copies. May be called again."""
        self._timer = self._poll = -1
        bell, numbers = self._socket, self._numbers
        if bell is not None and self._identity not in (None, _identity_of(bell.fileno())):
            numbers.clear()  # the program has closed them, so the numbers may belong to other files by now
        numbers[:] = [number for number in numbers if self._is_own(number)]  # likewise, one of them
        while numbers:
            with suppress(OSError):  # one C call, as in _note: a number that is no longer in the list is closed
                deque(map(os.close, map(list.pop, repeat(numbers, len(numbers)))), maxlen=0)
        super().close()


def is_open(descriptor: int) -> bool:
    """Whether a number is that of a descriptor."""
    return _identity_of(descriptor) is not None


def _identity_of(descriptor: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(descriptor)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _timespec(nanoseconds: int) -> _Timespec:
    return _Timespec(nanoseconds // 1_000_000_000, nanoseconds % 1_000_000_000)
