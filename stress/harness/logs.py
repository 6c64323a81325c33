"""The histories of workers, in memory shared with the parent, which survives a kill -9.

A log belongs to one worker. The worker writes an entry first and the number of entries after it, so each entry that
counts is complete. Times are monotonic, in nanoseconds.
"""

from __future__ import annotations

import mmap
import os
import time
from array import array
from collections.abc import Iterator, Sequence
from typing import Final

from .history import ConsumerHistory, ProducerHistory, Put

_ENTRIES: Final = 0  # number of entries
_ACKNOWLEDGED: Final = 1  # number of puts that returned
_ASKED: Final = 2  # items that the get in progress may take
_DOING: Final = 3  # index in DOINGS
_SINCE: Final = 4  # when that began
_CALLS: Final = 5  # calls that have done their work
_LAST: Final = 6  # when the latest of them did; not 0 once the worker has begun
_LONGEST: Final = 7  # longest time between two of them, from the first kill on
_PID: Final = 8  # of the process of the worker
_HEADER: Final = 9
_WORD: Final = 8

_COUNT_BITS: Final = 16
_INTERRUPTED: Final = 1 << 63  # set in the entry of a put that an interrupt ended

DOINGS: Final = (
    *("starting", "between two calls", "put", "put_batch", "get", "get_batch", "ended"),
    *("processing an item", "ending an item", "join"),
)
STARTING, BETWEEN, PUT, PUT_BATCH, GET, GET_BATCH, ENDED, PROCESSING, ENDING, JOINING = range(len(DOINGS))

now = time.monotonic_ns


class Signals:
    """The signals of the parent to all workers; each is set once a run and stays set."""

    _STOP, _DRAIN, _MARK = range(3)

    def __init__(self) -> None:
        self._words = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")

    def stop(self) -> None:
        """Let producers end."""
        self._words[self._STOP] = 1

    def stopped(self) -> bool:
        """Whether producers are to end."""
        return bool(self._words[self._STOP])

    def drain(self) -> None:
        """Let consumers end when the queue is empty; all producers have ended."""
        self._words[self._DRAIN] = 1

    def draining(self) -> bool:
        """Whether an empty queue is the end."""
        return bool(self._words[self._DRAIN])

    def mark(self) -> None:
        """Say that the first kill is about to happen: stalls count from here."""
        if not self._words[self._MARK]:
            self._words[self._MARK] = now()

    def marked(self) -> bool:
        """Whether stalls count."""
        return bool(self._words[self._MARK])


class Log:
    """The history of one worker.

    Args:
        entries: the number of calls of a producer, or of items of a consumer, for which there is room.
        signals: of the run.
    """

    def __init__(self, entries: int, signals: Signals) -> None:
        self._words = memoryview(mmap.mmap(-1, (_HEADER + entries) * _WORD)).cast("Q")
        self._limit = entries
        self._signals = signals

    # ---- written by the worker --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Note that the loop begins."""
        self._words[_PID] = os.getpid()
        self._words[_LAST] = now()

    def intend(self, first: int, count: int) -> None:
        """Note the items that the next put is about to put."""
        self._append([first << _COUNT_BITS | count])
        self._begin(PUT_BATCH if count > 1 else PUT)

    def acknowledge(self) -> None:
        """Note that the put returned."""
        self._words[_ACKNOWLEDGED] += 1
        self._beat()

    def give_up_put(self) -> None:
        """Note that an interrupt ended the put, which has happened or has not."""
        self._words[_HEADER + self._words[_ENTRIES] - 1] |= _INTERRUPTED
        self.acknowledge()

    def give_up_get(self) -> None:
        """Note that an interrupt ended the get, which took nothing."""
        self._words[_ASKED] = 0
        self._beat()

    def ask(self, limit: int) -> None:
        """Note how many items the next get may take."""
        self._words[_ASKED] = limit
        self._begin(GET_BATCH if limit > 1 else GET)

    def deliver(self, idents: Sequence[int]) -> None:
        """Note the items that the get returned, or none."""
        self._append(idents)
        self._words[_ASKED] = 0
        if idents:
            self._beat()

    def end(self) -> None:
        """Note that the loop is over."""
        self._begin(ENDED)

    def has_room(self) -> bool:
        """Whether another entry fits."""
        return self._words[_ENTRIES] < self._limit

    def beat(self) -> None:
        """Note that a step was done; for workers that put and get nothing."""
        self._beat()

    def turn(self, doing: int) -> None:
        """Note what the worker does next, one of the numbers above; for workers that note the rest in a diary."""
        self._begin(doing)

    def _append(self, entries: Sequence[int]) -> None:
        words = self._words
        at = words[_ENTRIES]
        if at + len(entries) > self._limit:
            raise RuntimeError(f"this worker's log is full: it has room for {self._limit:,} entries")
        for offset, entry in enumerate(entries, _HEADER + at):
            words[offset] = entry
        words[_ENTRIES] = at + len(entries)

    def _begin(self, doing: int) -> None:
        self._words[_SINCE] = now()
        self._words[_DOING] = doing

    def _beat(self) -> None:
        words = self._words
        time_now = now()
        if self._signals.marked():
            words[_LONGEST] = max(words[_LONGEST], time_now - words[_LAST])
        words[_LAST] = time_now
        words[_CALLS] += 1
        words[_SINCE] = time_now
        words[_DOING] = BETWEEN

    # ---- read by the parent -----------------------------------------------------------------------------------------

    @property
    def started(self) -> bool:
        """Whether the loop has begun."""
        return bool(self._words[_LAST])

    @property
    def pid(self) -> int:
        """The process of the worker; 0 if it has not begun."""
        return self._words[_PID]

    @property
    def calls(self) -> int:
        """Number of calls that did their work."""
        return self._words[_CALLS]

    @property
    def doing(self) -> str:
        """What the worker is doing, and for how long, in words."""
        seconds = (now() - self._words[_SINCE]) / 1e9 if self._words[_SINCE] else 0.0
        return f"{DOINGS[self._words[_DOING]]} for {seconds:.1f} s"

    def is_doing(self, doing: int) -> bool:
        """Whether this is what the worker does, one of the numbers above."""
        return self._words[_DOING] == doing

    @property
    def ended(self) -> bool:
        """Whether the loop is over."""
        return self._words[_DOING] == ENDED

    def items_put(self) -> int:
        """Return the number of items whose put returned."""
        return sum(put.size for put in self.puts() if put.acknowledged)

    def items_got(self) -> int:
        """Return the number of items that were got."""
        return self._words[_ENTRIES]

    def puts(self) -> Iterator[Put]:
        """Yield the calls of a producer."""
        acknowledged = self._words[_ACKNOWLEDGED]
        for number in range(self._words[_ENTRIES]):
            entry = self._words[_HEADER + number]
            returned = number < acknowledged and not entry & _INTERRUPTED
            yield Put((entry & ~_INTERRUPTED) >> _COUNT_BITS, entry & (1 << _COUNT_BITS) - 1, returned)

    def as_producer(self, ident: int) -> ProducerHistory:
        """Return what this producer did."""
        return ProducerHistory(ident, _Puts(self))

    def as_consumer(self, name: str, killed: bool = False) -> ConsumerHistory:
        """Return what this consumer got."""
        delivered = array("Q", self._words[_HEADER : _HEADER + self._words[_ENTRIES]].tobytes())
        return ConsumerHistory(name, delivered, killed, self._words[_ASKED])

    def longest_stall(self) -> float:
        """Return the longest time between two calls that did their work, in seconds; the one that lasts included."""
        last = now() - self._words[_LAST] if self.started and not self.ended else 0
        return max(self._words[_LONGEST], last) / 1e9

    def forget_stalls(self) -> None:
        """Begin a new measurement."""
        self._words[_LONGEST] = 0


class _Puts:
    """The calls of a producer, to be iterated any number of times without a copy of them all."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def __iter__(self) -> Iterator[Put]:
        return self._log.puts()
