"""How multiprocessing sends what only it knows how to send: connections, sockets, and what libraries have registered.

``multiprocessing.Queue`` asks the reducers of ``multiprocessing.reduction.ForkingPickler`` before an object's own
``__reduce_ex__``. So must this package: a ``Connection`` that pickle takes for a plain object arrives as the number of
a descriptor that means another file in the receiver.

Nothing is imported for that: a program without multiprocessing has nothing registered. One type is in the standard
library without it, the socket; the first one in an item makes this module import what registers it.

A tensor of torch is the exception to what is registered. Its reducer moves the whole storage into shared memory, for
one row of a batch too, and only relatives of the sender can open that. An ordinary tensor in memory of its own goes by
value: its own numbers and no others.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any

from .._platform.lazy_import import late
from .blame import global_text

__all__ = ["Reducer", "explanation", "key_of_shared", "newest_shared", "registered", "send", "withdraw"]

Reducer = Callable[[Any], Any]

_REDUCTION = "multiprocessing.reduction"
_SHARER = "multiprocessing.resource_sharer"


@late
def _forking_pickler() -> Any:
    from multiprocessing.reduction import ForkingPickler  # noqa: PLC0415

    return ForkingPickler


def registered(kind: type) -> Mapping[type, Reducer] | None:
    """Return the reducers that multiprocessing asks, by exact type; it shows what is registered later, too.

    Args:
        kind: the type of an object that is to be pickled.

    Returns:
        ``None``: nothing has been registered yet, and nothing would be for this type.
    """
    if _REDUCTION not in sys.modules and (kind.__name__ != "socket" or kind.__module__ != "socket"):
        return None
    reducers: Mapping[type, Reducer] = _forking_pickler()._extra_reducers
    return reducers


def send(obj: Any, reduce: Reducer) -> Any:
    """Return what a reducer makes of an object; of an ordinary tensor, its numbers.

    Args:
        obj: to be pickled.
        reduce: what is registered for its type.
    """
    if type(obj).__module__ == "torch" and type(obj).__name__ == "Tensor" and _is_ordinary(obj):
        return _tensor, (_numbers(obj.contiguous()), obj.dtype, tuple(obj.shape))
    reduced = reduce(obj)
    # To a reducer_override, NotImplemented says that pickle is to go on; here it is a wrong answer as any other.
    return None if reduced is NotImplemented else reduced


def _is_ordinary(tensor: Any) -> bool:
    """Whether a tensor is nothing but numbers in memory of this process."""
    return (
        tensor.device.type == "cpu"
        and tensor.layout is sys.modules["torch"].strided
        and not (tensor.requires_grad or tensor.is_quantized or tensor.is_conj() or tensor.is_neg())
        and not any(getattr(tensor, "names", ()))
        and not tensor.is_shared()
    )


def _numbers(tensor: Any) -> bytearray:
    """Return a copy of the memory of a contiguous tensor."""
    from ctypes import addressof, c_char, memmove  # noqa: PLC0415

    numbers = bytearray(tensor.nbytes)
    if numbers:
        memmove(addressof(c_char.from_buffer(numbers)), tensor.data_ptr(), len(numbers))
    return numbers


def _tensor(numbers: bytearray, dtype: Any, shape: tuple[int, ...]) -> Any:
    """Build a tensor on the memory of ``numbers``; to read the dtype has imported torch."""
    torch = sys.modules["torch"]
    return torch.frombuffer(numbers, dtype=dtype).reshape(shape) if numbers else torch.empty(shape, dtype=dtype)


def newest_shared() -> int:
    """Return the key of what multiprocessing has last set aside for a receiver to fetch; 0 if there was nothing."""
    sharer = sys.modules.get(_SHARER)
    return 0 if sharer is None else int(sharer._resource_sharer._key)


def key_of_shared(obj: Any, kind: type, since: int) -> int:
    """Return the key under which a duplicate of a descriptor (a socket on Windows) waits to be fetched.

    Args:
        obj: in an item.
        kind: its type.
        since: the key of the newest when the item was begun.

    Returns:
        0: it is no such thing, it is another process's, or the program had made it before.
    """
    sharer = sys.modules.get(_SHARER)
    if sharer is None or kind not in (getattr(sharer, "DupFd", None), getattr(sharer, "DupSocket", None)):
        return 0
    address, key = obj._id
    return key if address == sharer._resource_sharer._address and key > since else 0


def withdraw(keys: Iterable[int]) -> None:
    """Close what was set aside for the receiver of an item that was not put."""
    for key in keys:
        waiting = sys.modules[_SHARER]._resource_sharer._cache
        _, close = waiting.pop(key, (None, None))  # in a child forked since it is gone
        if close is not None:
            close()


def explanation(error: BaseException) -> str:
    """Return what to add to the text of an error that an item has raised while it was read, or nothing.

    Args:
        error: with its traceback.
    """
    traceback: TracebackType | None = error.__traceback__
    while traceback is not None:
        if global_text(traceback.tb_frame, "__name__") == _SHARER:
            return (
                "; connections, sockets and shared tensors are handed over by the sender, so it must live still, and "
                "only processes that multiprocessing has started from one another may ask for them"
            )
        traceback = traceback.tb_next
    return ""
