/* Looks at the ring, which change nothing: whether a get would find nothing, and how many items there are. */

#ifndef SHMQ_LOOKING_H
#define SHMQ_LOOKING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "ring.h"

/* Whether the slot of this position holds nothing for a getter: neither an item nor a put in progress. A dead put
   counts as nothing, and so does all of its batch. An item that a dead get had claimed counts as an item. */
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
            /* If the first slot of its batch is not published, that slot decides. */
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

/* Whether a get would find nothing, even if it looked for dead operations; changes nothing. */
static inline bool shmq_is_empty(const struct shmq_ring *ring)
{
    if (shmq_is_stopped(ring)) {
        return true;
    }
    for (int attempt = 0; attempt < 16; attempt++) {
        const uint64_t head = shmq_unmarked(SHMQ_LOAD("G1", &ring->header->head, memory_order_acquire));
        const uint64_t tail = shmq_unmarked(SHMQ_LOAD("G3", &ring->header->tail, memory_order_acquire));
        /* Each slot from head to tail, at most once. If there are none, only the slot of head itself, which a dead get
           may still hold. */
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
        if (shmq_unmarked(SHMQ_LOAD("G3", &ring->header->tail, memory_order_acquire)) == tail) {
            return ring->leases == 0 || !shmq_has_returns(ring); /* every put before this load was found finished */
        }
    }
    return false; /* other processes keep putting */
}

/* The number of positions that puts have claimed and gets have not, between 0 and the capacity. */
static inline uint64_t shmq_distance(const struct shmq_ring *ring)
{
    const uint64_t head = shmq_unmarked(SHMQ_LOAD("G1", &ring->header->head, memory_order_acquire));
    const uint64_t tail = shmq_unmarked(SHMQ_LOAD("P1", &ring->header->tail, memory_order_acquire));
    const uint64_t size = tail > head ? tail - head : 0;
    return size < ring->capacity ? size : ring->capacity;
}

/* The number of items from head to tail: a later part of an item is none, nor is a TOMB, or a slot that was freed. A put
   in progress counts as one item for each slot. */
static inline uint64_t shmq_items(const struct shmq_ring *ring)
{
    const uint64_t head = shmq_unmarked(SHMQ_LOAD("G1", &ring->header->head, memory_order_acquire));
    const uint64_t tail = shmq_unmarked(SHMQ_LOAD("P1", &ring->header->tail, memory_order_acquire));
    uint64_t items = 0;
    for (uint64_t p = shmq_last_lap(ring, head, tail); p < tail; p++) {
        const uint64_t word = SHMQ_LOAD("G2", &shmq_slot_of(ring, p)->word, memory_order_acquire);
        items += word == shmq_word_of(p, SHMQ_FREE) || (word == shmq_word_of(p, SHMQ_FULL) && !shmq_is_more(ring, p));
    }
    return items;
}

/* The number of items, approximately, with those that came back; 0 if all puts have died, or all was dropped. */
static inline uint64_t shmq_size(const struct shmq_ring *ring)
{
    if (shmq_is_stopped(ring)) {
        return 0;
    }
    uint64_t size = shmq_distance(ring);
    if (size > 0 && shmq_is_empty(ring)) {
        size = 0;
    } else if (size > 1 && SHMQ_HAS_LARGE(ring)) {
        size = shmq_items(ring);
    }
    return size + shmq_returns(ring);
}

#endif
