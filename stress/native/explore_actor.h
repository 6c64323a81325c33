/* What actors of both explorers do, and what is asked from outside. */

#ifndef SHMQ_EXPLORE_ACTOR_H
#define SHMQ_EXPLORE_ACTOR_H

#include "explore_world.h"

/* ---- what is asked from outside ---- */

static bool has_bell(enum kind kind)
{
    return kind == BELL_PUT || kind == BELL_GET;
}

static bool ring_bell(void *context, uint64_t nonce, uint64_t name)
{
    (void)context, (void)nonce;
    for (unsigned i = 0; i < world.actors; i++) {
        struct actor *a = &actors[i];
        if (has_bell(a->kind) && a->me.name == name && a->started && !a->done && !a->dead) {
            a->rung = true;
            a->woken = a->sleeps;
            return true;
        }
    }
    return false;
}

/* The side on which an actor sleeps. */
static struct shmq_wake_words *side_of(const struct actor *a)
{
    struct shmq_header *header = a->ring.header;
    return a->kind < GET ? &header->space : a->kind == PARK_JOIN ? &header->idle : &header->items;
}

static int wake_sleepers(void *context, _Atomic uint64_t *word, int count)
{
    (void)context;
    int woken = 0;
    for (unsigned i = 0; i < world.actors && woken < count; i++) {
        struct actor *a = &actors[i];
        if (a->sleeps && !a->woken && !has_bell(a->kind) && word == &side_of(a)->epoch) {
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

static bool is_put(enum kind kind)
{
    return kind < GET;
}

static unsigned count_of(enum kind kind)
{
    return kind == TRIPLE ? 3 : kind == BATCH || kind == LOCKED || kind == QUIT_PUT ? 2 : 1;
}

#endif
