/* What an actor of lease_explore.c does, and what has to hold at each of its steps. */

#ifndef SHMQ_LEASE_ACTOR_H
#define SHMQ_LEASE_ACTOR_H

#include "explore_actor.h"

#define INDEXES 10 /* of the items of one putter */
#define LETTER 8   /* index of the filler that is a dead letter at the start */

/* What is known of an item, beside the segment. */
static struct knowledge {
    unsigned handed; /* number of times */
    unsigned worker; /* 1 + the actor that has it; 0: none */
    bool ended;
} known[PROBE + 1][INDEXES];

/* What is known of the end of the queue. */
static struct {
    bool shut; /* a shutdown has returned */
    bool over; /* nothing is handed out any more */
} end;

static struct actor *actor_of(unsigned number)
{
    return number == ACTORS ? &survivor : &actors[number];
}

static struct knowledge *knowledge_of(const unsigned char *item)
{
    if (item[0] > PROBE || item[1] >= INDEXES) {
        fail("an item that nobody wrote");
    }
    return &known[item[0]][item[1]];
}

/* ---- at each step ---- */

static void check_words(const struct shmq_ring *ring)
{
    for (uint64_t i = 0; i < ring->capacity; i++) {
        const uint64_t word = shmq_slot_of(ring, i)->word;
        if ((word & SHMQ_STATE_MASK) != SHMQ_GIVEN) {
            continue;
        }
        const uint32_t index = (uint32_t)(word >> SHMQ_GIVEN_LEASE_SHIFT);
        if (index >= ring->leases || shmq_lease_of(ring, index)->holder == 0 ||
            shmq_given_word(shmq_lease_of(ring, index)->position, index) != word) {
            fail("a word names a lease slot that is not held or has another position");
        }
    }
}

static void check_item(const struct shmq_ring *ring, unsigned putter, unsigned index)
{
    unsigned leased = 0, waiting = 0, dead = 0;
    for (uint32_t i = 0; i < ring->leases; i++) {
        const unsigned char *item = shmq_lease_payload(ring, i);
        leased += shmq_has_leased_item(ring, i) && item[0] == putter && item[1] == index;
    }
    for (uint32_t i = 0; i < ring->dead; i++) {
        const uint64_t state = shmq_dead_state(shmq_dead_of(ring, i)->word);
        const unsigned char *item = shmq_dead_payload(ring, i);
        dead += state != SHMQ_DEAD_FREE && state != SHMQ_DEAD_BURYING && state != SHMQ_DEAD_GIVEN &&
                item[0] == putter && item[1] == index;
    }
    for (uint64_t i = 0; i < ring->capacity; i++) {
        const struct shmq_slot *slot = shmq_slot_of(ring, i);
        const uint64_t state = slot->word & SHMQ_STATE_MASK;
        const bool is_there = (state == SHMQ_FULL || state == SHMQ_GIVEN) && !shmq_is_more(ring, i);
        waiting += is_there && slot->payload[0] == putter && slot->payload[1] == index;
    }
    if (leased > 1) {
        fail("an item in two lease slots");
    }
    if (dead > 1 || dead + leased > 1) {
        fail("an item in a dead slot, and in another one or in a lease slot");
    }
    if (leased + waiting + dead == 0 && !shmq_is_stopped(ring)) {
        fail("an accepted item is nowhere");
    }
}

/* An actor that ends a lease has ended its item as soon as the count says so, even if it dies before it knows. */
static void note_ends(struct actor *a)
{
    for (uint64_t i = 0; i < a->holds; i++) {
        const struct shmq_lease *lease = shmq_lease_of(&a->ring, a->held[i].index);
        struct knowledge *what = knowledge_of(shmq_lease_payload(&a->ring, a->held[i].index));
        if (lease->holder == a->ring.owner && lease->count == 0 && what->worker == a->number + 1) {
            what->ended = true;
            what->worker = 0;
        }
    }
}

/* Why not all is ended, NULL if it is. A letter that is offered may be a letter still. */
static const char *why_not_quiet(const struct shmq_ring *ring)
{
    const uint64_t tail = shmq_unmarked(ring->header->tail);
    for (uint64_t i = 0; i < ring->capacity; i++) {
        const uint64_t word = shmq_slot_of(ring, i)->word;
        const uint64_t state = word & SHMQ_STATE_MASK;
        if (state == SHMQ_FULL || state == SHMQ_GIVEN || (state == SHMQ_FREE && shmq_position_of(word) < tail)) {
            return "an item is in the ring, and all was said to be ended";
        }
    }
    for (uint32_t i = 0; i < ring->dead; i++) {
        const uint64_t state = shmq_dead_state(shmq_dead_of(ring, i)->word);
        if (state == SHMQ_DEAD_PUT_BACK || state == SHMQ_DEAD_GIVEN) {
            return "an item was put back, and all was said to be ended";
        }
    }
    for (uint32_t i = 0; i < ring->leases; i++) {
        if (shmq_lease_of(ring, i)->count > 0 && shmq_has_leased_item(ring, i)) {
            return "an item is leased, and all was said to be ended";
        }
    }
    return NULL;
}

static void inspect(void)
{
    const struct shmq_ring *ring = &survivor.ring;
    for (unsigned i = 0; i < world.actors; i++) {
        actors[i].saw_quiet = actors[i].saw_quiet || (actors[i].joins && why_not_quiet(ring) == NULL);
    }
    for (uint32_t i = 0; i < ring->dead; i++) {
        const uint64_t word = shmq_dead_of(ring, i)->word;
        for (uint32_t index = 0; index < ring->leases; index++) {
            const struct shmq_lease *lease = shmq_lease_of(ring, index);
            if (shmq_names_lease(word, index) && (lease->holder == 0 || lease->link != i + 1)) {
                fail("a dead slot names a lease slot that is not held or does not know of it");
            }
        }
    }
    for (unsigned i = 0; i <= world.actors; i++) {
        note_ends(i < world.actors ? &actors[i] : &survivor);
    }
    check_words(ring);
    if (world.letters > 0 && !known[FILLER][LETTER].ended) {
        check_item(ring, FILLER, LETTER);
    }
    for (unsigned i = 0; i < world.filled; i++) {
        if (!known[FILLER][i].ended) {
            check_item(ring, FILLER, i);
        }
    }
    for (unsigned i = 0; i < world.actors; i++) {
        for (unsigned j = 0; is_put(actors[i].kind) && actors[i].fate == ACKNOWLEDGED && j < actors[i].count; j++) {
            if (!known[i][j].ended) {
                check_item(ring, i, j);
            }
        }
    }
}

/* ---- the end ---- */

/* Ask something without a step. */
static bool observe(bool (*what)(const struct shmq_ring *))
{
    struct actor *running = self;
    self = NULL;
    const bool answer = what(&survivor.ring);
    self = running;
    return answer;
}

static void check_quiet(const struct shmq_ring *ring)
{
    const char *why = why_not_quiet(ring);
    if (why != NULL) {
        fail(why);
    }
}

/* After an immediate shutdown a join returns though items are left, but not while a living actor has one. */
static void check_stopped(const struct shmq_ring *ring)
{
    for (uint32_t i = 0; i < ring->leases; i++) {
        const uint64_t holder = shmq_lease_of(ring, i)->holder;
        if (holder != 0 && life_is_alive(NULL, holder)) {
            fail("join returned after an immediate shutdown, and a living actor holds a lease slot");
        }
    }
    end.over = true;
}

/* ---- leasing ---- */

static void check_nothing_reserved(const struct actor *a)
{
    for (uint32_t i = 0; i < a->ring.leases; i++) {
        if (shmq_lease_of(&a->ring, i)->holder == a->ring.owner && shmq_lease_of(&a->ring, i)->count == 0) {
            fail("a lease slot without an item is held where it must not be");
        }
    }
}

static bool asks_whether_alive(void *context, uint64_t owner)
{
    check_nothing_reserved(context);
    return life_is_alive(NULL, owner);
}

static void hand_out(struct actor *a, const struct shmq_held *held)
{
    struct shmq_item item;
    struct actor *running = self;
    self = NULL;
    shmq_read_lease(&a->ring, held->index, &item);
    self = running;
    if (!is_whole(&item)) {
        fail("an item that nobody wrote");
    }
    struct knowledge *what = knowledge_of(item.data);
    if (end.over) {
        fail("an item was handed out after the end of the queue");
    }
    if (what->ended) {
        fail("an item was handed out after its end");
    }
    if (what->worker != 0 && !actor_of(what->worker - 1)->dead) {
        fail("an item was handed out although a living actor has it");
    }
    if (held->count <= what->handed || held->count > 1 + what->handed + world.deaths) {
        fail("a count that is not the number of deliveries");
    }
    if (segment_deliveries > 0 && held->count > segment_deliveries && a->ring.header->dead_letters_refused == 0) {
        fail("an item was delivered more often than it may be");
    }
    what->worker = a->number + 1;
    what->handed++;
    a->held[a->holds++] = *held;
    a->taken++;
}

static bool lease(struct actor *a, uint64_t most, bool sure)
{
    struct shmq_held held[4];
    uint64_t count = 0;
    const enum shmq_result found = checked(a, shmq_try_lease(&a->ring, &a->me, most, sure, held, &count));
    if (found == SHMQ_DONE) {
        for (uint64_t i = 0; i < count; i++) {
            hand_out(a, &held[i]);
        }
    }
    check_nothing_reserved(a);
    a->finds_the_end = found == SHMQ_SHUT_DOWN;
    if (found == SHMQ_SHUT_DOWN && a->holds == 0 && !observe(shmq_is_stopped)) {
        end.over = true;
        check_quiet(&a->ring);
    }
    return found == SHMQ_DONE;
}

static void end_leases(struct actor *a)
{
    for (uint64_t i = 0; i < a->holds; i++) {
        const struct shmq_held held = a->held[i];
        struct knowledge *what = knowledge_of(shmq_lease_payload(&a->ring, held.index));
        if (a->kind == RELEASE || a->kind == LAST) {
            what->worker = 0; /* from the first step on the next may have it */
            if (!shmq_give_back(&a->ring, &held, 0, a->kind == LAST)) {
                fail("a lease was lost");
            }
            if (!shmq_give_back(&a->ring, &held, 0, false)) {
                continue;
            }
            fail("a lease was ended twice");
        }
        if (!shmq_done(&a->ring, &held)) {
            fail("a lease was lost");
        }
        what->ended = true;
        what->worker = what->worker == a->number + 1 ? 0 : what->worker;
        if (shmq_done(&a->ring, &held)) {
            fail("a lease was ended twice");
        }
    }
    a->holds = 0;
}

/* ---- dead letters; the product does in Python what stands here ---- */

static bool move_letter(struct actor *a)
{
    for (uint32_t i = 0; i < a->ring.dead; i++) {
        struct shmq_dead *slot = shmq_dead_of(&a->ring, i);
        const uint64_t word = SHMQ_LOAD("M5", &slot->word, memory_order_acquire);
        if (shmq_dead_state(word) != SHMQ_DEAD_LETTER || (a->kind != DROP && observe(shmq_is_closed))) {
            continue;
        }
        struct knowledge *what = knowledge_of(shmq_dead_payload(&a->ring, i));
        const uint64_t next = shmq_next_dead_word(word, a->kind == DROP ? SHMQ_DEAD_FREE : SHMQ_DEAD_OFFERED, 0);
        if (!SHMQ_CAS("M5", &slot->word, word, next, memory_order_seq_cst, memory_order_relaxed)) {
            continue;
        }
        if (a->kind == DROP) {
            what->ended = true;
        } else {
            what->handed = 0;
            shmq_decide_offer(&a->ring, &slot->word, next);
        }
        return true;
    }
    return false;
}

/* ---- join ---- */

static bool join(struct actor *a)
{
    a->joins = true;
    a->saw_quiet = why_not_quiet(&a->ring) == NULL;
    const bool quiet = shmq_is_quiet(&a->ring);
    a->joins = false;
    if (quiet && observe(shmq_is_stopped)) {
        check_stopped(&a->ring);
    } else if (quiet && (a->ring.dead == 0 || !a->saw_quiet)) { /* without letters, [J5] is the last step */
        check_quiet(&a->ring);
    }
    return quiet;
}

/* ---- one actor ---- */

static bool attempt_one(struct actor *a, bool sure)
{
    if (is_put(a->kind)) {
        const bool is_late = end.shut || end.over;
        const bool done = put(a, a->number, 0, a->count, sure, true) == SHMQ_DONE;
        if (done && is_late) {
            fail("a put that began after the end was accepted");
        }
        return done;
    }
    if (a->kind == SHUT) {
        return true;
    }
    if (a->kind == PUT_BACK || a->kind == DROP) {
        move_letter(a);
        return true;
    }
    if (a->kind == STOP || a->kind == JOIN || a->kind == PARK_JOIN) {
        return join(a);
    }
    return lease(a, a->kind == LEASE_TWO ? 2 : 1, sure);
}

static void has_died(struct actor *a)
{
    note_ends(a);
}

/* Attempt until it is done, or the end was found; asleep in between, if the actor sleeps at all. */
static bool attempt_until(struct actor *a)
{
    const bool may_sleep = a->kind == PARK_LEASE || a->kind == PARK_JOIN || a->kind == BUNDLE;
    bool ok = attempt_one(a, false) || attempt_one(a, true);
    while (!ok && !a->finds_the_end && may_sleep) {
        struct shmq_wake_words *side = side_of(a);
        a->epoch = shmq_arm(side);
        ok = attempt_one(a, true);
        if (!ok && !a->finds_the_end) {
            step("sleep");
            a->sleeps = true;
            a->woken = atomic_load(&side->epoch) != a->epoch;
            if (_setjmp(a->here) == 0) {
                next();
            }
            a->sleeps = a->woken = false;
        }
    }
    return ok;
}

static void act(struct actor *a)
{
    if (a->kind == NEWCOMER && !shmq_take_record(&a->ring, &a->me)) {
        fail("no record for a newcomer");
    }
    if (a->kind == SHUT || a->kind == STOP) {
        shmq_shut(&a->ring, a->kind == STOP);
        end.shut = true;
    }
    a->fate = IN_DOUBT;
    const bool ok = attempt_until(a);
    if (ok && a->kind == BUNDLE && a->holds < a->ring.leases) { /* one that has all of them would wait for itself */
        attempt_until(a);
    }
    a->fate = ok ? ACKNOWLEDGED : NEVER;
    if (a->kind != KEEP) {
        end_leases(a);
    }
    if (a->kind == NEWCOMER) {
        shmq_leave_record(&a->ring, &a->me);
    }
}

#endif
