/* The records of a handle: taken and given up, borrowed for an operation and given back, and forgotten in a forked child.
   The same as _engine/records.py. */

#ifndef SHMQ_RECORDS_H
#define SHMQ_RECORDS_H

#include "handle.h"

/* Release the payloads from index `first` on. */
static inline void clear_payloads(struct record *record, uint64_t first)
{
    while (record->count > first) {
        PyObject *owner = record->payloads[--record->count].owner;
        Py_XDECREF(owner); /* may run any code */
    }
}

static inline void free_record(struct record *record)
{
    clear_payloads(record, 0);
    Py_XDECREF(record->leased);
    arena_free(&record->arena);
    PyMem_Free(record->payloads);
    PyMem_Free(record->held);
    PyMem_Free(record);
}

static inline void free_records(struct record **list)
{
    while (*list != NULL) {
        struct record *record = *list;
        *list = record->next;
        free_record(record);
    }
}

static inline void free_all_records(Handle *self)
{
    free_records(&self->idle);
    free_records(&self->marked);
    free_records(&self->role);
}

/* Give up a record. A marked one stays marked until it is resolved; its process lives, so no other process takes it. */
static inline void leave_record(struct record *record)
{
    if (!record->is_marked || shmq_clean(&record->ring, &record->me)) {
        shmq_leave_record(&record->ring, &record->me);
    }
    free_record(record);
}

/* In a forked child, see forget_parent, learn which process this is; false with an error. */
SHMQ_RARE static bool settle(Handle *self)
{
    PyObject *settled = PyObject_CallMethod(self->engine, "settle", NULL);
    if (settled == NULL) {
        return false;
    }
    Py_DECREF(settled);
    if (self->forks != forks) { /* a signal handler has forked, and the parent was settled */
        fail_as_forked();
        return false;
    }
    return true;
}

static inline uint64_t fresh_below(const Handle *self)
{
    return self->at_once < self->item_size ? self->capacity : 0;
}

static inline struct record *new_record(Handle *self)
{
    if (self->owner == 0 && !settle(self)) {
        return NULL;
    }
    struct record *record = PyMem_Calloc(1, sizeof *record);
    if (record == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    const struct shmq_calls calls = {call_is_alive, call_futex_wake, call_ring_bell, record, call_now, call_reserve};
    record->handle = self;
    record->forks = forks;
    shmq_open(&record->ring, self->segment.buf, self->capacity, self->item_size, self->spsc, self->owner, calls);
    shmq_open_large(&record->ring, self->max_item_size);
    shmq_open_leases(&record->ring, self->leases, self->max_deliveries, &self->busy_lease);
    record->ring.fresh_below = fresh_below(self);
    if (!shmq_take_record(&record->ring, &record->me)) {
        fail_with(PyObject_CallFunction(self->state->too_many, "i", SHMQ_RECORDS));
        free_record(record);
        return NULL;
    }
    return record;
}

/* Have a record for roles; false with an error. */
static inline bool have_role_record(Handle *self)
{
    if (self->role == NULL) {
        struct record *record = new_record(self);
        if (record == NULL) {
            return false;
        }
        if (self->role == NULL) {
            self->role = record;
        } else { /* another thread ran meanwhile, and was faster */
            leave_record(record);
        }
    }
    return true;
}

/* An abandoned record that has become clean, or NULL. */
static inline struct record *find_clean(Handle *self)
{
    struct record *record = self->marked;
    if (record == NULL || !shmq_clean(&record->ring, &record->me)) {
        return NULL;
    }
    self->marked = record->next;
    record->is_marked = false;
    return record;
}

/* In a forked child, forget the parent's records and items. The segment is not touched; the first new record settles
   the identity of the child. */
static int forget_parent(Handle *self)
{
    PyObject *kept_back = PyObject_CallNoArgs((PyObject *)Py_TYPE(self->kept_back));
    if (kept_back == NULL) {
        return FAILED;
    }
    if (self->forks == forks) { /* another thread ran meanwhile, and was faster */
        Py_DECREF(kept_back);
        return 0;
    }
    self->forks = forks;
    self->owner = 0;
    self->operations = 0;
    self->has_doorbell[SHMQ_PUT] = self->has_doorbell[SHMQ_GET] = false;
    free_all_records(self);
    Py_SETREF(self->kept_back, kept_back);
    return 0;
}

/* Note the end of an operation of a closed handle. If close() was called in a signal handler of this operation, it
   could not wait for it, and is completed now. */
SHMQ_RARE static void end_late(Handle *self)
{
    if (--self->operations > 0) {
        return;
    }
    PyObject *before = raised();
    PyObject *done = PyObject_CallMethod(self->engine, "ended", NULL);
    if (done == NULL) {
        PyErr_WriteUnraisable(self->engine);
    }
    Py_XDECREF(done);
    if (before != NULL) {
        raise_again(before);
    }
}

/* Begin an operation; NULL with an error. */
static inline struct record *borrow(Handle *self, enum shmq_side side)
{
    if (self->forks != forks && forget_parent(self) < 0) {
        return NULL;
    }
    if (self->is_closed) {
        fail_as_closed(self);
        return NULL;
    }
    struct record *record = self->idle;
    self->operations++; /* from here on close() waits */
    if (record != NULL) {
        self->idle = record->next;
    } else {
        const uint64_t before = forks;
        record = find_clean(self);
        record = record != NULL ? record : new_record(self);
        if (record == NULL) {
            if (before != forks) {
                return NULL; /* a signal handler has forked, and the count is the parent's */
            }
            if (self->is_closed) {
                end_late(self);
            } else {
                self->operations--;
            }
            return NULL;
        }
    }
    record->side = side;
    record->passed_on = NOT_SLEPT;
    record->shut = 0;
    record->unusual = 0;
    return record;
}

/* End an operation. False, with an error, in a child that was forked during it: the record, the operation and what it
   has found belong to the parent. */
static inline bool give_back(struct record *record)
{
    Handle *self = record->handle;
    clear_payloads(record, 0);
    if (record->arena.chunks != NULL) {
        arena_reset(&record->arena);
    }
    if (record->forks != forks) {
        free_record(record);
        if (!PyErr_Occurred()) {
            fail_as_forked();
        }
        return false;
    }
    if (self->is_closed) {
        leave_record(record);
        end_late(self);
        return true;
    }
    self->operations--;
    if (record->is_marked) {
        record->next = self->marked;
        self->marked = record;
    } else {
        record->next = self->idle;
        self->idle = record;
    }
    return true;
}

#endif
