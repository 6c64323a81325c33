"""Where everything lies in the segment, and how its words are encoded. Integers only; imports nothing of ours.

    [head][tail][constants][marks][counts][items wake][space wake][returns][idle wake][locks][roles][format name]
    [namespaces][bells][records ...][slots ...][lease heads ...][lease payloads ...][dead heads ...]
    [dead payloads ...][definitions]

Native byte order, 64-bit words. What two sides write lies on cache lines of its own; ``head`` and ``tail`` are two
lines apart, because the prefetcher of x86 fetches lines in pairs. Offsets are in bytes and accumulated, never typed in,
so a word that is inserted cannot overlap another. The other engine states the same table and a test compares the two.

``head`` is the position of the next get, ``tail`` the position of the next put. Positions count up for ever (61 bits at
a million items a microsecond last for 73 years) and are reduced modulo the capacity only to find their slot. The bit
above them is the mark of the end of work; see ``CLOSED``.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

WORD: Final = 8
WORD_MASK: Final = (1 << 64) - 1
LINE: Final = 64

# ---- the word of a slot -------------------------------------------------------------------------------------------
# word = position << 2 | state. A fresh slot i is FREE(i). Every change is a compare-and-swap on the full value.
FREE: Final = 0  # may be put at this position
FULL: Final = 1  # holds the item of this position
TOMB: Final = 2  # this position will never hold an item: its put died
GIVEN: Final = 3  # its item has gone to a lease slot; this word has another form, see given_word
STATE_BITS: Final = 2
STATE_MASK: Final = (1 << STATE_BITS) - 1
GIVEN_LEASE_SHIFT: Final = 48
GIVEN_POSITION_MASK: Final = (1 << 46) - 1

# ---- the marks of head and tail -------------------------------------------------------------------------------------
# Once set, a mark stays. The word of a slot has no room for it, so no word is FREE, FULL or TOMB of a marked end: a put
# (get) is refused by the comparison that it makes anyway, and only the refused operation looks for the mark. Bit 63
# would not do: position << 2 drops it.
CLOSED: Final = 1 << 61  # in tail: no put claims any more
STOPPED: Final = 1 << 61  # in head, or, in mode spsc, whose consumer stores head, in STOPPED_AT: no get claims any more

# meta of a slot = codec tag (8 bits) | index of the slot in its put << 8 (24 bits; 0 in the first)
TAG_BITS: Final = 8
TAG_MASK: Final = (1 << TAG_BITS) - 1
MORE: Final = TAG_MASK  # the tag of the slots of an item but for its first
MAX_BATCH: Final = 1 << 24

SLOT_WORD: Final = 0
SLOT_LENGTH: Final = 8  # u32, bytes of the item; in a slot of the tag MORE, of payload
SLOT_META: Final = 12  # u32
SLOT_PAYLOAD: Final = 16

# ---- the owner word of a participant --------------------------------------------------------------------------------
# owner = pid (24 bits) | start time (34 bits) << 24 | namespace << 58. One word, so that it is taken by one
# compare-and-swap and half an identity is never seen. namespace is 1 + an index into the table of the header;
# 0 means that this process cannot be looked up, so it is never declared dead.
OWNER_PID_BITS: Final = 24
OWNER_START_BITS: Final = 34
OWNER_PID_MASK: Final = (1 << OWNER_PID_BITS) - 1
OWNER_START_MASK: Final = (1 << OWNER_START_BITS) - 1
OWNER_NAMESPACE_SHIFT: Final = OWNER_PID_BITS + OWNER_START_BITS
NAMESPACES: Final = 63

# ---- the name of a participant --------------------------------------------------------------------------------------
# name = generation << 16 | 1 + index of its record; never 0. A record that is taken anew has another name, so a role or
# a lock that outlives its owner never passes to a newcomer by accident.
NAME_INDEX_BITS: Final = 16
NAME_INDEX_MASK: Final = (1 << NAME_INDEX_BITS) - 1

# ---- the header -----------------------------------------------------------------------------------------------------
VERSION: Final = 2
MAGIC: Final = int.from_bytes(b"SHMQUEUE", "little")
UNFINISHED: Final = int.from_bytes(b"SHMQBORN", "little")  # stands in the place of the magic until creation is complete

Mode = Literal["mpmc", "spsc"]
MODES: Final[tuple[Mode, ...]] = ("mpmc", "spsc")  # the mode word is an index into this


Format = Literal["pickle", "plain", "own"]
FORMATS: Final[tuple[Format, ...]] = ("pickle", "plain", "own")  # likewise; see _ring/stated_format.py


class _Offsets:
    """Hands out offsets, one after the other."""

    def __init__(self) -> None:
        self.end = 0

    def line(self, lines: int = 1) -> int:
        """Return the next cache line, and keep ``lines`` of them."""
        start = -(-self.end // LINE) * LINE
        self.end = start + lines * LINE
        return start


_header = _Offsets()
HEAD: Final = _header.line(2)
TAIL: Final = _header.line(2)

_constants = _header.line()  # written once, at creation
MAGIC_AT: Final = _constants
VERSION_AT: Final = _constants + 1 * WORD
CAPACITY_AT: Final = _constants + 2 * WORD
ITEM_SIZE_AT: Final = _constants + 3 * WORD
MODE_AT: Final = _constants + 4 * WORD
RECORDS_AT: Final = _constants + 5 * WORD
DEFINITIONS_SIZE_AT: Final = _constants + 6 * WORD
SEGMENT_SIZE_AT: Final = _constants + 7 * WORD

_more_constants = _header.line()
LEASES_AT: Final = _more_constants  # number of lease slots
MAX_DELIVERIES_AT: Final = _more_constants + 1 * WORD  # after which an item that comes back is a dead letter; 0: none
MAX_ITEM_SIZE_AT: Final = _more_constants + 2 * WORD  # item_size, or more if items may take several slots
FORMAT_AT: Final = _more_constants + 3 * WORD  # of the items: one of FORMATS

_marks = _header.line()  # written a few times in a queue's life
UNLINKED_AT: Final = _marks  # 1: the names are gone; no process can attach any more
RECORDS_USED_AT: Final = _marks + 1 * WORD  # high-water mark: no record from this index on was ever taken
NONCE_AT: Final = _marks + 2 * WORD  # 64 random bits of this segment, in the names of its bells
CREATED_AT: Final = _marks + 3 * WORD  # real time in ns
CREATOR_AT: Final = _marks + 4 * WORD  # owner word of the process that made it
STOPPED_AT: Final = _marks + 5 * WORD  # mode spsc: the mark STOPPED
DELETE_AT: Final = _marks + 6 * WORD  # 1: the queue goes with its last user; written before the creation is complete
NUMBERED_AT: Final = _marks + 7 * WORD  # slots that have their number; 0: all of them, and all memory, from the start

_counts = _header.line()  # what an operator wants to know; counted off the fast path
TOMBS_AT: Final = _counts  # positions that will never hold an item
ADOPTED_AT: Final = _counts + 1 * WORD  # items taken over from dead getters
FULL_EVENTS_AT: Final = _counts + 2 * WORD  # times that Full was raised
EMPTY_EVENTS_AT: Final = _counts + 3 * WORD  # times that Empty was raised
PUT_WAITS_AT: Final = _counts + 4 * WORD  # times that a put or a batch parked
GET_WAITS_AT: Final = _counts + 5 * WORD  # times that a get parked
BELLS_REFUSED_AT: Final = _counts + 6 * WORD  # rings without an answer

_more_counts = _header.line()
REDELIVERED_AT: Final = _more_counts  # times that a lease slot's item was handed out again
LEASE_WAITS_AT: Final = _more_counts + 1 * WORD  # times that a get found an item and no free lease slot
DEAD_LETTERS_AT: Final = _more_counts + 2 * WORD  # items that became dead letters
DEAD_LETTERS_REFUSED_AT: Final = _more_counts + 3 * WORD  # items that did not, because all places for them were taken

ITEMS: Final = _header.line()  # the wake words of getters: epoch, hint
SPACE: Final = _header.line()  # the wake words of putters
WAKE_EPOCH: Final = 0
WAKE_HINT: Final = WORD  # version << 1 | armed

_returns = _header.line()
RETURNED_AT: Final = _returns  # version << 1 | armed: a lease slot may hold an item that no process holds
LOOK_AT: Final = _returns + 1 * WORD  # monotonic time in ns from which on gets look for dead holders
LEASES_READY_AT: Final = _returns + 2 * WORD  # lease slots that have memory; no other was ever taken. 0: all have it
IDLE: Final = _header.line()  # the wake words of those that wait in join

_locks = _header.line()
BATCH_OWNER_AT: Final = _locks  # name of the participant that holds the batch lock, or 0
TURN: Final = BATCH_OWNER_AT  # where batches wait for the lock
GATE_AT: Final = _locks + 1 * WORD  # monotonic time in ns until which single puts wait for a batch, or 0
DEFINITIONS_OWNER_AT: Final = _locks + 2 * WORD  # name of the participant that appends a definition, or 0

_roles = _header.line()  # mode spsc: name of the one producer and of the one consumer, or 0
PRODUCER_AT: Final = _roles
CONSUMER_AT: Final = _roles + 1 * WORD

FORMAT_NAME_SIZE: Final = 2 * LINE
FORMAT_NAME_AT: Final = _header.line(2)  # of a program's own format, in UTF-8; written at creation

NAMESPACES_AT: Final = _header.line(8)  # identities of pid namespaces, 0 where free

# One bit for each record: its bell waits. A mask has two lines of its own, because lines are fetched in pairs.
RECORDS: Final = 1024
BELL_MASKS: Final = 3  # for items, for space, for the turn of the batch lock
BELL_WORDS: Final = RECORDS // 64  # of a mask
BELLS_AT: Final = _header.line(BELL_MASKS * BELL_WORDS * WORD // LINE)
RECORDS_START: Final = _header.line(0)

# ---- a participant's record -----------------------------------------------------------------------------------------
# One for each operation in progress or bell, one cache line.
RECORD_SIZE: Final = LINE
OWNER: Final = 0
GENERATION: Final = 1 * WORD
PUT_BEGIN: Final = 2 * WORD  # an announced put covers put_begin <= position < put_end
PUT_END: Final = 3 * WORD
GET_BEGIN: Final = 4 * WORD
GET_END: Final = 5 * WORD
ABANDONED: Final = 6 * WORD  # 1: a live thread lost control here; counts as dead
LOCK_BUSY: Final = 7 * WORD  # 1: between the two words of the batch lock
SLOTS_START: Final = RECORDS_START + RECORDS * RECORD_SIZE

# ---- a lease slot ---------------------------------------------------------------------------------------------------
# A head of one line; the payloads lie behind all heads, so that a look at the heads is a walk over lines in a row.
LEASE_HOLDER: Final = 0  # owner word of a process, or 0; only the holder writes the rest
LEASE_COUNT: Final = 1 * WORD  # how often the item was taken; 0: there is none
LEASE_POSITION: Final = 2 * WORD  # of its item in the ring
LEASE_SINCE: Final = 3 * WORD  # monotonic time in ns at which the holder took it
LEASE_DUE: Final = 4 * WORD  # of what came back: from when on it may be taken; see _ring/leases.py
LEASE_DELAY: Final = 5 * WORD  # ns; 0: due is a position, or 0 for at once
LEASE_LENGTH: Final = 6 * WORD  # u32, bytes of payload
LEASE_META: Final = 6 * WORD + 4  # u32, as in a slot
LEASE_LINK: Final = 7 * WORD  # 1 + index of the dead slot to or from which an item moves, or has moved; 0: none yet
LEASE_HEAD_SIZE: Final = LINE

# ---- a dead slot ----------------------------------------------------------------------------------------------------
# Where a dead letter lies: a head of one line, and a payload as large as that of a lease slot. There are as many as
# lease slots, at most MAX_DEAD, if the queue has max_deliveries; otherwise none.
# word = version << 19 | lease << 3 | state. The version counts up with each change, so no word comes a second time. The
# states BURYING, BURIED and GIVEN name a lease slot that is held: its holder, or an heir, takes the next step.
DEAD_FREE: Final = 0
DEAD_BURYING: Final = 1  # the item of the lease slot is being copied to here
DEAD_BURIED: Final = 2  # has the item; the lease slot does not know that yet
DEAD_LETTER: Final = 3  # holds a dead letter
DEAD_OFFERED: Final = 4  # the letter is being put back; whether the queue takes it is to be decided, by any process
DEAD_PUT_BACK: Final = 5  # holds an item of the queue, which waits for a lease slot
DEAD_GIVEN: Final = 6  # its item has gone to the lease slot
DEAD_STATE_MASK: Final = 7
DEAD_LEASE_SHIFT: Final = 3
DEAD_LEASE_MASK: Final = 0xFFFF  # of a word that is shifted by that
DEAD_VERSION_SHIFT: Final = 19

DEAD_WORD: Final = 0
DEAD_COUNT: Final = 1 * WORD  # how often its item was taken, before it became a dead letter
DEAD_POSITION: Final = 2 * WORD  # of its item in the ring
DEAD_LENGTH: Final = 3 * WORD  # u32, bytes of payload
DEAD_META: Final = 3 * WORD + 4  # u32, as in a slot
DEAD_HEAD_SIZE: Final = LINE

# ---- the definitions ------------------------------------------------------------------------------------------------
# A log behind the dead letters, in memory that is reserved only when it is written: end of the log in bytes, then
# entries.
DEFINITIONS_SIZE: Final = 1 << 20
DEFINITIONS_END: Final = 0
DEFINITIONS_FIRST: Final = LINE

# ---- memory that is taken as it is used -----------------------------------------------------------------------------
AT_ONCE: Final = 2048  # bytes of a payload that get memory together with the number of their slot

# ---- limits ---------------------------------------------------------------------------------------------------------
MAX_CAPACITY: Final = 1 << 31
MAX_ITEM_SIZE: Final = (1 << 31) - 1
MAX_LEASES: Final = 65535
MAX_DELIVERIES: Final = 65535
MAX_DEAD: Final = 1024  # dead slots
MAX_SEGMENT_SIZE: Final = 1 << 46  # what a 47-bit address space can still map

# ---- times, which both engines keep, in nanoseconds -----------------------------------------------------------------
HELD_SLICE: Final = 10_000_000  # the longest sleep while a claim is under way: no wake comes from one whose owner dies
# What a call that does not wait gives an operation that is between its claim and its end to come to it. The claim takes
# microseconds, but its process (or thread, under the GIL) may have lost the processor just there.
PATIENCE: Final = 100_000_000
YIELDING: Final = 1_000_000  # of it without sleeping
NAP: Final = 200_000  # a sleep after that
BETWEEN: Final = 1_000_000  # the longest sleep while the batch lock has no owner and is not free
GATE_LEASE: Final = 250_000_000  # for how long a gate stays closed if its batch does not renew it
FAR_AHEAD: Final = 1_000_000_000  # a gate closed for longer than this was not written by a batch
LOOK_EVERY: Final = 100_000_000  # between two looks for dead holders of leases
LOOK_LATEST: Final = 200_000_000  # the same after a look that took long, or was kept from the processor


class Geometry(NamedTuple):
    """The sizes of one queue, and what follows from them.

    Attributes:
        capacity: number of slots.
        item_size: largest payload of a slot, in bytes.
        max_item_size: that of an item, which may take several slots.
        mode: "mpmc" or "spsc".
        leases: number of lease slots.
        max_deliveries: after which an item that comes back is a dead letter; 0: none is.
        dead: number of dead slots.
        stride: distance between slots, in bytes.
        lease_heads: offset of the first head of a lease slot.
        lease_payloads: offset of the first payload of a lease slot.
        lease_stride: distance between those payloads, in bytes; those of dead slots have it, too.
        dead_heads: offset of the first head of a dead slot.
        dead_payloads: offset of the first payload of a dead slot.
        definitions: offset of the definitions.
        size: length of the whole segment, in bytes.
    """

    capacity: int
    item_size: int
    max_item_size: int
    mode: Mode
    leases: int
    max_deliveries: int
    dead: int
    stride: int
    lease_heads: int
    lease_payloads: int
    lease_stride: int
    dead_heads: int
    dead_payloads: int
    definitions: int
    size: int

    @classmethod
    def of(
        cls,
        capacity: int,
        item_size: int,
        mode: Mode,
        leases: int = 0,
        max_deliveries: int = 0,
        max_item_size: int = 0,
    ) -> Geometry:
        """Return the geometry of a queue.

        Args:
            capacity: number of slots.
            item_size: largest payload of a slot, in bytes.
            mode: "mpmc" or "spsc".
            leases: number of lease slots.
            max_deliveries: after which an item that comes back is a dead letter; 0: none is.
            max_item_size: largest item, in bytes; 0 means item_size.
        """
        most = max_item_size or item_size
        dead = min(leases, MAX_DEAD) if max_deliveries else 0
        stride = -(-(SLOT_PAYLOAD + item_size) // LINE) * LINE
        heads = SLOTS_START + capacity * stride
        payloads = heads + leases * LEASE_HEAD_SIZE
        lease_stride = -(-most // LINE) * LINE
        dead_heads = payloads + leases * lease_stride
        dead_payloads = dead_heads + dead * DEAD_HEAD_SIZE
        definitions = dead_payloads + dead * lease_stride
        return cls(
            capacity=capacity,
            item_size=item_size,
            max_item_size=most,
            mode=mode,
            leases=leases,
            max_deliveries=max_deliveries,
            dead=dead,
            stride=stride,
            lease_heads=heads,
            lease_payloads=payloads,
            lease_stride=lease_stride,
            dead_heads=dead_heads,
            dead_payloads=dead_payloads,
            definitions=definitions,
            size=definitions + DEFINITIONS_SIZE,
        )


def given_word(position: int, lease: int) -> int:
    """Return the word of a slot whose item, of this position, has gone to this lease slot."""
    return lease << GIVEN_LEASE_SHIFT | (position & GIVEN_POSITION_MASK) << STATE_BITS | GIVEN


def is_given(word: int, position: int) -> bool:
    """Whether a word says that the item of a position has gone to a lease slot, whichever that is."""
    return word & (1 << GIVEN_LEASE_SHIFT) - 1 == (position & GIVEN_POSITION_MASK) << STATE_BITS | GIVEN


def next_dead_word(word: int, state: int, lease: int = 0) -> int:
    """Return the word of a dead slot that follows ``word``, with another state, and with the lease slot it names."""
    version = (word >> DEAD_VERSION_SHIFT) + 1
    return (version << DEAD_VERSION_SHIFT | lease << DEAD_LEASE_SHIFT | state) & WORD_MASK


def dead_state(word: int) -> int:
    """Return the state of a dead slot's word."""
    return word & DEAD_STATE_MASK


def names_lease(word: int, lease: int) -> bool:
    """Whether the word of a dead slot names a lease slot, which has to take the next step."""
    named = word >> DEAD_LEASE_SHIFT & DEAD_LEASE_MASK
    return named == lease and dead_state(word) in (DEAD_BURYING, DEAD_BURIED, DEAD_GIVEN)


def unmarked(end: int) -> int:
    """Return the position that head or tail states, without its mark."""
    return end & (CLOSED - 1)


def stop_word(mode: Mode) -> int:
    """Return the offset of the word that takes the mark STOPPED."""
    return STOPPED_AT if mode == "spsc" else HEAD


def record_at(index: int) -> int:
    """Return the offset of a participant's record."""
    return RECORDS_START + index * RECORD_SIZE


def bells_of(side: int) -> int:
    """Return the offset of the mask of the bells that wait on a side: ITEMS, SPACE or TURN."""
    return BELLS_AT + (ITEMS, SPACE, TURN).index(side) * BELL_WORDS * WORD


def name_of(index: int, generation: int) -> int:
    """Return the name of the participant that holds record ``index`` in its ``generation``."""
    return (generation << NAME_INDEX_BITS | index + 1) & WORD_MASK


def parse_name(name: int) -> tuple[int, int]:
    """Return index and generation of a name; the index is -1 or too large for a name that no participant has."""
    return (name & NAME_INDEX_MASK) - 1, name >> NAME_INDEX_BITS


def owner_of(pid: int, start: int, namespace: int) -> int:
    """Return the owner word of a process; one that does not fit gets namespace 0 and is never declared dead."""
    if pid > OWNER_PID_MASK:
        namespace = 0
    return namespace << OWNER_NAMESPACE_SHIFT | (start & OWNER_START_MASK) << OWNER_PID_BITS | pid & OWNER_PID_MASK


def parse_owner(owner: int) -> tuple[int, int, int]:
    """Return pid, start time and namespace of an owner word."""
    return (
        owner & OWNER_PID_MASK,
        owner >> OWNER_PID_BITS & OWNER_START_MASK,
        owner >> OWNER_NAMESPACE_SHIFT,
    )
