/* Waiting and waking: shmq_arm, shmq_wake and the chain of wakes of parking.h, on the getters' side (the putters' is the
   same). Producers claim positions and publish them in any order; getters take TAKE items each and are then busy for
   ever. The bound of every sleep is left out: it must not be needed.

   Checked: no getter sleeps beside an item (no process is stuck). */
#ifndef PRODUCERS
#define PRODUCERS 2
#endif
#ifndef GETTERS
#define GETTERS 2
#endif
#ifndef ITEMS
#define ITEMS 1                      /* of each producer */
#endif
#define TAKE (PRODUCERS * ITEMS / GETTERS)
#define ALL (PRODUCERS * ITEMS)

byte head, tail;
bit published[ALL + 1];
byte hint, epoch;                    /* hint: version * 2 + armed */
bit asleep[GETTERS];

inline futex_wake() {
  atomic {
    if
    :: asleep[0] -> asleep[0] = 0; woken = 1
#if GETTERS > 1
    :: asleep[1] -> asleep[1] = 0; woken = 1
#endif
#if GETTERS > 2
    :: asleep[2] -> asleep[2] = 0; woken = 1
#endif
    :: else -> woken = 0
    fi
  }
}

inline wake() {
  h = hint;                                        /* [W4] */
  if
  :: h % 2 == 1 ->
     epoch++;                                      /* [W5] */
     futex_wake();
     if
     :: !woken ->
#ifdef BUG_DISARM_STORE
        hint = h - 1
#else
        d_step { if :: hint == h -> hint = h - 1 :: else fi } /* [W4] */
#endif
     :: else
     fi
  :: else
  fi;
  woken = 0; h = 0
}

proctype producer() {
  byte p, h, i;
  bit woken;
  do
  :: i < ITEMS ->
     atomic { p = tail; tail++ };                  /* [P6] */
#ifdef BUG_WAKE_FIRST
     wake();
     published[p] = 1;
#else
     published[p] = 1;                                  /* [P8] */
     wake();
#endif
     i++; p = 0
  :: else -> break
  od
}

proctype getter(byte me) {
  byte h, e, got;
  bit woken;
  do
  :: got < TAKE ->
     if
     :: atomic { published[head] -> head++; got++ } ->  /* [G5] */
#ifndef BUG_NO_CHAIN
        if :: published[head] -> wake() :: else fi      /* the chain, of shmq_finish_get */
#else
        skip
#endif
     :: else ->
#ifdef BUG_ARM_FIRST
        atomic { hint = (hint / 2 + 1) * 2 + 1 }; e = epoch;
#else
        e = epoch;                                 /* [W1] */
        atomic { hint = (hint / 2 + 1) * 2 + 1 };  /* [W2] */
#endif
        if
        :: published[head]                              /* [W3] */
        :: else ->
           if :: atomic { epoch == e -> asleep[me] = 1 }; (!asleep[me]) :: epoch != e fi
        fi;
        e = 0
     fi
  :: else -> break
  od
}

init {
  byte i;
  atomic {
    do :: i < PRODUCERS -> run producer(); i++ :: else -> break od;
    i = 0;
    do :: i < GETTERS -> run getter(i); i++ :: else -> break od
  }
}
