"""Three stages with a bounded queue between them: a stage that is faster than the next one waits for it."""

from collections import Counter
from collections.abc import Iterator
from multiprocessing import Process

from shared_multiprocess_queue import Queue

PATIENCE = 60.0  # seconds


def read() -> Iterator[str]:
    for number in range(300):
        yield f"{'red' if number % 3 else 'blue'}={number}"


def parse(lines: Queue[str], records: Queue[tuple[str, int]]) -> None:
    for line in lines:
        key, _, value = line.partition("=")
        records.put((key, int(value)), timeout=PATIENCE)  # Full if the next stage was killed: nothing takes any more


def add(records: Queue[tuple[str, int]], totals: Queue[dict[str, int]]) -> None:
    total: Counter[str] = Counter()
    for key, value in records:
        total[key] += value
    totals.put(dict(total))


if __name__ == "__main__":
    lines: Queue[str] = Queue(10)
    records: Queue[tuple[str, int]] = Queue(10)
    totals: Queue[dict[str, int]] = Queue(1)
    # Daemons go with this program, also if it fails because one of them was killed.
    parsers = [Process(target=parse, args=(lines, records), daemon=True) for _ in range(2)]
    adder = Process(target=add, args=(records, totals), daemon=True)
    for process in (*parsers, adder):
        process.start()

    for line in read():
        lines.put(line, timeout=PATIENCE)
    lines.shutdown()  # the end of a stage is the end of the input of the next one
    for parser in parsers:
        parser.join()
    records.shutdown()
    adder.join()
    print(sorted(totals.get(timeout=PATIENCE).items()))  # [('blue', 14850), ('red', 30000)]
