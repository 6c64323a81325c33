/* The ring in C11: a bounded FIFO over shared words, for any number of getters and putters that may die at any
   instruction. The same algorithm, names and labels as _ring/ring.py and its neighbours, on the same segment, at the same
   time. No Python in here, no allocation, no clock, no system call: the caller brings the memory, and waits.

   docs/protocol.md has the essay, the drawing, and order, partner and reason of each edge; the labels at the steps are
   its labels. The slots with sequence words come from Dmitry Vyukov's bounded MPMC queue
   (https://www.1024cores.net/home/lock-free-algorithms/queues/bounded-mpmc-queue). What holds at every step:

   - Every change of a slot's word is a compare-and-swap that expects the full position.
   - A claim is announced before it is made. A claimed position that no live record covers is an orphan.
   - An orphan put (FREE(p), tail > p) becomes a TOMB, its whole batch before it: shmq_rescue_put. An orphan get
     (FULL(q), head > q) belongs to the operation that frees its slot: shmq_rescue_get.
   - Nothing computes room from tail - head; the word of a slot says whether it is free.
   - Mode spsc: the threads of one handle never move an end at the same time.

   [W3] is the look of the functions here when they are called with `sure`; acquire serves otherwise.

   HOSTILE MEMORY
   ==============

   Any process that has the segment mapped may write anything into it. Positions are used modulo the capacity, which
   this process has checked; lengths are cut; indexes of records are bounded; every walk and every retry has an end.
   A word that no queue writes gives SHMQ_CORRUPT, with the position and the word in the participant.

   HOW TO USE IT
   =============

    put      shmq_claim_put -> DONE: shmq_write for each position, shmq_publish. Otherwise nothing is claimed.
    get      shmq_claim_get -> DONE: for each position shmq_read, copy, shmq_free_slot (false: not yours, drop it);
                               then shmq_finish_get.
                            -> ORPHAN: shmq_rescue_get of that position, into a buffer of item_size bytes.
                            -> NOTHING or HELD: with `sure`, shmq_find_orphan or shmq_adopt, before saying Empty.
    waiting  epoch = shmq_arm; claim with `sure`; sleep on the low half of the epoch's word while it is as read.
    copying  may fail for want of memory between claim and freeing: shmq_abandon, and the item goes to another get.

   `sure` also tells whether to find out if an operation that is in the way is dead, which costs a scan of the records
   and perhaps system calls. HELD means that another operation is about to end there: be patient for a moment.

   Define SHMQ_STEP(label) before including this to be called before each atomic step on shared memory. */

#ifndef SHMQ_RING_H
#define SHMQ_RING_H

#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "layout.h"

#ifndef SHMQ_STEP
#define SHMQ_STEP(label) ((void)0)
#endif

#define SHMQ_LOAD(label, word, order) (SHMQ_STEP(label), atomic_load_explicit((word), (order)))
#define SHMQ_STORE(label, word, value, order) (SHMQ_STEP(label), atomic_store_explicit((word), (value), (order)))
#define SHMQ_ADD(label, word, amount, order) (SHMQ_STEP(label), atomic_fetch_add_explicit((word), (amount), (order)))
/* The strong one: a claim that fails without a reason would send its caller to look for one. */
#define SHMQ_CAS(label, word, expected, desired, success, failure)                                                     \
    (SHMQ_STEP(label),                                                                                                 \
     atomic_compare_exchange_strong_explicit((word), &(uint64_t){(expected)}, (desired), (success), (failure)))

/* Ask for a line of cache to write to; a hint. For x86 the builtin asks for a shared copy, and the write would ask again. */
#if defined(__x86_64__) && defined(__GNUC__)
#define SHMQ_PREFETCH(line) __asm__ volatile("prefetchw %0" : : "m"(*(const char *)(line)))
#elif defined(__GNUC__)
#define SHMQ_PREFETCH(line) __builtin_prefetch((line), 1)
#else
#define SHMQ_PREFETCH(line) ((void)0)
#endif

/* An acquire load for an attempt, a seq_cst load for the last look before a sleep [W3]. */
#define SHMQ_LOOK(label, word, sure)                                                                                   \
    (SHMQ_STEP(label), (sure) ? atomic_load_explicit((word), memory_order_seq_cst)                                     \
                              : atomic_load_explicit((word), memory_order_acquire))

/* Looks at an announcement that is in the way before it is asked whether its owner lives. An operation of a process that
   has a processor ends in less time than these take, about 1 µs; to ask takes 7 to 12 µs. */
#ifndef SHMQ_LOOKS
#define SHMQ_LOOKS 32
#endif

/* Let the other side have the line of cache, and the other thread of this core its turn. */
static inline void shmq_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Retries that mean that others got on are not counted by any queue; this many in a row happen in a broken one. */
#define SHMQ_ATTEMPTS 4096

/* The tag of an item whose slot said more bytes than a slot holds; no codec has it. */
#define SHMQ_CORRUPT_TAG (1U << SHMQ_TAG_BITS)

enum shmq_result {
    SHMQ_DONE,
    SHMQ_NOTHING,    /* empty, or full */
    SHMQ_HELD,       /* another operation is between its claim and its end there; it will be over in a moment */
    SHMQ_ORPHAN,     /* a dead get has left an item at the position */
    SHMQ_CLAIM_LOST, /* others have declared this operation dead while it was alive; its items are not in the queue */
    SHMQ_CORRUPT,    /* bad_position and bad_word of the participant say what */
    SHMQ_AGAIN       /* inside this file only */
};

/* What the ring needs from outside. */
struct shmq_calls {
    /* Whether the process of an owner word lives [S3]. When in doubt it does. Off the fast path; may be slow. */
    bool (*is_alive)(void *context, uint64_t owner);
    /* Wakes up to count sleepers of the low half of a word; returns how many there were. Does not wait. */
    int (*futex_wake)(void *context, _Atomic uint64_t *word, int count);
    /* Rings the bell of a participant's name in the segment of this nonce; returns whether it is there. Does not wait. */
    bool (*ring_bell)(void *context, uint64_t nonce, uint64_t name);
    void *context;
};

/* One mapped segment, seen from one process. Not changed by any function here, so threads may share it. */
struct shmq_ring {
    struct shmq_header *header;
    struct shmq_record *records;
    unsigned char *slots;
    uint64_t capacity;
    uint64_t stride;
    uint32_t item_size;
    bool spsc;
    uint64_t owner; /* the owner word of this process */
    struct shmq_calls calls;
};

/* A record that this process has taken, for one operation at a time. */
struct shmq_participant {
    struct shmq_record *record;
    uint32_t index;
    uint64_t name; /* for whatever outlives one scan: a role, a lock */
    uint64_t bad_position;
    uint64_t bad_word;
};

/* An item in its slot, or in the buffer of its adopter. */
struct shmq_item {
    const unsigned char *data;
    uint32_t length; /* not more than item_size */
    uint32_t tag;    /* of its codec, or SHMQ_CORRUPT_TAG */
    bool mine;       /* of shmq_rescue_get: decided, and won */
};

/* What a record can announce. */
enum shmq_side { SHMQ_PUT, SHMQ_GET };

/* ---- words -------------------------------------------------------------------------------------------------------- */

/* The sizes must have been checked against the length of the mapping; the header is not believed later. */
static inline void shmq_open(struct shmq_ring *ring, void *base, uint64_t capacity, uint32_t item_size, bool spsc,
                             uint64_t owner, struct shmq_calls calls)
{
    ring->header = base;
    ring->records = (struct shmq_record *)(void *)((unsigned char *)base + SHMQ_RECORDS_START);
    ring->slots = (unsigned char *)base + SHMQ_SLOTS_START;
    ring->capacity = capacity;
    ring->stride = SHMQ_STRIDE(item_size);
    ring->item_size = item_size;
    ring->spsc = spsc;
    ring->owner = owner;
    ring->calls = calls;
}

static inline uint64_t shmq_word_of(uint64_t position, uint64_t state)
{
    return position << SHMQ_STATE_BITS | state;
}

static inline uint64_t shmq_position_of(uint64_t word)
{
    return word >> SHMQ_STATE_BITS;
}

static inline struct shmq_slot *shmq_slot_of(const struct shmq_ring *ring, uint64_t position)
{
    const uint64_t capacity = ring->capacity;
    const bool power_of_two = (capacity & (capacity - 1)) == 0; /* a division takes longer than the rest of a claim */
    const uint64_t index = power_of_two ? position & (capacity - 1) : position % capacity;
    return (struct shmq_slot *)(void *)(ring->slots + index * ring->stride);
}

/* Fetch the first two lines of a slot while the claim goes on, to have them alone: its last user has them, on another core.
   A round trip takes 0.6 µs instead of 0.9. The processor itself fetches the rest of a long item. */
static inline void shmq_prefetch(const struct shmq_ring *ring, uint64_t position)
{
    const unsigned char *slot = (const unsigned char *)shmq_slot_of(ring, position);
    SHMQ_PREFETCH(slot);
    if (ring->stride > SHMQ_LINE) {
        SHMQ_PREFETCH(slot + SHMQ_LINE);
    }
}

static inline enum shmq_result shmq_corrupt(struct shmq_participant *me, uint64_t position, uint64_t word)
{
    me->bad_position = position;
    me->bad_word = word;
    return SHMQ_CORRUPT;
}

/* A word of a later position: retry, unless this slot can never have it. */
static inline enum shmq_result shmq_check_later(const struct shmq_ring *ring, struct shmq_participant *me,
                                                uint64_t position, uint64_t word)
{
    const uint64_t later = shmq_position_of(word);
    const uint64_t tail = SHMQ_LOAD("P1", &ring->header->tail, memory_order_acquire);
    if (later % ring->capacity != position % ring->capacity || (later > tail && later - tail >= ring->capacity)) {
        return shmq_corrupt(me, position, word);
    }
    return SHMQ_AGAIN;
}

/* ---- waking ------------------------------------------------------------------------------------------------------- */

static inline uint64_t shmq_name_of(uint32_t index, uint64_t generation)
{
    return generation << SHMQ_NAME_INDEX_BITS | (uint64_t)(index + 1);
}

/* Ring up to count of the bells that wait on a side; returns how many were there.

   Each bit of a word is looked at once, so a mask that somebody else keeps filling is no reason to stay. A bell that
   begins to wait meanwhile looks again after it has armed the hint anew [W3]. */
static inline uint64_t shmq_ring_bells(const struct shmq_ring *ring, const struct shmq_wake_words *side, uint64_t count)
{
    struct shmq_header *header = ring->header;
    _Atomic uint64_t *mask = header->bells[side == &header->items ? 0 : 1];
    /* A bell raises the mark before it sets its bit [R2][B1], and this comes after the hint that was armed later [W4]. */
    const uint64_t mark = SHMQ_LOAD("B3", &header->records_used, memory_order_acquire);
    const uint32_t used = mark < SHMQ_RECORDS ? (uint32_t)mark : SHMQ_RECORDS;
    uint64_t rung = 0;
    for (uint32_t index = 0; index < used && rung < count; index += 64) {
        const uint64_t bits = SHMQ_LOAD("B3", &mask[index / 64], memory_order_acquire);
        for (uint32_t i = 0; i < 64 && index + i < used && bits >> i != 0 && rung < count; i++) {
            const uint64_t bit = UINT64_C(1) << i;
            if ((bits & bit) == 0) {
                continue;
            }
            /* [B3] acq_rel, before the ring; pairs with [B1][B5]. One ring for one bit: it is mine if it was set. */
            SHMQ_STEP("B3");
            if ((atomic_fetch_and_explicit(&mask[index / 64], ~bit, memory_order_acq_rel) & bit) == 0) {
                continue;
            }
            /* [B4] acquire, after [B3]; pairs with [R2]: a successor's bit is rung under the successor's name. */
            const uint64_t generation = SHMQ_LOAD("B4", &ring->records[index + i].generation, memory_order_acquire);
            if (ring->calls.ring_bell(ring->calls.context, SHMQ_LOAD("B4", &header->nonce, memory_order_relaxed),
                                      shmq_name_of(index + i, generation))) {
                rung++;
            } else {
                SHMQ_ADD("count", &header->bells_refused, 1, memory_order_relaxed);
            }
        }
    }
    return rung;
}

/* Wake up to count waiters of a side, after a change that they can use: sleepers first, then bells. */
static inline void shmq_wake(const struct shmq_ring *ring, struct shmq_wake_words *side, uint64_t count)
{
    /* [W4] seq_cst, after the caller's change; pairs with [W2]. */
    const uint64_t hint = SHMQ_LOAD("W4", &side->hint, memory_order_seq_cst);
    if ((hint & 1) == 0) {
        return;
    }
    /* [W5] release; pairs with [W1], and the kernel compares again. */
    SHMQ_ADD("W5", &side->epoch, 1, memory_order_acq_rel);
    const int slept = ring->calls.futex_wake(ring->calls.context, &side->epoch, count > INT_MAX ? INT_MAX : (int)count);
    uint64_t woken = slept > 0 ? (uint64_t)slept : 0;
    if (woken < count) {
        woken += shmq_ring_bells(ring, side, count - woken);
    }
    if (woken == 0) {
        /* Nobody waits. Publishes nothing; a newer arming has another version and stays. */
        SHMQ_CAS("W4", &side->hint, hint, hint & ~UINT64_C(1), memory_order_relaxed, memory_order_relaxed);
    }
}

/* Let everybody of a side look again. */
static inline void shmq_wake_all(const struct shmq_ring *ring, struct shmq_wake_words *side)
{
    SHMQ_ADD("W5", &side->epoch, 1, memory_order_acq_rel);
    ring->calls.futex_wake(ring->calls.context, &side->epoch, INT_MAX);
    shmq_ring_bells(ring, side, SHMQ_RECORDS);
}

/* Whether somebody may be asleep: a hint for the chain of wakes, which the bound of every sleep backs up. */
static inline bool shmq_is_armed(struct shmq_wake_words *side)
{
    return (SHMQ_LOAD("W4", &side->hint, memory_order_relaxed) & 1) != 0;
}

/* Say that the caller is about to sleep; returns the epoch to sleep on. He looks once more before, with `sure` [W3]. */
static inline uint64_t shmq_arm(struct shmq_wake_words *side)
{
    /* [W1] acquire, before [W2]; pairs with [W5]. In the other order a wake in between would be slept through. */
    const uint64_t epoch = SHMQ_LOAD("W1", &side->epoch, memory_order_acquire);
    for (int attempt = 0; attempt < SHMQ_ATTEMPTS; attempt++) {
        const uint64_t hint = SHMQ_LOAD("W2", &side->hint, memory_order_relaxed);
        /* [W2] seq_cst; pairs with [W4]. */
        if (SHMQ_CAS("W2", &side->hint, hint, (hint | 1) + 2, memory_order_seq_cst, memory_order_relaxed)) {
            break;
        }
    }
    return epoch;
}

/* The 32 bits of a word that a futex sleeps on: those that change. */
static inline uint32_t *shmq_low_half(_Atomic uint64_t *word)
{
    const uint16_t probe = 1;
    unsigned char first;
    memcpy(&first, &probe, 1);
    return (uint32_t *)((uintptr_t)word + (first == 1 ? 0 : 4));
}

/* ---- participants: announcements ---------------------------------------------------------------------------------- */

static inline void shmq_announce_put(struct shmq_participant *me, uint64_t begin, uint64_t end)
{
    /* [P3] relaxed; begin first, so that nothing is covered in between. */
    SHMQ_STORE("P3", &me->record->put_begin, begin, memory_order_relaxed);
    /* [P4] release, pairs with [S2]: begin is there when end is. */
    SHMQ_STORE("P4", &me->record->put_end, end, memory_order_release);
}

static inline void shmq_withdraw_put(struct shmq_participant *me)
{
    /* [P9] release, pairs with [S2]: who sees this sees FULL. */
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
    /* [G7] release, pairs with [S2]: who sees this sees FREE. */
    SHMQ_STORE("G7", &me->record->get_end, 0, memory_order_release);
}

/* ---- participants: scans ------------------------------------------------------------------------------------------ */

/* How many records may be in use; read after tail (head), it covers whoever moved that. */
static inline uint32_t shmq_records_used(const struct shmq_ring *ring)
{
    const uint64_t used = SHMQ_LOAD("S2", &ring->header->records_used, memory_order_acquire);
    return used < SHMQ_RECORDS ? (uint32_t)used : SHMQ_RECORDS;
}

/* Whether somebody alive is in the operation of this record; asked anew each time, a verdict is never kept. */
static inline bool shmq_is_manned(const struct shmq_ring *ring, struct shmq_record *record)
{
    /* [S2] acquire, each; pairs with [R1][R2][A1]. */
    const uint64_t owner = SHMQ_LOAD("S2", &record->owner, memory_order_acquire);
    if (owner == 0 || SHMQ_LOAD("S2", &record->abandoned, memory_order_acquire) != 0) {
        return false;
    }
    return owner == ring->owner || ring->calls.is_alive(ring->calls.context, owner); /* [S3] */
}

/* Whether a record announces a position. */
static inline bool shmq_announces(struct shmq_record *record, enum shmq_side side, uint64_t position)
{
    /* [S2] acquire, each; pairs with [P4][P9][G4][G7]. It keeps [S4] behind. */
    const uint64_t begin =
        SHMQ_LOAD("S2", side == SHMQ_PUT ? &record->put_begin : &record->get_begin, memory_order_acquire);
    const uint64_t end =
        SHMQ_LOAD("S2", side == SHMQ_PUT ? &record->put_end : &record->get_end, memory_order_acquire);
    return begin <= position && position < end;
}

/* Whether a record announces a position, and goes on to for SHMQ_LOOKS looks. A later look is a later scan. */
static inline bool shmq_keeps_announcing(struct shmq_record *record, enum shmq_side side, uint64_t position)
{
    for (int look = 0; look < SHMQ_LOOKS; look++) {
        if (!shmq_announces(record, side, position)) {
            return false;
        }
        shmq_relax();
    }
    return true;
}

/* The index of the next record, from index `from` on, whose live owner covers a position; SHMQ_RECORDS if there is none.
   The caller has read tail (head) beyond the position before [S1], and reads the slot's word again after [S4]. */
static inline uint32_t shmq_next_covering(const struct shmq_ring *ring, enum shmq_side side, uint64_t position,
                                          uint32_t from)
{
    const uint32_t used = shmq_records_used(ring);
    for (uint32_t index = from; index < used; index++) {
        struct shmq_record *record = &ring->records[index];
        if (shmq_keeps_announcing(record, side, position) && shmq_is_manned(ring, record)) {
            return index;
        }
    }
    return SHMQ_RECORDS;
}

static inline bool shmq_is_covered(const struct shmq_ring *ring, enum shmq_side side, uint64_t position)
{
    return shmq_next_covering(ring, side, position, 0) < SHMQ_RECORDS;
}

/* Whether a put has claimed this position and not published it. */
static inline bool shmq_is_claimed_by_put(const struct shmq_ring *ring, uint64_t position)
{
    /* [S1] acquire, pairs with [P6]. */
    return SHMQ_LOAD("S1", &ring->header->tail, memory_order_acquire) > position &&
           SHMQ_LOAD("S1", &shmq_slot_of(ring, position)->word, memory_order_acquire) ==
               shmq_word_of(position, SHMQ_FREE);
}

/* Whether a get has claimed this position and not freed it. */
static inline bool shmq_is_claimed_by_get(const struct shmq_ring *ring, uint64_t position)
{
    /* [S1] acquire, pairs with [G5]. */
    return SHMQ_LOAD("S1", &ring->header->head, memory_order_acquire) > position &&
           SHMQ_LOAD("S1", &shmq_slot_of(ring, position)->word, memory_order_acquire) ==
               shmq_word_of(position, SHMQ_FULL);
}

/* ---- when a process dies ------------------------------------------------------------------------------------------ */

/* Anybody who meets a TOMB frees it, at the head or not. */
static inline void shmq_free_tomb(const struct shmq_ring *ring, uint64_t position)
{
    /* [T2] acq_rel, pairs with [P2]; seq_cst for the wake. */
    if (SHMQ_CAS("T2", &shmq_slot_of(ring, position)->word, shmq_word_of(position, SHMQ_TOMB),
                 shmq_word_of(position + ring->capacity, SHMQ_FREE), memory_order_seq_cst, memory_order_relaxed)) {
        shmq_wake(ring, &ring->header->space, 1);
    }
}

/* Whether the slot of position + j holds a member of the batch that began at `position`, j places behind its first.
   Its index says so: no put that begins later has index j there. */
static inline bool shmq_is_member(const struct shmq_ring *ring, uint64_t position, uint64_t j, bool *of_another)
{
    struct shmq_slot *slot = shmq_slot_of(ring, position + j);
    /* [S5] acquire, pairs with [P8]: its batch index is read next. */
    if (SHMQ_LOAD("S5", &slot->word, memory_order_acquire) != shmq_word_of(position + j, SHMQ_FULL)) {
        *of_another = false;
        return false;
    }
    const bool member = SHMQ_LOAD("S5", &slot->meta, memory_order_relaxed) >> SHMQ_TAG_BITS == j;
    *of_another = !member;
    return member;
}

/* Bury a put that was found FREE at a position below tail, if nobody alive covers it. The caller announces nothing.
   False: somebody alive holds the position. True: look again.

   Its batch is made absent as a whole, the first position last. Where does the batch end? Its record may be gone, and
   its slots are published from the last to the first: behind p come FREE ones, then FULL ones with their index, then
   slots of others in any state. A FREE or TOMB slot tells nothing (it may be of the batch, with members behind it).
   But a FULL slot p+j whose index is not j is of another put; a batch is contiguous, so no member lies behind it, and
   the walk up can end there. It costs a look at the batch, and at claims that are as unfinished as this one, instead
   of one at every slot of a long queue. The slots are made TOMBs from the last to the first, so that who dies here
   leaves no less to find. A walk that is fooled by slots that changed meanwhile runs behind somebody who has buried
   the put already, for slot p must leave FREE(p) before any of these can be claimed anew; then all its
   compare-and-swaps fail. */
static inline bool shmq_rescue_put(const struct shmq_ring *ring, uint64_t position)
{
    /* [S1] acquire, pairs with [P6]. It lies behind the whole batch, which was claimed in one step. */
    const uint64_t tail = SHMQ_LOAD("S1", &ring->header->tail, memory_order_acquire);
    if (tail <= position || shmq_is_covered(ring, SHMQ_PUT, position)) {
        return false;
    }
    struct shmq_slot *slot = shmq_slot_of(ring, position);
    const uint64_t free = shmq_word_of(position, SHMQ_FREE);
    /* [S4] the second read, after [S2]: published before its owner's announcement went. */
    if (SHMQ_LOAD("S4", &slot->word, memory_order_seq_cst) != free) {
        return true;
    }
    uint64_t limit = tail - position < ring->capacity ? tail - position : ring->capacity;
    limit = limit < SHMQ_MAX_BATCH ? limit : SHMQ_MAX_BATCH;
    uint64_t end = 1;
    bool of_another = false;
    for (uint64_t j = 1; j < limit && !of_another; j++) {
        if (shmq_is_member(ring, position, j, &of_another)) {
            end = j + 1;
        }
    }
    for (uint64_t j = end - 1; j > 0; j--) {
        if (shmq_is_member(ring, position, j, &of_another) &&
            /* [T1] acq_rel, before the last one. */
            SHMQ_CAS("T1", &shmq_slot_of(ring, position + j)->word, shmq_word_of(position + j, SHMQ_FULL),
                     shmq_word_of(position + j, SHMQ_TOMB), memory_order_acq_rel, memory_order_relaxed)) {
            SHMQ_ADD("T1", &ring->header->tombs, 1, memory_order_relaxed);
        }
    }
    /* [T1] acq_rel, after the others, pairs with [T2]; seq_cst for the wake. */
    if (SHMQ_CAS("T1", &slot->word, free, shmq_word_of(position, SHMQ_TOMB), memory_order_seq_cst,
                 memory_order_relaxed)) {
        SHMQ_ADD("T1", &ring->header->tombs, 1, memory_order_relaxed);
    }
    shmq_wake(ring, &ring->header->items, 1);
    return true;
}

/* Read length and tag; they come from the segment and are not believed. */
static inline void shmq_describe(const struct shmq_ring *ring, struct shmq_slot *slot, struct shmq_item *item)
{
    item->length = SHMQ_LOAD("G2", &slot->length, memory_order_relaxed);
    item->tag = SHMQ_LOAD("G2", &slot->meta, memory_order_relaxed) & SHMQ_TAG_MASK;
    item->data = slot->payload;
    item->mine = false;
    if (item->length > ring->item_size) {
        item->length = ring->item_size;
        item->tag = SHMQ_CORRUPT_TAG;
    }
}

/* Adopt an item that was found FULL at a position below head, if nobody alive covers it. The caller announces nothing;
   the buffer has item_size bytes. True: the item is his, and lies in the buffer. */
static inline bool shmq_rescue_get(const struct shmq_ring *ring, uint64_t position, void *buffer,
                                   struct shmq_item *item)
{
    item->mine = false;
    if (!shmq_is_claimed_by_get(ring, position) || shmq_is_covered(ring, SHMQ_GET, position)) {
        return false;
    }
    struct shmq_slot *slot = shmq_slot_of(ring, position);
    const uint64_t full = shmq_word_of(position, SHMQ_FULL);
    /* [S4] the second read, pairs with [P8]: what is copied now is this item, or the compare-and-swap will fail. */
    if (SHMQ_LOAD("S4", &slot->word, memory_order_seq_cst) != full) {
        return false;
    }
    shmq_describe(ring, slot, item);
    unsigned char *to = buffer;
    _Atomic uint64_t *words = (_Atomic uint64_t *)(void *)slot->payload;
    for (uint32_t at = 0; at < item->length; at += SHMQ_WORD) {
        const uint64_t word = SHMQ_LOAD("T3", &words[at / SHMQ_WORD], memory_order_relaxed);
        memcpy(to + at, &word, item->length - at < SHMQ_WORD ? item->length - at : SHMQ_WORD);
    }
    item->data = buffer;
    /* [T3] acq_rel, after the copy; pairs with [P2]; seq_cst for the wake. Several may try; the one who frees the slot
       has the item. */
    item->mine = SHMQ_CAS("T3", &slot->word, full, shmq_word_of(position + ring->capacity, SHMQ_FREE),
                          memory_order_seq_cst, memory_order_relaxed);
    if (item->mine) {
        SHMQ_ADD("T3", &ring->header->adopted, 1, memory_order_relaxed);
        shmq_wake(ring, &ring->header->space, 1);
    }
    return item->mine;
}

/* The positions that a record's get may have claimed; more than a capacity of them nobody claims. */
static inline void shmq_announced_gets(const struct shmq_ring *ring, struct shmq_record *record, uint64_t *begin,
                                       uint64_t *end)
{
    *begin = SHMQ_LOAD("S2", &record->get_begin, memory_order_acquire);
    *end = SHMQ_LOAD("S2", &record->get_end, memory_order_acquire);
    if (*end > *begin && *end - *begin > ring->capacity) {
        *end = *begin + ring->capacity;
    }
}

/* Look for an item that a dead get had claimed; a few plain looks when nobody is in a get. The caller announces nothing.
   True: try shmq_rescue_get with this position. */
static inline bool shmq_find_orphan(const struct shmq_ring *ring, uint64_t *position)
{
    const uint32_t used = shmq_records_used(ring);
    for (uint32_t index = 0; index < used; index++) {
        struct shmq_record *record = &ring->records[index];
        if (SHMQ_LOAD("S2", &record->get_end, memory_order_relaxed) == 0) { /* a hint; what follows is not */
            continue;
        }
        uint64_t begin, end;
        shmq_announced_gets(ring, record, &begin, &end);
        if (begin >= end || !shmq_keeps_announcing(record, SHMQ_GET, begin) || shmq_is_manned(ring, record)) {
            continue;
        }
        for (uint64_t q = begin; q < end; q++) {
            if (shmq_is_claimed_by_get(ring, q) && !shmq_is_covered(ring, SHMQ_GET, q)) {
                *position = q;
                return true;
            }
        }
    }
    return false;
}

/* Take over an item of a dead get, if there is one. The buffer has item_size bytes. */
static inline bool shmq_adopt(const struct shmq_ring *ring, void *buffer, struct shmq_item *item)
{
    uint64_t position;
    for (int attempt = 0; attempt < SHMQ_ATTEMPTS && shmq_find_orphan(ring, &position); attempt++) {
        if (shmq_rescue_get(ring, position, buffer, item)) {
            return true;
        }
    }
    return false;
}

/* ---- put ---------------------------------------------------------------------------------------------------------- */

/* Say what a slot that is not free means for a put. */
static inline enum shmq_result shmq_no_room(const struct shmq_ring *ring, struct shmq_participant *me, uint64_t tail,
                                            uint64_t position, uint64_t word, bool sure)
{
    if (shmq_position_of(word) > position || SHMQ_LOOK("P1", &ring->header->tail, sure) != tail) {
        return shmq_check_later(ring, me, position, word); /* tail was stale */
    }
    const uint64_t before = position - ring->capacity;
    if (position >= ring->capacity) {
        if (word == shmq_word_of(before, SHMQ_FREE)) { /* the put of the lap before has not published */
            if (!sure) {
                return SHMQ_HELD;
            }
            return shmq_rescue_put(ring, before) ? SHMQ_AGAIN : SHMQ_NOTHING;
        }
        if (word == shmq_word_of(before, SHMQ_FULL)) {
            if (SHMQ_LOOK("G1", &ring->header->head, sure) <= before) {
                return SHMQ_NOTHING;
            }
            if (!sure || shmq_is_covered(ring, SHMQ_GET, before)) {
                return SHMQ_HELD; /* its get is about to free it */
            }
            /* The item of a dead get is for the getters, and until then this is full; unless that get has just ended, as
               a second read tells [S4]. */
            return SHMQ_LOAD("S4", &shmq_slot_of(ring, position)->word, memory_order_seq_cst) == word ? SHMQ_NOTHING
                                                                                                      : SHMQ_AGAIN;
        }
        if (word == shmq_word_of(before, SHMQ_TOMB)) {
            return SHMQ_AGAIN;
        }
    }
    if (SHMQ_LOOK("P2", &shmq_slot_of(ring, position)->word, sure) != word) {
        return SHMQ_AGAIN;
    }
    return shmq_corrupt(me, position, word);
}

/* Claim `count` positions, contiguous, for a put. DONE: they begin at *position; write and publish them, and wait for
   nothing in between. NOTHING, HELD, CORRUPT: nothing is claimed.

   The caller has seen to it that 1 <= count <= capacity and count < 2^24, and in mode spsc that the role is his. */
static inline enum shmq_result shmq_claim_put(const struct shmq_ring *ring, struct shmq_participant *me, uint64_t count,
                                              bool sure, uint64_t *position)
{
    const uint64_t capacity = ring->capacity;
    for (int attempt = 0; attempt < SHMQ_ATTEMPTS; attempt++) {
        /* [P1] acquire, pairs with [P6]. */
        const uint64_t tail = SHMQ_LOOK("P1", &ring->header->tail, sure);
        uint64_t p = tail, word = 0;
        for (; p != tail + count; p++) {
            struct shmq_slot *slot = shmq_slot_of(ring, p);
            /* [P2] acquire, pairs with [G6][T2][T3]: the last reader has made his copy. */
            word = SHMQ_LOOK("P2", &slot->word, sure);
            if (word == shmq_word_of(p - capacity, SHMQ_TOMB)) {
                shmq_free_tomb(ring, p - capacity);
                word = SHMQ_LOOK("P2", &slot->word, sure);
            }
            if (word != shmq_word_of(p, SHMQ_FREE)) {
                break;
            }
        }
        if (p != tail + count) {
            shmq_withdraw_put(me); /* before anything slow */
            const enum shmq_result found = shmq_no_room(ring, me, tail, p, word, sure);
            if (found != SHMQ_AGAIN) {
                return found;
            }
            continue;
        }
        shmq_prefetch(ring, tail);
        shmq_announce_put(me, tail, tail + count);
        if (ring->spsc) {
            /* [P6] release, pairs with [S1]; only the owner of the role moves tail. */
            SHMQ_STORE("P6", &ring->header->tail, tail + count, memory_order_release);
        } else if (!SHMQ_CAS("P6", &ring->header->tail, tail, tail + count, memory_order_acq_rel,
                             memory_order_relaxed)) {
            continue; /* [P6] release, pairs with [S1]. Lost: the next announcement replaces this one. */
        }
        *position = tail;
        return SHMQ_DONE;
    }
    shmq_withdraw_put(me);
    return SHMQ_HELD;
}

/* Eight bytes from anywhere. */
static inline uint64_t shmq_bytes(const unsigned char *from)
{
    uint64_t word;
    memcpy(&word, from, SHMQ_WORD);
    return word;
}

/* Write an item into a claimed slot. length <= item_size; index is its place in its batch, 0 for a single put. */
static inline void shmq_write(const struct shmq_ring *ring, uint64_t position, const void *data, uint32_t length,
                              uint32_t tag, uint32_t index)
{
    struct shmq_slot *slot = shmq_slot_of(ring, position);
    const unsigned char *from = data;
    _Atomic uint64_t *words = (_Atomic uint64_t *)(void *)slot->payload;
    SHMQ_STEP("P7");
    /* [P7] relaxed, published by [P8]; plain would do, were it not for the copies that adopters throw away. */
    atomic_store_explicit(&slot->length, length, memory_order_relaxed);
    atomic_store_explicit(&slot->meta, tag | index << SHMQ_TAG_BITS, memory_order_relaxed);
    for (; length >= 4 * SHMQ_WORD; length -= 4 * SHMQ_WORD, from += 4 * SHMQ_WORD, words += 4) { /* twice as fast */
        const uint64_t first = shmq_bytes(from), second = shmq_bytes(from + SHMQ_WORD);
        const uint64_t third = shmq_bytes(from + 2 * SHMQ_WORD), fourth = shmq_bytes(from + 3 * SHMQ_WORD);
        atomic_store_explicit(words, first, memory_order_relaxed);
        atomic_store_explicit(words + 1, second, memory_order_relaxed);
        atomic_store_explicit(words + 2, third, memory_order_relaxed);
        atomic_store_explicit(words + 3, fourth, memory_order_relaxed);
    }
    for (; length >= SHMQ_WORD; length -= SHMQ_WORD, from += SHMQ_WORD) {
        atomic_store_explicit(words++, shmq_bytes(from), memory_order_relaxed);
    }
    if (length > 0) {
        uint64_t word = 0;
        memcpy(&word, from, length);
        atomic_store_explicit(words, word, memory_order_relaxed);
    }
}

/* Whether a single put would find its slot free now, or freed when it looks for the dead. */
static inline bool shmq_has_room(const struct shmq_ring *ring)
{
    for (int attempt = 0; attempt < SHMQ_ATTEMPTS; attempt++) {
        const uint64_t tail = SHMQ_LOOK("P1", &ring->header->tail, true);
        const uint64_t before = tail - ring->capacity;
        struct shmq_slot *slot = shmq_slot_of(ring, tail);
        const uint64_t word = SHMQ_LOOK("P2", &slot->word, true);
        if (word == shmq_word_of(tail, SHMQ_FREE) || word == shmq_word_of(before, SHMQ_TOMB)) {
            return true;
        }
        if (word == shmq_word_of(before, SHMQ_FREE) && !shmq_is_covered(ring, SHMQ_PUT, before)) {
            /* The put of the lap before is dead, unless it had published [S4]. */
            if (SHMQ_LOAD("S4", &slot->word, memory_order_seq_cst) == word) {
                return true;
            }
            continue;
        }
        /* FULL(before), even of a dead get: no room until a getter has adopted it. */
        if (SHMQ_LOOK("P1", &ring->header->tail, true) == tail) {
            return false;
        }
    }
    return false;
}

/* Publish what is written at position .. position + count - 1, and wake getters. */
static inline enum shmq_result shmq_publish(const struct shmq_ring *ring, struct shmq_participant *me,
                                            uint64_t position, uint64_t count)
{
    for (uint64_t p = position + count; p-- != position;) {
        struct shmq_slot *slot = shmq_slot_of(ring, p);
        /* [P8] release for the payload, pairs with [G2]; seq_cst for the wake, pairs with [W3]. The first slot comes
           last: getters take in order, so the batch is there as a whole or not at all. */
        if (!SHMQ_CAS("P8", &slot->word, shmq_word_of(p, SHMQ_FREE), shmq_word_of(p, SHMQ_FULL), memory_order_seq_cst,
                      memory_order_relaxed)) {
            me->bad_position = p;
            me->bad_word = SHMQ_LOAD("P8", &slot->word, memory_order_relaxed);
            shmq_withdraw_put(me);
            return SHMQ_CLAIM_LOST;
        }
    }
    shmq_withdraw_put(me); /* [P9] */
    shmq_wake(ring, &ring->header->items, count);
    if (shmq_is_armed(&ring->header->space) && shmq_has_room(ring)) {
        shmq_wake(ring, &ring->header->space, 1); /* the chain: one wake may stand for several places */
    }
    return SHMQ_DONE;
}

/* ---- get ---------------------------------------------------------------------------------------------------------- */

/* Claim what is there, in order, up to `limit` items. DONE: *count items from *position on; copy and free them, finish,
   and wait for nothing in between. ORPHAN: an item of a dead get lies at *position. Else nothing is claimed.

   In mode spsc the caller has seen to it that the role is his. */
static inline enum shmq_result shmq_claim_get(const struct shmq_ring *ring, struct shmq_participant *me, uint64_t limit,
                                              bool sure, uint64_t *position, uint64_t *count)
{
    const uint64_t capacity = ring->capacity;
    const uint64_t most = limit < capacity ? limit : capacity;
    for (int attempt = 0; attempt < SHMQ_ATTEMPTS; attempt++) {
        /* [G1] acquire, pairs with [G5]. */
        const uint64_t p = SHMQ_LOOK("G1", &ring->header->head, sure);
        /* [G2] acquire, pairs with [P8]: the payload is complete. */
        const uint64_t word = SHMQ_LOOK("G2", &shmq_slot_of(ring, p)->word, sure);
        if (word == shmq_word_of(p, SHMQ_FULL)) {
            shmq_prefetch(ring, p);
            uint64_t end = p + 1;
            while (end - p < most && SHMQ_LOAD("G2", &shmq_slot_of(ring, end)->word, memory_order_acquire) ==
                                         shmq_word_of(end, SHMQ_FULL)) {
                end++;
            }
            shmq_announce_get(me, p, end);
            if (ring->spsc) {
                /* [G5] release, pairs with [S1]; only the owner of the role moves head. */
                SHMQ_STORE("G5", &ring->header->head, end, memory_order_release);
            } else if (!SHMQ_CAS("G5", &ring->header->head, p, end, memory_order_acq_rel, memory_order_relaxed)) {
                continue; /* [G5] release, pairs with [S1]. Lost: the next announcement replaces this one. */
            }
            *position = p;
            *count = end - p;
            return SHMQ_DONE;
        }
        shmq_withdraw_get(me); /* before anything slow */
        if (word == shmq_word_of(p, SHMQ_TOMB)) {
            shmq_free_tomb(ring, p);
            continue;
        }
        if (shmq_position_of(word) > p) {
            if (shmq_check_later(ring, me, p, word) == SHMQ_CORRUPT) {
                return SHMQ_CORRUPT;
            }
            /* Position p is finished. [H1] acq_rel, pairs with [G1]: continues the release sequence of [G5]. */
            if (ring->spsc) {
                SHMQ_STORE("H1", &ring->header->head, p + 1, memory_order_release);
            } else {
                SHMQ_CAS("H1", &ring->header->head, p, p + 1, memory_order_acq_rel, memory_order_relaxed);
            }
            continue;
        }
        if (word == shmq_word_of(p, SHMQ_FREE)) {
            if (!sure) {
                return SHMQ_HELD; /* perhaps; tail's line stays with the putters */
            }
            /* [G3] acquire, after [G2], pairs with [P6]: nothing is claimed, so this is empty. */
            if (SHMQ_LOAD("G3", &ring->header->tail, memory_order_seq_cst) <= p) {
                return SHMQ_NOTHING;
            }
            if (!shmq_rescue_put(ring, p)) {
                return SHMQ_HELD;
            }
            continue;
        }
        if (SHMQ_LOOK("G1", &ring->header->head, sure) != p) {
            continue;
        }
        /* The slot is still of the lap before: whoever got that item has not freed it. Nobody can have put at p, so
           this is empty but for that item, and no record need name it. Head cannot have passed any other word. */
        if (p < capacity || word != shmq_word_of(p - capacity, SHMQ_FULL)) {
            return shmq_corrupt(me, p, word);
        }
        if (!sure) {
            return SHMQ_HELD;
        }
        if (shmq_is_covered(ring, SHMQ_GET, p - capacity)) {
            return SHMQ_NOTHING;
        }
        *position = p - capacity;
        *count = 1;
        return SHMQ_ORPHAN;
    }
    shmq_withdraw_get(me);
    return SHMQ_HELD;
}

/* Describe the item of a claimed position. It may be copied from item->data until the slot is freed. */
static inline void shmq_read(const struct shmq_ring *ring, uint64_t position, struct shmq_item *item)
{
    shmq_describe(ring, shmq_slot_of(ring, position), item);
}

/* Free a claimed slot after its item was copied. False: somebody has adopted the item; drop the copy. */
static inline bool shmq_free_slot(const struct shmq_ring *ring, uint64_t position)
{
    /* [G6] release for the copy, pairs with [P2]; seq_cst for the wake, pairs with [W3]. This decides who has it. */
    return SHMQ_CAS("G6", &shmq_slot_of(ring, position)->word, shmq_word_of(position, SHMQ_FULL),
                    shmq_word_of(position + ring->capacity, SHMQ_FREE), memory_order_seq_cst, memory_order_relaxed);
}

/* End a get whose `count` slots were all freed, and wake putters. */
static inline void shmq_finish_get(const struct shmq_ring *ring, struct shmq_participant *me, uint64_t count)
{
    shmq_withdraw_get(me); /* [G7] */
    shmq_wake(ring, &ring->header->space, count);
    if (shmq_is_armed(&ring->header->items)) {
        const uint64_t head = SHMQ_LOAD("G1", &ring->header->head, memory_order_acquire);
        if (SHMQ_LOAD("G2", &shmq_slot_of(ring, head)->word, memory_order_acquire) == shmq_word_of(head, SHMQ_FULL)) {
            shmq_wake(ring, &ring->header->items, 1); /* the chain: one wake may stand for several items */
        }
    }
}

/* ---- looking ------------------------------------------------------------------------------------------------------ */

/* Whether the slot of this position holds nothing for a getter: neither an item nor a put under way. The dead are seen
   through: a dead put is nothing, with all of its batch; an item that a dead get had claimed is one. */
static inline bool shmq_holds_nothing(const struct shmq_ring *ring, uint64_t head, uint64_t tail, uint64_t position)
{
    struct shmq_slot *slot = shmq_slot_of(ring, position);
    for (int attempt = 0; attempt < SHMQ_ATTEMPTS; attempt++) {
        const uint64_t word = SHMQ_LOAD("G2", &slot->word, memory_order_seq_cst);
        const uint64_t q = shmq_position_of(word);
        if (word == shmq_word_of(q, SHMQ_FULL)) {
            if (q < head) {
                return shmq_is_covered(ring, SHMQ_GET, q); /* it is its getter's, or will be adopted */
            }
            /* [S5] the word was read with acquire. */
            const uint64_t index = SHMQ_LOAD("S5", &slot->meta, memory_order_relaxed) >> SHMQ_TAG_BITS;
            /* The first of its batch is not published: that one's slot decides. */
            return index > 0 && index <= q &&
                   SHMQ_LOAD("S5", &shmq_slot_of(ring, q - index)->word, memory_order_acquire) ==
                       shmq_word_of(q - index, SHMQ_FREE);
        }
        if (word != shmq_word_of(q, SHMQ_FREE) || q < head || q >= tail) {
            return true;
        }
        if (shmq_is_covered(ring, SHMQ_PUT, q)) {
            return false;
        }
        if (SHMQ_LOAD("S4", &slot->word, memory_order_seq_cst) == word) {
            return true;
        }
    }
    return false;
}

/* Whether a get would find nothing, though it looked for the dead; changes nothing. */
static inline bool shmq_is_empty(const struct shmq_ring *ring)
{
    for (int attempt = 0; attempt < 16; attempt++) {
        const uint64_t head = SHMQ_LOAD("G1", &ring->header->head, memory_order_acquire);
        const uint64_t tail = SHMQ_LOAD("G3", &ring->header->tail, memory_order_acquire);
        /* Each slot once: those of a queue without claims ahead of head are not looked at, but for that of head itself,
           which a dead get may still hold. */
        uint64_t slots = tail > head ? tail - head : 1;
        slots = slots < ring->capacity ? slots : ring->capacity;
        for (uint64_t i = 0; i < slots; i++) {
            if (!shmq_holds_nothing(ring, head, tail, head + i)) {
                return false;
            }
        }
        uint64_t position;
        if (shmq_find_orphan(ring, &position)) {
            return false;
        }
        if (SHMQ_LOAD("G3", &ring->header->tail, memory_order_acquire) == tail) {
            return true; /* all that was put before this load was found finished */
        }
    }
    return false; /* somebody keeps putting */
}

/* How many positions are claimed by puts and not by gets, between 0 and the capacity. */
static inline uint64_t shmq_size(const struct shmq_ring *ring)
{
    const uint64_t head = SHMQ_LOAD("G1", &ring->header->head, memory_order_acquire);
    const uint64_t tail = SHMQ_LOAD("P1", &ring->header->tail, memory_order_acquire);
    const uint64_t size = tail > head ? tail - head : 0;
    return size < ring->capacity ? size : ring->capacity;
}

/* ---- participants: taking and leaving ----------------------------------------------------------------------------- */

/* The record that a name speaks of, or NULL for a name that nobody has. */
static inline struct shmq_record *shmq_record_of(const struct shmq_ring *ring, uint64_t name)
{
    const uint64_t number = name & SHMQ_NAME_INDEX_MASK;
    return number >= 1 && number <= SHMQ_RECORDS ? &ring->records[number - 1] : NULL;
}

/* Whether the participant of this name is gone: its record is free, abandoned or another's, or its process dead. */
static inline bool shmq_is_dead(const struct shmq_ring *ring, uint64_t name)
{
    struct shmq_record *record = shmq_record_of(ring, name);
    if (record == NULL) {
        return true;
    }
    /* [S2] acquire. A newcomer has the owner's word before the generation: he passes for the old one for a moment. */
    if (SHMQ_LOAD("S2", &record->generation, memory_order_acquire) << SHMQ_NAME_INDEX_BITS !=
        (name & ~SHMQ_NAME_INDEX_MASK)) {
        return true;
    }
    return !shmq_is_manned(ring, record);
}

static inline bool shmq_is_resolved_get(const struct shmq_ring *ring, struct shmq_record *record)
{
    uint64_t begin, end;
    shmq_announced_gets(ring, record, &begin, &end);
    for (uint64_t q = begin; q < end; q++) {
        if (shmq_is_claimed_by_get(ring, q)) {
            return false;
        }
    }
    return true;
}

static inline bool shmq_is_resolved_put(const struct shmq_ring *ring, struct shmq_record *record, uint64_t *begin)
{
    *begin = SHMQ_LOAD("S2", &record->put_begin, memory_order_acquire);
    return SHMQ_LOAD("S2", &record->put_end, memory_order_acquire) <= *begin || !shmq_is_claimed_by_put(ring, *begin);
}

/* Whether nothing is left of the operation that a record announces. */
static inline bool shmq_is_resolved(const struct shmq_ring *ring, uint32_t index)
{
    uint64_t begin;
    return shmq_is_resolved_put(ring, &ring->records[index], &begin) &&
           shmq_is_resolved_get(ring, &ring->records[index]);
}

/* Bury the put of a dead record; says whether the record is resolved. Gets are left to the getters. */
static inline bool shmq_resolve(const struct shmq_ring *ring, uint32_t index)
{
    uint64_t begin;
    if (!shmq_is_resolved_put(ring, &ring->records[index], &begin)) {
        shmq_rescue_put(ring, begin);
    }
    return shmq_is_resolved(ring, index);
}

/* Take a record, a free one or a dead one whose announcements are resolved. False: all are taken. */
static inline bool shmq_take_record(const struct shmq_ring *ring, struct shmq_participant *me)
{
    /* Verdicts of this one search: the records of a process with many threads stand side by side. */
    enum { VERDICTS = 8 };
    struct {
        uint64_t owner;
        bool alive;
    } verdicts[VERDICTS] = {{ring->owner, true}};
    unsigned known = 1;
    for (uint32_t index = 0; index < SHMQ_RECORDS; index++) {
        struct shmq_record *record = &ring->records[index];
        const uint64_t owner = SHMQ_LOAD("R1", &record->owner, memory_order_acquire);
        if (owner != 0) {
            unsigned which = 0;
            while (which < VERDICTS && which < known && verdicts[which].owner != owner) {
                which++;
            }
            if (which == known || which == VERDICTS) {
                which = known++ % VERDICTS;
                verdicts[which].owner = owner;
                verdicts[which].alive = ring->calls.is_alive(ring->calls.context, owner);
            }
            if (verdicts[which].alive || !shmq_resolve(ring, index)) {
                continue;
            }
        }
        /* [R1] acq_rel, pairs with [S2][R2]. */
        if (!SHMQ_CAS("R1", &record->owner, owner, ring->owner, memory_order_acq_rel, memory_order_relaxed)) {
            continue;
        }
        /* [R2] release; the ends before the mark: the next announcement comes under a clean mark. */
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
        return true;
    }
    return false;
}

/* Free a record that announces nothing and is not abandoned. Only in the process that took it, never in its child. */
static inline void shmq_leave_record(const struct shmq_ring *ring, struct shmq_participant *me)
{
    SHMQ_STORE("R2", &me->record->lock_busy, 0, memory_order_release);
    /* [R2] release, after the ends are 0; pairs with [R1]. */
    SHMQ_CAS("R2", &me->record->owner, ring->owner, 0, memory_order_release, memory_order_relaxed);
}

/* Make an abandoned record usable again, if it is resolved; the mark goes last.

   The participant has another name afterwards. Its old one has counted as dead, and somebody may be about to take a role
   or the lock from it: his compare-and-swap must not find a name that has come back to life. So an operation that holds
   the lock leaves it before it is abandoned, or loses it to the next. */
static inline bool shmq_clean(const struct shmq_ring *ring, struct shmq_participant *me)
{
    if (!shmq_resolve(ring, me->index)) {
        return false;
    }
    struct shmq_record *record = me->record;
    SHMQ_STORE("R2", &record->put_end, 0, memory_order_release);
    SHMQ_STORE("R2", &record->get_end, 0, memory_order_release);
    const uint64_t generation = SHMQ_LOAD("R2", &record->generation, memory_order_relaxed) + 1;
    SHMQ_STORE("R2", &record->generation, generation, memory_order_release);
    SHMQ_STORE("R2", &record->abandoned, 0, memory_order_release); /* [R2] release, pairs with [S2] */
    me->name = shmq_name_of(me->index, generation);
    return true;
}

/* Give up an operation between claim and end. From the mark on its record counts as dead, and its owner treats it as a
   stranger would: he neither publishes nor frees. What a get had claimed and not freed goes to the next getter.
   True: the record is clean. False: it must not be used before shmq_clean says that it is. */
static inline bool shmq_abandon(const struct shmq_ring *ring, struct shmq_participant *me)
{
    SHMQ_STORE("A1", &me->record->abandoned, 1, memory_order_release); /* [A1] release, pairs with [S2] */
    shmq_wake(ring, &ring->header->items, 1);
    return shmq_clean(ring, me);
}

/* ---- mode spsc: roles --------------------------------------------------------------------------------------------- */

/* Be the one producer (consumer). Tail (head) is read after this, never before. HELD: *holder has the role. */
static inline enum shmq_result shmq_take_role(const struct shmq_ring *ring, _Atomic uint64_t *role, uint64_t name,
                                              uint64_t *holder)
{
    for (int attempt = 0; attempt < SHMQ_ATTEMPTS; attempt++) {
        *holder = SHMQ_LOAD("role", role, memory_order_acquire);
        if (*holder == name) {
            return SHMQ_DONE;
        }
        if (*holder != 0 && !shmq_is_dead(ring, *holder)) {
            return SHMQ_HELD;
        }
        SHMQ_CAS("role", role, *holder, name, memory_order_acq_rel, memory_order_relaxed);
    }
    return SHMQ_HELD;
}

static inline void shmq_leave_role(_Atomic uint64_t *role, uint64_t name)
{
    SHMQ_CAS("role", role, name, 0, memory_order_release, memory_order_relaxed);
}

/* ---- the lock of batches ------------------------------------------------------------------------------------------ */

/* The int32 of shared_memory_lock has no owner, so it cannot be inherited. batch_owner is the ownership: 0, or the name
   of who holds the lock. The int32 is taken before it and freed after it. The ring does not depend on this lock. */

/* Whether a live participant other than me is between the two words of the lock. */
static inline bool shmq_another_takes_the_lock(const struct shmq_ring *ring, const struct shmq_participant *me)
{
    const uint32_t used = shmq_records_used(ring);
    for (uint32_t index = 0; index < used; index++) {
        struct shmq_record *record = &ring->records[index];
        /* seq_cst, pairs with [L3] */
        if (index != me->index && SHMQ_LOAD("S2", &record->lock_busy, memory_order_seq_cst) != 0 &&
            shmq_is_manned(ring, record)) {
            return true;
        }
    }
    return false;
}

/* Try once to take the lock, from a dead holder too. False: sleep on the low half of header->batch_owner while it is as
   *holder says, and try again. */
static inline bool shmq_take_lock(const struct shmq_ring *ring, struct shmq_participant *me, _Atomic int32_t *flag,
                                  uint64_t *holder)
{
    _Atomic uint64_t *owner = &ring->header->batch_owner;
    bool won = false;
    SHMQ_STORE("L3", &me->record->lock_busy, 1, memory_order_seq_cst); /* [L3] seq_cst, before the int32 */
    SHMQ_STEP("L1");
    /* [L1] acquire, pairs with [L2]; seq_cst after [L3]. */
    if (atomic_compare_exchange_strong_explicit(flag, &(int32_t){0}, 1, memory_order_seq_cst, memory_order_relaxed)) {
        *holder = SHMQ_LOAD("L1", owner, memory_order_acquire);
        won = (*holder == 0 || shmq_is_dead(ring, *holder)) &&
              SHMQ_CAS("L1", owner, *holder, me->name, memory_order_acq_rel, memory_order_relaxed);
    }
    SHMQ_STORE("L3", &me->record->lock_busy, 0, memory_order_seq_cst);
    if (won) {
        return true;
    }
    *holder = SHMQ_LOAD("L1", owner, memory_order_acquire);
    bool left;
    if (*holder != 0) {
        left = shmq_is_dead(ring, *holder);
    } else { /* its holder is between the two words, or died there */
        SHMQ_STEP("L1");
        left = atomic_load_explicit(flag, memory_order_seq_cst) != 0 && !shmq_another_takes_the_lock(ring, me);
    }
    return left && SHMQ_CAS("L1", owner, *holder, me->name, memory_order_acq_rel, memory_order_relaxed);
}

/* Give the lock back, if it is mine; may be called at any time by its holder. */
static inline void shmq_leave_lock(const struct shmq_ring *ring, struct shmq_participant *me, _Atomic int32_t *flag)
{
    _Atomic uint64_t *owner = &ring->header->batch_owner;
    SHMQ_STORE("L3", &me->record->lock_busy, 1, memory_order_seq_cst);
    /* [L2] release, pairs with [L1]; only who won this frees the int32. */
    if (SHMQ_CAS("L2", owner, me->name, 0, memory_order_acq_rel, memory_order_relaxed)) {
        SHMQ_STEP("L2");
        atomic_store_explicit(flag, 0, memory_order_release);
    }
    SHMQ_STORE("L3", &me->record->lock_busy, 0, memory_order_release);
    ring->calls.futex_wake(ring->calls.context, owner, 1);
}

/* Whether nobody alive holds the lock, so that a closed gate means nothing. */
static inline bool shmq_lock_is_forsaken(const struct shmq_ring *ring)
{
    const uint64_t owner = SHMQ_LOAD("L1", &ring->header->batch_owner, memory_order_acquire);
    return owner == 0 || shmq_is_dead(ring, owner);
}

/* ---- the gate ----------------------------------------------------------------------------------------------------- */

/* A batch that has twice found no room writes until when single puts are to wait for it. Times are monotonic, in ns;
   the caller has the clock. Fairness, not safety: [Q1] is relaxed. */

#define SHMQ_LEASE UINT64_C(250000000)      /* that a gate stays closed if nobody renews it */
#define SHMQ_FAR_AHEAD UINT64_C(1000000000) /* a gate closed for longer was not written by a batch */

static inline uint64_t shmq_gate(const struct shmq_ring *ring)
{
    return SHMQ_LOAD("Q1", &ring->header->gate, memory_order_relaxed); /* [Q1] */
}

static inline bool shmq_is_shut(uint64_t gate, uint64_t now)
{
    return gate > now && gate - now <= SHMQ_FAR_AHEAD;
}

/* Close the gate, or keep it closed; returns what shmq_open_gate is to expect. */
static inline uint64_t shmq_shut_gate(const struct shmq_ring *ring, uint64_t now)
{
    SHMQ_STORE("Q1", &ring->header->gate, now + SHMQ_LEASE, memory_order_relaxed); /* [Q1] */
    return now + SHMQ_LEASE;
}

/* Open the gate that this batch (or, for who has the lock, a dead one) has closed, and wake a putter. */
static inline void shmq_open_gate(const struct shmq_ring *ring, uint64_t closed)
{
    /* [Q1]; seq_cst for the wake. */
    if (closed != 0 &&
        SHMQ_CAS("Q1", &ring->header->gate, closed, 0, memory_order_seq_cst, memory_order_relaxed)) {
        shmq_wake(ring, &ring->header->space, 1);
    }
}

#endif
