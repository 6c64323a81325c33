"""A queue for the workers of a multiprocessing.Pool: as an argument of its initializer, and as a plain argument."""

from multiprocessing import Pool

from shared_multiprocess_queue import Queue

progress: Queue[str]


def begin(queue: Queue[str]) -> None:
    global progress  # noqa: PLW0603 (each worker has its own)
    progress = queue


def square(number: int) -> int:
    progress.put(f"squared {number}")
    return number * number


def negate(queue: Queue[str], number: int) -> int:
    queue.put(f"negated {number}")  # one of multiprocessing.Queue could not be an argument here
    return -number


if __name__ == "__main__":
    queue: Queue[str] = Queue()
    with Pool(2, initializer=begin, initargs=(queue,)) as pool:
        squares = pool.map(square, range(2))
        negatives = pool.starmap(negate, [(queue, number) for number in range(2)])
    print(squares, negatives)  # [0, 1] [0, -1]
    print(sorted(queue.get_batch(10)))  # ['negated 0', 'negated 1', 'squared 0', 'squared 1']
