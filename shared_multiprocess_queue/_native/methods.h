/* The calls of _engine/calls.py, which also says why a get is a subscription.

   A Handle serves the plain calls. It leaves all others to the calls in Python: those of a closed handle, and those
   with wrong or unusual arguments. So the messages stand in one place. */

#ifndef SHMQ_METHODS_H
#define SHMQ_METHODS_H

#include "places.h"

/* ---- arguments ---------------------------------------------------------------------------------------------------- */

#define LEFT_TO_PYTHON INT64_C(-1) /* in the place of a time */

/* The time at which a call has to end, or LEFT_TO_PYTHON. */
static inline __attribute__((always_inline)) int64_t deadline_of(PyObject *block, PyObject *timeout)
{
    if (block == Py_False) {
        return 0;
    }
    if (block != Py_True) {
        return LEFT_TO_PYTHON;
    }
    if (timeout == Py_None) {
        return FOREVER;
    }
    if (!PyFloat_CheckExact(timeout) && !(PyLong_CheckExact(timeout))) {
        return LEFT_TO_PYTHON;
    }
    const double seconds = PyFloat_AsDouble(timeout);
    if (!(seconds >= 0)) {
        PyErr_Clear(); /* an int may be too large */
        return LEFT_TO_PYTHON;
    }
    if (seconds == 0) {
        return 0;
    }
    return seconds < 9e9 ? now() + (int64_t)(seconds * 1e9) : FOREVER;
}

/* Make the result of a get from the items that it has taken. An item that cannot be rebuilt is consumed. Any other
   exception is no error of the item, and then all items are kept back. */
static PyObject *deliver(struct record *record, bool is_batch)
{
    Handle *self = record->handle;
    PyObject *result = is_batch ? PyList_New(0) : NULL;
    if (is_batch && result == NULL) {
        goto failed;
    }
    for (uint64_t i = 0; i < record->count; i++) {
        PyObject *item = decode(self, &record->payloads[i]);
        if (item == NULL) {
            if (!PyErr_ExceptionMatches(self->state->deserialization) &&
                !PyErr_ExceptionMatches(self->state->corrupt)) {
                goto failed;
            }
            if (i > 0) {
                PyErr_Clear(); /* the next call raises it */
            }
            if (keep_back(record, i > 0 ? i : 1) < 0) {
                goto failed;
            }
            if (i > 0) {
                break;
            }
            clear_payloads(record, 0); /* consumed */
            goto failed;
        }
        if (!is_batch) {
            result = item;
            break;
        }
        const int appended = PyList_Append(result, item);
        Py_DECREF(item);
        if (appended < 0) {
            goto failed;
        }
    }
    /* A signal or an exception of another thread may have come. The interpreter looks for them once the caller has the
       item. */
    return result;

failed:
    Py_XDECREF(result);
    keep_back(record, 0);
    return NULL;
}

/* ---- the calls ---------------------------------------------------------------------------------------------------- */

static PyObject *end_put(struct record *record, int found)
{
    module_state *state = record->handle->state;
    /* After any other exception, such as that of a signal handler, the items may have been put. */
    if (found != SHMQ_DONE && (found != FAILED || PyErr_ExceptionMatches(state->ours)) &&
        withdraw(record->handle, record->payloads, record->count) < 0) {
        found = FAILED;
    }
    if (!give_back(record)) {
        return NULL;
    }
    if (found == SHMQ_DONE) {
        Py_RETURN_NONE;
    }
    if (found != FAILED) {
        PyErr_SetNone(found == SHMQ_SHUT_DOWN ? state->shut_down : state->full);
    }
    return NULL;
}

/* The payloads of a put, as bytes objects or pieces with their tags, or NULL with an error. */
static PyObject *encoded_by(const struct record *record)
{
    PyObject *payloads = PyList_New((Py_ssize_t)record->count);
    for (uint64_t i = 0; payloads != NULL && i < record->count; i++) {
        const struct payload *payload = &record->payloads[i];
        /* The owner itself if it is the encoding, because pieces and a subclass of bytes have notes for withdraw; it may be
           a str. */
        const bool is_encoding =
            payload->tag == TAG_BUFFERS || (payload->owner != NULL && PyBytes_Check(payload->owner));
        PyObject *bytes = is_encoding ? Py_NewRef(payload->owner)
                                      : PyBytes_FromStringAndSize(data_of(payload), payload->length);
        PyObject *pair = bytes == NULL ? NULL : Py_BuildValue("(NI)", bytes, (unsigned int)payload->tag);
        if (pair == NULL) {
            Py_CLEAR(payloads);
        } else {
            PyList_SET_ITEM(payloads, (Py_ssize_t)i, pair);
        }
    }
    return payloads;
}

/* End a put that has waited as it was asked to. If that was one look and there is no room, the result is what it has
   encoded, for later looks. */
SHMQ_RARE static PyObject *end_wait(struct record *record, int found, int64_t until)
{
    if (until != ONE_LOOK || is_over(found)) {
        return end_put(record, found);
    }
    PyObject *payloads = encoded_by(record);
    if (payloads == NULL) {
        return end_put(record, FAILED);
    }
    if (!give_back(record)) {
        Py_CLEAR(payloads);
    }
    return payloads;
}

/* A record that has one item to put, or NULL with an error. */
static inline __attribute__((always_inline)) struct record *record_with(Handle *self, struct payload *payload,
                                                                        bool may_be_long)
{
    struct record *record = borrow(self, SHMQ_PUT);
    if (record == NULL || make_room(record, 1) < 0) {
        withdraw(self, payload, 1);
        Py_XDECREF(payload->owner);
        if (record != NULL) {
            end_put(record, FAILED);
        }
        return NULL;
    }
    record->payloads[0] = *payload;
    record->count = record->slots = 1;
    record->unusual = may_be_long && (payload->length >= SHMQ_LONG || payload->tag == TAG_BUFFERS) ? HAS_LONG : 0;
    return record;
}

/* Put an item that takes several slots, as a batch does; or one for which there may be no memory yet, because a batch
   looks to that after its claim. */
SHMQ_RARE static PyObject *put_by_batch(Handle *self, struct payload *payload, int64_t until)
{
    struct record *record = record_with(self, payload, true);
    if (record == NULL) {
        return NULL;
    }
    record->slots = shmq_slots_of(&record->ring, payload->length);
    return end_wait(record, put_batch_locked(record, until), until);
}

/* Put an item for which there is memory. */
static inline __attribute__((always_inline)) PyObject *put_encoded(Handle *self, struct payload *payload,
                                                                   bool may_be_long, int64_t until)
{
    struct record *record = record_with(self, payload, may_be_long);
    if (record == NULL) {
        return NULL;
    }
    const int found = attempt(record, false);
    if (!is_over(found)) {
        return end_wait(record, wait_until(record, until), until);
    }
    return end_put(record, found);
}

/* Put an item that is written, or large. */
SHMQ_APART static PyObject *put_object(Handle *self, PyObject *item, int64_t until)
{
    char first[ARENA_FIRST];
    struct arena arena = {first, first + sizeof first, NULL};
    struct payload payload;
    PyObject *result = NULL;
    const int encoded = encode(self, item, -1, &arena, &payload);
    if (encoded == 0) {
        result = put_encoded(self, &payload, true, until);
    } else if (encoded == BY_BATCH) {
        result = put_by_batch(self, &payload, until);
    }
    arena_free(&arena);
    return result;
}

static PyObject *put_item(Handle *self, PyObject *item, int64_t until)
{
    struct payload payload;
    Py_ssize_t length;
    if (!encode_bare(item, &payload, &length)) {
        return put_object(self, item, until);
    }
    if (length > self->bare_most) {
        Py_XDECREF(payload.owner);
        return put_object(self, item, until);
    }
    payload.length = (uint32_t)length;
    return put_encoded(self, &payload, false, until);
}

/* Put an item. The item alone is put by one look; if there is no room, the result is what is encoded, as a list of one
   payload. */
static PyObject *handle_put(Handle *self, PyObject *const *args, Py_ssize_t count)
{
    int64_t until = ONE_LOOK;
    if (__builtin_expect(count == 4, true)) {
        PyObject *not_given = self->state->not_given;
        const bool is_plain = !self->is_closed && args[0] != not_given && args[3] == not_given;
        until = is_plain ? deadline_of(args[1], args[2]) : LEFT_TO_PYTHON;
        if (until == LEFT_TO_PYTHON) {
            return PyObject_CallMethod(self->calls, "put", "OOOO", args[0], args[1], args[2], args[3]);
        }
    } else if (count != 1) {
        PyErr_SetString(PyExc_TypeError, "put takes item, block, timeout and obj");
        return NULL;
    }
    return put_item(self, args[0], until);
}

/* Before an item of a batch is encoded, copy the arrays of those from `*first` on that are encoded, if its code may
   change them. */
static int own_before(const Handle *self, PyObject *item, struct payload *payloads, Py_ssize_t *first,
                      Py_ssize_t encoded, struct arena *arena)
{
    while (*first < encoded && payloads[*first].tag != TAG_BUFFERS) {
        ++*first;
    }
    if (*first == encoded) {
        return 0;
    }
    PyObject *is_safe = PyObject_CallMethod(payloads[*first].owner, "is_safe_from", "O", item);
    if (is_safe == NULL || is_safe == Py_True) {
        Py_XDECREF(is_safe);
        return is_safe == NULL ? FAILED : 0;
    }
    Py_DECREF(is_safe);
    for (; *first < encoded; ++*first) {
        struct payload *payload = &payloads[*first];
        if (payload->tag == TAG_BUFFERS) {
            PyObject *done = PyObject_CallMethod(payload->owner, "own", NULL);
            Py_XDECREF(done);
            if (done == NULL || !set_pieces(self, payload->owner, payload->length, arena, payload)) {
                return FAILED;
            }
        }
    }
    return 0;
}

/* Put a list of items, of which there are not too many. */
static PyObject *put_items(Handle *self, PyObject *items, int64_t until)
{
    const Py_ssize_t count = PyList_GET_SIZE(items);
    char first[ARENA_FIRST];
    struct arena arena = {first, first + sizeof first, NULL};
    struct payload *payloads = PyMem_Calloc((size_t)count + 1, sizeof *payloads);
    Py_ssize_t encoded = 0, unowned = 0;
    PyObject *result = NULL;
    if (payloads == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    for (; encoded < count; encoded++) {
        if (own_before(self, PyList_GET_ITEM(items, encoded), payloads, &unowned, encoded, &arena) < 0) {
            goto done;
        }
        if (encode(self, PyList_GET_ITEM(items, encoded), encoded, &arena, &payloads[encoded]) < 0) {
            say_which(self, encoded);
            goto done;
        }
    }
    if (count == 0) {
        result = Py_NewRef(Py_None);
        goto done;
    }
    uint64_t slots = (uint64_t)count;
    if (self->max_item_size > self->item_size) {
        slots = count_slots(self, payloads, count);
        if (slots > self->capacity || slots > SHMQ_MAX_BATCH) {
            result = PyObject_CallMethod(self->engine, "too_many_slots", "nK", count, (unsigned long long)slots);
            goto done;
        }
    }
    struct record *record = borrow(self, SHMQ_PUT);
    if (record != NULL) {
        PyMem_Free(record->payloads);
        record->payloads = payloads;
        record->count = record->room = (uint64_t)count;
        record->slots = slots;
        record->unusual = HAS_LONG; /* perhaps */
        payloads = NULL;
        encoded = 0;
        result = end_wait(record, put_batch_locked(record, until), until);
    }
done:
    withdraw(self, payloads, (uint64_t)encoded); /* if there are any left, they were not put */
    while (encoded > 0) {
        encoded--;
        Py_XDECREF(payloads[encoded].owner);
    }
    PyMem_Free(payloads);
    arena_free(&arena);
    return result;
}

static PyObject *handle_put_batch(Handle *self, PyObject *const *args, Py_ssize_t given)
{
    if (given != 3) {
        PyErr_SetString(PyExc_TypeError, "put_batch takes items, block and timeout");
        return NULL;
    }
    const int64_t until = self->is_closed ? LEFT_TO_PYTHON : deadline_of(args[1], args[2]);
    if (until == LEFT_TO_PYTHON) {
        return PyObject_CallMethod(self->calls, "put_batch", "OOO", args[0], args[1], args[2]);
    }
    PyObject *items = PySequence_List(args[0]);
    if (items == NULL) {
        return NULL;
    }
    const uint64_t count = (uint64_t)PyList_GET_SIZE(items);
    PyObject *result = count > self->capacity || count > SHMQ_MAX_BATCH
                           ? PyObject_CallMethod(self->calls, "put_batch", "OOO", items, args[1], args[2])
                           : put_items(self, items, until);
    Py_DECREF(items);
    return result;
}

/* Put a list of items by one look, likewise; there are not too many. */
static PyObject *handle_try_put_batch(Handle *self, PyObject *items)
{
    if (!PyList_CheckExact(items) || (uint64_t)PyList_GET_SIZE(items) > self->capacity) {
        PyErr_SetString(PyExc_TypeError, "try_put_batch takes a list that fits");
        return NULL;
    }
    return put_items(self, items, ONE_LOOK);
}

/* Put what is encoded if there is room now; return whether there was. */
static PyObject *handle_try_put_payload(Handle *self, PyObject *args)
{
    PyObject *bytes;
    unsigned int tag;
    if (!PyArg_ParseTuple(args, "SI", &bytes, &tag)) {
        return NULL;
    }
    if ((uint64_t)PyBytes_GET_SIZE(bytes) > self->max_item_size) {
        PyErr_SetString(PyExc_ValueError, "the payload is larger than the largest item");
        return NULL;
    }
    struct payload payload = {.owner = Py_NewRef(bytes),
                              .data = PyBytes_AS_STRING(bytes),
                              .length = (uint32_t)PyBytes_GET_SIZE(bytes),
                              .tag = tag};
    const struct shmq_piece whole[] = {{payload.data, 0, payload.length}, {NULL, 0, 0}};
    if (tag == TAG_BUFFERS) {
        payload.pieces = whole;
    }
    PyObject *left = payload.length > self->at_once ? put_by_batch(self, &payload, ONE_LOOK)
                                                    : put_encoded(self, &payload, true, ONE_LOOK);
    if (left == NULL) {
        return NULL;
    }
    const bool is_put = left == Py_None;
    Py_DECREF(left);
    return PyBool_FromLong(is_put);
}

static PyObject *get_items(Handle *self, uint64_t limit, int64_t until, bool is_batch)
{
    module_state *state = self->state;
    struct record *record = borrow(self, SHMQ_GET);
    if (record == NULL) {
        return NULL;
    }
    record->limit = limit;
    int found = attempt(record, false);
    if (!is_over(found)) {
        found = wait_until(record, until);
    }
    PyObject *result = NULL;
    if (found == SHMQ_DONE) {
        result = deliver(record, is_batch);
    } else if (found == FAILED) {
        keep_back(record, 0);
    } else {
        PyErr_SetNone(found == SHMQ_SHUT_DOWN ? state->shut_down : state->empty);
    }
    if (!give_back(record)) {
        Py_CLEAR(result);
    }
    return result;
}

/* Lease one to `limit` items until a time, for [limit, until, make, deliver, home]; see deliver_leases. */
static PyObject *lease_items(Handle *self, PyObject *wish)
{
    unsigned long long limit;
    double until;
    PyObject *make, *deliver, *home;
    if (!PyArg_ParseTuple(wish, "KdOOO!", &limit, &until, &make, &deliver, &PyDict_Type, &home)) {
        return NULL;
    }
    struct record *record = borrow(self, SHMQ_GET);
    if (record == NULL) {
        return NULL;
    }
    record->limit = limit < 1 ? 1 : limit;
    record->leases = true;
    record->make = make;
    int found = attempt_lease(record, false);
    if (!is_over(found)) {
        found = wait_until(record, until < (double)FOREVER ? (int64_t)until : FOREVER);
    }
    PyObject *result = NULL;
    if (found == SHMQ_DONE) {
        result = deliver_leases(record, deliver, home);
    } else if (found != FAILED) {
        PyErr_SetNone(found == SHMQ_SHUT_DOWN ? self->state->shut_down : self->state->empty);
    }
    record->leases = false;
    Py_CLEAR(record->leased);
    if (!give_back(record)) {
        Py_CLEAR(result);
    }
    return result;
}

/* The largest number of items that a get_batch takes; 0 if the call is left to Python. */
static uint64_t limit_of(const Handle *self, PyObject *max_items)
{
    if (!PyLong_CheckExact(max_items)) {
        return 0;
    }
    int overflow;
    const long long most = PyLong_AsLongLongAndOverflow(max_items, &overflow);
    if (overflow < 0 || (overflow == 0 && most < 1)) {
        return 0;
    }
    return overflow > 0 || (uint64_t)most > self->capacity ? self->capacity : (uint64_t)most;
}

/* Take one item for [block, timeout], a list of items for [max_items, block, timeout], or one into the memoryview that
   stands in the place of max_items; or leases, see lease_items; by one look for [()] and [(max_items,)]. */
static PyObject *handle_subscript(Handle *self, PyObject *wish)
{
    const Py_ssize_t count = PyTuple_CheckExact(wish) ? PyTuple_GET_SIZE(wish) : -1;
    const bool is_batch = count == 3 || count == 1;
    int64_t until = LEFT_TO_PYTHON;
    if (__builtin_expect(count == 2 || count == 3, true)) {
        until = deadline_of(PyTuple_GET_ITEM(wish, count - 2), PyTuple_GET_ITEM(wish, count - 1));
    } else if (count == 0 || count == 1) {
        until = ONE_LOOK;
    }
    if (until != LEFT_TO_PYTHON && !self->is_closed) {
        const uint64_t limit = is_batch ? limit_of(self, PyTuple_GET_ITEM(wish, 0)) : 1;
        if (limit > 0) {
            return get_items(self, limit, until, is_batch);
        }
    }
    if (count == 3 && until != LEFT_TO_PYTHON && !self->is_closed && PyMemoryView_Check(PyTuple_GET_ITEM(wish, 0))) {
        return get_into(self, PyTuple_GET_ITEM(wish, 0), until);
    }
    return count == 5 ? lease_items(self, wish) : PyObject_GetItem(self->calls, wish);
}

#endif
