/* The ring where items may take several slots: their writing, claim and freeing. What lies in the slots is in large.h. */

#ifndef SHMQ_LARGE_RING_H
#define SHMQ_LARGE_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "large.h"
#include "ring.h"

/* Write an item of any size into claimed slots; returns their number. The index is the place of the first in its put. */
static inline uint64_t shmq_write_large(const struct shmq_ring *ring, uint64_t position, const void *data,
                                        uint32_t length, uint32_t tag, uint32_t index)
{
    const unsigned char *from = data;
    const uint32_t size = ring->item_size;
    uint64_t slots = 1;
    shmq_write(ring, position, from, length < size ? length : size, tag, index);
    for (uint32_t at = size; length > size && at < length; at += size < length - at ? size : length - at, slots++) {
        shmq_write(ring, position + slots, from + at, length - at < size ? length - at : size, SHMQ_MORE,
                   index + (uint32_t)slots);
    }
    if (slots > 1) {
        SHMQ_STORE("P7", &shmq_slot_of(ring, position)->length, length, memory_order_relaxed);
    }
    return slots;
}

/* As shmq_write_large, of an item of several slots whose parts lie in several places: in order, and each at a multiple of
   a word in its slot, so there is only one if slots do not have whole words. */
static inline uint64_t shmq_write_large_pieces(const struct shmq_ring *ring, uint64_t position,
                                               const struct shmq_piece *pieces, uint32_t length, uint32_t tag,
                                               uint32_t index)
{
    uint64_t slots = 0;
    for (uint32_t begin = 0, end; begin < length; begin = end, slots++) {
        end = length - begin < ring->item_size ? length : begin + ring->item_size;
        struct shmq_slot *slot = shmq_slot_of(ring, position + slots);
        shmq_write_head(slot, slots == 0 ? length : end - begin, slots == 0 ? tag : SHMQ_MORE,
                        index + (uint32_t)slots);
        while (pieces->data != NULL && pieces->at + pieces->length <= begin) {
            pieces++;
        }
        for (const struct shmq_piece *piece = pieces; piece->data != NULL && piece->at < end; piece++) {
            const uint32_t first = piece->at < begin ? begin : piece->at;
            const uint32_t last = piece->at + piece->length < end ? piece->at + piece->length : end;
            shmq_copy_in((_Atomic uint64_t *)(void *)(slot->payload + (first - begin)),
                         (const unsigned char *)piece->data + (first - piece->at), last - first);
        }
    }
    return slots;
}

/* As shmq_claim_get, where items may take several slots: *count slots are claimed. */
static inline enum shmq_result shmq_claim_large(const struct shmq_ring *ring, struct shmq_participant *me,
                                                uint64_t limit, bool sure, uint64_t *position, uint64_t *count)
{
    return shmq_claim(ring, me, limit, sure, false, true, NULL, position, count);
}

/* As shmq_claim_suiting, likewise. */
static inline enum shmq_result shmq_claim_suiting_large(const struct shmq_ring *ring, struct shmq_participant *me,
                                                        bool sure, const struct shmq_wish *wish, uint64_t *position,
                                                        uint64_t *count)
{
    return shmq_claim_wished(ring, me, 1, sure, false, true, NULL, wish, position, count);
}

/* Free the slots of an item after it was copied. False: another get has adopted the item; drop the copy. */
static inline bool shmq_free_large(const struct shmq_ring *ring, uint64_t position, uint64_t slots)
{
    shmq_free_rest(ring, position, slots);
    return shmq_free_slot(ring, position);
}

#endif
