/* After the death of a process, its puts become TOMBs, the items of its gets are adopted, and its records can be taken
   (labels S, T, A). The same as the part of _ring/ring.py about dead operations. */

#ifndef SHMQ_RECOVERY_H
#define SHMQ_RECOVERY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "large.h"
#include "parking.h"
#include "participants.h"
#include "slots.h"

/* ---- slots -------------------------------------------------------------------------------------------------------- */

/* Whether a put has claimed this position and not published it. */
static inline bool shmq_is_claimed_by_put(const struct shmq_ring *ring, uint64_t position)
{
    /* [S1] acquire, pairs with [P6]. */
    return shmq_unmarked(SHMQ_LOAD("S1", &ring->header->tail, memory_order_acquire)) > position &&
           SHMQ_LOAD("S1", &shmq_slot_of(ring, position)->word, memory_order_acquire) ==
               shmq_word_of(position, SHMQ_FREE);
}

/* Whether a slot holds a later part of an item, and the slot before it leads to it: that is freed after it. If that is
   free already, the segment was damaged. */
static inline bool shmq_is_led_to(const struct shmq_ring *ring, uint64_t position)
{
    if (!SHMQ_HAS_LARGE(ring) || !shmq_is_more(ring, position)) {
        return false;
    }
    const uint64_t later = position + ring->capacity - 1; /* of the slot before it, in the next lap */
    const uint64_t word = SHMQ_LOAD("S1", &shmq_slot_of(ring, later)->word, memory_order_acquire);
    return (word & SHMQ_STATE_MASK) == SHMQ_GIVEN ? shmq_is_given(word, position - 1) : shmq_position_of(word) < later;
}

/* Whether a get has claimed this position, and an item is still in its slot. A later part of one is none; but one that
   nothing leads to is adopted as a corrupt item, because nothing else would free it. */
static inline bool shmq_is_adoptable(const struct shmq_ring *ring, uint64_t position)
{
    /* [S1] acquire, pairs with [G5]. */
    return shmq_unmarked(SHMQ_LOAD("S1", &ring->header->head, memory_order_acquire)) > position &&
           SHMQ_LOAD("S1", &shmq_slot_of(ring, position)->word, memory_order_acquire) ==
               shmq_word_of(position, SHMQ_FULL) &&
           !shmq_is_led_to(ring, position);
}

/* Whether a get has claimed this position and not freed it. */
static inline bool shmq_is_claimed_by_get(const struct shmq_ring *ring, uint64_t position)
{
    /* [S1] acquire, pairs with [G5]. */
    if (shmq_unmarked(SHMQ_LOAD("S1", &ring->header->head, memory_order_acquire)) <= position) {
        return false;
    }
    const uint64_t word = SHMQ_LOAD("S1", &shmq_slot_of(ring, position)->word, memory_order_acquire);
    return word == shmq_word_of(position, SHMQ_FULL) || shmq_is_given(word, position);
}

/* Read length and tag, and check them, because they come from the segment. */
static inline void shmq_describe(const struct shmq_ring *ring, struct shmq_slot *slot, struct shmq_item *item)
{
    item->length = SHMQ_LOAD("G2", &slot->length, memory_order_relaxed);
    item->tag = SHMQ_LOAD("G2", &slot->meta, memory_order_relaxed) & SHMQ_TAG_MASK;
    item->data = slot->payload;
    item->mine = false;
    if (item->length > ring->item_size) {
        item->length = ring->item_size;
        item->tag = SHMQ_CORRUPT_TAG;
    }
}

/* ---- dead puts and gets ------------------------------------------------------------------------------------------- */

/* Free a TOMB. Any operation that meets one does so, at head or elsewhere. */
static inline void shmq_free_tomb(const struct shmq_ring *ring, uint64_t position)
{
    /* [T2] acq_rel, pairs with [P2]; seq_cst for the wake. */
    if (SHMQ_CAS("T2", &shmq_slot_of(ring, position)->word, shmq_word_of(position, SHMQ_TOMB),
                 shmq_word_of(position + ring->capacity, SHMQ_FREE), memory_order_seq_cst, memory_order_relaxed)) {
        shmq_wake(ring, &ring->header->space, 1);
    }
}

/* Whether the slot of position + j holds item j of the put that begins at `position`. The index in the slot tells it: no
   put that begins later has index j there. If the slot holds an item of another put, *other is how far from `position`
   that has begun. */
static inline bool shmq_is_member(const struct shmq_ring *ring, uint64_t position, uint64_t j, uint64_t *other)
{
    struct shmq_slot *slot = shmq_slot_of(ring, position + j);
    /* [S5] acquire, pairs with [P8]: its batch index is read next. */
    if (SHMQ_LOAD("S5", &slot->word, memory_order_acquire) != shmq_word_of(position + j, SHMQ_FULL)) {
        return false;
    }
    const uint64_t index = SHMQ_LOAD("S5", &slot->meta, memory_order_relaxed) >> SHMQ_TAG_BITS;
    if (index != j) {
        *other = j - index;
    }
    return index == j;
}

/* Make a slot of a dead put a TOMB, if it is as it was found. */
static inline void shmq_bury_slot(const struct shmq_ring *ring, uint64_t position, uint64_t state)
{
    /* [T1] acq_rel, pairs with [T2]; seq_cst for the wake. */
    if (SHMQ_CAS("T1", &shmq_slot_of(ring, position)->word, shmq_word_of(position, state),
                 shmq_word_of(position, SHMQ_TOMB), memory_order_seq_cst, memory_order_relaxed)) {
        SHMQ_ADD("T1", &ring->header->tombs, 1, memory_order_relaxed);
    }
}

/* Make a put a TOMB that was found FREE at a position below tail, if no live operation covers it. The caller announces
   nothing. False: a live operation holds the position. True: look again.

   The whole batch is made TOMBs, the first position last. Its end is not recorded, because its record may be gone. But
   its slots are published from the last to the first, so behind p come FREE slots, then FULL ones with their index,
   then slots of other puts in any state. Nothing follows from a FREE or TOMB slot: it may be of the batch, with members
   behind it. But a FULL slot p+j whose index is not j is of another put. A batch is contiguous, so no member lies
   behind that slot, and the walk ends there. So the walk visits the batch and claims that are as unfinished as this
   one, but not all slots of a long queue. The slots become TOMBs from the last to the first: if this process dies in
   between, the next walk still finds all that is left.

   The FREE slots on the way become TOMBs in the same pass, as far as no live put covers them: each is an orphan like p,
   of the same batch or another, and a walk for each would take time that grows with the square of a batch. Of these
   other puts nothing is FULL: the walk would have ended at it. Only the one at whose item it ended has FULL slots, so
   what is FREE from its beginning on is left.

   Slots may change during the walk. That is harmless: they can be claimed again only after slot p has left FREE(p),
   that is, after another process has finished this recovery, and then every compare-and-swap below fails. */
static inline bool shmq_rescue_put(const struct shmq_ring *ring, uint64_t position)
{
    /* [S1] acquire, pairs with [P6]. Tail lies behind the whole batch, which was claimed in one step. */
    const uint64_t tail = shmq_unmarked(SHMQ_LOAD("S1", &ring->header->tail, memory_order_acquire));
    if (tail <= position) {
        return false;
    }
    uint64_t end = tail - position < ring->capacity ? tail - position : ring->capacity;
    const uint64_t uncovered = shmq_end_of_uncovered(ring, position, position + end) - position;
    if (uncovered == 0) {
        return false;
    }
    /* [S4] the second read, after [S2]: the owner may have published the slot before it withdrew its announcement. */
    if (SHMQ_LOAD("S4", &shmq_slot_of(ring, position)->word, memory_order_seq_cst) !=
        shmq_word_of(position, SHMQ_FREE)) {
        return true;
    }
    uint64_t other = UINT64_MAX;
    for (uint64_t j = 1; j < end; j++) {
        if (!shmq_is_member(ring, position, j, &other) && other != UINT64_MAX) {
            end = j;
        }
    }
    const uint64_t orphans = other < uncovered ? other : uncovered;
    for (uint64_t j = end - 1; j > 0; j--) {
        if (shmq_is_member(ring, position, j, &other)) {
            shmq_bury_slot(ring, position + j, SHMQ_FULL);
        } else if (j < orphans) {
            shmq_bury_slot(ring, position + j, SHMQ_FREE); /* the second read [S4], too */
        }
    }
    shmq_bury_slot(ring, position, SHMQ_FREE); /* [T1] after the others */
    shmq_wake(ring, &ring->header->items, 1);
    shmq_wake_idle(ring); /* it may have been the last thing that was left */
    return true;
}

/* Adopt an item that was found FULL at a position below head, if no live operation covers it. The caller announces
   nothing; the buffer has `room` bytes, item_size or more. True: the caller has the item, in the buffer. False: another
   has it, or there is not enough room. */
static inline bool shmq_rescue_get(const struct shmq_ring *ring, uint64_t position, void *buffer, uint32_t room,
                                   struct shmq_item *item)
{
    item->mine = false;
    if (!shmq_is_adoptable(ring, position) || shmq_is_covered(ring, SHMQ_GET, position)) {
        return false;
    }
    struct shmq_slot *slot = shmq_slot_of(ring, position);
    const uint64_t full = shmq_word_of(position, SHMQ_FULL);
    /* [S4] the second read, pairs with [P8]: the copy below is of this item, or the compare-and-swap will fail. */
    if (SHMQ_LOAD("S4", &slot->word, memory_order_seq_cst) != full) {
        return false;
    }
    uint64_t slots = 1;
    if (SHMQ_HAS_LARGE(ring)) {
        slots = shmq_measure(ring, position, ring->capacity, item);
        if (item->length > room) {
            return false;
        }
        shmq_copy_out(ring, position, item->length, buffer, true);
        shmq_free_rest(ring, position, slots);
    } else {
        shmq_describe(ring, slot, item);
        unsigned char *to = buffer;
        _Atomic uint64_t *words = (_Atomic uint64_t *)(void *)slot->payload;
        for (uint32_t at = 0; at < item->length; at += SHMQ_WORD) {
            const uint64_t word = SHMQ_LOAD("T3", &words[at / SHMQ_WORD], memory_order_relaxed);
            memcpy(to + at, &word, item->length - at < SHMQ_WORD ? item->length - at : SHMQ_WORD);
        }
    }
    item->data = buffer;
    /* [T3] acq_rel, after the copy; pairs with [P2]; seq_cst for the wake. Several gets may try; the one that frees the
       slot has the item. */
    item->mine = SHMQ_CAS("T3", &slot->word, full, shmq_word_of(position + ring->capacity, SHMQ_FREE),
                          memory_order_seq_cst, memory_order_relaxed);
    if (item->mine) {
        SHMQ_ADD("T3", &ring->header->adopted, 1, memory_order_relaxed);
        shmq_wake(ring, &ring->header->space, slots);
    }
    return item->mine;
}

/* The positions that a record's get may have claimed; cut to the capacity, because no get claims more. */
static inline void shmq_announced_gets(const struct shmq_ring *ring, struct shmq_record *record, uint64_t *begin,
                                       uint64_t *end)
{
    *begin = SHMQ_LOAD("S2", &record->get_begin, memory_order_acquire);
    *end = SHMQ_LOAD("S2", &record->get_end, memory_order_acquire);
    if (*end > *begin && *end - *begin > ring->capacity) {
        *end = *begin + ring->capacity;
    }
}

/* Look for an item that a dead get had claimed; if no get is in progress, this takes a few relaxed loads. The caller
   announces nothing. True: try shmq_rescue_get with this position. */
static inline bool shmq_find_orphan(const struct shmq_ring *ring, uint64_t *position)
{
    const uint32_t used = shmq_records_used(ring);
    for (uint32_t index = 0; index < used; index++) {
        struct shmq_record *record = &ring->records[index];
        if (SHMQ_LOAD("S2", &record->get_end, memory_order_relaxed) == 0) { /* a hint; the loads below decide */
            continue;
        }
        uint64_t begin, end;
        shmq_announced_gets(ring, record, &begin, &end);
        if (begin >= end || !shmq_keeps_announcing(record, SHMQ_GET, begin) || shmq_is_live(ring, record)) {
            continue;
        }
        for (uint64_t q = begin; q < end; q++) {
            if (shmq_is_adoptable(ring, q) && !shmq_is_covered(ring, SHMQ_GET, q)) {
                *position = q;
                return true;
            }
        }
    }
    return false;
}

/* ---- records of dead operations ----------------------------------------------------------------------------------- */

static inline bool shmq_is_resolved_get(const struct shmq_ring *ring, struct shmq_record *record)
{
    uint64_t begin, end;
    shmq_announced_gets(ring, record, &begin, &end);
    for (uint64_t q = begin; q < end; q++) {
        if (shmq_is_claimed_by_get(ring, q)) {
            return false;
        }
    }
    return true;
}

static inline bool shmq_is_resolved_put(const struct shmq_ring *ring, struct shmq_record *record, uint64_t *begin)
{
    *begin = SHMQ_LOAD("S2", &record->put_begin, memory_order_acquire);
    return SHMQ_LOAD("S2", &record->put_end, memory_order_acquire) <= *begin || !shmq_is_claimed_by_put(ring, *begin);
}

/* Whether the operation that a record announces has left no claim. */
static inline bool shmq_is_resolved(const struct shmq_ring *ring, uint32_t index)
{
    uint64_t begin;
    return shmq_is_resolved_put(ring, &ring->records[index], &begin) &&
           shmq_is_resolved_get(ring, &ring->records[index]);
}

/* Make the put of a dead record a TOMB; returns whether the record is resolved. Items of its get are left to
   getters. */
static inline bool shmq_resolve(const struct shmq_ring *ring, uint32_t index)
{
    uint64_t begin;
    if (!shmq_is_resolved_put(ring, &ring->records[index], &begin)) {
        shmq_rescue_put(ring, begin);
    }
    return shmq_is_resolved(ring, index);
}

/* Take a free record, or a dead one whose announcements are resolved. False: all are in use. */
static inline bool shmq_take_record(const struct shmq_ring *ring, struct shmq_participant *me)
{
    /* Verdicts of this one search, because the records of a process with many threads lie side by side. */
    enum { VERDICTS = 8 };
    struct {
        uint64_t owner;
        bool alive;
    } verdicts[VERDICTS] = {{ring->owner, true}};
    unsigned known = 1;
    for (uint32_t index = 0; index < SHMQ_RECORDS; index++) {
        _Atomic uint64_t *word = &ring->records[index].owner;
        const uint64_t owner = SHMQ_LOAD("R1", word, memory_order_acquire);
        if (owner != 0) {
            unsigned which = 0;
            while (which < VERDICTS && which < known && verdicts[which].owner != owner) {
                which++;
            }
            if (which == known || which == VERDICTS) {
                which = known++ % VERDICTS;
                verdicts[which].owner = owner;
                verdicts[which].alive = ring->calls.is_alive(ring->calls.context, owner);
            }
            if (verdicts[which].alive || !shmq_resolve(ring, index)) {
                continue;
            }
        }
        /* [R1] acq_rel, pairs with [S2][R2]. */
        if (!SHMQ_CAS("R1", word, owner, ring->owner, memory_order_acq_rel, memory_order_relaxed)) {
            continue;
        }
        shmq_settle(ring, me, index);
        return true;
    }
    return false;
}

/* Make an abandoned record usable again, with a new generation, if it is resolved. */
static inline bool shmq_clean(const struct shmq_ring *ring, struct shmq_participant *me)
{
    if (!shmq_resolve(ring, me->index)) {
        return false;
    }
    shmq_renew(me);
    return true;
}

/* Give up an operation between claim and end. Once its record is marked, it counts as dead, for its owner, too: the
   owner neither publishes nor frees. Items that a get had claimed and not freed go to the next getter. True: the record
   is clean. False: it must not be used until shmq_clean returns true. */
static inline bool shmq_abandon(const struct shmq_ring *ring, struct shmq_participant *me)
{
    SHMQ_STORE("A1", &me->record->abandoned, 1, memory_order_release); /* [A1] release, pairs with [S2] */
    shmq_wake(ring, &ring->header->items, 1);
    return shmq_clean(ring, me);
}

#endif
