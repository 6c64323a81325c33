"""What is measured: what producers put, how consumers get it, and what is counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, Literal

from .channel import Peer, Size

Kind = Literal["rate", "trip", "call", "wake", "cpu", "alone", "place"]

VARIETY: Final = 1024
"""Items that differ, which producers put one after the other: a list that is pickled has equal objects once."""

CAPACITY: Final = 1024
BATCH: Final = 100


def _bytes(size: int) -> list[Any]:
    rng = Random(size)
    return [rng.randbytes(size) for _ in range(VARIETY)]


BYTES_64: Final = _bytes(64)
BYTES_4K: Final = _bytes(4096)
DICTS: Final[list[Any]] = [{"data": f"item_{number}", "timestamp": number + 0.5} for number in range(VARIETY)]


@dataclass(frozen=True)
class Scenario:
    """One row of the table.

    Attributes:
        name: for tables and the command line.
        kind: ``rate``: items a second from producers to consumers; ``trip``: an item there and back; ``call``: a call
            that does not wait, beside a process that always works on the queue; ``wake``: from before a put to after
            the get that slept; ``cpu``: of a get that waits for two seconds; ``alone``: put and get in one process;
            ``place``: likewise of an item that is written and read in place, and one copy of as many bytes beside it.
        unit: of its figures.
        items: what is put, again and again.
        producers: processes that put.
        consumers: processes that get.
        batch: items of a call.
        pause: seconds between two items, so that the getter goes to sleep.
        size: bytes of an item, serialised; 0: its length.
        capacity: of the queue.
        handles: further handles that are open, and have been used.
        polls: whether gets of a ``trip`` are calls of ``get_nowait``, again and again.
        call: name of the method, of a ``call``.
        only: names of the only peers to measure; empty: all.
    """

    name: str
    kind: Kind
    unit: str
    items: Sequence[Any] = field(default_factory=lambda: BYTES_64, repr=False)
    producers: int = 1
    consumers: int = 1
    batch: int = 1
    pause: float = 0.0
    size: int = 0
    capacity: int = CAPACITY
    handles: int = 0
    polls: bool = False
    call: str = ""
    only: Sequence[str] = ()

    def channel_size(self) -> Size:
        """Return how large the channel has to be."""
        size = self.size or len(self.items[0])
        return Size(self.capacity, size, not isinstance(self.items[0], bytes), self.producers, self.consumers)

    def fits(self, peer: Peer) -> bool:
        """Whether a peer can do this at all."""
        return (
            self.producers <= (peer.most_producers or self.producers)
            and self.consumers <= (peer.most_consumers or self.consumers)
            and (self.batch == 1 or peer.batches)
            and (self.kind not in ("trip", "wake", "cpu") or peer.answers)
            and (not self.only or peer.name in self.only)
        )


_DICT_SIZE: Final = 64
_ENGINES: Final = ("native", "atomics")
_ENGINES_AND_MODES: Final = ("native", "native spsc", "atomics")

POLLING: Final = [
    Scenario("round trip, polling", "trip", "µs", polls=True, only=_ENGINES_AND_MODES),
    *(
        Scenario(f"{call} beside a partner", "call", "µs", capacity=1, call=call, only=_ENGINES_AND_MODES)
        for call in ("put_nowait", "empty", "full", "qsize")
    ),
]

MAIN: Final = [
    Scenario("64 B", "rate", "items/s"),
    Scenario("4 KiB", "rate", "items/s", BYTES_4K),
    Scenario("dict", "rate", "items/s", DICTS, size=_DICT_SIZE),
    Scenario("64 B, batches of 100", "rate", "items/s", batch=BATCH),
    Scenario("64 B, 2 x 2", "rate", "items/s", producers=2, consumers=2),
    Scenario("dict, 2 x 2", "rate", "items/s", DICTS, producers=2, consumers=2, size=_DICT_SIZE),
    Scenario("round trip, spinning", "trip", "µs"),
    Scenario("round trip, parked", "trip", "µs", pause=0.001),
    *POLLING,
    Scenario("wake-up", "wake", "µs", pause=0.002),
    Scenario("CPU of 2 s of waiting", "cpu", "ms"),
    Scenario("64 B, alone", "alone", "ns"),
    Scenario("dict, alone", "alone", "ns", DICTS, size=_DICT_SIZE),
    Scenario("1 MB in place", "place", "µs", [bytes(1_000_000)], size=1_000_048, capacity=8, only=_ENGINES_AND_MODES),
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
            [bytes(size)],
            capacity=min(CAPACITY, (1 << 26) // size),
            only=_ENGINES,
        )
        for size in SIZES
    ),
    *(Scenario(f"{handles:,} more handles", "alone", "ns", handles=handles, only=_ENGINES) for handles in HANDLES),
]

ALL: Final = {scenario.name: scenario for scenario in (*MAIN, *GROWTH)}
