/* The ring of ring.h and recovery.h, step by step, with all that can happen to it at once: batches on both sides,
   deaths at any step, records that are abandoned and taken again, adoption, and mode spsc. A process here is an
   operation there; names and labels are those of the headers.

   PUTTERS put PUT0 and PUT1 items, each all at once. GETTERS get, up to LIMIT at once, until all have ended and
   nothing is left; the last of them neither dies nor is interrupted. NEWCOMER: a putter of one item comes later and
   takes a record that is free or dead. CRASH of them die at any step; INTR are interrupted at any step, abandon their
   record, and put once more with a record that they take. FILLED items are there before. SPSC: the two ends have
   owners, which move them by stores. A few atomic steps are several in ring.h: an announcement, the look at one record,
   word and index of a slot; TORN takes them apart.

   Checked: no item comes twice; what was acknowledged comes; a batch comes as a whole or not at all; no live claim is
   buried; no word is met that ring.h calls corrupt; no process is stuck (each wait ends only when what it waits for
   changes, so to be stuck is an invalid end state). */

#include "ring_state.pml"
#include "ring_rescue.pml"

/* One put of n items v, v+1 with the record r. */
inline put(n, v) {
#ifdef SPSC
  take_role(producer, false);
  ok = 0;
#endif
  do
  ::
     p = tail;                                     /* [P1] */
     i = 0;
     do
     :: i < n ->
        w = word[SLOT(p + i)];                     /* [P2] */
#ifndef BUG_ONLY_GETTERS_FREE
        if
        :: w == TOMB(p + i - CAP) ->
           cas(word[SLOT(p + i)], w, FREE(p + i)); /* [T2] */
           w = word[SLOT(p + i)]
        :: else
        fi;
#endif
        if :: w == FREE(p + i) -> i++; w = 0 :: else -> break fi
     :: else -> break
     od;
     if
     :: i < n ->                                   /* shmq_no_room, of a call that is sure */
#ifndef BUG_PARK_STALE
        put_end[r] = 0;                            /* before anything slow */
#endif
        d_step { q = p + i - CAP; i = 0 };
        if
        :: POS(w) > q + CAP || tail != p
        :: else ->
           if
           :: w == FREE(q) ->
              rescue_put(q);
              if :: !ok -> (tail != p || word[SLOT(q)] != FREE(q) || !LIVE_PUT(q)) :: else -> ok = 0 fi
           :: w == FULL(q) -> (tail != p || word[SLOT(q)] != FULL(q)) /* full */
           :: w == TOMB(q)
#ifdef BUG_ONLY_GETTERS_FREE
              -> (tail != p || word[SLOT(q)] != TOMB(q))
#endif
           :: else -> assert(word[SLOT(q)] != w)   /* SHMQ_CORRUPT */
           fi
        fi;
        w = 0; p = 0; q = 0
     :: else ->
#ifndef BUG_LATE_ANNOUNCE
        announce(put_begin[r], put_end[r], p, p + n); /* [P3][P4] */
#endif
        cas(tail, p, p + n);                       /* [P6], in mode spsc, too */
#ifdef BUG_LATE_ANNOUNCE
        if :: ok -> announce(put_begin[r], put_end[r], p, p + n) :: else fi;
#endif
#ifdef BUG_CLEAR_LATE
        abandoned[r] = 0;
#endif
        if :: ok -> break :: else fi
     fi
  od;
  i = 0; ok = 0;
  do
  :: i < n -> atomic { val[SLOT(p + i)] = v + i; idx[SLOT(p + i)] = i; i++ } /* [P7] */
  :: else -> break
  od;
#ifdef BUG_WITHDRAW_FIRST
  put_end[r] = 0;
#endif
#ifdef BUG_PUBLISH_FORWARD
  i = 0;
  do
  :: i < n -> cas(word[SLOT(p + i)], FREE(p + i), FULL(p + i)); assert(ok); i++
  :: else -> break
  od;
  i = 0;
#else
  do
  :: i > 0 -> i--; cas(word[SLOT(p + i)], FREE(p + i), FULL(p + i)); assert(ok) /* [P8], never SHMQ_CLAIM_LOST */
  :: else -> break
  od;
#endif
  atomic {                                         /* [P9] */
    put_end[r] = 0;
    do :: i < n -> acked[v + i] = 1; i++ :: else -> break od;
    i = 0
  };
  p = 0; q = 0; ok = 0
}

/* shmq_abandon and shmq_clean of record r. In the atomics engine an interrupted get adopts its own items. */
inline abandon(v) {
  q = get_begin[r];
  abandoned[r] = 1;                                /* [A1] */
#ifdef BUG_ABANDON_PUBLISH
  if
  :: put_end[r] > put_begin[r] && CLAIMED_BY_PUT(put_begin[r]) ->
     p = put_begin[r]; i = put_end[r] - p;
     do :: i > 0 -> i--; cas(word[SLOT(p + i)], FREE(p + i), FULL(p + i)) :: else -> break od;
     p = 0; ok = 0
  :: else
  fi;
#endif
  do
  :: q < get_end[r] -> rescue_get(q); q++
  :: else -> break
  od;
  q = put_begin[r];
  if :: put_end[r] > q && CLAIMED_BY_PUT(q) -> rescue_put(q); ok = 0 :: else fi; /* shmq_resolve */
  q = 0;
#ifdef BUG_ABANDON_EARLY
  put_end[r] = 0; get_end[r] = 0; abandoned[r] = 0
#else
  if
  :: RESOLVED_PUT(r) && RESOLVED_GET(r) ->
     put_end[r] = 0; get_end[r] = 0;               /* [R2] */
#ifdef SPSC
#ifndef BUG_SAME_NAME
     generation[r]++;
#endif
#endif
#ifndef BUG_CLEAR_LATE
     abandoned[r] = 0                              /* [R2] last */
#else
     skip
#endif
  :: else -> take_record(v)                        /* it stays marked; the next operation takes another */
  fi
#endif
}

proctype putter(byte me; byte n; byte v) {
  byte r = me, p, w, i, k, b, e, t, j, u, q, o, copy;
  bit ok, live, of_another;
  {
    { put(n, v) } unless { interrupted[me] };
    if
    :: interrupted[me] ->
       d_step { interrupted[me] = 0; p = 0; w = 0; i = 0; k = 0; b = 0; e = 0; t = 0; j = 0; u = 0; q = 0;
                o = 0; ok = 0; live = 0; of_another = 0 };
       abandon(me);
       put(1, AGAIN)
    :: else
    fi;
    atomic { done[me] = 1; owner[r] = 0 }          /* shmq_leave_record */
  } unless { !alive[me] };
  d_step { r = 0; p = 0; w = 0; i = 0; k = 0; b = 0; e = 0; t = 0; j = 0; u = 0; q = 0; o = 0; copy = 0; ok = 0;
           live = 0; of_another = 0 }
}

#if NEWCOMER
proctype newcomer(byte me) {
  byte r = 0, p, w, i, k, b, e, t, j, u, q, o;
  bit ok, live, of_another;
  {
    take_record(me);
    put(1, NEW);
    atomic { done[me] = 1; owner[r] = 0 }          /* shmq_leave_record */
  } unless { !alive[me] };
  d_step { r = 0; p = 0; w = 0; i = 0; k = 0; b = 0; e = 0; t = 0; j = 0; u = 0; q = 0; o = 0; ok = 0; live = 0;
           of_another = 0 }
}
#endif

/* Gets with record `mine` until everything has come. */
inline get(mine, last) {
#ifdef SPSC
  r = mine;
#ifdef BUG_ROLE_CACHED
  /* a forked child believes what its parent knew */
  if :: mine == LAST -> ok = 1 :: else -> take_role(consumer, PUTTERS_ENDED) fi;
#else
  take_role(consumer, (mine != LAST && PUTTERS_ENDED));
#endif
  r = 0;
  if :: !ok -> goto leave :: else -> ok = 0 fi;
#endif
  do
  ::
#ifdef IDLE
     (word[SLOT(head)] == FULL(head) || PUTTERS_ENDED); /* asleep until there is something */
#endif
     p = head;                                     /* [G1] */
     w = word[SLOT(p)];                            /* [G2] */
     if
     :: w == FULL(p) ->
        m = 1;
#if LIMIT > 1 && CAP > 1
        if :: word[SLOT(p + 1)] == FULL(p + 1) -> m = 2 :: else fi;
#endif
        w = 0;
#ifndef BUG_LATE_ANNOUNCE_GET
        announce(get_begin[mine], get_end[mine], p, p + m); /* [G4] */
#endif
#ifdef SPSC
        head = p + m; ok = 1;                      /* [G5] */
#else
        cas(head, p, p + m);                       /* [G5] */
#endif
#ifdef BUG_LATE_ANNOUNCE_GET
        if :: ok -> announce(get_begin[mine], get_end[mine], p, p + m) :: else fi;
#endif
        if
        :: ok ->
           v0 = val[SLOT(p)]; if :: m == 2 -> v1 = val[SLOT(p + 1)] :: else fi;
#ifdef BUG_WITHDRAW_FIRST_GET
           get_end[mine] = 0;
#endif
           i = 0;
           do
           :: i < m ->
              atomic {                             /* [G6] decides which getter has it: this one, while it lives */
                assert(word[SLOT(p + i)] == FULL(p + i)); word[SLOT(p + i)] = FREE(p + i + CAP);
                if :: i == 0 -> take(v0); v0 = 0 :: else -> take(v1); v1 = 0 fi; i++
              }
           :: else -> break
           od;
           i = 0; ok = 0; m = 0;
           get_end[mine] = 0                       /* [G7] */
        :: else -> m = 0                           /* the next announcement replaces this one */
        fi
     :: w == TOMB(p) ->
        get_end[mine] = 0;
        cas(word[SLOT(p)], w, FREE(p + CAP)); ok = 0; w = 0 /* [T2] */
     :: POS(w) > p ->
        get_end[mine] = 0;
#ifdef SPSC
        head = p + 1;                              /* [H1] */
#else
        cas(head, p, p + 1);                       /* [H1] */
#endif
        ok = 0; w = 0
     :: w == FREE(p) ->
        get_end[mine] = 0;
        if
        :: tail > p ->                             /* [G3] */
           rescue_put(p);
           if :: !ok -> (word[SLOT(p)] != FREE(p) || !LIVE_PUT(p)) :: else -> ok = 0 fi
        :: else ->
           adopt();
           if
           :: atomic { (last) && OTHERS_ENDED && head == p && tail == p && word[SLOT(p)] == FREE(p) && !ORPHAN -> break }
           :: atomic { !(last) && PUTTERS_ENDED && head == p && tail == p && word[SLOT(p)] == FREE(p) -> break }
           :: tail > p || head != p || word[SLOT(p)] != FREE(p) || ORPHAN
           fi
        fi; w = 0
     :: else ->                                    /* of the lap before */
        get_end[mine] = 0;
        if
        :: head != p                               /* [G1] */
        :: else ->
           assert(w == FULL(p - CAP));             /* SHMQ_CORRUPT */
#ifdef BUG_NO_EARLIER
           (head != p || word[SLOT(p)] != w)
#else
           rescue_get(p - CAP);
           (head != p || word[SLOT(p)] != w || !LIVE_GET(p - CAP))
#endif
        fi; w = 0
     fi;
     p = 0
  od;
  p = 0; w = 0
}
proctype getter(byte me) {
  byte p, w, m, i, k, b, e, t, j, u, q, r, o, copy, v0, v1;
  bit ok, live, of_another;
  {
    { get(me, me == LAST); leave: skip } unless { interrupted[me] };
    if
    :: interrupted[me] ->
       d_step { interrupted[me] = 0; p = 0; w = 0; m = 0; i = 0; k = 0; b = 0; e = 0; t = 0; j = 0; u = 0; q = 0;
                r = me; o = 0; copy = 0; v0 = 0; v1 = 0; ok = 0; live = 0; of_another = 0 };
       abandon(me);
       put(1, AGAIN)
    :: else
    fi;
    atomic { done[me] = 1; owner[me] = 0 }         /* shmq_leave_record */
  } unless { !alive[me] };
  d_step { p = 0; w = 0; m = 0; i = 0; k = 0; b = 0; e = 0; t = 0; j = 0; u = 0; q = 0; r = 0; o = 0; copy = 0;
           v0 = 0; v1 = 0; ok = 0; live = 0; of_another = 0 }
}

/* Targets of deaths and interrupts, as masks of processes; never the last getter. */
#ifndef MORTAL
#define MORTAL 255
#endif
#ifndef INTERRUPTIBLE
#define INTERRUPTIBLE 1
#endif
#define HITS(mask, i) (((mask) >> (i)) % 2 && i != LAST && alive[i] && !done[i])
#define DIES(i) atomic { crashes < CRASH && HITS(MORTAL, i) -> crashes++; alive[i] = 0 }
#define IS_INTERRUPTED(i) atomic { interrupts < INTR && HITS(INTERRUPTIBLE, i) -> interrupts++; interrupted[i] = 1 }
proctype fate() {
end:
  do
  :: DIES(0)
  :: DIES(1)
#if LIVES > 2
  :: DIES(2)
#endif
#if LIVES > 3
  :: DIES(3)
#endif
#if LIVES > 4
  :: DIES(4)
#endif
#if INTR > 0
  :: IS_INTERRUPTED(0)
  :: IS_INTERRUPTED(1)
#if OPS > 2
  :: IS_INTERRUPTED(2)
#endif
#endif
  od
}

init {
  byte i;
  atomic {
    do :: i < CAP -> word[SLOT(CAP + i)] = FREE(CAP + i); i++ :: else -> break od;
    head = CAP; tail = CAP + FILLED; i = 0;
    do :: i < FILLED -> word[SLOT(CAP + i)] = FULL(CAP + i); val[SLOT(CAP + i)] = OLD + i; acked[OLD + i] = 1; i++ :: else -> break od;
    i = 0;
    do :: i < OPS -> owner[i] = i + 1; i++ :: else -> break od;
    i = 0;
    do :: i < LIVES -> alive[i] = 1; i++ :: else -> break od;
    i = 0;
#if PUTTERS > 0
    run putter(0, PUT0, 1);
#endif
#if PUTTERS > 1
    run putter(1, PUT1, 4);
#endif
    run getter(PUTTERS);
#if GETTERS > 1
    run getter(PUTTERS + 1);
#endif
#if GETTERS > 2
    run getter(PUTTERS + 2);
#endif
#if NEWCOMER
    run newcomer(LIVES - 1);
#endif
#if CRASH + INTR > 0
    run fate()
#endif
  }
  (done[LAST]);
  d_step {
    do :: i < ITEMS -> assert(!acked[i] || taken[i]); i++ :: else -> break od;
    assert(PUT0 < 2 || taken[1] == taken[2]);
    assert(PUT0 < 3 || taken[1] == taken[3]);
    assert(PUTTERS < 2 || PUT1 < 2 || taken[4] == taken[5])
  }
}
