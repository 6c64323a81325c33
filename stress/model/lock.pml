/* The lock of batches: shmq_try_acquire_lock and shmq_release_lock of batch_lock.h. The int32 of shared_memory_lock has no owner;
   batch_owner beside it names one and decides. N participants take and leave it ROUNDS times; CRASH of them die at any
   step, INTR are interrupted at any step: they leave the lock, or do not get as far, abandon their record, and go on
   under another name. The last one neither dies nor is interrupted.

   Checked: never two live holders; no process is stuck. */
#ifndef N
#define N 3
#endif
#ifndef CRASH
#define CRASH 0
#endif
#ifndef INTR
#define INTR 0
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif

bit flag;                            /* the int32 */
byte batch_owner;                    /* 0, or a name */
byte generation[N];
bit lock_busy[N], abandoned[N], alive[N], done[N], interrupted[N], holds[N];
byte crashes, interrupts;

#define NAME(i) (generation[i] * 4 + 1 + (i))
#define WHO(name) (((name) - 1) % 4)
#define MANNED(i) (alive[i] && !abandoned[i])
#define IS_DEAD(name) (NAME(WHO(name)) != (name) || !MANNED(WHO(name)))
#define TAKES(me, i) ((i) != (me) && lock_busy[i] && MANNED(i))
#if N == 2
#define ANOTHER_TAKES(me) (TAKES(me, 0) || TAKES(me, 1))
#else
#define ANOTHER_TAKES(me) (TAKES(me, 0) || TAKES(me, 1) || TAKES(me, 2))
#endif

inline cas(x, expected, desired) {
  d_step { if :: x == (expected) -> x = (desired); ok = 1 :: else -> ok = 0 fi }
}

inline take_lock(me) {
  do
  :: lock_busy[me] = 1;                            /* [L3] */
     cas(flag, 0, 1);                              /* [L1] */
     if
     :: ok ->
#ifdef BUG_NO_OWNER_WORD
        batch_owner = NAME(me)                     /* a mark, and no ownership */
#else
        holder = batch_owner;                      /* [L1] */
        if :: holder == 0 || IS_DEAD(holder) -> cas(batch_owner, holder, NAME(me)) :: else -> ok = 0 fi /* [L1] */
#endif
     :: else
     fi;
     lock_busy[me] = 0;                            /* [L3] */
     if :: ok -> break :: else fi;
     holder = batch_owner;                         /* [L1] */
     if
     :: holder != 0 -> left = IS_DEAD(holder)
     :: else ->
        left = flag;                               /* [L1] */
        k = 0;                                     /* shmq_another_takes_the_lock */
        do
        :: k < N && left -> left = !(TAKES(me, k)); k++ /* [S2] */
        :: else -> break
        od;
        k = 0
     fi;
#ifdef BUG_NO_INHERITANCE
     left = 0;
#endif
     if
     :: left ->
#ifdef BUG_NO_OWNER_WORD
        batch_owner = NAME(me); ok = 1
#else
        cas(batch_owner, holder, NAME(me))         /* [L1] */
#endif
     :: else
     fi;
     left = 0; holder = 0;
     if
     :: ok -> break
     :: else ->
#ifdef BUG_NO_INHERITANCE
        (!flag)
#else
        (!flag || (batch_owner == 0 && !ANOTHER_TAKES(me)) || (batch_owner != 0 && IS_DEAD(batch_owner)))
#endif
     fi
  od;
  holder = 0; ok = 0
}

inline leave_lock(me) {
  lock_busy[me] = 1;                               /* [L3] */
  cas(batch_owner, NAME(me), 0);                   /* [L2] */
  if :: ok -> flag = 0 :: else fi;                 /* [L2] */
  lock_busy[me] = 0;                               /* [L3] */
  ok = 0
}

inline rounds(me) {
  do
  :: round < ROUNDS ->
     take_lock(me);
     holds[me] = 1;
     k = 0;
     do
     :: k < N -> assert(k == me || !holds[k] || !MANNED(k)); k++
     :: else -> break
     od;
     k = 0;
     holds[me] = 0;
     leave_lock(me);
#ifdef LATE_RELEASE
     flag = 0;                                     /* a second store, much later, is harmless */
#endif
     round++
  :: else -> break
  od
}

proctype participant(byte me) {
  byte holder, k, round;
  bit ok, left;
  {
    { rounds(me) } unless { interrupted[me] };
    if
    :: interrupted[me] ->
       atomic { interrupted[me] = 0; holds[me] = 0; holder = 0; k = 0; round = 0; ok = 0; left = 0 };
       if :: leave_lock(me) :: skip fi;            /* or another interrupt comes before */
       lock_busy[me] = 0;
       abandoned[me] = 1;                          /* [A1] */
#ifndef BUG_SAME_NAME
       generation[me]++;                           /* [R2] */
#endif
       abandoned[me] = 0;                          /* [R2] */
       rounds(me)
    :: else
    fi;
    done[me] = 1
  } unless { !alive[me] };
  d_step { holder = 0; k = 0; round = 0; ok = 0; left = 0 }
}

#define DIES(i) atomic { crashes < CRASH && alive[i] && !done[i] -> crashes++; alive[i] = 0 }
proctype fate() {
end:
  do
  :: DIES(0)
#if N > 2
  :: DIES(1)
#endif
#if INTR > 0
  :: atomic { interrupts < INTR && alive[0] && !done[0] -> interrupts++; interrupted[0] = 1 }
#endif
  od
}

init {
  byte i;
  atomic {
    do :: i < N -> alive[i] = 1; i++ :: else -> break od;
    i = 0;
    do :: i < N -> run participant(i); i++ :: else -> break od;
    run fate()
  }
  (done[N - 1])
}
