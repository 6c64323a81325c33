"""Maps segments between pages that cannot be accessed, so that a step outside of a segment raises a signal."""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import Any, Final

_GUARD: Final = 1 << 24  # bytes on each side
_MAYMOVE_FIXED: Final = 3
_FAILED: Final = ctypes.c_void_p(-1).value

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = _libc.mremap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.mremap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]


class Guarded(mmap.mmap):
    """A mapping of a file between two guards; ``mmap`` cannot place one, so it is moved, which CPython is not told."""

    def __new__(cls, *arguments: Any, **keywords: Any) -> Guarded:
        made = super().__new__(cls, *arguments, **keywords)
        start = ctypes.addressof(ctypes.c_char.from_buffer(made))
        size = -(-len(made) // mmap.PAGESIZE) * mmap.PAGESIZE
        pointer = ctypes.c_void_p.from_address(id(made) + object.__basicsize__)
        if pointer.value != start:
            raise NotImplementedError("this Python keeps the address of a mapping in another place")
        guards = _libc.mmap(None, size + 2 * _GUARD, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        if guards == _FAILED or _libc.mremap(start, size, size, _MAYMOVE_FIXED, guards + _GUARD) == _FAILED:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        pointer.value = guards + _GUARD
        return made


def set_up() -> None:
    """Fence all mappings that are made from now on; the guards stay until the process ends."""
    mmap.mmap = Guarded  # type: ignore[misc]
