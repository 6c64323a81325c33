"""A segment and its damage: the states that a queue can be in, and the damage that another program does to them.

Everything follows from a seed. Damage names the field that it changes and is relative to the value there, so a case can
be run again with parts of it left out.
"""

from __future__ import annotations

import pickle
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue._engine.definition_log import Definitions
from shared_multiprocess_queue._ring import layout

from ..harness.engines import Engine, Mode

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
        for number in (0, 1, 15, 16, 31)  # what is rung: the bits of both sides
    }
)
_RECORD: Final = {
    name.lower(): getattr(layout, name)
    for name in ("OWNER", "GENERATION", "PUT_BEGIN", "PUT_END", "GET_BEGIN", "GET_END", "ABANDONED", "LOCK_BUSY")
}
_LEASE: Final = {
    name.lower(): (getattr(layout, f"LEASE_{name}"), width)
    for name, width in (
        *(("HOLDER", 8), ("COUNT", 8), ("POSITION", 8), ("SINCE", 8), ("DUE", 8), ("DELAY", 8)),
        *(("LENGTH", 4), ("META", 4), ("LINK", 8)),
    )
}
_DEAD: Final = {
    name.lower(): (getattr(layout, f"DEAD_{name}"), width)
    for name, width in (("WORD", 8), ("COUNT", 8), ("POSITION", 8), ("LENGTH", 4), ("META", 4))
}
_MODES: Final[tuple[Mode, ...]] = ("mpmc", "mpmc", "spsc")
_WORD_MASK: Final = (1 << 64) - 1
_EDGES: Final = tuple(
    (edge + near) & _WORD_MASK
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
        leases: lease slots.
        max_deliveries: after which an item becomes a dead letter; 0: it never does.
        state: name of the state, a key of STATES, or of LEASED_STATES if there are leases.
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
        return layout.Geometry.of(self.capacity, self.item_size, self.mode, self.leases, self.max_deliveries)


def make_case(rng: Random, engines: tuple[Engine, ...], calls: tuple[str, ...]) -> Case:
    """Return a case that is chosen at random."""
    mode: Mode = rng.choice(_MODES)
    capacity = rng.choice([1, 2, 3, 4, 7])
    item_size = rng.choice([1, 8, 47, 48, 200])
    leases = rng.choice([0, 1, 2, 3])
    max_deliveries = rng.choice([0, 1, 2]) if leases else 0
    # With leases, half of the cases are in a state that other queues have not.
    state = rng.choice(list(LEASED_STATES if leases and rng.random() < 0.5 else STATES))
    geometry = layout.Geometry.of(capacity, item_size, mode, leases, max_deliveries)
    hits = tuple(_make_hit(rng, geometry) for _ in range(rng.choice([0, 1, 1, 2, 3, 5, 12])))
    size = rng.choice([0] * 12 + [1, 8, 4096, -1, -8, -4096, -layout.DEFINITIONS_SIZE, -geometry.size + 100])
    return Case(
        engines=(rng.choice(engines), rng.choice(engines)),
        mode=mode,
        capacity=capacity,
        item_size=item_size,
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
    near = (0, 1, 2, 3, 4, cap - 1, cap, cap + 1, geometry.item_size, geometry.item_size + 1)
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
        name, at = rng.choice(list(_RECORD.items()))
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
        name, (offset, width) = rng.choice(list(_LEASE.items()))
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


# ---- states -----------------------------------------------------------------------------------------------------


class Stage:
    """Raw access to a queue that is being brought into a state.

    Args:
        queue: as it was made; it has taken the first record of the table.
    """

    def __init__(self, queue: SharedMemoryQueue) -> None:
        self.queue = queue
        self.geometry = queue._geometry
        self._memory = queue._membership.segment.buffer

    def word(self, at: int) -> int:
        return int(struct.unpack_from("=Q", self._memory, at)[0])

    def write(self, at: int, value: int) -> None:
        struct.pack_into("=Q", self._memory, at, value & _WORD_MASK)

    def slot(self, position: int, state: int, payload: bytes = b"x", meta: int = 1) -> None:
        """Make a slot what it is at a position."""
        at = layout.SLOTS_START + position % self.geometry.capacity * self.geometry.stride
        self.write(at, position << layout.STATE_BITS | state)
        struct.pack_into("=II", self._memory, at + layout.SLOT_LENGTH, len(payload), meta)
        self._memory[at + layout.SLOT_PAYLOAD : at + layout.SLOT_PAYLOAD + len(payload)] = payload

    def place(self, base: int, items: int) -> None:
        """Make it a queue that holds a number of items and has been used up to a position."""
        capacity = self.geometry.capacity
        for position in range(base, base + capacity):
            self.slot(position, layout.FULL if position < base + items else layout.FREE)
        self.write(layout.HEAD, base)
        self.write(layout.TAIL, base + items)

    def lease(self, index: int, position: int, alive: bool = False, **words: int) -> None:
        """Let a process that is dead, or this one, hold a lease slot with the item of a position.

        Args:
            index: of the lease slot.
            position: of the item.
            alive: whether the process lives.
            words: other values of the head.
        """
        at = self.geometry.lease_heads + index * layout.LEASE_HEAD_SIZE
        mine = self.word(layout.record_at(0) + layout.OWNER)
        holder = mine if alive else mine + (1 << layout.OWNER_PID_BITS)
        struct.pack_into("=II", self._memory, at + layout.LEASE_LENGTH, 1, 1)
        for name, value in {"holder": holder, "count": 1, "position": position, **words}.items():
            self.write(at + _LEASE[name][0], value)

    def dead(self, index: int, state: int, lease: int, position: int, count: int = 1, length: int = 1) -> None:
        """Make a dead slot what it is in a state, with the item of a position; ``lease`` knows of it."""
        at = self.geometry.dead_heads + index * layout.DEAD_HEAD_SIZE
        self.write(at + layout.DEAD_WORD, layout.next_dead_word(self.word(at + layout.DEAD_WORD), state, lease))
        self.write(at + layout.DEAD_COUNT, count)
        self.write(at + layout.DEAD_POSITION, position)
        struct.pack_into("=II", self._memory, at + layout.DEAD_LENGTH, length, 1)
        self.write(self.geometry.lease_heads + lease * layout.LEASE_HEAD_SIZE + layout.LEASE_LINK, index + 1)

    def participant(self, index: int = 1, alive: bool = False, **announced: int) -> int:
        """Write a record of a process that is dead, or of this one; return its name."""
        at = layout.record_at(index)
        mine = self.word(layout.record_at(0) + layout.OWNER)
        self.write(at + layout.OWNER, mine if alive else mine + (1 << layout.OWNER_PID_BITS))
        self.write(at + layout.GENERATION, 1)
        for name, value in announced.items():
            self.write(at + _RECORD[name], value)
        self.write(layout.RECORDS_USED_AT, max(self.word(layout.RECORDS_USED_AT), index + 1))
        return layout.name_of(index, 1)


def _empty(stage: Stage, rng: Random) -> None:
    pass


def _filled(stage: Stage, rng: Random) -> None:
    stage.place(rng.choice([0, 1, 5, 1 << 32]), rng.randint(0, stage.geometry.capacity))


def _near_the_end(stage: Stage, rng: Random) -> None:
    """Hold positions that no queue reaches: the last ones that fit beside a mark, and those behind them."""
    base = layout.CLOSED - rng.randint(1, 2 * stage.geometry.capacity + 2)
    items = rng.randint(0, stage.geometry.capacity)
    stage.place(base, items)


def _dead_put(stage: Stage, rng: Random) -> None:
    """Hold a batch whose producer died before it published the first item."""
    base, capacity = rng.choice([0, 6, 1 << 40]), stage.geometry.capacity
    stage.place(base, 0)
    for j in range(1, capacity):
        stage.slot(base + j, layout.FULL, meta=1 | j << layout.TAG_BITS)
    stage.write(layout.TAIL, base + capacity)
    stage.participant(put_begin=base, put_end=base + capacity)


def _dead_get(stage: Stage, rng: Random) -> None:
    """Hold items that a getter has claimed and not freed."""
    base, capacity = rng.choice([0, 6, 1 << 40]), stage.geometry.capacity
    stage.place(base, capacity)
    stage.write(layout.HEAD, base + capacity)
    stage.participant(get_begin=base, get_end=base + rng.randint(1, capacity))


def _live_claims(stage: Stage, rng: Random) -> None:
    """Hold a put and a get of a live process that never end."""
    base, capacity = 6, stage.geometry.capacity
    stage.place(base, capacity)
    stage.write(layout.HEAD, base + rng.randint(0, capacity))
    stage.participant(alive=True, get_begin=base, get_end=base + capacity, put_begin=base, put_end=base + 9)


def _locked(stage: Stage, rng: Random) -> None:
    """Let a participant, dead or alive, hold the batch lock, the log of definitions and the gate."""
    name = stage.participant(alive=rng.random() < 0.5, lock_busy=rng.randrange(2))
    stage.write(layout.BATCH_OWNER_AT, rng.choice([0, name]))
    stage.write(layout.DEFINITIONS_OWNER_AT, rng.choice([0, name]))
    stage.write(layout.GATE_AT, rng.choice([0, _WORD_MASK]))


def _roles(stage: Stage, rng: Random) -> None:
    name = stage.participant(alive=rng.random() < 0.3)
    stage.write(layout.PRODUCER_AT, rng.choice([0, name]))
    stage.write(layout.CONSUMER_AT, rng.choice([0, name]))


def _many_participants(stage: Stage, rng: Random) -> None:
    """Leave no record, or nearly none."""
    for index in range(1, rng.choice([layout.RECORDS, layout.RECORDS - 2])):
        stage.participant(index, alive=True)


def _defined(stage: Stage, rng: Random) -> None:
    """Hold definitions of things of ``__main__``."""
    definitions = Definitions(stage.queue._membership.segment, stage.geometry.definitions, stage.queue._membership)
    for number in range(rng.randint(1, 3)):
        definitions.add(bytes([number]) * 16, pickle.dumps("a definition"))


def _shut_down(stage: Stage, rng: Random) -> None:
    """Be closed, with items left, and perhaps stopped."""
    stage.place(5, rng.randint(0, stage.geometry.capacity))
    stage.write(layout.TAIL, stage.word(layout.TAIL) | layout.CLOSED)
    if rng.random() < 0.5:
        at = layout.stop_word(stage.geometry.mode)
        stage.write(at, stage.word(at) | layout.STOPPED)


def _leased(stage: Stage, rng: Random) -> None:
    """Hold leases of dead processes and of this one, and items that came back, in every order of their times."""
    capacity, base = stage.geometry.capacity, rng.choice([0, 6, 1 << 40])
    stage.place(base + capacity, rng.randint(0, capacity))
    for index in range(stage.geometry.leases):
        words = {"count": rng.choice([0, 1, 3]), "delay": rng.choice([0, 1 << 62])}
        if rng.random() < 0.3:
            words |= {"holder": 0, "due": rng.choice([0, base + capacity, 1 << 62])}
        stage.lease(index, base + index, alive=rng.random() < 0.5, **words)
    stage.write(layout.RETURNED_AT, rng.randrange(4))
    stage.write(layout.LOOK_AT, 0)


def _given(stage: Stage, rng: Random) -> None:
    """Hold slots whose items have gone to lease slots, of dead processes or of this one, before these counted them."""
    capacity, base = stage.geometry.capacity, rng.choice([0, 6, 1 << 40])
    stage.place(base, capacity)
    gone = rng.randint(1, min(capacity, stage.geometry.leases))
    stage.write(layout.HEAD, base + gone)
    for index in range(gone):
        at = layout.SLOTS_START + (base + index) % capacity * stage.geometry.stride
        stage.write(at + layout.SLOT_WORD, layout.given_word(base + index, index))
        stage.lease(index, base + index, alive=rng.random() < 0.3, count=rng.choice([0, 0, 1]))
    if rng.random() < 0.5:
        stage.participant(get_begin=base, get_end=base + gone)
    stage.write(layout.LOOK_AT, 0)


def _given_in_vain(stage: Stage, rng: Random) -> None:
    """Hold slots that name lease slots which are empty, another process's, or none."""
    _given(stage, rng)
    for index in range(stage.geometry.leases):
        stage.lease(index, rng.choice([0, 1, 7]), alive=rng.random() < 0.5, holder=rng.choice([0, 1, _WORD_MASK]))
    at = layout.SLOTS_START + layout.SLOT_WORD
    stage.write(at, layout.given_word(rng.choice([0, 6]), rng.choice([0, stage.geometry.leases, 0xFFFF])))


def _letters(stage: Stage, rng: Random) -> None:
    """Hold dead letters, offers, items that were put back, and moves of dead processes or of this one in each state."""
    _leased(stage, rng)
    for index in range(stage.geometry.dead):
        lease, position = rng.randrange(stage.geometry.leases), rng.choice([0, index, 1 << 40])
        length = rng.choice([1, 1, stage.geometry.item_size + 1])
        stage.dead(index, rng.randrange(7), lease, position, rng.choice([0, 1, 3, _WORD_MASK]), length)


def _moving(stage: Stage, rng: Random) -> None:
    """Hold a move of each lease slot, in any state, of a dead process or of this one."""
    stage.place(4, rng.randint(0, stage.geometry.capacity))
    for index in range(stage.geometry.dead):
        state = rng.choice([layout.DEAD_BURYING, layout.DEAD_BURIED, layout.DEAD_GIVEN])
        stage.lease(index, index, alive=rng.random() < 0.3, count=rng.choice([0, 1, 3]))
        stage.dead(index, state, index, index)
    stage.write(layout.LOOK_AT, 0)


STATES: Final[dict[str, Callable[[Stage, Random], None]]] = {
    "empty": _empty,
    "filled": _filled,
    "near the end of positions": _near_the_end,
    "a dead put": _dead_put,
    "a dead get": _dead_get,
    "live claims": _live_claims,
    "locked": _locked,
    "roles taken": _roles,
    "many participants": _many_participants,
    "definitions": _defined,
    "shut down": _shut_down,
}

LEASED_STATES: Final[dict[str, Callable[[Stage, Random], None]]] = {
    "leased": _leased,
    "given to leases": _given,
    "given to no lease": _given_in_vain,
    "dead letters": _letters,
    "moves of dead letters": _moving,
}
"""States that only queues with leases can have."""
