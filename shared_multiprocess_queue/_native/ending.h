/* The end of work (labels D): shutdown, and the looks at it. The same as _ring/ending.py, which says why. */

#ifndef SHMQ_ENDING_H
#define SHMQ_ENDING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "dead_letters.h"
#include "parking.h"
#include "recovery.h"

/* The word that takes the mark STOPPED: in mode spsc the consumer stores head, which would drop the mark. */
static inline _Atomic uint64_t *shmq_stop_word(const struct shmq_ring *ring)
{
    return ring->spsc ? &ring->header->stopped : &ring->header->head;
}

/* Whether the queue was shut down: no put is accepted any more. */
static inline bool shmq_is_closed(const struct shmq_ring *ring)
{
    return (SHMQ_LOAD("D2", &ring->header->tail, memory_order_seq_cst) & SHMQ_CLOSED) != 0; /* [D2] */
}

/* Whether the queue was shut down at once: no get takes anything any more. */
static inline bool shmq_is_stopped(const struct shmq_ring *ring)
{
    return (SHMQ_LOAD("D2", shmq_stop_word(ring), memory_order_seq_cst) & SHMQ_STOPPED) != 0; /* [D2] */
}

/* Shut the queue down, and wake all its waiters; may be called again. immediate: drop what is in the queue. */
static inline void shmq_shut(const struct shmq_ring *ring, bool immediate)
{
    struct shmq_header *header = ring->header;
    SHMQ_OR("D1", &header->tail, SHMQ_CLOSED, memory_order_seq_cst); /* [D1] seq_cst, pairs with [P6][G3] */
    if (immediate) {
        /* [D7] seq_cst, after [D1]; pairs with [G5]. */
        SHMQ_OR("D7", shmq_stop_word(ring), SHMQ_STOPPED, memory_order_seq_cst);
    }
    shmq_wake_all(ring, &header->items);
    shmq_wake_all(ring, &header->space);
    shmq_wake_all(ring, &header->idle);
    shmq_wake_turn(ring, UINT64_MAX);
}

/* Whether an item may come out of a lease slot, for which a get of this process has to wait at the end. A process that
   has an item itself does not wait: two that collect several before they process them would wait for each other. */
static inline bool shmq_keeps_the_end_away(const struct shmq_ring *ring)
{
    bool found = ring->dead > 0 && shmq_dead_slot_has_item(ring); /* [D5] before the lease slots */
    const uint32_t ready = shmq_leases_ready(ring);
    for (uint32_t index = 0; index < ready; index++) {
        struct shmq_lease *lease = &ring->lease_heads[index];
        /* [D5] after [D3] and [D4]; seq_cst, then acquire, as [J4]. */
        const uint64_t holder = SHMQ_LOAD("D5", &lease->holder, memory_order_seq_cst);
        const uint64_t count = SHMQ_LOAD("D5", &lease->count, memory_order_acquire);
        if (holder == ring->owner && count != 0 &&
            SHMQ_LOAD("D5", &lease->due, memory_order_relaxed) == ring->owner) {
            return false; /* it was handed out, and is not held for a moment */
        }
        found = found || count != 0 || (holder != 0 && holder != ring->owner);
    }
    return found;
}

/* What a get finds at the end of an empty ring whose tail is closed, and so final [D3]. SHUT_DOWN: nothing can come any
   more; then all other waiters are woken to see it, too. */
static inline enum shmq_result shmq_at_the_end(const struct shmq_ring *ring)
{
    const uint32_t used = shmq_records_used(ring);
    for (uint32_t index = 0; index < used; index++) {
        /* [D4] of a live get, or to be adopted */
        if (!shmq_is_resolved_get(ring, &ring->records[index])) {
            return SHMQ_HELD;
        }
    }
    if (shmq_keeps_the_end_away(ring)) {
        return SHMQ_NOTHING;
    }
    shmq_wake_all(ring, &ring->header->items);
    return SHMQ_SHUT_DOWN;
}

#endif
