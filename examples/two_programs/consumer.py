"""One of two programs that are started separately, in any order; the other is producer.py."""

from shared_multiprocess_queue import SharedMemoryQueue

with SharedMemoryQueue[dict[str, object]]("example-jobs", create=True, exist_ok=True, capacity=100) as jobs:
    for job in jobs:
        print(job)
    jobs.unlink()  # the next producer makes a new one
