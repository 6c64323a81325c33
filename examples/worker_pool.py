"""A pool of workers: tasks go out through one queue, results come back through another."""

from multiprocessing import Process

from shared_multiprocess_queue import Queue


def work(tasks: Queue[int], results: Queue[tuple[int, int]]) -> None:
    for number in tasks:  # ends when the queue is shut down and empty
        results.put((number, number * number))


if __name__ == "__main__":
    tasks: Queue[int] = Queue()
    results: Queue[tuple[int, int]] = Queue()
    workers = [Process(target=work, args=(tasks, results)) for _ in range(2)]
    for worker in workers:
        worker.start()

    for number in range(1000):
        tasks.put(number)
    tasks.shutdown()  # no more tasks; those in the queue are still taken

    squares = {}
    for _ in range(1000):
        number, square = results.get(timeout=60)  # Empty if a worker was killed: see supervisor.py
        squares[number] = square
    for worker in workers:
        worker.join()
    print(len(squares), squares[999])  # 1000 998001
