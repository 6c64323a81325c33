/* Creation, attachment and removal of a queue: _platform/shared_memory.py and _engine/lifecycle.py. A file system with
   two names, that of the queue and that of its lock; files with a flock, which the kernel ends with its process.

   CREATORS create, an attacher attaches, UNLINKERS remove the queue that they find; CRASH of them die at any step. A
   process that finds a live one in its way gives up at any time (the real ones after a while). When all have ended, one
   more creates; nothing but a finished queue may stand in its way.

   Checked: a creator that has returned has a queue under its name, until an unlinker removes it; a queue that has its
   name has its lock; an attacher that looks at the name again when it has everything has both of the same queue; no
   process is stuck, and no leftover of a dead creator stands in the way of the next. */
#ifndef CREATORS
#define CREATORS 2
#endif
#ifndef UNLINKERS
#define UNLINKERS 1
#endif
#ifndef CRASH
#define CRASH 1
#endif
#define PROCESSES (CREATORS + UNLINKERS + 2)
#define ATTACHER (CREATORS + UNLINKERS)
#define LATE (PROCESSES - 1)         /* creates at the end */
#define FILES 12                     /* 0 is none */
#define ENOUGH 5                     /* a creator whose newborns are removed again and again gives up */

#define UNFINISHED 0                 /* empty, or with the mark of one */
#define MAGIC 1

byte queue_name, lock_name;          /* the file that a name means */
byte files = 1;                      /* the next new one */
bit magic[FILES], unlinked[FILES];
byte lock_of[FILES];                 /* of a queue, that its creator made */
byte flock[FILES];                   /* 0, or 1 + process */
bit alive[PROCESSES], done[PROCESSES];
byte crashes;

inline new_file(f) { f = files; files++; assert(files <= FILES) }
inline unlock(f) { d_step { if :: flock[f] == me + 1 -> flock[f] = 0 :: else fi } }

/* _Descriptor.lock: got = whether the process has it; gives up at some time, but not on the dead. */
inline lock_file(f) {
  if
  :: atomic { flock[f] == 0 -> flock[f] = me + 1; got = 1 }
  :: atomic { flock[f] != 0 -> got = 0 }
  fi
}

/* _remove_exactly. */
inline remove_exactly(name, f) {
  lock_file(f);
  if
  :: got ->
     if :: name == f -> name = 0 :: else fi;
     unlock(f)
  :: else
  fi
}

/* replace: lock = a new file under the lock's name, in the place of whatever has it; 0 if that is busy. */
inline replace() {
  do
  :: atomic { lock_name == 0 -> new_file(lock); lock_name = lock } -> break
  :: atomic { lock_name != 0 -> lock = lock_name };
     remove_exactly(lock_name, lock);
     lock = 0;
     if :: !got -> break :: else fi
  od
}

/* _remove_both, for the holder of the flock of queue file f. */
inline remove_both(f) {
#ifdef BUG_ANY_COMPANION
  queue_name = 0;
  beside = lock_name;
#else
  beside = lock_name;
#ifdef BUG_LOCK_FIRST
  if :: beside != 0 -> remove_exactly(lock_name, beside) :: else fi;
#endif
  queue_name = 0;
#endif
  if :: beside != 0 -> remove_exactly(lock_name, beside) :: else fi;
  beside = 0
}

#define CREATED 1
#define EXISTS 2
#define BUSY 3

inline create() {
  do
  ::
     if
     :: me != LATE && files > ENOUGH -> result = BUSY; break
     :: atomic { (me == LATE || files <= ENOUGH) && queue_name == 0 -> new_file(f); queue_name = f } /* O_EXCL */
     :: atomic { queue_name != 0 -> g = queue_name };   /* _remove_leftover */
        if
        :: magic[g] == MAGIC -> result = EXISTS; break
        :: else
        fi;
#ifndef BUG_NO_FLOCK
        lock_file(g);
        if :: !got -> result = BUSY; break :: else fi;
#endif
        if
#ifdef BUG_NO_SECOND_LOOK
        :: queue_name == g -> queue_name = 0
#else
        :: magic[g] == UNFINISHED && queue_name == g -> queue_name = 0
#endif
        :: else
        fi;
        unlock(g); g = 0
     fi;
     if
     :: f == 0
     :: else ->
        lock_file(f);
        if :: !got -> result = BUSY; f = 0; break :: else fi;
        if
#ifndef BUG_NO_MEANS
        :: queue_name != f -> unlock(f); f = 0     /* another took the newborn for a leftover */
#endif
        :: else ->
#ifdef BUG_LOCK_LATE
           atomic { magic[f] = MAGIC; assert(queue_name == f) };
#endif
           replace();                              /* fill: open_lock(create=True) */
           if
           :: lock == 0 -> remove_both(f); unlock(f); f = 0; result = BUSY; break
           :: else
           fi;
           lock_of[f] = lock;
#ifndef BUG_LOCK_LATE
           atomic { magic[f] = MAGIC; assert(queue_name == f) }; /* [X1] */
#endif
           unlock(f);
           result = CREATED;
           break
        fi
     fi
  od;
  got = 0
}

proctype creator(byte me) {
  byte f, g, lock, beside, result;
  bit got;
  {
    create();
    assert(me != LATE || result == CREATED || result == EXISTS);
    done[me] = 1
  } unless { !alive[me] };
  d_step { f = 0; g = 0; lock = 0; beside = 0; result = 0; got = 0 }
}

proctype unlinker(byte me) {
  byte f, beside;
  bit got;
  {
    f = queue_name;
    if
    :: f != 0 && magic[f] == MAGIC ->
       lock_file(f);
       if
       :: got ->
          if
          :: queue_name == f -> unlinked[f] = 1; remove_both(f)
          :: else
          fi;
          unlock(f)
       :: else
       fi
    :: else
    fi;
    done[me] = 1
  } unless { !alive[me] };
  d_step { f = 0; beside = 0; got = 0 }
}

proctype attacher(byte me) {
  byte f, lock;
  {
    f = queue_name;
    if
    :: f != 0 && magic[f] == MAGIC ->              /* open_existing, check [X1] */
       lock = lock_name;                           /* open_lock(create=False) */
       /* Without a lock, or after it has taken its record, it looks whether the queue still has its name. */
       atomic { assert(queue_name != f || lock == lock_of[f]) }
    :: else
    fi;
    done[me] = 1
  } unless { !alive[me] };
  d_step { f = 0; lock = 0 }
}

inline dies(i) {
  atomic {
    crashes < CRASH && alive[i] && !done[i] ->
    crashes++; alive[i] = 0; g = 0;
    do
    :: g < FILES -> if :: flock[g] == i + 1 -> flock[g] = 0 :: else fi; g++ /* the kernel */
    :: else -> break
    od;
    g = 0
  }
}

proctype fate() {
  byte g;
end:
  do
  :: dies(0)
  :: dies(1)
  :: dies(2)
#if CREATORS + UNLINKERS > 3
  :: dies(3)
#endif
  od
}

#define OVER(i) (done[i] || !alive[i])
init {
  byte i;
  atomic {
    do :: i < PROCESSES -> alive[i] = 1; i++ :: else -> break od;
    i = 0;
    do :: i < CREATORS -> run creator(i); i++ :: else -> break od;
    do :: i < CREATORS + UNLINKERS -> run unlinker(i); i++ :: else -> break od;
    run attacher(ATTACHER);
    run fate()
  }
  (OVER(0) && OVER(1) && OVER(2) && OVER(ATTACHER)
#if CREATORS + UNLINKERS > 3
   && OVER(3)
#endif
  );
  run creator(LATE);
  (done[LATE]);
  assert(queue_name != 0 && magic[queue_name] == MAGIC && lock_name == lock_of[queue_name]);
  /* Only an unlinker has removed what was finished. */
  i = 1;
  do :: i < files -> assert(magic[i] == UNFINISHED || queue_name == i || unlinked[i]); i++ :: else -> break od
}
