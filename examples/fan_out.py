"""Each subscriber gets each message. A queue for each of them is short, so the publisher waits for the slowest one."""

from contextlib import suppress
from multiprocessing import Process

from shared_multiprocess_queue import Full, Queue


def subscribe(name: str, feed: Queue[int], results: Queue[tuple[str, int]]) -> None:
    results.put((name, sum(feed)))  # until the feed is shut down


def send(message: int, subscriber: Process, feed: Queue[int]) -> None:
    """Wait until there is room, or the subscriber is dead: nothing takes from its queue any more."""
    while subscriber.is_alive():
        with suppress(Full):
            feed.put(message, timeout=1.0)
            return


if __name__ == "__main__":
    results: Queue[tuple[str, int]] = Queue()
    feeds: list[Queue[int]] = [Queue(10) for _ in range(3)]
    subscribers = [
        Process(target=subscribe, args=(name, feed, results))
        for name, feed in zip(("one", "two", "three"), feeds, strict=True)
    ]
    for subscriber in subscribers:
        subscriber.start()

    for message in range(100):
        for subscriber, feed in zip(subscribers, feeds, strict=True):
            send(message, subscriber, feed)
    for feed in feeds:
        feed.shutdown()
    for subscriber in subscribers:
        subscriber.join()
    # All have ended, so nothing comes any more: Empty if all were killed.
    print(sorted(results.get_batch(3, block=False)))  # [('one', 4950), ('three', 4950), ('two', 4950)]
