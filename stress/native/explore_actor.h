/* What an actor of ring_explore.c does: one operation, by the functions of the ring. */

#ifndef SHMQ_EXPLORE_ACTOR_H
#define SHMQ_EXPLORE_ACTOR_H

#include "explore_world.h"

/* ---- what is asked from outside ---- */

static bool ring_bell(void *context, uint64_t nonce, uint64_t name)
{
    (void)context, (void)nonce, (void)name;
    return false;
}

static int wake_sleepers(void *context, _Atomic uint64_t *word, int count)
{
    (void)context;
    int woken = 0;
    for (unsigned i = 0; i < world.actors && woken < count; i++) {
        struct actor *a = &actors[i];
        const bool gets = word == &a->ring.header->items.epoch;
        if (a->sleeps && !a->woken && (gets || word == &a->ring.header->space.epoch) && gets == (a->kind >= GET)) {
            a->woken = true;
            woken++;
        }
    }
    return woken;
}

static enum shmq_result checked(struct actor *a, enum shmq_result result)
{
    (void)a;
    if (result == SHMQ_CORRUPT) {
        fail("a corrupt word");
    }
    if (result == SHMQ_CLAIM_LOST) {
        fail("a claim lost by somebody alive");
    }
    return result;
}

static void note(struct actor *a, uint64_t position, const struct shmq_item *item, bool adopted)
{
    if (item->length != 3 || item->tag != 5 || world.noted == sizeof world.notes / sizeof *world.notes) {
        fail("an item that nobody wrote");
    }
    const struct note n = {a->number, item->data[0], item->data[1], position, adopted};
    world.notes[world.noted++] = n;
    a->taken++;
}

/* ---- operations ---- */

static enum shmq_result put(struct actor *a, unsigned putter, unsigned first, unsigned count, bool sure, bool publish)
{
    uint64_t position;
    if (world.spsc &&
        shmq_take_role(&a->ring, &a->ring.header->producer, a->me.name) != a->me.name) {
        return SHMQ_NOTHING;
    }
    const enum shmq_result found = checked(a, shmq_claim_put(&a->ring, &a->me, count, sure, &position));
    if (found != SHMQ_DONE) {
        return found;
    }
    if (a->kind == LOCKED) {
        shmq_release_lock(&a->ring, &a->me, &world.flag);
    }
    for (unsigned i = 0; i < count; i++) {
        const unsigned char item[3] = {(unsigned char)putter, (unsigned char)(first + i), (unsigned char)count};
        shmq_write(&a->ring, position + i, item, 3, 5, i);
    }
    if (publish) {
        checked(a, shmq_publish(&a->ring, &a->me, position, count));
    }
    return SHMQ_DONE;
}

static bool get(struct actor *a, uint64_t limit, bool sure)
{
    uint64_t position, count;
    if (world.spsc &&
        shmq_take_role(&a->ring, &a->ring.header->consumer, a->me.name) != a->me.name) {
        return false;
    }
    const enum shmq_result found = checked(a, shmq_claim_get(&a->ring, &a->me, limit, sure, &position, &count));
    if (found == SHMQ_DONE) {
        unsigned most = (unsigned)count;
        if (a->kind == QUIT_GET) {
            most = most == 2 ? 1 : 0;
        }
        for (unsigned i = 0; i < most; i++) {
            struct shmq_item item;
            shmq_read(&a->ring, position + i, &item);
            memcpy(a->buffer, item.data, item.length);
            item.data = a->buffer;
            if (shmq_free_slot(&a->ring, position + i)) {
                note(a, position + i, &item, false);
            }
        }
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
    if (found != SHMQ_ORPHAN && !(sure && shmq_find_orphan(&a->ring, &position))) {
        return false;
    }
    a->adopting = position;
    if (shmq_rescue_get(&a->ring, position, a->buffer, &a->item)) {
        a->item.mine = false;
        note(a, position, &a->item, true);
        return true;
    }
    return false;
}

static bool is_put(enum kind kind)
{
    return kind < GET;
}

static unsigned count_of(enum kind kind)
{
    return kind == TRIPLE ? 3 : kind == BATCH || kind == LOCKED || kind == QUIT_PUT ? 2 : 1;
}

static bool attempt(struct actor *a, bool sure)
{
    if (is_put(a->kind)) {
        return put(a, a->number, 0, a->count, sure, a->kind != QUIT_PUT) == SHMQ_DONE;
    }
    return get(a, a->kind == GET || a->kind == PARK_GET ? 1 : a->kind == GET_ALL ? world.capacity : 2, sure);
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
    while (!ok && (a->kind == PARK_GET || a->kind == PARK_PUT)) {
        struct shmq_wake_words *side = a->kind == PARK_GET ? &a->ring.header->items : &a->ring.header->space;
        a->epoch = shmq_arm(side);
        ok = attempt(a, true);
        if (!ok) {
            step("sleep");
            a->sleeps = true;
            a->woken = atomic_load(&side->epoch) != a->epoch;
            if (_setjmp(a->here) == 0) {
                next();
            }
            a->sleeps = a->woken = false;
        }
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
