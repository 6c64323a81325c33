"""Sleeping on a shared word and waking its sleepers: the only door to the futex of Linux.

On other systems ``wait`` is a bounded sleep and ``wake`` finds no sleeper; the protocol of _ring/parking.py allows it.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable

from . import clock

_SYSCALL_NUMBERS = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "ppc64le": 221, "s390x": 238, "loongarch64": 98}
_FUTEX_WAIT, _FUTEX_WAKE = 0, 1  # without FUTEX_PRIVATE_FLAG: the sleepers are in other processes

_UNTIL_LOOK = 1_000_000  # ns that a sleep lasts on a system without a futex, on which no wake can end it


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


_NUMBER = _SYSCALL_NUMBERS.get(os.uname().machine, 0) if sys.platform.startswith("linux") else 0


def _system_call(library: type[ctypes.CDLL]) -> Callable[..., int] | None:
    if _NUMBER == 0 or sys.maxsize <= 2**32:
        return None
    syscall = library(None).syscall
    syscall.restype = ctypes.c_long
    return syscall


_SLEEP = _system_call(ctypes.CDLL)  # releases the GIL, so that other threads run meanwhile
_WAKE = _system_call(ctypes.PyDLL)  # keeps the GIL: a waker may hold a claim, and must not wait for the GIL with it
_LOW_HALF = 0 if sys.byteorder == "little" else 4  # a futex is 32 bits: the half of the word that changes


def wait(address: int, expected: int, timeout: int) -> None:
    """Sleep while the word has its ``expected`` value, until woken, interrupted by a signal, or timed out.

    Args:
        address: of the 64-bit word in this process.
        expected: value of the word that the caller read; if the word has changed since, there is no sleep.
        timeout: nanoseconds on the monotonic clock.
    """
    if _SLEEP is None:
        clock.sleep(min(timeout, _UNTIL_LOOK) / 1e9)
        return
    timespec = _Timespec(timeout // 1_000_000_000, timeout % 1_000_000_000)
    _SLEEP(
        ctypes.c_long(_NUMBER),
        ctypes.c_void_p(address + _LOW_HALF),
        ctypes.c_int(_FUTEX_WAIT),
        ctypes.c_uint(expected & 0xFFFFFFFF),
        ctypes.byref(timespec),
        None,
        ctypes.c_int(0),
    )


def wake(address: int, count: int) -> int:
    """Wake up to ``count`` sleepers of the word at ``address``; return how many there were."""
    if _WAKE is None:
        return 0
    return max(
        0,
        _WAKE(
            ctypes.c_long(_NUMBER),
            ctypes.c_void_p(address + _LOW_HALF),
            ctypes.c_int(_FUTEX_WAKE),
            ctypes.c_int(count),
            None,
            None,
            ctypes.c_int(0),
        ),
    )
