"""This package: either engine, in both modes; and the release before it was written anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..channel import Channel, End, Peer, Size

MODULE = "shared_multiprocess_queue"
OLD = "shared-multiprocess-queue"


class _End(End):
    def __init__(self, queue: Any) -> None:
        self.queue = queue
        self.put, self.get, self.get_batch = queue.put, queue.get, queue.get_batch

    def put_batch(self, items: Sequence[Any]) -> None:
        self.queue.put_batch(items)

    def close(self) -> None:
        self.queue.close()


class _Ours:
    """Each end is a handle of its own, opened by name."""

    def __init__(self, name: str, size: Size, engine: str, mode: str) -> None:
        from shared_multiprocess_queue import SharedMemoryQueue  # noqa: PLC0415

        self._queue = SharedMemoryQueue(
            name, create=True, capacity=size.capacity, item_size=size.item_size, mode=mode, engine=engine
        )

    def sender(self, number: int) -> End:
        return _End(type(self._queue)(self._queue.name, engine=self._queue.engine))

    receiver = sender

    def remove(self) -> None:
        self._queue.close()
        self._queue.unlink()


class _Old:
    """The handle is inherited: whoever opens it by name takes the queue along when it ends."""

    def __init__(self, name: str, size: Size) -> None:
        from shared_multiprocess_queue import SharedMemoryQueue  # noqa: PLC0415

        self._queue = SharedMemoryQueue(name, create=True, capacity=size.capacity, item_size=size.item_size + 64)

    def sender(self, number: int) -> End:
        end = End()
        end.put, end.get = self._queue.put, self._queue.get
        return end

    receiver = sender

    def remove(self) -> None:
        self._queue.close()
        self._queue.unlink()


def _make(engine: str, mode: str) -> Callable[[str, Size], Channel]:
    return lambda name, size: _Ours(name, size, engine, mode)


PEERS = [
    Peer("native", _make("native", "mpmc"), "parks", MODULE, batches=True),
    Peer("native spsc", _make("native", "spsc"), "parks", MODULE, most_producers=1, most_consumers=1, batches=True),
    Peer("atomics", _make("atomics", "mpmc"), "parks", MODULE, batches=True),
    Peer("version 0.1.5", _Old, "polls", MODULE, OLD, note="this package before it was written anew"),
]
