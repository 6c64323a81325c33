/* Leases, as in leases.h, returns.h and leased_ring.h: an item moves from its slot of the ring into a lease slot, is
   handed out, ended or given back, and goes to another getter when its holder dies.

   Getters 0 .. NG-1 look for leases that came back or whose holder is dead, take from the ring, adopt what dead getters
   had claimed, hand out, and then end the lease or give it back (RELEASES times in all). They die (CRASH), or getter 0
   is interrupted (INTR), before any step; the last one always lives. FILLED items are there; a putter puts PUTS more,
   frees tombs, and settles the leases of the dead that are in its way. With JOIN a process joins. The scan of
   announcements is one step here, and so is the claim of a put: ring.pml has them step by step.

   Checked: no item is handed out while a living getter has it, nor after its end; each acknowledged item is ended; the
   count that is handed out exceeds the number of earlier hand-outs, by no more than one for each loss; join does not
   return while anything is unfinished, and does return; no process is stuck. */
#include "lease_state.pml"

inline cas(x, expected, desired) {
  d_step { if :: x == (expected) -> x = (desired); ok = 1 :: else -> ok = 0 fi }
}
/* Take a lease slot that is free, or from a dead getter; noted with no step in between. */
inline take_holder(l, from) {
#ifdef BUG_INHERIT_STORE
  d_step { holder[l] = me + 1; ml = l + 1; ok = 1 }
#else
  d_step { if :: holder[l] == (from) -> holder[l] = me + 1; ml = l + 1; ok = 1 :: else -> ok = 0 fi }
#endif
}
inline give_up(l) { d_step { holder[l] = 0; ml = 0 } }

/* shmq_settle_lease: what I do not know of a lease slot that is mine, its slot of the ring tells. */
inline settle(l) {
  q = lpos[l];
#ifdef BUG_ANONYMOUS                                /* prepared, and the slot has moved on: then it must be mine */
  if
  :: count[l] == 0 && q != 0 && word[SLOT(q)] != FULL(q) -> count[l] = 1
  :: else
  fi;
#else
  if
  :: word[SLOT(q)] == GIVEN(q, l) ->
#ifndef BUG_TRUST_ZERO
     if :: count[l] == 0 -> count[l] = 1 :: else fi; /* [E5] */
#endif
     cas(word[SLOT(q)], GIVEN(q, l), FREE(q + CAP)) /* [E6] */
  :: else
  fi;
#endif
  q = 0
}
#ifdef BUG_ANONYMOUS
/* An adopter voids what dead ones have prepared for this position. */
inline void_others(pos) {
  k = 0;
  do
  :: k < NL ->
     o = holder[k];
     if
     :: DEAD(o) && count[k] == 0 && lpos[k] == pos ->
        d_step { if :: holder[k] == o -> holder[k] = me + 1; ok = 1 :: else -> ok = 0 fi };
        if :: ok -> lpos[k] = 0; holder[k] = 0 :: else fi
     :: else
     fi;
     k++
  :: else -> break
  od;
  k = 0; o = 0
}
#endif

proctype G(byte me) {
  byte p, w, l, q, o, v, cp, ml;
  bit ok, adopting;
#ifdef BUG_ANONYMOUS
  byte k;
#endif
  {
  skip;
resume: skip;
  {
  skip;
look:
#if INTR
  if
  :: ml > 0 ->                                     /* kept back by an interrupt */
     l = ml - 1; v = lval[l];
     if :: in_work[v] == me + 1 -> goto work :: else -> goto raise_count fi
  :: else
  fi;
#endif
  atomic { l = 0; adopting = 0; ok = 0; v = 0; w = 0; p = 0; q = 0; o = 0; cp = 0 };
  do
  :: l < NL ->                                     /* leases that came back */
     o = holder[l];                                /* [E1] */
     if
     :: o == 0 && count[l] > 0 -> take_holder(l, o)
     :: DEAD(o) -> take_holder(l, o)               /* [E2] */
     :: else -> ok = 0
     fi;
     if
     :: ok ->
        settle(l);
        if :: count[l] > 0 -> goto raise_count :: else -> give_up(l) fi
     :: else
     fi;
     l++
  :: else -> break
  od;
  l = 0; ok = 0; o = 0;
  p = head; w = word[SLOT(p)];
  if
  :: w == FULL(p) -> q = p; goto reserve
  :: w == TOMB(p) -> cas(word[SLOT(p)], w, FREE(p + CAP)); goto look
  :: POS(w) > p -> cas(head, p, p + 1); goto look
  :: w == FREE(p) && tail > p ->
     atomic { if :: word[SLOT(p)] == FREE(p) && !LIVE_PUT(p) -> word[SLOT(p)] = TOMB(p); buried[val[SLOT(p)]] = 1 :: else fi };
     (word[SLOT(p)] != FREE(p) || !LIVE_PUT(p) || RETURNED); goto look
  :: else ->                                       /* empty, or the lap before still has the slot */
     atomic {
       ok = 0;
       if
       :: ORPHAN_1(0) -> q = POS(word[0]); ok = 1
#if CAP > 1
       :: ORPHAN_1(1) -> q = POS(word[1]); ok = 1
#endif
       :: else
       fi
     };
     if
     :: ok -> adopting = 1; ok = 0; goto reserve
     :: else ->
        if
        :: head != p || word[SLOT(p)] != w || (w == FREE(p) && tail > p) || RETURNED || ORPHAN -> goto look
        :: me != LAST && PUTS_ENDED && NO_ITEMS -> goto leave
        :: me == LAST && PUTS_ENDED && OTHERS_ENDED && NO_ITEMS && !RETURNED && NO_LEASES -> goto leave
        fi
     fi
  fi;

reserve:                                           /* a lease slot for position q */
  l = 0; ok = 0;
  do
  :: l < NL ->
     if
     :: holder[l] == 0 && count[l] == 0 -> take_holder(l, 0)
     :: else -> ok = 0
     fi;
     if
     :: ok && count[l] > 0 -> goto raise_count     /* another getter has given an item back just there */
     :: ok && count[l] == 0 -> break
     :: else -> l++
     fi
  :: else -> break
  od;
  if
  :: l == NL -> (AVAILABLE || word[SLOT(q)] != FULL(q)); goto look /* exhausted; nothing is held meanwhile */
  :: else
  fi;
  if
  :: !adopting ->
     d_step { get_begin[me] = q; get_end[me] = q + 1 }; /* [G4] */
     cas(head, q, q + 1);                          /* [G5] */
     if
     :: ok -> cp = q
     :: else -> get_end[me] = 0; give_up(l); goto look
     fi
  :: else
  fi;
#ifdef BUG_ANONYMOUS
  if :: adopting -> void_others(q) :: else fi;
#endif
  lval[l] = val[SLOT(q)];                          /* [E3] */
#ifndef BUG_LATE_POSITION
  lpos[l] = q;
#endif
#ifdef BUG_ANONYMOUS
  cas(word[SLOT(q)], FULL(q), FREE(q + CAP));
#else
  cas(word[SLOT(q)], FULL(q), GIVEN(q, l));        /* [E4] decides which getter has it */
#endif
#ifdef BUG_LATE_POSITION
  lpos[l] = q;
#endif
  if
  :: !ok ->
     assert(adopting);                             /* no getter takes from the living */
#ifdef BUG_ANONYMOUS
     lpos[l] = 0;
#endif
     get_end[me] = 0; cp = 0; give_up(l); goto look
  :: else
  fi;
#ifdef BUG_FREE_FIRST
  cas(word[SLOT(q)], GIVEN(q, l), FREE(q + CAP));
#endif
  count[l] = 1;                                    /* [E5] */
#if !defined(BUG_ANONYMOUS) && !defined(BUG_FREE_FIRST) && !defined(BUG_HAND_BEFORE_FREE)
  cas(word[SLOT(q)], GIVEN(q, l), FREE(q + CAP));  /* [E6] */
#endif
  get_end[me] = 0; cp = 0;                         /* [G7] */
  goto hand_out;

raise_count:
#ifndef BUG_NO_COUNT
  count[l] = count[l] + 1;                         /* [E7] before anything of it is looked at */
#endif
hand_out:
  atomic {
    v = lval[l];
    assert(count[l] > 0 && holder[l] == me + 1);
    assert(!finished[v]);
    assert(in_work[v] == 0 || !alive[in_work[v] - 1]);
    assert(count[l] > handed[v] && count[l] <= 1 + handed[v] + crashes + interrupts);
    in_work[v] = me + 1; handed[v]++; p = 0; w = 0; q = 0; o = 0; adopting = 0; ok = 0
  };
work:
  if
#ifdef BUG_DONE_ORDER
  :: holder[l] = 0; atomic { count[l] = 0; assert(!finished[v]); finished[v] = 1; in_work[v] = 0; ml = 0 }
#else
  :: atomic {
       count[l] = 0; finished[v] = 1; in_work[v] = 0 /* [E8] it is done */
#ifdef BUG_ANONYMOUS
       ; lpos[l] = 0                               /* one word says it all there */
#endif
     };
#ifdef BUG_HAND_BEFORE_FREE
     cas(word[SLOT(lpos[l])], GIVEN(lpos[l], l), FREE(lpos[l] + CAP));
#endif
     give_up(l)                                    /* [E9] */
#endif
  :: atomic { releases < RELEASES -> releases++; in_work[v] = 0; p = 0 };
     give_up(l)                                    /* [E9] */
  fi;
  goto look;
leave:
  skip
  } unless { intr[me] };
  if
  :: intr[me] ->
     /* KeyboardInterrupt between two steps. Known: the claim, if it was noted (cp); the lease slot (ml). */
     d_step { intr[me] = 0; p = 0; w = 0; o = 0; q = 0; v = 0; ok = 0; adopting = 0; l = 0 };
     if
     :: cp > 0 && ml > 0 ->                        /* the owner alone decides: complete it */
        l = ml - 1;
        if
        :: word[SLOT(cp)] == FULL(cp) -> lval[l] = val[SLOT(cp)]; lpos[l] = cp; cas(word[SLOT(cp)], FULL(cp), GIVEN(cp, l))
        :: else
        fi;
        settle(l); get_end[me] = 0; cp = 0
     :: else ->
        if :: get_end[me] > 0 -> abandoned[me] = 1 :: else fi /* [A1] */
     fi;
#ifdef BUG_INTERRUPT_HOLDS
     (!abandoned[me] || head <= get_begin[me] || word[SLOT(get_begin[me])] != FULL(get_begin[me]));
#endif
     if
     :: ml > 0 ->
        l = ml - 1;
#ifndef BUG_INTERRUPT_FORGETS
        settle(l);
#endif
        if :: count[l] == 0 -> give_up(l) :: else -> skip fi
     :: else
     fi;
     l = 0;
     if
     :: abandoned[me] ->
        (head <= get_begin[me] || word[SLOT(get_begin[me])] % 8 == 0 || POS(word[SLOT(get_begin[me])]) != get_begin[me] ||
         word[SLOT(get_begin[me])] == TOMB(get_begin[me]));
        get_end[me] = 0; abandoned[me] = 0         /* [R2] */
     :: else
     fi;
     goto resume
  :: else
  fi;
  ended[me] = 1
  } unless { !alive[me] };
  d_step { p = 0; w = 0; l = 0; q = 0; o = 0; v = 0; cp = 0; ml = 0; ok = 0; adopting = 0 }
}

#if PUTS > 0
proctype P() {
  byte p, w, i, l, o, q, ml;
  byte me = PUTTER;
  bit ok;
  {
  do
  :: i < PUTS ->
     do
     ::
        p = tail; w = word[SLOT(p)];
        if
        :: w == FREE(p) ->
           atomic { put_begin = p; put_end = p + 1; tail = p + 1; val[SLOT(p)] = FILLED + 1 + i; claimed[FILLED + 1 + i] = 1 };
           break
        :: w == TOMB(p - CAP) -> cas(word[SLOT(p)], w, FREE(p))
        :: IS_GIVEN(w) ->                          /* of the lap before */
           l = LEASE(w); o = holder[l];
#ifdef BUG_FREE_FOR_LIVE
           cas(word[SLOT(p)], w, FREE(p));
#else
           if
           :: DEAD(o) ->
              take_holder(l, o);
              if :: ok -> settle(l); give_up(l) :: else fi
           :: else -> (word[SLOT(p)] != w || DEAD(holder[l]))
           fi;
#endif
           l = 0; o = 0
        :: else -> (word[SLOT(p)] != w)            /* full */
        fi;
        ok = 0; w = 0
     od;
     atomic { w = 0; ok = 0; assert(word[SLOT(p)] == FREE(p)); word[SLOT(p)] = FULL(p) }; /* [P8] */
     atomic { put_end = 0; acked[FILLED + 1 + i] = 1; i++; p = 0 } /* [P9] */
  :: else -> break
  od;
  ended[PUTTER] = 1
  } unless { !alive[PUTTER] };
  d_step { p = 0; w = 0; i = 0; l = 0; o = 0; q = 0; ml = 0; ok = 0 }
}
#endif

#if JOIN
#define WAITS_1(p) (word[SLOT(p)] == FULL(p) || (IS_GIVEN(word[SLOT(p)]) && POS(word[SLOT(p)]) == (p)))
proctype J() {
  byte t, h, p, g, l, q;
  bit busy, ok;
  skip;
again:
  atomic { busy = 0; h = 0; p = 0; g = 0; l = 0; q = 0; ok = 0 };
  t = tail;                                        /* [J1] */
#ifdef BUG_JOIN_LEASES_FIRST
  do
  :: l < NL && !busy -> if :: count[l] > 0 -> busy = 1 :: else -> l++ fi
  :: else -> break
  od;
#endif
  h = head; p = h;                                 /* [J2] */
  do
  :: p < t && !busy ->
     if
     :: word[SLOT(p)] == FREE(p) ->
        atomic { if :: word[SLOT(p)] == FREE(p) && !LIVE_PUT(p) -> word[SLOT(p)] = TOMB(p); buried[val[SLOT(p)]] = 1 :: else -> busy = 1 fi }
     :: WAITS_1(p) -> busy = 1
     :: else -> p++
     fi
  :: else -> break
  od;
#ifndef BUG_JOIN_NO_RECORDS
  do
  :: g < NG && !busy ->                            /* [J3] what gets have claimed and not finished */
     d_step { q = get_begin[g]; ok = (get_end[g] > q) };
     if :: ok && head > q && WAITS_1(q) -> busy = 1 :: else -> g++ fi
  :: else -> break
  od;
#endif
#ifndef BUG_JOIN_LEASES_FIRST
  do
  :: l < NL && !busy -> if :: count[l] > 0 -> busy = 1 :: else -> l++ fi /* [J4] after the ring */
  :: else -> break
  od;
#endif
  if
  :: busy ->
     ((NO_ITEMS && NO_LEASES) || TOMBS || (tail > 0 && word[SLOT(tail - 1)] == FREE(tail - 1) && !LIVE_PUT(tail - 1)));
     goto again
  :: else ->
     atomic {
       if
#ifndef BUG_JOIN_NO_TAIL
       :: tail != t -> goto again                  /* [J5] */
#endif
       :: else -> assert(!UNFINISHED); joined = 1
       fi
     }
  fi
}
#endif

#define HITS(i) (alive[i] && !ended[i])
proctype fate() {
end:
  do
  :: atomic { crashes < CRASH && HITS(0) -> crashes++; alive[0] = 0 }
#if NG > 2
  :: atomic { crashes < CRASH && HITS(1) -> crashes++; alive[1] = 0 }
#endif
#if PUTS > 0
  :: atomic { crashes < CRASH && HITS(PUTTER) -> crashes++; alive[PUTTER] = 0 }
#endif
#if INTR
  :: atomic { interrupts < INTR && HITS(0) -> interrupts++; intr[0] = 1 }
#endif
  od
}
init {
  byte i;
  atomic {
    do :: i < CAP -> word[SLOT(CAP + i)] = FREE(CAP + i); i++ :: else -> break od;
    head = CAP; tail = CAP + FILLED; i = 0;
    do
    :: i < FILLED -> word[SLOT(CAP + i)] = FULL(CAP + i); val[SLOT(CAP + i)] = i + 1; claimed[i + 1] = 1; acked[i + 1] = 1; i++
    :: else -> break
    od;
    i = 0;
    do :: i < NG + 1 -> alive[i] = 1; i++ :: else -> break od;
    i = 0;
    run G(0); run G(1);
#if NG > 2
    run G(2);
#endif
#if PUTS > 0
    run P();
#else
    ended[PUTTER] = 1;
#endif
#if JOIN
    run J();
#else
    joined = 1;
#endif
    run fate()
  }
  (ended[LAST] && joined);
  i = 1;
  do :: i <= ITEMS -> assert(!acked[i] || finished[i]); i++ :: else -> break od
}
