"""One bar of tqdm for all workers, which say what they have done through a queue."""

from multiprocessing import Process

from tqdm import tqdm

from shared_multiprocess_queue import Queue

STEPS = 50


def work(done: Queue[int]) -> None:
    for _ in range(STEPS):
        sum(range(1000))
        done.put(1)


if __name__ == "__main__":
    done: Queue[int] = Queue()
    workers = [Process(target=work, args=(done,)) for _ in range(2)]
    for worker in workers:
        worker.start()  # before the bar, which has a thread

    with tqdm(total=2 * STEPS) as bar:
        while bar.n < bar.total:
            bar.update(sum(done.get_batch(100, timeout=60)))  # Empty if a worker was killed
    for worker in workers:
        worker.join()
    print(bar.n)  # 100
