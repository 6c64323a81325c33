/* The end of work (labels D): shutdown, and the looks at it. The same as _ring/ending.py, which says why. */

#ifndef SHMQ_ENDING_H
#define SHMQ_ENDING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

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
    ring->calls.futex_wake(ring->calls.context, &header->batch_owner, INT_MAX);
}

/* Whether nothing can come out of a ring any more that a get has found empty and whose tail is closed, and so final
   [D3]. Then all other waiters are woken to see it, too. */
static inline bool shmq_at_the_end(const struct shmq_ring *ring)
{
    const uint32_t used = shmq_records_used(ring);
    for (uint32_t index = 0; index < used; index++) {
        /* [D4] of a live get, or to be adopted */
        if (!shmq_is_resolved_get(ring, &ring->records[index])) {
            return false;
        }
    }
    shmq_wake_all(ring, &ring->header->items);
    return true;
}

#endif
