/* Items that are read in their slot: what a get in place wants, and one attempt to claim it. The same as _engine/in_place.py and _codec/in_place.py. */

#ifndef SHMQ_IN_PLACE_H
#define SHMQ_IN_PLACE_H

#include "attempt.h"

/* What a get in place wants, and what it has found by its look. */
struct wanted {
    uint32_t bare_tag; /* of the codec */
    bool has_buffers;  /* whether the codec takes items with buffers */
    bool has_room;     /* whether there is a buffer for the item, of so many bytes: */
    uint64_t room;
    uint32_t begin, size; /* where in its payload the bytes of the item begin, and their number */
    uint32_t tag;         /* of the payload */
    uint64_t slots;       /* that the item takes */
    bool has_bytes;       /* whether it has bytes that can be taken in place */
};

/* Find the buffer of an item that has exactly one. What is read may be changing, and is read once. */
static bool find_only_buffer(const struct shmq_item *item, uint32_t in_slot, struct wanted *wanted)
{
    union {
        uint64_t words[3];
        struct {
            struct buffers_head head;
            struct buffers_entry entry;
        };
    } first;
    const uint32_t least = sizeof first.head + sizeof first.entry;
    if (item->length < least || in_slot < least) {
        return false;
    }
    shmq_glance(item, first.words, 3);
    const uint32_t alignment = first.head.alignment;
    if (first.head.count != 1 || (alignment != BUFFERS_ALIGNMENT && alignment != BUFFERS_PACKED) ||
        first.entry.kind >= KIND_SAME) {
        return false;
    }
    uint64_t at = (uint64_t)least + first.head.stream;
    const uint64_t misplaced = (at + sizeof(struct shmq_slot)) % alignment;
    at += misplaced == 0 ? 0 : alignment - misplaced;
    if (at + first.entry.length != item->length) {
        return false;
    }
    wanted->begin = (uint32_t)at;
    wanted->size = first.entry.length;
    return true;
}

/* Whether an item is wanted; as Wish of Python does. */
static bool is_wanted(void *context, const struct shmq_item *item, uint64_t slots)
{
    struct wanted *wanted = context;
    wanted->tag = item->tag;
    wanted->slots = slots;
    wanted->begin = 0;
    wanted->size = item->length;
    wanted->has_bytes = item->tag == wanted->bare_tag;
    if (item->tag == TAG_PLACED && item->length >= PLACED_PADDING) {
        wanted->begin = PLACED_PADDING;
        wanted->size = item->length - PLACED_PADDING;
        wanted->has_bytes = true;
    } else if (item->tag == TAG_BUFFERS && wanted->has_buffers) {
        wanted->has_bytes = find_only_buffer(item, (uint32_t)(item->length / slots), wanted);
    }
    wanted->has_bytes = wanted->has_bytes && (slots == 1 || wanted->has_room);
    return wanted->has_bytes && (!wanted->has_room || wanted->size <= wanted->room);
}

/* Claim the next item, if it is wanted. */
SHMQ_APART static int attempt_wished(struct record *record, bool sure)
{
    struct shmq_ring *ring = &record->ring;
    record->is_kept_back = PyObject_Size(record->handle->kept_back) > 0 && !shmq_is_stopped(ring);
    if (record->is_kept_back) {
        return SHMQ_DONE;
    }
    if (take_role(record, SHMQ_GET) < 0 || make_room(record, 1) < 0) {
        return FAILED;
    }
    int found = SHMQ_AGAIN;
    for (int attempt = 0; attempt < SHMQ_ATTEMPTS && found == SHMQ_AGAIN; attempt++) {
        uint64_t position;
        found = SHMQ_HAS_LARGE(ring)
                    ? shmq_claim_suiting_large(ring, &record->me, sure, record->wish, &position, &record->slots)
                    : shmq_claim_suiting(ring, &record->me, sure, record->wish, &position, &record->slots);
        if (found == SHMQ_DONE) {
            record->position = position;
        } else if (found == SHMQ_CORRUPT) {
            found = fail_as_corrupt(record);
        } else if (found == SHMQ_UNFIT) {
            const struct wanted *wanted = record->wish->context;
            found = fail_by(wanted->has_bytes
                                ? PyObject_CallMethod(record->handle->engine, "too_small", "IK", wanted->size,
                                                      (unsigned long long)wanted->room)
                                : PyObject_CallMethod(record->handle->engine, "refuse_item", "IK", wanted->tag,
                                                      (unsigned long long)wanted->slots));
        } else if (found == SHMQ_ORPHAN ||
                   ((found == SHMQ_NOTHING || found == SHMQ_HELD) && sure && shmq_find_orphan(ring, &position))) {
            found = adopt(record, position); /* it is this process's now, whatever it is */
            if (found == SHMQ_DONE && keep_back(record, 0) < 0) {
                return FAILED;
            }
            record->is_kept_back = found == SHMQ_DONE;
        }
    }
    return found == SHMQ_AGAIN ? SHMQ_HELD : found;
}

#endif
