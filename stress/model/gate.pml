/* The gate that keeps single puts from starving a batch, and what opens it again: its batch, the lease, and the look
   whether a live batch holds the lock (attempt_put of attempt.h; shmq_shut_gate, shmq_lock_has_no_live_owner of batch_lock.h).
   Two batches of N items come one after the other, two producers put PUTS single items each, a getter takes what is
   there. CRASH batches die at any step; STOPPED batches stop for ever before their claim, alive. The lock is one step
   here (lock.pml has its own), room is counted and not placed (ring.pml), and time passes only while no batch renews.

   FOLLOWS: in place of the getter and the single producers there is a worker. After each of its first FOLLOWS gets it
   has to put an item, before it gets again. (Beside producers it could find the queue full, and wait for itself.)

   Checked: while a live batch waits behind its shut gate, each single producer passes at most once, until the gate is
   closed again; a batch that has died or stopped keeps no single put from ending, nor does one that waits keep out the
   put of a worker for whose next get it waits (no process is stuck).

   Planted errors:
     BUG_NO_GATE       single puts do not look at the gate
     BUG_NO_LEASE      the gate does not open by itself
     BUG_RENEW_ALWAYS  a batch that waits renews its lease, though no get has made room */
#ifndef CRASH
#define CRASH 0
#endif
#ifndef STOPPED
#define STOPPED 0
#endif
#ifndef FOLLOWS
#define FOLLOWS 0
#endif
#define N 2                          /* of a batch, and the capacity */
#define PUTS 2
#define OPEN 0
#define SHUT 1
#define PAST 2

byte used, gate;
byte batch_owner, waiting;           /* 0, or 1 + batch */
byte late[3];
bit moved;                           /* whether head has moved since the batch closed the gate or renewed its lease */
bit alive[2], stopped[2], claimed[2], done[2];
byte crashes, stops;

#define FORSAKEN (batch_owner == 0 || !alive[batch_owner - 1])
#define WAITS (waiting != 0 && alive[waiting - 1] && !stopped[waiting - 1])
#ifdef BUG_RENEW_ALWAYS
#define RENEWED WAITS
#else
#define RENEWED (WAITS && moved)
#endif

inline shut() { gate = SHUT; moved = 0; late[0] = 0; late[1] = 0; late[2] = 0 }

proctype batch(byte me) {
  {
    if
    :: atomic { FORSAKEN -> batch_owner = me + 1 } /* [L1] */
    :: stopped[1 - me] -> goto leave               /* until its time is over */
    fi;
    if
    :: atomic { used == 0 -> used = N; claimed[me] = 1 }
    :: used > 0 ->
       atomic { waiting = me + 1; shut() };                                /* [Q1] */
       do
       :: atomic { used == 0 -> used = N; claimed[me] = 1; waiting = 0; break } /* [P6] */
       :: atomic { moved && gate == SHUT -> moved = 0 }                    /* the lease is renewed [Q1] */
       :: atomic { moved && gate != SHUT -> shut() }
       od
    fi;
    gate = OPEN;                                   /* for every batch that has shut it [Q1] */
    batch_owner = 0;                               /* [L2] */
leave:
    done[me] = 1
  } unless { !alive[me] || stopped[me] }
}

/* Try to put one item; `put` counts them. */
inline try_put() {
  (used < N);
#ifndef BUG_NO_GATE
  is_shut = (gate == SHUT);                        /* [Q1] */
  if :: is_shut && FORSAKEN -> is_shut = 0 :: else fi; /* [L1] */
#endif
  if
  :: is_shut -> (gate != SHUT || FORSAKEN)
  :: else ->
     atomic {                                      /* the claim [P6]; what was read may be old by now */
       if
       :: used < N ->
          used++; put++;
          if :: WAITS && gate == SHUT -> late[me]++; assert(late[me] <= 1) :: else fi
       :: else
       fi
     }
  fi;
  is_shut = 0
}

proctype single(byte me) {
  byte put;
  bit is_shut;
  do
  :: put < PUTS -> try_put()
  :: else -> break
  od
}

proctype getter(byte me) {
  byte put, got;
  bit is_shut;
end:
  do
  :: atomic { put == got && used > 0 -> used--; moved = 1; if :: got < FOLLOWS -> got++ :: else fi }
  :: put < got -> try_put()
  od
}

proctype time() {
end:
  do
#ifndef BUG_NO_LEASE
  :: atomic { gate == SHUT && !RENEWED -> gate = PAST }
#else
  :: false
#endif
  od
}

proctype fate() {
  byte i;
end:
  do
  :: atomic { crashes < CRASH && alive[0] && !done[0] -> crashes++; alive[0] = 0 }
  :: atomic { crashes < CRASH && alive[1] && !done[1] -> crashes++; alive[1] = 0 }
  :: atomic { stops < STOPPED && alive[0] && !claimed[0] && !done[0] -> stops++; stopped[0] = 1 }
  od
}

init {
  atomic {
    alive[0] = 1; alive[1] = 1;
    run batch(0); run batch(1);
#if FOLLOWS == 0
    run single(0); run single(1);
#endif
    run getter(2); run time(); run fate()
  }
}
