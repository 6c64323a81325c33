from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar, final

from ._claim import Payload
from ._codec import Codec
from ._native_engine import NativeEngine

F = TypeVar("F", bound=Callable[..., Any])

def direct(function: F, /) -> F: ...

class Attached:
    _direct: Handle | None

@final
class Handle:
    def __new__(
        cls,
        segment: memoryview,
        lock: memoryview,
        capacity: int,
        item_size: int,
        spsc: bool,
        owner: int,
        slice: int,
        may_spin: bool,
        engine: NativeEngine,
        codec: Codec,
        kept_back: deque[Payload],
        on_keep_back: Callable[[], None],
    ) -> Handle: ...
    def shut(self) -> None: ...
    def leave(self) -> bool: ...
    def release(self) -> None: ...
    def wake_all(self) -> None: ...
    def after_fork(self, owner: int, kept_back: deque[Payload], /) -> None: ...
    def set_doorbell(self, puts: bool, is_there: bool, /) -> None: ...
    def size(self) -> int: ...
    def is_empty(self) -> bool: ...
    def is_full(self) -> bool: ...
