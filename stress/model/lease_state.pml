/* The sizes of lease.pml, its words, and what can be said about them in one step. */

#ifndef CAP
#define CAP 1
#endif
#ifndef NL
#define NL 1
#endif
#ifndef NG
#define NG 3
#endif
#ifndef FILLED
#define FILLED 1
#endif
#ifndef PUTS
#define PUTS 0
#endif
#ifndef CRASH
#define CRASH 1
#endif
#ifndef INTR
#define INTR 0
#endif
#ifndef RELEASES
#define RELEASES 0
#endif
#ifndef JOIN
#define JOIN 0
#endif
#define LAST (NG - 1)
#define PUTTER NG
#define ITEMS (FILLED + PUTS)

/* A word: its position, and FREE, FULL, TOMB, or GIVEN to a lease. */
#define FREE(p) ((p) * 8)
#define FULL(p) ((p) * 8 + 1)
#define TOMB(p) ((p) * 8 + 2)
#define GIVEN(p, l) ((p) * 8 + 3 + (l))
#define POS(w) ((w) / 8)
#define IS_GIVEN(w) ((w) % 8 >= 3)
#define LEASE(w) ((w) % 8 - 3)
#define SLOT(p) ((p) % CAP)

byte head, tail, word[CAP], val[CAP];
byte get_begin[NG], get_end[NG], put_begin, put_end;
bit abandoned[NG];
byte holder[NL], count[NL], lpos[NL], lval[NL]; /* holder: 0 or 1 + process */
bit alive[NG + 1], ended[NG + 1], intr[NG];
byte crashes, interrupts, releases;
/* what is checked, by item */
bit claimed[ITEMS + 1], acked[ITEMS + 1], finished[ITEMS + 1], buried[ITEMS + 1];
byte handed[ITEMS + 1], in_work[ITEMS + 1];
bit joined;

#define LIVE_GET_1(g, q) (alive[g] && !abandoned[g] && get_begin[g] <= (q) && (q) < get_end[g])
#if NG == 2
#define LIVE_GET(q) (LIVE_GET_1(0, q) || LIVE_GET_1(1, q))
#define OTHERS_ENDED (ended[0] || !alive[0])
#else
#define LIVE_GET(q) (LIVE_GET_1(0, q) || LIVE_GET_1(1, q) || LIVE_GET_1(2, q))
#define OTHERS_ENDED ((ended[0] || !alive[0]) && (ended[1] || !alive[1]))
#endif
#define LIVE_PUT(q) (alive[PUTTER] && put_begin <= (q) && (q) < put_end)
#define PUTS_ENDED (ended[PUTTER] || !alive[PUTTER])
#define ORPHAN_1(s) (word[s] % 8 == 1 && POS(word[s]) < head && !LIVE_GET(POS(word[s])))
#define DEAD(o) ((o) != 0 && !alive[(o) - 1])
#define RETURNED_1(l) ((holder[l] == 0 && count[l] > 0) || DEAD(holder[l]))
#define AVAILABLE_1(l) (holder[l] == 0 || DEAD(holder[l]))
#if CAP == 1
#define ORPHAN ORPHAN_1(0)
#else
#define ORPHAN (ORPHAN_1(0) || ORPHAN_1(1))
#endif
#if NL == 1
#define RETURNED RETURNED_1(0)
#define AVAILABLE AVAILABLE_1(0)
#define NO_LEASES (count[0] == 0)
#else
#define RETURNED (RETURNED_1(0) || RETURNED_1(1))
#define AVAILABLE (AVAILABLE_1(0) || AVAILABLE_1(1))
#define NO_LEASES (count[0] == 0 && count[1] == 0)
#endif
#define FREE_WORD(s) (word[s] % 8 == 0)
#if CAP == 1
#define NO_ITEMS (FREE_WORD(0) && POS(word[0]) >= tail)
#else
#define NO_ITEMS (FREE_WORD(0) && POS(word[0]) >= tail && FREE_WORD(1) && POS(word[1]) >= tail)
#endif
#define TOMBS_1(s) (word[s] % 8 == 2)
#if CAP == 1
#define TOMBS TOMBS_1(0)
#else
#define TOMBS (TOMBS_1(0) || TOMBS_1(1))
#endif
#define UNFINISHED_1(v) (claimed[v] && !finished[v] && !buried[v])
#if ITEMS == 1
#define UNFINISHED UNFINISHED_1(1)
#elif ITEMS == 2
#define UNFINISHED (UNFINISHED_1(1) || UNFINISHED_1(2))
#else
#define UNFINISHED (UNFINISHED_1(1) || UNFINISHED_1(2) || UNFINISHED_1(3))
#endif
