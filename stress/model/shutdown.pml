/* The end of work: shmq_shut and shmq_at_the_end of ending.h, with the claims of ring.h. A mark in tail, after which no
   claim of a put succeeds, and for an immediate shutdown a mark in head, after which no claim of a get does.

   PUTTERS put once each (the first one BATCH items, or none). Getter 0, and the last one, which lives, get until they
   raise ShutDown. SHUTTERS shut down, the last one lives; IMMEDIATE. CRASH of them die before any step. WAKE: a waiter
   sleeps until it is woken (a slice of sleep ends by itself only after a death); otherwise until something has changed.
   The scan of announcements is one step here: ring.pml has it step by step.

   Checked: a put that begins after a shutdown has returned, or after a get has raised ShutDown, is refused. A put that
   was acknowledged is handed out (not with IMMEDIATE), nothing twice. When ShutDown is raised nothing is left or under
   way, and nothing comes after it. No get that begins after an immediate shutdown has returned gets anything. No
   process is stuck. */
#ifndef CAP
#define CAP 1
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
#define FREE(p) ((p) * 8)
#define FULL(p) ((p) * 8 + 1)
#define TOMB(p) ((p) * 8 + 2)
#define POS(w) ((w) / 8)
#define SLOT(p) ((p) % CAP)

byte head, tail, word[CAP], val[CAP], idx[CAP];
byte get_begin[NG], get_end[NG], put_begin[PUTTERS], put_end[PUTTERS];
bit alive[LIVES], ended[LIVES];
byte crashes;
byte epoch_items, epoch_space; bit armed_items, armed_space;
#ifdef BUG_FLAG
bit flag;                                          /* a word of its own instead of a mark in tail */
#endif
bit shut_returned, stop_returned, raised;
bit claimed[ITEMS + 1], acked[ITEMS + 1], finished[ITEMS + 1], buried[ITEMS + 1];
byte handed[ITEMS + 1];

#define LIVE_GET_1(g, q) (alive[g] && get_begin[g] <= (q) && (q) < get_end[g])
#define LIVE_GET(q) (LIVE_GET_1(0, q) || LIVE_GET_1(1, q))
#define LIVE_PUT_1(i, q) (alive[PUTTER(i)] && put_begin[i] <= (q) && (q) < put_end[i])
#if PUTTERS == 1
#define LIVE_PUT(q) LIVE_PUT_1(0, q)
#else
#define LIVE_PUT(q) (LIVE_PUT_1(0, q) || LIVE_PUT_1(1, q))
#endif
#define WAITS(p) (word[SLOT(p)] == FULL(p))
#define ORPHAN_1(s) (word[s] % 8 == 1 && POS(word[s]) < AT(head) && !LIVE_GET(POS(word[s])))
#define CLAIMED_1(g) (get_end[g] > get_begin[g] && AT(head) > get_begin[g] && WAITS(get_begin[g]))
#define CLAIMED_GETS (CLAIMED_1(0) || CLAIMED_1(1))
#if CAP == 1
#define ORPHAN ORPHAN_1(0)
#else
#define ORPHAN (ORPHAN_1(0) || ORPHAN_1(1))
#endif
#define UNFINISHED_1(v) (claimed[v] && !finished[v] && !buried[v])
#define UNFINISHED (UNFINISHED_1(1) || UNFINISHED_1(2) || UNFINISHED_1(3) || UNFINISHED_1(4))

inline cas(x, expected, desired) {
  d_step { if :: x == (expected) -> x = (desired); ok = 1 :: else -> ok = 0 fi }
}
/* [W4][W5]; all sleepers at once */
inline wake_items() { d_step { if :: armed_items -> armed_items = 0; epoch_items++ :: else fi } }
inline wake_space() { d_step { if :: armed_space -> armed_space = 0; epoch_space++ :: else fi } }
/* Another operation is about to end there: a short sleep, and a look. */
#define NAP(condition) (condition)
#ifdef WAKE
#define ARM_ITEMS d_step { e = epoch_items; armed_items = 1 } /* [W1][W2] */
#define ARM_SPACE d_step { e = epoch_space; armed_space = 1 }
#define SLEEP_ITEMS(condition) (epoch_items != e || crashes > 0 && (condition))
#define SLEEP_SPACE(condition) (epoch_space != e || crashes > 0 && (condition))
#define WAKE_ITEMS wake_items()
#define WAKE_SPACE wake_space()
#else
#define ARM_ITEMS skip
#define ARM_SPACE skip
#define SLEEP_ITEMS(condition) (condition)
#define SLEEP_SPACE(condition) (condition)
#define WAKE_ITEMS skip
#define WAKE_SPACE skip
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

proctype G(byte me) {
  byte p, w, q, v, t, e, h;
  bit ok, adopting, late, held;
  {
  skip;
call: late = stop_returned;
look:
  atomic { adopting = 0; ok = 0; v = 0; w = 0; p = 0; q = 0; t = 0; h = 0; held = 0 };
  ARM_ITEMS;
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
     :: BEYOND(t, p) -> bury(p); NAP(word[SLOT(p)] != FREE(p) || !LIVE_PUT(p) || IS_MARKED(head)); goto look
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
           if :: !ok -> goto shut :: else -> ok = 0 fi
#endif
        :: else
        fi;
        if
        :: w != FREE(p) || held -> NAP(AT(head) != p || IS_MARKED(head) || word[SLOT(p)] != w || ORPHAN || (held && !CLAIMED_GETS))
        :: else ->
           SLEEP_ITEMS(AT(head) != p || IS_MARKED(head) || AT(tail) > p || ORPHAN || (IS_CLOSED(tail) && !CLAIMED_GETS))
        fi;
        goto look
     fi
  :: else
  fi;
  /* q is to be taken: FULL(head), or an orphan */
  if
  :: !adopting ->
     d_step { get_begin[me] = q; get_end[me] = q + 1 };
#ifdef BUG_STOP_STORE
     head = q + 1; ok = 1;
#else
     cas(head, q, q + 1);                          /* [G5] fails once the mark is there */
#endif
     if
     :: !ok ->
        get_end[me] = 0;
        goto look
     :: else
     fi
  :: else
  fi;
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
  goto call;
shut:
  atomic {
#ifndef BUG_STOP_FIRST
    assert(IS_MARKED(head) || !UNFINISHED);
#endif
    raised = raised || !IS_MARKED(head);           /* after it nothing comes */
    shut_returned = 1                              /* and nothing that begins later is accepted */
  };
  WAKE_ITEMS;
  ended[me] = 1
  } unless { !alive[me] };
  d_step { p = 0; w = 0; q = 0; v = 0; t = 0; e = 0; h = 0; ok = 0; adopting = 0; late = 0; held = 0 }
}

proctype P(byte i; byte n; byte v) {
  byte p, t, w, j, e, me = PUTTER(i);
  bit ok, late;
  {
  late = shut_returned;
#if BATCH == 0
  goto refused;
#endif
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
  d_step { p = 0; t = 0; w = 0; j = 0; e = 0; ok = 0; late = 0 }
}

proctype S(byte i) {
  byte me = SHUTTER(i);
  {
#ifdef BUG_STOP_FIRST
#ifdef IMMEDIATE
  d_step { if :: !IS_MARKED(head) -> head = head + MARK :: else fi };
#endif
#endif
#ifdef BUG_FLAG
  flag = 1;
#else
  d_step { if :: !IS_MARKED(tail) -> tail = tail + MARK :: else fi }; /* [D1] */
#endif
#ifdef IMMEDIATE
#ifndef BUG_STOP_NOWHERE
  d_step { if :: !IS_MARKED(head) -> head = head + MARK :: else fi }; /* [D7] */
#endif
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

#define DIES(i) atomic { crashes < CRASH && alive[i] && !ended[i] -> crashes++; alive[i] = 0 }
proctype fate() {
end:
  do
  :: DIES(0)
  :: DIES(PUTTER(0))
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
    run P(0, BATCH, 1);
#if PUTTERS > 1
    run P(1, 1, 3);
#endif
    run S(0);
#if SHUTTERS > 1
    run S(1);
#endif
#if CRASH > 0
    run fate()
#endif
  }
  (ended[LAST]);
#if !defined(IMMEDIATE)
  i = 1;
  do :: i <= ITEMS -> assert(!acked[i] || finished[i]); i++ :: else -> break od
#endif
}
