/* What ring_explore.c goes through: its actors, and the scheduler that decides which of them takes the next step. */

#ifndef SHMQ_EXPLORE_WORLD_H
#define SHMQ_EXPLORE_WORLD_H

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
#define MAX_ITEM_SIZE (2 * ITEM_SIZE) /* where items may take several slots */
#define ACTORS 4
#define STACK 65536
#define MOST_STEPS 20000
#define FILLER ACTORS     /* the producer of what was there before */
#define PROBE (ACTORS + 1) /* the producer of a put that shows whether there is room */
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
    BELL_PUT, /* likewise, on a bell */
    GET,
    GET_TWO,
    GET_ALL,
    QUIT_GET, /* gets two, frees one, abandons the other */
    PARK_GET, /* a get that sleeps when there is nothing */
    BELL_GET, /* likewise, on a bell */
    GHOST_GET, /* a get of two that all others take for dead */
    KINDS,
    /* only in lease_explore.c from here on */
    LEASE,      /* leases an item and ends it */
    LEASE_TWO,  /* likewise, up to two */
    RELEASE,    /* leases an item and gives it back */
    LAST,       /* likewise, behind all others */
    KEEP,       /* leases an item and keeps it */
    PARK_LEASE, /* leases an item and ends it; sleeps when there is none */
    JOIN,       /* looks once whether all is done */
    PARK_JOIN,  /* sleeps until all is done */
    BUNDLE,     /* leases two items, one after the other, and ends both; sleeps when there is none */
    SHUT,       /* shuts the queue down */
    STOP,       /* likewise, at once, and joins */
    PUT_BACK,   /* puts a dead letter back */
    DROP,       /* ends a dead letter */
    /* only where items may take several slots from here on */
    LARGE, /* puts an item of two slots */
    MIXED, /* puts an item of one, and one of two */
    /* in place from here on */
    RESERVE, /* puts an item that is written where it lies, step by step */
    VIEW,    /* gets an item, if it suits, and reads it where it lies, step by step */
    ALL_KINDS
};

static const char *const names[ALL_KINDS] = {"put",      "batch",    "triple",    "locked", "newcomer",
                                         "quit-put", "repent",   "park-put",  "bell-put", "get",
                                         "get-two",  "get-all",  "quit-get",  "park-get", "bell-get",
                                         "ghost-get", "",
                                         "lease",    "lease-two", "release",  "last",      "keep",
                                         "park-lease", "join",   "park-join", "bundle",    "shut",
                                         "stop",     "put-back", "drop",     "large",     "mixed",
                                         "reserve",  "view"};

struct actor {
    unsigned number;
    enum kind kind;
    bool started, done, dead;
    struct shmq_ring ring;
    struct shmq_participant me;
    jmp_buf start, here, death;
    ucontext_t context;
    unsigned char stack[STACK];

    unsigned count; /* of the items of a put */
    enum { NEVER, ACKNOWLEDGED, IN_DOUBT } fate;
    bool refused_by_lock, is_marked;
    unsigned taken; /* of a get */
    struct shmq_item item;
    uint64_t adopting;
    uint64_t seen; /* of a view: the payload that it has looked at before its claim */
    bool is_late, refuses; /* whether that was not the next item by then; whether the item did not suit */
    unsigned char buffer[MAX_ITEM_SIZE];
    bool sleeps, woken, rung;
    uint64_t epoch;
    struct shmq_held held[3]; /* leases whose items this actor has */
    uint64_t holds;
    uint32_t busy_lease;
    bool finds_the_end;
    bool joins, saw_quiet; /* whether it is in a join, and all was ended at a moment of it */
};

struct note {
    unsigned getter, putter, index;
    uint64_t position;
    bool adopted;
};

static struct {
    uint64_t capacity, filled, laps;
    bool spsc, large; /* large: items may take two slots, and the first that was there before does */
    unsigned actors, most_switches, most_deaths;
    unsigned letters; /* dead letters at the start */

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
    void (*life)(struct actor *);        /* what an actor does in its life */
    void (*after_death)(struct actor *); /* called then, if it ends by a death */
    void (*before_step)(void);           /* called before each step; NULL: nothing */
} world;

static struct actor actors[ACTORS];
static struct actor survivor;
static struct actor *self;
static jmp_buf over;
static ucontext_t creator;

static noreturn void fail(const char *what)
{
    self = NULL;
    fprintf(stderr, "FAILED: %s; mode %s%s, capacity %llu, filled %llu, laps %llu:", what, world.spsc ? "spsc" : "mpmc",
            world.large ? ", large items" : "", (unsigned long long)world.capacity, (unsigned long long)world.filled, (unsigned long long)world.laps);
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
    if (world.before_step != NULL) {
        self = NULL; /* what it looks at are no steps */
        world.before_step();
        self = a;
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

/* Let another actor run, because this one has ended or sleeps; if none is left, the run is over. */
static noreturn void next(void)
{
    self = NULL;
    const unsigned others = waiting(NULL);
    if (others == 0) {
        _longjmp(over, 1);
    }
    resume(pick(NULL, choose(others)));
}

static noreturn void live(void)
{
    struct actor *a = self;
    if (_setjmp(a->start) == 0) {
        swapcontext(&a->context, &creator); /* created; from now on by jumps */
    }
    a = self;
    if (_setjmp(a->death) == 0) {
        world.life(a);
    } else {
        a = self;
        a->dead = true;
        world.after_death(a);
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

#endif
