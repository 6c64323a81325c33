/* The sizes of ring.pml, its words, and what can be said about them in one step. */

#ifndef CAP
#define CAP 2
#endif
#ifndef PUTTERS
#define PUTTERS 1
#endif
#ifndef PUT0
#define PUT0 2
#endif
#ifndef PUT1
#define PUT1 1
#endif
#ifndef GETTERS
#define GETTERS 2
#endif
#ifndef LIMIT
#define LIMIT 2
#endif
#ifndef FILLED
#define FILLED 0
#endif
#ifndef CRASH
#define CRASH 0
#endif
#ifndef INTR
#define INTR 0
#endif
#ifndef NEWCOMER
#define NEWCOMER 0
#endif

/* Processes: putters, then getters, then the newcomer. Each of the former begins with the record of its number; the
   spare one is for a later process, unless NO_SPARE leaves it only those of the dead. */
#define OPS (PUTTERS + GETTERS)
#define LIVES (OPS + NEWCOMER)
#if INTR + NEWCOMER > 0 && !defined(NO_SPARE)
#define RECORDS (OPS + 1)
#else
#define RECORDS OPS
#endif
#define LAST (OPS - 1)               /* the getter that lives */
/* 1 2 3: of PUT0; 4 5 6: of PUT1; 7: put after an interrupt; 8: of the newcomer; 9...: FILLED */
#define AGAIN 7
#define NEW 8
#define OLD 9
#define ITEMS (OLD + FILLED)

#define FREE(p) ((p) * 4)
#define FULL(p) ((p) * 4 + 1)
#define TOMB(p) ((p) * 4 + 2)
#define POS(w) ((w) / 4)
#define SLOT(p) ((p) % CAP)

byte head, tail;
byte word[CAP], val[CAP], idx[CAP];  /* word, payload and batch index of each slot */
byte owner[RECORDS];                 /* 0, or 1 + process */
byte put_begin[RECORDS], put_end[RECORDS], get_begin[RECORDS], get_end[RECORDS];
bit abandoned[RECORDS];
#ifdef SPSC
byte generation[RECORDS], producer, consumer;
#define NAME(k) (generation[k] * 8 + 1 + (k))
#define RECORD_OF(name) (((name) - 1) % 8)
#define IS_DEAD(name) (NAME(RECORD_OF(name)) != (name) || !MANNED(RECORD_OF(name)))
#endif

bit alive[LIVES], done[LIVES], interrupted[LIVES];
byte crashes, interrupts;
bit taken[ITEMS], acked[ITEMS];

#define MANNED(k) (owner[k] != 0 && !abandoned[k] && alive[owner[k] - 1])
#define COVERS_PUT(k, q) (put_begin[k] <= (q) && (q) < put_end[k])
#define COVERS_GET(k, q) (get_begin[k] <= (q) && (q) < get_end[k])
#define CLAIMED_BY_PUT(q) (tail > (q) && word[SLOT(q)] == FREE(q))
#define CLAIMED_BY_GET(q) (head > (q) && word[SLOT(q)] == FULL(q))
#define RESOLVED_PUT(k) (put_end[k] <= put_begin[k] || !CLAIMED_BY_PUT(put_begin[k]))
#define RESOLVED_GET(k) ((get_end[k] <= get_begin[k] || !CLAIMED_BY_GET(get_begin[k])) \
                         && (get_end[k] <= get_begin[k] + 1 || !CLAIMED_BY_GET(get_begin[k] + 1)))
#define ENDED(i) (done[i] || !alive[i])

/* What a wait looks at, in one step; the real wait is bounded and looks again. */
#define LIVE_PUT_1(k, q) (MANNED(k) && COVERS_PUT(k, q))
#define LIVE_GET_1(k, q) (MANNED(k) && COVERS_GET(k, q))
#if RECORDS == 2
#define ANY(what, q) (what(0, q) || what(1, q))
#elif RECORDS == 3
#define ANY(what, q) (what(0, q) || what(1, q) || what(2, q))
#elif RECORDS == 4
#define ANY(what, q) (what(0, q) || what(1, q) || what(2, q) || what(3, q))
#else
#define ANY(what, q) (what(0, q) || what(1, q) || what(2, q) || what(3, q) || what(4, q))
#endif
#define LIVE_PUT(q) ANY(LIVE_PUT_1, q)
#define LIVE_GET(q) ANY(LIVE_GET_1, q)
#define DEAD_GET_1(k, q) (COVERS_GET(k, q) && !MANNED(k))
/* An item of a dead get that a getter can know of: a dead record announces it, or head has come round to it. */
#define ORPHAN_1(s) (word[s] % 4 == 1 && POS(word[s]) < head && !LIVE_GET(POS(word[s])) \
                     && (ANY(DEAD_GET_1, POS(word[s])) || head == POS(word[s]) + CAP))
#if CAP == 1
#define ORPHAN ORPHAN_1(0)
#elif CAP == 2
#define ORPHAN (ORPHAN_1(0) || ORPHAN_1(1))
#else
#define ORPHAN (ORPHAN_1(0) || ORPHAN_1(1) || ORPHAN_1(2))
#endif

#define GONE(i) (LAST == i || ENDED(i))
#if LIVES == 2
#define OTHERS_ENDED (GONE(0) && GONE(1))
#elif LIVES == 3
#define OTHERS_ENDED (GONE(0) && GONE(1) && GONE(2))
#elif LIVES == 4
#define OTHERS_ENDED (GONE(0) && GONE(1) && GONE(2) && GONE(3))
#else
#define OTHERS_ENDED (GONE(0) && GONE(1) && GONE(2) && GONE(3) && GONE(4))
#endif

#if PUTTERS == 0
#define PUTTERS_ENDED 1
#elif PUTTERS == 1
#define PUTTERS_ENDED (ENDED(0) && (!NEWCOMER || ENDED(LIVES - 1)))
#else
#define PUTTERS_ENDED (ENDED(0) && ENDED(1) && (!NEWCOMER || ENDED(LIVES - 1)))
#endif
