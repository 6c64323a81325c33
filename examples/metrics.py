"""Metrics of many workers, added up in one process. To measure never makes a worker wait: a full queue takes none."""

import time
from collections import Counter
from contextlib import suppress
from multiprocessing import Process
from threading import Thread

from shared_multiprocess_queue import Full, Queue


def work(metrics: Queue[tuple[str, float]]) -> None:
    for _ in range(100):
        began = time.perf_counter()
        sum(range(1000))
        with suppress(Full):  # one item for both, so that they are counted both or not at all
            metrics.put_nowait(("sums", time.perf_counter() - began))


def add_up(metrics: Queue[tuple[str, float]], times: Counter[str], seconds: dict[str, float]) -> None:
    for name, duration in metrics:
        times[name] += 1
        seconds[name] = seconds.get(name, 0.0) + duration


if __name__ == "__main__":
    metrics: Queue[tuple[str, float]] = Queue(1000)
    times: Counter[str] = Counter()
    seconds: dict[str, float] = {}
    workers = [Process(target=work, args=(metrics,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    adding = Thread(target=add_up, args=(metrics, times, seconds))
    adding.start()
    for worker in workers:
        worker.join()
    metrics.shutdown()  # the thread ends when it has added up all
    adding.join()
    print(times["sums"], seconds["sums"] > 0)  # 300 True
