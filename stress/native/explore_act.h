/* What an actor of ring_explore.c does: one operation, by the functions of the ring. */

#ifndef SHMQ_EXPLORE_ACT_H
#define SHMQ_EXPLORE_ACT_H

#include "explore_actor.h"

static void note(struct actor *a, uint64_t position, const struct shmq_item *item, bool adopted)
{
    if (!is_whole(item) || world.noted == sizeof world.notes / sizeof *world.notes) {
        fail("an item that nobody wrote");
    }
    const struct note n = {a->number, item->data[0], item->data[1], position, adopted};
    world.notes[world.noted++] = n;
    a->taken++;
}

static void has_died(struct actor *a)
{
    if (a->item.mine) { /* dead before it came back with the item that was decided to be its */
        a->item.mine = false;
        note(a, a->adopting, &a->item, true);
    }
}

/* Take what was claimed; how much of it, if the actor gives it up, is up to this. */
static void take_claimed(struct actor *a, uint64_t position, uint64_t count)
{
    uint64_t most = count;
    if (a->kind == QUIT_GET) {
        most = most == 2 ? 1 : 0;
    }
    for (uint64_t i = 0; i < most; i++) {
        struct shmq_item item;
        shmq_read(&a->ring, position + i, &item);
        memcpy(a->buffer, item.data, item.length);
        item.data = a->buffer;
        if (shmq_free_slot(&a->ring, position + i)) {
            note(a, position + i, &item, false);
        }
    }
}

/* The same where items may take several slots. An actor that gives the get up has freed the rest of the first item. */
static void take_large(struct actor *a, uint64_t position, uint64_t count)
{
    for (uint64_t p = position, slots; p < position + count; p += slots) {
        struct shmq_item item;
        slots = shmq_measure(&a->ring, p, position + count - p, &item);
        shmq_copy_out(&a->ring, p, item.length, a->buffer, false);
        item.data = a->buffer;
        if (a->kind == QUIT_GET) {
            shmq_free_rest(&a->ring, p, slots);
            return;
        }
        if (shmq_free_large(&a->ring, p, slots)) {
            note(a, p, &item, false);
        }
    }
}

/* Whether a view wants an item: one of one slot that is neither the second that was there before, nor the third
   actor's. */
static bool suits(void *context, const struct shmq_item *item, uint64_t slots)
{
    struct actor *a = context;
    shmq_glance(item, &a->seen, 1);
    const uint64_t head = shmq_unmarked(a->ring.header->head);
    const struct shmq_slot *next = shmq_slot_of(&a->ring, head);
    a->is_late = next->payload != item->data || next->word != shmq_word_of(head, SHMQ_FULL);
    unsigned char bytes[SHMQ_WORD];
    memcpy(bytes, &a->seen, sizeof bytes);
    return slots == 1 && !(bytes[0] == FILLER && bytes[1] == 1) && bytes[0] != 2;
}

static uint64_t payload_of(const struct actor *a, uint64_t position)
{
    const _Atomic uint64_t *words = (const _Atomic uint64_t *)(const void *)shmq_slot_of(&a->ring, position)->payload;
    return atomic_load_explicit(words, memory_order_relaxed);
}

/* Read a claimed item where it lies, for a while. */
static void view_claimed(struct actor *a, uint64_t position)
{
    for (unsigned i = 0; i < 2; i++) {
        if (payload_of(a, position) != a->seen) {
            fail("the memory of a view changed, or is of another item than the one that was looked at");
        }
        step("block");
    }
    struct shmq_item item;
    shmq_read(&a->ring, position, &item);
    memcpy(a->buffer, item.data, item.length);
    item.data = a->buffer;
    if (payload_of(a, position) != a->seen) {
        fail("the memory of a view changed");
    }
    if (shmq_free_slot(&a->ring, position)) {
        note(a, position, &item, false);
    }
    shmq_finish_get(&a->ring, &a->me, 1);
}

static enum shmq_result claim(struct actor *a, uint64_t limit, bool sure, uint64_t *position, uint64_t *count)
{
    if (a->kind != VIEW) {
        return (world.large ? shmq_claim_large : shmq_claim_get)(&a->ring, &a->me, limit, sure, position, count);
    }
    const struct shmq_wish wish = {suits, a};
    const enum shmq_result found = world.large
                                       ? shmq_claim_suiting_large(&a->ring, &a->me, sure, &wish, position, count)
                                       : shmq_claim_suiting(&a->ring, &a->me, sure, &wish, position, count);
    a->refuses = a->refuses || found == SHMQ_UNFIT;
    if (found == SHMQ_UNFIT && a->is_late) {
        fail("a view refused what was not the next item");
    }
    return found;
}

static bool get(struct actor *a, uint64_t limit, bool sure)
{
    uint64_t position, count;
    if (world.spsc &&
        shmq_take_role(&a->ring, &a->ring.header->consumer, a->me.name) != a->me.name) {
        return false;
    }
    const enum shmq_result found = checked(a, claim(a, limit, sure, &position, &count));
    if (found == SHMQ_DONE && a->kind == VIEW) {
        view_claimed(a, position);
        return true;
    }
    if (found == SHMQ_DONE) {
        (world.large ? take_large : take_claimed)(a, position, count);
        if (a->kind == QUIT_GET) {
            if (shmq_abandon(&a->ring, &a->me)) {
                a->kind = GET; /* nothing is left of the claim: others have it already */
            } else if (world.spsc) {
                shmq_leave_role(&a->ring.header->consumer, a->me.name);
            }
        } else {
            shmq_finish_get(&a->ring, &a->me, count);
        }
        return true;
    }
    if (found == SHMQ_UNFIT) {
        return false;
    }
    if (found != SHMQ_ORPHAN && !(sure && shmq_find_orphan(&a->ring, &position))) {
        return false;
    }
    a->adopting = position;
    if (shmq_rescue_get(&a->ring, position, a->buffer, a->ring.max_item_size, &a->item)) {
        a->item.mine = false;
        note(a, position, &a->item, true);
        return true;
    }
    return false;
}

static bool attempt(struct actor *a, bool sure)
{
    if (is_put(a->kind)) {
        return put(a, a->number, 0, a->count, sure, a->kind != QUIT_PUT) == SHMQ_DONE;
    }
    return get(a, a->kind == GET || a->kind == PARK_GET || a->kind == BELL_GET || a->kind == VIEW ? 1 : a->kind == GET_ALL ? world.capacity : 2, sure);
}

static uint32_t index_of(const struct actor *a)
{
    return (uint32_t)(a->me.name & 0xffff) - 1;
}

/* Wait on a bell no longer [B5]; as a task of Python does. */
static void pass_on(struct actor *a, struct shmq_wake_words *side, bool is_answered)
{
    const enum shmq_bells which = is_put(a->kind) ? SHMQ_BELLS_OF_SPACE : SHMQ_BELLS_OF_ITEMS;
    const bool is_unrung = shmq_wants_bell(&a->ring, which, index_of(a));
    const bool was_there = shmq_take_bell(&a->ring, which, index_of(a));
    if (was_there && !is_unrung) {
        fail("a bit that another has set");
    }
    if (!was_there && !is_answered) {
        shmq_wake(&a->ring, side, 1);
    }
}

static void act(struct actor *a)
{
    uint64_t holder;
    if (a->kind == NEWCOMER && !shmq_take_record(&a->ring, &a->me)) {
        fail("no record for a newcomer");
    }
    if (a->kind == LOCKED && !shmq_try_acquire_lock(&a->ring, &a->me, &world.flag, &holder)) {
        a->refused_by_lock = true;
        return;
    }
    if (a->kind == REPENT && put(a, a->number, GIVEN_UP, 1, true, false) == SHMQ_DONE &&
        !shmq_abandon(&a->ring, &a->me)) {
        a->is_marked = true;
        return;
    }
    a->fate = IN_DOUBT;
    bool ok = attempt(a, false) || attempt(a, true);
    struct shmq_wake_words *side = is_put(a->kind) ? &a->ring.header->space : &a->ring.header->items;
    bool waits = false, is_answered = false; /* the ring, by taking something */
    while (!ok && (a->kind == PARK_GET || a->kind == PARK_PUT || has_bell(a->kind))) {
        if (has_bell(a->kind)) {
            waits = true;
            shmq_want_bell(&a->ring, is_put(a->kind) ? SHMQ_BELLS_OF_SPACE : SHMQ_BELLS_OF_ITEMS, index_of(a));
        }
        a->epoch = shmq_arm(side);
        ok = attempt(a, true);
        if (!ok) {
            step("sleep");
            a->sleeps = true;
            a->woken = has_bell(a->kind) ? a->rung : atomic_load(&side->epoch) != a->epoch;
            if (_setjmp(a->here) == 0) {
                next();
            }
            a->sleeps = a->woken = false;
        }
        if (!ok && has_bell(a->kind)) {
            a->rung = false; /* [B0] */
            ok = is_answered = attempt(a, true);
        }
    }
    if (waits) {
        pass_on(a, side, is_answered);
    }
    if (a->kind == LOCKED && !ok) {
        shmq_release_lock(&a->ring, &a->me, &world.flag);
    }
    if (a->kind == QUIT_PUT) {
        if (ok) {
            shmq_abandon(&a->ring, &a->me);
        }
        ok = false;
    }
    a->fate = ok ? ACKNOWLEDGED : NEVER;
    if (a->kind == NEWCOMER) {
        shmq_leave_record(&a->ring, &a->me);
    }
}

#endif
