/* One operation of the ring on memory that may hold anything and change at any moment, for a model checker.

   Every load gives any value, every compare-and-swap succeeds or fails, whatever was stored: so this stands for all
   contents of a segment and all that other processes do to it, at once and between any two steps. The checker has to
   prove that nothing outside the segment and the caller's buffers is touched, and every access is aligned. That the
   retries of a broken queue end is seen to by SHMQ_ATTEMPTS; one retry is like another here, so two of them stand for
   all. Fewer records than a segment has stand for all likewise; `--unwind` says whether every loop was followed to its
   end.

   OPERATION is one of the functions below. The atomic operations are those of any_memory/stdatomic.h. */

#include <stdatomic.h>

#define SHMQ_BY_WORDS
#ifndef LARGE /* items may take several slots */
#define SHMQ_HAS_LARGE(ring) false
#endif
#define SHMQ_LOOKS 1 /* a second one touches what the first has touched, and any memory may have said so at once */
#include "participants.h"

unsigned nondet_uint(void);
int nondet_int(void);

/* Stand for parts that are proved by themselves: for the reason of shmq_no_room or shmq_no_item, and for
   shmq_wake_waiters. */
static enum shmq_result any_reason(void)
{
    const enum shmq_result reason = (enum shmq_result)nondet_uint();
    __ESBMC_assume(reason != SHMQ_DONE);
    return reason;
}

static void wake_some(const struct shmq_ring *ring, const struct shmq_wake_words *side)
{
    const struct shmq_header *header = ring->header;
    __ESBMC_assert(side == &header->items || side == &header->space || side == &header->idle, "a side of the queue");
}

#include "large_ring.h"
#include "looking.h"

#define SIZE (SHMQ_SLOTS_START + CAPACITY * SHMQ_STRIDE(ITEM_SIZE))

static _Alignas(SHMQ_LINE) unsigned char segment[SIZE];
#define MAX_ITEM_SIZE (CAPACITY * ITEM_SIZE - 1) /* where items may take several slots */

static unsigned char buffer[MAX_ITEM_SIZE > ITEM_SIZE ? MAX_ITEM_SIZE : ITEM_SIZE];
static struct shmq_ring ring;
static struct shmq_participant me;

void check_access(const volatile void *at, size_t size)
{
    const ptrdiff_t offset = (const volatile unsigned char *)at - segment;
    __ESBMC_assert(offset >= 0 && (size_t)offset + size <= SIZE, "access within the segment");
    __ESBMC_assert((size_t)offset % size == 0, "aligned access");
}

static bool is_alive(void *context, uint64_t owner)
{
    (void)context, (void)owner;
    return nondet_bool();
}

static int futex_wake(void *context, _Atomic uint64_t *word, int count)
{
    (void)context;
    check_access(word, SHMQ_WORD);
    check_access(shmq_low_half(word), SHMQ_WORD / 2);
    __ESBMC_assert(count >= 0, "as many sleepers as there can be");
    return nondet_int();
}

static bool ring_bell(void *context, uint64_t nonce, uint64_t name)
{
    (void)context, (void)nonce;
    const uint64_t number = name & SHMQ_NAME_INDEX_MASK;
    __ESBMC_assert(number >= 1 && number <= SHMQ_RECORDS, "a bell has a record");
    return nondet_bool();
}

static void check_item(const struct shmq_item *item)
{
    __ESBMC_assert(item->length <= ring.max_item_size, "an item is not longer than it can be");
    if (item->data == buffer) {
        return;
    }
    const ptrdiff_t offset = item->data - segment;
    const size_t length = item->length < ITEM_SIZE ? item->length : ITEM_SIZE;
    __ESBMC_assert(offset >= 0 && (size_t)offset + length <= SIZE, "an item lies within the segment");
}

static void claim_put(void)
{
    const uint64_t count = nondet_ulong();
    uint64_t position;
    __ESBMC_assume(count >= 1 && count <= CAPACITY);
    shmq_claim_put(&ring, &me, count, nondet_bool(), &position);
}

static void no_room(void)
{
    const enum shmq_result reason =
        shmq_no_room(&ring, &me, nondet_ulong(), nondet_ulong(), nondet_ulong(), nondet_bool());
    __ESBMC_assert(reason != SHMQ_DONE, "no room is no claim");
}

/* At any position, so at the one that a claim has got; write_item likewise. */
static void publish(void)
{
    const uint64_t count = nondet_ulong();
    __ESBMC_assume(count >= 1 && count <= CAPACITY);
    shmq_publish(&ring, &me, nondet_ulong(), count, count);
}

static void write_item(void)
{
    const uint32_t length = nondet_uint();
    __ESBMC_assume(length <= ITEM_SIZE);
    shmq_write(&ring, nondet_ulong(), buffer, length, nondet_uint(), nondet_uint());
}

static void get(void)
{
    uint64_t position, count;
    struct shmq_item item;
    const uint64_t limit = nondet_ulong();
    __ESBMC_assume(limit >= 1);
    if (shmq_claim_get(&ring, &me, limit, nondet_bool(), &position, &count) == SHMQ_DONE) {
        __ESBMC_assert(count >= 1 && count <= CAPACITY && count <= limit, "a get claims what it may");
        for (uint64_t i = 0; i < count; i++) {
            shmq_read(&ring, position + i, &item);
            check_item(&item);
            shmq_free_slot(&ring, position + i);
        }
        shmq_finish_get(&ring, &me, count);
    }
}

static void no_item(void)
{
    const enum shmq_result reason = shmq_no_item(&ring, &me, nondet_ulong(), nondet_ulong(), nondet_bool());
    __ESBMC_assert(reason != SHMQ_DONE, "no item is no claim");
}

/* What a get that finds nothing does about the dead: this, and then the next. */
static void find_orphan(void)
{
    uint64_t position;
    shmq_find_orphan(&ring, &position);
}

static void shut(void)
{
    shmq_shut(&ring, nondet_bool());
}

/* What a get that finds the end of a closed queue asks; in the proof of no_item it has any answer. */
static void at_the_end(void)
{
    shmq_at_the_end(&ring);
}

static void adopt(void)
{
    struct shmq_item item;
    if (shmq_rescue_get(&ring, nondet_ulong(), buffer, ring.max_item_size, &item)) {
        check_item(&item);
    }
}

/* Where items may take several slots: what a put writes, the claim of a get, what a get takes of that, and adopting. What
   is done at a claimed position is proved at any. */
static void write_large(void)
{
    const uint32_t length = nondet_uint();
    shmq_open_large(&ring, MAX_ITEM_SIZE);
    __ESBMC_assume(length <= MAX_ITEM_SIZE);
    shmq_write_large(&ring, nondet_ulong(), buffer, length, nondet_uint(), nondet_uint());
}

static void claim_large(void)
{
    uint64_t position, count;
    const uint64_t limit = nondet_ulong();
    __ESBMC_assume(limit >= 1);
    shmq_open_large(&ring, MAX_ITEM_SIZE);
    if (shmq_claim_large(&ring, &me, limit, nondet_bool(), &position, &count) == SHMQ_DONE) {
        __ESBMC_assert(count >= 1 && count <= CAPACITY, "a get claims what it may");
    }
}

static void take_large(void)
{
    struct shmq_item item;
    const uint64_t position = nondet_ulong(), most = nondet_ulong();
    __ESBMC_assume(most >= 1 && most <= CAPACITY);
    shmq_open_large(&ring, MAX_ITEM_SIZE);
    const uint64_t slots = shmq_measure(&ring, position, most, &item);
    __ESBMC_assert(slots >= 1 && slots <= most, "an item has no more slots than were claimed");
    check_item(&item);
    shmq_copy_out(&ring, position, item.length, buffer, false);
    const uint32_t at = nondet_uint(), length = nondet_uint();
    __ESBMC_assume(at <= item.length && length <= item.length - at);
    shmq_copy_part(&ring, position, at, length, buffer);
    shmq_free_large(&ring, position, slots);
}

static void adopt_large(void)
{
    shmq_open_large(&ring, MAX_ITEM_SIZE);
    adopt();
}

static void bury(void)
{
    shmq_rescue_put(&ring, nondet_ulong());
}

static void uncovered(void)
{
    shmq_end_of_uncovered(&ring, nondet_ulong(), nondet_ulong());
}

static void look(void)
{
    __ESBMC_assert(shmq_distance(&ring) <= CAPACITY, "a size is not more than the capacity");
    shmq_has_room(&ring);
}

/* Of this, and of find_orphan, shmq_is_empty is a loop, and shmq_size asks that. */
static void look_at_slot(void)
{
    shmq_holds_nothing(&ring, nondet_ulong(), nondet_ulong(), nondet_ulong());
}

static void wake(void)
{
    struct shmq_wake_words *sides[] = {&ring.header->items, &ring.header->space, &ring.header->idle};
    const unsigned side = nondet_uint();
    __ESBMC_assume(side < 3);
    shmq_wake_waiters(&ring, sides[side], nondet_ulong(), nondet_ulong());
}

static void wait(void)
{
    shmq_arm(&ring.header->items);
    shmq_wake_all(&ring, &ring.header->space);
}

static void take_record(void)
{
    struct shmq_participant taken;
    if (shmq_take_record(&ring, &taken)) {
        __ESBMC_assert(taken.index < SHMQ_RECORDS && taken.record == &ring.records[taken.index], "a record of the table");
        shmq_leave_record(&ring, &taken);
    }
}

static void abandon(void)
{
    shmq_abandon(&ring, &me);
}

static void take_role(void)
{
    _Atomic uint64_t *role = shmq_role_of(&ring, nondet_bool() ? SHMQ_PUT : SHMQ_GET);
    shmq_owner_word(&ring, shmq_take_role(&ring, role, me.name));
    shmq_leave_role(role, me.name);
}

static void lock(void)
{
    _Atomic int32_t *flag = (_Atomic int32_t *)(void *)segment; /* any place will do: it lies in another segment */
    uint64_t holder;
    shmq_try_acquire_lock(&ring, &me, flag, &holder);
    shmq_lock_has_no_live_owner(&ring);
    uint64_t closed = nondet_ulong(), closed_at = nondet_ulong();
    shmq_shut_gate(&ring, nondet_ulong(), &closed, &closed_at);
    shmq_open_gate(&ring, closed);
    shmq_release_lock(&ring, &me, flag);
}

int main(void)
{
    const struct shmq_calls calls = {is_alive, futex_wake, ring_bell, NULL, NULL, NULL};
    shmq_open(&ring, segment, CAPACITY, ITEM_SIZE, nondet_bool(), nondet_ulong(), calls);
    ring.fresh_below = nondet_bool() ? CAPACITY : 0;
    me.index = nondet_uint();
    __ESBMC_assume(me.index < SHMQ_RECORDS);
    me.record = &ring.records[me.index];
    me.name = nondet_ulong();
    OPERATION();
    return 0;
}
