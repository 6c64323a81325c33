/* Leases at a handle: an attempt to lease, and what a call of Python gets of it. The same as the gets of
   _engine/leased_calls.py.

   An item that was taken is in a lease slot of this process from then on. So if anything fails before the caller has
   it, it is given back, or kept back for the next call, and is not lost even by a kill. */

#ifndef SHMQ_LEASING_H
#define SHMQ_LEASING_H

#include "in_place.h"

/* Make room for `most` leases. */
static inline int make_room_for_leases(struct record *record, uint64_t most)
{
    if (most <= record->held_room) {
        return 0;
    }
    struct shmq_held *held = PyMem_Realloc(record->held, most * sizeof *held);
    if (held == NULL) {
        PyErr_NoMemory();
        return FAILED;
    }
    record->held = held;
    record->held_room = most;
    return 0;
}

/* Make a list of what was leased; a function of Python makes each payload. */
static inline int list_leases(struct record *record, uint64_t count)
{
    PyObject *leased = PyList_New(0);
    uint64_t i = 0;
    for (; leased != NULL && i < count; i++) {
        const struct shmq_held *held = &record->held[i];
        struct shmq_item item;
        shmq_read_lease(&record->ring, held->index, &item);
        PyObject *payload =
            PyObject_CallFunction(record->make, "y#IIKK", (const char *)item.data, (Py_ssize_t)item.length, item.tag,
                                  held->index, (unsigned long long)held->position, (unsigned long long)held->count);
        const int added = payload == NULL ? FAILED : PyList_Append(leased, payload);
        Py_XDECREF(payload);
        if (added < 0) {
            Py_CLEAR(leased);
        }
    }
    if (leased == NULL) {
        for (i = 0; i < count && record->forks == forks; i++) { /* in a child they are the parent's */
            shmq_leave_returned(&record->ring, record->held[i].index, 0); /* they were not delivered */
        }
        return FAILED;
    }
    record->leased = leased;
    return SHMQ_DONE;
}

/* Take what interrupted calls of this handle have leased. The list has its memory before anything goes into it. If an
   item cannot be taken, those before it are all that there are. */
static inline int take_kept_back_leases(struct record *record)
{
    PyObject *kept_back = record->handle->kept_back;
    const Py_ssize_t there = PyObject_Size(kept_back);
    const Py_ssize_t most = (uint64_t)there < record->limit ? there : (Py_ssize_t)record->limit;
    PyObject *leased = PyList_New(most);
    if (leased == NULL) {
        return FAILED;
    }
    Py_ssize_t taken = 0;
    for (PyObject *payload; taken < most; taken++) {
        payload = PyObject_CallMethod(kept_back, "popleft", NULL);
        if (payload == NULL) {
            break;
        }
        PyList_SET_ITEM(leased, taken, payload);
    }
    if (taken == 0) {
        Py_DECREF(leased);
        return FAILED;
    }
    PyErr_Clear();
    Py_SET_SIZE((PyVarObject *)leased, taken);
    record->leased = leased;
    return SHMQ_DONE;
}

/* Give memory to more lease slots, or raise. */
SHMQ_RARE static int add_leases(struct record *record)
{
    PyObject *added = PyObject_CallMethod(record->handle->engine, "add_leases", NULL);
    if (added == NULL) {
        return FAILED;
    }
    Py_DECREF(added);
    return record->forks != forks ? fail_as_forked() : 0;
}

/* Lease one to `limit` items. */
static int attempt_lease(struct record *record, bool sure)
{
    struct shmq_ring *ring = &record->ring;
    if (PyObject_Size(record->handle->kept_back) > 0 && !shmq_is_stopped(ring)) {
        return take_kept_back_leases(record);
    }
    if (take_role(record, SHMQ_GET) < 0) {
        return FAILED;
    }
    const uint64_t most = record->limit < ring->leases ? record->limit : ring->leases;
    if (make_room_for_leases(record, most) < 0) {
        return FAILED;
    }
    uint64_t count;
    enum shmq_result found;
    record->me.lacks_lease = false;
    while ((found = shmq_try_lease(ring, &record->me, most, sure, record->held, &count)) == SHMQ_NOTHING &&
           record->me.lacks_lease && shmq_leases_ready(ring) < ring->leases) {
        record->me.lacks_lease = false;
        if (add_leases(record) < 0) {
            return FAILED;
        }
    }
    if (found == SHMQ_CORRUPT) {
        return fail_as_corrupt(record);
    }
    if (found == SHMQ_NO_MEMORY) {
        return fail_by(PyObject_CallMethod(record->handle->engine, "no_memory", NULL));
    }
    return found == SHMQ_DONE ? list_leases(record, count) : (int)found;
}

/* Once more; the first attempt of a call knows what it attempts. */
static inline int attempt_again(struct record *record, bool sure)
{
    if (record->wish != NULL) {
        return attempt_wished(record, sure);
    }
    return record->leases ? attempt_lease(record, sure) : attempt(record, sure);
}

/* Keep what a call has leased, from index `first` on, for the next calls of this handle. An error that is set stays
   set. */
static inline void keep_leases_back(struct record *record, Py_ssize_t first)
{
    PyObject *leased = record->leased;
    if (leased == NULL || record->forks != forks || PyList_GET_SIZE(leased) <= first) {
        return;
    }
    PyObject *before = raised();
    for (Py_ssize_t i = PyList_GET_SIZE(leased); i-- > first;) {
        PyObject *kept =
            PyObject_CallMethod(record->handle->kept_back, "appendleft", "(O)", PyList_GET_ITEM(leased, i));
        if (kept == NULL) {
            PyErr_WriteUnraisable(record->handle->kept_back);
        }
        Py_XDECREF(kept);
    }
    shmq_wake_all(&record->ring, &record->ring.header->items); /* another thread may wait for these */
    PyObject *noted = PyObject_CallNoArgs(record->handle->on_keep_back);
    if (noted == NULL) {
        PyErr_WriteUnraisable(record->handle->on_keep_back);
    }
    Py_XDECREF(noted);
    if (before != NULL) {
        raise_again(before);
    }
}

/* Make the result of a call from what it has leased. `deliver` takes what it consumes out of the list before it raises;
   it returns the result and the notes of the leases that the caller gets, which are added to `home` in one step. */
static inline PyObject *deliver_leases(struct record *record, PyObject *deliver, PyObject *home)
{
    PyObject *pair = PyObject_CallOneArg(deliver, record->leased);
    PyObject *result, *notes;
    if (pair == NULL) {
        keep_leases_back(record, 0);
        return NULL;
    }
    if (!PyArg_ParseTuple(pair, "OO!", &result, &PyDict_Type, &notes) || record->forks != forks ||
        PyDict_Update(home, notes) < 0) {
        keep_leases_back(record, 0);
        Py_DECREF(pair);
        return NULL;
    }
    Py_INCREF(result);
    keep_leases_back(record, PyDict_GET_SIZE(notes));
    Py_DECREF(pair);
    return result;
}

#endif
