/* Threads put and get, alone and in batches, and die at random steps; afterwards every item is accounted for.

   Each thread stands for a process: it has an owner word of its own. To die, it jumps out of its operation at a step and
   never comes back to it; its owner word is dead from then on, and the thread goes on under another one. Whatever it
   had announced, claimed or written is left to the others.

   What is checked: an item whose put returned comes exactly once; those of a put that died come all, once, or not at
   all; each is whole, byte by byte; the items of a batch lie side by side; those of one producer come in the order of
   their puts, but for what was adopted. Built with a sanitizer, this also finds races of the payload. */

#define _GNU_SOURCE
#include "stress_scribble.h"
#include "stress_worker.h"

/* ---- the verdict ---- */

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

/* ---- a run ---- */

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
