/* Doorbells: waiters on a descriptor, beside waiters that sleep on the epoch, and wakers; each may die before any step.
   shmq_wake and shmq_ring_bells of parking.h with Doorbell of _engine/doorbell.py, on the getters' side (the putters' is the same).

   Producers claim positions and publish them in any order. A doorbell waits for a message in a socket that is named
   after its record and the record's generation. Its waiter may be told to leave, and a successor may take the record
   of a dead one. A getter takes one item; a sleeper is then busy for ever, a doorbell closes. The bound of every sleep
   and the tick of the timer are left out: they must not be needed, except for three deaths, which set `excuse`:
   - of a waker, between its change and the end of its wake;
   - of a waiter that was woken or rung, before it has looked;
   - of a getter, between its item and the end of its chain.
   No other death may harm another process, in particular that of a waiter that only waits.

   Checked: when no process can go on, no live waiter waits beside an item, unless a death excuses it; and all others
   are at their end. */
#ifndef PRODUCERS
#define PRODUCERS 1
#endif
#ifndef SLEEPERS
#define SLEEPERS 0
#endif
#ifndef BELLS
#define BELLS 2
#endif
#ifndef CRASH
#define CRASH 0
#endif
#ifndef LEAVES
#define LEAVES 0
#endif
#ifndef SUCCESSORS
#define SUCCESSORS 0
#endif
#ifndef FALLEN
#define FALLEN 0                      /* 1: the owner of record 0 has died in its sleep before all this; its bit is there */
#endif
#ifndef BATCH
#define BATCH 1                       /* items of each put, published at once and woken for together */
#endif
#ifndef WAKE_ALL
#define WAKE_ALL 0                    /* times that a stranger wakes all, as a handle does that closes */
#endif
#define ALL (PRODUCERS * BATCH)

byte head, tail;
bit published[ALL + 1];
byte hint = FALLEN, epoch;            /* hint: version * 2 + armed */
bit asleep[SLEEPERS + 1];
byte mask = FALLEN;                   /* one bit for each record: its bell waits */
byte generation[BELLS];               /* of the record */
byte socket[BELLS];                   /* generation that the bound socket is named after; 0: there is none */
bit message[BELLS];                   /* in that socket */
bit waits[BELLS];                     /* its owner only waits for a message */
bit told[BELLS];                      /* to leave */
byte crashes, successors;
byte doomed = 255;                    /* pid of the process that dies before its next step */
bit excuse;

#define HAS_ITEM (published[head])
#define BIT(i) (1 << (i))
#define HAS_BIT(m, i) (((m) >> (i)) & 1)

/* Wakes up to `want` sleepers. */
inline futex_wake() {
  atomic {
    skip;
#if SLEEPERS > 0
    if :: asleep[0] && woken < want -> asleep[0] = 0; woken++ :: else fi;
#endif
#if SLEEPERS > 1
    if :: asleep[1] && woken < want -> asleep[1] = 0; woken++ :: else fi;
#endif
  }
}

inline send() {
  atomic {
    if
    :: g > 0 && socket[r] == g -> message[r] = 1; woken++
    :: else
#ifdef BUG_TRUST_DEAD
       -> woken++
#endif
    fi;
    g = 0
  }
}

/* One word of the mask: it is read once, and each bit that was there is looked at once. */
inline ring_bells() {
  bits = mask;                                                   /* [B3] */
  do
  :: bits && woken < want ->
     atomic { r = 0; do :: !HAS_BIT(bits, r) -> r++ :: else -> break od; bits = bits & ~BIT(r) };
#ifdef BUG_GENERATION_FIRST
     g = generation[r];
#endif
#ifdef BUG_RING_FIRST
     g = generation[r];
     send();
     mask = mask & ~BIT(r)
#else
     atomic { t = HAS_BIT(mask, r); mask = mask & ~BIT(r) };     /* [B3] */
     if
     :: t ->
        t = 0;
#ifndef BUG_GENERATION_FIRST
        g = generation[r];                                       /* [B4] */
#endif
        send()
     :: else                                                     /* the waiter or another waker was faster */
     fi
#endif
  :: else -> break
  od;
  atomic { r = 0; g = 0; t = 0; bits = 0 }
}

inline wake(count) {
  h = hint;                                                      /* [W4] */
  if
  :: h % 2 == 1 ->
     epoch++;                                                    /* [W5] */
     want = count;
     futex_wake();
#ifdef BUG_FORGET_BELLS
     if
     :: !woken ->
        d_step { if :: hint == h -> hint = h - 1 :: else fi }
     :: else
     fi;
#endif
     if :: woken < want -> ring_bells() :: else fi;
#ifndef BUG_FORGET_BELLS
     if
     :: !woken ->
#ifdef BUG_DISARM_STORE
        hint = h - 1
#else
        d_step { if :: hint == h -> hint = h - 1 :: else fi }    /* [W4] */
#endif
     :: else
     fi
#endif
  :: else
  fi;
  atomic { woken = 0; h = 0; want = 0 }
}

/* A get that does not wait. If there is another item behind the one that it has taken, it wakes another waiter. */
inline try_get() {
  atomic { if :: HAS_ITEM -> head++; took = 1; duty = 1 :: else -> duty = 0 fi };   /* [G5] */
#ifndef BUG_NO_CHAIN
  if
  :: took && hint % 2 == 1 -> if :: HAS_ITEM -> wake(1) :: else fi
  :: else
  fi
#endif
}

inline arm() { atomic { hint = hint + 3 - hint % 2 } }           /* [W2] */

proctype producer() {
  byte p, i, h, r, g, bits, want, woken;
  bit t;
  {
    atomic { p = tail; tail = tail + BATCH };                    /* [P6] */
    atomic { do :: i < BATCH -> published[p + i] = 1; i++ :: else -> break od; i = 0 };   /* [P8] */
    wake(BATCH)
  }
#if CRASH > 0
  unless { atomic { doomed == _pid -> doomed = 255; excuse = 1 } }
#endif
}

/* The side effects of a close on others: all look again. */
proctype stranger() {
  byte i, r, g, bits, want, woken;
  bit t;
  do
  :: i < WAKE_ALL ->
     i++;
     epoch++;                                                    /* [W5] */
     want = SLEEPERS + BELLS + 1;
     futex_wake();
     ring_bells();
     atomic { woken = 0; want = 0 }
  :: else -> break
  od
}

proctype sleeper(byte me) {
  byte e, h, r, g, bits, want, woken;
  bit t, took, duty, sleeps;
  { do
    :: !took ->
       e = epoch;                                                /* [W1] */
       arm();
       try_get();                                                /* [W3] */
       if
       :: !took ->
          if
          :: atomic { epoch == e -> asleep[me] = 1; sleeps = 1 };
end_sleep:   atomic { !asleep[me] -> duty = 1; sleeps = 0 }
          :: atomic { epoch != e -> duty = 1 }
          fi
       :: else
       fi
    :: else -> break
    od;
    atomic { duty = 0; e = 0; took = 0 }
  }
#if CRASH > 0
  unless { atomic { doomed == _pid -> doomed = 255;
       if :: duty || (sleeps && !asleep[me]) -> excuse = 1 :: else fi; asleep[me] = 0 } }
#endif
}

proctype doorbell(byte me) {
  byte h, r, g, bits, want, woken;
  bit t, took, duty, leaves, has_waited;
  { generation[me] = generation[me] + 1;                         /* it takes the record, after its owner has died */
    atomic { socket[me] = generation[me]; message[me] = 0 };
    do
    :: told[me] && !took && !leaves -> leaves = 1                /* perhaps before it has ever waited */
    :: !took && !leaves ->
       try_get();
       if
       :: !took ->
          /* Doorbell.quieten */
#ifndef BUG_DRAIN_LATE
          atomic { if :: message[me] -> message[me] = 0; duty = 1 :: else fi };   /* [B0] */
#endif
#ifdef BUG_TRUST_BIT
          has_waited = 1;
#endif
#ifdef BUG_ARM_FIRST
          arm();
          mask = mask | BIT(me);
#else
          mask = mask | BIT(me);                                 /* [B1] */
          arm();
#endif
#ifdef BUG_NO_LOOK
          duty = 0;
          if
          :: false
#else
          if
          :: HAS_ITEM ->                                         /* [W3] the descriptor becomes readable */
             if :: told[me] -> leaves = 1 :: skip fi
#endif
          :: atomic { else -> duty = 0 };
#ifdef BUG_DRAIN_LATE
             message[me] = 0;
#endif
             waits[me] = 1;
end_wait:    if
             :: atomic { message[me] -> waits[me] = 0 }
             :: atomic { told[me] -> waits[me] = 0; leaves = 1 }
             fi
          fi
       :: else
       fi
    :: else -> break
    od;
    /* Doorbell.close: what is sent from now on is refused */
    atomic { if :: message[me] -> duty = 1 :: else fi; socket[me] = 0; message[me] = 0 };
    atomic { t = HAS_BIT(mask, me); mask = mask & ~BIT(me) };    /* [B5] */
#ifdef BUG_TRUST_BIT
    if :: !t && has_waited -> wake(1) :: else fi;
#else
#ifndef BUG_NO_PASS_ON
    t = 0;
    wake(1);
#endif
#endif
    atomic { t = 0; duty = 0; took = 0; leaves = 0; has_waited = 0 }
  }
#if CRASH > 0
  unless { atomic { doomed == _pid -> doomed = 255;
       if :: duty || message[me] -> excuse = 1 :: else fi;
       waits[me] = 0; message[me] = 0; socket[me] = 0;
       if :: successors < SUCCESSORS -> successors++; run doorbell(me) :: else fi } }
#endif
}

proctype monitor() {
  bit waiting;
  byte i;
  timeout;
  d_step {
    do :: i < SLEEPERS -> if :: asleep[i] -> waiting = 1 :: else fi; i++ :: else -> break od;
    i = 0;
    do :: i < BELLS -> if :: waits[i] && !message[i] -> waiting = 1 :: else fi; i++ :: else -> break od
  };
  assert(!(waiting && HAS_ITEM) || excuse)
}

proctype killer() {
  byte victim;
  do
  :: crashes < CRASH && doomed == 255 ->
     crashes++;
     victim = 1;
     do :: victim < PRODUCERS + SLEEPERS + BELLS -> victim++ :: break od;
     doomed = victim;
     victim = 0
  :: break
  od
}

proctype caller() {
  byte i;
  do
  :: i < LEAVES -> i++; if :: told[0] = 1
#if BELLS > 1
     :: told[1] = 1
#endif
     fi
  :: break
  od
}

init {
  byte i;
  atomic {
    do :: i < PRODUCERS -> run producer(); i++ :: else -> break od;
    i = 0;
    do :: i < SLEEPERS -> run sleeper(i); i++ :: else -> break od;
    i = 0;
    do :: i < BELLS -> run doorbell(i); i++ :: else -> break od;
    i = 0;
#if CRASH > 0
    run killer();
#endif
#if LEAVES > 0
    run caller();
#endif
#if WAKE_ALL > 0
    run stranger();
#endif
    run monitor()
  }
}
