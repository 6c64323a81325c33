"""Objects that only multiprocessing knows how to send: connections, sockets, and types that libraries have registered.

``multiprocessing.Queue`` asks the reducers of ``multiprocessing.reduction.ForkingPickler`` before an object's own
``__reduce_ex__``. This package must do the same: otherwise pickle would treat a ``Connection`` as a plain object, and
it would arrive as a descriptor number that means another file in the receiver.

Nothing is imported for that: in a program without multiprocessing nothing is registered. The one exception is the
socket, a type that exists without multiprocessing; the first socket in an item makes this module import its reducer.

A tensor of torch does not go by its registered reducer. That would move the whole storage into shared memory, even for
one row of a batch, and only relatives of the sender could open it. An ordinary tensor in memory of its own goes by
value, with its own numbers and no others. They are copied at once, because torch may free or move the memory of a
tensor under a put that waits, though others refer to it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from pickle import PickleBuffer
from types import TracebackType
from typing import Any

from .._platform import memory
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
    """Return the reducers of multiprocessing, by exact type. The mapping also shows types that are registered later.

    Args:
        kind: the type of an object that is to be pickled.

    Returns:
        The mapping; ``None`` if nothing is registered yet, and multiprocessing itself has no reducer for this type.
    """
    if _REDUCTION not in sys.modules and (kind.__name__ != "socket" or kind.__module__ != "socket"):
        return None
    reducers: Mapping[type, Reducer] = _forking_pickler()._extra_reducers
    return reducers


def send(obj: Any, reduce: Reducer) -> Any:
    """Return the reduction of an object by its reducer; an ordinary tensor is reduced to its numbers.

    Args:
        obj: the object to pickle.
        reduce: the reducer that is registered for its type.
    """
    if type(obj).__module__ == "torch" and type(obj).__name__ == "Tensor" and _is_ordinary(obj):
        return _tensor, (_numbers(obj.contiguous()), obj.dtype, tuple(obj.shape))
    reduced = reduce(obj)
    # From a reducer_override, NotImplemented would tell pickle to go on; from a reducer it is simply a wrong result.
    return None if reduced is NotImplemented else reduced


def _is_ordinary(tensor: Any) -> bool:
    """Whether a tensor is only numbers in private memory of this process."""
    return (
        tensor.device.type == "cpu"
        and tensor.layout is sys.modules["torch"].strided
        and not (tensor.requires_grad or tensor.is_quantized or tensor.is_conj() or tensor.is_neg())
        and not any(getattr(tensor, "names", ()))
        and not tensor.is_shared()
    )


def _numbers(tensor: Any) -> PickleBuffer:
    """Return a copy of the memory of a contiguous tensor."""
    from ctypes import c_ubyte  # noqa: PLC0415

    size = tensor.nbytes
    return PickleBuffer(memory.copy_of((c_ubyte * size).from_address(tensor.data_ptr()) if size else b""))


def _tensor(numbers: Any, dtype: Any, shape: tuple[int, ...]) -> Any:
    """Build a tensor on the memory of ``numbers``; torch has been imported to read the dtype."""
    torch = sys.modules["torch"]
    return torch.empty(shape, dtype=dtype) if 0 in shape else torch.frombuffer(numbers, dtype=dtype).reshape(shape)


def newest_shared() -> int:
    """Return the key of the last object that multiprocessing has set aside for a receiver to fetch; 0 if none."""
    sharer = sys.modules.get(_SHARER)
    return 0 if sharer is None else int(sharer._resource_sharer._key)


def key_of_shared(obj: Any, kind: type, since: int) -> int:
    """Return the key under which a duplicate of a descriptor (a socket on Windows) waits to be fetched.

    Args:
        obj: an object in an item.
        kind: its type.
        since: the newest key when the pickling of the item began.

    Returns:
        The key; 0 if ``obj`` is no such duplicate, belongs to another process, or is older than the item's pickling.
    """
    sharer = sys.modules.get(_SHARER)
    if sharer is None or kind not in (getattr(sharer, "DupFd", None), getattr(sharer, "DupSocket", None)):
        return 0
    address, key = obj._id
    return key if address == sharer._resource_sharer._address and key > since else 0


def withdraw(keys: Iterable[int]) -> None:
    """Close the objects that were set aside for the receiver of an item, because the item was not put."""
    for key in keys:
        waiting = sys.modules[_SHARER]._resource_sharer._cache
        _, close = waiting.pop(key, (None, None))  # a child that was forked since does not have it
        if close is not None:
            close()


def explanation(error: BaseException) -> str:
    """Return an addition to the text of an error that the reading of an item has raised; "" if there is none.

    Args:
        error: an error with its traceback.
    """
    traceback: TracebackType | None = error.__traceback__
    while traceback is not None:
        if global_text(traceback.tb_frame, "__name__") == _SHARER:
            return (
                "; connections, sockets and shared tensors are handed over by the sender, so it must still be alive, "
                "and only processes that multiprocessing has started from one another may ask for them"
            )
        traceback = traceback.tb_next
    return ""
