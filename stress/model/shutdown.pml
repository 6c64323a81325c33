/* The end of work: shmq_shut and shmq_at_the_end of ending.h, with the claims of ring.h. A mark in tail, after which no
   claim of a put succeeds, and for an immediate shutdown a mark in head, after which no claim of a get does. With NL
   lease slots: leases.h, returns.h and leased_ring.h, too.

   PUTTERS put once each (the first one BATCH items, or none). Getter 0, and the last one, which lives, get until they
   raise ShutDown; ONCE: getter 0 leaves after one item. With leases they end what they got, or give it back (RELEASES
   times in all). SHUTTERS shut down, the last one lives; IMMEDIATE. JOIN: a process joins. SPSC: the last getter begins
   when getter 0 is dead or has left, and head moves by a store. CRASH of them die before any step. WAKE: a waiter
   sleeps until it is woken (a slice of sleep ends by itself only after a death); otherwise until something has changed.
   The scan of announcements is one step here: ring.pml has it step by step, and lease.pml the copy to a lease slot.

   Checked: a put that begins after a shutdown has returned, or after a get has raised ShutDown, is refused. A put that
   was acknowledged is handed out (not with IMMEDIATE), nothing twice. When ShutDown is raised nothing is left, under
   way or leased, and nothing comes after it. No get that begins after an immediate shutdown has returned gets anything.
   Join does not return while anything is unfinished, or, after an immediate shutdown, in work; then nothing is handed
   out any more. No process is stuck. */
#include "shutdown_state.pml"

inline cas(x, expected, desired) {
  d_step { if :: x == (expected) -> x = (desired); ok = 1 :: else -> ok = 0 fi }
}
/* [W4][W5]; all sleepers at once */
inline wake_items() { d_step { if :: armed_items -> armed_items = 0; epoch_items++ :: else fi } }
inline wake_space() { d_step { if :: armed_space -> armed_space = 0; epoch_space++ :: else fi } }
/* After the end of a lease: for an item, or, in a closed queue, for just this end [D5]. */
inline wake_for_lease() {
  if
  :: armed_items ->
     if
#ifndef BUG_DONE_FOR_ITEMS
     :: IS_CLOSED(tail) -> wake_items()
#endif
     :: else -> if :: IS_NEXT_FULL -> wake_items() :: else fi
     fi
  :: else
  fi
}

/* The rescue of an orphan put at q, its scan in one step; from the last member to the first. ok = look again. */
inline bury(q) {
  atomic {
    ok = 0;
    if
    :: word[SLOT(q)] == FREE(q) && !LIVE_PUT(q) ->
#if CAP > 1 && BATCH > 1
       if
       :: word[SLOT(q + 1)] == FULL(q + 1) && idx[SLOT(q + 1)] == 1 -> word[SLOT(q + 1)] = TOMB(q + 1); buried[val[SLOT(q + 1)]] = 1
       :: word[SLOT(q + 1)] == FREE(q + 1) && BEYOND(tail, q + 1) && val[SLOT(q)] == 1 && claimed[2] -> buried[2] = 1
       :: else
       fi;
#endif
       word[SLOT(q)] = TOMB(q); buried[val[SLOT(q)]] = 1; ok = 1
    :: else
    fi
  };
  if :: ok -> WAKE_ITEMS; ok = 0 :: else fi
}

#if NL > 0
inline take_holder(l, from) {
  d_step { if :: holder[l] == (from) -> holder[l] = me + 1; ok = 1 :: else -> ok = 0 fi }
}
inline drop(l) { d_step { if :: count[l] > 0 -> count[l] = 0; finished[lval[l]] = 1 :: else fi } }
inline leave(l) {                                  /* [E9] */
  holder[l] = 0;
#ifndef BUG_DONE_NO_WAKE
  WAKE_FOR_LEASE
#endif
}
/* What I do not know of a lease slot that is mine, its slot of the ring tells. */
inline settle(l) {
  q = lpos[l];
  if
  :: word[SLOT(q)] == GIVEN(q, l) ->
     if :: count[l] == 0 -> count[l] = 1 :: else fi; /* [E5] */
     cas(word[SLOT(q)], GIVEN(q, l), FREE(q + CAP)); WAKE_SPACE /* [E6] */
  :: else
  fi;
  q = 0
}
#endif

proctype G(byte me) {
  byte p, w, q, v, t, e, h;
  bit ok, adopting, late, held;
#if NL > 0
  byte l, o;
#endif
  {
#ifdef SPSC
  (me == 0 || !alive[0] || ended[0]);              /* the role */
#else
  skip;
#endif
call: late = stop_returned;
look:
  atomic {
#if NL > 0
    l = 0; o = 0;
#endif
    adopting = 0; ok = 0; v = 0; w = 0; p = 0; q = 0; t = 0; h = 0; held = 0
  };
  ARM_ITEMS;
#if NL > 0
#ifdef BUG_SHUT_LEASES_FIRST
  v = LEASED;
#endif
  do
  :: l < NL ->                                     /* what came back, or was a dead getter's */
     o = holder[l];                                /* [E1] */
     if
     :: (o == 0 && count[l] > 0) || DEAD(o) -> take_holder(l, o) /* [E2] */
     :: else -> ok = 0
     fi;
     if
     :: ok ->
        settle(l);
        if
#ifndef BUG_NO_STOP_CHECK
        :: IS_STOPPED -> drop(l); leave(l)          /* [D6] dropped */
#endif
        :: else ->
           if
           :: count[l] > 0 -> count[l]++; goto hand_out /* [E7] */
           :: else -> leave(l)
           fi
        fi
     :: else
     fi;
     l++
  :: else -> break
  od;
  l = 0; ok = 0; o = 0;
#endif
#ifdef SPSC
  if :: stopped -> goto shut :: else fi;           /* [D2] */
#endif
  h = head;                                        /* [G1] */
  d_step { p = AT(h); w = word[SLOT(p)] };         /* [G2] */
  if
  :: IS_MARKED(h) -> goto shut                     /* immediate */
  :: !IS_MARKED(h) && w == FULL(p) -> q = p
  :: !IS_MARKED(h) && w == TOMB(p) -> cas(word[SLOT(p)], w, FREE(p + CAP)); WAKE_SPACE; goto look
  :: !IS_MARKED(h) && POS(w) > p -> assert(p < AT(tail)); cas(head, p, p + 1); goto look
  :: !IS_MARKED(h) && w == FREE(p) ->
     t = tail;                                     /* [G3] */
     if
#ifndef BUG_SHUT_PENDING
     :: BEYOND(t, p) -> bury(p); NAP(word[SLOT(p)] != FREE(p) || !LIVE_PUT(p) || IS_STOPPED); goto look
#endif
     :: else -> skip
     fi
  :: else -> skip                                  /* of the lap before */
  fi;
  if
  :: w != FULL(p) ->
     /* empty: what a dead get has claimed; then whether this is the end */
     atomic {
       ok = 0;
#ifndef BUG_SHUT_EMPTY
       if
       :: ORPHAN_1(0) -> q = POS(word[0]); ok = 1
#if CAP > 1
       :: ORPHAN_1(1) -> q = POS(word[1]); ok = 1
#endif
       :: else
       fi
#endif
     };
     if
     :: ok -> adopting = 1; ok = 0
     :: else ->
        if
        :: w == FREE(p) && IS_CLOSED(t) ->         /* [D3] tail is final */
#ifdef BUG_SHUT_EMPTY
           goto shut;
#else
           ok = CLAIMED_GETS; held = ok;           /* [D4] */
#if NL > 0 && !defined(BUG_SHUT_NO_LEASES)
#ifdef BUG_SHUT_LEASES_FIRST
           ok = ok || v; v = 0;
#else
           do
           :: l < NL -> if :: LEASED_1(l) -> ok = 1 :: else fi; l++ /* [D5] after the ring */
           :: else -> break
           od;
           l = 0;
#endif
#endif
           if :: !ok -> goto shut :: else -> ok = 0 fi
#endif
        :: else
        fi;
        if
        :: w != FREE(p) || held -> NAP(AT(head) != p || IS_STOPPED || word[SLOT(p)] != w || RETURNED || ORPHAN || (held && !CLAIMED_GETS))
        :: else ->
           SLEEP_ITEMS(AT(head) != p || IS_STOPPED || AT(tail) > p || RETURNED || ORPHAN || (IS_CLOSED(tail) && !CLAIMED_GETS && !LEASED))
        fi;
        goto look
     fi
  :: else
  fi;
  /* q is to be taken: FULL(head), or an orphan */
#if NL > 0
  l = 0; ok = 0; v = 0;
  do
  :: l < NL ->
     if :: holder[l] == 0 && count[l] == 0 -> take_holder(l, 0) :: else -> ok = 0 fi;
     if
     :: ok && count[l] > 0 ->                      /* another getter has given an item back just there */
        if
        :: IS_STOPPED -> drop(l); leave(l); goto look
        :: else -> count[l]++; goto hand_out
        fi
     :: ok && count[l] == 0 -> break
     :: else -> l++
     fi
  :: else -> break
  od;
  if
  :: l == NL -> SLEEP_ITEMS(AVAILABLE || word[SLOT(q)] != FULL(q) || IS_STOPPED); goto look /* exhausted */
  :: else
  fi;
#if defined(SPSC) && !defined(BUG_NO_STOP_CHECK)
  if :: stopped -> leave(l); goto shut :: else fi; /* [D6] */
#endif
#endif
  if
  :: !adopting ->
     d_step { get_begin[me] = q; get_end[me] = q + 1 };
#if defined(BUG_STOP_STORE) || defined(SPSC)
     head = q + 1; ok = 1;
#else
     cas(head, q, q + 1);                          /* [G5] fails once the mark is there */
#endif
     if
     :: !ok ->
        get_end[me] = 0;
#if NL > 0
        leave(l);
#endif
        goto look
     :: else
     fi
  :: else
  fi;
#if NL == 0
  v = val[SLOT(q)];
  atomic {
    cas(word[SLOT(q)], FULL(q), FREE(q + CAP));    /* [G6] decides */
    if
    :: ok ->
       assert(!finished[v] && handed[v] == 0 && !raised && !late);
       handed[v]++; finished[v] = 1
    :: else
    fi
  };
  get_end[me] = 0; WAKE_SPACE;
#else
  d_step { lval[l] = val[SLOT(q)]; lpos[l] = q };  /* [E3] */
  cas(word[SLOT(q)], FULL(q), GIVEN(q, l));        /* [E4] */
  if
  :: !ok -> get_end[me] = 0; leave(l); goto look
  :: else
  fi;
  count[l] = 1;                                    /* [E5] */
  cas(word[SLOT(q)], GIVEN(q, l), FREE(q + CAP));  /* [E6] */
  get_end[me] = 0; WAKE_SPACE;
#ifndef BUG_NO_STOP_CHECK
  if :: adopting && IS_STOPPED -> drop(l); leave(l); goto look :: else fi; /* [D6] */
#endif
hand_out:
  atomic {
    v = lval[l];
    assert(!finished[v] && (in_work[v] == 0 || !alive[in_work[v] - 1]) && !raised && !late && !joined_stopped);
    in_work[v] = me + 1; handed[v]++; p = 0; w = 0; q = 0; o = 0; adopting = 0; ok = 0; t = 0; h = 0
  };
  if
  :: atomic { count[l] = 0; finished[v] = 1; in_work[v] = 0 }; /* [E8] it is done */
     leave(l)
  :: atomic { releases < RELEASES && !IS_STOPPED -> releases++; in_work[v] = 0 };
     leave(l); WAKE_ITEMS                          /* [E10] */
  fi;
#endif
#ifdef ONCE
  if :: me != LAST -> goto quit :: else fi;        /* it has other things to do from here on */
#endif
  goto call;
shut:
  atomic {
#ifndef BUG_STOP_FIRST
    assert(IS_STOPPED || !UNFINISHED);
#endif
    raised = raised || !IS_STOPPED;                /* after it nothing comes */
    shut_returned = 1                              /* and nothing that begins later is accepted */
  };
  WAKE_ITEMS;
#ifdef ONCE
quit:
#endif
  ended[me] = 1
  } unless { !alive[me] };
  d_step {
#if NL > 0
    l = 0; o = 0;
#endif
    p = 0; w = 0; q = 0; v = 0; t = 0; e = 0; h = 0; ok = 0; adopting = 0; late = 0; held = 0
  }
}

proctype P(byte i; byte n; byte v) {
  byte p, t, w, j, e, me = PUTTER(i);
  bit ok, late;
#if NL > 0
  byte l, o, q;
#endif
  {
  late = shut_returned;
  do
  ::
     atomic { ok = 0; w = 0; j = 0; p = 0 };
     ARM_SPACE;
#ifdef BUG_FLAG
     if :: flag -> goto refused :: else fi;
#endif
     t = tail; p = AT(t);                          /* [P1] */
     j = 0; w = word[SLOT(p)];
     if
     :: IS_MARKED(t) -> goto refused               /* [D2] no word fits a marked tail, so only a refused put looks */
     :: else
     fi;
#if CAP > 1 && BATCH > 1
     if :: n == 2 && w == FREE(p) -> j = 1; w = word[SLOT(p + 1)] :: else fi;
#endif
     if
     :: w == FREE(p + j) ->
        d_step { put_begin[i] = p; put_end[i] = p + n };
#ifdef BUG_SPSC_STORE
        atomic { tail = p + n; ok = 1; claimed[v] = 1; if :: n == 2 -> claimed[v + 1] = 1 :: else fi; val[SLOT(p)] = v };
#else
        atomic { cas(tail, p, p + n); if :: ok -> claimed[v] = 1; val[SLOT(p)] = v; if :: n == 2 -> claimed[v + 1] = 1 :: else fi :: else fi }; /* [P6] */
#endif
        if :: ok -> break :: else -> put_end[i] = 0 fi
     :: w == TOMB(p + j - CAP) -> cas(word[SLOT(p + j)], w, FREE(p + j)); WAKE_SPACE
     :: w == FREE(p + j - CAP) -> bury(p + j - CAP); NAP(tail != t || word[SLOT(p + j)] != w || !LIVE_PUT(p + j - CAP))
#if NL > 0
     :: IS_GIVEN(w) ->                             /* of the lap before */
        l = LEASE(w); o = holder[l];
        if
        :: DEAD(o) -> take_holder(l, o); if :: ok -> settle(l); leave(l); WAKE_ITEMS :: else fi
        :: else -> NAP(word[SLOT(p + j)] != w || DEAD(holder[l]) || IS_MARKED(tail))
        fi;
        l = 0; o = 0
#endif
     :: else -> SLEEP_SPACE(tail != t || word[SLOT(p + j)] != w) /* full, or stale */
     fi
  od;
  j = n;
  do
  :: j > 0 -> j--; atomic { val[SLOT(p + j)] = v + j; idx[SLOT(p + j)] = j; assert(word[SLOT(p + j)] == FREE(p + j)); word[SLOT(p + j)] = FULL(p + j) }
  :: else -> break
  od;
  atomic {
    put_end[i] = 0; acked[v] = 1; if :: n == 2 -> acked[v + 1] = 1 :: else fi;
    assert(!late)                                  /* begun after shutdown had returned */
  };
  WAKE_ITEMS;
refused:
  ended[me] = 1
  } unless { !alive[me] };
  d_step {
#if NL > 0
    l = 0; o = 0; q = 0;
#endif
    p = 0; t = 0; w = 0; j = 0; e = 0; ok = 0; late = 0
  }
}

inline close() { d_step { if :: !IS_MARKED(tail) -> tail = tail + MARK :: else fi } }
inline stop() {
#ifdef SPSC
  stopped = 1
#else
  d_step { if :: !IS_MARKED(head) -> head = head + MARK :: else fi }
#endif
}
proctype S(byte i) {
  byte me = SHUTTER(i);
  {
#if defined(IMMEDIATE) && defined(BUG_STOP_FIRST)
  stop();
#endif
#ifdef BUG_FLAG
  flag = 1;
#else
  close();                                         /* [D1] */
#endif
#if defined(IMMEDIATE) && !defined(BUG_STOP_NOWHERE)
  stop();                                          /* [D7] */
#endif
#ifndef BUG_NO_WAKE
  WAKE_ITEMS; WAKE_SPACE;
#endif
  atomic {
    shut_returned = 1;
#ifdef IMMEDIATE
    stop_returned = 1;
#endif
    ended[me] = 1
  }
  } unless { !alive[me] }
}

#ifdef JOIN
#include "shutdown_join.pml"
#endif

#define DIES(i) atomic { crashes < CRASH && alive[i] && !ended[i] -> crashes++; alive[i] = 0 }
proctype fate() {
end:
  do
  :: DIES(0)
#if BATCH > 0
  :: DIES(PUTTER(0))
#endif
#if PUTTERS > 1
  :: DIES(PUTTER(1))
#endif
#if SHUTTERS > 1
  :: DIES(SHUTTER(0))
#endif
  od
}
init {
  byte i;
  atomic {
    do :: i < CAP -> word[SLOT(CAP + i)] = FREE(CAP + i); i++ :: else -> break od;
    head = CAP; tail = CAP + FILLED;
    if :: FILLED > 0 -> word[SLOT(CAP)] = FULL(CAP); val[SLOT(CAP)] = 4; claimed[4] = 1; acked[4] = 1 :: else fi;
    i = 0;
    do :: i < LIVES -> alive[i] = 1; i++ :: else -> break od;
    i = 0;
    run G(0); run G(1);
#if BATCH > 0
    run P(0, BATCH, 1);
#endif
#if PUTTERS > 1
    run P(1, 1, 3);
#endif
    run S(0);
#if SHUTTERS > 1
    run S(1);
#endif
#ifdef JOIN
    run J();
#else
    joined = 1;
#endif
#if CRASH > 0
    run fate()
#endif
  }
  (ended[LAST] && joined);
#if !defined(IMMEDIATE)
  i = 1;
  do :: i <= ITEMS -> assert(!acked[i] || finished[i]); i++ :: else -> break od
#endif
}
