/* The ring of a queue with leases: what a get takes goes to a lease slot, and is found there if the get dies. The same
   as _ring/leased_ring.py.

   A get reserves its lease slots before it claims, and holds none of them while it waits, scans the records or
   returns. */

#ifndef SHMQ_LEASED_RING_H
#define SHMQ_LEASED_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "ring.h"

/* Move the claimed items into their lease slots, end the get, and wake putters; returns the number of leases. */
static inline uint64_t shmq_lease_claimed(const struct shmq_ring *ring, struct shmq_participant *me, uint64_t position,
                                          uint64_t count, struct shmq_held *held)
{
    uint64_t taken = 0, slots = count;
    if (SHMQ_HAS_LARGE(ring)) {
        slots = 0;
    }
    for (uint64_t i = 0; i < count; i++) {
        uint64_t p = position + i;
        bool is_there = true;
        if (SHMQ_HAS_LARGE(ring)) {
            p = held[i].position;
            is_there = held[i].slots > 0; /* otherwise the segment was damaged meanwhile */
            slots += held[i].slots;
        }
        if (is_there && shmq_take(ring, &held[i], p, false)) {
            held[taken++] = held[i];
        } else {
            shmq_give_up(ring, held[i].index); /* another has adopted the item: this process was taken for dead */
        }
    }
    shmq_finish_get(ring, me, slots);
    return taken;
}

/* Adopt an item that was found FULL at a position below head, if no live operation covers it. The caller announces
   nothing. DONE: *held has it, or another one that came back. NOTHING: no lease slot is free. */
static inline enum shmq_result shmq_rescue_to_lease(const struct shmq_ring *ring, struct shmq_participant *me,
                                                    uint64_t position, struct shmq_held *held)
{
    if (!shmq_is_adoptable(ring, position) || shmq_is_covered(ring, SHMQ_GET, position)) {
        return SHMQ_AGAIN;
    }
    bool came_back;
    if (shmq_reserve(ring, me, 1, held, &came_back) == 0) {
        return SHMQ_NOTHING;
    }
    if (came_back) {
        return SHMQ_DONE;
    }
    if (!shmq_find_memory(ring, held, position)) {
        shmq_give_up(ring, held->index);
        return SHMQ_NO_MEMORY;
    }
    /* [S4] the second read, pairs with [P8]: the copy is of this item, or the compare-and-swap will fail. */
    if (SHMQ_LOAD("S4", &shmq_slot_of(ring, position)->word, memory_order_seq_cst) !=
            shmq_word_of(position, SHMQ_FULL) ||
        !shmq_take(ring, held, position, true)) {
        shmq_give_up(ring, held->index);
        return SHMQ_AGAIN;
    }
    if (shmq_is_dropped(ring, held->index)) {
        return SHMQ_AGAIN;
    }
    SHMQ_ADD("T3", &ring->header->adopted, 1, memory_order_relaxed);
    shmq_wake(ring, &ring->header->space, SHMQ_HAS_LARGE(ring) ? held->slots : 1);
    return SHMQ_DONE;
}

/* Lease the next items, up to `most`. DONE: *count of them are in `held`. NOTHING: there is no item, or no free lease
   slot. HELD, SHUT_DOWN, CORRUPT: as of shmq_claim_get. Nothing is held then.

   The caller guarantees that it has the role in mode spsc. */
static inline enum shmq_result shmq_try_lease(const struct shmq_ring *ring, struct shmq_participant *me, uint64_t most,
                                              bool sure, struct shmq_held *held, uint64_t *count)
{
    for (int attempt = 0; attempt < SHMQ_ATTEMPTS; attempt++) {
        if (shmq_is_stopped(ring)) { /* [D2] */
            return SHMQ_SHUT_DOWN;
        }
        const uint64_t head = SHMQ_LOAD("G1", &ring->header->head, memory_order_acquire);
        bool look_again;
        *count = shmq_look_for_returns(ring, me, most, sure, held, &look_again);
        if (*count > 0) {
            return SHMQ_DONE;
        }
        uint64_t position = 0, claimed = 0;
        enum shmq_result found = SHMQ_HAS_LARGE(ring)
                                     ? shmq_claim(ring, me, most, sure, true, true, held, &position, &claimed)
                                     : shmq_claim(ring, me, most, sure, true, false, held, &position, &claimed);
        if (found == SHMQ_DONE) {
            *count = shmq_lease_claimed(ring, me, position, claimed, held);
            found = *count > 0 ? SHMQ_DONE : SHMQ_AGAIN;
        } else if (found == SHMQ_CAME_BACK) {
            *count = 1;
            return SHMQ_DONE;
        } else if (found == SHMQ_ORPHAN || ((found == SHMQ_NOTHING || found == SHMQ_HELD) && sure &&
                                            shmq_find_orphan(ring, &position))) {
            found = shmq_rescue_to_lease(ring, me, position, held);
            *count = 1;
        }
        if (found == SHMQ_NOTHING && sure && look_again) {
            return SHMQ_HELD; /* there may be more; the caller minds its deadline before the next look */
        }
        if (found == SHMQ_NOTHING && sure && SHMQ_LOAD("G1", &ring->header->head, memory_order_acquire) != head) {
            found = SHMQ_AGAIN; /* what waited for head may be due */
        }
        if (found != SHMQ_AGAIN) {
            return found;
        }
    }
    return SHMQ_HELD;
}

/* Whether the ring, as far as the positions below `tail` go, holds nothing. AGAIN: a dead put was buried. */
static inline enum shmq_result shmq_is_ring_finished(const struct shmq_ring *ring, uint64_t tail)
{
    const uint64_t head = shmq_unmarked(SHMQ_LOAD("J2", &ring->header->head, memory_order_acquire));
    for (uint64_t p = shmq_last_lap(ring, head, tail); p < tail; p++) {
        /* [J2] acquire, pairs with [P8][E6]. */
        const uint64_t word = SHMQ_LOAD("J2", &shmq_slot_of(ring, p)->word, memory_order_acquire);
        if (word == shmq_word_of(p, SHMQ_FREE)) {
            return shmq_rescue_put(ring, p) ? SHMQ_AGAIN : SHMQ_HELD;
        }
        if (word == shmq_word_of(p, SHMQ_FULL) || shmq_is_given(word, p)) {
            return SHMQ_HELD;
        }
    }
    const uint32_t used = shmq_records_used(ring);
    for (uint32_t index = 0; index < used; index++) {
        /* [J3] acquire, pairs with [G4][E6]: what is claimed has its record until it has left the ring. */
        if (!shmq_is_resolved_get(ring, &ring->records[index])) {
            return SHMQ_HELD;
        }
    }
    return SHMQ_DONE;
}

/* Whether a live process has an item of a queue that was stopped: a get of it has claimed one, or it holds a lease
   slot. */
static inline bool shmq_is_any_held(const struct shmq_ring *ring)
{
    const uint32_t used = shmq_records_used(ring);
    for (uint32_t index = 0; index < used; index++) {
        uint64_t begin, end;
        shmq_announced_gets(ring, &ring->records[index], &begin, &end);
        for (uint64_t q = begin; q < end; q++) {
            if (shmq_is_claimed_by_get(ring, q) && shmq_is_covered(ring, SHMQ_GET, q)) {
                return true;
            }
        }
    }
    const uint32_t ready = shmq_leases_ready(ring);
    for (uint32_t index = 0; index < ready; index++) {
        const uint64_t owner = SHMQ_LOAD("J4", &shmq_lease_of(ring, index)->holder, memory_order_seq_cst);
        if (owner != 0 && (owner == ring->owner || ring->calls.is_alive(ring->calls.context, owner))) {
            return true;
        }
    }
    return false;
}

/* What changes whenever a letter is put back. */
static inline uint64_t shmq_version(const struct shmq_ring *ring)
{
    return ring->dead > 0 ? SHMQ_LOAD("J5", &ring->header->returned, memory_order_seq_cst) >> 1 : 0;
}

/* Whether at some moment of this call every item that had been put was ended. Items move from the ring to the lease
   slots and never back, so a look in this direction misses none. What was put back moves from a dead slot to a lease
   slot, and comes before these; a letter that is put back behind the look has changed the version. In a queue that was
   stopped only those count that live processes have. */
static inline bool shmq_is_quiet(const struct shmq_ring *ring)
{
    for (int attempt = 0; attempt < SHMQ_ATTEMPTS; attempt++) {
        if (shmq_is_stopped(ring)) {
            return !shmq_is_any_held(ring);
        }
        /* [J1] seq_cst, each; pairs with [J5][M6]. */
        const uint64_t version = shmq_version(ring);
        const uint64_t tail = SHMQ_LOAD("J1", &ring->header->tail, memory_order_seq_cst);
        const enum shmq_result ring_is = shmq_is_ring_finished(ring, shmq_unmarked(tail));
        if (ring_is == SHMQ_AGAIN) {
            continue;
        }
        if (ring_is != SHMQ_DONE || shmq_lease_has_item(ring)) { /* [J4] after [J3] */
            return false;
        }
        /* [J5] seq_cst, each: nothing was claimed, and no letter was put back, meanwhile. */
        if (SHMQ_LOAD("J5", &ring->header->tail, memory_order_seq_cst) == tail && shmq_version(ring) == version) {
            return true;
        }
    }
    return false; /* other processes keep putting */
}

#endif
