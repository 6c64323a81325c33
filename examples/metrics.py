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
        with suppress(Full):
            metrics.put_nowait(("tasks", 1))
            metrics.put_nowait(("seconds", time.perf_counter() - began))


def add_up(metrics: Queue[tuple[str, float]], totals: Counter[str]) -> None:
    for name, value in metrics:
        totals[name] += value  # type: ignore[assignment]  # a Counter may count in floats


if __name__ == "__main__":
    metrics: Queue[tuple[str, float]] = Queue(1000)
    totals: Counter[str] = Counter()
    workers = [Process(target=work, args=(metrics,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    adding = Thread(target=add_up, args=(metrics, totals))
    adding.start()
    for worker in workers:
        worker.join()
    metrics.shutdown()  # the thread ends when it has added up all
    adding.join()
    print(totals["tasks"], totals["seconds"] > 0)  # 300 True
