/* Dead letters, as in dead_letters.h, returns.h and ending.h: items move between NL lease slots and ND dead slots.

   Item i lies in lease slot i at the start, RETURNED or held by a getter that is dead (OF_DEAD). Getters take what came
   back, bury what the dead have left, take what was put back, and end it or give it back, which buries it. They die
   (CRASH) before any step; the last one always lives. BACKS processes put a letter back, and die, too. With JOIN a
   process looks once whether all is ended; with SHUT the queue is shut down, and getters find the end. One delivery is allowed. There is no ring:
   an item that is buried in vain, as all dead slots are taken, comes back.

   Checked: no item is handed out while a living getter has it, nor after its end, nor after a getter has found the end;
   each item that is not ended lies in one place at each moment; join returns only if nothing is left at that moment;
   afterwards every item is ended or a letter. */
#ifndef NI
#define NI 1                         /* items, at most NL */
#endif
#ifndef NL
#define NL 1
#endif
#ifndef ND
#define ND 1
#endif
#ifndef NG
#define NG 2
#endif
#ifndef BACKS
#define BACKS 1
#endif
#ifndef CRASH
#define CRASH 1
#endif
#ifndef OF_DEAD
#define OF_DEAD 1                    /* of the items */
#endif
#define FREE 0                       /* states of a dead slot */
#define BURYING 1
#define BURIED 2
#define LETTER 3
#define OFFERED 4
#define PUT_BACK 5
#define GIVEN 6
#define CLEAR d = 0; e = 0; v = 0; s = 0; i = 0; o = 0; w = 0; ok = 0
#define OTHERS (NG - 1 + BACKS)

byte state[ND], named[ND], version[ND], ditem[ND];           /* a dead slot; its word is the first three */
byte holder[NL], count[NL], litem[NL], link[NL];             /* a lease slot; holder: 1 + getter */
byte returned;                                               /* the version of RETURNED_AT */
bit closed, over, dead[NG + 1], ended[NI + 1];
byte owner[NI + 1];                                          /* 1 + the getter that has an item */
byte crashes, finished;

#define DEAD(h) (h != 0 && dead[h - 1])
#define BURIED_FROM(l) ((link[l] != 0) && state[link[l] - 1] == BURIED && named[link[l] - 1] == l)
#define HAS(l) (count[l] > 0 && !BURIED_FROM(l))
#define WAITS(d) (state[d] == PUT_BACK || (state[d] == GIVEN && count[named[d]] == 0))
#define LIES(d, i) (ditem[d] == i && (state[d] == BURIED || state[d] == LETTER || state[d] == OFFERED || WAITS(d)))
#if NL == 2
#define ANY_LEASED (HAS(0) || HAS(1))
#define LEASED(i) ((HAS(0) && litem[0] == i) + (HAS(1) && litem[1] == i))
#else
#define ANY_LEASED HAS(0)
#define LEASED(i) (HAS(0) && litem[0] == i)
#endif
#if ND == 2
#define ANY_WAITS (WAITS(0) || WAITS(1))
#define DEAD_IN(i) (LIES(0, i) + LIES(1, i))
#else
#define ANY_WAITS WAITS(0)
#define DEAD_IN(i) LIES(0, i)
#endif
#define QUIET (!ANY_LEASED && !ANY_WAITS)

inline step() { if :: true :: me < NG - 1 && crashes < CRASH -> d_step { crashes++; dead[me] = 1 }; goto gone fi }
/* The word of a dead slot, if it has this state and version, gets the next. */
inline cas(d, from, v, to, lease) {
  d_step {
    if
    :: state[d] == from && version[d] == v -> state[d] = to; named[d] = lease; version[d]++; ok = 1
    :: else -> ok = 0
    fi
  }
}
/* shmq_settle_move: what I do not know of a lease slot that is mine, a dead slot tells. */
inline settle(l) {
#ifndef BUG_NO_HEIR
  if
  :: link[l] != 0 ->
     d_step { e = link[l] - 1; v = version[e]; s = state[e]; if :: named[e] != l -> s = FREE :: else fi };
     if
     :: s == BURIED ->
#ifndef BUG_LETTER_FIRST
        step(); count[l] = 0;                                /* [E8] */
#endif
        step(); cas(e, BURIED, v, LETTER, 0);                /* [M4] */
#ifdef BUG_LETTER_FIRST
        step(); count[l] = 0
#endif
     :: s == GIVEN ->
#ifndef BUG_FREE_FIRST
        step(); if :: count[l] == 0 -> count[l] = 1 :: else fi; /* [E5] */
#endif
        step(); cas(e, GIVEN, v, FREE, 0);                   /* [M10] */
#ifdef BUG_FREE_FIRST
        step(); if :: count[l] == 0 -> count[l] = 1 :: else fi
#endif
     :: s == BURYING -> step(); cas(e, BURYING, v, FREE, 0)
     :: else
     fi
  :: else
  fi
#else
  skip
#endif
}
inline leave(l) { step(); holder[l] = 0 }                    /* [E9] */
/* shmq_bury: the item of a lease slot of mine comes back. */
inline bury(l) {
  d = 0; ok = 0;
  do
  :: d < ND && !ok ->
     d_step { v = version[d]; s = state[d] };
     if
     :: s == FREE ->
        step(); link[l] = d + 1;                             /* before [M1] */
        step(); cas(d, FREE, v, BURYING, l);                 /* [M1] */
        if
        :: ok -> step(); ditem[d] = litem[l];                /* [M2] */
                 step(); cas(d, BURYING, v + 1, BURIED, l);  /* [M3] */
                 settle(l); ok = 1
        :: else
        fi
     :: else
     fi;
     if :: !ok -> d++ :: else fi
  :: else -> break
  od;
  leave(l)                                                   /* with the item, if there was no room: it goes last */
}
/* shmq_decide_offer */
inline decide(d, from) {
#ifndef BUG_NO_LOOK_AT_TAIL
  if
  :: closed -> step(); cas(d, OFFERED, from, LETTER, 0)      /* [M6][M7] */
  :: else ->
#else
  if
  :: true ->
#endif
     step(); returned++;                                     /* [M6] */
     step(); cas(d, OFFERED, from, PUT_BACK, 0)              /* [M7] */
  fi
}
inline hand_out(l) {
  d_step {
    i = litem[l];
    assert(!ended[i] && !over && (owner[i] == 0 || dead[owner[i] - 1]));
    owner[i] = me + 1
  };
  if
  :: step(); d_step { count[l] = 0; ended[i] = 1; owner[i] = 0 }; leave(l) /* [E8][E9] */
  :: d_step { owner[i] = 0 }; bury(l)
  fi;
  found = 1
}

proctype getter(byte me) {
  byte l, d, e, v, s, i, o, w; bit ok, found;
again:
  skip;
  d_step { found = 0; CLEAR; l = 0 };
  do
  :: l < NL ->                                               /* shmq_look_for_returns */
     d_step { o = holder[l]; s = count[l] };
     if
     :: DEAD(o) || (o == 0 && s > 0) ->
        step();
        d_step { if :: holder[l] == o -> holder[l] = me + 1; ok = 1 :: else -> ok = 0 fi }; /* [E2] */
        if
        :: ok && DEAD(o) ->
           settle(l);
           if :: count[l] > 0 -> bury(l) :: else -> leave(l) fi;
           found = 1
        :: ok && !DEAD(o) -> if :: count[l] > 0 -> hand_out(l) :: else -> leave(l) fi
        :: else
        fi
     :: else
     fi;
     d_step { CLEAR; l++ }
  :: else -> break
  od;
  do
  :: w < ND ->                                               /* shmq_take_items_put_back */
     d_step { v = version[w]; s = state[w] };
     if :: s == OFFERED -> decide(w, v); d_step { v = version[w]; s = state[w] } :: else fi;
     if
     :: s == PUT_BACK ->
        l = 0; ok = 0;
        do
        :: l < NL && !ok ->
           step();
           d_step { if :: holder[l] == 0 && count[l] == 0 -> holder[l] = me + 1; ok = 1 :: else -> l++ fi }
        :: else -> break
        od;
        if
        :: ok ->
           step(); link[l] = w + 1;                          /* [M8] */
           step(); litem[l] = ditem[w];
           step();
#ifdef BUG_TAKE_STORE
           d_step { state[w] = GIVEN; named[w] = l; version[w] = v + 1; ok = 1 };
#else
           cas(w, PUT_BACK, v, GIVEN, l);                    /* [M9] */
#endif
           if :: ok -> settle(l); hand_out(l) :: else -> leave(l) fi
        :: else
        fi
     :: else
     fi;
     w++
  :: else -> break
  od;
  if
  :: found -> goto again
  :: !found && closed ->                                     /* shmq_keeps_the_end_away */
     w = 0; ok = 0;
     do
     :: w < ND ->
        if :: state[w] == OFFERED || state[w] == PUT_BACK || state[w] == GIVEN -> ok = 1 :: else fi; w++
     :: else -> break
     od;
     l = 0;
     do
     :: l < NL -> if :: holder[l] != 0 || count[l] > 0 -> ok = 1 :: else fi; l++
     :: else -> break
     od;
     if
     :: !ok -> d_step { assert(QUIET); over = 1 }
     :: ok && finished < OTHERS -> goto again
     :: ok && finished == OTHERS && me == NG - 1 -> goto again
     :: ok && finished == OTHERS && me < NG - 1
     fi
  :: !found && !closed && me < NG - 1
  :: !found && !closed && me == NG - 1 ->
     if
     :: finished < OTHERS -> goto again
     :: finished == OTHERS && QUIET
     :: finished == OTHERS && !QUIET -> goto again
     fi
  fi;
gone:
  if
  :: me < NG - 1 -> finished++
  :: else ->
     d_step {
       i = 1;
       do :: i <= NI -> assert(ended[i] || DEAD_IN(i) == 1); i++ :: else -> break od
     }
  fi
}

/* Puts back what is a letter; it dies as a getter does. */
proctype puts_back() {
  byte d, v, me = NG; bit ok;
  d = 0;
  do
  :: d < ND && state[d] != LETTER -> d++
  :: d < ND && state[d] == LETTER ->
     d_step { v = version[d]; ok = state[d] == LETTER && !closed };
     if
     :: ok ->
#ifdef BUG_ONE_STEP
        cas(d, LETTER, v, PUT_BACK, 0); returned++
#else
        cas(d, LETTER, v, OFFERED, 0);                       /* [M5] */
        if
        :: ok ->
           if
           :: crashes < CRASH -> crashes++; goto gone
           :: true
           fi;
           decide(d, v + 1)
        :: else
        fi
#endif
     :: else
     fi;
     break
  :: else -> break
  od;
gone:
  finished++
}

#ifdef JOIN
proctype join() {                                            /* shmq_is_quiet */
  byte w, l, before; bit busy;
  before = returned;                               /* [J1] */
#ifdef BUG_LEASES_FIRST
  l = 0; do :: l < NL -> if :: count[l] > 0 -> busy = 1 :: else fi; l++ :: else -> break od;
#endif
  w = 0;
  do
  :: w < ND ->
     if :: state[w] == OFFERED || state[w] == PUT_BACK || state[w] == GIVEN -> busy = 1 :: else fi; w++
  :: else -> break
  od;
#ifndef BUG_LEASES_FIRST
  l = 0; do :: l < NL -> if :: count[l] > 0 -> busy = 1 :: else fi; l++ :: else -> break od; /* [J4] */
#endif
  skip;
  d_step { assert(returned != before || busy || QUIET) }     /* [J5] */
}
#endif

/* At each moment: an item that is not ended lies in one place, and who is named by a dead slot is held. */
proctype monitor() {
  byte i = 1;
  atomic {
    do :: i <= NI -> assert(ended[i] || LEASED(i) + DEAD_IN(i) == 1); i++ :: else -> break od;
    i = 0;
    do
    :: i < ND ->
       assert(!(state[i] == BURYING || state[i] == BURIED || state[i] == GIVEN) ||
              (holder[named[i]] != 0 && link[named[i]] == i + 1));
       i++
    :: else -> break
    od
  }
}

init {
  byte i;
  atomic {
    dead[NG] = 1;
    i = 0;
    do
    :: i < NI ->
       litem[i] = i + 1; count[i] = 1;
       if :: i < OF_DEAD -> holder[i] = NG + 1 :: else fi;
       i++
    :: else -> break
    od;
    run monitor();
    i = 0; do :: i < NG -> run getter(i); i++ :: else -> break od;
    i = 0; do :: i < BACKS -> run puts_back(); i++ :: else -> break od;
#ifdef JOIN
    run join();
#endif
  }
#ifdef SHUT
  closed = 1                                                 /* [D1] */
#endif
}
