"""A queue for the workers of a ProcessPoolExecutor: through initargs, and as a plain argument of submit."""

from concurrent.futures import ProcessPoolExecutor

from shared_multiprocess_queue import Queue

events: Queue[str]


def begin(queue: Queue[str]) -> None:
    global events  # noqa: PLW0603 (each worker has its own)
    events = queue


def count(text: str) -> int:
    events.put(f"counted {text}")
    return len(text)


def count_to(queue: Queue[str], text: str) -> int:
    queue.put(f"counted {text}, too")
    return len(text)


if __name__ == "__main__":
    queue: Queue[str] = Queue()
    with ProcessPoolExecutor(2, initializer=begin, initargs=(queue,)) as executor:
        first = executor.submit(count, "one")
        second = executor.submit(count_to, queue, "three")
        print(first.result(), second.result())  # 3 5
    print(sorted(queue.get_batch(10)))  # ['counted one', 'counted three, too']
