"""Peers without a get that sleeps: zeroq, membridge, subetha-ipc. They, or the adapters, look again and again."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from ..channel import End, Peer, Size, carried

_MEMORY = "/dev/shm"
_LOOKS = 100  # before another process gets a turn


def _get_from(take: Callable[[], bytes | None]) -> Callable[[], bytes]:
    """Return a get that looks until there is something."""

    def get() -> bytes:
        while True:
            for _ in range(_LOOKS):
                data = take()
                if data is not None:
                    return data
            os.sched_yield()

    return get


def _put_into(offer: Callable[[bytes], bool]) -> Callable[[bytes], None]:
    """Return a put that tries until there is room."""

    def put(data: bytes) -> None:
        while not offer(data):
            os.sched_yield()

    return put


class _ZeroqEnd(End):
    def __init__(self, queue: Any, size: Size) -> None:
        self._queue = queue
        fixed: int = queue.element_size
        if size.pickled:  # every item has the same length; pickle ignores what follows
            self.put, self.get = carried(size, lambda data: queue.put(data.ljust(fixed, b"\0")), queue.get)
        else:
            self.put, self.get = queue.put, queue.get

    def close(self) -> None:
        self._queue.close()


class _Zeroq:
    def __init__(self, name: str, size: Size) -> None:
        self._name, self._size = name, size
        capacity = 1 << (size.capacity - 1).bit_length()
        self._queue = self._open(element_size=size.item_size, capacity=capacity, create=True)

    def _open(self, **options: Any) -> Any:
        from zeroq import Queue  # noqa: PLC0415

        return Queue(self._name, **options)

    def sender(self, number: int) -> End:
        return _ZeroqEnd(self._open(create=False), self._size)

    receiver = sender

    def remove(self) -> None:
        self._queue.close()


class _Membridge:
    def __init__(self, name: str, size: Size) -> None:
        import membridge  # noqa: PLC0415

        self._memory, self._name, self._size = membridge.SharedMemory, f"/{name}", size
        self._room = (1 << (size.capacity * (size.item_size + 4) - 1).bit_length()) + 24
        self._kept = self._memory.create(self._name, self._room)
        self._kept.spsc()

    def sender(self, number: int) -> End:
        ring = self._memory.open(self._name, self._room).spsc()
        end = End()
        end.put, end.get = carried(self._size, _put_into(ring.push), _get_from(ring.pop))
        return end

    receiver = sender

    def remove(self) -> None:
        self._memory.remove(self._name)


class _SubethaEnd(End):
    """Items of up to 64 bytes lie in the ring, others in frames beside it."""

    def __init__(self, ring: Any, size: Size, sends: bool) -> None:
        me = ring.register_producer() if sends else ring.register_consumer()
        self._ring, self._me = ring, me
        send, take = (ring.send, ring.recv) if size.item_size <= 64 else (ring.send_frame, ring.recv_frame)
        self.put, self.get = carried(
            size, _put_into(lambda data: send(me, data)), _get_from(lambda: take(me))
        )  # what it returns is filled up to 64 bytes; pickle ignores that

    def put_batch(self, items: Sequence[Any]) -> None:
        while items := items[self._ring.send_many(self._me, items) :]:
            os.sched_yield()

    def get_batch(self, most: int) -> Sequence[Any]:
        found: Sequence[Any] = ()
        while not found:
            found = self._ring.recv_many(self._me, most)
        return found


class _Subetha:
    def __init__(self, name: str, size: Size) -> None:
        import subetha  # noqa: PLC0415

        self._folder = tempfile.TemporaryDirectory(prefix=name, dir=_MEMORY)
        self._size, self._ring = size, subetha.Ring
        capacity = 1 << (size.capacity - 1).bit_length()
        self._arguments = f"{self._folder.name}/ring", capacity, size.producers, size.consumers
        self._kept = subetha.Ring(*self._arguments)

    def sender(self, number: int) -> End:
        return _SubethaEnd(self._ring.open(*self._arguments), self._size, True)

    def receiver(self, number: int) -> End:
        return _SubethaEnd(self._ring.open(*self._arguments), self._size, False)

    def remove(self) -> None:
        self._folder.cleanup()


PEERS = [
    Peer(
        "zeroq",
        _Zeroq,
        "polls",
        "zeroq",
        "zeroq",
        note="all items have one length; pickles are filled up",
    ),
    Peer(
        "membridge",
        _Membridge,
        "spins",
        "membridge",
        "membridge",
        most_producers=1,
        most_consumers=1,
        note="no call that waits: the adapter looks again and again",
    ),
    Peer(
        "subetha",
        _Subetha,
        "spins",
        "subetha",
        "subetha-ipc",
        batches=True,
        most_bytes=4096,
        note="no call that waits: the adapter looks again and again",
    ),
]
