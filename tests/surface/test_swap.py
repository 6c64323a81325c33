"""``Queue`` as programs use that of multiprocessing."""

from __future__ import annotations

import inspect
import logging
import logging.handlers
import multiprocessing
import multiprocessing.queues
import queue
import threading
from collections.abc import Callable
from typing import Any

import pytest

from shared_multiprocess_queue import ItemTooLargeError, Queue, SerializationError, SharedMemoryQueue, swap
from shared_multiprocess_queue._platform import shared_memory
from shared_multiprocess_queue.errors import ArgumentError
from tests.support.places import SHM
from tests.support.waiting import LONG

pytestmark = pytest.mark.usefixtures("each_engine")


def echo(tasks: Queue, results: Queue) -> None:
    for item in iter(tasks.get, None):
        results.put((type(tasks).__name__, tasks.maxsize, item))


def test_children_get_it_as_an_argument(start_method: str) -> None:
    tasks: Queue = Queue()
    results: Queue = Queue(5)
    child: Any = multiprocessing.get_context(start_method).Process(  # type: ignore[attr-defined]
        target=echo, args=(tasks, results)
    )
    child.start()
    tasks.put("item")
    tasks.put(obj="another")
    tasks.put(None)
    assert [results.get(timeout=LONG) for _ in range(2)] == [
        ("Queue", tasks.maxsize, "item"),
        ("Queue", tasks.maxsize, "another"),
    ]
    child.join()
    for q in (tasks, results):
        q.close()
        q.join_thread()


@pytest.mark.parametrize("maxsize", [1, 5, 50_000])
def test_maxsize_is_the_largest_number_of_items(maxsize: int) -> None:
    with Queue(maxsize) as q:
        assert q.maxsize == q.capacity == maxsize
        with pytest.raises(AttributeError):
            q.maxsize = 2  # type: ignore[misc]


@pytest.mark.parametrize("maxsize", [2**29 + 1, 2**31 - 1, 2**63])
def test_a_maxsize_that_no_queue_can_have_is_refused_by_its_name(maxsize: int) -> None:
    with pytest.raises(ArgumentError, match=f"maxsize must be at most 536,870,912, not {maxsize}; 0 means"):
        Queue(maxsize)


def test_a_listener_of_log_records_takes_it() -> None:
    """It calls ``task_done`` if the queue has that name."""
    texts = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            texts.append(record.getMessage())

    with Queue() as q:
        listener = logging.handlers.QueueListener(q, Handler())
        listener.start()
        logger = logging.Logger("of a test")
        logger.addHandler(logging.handlers.QueueHandler(q))
        for i in range(3):
            logger.warning("record %d", i)
        listener.stop()
    assert texts == ["record 0", "record 1", "record 2"]


@pytest.mark.parametrize("maxsize", [0, -1])
def test_without_a_maxsize_there_is_room_for_many(maxsize: int) -> None:
    with Queue(maxsize) as q:
        assert q.maxsize == swap.default_sizes(0, shared_memory.size_of_all(), shared_memory.address_limit()).capacity


@pytest.mark.parametrize(
    ("size", "capacity", "largest"),
    [
        (None, 1 << 16, 64 << 20),
        (1 << 40, 1 << 16, 64 << 20),
        (512 << 20, 1 << 16, 64 << 20),
        (256 << 20, 1 << 15, 2032 << 15),
        (64 << 20, 8192, 8192 * 2032),  # that of Docker
        (1, 1, 2032),
    ],
)
def test_without_a_maxsize_the_memory_of_the_system_decides(size: int | None, capacity: int, largest: int) -> None:
    """Its places, and its largest item, take a quarter of all shared memory at most."""
    found = swap.default_sizes(0, size, None)
    assert (found.capacity, found.item_size, found.max_item_size) == (capacity, 2032, largest)


@pytest.mark.parametrize("maxsize", [0, 1, 2, 3, 20, 1000, 50_000, 1 << 20, 1 << 29])
@pytest.mark.parametrize("memory", [None, 24 << 30, 64 << 20])
@pytest.mark.parametrize("addresses", [None, 1 << 32, 1 << 30])
def test_all_places_share_the_memory(maxsize: int, memory: int | None, addresses: int | None) -> None:
    """So a queue that is empty has room for an item, also if each of its places was used."""
    found = swap.default_sizes(maxsize, memory, addresses)
    assert found.capacity == maxsize or not maxsize
    assert found.item_size <= found.max_item_size <= found.capacity * found.item_size
    places = found.capacity * (found.item_size + 16)
    if memory is not None and maxsize < 1 << 20:
        assert places <= memory // 4
        assert found.max_item_size <= memory // 4
    if maxsize <= 50_000:
        assert places <= 128 << 20
        assert found.max_item_size >= (11 << 20)
    if maxsize == 1 << 29:
        assert found.item_size == 112


@pytest.mark.parametrize(
    ("memory", "addresses", "leases", "largest"),
    [
        (None, None, 4096, 16 << 20),
        (24 << 30, None, 4096, 16 << 20),
        (64 << 20, None, 4096, 8192 * 2032),
        (24 << 30, 1 << 32, 512, 2 << 20),
        (24 << 30, 1 << 30, 512, 512 << 10),  # ulimit -v 1048576
        (24 << 30, 1 << 20, 128, 2048),
    ],
)
def test_the_largest_item_is_chosen_by_the_addresses_for_leases(
    memory: int | None, addresses: int | None, leases: int, largest: int
) -> None:
    found = swap.default_sizes(0, memory, addresses, has_leases=True)
    assert (found.leases, found.max_item_size) == (leases, largest)


@pytest.mark.parametrize("maxsize", [1, 3])
def test_a_maxsize_counts_items_of_any_size(maxsize: int, each_engine: str) -> None:
    with Queue[bytes](maxsize) as q:
        for i in range(maxsize):
            assert not q.full()
            q.put(bytes([i]) * 300_000)
        assert q.full()
        with pytest.raises(q.Full):
            q.put(b"", block=False)
        assert [q.get()[:1] for _ in range(maxsize)] == [bytes([i]) for i in range(maxsize)]


@pytest.mark.parametrize("maxsize", [0, 40_000])
def test_qsize_counts_items(each_engine: str, maxsize: int) -> None:
    with Queue[bytes](maxsize) as q:
        for size in (10_000, 1, 3000, 2032, 40_000, 3000):
            q.put(bytes(size))
        assert [len(q.get(timeout=LONG)) for _ in range(q.qsize())] == [10_000, 1, 3000, 2032, 40_000, 3000]
        assert q.qsize() == 0
        assert q.empty()


@pytest.mark.parametrize("maxsize", ["5", 5.0, None])
def test_a_maxsize_is_a_whole_number(maxsize: Any) -> None:
    with pytest.raises(ArgumentError, match="maxsize must be a whole number, not"):
        Queue(maxsize)


@pytest.mark.parametrize("theirs", [queue.Queue, multiprocessing.queues.Queue], ids=lambda cls: cls.__module__)
def test_it_has_every_method_of_theirs_with_its_parameters(theirs: Any) -> None:
    methods: dict[str, Callable[..., Any]] = dict(inspect.getmembers(theirs, inspect.isfunction))
    wanted = {name for name in methods if not name.startswith("_")} - {"task_done", "join"}
    assert {"put", "get", "qsize", "empty", "full", "put_nowait", "get_nowait"} <= wanted
    for name in wanted:
        assert set(inspect.signature(methods[name]).parameters) <= set(
            inspect.signature(getattr(Queue, name)).parameters
        ), name
    assert set(inspect.signature(theirs).parameters) <= set(inspect.signature(Queue).parameters)


def test_a_closed_queue_refuses_with_the_errors_of_theirs() -> None:
    q: Queue = Queue()
    q.put(1)
    q.close()
    q.close()
    q.join_thread()
    q.cancel_join_thread()
    calls: list[Callable[[], object]] = [lambda: q.put(1), q.get, q.get_nowait, q.qsize, q.full]
    for call in calls:
        with pytest.raises(ValueError, match="is closed"):
            call()
    with pytest.raises(OSError, match="is closed"):
        q.empty()


def test_put_itself_refuses_what_cannot_be_sent() -> None:
    with Queue() as q:
        with pytest.raises(SerializationError):
            q.put(threading.Lock())
        with pytest.raises(ItemTooLargeError):
            q.put(bytes(q.max_item_size + 1))
        q.put(bytes(q.max_item_size))
        assert len(q.get()) == q.max_item_size


@pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files")
def test_it_goes_with_its_last_handle() -> None:
    q: Queue[int] = Queue()
    with SharedMemoryQueue(q.name) as other:
        q.put(1)
        q.close()
        assert (SHM / f"{q.name}-queue").exists()
        assert other.get() == 1
    assert not list(SHM.glob(f"{q.name}*"))


class Counting(Queue[int]):
    """As programs subclass that of multiprocessing."""

    def __init__(self) -> None:
        super().__init__(ctx=multiprocessing.get_context())
        self.puts = 0

    def put(self, item: int, block: bool = True, timeout: float | None = None) -> None:  # type: ignore[override]
        super().put(item, block, timeout)
        self.puts += 1


def test_it_can_be_subclassed() -> None:
    with Counting() as q:
        q.put(1)
        q.put_nowait(2)
        assert (q.puts, q.get(), q.get()) == (2, 1, 2)
