/* One run of ring_explore.c: what is there before, and what has to hold afterwards. */

#ifndef SHMQ_EXPLORE_JUDGE_H
#define SHMQ_EXPLORE_JUDGE_H

#include "explore_act.h"

static void be_born(struct actor *a, unsigned number)
{
    const struct shmq_calls calls = {life_is_alive, wake_sleepers, ring_bell, NULL, life_now, NULL};
    shmq_open(&a->ring, world.base, world.capacity, ITEM_SIZE, world.spsc, life_begins(), calls);
    shmq_open_large(&a->ring, segment_largest(ITEM_SIZE));
    a->number = number;
    a->started = a->done = a->dead = a->refused_by_lock = a->is_marked = a->refuses = a->sleeps = a->woken = a->rung = false;
    a->taken = 0;
    a->fate = NEVER;
    a->item.mine = false;
    a->count = count_of(a->kind);
    if (a->kind != NEWCOMER && !shmq_take_record(&a->ring, &a->me)) {
        fail("no record");
    }
}

static void set_up(const enum kind *kinds)
{
    segment_reset(world.base, world.capacity, ITEM_SIZE, world.spsc);
    atomic_store_explicit(&lives, 1, memory_order_relaxed);
    atomic_store_explicit(&world.flag, 0, memory_order_relaxed);
    world.steps = world.noted = world.switches = world.deaths = world.depth = 0;
    survivor.kind = GET;
    be_born(&survivor, ACTORS);
    for (uint64_t i = 0; i < world.laps * world.capacity; i++) {
        if (put(&survivor, FILLER, 0, 1, false, true) != SHMQ_DONE || !get(&survivor, 1, false)) {
            fail("a new queue does not work");
        }
    }
    for (unsigned i = 0; i < world.filled; i++) {
        survivor.kind = world.large && i == 0 ? LARGE : GET;
        if (put(&survivor, FILLER, i, 1, false, true) != SHMQ_DONE) {
            fail("a new queue does not fill");
        }
    }
    survivor.kind = GET;
    shmq_leave_role(&survivor.ring.header->producer, survivor.me.name);
    shmq_leave_role(&survivor.ring.header->consumer, survivor.me.name);
    if (world.laps > 0) { /* as if a waiter had armed both hints and gone away */
        shmq_arm(&survivor.ring.header->items);
        shmq_arm(&survivor.ring.header->space);
    }
    world.noted = 0;
    for (unsigned i = 0; i < world.actors; i++) {
        actors[i].kind = kinds[i];
        be_born(&actors[i], i);
    }
    for (unsigned i = 0; i < world.actors; i++) {
        if (kinds[i] == GHOST_GET) { /* not before all have their records */
            life_ends(actors[i].ring.owner);
        }
    }
}

static unsigned times(unsigned putter, unsigned index)
{
    unsigned found = 0;
    for (unsigned i = 0; i < world.noted; i++) {
        found += world.notes[i].putter == putter && world.notes[i].index == index;
    }
    return found;
}

static void drain(void)
{
    while (get(&survivor, 1, true)) {
    }
}

static void judge(const enum kind *kinds)
{
    uint64_t wanted = 0, offered = filled_slots();
    bool quits = false;
    for (unsigned i = 0; i < world.actors; i++) {
        if (world.spsc && !actors[i].dead) { /* its handle is closed */
            shmq_leave_role(&actors[i].ring.header->producer, actors[i].me.name);
            shmq_leave_role(&actors[i].ring.header->consumer, actors[i].me.name);
        }
        quits = quits || kinds[i] == QUIT_GET || kinds[i] == QUIT_PUT || kinds[i] == REPENT || kinds[i] == GHOST_GET;
        wanted += is_put(kinds[i]) ? 0 : kinds[i] == GET || kinds[i] == PARK_GET || kinds[i] == BELL_GET || kinds[i] == VIEW ? 1 : kinds[i] == GET_ALL ? 3 : 2;
        offered += is_put(kinds[i]) ? slots_of(kinds[i]) : 0;
    }

    /* An actor that still sleeps must have no reason to wake up. */
    for (unsigned i = 0; i < world.actors && world.deaths == 0 && !quits && !world.spsc; i++) {
        const struct actor *a = &actors[i];
        if (a->sleeps && (a->kind == PARK_PUT || a->kind == BELL_PUT) && shmq_has_room(&a->ring)) {
            fail("a put sleeps beside a free slot");
        }
        if (a->sleeps && (a->kind == PARK_GET || a->kind == BELL_GET)) {
            const uint64_t head = a->ring.header->head;
            if (shmq_slot_of(&a->ring, head)->word == shmq_word_of(head, SHMQ_FULL)) {
                fail("a get sleeps beside an item");
            }
        }
    }

    const bool is_empty = shmq_is_empty(&survivor.ring);
    const bool has_room = shmq_has_room(&survivor.ring);
    bool probed = false;
    if (world.executions % 2 == 0) {
        probed = put(&survivor, PROBE, 0, 1, true, true) == SHMQ_DONE;
        if (probed != has_room) {
            fail(probed ? "there was room, and has_room did not say so" : "has_room saw room where none was");
        }
    }
    const unsigned before = world.noted;
    drain();
    if ((world.noted - before == probed) != is_empty) {
        fail(is_empty ? "is_empty did not see an item" : "is_empty saw an item where none was");
    }
    if (times(PROBE, 0) != probed) {
        fail("the probe was not delivered once");
    }

    for (unsigned i = 0; i < world.noted; i++) {
        const struct note *n = &world.notes[i];
        for (unsigned j = 0; j < i; j++) {
            const struct note *m = &world.notes[j];
            if (m->position == n->position) {
                fail("a position was delivered twice");
            }
            if (m->getter == n->getter && !m->adopted && !n->adopted && m->position > n->position) {
                fail("a getter got items out of order");
            }
            if (m->putter == n->putter && (m->index < n->index) != (m->position < n->position)) {
                fail("items of one producer lie out of order");
            }
        }
    }
    for (unsigned i = 0; i < world.filled; i++) {
        if (times(FILLER, i) != 1) {
            fail("an item that was there before was not delivered once");
        }
    }
    for (unsigned i = 0; i < world.actors; i++) {
        const struct actor *a = &actors[i];
        if (!is_put(a->kind)) {
            if (a->kind == GET_ALL && !a->dead) { /* the getter of the first item of a batch takes it whole */
                for (unsigned j = 0; j < world.noted; j++) {
                    const struct note *n = &world.notes[j];
                    if (n->getter == i && !n->adopted && n->putter < world.actors && n->index == 0 &&
                        actors[n->putter].count <= world.capacity) {
                        unsigned mine = 0;
                        for (unsigned k = 0; k < world.noted; k++) {
                            mine += world.notes[k].getter == i && world.notes[k].putter == n->putter;
                        }
                        if (mine != actors[n->putter].count) {
                            fail("half a batch was seen");
                        }
                    }
                }
            }
            continue;
        }
        if (times(i, GIVEN_UP) > 0) {
            fail("an abandoned item was delivered");
        }
        const unsigned first = times(i, 0);
        for (unsigned j = 0; j < a->count; j++) {
            if (times(i, j) != first) {
                fail("a batch was cut");
            }
        }
        const enum { NO, YES, PERHAPS } expected = a->fate == ACKNOWLEDGED ? YES : a->fate == NEVER ? NO : PERHAPS;
        if (first > 1 || (expected != PERHAPS && first != (unsigned)expected)) {
            fail(first > expected ? "an item came too often" : "an item was lost");
        }
    }
    if (world.deaths == 0 && !quits && !world.spsc) {
        for (unsigned i = 0; i < world.actors; i++) {
            const struct actor *a = &actors[i];
            if (!is_put(a->kind) && wanted <= world.filled && a->taken == 0 && !a->refuses) {
                fail("a get found nothing though there was an item all the time");
            }
            if (is_put(a->kind) && offered <= world.capacity && a->fate != ACKNOWLEDGED && !a->refused_by_lock) {
                fail("a put found no room though there was some all the time");
            }
        }
    }

    /* What comes later. */
    for (unsigned lap = 0; lap < 2; lap++) {
        world.noted = 0;
        if (!shmq_is_empty(&survivor.ring)) {
            fail("not empty after all was taken");
        }
        for (unsigned i = 0; i < world.capacity; i++) {
            if (put(&survivor, FILLER, i, 1, true, true) != SHMQ_DONE) {
                fail("an empty queue does not take its capacity");
            }
        }
        if (shmq_has_room(&survivor.ring) || put(&survivor, FILLER, 0, 1, true, true) == SHMQ_DONE) {
            fail("a full queue takes more than its capacity");
        }
        drain();
        for (unsigned i = 0; i < world.capacity; i++) {
            if (world.noted != world.capacity || world.notes[i].index != i) {
                fail("a queue does not give back what it took");
            }
        }
    }
    if (world.large) {
        survivor.kind = LARGE;
        if (put(&survivor, FILLER, 0, 1, true, true) != SHMQ_DONE) {
            fail("an empty queue does not take an item of two slots");
        }
        survivor.kind = GET;
        world.noted = 0;
        drain();
        if (world.noted != 1) {
            fail("a queue does not give back an item of two slots");
        }
    }
    for (uint32_t index = 0; index <= 2 * ACTORS; index++) {
        if (!shmq_resolve(&survivor.ring, index)) {
            fail("a record that nobody can take");
        }
    }
    for (unsigned i = 0; i < world.actors; i++) {
        if ((actors[i].kind == QUIT_GET || actors[i].kind == QUIT_PUT || actors[i].is_marked) && !actors[i].dead &&
            !shmq_clean(&actors[i].ring, &actors[i].me)) {
            fail("an abandoned record that does not get clean");
        }
    }
    uint64_t holder;
    if (!shmq_try_acquire_lock(&survivor.ring, &survivor.me, &world.flag, &holder)) {
        fail("the lock of the dead cannot be had");
    }
    shmq_release_lock(&survivor.ring, &survivor.me, &world.flag);
}

#endif
