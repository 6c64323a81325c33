/* The slots of the ring: their words, and where they lie. */

#ifndef SHMQ_SLOTS_H
#define SHMQ_SLOTS_H

#include <stdbool.h>
#include <stdint.h>

#include "participants.h"

/* The tag of an item whose length is larger than it can be; no codec uses it. */
#define SHMQ_CORRUPT_TAG (1U << SHMQ_TAG_BITS)

/* An item in its slot, or in the buffer of its adopter. */
struct shmq_item {
    const unsigned char *data;
    uint32_t length; /* at most item_size; of an item of several slots, max_item_size */
    uint32_t tag;    /* of the codec, or SHMQ_CORRUPT_TAG */
    bool mine;       /* set by shmq_rescue_get: whether this caller has the item */
};

static inline uint64_t shmq_word_of(uint64_t position, uint64_t state)
{
    return position << SHMQ_STATE_BITS | state;
}

static inline uint64_t shmq_position_of(uint64_t word)
{
    return word >> SHMQ_STATE_BITS;
}

/* The first position, from head on, that may hold something: what is more than a lap below tail is finished, and head may
   lie there if puts have died and no get has followed. */
static inline uint64_t shmq_last_lap(const struct shmq_ring *ring, uint64_t head, uint64_t tail)
{
    return tail > head && tail - head > ring->capacity ? tail - ring->capacity : head;
}

static inline struct shmq_slot *shmq_slot_of(const struct shmq_ring *ring, uint64_t position)
{
    const uint64_t capacity = ring->capacity;
    const bool power_of_two = (capacity & (capacity - 1)) == 0; /* a division takes longer than the rest of a claim */
    const uint64_t index = power_of_two ? position & (capacity - 1) : position % capacity;
    return (struct shmq_slot *)(void *)(ring->slots + index * ring->stride);
}

#endif
