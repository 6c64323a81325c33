/* The ring in C11: a bounded FIFO over shared words, for any number of getters and putters that may die at any
   instruction. The same algorithm, names and labels as _ring/ring.py and its neighbours, on the same segment, at the same
   time. No Python in here, no allocation, no clock, no system call: the caller brings the memory, and waits.

   layout.h <- participants.h <- parking.h <- batch_lock.h, recovery.h <- ring.h; recovery.h is the part of _ring/ring.py
   that says what happens when a process dies.

   docs/protocol.md has the essay, the drawing, and order, partner and reason of each edge; the labels at the steps are
   its labels. The slots with sequence words come from Dmitry Vyukov's bounded MPMC queue
   (https://www.1024cores.net/home/lock-free-algorithms/queues/bounded-mpmc-queue). What holds at every step:

   - Every change of a slot's word is a compare-and-swap that expects the full position.
   - A claim is announced before it is made. A claimed position that no live record covers is an orphan.
   - An orphan put (FREE(p), tail > p) becomes a TOMB, its whole batch before it: shmq_rescue_put. An orphan get
     (FULL(q), head > q) belongs to the operation that frees its slot: shmq_rescue_get.
   - Nothing computes room from tail - head; the word of a slot says whether it is free.
   - Mode spsc: the threads of one handle never move an end at the same time.

   [W3] is the look of the functions here when they are called with `sure`; acquire serves otherwise.

   HOSTILE MEMORY
   ==============

   Any process that has the segment mapped may write anything into it. Positions are used modulo the capacity, which
   this process has checked; lengths are cut; indexes of records are bounded; every walk and every retry has an end.
   A word that no queue writes gives SHMQ_CORRUPT, with the position and the word in the participant.

   HOW TO USE IT
   =============

    put      shmq_claim_put -> DONE: shmq_write for each position, shmq_publish. Otherwise nothing is claimed.
    get      shmq_claim_get -> DONE: for each position shmq_read, copy, shmq_free_slot (false: not yours, drop it);
                               then shmq_finish_get.
                            -> ORPHAN: shmq_rescue_get of that position, into a buffer of item_size bytes.
                            -> NOTHING or HELD: with `sure`, shmq_find_orphan, before saying Empty; then as with ORPHAN.
    waiting  epoch = shmq_arm; claim with `sure`; sleep on the low half of the epoch's word while it is as read.
    copying  may fail for want of memory between claim and freeing: shmq_abandon, and the item goes to another get.

   `sure` also tells whether to find out if an operation that is in the way is dead, which costs a scan of the records
   and perhaps system calls. HELD means that another operation is about to end there: be patient for a moment. */

#ifndef SHMQ_RING_H
#define SHMQ_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "batch_lock.h"
#include "recovery.h"

enum shmq_result {
    SHMQ_DONE,
    SHMQ_NOTHING,    /* empty, or full */
    SHMQ_HELD,       /* another operation is between its claim and its end there; it will be over in a moment */
    SHMQ_ORPHAN,     /* a dead get has left an item at the position */
    SHMQ_CLAIM_LOST, /* others have declared this operation dead while it was alive; its items are not in the queue */
    SHMQ_CORRUPT,    /* bad_position and bad_word of the participant say what */
    SHMQ_AGAIN       /* inside this file only */
};

/* Fetch the first two lines of a slot while the claim goes on, to have them alone: its last user has them, on another core.
   A round trip takes 0.6 µs instead of 0.9. The processor itself fetches the rest of a long item. */
static inline void shmq_prefetch(const struct shmq_ring *ring, uint64_t position)
{
    const unsigned char *slot = (const unsigned char *)shmq_slot_of(ring, position);
    SHMQ_PREFETCH(slot);
    if (ring->stride > SHMQ_LINE) {
        SHMQ_PREFETCH(slot + SHMQ_LINE);
    }
}

static inline enum shmq_result shmq_corrupt(struct shmq_participant *me, uint64_t position, uint64_t word)
{
    me->bad_position = position;
    me->bad_word = word;
    return SHMQ_CORRUPT;
}

/* A word of a later position: retry, unless this slot can never have it. */
static inline enum shmq_result shmq_check_later(const struct shmq_ring *ring, struct shmq_participant *me,
                                                uint64_t position, uint64_t word)
{
    const uint64_t later = shmq_position_of(word);
    const uint64_t tail = SHMQ_LOAD("P1", &ring->header->tail, memory_order_acquire);
    if (later % ring->capacity != position % ring->capacity || (later > tail && later - tail >= ring->capacity)) {
        return shmq_corrupt(me, position, word);
    }
    return SHMQ_AGAIN;
}

/* ---- put ---------------------------------------------------------------------------------------------------------- */

/* Say what a slot that is not free means for a put. */
static inline enum shmq_result shmq_no_room(const struct shmq_ring *ring, struct shmq_participant *me, uint64_t tail,
                                            uint64_t position, uint64_t word, bool sure)
{
    if (shmq_position_of(word) > position || SHMQ_LOOK("P1", &ring->header->tail, sure) != tail) {
        return shmq_check_later(ring, me, position, word); /* tail was stale */
    }
    const uint64_t before = position - ring->capacity;
    if (position >= ring->capacity) {
        if (word == shmq_word_of(before, SHMQ_FREE)) { /* the put of the lap before has not published */
            if (!sure) {
                return SHMQ_HELD;
            }
            return shmq_rescue_put(ring, before) ? SHMQ_AGAIN : SHMQ_NOTHING;
        }
        if (word == shmq_word_of(before, SHMQ_FULL)) {
            if (SHMQ_LOOK("G1", &ring->header->head, sure) <= before) {
                return SHMQ_NOTHING;
            }
            if (!sure || shmq_is_covered(ring, SHMQ_GET, before)) {
                return SHMQ_HELD; /* its get is about to free it */
            }
            /* The item of a dead get is for the getters, and until then this is full; unless that get has just ended, as
               a second read tells [S4]. */
            return SHMQ_LOAD("S4", &shmq_slot_of(ring, position)->word, memory_order_seq_cst) == word ? SHMQ_NOTHING
                                                                                                      : SHMQ_AGAIN;
        }
        if (word == shmq_word_of(before, SHMQ_TOMB)) {
            return SHMQ_AGAIN;
        }
    }
    if (SHMQ_LOOK("P2", &shmq_slot_of(ring, position)->word, sure) != word) {
        return SHMQ_AGAIN;
    }
    return shmq_corrupt(me, position, word);
}

/* Claim `count` positions, contiguous, for a put. DONE: they begin at *position; write and publish them, and wait for
   nothing in between. NOTHING, HELD, CORRUPT: nothing is claimed.

   The caller has seen to it that 1 <= count <= capacity and count < 2^24, and in mode spsc that the role is his. */
static inline enum shmq_result shmq_claim_put(const struct shmq_ring *ring, struct shmq_participant *me, uint64_t count,
                                              bool sure, uint64_t *position)
{
    const uint64_t capacity = ring->capacity;
    for (int attempt = 0; attempt < SHMQ_ATTEMPTS; attempt++) {
        /* [P1] acquire, pairs with [P6]. */
        const uint64_t tail = SHMQ_LOOK("P1", &ring->header->tail, sure);
        uint64_t p = tail, word = 0;
        for (; p != tail + count; p++) {
            struct shmq_slot *slot = shmq_slot_of(ring, p);
            /* [P2] acquire, pairs with [G6][T2][T3]: the last reader has made his copy. */
            word = SHMQ_LOOK("P2", &slot->word, sure);
            if (word == shmq_word_of(p - capacity, SHMQ_TOMB)) {
                shmq_free_tomb(ring, p - capacity);
                word = SHMQ_LOOK("P2", &slot->word, sure);
            }
            if (word != shmq_word_of(p, SHMQ_FREE)) {
                break;
            }
        }
        if (p != tail + count) {
            shmq_withdraw_put(me); /* before anything slow */
            const enum shmq_result found = shmq_no_room(ring, me, tail, p, word, sure);
            if (found != SHMQ_AGAIN) {
                return found;
            }
            continue;
        }
        shmq_prefetch(ring, tail);
        shmq_announce_put(me, tail, tail + count);
        if (ring->spsc) {
            /* [P6] release, pairs with [S1]; only the owner of the role moves tail. */
            SHMQ_STORE("P6", &ring->header->tail, tail + count, memory_order_release);
        } else if (!SHMQ_CAS("P6", &ring->header->tail, tail, tail + count, memory_order_acq_rel,
                             memory_order_relaxed)) {
            continue; /* [P6] release, pairs with [S1]. Lost: the next announcement replaces this one. */
        }
        *position = tail;
        return SHMQ_DONE;
    }
    shmq_withdraw_put(me);
    return SHMQ_HELD;
}

/* Eight bytes from anywhere. */
static inline uint64_t shmq_bytes(const unsigned char *from)
{
    uint64_t word;
    memcpy(&word, from, SHMQ_WORD);
    return word;
}

/* Write an item into a claimed slot. length <= item_size; index is its place in its batch, 0 for a single put. */
static inline void shmq_write(const struct shmq_ring *ring, uint64_t position, const void *data, uint32_t length,
                              uint32_t tag, uint32_t index)
{
    struct shmq_slot *slot = shmq_slot_of(ring, position);
    const unsigned char *from = data;
    _Atomic uint64_t *words = (_Atomic uint64_t *)(void *)slot->payload;
    SHMQ_STEP("P7");
    /* [P7] relaxed, published by [P8]; plain would do, were it not for the copies that adopters throw away. */
    atomic_store_explicit(&slot->length, length, memory_order_relaxed);
    atomic_store_explicit(&slot->meta, tag | index << SHMQ_TAG_BITS, memory_order_relaxed);
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

/* Whether a single put would find its slot free now, or freed when it looks for the dead. */
static inline bool shmq_has_room(const struct shmq_ring *ring)
{
    for (int attempt = 0; attempt < SHMQ_ATTEMPTS; attempt++) {
        const uint64_t tail = SHMQ_LOOK("P1", &ring->header->tail, true);
        const uint64_t before = tail - ring->capacity;
        struct shmq_slot *slot = shmq_slot_of(ring, tail);
        const uint64_t word = SHMQ_LOOK("P2", &slot->word, true);
        if (word == shmq_word_of(tail, SHMQ_FREE) || word == shmq_word_of(before, SHMQ_TOMB)) {
            return true;
        }
        if (word == shmq_word_of(before, SHMQ_FREE) && !shmq_is_covered(ring, SHMQ_PUT, before)) {
            /* The put of the lap before is dead, unless it had published [S4]. */
            if (SHMQ_LOAD("S4", &slot->word, memory_order_seq_cst) == word) {
                return true;
            }
            continue;
        }
        /* FULL(before), even of a dead get: no room until a getter has adopted it. */
        if (SHMQ_LOOK("P1", &ring->header->tail, true) == tail) {
            return false;
        }
    }
    return false;
}

/* Publish what is written at position .. position + count - 1, and wake getters. */
static inline enum shmq_result shmq_publish(const struct shmq_ring *ring, struct shmq_participant *me,
                                            uint64_t position, uint64_t count)
{
    for (uint64_t p = position + count; p-- != position;) {
        struct shmq_slot *slot = shmq_slot_of(ring, p);
        /* [P8] release for the payload, pairs with [G2]; seq_cst for the wake, pairs with [W3]. The first slot comes
           last: getters take in order, so the batch is there as a whole or not at all. */
        if (!SHMQ_CAS("P8", &slot->word, shmq_word_of(p, SHMQ_FREE), shmq_word_of(p, SHMQ_FULL), memory_order_seq_cst,
                      memory_order_relaxed)) {
            me->bad_position = p;
            me->bad_word = SHMQ_LOAD("P8", &slot->word, memory_order_relaxed);
            shmq_withdraw_put(me);
            return SHMQ_CLAIM_LOST;
        }
    }
    shmq_withdraw_put(me); /* [P9] */
    shmq_wake(ring, &ring->header->items, count);
    if (shmq_is_armed(&ring->header->space) && shmq_has_room(ring)) {
        shmq_wake(ring, &ring->header->space, 1); /* the chain: one wake may stand for several places */
    }
    return SHMQ_DONE;
}

/* ---- get ---------------------------------------------------------------------------------------------------------- */

/* Claim what is there, in order, up to `limit` items. DONE: *count items from *position on; copy and free them, finish,
   and wait for nothing in between. ORPHAN: an item of a dead get lies at *position. Else nothing is claimed.

   In mode spsc the caller has seen to it that the role is his. */
static inline enum shmq_result shmq_claim_get(const struct shmq_ring *ring, struct shmq_participant *me, uint64_t limit,
                                              bool sure, uint64_t *position, uint64_t *count)
{
    const uint64_t capacity = ring->capacity;
    const uint64_t most = limit < capacity ? limit : capacity;
    for (int attempt = 0; attempt < SHMQ_ATTEMPTS; attempt++) {
        /* [G1] acquire, pairs with [G5]. */
        const uint64_t p = SHMQ_LOOK("G1", &ring->header->head, sure);
        /* [G2] acquire, pairs with [P8]: the payload is complete. */
        const uint64_t word = SHMQ_LOOK("G2", &shmq_slot_of(ring, p)->word, sure);
        if (word == shmq_word_of(p, SHMQ_FULL)) {
            shmq_prefetch(ring, p);
            uint64_t end = p + 1;
            while (end - p < most && SHMQ_LOAD("G2", &shmq_slot_of(ring, end)->word, memory_order_acquire) ==
                                         shmq_word_of(end, SHMQ_FULL)) {
                end++;
            }
            shmq_announce_get(me, p, end);
            if (ring->spsc) {
                /* [G5] release, pairs with [S1]; only the owner of the role moves head. */
                SHMQ_STORE("G5", &ring->header->head, end, memory_order_release);
            } else if (!SHMQ_CAS("G5", &ring->header->head, p, end, memory_order_acq_rel, memory_order_relaxed)) {
                continue; /* [G5] release, pairs with [S1]. Lost: the next announcement replaces this one. */
            }
            *position = p;
            *count = end - p;
            return SHMQ_DONE;
        }
        shmq_withdraw_get(me); /* before anything slow */
        if (word == shmq_word_of(p, SHMQ_TOMB)) {
            shmq_free_tomb(ring, p);
            continue;
        }
        if (shmq_position_of(word) > p) {
            if (shmq_check_later(ring, me, p, word) == SHMQ_CORRUPT) {
                return SHMQ_CORRUPT;
            }
            /* Position p is finished. [H1] acq_rel, pairs with [G1]: continues the release sequence of [G5]. */
            if (ring->spsc) {
                SHMQ_STORE("H1", &ring->header->head, p + 1, memory_order_release);
            } else {
                SHMQ_CAS("H1", &ring->header->head, p, p + 1, memory_order_acq_rel, memory_order_relaxed);
            }
            continue;
        }
        if (word == shmq_word_of(p, SHMQ_FREE)) {
            if (!sure) {
                return SHMQ_HELD; /* perhaps; tail's line stays with the putters */
            }
            /* [G3] acquire, after [G2], pairs with [P6]: nothing is claimed, so this is empty. */
            if (SHMQ_LOAD("G3", &ring->header->tail, memory_order_seq_cst) <= p) {
                return SHMQ_NOTHING;
            }
            if (!shmq_rescue_put(ring, p)) {
                return SHMQ_HELD;
            }
            continue;
        }
        if (SHMQ_LOOK("G1", &ring->header->head, sure) != p) {
            continue;
        }
        /* The slot is still of the lap before: whoever got that item has not freed it. Nobody can have put at p, so
           this is empty but for that item, and no record need name it. Head cannot have passed any other word. */
        if (p < capacity || word != shmq_word_of(p - capacity, SHMQ_FULL)) {
            return shmq_corrupt(me, p, word);
        }
        if (!sure) {
            return SHMQ_HELD;
        }
        if (shmq_is_covered(ring, SHMQ_GET, p - capacity)) {
            return SHMQ_NOTHING;
        }
        *position = p - capacity;
        *count = 1;
        return SHMQ_ORPHAN;
    }
    shmq_withdraw_get(me);
    return SHMQ_HELD;
}

/* Describe the item of a claimed position. It may be copied from item->data until the slot is freed. */
static inline void shmq_read(const struct shmq_ring *ring, uint64_t position, struct shmq_item *item)
{
    shmq_describe(ring, shmq_slot_of(ring, position), item);
}

/* Free a claimed slot after its item was copied. False: somebody has adopted the item; drop the copy. */
static inline bool shmq_free_slot(const struct shmq_ring *ring, uint64_t position)
{
    /* [G6] release for the copy, pairs with [P2]; seq_cst for the wake, pairs with [W3]. This decides who has it. */
    return SHMQ_CAS("G6", &shmq_slot_of(ring, position)->word, shmq_word_of(position, SHMQ_FULL),
                    shmq_word_of(position + ring->capacity, SHMQ_FREE), memory_order_seq_cst, memory_order_relaxed);
}

/* End a get whose `count` slots were all freed, and wake putters. */
static inline void shmq_finish_get(const struct shmq_ring *ring, struct shmq_participant *me, uint64_t count)
{
    shmq_withdraw_get(me); /* [G7] */
    shmq_wake(ring, &ring->header->space, count);
    if (shmq_is_armed(&ring->header->items)) {
        const uint64_t head = SHMQ_LOAD("G1", &ring->header->head, memory_order_acquire);
        if (SHMQ_LOAD("G2", &shmq_slot_of(ring, head)->word, memory_order_acquire) == shmq_word_of(head, SHMQ_FULL)) {
            shmq_wake(ring, &ring->header->items, 1); /* the chain: one wake may stand for several items */
        }
    }
}

/* ---- looking ------------------------------------------------------------------------------------------------------ */

/* Whether the slot of this position holds nothing for a getter: neither an item nor a put under way. The dead are seen
   through: a dead put is nothing, with all of its batch; an item that a dead get had claimed is one. */
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
            /* The first of its batch is not published: that one's slot decides. */
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

/* Whether a get would find nothing, though it looked for the dead; changes nothing. */
static inline bool shmq_is_empty(const struct shmq_ring *ring)
{
    for (int attempt = 0; attempt < 16; attempt++) {
        const uint64_t head = SHMQ_LOAD("G1", &ring->header->head, memory_order_acquire);
        const uint64_t tail = SHMQ_LOAD("G3", &ring->header->tail, memory_order_acquire);
        /* Each slot once: those of a queue without claims ahead of head are not looked at, but for that of head itself,
           which a dead get may still hold. */
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
        if (SHMQ_LOAD("G3", &ring->header->tail, memory_order_acquire) == tail) {
            return true; /* all that was put before this load was found finished */
        }
    }
    return false; /* somebody keeps putting */
}

/* How many positions are claimed by puts and not by gets, between 0 and the capacity. */
static inline uint64_t shmq_distance(const struct shmq_ring *ring)
{
    const uint64_t head = SHMQ_LOAD("G1", &ring->header->head, memory_order_acquire);
    const uint64_t tail = SHMQ_LOAD("P1", &ring->header->tail, memory_order_acquire);
    const uint64_t size = tail > head ? tail - head : 0;
    return size < ring->capacity ? size : ring->capacity;
}

/* About how many items are there: none if all that was put died. */
static inline uint64_t shmq_size(const struct shmq_ring *ring)
{
    const uint64_t size = shmq_distance(ring);
    return size > 0 && shmq_is_empty(ring) ? 0 : size;
}

#endif
