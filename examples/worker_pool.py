"""A pool of workers: tasks go out through one queue, results come back through another."""

from multiprocessing import Process

from shared_multiprocess_queue import Queue

TASKS = 1000
AT_ONCE = 20  # tasks that are in the queues or in work


def work(tasks: Queue[int], results: Queue[tuple[int, int]]) -> None:
    for number in tasks:  # ends when the queue is shut down and empty
        results.put((number, number * number))


if __name__ == "__main__":
    # Each queue has room for all that is out at once, so no put of a worker waits. To put all tasks first would never
    # end if there were more than the queues have room for: workers wait for room for results, which this program
    # takes only later.
    tasks: Queue[int] = Queue(AT_ONCE)
    results: Queue[tuple[int, int]] = Queue(AT_ONCE)
    workers = [Process(target=work, args=(tasks, results)) for _ in range(2)]
    for worker in workers:
        worker.start()

    squares = {}
    for step in range(TASKS + AT_ONCE):
        if step >= AT_ONCE:
            number, square = results.get(timeout=60)  # Empty if a worker was killed: see supervisor.py
            squares[number] = square
        if step < TASKS:
            tasks.put(step)
    tasks.shutdown()  # the loops of the workers end
    for worker in workers:
        worker.join()
    print(len(squares), squares[999])  # 1000 998001
