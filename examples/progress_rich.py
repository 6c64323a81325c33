"""A bar of rich for each worker; the workers say what they have done through a queue."""

from multiprocessing import Process

from rich.console import Console
from rich.progress import Progress

from shared_multiprocess_queue import Queue

STEPS = 50


def work(name: str, done: Queue[tuple[str, int]]) -> None:
    for _ in range(STEPS):
        sum(range(1000))
        done.put((name, 1))


if __name__ == "__main__":
    done: Queue[tuple[str, int]] = Queue()
    names = ("first", "second")
    workers = [Process(target=work, args=(name, done)) for name in names]
    for worker in workers:
        worker.start()  # before the bars, which have a thread

    with Progress(console=Console(stderr=True)) as progress:
        bars = {name: progress.add_task(name, total=STEPS) for name in names}
        while not progress.finished:
            for name, steps in done.get_batch(100, timeout=60):  # Empty if a worker was killed
                progress.update(bars[name], advance=steps)
    for worker in workers:
        worker.join()
    print([progress.tasks[bar].completed for bar in bars.values()])  # [50, 50]
