/* Leases in every order of their steps, up to a number of switches, with deaths at every step: as ring_explore.c, with
   one to two lease slots and capacity 1 to 3. The long form has more of them, of switches and of deaths.

   Before each step: a word that names a lease slot names one that is held and says the same position (L1); each
   accepted item that is not ended lies in the ring or in a lease slot (L2), and in one lease slot at most (L3). No
   operation waits, scans or returns with a lease slot without an item (L4). Whenever an item is handed out: it is not
   ended, no living actor has it, and the count exceeds the number of earlier hand-outs, by no more than the deaths. An
   item is in one dead slot at most, and not in a lease slot at the same time; none is delivered more often than it may
   be, unless there was no room for a letter. If
   join returns, everything is ended at that moment; likewise if a get finds the end of a queue that was shut down, and
   then nothing is handed out and no put accepted any more. Once an immediate shutdown and a join have returned, nothing
   is handed out. Afterwards a survivor takes and ends what is left: each accepted
   item was ended, and the queue is as good as new. */

#define _GNU_SOURCE
#include "lease_judge.h"

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
        set_up(kinds);
        if (_setjmp(over) == 0) {
            resume(pick(NULL, choose(world.actors)));
        }
        judge();
        world.executions++;
        for (unsigned i = 0; i < world.actors; i++) {
            life_ends(actors[i].ring.owner);
        }
    } while (turn_back());
}

static void explore_all(unsigned count, unsigned switches, unsigned deaths, const enum kind *kinds, uint64_t capacities,
                        bool is_long)
{
    unsigned most = 1;
    for (unsigned i = 0; i < count; i++) {
        most = slots_of(kinds[i]) > most ? slots_of(kinds[i]) : most;
    }
    most = world.large && most == 1 ? 2 : most;
    /* Three that switch and die, with two lease slots, are most of all the runs. */
    const unsigned leases = count > 2 && switches > 0 && deaths > 0 && !is_long ? 1 : 2;
    world.actors = count;
    world.most_switches = switches;
    world.most_deaths = deaths;
    for (world.capacity = most; world.capacity <= capacities; world.capacity++) {
        for (segment_leases = 1; segment_leases <= leases; segment_leases++) {
            world.base = segment_new(world.capacity, ITEM_SIZE, false);
            for (world.laps = is_long ? 0 : 1; world.laps < 2; world.laps++) {
                for (world.letters = 0; world.letters <= (segment_deliveries > 0); world.letters++) {
                    for (world.filled = 0; filled_slots() <= world.capacity; world.filled++) {
                        explore(kinds);
                    }
                }
            }
            free(world.base);
        }
    }
}

/* With dead letters: one delivery is allowed, and a letter may be there at the start. */
static void explore_letters(bool is_long)
{
    segment_deliveries = 1;
    static const enum kind movers[] = {LEASE, RELEASE, KEEP, PUT_BACK, DROP, JOIN, PARK_LEASE, PUT};
    for (unsigned a = 0; a < sizeof movers / sizeof *movers; a++) {
        for (unsigned b = 0; b <= a && b < 5; b++) {
            const enum kind kinds[] = {movers[b], movers[a]};
            explore_all(2, is_long ? 3 : 2, 0, kinds, is_long ? 2 : 1, is_long);
            if (is_long || a < 5) { /* the other kinds move no letter */
                explore_all(2, is_long ? 2 : 1, 1, kinds, is_long ? 2 : 1, is_long);
                explore_all(2, is_long ? 1 : 0, 2, kinds, 1, is_long);
            }
        }
    }
    report("two operations, dead letters");
    static const enum kind moves[][3] = {
        {PUT_BACK, KEEP, JOIN},    {PUT_BACK, LEASE, JOIN},  {PUT_BACK, RELEASE, JOIN}, {RELEASE, LEASE, PUT_BACK}, {PUT_BACK, LEASE, SHUT},
        {PUT_BACK, LEASE, LEASE},  {KEEP, LEASE, LEASE},      {PUT_BACK, DROP, LEASE},    {RELEASE, RELEASE, LEASE},
        {PUT_BACK, PARK_LEASE, LEASE}, {PUT_BACK, LEASE, STOP}, {RELEASE, LEASE, PARK_JOIN}, {PUT_BACK, PARK_LEASE, SHUT},
    };
    for (unsigned i = 0; i < sizeof moves / sizeof *moves; i++) {
        explore_all(3, is_long ? 2 : 1, 0, moves[i], 1, is_long);
        explore_all(3, is_long ? 1 : 0, 1, moves[i], 1, is_long);
    }
    report("three operations, dead letters");
    static const enum kind behind_a_look[] = {LEASE, PUT_BACK, KEEP, JOIN};
    world.actors = 4;
    world.most_switches = 2;
    world.most_deaths = 0;
    world.capacity = world.laps = world.filled = 1;
    world.letters = 1;
    segment_leases = 2;
    world.base = segment_new(world.capacity, ITEM_SIZE, false);
    explore(behind_a_look);
    free(world.base);
    report("four operations, dead letters");
    segment_deliveries = 0;
}

/* Items of two slots. */
static void explore_large(bool is_long)
{
    world.large = true;
    segment_max_item_size = MAX_ITEM_SIZE;
    static const enum kind pairs[] = {LEASE, LEASE_TWO, RELEASE, KEEP, JOIN, PUT, NEWCOMER, LARGE, MIXED};
    for (unsigned a = 0; a < sizeof pairs / sizeof *pairs; a++) {
        for (unsigned b = 0; b <= a && b < 4; b++) {
            const enum kind kinds[] = {pairs[a], pairs[b]};
            explore_all(2, is_long ? 3 : 1, 0, kinds, is_long ? 3 : 2, is_long);
            explore_all(2, is_long ? 2 : 1, 1, kinds, is_long ? 3 : 2, is_long);
        }
    }
    report("two operations, large items");
    static const enum kind threes[][3] = {
        {LEASE, LEASE, PUT},   {KEEP, LEASE, LARGE},      {RELEASE, LEASE, JOIN}, /* only in the long form from here on */
        {LEASE, LEASE, LARGE}, {LEASE_TWO, MIXED, LEASE}, {KEEP, NEWCOMER, LEASE}, {LEASE, LARGE, SHUT},
        {LEASE, LARGE, STOP},  {PARK_LEASE, LEASE, LARGE},
    };
    for (unsigned i = 0; i < (is_long ? sizeof threes / sizeof *threes : 3); i++) {
        explore_all(3, is_long ? 2 : 1, 0, threes[i], 2, is_long);
        explore_all(3, is_long ? 1 : 0, 1, threes[i], 2, is_long);
        explore_all(3, is_long ? 1 : 0, 2, threes[i], 2, is_long);
    }
    report("three operations, large items");
    segment_deliveries = 1;
    static const enum kind movers[][2] = {{RELEASE, LEASE}, {KEEP, LEASE}, {PUT_BACK, LEASE}, {LARGE, RELEASE}};
    for (unsigned i = 0; i < sizeof movers / sizeof *movers; i++) {
        explore_all(2, is_long ? 3 : 1, 0, movers[i], 2, is_long);
        explore_all(2, is_long ? 2 : 1, 1, movers[i], 2, is_long);
    }
    report("two operations, large items, dead letters");
    segment_deliveries = 0;
    segment_max_item_size = 0;
    world.large = false;
}

int main(int argc, char **argv)
{
    const bool is_long = argc > 1 && strcmp(argv[1], "long") == 0;
    static const enum kind pairs[] = {PUT, BATCH, NEWCOMER, LEASE, LEASE_TWO, RELEASE, LAST, KEEP, PARK_LEASE, JOIN,
                                      PARK_JOIN};
    const unsigned count = sizeof pairs / sizeof *pairs;
    world.life = act;
    world.after_death = has_died;
    for (unsigned i = 0; i < ACTORS; i++) {
        create(&actors[i]);
    }
    for (unsigned a = 0; a < count; a++) {
        for (unsigned b = a > 3 ? a : 3; b < count; b++) {
            const enum kind kinds[] = {pairs[a], pairs[b]};
            explore_all(2, is_long ? 3 : 2, 0, kinds, is_long ? 3 : 2, is_long);
            explore_all(2, is_long ? 2 : 1, 1, kinds, is_long ? 3 : 2, is_long);
            explore_all(2, is_long ? 1 : 0, 2, kinds, is_long ? 2 : 1, is_long);
        }
    }
    report("two operations");
    static const enum kind threes[][3] = {
        {BUNDLE, BUNDLE, SHUT},
        {LEASE, LEASE, PUT},   {LEASE, LEASE, LEASE},     {LEASE, PUT, JOIN},        {RELEASE, LEASE, JOIN},
        {LEASE, NEWCOMER, PUT}, {RELEASE, LEASE, LEASE_TWO}, {LAST, LEASE, PUT},      {LEASE, LEASE, JOIN},
        {KEEP, LEASE, PUT},    {LEASE_TWO, BATCH, LEASE}, {PARK_LEASE, LEASE, LEASE}, {PARK_JOIN, LEASE, LEASE},
        {LEASE, LEASE, SHUT},  {RELEASE, LEASE, SHUT},    {KEEP, LEASE, SHUT},        {LEASE, PUT, SHUT},
        {LEASE, PARK_LEASE, SHUT}, {RELEASE, PARK_JOIN, STOP}, {RELEASE, LEASE, STOP}, {LEASE, PUT, STOP},
    };
    for (unsigned i = 0; i < sizeof threes / sizeof *threes; i++) {
        explore_all(3, is_long ? 2 : 1, 0, threes[i], 2, is_long);
        explore_all(3, is_long ? 2 : 1, 1, threes[i], is_long ? 2 : 1, is_long);
        if (is_long) {
            explore_all(3, 1, 2, threes[i], 2, true);
        }
    }
    report("three operations");
    explore_large(is_long);
    explore_letters(is_long);
    printf("%llu runs, every one as it should be\n", world.total);
    return 0;
}
