"""This package: either engine, in both modes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ...harness.engines import Engine, Mode
from ..channel import Channel, End, Peer, Size

MODULE = "shared_multiprocess_queue"


class _End(End):
    def __init__(self, queue: Any) -> None:
        self.queue = queue
        self.put, self.get = queue.put, queue.get
        self.get_batch = queue.get_batch  # type: ignore[method-assign]

    def put_batch(self, items: Sequence[Any]) -> None:
        self.queue.put_batch(items)

    def close(self) -> None:
        self.queue.close()


class _Ours:
    """Each end is a handle of its own, opened by name."""

    def __init__(self, name: str, size: Size, engine: Engine, mode: Mode) -> None:
        from shared_multiprocess_queue import SharedMemoryQueue  # noqa: PLC0415

        slot = size.slot or size.item_size
        self._queue = SharedMemoryQueue(
            name,
            create=True,
            capacity=size.capacity * size.item_size // slot,
            item_size=slot,
            max_item_size=size.item_size,
            mode=mode,
            engine=engine,
        )

    def sender(self, number: int) -> End:
        return _End(type(self._queue)(self._queue.name, engine=self._queue.engine))

    receiver = sender

    def remove(self) -> None:
        self._queue.close()
        self._queue.unlink()


def _make(engine: Engine, mode: Mode) -> Callable[[str, Size], Channel]:
    return lambda name, size: _Ours(name, size, engine, mode)


PEERS = [
    Peer("native", _make("native", "mpmc"), "parks", MODULE, batches=True),
    Peer("native spsc", _make("native", "spsc"), "parks", MODULE, most_producers=1, most_consumers=1, batches=True),
    Peer("atomics", _make("atomics", "mpmc"), "parks", MODULE, batches=True),
]
