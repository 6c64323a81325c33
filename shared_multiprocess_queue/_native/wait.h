/* Waiting: attempts, with spins and sleeps in between. Nothing is claimed where the GIL is not held. */

#ifndef SHMQ_WAIT_H
#define SHMQ_WAIT_H

#include "attempt.h"
#include "handle.h"

/* ---- waiting ------------------------------------------------------------------------------------------------------ */

/* Whether an attempt may succeed; a look at two words, and the GIL is not needed. */
static inline bool looks_ready(const struct seat *seat)
{
    const struct shmq_ring *ring = &seat->ring;
    if (seat->side == SHMQ_PUT) {
        const uint64_t p = SHMQ_LOAD("P1", &ring->header->tail, memory_order_acquire) + seat->count - 1;
        const uint64_t word = SHMQ_LOAD("P2", &shmq_slot_of(ring, p)->word, memory_order_acquire);
        return shmq_position_of(word) >= p || word == shmq_word_of(p - ring->capacity, SHMQ_TOMB);
    }
    const uint64_t p = SHMQ_LOAD("G1", &ring->header->head, memory_order_acquire);
    const uint64_t word = SHMQ_LOAD("G2", &shmq_slot_of(ring, p)->word, memory_order_acquire);
    return shmq_position_of(word) >= p && word != shmq_word_of(p, SHMQ_FREE);
}

/* Look up to `looks` times. */
static inline bool look(const struct seat *seat, unsigned looks)
{
    while (looks-- > 0) {
        if (looks_ready(seat)) {
            return true;
        }
        shmq_relax();
        shmq_relax();
    }
    return false;
}

/* Look for a while before anybody sleeps: first with the GIL, which costs more to give back than a prompt answer takes.
   After spins in vain, the next waits do without; but never for good, or two who answer each other would go on to wake
   each other for ever. */
static inline int spin(struct seat *seat)
{
    Handle *self = seat->handle;
    if (!self->may_spin) {
        return SHMQ_NOTHING;
    }
    if (look(seat, GIL_LOOKS)) {
        return attempt(seat, false);
    }
    unsigned *misses = &self->spins[seat->side].misses, *skips = &self->spins[seat->side].skips;
    if (*skips > 0) {
        (*skips)--;
        return SHMQ_NOTHING;
    }
    bool ready;
    Py_BEGIN_ALLOW_THREADS
    const int64_t until = now() + SPIN;
    do {
        ready = look(seat, CLOCK_LOOKS);
    } while (!ready && now() < until);
    Py_END_ALLOW_THREADS
    *misses = ready ? 0 : *misses < MOST_MISSES ? *misses + 1 : MOST_MISSES;
    *skips = (1U << *misses) - 1;
    return ready ? attempt(seat, false) : SHMQ_NOTHING;
}

/* Raise what signals and other threads have for this thread; or that the handle was closed, or that this is a child. */
static inline int after_sleep(struct seat *seat)
{
    if (serve(seat) < 0) {
        return FAILED;
    }
    return seat->handle->is_closed ? fail_as_closed(seat->handle) : 0;
}

/* Let the doorbell of this side wait for what this operation has not found. */
static inline int tell_doorbell(struct seat *seat)
{
    PyObject *told = PyObject_CallMethod(seat->handle->engine, "nothing_found", "i", seat->side == SHMQ_PUT);
    Py_XDECREF(told);
    return told == NULL || after_sleep(seat) < 0 ? FAILED : SHMQ_NOTHING;
}

/* Attempt once more, and be patient with an operation that is about to end: it is no reason to say no. */
static inline int look_once(struct seat *seat)
{
    const int64_t start = now();
    for (;;) {
        const int found = attempt(seat, true);
        const int64_t waited = now() - start;
        if (is_over(found)) {
            return found;
        }
        if (found == SHMQ_NOTHING || waited > PATIENCE) {
            struct shmq_header *header = seat->ring.header;
            SHMQ_ADD("count", seat->side == SHMQ_PUT ? &header->full_events : &header->empty_events, 1,
                     memory_order_relaxed);
            return seat->handle->has_doorbell[seat->side] ? tell_doorbell(seat) : SHMQ_NOTHING;
        }
        Py_BEGIN_ALLOW_THREADS
        if (waited < YIELDING) {
            sched_yield();
        } else {
            nanosleep(&(struct timespec){0, NAP}, NULL);
        }
        Py_END_ALLOW_THREADS
        if (after_sleep(seat) < 0) {
            return FAILED;
        }
    }
}

static inline int64_t earlier(int64_t one, int64_t other)
{
    return one < other ? one : other;
}

/* Attempt until it is done or the time is over; nothing is announced while this sleeps. */
static inline int wait_until(struct seat *seat, int64_t until)
{
    Handle *self = seat->handle;
    struct shmq_header *header = seat->ring.header;
    struct shmq_wake_words *side = seat->side == SHMQ_PUT ? &header->space : &header->items;
    if (until == 0) {
        return look_once(seat);
    }
    int found = spin(seat);
    if (!is_over(found)) {
        found = attempt(seat, true);
    }
    while (!is_over(found) && now() < until) {
        if (seat->has_lock) {
            seat->shut = shmq_shut_gate(&seat->ring, (uint64_t)now());
        }
        SHMQ_ADD("count", seat->side == SHMQ_PUT ? &header->put_waits : &header->get_waits, 1, memory_order_relaxed);
        const uint64_t epoch = shmq_arm(side);
        found = self->is_closed ? SHMQ_HELD : attempt(seat, true); /* [W3] */
        if (is_over(found)) {
            break;
        }
        if (!self->is_closed) {
            const int64_t longest = earlier(found == SHMQ_HELD ? HELD_SLICE : self->slice, FOREVER - now());
            sleep_on(&side->epoch, epoch, earlier(until, now() + longest));
        }
        if (after_sleep(seat) < 0) {
            return FAILED;
        }
        found = attempt(seat, false);
    }
    return is_over(found) ? found : look_once(seat);
}

/* ---- the lock of batches ------------------------------------------------------------------------------------------ */

static inline int take_lock(struct seat *seat, int64_t until)
{
    Handle *self = seat->handle;
    struct shmq_header *header = seat->ring.header;
    uint64_t holder;
    while (!shmq_try_acquire_lock(&seat->ring, &seat->me, lock_flag(seat), &holder)) {
        const int64_t time = now();
        if (time >= until) {
            SHMQ_ADD("count", &header->full_events, 1, memory_order_relaxed);
            return SHMQ_NOTHING;
        }
        /* Without an owner somebody is between the two words, and his wake may be past already. */
        const int64_t longest = holder != 0 ? self->slice : BETWEEN;
        sleep_on(&header->batch_owner, holder, earlier(until, time + earlier(longest, FOREVER - time)));
        if (after_sleep(seat) < 0) {
            return FAILED;
        }
    }
    seat->has_lock = true;
    return SHMQ_DONE;
}

static inline int put_together(struct seat *seat, int64_t until)
{
    if (take_role(seat, SHMQ_PUT) < 0) {
        return FAILED;
    }
    int found = take_lock(seat, until != 0 ? until : now() + PATIENCE);
    if (found != SHMQ_DONE) {
        return found == SHMQ_NOTHING && seat->handle->has_doorbell[SHMQ_PUT] ? tell_doorbell(seat) : found;
    }
    found = attempt(seat, false);
    if (!is_over(found)) {
        found = wait_until(seat, until);
    }
    if (seat->has_lock && seat->life == current_life) {
        shmq_open_gate(&seat->ring, seat->shut);
        shmq_release_lock(&seat->ring, &seat->me, lock_flag(seat));
    }
    return found;
}

#endif
