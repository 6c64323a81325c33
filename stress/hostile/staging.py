"""The states that a queue can be in, and raw access to a segment, to bring a queue into one."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from random import Random
from typing import Final

from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue._engine.definition_log import Definitions
from shared_multiprocess_queue._ring import layout

RECORD: Final = {
    name.lower(): getattr(layout, name)
    for name in ("OWNER", "GENERATION", "PUT_BEGIN", "PUT_END", "GET_BEGIN", "GET_END", "ABANDONED", "LOCK_BUSY")
}
LEASE: Final = {
    name.lower(): (getattr(layout, f"LEASE_{name}"), width)
    for name, width in (
        *(("HOLDER", 8), ("COUNT", 8), ("POSITION", 8), ("SINCE", 8), ("DUE", 8), ("DELAY", 8)),
        *(("LENGTH", 4), ("META", 4), ("LINK", 8)),
    )
}


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
        struct.pack_into("=Q", self._memory, at, value & layout.WORD_MASK)

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

    def large(self, position: int, slots: int, length: int) -> None:
        """Make adjacent slots those of one item, which states a length."""
        for j in range(slots):
            tag = layout.MORE if j else 1
            self.slot(position + j, layout.FULL, b"x" * self.geometry.item_size, tag | j << layout.TAG_BITS)
        at = layout.SLOTS_START + position % self.geometry.capacity * self.geometry.stride
        struct.pack_into("=I", self._memory, at + layout.SLOT_LENGTH, length)

    def lease(self, index: int, position: int, alive: bool = False, length: int = 1, **words: int) -> None:
        """Let a process that is dead, or this one, hold a lease slot with the item of a position.

        Args:
            index: of the lease slot.
            position: of the item.
            alive: whether the process lives.
            length: of the item.
            words: other values of the head.
        """
        at = self.geometry.lease_heads + index * layout.LEASE_HEAD_SIZE
        mine = self.word(layout.record_at(0) + layout.OWNER)
        holder = mine if alive else mine + (1 << layout.OWNER_PID_BITS)
        struct.pack_into("=II", self._memory, at + layout.LEASE_LENGTH, length, 1)
        for name, value in {"holder": holder, "count": 1, "position": position, **words}.items():
            self.write(at + LEASE[name][0], value)

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
            self.write(at + RECORD[name], value)
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
    stage.write(layout.GATE_AT, rng.choice([0, layout.WORD_MASK]))


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
        stage.lease(index, rng.choice([0, 1, 7]), alive=rng.random() < 0.5, holder=rng.choice([0, 1, layout.WORD_MASK]))
    at = layout.SLOTS_START + layout.SLOT_WORD
    stage.write(at, layout.given_word(rng.choice([0, 6]), rng.choice([0, stage.geometry.leases, 0xFFFF])))


def _large(stage: Stage, rng: Random) -> None:
    """Hold an item of several slots, which a dead get has claimed perhaps, and freed or leased in part."""
    geometry, base = stage.geometry, rng.choice([0, 6, 1 << 40])
    slots = -(-geometry.max_item_size // geometry.item_size)
    length = rng.choice([geometry.max_item_size, geometry.item_size + 1])
    stage.place(base, 0)
    stage.large(base, slots, length)
    stage.write(layout.TAIL, base + slots)
    if rng.random() < 0.3:
        return
    stage.write(layout.HEAD, base + slots)
    stage.participant(get_begin=base, get_end=base + slots)
    for position in range(base + rng.randint(1, slots), base + slots):
        stage.slot(position + geometry.capacity, layout.FREE)
    if geometry.leases and rng.random() < 0.5:
        at = layout.SLOTS_START + base % geometry.capacity * geometry.stride
        stage.write(at + layout.SLOT_WORD, layout.given_word(base, 0))
        stage.lease(0, base, length=length, count=rng.choice([0, 1]))
        stage.write(layout.LOOK_AT, 0)


def _half_written(stage: Stage, rng: Random) -> None:
    """Hold an item of several slots whose put died before it published the first."""
    geometry, base = stage.geometry, rng.choice([0, 6, 1 << 40])
    slots = -(-geometry.max_item_size // geometry.item_size)
    stage.place(base, 0)
    stage.large(base, slots, geometry.max_item_size)
    for position in range(base, base + rng.randint(1, slots)):
        stage.slot(position, layout.FREE)
    stage.write(layout.TAIL, base + slots)
    stage.participant(put_begin=base, put_end=base + slots)


def _letters(stage: Stage, rng: Random) -> None:
    """Hold dead letters, offers, items that were put back, and moves of dead processes or of this one in each state."""
    _leased(stage, rng)
    for index in range(stage.geometry.dead):
        lease, position = rng.randrange(stage.geometry.leases), rng.choice([0, index, 1 << 40])
        length = rng.choice([1, 1, stage.geometry.item_size + 1])
        stage.dead(index, rng.randrange(7), lease, position, rng.choice([0, 1, 3, layout.WORD_MASK]), length)


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

LARGE_STATES: Final[dict[str, Callable[[Stage, Random], None]]] = {
    "a large item": _large,
    "a dead put of a large item": _half_written,
}
"""States that only queues can have of which an item may take several slots."""
