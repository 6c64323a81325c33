"""What a queue looks like from outside: sizes, positions, participants, blockers.

Looking never writes. A look takes no record and no lock, waits for nothing and wakes no waiter. So it works on a queue
that is stuck, whose table of participants is full, or whose segment can only be read. Its words come from a ``Reader``:
plain reads of a mapping, or ``pread`` of a file.

A look is no moment: its words are read one after the other, while others go on. What must fit together is read in the
order that the protocol asks for, or read twice. No word is believed: each loop is bounded by the capacity and the
number of records, whatever the segment says.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Final

from .._platform.atomic_words import Reader
from .._platform.processes import Identity
from .._platform.system import SYSTEM, System
from . import ending, stated_format
from .batch_lock import is_shut
from .growth import is_fresh
from .layout import (
    ABANDONED,
    ADOPTED_AT,
    BATCH_OWNER_AT,
    BELLS_REFUSED_AT,
    CONSUMER_AT,
    CREATED_AT,
    CREATOR_AT,
    DEAD_LETTERS_REFUSED_AT,
    DELETE_AT,
    EMPTY_EVENTS_AT,
    FREE,
    FULL,
    FULL_EVENTS_AT,
    GATE_AT,
    GENERATION,
    GET_BEGIN,
    GET_END,
    GET_WAITS_AT,
    HEAD,
    LEASE_WAITS_AT,
    LOCK_BUSY,
    MAX_BATCH,
    MAX_CAPACITY,
    MORE,
    NAMESPACES,
    NAMESPACES_AT,
    OWNER,
    PRODUCER_AT,
    PUT_BEGIN,
    PUT_END,
    PUT_WAITS_AT,
    RECORDS,
    RECORDS_USED_AT,
    REDELIVERED_AT,
    SLOT_LENGTH,
    SLOTS_START,
    STATE_BITS,
    STATE_MASK,
    TAG_BITS,
    TAG_MASK,
    TAIL,
    TOMB,
    TOMBS_AT,
    UNLINKED_AT,
    VERSION_AT,
    WORD,
    Geometry,
    name_of,
    parse_owner,
    record_at,
    unmarked,
)
from .seen import Blocker, Leased, Liveness, Participant

ATTEMPTS: Final = 16  # times that a look begins again because the queue has moved
_META_SHIFT: Final = 32 if sys.byteorder == "little" else 0  # of meta, in the word that it shares with the length

# What the slot of a position holds for a getter.
_ITEM: Final = 0  # an item, or a put under way
_DEAD: Final = 1  # a put that died and is not marked TOMB yet
_NOTHING: Final = 2


class Look:
    """One look at a queue. A process is asked for once a look whether it lives, and not before that matters.

    Args:
        words: of the segment. What it raises, because the segment was cut for example, passes through.
        geometry: as ``check`` has returned it.
        system: tells which processes live.
        most: slots that it goes through for the first item, beyond which there counts as one, and for those of gets.
    """

    __slots__ = ("_capacity", "_most", "_stride", "_system", "_verdicts", "geometry", "load")

    def __init__(self, words: Reader, geometry: Geometry, system: System = SYSTEM, *, most: int = MAX_CAPACITY) -> None:
        self._system = system
        self._most = most
        self.load = words.load
        self.geometry = geometry
        self._capacity = geometry.capacity
        self._stride = geometry.stride
        self._verdicts: dict[int, Liveness] = {}

    def _slot(self, position: int) -> int:
        return SLOTS_START + position % self._capacity * self._stride

    # ---- sizes ------------------------------------------------------------------------------------------------------

    def items(self) -> int:
        """Return how many items puts have claimed and gets have not; 0 if all died. Dead puts count slots."""
        head = unmarked(self.load(HEAD))  # before tail, or a queue that moves might have a head beyond it
        tail = unmarked(self.load(TAIL))
        size = self.slots_used(head, tail)
        if size > 1 and self.geometry.max_item_size > self.geometry.item_size:
            beyond = size - min(size, self._most)
            size = beyond + sum([self._is_item(position) for position in range(tail - size, tail - beyond)])
        return size

    def slots_used(self, head: int, tail: int) -> int:
        """Return how many slots puts have claimed and gets have not; 0 if all died."""
        if head >= tail or Look.is_empty(self):  # of the ring alone
            return 0
        return min(tail - head, self._capacity)  # what is more than a lap below tail is finished

    def _is_item(self, position: int) -> bool:
        word, meta = self.load(self._slot(position)), self.load(self._slot(position) + SLOT_LENGTH) >> _META_SHIFT
        is_more = word & STATE_MASK == FULL and meta & TAG_MASK == MORE
        return word in (position << STATE_BITS | FREE, position << STATE_BITS | FULL) and not is_more

    def is_empty(self) -> bool:
        """Whether a get would find nothing, though it looked for the dead."""
        if ending.is_stopped(self, self.geometry.mode):
            return True
        for _ in range(ATTEMPTS):
            head, tail = unmarked(self.load(HEAD)), unmarked(self.load(TAIL))
            if self.load(self._slot(head)) == head << STATE_BITS | FULL and not self._is_in_batch(head):
                return False
            if not self._passes(head, tail)[0]:
                return False
            if unmarked(self.load(TAIL)) == tail:  # all that was put before this load was found finished
                return True
        return False  # puts keep coming

    def is_full(self) -> bool:
        """Whether a put would find no room, though it looked for the dead."""
        for _ in range(ATTEMPTS):
            tail = unmarked(self.load(TAIL))
            before, word = tail - self._capacity, self.load(self._slot(tail))
            if word in (tail << STATE_BITS | FREE, before << STATE_BITS | TOMB) or is_fresh(self, tail, word):
                return False
            if word == before << STATE_BITS | FREE and not _covers(self._announced(PUT_BEGIN)[0], before):
                if self.load(self._slot(tail)) == word:  # [S4] otherwise it has published
                    return False
                continue
            # FULL(before), even of a dead get: there is no room until a getter has adopted it.
            if unmarked(self.load(TAIL)) == tail:
                return True
        return True

    def dead_puts(self, head: int, tail: int) -> int:
        """Return how many positions dead puts hold before the first item, not marked TOMB yet."""
        return self._passes(head, tail)[1] if tail > head else 0

    def _passes(self, head: int, tail: int) -> tuple[bool, int]:
        """Return whether no position holds anything for a getter, and how many dead puts stand before what does.

        One scan of the records serves all slots: head and tail were read before it [S1], and each slot is read after it
        [S4]. So a claimed position that is still unpublished (not freed) then, and that no live record announces, is an
        orphan.
        """
        puts = self._announced(PUT_BEGIN)[0] if tail > head else []
        gets, orphaned = self._announced(GET_BEGIN)
        if orphaned and any(not _covers(gets, position) for position in self._held(orphaned, head, tail)):
            return False, 0
        dead = 0
        # That of head in any case: a dead get of the lap before may still hold it, without a record that names it.
        end = max(min(tail, head + self._capacity), head + 1)
        for position in range(head, min(end, head + self._most)):
            found = self._holds(position, head, tail, puts, gets)
            if found == _ITEM:
                return False, dead
            dead += found == _DEAD
        return end <= head + self._most, dead

    def _holds(self, position: int, head: int, tail: int, puts: list[range], gets: list[range]) -> int:
        """Say what the slot of a position holds for a getter.

        Args:
            position: any.
            head: as it was before the scan.
            tail: likewise.
            puts: the positions that live puts announce.
            gets: the positions that live gets announce.
        """
        word = self.load(self._slot(position))
        claimed, state = word >> STATE_BITS, word & STATE_MASK
        if state == FULL:
            if claimed < head:  # its getter's, or for the next getter to adopt
                return _NOTHING if _covers(gets, claimed) else _ITEM
            return _DEAD if self._is_in_batch(claimed) else _ITEM
        if state != FREE or not head <= claimed < tail:
            return _NOTHING
        return _ITEM if _covers(puts, claimed) else _DEAD

    def _is_in_batch(self, position: int) -> bool:
        """Whether the item of a position belongs to a batch whose first slot is not published: that one decides."""
        index = self.load(self._slot(position) + SLOT_LENGTH) >> _META_SHIFT + TAG_BITS & MAX_BATCH - 1
        first = position - index
        return 0 < index <= position and self.load(self._slot(first)) == first << STATE_BITS | FREE

    def _held(self, announced: list[range], head: int, tail: int) -> Iterator[int]:
        """Yield, in order, the positions among those announced that a get has claimed and not freed."""
        first, most = max(tail - self._capacity, 0), self._most
        for begin, end in sorted((positions.start, positions.stop) for positions in announced):
            looked_at = range(max(begin, first), min(end, head, tail))[:most]
            most -= len(looked_at)
            for position in looked_at:
                if self.load(self._slot(position)) == position << STATE_BITS | FULL:
                    yield position
            first = max(first, end)  # what several announce is looked at once

    # ---- participants -----------------------------------------------------------------------------------------------

    def liveness(self, owner: int) -> Liveness:
        """Return whether the process of an owner word lives."""
        found = self._verdicts.get(owner)
        if found is None:
            found = self._verdicts[owner] = self._ask(Identity(*parse_owner(owner)))
        return found

    def _ask(self, process: Identity) -> Liveness:
        me = self._system.identity()
        if (process.pid, process.start) == (me.pid, me.start):
            return "alive"
        here = me.namespace
        if not here or not 0 < process.namespace <= NAMESPACES:
            return "unknown"
        if self.load(NAMESPACES_AT + (process.namespace - 1) * WORD) != here:
            return "unknown"
        return "alive" if self._system.is_alive(process.pid, process.start) else "dead"

    def _used(self) -> range:
        """Return the indexes that may be in use; read after tail (head), they cover whatever moved it."""
        return range(min(self.load(RECORDS_USED_AT), RECORDS))

    def _announced(self, begin: int) -> tuple[list[range], list[range]]:
        """Return what live participants have announced, and what dead ones have.

        Args:
            begin: offset of the announcement in a record, PUT_BEGIN or GET_BEGIN.
        """
        live: list[range] = []
        dead: list[range] = []
        load = self.load
        for index in self._used():
            at = record_at(index)
            end = load(at + begin + WORD)  # [S2], and 0 in most
            if end and (first := load(at + begin)) < end:
                owner = load(at + OWNER)
                is_live = owner and not load(at + ABANDONED) and self.liveness(owner) != "dead"  # [S3]
                (live if is_live else dead).append(range(first, end))
        return live, dead

    def participants(self) -> tuple[Participant, ...]:
        """Return the records that are taken."""
        load = self.load
        holder, producer, consumer = load(BATCH_OWNER_AT), load(PRODUCER_AT), load(CONSUMER_AT)
        found = []
        for index in self._used():
            at = record_at(index)
            owner = load(at + OWNER)
            if not owner:
                continue
            name = name_of(index, load(at + GENERATION))
            found.append(
                Participant(
                    index,
                    Identity(*parse_owner(owner)),
                    self.liveness(owner),
                    bool(load(at + ABANDONED)),
                    range(load(at + PUT_BEGIN), load(at + PUT_END)),
                    range(load(at + GET_BEGIN), load(at + GET_END)),
                    ("producer",) * (name == producer) + ("consumer",) * (name == consumer),
                    "holds" if name == holder else "takes" if load(at + LOCK_BUSY) else "",
                )
            )
        return tuple(found)

    # ---- blockers ---------------------------------------------------------------------------------------------------

    def blockers(self, participants: Iterable[Participant], is_lock_held: bool) -> Iterator[Blocker]:
        """Yield the live processes that hold the slot that a get or a put comes to next, or the batch lock.

        A batch may need all slots, so the first that a get has claimed and not freed counts wherever it is. A process
        that has gone on since the records were read is not named.

        Args:
            participants: read before this.
            is_lock_held: whether the int32 of the batch lock is taken, or not known to be free.
        """
        head, tail = unmarked(self.load(HEAD)), unmarked(self.load(TAIL))
        live = [one for one in participants if one.counts_as_live()]
        if tail > head and self.load(self._slot(head)) == head << STATE_BITS | FREE:
            for one in live:
                if head in one.puts and self._announces(one, PUT_BEGIN, one.puts):
                    yield Blocker(one.process, head, "put")
        held = list(self._held([one.gets for one in live], head, tail))
        for one in live:
            first = next((position for position in held if position in one.gets), None)
            if first is not None and self._announces(one, GET_BEGIN, one.gets):
                yield Blocker(one.process, first, "get")
        if not is_shut(self.load(GATE_AT), self._system.now()):  # a batch that waits for room keeps the gate shut
            holder = self.load(BATCH_OWNER_AT)
            wanted = "holds" if holder else "takes" if is_lock_held else None
            for one in live:
                if one.batch_lock == wanted and self._has_lock(one, holder):
                    yield Blocker(one.process, tail, "put_batch")

    def _announces(self, one: Participant, begin: int, positions: range) -> bool:
        at = record_at(one.number) + begin
        return (self.load(at), self.load(at + WORD)) == (positions.start, positions.stop)

    def _has_lock(self, one: Participant, holder: int) -> bool:
        at = record_at(one.number)
        return name_of(one.number, self.load(at + GENERATION)) == holder if holder else bool(self.load(at + LOCK_BUSY))

    # ---- leases -----------------------------------------------------------------------------------------------------

    def leased(self) -> tuple[Leased, ...]:
        """Return the items that live processes have leased."""
        return ()

    def dead_letters(self) -> int:
        """Return how many dead letters there are."""
        return 0

    def dead_letters_total(self) -> int:
        """Return how many items became dead letters."""
        return 0

    # ---- damage -----------------------------------------------------------------------------------------------------

    def is_damaged(self, head: int, tail: int) -> bool:
        """Whether positions or words contradict each other, if head and tail have not moved meanwhile."""
        if head > tail or self.load(RECORDS_USED_AT) > RECORDS:
            return True
        words = ((position, self.load(self._slot(position))) for position in (head, tail))
        return any(self._is_wrong(position, word, tail) for position, word in words)

    def _is_wrong(self, position: int, word: int, tail: int) -> bool:
        """Whether the slot of a position never has this word.

        It is of that position, of one a lap before, or, if puts have died there, of a later lap that tail has come to;
        or the slot was never used, and waits for its number.
        """
        if is_fresh(self, position, word):
            return False
        stated = word >> STATE_BITS
        is_possible = position - self._capacity <= stated <= tail and (stated - position) % self._capacity == 0
        return word & STATE_MASK > TOMB or not is_possible


class Snapshot:
    """All that one look finds.

    Args:
        look: to take it with.
        is_lock_held: whether the int32 of the batch lock, which lies in another segment, is taken; True if that is not
            known.

    Attributes:
        version: of the layout.
        geometry: sizes and mode.
        serializer: the format of the items, as the header states it.
        created: real time of the creation, in ns.
        creator: the process that made the queue.
        is_unlinked: the names are gone.
        goes_with_users: the queue was made with ``delete=True``.
        is_shut_down: no put is accepted any more.
        head: position of the next get.
        tail: position of the next put.
        is_moving: head or tail changed during the look, so that its numbers are of different moments.
        is_damaged: the words say what no queue says.
        items: as ``qsize`` counts them.
        slots_used: slots between head and tail; 0 if all that puts have claimed there died.
        slots_taken: slots that gets have taken, since the creation.
        tombs: positions that will never hold an item.
        dead: positions that dead puts hold before the first item, not marked TOMB yet; ``tombs`` lacks them.
        adopted: items taken over from dead getters.
        full_events: times that Full was raised.
        empty_events: times that Empty was raised.
        put_waits: times that a put or a batch parked.
        get_waits: times that a get parked.
        bells_refused: rings without an answer.
        redelivered: times that an item was handed out again.
        lease_waits: times that a get found an item and no lease for it.
        leased: the items that are being processed.
        dead_letters: dead letters that are there.
        dead_letters_total: items that became dead letters.
        dead_letters_refused: times that an item did not, because all places for dead letters were taken.
        participants: the records that are taken.
        blockers: live processes that hold what others need.
    """

    def __init__(self, look: Look, is_lock_held: bool) -> None:
        load = look.load
        self.head, self.tail = head, tail = unmarked(load(HEAD)), unmarked(load(TAIL))
        self.tombs = load(TOMBS_AT)  # before the dead are counted, so that none is counted twice
        self.adopted = load(ADOPTED_AT)
        self.full_events, self.empty_events = load(FULL_EVENTS_AT), load(EMPTY_EVENTS_AT)
        self.put_waits, self.get_waits = load(PUT_WAITS_AT), load(GET_WAITS_AT)
        self.bells_refused = load(BELLS_REFUSED_AT)
        self.redelivered = load(REDELIVERED_AT)
        self.lease_waits = load(LEASE_WAITS_AT)
        self.leased = look.leased()
        self.dead_letters = look.dead_letters()
        self.dead_letters_total = look.dead_letters_total()
        self.dead_letters_refused = load(DEAD_LETTERS_REFUSED_AT)
        self.items = look.items()
        self.dead = look.dead_puts(head, tail)
        self.slots_used = look.slots_used(head, tail)
        self.slots_taken = max(tail - self.tombs - max(self.slots_used, self.dead), 0)
        self.participants = look.participants()
        self.blockers = tuple(look.blockers(self.participants, is_lock_held))
        self.geometry, self.serializer = look.geometry, stated_format.read(look)
        self.version, self.created, self.is_unlinked = load(VERSION_AT), load(CREATED_AT), bool(load(UNLINKED_AT))
        self.creator = Identity(*parse_owner(load(CREATOR_AT)))
        self.goes_with_users, self.is_shut_down = bool(load(DELETE_AT)), ending.is_closed(look)
        is_damaged = look.is_damaged(head, tail)
        self.is_moving = (head, tail) != (unmarked(load(HEAD)), unmarked(load(TAIL)))
        self.is_damaged = is_damaged and not self.is_moving


def _covers(announced: list[range], position: int) -> bool:
    """Whether a position is among those announced."""
    return any(position in positions for positions in announced)
