/* One attempt to put or to get, for an operation that has a record. From its claim to its end an attempt keeps the
   GIL. */

#ifndef SHMQ_ATTEMPT_H
#define SHMQ_ATTEMPT_H

#include "growth.h"

/* ---- mode spsc: roles --------------------------------------------------------------------------------------------- */

/* Let signals and other threads raise their exceptions in this thread; or raise because this is a forked child. */
static inline int serve(struct record *record)
{
    PyObject *served = PyObject_CallMethod(record->handle->engine, "serve", NULL);
    if (served == NULL) {
        return FAILED;
    }
    Py_DECREF(served);
    return record->forks != forks ? fail_as_forked() : 0;
}

/* Become the one producer (consumer) under the name of the handle's record for roles, or raise. The call waits a moment
   for the role, because a consumer that closes is the producer while it puts items back. */
SHMQ_RARE static int wait_for_role(struct record *record, enum shmq_side side)
{
    Handle *self = record->handle;
    struct shmq_ring *ring = &record->ring;
    _Atomic uint64_t *role = shmq_role_of(ring, side);
    if (!have_role_record(self)) {
        return FAILED;
    }
    const uint64_t name = self->role->me.name;
    const int64_t until = now() + SHMQ_PATIENCE;
    uint64_t holder;
    while ((holder = shmq_take_role(ring, role, name)) != name) {
        if (now() > until) {
            const uint64_t pid = shmq_owner_word(ring, holder) & SHMQ_OWNER_PID_MASK;
            return fail_with(PyObject_CallFunction(
                self->state->role_taken, "sK", side == SHMQ_PUT ? "producer" : "consumer", (unsigned long long)pid));
        }
        Py_BEGIN_ALLOW_THREADS nanosleep(&(struct timespec){0, SHMQ_NAP}, NULL);
        Py_END_ALLOW_THREADS if (serve(record) < 0)
        {
            return FAILED;
        }
    }
    return 0;
}

/* Become the one producer (consumer), or raise. The claim follows before another thread can run. */
static inline __attribute__((always_inline)) int take_role(struct record *record, enum shmq_side side)
{
    const struct record *mine = record->handle->role;
    if (!record->ring.spsc || (mine != NULL && shmq_take_role(&record->ring, shmq_role_of(&record->ring, side),
                                                              mine->me.name) == mine->me.name)) {
        return 0;
    }
    return wait_for_role(record, side);
}

/* ---- put ---------------------------------------------------------------------------------------------------------- */

static inline int fail_as_corrupt(struct record *record)
{
    return fail_by(PyObject_CallMethod(record->handle->engine, "corrupt", "KK",
                                       (unsigned long long)record->me.bad_position,
                                       (unsigned long long)record->me.bad_word));
}

static inline _Atomic int32_t *lock_flag(struct record *record)
{
    return record->handle->lock.buf;
}

/* Write a claimed item of any size, which may be in pieces; returns the number of its slots. */
static inline uint64_t write_any(const struct shmq_ring *ring, uint64_t position, const struct payload *payload,
                                 uint32_t index)
{
    if (payload->tag == TAG_BUFFERS && payload->length <= ring->item_size) {
        shmq_write_pieces(ring, position, payload->pieces, payload->length, payload->tag, index);
        return 1;
    }
    if (payload->tag == TAG_BUFFERS) {
        return shmq_write_large_pieces(ring, position, payload->pieces, payload->length, payload->tag, index);
    }
    return shmq_write_large(ring, position, data_of(payload), payload->length, payload->tag, index);
}

SHMQ_RARE static int fail_as_lost(const struct record *record, uint64_t position)
{
    PyErr_Format(record->handle->state->claim_lost,
                 "the put at position %llu was declared dead; its items are not in the queue",
                 (unsigned long long)position);
    return FAILED;
}

/* Go on after the claim of a put that is unusual: let the lock go, and write the items. Returns what follows: 0, or
   STAYS_CLAIMED, or FAILED. */
SHMQ_APART static int write_unusual(struct record *record, uint64_t position)
{
    struct shmq_ring *ring = &record->ring;
    struct shmq_participant *me = &record->me;
    if ((record->unusual & IN_PLACE) != 0) { /* of its one item nothing is known but its length */
        if (record->handle->at_once < record->handle->item_size && reserve_claimed(record, position) < 0) {
            return FAILED;
        }
        shmq_write_head(shmq_slot_of(ring, position), record->payloads->length, record->payloads->tag, 0);
        record->position = position;
        return STAYS_CLAIMED;
    }
    if ((record->unusual & HAS_LOCK) != 0) {
        /* Any gate: this batch has the lock, so a batch that has closed another one is dead or has ended. */
        shmq_open_gate(ring, shmq_gate(ring));
        shmq_release_lock(ring, me, lock_flag(record));
        record->unusual &= ~(unsigned)HAS_LOCK;
        if (record->handle->at_once < record->handle->item_size && reserve_claimed(record, position) < 0) {
            return FAILED;
        }
    }
    uint64_t slots = 0;
    for (uint64_t i = 0; i < record->count; i++) {
        slots += write_any(ring, position + slots, &record->payloads[i], (uint32_t)slots);
    }
    return 0;
}

/* Put all items, or none. */
static inline int attempt_put(struct record *record, bool sure)
{
    struct shmq_ring *ring = &record->ring;
    struct shmq_participant *me = &record->me;
    if (take_role(record, record->side) < 0) {
        return FAILED;
    }
    if ((record->unusual & HAS_LOCK) == 0) {
        const uint64_t gate = shmq_gate(ring);
        if (gate != 0 && shmq_is_shut(gate, (uint64_t)now()) && !(sure && shmq_lock_has_no_live_owner(ring)) &&
            !shmq_is_closed(ring)) {
            /* What has woken this put may have been meant for the batch: pass it on, once for each value. */
            if (gate != record->passed_on && record->passed_on != NOT_SLEPT) {
                record->passed_on = gate;
                shmq_wake(ring, &ring->header->space, 1);
            }
            return SHMQ_NOTHING;
        }
    }
    uint64_t position;
    enum shmq_result claimed;
    /* Again at once: a wait looks at the last slot that the put wants, which may have no memory yet. */
    while ((claimed = shmq_claim_put(ring, me, record->slots, sure, &position)) == SHMQ_FRESH) {
        if (number_slots(record) < 0) {
            return FAILED;
        }
    }
    if (claimed != SHMQ_DONE) {
        return claimed == SHMQ_CORRUPT ? fail_as_corrupt(record) : (int)claimed;
    }
    const struct payload *payload = record->payloads;
    if (record->unusual == 0) {
        shmq_write(ring, position, data_of(payload), payload->length, payload->tag, 0);
    } else {
        const int written = write_unusual(record, position);
        if (written != 0) {
            return written == STAYS_CLAIMED ? SHMQ_DONE : FAILED;
        }
    }
    if (shmq_publish(ring, me, position, record->slots, record->count) == SHMQ_CLAIM_LOST) {
        return fail_as_lost(record, position);
    }
    return SHMQ_DONE;
}

/* ---- get ---------------------------------------------------------------------------------------------------------- */

/* Make room for `count` payloads in all. */
static inline int make_room(struct record *record, uint64_t count)
{
    if (count <= record->room) {
        return 0;
    }
    const uint64_t room = count < 8 ? 8 : count;
    struct payload *payloads = PyMem_Realloc(record->payloads, room * sizeof *payloads);
    if (payloads == NULL) {
        PyErr_NoMemory();
        return FAILED;
    }
    record->payloads = payloads;
    record->room = room;
    return 0;
}

/* Take items that interrupted gets of this handle had taken. */
static inline int take_kept_back(struct record *record)
{
    Handle *self = record->handle;
    while (record->count < record->limit && PyObject_Size(self->kept_back) > 0) {
        if (make_room(record, record->count + 1) < 0) {
            return FAILED;
        }
        PyObject *pair = PyObject_CallMethod(self->kept_back, "popleft", NULL);
        if (pair == NULL) {
            return FAILED;
        }
        PyObject *bytes;
        unsigned int tag;
        if (!PyArg_ParseTuple(pair, "OI", &bytes, &tag)) {
            Py_DECREF(pair);
            return FAILED;
        }
        add_taken(record, Py_NewRef(bytes), tag);
        Py_DECREF(pair);
    }
    return record->count > 0 ? SHMQ_DONE : SHMQ_NOTHING;
}

/* Give the claimed items of a get to other gets, because memory is short; returns false. */
SHMQ_RARE static bool abandon_claimed(struct record *record)
{
    clear_payloads(record, 0);
    record->is_marked = !shmq_abandon(&record->ring, &record->me);
    PyErr_NoMemory();
    return false;
}

/* Copy an item of the tag BUFFERS into pieces. */
static inline enum taking take_in_pieces(struct record *record, const struct source *from)
{
    if (record->handle->codec[LOADS] == NULL) {
        return NOT_IN_PIECES; /* a codec that unpickles nothing refuses it as it is */
    }
    const module_state *state = record->handle->state;
    PyObject *pieces;
    const enum taking taking = take_pieces(state->taken, state->block, from, &pieces);
    if (taking == TAKEN) {
        add_taken(record, pieces, TAG_BUFFERS);
    }
    return taking;
}

/* Copy an item of a tag that is seldom: those of the tag BUFFERS into pieces, one that was written in place without what
   stands before it. */
SHMQ_APART static enum taking take_apart(struct record *record, const struct shmq_item *item)
{
    if (item->tag == TAG_PLACED && item->length >= PLACED_PADDING) {
        PyObject *bytes = PyBytes_FromStringAndSize((const char *)item->data + PLACED_PADDING,
                                                    item->length - PLACED_PADDING);
        if (bytes == NULL) {
            PyErr_Clear();
            return NO_MEMORY_FOR_PIECES;
        }
        add_taken_bytes(record, bytes, record->handle->placed_tag);
        return TAKEN;
    }
    const struct source from = {item, NULL, 0};
    return item->tag == TAG_BUFFERS ? take_in_pieces(record, &from) : NOT_IN_PIECES;
}

/* Copy a claimed item of one slot. The copy is a bytes object, that of everyday objects lies in the record's arena, or
   take_apart makes it; making one runs no other code. False with an error: memory is short, and the items of the get go
   to other gets. */
static inline __attribute__((always_inline)) bool copy_claimed(struct record *record, const struct shmq_item *item)
{
    if (item->length <= SHMQ_WORD && item->tag >= TAG_NONE && item->tag <= TAG_FLOAT) { /* spares an allocation */
        struct payload *payload = &record->payloads[record->count++];
        *payload = (struct payload){.owner = NULL, .length = item->length, .tag = item->tag};
        memcpy(payload->scalar, item->data, item->length);
        return true;
    }
    if (item->tag == TAG_OBJECTS) {
        char *copy = item->length > ARENA_LARGEST ? NULL : arena_take(&record->arena, item->length);
        if (copy != NULL) {
            memcpy(copy, item->data, item->length);
            record->payloads[record->count++] =
                (struct payload){.owner = NULL, .data = copy, .length = item->length, .tag = TAG_OBJECTS};
            return true;
        }
    } else if (__builtin_expect(item->tag > TAG_OBJECTS, 0)) {
        const enum taking taking = take_apart(record, item);
        if (taking != NOT_IN_PIECES) {
            return taking == TAKEN || abandon_claimed(record);
        }
    }
    PyObject *bytes = PyBytes_FromStringAndSize((const char *)item->data, item->length);
    if (bytes == NULL) {
        return abandon_claimed(record);
    }
    add_taken_bytes(record, bytes, item->tag);
    return true;
}

/* Copy a claimed item of several slots. */
SHMQ_APART static bool copy_claimed_large(struct record *record, uint64_t position, const struct shmq_item *item)
{
    if (item->tag == TAG_BUFFERS) {
        const struct source from = {item, &record->ring, position};
        const enum taking taking = take_in_pieces(record, &from);
        if (taking == TAKEN) {
            record->payloads[record->count - 1].length = item->length; /* tells how many slots to free */
        }
        if (taking != NOT_IN_PIECES) {
            return taking == TAKEN || abandon_claimed(record);
        }
    }
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, item->length);
    if (bytes == NULL) {
        return abandon_claimed(record);
    }
    shmq_copy_out(&record->ring, position, item->length, PyBytes_AS_STRING(bytes), false);
    add_taken_bytes(record, bytes, item->tag);
    return true;
}

/* Copy the items in `count` claimed slots, and free these. Each caller says by a constant whether items may take several
   slots. */
static inline __attribute__((always_inline)) int take_claimed(struct record *record, uint64_t position, uint64_t count,
                                                              bool large)
{
    struct shmq_ring *ring = &record->ring;
    uint64_t items = count;
    if (large) {
        const uint64_t end = position + count;
        /* There is room for as many items as were claimed. If the segment was damaged meanwhile, they may look more. */
        for (uint64_t p = position; p < end && record->count < record->room;) {
            struct shmq_item item;
            const uint64_t slots = shmq_measure(ring, p, end - p, &item);
            if (!(slots > 1 ? copy_claimed_large(record, p, &item) : copy_claimed(record, &item))) {
                return FAILED;
            }
            p += slots;
        }
        items = record->count;
    } else {
        for (uint64_t i = 0; i < count; i++) {
            struct shmq_item item;
            shmq_read(ring, position + i, &item);
            if (!copy_claimed(record, &item)) {
                return FAILED;
            }
        }
    }
    record->count = 0;
    uint64_t p = position;
    for (uint64_t i = 0; i < items; i++) {
        const uint64_t slots = large ? shmq_slots_of(ring, record->payloads[i].length) : 1;
        if (large ? shmq_free_large(ring, p, slots) : shmq_free_slot(ring, p)) {
            record->payloads[record->count++] = record->payloads[i];
        } else {
            Py_XDECREF(record->payloads[i].owner); /* another get has adopted the item */
        }
        p += slots;
    }
    if (large && p < position + count) {
        shmq_free_rest(ring, p - 1, position + count - p + 1); /* what lies there is lost by the damage */
    }
    shmq_finish_get(ring, &record->me, count);
    return record->count > 0 ? SHMQ_DONE : SHMQ_AGAIN;
}

/* Take over the item of a dead get. */
static inline int adopt(struct record *record, uint64_t position)
{
    const struct shmq_ring *ring = &record->ring;
    struct shmq_item item;
    uint32_t room = ring->item_size;
    if (SHMQ_HAS_LARGE(ring) && shmq_measure(ring, position, ring->capacity, &item) > 1) {
        room = item.length; /* not max_item_size, which may be more than the memory of this process */
    }
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, room);
    if (bytes == NULL || make_room(record, 1) < 0) {
        Py_XDECREF(bytes);
        return FAILED;
    }
    if (!shmq_rescue_get(ring, position, PyBytes_AS_STRING(bytes), room, &item)) {
        Py_DECREF(bytes);
        return SHMQ_AGAIN;
    }
    if (_PyBytes_Resize(&bytes, item.length) < 0) {
        return FAILED;
    }
    add_taken_bytes(record, bytes, item.tag);
    return SHMQ_DONE;
}

/* Take one to `limit` items; `large` is as of take_claimed. */
static inline __attribute__((always_inline)) int attempt_get_of(struct record *record, bool sure, bool large)
{
    struct shmq_ring *ring = &record->ring;
    if (PyObject_Size(record->handle->kept_back) > 0 && !shmq_is_stopped(ring)) {
        const int found = take_kept_back(record);
        if (found != SHMQ_NOTHING) {
            return found;
        }
    }
    if (take_role(record, record->side) < 0) {
        return FAILED;
    }
    int found = SHMQ_AGAIN;
    for (int attempt = 0; attempt < SHMQ_ATTEMPTS && found == SHMQ_AGAIN; attempt++) {
        uint64_t most = 1;
        if (record->limit > 1) { /* room for the items that are there, not for all that could be */
            const uint64_t size = shmq_distance(ring);
            most = size < 1 ? 1 : size < record->limit ? size : record->limit;
        }
        if (make_room(record, most) < 0) {
            return FAILED;
        }
        uint64_t position, count;
        const enum shmq_result claimed = large
                                             ? shmq_claim_large(ring, &record->me, most, sure, &position, &count)
                                             : shmq_claim_get(ring, &record->me, most, sure, &position, &count);
        if (claimed == SHMQ_DONE) {
            found = take_claimed(record, position, count, large);
        } else if (claimed == SHMQ_CORRUPT) {
            found = fail_as_corrupt(record);
        } else if (claimed == SHMQ_SHUT_DOWN) {
            return claimed;
        } else if (claimed == SHMQ_ORPHAN || (sure && shmq_find_orphan(ring, &position))) {
            found = adopt(record, position);
        } else {
            return claimed;
        }
    }
    return found == SHMQ_AGAIN ? SHMQ_HELD : found;
}

SHMQ_APART static int attempt_get_large(struct record *record, bool sure)
{
    return attempt_get_of(record, sure, true);
}

static inline int attempt_get(struct record *record, bool sure)
{
    return SHMQ_HAS_LARGE(&record->ring) ? attempt_get_large(record, sure) : attempt_get_of(record, sure, false);
}

/* Keep the items that a get has taken, from index `first` on, for the next gets of this handle. FAILED: the callback
   has raised, for example because of a signal handler, and an error that was set before is now the context of the new
   one. Otherwise an error that was set stays set. */
static inline int keep_back(struct record *record, uint64_t first)
{
    Handle *self = record->handle;
    if (record->count <= first) {
        return 0;
    }
    PyObject *before = raised();
    if (record->forks == forks) { /* otherwise the parent keeps them */
        for (uint64_t i = record->count; i-- > first;) {
            const struct payload *payload = &record->payloads[i];
            PyObject *bytes = bytes_of(payload);
            PyObject *kept = bytes == NULL
                                 ? NULL
                                 : PyObject_CallMethod(self->kept_back, "appendleft", "((NI))", bytes, payload->tag);
            if (kept == NULL) {
                PyErr_WriteUnraisable(self->kept_back);
            }
            Py_XDECREF(kept);
        }
        shmq_wake_all(&record->ring, &record->ring.header->items); /* another thread may wait for these */
    }
    clear_payloads(record, first);
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

static inline int attempt(struct record *record, bool sure)
{
    return record->side == SHMQ_PUT ? attempt_put(record, sure) : attempt_get(record, sure);
}

static inline bool is_over(int found)
{
    return found == SHMQ_DONE || found == SHMQ_SHUT_DOWN || found == FAILED;
}

#endif
