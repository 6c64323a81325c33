/* Places: claims that last, and the calls that make them. _engine/in_place.py says what they are for.

   A place has a record to itself until it ends. The GIL guards it, so each of its methods is one step for all threads;
   when one has ended the claim, the others do nothing. In a forked child the claim is the parent's, and none does. */

#ifndef SHMQ_PLACES_H
#define SHMQ_PLACES_H

#include "codec.h"
#include "wait.h"

#include <structmember.h>

typedef struct {
    PyObject_HEAD
    Handle *handle;
    struct record *record; /* NULL when the claim has ended */
    uint32_t begin, size;  /* of the memory, in the payload of the slot */
    char is_shown;         /* whether the program has the item of a get, so that no other may */
} Place;

static struct record *end_of_place(Place *self)
{
    struct record *record = self->record;
    self->record = NULL;
    if (record != NULL && record->forks != forks) {
        free_record(record);
        return NULL;
    }
    return record;
}

SHMQ_RARE static PyObject *leave_place(struct record *record, int found)
{
    Handle *self = record->handle;
    record->wish = NULL;
    if (found != FAILED && self->is_closed && record->forks == forks) { /* as give_back, but an interrupt is raised */
        clear_payloads(record, 0);
        leave_record(record);
        if (--self->operations == 0) {
            return PyObject_CallMethod(self->engine, "ended", NULL);
        }
        Py_RETURN_NONE;
    }
    if (!give_back(record) || found == FAILED) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *place_publish(Place *self, PyObject *nothing)
{
    (void)nothing;
    struct record *record = end_of_place(self);
    if (record == NULL) {
        Py_RETURN_NONE;
    }
    const enum shmq_result found = shmq_publish(&record->ring, &record->me, record->position, 1, 1);
    return leave_place(record, found == SHMQ_CLAIM_LOST ? fail_as_lost(record, record->position) : SHMQ_DONE);
}

static PyObject *place_free(Place *self, PyObject *nothing)
{
    (void)nothing;
    struct record *record = end_of_place(self);
    if (record == NULL) {
        Py_RETURN_NONE;
    }
    shmq_free_slot(&record->ring, record->position);
    shmq_finish_get(&record->ring, &record->me, 1);
    return leave_place(record, SHMQ_DONE);
}

static PyObject *place_give_up(Place *self, PyObject *nothing)
{
    if (self->is_shown) {
        return place_free(self, nothing);
    }
    struct record *record = end_of_place(self);
    if (record == NULL) {
        Py_RETURN_NONE;
    }
    record->is_marked = !shmq_abandon(&record->ring, &record->me);
    return leave_place(record, SHMQ_DONE);
}

static PyObject *place_memory(Place *self, void *nothing)
{
    (void)nothing;
    if (self->record == NULL) {
        PyErr_SetString(PyExc_ValueError, "the claim has ended");
        return NULL;
    }
    const Py_buffer *segment = &self->handle->segment;
    const unsigned char *payload = shmq_slot_of(&self->record->ring, self->record->position)->payload;
    const Py_ssize_t begin = payload - (const unsigned char *)segment->buf + (Py_ssize_t)self->begin;
    return PySequence_GetSlice(segment->obj, begin, begin + (Py_ssize_t)self->size);
}

static void place_dealloc(Place *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject *before = raised();
    PyObject *done = place_give_up(self, NULL);
    if (done == NULL) {
        PyErr_WriteUnraisable((PyObject *)type);
    }
    Py_XDECREF(done);
    if (before != NULL) {
        raise_again(before);
    }
    Py_DECREF(self->handle);
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyMethodDef place_methods[] = {
    {"publish", (PyCFunction)place_publish, METH_NOARGS, "Let getters have the item that was written."},
    {"free", (PyCFunction)place_free, METH_NOARGS, "Drop the item that was read."},
    {"give_up", (PyCFunction)place_give_up, METH_NOARGS, "Undo the claim."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef place_attributes[] = {
    {"memory", (getter)place_memory, NULL, "What was claimed.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef place_members[] = {
    {"is_shown", T_BOOL, offsetof(Place, is_shown), 0, "Whether the program has the item of a get."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot place_slots[] = {
    {Py_tp_doc, (void *)"A claim that lasts; see _engine/in_place.py."},
    {Py_tp_dealloc, place_dealloc},
    {Py_tp_methods, place_methods},
    {Py_tp_getset, place_attributes},
    {Py_tp_members, place_members},
    {0, NULL},
};

static PyType_Spec place_spec = {
    .name = "shared_multiprocess_queue._native.extension.Place",
    .basicsize = sizeof(Place),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = place_slots,
};

/* ---- the calls ---------------------------------------------------------------------------------------------------- */

static inline int64_t time_of(double until)
{
    return until < (double)FOREVER ? (int64_t)until : FOREVER;
}

/* Borrow a record for an operation in place. */
SHMQ_RARE static struct record *borrow_for_place(Handle *self, enum shmq_side side)
{
    return borrow(self, side);
}

/* Make the attempts of an operation in place. */
SHMQ_RARE static int attempt_in_place(struct record *record, int64_t until)
{
    const int found = attempt_again(record, false);
    return is_over(found) ? found : wait_until(record, until);
}

/* End an operation that has no place; NULL with an error, or None if items are kept back. */
static PyObject *end_without_place(struct record *record, int found)
{
    const module_state *state = record->handle->state;
    if (found != FAILED && found != SHMQ_DONE) {
        PyErr_SetNone(found == SHMQ_SHUT_DOWN        ? state->shut_down
                      : record->side == SHMQ_PUT ? state->full
                                                 : state->empty);
        found = FAILED;
    }
    return leave_place(record, found);
}

/* A place without a claim, which is made first, because it may fail. */
static Place *new_place(Handle *self)
{
    Place *place = PyObject_New(Place, self->state->place);
    if (place != NULL) {
        place->handle = (Handle *)Py_NewRef((PyObject *)self);
        place->record = NULL;
        place->begin = place->size = 0;
        place->is_shown = 0;
    }
    return place;
}

static PyObject *handle_reserve(Handle *self, PyObject *args)
{
    unsigned int length, tag;
    double until;
    if (!PyArg_ParseTuple(args, "IId", &length, &tag, &until)) {
        return NULL;
    }
    if (length > self->item_size) {
        PyErr_SetString(PyExc_ValueError, "the payload is larger than a slot");
        return NULL;
    }
    Place *place = new_place(self);
    struct record *record = place == NULL ? NULL : borrow_for_place(self, SHMQ_PUT);
    if (record == NULL) {
        Py_XDECREF(place);
        return NULL;
    }
    int found = FAILED;
    if (make_room(record, 1) == 0) {
        record->payloads[0] = (struct payload){.owner = NULL, .length = length, .tag = tag};
        record->count = record->slots = 1;
        record->unusual = IN_PLACE;
        found = attempt_in_place(record, time_of(until));
    }
    if (found != SHMQ_DONE) {
        Py_DECREF(place);
        return end_without_place(record, found);
    }
    place->record = record;
    place->size = length;
    return (PyObject *)place;
}

static struct wanted wanted_by(const Handle *self)
{
    return (struct wanted){.bare_tag = self->placed_tag, .has_buffers = self->codec[LOADS] != NULL};
}

static PyObject *handle_view(Handle *self, PyObject *args)
{
    double until;
    if (!PyArg_ParseTuple(args, "d", &until)) {
        return NULL;
    }
    Place *place = new_place(self);
    struct record *record = place == NULL ? NULL : borrow_for_place(self, SHMQ_GET);
    if (record == NULL) {
        Py_XDECREF(place);
        return NULL;
    }
    struct wanted wanted = wanted_by(self);
    const struct shmq_wish wish = {is_wanted, &wanted};
    record->wish = &wish;
    record->limit = 1;
    const int found = attempt_in_place(record, time_of(until));
    record->wish = NULL; /* it is on this stack */
    if (found != SHMQ_DONE || record->is_kept_back) {
        Py_DECREF(place);
        return end_without_place(record, found);
    }
    place->record = record;
    place->begin = wanted.begin;
    place->size = wanted.size;
    return (PyObject *)place;
}

/* Copy a claimed item into a buffer that is large enough, and free it. AGAIN: another get has adopted it. */
static int take_into(struct record *record, const struct wanted *wanted, unsigned char *buffer)
{
    const struct shmq_ring *ring = &record->ring;
    if (record->slots == 1) {
        memcpy(buffer, shmq_slot_of(ring, record->position)->payload + wanted->begin, wanted->size);
    } else {
        shmq_copy_part(ring, record->position, wanted->begin, wanted->size, buffer);
    }
    const bool is_mine = shmq_free_large(ring, record->position, record->slots);
    shmq_finish_get(ring, &record->me, record->slots);
    return is_mine ? SHMQ_DONE : SHMQ_AGAIN;
}

/* Take an item into a memoryview until a time; returns its bytes. What is kept back is copied in Python. */
SHMQ_RARE static PyObject *get_into(Handle *self, PyObject *view, int64_t until)
{
    Py_buffer buffer;
    if (PyObject_GetBuffer(view, &buffer, PyBUF_WRITABLE) < 0) {
        return NULL;
    }
    PyObject *result = NULL;
    struct wanted wanted = wanted_by(self);
    wanted.has_room = true;
    wanted.room = (uint64_t)buffer.len;
    const struct shmq_wish wish = {is_wanted, &wanted};
    for (int found = SHMQ_AGAIN; found == SHMQ_AGAIN;) {
        struct record *record = borrow_for_place(self, SHMQ_GET);
        if (record == NULL) {
            break;
        }
        record->wish = &wish;
        record->limit = 1;
        found = attempt_in_place(record, until);
        const bool is_kept_back = found == SHMQ_DONE && record->is_kept_back;
        if (found == SHMQ_DONE && !is_kept_back) {
            result = PyLong_FromUnsignedLong(wanted.size); /* before the item is this caller's, because it may fail */
            found = result == NULL ? (abandon_claimed(record), FAILED) : take_into(record, &wanted, buffer.buf);
            if (found != SHMQ_DONE) {
                Py_CLEAR(result);
            }
        }
        PyObject *ended = end_without_place(record, found == SHMQ_AGAIN ? SHMQ_DONE : found);
        if (ended == NULL) {
            Py_CLEAR(result);
        }
        Py_XDECREF(ended);
        if (is_kept_back && ended != NULL) {
            result = PyObject_CallMethod(self->engine, "copy_kept_back", "O", view);
            if (result == Py_None) { /* another thread was faster */
                Py_CLEAR(result);
                found = SHMQ_AGAIN;
            }
        }
    }
    PyBuffer_Release(&buffer);
    return result;
}

#endif
