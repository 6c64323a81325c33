/* The lock that lets one batch at a time claim (labels L), and the gate by which it gets room in a busy queue (label
   Q). The same as _ring/batch_lock.py, which says why; here the caller sleeps, and has the clock. The ring depends on
   neither. */

#ifndef SHMQ_BATCH_LOCK_H
#define SHMQ_BATCH_LOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "parking.h"
#include "participants.h"

/* Try once to take the lock, also from a dead holder. False: sleep on the low half of header->batch_owner while it
   equals *holder, and try again. */
static inline bool shmq_try_acquire_lock(const struct shmq_ring *ring, struct shmq_participant *me,
                                         _Atomic int32_t *flag, uint64_t *holder)
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
    } else { /* the holder is between the two words, or died there */
        SHMQ_STEP("L1");
        left = atomic_load_explicit(flag, memory_order_seq_cst) != 0 && !shmq_another_takes_the_lock(ring, me);
    }
    return left && SHMQ_CAS("L1", owner, *holder, me->name, memory_order_acq_rel, memory_order_relaxed);
}

/* Release the lock, if `me` has it; may be called at any time. */
static inline void shmq_release_lock(const struct shmq_ring *ring, struct shmq_participant *me, _Atomic int32_t *flag)
{
    _Atomic uint64_t *owner = &ring->header->batch_owner;
    SHMQ_STORE("L3", &me->record->lock_busy, 1, memory_order_seq_cst);
    /* [L2] release, pairs with [L1]; only the operation that wins this frees the int32. */
    if (SHMQ_CAS("L2", owner, me->name, 0, memory_order_acq_rel, memory_order_relaxed)) {
        SHMQ_STEP("L2");
        atomic_store_explicit(flag, 0, memory_order_release);
    }
    SHMQ_STORE("L3", &me->record->lock_busy, 0, memory_order_release);
    shmq_wake_turn(ring, 1);
}

/* Whether no live operation holds the lock, so that a closed gate means nothing. */
static inline bool shmq_lock_has_no_live_owner(const struct shmq_ring *ring)
{
    const uint64_t owner = SHMQ_LOAD("L1", &ring->header->batch_owner, memory_order_acquire);
    return owner == 0 || shmq_is_dead(ring, owner);
}

/* ---- the gate ----------------------------------------------------------------------------------------------------- */

/* A batch that has twice found no room writes the time until which single puts wait for it. Times are monotonic, in ns;
   the caller has the clock. The gate is for fairness, not for safety, so [Q1] is relaxed. */

static inline uint64_t shmq_gate(const struct shmq_ring *ring)
{
    return SHMQ_LOAD("Q1", &ring->header->gate, memory_order_relaxed); /* [Q1] */
}

static inline bool shmq_is_shut(uint64_t gate, uint64_t now)
{
    return gate > now && gate - now <= SHMQ_FAR_AHEAD;
}

/* Close the gate, or keep it closed for as long as gets make room: *closed is its value, for shmq_open_gate, 0 at first;
   *head is head when it was written. If head has not moved since, the getters may wait for a single put. Then the lease
   ends, and the gate is closed again after the next get. */
static inline void shmq_shut_gate(const struct shmq_ring *ring, uint64_t now, uint64_t *closed, uint64_t *head)
{
    const uint64_t before = *head;
    *head = SHMQ_LOAD("Q1", &ring->header->head, memory_order_relaxed); /* [Q1] */
    /* In any case another value: putters pass a wake on once for each. */
    *closed = *closed == 0 || *head != before ? now + SHMQ_GATE_LEASE : *closed + 1;
    SHMQ_STORE("Q1", &ring->header->gate, *closed, memory_order_relaxed); /* [Q1] */
}

/* Open the gate that this batch has closed (or, if the caller has the lock, a dead batch), and wake a putter. */
static inline void shmq_open_gate(const struct shmq_ring *ring, uint64_t closed)
{
    /* [Q1]; seq_cst for the wake. */
    if (closed != 0 && SHMQ_CAS("Q1", &ring->header->gate, closed, 0, memory_order_seq_cst, memory_order_relaxed)) {
        shmq_wake(ring, &ring->header->space, 1);
    }
}

#endif
