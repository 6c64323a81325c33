/* What a put writes into slots that it has claimed [P7]. */

#ifndef SHMQ_WRITING_H
#define SHMQ_WRITING_H

#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "slots.h"

/* Load eight bytes, aligned or not. */
static inline uint64_t shmq_bytes(const unsigned char *from)
{
    uint64_t word;
    memcpy(&word, from, SHMQ_WORD);
    return word;
}

/* Copy bytes into words of a claimed slot. */
static inline void shmq_copy_in(_Atomic uint64_t *words, const unsigned char *from, uint32_t length)
{
#ifdef SHMQ_HAS_STRINGS
    if (length >= SHMQ_LONG && length <= SHMQ_LONGEST) {
        shmq_copy_string(words, from, length);
        return;
    }
#endif
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

/* Begin to write an item of so many bytes, at most item_size, into a claimed slot; index is its place in its batch, 0 for
   a single put. */
static inline void shmq_write_head(struct shmq_slot *slot, uint32_t length, uint32_t tag, uint32_t index)
{
    SHMQ_STEP("P7");
    /* [P7] relaxed, published by [P8]. Not plain, because an adopter may read them meanwhile, and then drop its
       copy. */
    atomic_store_explicit(&slot->length, length, memory_order_relaxed);
    atomic_store_explicit(&slot->meta, tag | index << SHMQ_TAG_BITS, memory_order_relaxed);
}

/* Write an item. */
static inline void shmq_write(const struct shmq_ring *ring, uint64_t position, const void *data, uint32_t length,
                              uint32_t tag, uint32_t index)
{
    struct shmq_slot *slot = shmq_slot_of(ring, position);
    shmq_write_head(slot, length, tag, index);
    shmq_copy_in((_Atomic uint64_t *)(void *)slot->payload, data, length);
}

/* A part of an item that lies elsewhere than the next one. */
struct shmq_piece {
    const void *data; /* NULL behind the last */
    uint32_t at;      /* in the payload; a multiple of a word */
    uint32_t length;
};

/* Write an item of which the parts lie in several places. */
static inline void shmq_write_pieces(const struct shmq_ring *ring, uint64_t position, const struct shmq_piece *pieces,
                                     uint32_t length, uint32_t tag, uint32_t index)
{
    struct shmq_slot *slot = shmq_slot_of(ring, position);
    shmq_write_head(slot, length, tag, index);
    for (; pieces->data != NULL; pieces++) {
        shmq_copy_in((_Atomic uint64_t *)(void *)(slot->payload + pieces->at), pieces->data, pieces->length);
    }
}

#endif
