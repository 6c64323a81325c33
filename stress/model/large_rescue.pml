/* What large.pml does about the dead: burials and adoption. */

/* The end t of what no live put covers from q on. */
#define CUT(k) if :: alive[k] && begin[k] < end[k] && begin[k] < t && q < end[k] -> t = (begin[k] > q -> begin[k] : q) \
                  :: else fi
inline end_of_uncovered() {
  CUT(0);
#if NP > 1
  CUT(1);
#endif
  CUT(LATE)
}

/* ---- the put at q was seen FREE; make it absent if tail lies beyond it and no live put covers it ---- */
inline bury() {
  d_step { u = tail; if :: u > q + CAP -> u = q + CAP :: else fi; t = u };          /* [S1] */
  if
  :: u <= q -> skip
  :: else ->
     d_step { end_of_uncovered() };                                                 /* [S2][S3] */
     if
     :: t <= q -> skip
     :: t > q && word[S(q)] != FREE(q) -> skip                                      /* the second read [S4] */
     :: else ->
#ifdef BUG_BURY_UPWARDS
        cas(q, FREE(q), TOMB(q));
#endif
        j = q + 1;
        do
        :: j < u ->                                                                 /* [S5] */
           atomic {
             if
             :: word[S(j)] == FULL(j) && j - place[S(j)] != q ->
                if :: j - place[S(j)] < t -> t = j - place[S(j)] :: else fi;
                u = j
             :: else -> j++
             fi
           }
        :: else -> break
        od;
        j = u;
        do
        :: j > q + 1 ->
           j--;
           if
           :: word[S(j)] == FULL(j) && j - place[S(j)] == q ->
#ifndef BUG_BURY_FIRST
              cas(j, FULL(j), TOMB(j))                                              /* [T1] */
#else
              skip
#endif
           :: else -> if :: j < t -> cas(j, FREE(j), TOMB(j)) :: else fi
           fi
        :: else -> break
        od;
        cas(q, FREE(q), TOMB(q))                                                    /* [T1] last */
     fi
  fi;
  t = 0; u = 0; j = 0; ok = 0
}

/* ---- an item lies at q, below head; take it over if no live record covers it ---- */
inline adopt() {
  if
  :: head > q && word[S(q)] == FULL(q) -> ok = 1                                    /* [S1] */
  :: else -> ok = 0
  fi;
  if :: ok && place[S(q)] != 0 -> ok = !IS_PART(q) :: else fi;                      /* [S1] of the slot before */
  if :: ok && GET_COVERED(q) -> ok = 0 :: else fi;                                  /* [S2][S3] */
  if
  :: ok && word[S(q)] == FULL(q) ->                                                 /* the second read [S4] */
     n = (size[S(q)] == 0 -> 1 : size[S(q)]);                                       /* of a part: a corrupt item */
     a = id[S(q)];
#ifdef BUG_COPY_LATE
     atomic { if :: word[S(q)] == FULL(q) -> word[S(q)] = FREE(q + CAP); ok = 1 :: else -> ok = 0 fi };
     if
     :: ok ->
        if :: n == 2 -> b = id[S(q + 1)]; bp = place[S(q + 1)]; assert(b == a && bp == 1) :: else -> skip fi;
        atomic { taken[a]++; assert(taken[a] <= 1) }
     :: else -> skip
     fi;
     if :: n == 2 -> cas(q + 1, FULL(q + 1), FREE(q + 1 + CAP)) :: else -> skip fi
#else
     if :: n == 2 -> b = id[S(q + 1)]; bp = place[S(q + 1)] :: else -> skip fi;
#ifdef BUG_ADOPT_WORDS
     if :: n == 2 -> (word[S(q + 1)] == FULL(q + 1) || word[S(q)] != FULL(q)) :: else -> skip fi; /* it waits */
#endif
     free(q)
#endif
  :: else -> skip
  fi;
  a = 0; b = 0; bp = 0; n = 0; q = 0; ok = 0
}
