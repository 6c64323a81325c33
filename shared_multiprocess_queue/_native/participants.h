/* The table of participants: the operations in progress, what each has announced, and which are dead (labels R, S); and
   the roles of mode spsc (label O). The same as _ring/participants.py. */

#ifndef SHMQ_PARTICIPANTS_H
#define SHMQ_PARTICIPANTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "atomic_words.h"
#include "layout.h"

/* Number of looks at an announcement that blocks an operation before the system is asked whether its owner lives. They
   take about 1 µs, in which an operation that is running ends; to ask takes 7 to 12 µs. */
#ifndef SHMQ_LOOKS
#define SHMQ_LOOKS 32
#endif

/* Bound on retries. In a healthy queue each retry means that another operation has made progress; this many in a row
   mean that the segment is damaged. */
#define SHMQ_ATTEMPTS 4096

/* The functions that the ring needs from its caller. */
struct shmq_calls {
    /* Whether the process of an owner word lives [S3]; true in doubt. Not on the fast path, so it may be slow. */
    bool (*is_alive)(void *context, uint64_t owner);
    /* Wakes up to count sleepers of the low half of a word; returns how many there were. Does not wait. */
    int (*futex_wake)(void *context, _Atomic uint64_t *word, int count);
    /* Rings the bell of a participant in the segment with this nonce; returns whether the bell exists. Does not
       wait. */
    bool (*ring_bell)(void *context, uint64_t nonce, uint64_t name);
    void *context;
    /* The monotonic time in ns; if not `exact`, it may be late by a few ms. Only a queue with leases asks. */
    uint64_t (*now)(void *context, bool exact);
    /* Makes sure that there is memory for so many bytes. Only a queue with leases that takes memory as it is used asks,
       while nothing is claimed. */
    bool (*reserve)(void *context, void *at, uint32_t length);
};

/* One mapped segment, as one process sees it. No function here changes it, so threads may share it. */
struct shmq_ring {
    struct shmq_header *header;
    struct shmq_record *records;
    unsigned char *slots;
    uint64_t capacity;
    uint64_t stride;
    uint32_t item_size;
    uint32_t max_item_size; /* larger if items may take several slots */
    bool spsc;
    uint32_t leases; /* number of lease slots */
    struct shmq_lease *lease_heads;
    unsigned char *lease_payloads;
    uint32_t *busy_lease; /* where this process has found an item last */
    uint32_t max_deliveries; /* after which an item that comes back is a dead letter; 0: none */
    uint32_t dead; /* number of dead slots */
    struct shmq_dead *dead_heads;
    unsigned char *dead_payloads;
    uint64_t owner; /* the owner word of this process */
    struct shmq_calls calls;
    uint64_t fresh_below; /* slots of positions below may have no number yet; 0: all have one */
};

/* A record that this process has taken, for one operation at a time. */
struct shmq_participant {
    struct shmq_record *record;
    uint32_t index;
    uint64_t name; /* by which roles and locks know the participant */
    uint64_t bad_position;
    uint64_t bad_word;
    uint32_t next_lease; /* where the search for a free lease slot begins */
    bool lacks_lease;    /* the last search has found none */
};

/* How an attempt has ended. */
enum shmq_result {
    SHMQ_DONE,
    SHMQ_NOTHING,    /* empty, or full */
    SHMQ_HELD,       /* another operation is between its claim and its end there, and will end in a moment */
    SHMQ_ORPHAN,     /* a dead get has left an item at the position */
    SHMQ_SHUT_DOWN,  /* no put is accepted any more, or nothing can come any more */
    SHMQ_CLAIM_LOST, /* another process took this operation for dead; its items are not in the queue */
    SHMQ_CORRUPT,    /* see bad_position and bad_word of the participant */
    SHMQ_FRESH,      /* of a put: the slot of bad_position has no number yet; number it, and try again */
    SHMQ_NO_MEMORY,  /* of a lease: there is no memory for it */
    SHMQ_UNFIT,      /* the next item is not one that this get wants */
    SHMQ_CAME_BACK,  /* a lease slot holds an item that came back */
    SHMQ_AGAIN       /* not for callers of the ring */
};

/* The two kinds of announcements. */
enum shmq_side { SHMQ_PUT, SHMQ_GET };

/* The caller has checked the sizes against the length of the mapping; the header is not read for them later. */
static inline void shmq_open(struct shmq_ring *ring, void *base, uint64_t capacity, uint32_t item_size, bool spsc,
                             uint64_t owner, struct shmq_calls calls)
{
    ring->header = base;
    ring->records = (struct shmq_record *)(void *)((unsigned char *)base + SHMQ_RECORDS_START);
    ring->slots = (unsigned char *)base + SHMQ_SLOTS_START;
    ring->capacity = capacity;
    ring->stride = SHMQ_STRIDE(item_size);
    ring->item_size = item_size;
    ring->max_item_size = item_size;
    ring->spsc = spsc;
    ring->leases = ring->dead = ring->max_deliveries = 0;
    ring->owner = owner;
    ring->calls = calls;
    ring->fresh_below = 0;
}

/* Say how large items may be that take several slots; the caller has checked it. Before shmq_open_leases. */
static inline void shmq_open_large(struct shmq_ring *ring, uint32_t max_item_size)
{
    ring->max_item_size = max_item_size;
}

/* Say that the queue has leases, and dead letters perhaps; the caller has checked these numbers, too, and keeps
   busy_lease, which may be any. */
static inline void shmq_open_leases(struct shmq_ring *ring, uint32_t leases, uint32_t max_deliveries,
                                    uint32_t *busy_lease)
{
    unsigned char *heads = ring->slots + ring->capacity * ring->stride;
    ring->leases = leases;
    ring->lease_heads = (struct shmq_lease *)(void *)heads;
    ring->lease_payloads = heads + leases * sizeof(struct shmq_lease);
    ring->busy_lease = busy_lease;
    ring->max_deliveries = max_deliveries;
    ring->dead = SHMQ_DEAD_SLOTS(leases, max_deliveries);
    heads = ring->lease_payloads + leases * SHMQ_LEASE_STRIDE(ring->max_item_size);
    ring->dead_heads = (struct shmq_dead *)(void *)heads;
    ring->dead_payloads = heads + ring->dead * sizeof(struct shmq_dead);
}

/* The number of lease slots that have memory; no other was ever taken. seq_cst, so that a look at the lease slots [J4]
   [D5] misses none that was taken before what stands ahead of the look, [D7] for example. */
static inline uint32_t shmq_leases_ready(const struct shmq_ring *ring)
{
    const uint64_t ready = atomic_load_explicit(&ring->header->leases_ready, memory_order_seq_cst);
    return ready > 0 && ready < ring->leases ? (uint32_t)ready : ring->leases;
}

static inline enum shmq_result shmq_corrupt(struct shmq_participant *me, uint64_t position, uint64_t word)
{
    me->bad_position = position;
    me->bad_word = word;
    return SHMQ_CORRUPT;
}

/* ---- announcements ------------------------------------------------------------------------------------------------ */

static inline void shmq_announce_put(struct shmq_participant *me, uint64_t begin, uint64_t end)
{
    /* [P3] relaxed; begin first, so that nothing is covered in between. */
    SHMQ_STORE("P3", &me->record->put_begin, begin, memory_order_relaxed);
    /* [P4] release, pairs with [S2]: a scan that sees end sees begin. */
    SHMQ_STORE("P4", &me->record->put_end, end, memory_order_release);
}

static inline void shmq_withdraw_put(struct shmq_participant *me)
{
    /* [P9] release, pairs with [S2]: a scan that sees this sees FULL. */
    SHMQ_STORE("P9", &me->record->put_end, 0, memory_order_release);
}

static inline void shmq_announce_get(struct shmq_participant *me, uint64_t begin, uint64_t end)
{
    /* [G4] relaxed, then release, pairs with [S2]; as [P3][P4]. */
    SHMQ_STORE("G4", &me->record->get_begin, begin, memory_order_relaxed);
    SHMQ_STORE("G4", &me->record->get_end, end, memory_order_release);
}

static inline void shmq_withdraw_get(struct shmq_participant *me)
{
    /* [G7] release, pairs with [S2]: a scan that sees this sees FREE. */
    SHMQ_STORE("G7", &me->record->get_end, 0, memory_order_release);
}

/* ---- liveness ----------------------------------------------------------------------------------------------------- */

/* Whether the operation of this record is alive. The system is asked each time; a verdict is never kept. */
static inline bool shmq_is_live(const struct shmq_ring *ring, struct shmq_record *record)
{
    /* [S2] acquire, each; pairs with [R1][R2][A1]. */
    const uint64_t owner = SHMQ_LOAD("S2", &record->owner, memory_order_acquire);
    if (owner == 0 || SHMQ_LOAD("S2", &record->abandoned, memory_order_acquire) != 0) {
        return false;
    }
    return owner == ring->owner || ring->calls.is_alive(ring->calls.context, owner); /* [S3] */
}

/* The record of a name, or NULL if no record can have that name. */
static inline struct shmq_record *shmq_record_of(const struct shmq_ring *ring, uint64_t name)
{
    const uint64_t number = name & SHMQ_NAME_INDEX_MASK;
    return number >= 1 && number <= SHMQ_RECORDS ? &ring->records[number - 1] : NULL;
}

/* The owner word of the participant of a name; 0 if there is none. */
static inline uint64_t shmq_owner_word(const struct shmq_ring *ring, uint64_t name)
{
    struct shmq_record *record = shmq_record_of(ring, name);
    return record == NULL ? 0 : SHMQ_LOAD("S2", &record->owner, memory_order_acquire);
}

/* Whether the participant of this name is dead: its record is free, abandoned or taken by another, or its process is
   dead. */
static inline bool shmq_is_dead(const struct shmq_ring *ring, uint64_t name)
{
    struct shmq_record *record = shmq_record_of(ring, name);
    if (record == NULL) {
        return true;
    }
    /* [S2] acquire. A new participant writes its owner word before the generation: for a moment it counts as the old
       one. */
    if (SHMQ_LOAD("S2", &record->generation, memory_order_acquire) << SHMQ_NAME_INDEX_BITS !=
        (name & ~SHMQ_NAME_INDEX_MASK)) {
        return true;
    }
    return !shmq_is_live(ring, record);
}

/* ---- scans -------------------------------------------------------------------------------------------------------- */

/* How many records may be in use. Read after tail (head), the number includes the record of the operation that moved
   it. */
static inline uint32_t shmq_records_used(const struct shmq_ring *ring)
{
    const uint64_t used = SHMQ_LOAD("S2", &ring->header->records_used, memory_order_acquire);
    return used < SHMQ_RECORDS ? (uint32_t)used : SHMQ_RECORDS;
}

/* The first position, from `first` to last-1, that a record announces in each of SHMQ_LOOKS looks, or `last`. A later
   look is as good as a later scan. */
static inline uint64_t shmq_first_announced(struct shmq_record *record, enum shmq_side side, uint64_t first,
                                            uint64_t last)
{
    uint64_t stop = last;
    for (int look = 0; look < SHMQ_LOOKS; look++) {
        /* [S2] acquire, each; pairs with [P4][P9][G4][G7]. It keeps [S4] behind. */
        const uint64_t begin =
            SHMQ_LOAD("S2", side == SHMQ_PUT ? &record->put_begin : &record->get_begin, memory_order_acquire);
        const uint64_t end =
            SHMQ_LOAD("S2", side == SHMQ_PUT ? &record->put_end : &record->get_end, memory_order_acquire);
        first = begin > first ? begin : first;
        stop = end < stop ? end : stop;
        if (first >= stop) {
            return last;
        }
        shmq_relax();
    }
    return first;
}

static inline bool shmq_keeps_announcing(struct shmq_record *record, enum shmq_side side, uint64_t position)
{
    return shmq_first_announced(record, side, position, position + 1) == position;
}

/* The index of the next record, from index `from` on, whose live owner covers a position; SHMQ_RECORDS if there is
   none. The caller has read tail (head) beyond the position before [S1], and reads the slot's word again after [S4]. */
static inline uint32_t shmq_next_covering(const struct shmq_ring *ring, enum shmq_side side, uint64_t position,
                                          uint32_t from)
{
    const uint32_t used = shmq_records_used(ring);
    for (uint32_t index = from; index < used; index++) {
        struct shmq_record *record = &ring->records[index];
        if (shmq_keeps_announcing(record, side, position) && shmq_is_live(ring, record)) {
            return index;
        }
    }
    return SHMQ_RECORDS;
}

static inline bool shmq_is_covered(const struct shmq_ring *ring, enum shmq_side side, uint64_t position)
{
    return shmq_next_covering(ring, side, position, 0) < SHMQ_RECORDS;
}

/* The first position, from `position` to last-1, that a live put may have claimed, or `last`; as shmq_is_covered, for
   many at once. Tail was read at `last` or beyond it. */
static inline uint64_t shmq_end_of_uncovered(const struct shmq_ring *ring, uint64_t position, uint64_t last)
{
    const uint32_t used = shmq_records_used(ring);
    for (uint32_t index = 0; index < used; index++) {
        struct shmq_record *record = &ring->records[index];
        const uint64_t first = shmq_first_announced(record, SHMQ_PUT, position, last);
        if (first < last && shmq_is_live(ring, record)) {
            last = first;
        }
    }
    return last;
}

/* Whether a live participant other than `me` is between the two words of the lock. */
static inline bool shmq_another_takes_the_lock(const struct shmq_ring *ring, const struct shmq_participant *me)
{
    const uint32_t used = shmq_records_used(ring);
    for (uint32_t index = 0; index < used; index++) {
        struct shmq_record *record = &ring->records[index];
        /* seq_cst, pairs with [L3] */
        if (index != me->index && SHMQ_LOAD("S2", &record->lock_busy, memory_order_seq_cst) != 0 &&
            shmq_is_live(ring, record)) {
            return true;
        }
    }
    return false;
}

/* ---- taking and leaving ------------------------------------------------------------------------------------------- */

/* Prepare a record that was just taken for its first announcement. */
static inline void shmq_settle(const struct shmq_ring *ring, struct shmq_participant *me, uint32_t index)
{
    struct shmq_record *record = &ring->records[index];
    /* [R2] release; the ends are cleared before the mark, so that the next announcement has a clean mark. */
    SHMQ_STORE("R2", &record->put_end, 0, memory_order_release);
    SHMQ_STORE("R2", &record->get_end, 0, memory_order_release);
    SHMQ_STORE("R2", &record->lock_busy, 0, memory_order_release);
    SHMQ_STORE("R2", &record->abandoned, 0, memory_order_release);
    const uint64_t generation = SHMQ_LOAD("R2", &record->generation, memory_order_relaxed) + 1;
    SHMQ_STORE("R2", &record->generation, generation, memory_order_release);
    /* The mark up to which scans go is raised before the first announcement; [P6][G5] publish it. */
    uint64_t used = SHMQ_LOAD("R2", &ring->header->records_used, memory_order_relaxed);
    for (int attempt = 0; attempt < SHMQ_ATTEMPTS && used <= index; attempt++) {
        SHMQ_CAS("R2", &ring->header->records_used, used, (uint64_t)index + 1, memory_order_acq_rel,
                 memory_order_relaxed);
        used = SHMQ_LOAD("R2", &ring->header->records_used, memory_order_relaxed);
    }
    me->record = record;
    me->index = index;
    me->name = shmq_name_of(index, generation);
    me->bad_position = 0;
    me->bad_word = 0;
    me->next_lease = index;
}

/* Make a record that was abandoned, and is resolved, usable again; the mark is cleared last.

   The record gets a new generation, and so the participant gets a new name. Others may have seen the old one as dead
   and may be taking over its role or its lock: their compare-and-swap must not find a name that is alive again. So an
   operation that holds the lock leaves it before it is abandoned, or loses it to the next. */
static inline void shmq_renew(struct shmq_participant *me)
{
    struct shmq_record *record = me->record;
    SHMQ_STORE("R2", &record->put_end, 0, memory_order_release);
    SHMQ_STORE("R2", &record->get_end, 0, memory_order_release);
    const uint64_t generation = SHMQ_LOAD("R2", &record->generation, memory_order_relaxed) + 1;
    SHMQ_STORE("R2", &record->generation, generation, memory_order_release);
    SHMQ_STORE("R2", &record->abandoned, 0, memory_order_release); /* [R2] release, pairs with [S2] */
    me->name = shmq_name_of(me->index, generation);
}

/* Free a record that announces nothing and is not abandoned; called only in the process that took it, not in its
   child. */
static inline void shmq_leave_record(const struct shmq_ring *ring, struct shmq_participant *me)
{
    SHMQ_STORE("R2", &me->record->lock_busy, 0, memory_order_release);
    /* [R2] release, after the ends are 0; pairs with [R1]. */
    SHMQ_CAS("R2", &me->record->owner, ring->owner, 0, memory_order_release, memory_order_relaxed);
}

/* ---- mode spsc: roles --------------------------------------------------------------------------------------------- */

static inline _Atomic uint64_t *shmq_role_of(const struct shmq_ring *ring, enum shmq_side side)
{
    return side == SHMQ_PUT ? &ring->header->producer : &ring->header->consumer;
}

/* Try to become the one producer (consumer); returns the name of the participant that has the role. If that is `name`,
   the caller reads tail (head) after this, never before. */
static inline uint64_t shmq_take_role(const struct shmq_ring *ring, _Atomic uint64_t *role, uint64_t name)
{
    /* [O1] acquire, pairs with [O2]: tail (head) is not older than the one that the last producer (consumer) has
       left. */
    uint64_t holder = SHMQ_LOAD("O1", role, memory_order_acquire);
    for (int attempt = 0; attempt < SHMQ_ATTEMPTS && holder != name; attempt++) {
        if (holder != 0 && !shmq_is_dead(ring, holder)) {
            break;
        }
        SHMQ_CAS("O1", role, holder, name, memory_order_acq_rel, memory_order_relaxed); /* [O1] */
        holder = SHMQ_LOAD("O1", role, memory_order_acquire);
    }
    return holder;
}

/* Give up a role, if the participant has it. Called while no operation of the role is in progress. */
static inline void shmq_leave_role(_Atomic uint64_t *role, uint64_t name)
{
    /* [O2] release, after the last claim of this role; pairs with [O1]. */
    SHMQ_CAS("O2", role, name, 0, memory_order_release, memory_order_relaxed);
}

#endif
