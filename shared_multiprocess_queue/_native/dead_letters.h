/* Dead letters: items that came back too often, and how they move between lease slots and dead slots (labels M). The
   same as _ring/dead_letters.py, which draws the moves; what looks at letters, puts them back [M5] or drops them [M11]
   is rare, and is done there.

   Each move is decided by the word of the dead slot, which names the lease slot that takes part; its holder, or an heir,
   takes each step. No process holds a dead slot. */

#ifndef SHMQ_DEAD_LETTERS_H
#define SHMQ_DEAD_LETTERS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "parking.h"
#include "participants.h"

static inline struct shmq_dead *shmq_dead_of(const struct shmq_ring *ring, uint32_t index)
{
    return &ring->dead_heads[index];
}

static inline unsigned char *shmq_dead_payload(const struct shmq_ring *ring, uint32_t index)
{
    return ring->dead_payloads + index * SHMQ_LEASE_STRIDE(ring->max_item_size);
}

/* Where an item lies: in a dead slot or in a lease slot. */
struct shmq_place {
    _Atomic uint32_t *length, *meta;
    unsigned char *payload;
};

static inline struct shmq_place shmq_dead_place(const struct shmq_ring *ring, uint32_t index)
{
    struct shmq_dead *slot = shmq_dead_of(ring, index);
    return (struct shmq_place){&slot->length, &slot->meta, shmq_dead_payload(ring, index)};
}

static inline struct shmq_place shmq_leased_place(const struct shmq_ring *ring, uint32_t index)
{
    struct shmq_lease *lease = &ring->lease_heads[index];
    return (struct shmq_place){&lease->length, &lease->meta,
                               ring->lease_payloads + index * SHMQ_LEASE_STRIDE(ring->max_item_size)};
}

/* Copy an item; its length comes from the segment and is not believed. Two that take an item may copy while the next is
   written, and drop the copy then; so the words are atomic. Payloads are whole lines. */
static inline void shmq_copy_item(const struct shmq_ring *ring, struct shmq_place from, struct shmq_place to)
{
    const uint32_t stated = SHMQ_LOAD("M2", from.length, memory_order_relaxed);
    const uint32_t bytes = stated < ring->max_item_size ? stated : ring->max_item_size;
    _Atomic uint64_t *source = (_Atomic uint64_t *)(void *)from.payload;
    _Atomic uint64_t *target = (_Atomic uint64_t *)(void *)to.payload;
    for (uint32_t at = 0; at < bytes; at += SHMQ_WORD) {
        const uint64_t word = SHMQ_LOAD("M2", source++, memory_order_relaxed);
        atomic_store_explicit(target++, word, memory_order_relaxed);
    }
    atomic_store_explicit(to.length, stated, memory_order_relaxed);
    atomic_store_explicit(to.meta, SHMQ_LOAD("M2", from.meta, memory_order_relaxed), memory_order_relaxed);
}

/* End the move in which a lease slot of this process takes part, or take it back. */
static inline void shmq_settle_move(const struct shmq_ring *ring, uint32_t index)
{
    struct shmq_lease *lease = &ring->lease_heads[index];
    const uint64_t link = SHMQ_LOAD("M8", &lease->link, memory_order_relaxed);
    if (link == 0 || link > ring->dead) {
        return;
    }
    _Atomic uint64_t *at = &shmq_dead_of(ring, (uint32_t)(link - 1))->word;
    const uint64_t word = SHMQ_LOAD("M3", at, memory_order_acquire);
    if (!shmq_names_lease(word, index)) {
        return;
    }
    if (shmq_dead_state(word) == SHMQ_DEAD_BURIED) {
        /* [E8] release, before [M4]. */
        SHMQ_STORE("E8", &lease->count, 0, memory_order_release);
        /* [M4] release, after [E8]: from here on any process may end the letter. */
        if (SHMQ_CAS("M4", at, word, shmq_next_dead_word(word, SHMQ_DEAD_LETTER, 0), memory_order_acq_rel,
                     memory_order_relaxed)) {
            SHMQ_ADD("count", &ring->header->dead_letters, 1, memory_order_relaxed);
        }
        return;
    }
    if (shmq_dead_state(word) == SHMQ_DEAD_GIVEN && SHMQ_LOAD("E5", &lease->count, memory_order_relaxed) == 0) {
        SHMQ_STORE("E5", &lease->count, 1, memory_order_release); /* [E5] release, before [M10]; pairs with [J4] */
    }
    /* [M10] release, after [E5]; a burial is taken back. */
    SHMQ_CAS("M10", at, word, shmq_next_dead_word(word, SHMQ_DEAD_FREE, 0), memory_order_acq_rel, memory_order_relaxed);
}

static inline bool shmq_try_to_bury(const struct shmq_ring *ring, uint32_t index, uint32_t dead)
{
    struct shmq_lease *lease = &ring->lease_heads[index];
    struct shmq_dead *slot = shmq_dead_of(ring, dead);
    const uint64_t word = SHMQ_LOAD("M1", &slot->word, memory_order_acquire);
    if (shmq_dead_state(word) != SHMQ_DEAD_FREE) {
        return false;
    }
    SHMQ_STORE("M1", &lease->link, dead + 1, memory_order_relaxed); /* before [M1], for an heir */
    const uint64_t burying = shmq_next_dead_word(word, SHMQ_DEAD_BURYING, index);
    /* [M1] acq_rel: the slot is this lease slot's. */
    if (!SHMQ_CAS("M1", &slot->word, word, burying, memory_order_acq_rel, memory_order_relaxed)) {
        return false;
    }
    /* [M2] relaxed, before [M3]. */
    shmq_copy_item(ring, shmq_leased_place(ring, index), shmq_dead_place(ring, dead));
    SHMQ_STORE("M2", &slot->count, SHMQ_LOAD("M2", &lease->count, memory_order_relaxed), memory_order_relaxed);
    SHMQ_STORE("M2", &slot->position, SHMQ_LOAD("M2", &lease->position, memory_order_relaxed), memory_order_relaxed);
    /* [M3] release: from here on the item is the dead slot's. */
    SHMQ_CAS("M3", &slot->word, burying, shmq_next_dead_word(burying, SHMQ_DEAD_BURIED, index), memory_order_acq_rel,
             memory_order_relaxed);
    shmq_settle_move(ring, index);
    return true;
}

/* Move the item of a lease slot of this process to a dead slot; false: all of these are taken. */
static inline bool shmq_bury_item(const struct shmq_ring *ring, uint32_t index)
{
    for (uint32_t i = 0; i < ring->dead; i++) {
        if (shmq_try_to_bury(ring, index, i)) {
            return true;
        }
    }
    SHMQ_ADD("count", &ring->header->dead_letters_refused, 1, memory_order_relaxed);
    return false;
}

/* Decide whether the queue takes a letter that is offered; any process may do so, and one decides. */
static inline void shmq_decide_offer(const struct shmq_ring *ring, _Atomic uint64_t *at, uint64_t offered)
{
    /* [M6] seq_cst, after [M5]; pairs with [D1]: either a get that finds the end sees OFFERED, or this sees CLOSED. */
    if ((SHMQ_LOAD("M6", &ring->header->tail, memory_order_seq_cst) & SHMQ_CLOSED) != 0) {
        SHMQ_CAS("M7", at, offered, shmq_next_dead_word(offered, SHMQ_DEAD_LETTER, 0), memory_order_seq_cst,
                 memory_order_relaxed); /* [M7] */
        return;
    }
    shmq_note_return(ring, 0); /* [M6] seq_cst, before [M7]; pairs with [J1][J5] */
    /* [M7] seq_cst, pairs with [J4][M9]. */
    SHMQ_CAS("M7", at, offered, shmq_next_dead_word(offered, SHMQ_DEAD_PUT_BACK, 0), memory_order_seq_cst,
             memory_order_relaxed);
    shmq_say_returned(ring);
}

/* The word of a dead slot, which is not OFFERED, unless it has just become that again. */
static inline uint64_t shmq_decided_word(const struct shmq_ring *ring, uint32_t index)
{
    _Atomic uint64_t *at = &shmq_dead_of(ring, index)->word;
    const uint64_t word = SHMQ_LOAD("J4", at, memory_order_seq_cst);
    if (shmq_dead_state(word) != SHMQ_DEAD_OFFERED) {
        return word;
    }
    shmq_decide_offer(ring, at, word);
    return SHMQ_LOAD("J4", at, memory_order_seq_cst);
}

/* Whether a dead slot has an item of the queue. */
static inline bool shmq_dead_slot_has_item(const struct shmq_ring *ring)
{
    for (uint32_t index = 0; index < ring->dead; index++) {
        /* [J4] seq_cst, before the lease slots; pairs with [M7][M10]. */
        const uint64_t state = shmq_dead_state(shmq_decided_word(ring, index));
        if (state == SHMQ_DEAD_OFFERED || state == SHMQ_DEAD_PUT_BACK || state == SHMQ_DEAD_GIVEN) {
            return true;
        }
    }
    return false;
}

/* The number of items that wait in dead slots for a lease slot. Changes nothing. */
static inline uint64_t shmq_put_back_items(const struct shmq_ring *ring)
{
    uint64_t number = 0;
    for (uint32_t index = 0; index < ring->dead; index++) {
        const uint64_t state =
            shmq_dead_state(SHMQ_LOAD("J4", &shmq_dead_of(ring, index)->word, memory_order_acquire));
        number += state == SHMQ_DEAD_OFFERED || state == SHMQ_DEAD_PUT_BACK;
    }
    return number;
}

/* Find the oldest item that waits for a lease slot; returns whether there is one. */
static inline bool shmq_find_put_back(const struct shmq_ring *ring, uint32_t *dead, uint64_t *word)
{
    bool is_found = false;
    uint64_t oldest = 0;
    for (uint32_t index = 0; index < ring->dead; index++) {
        const uint64_t seen = shmq_decided_word(ring, index);
        const uint64_t position = SHMQ_LOAD("M9", &shmq_dead_of(ring, index)->position, memory_order_relaxed);
        if (shmq_dead_state(seen) == SHMQ_DEAD_PUT_BACK && (!is_found || position < oldest)) {
            is_found = true;
            oldest = position;
            *dead = index;
            *word = seen;
        }
    }
    return is_found;
}

/* Move an item that waits into an empty lease slot of this process; false: another has it. The caller writes what else
   the lease slot says of its item. */
static inline bool shmq_take_put_back(const struct shmq_ring *ring, uint32_t index, uint32_t dead, uint64_t word)
{
    struct shmq_lease *lease = &ring->lease_heads[index];
    struct shmq_dead *slot = shmq_dead_of(ring, dead);
    SHMQ_STORE("M8", &lease->link, dead + 1, memory_order_relaxed); /* [M8] before [M9], for an heir */
    shmq_copy_item(ring, shmq_dead_place(ring, dead), shmq_leased_place(ring, index));
    SHMQ_STORE("M8", &lease->position, SHMQ_LOAD("M8", &slot->position, memory_order_relaxed), memory_order_relaxed);
    /* [M9] acq_rel, after the copy: decides which lease slot has the item. */
    if (!SHMQ_CAS("M9", &slot->word, word, shmq_next_dead_word(word, SHMQ_DEAD_GIVEN, index), memory_order_acq_rel,
                  memory_order_relaxed)) {
        return false;
    }
    shmq_settle_move(ring, index);
    return true;
}

#endif
