/* Items of several slots. An item takes one or two slots. It is claimed like a batch and published from the last slot
   to the first; a get claims all of it, copies it, and frees its slots from the last to the first. The
   compare-and-swap that frees the FIRST slot decides which get has the item. Positions are claimed in order, so
   nothing can be written into a slot of the item before its first slot is free: what is freed early can be read by
   adopters until the item is decided, and when it is decided nothing of it is left.

   With LEASE the first slot becomes GIVEN, which decides; then the rest is freed, and then the first. If the holder of
   the lease slot is dead, the process that meets the word settles it: it frees the rest, then the first, and has the
   item.

   A dead put is buried in one walk, with what lies FREE of other dead puts on the way (ring.pml plants errors in
   that). A later part of an item is adopted only if nothing leads to it: DAMAGE has freed the first slot of an item
   that a dead get had claimed.

   NP producers (PLAN says what each puts), NC consumers, capacity CAP; at most CRASH of them die, at any step, those
   of recovery included. An heir, which does not die, takes over as consumer when all consumers have ended or died. At
   last comes one more put of two slots, which finds room only where nothing was left behind.

   Checked: no item twice; no item lost whose put has returned; no item torn (both parts are the same item's, in their
   places); no get finds a later part at the head, or there of the lap before; no part is adopted that something leads
   to; an item whose put died comes whole or never; no live claim is buried; no operation is stuck (every wait blocks
   until something has changed that the waiter can act upon: an invalid end state); nothing stays behind.

   Simplifications: a scan of the records is one step (its parts are in ring.pml), and so is the look for something to
   adopt, which is only a hint; a record is used once, so its announcement stays when its owner dies; lock and gate are
   left out (gate.pml; safety does not depend on them); of leases there is only what happens in the ring (lease.pml has
   the rest); memory is sequentially consistent.

   Planted errors:
     BUG_FIRST_FIRST    the first slot is freed before the rest
     BUG_COPY_LATE      an adopter decides first and copies the rest afterwards
     BUG_ADOPT_WORDS    an adopter wants all slots FULL, also those that the dead get had freed already
     BUG_ADOPT_PART     an adopter takes a later part for an item
     BUG_PART_AT_HEAD   DAMAGE: a part that nothing leads to is adopted only where head meets it
     BUG_PUBLISH_FIRST  the first slot is published first
     BUG_BURY_FIRST     a burial forgets the published rest of a dead put
     BUG_BURY_UPWARDS   a burial makes the first slot a TOMB before the rest
     BUG_CLAIM_ONE      a get claims the first slot only
     BUG_STALE_LENGTH   a get keeps the length that it read at an earlier look at the head
     BUG_LATE_ANNOUNCE  a get announces after its claim
     BUG_SETTLE_FIRST   LEASE: the process that settles a lease slot leaves the rest */
#ifndef CAP
#define CAP 2
#endif
#ifndef NP
#define NP 1
#endif
#ifndef NC
#define NC 2
#endif
#ifndef CRASH
#define CRASH 1
#endif
#ifndef PLAN
#define PLAN 0                     /* 0: large + small | large; 1: large | small; 2: large + large | small */
#endif
#define HEIR (NP + NC)
#define LATE (HEIR + 1)
#define N (NP + NC + 2)
#define ITEMS 6                    /* 0 is damaged; 1, 2 of producer 0; 3, 4 of producer 1; 5 of the late one */
#define FREE(p) ((p) * 4)
#define FULL(p) ((p) * 4 + 1)
#define TOMB(p) ((p) * 4 + 2)
#define GIVEN(p) ((p) * 4 + 3)
#define POS(w) ((w) / 4)
#define S(p) ((p) % CAP)

byte head, tail, word[CAP];
byte id[CAP], place[CAP], size[CAP];   /* of a slot: item, its place in it; of a first slot: how many it takes */
byte begin[N], end[N];                 /* announcements: of puts by producers, of gets by consumers */
byte holder[CAP], leased[CAP];         /* of a GIVEN word: the process that has the item, and how many slots it takes */
bool alive[N], fin[N];
byte taken[ITEMS]; bool acked[ITEMS];
byte crashes;

#define GONE(i) (fin[i] || !alive[i])
#define COVER(i, q) (alive[i] && begin[i] <= (q) && (q) < end[i])
#define DEADCOVER(i, q) (!alive[i] && begin[i] <= (q) && (q) < end[i])
#if NP == 1
#define PUT_COVERED(q) (COVER(0, q) || COVER(LATE, q))
#define PUTS_GONE GONE(0)
#else
#define PUT_COVERED(q) (COVER(0, q) || COVER(1, q) || COVER(LATE, q))
#define PUTS_GONE (GONE(0) && GONE(1))
#endif
#if NC == 1
#define GET_COVERED(q) (COVER(NP, q) || COVER(HEIR, q))
#define GET_DEAD(q) DEADCOVER(NP, q)
#define GETS_GONE GONE(NP)
#else
#define GET_COVERED(q) (COVER(NP, q) || COVER(NP + 1, q) || COVER(HEIR, q))
#define GET_DEAD(q) (DEADCOVER(NP, q) || DEADCOVER(NP + 1, q))
#define GETS_GONE (GONE(NP) && GONE(NP + 1))
#endif
#ifdef DAMAGE
#define IS_DAMAGED(q) ((q) == 1)       /* a part is left there of the two slots that a dead get had claimed */
#else
#define IS_DAMAGED(q) false
#endif

/* What a look at slot s shows: */
#define IS_FULL(s) (word[s] % 4 == 1)
#define IS_ORPHAN_PUT(q) (word[S(q)] == FREE(q) && tail > (q) && !PUT_COVERED(q))
/* a claimed item that a dead record names or that stands in the way of the head; a later part is none if the slot
   before it, whose word is w, leads to it */
#define NAMED(q) (GET_DEAD(q) || IS_DAMAGED(q) || head == (q) + CAP)
#define LEADS(w, q) ((w) == GIVEN((q) - 1) || ((w) % 4 != 3 && POS(w) < (q) - 1 + CAP))
#if defined(BUG_ADOPT_PART)
#define IS_PART(q) false
#elif defined(BUG_PART_AT_HEAD)
#define IS_PART(q) (place[S(q)] != 0 && head != (q) + CAP)
#else
#define IS_PART(q) (place[S(q)] != 0 && LEADS(word[S((q) - 1)], q))
#endif
#define ORPHAN_GET(s) (IS_FULL(s) && POS(word[s]) < head && !IS_PART(POS(word[s])) && NAMED(POS(word[s])) && \
                       !GET_COVERED(POS(word[s])))
#define LEFT(s) (word[s] % 4 == 3 && !alive[holder[s]])
#define FOUND(s) (ORPHAN_GET(s) || LEFT(s))
#if CAP == 2
#define ANY_ORPHAN (FOUND(0) || FOUND(1))
#else
#define ANY_ORPHAN (FOUND(0) || FOUND(1) || FOUND(2))
#endif

inline cas(q, from, to) { atomic { if :: word[S(q)] == from -> word[S(q)] = to; ok = 1 :: else -> ok = 0 fi } }

/* The compare-and-swap that decides, and what its winner has in hands: parts a and b of an item of n slots. */
inline decide(q) {
  atomic {
    if
    :: word[S(q)] == FULL(q) ->
#ifdef LEASE
       word[S(q)] = GIVEN(q); holder[S(q)] = me; leased[S(q)] = n; ok = 1;
#else
       word[S(q)] = FREE(q + CAP); ok = 1;
#endif
       assert(place[S(q)] == 0 || IS_DAMAGED(q));
       assert(n == 1 || (b == a && bp == 1));
       taken[a]++; assert(taken[a] <= 1)
    :: else -> ok = 0
    fi
  }
}

/* Free the n slots of the item at q, of which all is copied. */
inline free(q) {
#if defined(LEASE)
  decide(q);
  if
  :: ok ->
     if :: n == 2 -> cas(q + 1, FULL(q + 1), FREE(q + 1 + CAP)) :: else -> skip fi;
     cas(q, GIVEN(q), FREE(q + CAP))
  :: else -> skip
  fi
#elif defined(BUG_FIRST_FIRST)
  decide(q);
  if :: ok && n == 2 -> cas(q + 1, FULL(q + 1), FREE(q + 1 + CAP)) :: else -> skip fi
#else
  if :: n == 2 -> cas(q + 1, FULL(q + 1), FREE(q + 1 + CAP)) :: else -> skip fi;
  decide(q)
#endif
}

/* ---- the word at q is GIVEN to a dead process ---- */
inline settle() {
  atomic {
    if
    :: word[S(q)] == GIVEN(q) && !alive[holder[S(q)]] ->
       holder[S(q)] = me; a = id[S(q)]; z = leased[S(q)]; taken[a] = 1; ok = 1
    :: else -> ok = 0
    fi
  };
  if
  :: ok ->
#ifndef BUG_SETTLE_FIRST
     if :: z == 2 -> cas(q + 1, FULL(q + 1), FREE(q + 1 + CAP)) :: else -> skip fi;
#endif
     cas(q, GIVEN(q), FREE(q + CAP))
  :: else -> skip
  fi;
  a = 0; z = 0; ok = 0
}

/* ---- put of item v, of n slots ---- */
inline put(v) {
  do
  :: p = tail; i = 0;
     do
     :: i < n ->
        w = word[S(p + i)];
        if
        :: w == FREE(p + i) -> i++
        :: p + i >= CAP && w == TOMB(p + i - CAP) -> cas(p + i, w, FREE(p + i))
        :: else -> break
        fi
     :: else -> break
     od;
     if
     :: i == n ->
        atomic { begin[me] = p; end[me] = p + n };
        atomic { if :: tail == p -> tail = p + n; ok = 1 :: else -> ok = 0 fi };
        if :: ok -> break :: else -> end[me] = 0 fi
     :: else ->
        end[me] = 0;
        if
        :: tail != p || POS(w) > p + i -> skip
        :: else ->
           q = p + i - CAP;
           if
           :: w == FREE(q) -> w = 0; i = 0; bury();
              (tail != p || word[S(q)] != FREE(q) || IS_ORPHAN_PUT(q))
           :: w == GIVEN(q) && LEFT(S(q)) -> settle()
           :: else -> /* full: sleep until something has changed that a putter can act upon */
              (word[S(q)] != w || tail != p || IS_ORPHAN_PUT(q) || LEFT(S(q)))
           fi
        fi;
        q = 0
     fi;
     w = 0; i = 0
  od;
  /* claimed */
  i = 0;
  do
  :: i < n -> atomic { id[S(p + i)] = v; place[S(p + i)] = i; size[S(p + i)] = (i == 0 -> n : 0) }; i++
  :: else -> break
  od;
#ifdef BUG_PUBLISH_FIRST
  i = 0;
  do :: i < n -> cas(p + i, FREE(p + i), FULL(p + i)); assert(ok); i++ :: else -> break od;
#else
  do :: i > 0 -> i--; cas(p + i, FREE(p + i), FULL(p + i)); assert(ok) :: else -> break od;
#endif
  atomic { end[me] = 0; acked[v] = 1 };
  p = 0; i = 0; w = 0; ok = 0
}

#include "large_rescue.pml"

/* ---- get until everything is over ---- */
inline consume() {
  do
  :: p = head;
     w = word[S(p)];
     if
     :: w == FULL(p) ->
        assert(place[S(p)] == 0 || head != p || word[S(p)] != w);
#ifdef BUG_STALE_LENGTH
        if :: old == 0 -> old = size[S(p)] :: else -> skip fi;
        n = old;
#else
        n = size[S(p)];
#endif
        if :: n == 0 -> n = 1 :: else -> skip fi;           /* head has moved on: the claim will fail */
#ifndef BUG_LATE_ANNOUNCE
        atomic { begin[me] = p; end[me] = p + n };
#endif
#ifdef BUG_CLAIM_ONE
        atomic { if :: head == p -> head = p + 1; ok = 1 :: else -> ok = 0 fi };
#else
        atomic { if :: head == p -> head = p + n; ok = 1 :: else -> ok = 0 fi };
#endif
        if
        :: ok ->
#ifdef BUG_LATE_ANNOUNCE
           atomic { begin[me] = p; end[me] = p + n };
#endif
#ifdef BUG_STALE_LENGTH
           old = 0;
#endif
           a = id[S(p)];
           if :: n == 2 -> b = id[S(p + 1)]; bp = place[S(p + 1)] :: else -> skip fi;
           free(p)
        :: else -> skip
        fi;
        end[me] = 0; a = 0; b = 0; bp = 0; n = 0; ok = 0
     :: w == TOMB(p) -> cas(p, w, FREE(p + CAP)); ok = 0
     :: POS(w) > p -> atomic { if :: head == p -> head = p + 1 :: else -> skip fi }
     :: w == FREE(p) ->
        if
        :: tail > p ->
           q = p; bury(); q = 0
        :: else -> find()
        fi
     :: POS(w) < p ->                                         /* the lap before: its get has not freed it */
        if
        :: w == FULL(p - CAP) ->
           /* a later part has gone before its first slot */
           assert(place[S(p)] == 0 || IS_DAMAGED(p - CAP) || head != p || word[S(p)] != w);
           q = p - CAP; adopt()
        :: w == GIVEN(p - CAP) && LEFT(S(p)) -> q = p - CAP; settle(); q = 0
        :: else -> skip
        fi
     fi;
     w = 0;
     if
     :: PUTS_GONE && head == tail && !ANY_ORPHAN && word[S(head)] == FREE(head) -> break
     :: else ->
        /* sleep until there is something to do */
        ((word[S(head)] == FULL(head)) || word[S(head)] == TOMB(head) || POS(word[S(head)]) > head ||
         IS_ORPHAN_PUT(head) || ANY_ORPHAN || (PUTS_GONE && head == tail && word[S(head)] == FREE(head)))
     fi
  od
}

/* What a dead get had claimed, by its record. */
inline find() {
  i = 0;
  do
  :: i < CAP ->
     if
     :: atomic { LEFT(i) -> q = POS(word[i]) }; settle(); q = 0; break
     :: atomic { ORPHAN_GET(i) -> q = POS(word[i]) }; adopt(); break
     :: else -> i++
     fi
  :: else -> break
  od;
  i = 0
}

proctype producer(byte me) {
  byte p = 0, i = 0, w = 0, n = 0, a = 0, z = 0, q = 0, t = 0, u = 0, j = 0; bool ok = 0;
  {
    if
    :: me == 0 -> n = 2; put(1);
#if PLAN == 0
       n = 1; put(2)
#elif PLAN == 2
       n = 2; put(2)
#else
       skip
#endif
    :: else ->
#if PLAN == 0
       n = 2; put(3)
#else
       n = 1; put(3)
#endif
    fi;
    n = 0;
    fin[me] = 1
  } unless { !alive[me] }
}

proctype consumer(byte me) {
  byte p = 0, w = 0, n = 0, a = 0, b = 0, bp = 0, z = 0, q = 0, i = 0, t = 0, u = 0, j = 0; bool ok = 0;
#ifdef BUG_STALE_LENGTH
  byte old = 0;
#endif
  {
    consume();
    fin[me] = 1
  } unless { !alive[me] }
}

proctype heir() {
  byte me = HEIR, p = 0, w = 0, n = 0, a = 0, b = 0, bp = 0, z = 0, q = 0, i = 0, t = 0, u = 0, j = 0; bool ok = 0;
#ifdef BUG_STALE_LENGTH
  byte old = 0;
#endif
  GETS_GONE;
  consume();
  fin[HEIR] = 1
}

proctype late() {
  byte me = LATE, p = 0, i = 0, w = 0, n = 2, a = 0, z = 0, q = 0, t = 0, u = 0, j = 0; bool ok = 0;
  PUTS_GONE && GETS_GONE && fin[HEIR];
  put(5);
  fin[LATE] = 1;
  d_step {
    assert(!acked[1] || taken[1] == 1);
    assert(!acked[2] || taken[2] == 1);
    assert(!acked[3] || taken[3] == 1);
#ifdef DAMAGE
    assert(taken[0] == 1);
#endif
    i = 0;
    do
    :: i < CAP ->
       assert(!IS_FULL(i) || id[i] == 5);
       assert(word[i] % 4 != 0 || POS(word[i]) >= tail);     /* no claimed slot is left unfilled */
       i++
    :: else -> break
    od
  }
}

proctype killer() {
  do
  :: atomic { crashes < CRASH && !GONE(0) -> alive[0] = 0; crashes++ }
#if NP > 1
  :: atomic { crashes < CRASH && !GONE(1) -> alive[1] = 0; crashes++ }
#endif
  :: atomic { crashes < CRASH && !GONE(NP) -> alive[NP] = 0; crashes++ }
#if NC > 1
  :: atomic { crashes < CRASH && !GONE(NP + 1) -> alive[NP + 1] = 0; crashes++ }
#endif
  :: break
  od
}

init {
  byte i = 0;
  atomic {
    do :: i < CAP -> word[i] = FREE(i); i++ :: else -> break od;
#ifdef DAMAGE
    word[0] = FREE(CAP); word[1] = FULL(1); place[1] = 1; head = 2; tail = 2;
#endif
    i = 0;
    do :: i < N -> alive[i] = 1; i++ :: else -> break od;
    run producer(0);
#if NP > 1
    run producer(1);
#endif
    run consumer(NP);
#if NC > 1
    run consumer(NP + 1);
#endif
    run heir(); run late(); run killer()
  }
}
