/* What came back, and what dead holders of lease slots have left. The same as _ring/leases.py. */

#ifndef SHMQ_RETURNS_H
#define SHMQ_RETURNS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "leases.h"

#define SHMQ_LOOK_SHARE 50 /* a look for the dead comes after at least this many times what the last one took */
#define SHMQ_CANDIDATES 16 /* of one walk over the lease slots */
#define SHMQ_VERDICTS 8

/* A lease slot whose item may be handed out again. */
struct shmq_candidate {
    uint64_t position;
    uint64_t owner; /* 0, or that of a dead process */
    uint64_t due;
    uint32_t index;
};

/* What one walk over the lease slots has found: the oldest first, and how many there are in all. */
struct shmq_candidates {
    struct shmq_candidate found[SHMQ_CANDIDATES];
    uint64_t kept, number, dead;
    uint64_t earliest; /* time at which the next of the others is due */
    unsigned known;
    struct {
        uint64_t owner;
        bool alive;
    } verdicts[SHMQ_VERDICTS];
};

static inline void shmq_add_candidate(struct shmq_candidates *all, struct shmq_candidate one)
{
    uint64_t at = all->kept;
    while (at > 0 && all->found[at - 1].position > one.position) {
        at--;
    }
    all->number++;
    all->dead += one.owner != 0;
    if (at == SHMQ_CANDIDATES) {
        return;
    }
    all->kept += all->kept < SHMQ_CANDIDATES;
    for (uint64_t i = all->kept - 1; i > at; i--) {
        all->found[i] = all->found[i - 1];
    }
    all->found[at] = one;
}

/* Whether the process of an owner word is dead; the verdicts of one walk are kept for it. */
static inline bool shmq_is_dead_holder(const struct shmq_ring *ring, struct shmq_candidates *all, uint64_t owner)
{
    unsigned which = 0;
    while (which < SHMQ_VERDICTS && which < all->known && all->verdicts[which].owner != owner) {
        which++;
    }
    if (which == all->known || which == SHMQ_VERDICTS) {
        which = all->known++ % SHMQ_VERDICTS;
        all->verdicts[which].owner = owner;
        all->verdicts[which].alive = ring->calls.is_alive(ring->calls.context, owner);
    }
    return !all->verdicts[which].alive;
}

static inline void shmq_find_candidates(const struct shmq_ring *ring, bool for_dead, struct shmq_candidates *all)
{
    struct shmq_candidate behind = {0};
    uint64_t waiting = 0;
    all->kept = all->number = all->dead = 0;
    all->earliest = UINT64_MAX;
    all->verdicts[0].owner = ring->owner;
    all->verdicts[0].alive = true;
    all->known = 1;
    const uint32_t ready = shmq_leases_ready(ring);
    for (uint32_t index = 0; index < ready; index++) {
        struct shmq_lease *lease = shmq_lease_of(ring, index);
        /* [E1] acquire, each; pairs with [E9]. */
        const uint64_t owner = SHMQ_LOAD("E1", &lease->holder, memory_order_acquire);
        if (owner != 0) {
            if (for_dead && shmq_is_dead_holder(ring, all, owner)) {
                const uint64_t position = SHMQ_LOAD("E1", &lease->position, memory_order_relaxed);
                shmq_add_candidate(all, (struct shmq_candidate){position, owner, 0, index});
            }
            continue;
        }
        if (SHMQ_LOAD("E1", &lease->count, memory_order_acquire) == 0) {
            continue;
        }
        uint64_t delay;
        const struct shmq_candidate one = {SHMQ_LOAD("E1", &lease->position, memory_order_relaxed), 0,
                                           SHMQ_LOAD("E1", &lease->due, memory_order_relaxed), index};
        if (shmq_is_due(ring, lease, one.due, &delay)) {
            shmq_add_candidate(all, one);
        } else if (delay != 0) {
            all->earliest = one.due < all->earliest ? one.due : all->earliest;
        } else {
            const bool is_first = one.due < behind.due || (one.due == behind.due && one.position < behind.position);
            behind = waiting == 0 || is_first ? one : behind;
            waiting++;
        }
    }
    if (waiting == ring->leases && waiting > 0) {
        shmq_add_candidate(all, behind); /* head cannot move: all lease slots wait for it */
    }
}

/* Take a candidate; returns whether its item is in *held. *spent counts those of the dead that had their last
   delivery. */
static inline bool shmq_take_candidate(const struct shmq_ring *ring, const struct shmq_candidate *one,
                                       struct shmq_held *held, uint64_t *spent)
{
    if (!shmq_take_lease(ring, one->index, one->owner)) {
        return false;
    }
    const uint64_t count = shmq_settle_lease(ring, one->index);
    if (shmq_is_dropped(ring, one->index)) {
        return false;
    }
    if (one->owner != 0 && shmq_is_spent(ring, count)) {
        shmq_bury(ring, one->index);
        ++*spent;
        return false;
    }
    if (count == 0 ||
        (one->owner == 0 &&
         SHMQ_LOAD("E1", &shmq_lease_of(ring, one->index)->due, memory_order_relaxed) != one->due)) {
        shmq_give_up(ring, one->index);
        return false;
    }
    shmq_hand_out_again(ring, one->index, count, held);
    return true;
}

/* Move items that were put back into lease slots, behind those that are `taken`, and take them; returns the number of
   all that are taken. *are_all_in: none is left behind. */
static inline uint64_t shmq_take_items_put_back(const struct shmq_ring *ring, struct shmq_participant *me,
                                                uint64_t wanted, bool sure, struct shmq_held *held, uint64_t taken,
                                                bool *are_all_in)
{
    uint32_t dead = 0;
    uint64_t word = 0;
    for (uint32_t i = 0; i <= ring->dead; i++) {
        *are_all_in = !shmq_find_put_back(ring, &dead, &word);
        if (*are_all_in || taken == wanted) {
            break;
        }
        bool came_back;
        struct shmq_held *next = &held[taken];
        if (shmq_reserve(ring, me, 1, next, &came_back) == 0) {
            SHMQ_ADD("count", &ring->header->lease_waits, sure && taken == 0, memory_order_relaxed);
            break;
        }
        struct shmq_lease *lease = shmq_lease_of(ring, next->index);
        if (came_back) {
            taken++;
            continue;
        }
        SHMQ_STORE("M8", &lease->since, ring->calls.now(ring->calls.context, false), memory_order_relaxed);
        SHMQ_STORE("M8", &lease->due, ring->owner, memory_order_relaxed);
        if (!shmq_take_put_back(ring, next->index, dead, word)) {
            shmq_give_up(ring, next->index);
        } else if (!shmq_is_dropped(ring, next->index)) {
            next->position = SHMQ_LOAD("E3", &lease->position, memory_order_relaxed);
            next->count = 1;
            taken++;
        }
    }
    return taken;
}

/* Take items that came back, those of dead holders, the oldest first, and those that were put back; returns their
   number. All lease slots are looked at if one may have come back, if it is time to look for the dead, or if `sure`: the
   caller is about to find nothing. *look_again: items of the dead have become dead letters, or have gone last. */
static inline uint64_t shmq_look_for_returns(const struct shmq_ring *ring, struct shmq_participant *me, uint64_t wanted,
                                             bool sure, struct shmq_held *held, bool *look_again)
{
    *look_again = false;
    struct shmq_header *header = ring->header;
    const uint64_t returned = SHMQ_LOOK("E1", &header->returned, sure);
    const uint64_t look_at = SHMQ_LOAD("E1", &header->look_at, memory_order_relaxed);
    uint64_t now = ring->calls.now(ring->calls.context, false);
    const bool is_time = now >= look_at || look_at - now > SHMQ_FAR_AHEAD;
    if (!sure && (returned & 1) == 0 && !is_time) {
        return 0;
    }
    now = is_time ? ring->calls.now(ring->calls.context, true) : now;
    struct shmq_candidates all;
    uint64_t taken = 0, spent = 0, looked, of_dead, before;
    bool are_all_in = true;
    do {
        shmq_find_candidates(ring, is_time, &all);
        before = taken;
        for (looked = of_dead = 0; looked < all.kept && taken < wanted; looked++) {
            of_dead += all.found[looked].owner != 0;
            taken += shmq_take_candidate(ring, &all.found[looked], &held[taken], &spent);
        }
    } while (looked == SHMQ_CANDIDATES && taken < wanted && taken > before);
    *look_again = spent > 0;
    if (ring->dead > 0) {
        taken = shmq_take_items_put_back(ring, me, wanted, sure, held, taken, &are_all_in);
    }
    if (is_time && all.dead == of_dead) {
        const uint64_t took = (ring->calls.now(ring->calls.context, true) - now) * SHMQ_LOOK_SHARE;
        uint64_t next =
            now + (took > SHMQ_LOOK_LATEST ? SHMQ_LOOK_LATEST : took > SHMQ_LOOK_EVERY ? took : SHMQ_LOOK_EVERY);
        next = all.earliest < next ? all.earliest : next;
        SHMQ_CAS("E1", &header->look_at, look_at, next, memory_order_relaxed, memory_order_relaxed);
    }
    if ((returned & 1) != 0 && all.number == looked && are_all_in) { /* a release since then has another version, and stays */
        SHMQ_CAS("E1", &header->returned, returned, returned & ~UINT64_C(1), memory_order_relaxed,
                 memory_order_relaxed);
    }
    return taken;
}

/* What it means that the slot of a position has gone to a lease slot in the lap before. The caller announces nothing,
   and has found head or tail at the position after it has read the word. HELD: its holder is about to free it. AGAIN:
   the word has changed, or the holder was dead and what it had has come back. */
static inline enum shmq_result shmq_meet_given(const struct shmq_ring *ring, struct shmq_participant *me,
                                               uint64_t position, uint64_t word, bool sure)
{
    const uint32_t index = (uint32_t)(word >> SHMQ_GIVEN_LEASE_SHIFT);
    uint64_t owner = 0;
    if (index < ring->leases && shmq_is_given(word, position - ring->capacity)) {
        owner = SHMQ_LOAD("E1", &shmq_lease_of(ring, index)->holder, memory_order_acquire);
    }
    if (owner == 0) { /* a lease slot that a word names has a holder */
        return SHMQ_LOOK("P2", &shmq_slot_of(ring, position)->word, true) == word ? shmq_corrupt(me, position, word)
                                                                                   : SHMQ_AGAIN;
    }
    if (!sure || owner == ring->owner || ring->calls.is_alive(ring->calls.context, owner)) {
        return SHMQ_HELD;
    }
    if (shmq_take_lease(ring, index, owner)) {
        const uint64_t count = shmq_settle_lease(ring, index);
        if (shmq_is_dropped(ring, index)) {
            return SHMQ_AGAIN;
        }
        if (shmq_is_spent(ring, count)) {
            shmq_bury(ring, index);
        } else {
            shmq_give_up(ring, index); /* a get takes it on its way back; the atomics engine takes it here */
        }
    }
    return SHMQ_AGAIN;
}

/* Whether a lease slot has an item, as its count, the ring's word, and a move that has not ended say. Changes nothing. */
static inline bool shmq_has_leased_item(const struct shmq_ring *ring, uint32_t index)
{
    struct shmq_lease *lease = shmq_lease_of(ring, index);
    const uint64_t link = SHMQ_LOAD("M8", &lease->link, memory_order_relaxed);
    if (link > 0 && link <= ring->dead) {
        const uint64_t word = SHMQ_LOAD("M3", &shmq_dead_of(ring, (uint32_t)(link - 1))->word, memory_order_acquire);
        if (shmq_names_lease(word, index) && shmq_dead_state(word) != SHMQ_DEAD_BURYING) {
            return shmq_dead_state(word) == SHMQ_DEAD_GIVEN;
        }
    }
    const uint64_t position = SHMQ_LOAD("E1", &lease->position, memory_order_relaxed);
    return SHMQ_LOAD("E1", &lease->count, memory_order_acquire) != 0 ||
           SHMQ_LOAD("E4", &shmq_slot_of(ring, position)->word, memory_order_acquire) == shmq_given_word(position, index);
}

/* Whether a get would find something in the lease slots, even if it looked for the dead, when the ring is empty: then
   what waits for head does not wait. Changes nothing. */
static inline bool shmq_has_returns(const struct shmq_ring *ring)
{
    if (shmq_put_back_items(ring) > 0) {
        return true;
    }
    const uint32_t ready = shmq_leases_ready(ring);
    for (uint32_t index = 0; index < ready; index++) {
        struct shmq_lease *lease = shmq_lease_of(ring, index);
        const uint64_t owner = SHMQ_LOAD("E1", &lease->holder, memory_order_acquire);
        const uint64_t due = SHMQ_LOAD("E1", &lease->due, memory_order_relaxed);
        uint64_t delay;
        if (shmq_has_leased_item(ring, index) &&
            (owner == 0 ? shmq_is_due(ring, lease, due, &delay) || delay == 0
                        : owner != ring->owner && !ring->calls.is_alive(ring->calls.context, owner))) {
            return true;
        }
    }
    return false;
}

/* The number of items that came back, due or not, were left by the dead, or were put back. */
static inline uint64_t shmq_returns(const struct shmq_ring *ring)
{
    uint64_t number = shmq_put_back_items(ring);
    const uint32_t ready = shmq_leases_ready(ring);
    for (uint32_t index = 0; index < ready; index++) {
        struct shmq_lease *lease = shmq_lease_of(ring, index);
        const uint64_t owner = SHMQ_LOAD("E1", &lease->holder, memory_order_acquire);
        number += shmq_has_leased_item(ring, index) &&
                  (owner == 0 || (owner != ring->owner && !ring->calls.is_alive(ring->calls.context, owner)));
    }
    return number;
}

#endif
