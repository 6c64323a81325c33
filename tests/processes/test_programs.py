"""Programs as users write them, run as they stand."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.support.queues import segments

pytestmark = pytest.mark.usefixtures("each_engine")


LONG = 100.0  # seconds; a watchdog, never a measure


WORKER_POOL = """
import sys
import time
from multiprocessing import Process

from shared_multiprocess_queue import SharedMemoryQueue


def worker(queue_name: str, run_id: str, number: int) -> None:
    queue = SharedMemoryQueue(name=queue_name, create=False, run_id=run_id)
    while True:
        try:
            task = queue.get(timeout=1.0)
            if task == "STOP":
                break
            print(f"worker {number} did {task}", flush=True)
            time.sleep(0.01)
        except queue.Empty:
            continue
    queue.close()


def main() -> None:
    run_id = sys.argv[1]
    tasks = SharedMemoryQueue(name="tasks", create=True, capacity=1000, item_size=4096, run_id=run_id)

    workers = []
    for number in range(3):
        process = Process(target=worker, args=("tasks", run_id, number))
        process.start()
        workers.append(process)

    for number in range(20):
        tasks.put(f"task_{number}")
    for _ in workers:
        tasks.put("STOP")
    for process in workers:
        process.join()

    print(f"left: {tasks.qsize()}, exit codes: {[process.exitcode for process in workers]}")
    tasks.unlink()


if __name__ == "__main__":
    main()
"""


BATCHES_OF_50 = """
import sys

from shared_multiprocess_queue import SharedMemoryQueue

queue = SharedMemoryQueue("batch_queue", create=True, capacity=10000, run_id=sys.argv[1])

batch = []
for number in range(120):
    batch.append(f"item_{number}")
    if len(batch) >= 50:
        queue.put_batch(batch)
        print(f"put {len(batch)}, there are {queue.qsize()}")
        batch = []
if batch:
    queue.put_batch(batch)

print([queue.get() for _ in range(queue.qsize())] == [f"item_{number}" for number in range(120)])
queue.close()
queue.unlink()
"""


METRICS = """
import sys

from shared_multiprocess_queue import SharedMemoryQueue

queue = SharedMemoryQueue("monitored_queue", create=True, capacity=1000, run_id=sys.argv[1])
for number in range(100):
    queue.put(f"item_{number}")

metrics = queue.get_metrics()
print(f"Queue size: {metrics['queue_size']}")
print(f"Capacity: {metrics['queue_capacity']}")
print(f"Utilization: {metrics['queue_utilization_percent']:.1f}%")
print(f"Item size limit: {metrics['queue_item_size_bytes']} bytes")
queue.unlink()
"""


PIPELINE = """
import sys
import time
from multiprocessing import Process

from shared_multiprocess_queue import SharedMemoryQueue


def producer(queue_name, run_id):
    queue = SharedMemoryQueue(queue_name, create=False, run_id=run_id)
    for number in range(1000):
        queue.put({"data": f"item_{number}", "timestamp": time.time()})
    queue.put(None)  # that was all


def consumer(queue_name, run_id):
    queue = SharedMemoryQueue(queue_name, create=False, run_id=run_id)
    results = []
    while True:
        item = queue.get()
        if item is None:
            break
        results.append(item)
    print([result["data"] for result in results] == [f"item_{number}" for number in range(1000)])
    print(all(type(result["timestamp"]) is float for result in results))


if __name__ == "__main__":
    run_id = sys.argv[1]
    queue = SharedMemoryQueue("data_queue", create=True, capacity=2000, run_id=run_id)
    one = Process(target=producer, args=("data_queue", run_id))
    other = Process(target=consumer, args=("data_queue", run_id))
    one.start()
    other.start()
    one.join()
    other.join()
    print(one.exitcode, other.exitcode, queue.empty())
    queue.unlink()
"""


TIMEOUTS = """
import sys

from shared_multiprocess_queue import Empty, Full, SharedMemoryQueue

queue = SharedMemoryQueue("timeout_queue", create=True, capacity=10, run_id=sys.argv[1])

try:
    for number in range(11):
        queue.put(f"item_{number}", block=True, timeout=0.2)
except Full:
    print(f"Queue was full, with {queue.qsize()} items")

try:
    while True:
        last = queue.get(block=True, timeout=0.2)
except Empty:
    print(f"No items available after {last}")

queue.close()
queue.unlink()
"""


def run(program: str, run_id: str, folder: Path, start_method: str = "") -> list[str]:
    """Run a program; it ends well, says nothing on stderr and leaves nothing in shared memory."""
    path = folder / "program.py"
    if start_method:
        program = program.replace(
            'if __name__ == "__main__":\n',
            f'if __name__ == "__main__":\n    __import__("multiprocessing").set_start_method({start_method!r})\n',
        )
    path.write_text(program)
    before = segments()
    result = subprocess.run(
        [sys.executable, "-W", "error", str(path), run_id],
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
        stdin=subprocess.DEVNULL,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},  # it splits lines
    )
    assert result.stderr == ""
    assert result.returncode == 0
    assert segments() == before, "something was left in shared memory"
    return result.stdout.splitlines()


START_METHODS = ["", "fork", "spawn", "forkserver"]  # "": as it stands


@pytest.mark.parametrize("start_method", START_METHODS)
def test_three_workers_do_twenty_tasks_and_stop(run_id: str, tmp_path: Path, start_method: str) -> None:
    *work, end = run(WORKER_POOL, run_id, tmp_path, start_method)
    assert end == "left: 0, exit codes: [0, 0, 0]"
    assert sorted(line.split(" did ")[1] for line in work) == sorted(f"task_{number}" for number in range(20))
    assert {line.split(" did ")[0] for line in work} <= {"worker 0", "worker 1", "worker 2"}


def test_batches_of_fifty(run_id: str, tmp_path: Path) -> None:
    assert run(BATCHES_OF_50, run_id, tmp_path) == ["put 50, there are 50", "put 50, there are 100", "True"]


def test_metrics_after_a_hundred_puts(run_id: str, tmp_path: Path) -> None:
    assert run(METRICS, run_id, tmp_path) == [
        "Queue size: 100",
        "Capacity: 1000",
        "Utilization: 10.0%",
        "Item size limit: 4096 bytes",
    ]


@pytest.mark.parametrize("start_method", START_METHODS)
def test_a_producer_and_a_consumer_attach_by_name(run_id: str, tmp_path: Path, start_method: str) -> None:
    assert run(PIPELINE, run_id, tmp_path, start_method) == ["True", "True", "0 0 True"]


def test_timeouts_end_with_full_and_empty(run_id: str, tmp_path: Path) -> None:
    assert run(TIMEOUTS, run_id, tmp_path) == [
        "Queue was full, with 10 items",
        "No items available after item_9",
    ]


def test_the_example_of_the_class_runs_as_it_stands(run_id: str, tmp_path: Path) -> None:
    program = f"""
        import doctest
        from shared_multiprocess_queue import queue
        example = queue.SharedMemoryQueue.__doc__.replace("doc-tasks", "{run_id}")
        queue.SharedMemoryQueue.__doc__ = example
        names = {{"SharedMemoryQueue": queue.SharedMemoryQueue}}
        doctest.run_docstring_examples(queue.SharedMemoryQueue, names, name="example")
        """
    assert run(textwrap.dedent(program), run_id, tmp_path) == []
