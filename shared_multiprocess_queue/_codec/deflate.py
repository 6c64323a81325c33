"""Deflating payloads that are too large for a queue: the one module that knows zlib.

A log record with a long traceback takes 5 to 10 KB, but a tenth of that deflated, so it fits into a slot of 4 KiB. A
deflated payload is the tag of the original as one byte, then its bytes as a zlib stream, which ends with a checksum.
"""

from __future__ import annotations

from typing import Any

from .._platform.lazy_import import late
from .buffers import AnyPieces, whole

__all__ = ["deflated", "inflated"]

# How many times as large as the largest item a payload may be. Text shrinks to a third or a tenth, so to deflate more
# than this would be in vain. And a getter must limit the memory that a hostile payload can make it take, because
# deflate reaches 1:1000; so where items may be large, there is a bound in bytes, too.
_GREATEST_RATIO = 64
_MOST = 1 << 28

_LEVEL = 1  # two to four times as fast as level 6; a traceback takes 5 % more bytes, source code 18 % more


@late
def _zlib() -> Any:
    import zlib  # noqa: PLC0415

    return zlib


def _limit(max_item_size: int) -> int:
    return min(_GREATEST_RATIO * max_item_size, _MOST)


def deflated(payload: bytes | AnyPieces, tag: int, max_item_size: int) -> bytes | None:
    """Make a payload smaller.

    Args:
        payload: the bytes of an item.
        tag: of the codec, below 256.
        max_item_size: the greatest payload of the queue, in bytes.

    Returns:
        A payload for ``inflated``, which may still be too large; ``None`` if the original is too large to try.
    """
    if len(payload) > _limit(max_item_size):
        return None
    stream: bytes = _zlib().compress(whole(payload), _LEVEL)
    return bytes([tag]) + stream


def inflated(payload: bytes, max_item_size: int) -> tuple[bytes, int]:
    """Return the payload and the tag from which ``deflated`` has made a payload.

    Args:
        payload: returned by ``deflated``; if it is damaged, ValueError is raised.
        max_item_size: the greatest payload of the queue, in bytes.

    Returns:
        The payload and the tag that ``deflated`` was given.

    Raises:
        ValueError: ``deflated`` has not made these bytes, or they inflate to more than it accepts.
    """
    zlib = _zlib()
    limit = _limit(max_item_size)
    stream = zlib.decompressobj()
    try:
        original: bytes = stream.decompress(memoryview(payload)[1:], limit + 1)
    except zlib.error as error:
        raise ValueError(f"its deflated bytes are damaged: {error}") from None
    if len(original) > limit:
        raise ValueError(f"it inflates to more than {limit:,} bytes; this queue deflates no items so large")
    if not stream.eof or stream.unused_data:
        raise ValueError("its deflated bytes end too early or too late")
    return original, payload[0]
