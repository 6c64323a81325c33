"""What is measured: what producers put, how consumers get it, and what is counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

from . import items
from .channel import Peer, Size

Kind = Literal["rate", "threads", "trip", "call", "wake", "cpu", "alone", "place"]

CAPACITY: Final = 1024
BATCH: Final = 100


@dataclass(frozen=True)
class Scenario:
    """One row of the table.

    Attributes:
        name: for tables and the command line.
        kind: ``rate``: items a second from producers to consumers; ``threads``: from one thread to another of one
            process; ``trip``: an item there and back; ``call``: a call that does not wait, beside a process that always
            works on the queue; ``wake``: from before a put to after the get that slept; ``cpu``: of a get that waits
            for two seconds; ``alone``: put and get in one process; ``place``: likewise of an item that is written and
            read in place, and one copy of as many bytes beside it.
        unit: of its figures.
        make: returns what is put, again and again.
        producers: processes that put.
        consumers: processes that get.
        batch: items of a call.
        pause: seconds between two items, so that the getter goes to sleep.
        slot: bytes of a slot, of queues whose items may take several; 0: of the largest item.
        capacity: of the queue, in items of the largest size.
        handles: further handles that are open, and have been used.
        polls: whether gets of a ``trip`` are calls of ``get_nowait``, again and again.
        call: name of the method, of a ``call``.
        copies: whether two copies of an item's bytes are measured beside it, of ``alone``.
        only: names of the only peers to measure; empty: all.
    """

    name: str
    kind: Kind
    unit: str
    make: Callable[[], Sequence[Any]] = items.small
    producers: int = 1
    consumers: int = 1
    batch: int = 1
    pause: float = 0.0
    slot: int = 0
    capacity: int = CAPACITY
    handles: int = 0
    polls: bool = False
    call: str = ""
    copies: bool = False
    only: Sequence[str] = ()

    def size(self) -> int:
        """Return the bytes of the largest item."""
        return items.largest(self.make())

    def channel_size(self) -> Size:
        """Return how large the channel has to be."""
        is_pickled = not isinstance(self.make()[0], bytes)
        return Size(self.capacity, self.size(), is_pickled, self.producers, self.consumers, self.slot)

    def fits(self, peer: Peer) -> bool:
        """Whether a peer can do this at all."""
        return (
            self.producers <= (peer.most_producers or self.producers)
            and self.consumers <= (peer.most_consumers or self.consumers)
            and (self.batch == 1 or peer.batches)
            and (self.kind not in ("trip", "wake", "cpu") or peer.answers)
            and (self.kind == "threads" or not peer.threads)
            and (not self.only or peer.name in self.only)
            and (peer.most_bytes is None or self.size() <= peer.most_bytes)
        )


_ENGINES: Final = ("native", "atomics")
_ENGINES_AND_MODES: Final = ("native", "native spsc", "atomics")
_IN_THREADS: Final = (*_ENGINES_AND_MODES, "multiprocessing.Queue", "queue.Queue", "queue.SimpleQueue")
_LARGE_ALONE: Final = (*_ENGINES_AND_MODES, "multiprocessing.Queue")  # a pipe does not hold one
_MEGABYTES: Final = 16  # capacity for items of a megabyte

POLLING: Final = [
    Scenario("round trip, polling", "trip", "µs", polls=True, only=_ENGINES_AND_MODES),
    *(
        Scenario(f"{call} beside a partner", "call", "µs", capacity=1, call=call, only=_ENGINES_AND_MODES)
        for call in ("put_nowait", "empty", "full", "qsize")
    ),
]

RATES: Final = [
    Scenario("64 B", "rate", "items/s"),
    Scenario("4 KiB", "rate", "items/s", partial(items.bytes_of, 4096)),
    Scenario("dict", "rate", "items/s", items.dicts),
    Scenario("dict of ten fields", "rate", "items/s", items.dicts_of_ten),
    Scenario("list of 100 floats", "rate", "items/s", items.lists_of_floats),
    Scenario("nested document", "rate", "items/s", items.documents),
    Scenario("record of times", "rate", "items/s", items.records),
    Scenario("array of 1 MiB", "rate", "items/s", items.arrays, capacity=_MEGABYTES),
    Scenario("frame of 6 MB", "rate", "items/s", items.frames, capacity=_MEGABYTES // 4),
    Scenario("mixed sizes", "rate", "items/s", items.mixed, slot=512),
    Scenario("64 B, batches of 100", "rate", "items/s", batch=BATCH),
    Scenario("dict, batches of 100", "rate", "items/s", items.dicts, batch=BATCH),
    Scenario("64 B, 2 x 2", "rate", "items/s", producers=2, consumers=2),
    Scenario("dict, 2 x 2", "rate", "items/s", items.dicts, producers=2, consumers=2),
    Scenario("dict, threads of one process", "threads", "items/s", items.dicts, only=_IN_THREADS),
]

MAIN: Final = [
    *RATES,
    Scenario("round trip, spinning", "trip", "µs"),
    Scenario("round trip, parked", "trip", "µs", pause=0.001),
    *POLLING,
    Scenario("wake-up", "wake", "µs", pause=0.002),
    Scenario("CPU of 2 s of waiting", "cpu", "ms"),
    Scenario("64 B, alone", "alone", "ns"),
    Scenario("dict, alone", "alone", "ns", items.dicts),
    Scenario("dict of ten fields, alone", "alone", "ns", items.dicts_of_ten),
    Scenario("array of 1 MiB, alone", "alone", "ns", items.arrays, capacity=4, copies=True, only=_LARGE_ALONE),
    Scenario("frame of 6 MB, alone", "alone", "ns", items.frames, capacity=4, copies=True, only=_LARGE_ALONE),
    Scenario("1 MB in place", "place", "µs", partial(items.zeros_of, 1_000_000), capacity=8, only=_ENGINES_AND_MODES),
]

CAPACITIES: Final = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
SIZES: Final = (8, 64, 512, 4_096, 32_768, 262_144, 1_048_576)
HANDLES: Final = (0, 10, 100, 1_000)

GROWTH: Final = [
    *(Scenario(f"capacity {capacity:,}", "alone", "ns", capacity=capacity, only=_ENGINES) for capacity in CAPACITIES),
    *(
        Scenario(
            f"item of {size:,} B",
            "alone",
            "ns",
            partial(items.zeros_of, size),
            capacity=min(CAPACITY, (1 << 26) // size),
            only=_ENGINES,
        )
        for size in SIZES
    ),
    *(Scenario(f"{handles:,} more handles", "alone", "ns", handles=handles, only=_ENGINES) for handles in HANDLES),
]

ALL: Final = {scenario.name: scenario for scenario in (*MAIN, *GROWTH)}
