"""Peers whose get sleeps in the kernel: pyzmq, faster-fifo, quick-queue, cloudtoid-interprocess, kickmsg."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Sequence
from typing import Any

from ..channel import End, Peer, Size, carried

_EVER = 1e6  # seconds
_LIST = 1000  # items that quick-queue sends at once
_MEMORY = "/dev/shm"


class _ZmqEnd(End):
    def __init__(self, folder: str, size: Size, number: int | None) -> None:
        import zmq  # noqa: PLC0415

        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUSH if number is None else zmq.PULL)
        self._socket.set_hwm(size.capacity)
        if number is None:
            for consumer in range(size.consumers):
                self._socket.connect(f"ipc://{folder}/{consumer}")
        else:
            self._socket.bind(f"ipc://{folder}/{number}")
        self.put, self.get = carried(size, self._socket.send, self._socket.recv)

    def close(self) -> None:
        self._context.destroy(linger=10_000)


class _Zmq:
    """Producers connect to every consumer, and ZeroMQ serves these in turn."""

    def __init__(self, name: str, size: Size) -> None:
        self._size = size
        self._folder = tempfile.TemporaryDirectory(prefix=name)

    def sender(self, number: int) -> End:
        return _ZmqEnd(self._folder.name, self._size, None)

    def receiver(self, number: int) -> End:
        return _ZmqEnd(self._folder.name, self._size, number)

    def remove(self) -> None:
        self._folder.cleanup()


class _FasterFifoEnd(End):
    def __init__(self, queue: Any) -> None:
        self._queue = queue

    def put(self, item: Any) -> None:
        self._queue.put(item, True, _EVER)

    def get(self) -> Any:
        return self._queue.get(True, _EVER)

    def put_batch(self, items: Sequence[Any]) -> None:
        self._queue.put_many(items, True, _EVER)

    def get_batch(self, most: int) -> Sequence[Any]:
        found: Sequence[Any] = self._queue.get_many(True, _EVER, most)
        return found


class _FasterFifo:
    def __init__(self, name: str, size: Size) -> None:
        from faster_fifo import Queue  # noqa: PLC0415

        self._queue: Any = Queue(max_size_bytes=size.capacity * (size.item_size + 64))

    def sender(self, number: int) -> End:
        return _FasterFifoEnd(self._queue)

    receiver = sender

    def remove(self) -> None:
        self._queue.close()


class _QuickQueueEnd(End):
    def __init__(self, queue: Any) -> None:
        queue.init(**queue.get_init_args())  # what a forked child has to do
        self._queue = queue
        self.put, self.get = queue.put, queue.get

    def flush(self) -> None:
        self._queue.put_remain()


class _QuickQueue:
    def __init__(self, name: str, size: Size) -> None:
        from quick_queue import QQueue  # noqa: PLC0415

        self._queue: Any = QQueue(size_bucket_list=_LIST)

    def sender(self, number: int) -> End:
        return _QuickQueueEnd(self._queue)

    receiver = sender

    def remove(self) -> None:
        self._queue.close()


class _CloudtoidEnd(End):
    def __init__(self, end: Any, size: Size) -> None:
        self._end = end
        self.put, self.get = carried(size, self._put, self._get)

    def _put(self, data: bytes) -> None:
        while not self._end.try_send(data):
            os.sched_yield()

    def _get(self) -> bytes:
        data: bytes | None = None
        while data is None:
            data = self._end.receive(_EVER)
        return data

    def put_batch(self, items: Sequence[Any]) -> None:
        while items := items[self._end.try_send_batch(items) :]:
            os.sched_yield()

    def get_batch(self, most: int) -> Sequence[Any]:
        return [self._get()]

    def close(self) -> None:
        self._end.close()


class _Cloudtoid:
    """The parent keeps both ends open: without one, the queue and what is in it are gone."""

    def __init__(self, name: str, size: Size) -> None:
        self._name, self._size = name, size
        self._folder = tempfile.TemporaryDirectory(prefix=name, dir=_MEMORY)
        self._keeps = self.sender(0), self.receiver(0)

    def _open(self, kind: str) -> End:
        import cloudtoid_interprocess  # noqa: PLC0415

        room = 1 << (self._size.capacity * (self._size.item_size + 32) - 1).bit_length()
        return _CloudtoidEnd(getattr(cloudtoid_interprocess, kind)(self._name, room, self._folder.name), self._size)

    def sender(self, number: int) -> End:
        return self._open("Publisher")

    def receiver(self, number: int) -> End:
        return self._open("Subscriber")

    def remove(self) -> None:
        for end in self._keeps:
            end.close()
        self._folder.cleanup()


class _KickmsgEnd(End):
    def __init__(self, region: Any, size: Size, taken: memoryview) -> None:
        import kickmsg  # noqa: PLC0415

        self._region, self._size, self._taken, self._module = region, size, taken, kickmsg
        self._sent = 0
        self.put, self.get = carried(size, self._put, self._get)

    def subscribe(self) -> None:
        """Begin to receive; what was published before is not for this end."""
        self._receive = self._module.Subscriber(self._region).receive

    def publish(self) -> None:
        self._send = self._module.Publisher(self._region).send

    def _put(self, data: bytes) -> None:
        while self._sent - self._taken[0] >= self._size.capacity:
            os.sched_yield()
        self._send(data)
        self._sent += 1

    def _get(self) -> bytes:
        data: bytes | None = None
        while data is None:
            data = self._receive(1.0)
        self._taken[0] += 1
        return data


class _Kickmsg:
    """A broadcast, which drops what a subscriber is too slow for; so the adapter counts what was taken."""

    def __init__(self, name: str, size: Size) -> None:
        import kickmsg  # noqa: PLC0415

        config = kickmsg.Config()
        config.max_subscribers = 1
        config.sub_ring_capacity = 1 << (size.capacity - 1).bit_length()
        config.pool_size = 2 * config.sub_ring_capacity
        config.max_payload_size = size.item_size
        self._name, self._size = f"/{name}", size
        self._region = kickmsg.SharedRegion.create(self._name, kickmsg.ChannelType.PubSub, config)
        self._taken = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")

    def sender(self, number: int) -> End:
        end = _KickmsgEnd(self._region, self._size, self._taken)
        end.publish()
        return end

    def receiver(self, number: int) -> End:
        end = _KickmsgEnd(self._region, self._size, self._taken)
        end.subscribe()
        return end

    def remove(self) -> None:
        self._region.unlink()


PEERS = [
    Peer(
        "pyzmq",
        _Zmq,
        "parks",
        "zmq",
        "pyzmq",
        most_consumers=1,
        note="PUSH and PULL over a socket; a thread on each side, and uneven shares for several consumers",
    ),
    Peer("faster-fifo", _FasterFifo, "parks", "faster_fifo", "faster-fifo", batches=True),
    Peer(
        "quick-queue",
        _QuickQueue,
        "parks",
        "quick_queue",
        "quick-queue",
        most_consumers=1,
        answers=False,
        note="sends lists of a thousand items: one arrives when its list is full",
    ),
    Peer(
        "cloudtoid",
        _Cloudtoid,
        "parks",
        "cloudtoid_interprocess",
        "cloudtoid-interprocess",
        batches=True,
        note="no put that waits: the adapter yields and tries again",
    ),
    Peer(
        "kickmsg",
        _Kickmsg,
        "parks",
        "kickmsg",
        "kickmsg",
        most_producers=1,
        most_consumers=1,
        note="a broadcast that drops items; the adapter counts them, and waits",
    ),
]
