"""Large buffers: when memory is read, used again and given back, also beside waits, interrupts and deaths."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from shared_multiprocess_queue import DeserializationError, Full, SharedMemoryQueue
from shared_multiprocess_queue._codec.tags import BUFFERS
from shared_multiprocess_queue._platform import memory
from tests.support.arrays import (
    INTERRUPTS,
    LARGE,
    MANY,
    SMALLEST,
    Interrupted,
    Sample,
    Scales,
    assert_like,
    numbers,
    tags_of,
)
from tests.support.children import in_child, running
from tests.support.queues import MakeQueue
from tests.support.waiting import LONG, eventually, in_thread, sleeps

# ---- memory ---------------------------------------------------------------------------------------------------------


def test_memory_is_used_again_and_never_while_it_has_a_user(make_queue: MakeQueue, each_engine: str) -> None:
    queue = make_queue(capacity=4, item_size=LARGE)
    seen: set[int] = set()
    kept = []
    for number in range(12):
        queue.put(np.full(LARGE // 16, number, np.float64))
        came = queue.get()
        if number % 4 == 0:
            kept.append((came, number))
        seen.add(came.ctypes.data)
        del came
    assert len(seen) < 8
    assert all((array == number).all() for array, number in kept)


def test_memory_that_is_kept_is_bounded(make_queue: MakeQueue, each_engine: str) -> None:
    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    queue = make_queue(capacity=1, item_size=5 << 20)
    sent: Any = np.ones(4 << 20, np.uint8)
    before = resident()
    found = []
    for _ in range(40):
        queue.put(sent)
        found.append(queue.get())
    assert resident() - before > 140 << 20
    found.clear()
    gc.collect()
    assert resident() - before < 90 << 20


def test_of_the_python_pool_only_the_newest_blocks_are_kept() -> None:
    memory._kept.clear()
    half = memory.KEPT_SIZE // 2
    for size, expected in (
        (SMALLEST, [SMALLEST]),
        (half, [SMALLEST, half]),
        (half // 2 + 1, [SMALLEST, half]),  # again in the one that is there
        (half // 2, [SMALLEST, half, half // 2]),
        (SMALLEST, [half, half // 2, SMALLEST]),
        (half + 1, [2 * half]),
        (2 * half + 1, [2 * half]),
    ):
        memory.copy_of(bytearray(size))
        assert [len(block) for block in memory._kept] == expected
    found = [memory.copy_of(bytearray(SMALLEST * 3)) for _ in range(memory.KEPT + 3)]
    assert all(map(memory.is_ours, found))
    found.clear()
    assert len(memory._kept) == memory.KEPT
    memory._kept.clear()


def test_a_child_and_its_parent_recycle_each_their_own(make_queue: MakeQueue, each_engine: str) -> None:
    queue = make_queue(capacity=2, item_size=LARGE)

    def turn(number: int) -> Any:
        queue.put(np.full(LARGE // 16, number, np.float64))
        return queue.get()

    turn(1)  # a block that is free now
    held = turn(2)

    def child() -> None:
        mine = [turn(3), turn(4)]
        assert (held == 2).all()
        held[:] = 5
        assert [int(array[0]) for array in mine] == [3, 4]

    assert in_child(child) == 0
    again = turn(6)
    assert (held == 2).all()
    assert (again == 6).all()


def test_threads_get_each_their_own(make_queue: MakeQueue, each_engine: str) -> None:
    queue = make_queue(capacity=2, item_size=LARGE)
    rounds = 40

    def put(number: int) -> None:
        for _ in range(rounds):
            queue.put([np.full(LARGE // 32, number, np.int64), number], timeout=LONG)

    def get() -> None:
        for _ in range(rounds):
            array, number = queue.get(timeout=LONG)
            assert (array == number).all()
            array[:] = -1

    done = [in_thread(put, number) for number in range(3)] + [in_thread(get) for _ in range(3)]
    for future in done:
        future.result(LONG)


_LIMITED = """
import resource, sys
import numpy as np
from shared_multiprocess_queue import SharedMemoryQueue
queue = SharedMemoryQueue("q", run_id=sys.argv[1])
queue.put([np.ones(4 << 20, np.uint8), 1]); queue.put(2)
queue.get(); queue.get()
queue.put([np.ones(40 << 20, np.uint8), 1])
with open("/proc/self/statm") as file:
    size = int(file.read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (size + (8 << 20), resource.RLIM_INFINITY))
for take in (queue.get, lambda: queue.get_batch(2)):
    try:
        take()
    except MemoryError:
        pass
    else:
        sys.exit("no MemoryError")
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
array, one = queue.get(timeout=10)
assert array.sum() == 40 << 20 and one == 1
queue.put(3)
assert queue.get(timeout=10) == 3
"""


def test_a_get_without_memory_loses_no_item(make_queue: MakeQueue, each_engine: str) -> None:
    import subprocess
    import sys

    queue = make_queue(capacity=3, item_size=41 << 20)
    environment = {**os.environ, "SHMQ_ENGINE": each_engine}
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, queue.run_id],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert queue.empty()


# ---- puts that wait, and gets that are interrupted ------------------------------------------------------------------


def test_the_sender_keeps_its_memory_until_it_is_copied(make_queue: MakeQueue, each_engine: str) -> None:
    queue = make_queue(capacity=1, item_size=LARGE)
    queue.put("in the way")
    arrays = [numbers(LARGE // 16)]
    waiting = in_thread(lambda: queue.put({"array": arrays.pop()}, timeout=LONG))
    eventually(sleeps(queue, "put"))
    filler = [np.zeros(LARGE // 16) for _ in range(8)]
    assert queue.get() == "in the way"
    waiting.result(LONG)
    assert (queue.get()["array"] == numbers(LARGE // 16)).all()
    del filler


@pytest.mark.parametrize("is_put", [True, False])
def test_the_senders_memory_is_free_after_the_put(is_put: bool, make_queue: MakeQueue, each_engine: str) -> None:
    queue = make_queue(capacity=1, item_size=LARGE)
    if not is_put:
        queue.put("in the way")
    mine = bytearray(SMALLEST)
    puts: list[Callable[[Any], None]] = [
        lambda buffer: queue.put(buffer, block=False),
        lambda buffer: queue.put_batch([buffer], block=False),
    ]
    for put in puts:
        buffer = pickle.PickleBuffer(mine)
        if is_put:
            put(buffer)
            queue.get()
            buffer.release()
            mine += b"x"
        else:
            with pytest.raises(Full) as raised:
                put(buffer)
            buffer.release()
            mine += b"x"  # although the error, and its frames, are there
            assert raised.tb is not None


@pytest.mark.parametrize("is_batch", [True, False])
def test_an_interrupted_get_keeps_back_what_was_sent(is_batch: bool, make_queue: MakeQueue, each_engine: str) -> None:
    """The code of an object has changed its array by then."""
    queue = make_queue(capacity=3, item_size=LARGE)
    take: Callable[[], Any] = (lambda: queue.get_batch(1)[0]) if is_batch else queue.get
    items: list[Callable[[], Any]] = [
        lambda: [Scales(numbers()), Interrupted()],
        lambda: [numbers(), Sample(numbers(), 1), Interrupted()],
    ]
    for item in items:
        expected = pickle.loads(pickle.dumps(item(), 5))
        queue.put(item())
        INTERRUPTS.append(KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            take()
        came = take()
        for one, other in zip(came, expected, strict=True):
            assert_like(
                vars(one) if hasattr(one, "__dict__") else one, vars(other) if hasattr(other, "__dict__") else other
            )


def is_interrupted(queue: SharedMemoryQueue) -> None:
    INTERRUPTS.append(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        queue.get(timeout=LONG)


def test_what_an_interrupt_left_goes_back_when_its_process_ends(make_queue: MakeQueue, each_engine: str) -> None:
    queue = make_queue(capacity=2, item_size=LARGE)
    queue.put([numbers(), Interrupted()])
    with running("fork", is_interrupted, queue) as process:
        process.join(LONG)
    came = queue.get(timeout=LONG)
    assert (came[0] == numbers()).all()
    assert came[1] == "done"


class Unreadable:
    """Ends a batch, whose other items are kept back."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


def test_arrays_that_are_kept_back_go_back_when_their_handle_closes(make_queue: MakeQueue, each_engine: str) -> None:
    queue = make_queue(capacity=4, item_size=LARGE)
    read_only = numbers()
    read_only.flags.writeable = False
    queue.put_batch([1, Unreadable(), [numbers(), read_only, pickle.PickleBuffer(bytearray(SMALLEST))], numbers()])
    handle = SharedMemoryQueue(queue.name, run_id=queue.run_id)
    assert handle.get_batch(4) == [1]
    with pytest.raises(DeserializationError):
        handle.get()
    handle.close()
    first, second, third = queue.get(timeout=LONG)
    assert_like(first, numbers())
    assert_like(second, read_only)
    assert third == bytearray(SMALLEST)
    assert_like(queue.get(timeout=LONG), numbers())


def put_for_ever(queue: SharedMemoryQueue) -> None:
    number = 0
    while True:
        number += 1
        queue.put([np.full(LARGE // 8, number, np.int64), np.full(MANY, number, np.int64)])


def test_a_killed_putter_leaves_whole_arrays_or_none(make_queue: MakeQueue, each_engine: str) -> None:
    queue = make_queue(capacity=3, item_size=LARGE + (64 << 10))
    for round_ in range(6):
        process = multiprocessing.get_context("fork").Process(target=put_for_ever, args=(queue,), daemon=True)
        process.start()
        for _ in range(3 * round_):
            queue.get(timeout=LONG)
        process.kill()
        process.join(LONG)
        while not queue.empty():
            first, second = queue.get(timeout=LONG)
            assert (first == first[0]).all()
            assert (second == first[0]).all()
    queue.put(numbers())
    assert (queue.get(timeout=LONG) == numbers()).all()


# ---- other libraries ------------------------------------------------------------------------------------------------


def test_a_frame_of_pandas_arrives_in_blocks_of_its_own(make_queue: MakeQueue, each_engine: str) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": numbers(5000), "b": np.arange(5000), "c": ["text"] * 5000, "d": numbers(5000)})
    queue = make_queue(item_size=LARGE)
    assert tags_of(frame) == BUFFERS
    queue.put({"frame": frame, "part": frame.iloc[10:20]})
    came = queue.get()
    pandas.testing.assert_frame_equal(came["frame"], frame)
    pandas.testing.assert_frame_equal(came["part"], frame.iloc[10:20])
    came["frame"].loc[0, "a"] = 77.0
    assert frame.loc[0, "a"] == 0


def test_a_tensor_that_torch_moves_under_a_put_that_waits(make_queue: MakeQueue, each_engine: str) -> None:
    torch = pytest.importorskip("torch")
    queue = make_queue(capacity=1, item_size=LARGE)
    changes: list[Callable[[Any], Any]] = [
        lambda tensor: tensor.untyped_storage().resize_(0),
        lambda tensor: tensor.share_memory_(),
        lambda tensor: tensor.fill_(-1),
    ]
    for change in changes:
        queue.put("in the way")
        tensor = torch.arange(LARGE // 8, dtype=torch.float32)
        waits = queue.get_metrics()["put_waits"]
        waiting = in_thread(lambda tensor=tensor: queue.put([tensor, tensor[5]], timeout=LONG))
        eventually(sleeps(queue, "put", waits))
        change(tensor)
        assert queue.get() == "in the way"
        waiting.result(LONG)
        came, part = queue.get()
        assert torch.equal(came, torch.arange(LARGE // 8, dtype=torch.float32))
        assert part == 5
        came += 1
        assert came.data_ptr() % 64 == 0
