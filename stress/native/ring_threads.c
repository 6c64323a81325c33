/* Two operations of the ring in two threads, for a model checker: in every order of their accesses to memory, up to a
   number of switches, sequentially consistent. The first may die before its step DIES_AT.

   A survivor then takes what is left. What was acknowledged comes, no item comes twice, a batch comes as a whole or
   not at all, no live claim is buried, no corrupt word is met; the checker looks after bounds and alignment. */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#undef __builtin_offsetof /* the checker's own is no constant, and layout.h asserts with it */

static void step(void);
#define SHMQ_STEP(label) step()
#define SHMQ_LOOKS 1 /* a second look is the same as a first one that comes later */
#define SHMQ_HAS_LARGE(ring) false
#define SHMQ_HAS_WISH(wish) false
#include "ring.h"

#define ITEM_SIZE 8
#define ITEMS 2

unsigned __ESBMC_get_thread_id(void);

enum who { SURVIVOR, FIRST, SECOND, ACTORS }; /* the numbers that the checker gives to the threads */

struct whole_slot {
    _Alignas(SHMQ_LINE) _Atomic uint64_t word;
    _Atomic uint32_t length, meta;
    _Atomic uint64_t payload[(SHMQ_LINE - sizeof(struct shmq_slot)) / SHMQ_WORD];
};

static struct {
    struct shmq_header header;
    struct shmq_record records[SHMQ_RECORDS];
    struct whole_slot slots[CAPACITY];
} segment;

static struct shmq_ring rings[ACTORS];
static struct shmq_participant actors[ACTORS];
static bool is_dead[ACTORS], is_acknowledged;
static unsigned steps, ended, taken[ITEMS];

static void step(void)
{
    __ESBMC_atomic_begin();
    const bool dies = __ESBMC_get_thread_id() == FIRST && steps++ == DIES_AT;
    if (dies) {
        is_dead[FIRST] = true;
        ended++;
    }
    __ESBMC_atomic_end();
    if (dies) {
        pthread_exit(NULL);
    }
}

static void end(void)
{
    __ESBMC_atomic_begin();
    ended++;
    __ESBMC_atomic_end();
}

static bool is_alive(void *context, uint64_t owner)
{
    (void)context;
    return !is_dead[owner - 1];
}

static int futex_wake(void *context, _Atomic uint64_t *word, int count)
{
    (void)context, (void)word, (void)count;
    return 0;
}

static bool ring_bell(void *context, uint64_t nonce, uint64_t name)
{
    (void)context, (void)nonce, (void)name;
    return false;
}

static void take(uint64_t value)
{
    __ESBMC_assert(value < ITEMS, "an item is whole");
    __ESBMC_assert(taken[value]++ == 0, "no item comes twice");
}

static void put(enum who who, uint64_t count)
{
    uint64_t position;
    if (shmq_claim_put(&rings[who], &actors[who], count, false, &position) == SHMQ_DONE) {
        for (uint64_t i = 0; i < count; i++) {
            shmq_write(&rings[who], position + i, &i, SHMQ_WORD, 0, (uint32_t)i);
        }
        is_acknowledged = shmq_publish(&rings[who], &actors[who], position, count, count) == SHMQ_DONE;
        __ESBMC_assert(is_acknowledged, "no live claim is buried");
    }
}

static bool get(enum who who, uint64_t limit)
{
    uint64_t position, count, value;
    struct shmq_item item;
    const enum shmq_result found = shmq_claim_get(&rings[who], &actors[who], limit, true, &position, &count);
    __ESBMC_assert(found != SHMQ_CORRUPT, "no corrupt word");
    if (found == SHMQ_DONE) {
        for (uint64_t i = 0; i < count; i++) {
            shmq_read(&rings[who], position + i, &item);
            value = *(const uint64_t *)(const void *)item.data;
            if (shmq_free_slot(&rings[who], position + i)) {
                take(value);
            }
        }
        shmq_finish_get(&rings[who], &actors[who], count);
        return true;
    }
    if ((found == SHMQ_ORPHAN || shmq_find_orphan(&rings[who], &position)) &&
        shmq_rescue_get(&rings[who], position, &value, sizeof value, &item)) {
        take(value);
        return true;
    }
    return false;
}

static void *first(void *nothing)
{
    put(FIRST, ITEMS);
    end();
    return nothing;
}

static void *second(void *nothing)
{
    get(SECOND, ITEMS);
    end();
    return nothing;
}

int main(void)
{
    segment.header.records_used = SHMQ_RECORDS;
    for (unsigned i = 0; i < CAPACITY; i++) {
        segment.slots[i].word = i << SHMQ_STATE_BITS | SHMQ_FREE;
    }
    for (unsigned i = 0; i < ACTORS; i++) {
        shmq_open(&rings[i], &segment, CAPACITY, ITEM_SIZE, false, i + 1,
                  (struct shmq_calls){is_alive, futex_wake, ring_bell, NULL, NULL, NULL});
        actors[i].record = &segment.records[i];
        actors[i].index = i;
        segment.records[i].owner = i + 1;
    }
    pthread_t threads[2];
    pthread_create(&threads[0], NULL, first, NULL);
    pthread_create(&threads[1], NULL, second, NULL);
    __ESBMC_assume(ended == 2); /* pthread_join would wait for the dead */
    while (get(SURVIVOR, 1)) {
    }
    __ESBMC_assert(!is_acknowledged || taken[0] == 1, "what was acknowledged comes");
    __ESBMC_assert(taken[0] == taken[1], "a batch comes as a whole or not at all");
#ifdef REACHES_THE_END
    __ESBMC_assert(false, "reached");
#endif
    return 0;
}
