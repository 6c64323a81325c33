/* One run of lease_explore.c: what is there before, and what has to hold afterwards. */

#ifndef SHMQ_LEASE_JUDGE_H
#define SHMQ_LEASE_JUDGE_H

#include "lease_actor.h"

static void be_born(struct actor *a, unsigned number)
{
    const struct shmq_calls calls = {asks_whether_alive, wake_sleepers, ring_bell, a, life_now, NULL};
    shmq_open(&a->ring, world.base, world.capacity, ITEM_SIZE, false, life_begins(), calls);
    a->busy_lease = 0;
    shmq_open_large(&a->ring, segment_largest(ITEM_SIZE));
    shmq_open_leases(&a->ring, segment_leases, segment_deliveries, &a->busy_lease);
    a->number = number;
    a->started = a->done = a->dead = a->refused_by_lock = a->is_marked = a->sleeps = a->woken = false;
    a->taken = 0;
    a->holds = 0;
    a->finds_the_end = a->joins = a->saw_quiet = false;
    a->fate = NEVER;
    a->item.mine = false;
    a->count = count_of(a->kind);
    if (a->kind != NEWCOMER && !shmq_take_record(&a->ring, &a->me)) {
        fail("no record");
    }
}

/* Take and end all that is there; what the dead had becomes dead letters, one look after the other. */
static void drain(void)
{
    for (unsigned looks = 0; looks < 2; looks++) {
        while (lease(&survivor, 1, true)) {
            end_leases(&survivor);
        }
    }
}

/* End the dead letters: put back and delivered once more, or, if the queue was shut down, dropped. */
static void end_letters(void)
{
    survivor.kind = shmq_is_closed(&survivor.ring) ? DROP : PUT_BACK;
    while (move_letter(&survivor)) {
    }
    survivor.kind = LEASE;
    drain();
    for (uint32_t i = 0; i < survivor.ring.dead; i++) {
        if (shmq_dead_of(&survivor.ring, i)->word % 8 != SHMQ_DEAD_FREE && !shmq_is_stopped(&survivor.ring)) {
            fail("a dead slot stays taken");
        }
    }
}

static void set_up(const enum kind *kinds)
{
    world.before_step = NULL;
    segment_reset(world.base, world.capacity, ITEM_SIZE, false);
    atomic_store_explicit(&lives, FIRST_LIFE, memory_order_relaxed);
    world.steps = world.noted = world.switches = world.deaths = world.depth = 0;
    memset(known, 0, sizeof known);
    memset(&end, 0, sizeof end);
    survivor.kind = LEASE;
    be_born(&survivor, ACTORS);
    for (uint64_t i = 0; i < world.laps * world.capacity; i++) {
        if (put(&survivor, FILLER, 0, 1, false, true) != SHMQ_DONE || !lease(&survivor, 1, false)) {
            fail("a new queue does not work");
        }
        end_leases(&survivor);
        memset(known, 0, sizeof known);
    }
    if (world.letters > 0) {
        if (put(&survivor, FILLER, LETTER, 1, false, true) != SHMQ_DONE || !lease(&survivor, 1, false)) {
            fail("a new queue does not work");
        }
        survivor.kind = RELEASE;
        end_leases(&survivor);
        survivor.kind = LEASE;
    }
    for (unsigned i = 0; i < world.filled; i++) {
        survivor.kind = world.large && i == 0 ? LARGE : LEASE;
        if (put(&survivor, FILLER, i, 1, false, true) != SHMQ_DONE) {
            fail("a new queue does not fill");
        }
    }
    survivor.kind = LEASE;
    if (world.laps > 0) { /* as if waiters had armed the hints and gone away */
        shmq_arm(&survivor.ring.header->items);
        shmq_arm(&survivor.ring.header->space);
        shmq_arm(&survivor.ring.header->idle);
    }
    for (unsigned i = 0; i < world.actors; i++) {
        actors[i].kind = kinds[i];
        be_born(&actors[i], i);
    }
    world.before_step = inspect;
}

/* An actor that still sleeps must have no reason to wake up. */
static void judge_sleepers(void)
{
    for (unsigned i = 0; i < world.actors && world.deaths == 0; i++) {
        struct actor *a = &actors[i];
        if (!a->sleeps) {
            continue;
        }
        if (a->kind == PARK_JOIN && shmq_is_quiet(&a->ring)) {
            fail("a join sleeps although all is done");
        }
        const bool is_get = a->kind == PARK_LEASE || a->kind == BUNDLE;
        if (is_get && shmq_is_closed(&a->ring) &&
            (shmq_is_stopped(&a->ring) || !shmq_keeps_the_end_away(&a->ring))) {
            fail("a get sleeps at the end of the queue");
        }
        const uint64_t head = shmq_unmarked(a->ring.header->head);
        const bool is_there = shmq_slot_of(&a->ring, head)->word == shmq_word_of(head, SHMQ_FULL);
        if (is_get && shmq_is_closed(&a->ring) && a->holds > 0 && !is_there) {
            fail("an actor that has an item waits at the end for those of others");
        }
        for (uint32_t index = 0; is_get && index < a->ring.leases; index++) {
            const struct shmq_lease *slot = shmq_lease_of(&a->ring, index);
            if (slot->holder == 0 && (slot->count > 0 ? slot->due == 0 : is_there)) {
                fail("a get sleeps beside an item and a lease slot for it");
            }
            if (slot->holder == 0 && slot->count == 0 && shmq_put_back_items(&a->ring) > 0) {
                fail("a get sleeps beside an item that was put back and a lease slot for it");
            }
        }
    }
}

static void judge_items(void)
{
    for (unsigned i = 0; i < world.filled; i++) {
        if (!known[FILLER][i].ended && !shmq_is_stopped(&survivor.ring)) {
            fail("an item that was there before was not ended");
        }
    }
    for (unsigned i = 0; i < world.actors; i++) {
        const struct actor *a = &actors[i];
        for (unsigned j = 0; is_put(a->kind) && j < a->count; j++) {
            if (a->fate == ACKNOWLEDGED && !known[i][j].ended && !shmq_is_stopped(&survivor.ring)) {
                fail("an accepted item was not ended");
            }
            if (a->fate == NEVER && known[i][j].handed > 0) {
                fail("an item was delivered that was not put");
            }
            if (known[i][j].ended != known[i][0].ended) {
                fail("a batch was cut");
            }
        }
    }
}

static void judge(void)
{
    inspect();
    judge_sleepers();
    bool keeps = false;
    for (unsigned i = 0; i < world.actors; i++) {
        keeps = keeps || (!actors[i].dead && actors[i].holds > 0);
    }
    const bool is_empty = shmq_is_empty(&survivor.ring);
    const bool is_there = lease(&survivor, 1, true);
    const bool may_bury = segment_deliveries > 0 && world.deaths > 0; /* what was there is a letter, then */
    if (is_there == is_empty && !keeps && !may_bury) {
        fail(is_empty ? "is_empty did not see an item" : "is_empty saw an item where none was");
    }
    end_leases(&survivor);
    drain();
    for (unsigned i = 0; i < world.actors; i++) {
        struct actor *a = &actors[i];
        if (!a->dead && a->holds > 0) { /* it keeps them, or sleeps because its waker died */
            if (shmq_is_quiet(&survivor.ring) || shmq_size(&survivor.ring) > world.capacity) {
                fail("join does not see what a living actor has");
            }
            end_leases(a);
        }
    }
    drain();
    inspect();
    end_letters();
    judge_items();

    if (shmq_is_closed(&survivor.ring)) {
        if (!survivor.finds_the_end || !join(&survivor)) {
            fail("a queue that was shut down has no end");
        }
        return;
    }

    /* What comes later. */
    for (uint32_t index = 0; index < survivor.ring.leases; index++) {
        if (shmq_lease_of(&survivor.ring, index)->holder != 0 || shmq_lease_of(&survivor.ring, index)->count != 0) {
            fail("a lease slot stays taken");
        }
    }
    world.before_step = NULL;
    for (unsigned lap = 0; lap < 2; lap++) {
        memset(known, 0, sizeof known);
        if (!shmq_is_empty(&survivor.ring) || shmq_size(&survivor.ring) != 0 || !join(&survivor)) {
            fail("not empty after all was ended");
        }
        for (unsigned i = 0; i < world.capacity; i++) {
            if (put(&survivor, FILLER, i, 1, true, true) != SHMQ_DONE || shmq_is_quiet(&survivor.ring)) {
                fail("an empty queue does not take its capacity");
            }
        }
        if (put(&survivor, FILLER, 0, 1, true, true) == SHMQ_DONE) {
            fail("a full queue takes more than its capacity");
        }
        drain();
        for (unsigned i = 0; i < world.capacity; i++) {
            if (known[FILLER][i].handed != 1) {
                fail("a queue does not give back what it took");
            }
        }
    }
    if (world.large) {
        memset(known, 0, sizeof known);
        survivor.kind = LARGE;
        if (put(&survivor, FILLER, 0, 1, true, true) != SHMQ_DONE) {
            fail("an empty queue does not take an item of two slots");
        }
        survivor.kind = LEASE;
        drain();
        if (known[FILLER][0].handed != 1) {
            fail("a queue does not give back an item of two slots");
        }
    }
    for (uint32_t index = 0; index <= 2 * ACTORS; index++) {
        if (!shmq_resolve(&survivor.ring, index)) {
            fail("a record that nobody can take");
        }
    }
}

#endif
