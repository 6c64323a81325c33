/* The ring in C11: a bounded FIFO over shared words, for any number of getters and putters that may die at any
   instruction. Algorithm, names and labels are those of _ring/ring.py and its neighbours, and both may work on one
   segment at the same time. This file uses no Python, allocation, clock or system call: the caller has the memory, and
   waits.

   layout.h <- participants.h <- parking.h <- batch_lock.h; participants.h <- slots.h <- writing.h, large.h; large.h <-
   recovery.h <- ending.h <- leases.h <- returns.h <- ring.h <- large_ring.h, leased_ring.h; recovery.h is the part of
   _ring/ring.py that says what happens when a process dies.

   docs/protocol.md has the essay, the drawing, and the order, partner and reason of each edge; the labels at the steps
   refer to its table. The slots with sequence words come from Dmitry Vyukov's bounded MPMC queue
   (https://www.1024cores.net/home/lock-free-algorithms/queues/bounded-mpmc-queue). What holds at every step:

   - Every change of a slot's word is a compare-and-swap that expects the full position.
   - A claim is announced before it is made. A claimed position that no live record covers is an orphan.
   - An orphan put (FREE(p), tail > p) becomes a TOMB, after the rest of its batch: shmq_rescue_put. The item of an
     orphan get (FULL(q), head > q) belongs to the operation that frees its slot: shmq_rescue_get.
   - No step computes room from tail - head; the word of a slot says whether it is free.
   - Mode spsc: the threads of one handle never move head (tail) at the same time.

   Called with `sure`, the functions here do the look [W3]; otherwise acquire is enough.

   HOSTILE MEMORY
   ==============

   Any process that has the segment mapped may write anything into it. So positions are used modulo the capacity, which
   this process has checked; lengths are cut; indexes of records are bounded; every walk and every retry has an end.
   If a word is one that no queue writes, the result is SHMQ_CORRUPT, and the participant has the position and the word.

   HOW TO USE IT
   =============

    put      shmq_claim_put -> DONE: shmq_write for each position, shmq_publish. Otherwise nothing is claimed. An item of
                               several slots is written by shmq_write_large.
    get      shmq_claim_get -> DONE: for each position shmq_read, copy, shmq_free_slot (false: another get has the item,
                               drop the copy); then shmq_finish_get. If items may take several slots, shmq_measure,
                               shmq_copy_out and shmq_free_large instead, from item to item.
                            -> ORPHAN: shmq_rescue_get of that position, into a buffer of max_item_size bytes, or of as
                               many as shmq_measure says.
                            -> NOTHING or HELD: with `sure`, shmq_find_orphan, before saying Empty; then as with ORPHAN.
    in place the same, with any time between claim and end: a put begins by shmq_write_head, writes into its slot, and
                               publishes or abandons; a get claims by shmq_claim_suiting, reads, frees and finishes.
    waiting  epoch = shmq_arm; claim with `sure`; sleep on the low half of the epoch's word while it is as read.
    copying  may fail between claim and freeing if memory is short: shmq_abandon, and the item goes to another get.

   With `sure`, the functions also find out whether an operation that blocks them is dead, which takes a scan of the
   records and perhaps system calls. HELD means that another operation is about to end there: try again in a moment. */

#ifndef SHMQ_RING_H
#define SHMQ_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "batch_lock.h"
#include "ending.h"
#include "large.h"
#include "recovery.h"
#include "returns.h"
#include "writing.h"

/* Fetch the first two lines of a slot for writing while the claim goes on, because they are in the cache of the core
   that has used the slot last. A round trip then takes 0.6 µs instead of 0.9. The processor itself fetches the rest of
   a long item. */
static inline void shmq_prefetch(const struct shmq_ring *ring, uint64_t position)
{
    const unsigned char *slot = (const unsigned char *)shmq_slot_of(ring, position);
    SHMQ_PREFETCH(slot);
    if (ring->stride > SHMQ_LINE) {
        SHMQ_PREFETCH(slot + SHMQ_LINE);
    }
}

/* A word of a later position: retry, unless this slot can never have it. */
static inline enum shmq_result shmq_check_later(const struct shmq_ring *ring, struct shmq_participant *me,
                                                uint64_t position, uint64_t word)
{
    const uint64_t later = shmq_position_of(word);
    const uint64_t tail = shmq_unmarked(SHMQ_LOAD("P1", &ring->header->tail, memory_order_acquire));
    if (later % ring->capacity != position % ring->capacity || (later > tail && later - tail >= ring->capacity)) {
        return shmq_corrupt(me, position, word);
    }
    return SHMQ_AGAIN;
}

/* Whether a slot has never had a number: in the first lap, of a queue that takes memory as it is used. */
static inline bool shmq_is_fresh(const struct shmq_ring *ring, uint64_t position, uint64_t word)
{
    return word == 0 && position != 0 && position < ring->fresh_below;
}

/* ---- put ---------------------------------------------------------------------------------------------------------- */

/* Return what a slot that is not free means for a put. */
static inline enum shmq_result shmq_no_room(const struct shmq_ring *ring, struct shmq_participant *me, uint64_t tail,
                                            uint64_t position, uint64_t word, bool sure)
{
    if (shmq_is_fresh(ring, position, word)) {
        me->bad_position = position;
        return SHMQ_FRESH; /* even if tail has moved: the word is of no position of this slot */
    }
    if ((word & SHMQ_STATE_MASK) == SHMQ_GIVEN) { /* before its position is believed, which it does not have in full */
        if (SHMQ_LOOK("P1", &ring->header->tail, sure) != tail) {
            return SHMQ_AGAIN;
        }
        const enum shmq_result met = shmq_meet_given(ring, me, position, word, sure);
        return met == SHMQ_HELD || met == SHMQ_CORRUPT ? met : SHMQ_AGAIN;
    }
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
            if (shmq_unmarked(SHMQ_LOOK("G1", &ring->header->head, sure)) <= before) {
                return SHMQ_NOTHING;
            }
            if (!sure || shmq_is_covered(ring, SHMQ_GET, before)) {
                return SHMQ_HELD; /* its get is about to free it */
            }
            /* The get is dead. Until a getter adopts its item, the queue is full; unless that get has just ended, which
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

/* Claim `count` adjacent positions for a put. DONE: they begin at *position; write and publish them, and do not wait in
   between. NOTHING, HELD, CORRUPT: nothing is claimed.

   The caller guarantees that 1 <= count <= capacity and count < 2^24, and that it has the role in mode spsc. */
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
            /* [P2] acquire, pairs with [G6][T2][T3]: the last reader has made its copy. */
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
            shmq_withdraw_put(me); /* before any slow step */
            if ((tail & SHMQ_CLOSED) != 0) { /* [D2] first: no word fits a marked tail */
                return SHMQ_SHUT_DOWN;
            }
            const enum shmq_result found = shmq_no_room(ring, me, tail, p, word, sure);
            if (found != SHMQ_AGAIN) {
                return found;
            }
            continue;
        }
        shmq_prefetch(ring, tail);
        shmq_announce_put(me, tail, tail + count);
        /* [P6] release, pairs with [S1]. In mode spsc, too, because a store would drop the mark of [D1]. Lost: the next
           announcement replaces this one. */
        if (!SHMQ_CAS("P6", &ring->header->tail, tail, tail + count, memory_order_acq_rel, memory_order_relaxed)) {
            continue;
        }
        *position = tail;
        return SHMQ_DONE;
    }
    shmq_withdraw_put(me);
    return SHMQ_HELD;
}

/* Whether a single put would find its slot free now, or free it when it looks for dead operations. */
static inline bool shmq_has_room(const struct shmq_ring *ring)
{
    for (int attempt = 0; attempt < SHMQ_ATTEMPTS; attempt++) {
        const uint64_t tail = shmq_unmarked(SHMQ_LOOK("P1", &ring->header->tail, true));
        const uint64_t before = tail - ring->capacity;
        struct shmq_slot *slot = shmq_slot_of(ring, tail);
        const uint64_t word = SHMQ_LOOK("P2", &slot->word, true);
        if (word == shmq_word_of(tail, SHMQ_FREE) || word == shmq_word_of(before, SHMQ_TOMB) ||
            shmq_is_fresh(ring, tail, word)) {
            return true;
        }
        if (word == shmq_word_of(before, SHMQ_FREE) && !shmq_is_covered(ring, SHMQ_PUT, before)) {
            /* The put of the lap before is dead, unless it had published [S4]. */
            if (SHMQ_LOAD("S4", &slot->word, memory_order_seq_cst) == word) {
                return true;
            }
            continue;
        }
        const uint32_t lease = (uint32_t)(word >> SHMQ_GIVEN_LEASE_SHIFT);
        if (lease < ring->leases && shmq_is_given(word, before)) { /* if the holder is dead, a put frees the slot */
            const uint64_t owner = SHMQ_LOAD("E1", &shmq_lease_of(ring, lease)->holder, memory_order_acquire);
            if (owner != 0 && owner != ring->owner && !ring->calls.is_alive(ring->calls.context, owner)) {
                return true;
            }
        }
        /* FULL(before), even of a dead get: no room until a getter has adopted it. */
        if (shmq_unmarked(SHMQ_LOOK("P1", &ring->header->tail, true)) == tail) {
            return false;
        }
    }
    return false;
}

/* Publish the `items` that are written at position .. position + count - 1, and wake getters. */
static inline enum shmq_result shmq_publish(const struct shmq_ring *ring, struct shmq_participant *me,
                                            uint64_t position, uint64_t count, uint64_t items)
{
    for (uint64_t p = position + count; p-- != position;) {
        struct shmq_slot *slot = shmq_slot_of(ring, p);
        /* [P8] release for the payload, pairs with [G2]; seq_cst for the wake, pairs with [W3]. The first slot comes
           last: getters take in order, so they see the whole batch or none of it. */
        if (!SHMQ_CAS("P8", &slot->word, shmq_word_of(p, SHMQ_FREE), shmq_word_of(p, SHMQ_FULL), memory_order_seq_cst,
                      memory_order_relaxed)) {
            me->bad_position = p;
            me->bad_word = SHMQ_LOAD("P8", &slot->word, memory_order_relaxed);
            shmq_withdraw_put(me);
            return SHMQ_CLAIM_LOST;
        }
    }
    shmq_withdraw_put(me); /* [P9] */
    shmq_wake(ring, &ring->header->items, items);
    if (shmq_is_armed(&ring->header->space) && shmq_has_room(ring)) {
        shmq_wake(ring, &ring->header->space, 1); /* the chain: one wake may stand for several places */
    }
    return SHMQ_DONE;
}

/* ---- get ---------------------------------------------------------------------------------------------------------- */

/* Return what a word at head that is not FULL means for a get, which announces nothing. AGAIN, CAME_BACK: look again. */
static inline __attribute__((cold)) enum shmq_result shmq_no_item(const struct shmq_ring *ring,
                                                                  struct shmq_participant *me, uint64_t p,
                                                                  uint64_t word, bool sure)
{
    const uint64_t capacity = ring->capacity;
    if (ring->spsc ? shmq_is_stopped(ring) : (p & SHMQ_STOPPED) != 0) { /* [D2] first: no word fits a marked head */
        return SHMQ_SHUT_DOWN;
    }
    if (word == shmq_word_of(p, SHMQ_TOMB)) {
        shmq_free_tomb(ring, p);
        return SHMQ_AGAIN;
    }
    if ((word & SHMQ_STATE_MASK) == SHMQ_GIVEN) { /* before its position is believed */
        if (SHMQ_LOOK("G1", &ring->header->head, sure) != p) {
            return SHMQ_AGAIN;
        }
        const enum shmq_result met = shmq_meet_given(ring, me, p, word, sure);
        return met == SHMQ_AGAIN ? SHMQ_CAME_BACK : met; /* what its holder had may have come back */
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
        return SHMQ_AGAIN;
    }
    const bool is_fresh = shmq_is_fresh(ring, p, word);
    if (word == shmq_word_of(p, SHMQ_FREE) || is_fresh) {
        if (!sure) {
            return SHMQ_HELD; /* or empty; without `sure` tail is not read, and its line stays with the putters */
        }
        /* [G3] acquire, after [G2], pairs with [P6][D1]. */
        const uint64_t tail = SHMQ_LOAD("G3", &ring->header->tail, memory_order_seq_cst);
        if (shmq_unmarked(tail) <= p) { /* nothing is claimed, so this is empty */
            return (tail & SHMQ_CLOSED) == 0 ? SHMQ_NOTHING : shmq_at_the_end(ring); /* [D3] that tail is final */
        }
        if (is_fresh && SHMQ_LOAD("G2", &shmq_slot_of(ring, p)->word, memory_order_seq_cst) == word) {
            return shmq_corrupt(me, p, word); /* tail does not pass a slot without a number */
        }
        return is_fresh || shmq_rescue_put(ring, p) ? SHMQ_AGAIN : SHMQ_HELD;
    }
    if (SHMQ_LOOK("G1", &ring->header->head, sure) != p) {
        return SHMQ_AGAIN;
    }
    /* The slot is still FULL for the lap before, because the get of that item has not freed it. So no put can have
       claimed p: the queue is empty except for that item, even if no record announces it. Head cannot have passed
       any other word. */
    if (p < capacity || word != shmq_word_of(p - capacity, SHMQ_FULL)) {
        return shmq_corrupt(me, p, word);
    }
    if (!sure) {
        return SHMQ_HELD;
    }
    if (shmq_is_covered(ring, SHMQ_GET, p - capacity)) {
        return shmq_is_closed(ring) ? SHMQ_HELD : SHMQ_NOTHING;
    }
    return SHMQ_ORPHAN;
}

/* What a get looks at before it claims: whether it wants an item, in so many slots, that is there or was there just now.
   What it reads is the item's if the claim succeeds. */
struct shmq_wish {
    bool (*suits)(void *context, const struct shmq_item *item, uint64_t slots);
    void *context;
};

/* Whether there is a wish. A checker of gets without one may say that there is none; then it sees nothing of them. */
#ifndef SHMQ_HAS_WISH
#define SHMQ_HAS_WISH(wish) ((wish) != NULL)
#endif

/* Claim the next items, in order, up to `limit`; if they are to be leased, as many as lease slots can be reserved in
   `held`. With a wish, claim the next item alone, if it suits; UNFIT: it does not. Each caller says by constants what is
   `leased` and may be `large`, and that there is no wish, so that the compiler, and the checker, drop the other ways.
   DONE: *count items from *position on; copy and free them, finish, and do not wait in between. If they may be large and
   are not leased, *count slots. ORPHAN: an item of a dead get lies at *position. Any other result: nothing is claimed.

   The caller guarantees that it has the role in mode spsc. */
static inline __attribute__((always_inline)) enum shmq_result
shmq_claim_wished(const struct shmq_ring *ring, struct shmq_participant *me, uint64_t limit, bool sure, bool leased,
                  bool large, struct shmq_held *held, const struct shmq_wish *wish, uint64_t *position, uint64_t *count)
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
            uint64_t end = p + 1, items = 1, reserved = 0;
            if (large) {
                end = shmq_end_of_items(ring, p, most, &items);
                if (items == 0) {
                    if (SHMQ_LOAD("G1", &ring->header->head, memory_order_acquire) != p) {
                        continue;
                    }
                    end = p + 1; /* damaged: one slot after the other comes out as a corrupt item */
                    items = 1;
                }
            } else {
                while (end - p < most && SHMQ_LOAD("G2", &shmq_slot_of(ring, end)->word, memory_order_acquire) ==
                                             shmq_word_of(end, SHMQ_FULL)) {
                    end++;
                }
            }
            if (SHMQ_HAS_WISH(wish)) {
                struct shmq_item item;
                shmq_measure(ring, p, end - p, &item);
                if (!wish->suits(wish->context, &item, end - p)) {
                    if (SHMQ_LOAD("G1", &ring->header->head, memory_order_acquire) != p) {
                        continue; /* what was looked at may be of the next lap */
                    }
                    shmq_withdraw_get(me);
                    return SHMQ_UNFIT;
                }
            }
            if (leased) {
                bool came_back;
                reserved = shmq_reserve(ring, me, large ? items : end - p, held, &came_back);
                if (reserved == 0 || came_back) {
                    SHMQ_ADD("count", &ring->header->lease_waits, sure && reserved == 0, memory_order_relaxed);
                    return came_back ? SHMQ_CAME_BACK : SHMQ_NOTHING;
                }
                end = large ? shmq_place_large(ring, p, end, held, reserved) : p + reserved;
                for (uint64_t i = 0; i < reserved; i++) {
                    if (!shmq_find_memory(ring, &held[i], large ? held[i].position : p + i)) {
                        shmq_withdraw_get(me);
                        shmq_give_up_reserved(ring, held, reserved);
                        return SHMQ_NO_MEMORY;
                    }
                }
            }
            shmq_announce_get(me, p, end);
            if (ring->spsc) {
                if (shmq_is_stopped(ring)) { /* [D2] */
                    shmq_withdraw_get(me);
                    if (leased) {
                        shmq_give_up_reserved(ring, held, reserved);
                    }
                    return SHMQ_SHUT_DOWN;
                }
                /* [G5] release, pairs with [S1]; only the owner of the role moves head. */
                SHMQ_STORE("G5", &ring->header->head, end, memory_order_release);
            } else if (!SHMQ_CAS("G5", &ring->header->head, p, end, memory_order_acq_rel, memory_order_relaxed)) {
                if (leased) {
                    shmq_withdraw_get(me);
                    shmq_give_up_reserved(ring, held, reserved);
                }
                continue; /* [G5] release, pairs with [S1]. Lost: the next announcement replaces this one. */
            }
            *position = p;
            *count = large && leased ? reserved : end - p;
            return SHMQ_DONE;
        }
        shmq_withdraw_get(me); /* before any slow step */
        const enum shmq_result found = shmq_no_item(ring, me, p, word, sure);
        if (found == SHMQ_ORPHAN) {
            *position = p - capacity;
            *count = 1;
        }
        if (found != SHMQ_AGAIN && found != SHMQ_CAME_BACK) {
            return found;
        }
        if (found == SHMQ_CAME_BACK && leased) {
            return SHMQ_AGAIN;
        }
    }
    shmq_withdraw_get(me);
    return SHMQ_HELD;
}

static inline __attribute__((always_inline)) enum shmq_result
shmq_claim(const struct shmq_ring *ring, struct shmq_participant *me, uint64_t limit, bool sure, bool leased, bool large,
           struct shmq_held *held, uint64_t *position, uint64_t *count)
{
    return shmq_claim_wished(ring, me, limit, sure, leased, large, held, NULL, position, count);
}

static inline enum shmq_result shmq_claim_get(const struct shmq_ring *ring, struct shmq_participant *me, uint64_t limit,
                                              bool sure, uint64_t *position, uint64_t *count)
{
    return shmq_claim(ring, me, limit, sure, false, false, NULL, position, count);
}

/* Claim the next item, if it suits; as shmq_claim_get. UNFIT: it does not, and is left where it is. */
static inline enum shmq_result shmq_claim_suiting(const struct shmq_ring *ring, struct shmq_participant *me, bool sure,
                                                  const struct shmq_wish *wish, uint64_t *position, uint64_t *count)
{
    return shmq_claim_wished(ring, me, 1, sure, false, false, NULL, wish, position, count);
}

/* Describe the item of a claimed position. It may be copied from item->data until the slot is freed. */
static inline void shmq_read(const struct shmq_ring *ring, uint64_t position, struct shmq_item *item)
{
    shmq_describe(ring, shmq_slot_of(ring, position), item);
}

/* Free a claimed slot after its item was copied. False: another get has adopted the item; drop the copy. */
static inline bool shmq_free_slot(const struct shmq_ring *ring, uint64_t position)
{
    /* [G6] release for the copy, pairs with [P2]; seq_cst for the wake, pairs with [W3]. Decides which get has the
       item. */
    return SHMQ_CAS("G6", &shmq_slot_of(ring, position)->word, shmq_word_of(position, SHMQ_FULL),
                    shmq_word_of(position + ring->capacity, SHMQ_FREE), memory_order_seq_cst, memory_order_relaxed);
}

/* End a get after all its `count` slots were freed, and wake putters. */
static inline __attribute__((always_inline)) void shmq_finish_get(const struct shmq_ring *ring,
                                                                  struct shmq_participant *me, uint64_t count)
{
    shmq_withdraw_get(me); /* [G7] */
    shmq_wake(ring, &ring->header->space, count);
    if (shmq_is_armed(&ring->header->items)) {
        /* No word fits a marked head. */
        const uint64_t head = SHMQ_LOAD("G1", &ring->header->head, memory_order_acquire);
        if (SHMQ_LOAD("G2", &shmq_slot_of(ring, head)->word, memory_order_acquire) == shmq_word_of(head, SHMQ_FULL)) {
            shmq_wake(ring, &ring->header->items, 1); /* the chain: one wake may stand for several items */
        }
    }
}

#endif
