"""One of two programs that are started separately, in any order; the other is consumer.py."""

from shared_multiprocess_queue import SharedMemoryQueue, ShutDown

# Each program makes the queue or finds it. It stays when this program ends, so the consumer may start later.
with SharedMemoryQueue[dict[str, object]]("example-jobs", create=True, exist_ok=True, capacity=100) as jobs:
    try:
        for number in range(3):
            jobs.put({"path": f"{number}.txt", "size": number * 100})
    except ShutDown:
        raise SystemExit("another producer has been here; start the consumer, which takes its jobs") from None
    jobs.shutdown()  # the consumer ends when it has taken all
