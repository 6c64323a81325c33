/* What actors of both explorers do, and what is asked from outside. */

#ifndef SHMQ_EXPLORE_ACTOR_H
#define SHMQ_EXPLORE_ACTOR_H

#include "explore_world.h"

/* ---- kinds ---- */

static bool is_put(enum kind kind)
{
    return kind < GET || kind == LARGE || kind == MIXED || kind == RESERVE;
}

/* The number of the items of a put. */
static unsigned count_of(enum kind kind)
{
    return kind == TRIPLE ? 3 : kind == BATCH || kind == LOCKED || kind == QUIT_PUT || kind == MIXED ? 2 : 1;
}

/* Whether an item of a put takes two slots. */
static bool takes_two(enum kind kind, unsigned index)
{
    return kind == LARGE || (kind == MIXED && index == 1);
}

static unsigned slots_of(enum kind kind)
{
    return count_of(kind) + (kind == LARGE || kind == MIXED);
}

/* The number of slots that were filled before. */
static uint64_t filled_slots(void)
{
    return world.filled + (world.large && world.filled > 0);
}

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
    return is_put(a->kind) ? &header->space : a->kind == PARK_JOIN ? &header->idle : &header->items;
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

enum { SHORT = 3, LONG = ITEM_SIZE + SHORT }; /* bytes of an item; each slot of it begins with the same three */

/* Whether an item is whole, and was ever put. */
static bool is_whole(const struct shmq_item *item)
{
    return item->tag == 5 && (item->length == SHORT ||
                              (item->length == LONG && memcmp(item->data, item->data + ITEM_SIZE, SHORT) == 0));
}

static void write_in_place(struct shmq_slot *slot, unsigned putter)
{
    shmq_write_head(slot, SHORT, 5, 0);
    _Atomic uint64_t *word = (_Atomic uint64_t *)(void *)slot->payload;
    const unsigned char whole[SHMQ_WORD] = {(unsigned char)putter, 0, 1}, half[SHMQ_WORD] = {(unsigned char)putter, 77, 0};
    for (unsigned i = 0; i < 2; i++) { /* an item that is seen between the two is none */
        step("block");
        uint64_t bytes;
        memcpy(&bytes, i == 0 ? half : whole, sizeof bytes);
        atomic_store_explicit(word, bytes, memory_order_relaxed);
    }
    step("block");
}

static enum shmq_result put(struct actor *a, unsigned putter, unsigned first, unsigned count, bool sure, bool publish)
{
    uint64_t position, slots = 0;
    for (unsigned i = 0; i < count; i++) {
        slots += takes_two(a->kind, i) ? 2 : 1;
    }
    if (world.spsc &&
        shmq_take_role(&a->ring, &a->ring.header->producer, a->me.name) != a->me.name) {
        return SHMQ_NOTHING;
    }
    const enum shmq_result found = checked(a, shmq_claim_put(&a->ring, &a->me, slots, sure, &position));
    if (found != SHMQ_DONE) {
        return found;
    }
    if (a->kind == LOCKED) {
        shmq_release_lock(&a->ring, &a->me, &world.flag);
    }
    if (a->kind == RESERVE) {
        write_in_place(shmq_slot_of(&a->ring, position), putter);
        count = 0;
    }
    for (uint64_t i = 0, at = 0; i < count; i++) {
        unsigned char item[LONG] = {(unsigned char)putter, (unsigned char)(first + i), (unsigned char)count};
        memcpy(item + ITEM_SIZE, item, SHORT);
        const uint32_t length = takes_two(a->kind, (unsigned)i) ? LONG : SHORT;
        if (length == LONG && putter % 2 != 0) { /* as an item with buffers */
            const struct shmq_piece pieces[] = {
                {item, 0, ITEM_SIZE}, {item + ITEM_SIZE, ITEM_SIZE, SHORT}, {NULL, 0, 0}};
            at += shmq_write_large_pieces(&a->ring, position + at, pieces, length, 5, (uint32_t)at);
        } else {
            at += shmq_write_large(&a->ring, position + at, item, length, 5, (uint32_t)at);
        }
    }
    if (publish) {
        checked(a, shmq_publish(&a->ring, &a->me, position, slots, a->kind == RESERVE ? 1 : count));
    }
    return SHMQ_DONE;
}


#endif
