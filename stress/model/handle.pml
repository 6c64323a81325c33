/* Fork and close while operations run: the records of records.h, whose names these are. The GIL makes a step of whatever
   lies between two places where it is given back, so such steps are atomic here.

   Two threads of a parent make OPERATIONS each, which may sleep; a third closes the handle at any time, waiting for
   operations to end or (from a signal handler) not waiting, and then once more. FORKS times a fork happens at any time:
   in the midst of a sleep, in a signal handler, so that the child goes on in that operation, or by a thread that is in
   none. The child goes on with an operation of its own, and closes.

   Checked: a process writes no record but its own, none touches unmapped memory, no record has two users, nothing
   is owned after the close, no process is stuck. */
#ifndef FORKS
#define FORKS 1
#endif
#ifndef OPERATIONS
#define OPERATIONS 2
#endif
#define RECORDS 4
#define PARENT 0
#define CHILD 1
#define NONE RECORDS

byte owner[RECORDS];                 /* 0, or 1 + process */
byte users[RECORDS];                 /* operations that use it */
byte operations[2], forks[2];
bit idle0[RECORDS], idle1[RECORDS];  /* records of the handle in the parent, in the child */
bit is_closed[2], is_late[2], released[2];
byte forked, running;

#define IDLE(process, r) (process == PARENT -> idle0[r] : idle1[r])

inline set_idle(process, r, value) {
  if :: process == PARENT -> idle0[r] = value :: else -> idle1[r] = value fi
}

/* What every step of an operation, and every leaving, does to its record. */
inline touch(process, r) { assert(owner[r] == process + 1); assert(!released[process]) }

/* borrow: record = one, or NONE if the handle is closed. */
inline borrow() {
  record = 0;
  if
  :: is_closed[process] -> record = NONE
  :: else ->
     operations[process]++;
     do
     :: record < RECORDS && !IDLE(process, record) -> record++
     :: else -> break
     od;
     if
     :: record < RECORDS -> set_idle(process, record, 0)
     :: else ->                                    /* shmq_take_record */
        record = 0;
        do
        :: record < RECORDS && owner[record] != 0 -> record++
        :: else -> break
        od;
        assert(record < RECORDS);
        owner[record] = process + 1
     fi;
     record_forks = forks[process];
     users[record]++; assert(users[record] == 1)
  fi
}

inline leave() {
  r = 0;
  do
  :: r < RECORDS ->
     if :: IDLE(process, r) -> touch(process, r); owner[r] = 0; set_idle(process, r, 0) :: else fi;
     r++
  :: else -> break
  od;
  r = 0
}

inline give_back() {
  if
#ifndef BUG_NO_LIFE
  :: record_forks != forks[process]                    /* the record is the parent's, and so was the operation */
#endif
  :: else ->
     users[record]--;
     operations[process]--;
     if
     :: is_closed[process] ->
        touch(process, record); owner[record] = 0;     /* leave_record */
        if :: operations[process] == 0 && is_late[process] -> is_late[process] = 0; leave() :: else fi
     :: else -> set_idle(process, record, 1)
     fi
  fi;
  record = NONE
}

/* after_fork: what the child makes of its copy of the handle. */
inline fork(inherited) {
  forked++; running++;
  is_closed[CHILD] = is_closed[PARENT];            /* being closed: then the child does not use it at all */
  released[CHILD] = is_closed[PARENT];
  forks[CHILD] = forks[PARENT] + 1;
#ifdef BUG_KEEP_OPERATIONS
  operations[CHILD] = operations[PARENT];
#endif
#ifdef BUG_KEEP_IDLE
  idle1[0] = idle0[0]; idle1[1] = idle0[1]; idle1[2] = idle0[2]; idle1[3] = idle0[3];
#endif
  run thread(CHILD, inherited, forks[PARENT])
}

/* close(): waits for operations, unless it is in a signal handler of one of them. */
inline close(wait) {
  atomic { is_closed[process] = 1; leave() };
  if
#ifdef BUG_CLOSE_AT_ONCE
  :: atomic { true -> released[process] = 1 }
#else
  :: atomic { operations[process] == 0 -> released[process] = 1 }
  :: atomic { !(wait) && operations[process] != 0 -> is_late[process] = 1 }
#endif
  fi
}

proctype thread(byte process; byte record; byte record_forks) {
  byte i, r;
  if
  :: record != NONE -> goto woken                    /* a child, in an operation of its parent */
  :: else
  fi;
  do
  :: i < OPERATIONS ->
     atomic {
       if
       :: process == PARENT && forked < FORKS -> fork(NONE)
       :: true
       fi
     };
     atomic { borrow(); if :: record != NONE -> touch(process, record) :: else -> break fi }; /* the first attempt */
     if
     :: true ->                                    /* sleep_on, without the GIL */
        if
        :: atomic { process == PARENT && forked < FORKS -> fork(record) }
        :: true
        fi;
woken:
        atomic {                                   /* after_sleep, and an attempt */
          if
          :: record_forks == forks[process] && !is_closed[process] -> touch(process, record)
          :: else
          fi
        }
     :: true
     fi;
     atomic { give_back(); i++ }
  :: else -> break
  od;
  if
  :: process == CHILD && !released[CHILD] ->
     close(true);
     assert(released[CHILD])
  :: else
  fi;
  running--
}

proctype closer(byte process) {
  byte r;
  if
  :: close(true)
  :: close(false); (operations[process] == 0 && !is_late[process]); close(true) /* again, to complete it */
  fi;
  running--
}

init {
  byte i;
  atomic { running = 3; run thread(PARENT, NONE, 0); run thread(PARENT, NONE, 0); run closer(PARENT) };
  (running == 0);
  assert(released[PARENT] && operations[PARENT] == 0 && operations[CHILD] == 0);
  do :: i < RECORDS -> assert(owner[i] == 0); i++ :: else -> break od
}
