/* The sizes of shutdown.pml, its words, and what can be said about them in one step. */

#ifndef CAP
#define CAP 1
#endif
#ifndef NL
#define NL 0
#endif
#ifndef PUTTERS
#define PUTTERS 1
#endif
#ifndef BATCH
#define BATCH 1
#endif
#ifndef FILLED
#define FILLED 0
#endif
#ifndef SHUTTERS
#define SHUTTERS 1
#endif
#ifndef CRASH
#define CRASH 0
#endif
#ifndef RELEASES
#define RELEASES 0
#endif
#define NG 2
#define LAST 1
#define PUTTER(i) (NG + (i))
#define SHUTTER(i) (NG + PUTTERS + (i))
#define LIVES (NG + PUTTERS + SHUTTERS)
/* items: 1 2 of the first putter, 3 of the second, 4 FILLED */
#define ITEMS 4

#define MARK 64                                    /* beside a position: CLOSED in tail, STOPPED in head */
#define AT(t) ((t) % MARK)
#define IS_MARKED(t) ((t) >= MARK)
/* A word: its position, and FREE, FULL, TOMB, or GIVEN to a lease slot. */
#define FREE(p) ((p) * 8)
#define FULL(p) ((p) * 8 + 1)
#define TOMB(p) ((p) * 8 + 2)
#define GIVEN(p, l) ((p) * 8 + 3 + (l))
#define POS(w) ((w) / 8)
#define IS_GIVEN(w) ((w) % 8 >= 3)
#define LEASE(w) ((w) % 8 - 3)
#define SLOT(p) ((p) % CAP)

byte head, tail, word[CAP], val[CAP], idx[CAP];
byte get_begin[NG], get_end[NG], put_begin[PUTTERS], put_end[PUTTERS];
#if NL > 0
byte holder[NL], count[NL], lpos[NL], lval[NL];    /* holder: 0 or 1 + process */
#endif
bit alive[LIVES], ended[LIVES];
byte crashes, releases;
byte epoch_items, epoch_space; bit armed_items, armed_space;
#ifdef BUG_FLAG
bit flag;                                          /* a word of its own instead of a mark in tail */
#endif
#ifdef SPSC
bit stopped;                                       /* a word of its own: a store of head would drop a mark */
#endif
/* what is checked, also by item */
bit shut_returned, stop_returned, raised, joined, joined_stopped;
bit claimed[ITEMS + 1], acked[ITEMS + 1], finished[ITEMS + 1], buried[ITEMS + 1];
byte handed[ITEMS + 1], in_work[ITEMS + 1];

#define LIVE_GET_1(g, q) (alive[g] && get_begin[g] <= (q) && (q) < get_end[g])
#define LIVE_GET(q) (LIVE_GET_1(0, q) || LIVE_GET_1(1, q))
#define LIVE_PUT_1(i, q) (alive[PUTTER(i)] && put_begin[i] <= (q) && (q) < put_end[i])
#if PUTTERS == 1
#define LIVE_PUT(q) LIVE_PUT_1(0, q)
#else
#define LIVE_PUT(q) (LIVE_PUT_1(0, q) || LIVE_PUT_1(1, q))
#endif
#define DEAD(o) ((o) != 0 && !alive[(o) - 1])
#define WAITS(p) (word[SLOT(p)] == FULL(p) || (IS_GIVEN(word[SLOT(p)]) && POS(word[SLOT(p)]) == (p)))
#define IS_NEXT_FULL (word[SLOT(AT(head))] == FULL(AT(head)))
#define ORPHAN_1(s) (word[s] % 8 == 1 && POS(word[s]) < AT(head) && !LIVE_GET(POS(word[s])))
#define CLAIMED_1(g) (get_end[g] > get_begin[g] && AT(head) > get_begin[g] && WAITS(get_begin[g]))
#define CLAIMED_GETS (CLAIMED_1(0) || CLAIMED_1(1))
#if CAP == 1
#define ORPHAN ORPHAN_1(0)
#else
#define ORPHAN (ORPHAN_1(0) || ORPHAN_1(1))
#endif
#define RETURNED_1(l) ((holder[l] == 0 && count[l] > 0) || DEAD(holder[l]))
#define AVAILABLE_1(l) (holder[l] == 0 || DEAD(holder[l]))
#define LEASED_1(l) (holder[l] != 0 || count[l] > 0)
#define HELD_ALIVE_1(l) (holder[l] != 0 && !DEAD(holder[l]))
#if NL == 0
#define RETURNED 0
#define LEASED 0
#elif NL == 1
#define RETURNED RETURNED_1(0)
#define AVAILABLE AVAILABLE_1(0)
#define LEASED LEASED_1(0)
#define HELD_ALIVE HELD_ALIVE_1(0)
#else
#define RETURNED (RETURNED_1(0) || RETURNED_1(1))
#define AVAILABLE (AVAILABLE_1(0) || AVAILABLE_1(1))
#define LEASED (LEASED_1(0) || LEASED_1(1))
#define HELD_ALIVE (HELD_ALIVE_1(0) || HELD_ALIVE_1(1))
#endif
#define UNFINISHED_1(v) (claimed[v] && !finished[v] && !buried[v])
#define UNFINISHED (UNFINISHED_1(1) || UNFINISHED_1(2) || UNFINISHED_1(3) || UNFINISHED_1(4))
#define IN_WORK_1(v) (in_work[v] != 0 && alive[in_work[v] - 1])
#define IN_WORK (IN_WORK_1(1) || IN_WORK_1(2) || IN_WORK_1(3) || IN_WORK_1(4))
#ifdef SPSC
#define IS_STOPPED stopped
#else
#define IS_STOPPED IS_MARKED(head)
#endif
#ifdef BUG_FLAG
#define IS_CLOSED(t) flag
#else
#define IS_CLOSED(t) IS_MARKED(t)
#endif
#ifdef BUG_UNMASKED
#define BEYOND(t, p) ((t) > (p))
#else
#define BEYOND(t, p) (AT(t) > (p))
#endif

/* Another operation is about to end there: a short sleep, and a look. */
#define NAP(condition) (condition)
#ifdef WAKE
#define ARM_ITEMS d_step { e = epoch_items; armed_items = 1 } /* [W1][W2] */
#define ARM_SPACE d_step { e = epoch_space; armed_space = 1 }
#define SLEEP_ITEMS(condition) (epoch_items != e || crashes > 0 && (condition))
#define SLEEP_SPACE(condition) (epoch_space != e || crashes > 0 && (condition))
#define WAKE_ITEMS wake_items()
#define WAKE_SPACE wake_space()
#define WAKE_FOR_LEASE wake_for_lease()
#else
#define ARM_ITEMS skip
#define ARM_SPACE skip
#define SLEEP_ITEMS(condition) (condition)
#define SLEEP_SPACE(condition) (condition)
#define WAKE_ITEMS skip
#define WAKE_SPACE skip
#define WAKE_FOR_LEASE skip
#endif
