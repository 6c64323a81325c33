"""What was put and got, and the verdict over it.

The rules:

- An item whose put returned is delivered exactly once. A consumer that was killed may have taken the items of the one
  call that it was in without having noted them; so many may be missing, and not one more.
- An interrupted get takes nothing.
- An item whose put did not return, because its producer was killed or interrupted, is delivered at most once; a batch
  then as a whole or not at all.
- No consumer sees the items of one producer out of their order. Only a killed consumer leaves items behind that come
  late, so this is judged where no consumer was killed.
- No item is delivered that was never put, and none is damaged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

SERIAL_BITS: Final = 40
TORN: Final = 1 << 63
"""Set in the id of a delivery that was damaged."""

_MOST_FINDINGS = 20


def item_id(producer: int, serial: int) -> int:
    """Return the number by which histories know an item."""
    return producer << SERIAL_BITS | serial


def parse_id(ident: int) -> tuple[int, int]:
    """Return producer and serial number of an item's id."""
    return ident >> SERIAL_BITS, ident & (1 << SERIAL_BITS) - 1


class Put(NamedTuple):
    """One call of a producer, for the items with the serial numbers first to first+size-1.

    Attributes:
        first: serial number of its first item.
        size: number of items; more than one were put as a batch.
        acknowledged: whether the call returned.
    """

    first: int
    size: int
    acknowledged: bool


@dataclass(frozen=True)
class ProducerHistory:
    """What one producer did.

    Attributes:
        ident: its number.
        puts: its calls, in their order; read twice.
    """

    ident: int
    puts: Iterable[Put]


@dataclass(frozen=True)
class ConsumerHistory:
    """What one consumer got.

    Attributes:
        name: for messages.
        delivered: ids of items, in the order in which it got them.
        killed: whether it was killed.
        asked: how many items the call that it was in may have taken.
    """

    name: str
    delivered: Sequence[int]
    killed: bool = False
    asked: int = 0


@dataclass
class Verdict:
    """Numbers of items (of batches, in ``cut``), and what was found in words.

    Attributes:
        acknowledged: items whose put returned.
        delivered: items that consumers noted.
        unaccounted: items that are missing and may be, because a killed consumer was in a call.
        lost: items that are missing and may not be.
        doubled: items that were delivered more than once.
        torn: deliveries that were damaged, or of items that were not put.
        out_of_order: deliveries of an item after a younger one of its producer.
        cut: batches of which a part was delivered.
        findings: the first of the faults, in words.
    """

    acknowledged: int = 0
    delivered: int = 0
    unaccounted: int = 0
    lost: int = 0
    doubled: int = 0
    torn: int = 0
    out_of_order: int = 0
    cut: int = 0
    findings: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every rule was kept."""
        return not (self.lost or self.doubled or self.torn or self.out_of_order or self.cut)

    def note(self, finding: str) -> None:
        """Keep a fault's description, unless there are many already."""
        if len(self.findings) < _MOST_FINDINGS:
            self.findings.append(finding)

    def add(self, other: Verdict) -> None:
        """Add the numbers and findings of another verdict to this one."""
        self.acknowledged += other.acknowledged
        self.delivered += other.delivered
        self.unaccounted += other.unaccounted
        self.lost += other.lost
        self.doubled += other.doubled
        self.torn += other.torn
        self.out_of_order += other.out_of_order
        self.cut += other.cut
        for finding in other.findings:
            self.note(finding)


def judge(producers: Sequence[ProducerHistory], consumers: Sequence[ConsumerHistory]) -> Verdict:
    """Return the verdict over what all producers and consumers of one queue did, after it was emptied."""
    verdict = Verdict()
    # How often each item was delivered: a byte for each, because a soak has millions.
    counts = {p.ident: bytearray(max((put.first + put.size for put in p.puts), default=0)) for p in producers}
    in_order = not any(consumer.killed for consumer in consumers)
    for consumer in consumers:
        _tally(consumer, counts, in_order, verdict)
    _judge_doubles(counts, verdict)
    allowance = sum(consumer.asked for consumer in consumers if consumer.killed)
    _judge_missing(producers, counts, allowance, verdict)
    return verdict


def _tally(consumer: ConsumerHistory, counts: dict[int, bytearray], in_order: bool, verdict: Verdict) -> None:
    latest: dict[int, int] = {}
    for ident in consumer.delivered:
        verdict.delivered += 1
        if ident & TORN:
            verdict.torn += 1
            verdict.note(f"torn: {consumer.name} got an item whose checksum is wrong")
            continue
        producer, serial = parse_id(ident)
        count = counts.get(producer)
        if count is None or serial >= len(count):
            verdict.torn += 1
            verdict.note(f"torn: {consumer.name} got item {serial} of producer {producer}, which nobody put")
            continue
        count[serial] = min(count[serial] + 1, 255)
        if serial < latest.get(producer, -1) and in_order:
            verdict.out_of_order += 1
            verdict.note(
                f"out of order: {consumer.name} got item {serial} of producer {producer} after item {latest[producer]}"
            )
        latest[producer] = max(latest.get(producer, -1), serial)


def _judge_doubles(counts: dict[int, bytearray], verdict: Verdict) -> None:
    for producer, count in counts.items():
        if len(count) == count.count(0) + count.count(1):
            continue
        for serial, times in enumerate(count):
            if times > 1:
                verdict.doubled += 1
                verdict.note(f"doubled: item {serial} of producer {producer} was delivered {times} times")


def _judge_missing(
    producers: Sequence[ProducerHistory], counts: dict[int, bytearray], allowance: int, verdict: Verdict
) -> None:
    missing = 0
    parts: list[tuple[int, Put, int]] = []  # batches of which only a part came: producer, call, missing items
    for producer in producers:
        count = counts[producer.ident]
        for put in producer.puts:
            absent = count.count(0, put.first, put.first + put.size)
            if put.acknowledged:
                verdict.acknowledged += put.size
                missing += absent
            if 0 < absent < put.size:
                parts.append((producer.ident, put, absent))
    verdict.unaccounted = min(missing, allowance)
    verdict.lost = missing - verdict.unaccounted
    left = allowance - verdict.unaccounted
    for ident, put, absent in parts:
        if put.acknowledged and not verdict.lost:
            continue  # its missing items are among the unaccounted ones
        if not put.acknowledged and absent <= left:
            left -= absent
            verdict.unaccounted += absent
            continue
        verdict.cut += 1
        verdict.note(
            f"cut: of the batch {put.first} to {put.first + put.size - 1} of producer {ident}, whose put "
            f"{'returned' if put.acknowledged else 'did not return'}, {absent} of {put.size} items never came"
        )
    if verdict.lost:
        _note_lost(producers, counts, allowance, verdict)


def _note_lost(
    producers: Sequence[ProducerHistory], counts: dict[int, bytearray], allowance: int, verdict: Verdict
) -> None:
    for producer in producers:
        for put in producer.puts:
            for serial in range(put.first, put.first + put.size):
                if put.acknowledged and not counts[producer.ident][serial]:
                    verdict.note(
                        f"lost: item {serial} of producer {producer.ident} never came, though its put returned (killed "
                        f"consumers explain {allowance} missing items)"
                    )
