/* Items that take several slots, one behind the other. The same as _ring/large.py.

   A put writes such an item as it writes a batch: the first slot states the length of all, and the tag of the codec; the
   others have the tag MORE. A get claims all slots in one step, copies them, frees the rest from the last slot on, and
   then the first, which decides which get has the item.

   As long as the first slot is not free, no put can claim a position of the next lap in any slot of the item, because
   positions are claimed in order. So what is freed early can still be copied by an adopter; and once the first slot is
   free, nothing of the item is left. */

#ifndef SHMQ_LARGE_H
#define SHMQ_LARGE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "slots.h"

/* Whether items may take several slots. A checker of small items may say that they do not; then it sees nothing of
   them. */
#ifndef SHMQ_HAS_LARGE
#define SHMQ_HAS_LARGE(ring) ((ring)->max_item_size > (ring)->item_size)
#endif

/* The number of slots that an item of so many bytes takes. */
static inline uint64_t shmq_slots_of(const struct shmq_ring *ring, uint32_t length)
{
    return length <= ring->item_size ? 1 : ((uint64_t)length + ring->item_size - 1) / ring->item_size;
}

/* Whether a slot says that it holds a later part of an item. */
static inline bool shmq_is_more(const struct shmq_ring *ring, uint64_t position)
{
    /* [G2] acquire, each here: a look at head that comes later is later. */
    return (SHMQ_LOAD("G2", &shmq_slot_of(ring, position)->meta, memory_order_acquire) & SHMQ_TAG_MASK) == SHMQ_MORE;
}

/* Read length and tag of an item, and check them, because they come from the segment; returns the number of its slots,
   at most `most`. If what they say cannot be, that is one slot, and a corrupt item. */
static inline uint64_t shmq_measure(const struct shmq_ring *ring, uint64_t position, uint64_t most,
                                    struct shmq_item *item)
{
    struct shmq_slot *slot = shmq_slot_of(ring, position);
    item->length = SHMQ_LOAD("G2", &slot->length, memory_order_acquire);
    item->tag = SHMQ_LOAD("G2", &slot->meta, memory_order_acquire) & SHMQ_TAG_MASK;
    item->data = slot->payload;
    item->mine = false;
    const uint64_t slots = shmq_slots_of(ring, item->length);
    if (item->length <= ring->max_item_size && slots <= most && item->tag != SHMQ_MORE) {
        return slots;
    }
    item->length = item->length < ring->item_size ? item->length : ring->item_size;
    item->tag = SHMQ_CORRUPT_TAG;
    return 1;
}

/* Read the first words of a payload that may be another get's by now, or a put's. */
static inline void shmq_glance(const struct shmq_item *item, uint64_t *words, uint32_t count)
{
    _Atomic uint64_t *payload = (_Atomic uint64_t *)(void *)item->data;
    for (uint32_t i = 0; i < count; i++) {
        words[i] = SHMQ_LOAD("G2", &payload[i], memory_order_acquire); /* [G2] acquire, each, as above */
    }
}

/* The end of the items from position p on, which is FULL: at most `limit` of them, and `capacity` slots. Their number
   is in *items; 0 if there is none, because another get has moved head, or because the segment was damaged. */
static inline uint64_t shmq_end_of_items(const struct shmq_ring *ring, uint64_t p, uint64_t limit, uint64_t *items)
{
    const uint64_t last = p + ring->capacity;
    uint64_t end = p;
    for (*items = 0; *items < limit && end < last; ++*items) {
        struct shmq_item item;
        if (end != p && SHMQ_LOAD("G2", &shmq_slot_of(ring, end)->word, memory_order_acquire) !=
                            shmq_word_of(end, SHMQ_FULL)) {
            break;
        }
        const uint64_t slots = shmq_measure(ring, end, last - end, &item);
        uint64_t known = 1;
        while (known < slots &&
               SHMQ_LOAD("G2", &shmq_slot_of(ring, end + known)->word, memory_order_acquire) ==
                   shmq_word_of(end + known, SHMQ_FULL) &&
               shmq_is_more(ring, end + known)) {
            known++;
        }
        if (known < slots || item.tag == SHMQ_CORRUPT_TAG) {
            break;
        }
        end += slots;
    }
    return end;
}

/* Copy a part of an item out of its slots, from byte `at` on. */
static inline void shmq_copy_part(const struct shmq_ring *ring, uint64_t position, uint32_t at, uint32_t length,
                                  void *buffer)
{
    unsigned char *to = buffer;
    const uint32_t size = ring->item_size;
    uint32_t skipped = at % size;
    for (uint64_t p = position + at / size; length > 0; p++) {
        const uint32_t piece = length < size - skipped ? length : size - skipped;
        memcpy(to, shmq_slot_of(ring, p)->payload + skipped, piece);
        to += piece;
        length -= piece;
        skipped = 0;
    }
}

/* Copy an item out of its slots. An adopter reads words that a put may be writing, and then drops the copy. */
static inline void shmq_copy_out(const struct shmq_ring *ring, uint64_t position, uint32_t length, void *buffer,
                                 bool adopts)
{
    unsigned char *to = buffer;
    for (uint64_t p = position; length > 0; p++) {
        struct shmq_slot *slot = shmq_slot_of(ring, p);
        const uint32_t piece = length < ring->item_size ? length : ring->item_size;
        if (adopts) {
            _Atomic uint64_t *words = (_Atomic uint64_t *)(void *)slot->payload;
            for (uint32_t at = 0; at < piece; at += SHMQ_WORD) {
                const uint64_t word = SHMQ_LOAD("T3", &words[at / SHMQ_WORD], memory_order_relaxed);
                memcpy(to + at, &word, piece - at < SHMQ_WORD ? piece - at : SHMQ_WORD);
            }
        } else {
            memcpy(to, slot->payload, piece);
        }
        to += piece;
        length -= piece;
    }
}

/* Free the slots of an item that was copied, but for the first, from the last on. */
static inline void shmq_free_rest(const struct shmq_ring *ring, uint64_t position, uint64_t slots)
{
    for (uint64_t p = position + slots; --p > position;) {
        /* [G8] release for the copy, pairs with [P2]. If it fails, another get has freed the slot. */
        SHMQ_CAS("G8", &shmq_slot_of(ring, p)->word, shmq_word_of(p, SHMQ_FULL),
                 shmq_word_of(p + ring->capacity, SHMQ_FREE), memory_order_acq_rel, memory_order_relaxed);
    }
}

#endif
