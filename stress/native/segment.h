/* A segment on the heap, owners that live and die at a word, and items that can be checked: for the tests in C. */

#ifndef SHMQ_STRESS_SEGMENT_H
#define SHMQ_STRESS_SEGMENT_H

#include <stdio.h>
#include <stdlib.h>

/* A program that wants SHMQ_STEP defines it first, and includes this instead of leased_ring.h. */
#include "large_ring.h"
#include "leased_ring.h"
#include "looking.h"

#define LIVES 65536
#define FIRST_LIFE 1024 /* above all positions, with which `due` of a lease slot shares its place */

static _Atomic bool is_living[LIVES]; /* by owner word */
static _Atomic uint64_t lives = FIRST_LIFE;

static inline bool life_is_alive(void *context, uint64_t owner)
{
    (void)context;
    return owner >= LIVES || atomic_load_explicit(&is_living[owner], memory_order_acquire);
}

/* A new owner word, alive. */
static inline uint64_t life_begins(void)
{
    const uint64_t life = atomic_fetch_add_explicit(&lives, 1, memory_order_relaxed);
    if (life >= LIVES) {
        fprintf(stderr, "more than %d lives\n", LIVES);
        exit(2);
    }
    atomic_store_explicit(&is_living[life], true, memory_order_relaxed);
    return life;
}

static inline void life_ends(uint64_t life)
{
    atomic_store_explicit(&is_living[life], false, memory_order_release);
}

/* A clock that jumps far enough for the next look for dead holders, whenever it is asked. */
static inline uint64_t life_now(void *context, bool exact)
{
    static _Atomic uint64_t now = 1;
    (void)context, (void)exact;
    return atomic_fetch_add_explicit(&now, 2 * SHMQ_FAR_AHEAD, memory_order_relaxed);
}

static uint32_t segment_leases, segment_deliveries; /* of the segments from here on */
static uint32_t segment_max_item_size;              /* likewise; 0: as item_size */

static inline uint32_t segment_largest(uint32_t item_size)
{
    return segment_max_item_size != 0 ? segment_max_item_size : item_size;
}

/* Without definitions: what lies behind the last slot is for the address sanitizer to guard. */
static inline size_t segment_length(uint64_t capacity, uint32_t item_size)
{
    return (size_t)(SHMQ_SEGMENT_SIZE(capacity, item_size, segment_leases, segment_deliveries,
                                      segment_largest(item_size)) -
                    SHMQ_DEFINITIONS_SIZE);
}

static inline void segment_reset(void *base, uint64_t capacity, uint32_t item_size, bool spsc)
{
    struct shmq_header *header = base;
    /* A participant that died while it took a record may have been one beyond the mark. */
    const size_t used = (size_t)atomic_load_explicit(&header->records_used, memory_order_relaxed) + 8;
    memset(base, 0, SHMQ_RECORDS_START + (used < SHMQ_RECORDS ? used : SHMQ_RECORDS) * sizeof(struct shmq_record));
    atomic_store_explicit(&header->capacity, capacity, memory_order_relaxed);
    atomic_store_explicit(&header->item_size, item_size, memory_order_relaxed);
    atomic_store_explicit(&header->max_item_size, segment_largest(item_size), memory_order_relaxed);
    atomic_store_explicit(&header->mode, spsc, memory_order_relaxed);
    for (uint64_t i = 0; i < capacity; i++) {
        struct shmq_slot *slot =
            (void *)((unsigned char *)base + SHMQ_SLOTS_START + i * SHMQ_STRIDE(item_size));
        memset(slot, 0, (size_t)SHMQ_STRIDE(item_size));
        atomic_store_explicit(&slot->word, i << SHMQ_STATE_BITS | SHMQ_FREE, memory_order_relaxed);
    }
    memset((unsigned char *)base + SHMQ_SLOTS_START + capacity * SHMQ_STRIDE(item_size), 0,
           (segment_leases + SHMQ_DEAD_SLOTS(segment_leases, segment_deliveries)) *
               (sizeof(struct shmq_lease) + (size_t)SHMQ_LEASE_STRIDE(segment_largest(item_size))));
}

static inline void *segment_new(uint64_t capacity, uint32_t item_size, bool spsc)
{
    const size_t length = segment_length(capacity, item_size);
    void *base = aligned_alloc(SHMQ_LINE, length);
    if (base == NULL) {
        perror("aligned_alloc");
        exit(2);
    }
    memset(base, 0, length);
    segment_reset(base, capacity, item_size, spsc);
    return base;
}

/* xorshift64*, by George Marsaglia and Sebastiano Vigna */
static inline uint64_t random_next(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(0x2545F4914F6CDD1D);
}

static inline uint64_t random_seeded(uint64_t seed, uint64_t number)
{
    uint64_t state = (seed + 1) * UINT64_C(0x9E3779B97F4A7C15) ^ (number + 1) * UINT64_C(0xBF58476D1CE4E5B9);
    state = state != 0 ? state : 1;
    random_next(&state);
    random_next(&state);
    return state;
}

static inline uint64_t random_below(uint64_t *state, uint64_t bound)
{
    return (random_next(state) >> 16) % bound;
}

#endif
