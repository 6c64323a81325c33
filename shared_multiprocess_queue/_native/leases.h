/* Lease slots: where an item lies from the moment a get takes it until its consumer says that it is done (labels E).
   The same as _ring/leases.py, which draws the life of a lease slot and says what each word means; here the holder is
   this process, and the caller knows which of its threads has the lease.

   The holder owns a lease slot, and nothing else writes it. An item leaves the ring in two steps: its word becomes
   GIVEN and names the lease slot [E4], which decides what has it; once the lease slot counts it [E5], the word is freed
   [E6]. An heir of a dead holder settles the lease slot first: the ring's word tells what the lease slot
   itself may not know. `due` of a lease slot whose item was handed out is the owner word of its holder. */

#ifndef SHMQ_LEASES_H
#define SHMQ_LEASES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "ending.h"
#include "large.h"
#include "parking.h"
#include "participants.h"
#include "recovery.h"

#define SHMQ_MOST_DELIVERIES UINT64_C(0xFFFFFFFF) /* at which the count stays */

/* A lease slot that this process holds: with an item, or for the one of a position (count 0). */
struct shmq_held {
    uint32_t index;
    uint64_t position;
    uint64_t count; /* how often the item was taken, this time included */
    uint64_t slots; /* that a claimed item has in the ring, where items may take several; otherwise 0 */
};

static inline struct shmq_lease *shmq_lease_of(const struct shmq_ring *ring, uint32_t index)
{
    return &ring->lease_heads[index];
}

static inline unsigned char *shmq_lease_payload(const struct shmq_ring *ring, uint32_t index)
{
    return ring->lease_payloads + index * SHMQ_LEASE_STRIDE(ring->max_item_size);
}

/* ---- holding a lease slot ----------------------------------------------------------------------------------------- */

/* Try to take a lease slot from no process, or from a dead one. */
static inline bool shmq_take_lease(const struct shmq_ring *ring, uint32_t index, uint64_t owner)
{
    struct shmq_lease *lease = shmq_lease_of(ring, index);
    /* [E2] acquire, pairs with [E9]: all that the last holder has stored is visible. seq_cst for [D6]. */
    if (!SHMQ_CAS("E2", &lease->holder, owner, ring->owner, memory_order_seq_cst, memory_order_relaxed)) {
        return false;
    }
    if (owner != 0) {
        SHMQ_STORE("E2", &lease->due, 0, memory_order_relaxed); /* what a dead process had is due at once */
    }
    return true;
}

/* Whether any lease slot has an item; begins where one was found last, because each end of a lease may ask this. What
   was put back comes first: it moves from a dead slot to a lease slot. */
static inline bool shmq_lease_has_item(const struct shmq_ring *ring)
{
    if (ring->dead > 0 && shmq_dead_slot_has_item(ring)) {
        return true;
    }
    const uint32_t ready = shmq_leases_ready(ring);
    uint32_t index = *ring->busy_lease < ready ? *ring->busy_lease : 0;
    for (uint32_t i = 0; i < ready; i++, index = index + 1 < ready ? index + 1 : 0) {
        struct shmq_lease *lease = shmq_lease_of(ring, index);
        SHMQ_LOAD("J4", &lease->holder, memory_order_seq_cst); /* [J4] seq_cst, before the count; pairs with [E9] */
        if (SHMQ_LOAD("J4", &lease->count, memory_order_acquire) != 0) { /* [J4] acquire, pairs with [E5][E8] */
            *ring->busy_lease = index;
            return true;
        }
    }
    return false;
}

/* Whether nothing may be left for a join to wait for; the join looks closely. */
static inline bool shmq_may_be_quiet(const struct shmq_ring *ring)
{
    return shmq_is_stopped(ring) || (shmq_unmarked(SHMQ_LOAD("G1", &ring->header->head, memory_order_acquire)) >=
                                         shmq_unmarked(SHMQ_LOAD("P1", &ring->header->tail, memory_order_acquire)) &&
                                     !shmq_lease_has_item(ring));
}

static inline void shmq_leave_lease(const struct shmq_ring *ring, uint32_t index)
{
    /* [E9] release, after [E8]: a newcomer sees the end, or the returned item; pairs with [E1][E2][J4]. seq_cst for the
       wakes, pairs with [W2]. */
    SHMQ_CAS("E9", &shmq_lease_of(ring, index)->holder, ring->owner, 0, memory_order_seq_cst, memory_order_relaxed);
    if ((SHMQ_LOAD("W4", &ring->header->items.hint, memory_order_seq_cst) & 1) != 0) {
        const uint64_t head = SHMQ_LOAD("G1", &ring->header->head, memory_order_acquire);
        if (shmq_is_closed(ring)) {
            shmq_wake_all(ring, &ring->header->items); /* they may wait for just this end [D5] */
        } else if (SHMQ_LOAD("G2", &shmq_slot_of(ring, head)->word, memory_order_acquire) ==
                       shmq_word_of(head, SHMQ_FULL) ||
                   (ring->dead > 0 && (SHMQ_LOAD("E10", &ring->header->returned, memory_order_relaxed) & 1) != 0)) {
            /* Otherwise a getter would wake in vain. What was put back may wait for this lease slot. */
            shmq_wake(ring, &ring->header->items, 1);
        }
    }
    if ((SHMQ_LOAD("W4", &ring->header->idle.hint, memory_order_seq_cst) & 1) != 0 && shmq_may_be_quiet(ring)) {
        shmq_wake_idle(ring);
    }
}

/* Give a lease slot up; if an item is in it, it has come back. */
static inline void shmq_give_up(const struct shmq_ring *ring, uint32_t index)
{
    const bool came_back = SHMQ_LOAD("E9", &shmq_lease_of(ring, index)->count, memory_order_relaxed) != 0;
    shmq_leave_lease(ring, index);
    if (came_back) {
        shmq_say_returned(ring);
    }
}

/* Drop the item of a lease slot that this process has just taken, if the queue was stopped meanwhile. */
static inline bool shmq_is_dropped(const struct shmq_ring *ring, uint32_t index)
{
    /* [D6] seq_cst, after [E2]; pairs with [D7]: either this sees the mark, or a join after it sees the lease slot. */
    if (!shmq_is_stopped(ring)) {
        return false;
    }
    SHMQ_STORE("E8", &shmq_lease_of(ring, index)->count, 0, memory_order_release); /* [E8] */
    shmq_give_up(ring, index);
    return true;
}

static inline void shmq_give_up_reserved(const struct shmq_ring *ring, const struct shmq_held *held, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        shmq_give_up(ring, held[i].index);
    }
}

/* The number of slots that the item of a lease slot has had in the ring. */
static inline uint64_t shmq_slots_of_lease(const struct shmq_ring *ring, struct shmq_lease *lease)
{
    const uint32_t length = SHMQ_LOAD("E3", &lease->length, memory_order_relaxed);
    return length <= ring->max_item_size ? shmq_slots_of(ring, length) : 1;
}

/* Learn from the ring, and from a dead slot, what a lease slot of this process does not know yet; returns its count. */
static inline uint64_t shmq_settle_lease(const struct shmq_ring *ring, uint32_t index)
{
    struct shmq_lease *lease = shmq_lease_of(ring, index);
    const uint64_t position = SHMQ_LOAD("E3", &lease->position, memory_order_relaxed);
    const uint64_t given = shmq_given_word(position, index);
    struct shmq_slot *slot = shmq_slot_of(ring, position);
    uint64_t count = SHMQ_LOAD("E5", &lease->count, memory_order_relaxed);
    if (SHMQ_LOAD("E4", &slot->word, memory_order_acquire) == given) {
        if (count == 0) {
            count = 1;
            SHMQ_STORE("E5", &lease->count, count, memory_order_release); /* [E5] release, before [E6] */
        }
        uint64_t slots = 1;
        if (SHMQ_HAS_LARGE(ring)) {
            slots = shmq_slots_of_lease(ring, lease);
            shmq_free_rest(ring, position, slots);
        }
        /* [E6] release for [E5] and the copy; pairs with [P2][J2][J3]. seq_cst for the wake, pairs with [W3]. */
        if (SHMQ_CAS("E6", &slot->word, given, shmq_word_of(position + ring->capacity, SHMQ_FREE), memory_order_seq_cst,
                     memory_order_relaxed)) {
            shmq_wake(ring, &ring->header->space, slots);
        }
    }
    if (ring->dead > 0) {
        shmq_settle_move(ring, index);
        count = SHMQ_LOAD("E5", &lease->count, memory_order_relaxed);
    }
    return count;
}

/* Whether what came back may be taken now; `due` is what its lease slot says. */
static inline bool shmq_is_due(const struct shmq_ring *ring, struct shmq_lease *lease, uint64_t due, uint64_t *delay)
{
    *delay = 0;
    if (due == 0) {
        return true;
    }
    *delay = SHMQ_LOAD("E1", &lease->delay, memory_order_relaxed);
    if (*delay != 0) { /* a time; one of another boot or machine is due */
        const uint64_t now = ring->calls.now(ring->calls.context, true);
        return now >= due || due - now > *delay;
    }
    return shmq_unmarked(SHMQ_LOAD("G1", &ring->header->head, memory_order_acquire)) >= due ||
           shmq_unmarked(SHMQ_LOAD("P1", &ring->header->tail, memory_order_acquire)) < due;
}

/* Hand the item of a lease slot out once more. */
static inline void shmq_hand_out_again(const struct shmq_ring *ring, uint32_t index, uint64_t count,
                                       struct shmq_held *held)
{
    struct shmq_lease *lease = shmq_lease_of(ring, index);
    count += count < SHMQ_MOST_DELIVERIES;
    /* [E7] relaxed, before anything of the item is looked at: to deserialise it may kill. */
    SHMQ_STORE("E7", &lease->count, count, memory_order_relaxed);
    SHMQ_STORE("E7", &lease->since, ring->calls.now(ring->calls.context, false), memory_order_relaxed);
    SHMQ_STORE("E7", &lease->due, ring->owner, memory_order_relaxed);
    SHMQ_ADD("count", &ring->header->redelivered, 1, memory_order_relaxed);
    *held = (struct shmq_held){index, SHMQ_LOAD("E3", &lease->position, memory_order_relaxed), count, 0};
}

/* Reserve up to `wanted` free lease slots; returns their number. If an item has come back just there, it is taken
   instead: it is the only one in `held`, with its count, and *came_back is set. */
static inline uint64_t shmq_reserve(const struct shmq_ring *ring, struct shmq_participant *me, uint64_t wanted,
                                    struct shmq_held *held, bool *came_back)
{
    uint64_t reserved = 0;
    const uint32_t ready = shmq_leases_ready(ring);
    uint32_t index = me->next_lease % ready;
    *came_back = false;
    for (uint32_t i = 0; i < ready && reserved < wanted; i++) {
        struct shmq_lease *lease = shmq_lease_of(ring, index);
        const uint32_t found = index;
        index = index + 1 < ready ? index + 1 : 0;
        /* [E1] hints, which [E2] confirms. */
        if (SHMQ_LOAD("E1", &lease->holder, memory_order_relaxed) != 0 ||
            SHMQ_LOAD("E1", &lease->count, memory_order_relaxed) != 0 || !shmq_take_lease(ring, found, 0)) {
            continue;
        }
        const uint64_t count = SHMQ_LOAD("E1", &lease->count, memory_order_relaxed);
        if (count == 0) {
            held[reserved++] = (struct shmq_held){found, 0, 0, 0};
            continue;
        }
        if (shmq_is_dropped(ring, found)) {
            continue;
        }
        uint64_t delay;
        if (shmq_is_due(ring, lease, SHMQ_LOAD("E1", &lease->due, memory_order_relaxed), &delay)) {
            shmq_give_up_reserved(ring, held, reserved);
            shmq_hand_out_again(ring, found, count, held);
            *came_back = true;
            return 1;
        }
        shmq_give_up(ring, found);
    }
    me->next_lease = index;
    me->lacks_lease = reserved == 0;
    return reserved;
}

/* ---- taking an item out of the ring ------------------------------------------------------------------------------- */

/* Copy the item of a slot into a lease slot of this process. An adopter, whose item another may take meanwhile, reads
   words that a put may be writing, and then drops the copy. */
static inline void shmq_copy_to_lease(const struct shmq_ring *ring, const struct shmq_held *held, uint64_t position,
                                      bool adopts)
{
    struct shmq_lease *lease = shmq_lease_of(ring, held->index);
    struct shmq_slot *slot = shmq_slot_of(ring, position);
    unsigned char *to = shmq_lease_payload(ring, held->index);
    uint32_t stated = SHMQ_LOAD("G2", &slot->length, memory_order_relaxed);
    if (SHMQ_HAS_LARGE(ring)) {
        struct shmq_item item;
        shmq_measure(ring, position, held->slots != 0 ? held->slots : ring->capacity, &item);
        shmq_copy_out(ring, position, item.length, to, adopts);
        stated = item.tag == SHMQ_CORRUPT_TAG ? UINT32_MAX : item.length;
    } else {
        const uint32_t length = stated < ring->item_size ? stated : ring->item_size; /* cut, as it is not believed */
        if (adopts) {
            _Atomic uint64_t *words = (_Atomic uint64_t *)(void *)slot->payload;
            for (uint32_t at = 0; at < length; at += SHMQ_WORD) {
                const uint64_t word = SHMQ_LOAD("T3", &words[at / SHMQ_WORD], memory_order_relaxed);
                memcpy(to + at, &word, length - at < SHMQ_WORD ? length - at : SHMQ_WORD);
            }
        } else {
            memcpy(to, slot->payload, length);
        }
    }
    SHMQ_STEP("E3");
    /* [E3] relaxed, before [E4]: only the holder reads it, or an heir after [E2]. */
    atomic_store_explicit(&lease->length, stated, memory_order_relaxed);
    atomic_store_explicit(&lease->meta, SHMQ_LOAD("G2", &slot->meta, memory_order_relaxed), memory_order_relaxed);
    atomic_store_explicit(&lease->since, ring->calls.now(ring->calls.context, false), memory_order_relaxed);
    atomic_store_explicit(&lease->due, ring->owner, memory_order_relaxed);
    SHMQ_STORE("E3", &lease->position, position, memory_order_relaxed);
}

/* Whether a reserved lease slot has memory for the item of a position. */
static inline bool shmq_find_memory(const struct shmq_ring *ring, const struct shmq_held *held, uint64_t position)
{
    if (ring->fresh_below == 0) {
        return true;
    }
    const uint32_t stated = SHMQ_LOAD("G2", &shmq_slot_of(ring, position)->length, memory_order_relaxed);
    const uint32_t length = stated < ring->max_item_size ? stated : ring->max_item_size;
    return length <= SHMQ_AT_ONCE ||
           ring->calls.reserve(ring->calls.context, shmq_lease_payload(ring, held->index), length);
}

/* Note in reserved lease slots which items of p .. end - 1 they are for; returns the end of those. */
static inline uint64_t shmq_place_large(const struct shmq_ring *ring, uint64_t p, uint64_t end, struct shmq_held *held,
                                        uint64_t reserved)
{
    for (uint64_t i = 0; i < reserved; i++) {
        struct shmq_item item;
        held[i].position = p;
        held[i].slots = p < end ? shmq_measure(ring, p, end - p, &item) : 0;
        p += held[i].slots;
    }
    return p;
}

/* Move the item of a position, which was FULL, into a lease slot. False: another operation has it. The caller wakes
   putters. */
static inline bool shmq_take(const struct shmq_ring *ring, struct shmq_held *held, uint64_t position, bool adopts)
{
    struct shmq_slot *slot = shmq_slot_of(ring, position);
    const uint64_t given = shmq_given_word(position, held->index);
    shmq_copy_to_lease(ring, held, position, adopts);
    /* [E4] acq_rel, after the copy; pairs with [E6][S4]. The word says which lease slot has the item. */
    if (!SHMQ_CAS("E4", &slot->word, shmq_word_of(position, SHMQ_FULL), given, memory_order_acq_rel,
                  memory_order_relaxed)) {
        return false;
    }
    if (SHMQ_HAS_LARGE(ring)) {
        const uint64_t slots = shmq_slots_of_lease(ring, shmq_lease_of(ring, held->index));
        held->slots = held->slots > slots ? held->slots : slots; /* fewer than claimed: damaged meanwhile */
        shmq_free_rest(ring, position, held->slots);
    }
    /* [E5] release, before [E6]; pairs with [J4]. */
    SHMQ_STORE("E5", &shmq_lease_of(ring, held->index)->count, 1, memory_order_release);
    /* [E6] as in shmq_settle_lease. No other changes this word while the holder lives. */
    SHMQ_CAS("E6", &slot->word, given, shmq_word_of(position + ring->capacity, SHMQ_FREE), memory_order_seq_cst,
             memory_order_relaxed);
    held->position = position;
    held->count = 1;
    return true;
}

/* Describe the item of a lease slot that this process holds. */
static inline void shmq_read_lease(const struct shmq_ring *ring, uint32_t index, struct shmq_item *item)
{
    struct shmq_lease *lease = shmq_lease_of(ring, index);
    *item = (struct shmq_item){.data = shmq_lease_payload(ring, index),
                               .length = SHMQ_LOAD("E3", &lease->length, memory_order_relaxed),
                               .tag = SHMQ_LOAD("E3", &lease->meta, memory_order_relaxed) & SHMQ_TAG_MASK};
    if (item->length > ring->max_item_size) {
        item->length = ring->max_item_size;
        item->tag = SHMQ_CORRUPT_TAG;
    }
}

/* ---- the end of a lease ------------------------------------------------------------------------------------------- */

static inline bool shmq_is_as_known(const struct shmq_ring *ring, const struct shmq_held *held)
{
    struct shmq_lease *lease = shmq_lease_of(ring, held->index);
    return SHMQ_LOAD("E8", &lease->holder, memory_order_relaxed) == ring->owner &&
           SHMQ_LOAD("E8", &lease->position, memory_order_relaxed) == held->position && held->count > 0 &&
           SHMQ_LOAD("E8", &lease->count, memory_order_relaxed) == held->count;
}

/* End a lease and its item. False: it is over, or another process's. */
static inline bool shmq_done(const struct shmq_ring *ring, const struct shmq_held *held)
{
    if (!shmq_is_as_known(ring, held)) {
        return false;
    }
    /* [E8] release, before [E9]; pairs with [J4]. The item is ended. */
    SHMQ_STORE("E8", &shmq_lease_of(ring, held->index)->count, 0, memory_order_release);
    shmq_leave_lease(ring, held->index);
    return true;
}

/* Leave a lease slot, so that its item is handed out once more when head has got to `due`; 0: at once. */
static inline void shmq_leave_returned(const struct shmq_ring *ring, uint32_t index, uint64_t due)
{
    struct shmq_lease *lease = shmq_lease_of(ring, index);
    SHMQ_STORE("E9", &lease->delay, 0, memory_order_relaxed);
    SHMQ_STORE("E9", &lease->due, due, memory_order_relaxed);
    shmq_leave_lease(ring, index);
    shmq_say_returned(ring);
}

/* Whether an item that was taken so often is not delivered once more. */
static inline bool shmq_is_spent(const struct shmq_ring *ring, uint64_t count)
{
    return ring->dead > 0 && count >= ring->max_deliveries;
}

/* Make the item of a lease slot, which comes back, a dead letter; if there is no room, it goes last instead. */
static inline void shmq_bury(const struct shmq_ring *ring, uint32_t index)
{
    if (shmq_bury_item(ring, index)) {
        shmq_leave_lease(ring, index);
    } else {
        shmq_leave_returned(ring, index,
                            shmq_unmarked(SHMQ_LOAD("P1", &ring->header->tail, memory_order_acquire)));
    }
}

/* End a lease and give its item back, to be handed out once `delay` ns have passed, or, if `last`, behind all that is
   in the ring now. If the queue was stopped, the item is dropped. After its last delivery it becomes a dead letter, if
   there is room; otherwise it goes last. False: it is over, or another process's. */
static inline bool shmq_give_back(const struct shmq_ring *ring, const struct shmq_held *held, uint64_t delay, bool last)
{
    if (!shmq_is_as_known(ring, held)) {
        return false;
    }
    if (shmq_is_stopped(ring)) {
        return shmq_done(ring, held);
    }
    if (shmq_is_spent(ring, held->count)) {
        shmq_bury(ring, held->index);
        return true;
    }
    struct shmq_lease *lease = shmq_lease_of(ring, held->index);
    const uint64_t due = delay != 0 ? ring->calls.now(ring->calls.context, true) + delay
                         : last     ? shmq_unmarked(SHMQ_LOAD("P1", &ring->header->tail, memory_order_acquire))
                                    : 0;
    SHMQ_STORE("E9", &lease->delay, delay, memory_order_relaxed);
    SHMQ_STORE("E9", &lease->due, due, memory_order_relaxed);
    shmq_leave_lease(ring, held->index);
    shmq_say_returned(ring);
    uint64_t look_at = SHMQ_LOAD("E10", &ring->header->look_at, memory_order_relaxed);
    for (int attempt = 0; attempt < SHMQ_ATTEMPTS && delay != 0 && look_at > due; attempt++) {
        SHMQ_CAS("E10", &ring->header->look_at, look_at, due, memory_order_relaxed, memory_order_relaxed);
        look_at = SHMQ_LOAD("E10", &ring->header->look_at, memory_order_relaxed);
    }
    return true;
}

#endif
