"""A supervisor that starts a worker again if it was killed. No job is lost: a killed worker's goes to another."""

import os
import signal
from contextlib import suppress
from multiprocessing import Process
from multiprocessing.connection import wait

from shared_multiprocess_queue import Empty, Queue, SharedMemoryQueue, ShutDown

Jobs = SharedMemoryQueue[int]
Results = Queue[tuple[int, int]]


def work(jobs: Jobs, results: Results) -> None:
    while True:
        try:
            with jobs.lease() as lease:  # the end of the block ends the job; an error in it gives the job back
                if lease.item == 5 and lease.deliveries == 1:
                    os.kill(os.getpid(), signal.SIGKILL)  # as the system does if memory runs out
                results.put((lease.item, lease.item**2))
        except ShutDown:  # all jobs are done, those of killed workers as well
            return


def start(jobs: Jobs, results: Results) -> Process:
    worker = Process(target=work, args=(jobs, results))
    worker.start()
    return worker


def main() -> None:
    jobs: Jobs = SharedMemoryQueue(leases=2, max_deliveries=3)  # a job that kills three workers is set aside
    results: Results = Queue()
    workers = [start(jobs, results) for _ in range(2)]
    jobs.put_batch(range(10))
    jobs.shutdown()

    found = {}
    restarts = 0
    while workers or not results.empty():
        wait([results.fileno(), *(worker.sentinel for worker in workers)])
        with suppress(Empty):
            while True:
                job, result = results.get_nowait()
                found[job] = result  # a job may be done twice; the result is the same
        for worker in [worker for worker in workers if not worker.is_alive()]:
            workers.remove(worker)
            if worker.exitcode != 0:  # if workers fail at their start, this does not end: limit the restarts then
                workers.append(start(jobs, results))
                restarts += 1
    print(len(found), found[5], restarts, jobs.dead_letters())  # 10 25 1 []


if __name__ == "__main__":
    main()
