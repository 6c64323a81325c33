/* One attempt to put or to get, for an operation that has a seat. From its claim to its end an attempt keeps the GIL. */

#ifndef SHMQ_ATTEMPT_H
#define SHMQ_ATTEMPT_H

#include "handle.h"
#include "ring.h"

/* ---- mode spsc: roles --------------------------------------------------------------------------------------------- */

/* Raise what signals and other threads have for this thread; or that this is a child. */
static inline int serve(struct seat *seat)
{
    PyObject *served = PyObject_CallMethod(seat->handle->engine, "serve", NULL);
    if (served == NULL) {
        return FAILED;
    }
    Py_DECREF(served);
    return seat->life != current_life ? fail_as_forked() : 0;
}

/* Be the one producer (consumer) under the name of the handle's seat for roles, or raise; patient, because a consumer that
   closes is the producer for as long as it puts items back. */
SHMQ_RARE static int wait_for_role(struct seat *seat, enum shmq_side side)
{
    Handle *self = seat->handle;
    struct shmq_ring *ring = &seat->ring;
    _Atomic uint64_t *role = shmq_role_of(ring, side);
    if (!have_role_seat(self)) {
        return FAILED;
    }
    const uint64_t name = self->role->me.name;
    const int64_t until = now() + PATIENCE;
    uint64_t holder;
    while ((holder = shmq_take_role(ring, role, name)) != name) {
        if (now() > until) {
            const uint64_t pid = shmq_owner_word(ring, holder) & SHMQ_OWNER_PID_MASK;
            return fail_with(PyObject_CallFunction(self->state->role_taken, "sK",
                                                   side == SHMQ_PUT ? "producer" : "consumer", (unsigned long long)pid));
        }
        Py_BEGIN_ALLOW_THREADS
        nanosleep(&(struct timespec){0, NAP}, NULL);
        Py_END_ALLOW_THREADS
        if (serve(seat) < 0) {
            return FAILED;
        }
    }
    return 0;
}

/* Be the one producer (consumer), or raise; the claim follows without letting another thread in. */
static inline int take_role(struct seat *seat, enum shmq_side side)
{
    const struct seat *mine = seat->handle->role;
    if (!seat->ring.spsc ||
        (mine != NULL && shmq_take_role(&seat->ring, shmq_role_of(&seat->ring, side), mine->me.name) == mine->me.name)) {
        return 0;
    }
    return wait_for_role(seat, side);
}

/* ---- put ---------------------------------------------------------------------------------------------------------- */

static inline int fail_as_corrupt(struct seat *seat)
{
    return fail_by(PyObject_CallMethod(seat->handle->engine, "corrupt", "KK",
                                       (unsigned long long)seat->me.bad_position,
                                       (unsigned long long)seat->me.bad_word));
}

static inline _Atomic int32_t *lock_flag(struct seat *seat)
{
    return seat->handle->lock.buf;
}

/* Put everything, or nothing. */
static inline int attempt_put(struct seat *seat, bool sure)
{
    struct shmq_ring *ring = &seat->ring;
    struct shmq_participant *me = &seat->me;
    if (take_role(seat, seat->side) < 0) {
        return FAILED;
    }
    if (!seat->has_lock) {
        const uint64_t gate = shmq_gate(ring);
        if (gate != 0 && shmq_is_shut(gate, (uint64_t)now()) && !(sure && shmq_lock_has_no_live_owner(ring))) {
            if (gate != seat->passed_on) { /* the wake may have been meant for the batch: pass it on, once a lease */
                seat->passed_on = gate;
                shmq_wake(ring, &ring->header->space, 1);
            }
            return SHMQ_NOTHING;
        }
    }
    uint64_t position;
    const enum shmq_result claimed = shmq_claim_put(ring, me, seat->count, sure, &position);
    if (claimed != SHMQ_DONE) {
        return claimed == SHMQ_CORRUPT ? fail_as_corrupt(seat) : (int)claimed;
    }
    if (seat->has_lock) {
        shmq_open_gate(ring, shmq_gate(ring)); /* whoever has closed it: I have the lock, so that one is dead or gone */
        shmq_release_lock(ring, me, lock_flag(seat));
        seat->has_lock = false;
    }
    for (uint64_t i = 0; i < seat->count; i++) {
        const struct payload *payload = &seat->payloads[i];
        shmq_write(ring, position + i, data_of(payload), payload->length, payload->tag, (uint32_t)i);
    }
    if (shmq_publish(ring, me, position, seat->count) == SHMQ_CLAIM_LOST) {
        PyErr_Format(seat->handle->state->claim_lost,
                     "the put at position %llu was declared dead; its items are not in the queue",
                     (unsigned long long)position);
        return FAILED;
    }
    return SHMQ_DONE;
}

/* ---- get ---------------------------------------------------------------------------------------------------------- */

/* Take what interrupted gets of this handle had taken. */
static inline int take_kept_back(struct seat *seat)
{
    Handle *self = seat->handle;
    while (seat->count < seat->limit && PyObject_Size(self->kept_back) > 0) {
        if (make_room(seat, seat->count + 1) < 0) {
            return FAILED;
        }
        PyObject *pair = PyObject_CallMethod(self->kept_back, "popleft", NULL);
        if (pair == NULL) {
            return FAILED;
        }
        PyObject *bytes;
        unsigned int tag;
        if (!PyArg_ParseTuple(pair, "SI", &bytes, &tag)) {
            Py_DECREF(pair);
            return FAILED;
        }
        add_taken(seat, Py_NewRef(bytes), tag);
        Py_DECREF(pair);
    }
    return seat->count > 0 ? SHMQ_DONE : SHMQ_NOTHING;
}

/* Copy and free what is claimed. Copies are objects of bytes, whose making runs nothing; it may fail for want of memory,
   and then the items go to other gets. */
static inline int take_claimed(struct seat *seat, uint64_t position, uint64_t count)
{
    struct shmq_ring *ring = &seat->ring;
    for (uint64_t i = 0; i < count; i++) {
        struct shmq_item item;
        shmq_read(ring, position + i, &item);
        if (item.tag >= TAG_NONE && item.tag <= TAG_FLOAT && item.length <= SHMQ_WORD) { /* spares an allocation */
            struct payload *payload = &seat->payloads[seat->count++];
            *payload = (struct payload){.owner = NULL, .length = item.length, .tag = item.tag};
            memcpy(payload->scalar, item.data, item.length);
            continue;
        }
        PyObject *bytes = PyBytes_FromStringAndSize((const char *)item.data, item.length);
        if (bytes == NULL) {
            clear_payloads(seat, 0);
            seat->is_marked = !shmq_abandon(ring, &seat->me);
            return FAILED;
        }
        add_taken(seat, bytes, item.tag);
    }
    seat->count = 0;
    for (uint64_t i = 0; i < count; i++) {
        if (shmq_free_slot(ring, position + i)) {
            seat->payloads[seat->count++] = seat->payloads[i];
        } else {
            Py_XDECREF(seat->payloads[i].owner); /* somebody has adopted it */
        }
    }
    shmq_finish_get(ring, &seat->me, count);
    return seat->count > 0 ? SHMQ_DONE : SHMQ_AGAIN;
}

/* Take over the item of a dead get. */
static inline int adopt(struct seat *seat, uint64_t position)
{
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, seat->ring.item_size);
    if (bytes == NULL || make_room(seat, 1) < 0) {
        Py_XDECREF(bytes);
        return FAILED;
    }
    struct shmq_item item;
    if (!shmq_rescue_get(&seat->ring, position, PyBytes_AS_STRING(bytes), &item)) {
        Py_DECREF(bytes);
        return SHMQ_AGAIN;
    }
    if (_PyBytes_Resize(&bytes, item.length) < 0) {
        return FAILED;
    }
    add_taken(seat, bytes, item.tag);
    return SHMQ_DONE;
}

/* Take one to `limit` items. */
static inline int attempt_get(struct seat *seat, bool sure)
{
    struct shmq_ring *ring = &seat->ring;
    if (PyObject_Size(seat->handle->kept_back) > 0) {
        const int found = take_kept_back(seat);
        if (found != SHMQ_NOTHING) {
            return found;
        }
    }
    if (take_role(seat, seat->side) < 0) {
        return FAILED;
    }
    int found = SHMQ_AGAIN;
    for (int attempt = 0; attempt < SHMQ_ATTEMPTS && found == SHMQ_AGAIN; attempt++) {
        uint64_t most = 1;
        if (seat->limit > 1) { /* room for what is there, not for what could be */
            const uint64_t size = shmq_distance(ring);
            most = size < 1 ? 1 : size < seat->limit ? size : seat->limit;
        }
        if (make_room(seat, most) < 0) {
            return FAILED;
        }
        uint64_t position, count;
        const enum shmq_result claimed = shmq_claim_get(ring, &seat->me, most, sure, &position, &count);
        if (claimed == SHMQ_DONE) {
            found = take_claimed(seat, position, count);
        } else if (claimed == SHMQ_CORRUPT) {
            found = fail_as_corrupt(seat);
        } else if (claimed == SHMQ_ORPHAN || (sure && shmq_find_orphan(ring, &position))) {
            found = adopt(seat, position);
        } else {
            return claimed;
        }
    }
    return found == SHMQ_AGAIN ? SHMQ_HELD : found;
}

/* Keep what a get has taken, from payload `first` on, for the next gets of this handle. FAILED: the note of it raised,
   a signal handler for example; an error that was set is then the context of that one, otherwise it stays set. */
static inline int keep_back(struct seat *seat, uint64_t first)
{
    Handle *self = seat->handle;
    if (seat->count <= first) {
        return 0;
    }
    PyObject *before = raised();
    if (seat->life == current_life) { /* otherwise the parent keeps it */
        for (uint64_t i = seat->count; i-- > first;) {
            const struct payload *payload = &seat->payloads[i];
            PyObject *bytes = bytes_of(payload);
            PyObject *kept = bytes == NULL
                                 ? NULL
                                 : PyObject_CallMethod(self->kept_back, "appendleft", "((NI))", bytes, payload->tag);
            if (kept == NULL) {
                PyErr_WriteUnraisable(self->kept_back);
            }
            Py_XDECREF(kept);
        }
        shmq_wake_all(&seat->ring, &seat->ring.header->items); /* another thread may wait for just these */
    }
    clear_payloads(seat, first);
    PyObject *noted = PyObject_CallNoArgs(self->on_keep_back);
    if (noted == NULL) {
        PyObject *late = raised();
        if (before != NULL) {
            PyException_SetContext(late, before);
        }
        return fail_with(late);
    }
    Py_DECREF(noted);
    if (before != NULL) {
        raise_again(before);
    }
    return 0;
}

static inline int attempt(struct seat *seat, bool sure)
{
    return seat->side == SHMQ_PUT ? attempt_put(seat, sure) : attempt_get(seat, sure);
}

static inline bool is_over(int found)
{
    return found == SHMQ_DONE || found == FAILED;
}

#endif
