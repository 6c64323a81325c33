/* Waiting: attempts, with spins and sleeps between them. Nothing is claimed while the GIL is released. */

#ifndef SHMQ_WAIT_H
#define SHMQ_WAIT_H

#include "leasing.h"

/* ---- waiting ------------------------------------------------------------------------------------------------------ */

/* Whether an attempt may succeed, or be the last: two loads, for which the GIL is not needed. */
static inline bool looks_ready(const struct record *record)
{
    const struct shmq_ring *ring = &record->ring;
    if (record->side == SHMQ_PUT) {
        const uint64_t p = SHMQ_LOAD("P1", &ring->header->tail, memory_order_acquire) + record->slots - 1;
        const uint64_t word = SHMQ_LOAD("P2", &shmq_slot_of(ring, p)->word, memory_order_acquire);
        return (shmq_position_of(word) >= p && (word & SHMQ_STATE_MASK) != SHMQ_GIVEN) ||
               word == shmq_word_of(p - ring->capacity, SHMQ_TOMB) || (p & SHMQ_CLOSED) != 0;
    }
    const uint64_t p = SHMQ_LOAD("G1", &ring->header->head, memory_order_acquire);
    const uint64_t word = SHMQ_LOAD("G2", &shmq_slot_of(ring, p)->word, memory_order_acquire);
    return (shmq_position_of(word) >= p && word != shmq_word_of(p, SHMQ_FREE) &&
            (word & SHMQ_STATE_MASK) != SHMQ_GIVEN) ||
           (record->leases && (SHMQ_LOAD("E1", &ring->header->returned, memory_order_relaxed) & 1) != 0);
}

/* Look up to `looks` times. */
static inline bool look(const struct record *record, unsigned looks)
{
    while (looks-- > 0) {
        if (looks_ready(record)) {
            return true;
        }
        shmq_relax();
        shmq_relax();
    }
    return false;
}

/* Look for a while before a sleep; at first with the GIL, because releasing it takes longer than a prompt answer. After
   spins in vain the next waits do not spin. But a later one does again: otherwise two processes that answer each other
   would sleep and wake each other for ever. */
static inline int spin(struct record *record)
{
    Handle *self = record->handle;
    if (!self->may_spin) {
        return SHMQ_NOTHING;
    }
    if (look(record, GIL_LOOKS)) {
        return attempt_again(record, false);
    }
    unsigned *misses = &self->spins[record->side].misses, *skips = &self->spins[record->side].skips;
    if (*skips > 0) {
        (*skips)--;
        return SHMQ_NOTHING;
    }
    bool ready;
    Py_BEGIN_ALLOW_THREADS const int64_t until = now() + SPIN;
    do {
        ready = look(record, CLOCK_LOOKS);
    } while (!ready && now() < until);
    Py_END_ALLOW_THREADS *misses = ready ? 0 : *misses < MOST_MISSES ? *misses + 1 : MOST_MISSES;
    *skips = (1U << *misses) - 1;
    return ready ? attempt_again(record, false) : SHMQ_NOTHING;
}

/* Let signals and other threads raise their exceptions in this thread; or raise because the handle was closed, or
   because this is a forked child. */
static inline int after_sleep(struct record *record)
{
    if (serve(record) < 0) {
        return FAILED;
    }
    return record->handle->is_closed ? fail_as_closed(record->handle) : 0;
}

/* Let the doorbell of this side wait for the item or room that this operation has not found. */
static inline int tell_doorbell(struct record *record)
{
    PyObject *told = PyObject_CallMethod(record->handle->engine, "nothing_found", "i", record->side == SHMQ_PUT);
    Py_XDECREF(told);
    return told == NULL || after_sleep(record) < 0 ? FAILED : SHMQ_NOTHING;
}

/* Attempt once more, and give an operation that is about to end a moment: it is no reason to raise Empty or Full. */
static inline int look_once(struct record *record)
{
    const int64_t start = now();
    for (;;) {
        const int found = attempt_again(record, true);
        const int64_t waited = now() - start;
        if (is_over(found)) {
            return found;
        }
        if (found == SHMQ_NOTHING || waited > SHMQ_PATIENCE) {
            struct shmq_header *header = record->ring.header;
            SHMQ_ADD("count", record->side == SHMQ_PUT ? &header->full_events : &header->empty_events, 1,
                     memory_order_relaxed);
            return record->handle->has_doorbell[record->side] ? tell_doorbell(record) : SHMQ_NOTHING;
        }
        Py_BEGIN_ALLOW_THREADS if (waited < SHMQ_YIELDING)
        {
            sched_yield();
        }
        else
        {
            nanosleep(&(struct timespec){0, SHMQ_NAP}, NULL);
        }
        Py_END_ALLOW_THREADS if (after_sleep(record) < 0)
        {
            return FAILED;
        }
    }
}

static inline int64_t earlier(int64_t one, int64_t other)
{
    return one < other ? one : other;
}

/* Attempt until one succeeds or the time is over; nothing is announced during a sleep. */
static inline int wait_until(struct record *record, int64_t until)
{
    Handle *self = record->handle;
    struct shmq_header *header = record->ring.header;
    struct shmq_wake_words *side = record->side == SHMQ_PUT ? &header->space : &header->items;
    if (until == ONE_LOOK) {
        return attempt_again(record, true);
    }
    if (until == 0) {
        return look_once(record);
    }
    int found = spin(record);
    if (!is_over(found)) {
        found = attempt_again(record, true);
    }
    while (!is_over(found) && now() < until) {
        if ((record->unusual & HAS_LOCK) != 0) {
            shmq_shut_gate(&record->ring, (uint64_t)now(), &record->shut, &record->shut_at);
        }
        SHMQ_ADD("count", record->side == SHMQ_PUT ? &header->put_waits : &header->get_waits, 1, memory_order_relaxed);
        const uint64_t epoch = shmq_arm(side);
        found = self->is_closed ? SHMQ_HELD : attempt_again(record, true); /* [W3] */
        if (is_over(found)) {
            break;
        }
        if (!self->is_closed) {
            const int64_t longest = earlier(found == SHMQ_HELD ? SHMQ_HELD_SLICE : self->slice, FOREVER - now());
            sleep_on(&side->epoch, epoch, earlier(until, now() + longest));
        }
        if (after_sleep(record) < 0) {
            return FAILED;
        }
        record->passed_on = record->passed_on == NOT_SLEPT ? 0 : record->passed_on;
        found = attempt_again(record, false);
    }
    return is_over(found) ? found : look_once(record);
}

/* ---- the lock of batches ------------------------------------------------------------------------------------------ */

static inline int take_lock(struct record *record, int64_t until)
{
    Handle *self = record->handle;
    struct shmq_header *header = record->ring.header;
    uint64_t holder;
    while (!shmq_try_acquire_lock(&record->ring, &record->me, lock_flag(record), &holder)) {
        if (shmq_is_closed(&record->ring)) {
            return SHMQ_SHUT_DOWN;
        }
        const int64_t time = now();
        if (until == ONE_LOOK) {
            return SHMQ_NOTHING;
        }
        if (time >= until) {
            SHMQ_ADD("count", &header->full_events, 1, memory_order_relaxed);
            return SHMQ_NOTHING;
        }
        /* If there is no owner, an operation is between the two words, and its wake may already have been. */
        const int64_t longest = holder != 0 ? self->slice : SHMQ_BETWEEN;
        sleep_on(&header->batch_owner, holder, earlier(until, time + earlier(longest, FOREVER - time)));
        if (after_sleep(record) < 0) {
            return FAILED;
        }
    }
    record->unusual |= HAS_LOCK;
    return SHMQ_DONE;
}

static inline int put_batch_locked(struct record *record, int64_t until)
{
    if (take_role(record, SHMQ_PUT) < 0) {
        return FAILED;
    }
    int found = take_lock(record, until != 0 ? until : now() + SHMQ_PATIENCE);
    if (found != SHMQ_DONE) {
        const bool is_told = found == SHMQ_NOTHING && until != ONE_LOOK && record->handle->has_doorbell[SHMQ_PUT];
        return is_told ? tell_doorbell(record) : found;
    }
    found = attempt(record, false);
    if (!is_over(found)) {
        found = wait_until(record, until);
    }
    if ((record->unusual & HAS_LOCK) != 0 && record->forks == forks) {
        shmq_open_gate(&record->ring, record->shut);
        shmq_release_lock(&record->ring, &record->me, lock_flag(record));
    }
    return found;
}

#endif
