/* Threads put and get, alone and in batches, and die at random steps; afterwards every item is accounted for.

   Each thread stands for a process: it has an owner word of its own. To die, it jumps out of its operation at a step and
   never comes back to it; its owner word is dead from then on, and the thread goes on under another one. Whatever it
   had announced, claimed or written is left to the others.

   What is checked: an item whose put returned comes exactly once; those of a put that died come all, once, or not at
   all; each is whole, byte by byte; the items of a batch lie side by side; those of one producer come in the order of
   their puts, but for what was adopted. Built with a sanitizer, this also finds races of the payload. */

#define _GNU_SOURCE
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
    return false; /* nobody here waits on a descriptor */
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
    const struct shmq_calls calls = {life_is_alive, wake_sleepers, ring_bell, NULL};
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
        w->steps_to_live = 0; /* who only waits for a role need not die */
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
        write_item(item, w->number, first + i);
        shmq_write(&w->ring, position + i, item, length_of(w->number, first + i), (first + i) & SHMQ_TAG_MASK, i);
    }
    if (run.mortal && random_below(&w->random, 256) == 0) {
        memset(w->fates + first, NEVER, count);
        go_on(w, shmq_abandon(&w->ring, &w->me)); /* in mode spsc the role is anybody's now */
        return;
    }
    checked(w, shmq_publish(&w->ring, &w->me, position, count));
    memset(w->fates + first, ACKNOWLEDGED, count);
}

static bool consume(struct worker *w, bool sure)
{
    const uint64_t limit = 1 + random_below(&w->random, 2) * random_below(&w->random, run.capacity + 2);
    uint64_t position, count;
    w->lacks_role =
        run.spsc && shmq_take_role(&w->ring, &w->ring.header->consumer, w->me.name) != w->me.name;
    if (w->lacks_role) {
        w->steps_to_live = 0; /* who only waits for a role need not die */
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
    if (shmq_rescue_get(&w->ring, position, w->buffer, &w->item)) {
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

/* ---- the run ---- */

static int by_position(const void *one, const void *other)
{
    const struct note *a = one, *b = other;
    return a->position < b->position ? -1 : a->position > b->position;
}

static size_t judge(void)
{
    size_t total = 0;
    for (unsigned c = 0; c <= run.consumer_count; c++) {
        total += run.consumers[c].noted;
    }
    struct note *all = malloc((total + 1) * sizeof *all);
    if (all == NULL) {
        fail("no memory", total, 0);
    }
    size_t at = 0;
    for (unsigned c = 0; c <= run.consumer_count; c++) {
        const struct worker *w = &run.consumers[c];
        int64_t last[MOST_THREADS];
        memset(last, -1, sizeof last);
        for (size_t i = 0; i < w->noted; i++) {
            const struct note *n = &w->notes[i];
            if (!n->adopted) {
                if ((int64_t)n->serial <= last[n->producer]) {
                    fail("items of one producer out of order", n->producer, n->serial);
                }
                last[n->producer] = n->serial;
            }
            all[at++] = *n;
        }
    }
    qsort(all, total, sizeof *all, by_position);
    uint32_t expected[MOST_THREADS] = {0};
    for (size_t i = 0; i < total; i++) {
        const struct worker *w = &run.producers[all[i].producer];
        uint32_t serial = expected[all[i].producer];
        if (i > 0 && all[i].position == all[i - 1].position) {
            fail("a position that was delivered twice", all[i].position, all[i].serial);
        }
        if (all[i].serial < serial) {
            fail("an item doubled, or put out of order", all[i].producer, all[i].serial);
        }
        if (all[i].serial >= w->next) {
            fail("an item that was never put", all[i].producer, all[i].serial);
        }
        for (; serial < all[i].serial; serial++) {
            if (w->fates[serial] == ACKNOWLEDGED) {
                fail("an item lost", all[i].producer, serial);
            }
            if (w->firsts[serial] == w->firsts[all[i].serial]) {
                fail("a batch without its beginning", all[i].producer, serial);
            }
        }
        if (w->fates[serial] == NEVER) {
            fail("an item whose put gave up", all[i].producer, serial);
        }
        expected[all[i].producer] = serial + 1;
        if (serial + 1 < w->next && w->firsts[serial + 1] == w->firsts[serial] &&
            (i + 1 == total || all[i + 1].position != all[i].position + 1 ||
             all[i + 1].producer != all[i].producer || all[i + 1].serial != serial + 1)) {
            fail("a batch without its end, or not in one piece", all[i].producer, serial);
        }
    }
    for (unsigned p = 0; p < run.producer_count; p++) {
        for (uint32_t serial = expected[p]; serial < run.producers[p].next; serial++) {
            if (run.producers[p].fates[serial] == ACKNOWLEDGED) {
                fail("an item lost at the end", p, serial);
            }
        }
    }
    free(all);
    return total;
}

static void prepare(struct worker *w, unsigned number, bool produces)
{
    memset(w, 0, sizeof *w);
    w->number = number;
    w->produces = produces;
    w->random = random_seeded(run.seed, run.capacity * 64 + (run.spsc ? 32 : 0) + (produces ? 16 : 0) + number);
    if (produces) {
        w->fates = calloc(MOST_ITEMS, 1);
        w->firsts = calloc(MOST_ITEMS, sizeof *w->firsts);
        if (w->fates == NULL || w->firsts == NULL) {
            fail("no memory", MOST_ITEMS, 0);
        }
    }
    be_born(w);
}

static void one_run(uint64_t capacity, bool spsc, bool mortal, double seconds)
{
    run.capacity = capacity;
    run.spsc = spsc;
    run.mortal = mortal;
    run.producer_count = run.consumer_count = 2;
    run.base = segment_new(capacity, ITEM_SIZE, spsc);
    atomic_store(&lives, 1);
    atomic_store(&run.flag, 0);
    atomic_store(&run.stop, false);
    run.guarded = 0;
    clock_gettime(CLOCK_MONOTONIC, &run.until);
    const int64_t end = run.until.tv_nsec + (int64_t)(seconds * 1e9);
    run.until.tv_sec += end / 1000000000;
    run.until.tv_nsec = end % 1000000000;
    for (unsigned i = 0; i < run.producer_count; i++) {
        prepare(&run.producers[i], i, true);
    }
    for (unsigned i = 0; i <= run.consumer_count; i++) {
        prepare(&run.consumers[i], i, false); /* the last one is this thread, for what is left in the end */
    }
    for (unsigned i = 0; i < run.producer_count; i++) {
        pthread_create(&run.producers[i].thread, NULL, work, &run.producers[i]);
    }
    for (unsigned i = 0; i < run.consumer_count; i++) {
        pthread_create(&run.consumers[i].thread, NULL, work, &run.consumers[i]);
    }
    unsigned deaths = 0, abandoned = 0;
    for (unsigned i = 0; i < run.producer_count; i++) {
        pthread_join(run.producers[i].thread, NULL);
    }
    atomic_store_explicit(&run.stop, true, memory_order_release);
    for (unsigned i = 0; i < run.consumer_count; i++) {
        pthread_join(run.consumers[i].thread, NULL);
    }
    struct worker *last = &run.consumers[run.consumer_count];
    run.mortal = false;
    for (unsigned quiet = 0; quiet < 3; quiet++) {
        while (consume(last, true)) {
            quiet = 0;
        }
    }
    if (!shmq_is_empty(&last->ring) || !shmq_has_room(&last->ring)) {
        fail("not empty, or no room, at the end", shmq_size(&last->ring), 0);
    }
    for (uint32_t index = 0; index < SHMQ_RECORDS; index++) {
        if (!shmq_resolve(&last->ring, index)) {
            fail("a record that is not resolved at the end", index, 0);
        }
    }
    const size_t delivered = judge();
    for (unsigned i = 0; i < MOST_THREADS; i++) {
        deaths += run.producers[i].deaths + run.consumers[i].deaths;
        abandoned += run.producers[i].abandoned + run.consumers[i].abandoned;
        free(run.producers[i].fates);
        free(run.producers[i].firsts);
        free(run.consumers[i].notes);
    }
    printf("%s capacity %llu %-9s %8zu items, %5llu batches, %5u deaths, %4u abandoned, %5llu adopted, %5llu tombs\n",
           spsc ? "spsc" : "mpmc", (unsigned long long)capacity, mortal ? "deaths" : "no deaths", delivered,
           (unsigned long long)run.guarded, deaths, abandoned, (unsigned long long)last->ring.header->adopted,
           (unsigned long long)last->ring.header->tombs);
    fflush(stdout);
    if (delivered == 0) {
        fail("nothing was delivered", 0, 0);
    }
    free(run.base);
}

/* ---- hostile memory ---- */

static uint64_t evil(uint64_t *random, uint64_t capacity)
{
    const uint64_t near = random_below(random, capacity * 4 + 2);
    switch (random_below(random, 6)) {
    case 0:
        return random_next(random);
    case 1:
        return UINT64_MAX - near;
    case 2:
        return near;
    case 3:
        return 0;
    case 4:
        return UINT64_C(1) << random_below(random, 64);
    default:
        return near << SHMQ_STATE_BITS | random_below(random, 4);
    }
}

static bool ring_perhaps(void *context, uint64_t nonce, uint64_t name)
{
    (void)context, (void)nonce;
    return name % 2 == 0;
}

static bool is_alive_perhaps(void *context, uint64_t owner)
{
    (void)owner;
    return random_below(context, 2) == 0;
}

static int wake_perhaps(void *context, _Atomic uint64_t *word, int count)
{
    (void)word, (void)count;
    return (int)random_below(context, 2);
}

/* Nothing is expected of a segment that somebody has scribbled over, but that every call ends and stays inside. */
static void scribble(uint64_t rounds)
{
    uint64_t random = random_seeded(run.seed, 4711);
    unsigned corrupt = 0;
    for (uint64_t round = 0; round < rounds; round++) {
        const uint64_t capacity = 1 + random_below(&random, 5);
        unsigned char *base = segment_new(capacity, ITEM_SIZE, false);
        _Atomic uint64_t *words = (void *)base;
        const size_t header = sizeof(struct shmq_header) / SHMQ_WORD;
        struct shmq_ring ring;
        struct shmq_participant me;
        const struct shmq_calls calls = {is_alive_perhaps, wake_perhaps, ring_perhaps, &random};
        unsigned char *buffer = malloc(ITEM_SIZE);
        if (buffer == NULL) {
            fail("no memory", ITEM_SIZE, 0);
        }
        shmq_open(&ring, base, capacity, ITEM_SIZE, random_below(&random, 4) == 0, 1 + random_below(&random, 3), calls);
        if (!shmq_take_record(&ring, &me)) {
            fail("no record", 0, 0);
        }
        ring.header->records_used = 1 + random_below(&random, 5);
        for (unsigned call = 0; call < 12; call++) {
            for (unsigned i = 0; i < 4; i++) {
                switch (random_below(&random, 4)) {
                case 0:
                    words[random_below(&random, header)] = evil(&random, capacity);
                    break;
                case 1:
                    ring.header->head = evil(&random, capacity);
                    ring.header->tail = evil(&random, capacity);
                    break;
                case 2:
                    words[header + random_below(&random, 8 * 8)] = evil(&random, capacity);
                    break;
                default: {
                    struct shmq_slot *slot = shmq_slot_of(&ring, random_below(&random, capacity));
                    slot->word = evil(&random, capacity);
                    slot->length = (uint32_t)evil(&random, capacity);
                    slot->meta = (uint32_t)evil(&random, capacity);
                }
                }
            }
            uint64_t position, count;
            struct shmq_item item;
            const bool sure = random_below(&random, 2) == 0;
            enum shmq_result result = SHMQ_NOTHING;
            switch (random_below(&random, 9)) {
            case 0:
                count = 1 + random_below(&random, capacity);
                result = shmq_claim_put(&ring, &me, count, sure, &position);
                for (uint64_t i = 0; result == SHMQ_DONE && i < count; i++) {
                    memset(buffer, 7, ITEM_SIZE);
                    shmq_write(&ring, position + i, buffer, ITEM_SIZE, 1, (uint32_t)i);
                }
                if (result == SHMQ_DONE) {
                    result = shmq_publish(&ring, &me, position, count);
                }
                break;
            case 1:
                result = shmq_claim_get(&ring, &me, 1 + random_below(&random, capacity + 1), sure, &position, &count);
                for (uint64_t i = 0; result == SHMQ_DONE && i < count; i++) {
                    shmq_read(&ring, position + i, &item);
                    memcpy(buffer, item.data, item.length);
                    shmq_free_slot(&ring, position + i);
                }
                if (result == SHMQ_DONE) {
                    shmq_finish_get(&ring, &me, count);
                } else if (result == SHMQ_ORPHAN) {
                    shmq_rescue_get(&ring, position, buffer, &item);
                }
                break;
            case 2:
                if (shmq_find_orphan(&ring, &position)) {
                    shmq_rescue_get(&ring, position, buffer, &item);
                }
                break;
            case 3:
                shmq_is_empty(&ring);
                shmq_has_room(&ring);
                shmq_size(&ring);
                break;
            case 4:
                shmq_abandon(&ring, &me);
                break;
            case 5: {
                struct shmq_participant other;
                if (shmq_take_record(&ring, &other)) {
                    shmq_leave_record(&ring, &other);
                }
                break;
            }
            case 6:
                shmq_take_role(&ring, &ring.header->producer, me.name);
                shmq_owner_word(&ring, evil(&random, capacity));
                shmq_is_dead(&ring, evil(&random, capacity));
                break;
            case 7:
                shmq_try_acquire_lock(&ring, &me, &run.flag, &position);
                shmq_release_lock(&ring, &me, &run.flag);
                break;
            default:
                shmq_arm(&ring.header->items);
                shmq_wake(&ring, &ring.header->items, evil(&random, capacity));
                shmq_open_gate(&ring, shmq_shut_gate(&ring, 1));
            }
            corrupt += result == SHMQ_CORRUPT;
        }
        free(buffer);
        free(base);
    }
    printf("hostile memory: %llu segments, %u calls said so\n", (unsigned long long)rounds, corrupt);
    if (rounds > 100 && corrupt == 0) {
        fail("no call noticed anything", rounds, 0);
    }
}

int main(int argc, char **argv)
{
    static const uint64_t capacities[] = {1, 2, 3, 7};
    run.seed = argc > 1 ? strtoull(argv[1], NULL, 0) : (uint64_t)time(NULL);
    const double seconds = argc > 2 ? strtod(argv[2], NULL) : 0.5;
    const uint64_t segments = argc > 3 ? strtoull(argv[3], NULL, 0) : 2000;
    printf("seed %llu\n", (unsigned long long)run.seed);
    scribble(segments);
    for (unsigned i = 0; i < sizeof capacities / sizeof *capacities; i++) {
        for (unsigned spsc = 0; spsc < 2; spsc++) {
            one_run(capacities[i], spsc, false, seconds / 4);
            one_run(capacities[i], spsc, true, seconds * 3 / 4);
        }
    }
    return 0;
}
