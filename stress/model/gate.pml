/* The gate that keeps single puts from starving a batch, and what opens it again: its batch, the lease, and the look
   whether a live batch holds the lock (attempt_put of attempt.h; shmq_shut_gate, shmq_lock_has_no_live_owner of batch_lock.h).
   Two batches of N items come one after the other, two producers put PUTS single items each, a getter takes what is
   there. CRASH batches die at any step; STOPPED batches stop for ever before their claim, alive. The lock is one step
   here (lock.pml has its own), room is counted and not placed (ring.pml), and time passes only while no batch renews.

   Checked: while a live batch waits behind its shut gate, each single producer passes at most once; a batch that has
   died or stopped keeps no single put from ending (no process is stuck). */
#ifndef CRASH
#define CRASH 0
#endif
#ifndef STOPPED
#define STOPPED 0
#endif
#define N 2                          /* of a batch, and the capacity */
#define PUTS 2
#define OPEN 0
#define SHUT 1
#define PAST 2

byte used, gate;
byte batch_owner, waiting;           /* 0, or 1 + batch */
byte late[2];
bit alive[2], stopped[2], claimed[2], done[2];
byte crashes, stops;

#define FORSAKEN (batch_owner == 0 || !alive[batch_owner - 1])
#define RENEWED (batch_owner != 0 && alive[batch_owner - 1] && !stopped[batch_owner - 1])
#define WAITS (waiting != 0 && alive[waiting - 1] && !stopped[waiting - 1])

proctype batch(byte me) {
  {
    if
    :: atomic { FORSAKEN -> batch_owner = me + 1 } /* [L1] */
    :: stopped[1 - me] -> goto leave               /* until its time is over */
    fi;
    if
    :: atomic { used == 0 -> used = N; claimed[me] = 1 }
    :: used > 0 ->
       atomic { gate = SHUT; waiting = me + 1; late[0] = 0; late[1] = 0 }; /* [Q1] */
       atomic { used == 0 -> used = N; claimed[me] = 1; waiting = 0 }      /* [P6] */
    fi;
    gate = OPEN;                                   /* for every batch that has shut it [Q1] */
    batch_owner = 0;                               /* [L2] */
leave:
    done[me] = 1
  } unless { !alive[me] || stopped[me] }
}

proctype single(byte me) {
  byte i;
  bit shut;
  do
  :: i < PUTS ->
     (used < N);
#ifndef BUG_NO_GATE
     shut = (gate == SHUT);                        /* [Q1] */
     if :: shut && FORSAKEN -> shut = 0 :: else fi; /* [L1] */
#endif
     if
     :: shut -> (gate != SHUT || FORSAKEN)
     :: else ->
        atomic {                                   /* the claim [P6]; what was read may be old by now */
          if
          :: used < N ->
             used++; i++;
             if :: WAITS -> late[me]++; assert(late[me] <= 1) :: else fi
          :: else
          fi
        }
     fi;
     shut = 0
  :: else -> break
  od
}

proctype getter() {
end:
  do :: atomic { used > 0 -> used-- } od
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
    run batch(0); run batch(1); run single(0); run single(1); run getter(); run time(); run fate()
  }
}
