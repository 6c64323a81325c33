/* Two to four operations in every order of their steps, up to a number of switches, with deaths at every step.

   Each operation runs on a stack of its own; SHMQ_STEP decides before each atomic step whether it goes on, gives way to
   another, or dies there. All such choices are gone through, depth first, by running everything again from the start.
   There is one thread, so this sees every order of steps and nothing of weak memory.

   After each run a survivor takes what is left, and then: what was put comes once; what a dead put began comes as a
   whole or not at all; the queue is empty exactly if that finds nothing, and has room exactly if a put finds it; it
   takes and gives its capacity, lap after lap; whoever sleeps has nothing to wake up for; the lock can be had. */

#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <stdnoreturn.h>
#include <string.h>
#include <time.h>
#include <ucontext.h>

static void step(const char *label);
#define SHMQ_STEP(label) step(label)
#define SHMQ_LOOKS 2 /* a third one is as the second, and 32 take seven times as long */
#include "segment.h"

#define ITEM_SIZE 8
#define ACTORS 4
#define STACK 65536
#define MOST_STEPS 20000
#define FILLER ACTORS     /* who put what was there before */
#define PROBE (ACTORS + 1) /* who put to see if there is room */
#define GIVEN_UP 9         /* index of an item that is never published */

enum kind {
    PUT,     /* a single put */
    BATCH,   /* two items, without the lock */
    TRIPLE,  /* three items */
    LOCKED,  /* two items, with the lock */
    NEWCOMER, /* takes a record, puts, leaves the record */
    QUIT_PUT, /* a batch that is abandoned between claim and publication */
    REPENT,   /* a put that is abandoned, and then another one */
    PARK_PUT, /* a put that sleeps when there is no room */
    GET,
    GET_TWO,
    GET_ALL,
    QUIT_GET, /* gets two, frees one, abandons the other */
    PARK_GET, /* a get that sleeps when there is nothing */
    GHOST_GET, /* a get of two that everybody else takes for dead */
    KINDS
};

static const char *const names[KINDS] = {"put",      "batch",    "triple",    "locked", "newcomer",
                                         "quit-put", "repent",   "park-put",  "get",    "get-two",
                                         "get-all",  "quit-get", "park-get",  "ghost-get"};

struct actor {
    unsigned number;
    enum kind kind;
    bool started, done, dead;
    struct shmq_ring ring;
    struct shmq_participant me;
    jmp_buf start, here, death;
    ucontext_t context;
    unsigned char stack[STACK];

    unsigned count; /* of a put */
    enum { NEVER, ACKNOWLEDGED, IN_DOUBT } fate;
    bool refused_by_lock, is_marked;
    unsigned taken; /* of a get */
    struct shmq_item item;
    uint64_t adopting;
    unsigned char buffer[ITEM_SIZE];
    bool sleeps, woken;
    uint64_t epoch;
};

struct note {
    unsigned getter, putter, index;
    uint64_t position;
    bool adopted;
};

static struct {
    uint64_t capacity, filled, laps;
    bool spsc;
    unsigned actors, most_switches, most_deaths;

    unsigned switches, deaths;
    unsigned depth, recorded;
    unsigned char taken[MOST_STEPS], options[MOST_STEPS];
    struct {
        unsigned char actor;
        const char *label;
    } trace[MOST_STEPS];
    unsigned steps;
    unsigned long long executions, total;

    struct note notes[256];
    unsigned noted;
    _Atomic int32_t flag;
    void *base;
} world;

static struct actor actors[ACTORS];
static struct actor survivor;
static struct actor *self;
static jmp_buf over;
static ucontext_t creator;

static noreturn void fail(const char *what)
{
    self = NULL;
    fprintf(stderr, "FAILED: %s; mode %s, capacity %llu, filled %llu, laps %llu:", what, world.spsc ? "spsc" : "mpmc",
            (unsigned long long)world.capacity, (unsigned long long)world.filled, (unsigned long long)world.laps);
    for (unsigned i = 0; i < world.actors; i++) {
        fprintf(stderr, " %s%s", names[actors[i].kind], actors[i].dead ? " (dies)" : "");
    }
    for (unsigned i = 0; i < world.steps; i++) {
        if (i == 0 || world.trace[i].actor != world.trace[i - 1].actor) {
            fprintf(stderr, "\n  %c:", 'A' + world.trace[i].actor);
        }
        fprintf(stderr, " %s", world.trace[i].label);
    }
    fprintf(stderr, "\n");
    for (unsigned i = 0; i < world.noted; i++) {
        const struct note *n = &world.notes[i];
        fprintf(stderr, "  %u got %u.%u at position %llu%s\n", n->getter, n->putter, n->index,
                (unsigned long long)n->position, n->adopted ? ", adopted" : "");
    }
    fflush(NULL);
    _Exit(1);
}

/* ---- schedules ---- */

static unsigned choose(unsigned options)
{
    if (options == 1) {
        return 0;
    }
    if (world.depth == world.recorded) {
        if (world.recorded == MOST_STEPS) {
            fail("too many choices");
        }
        world.taken[world.recorded] = 0;
        world.options[world.recorded++] = (unsigned char)options;
    }
    if (world.options[world.depth] != options) {
        fail("a run that is not like the one before");
    }
    return world.taken[world.depth++];
}

/* Go on to the next schedule; false: all were gone through. */
static bool turn_back(void)
{
    while (world.recorded > 0 && world.taken[world.recorded - 1] + 1 == world.options[world.recorded - 1]) {
        world.recorded--;
    }
    if (world.recorded == 0) {
        return false;
    }
    world.taken[world.recorded - 1]++;
    return true;
}

static noreturn void resume(struct actor *a)
{
    self = a;
    if (!a->started) {
        a->started = true;
        _longjmp(a->start, 1);
    }
    _longjmp(a->here, 1);
}

static bool may_run(const struct actor *a, const struct actor *but)
{
    return a != but && !a->done && !(a->sleeps && !a->woken);
}

static struct actor *pick(const struct actor *but, unsigned which)
{
    for (unsigned i = 0; i < world.actors; i++) {
        if (may_run(&actors[i], but) && which-- == 0) {
            return &actors[i];
        }
    }
    return NULL;
}

static unsigned waiting(const struct actor *but)
{
    unsigned count = 0;
    for (unsigned i = 0; i < world.actors; i++) {
        count += may_run(&actors[i], but);
    }
    return count;
}

static void step(const char *label)
{
    struct actor *a = self;
    if (a == NULL) {
        return;
    }
    const unsigned others = world.switches < world.most_switches ? waiting(a) : 0;
    const bool may_die = world.deaths < world.most_deaths;
    const unsigned choice = choose(1 + others + may_die);
    if (choice > others) {
        world.deaths++;
        _longjmp(a->death, 1);
    }
    if (choice > 0) {
        world.switches++;
        if (_setjmp(a->here) == 0) {
            resume(pick(a, choice - 1));
        }
    }
    if (world.steps == MOST_STEPS) {
        fail("somebody goes round for ever");
    }
    world.trace[world.steps].actor = (unsigned char)a->number;
    world.trace[world.steps++].label = label;
}

/* Let another one run, because this one has ended or sleeps; when nobody is left, the run is over. */
static noreturn void next(void)
{
    self = NULL;
    const unsigned others = waiting(NULL);
    if (others == 0) {
        _longjmp(over, 1);
    }
    resume(pick(NULL, choose(others)));
}

static void act(struct actor *a);
static void note(struct actor *a, uint64_t position, const struct shmq_item *item, bool adopted);

static noreturn void live(void)
{
    struct actor *a = self;
    if (_setjmp(a->start) == 0) {
        swapcontext(&a->context, &creator); /* created; from now on by jumps */
    }
    a = self;
    if (_setjmp(a->death) == 0) {
        act(a);
    } else {
        a = self;
        a->dead = true;
        if (a->item.mine) { /* dead before it came back with the item that was decided to be its */
            a->item.mine = false;
            note(a, a->adopting, &a->item, true);
        }
        life_ends(a->ring.owner);
    }
    a = self;
    a->done = true;
    next();
}

static void create(struct actor *a)
{
    getcontext(&a->context);
    a->context.uc_stack.ss_sp = a->stack;
    a->context.uc_stack.ss_size = STACK;
    a->context.uc_link = NULL;
    self = a;
    makecontext(&a->context, live, 0);
    swapcontext(&creator, &a->context);
    self = NULL;
}

/* ---- what is asked from outside ---- */

static bool ring_bell(void *context, uint64_t nonce, uint64_t name)
{
    (void)context, (void)nonce, (void)name;
    return false;
}

static int wake_sleepers(void *context, _Atomic uint64_t *word, int count)
{
    (void)context;
    int woken = 0;
    for (unsigned i = 0; i < world.actors && woken < count; i++) {
        struct actor *a = &actors[i];
        const bool gets = word == &a->ring.header->items.epoch;
        if (a->sleeps && !a->woken && (gets || word == &a->ring.header->space.epoch) && gets == (a->kind >= GET)) {
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

static void note(struct actor *a, uint64_t position, const struct shmq_item *item, bool adopted)
{
    if (item->length != 3 || item->tag != 5 || world.noted == sizeof world.notes / sizeof *world.notes) {
        fail("an item that nobody wrote");
    }
    const struct note n = {a->number, item->data[0], item->data[1], position, adopted};
    world.notes[world.noted++] = n;
    a->taken++;
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

static bool get(struct actor *a, uint64_t limit, bool sure)
{
    uint64_t position, count;
    if (world.spsc &&
        shmq_take_role(&a->ring, &a->ring.header->consumer, a->me.name) != a->me.name) {
        return false;
    }
    const enum shmq_result found = checked(a, shmq_claim_get(&a->ring, &a->me, limit, sure, &position, &count));
    if (found == SHMQ_DONE) {
        unsigned most = (unsigned)count;
        if (a->kind == QUIT_GET) {
            most = most == 2 ? 1 : 0;
        }
        for (unsigned i = 0; i < most; i++) {
            struct shmq_item item;
            shmq_read(&a->ring, position + i, &item);
            memcpy(a->buffer, item.data, item.length);
            item.data = a->buffer;
            if (shmq_free_slot(&a->ring, position + i)) {
                note(a, position + i, &item, false);
            }
        }
        if (a->kind == QUIT_GET) {
            if (shmq_abandon(&a->ring, &a->me)) {
                a->kind = GET; /* nothing is left of the claim: others have it already */
            } else if (world.spsc) {
                shmq_leave_role(&a->ring.header->consumer, a->me.name);
            }
        } else {
            shmq_finish_get(&a->ring, &a->me, count);
        }
        return true;
    }
    if (found != SHMQ_ORPHAN && !(sure && shmq_find_orphan(&a->ring, &position))) {
        return false;
    }
    a->adopting = position;
    if (shmq_rescue_get(&a->ring, position, a->buffer, &a->item)) {
        a->item.mine = false;
        note(a, position, &a->item, true);
        return true;
    }
    return false;
}

static bool is_put(enum kind kind)
{
    return kind < GET;
}

static unsigned count_of(enum kind kind)
{
    return kind == TRIPLE ? 3 : kind == BATCH || kind == LOCKED || kind == QUIT_PUT ? 2 : 1;
}

static bool attempt(struct actor *a, bool sure)
{
    if (is_put(a->kind)) {
        return put(a, a->number, 0, a->count, sure, a->kind != QUIT_PUT) == SHMQ_DONE;
    }
    return get(a, a->kind == GET || a->kind == PARK_GET ? 1 : a->kind == GET_ALL ? world.capacity : 2, sure);
}

static void act(struct actor *a)
{
    uint64_t holder;
    if (a->kind == NEWCOMER && !shmq_take_record(&a->ring, &a->me)) {
        fail("no record for a newcomer");
    }
    if (a->kind == LOCKED && !shmq_try_acquire_lock(&a->ring, &a->me, &world.flag, &holder)) {
        a->refused_by_lock = true;
        return;
    }
    if (a->kind == REPENT && put(a, a->number, GIVEN_UP, 1, true, false) == SHMQ_DONE &&
        !shmq_abandon(&a->ring, &a->me)) {
        a->is_marked = true;
        return;
    }
    a->fate = IN_DOUBT;
    bool ok = attempt(a, false) || attempt(a, true);
    while (!ok && (a->kind == PARK_GET || a->kind == PARK_PUT)) {
        struct shmq_wake_words *side = a->kind == PARK_GET ? &a->ring.header->items : &a->ring.header->space;
        a->epoch = shmq_arm(side);
        ok = attempt(a, true);
        if (!ok) {
            step("sleep");
            a->sleeps = true;
            a->woken = atomic_load(&side->epoch) != a->epoch;
            if (_setjmp(a->here) == 0) {
                next();
            }
            a->sleeps = a->woken = false;
        }
    }
    if (a->kind == LOCKED && !ok) {
        shmq_release_lock(&a->ring, &a->me, &world.flag);
    }
    if (a->kind == QUIT_PUT) {
        if (ok) {
            shmq_abandon(&a->ring, &a->me);
        }
        ok = false;
    }
    a->fate = ok ? ACKNOWLEDGED : NEVER;
    if (a->kind == NEWCOMER) {
        shmq_leave_record(&a->ring, &a->me);
    }
}

/* ---- one run ---- */

static void be_born(struct actor *a, unsigned number)
{
    const struct shmq_calls calls = {life_is_alive, wake_sleepers, ring_bell, NULL};
    shmq_open(&a->ring, world.base, world.capacity, ITEM_SIZE, world.spsc, life_begins(), calls);
    a->number = number;
    a->started = a->done = a->dead = a->refused_by_lock = a->is_marked = a->sleeps = a->woken = false;
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
        if (put(&survivor, FILLER, i, 1, false, true) != SHMQ_DONE) {
            fail("a new queue does not fill");
        }
    }
    shmq_leave_role(&survivor.ring.header->producer, survivor.me.name);
    shmq_leave_role(&survivor.ring.header->consumer, survivor.me.name);
    if (world.laps > 0) { /* somebody waited, and went away */
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
    uint64_t wanted = 0, offered = world.filled;
    bool quits = false;
    for (unsigned i = 0; i < world.actors; i++) {
        if (world.spsc && !actors[i].dead) { /* its handle is closed */
            shmq_leave_role(&actors[i].ring.header->producer, actors[i].me.name);
            shmq_leave_role(&actors[i].ring.header->consumer, actors[i].me.name);
        }
        quits = quits || kinds[i] == QUIT_GET || kinds[i] == QUIT_PUT || kinds[i] == REPENT || kinds[i] == GHOST_GET;
        wanted += is_put(kinds[i]) ? 0 : kinds[i] == GET || kinds[i] == PARK_GET ? 1 : kinds[i] == GET_ALL ? 3 : 2;
        offered += is_put(kinds[i]) ? actors[i].count : 0;
    }

    /* Whoever still sleeps must have no reason to get up. */
    for (unsigned i = 0; i < world.actors && world.deaths == 0 && !quits && !world.spsc; i++) {
        const struct actor *a = &actors[i];
        if (a->sleeps && a->kind == PARK_PUT && shmq_has_room(&a->ring)) {
            fail("a put sleeps beside a free slot");
        }
        if (a->sleeps && a->kind == PARK_GET) {
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
            if (a->kind == GET_ALL && !a->dead) { /* who takes the first of a batch takes it whole */
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
            if (!is_put(a->kind) && wanted <= world.filled && a->taken == 0) {
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

/* Set by Ctrl-C, which ends a long exploration early, with the count of what was gone through. */
static volatile sig_atomic_t interrupted;

static void interrupt(int number)
{
    interrupted = number;
}

static void report(const char *what)
{
    printf("%-44s %10llu runs\n", what, world.executions);
    fflush(stdout);
    world.total += world.executions;
    world.executions = 0;
}

static void explore(const enum kind *kinds)
{
    world.recorded = 0;
    do {
        if (interrupted) {
            report("until it was interrupted");
            printf("%llu runs, every one as it should be, and not all\n", world.total);
            exit(128 + interrupted);
        }
        set_up(kinds);
        if (_setjmp(over) == 0) {
            resume(pick(NULL, choose(world.actors)));
        }
        judge(kinds);
        world.executions++;
        for (unsigned i = 0; i < world.actors; i++) {
            life_ends(actors[i].ring.owner);
        }
    } while (turn_back());
}

static bool fits(const enum kind *kinds)
{
    unsigned most = 1;
    bool has_ghost = false, has_newcomer = false;
    for (unsigned i = 0; i < world.actors; i++) {
        most = count_of(kinds[i]) > most ? count_of(kinds[i]) : most;
        has_ghost = has_ghost || kinds[i] == GHOST_GET;
        has_newcomer = has_newcomer || kinds[i] == NEWCOMER;
    }
    return most <= world.capacity && !(has_ghost && has_newcomer); /* who takes the record of somebody alive? */
}

static void explore_all(unsigned count, unsigned switches, unsigned deaths, const enum kind *kinds, bool is_long)
{
    world.actors = count;
    world.most_switches = switches;
    world.most_deaths = deaths;
    for (world.capacity = 1; world.capacity <= 3; world.capacity++) {
        world.base = segment_new(world.capacity, ITEM_SIZE, false);
        for (unsigned mode = 0; mode < 2; mode++) {
            world.spsc = mode == 1;
            for (world.laps = is_long ? 0 : 1; world.laps < 2; world.laps++) {
                for (world.filled = 0; world.filled <= world.capacity; world.filled++) {
                    if (fits(kinds)) {
                        explore(kinds);
                    }
                }
            }
        }
        free(world.base);
    }
}

/* An item that somebody has claimed and no record names: its slot leads to it when the next lap gets there. */
static void find_unnamed(void)
{
    static const enum kind nobody[1] = {GET};
    world.actors = 0;
    world.spsc = false;
    world.laps = 0;
    for (world.capacity = 1; world.capacity <= 3; world.capacity++) {
        world.base = segment_new(world.capacity, ITEM_SIZE, false);
        world.filled = world.capacity;
        set_up(nobody);
        survivor.ring.header->head = 1;
        drain();
        for (unsigned i = 0; i < world.filled; i++) {
            if (times(FILLER, i) != 1) {
                fail("a claimed item that no record names was not found");
            }
        }
        judge(nobody);
        free(world.base);
    }
}

int main(int argc, char **argv)
{
    const bool is_long = argc > 1 && strcmp(argv[1], "long") == 0;
    signal(SIGINT, interrupt);
    for (unsigned i = 0; i < ACTORS; i++) {
        create(&actors[i]);
    }
    find_unnamed();
    for (unsigned a = 0; a < KINDS; a++) {
        for (unsigned b = a; b < KINDS; b++) {
            const enum kind kinds[] = {(enum kind)a, (enum kind)b};
            explore_all(2, is_long ? 3 : 2, 0, kinds, is_long);
            explore_all(2, is_long ? 2 : 1, 1, kinds, is_long);
            if (is_long) {
                explore_all(2, 1, 2, kinds, true);
            }
        }
    }
    static const enum kind heirs_of_a_role[] = {REPENT, PUT};
    explore_all(2, 3, 0, heirs_of_a_role, is_long);
    report("two operations");
    static const enum kind threes[][3] = {
        {PUT, GET, GET},           {BATCH, GET_ALL, PUT},   {BATCH, GET, GET_TWO},          {NEWCOMER, BATCH, GET},
        {GET, GET, GET_TWO},       {LOCKED, LOCKED, LOCKED}, {BATCH, NEWCOMER, NEWCOMER},
        {GHOST_GET, GET, PUT}, /* only in the long form from here on */
        {PUT, PUT, GET},           {BATCH, BATCH, GET_ALL}, {TRIPLE, GET, GET_TWO},         {NEWCOMER, NEWCOMER, GET},
        {LOCKED, LOCKED, GET_TWO}, {QUIT_GET, GET, PUT},    {QUIT_GET, NEWCOMER, GET},      {QUIT_PUT, GET, PUT},
        {PARK_PUT, PARK_PUT, GET}, {PARK_GET, PARK_GET, PUT}, {PARK_PUT, PARK_PUT, GET_TWO}, {PARK_GET, PARK_GET, BATCH},
    };
    for (unsigned i = 0; i < (is_long ? sizeof threes / sizeof *threes : 8); i++) {
        explore_all(3, is_long ? 2 : 1, 0, threes[i], is_long);
        explore_all(3, is_long ? 1 : 0, 1, threes[i], is_long);
        explore_all(3, is_long ? 1 : 0, 2, threes[i], is_long);
    }
    static const enum kind heirs[] = {QUIT_PUT, NEWCOMER, GET}; /* of an abandoned record whose owner died then */
    explore_all(3, is_long ? 2 : 1, 1, heirs, is_long);
    report("three operations");
    static const enum kind fours[][4] = {
        {PARK_GET, PUT, GET, PUT},
        {PARK_GET, PARK_GET, PUT, PUT},
        {PARK_PUT, PARK_PUT, GET, GET},
        {PARK_PUT, GET, PUT, GET},
    };
    for (unsigned i = 0; i < sizeof fours / sizeof *fours; i++) {
        explore_all(4, is_long ? 2 : 1, 0, fours[i], is_long);
    }
    report("four operations");
    printf("%llu runs, every one as it should be\n", world.total);
    return 0;
}
