"""Private memory for buffers that arrive: aligned, and used again, because page faults take longer than a copy.

The native engine has the same in C (``_native/buffers.h``), which does not need an object of ctypes for each buffer.
"""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from .lazy_import import late

if TYPE_CHECKING:
    from mmap import mmap

KEPT: Final = 8  # blocks without a user that are kept, and how many bytes they may have together
KEPT_SIZE: Final = 64 << 20
_PAGE: Final = 4096

_kept: list[mmap] = []
_used: dict[int, tuple[weakref.ref[Any], mmap]] = {}  # by the id of the object that has the memory


@late
def _new_block() -> Any:
    from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap  # noqa: PLC0415

    # Private: a block that a forked child had in common with its parent would change under both.
    return partial(mmap, -1, flags=MAP_PRIVATE | MAP_ANONYMOUS)


@late
def _byte() -> Any:
    from ctypes import c_ubyte  # noqa: PLC0415

    return c_ubyte


def copy_of(data: Any) -> Any:
    """Copy a buffer into memory of its own.

    Args:
        data: a contiguous buffer.

    Returns:
        A writable buffer. If it has a page or more, it begins on a page, and its memory is used again once nothing
        refers to it.

    Raises:
        MemoryError: there is none.
    """
    size = memoryview(data).nbytes
    if size < _PAGE:
        return bytearray(data)
    block = _spare(size) or _new(size)
    block[:size] = data
    found = (_byte() * size).from_buffer(block)
    key = id(found)
    _used[key] = weakref.ref(found, lambda _: _recycle(key)), block
    return found


def is_ours(obj: Any) -> bool:
    """Whether ``copy_of`` has returned this object."""
    return id(obj) in _used


def _room_for(size: int) -> int:
    return max(_PAGE, 1 << (size - 1).bit_length())


def _new(size: int) -> mmap:
    try:
        block: mmap = _new_block()(_room_for(size))
    except OSError:
        _kept.clear()
        raise MemoryError(f"there is no memory for a buffer of {size:,} bytes") from None
    return block


def _spare(size: int) -> mmap | None:
    wanted = _room_for(size)
    for block in list(_kept):
        if len(block) == wanted:
            try:
                _kept.remove(block)
            except ValueError:  # another thread was faster
                continue
            return block
    return None


def _recycle(key: int) -> None:
    """Keep the block of an object that ends."""
    _, block = _used.pop(key)
    if len(block) <= KEPT_SIZE:
        _kept.append(block)
        while len(_kept) > KEPT or sum(map(len, list(_kept))) > KEPT_SIZE:
            del _kept[:1]  # the oldest, unless another thread was faster
