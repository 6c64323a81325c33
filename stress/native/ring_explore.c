/* Two to four operations in every order of their steps, up to a number of switches, with deaths at every step.

   Each operation runs on a stack of its own; SHMQ_STEP decides before each atomic step whether it goes on, gives way to
   another, or dies there. All such choices are gone through, depth first, by running everything again from the start.
   There is one thread, so this sees every order of steps and nothing of weak memory.

   After each run a survivor takes what is left, and then: what was put comes once; what a dead put began comes as a
   whole or not at all; the queue is empty exactly if that finds nothing, and has room exactly if a put finds it; it
   takes and gives its capacity, lap after lap; no sleeper has anything to wake up for; the lock can be had. */

#define _GNU_SOURCE
#include "explore_judge.h"

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
    uint64_t most = 1;
    bool has_ghost = false, has_newcomer = false;
    for (unsigned i = 0; i < world.actors; i++) {
        most = slots_of(kinds[i]) > most ? slots_of(kinds[i]) : most;
        has_ghost = has_ghost || kinds[i] == GHOST_GET;
        has_newcomer = has_newcomer || kinds[i] == NEWCOMER;
    }
    return most <= world.capacity && !(has_ghost && has_newcomer); /* no newcomer takes the record of a live actor */
}

static void explore_all(unsigned count, unsigned switches, unsigned deaths, const enum kind *kinds, bool is_long)
{
    world.actors = count;
    world.most_switches = switches;
    world.most_deaths = deaths;
    for (world.capacity = world.large ? 2 : 1; world.capacity <= 3; world.capacity++) {
        world.base = segment_new(world.capacity, ITEM_SIZE, false);
        for (unsigned mode = 0; mode < 2; mode++) {
            world.spsc = mode == 1;
            for (world.laps = is_long ? 0 : 1; world.laps < 2; world.laps++) {
                for (world.filled = 0; filled_slots() <= world.capacity; world.filled++) {
                    if (fits(kinds)) {
                        explore(kinds);
                    }
                }
            }
        }
        free(world.base);
    }
}

/* Items of two slots. */
static void explore_large(bool is_long)
{
    world.large = true;
    segment_max_item_size = MAX_ITEM_SIZE;
    static const enum kind pairs[] = {PUT, QUIT_PUT, NEWCOMER, GET, GET_TWO, GET_ALL, QUIT_GET, GHOST_GET, LARGE, MIXED, VIEW};
    const unsigned count = sizeof pairs / sizeof *pairs;
    for (unsigned a = 0; a < count; a++) {
        for (unsigned b = a; b < count; b++) {
            const enum kind kinds[] = {pairs[a], pairs[b]};
            explore_all(2, is_long ? 3 : 2, 0, kinds, is_long);
            explore_all(2, is_long ? 2 : 1, 1, kinds, is_long);
        }
    }
    report("two operations, large items");
    static const enum kind threes[][3] = {
        {GET, GET, PUT},       {GET, GET, LARGE},        {LARGE, GET_TWO, GET}, {QUIT_GET, GET, PUT},
        {GHOST_GET, GET, PUT}, {MIXED, NEWCOMER, GET}, /* only in the long form from here on */
        {LARGE, LARGE, GET},   {GHOST_GET, GET, LARGE},  {MIXED, GET, GET_ALL}, {PARK_PUT, LARGE, GET},
        {QUIT_GET, GET, LARGE}, {PARK_GET, PARK_GET, MIXED},
    };
    for (unsigned i = 0; i < (is_long ? sizeof threes / sizeof *threes : 6); i++) {
        explore_all(3, is_long ? 2 : 1, 0, threes[i], is_long);
        explore_all(3, is_long ? 1 : 0, 1, threes[i], is_long);
        explore_all(3, is_long ? 1 : 0, 2, threes[i], is_long);
    }
    report("three operations, large items");
    world.large = false;
    segment_max_item_size = 0;
}

/* Items that are written and read where they lie. */
static void explore_in_place(bool is_long)
{
    static const enum kind in_place[] = {RESERVE, VIEW};
    static const enum kind others[] = {PUT,      BATCH,    NEWCOMER, QUIT_PUT, PARK_PUT, GET,
                                       GET_TWO,  QUIT_GET, PARK_GET, GHOST_GET, RESERVE, VIEW};
    for (unsigned a = 0; a < 2; a++) {
        for (unsigned b = 0; b < sizeof others / sizeof *others; b++) {
            const enum kind kinds[] = {in_place[a], others[b]};
            explore_all(2, is_long ? 3 : 2, 0, kinds, is_long);
            explore_all(2, is_long ? 2 : 1, 1, kinds, is_long);
        }
    }
    report("two operations, in place");
    static const enum kind threes[][3] = {
        {VIEW, GET, PUT}, {RESERVE, VIEW, PUT}, {VIEW, NEWCOMER, RESERVE}, /* only in the long form from here on */
        {RESERVE, GET, GET}, {VIEW, VIEW, PUT}, {VIEW, QUIT_GET, PUT}, {RESERVE, PARK_GET, PARK_GET},
    };
    for (unsigned i = 0; i < (is_long ? sizeof threes / sizeof *threes : 3); i++) {
        explore_all(3, is_long || i == 0 ? 2 : 1, 0, threes[i], is_long);
        explore_all(3, is_long ? 1 : 0, 1, threes[i], is_long);
    }
    report("three operations, in place");
}

/* An item that is claimed but that no record announces: it is found at its slot when the next lap gets there. */
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
    world.life = act;
    world.after_death = has_died;
    for (unsigned i = 0; i < ACTORS; i++) {
        create(&actors[i]);
    }
    find_unnamed();
    explore_large(is_long);
    explore_in_place(is_long);
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
        {BELL_GET, PARK_GET, PUT, PUT},
        {BELL_GET, BELL_GET, PUT, PUT},
        {BELL_GET, GET, PUT, PUT},
        {BELL_PUT, BELL_PUT, GET, GET},
    };
    for (unsigned i = 0; i < sizeof fours / sizeof *fours; i++) {
        explore_all(4, is_long ? 2 : 1, 0, fours[i], is_long);
    }
    report("four operations");
    printf("%llu runs, every one as it should be\n", world.total);
    return 0;
}
