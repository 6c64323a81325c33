/* Waking waiters (labels W, B). The same as _ring/parking.py, which says how; here the caller sleeps.
   How long a call spins, and when it sleeps, is decided in wait.h, as in _engine/waiting.py. */

#ifndef SHMQ_PARKING_H
#define SHMQ_PARKING_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "participants.h"

/* The masks of bells, in their order in the header. */
enum shmq_bells { SHMQ_BELLS_OF_ITEMS, SHMQ_BELLS_OF_SPACE, SHMQ_BELLS_OF_TURN };

static inline _Atomic uint64_t *shmq_bells(const struct shmq_ring *ring, enum shmq_bells which)
{
    return ring->header->bells[which];
}

/* Which of `waiting` bells is the first to be rung at a turn, a number that is another one each time.

   By multiples of the golden ratio, which are spread evenly even if only every second turn, say, comes here. */
static inline uint32_t shmq_first_at(uint64_t turn, uint32_t waiting)
{
    return (uint32_t)((uint64_t)((uint32_t)turn * UINT32_C(0x9E3779B9)) * waiting >> 32);
}

/* Ring the bell of a record that was seen to wait, unless another waker does; returns whether it exists. */
static inline bool shmq_ring_bell_of(const struct shmq_ring *ring, enum shmq_bells which, uint32_t index)
{
    struct shmq_header *header = ring->header;
    const uint64_t bit = UINT64_C(1) << index % 64;
    /* [B3] acq_rel, before the ring; pairs with [B1][B5]. One ring for one bit: the waker that clears it rings. */
    SHMQ_STEP("B3");
    if ((atomic_fetch_and_explicit(&shmq_bells(ring, which)[index / 64], ~bit, memory_order_acq_rel) & bit) == 0) {
        return false;
    }
    /* [B4] acquire, after [B3]; pairs with [R2]: if the bit is of the record's next owner, its name is rung. */
    const uint64_t generation = SHMQ_LOAD("B4", &ring->records[index].generation, memory_order_acquire);
    if (!ring->calls.ring_bell(ring->calls.context, SHMQ_LOAD("B4", &header->nonce, memory_order_relaxed),
                               shmq_name_of(index, generation))) {
        SHMQ_ADD("count", &header->bells_refused, 1, memory_order_relaxed);
        return false;
    }
    return true;
}

/* Ring up to `count` of the bells that wait for something; returns how many of them exist.

   The mask is read once, so the walk ends even if another process keeps setting bits. A bell that begins to wait
   meanwhile looks again after it has armed the hint [W3]. All have their turn: if the walk always began with the first
   record, its bell would be rung whenever it waits, and the others hardly ever. Not inlined, because of the list. */
__attribute__((noinline, unused)) static uint64_t shmq_ring_bells(const struct shmq_ring *ring, enum shmq_bells which,
                                                                  uint64_t turn, uint64_t count)
{
    _Atomic uint64_t *mask = shmq_bells(ring, which);
    /* A bell raises the mark before it sets its bit [R2][B1], and arms the hint after that; the caller has read it
       [W4]. */
    const uint64_t mark = SHMQ_LOAD("B3", &ring->header->records_used, memory_order_acquire);
    const uint32_t used = mark < SHMQ_RECORDS ? (uint32_t)mark : SHMQ_RECORDS;
    uint16_t waiting[SHMQ_RECORDS];
    uint32_t found = 0;
    for (uint32_t index = 0; index < used; index += 64) {
        const uint64_t bits = SHMQ_LOAD("B3", &mask[index / 64], memory_order_acquire);
        for (uint32_t i = 0; i < 64 && index + i < used && bits >> i != 0; i++) {
            if ((bits >> i & 1) != 0) {
                waiting[found++] = (uint16_t)(index + i);
            }
        }
    }
    const uint32_t first = shmq_first_at(turn, found);
    uint64_t rung = 0;
    for (uint32_t i = 0; i < found && rung < count; i++) {
        rung += shmq_ring_bell_of(ring, which, waiting[(first + i) % found]);
    }
    return rung;
}

/* Ring up to `count` of the bells that wait on a side; none waits for the end of all items. */
static inline uint64_t shmq_ring_bells_of(const struct shmq_ring *ring, const struct shmq_wake_words *side,
                                          uint64_t turn, uint64_t count)
{
    const struct shmq_header *header = ring->header;
    return side == &header->idle
               ? 0
               : shmq_ring_bells(ring, side == &header->items ? SHMQ_BELLS_OF_ITEMS : SHMQ_BELLS_OF_SPACE, turn, count);
}

/* Wake up to `count` waiters of a side whose hint was seen armed: sleepers first, then bells. */
static inline void shmq_wake_waiters(const struct shmq_ring *ring, struct shmq_wake_words *side, uint64_t hint,
                                     uint64_t count)
{
    /* [W5] release; pairs with [W1], and the kernel compares again. */
    const uint64_t turn = SHMQ_ADD("W5", &side->epoch, 1, memory_order_acq_rel);
    const int slept = ring->calls.futex_wake(ring->calls.context, &side->epoch, count > INT_MAX ? INT_MAX : (int)count);
    uint64_t woken = slept > 0 ? (uint64_t)slept : 0;
    if (woken < count) {
        woken += shmq_ring_bells_of(ring, side, turn, count - woken);
    }
    if (woken == 0) {
        /* No process waits, so the hint is cleared. This publishes nothing; a newer arming has another version and
           stays. */
        SHMQ_CAS("W4", &side->hint, hint, hint & ~UINT64_C(1), memory_order_relaxed, memory_order_relaxed);
    }
}

/* Wake up to `count` waiters of a side, after a change that they can use. */
static inline __attribute__((always_inline)) void shmq_wake(const struct shmq_ring *ring, struct shmq_wake_words *side,
                                                            uint64_t count)
{
    /* [W4] seq_cst, after the caller's change; pairs with [W2]. */
    const uint64_t hint = SHMQ_LOAD("W4", &side->hint, memory_order_seq_cst);
    if ((hint & 1) != 0) {
        shmq_wake_waiters(ring, side, hint, count);
    }
}

/* Let all waiters of a side look again. */
static inline void shmq_wake_all(const struct shmq_ring *ring, struct shmq_wake_words *side)
{
    SHMQ_ADD("W5", &side->epoch, 1, memory_order_acq_rel);
    ring->calls.futex_wake(ring->calls.context, &side->epoch, INT_MAX);
    shmq_ring_bells_of(ring, side, 0, SHMQ_RECORDS);
}

/* Wake batches that wait for their turn at the lock, which was just left: one that sleeps, or else one with a bell.

   There is no hint. A bell sets its bit [B1] before it tries the lock again; between the store that frees the lock and
   the load of the mask [B3] lies a system call, which is a full barrier. Not inlined, or each put would save registers
   for it. */
__attribute__((noinline, unused)) static void shmq_wake_turn(const struct shmq_ring *ring, uint64_t count)
{
    struct shmq_header *header = ring->header;
    const int slept = ring->calls.futex_wake(ring->calls.context, &header->batch_owner,
                                             count > INT_MAX ? INT_MAX : (int)count);
    const uint64_t woken = slept > 0 ? (uint64_t)slept : 0;
    if (woken < count) {
        const uint64_t turn = SHMQ_LOAD("B3", &header->tail, memory_order_relaxed);
        shmq_ring_bells(ring, SHMQ_BELLS_OF_TURN, turn, count - woken);
    }
}

/* Whether a waiter may be asleep: a hint for the chain of wakes. If it is wrong, the bound of each sleep helps. */
static inline bool shmq_is_armed(struct shmq_wake_words *side)
{
    return (SHMQ_LOAD("W4", &side->hint, memory_order_relaxed) & 1) != 0;
}

/* Let those look again that wait for the end of all items. */
static inline void shmq_wake_idle(const struct shmq_ring *ring)
{
    shmq_wake(ring, &ring->header->idle, UINT64_MAX);
}

/* Count that an item comes back, so that a look of join knows that it was no moment. */
static inline void shmq_note_return(const struct shmq_ring *ring, uint64_t armed)
{
    _Atomic uint64_t *returned = &ring->header->returned;
    for (int attempt = 0; attempt < SHMQ_ATTEMPTS; attempt++) {
        const uint64_t before = SHMQ_LOAD("E10", returned, memory_order_relaxed);
        if (SHMQ_CAS("E10", returned, before, (before | armed) + 2, memory_order_seq_cst, memory_order_relaxed)) {
            break;
        }
    }
}

/* Let gets look for what came back, and wake one. */
static inline void shmq_say_returned(const struct shmq_ring *ring)
{
    shmq_note_return(ring, 1); /* [E10] seq_cst, after [E9]: once this is armed, the item can be taken */
    shmq_wake(ring, &ring->header->items, 1);
}

/* Note that the bell of a record waits on a side; the caller looks again after this [W3]. */
static inline void shmq_want_bell(const struct shmq_ring *ring, enum shmq_bells which, uint32_t index)
{
    /* [B1] seq_cst, before [W2]; pairs with [B3]. */
    SHMQ_OR("B1", &shmq_bells(ring, which)[index / 64], UINT64_C(1) << index % 64, memory_order_seq_cst);
}

/* Take the bit of a record's bell back; returns whether it was there. */
static inline bool shmq_take_bell(const struct shmq_ring *ring, enum shmq_bells which, uint32_t index)
{
    _Atomic uint64_t *word = &shmq_bells(ring, which)[index / 64];
    const uint64_t bit = UINT64_C(1) << index % 64;
    if ((SHMQ_LOAD("B5", word, memory_order_acquire) & bit) == 0) {
        return false;
    }
    /* [B5] acq_rel; pairs with [B3]. */
    SHMQ_STEP("B5");
    return (atomic_fetch_and_explicit(word, ~bit, memory_order_acq_rel) & bit) != 0;
}

/* Whether the bell of a record is noted to wait. */
static inline bool shmq_wants_bell(const struct shmq_ring *ring, enum shmq_bells which, uint32_t index)
{
    const uint64_t bits = SHMQ_LOAD("B3", &shmq_bells(ring, which)[index / 64], memory_order_relaxed);
    return (bits >> index % 64 & 1) != 0;
}

/* Note that the caller is about to sleep; returns the epoch to sleep on. Before it sleeps, the caller looks once more,
   with `sure` [W3]. */
static inline uint64_t shmq_arm(struct shmq_wake_words *side)
{
    /* [W1] acquire, before [W2]; pairs with [W5]. In the other order the caller would sleep through a wake in
       between. */
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

#endif
