/* What ring.pml does about the dead: scans of the records, and what is done to their puts, gets, records, roles. */

inline cas(x, expected, desired) {
  d_step { if :: x == (expected) -> x = (desired); ok = 1 :: else -> ok = 0 fi }
}
inline take(v) { assert(!taken[v]); taken[v] = 1 } /* only inside an atomic step */

inline announce(begin, end, first, last) {
#ifdef TORN
  begin = (first); end = (last)                    /* [P3][P4], [G4] */
#else
  d_step { begin = (first); end = (last) }
#endif
}

/* shmq_is_covered: live = whether a live process covers q. */
#define PUT 1
#define GET 0
inline covered(side, q) {
  k = 0; live = 0;
  do
  :: k < RECORDS && !live ->
#ifdef TORN
     b = (side == PUT -> put_begin[k] : get_begin[k]); /* [S2] */
     e = (side == PUT -> put_end[k] : get_end[k]);
     if
     :: b <= (q) && (q) < e -> live = MANNED(k)    /* [S3] */
     :: else
     fi;
     b = 0; e = 0; k++
#else
     /* [S2][S3] of one record */
     d_step { live = (side == PUT -> LIVE_PUT_1(k, q) : LIVE_GET_1(k, q)); k++ }
#endif
  :: else -> break
  od;
  k = 0
}

/* shmq_end_of_uncovered: u = the first position, from q to t-1, that a live process covers, or t. */
inline end_of_uncovered(q) {
  k = 0; u = t;
  do
  :: k < RECORDS ->
#ifdef TORN
     b = put_begin[k];                             /* [S2] */
     e = put_end[k];
     d_step { if :: b < (q) -> b = (q) :: else fi; if :: e > u -> e = u :: else fi };
     if
     :: b < e && MANNED(k) -> u = b                /* [S3] */
     :: else
     fi;
     b = 0; e = 0; k++
#else
     /* [S2][S3] of one record */
     d_step {
       b = put_begin[k]; e = put_end[k];
       if :: b < (q) -> b = (q) :: else fi;
       if :: e > u -> e = u :: else fi;
       if :: b < e && MANNED(k) -> u = b :: else fi;
       b = 0; e = 0; k++
     }
#endif
  :: else -> break
  od;
  k = 0
}

/* shmq_is_member: ok = whether slot x holds what the put that began at q has published; e = where another has begun. */
inline member(q, x) {
  d_step {                                         /* [S5] */
    ok = 0;
    if
    :: word[SLOT(x)] == FULL(x) ->
       if :: (x) - idx[SLOT(x)] == (q) -> ok = 1 :: else -> e = (x) - idx[SLOT(x)]; of_another = 1 fi
    :: else
    fi
  }
}

/* shmq_rescue_put: ok = look again. */
inline rescue_put(q) {
  t = tail;                                        /* [S1] */
  if
  :: t <= (q) -> ok = 0
  :: else ->
     d_step { if :: t > (q) + CAP -> t = (q) + CAP :: else fi };
     end_of_uncovered(q);
#ifdef BUG_BURY_COVERED
     if :: u > (q) -> u = t :: else fi;
#endif
     if
     :: u <= (q) -> ok = 0
     :: else ->
        if
#ifndef BUG_NO_SECOND_READ
        :: word[SLOT(q)] != FREE(q) -> ok = 1       /* [S4] */
#endif
        :: else ->
#ifndef BUG_BURY_ONE
           d_step { j = (q) + 1; of_another = 0 };
           do
           :: j < t ->
              member(q, j);
              if
#ifdef BUG_END_AT_FREE
              :: !ok -> t = j
#else
              :: !ok && of_another -> t = j
              :: !ok && !of_another -> j++
#endif
              :: ok -> j++
              fi
           :: else -> break
           od;
#ifndef BUG_BURY_ANOTHER
           atomic { if :: of_another && e < u -> u = e :: else fi };
#endif
           atomic { j = t; of_another = 0 };
           do
           :: j > (q) + 1 ->
              j--; member(q, j);
              if
              :: ok -> cas(word[SLOT(j)], FULL(j), TOMB(j))              /* [T1] */
              :: !ok && j < u -> cas(word[SLOT(j)], FREE(j), TOMB(j))   /* [T1] */
              :: else
              fi
           :: else -> break
           od;
           atomic { j = 0; of_another = 0; e = 0 };
#endif
           cas(word[SLOT(q)], FREE(q), TOMB(q));    /* [T1] */
           ok = 1
        fi
     fi
  fi;
  t = 0; u = 0; live = 0
}

/* shmq_rescue_get: taken, if the slot was freed. */
inline rescue_get(q) {
  if
  :: CLAIMED_BY_GET(q) ->                          /* [S1] */
     covered(GET, q);
     if
     :: !live && word[SLOT(q)] == FULL(q) ->       /* [S4] */
        copy = val[SLOT(q)];
#ifdef BUG_ADOPT_STORE
        atomic { word[SLOT(q)] = FREE((q) + CAP); take(copy) };
#else
        atomic {                                   /* [T3] decides */
          if :: word[SLOT(q)] == FULL(q) -> assert(copy == val[SLOT(q)]); word[SLOT(q)] = FREE((q) + CAP); take(copy)
             :: else fi
        };
#endif
        copy = 0
     :: else
     fi
  :: else
  fi;
  live = 0
}

/* Adoption: whatever dead gets announce. That shmq_find_orphan looks whether it is covered is left out: what
   shmq_rescue_get finds decides. */
inline adopt() {
  r = 0;
  do
  :: r < RECORDS ->
     d_step { q = get_begin[r]; j = get_end[r]; if :: q < j && MANNED(r) -> j = q :: else fi };
     do
     :: q < j -> rescue_get(q); q++
     :: else -> break
     od;
     atomic { q = 0; j = 0; r++ }
  :: else -> break
  od;
  r = 0
}

#ifdef BUG_REUSE_UNRESOLVED
#define TAKEABLE_1(k) (owner[k] == 0 || !alive[owner[k] - 1])
#else
#define TAKEABLE_1(k) (owner[k] == 0 || (!alive[owner[k] - 1] && RESOLVED_GET(k) \
                                         && (RESOLVED_PUT(k) || !LIVE_PUT(put_begin[k]))))
#endif
#if RECORDS == 2
#define TAKEABLE (TAKEABLE_1(0) || TAKEABLE_1(1))
#elif RECORDS == 3
#define TAKEABLE (TAKEABLE_1(0) || TAKEABLE_1(1) || TAKEABLE_1(2))
#elif RECORDS == 4
#define TAKEABLE (TAKEABLE_1(0) || TAKEABLE_1(1) || TAKEABLE_1(2) || TAKEABLE_1(3))
#else
#define TAKEABLE (TAKEABLE_1(0) || TAKEABLE_1(1) || TAKEABLE_1(2) || TAKEABLE_1(3) || TAKEABLE_1(4))
#endif

/* shmq_take_record: r = a record that was free, or dead and resolved. Waits until there is one. */
inline take_record(me) {
  r = RECORDS;
  do
  :: r < RECORDS ->
     o = owner[r];                                 /* [R1] */
     if
     :: o != 0 && alive[o - 1] -> ok = 0
     :: o != 0 && !alive[o - 1] ->
#ifdef BUG_REUSE_UNRESOLVED
        ok = 1
#else
        q = put_begin[r];
        if :: put_end[r] > q && CLAIMED_BY_PUT(q) -> rescue_put(q) :: else fi;
        q = 0;
        ok = (RESOLVED_PUT(r) && RESOLVED_GET(r))
#endif
     :: o == 0 -> ok = 1
     fi;
     if :: ok -> cas(owner[r], o, (me) + 1) :: else fi; /* [R1] */
     o = 0;
     if :: ok -> break :: else -> r++ fi
  :: else -> (TAKEABLE); r = 0
  od;
  ok = 0;
  put_end[r] = 0; get_end[r] = 0;                  /* [R2] the ends before the mark */
  abandoned[r] = 0;
#ifdef SPSC
  generation[r]++
#endif
}

#ifdef SPSC
/* shmq_take_role, for record r. A process that finds a live holder gets an error, and here tries again; a getter that is
   not needed any more (`idle`) leaves it, with ok = 0. */
inline take_role(role, idle) {
  do
  :: o = role;
     if
     :: o == NAME(r) -> ok = 1
     :: o != NAME(r) && o != 0 && !IS_DEAD(o) -> ok = 0; (role != o || IS_DEAD(o) || (idle))
     :: o != NAME(r) && (o == 0 || IS_DEAD(o)) -> cas(role, o, NAME(r))
     fi;
     o = 0;
     if :: ok || (idle) -> break :: else fi
  od
}
#endif
