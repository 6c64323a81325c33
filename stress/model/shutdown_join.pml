/* Join, as shmq_is_quiet of leased_ring.h: a look in the direction in which items move. */

proctype J() {
  byte t, p, l, g, q;
  bit is_stopped, busy, ok;
  skip;
again:
  atomic { busy = 0; t = 0; p = 0; l = 0; g = 0; q = 0 };
  is_stopped = IS_STOPPED;
  t = tail;                                        /* [J1] */
  p = AT(head);
  do
  :: p < AT(t) && !is_stopped && !busy ->          /* [J2] */
     if
     :: word[SLOT(p)] == FREE(p) -> bury(p); busy = 1
     :: WAITS(p) -> busy = 1
     :: else -> p++
     fi
  :: else -> break
  od;
  do
  :: g < NG && !busy ->                            /* [J3] */
     d_step { q = get_begin[g]; if :: get_end[g] <= q -> q = 0 :: else fi };
     if :: q > 0 && AT(head) > q && WAITS(q) && (!is_stopped || alive[g]) -> busy = 1 :: else -> g++ fi
  :: else -> break
  od;
  do
  :: l < NL && !busy ->                            /* [J4] after the ring */
     if
     :: !is_stopped && count[l] > 0 -> busy = 1
     :: is_stopped && HELD_ALIVE_1(l) -> busy = 1
     :: else -> l++
     fi
  :: else -> break
  od;
  if
  :: busy ->
     (IS_STOPPED && !HELD_ALIVE || !UNFINISHED ||
      (AT(tail) > AT(head) && word[SLOT(AT(head))] == FREE(AT(head)) && !LIVE_PUT(AT(head))));
     goto again
  :: else ->
     atomic {
       if
       :: !is_stopped && tail != t -> goto again   /* [J5] */
       :: else ->
          assert(is_stopped && !IN_WORK || !is_stopped && !UNFINISHED);
          joined = 1; joined_stopped = is_stopped
       fi
     }
  fi
}
