/* A thread of ring_stress.c: its lives and deaths, what it puts and gets, and what it notes of that. */

#ifndef SHMQ_STRESS_WORKER_H
#define SHMQ_STRESS_WORKER_H

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdnoreturn.h>
#include <time.h>
#include <unistd.h>

#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#endif

static void step(void);
#define SHMQ_STEP(label) step()
#include "segment.h"

#define ITEM_SIZE 100
#define MOST_THREADS 8
#define MOST_ITEMS 400000 /* of one producer */

enum fate { NEVER, ACKNOWLEDGED, IN_DOUBT };

struct note {
    uint64_t position;
    uint32_t producer, serial;
    bool adopted;
};

struct worker {
    uint32_t number; /* among producers, or among consumers */
    bool produces, is_finished, lacks_role;
    uint64_t random;
    pthread_t thread;
    struct shmq_ring ring;
    struct shmq_participant me;
    struct shmq_participant left[16]; /* abandoned, not clean yet */
    unsigned left_behind;
    jmp_buf death;
    uint64_t steps_to_live; /* 0: for ever */
    unsigned deaths, abandoned;

    uint32_t next; /* producer: serial of the next item */
    unsigned char *fates;
    uint32_t *firsts; /* serial of the first item of its batch */

    struct note *notes; /* consumer */
    size_t noted, room;
    struct shmq_item item; /* being adopted */
    uint64_t adopting;
    unsigned char buffer[ITEM_SIZE];
};

static struct {
    uint64_t seed, capacity;
    bool spsc, mortal;
    struct timespec until;
    void *base;
    _Atomic int32_t flag;
    uint64_t guarded; /* by the lock of batches; not atomic, so that two holders are a race */
    _Atomic bool stop;
    struct worker producers[MOST_THREADS], consumers[MOST_THREADS];
    unsigned producer_count, consumer_count;
} run;

static _Thread_local struct worker *self;

static noreturn void fail(const char *what, uint64_t one, uint64_t other)
{
    fprintf(stderr, "FAILED: %s (%llu, %llu); seed %llu, capacity %llu, mode %s\n", what, (unsigned long long)one,
            (unsigned long long)other, (unsigned long long)run.seed, (unsigned long long)run.capacity,
            run.spsc ? "spsc" : "mpmc");
    fflush(NULL);
    _Exit(1);
}

static void step(void)
{
    struct worker *w = self;
    if (w == NULL) {
        return;
    }
    if (w->steps_to_live > 0 && --w->steps_to_live == 0) {
        longjmp(w->death, 1);
    }
    if (random_below(&w->random, 64) == 0) {
        sched_yield();
    }
}

/* ---- waiting ---- */

static bool ring_bell(void *context, uint64_t nonce, uint64_t name)
{
    (void)context, (void)nonce, (void)name;
    return false; /* no worker waits on a descriptor */
}

static int wake_sleepers(void *context, _Atomic uint64_t *word, int count)
{
    (void)context;
#ifdef __linux__
    const long woken = syscall(SYS_futex, shmq_low_half(word), FUTEX_WAKE, count, NULL, NULL, 0);
    return woken > 0 ? (int)woken : 0;
#else
    (void)word, (void)count;
    return 0;
#endif
}

static void sleep_on(_Atomic uint64_t *word, uint64_t expected)
{
#ifdef __linux__
    const struct timespec slice = {0, 5000000};
    syscall(SYS_futex, shmq_low_half(word), FUTEX_WAIT, (uint32_t)expected, &slice, NULL, 0);
#else
    (void)word, (void)expected;
    sched_yield();
#endif
}

static bool is_over(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec > run.until.tv_sec || (now.tv_sec == run.until.tv_sec && now.tv_nsec >= run.until.tv_nsec);
}

/* ---- items ---- */

static uint32_t length_of(uint32_t producer, uint32_t serial)
{
    uint64_t state = random_seeded(producer, serial);
    return 8 + (uint32_t)random_below(&state, ITEM_SIZE - 8 + 1);
}

static void write_item(unsigned char *to, uint32_t producer, uint32_t serial)
{
    const uint32_t length = length_of(producer, serial);
    uint64_t state = random_seeded(serial, producer);
    memcpy(to, &producer, 4);
    memcpy(to + 4, &serial, 4);
    for (uint32_t at = 8; at < length; at++) {
        to[at] = (unsigned char)(random_next(&state) >> 32);
    }
}

static void note(struct worker *w, uint64_t position, const unsigned char *data, uint32_t length, uint32_t tag,
                 bool adopted)
{
    unsigned char expected[ITEM_SIZE];
    struct note found = {.position = position, .adopted = adopted};
    if (length < 8 || length > ITEM_SIZE) {
        fail("an item of an impossible length", position, length);
    }
    memcpy(&found.producer, data, 4);
    memcpy(&found.serial, data + 4, 4);
    if (found.producer >= run.producer_count || length != length_of(found.producer, found.serial)) {
        fail("an item of nobody, or torn", position, found.producer);
    }
    write_item(expected, found.producer, found.serial);
    if (memcmp(data, expected, length) != 0 || tag != (found.serial & SHMQ_TAG_MASK)) {
        fail("a torn item", position, found.serial);
    }
    if (w->noted == w->room) {
        w->room = w->room * 2 + 1024;
        w->notes = realloc(w->notes, w->room * sizeof *w->notes);
        if (w->notes == NULL) {
            fail("no memory", w->room, 0);
        }
    }
    w->notes[w->noted++] = found;
}

/* ---- lives ---- */

static void be_born(struct worker *w)
{
    const struct shmq_calls calls = {life_is_alive, wake_sleepers, ring_bell, NULL, life_now, NULL};
    shmq_open(&w->ring, run.base, run.capacity, ITEM_SIZE, run.spsc, life_begins(), calls);
    w->left_behind = 0;
    while (!shmq_take_record(&w->ring, &w->me)) {
        sched_yield();
    }
}

static void die(struct worker *w)
{
    w->steps_to_live = 0;
    w->deaths++;
    if (w->item.mine) { /* dead before it came back with the item that was decided to be its */
        w->item.mine = false;
        note(w, w->adopting, w->item.data, w->item.length, w->item.tag, true);
    }
    life_ends(w->ring.owner);
    be_born(w);
}

/* After shmq_abandon: the old record is for later, if it is not clean. */
static void go_on(struct worker *w, bool is_clean)
{
    w->abandoned++;
    if (!is_clean) {
        if (w->left_behind == sizeof w->left / sizeof *w->left) {
            fail("records that never get clean", w->left_behind, 0);
        }
        w->left[w->left_behind++] = w->me;
        while (!shmq_take_record(&w->ring, &w->me)) {
            sched_yield();
        }
    }
}

static void clean_up(struct worker *w)
{
    for (unsigned i = 0; i < w->left_behind; i++) {
        if (shmq_clean(&w->ring, &w->left[i])) {
            shmq_leave_record(&w->ring, &w->left[i]);
            w->left[i--] = w->left[--w->left_behind];
        }
    }
}

/* ---- operations ---- */

static enum shmq_result checked(struct worker *w, enum shmq_result result)
{
    if (result == SHMQ_CORRUPT || result == SHMQ_CLAIM_LOST) {
        fail(result == SHMQ_CORRUPT ? "a corrupt word" : "a claim lost", w->me.bad_position, w->me.bad_word);
    }
    return result;
}

static void take_lock(struct worker *w)
{
    uint64_t holder;
    while (!shmq_try_acquire_lock(&w->ring, &w->me, &run.flag, &holder)) {
        sleep_on(&w->ring.header->batch_owner, holder);
    }
    run.guarded++;
}

static void produce(struct worker *w)
{
    const bool batch = run.capacity > 1 && random_below(&w->random, 2) == 0;
    const uint32_t most = run.capacity < 4 ? (uint32_t)run.capacity : 4;
    const uint32_t count = batch ? 2 + (uint32_t)random_below(&w->random, most - 1) : 1;
    const uint32_t first = w->next;
    uint64_t position;
    if (run.spsc && shmq_take_role(&w->ring, &w->ring.header->producer, w->me.name) != w->me.name) {
        w->steps_to_live = 0; /* a worker that only waits for a role need not die */
        sched_yield();
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        w->fates[first + i] = IN_DOUBT;
        w->firsts[first + i] = first;
    }
    w->next = first + count; /* first: what dies now is in doubt */
    if (batch) {
        take_lock(w);
    }
    for (unsigned tries = 1; checked(w, shmq_claim_put(&w->ring, &w->me, count, tries % 4 == 0, &position)) != SHMQ_DONE;
         tries++) {
        if (tries % 4 == 0 && is_over()) {
            if (batch) {
                shmq_release_lock(&w->ring, &w->me, &run.flag);
            }
            memset(w->fates + first, NEVER, count);
            return;
        }
        if (tries % 8 == 0) {
            const uint64_t epoch = shmq_arm(&w->ring.header->space);
            if (checked(w, shmq_claim_put(&w->ring, &w->me, count, true, &position)) == SHMQ_DONE) {
                break;
            }
            sleep_on(&w->ring.header->space.epoch, epoch);
        }
    }
    if (batch) {
        shmq_release_lock(&w->ring, &w->me, &run.flag);
    }
    for (uint32_t i = 0; i < count; i++) {
        unsigned char item[ITEM_SIZE];
        const uint32_t length = length_of(w->number, first + i), tag = (first + i) & SHMQ_TAG_MASK;
        write_item(item, w->number, first + i);
        if (length % 2 == 0) {
            shmq_write(&w->ring, position + i, item, length, tag, i);
        } else {
            const struct shmq_piece pieces[] = {{item, 0, 8}, {item + 8, 8, length - 8}, {NULL, 0, 0}};
            shmq_write_pieces(&w->ring, position + i, pieces, length, tag, i);
        }
    }
    if (run.mortal && random_below(&w->random, 256) == 0) {
        memset(w->fates + first, NEVER, count);
        go_on(w, shmq_abandon(&w->ring, &w->me)); /* in mode spsc the role is free now */
        return;
    }
    checked(w, shmq_publish(&w->ring, &w->me, position, count, count));
    memset(w->fates + first, ACKNOWLEDGED, count);
}

static bool consume(struct worker *w, bool sure)
{
    const uint64_t limit = 1 + random_below(&w->random, 2) * random_below(&w->random, run.capacity + 2);
    uint64_t position, count;
    w->lacks_role =
        run.spsc && shmq_take_role(&w->ring, &w->ring.header->consumer, w->me.name) != w->me.name;
    if (w->lacks_role) {
        w->steps_to_live = 0; /* a worker that only waits for a role need not die */
        sched_yield();
        return false;
    }
    const enum shmq_result found = checked(w, shmq_claim_get(&w->ring, &w->me, limit, sure, &position, &count));
    if (found == SHMQ_DONE) {
        const bool gives_up = run.mortal && random_below(&w->random, 256) == 0;
        const uint64_t most = gives_up ? random_below(&w->random, count) : count;
        for (uint64_t i = 0; i < most; i++) {
            struct shmq_item item;
            shmq_read(&w->ring, position + i, &item);
            memcpy(w->buffer, item.data, item.length);
            if (shmq_free_slot(&w->ring, position + i)) {
                note(w, position + i, w->buffer, item.length, item.tag, false);
            }
        }
        if (gives_up) {
            go_on(w, shmq_abandon(&w->ring, &w->me));
        } else {
            shmq_finish_get(&w->ring, &w->me, count);
        }
        return true;
    }
    if (found != SHMQ_ORPHAN && !(sure && shmq_find_orphan(&w->ring, &position))) {
        return false;
    }
    w->adopting = position;
    if (shmq_rescue_get(&w->ring, position, w->buffer, w->ring.max_item_size, &w->item)) {
        w->item.mine = false;
        note(w, position, w->item.data, w->item.length, w->item.tag, true);
        return true;
    }
    return false;
}

static void look_around(struct worker *w)
{
    if (shmq_size(&w->ring) > run.capacity) {
        fail("a size above the capacity", shmq_size(&w->ring), 0);
    }
    shmq_is_empty(&w->ring);
    shmq_has_room(&w->ring);
}

static void *work(void *argument)
{
    struct worker *w = argument;
    self = w;
    if (setjmp(w->death) != 0) {
        die(w);
    }
    while (!w->is_finished) {
        if (run.mortal && w->steps_to_live == 0 && random_below(&w->random, 16) == 0) {
            w->steps_to_live = 1 + random_below(&w->random, 60);
        }
        if (random_below(&w->random, 32) == 0) {
            look_around(w);
            clean_up(w);
        }
        if (w->produces) {
            produce(w);
            w->is_finished = is_over() || w->next > MOST_ITEMS - 8 ||
                             atomic_load_explicit(&lives, memory_order_relaxed) > LIVES - 64;
        } else {
            if (!consume(w, random_below(&w->random, 4) == 0)) {
                const bool was_over = atomic_load_explicit(&run.stop, memory_order_acquire);
                const uint64_t epoch = shmq_arm(&w->ring.header->items);
                if (!consume(w, true)) {
                    w->is_finished = was_over;
                    if (!was_over && !w->lacks_role && random_below(&w->random, 2) == 0) { /* else it eats a wake */
                        sleep_on(&w->ring.header->items.epoch, epoch);
                    }
                }
            }
        }
        if (run.spsc && (w->is_finished || random_below(&w->random, 64) == 0)) {
            shmq_leave_role(&w->ring.header->producer, w->me.name);
            shmq_leave_role(&w->ring.header->consumer, w->me.name);
        }
    }
    w->steps_to_live = 0;
    self = NULL; /* no more steps */
    life_ends(w->ring.owner);
    return NULL;
}

#endif
