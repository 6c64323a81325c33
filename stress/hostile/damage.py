"""Cases: a queue in some state, and the damage that another program does to its segment.

Everything follows from a seed. Damage names the field that it changes and is relative to the value there, so a case can
be run again with parts of it left out.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from random import Random
from typing import Final

from shared_multiprocess_queue._ring import layout

from ..harness.engines import Engine, Mode
from .staging import LARGE_STATES, LEASE, LEASED_STATES, RECORD, STATES

_HEADER: Final = (
    {
        name.removesuffix("_AT").lower(): getattr(layout, name)
        for name in (
            *("HEAD", "TAIL", "MAGIC_AT", "VERSION_AT", "CAPACITY_AT", "ITEM_SIZE_AT", "MODE_AT", "RECORDS_AT"),
            *("DEFINITIONS_SIZE_AT", "SEGMENT_SIZE_AT", "UNLINKED_AT", "RECORDS_USED_AT", "TOMBS_AT", "ADOPTED_AT"),
            *("FULL_EVENTS_AT", "EMPTY_EVENTS_AT", "PUT_WAITS_AT", "GET_WAITS_AT", "BATCH_OWNER_AT", "GATE_AT"),
            *("DEFINITIONS_OWNER_AT", "PRODUCER_AT", "CONSUMER_AT", "NAMESPACES_AT", "STOPPED_AT", "LEASES_AT"),
            *(
                "MAX_DELIVERIES_AT",
                "MAX_ITEM_SIZE_AT",
                "FORMAT_AT",
                "REDELIVERED_AT",
                "LEASE_WAITS_AT",
                "DEAD_LETTERS_AT",
                "DEAD_LETTERS_REFUSED_AT",
                "RETURNED_AT",
                "LOOK_AT",
            ),
        )
    }
    | {
        f"{side}_{word}": getattr(layout, side.upper()) + at
        for side in ("items", "space", "idle")
        for word, at in (("epoch", layout.WAKE_EPOCH), ("hint", layout.WAKE_HINT))
    }
    | {
        f"bells {number}": layout.BELLS_AT + number * layout.WORD
        for number in (0, 1, 15, 16, 31, 32, 47)  # what is rung: the bits of both sides, and of the batch lock
    }
)
_DEAD: Final = {
    name.lower(): (getattr(layout, f"DEAD_{name}"), width)
    for name, width in (("WORD", 8), ("COUNT", 8), ("POSITION", 8), ("LENGTH", 4), ("META", 4))
}
_MODES: Final[tuple[Mode, ...]] = ("mpmc", "mpmc", "spsc")
_EDGES: Final = tuple(
    (edge + near) & layout.WORD_MASK
    for edge in (0, 1 << 31, 1 << 32, 1 << 48, 1 << 61, 1 << 62, 1 << 63)
    for near in (-2, -1, 0, 1, 2)
)


@dataclass(frozen=True)
class Hit:
    """One piece of damage to one word (or byte).

    Attributes:
        field: where, for people.
        at: offset.
        width: bytes, 1, 4 or 8.
        kind: "set" to a value, "add" a value, "flip" the bit of that number, or "copy" the word at that offset.
        value: for it.
    """

    field: str
    at: int
    width: int
    kind: str
    value: int

    def __str__(self) -> str:
        value = f"{self.value:#x}" if self.kind in {"set", "copy"} else str(self.value)
        return f"{self.kind} {self.field} {value}"

    def strike(self, memory: memoryview) -> None:
        """Apply the damage; bytes behind the end of the memory are left out."""
        if self.at + self.width > len(memory):
            return
        here = memory[self.at : self.at + self.width]
        before = int.from_bytes(here, sys.byteorder)
        match self.kind:
            case "set":
                value = self.value
            case "add":
                value = before + self.value
            case "flip":
                value = before ^ 1 << self.value
            case _:
                value = int.from_bytes(memory[self.value : self.value + self.width], sys.byteorder)
        here[:] = (value & (1 << 8 * self.width) - 1).to_bytes(self.width, sys.byteorder)


@dataclass(frozen=True)
class Case:
    """A queue that is built, damaged, and then used.

    Attributes:
        engines: of the handle that makes the queue, and of the one that attaches after the damage.
        mode: "mpmc" or "spsc".
        capacity: slots.
        item_size: bytes.
        max_item_size: bytes; if they are more, items may take several slots.
        leases: lease slots.
        max_deliveries: after which an item becomes a dead letter; 0: it never does.
        state: name of the state, a key of STATES, or of LEASED_STATES if there are leases, or of LARGE_STATES if items
            may take several slots.
        hits: the damage.
        lock: what the int32 of the lock becomes; None leaves it.
        size: the number of bytes by which the segment grows or, while it is not mapped, shrinks.
        program: the calls; names of what the module ``hostile`` knows, each with the number of the handle.
        storm: whether another process goes on doing the damage while the calls run.
    """

    engines: tuple[Engine, Engine]
    mode: Mode
    capacity: int
    item_size: int
    max_item_size: int
    leases: int
    max_deliveries: int
    state: str
    hits: tuple[Hit, ...]
    lock: int | None
    size: int
    program: tuple[tuple[str, int], ...]
    storm: bool

    @property
    def geometry(self) -> layout.Geometry:
        return layout.Geometry.of(
            self.capacity, self.item_size, self.mode, self.leases, self.max_deliveries, self.max_item_size
        )


def make_case(rng: Random, engines: tuple[Engine, ...], calls: tuple[str, ...]) -> Case:
    """Return a case that is chosen at random."""
    mode: Mode = rng.choice(_MODES)
    capacity = rng.choice([1, 2, 3, 4, 7])
    item_size = rng.choice([1, 8, 47, 48, 200])
    leases = rng.choice([0, 1, 2, 3])
    max_deliveries = rng.choice([0, 1, 2]) if leases else 0
    max_item_size = rng.randint(item_size, capacity * item_size) if rng.random() < 0.5 else item_size
    # With leases, and with large items, half of the cases are in a state that other queues have not.
    own = (LEASED_STATES if leases else {}) | (LARGE_STATES if max_item_size > item_size else {})
    state = rng.choice(list(own if own and rng.random() < 0.5 else STATES))
    geometry = layout.Geometry.of(capacity, item_size, mode, leases, max_deliveries, max_item_size)
    hits = tuple(_make_hit(rng, geometry) for _ in range(rng.choice([0, 1, 1, 2, 3, 5, 12])))
    size = rng.choice([0] * 12 + [1, 8, 4096, -1, -8, -4096, -layout.DEFINITIONS_SIZE, -geometry.size + 100])
    return Case(
        engines=(rng.choice(engines), rng.choice(engines)),
        mode=mode,
        capacity=capacity,
        item_size=item_size,
        max_item_size=max_item_size,
        leases=leases,
        max_deliveries=max_deliveries,
        state=state,
        hits=hits,
        lock=rng.choice([None] * 6 + [1, -1, 2]),
        size=size,
        # The first half of the calls, which are what a queue is for, twice as often.
        program=tuple(
            (rng.choice(calls + calls[: len(calls) // 2]), rng.randrange(2)) for _ in range(rng.randint(3, 12))
        ),
        storm=bool(hits) and rng.random() < 0.1,
    )


def _make_hit(rng: Random, geometry: layout.Geometry) -> Hit:
    field, at, width = _choose_field(rng, geometry)
    bits = 8 * width
    cap = geometry.capacity
    sizes = geometry.item_size, geometry.item_size + 1, geometry.max_item_size, geometry.max_item_size + 1
    near = (0, 1, 2, 3, 4, cap - 1, cap, cap + 1, *sizes, layout.MORE)
    given = rng.choice([_some_given(rng, geometry), _some_dead(rng, geometry)])
    kind = rng.choice(["set", "set", "add", "flip", "flip", "copy" if width == 8 else "set"])
    value = {
        "set": lambda: (
            rng.choice([rng.choice(near), rng.choice(_EDGES), rng.getrandbits(bits), given]) & (1 << bits) - 1
        ),
        "add": lambda: rng.choice([-1, 1]) * rng.choice([*near, 4 * cap, 1 << rng.randrange(bits)]),
        "flip": lambda: rng.randrange(bits),
        "copy": lambda: _choose_field(rng, geometry)[1] // 8 * 8,
    }[kind]()
    return Hit(field, at, width, kind, value)


def _some_given(rng: Random, geometry: layout.Geometry) -> int:
    return layout.given_word(rng.randrange(geometry.capacity + 2), rng.choice([0, 1, geometry.leases, 0xFFFF]))


def _some_dead(rng: Random, geometry: layout.Geometry) -> int:
    """Return a word of a dead slot, of any version, state and lease slot."""
    version = rng.choice([0, 1, 2, rng.getrandbits(45)]) << layout.DEAD_VERSION_SHIFT
    return layout.next_dead_word(version, rng.randrange(8), rng.choice([0, 1, geometry.leases, 0xFFFF]))


def _choose_field(rng: Random, geometry: layout.Geometry) -> tuple[str, int, int]:
    """Return name, offset and width of a field."""
    parts = ["header", "header", "record", "record", "slot", "slot", "slot", "definitions", "anywhere"]
    part = rng.choice(parts + ["lease"] * 5 * bool(geometry.leases) + ["dead"] * 5 * bool(geometry.dead))
    if part == "header":
        name, at = rng.choice(list(_HEADER.items()))
        return name, at, 8
    if part == "record":
        index = rng.choice([0, 0, 1, 1, 2, 3, layout.RECORDS - 1])
        name, at = rng.choice(list(RECORD.items()))
        return f"record[{index}].{name}", layout.record_at(index) + at, 8
    if part == "slot":
        index = rng.randrange(geometry.capacity)
        at = layout.SLOTS_START + index * geometry.stride
        name, offset, width = rng.choice(
            [
                ("word", layout.SLOT_WORD, 8),
                ("word", layout.SLOT_WORD, 8),
                ("length", layout.SLOT_LENGTH, 4),
                ("meta", layout.SLOT_META, 4),
                ("payload", layout.SLOT_PAYLOAD + rng.randrange(geometry.item_size), 1),
            ]
        )
        return f"slot[{index}].{name}", at + offset, width
    if part == "lease":
        index = rng.randrange(geometry.leases)
        name, (offset, width) = rng.choice(list(LEASE.items()))
        return f"lease[{index}].{name}", geometry.lease_heads + index * layout.LEASE_HEAD_SIZE + offset, width
    if part == "dead":
        index = rng.randrange(geometry.dead)
        if rng.random() < 0.1:
            at = geometry.dead_payloads + index * geometry.lease_stride + rng.randrange(geometry.item_size)
            return f"dead[{index}].payload", at, 1
        name, (offset, width) = rng.choice(list(_DEAD.items()))
        return f"dead[{index}].{name}", geometry.dead_heads + index * layout.DEAD_HEAD_SIZE + offset, width
    if part == "definitions":
        offset, width = rng.choice([(0, 8), (layout.DEFINITIONS_FIRST + 16, 8), (layout.DEFINITIONS_FIRST + 30, 1)])
        return f"definitions+{offset}", geometry.definitions + offset, width
    at = rng.randrange(geometry.definitions + 256)
    return f"byte {at}", at, 1
