"""Not run, but checked by a type checker (test_typing.py): what it has to know of a queue, and what it has to refuse.

A line that has to be refused says with what error; the checker complains of each such remark that is not needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, Self, assert_type

from shared_multiprocess_queue import (
    QueueFile,
    QueueMismatchError,
    QueueProcess,
    SharedMemoryQueue,
    inspect,
    list_queues,
)


class Message:
    """What goes through the queue."""


class Urgent(Message):
    """A kind of it."""


def put(queue: SharedMemoryQueue[Message], message: Message, urgent: Urgent, many: Iterable[Urgent]) -> None:
    queue.put(message)
    queue.put(item=message, block=True, timeout=1.5)
    queue.put(obj=message, block=False)
    queue.put(urgent, True, None)
    queue.put_nowait(urgent)
    queue.put_nowait(obj=urgent)
    queue.put_batch(many)
    queue.put_batch([message, urgent], timeout=1)

    queue.put("text")  # type: ignore[call-overload]
    queue.put(obj="text")  # type: ignore[call-overload]
    queue.put()  # type: ignore[call-overload]
    queue.put(message, obj=message)  # type: ignore[call-overload]
    queue.put_nowait(5)  # type: ignore[call-overload]
    queue.put_batch(["text"])  # type: ignore[list-item]


def get(queue: SharedMemoryQueue[Message]) -> None:
    assert_type(queue.get(), Message)
    assert_type(queue.get(timeout=1), Message)
    assert_type(queue.get_nowait(), Message)
    assert_type(queue.get_batch(5), list[Message])
    queue.get_batch("five")  # type: ignore[arg-type]


def look(queue: SharedMemoryQueue[Message]) -> None:
    assert_type(queue.qsize(), int)
    assert_type(queue.capacity, int)
    assert_type(queue.mode, Literal["mpmc", "spsc"])
    assert_type(queue.engine, Literal["atomics", "native"])
    with queue as same:
        assert_type(same, SharedMemoryQueue[Message])
    queue.join_thread()
    queue.cancel_join_thread()


def make(size: Index, text: str) -> None:
    annotated: SharedMemoryQueue[int] = SharedMemoryQueue("tasks", create=True, capacity=size, item_size=size)
    assert_type(annotated.get(), int)
    assert_type(SharedMemoryQueue[str]("tasks").get(), str)
    anything = SharedMemoryQueue("tasks", mode="spsc", engine="native")  # needs no annotation
    SharedMemoryQueue("tasks", serializer="plain")
    SharedMemoryQueue("tasks", dumps=str.encode, loads=bytes.decode)
    assert_type(anything.get(), Any)
    anything.put(1)
    anything.put("text")

    SharedMemoryQueue("tasks", 5)  # type: ignore[arg-type]
    SharedMemoryQueue("tasks", capacity=2.5)  # type: ignore[arg-type]
    SharedMemoryQueue("tasks", mode=text)  # type: ignore[arg-type]
    SharedMemoryQueue("tasks", mode="bogus")  # type: ignore[arg-type]
    SharedMemoryQueue("tasks", engine="quantum")  # type: ignore[arg-type]
    SharedMemoryQueue("tasks", serializer="json")  # type: ignore[arg-type]
    SharedMemoryQueue("tasks", dumps=5, loads=bytes.decode)  # type: ignore[arg-type]


class Index:
    """As the integers of numpy are."""

    def __index__(self) -> int:
        return 5


class Texts(SharedMemoryQueue[str]):
    """A queue of one kind of item."""

    def drain(self) -> list[str]:
        return self.get_batch(self.capacity)

    def itself(self) -> Self:
        return self


def use(texts: Texts, refused: QueueMismatchError) -> None:
    assert_type(texts.itself().get(), str)
    texts.put(5)  # type: ignore[call-overload]
    names: Sequence[str] = list(refused.asked)
    assert_type(refused.found[names[0]], float | str)


def look_from_outside(name: str) -> str | None:
    assert_type(list_queues(name, foreign=True), list[QueueFile])
    found = inspect(name, run_id="a")
    found.state = "ok"  # type: ignore[misc]
    if found.state == "okay":  # type: ignore[comparison-overlap]
        return None
    if found.look is None:
        return found.why
    assert_type(found.look.processes, tuple[QueueProcess, ...])
    return found.look.items  # type: ignore[return-value]
