"""Three stages with a bounded queue between them: a stage that is faster than the next one waits for it."""

from collections import Counter
from collections.abc import Iterator
from multiprocessing import Process

from shared_multiprocess_queue import Queue


def read() -> Iterator[str]:
    for number in range(300):
        yield f"{'red' if number % 3 else 'blue'}={number}"


def parse(lines: Queue[str], records: Queue[tuple[str, int]]) -> None:
    for line in lines:
        key, _, value = line.partition("=")
        records.put((key, int(value)))


def add(records: Queue[tuple[str, int]], totals: Queue[dict[str, int]]) -> None:
    total: Counter[str] = Counter()
    for key, value in records:
        total[key] += value
    totals.put(dict(total))


if __name__ == "__main__":
    lines: Queue[str] = Queue(10)
    records: Queue[tuple[str, int]] = Queue(10)
    totals: Queue[dict[str, int]] = Queue(1)
    parsers = [Process(target=parse, args=(lines, records)) for _ in range(2)]
    adder = Process(target=add, args=(records, totals))
    for process in (*parsers, adder):
        process.start()

    for line in read():
        lines.put(line)
    lines.shutdown()  # the end of a stage is the end of the input of the next one
    for parser in parsers:
        parser.join()
    records.shutdown()
    adder.join()
    print(sorted(totals.get(timeout=60).items()))  # [('blue', 14850), ('red', 30000)]
