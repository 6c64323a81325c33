/* Calls of a handle that take no record: looks, shutdown, and the ends of leases. */

#ifndef SHMQ_RECORDLESS_H
#define SHMQ_RECORDLESS_H

#include "methods.h"

/* Make ready to look, without a record in the table; the GIL stays held until the look is over. */
static bool begin_look(Handle *self, struct record *looker)
{
    if ((self->forks != forks && forget_parent(self) < 0) || (self->owner == 0 && !settle(self))) {
        return false;
    }
    if (self->is_closed) {
        fail_as_closed(self);
        return false;
    }
    *looker = (struct record){.handle = self};
    shmq_open(&looker->ring, self->segment.buf, self->capacity, self->item_size, self->spsc, self->owner,
              (struct shmq_calls){call_is_alive, call_futex_wake, call_ring_bell, looker, call_now, call_reserve});
    shmq_open_large(&looker->ring, self->max_item_size);
    shmq_open_leases(&looker->ring, self->leases, self->max_deliveries, &self->busy_lease);
    looker->ring.fresh_below = fresh_below(self);
    return true;
}

/* The GIL stays held, so no other thread unmaps the memory meanwhile. */
static PyObject *handle_shutdown(Handle *self, PyObject *immediate)
{
    struct record looker;
    const int drops = PyObject_IsTrue(immediate);
    if (drops < 0 || !begin_look(self, &looker)) {
        return NULL;
    }
    shmq_shut(&looker.ring, drops);
    Py_RETURN_NONE;
}

static PyObject *handle_size(Handle *self, PyObject *nothing)
{
    (void)nothing;
    struct record looker;
    if (!begin_look(self, &looker)) {
        return NULL;
    }
    if (shmq_is_stopped(&looker.ring)) {
        return PyLong_FromLong(0);
    }
    return PyLong_FromUnsignedLongLong(shmq_size(&looker.ring) + (uint64_t)PyObject_Size(self->kept_back));
}

static PyObject *handle_is_empty(Handle *self, PyObject *nothing)
{
    (void)nothing;
    struct record looker;
    if (!begin_look(self, &looker)) {
        return NULL;
    }
    return PyBool_FromLong((PyObject_Size(self->kept_back) == 0 || shmq_is_stopped(&looker.ring)) &&
                           shmq_is_empty(&looker.ring));
}

static PyObject *handle_is_full(Handle *self, PyObject *nothing)
{
    (void)nothing;
    struct record looker;
    if (!begin_look(self, &looker)) {
        return NULL;
    }
    return PyBool_FromLong(!shmq_has_room(&looker.ring));
}

/* The arguments of a call for the bell of a record: whether it waits for space, and the record's index. */
static bool parse_bell(PyObject *const *args, Py_ssize_t count, bool *puts, uint32_t *index)
{
    const unsigned long value = count == 2 ? PyLong_AsUnsignedLong(args[1]) : SHMQ_RECORDS;
    if (PyErr_Occurred()) {
        return false;
    }
    if (value >= SHMQ_RECORDS) {
        PyErr_SetString(PyExc_TypeError, "a bell is named by puts and the index of its record");
        return false;
    }
    *puts = args[0] == Py_True;
    *index = (uint32_t)value;
    return true;
}

/* Note that a bell waits, and arm the hint; the caller attempts once more after this. */
static PyObject *handle_want_bell(Handle *self, PyObject *const *args, Py_ssize_t count)
{
    struct record looker;
    bool puts;
    uint32_t index;
    if (!parse_bell(args, count, &puts, &index) || !begin_look(self, &looker)) {
        return NULL;
    }
    struct shmq_header *header = looker.ring.header;
    shmq_want_bell(&looker.ring, puts ? SHMQ_BELLS_OF_SPACE : SHMQ_BELLS_OF_ITEMS, index);
    shmq_arm(puts ? &header->space : &header->items);
    Py_RETURN_NONE;
}

/* Take the bit of a bell back; returns whether it was there. */
static PyObject *handle_take_bell(Handle *self, PyObject *const *args, Py_ssize_t count)
{
    struct record looker;
    bool puts;
    uint32_t index;
    if (!parse_bell(args, count, &puts, &index) || !begin_look(self, &looker)) {
        return NULL;
    }
    return PyBool_FromLong(shmq_take_bell(&looker.ring, puts ? SHMQ_BELLS_OF_SPACE : SHMQ_BELLS_OF_ITEMS, index));
}

/* Whether a bell still waits, and a call that does not wait would find nothing. */
static PyObject *handle_waits_rightly(Handle *self, PyObject *const *args, Py_ssize_t count)
{
    struct record looker;
    bool puts;
    uint32_t index;
    if (!parse_bell(args, count, &puts, &index) || !begin_look(self, &looker)) {
        return NULL;
    }
    const struct shmq_ring *ring = &looker.ring;
    return PyBool_FromLong(shmq_wants_bell(ring, puts ? SHMQ_BELLS_OF_SPACE : SHMQ_BELLS_OF_ITEMS, index) &&
                           !shmq_is_closed(ring) &&
                           (puts ? !shmq_has_room(ring)
                                 : PyObject_Size(self->kept_back) == 0 && shmq_is_empty(ring)));
}

/* Take a lease out of the home where it is noted, and make ready to end it: no signal comes in between. 0: it is not
   there, or the handle is closed. */
static int begin_end(Handle *self, PyObject *const *args, struct record *looker, struct shmq_held *held)
{
    *held = (struct shmq_held){(uint32_t)PyLong_AsUnsignedLong(args[2]), PyLong_AsUnsignedLongLong(args[3]),
                               PyLong_AsUnsignedLongLong(args[4]), 0};
    if (PyErr_Occurred()) {
        return FAILED;
    }
    if (held->index >= self->leases) {
        PyErr_Format(PyExc_ValueError, "lease slot %u of %u", held->index, self->leases);
        return FAILED;
    }
    if (self->is_closed) {
        return 0;
    }
    const int is_there = begin_look(self, looker) ? PyDict_Contains(args[0], args[1]) : FAILED;
    return is_there > 0 && PyDict_DelItem(args[0], args[1]) < 0 ? FAILED : is_there;
}

/* End a lease and its item. */
static PyObject *handle_done(Handle *self, PyObject *const *args, Py_ssize_t count)
{
    struct record looker;
    struct shmq_held held;
    if (count != 5 || !PyDict_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "done takes home, held, index, position and deliveries");
        return NULL;
    }
    const int begun = begin_end(self, args, &looker, &held);
    if (begun <= 0) {
        return begun < 0 ? NULL : Py_NewRef(Py_None);
    }
    return PyBool_FromLong(shmq_done(&looker.ring, &held));
}

/* End a lease and give its item back. */
static PyObject *handle_give_back(Handle *self, PyObject *const *args, Py_ssize_t count)
{
    struct record looker;
    struct shmq_held held;
    if (count != 7 || !PyDict_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "give_back takes home, held, index, position, deliveries, delay and last");
        return NULL;
    }
    const uint64_t delay = PyLong_AsUnsignedLongLong(args[5]);
    const int last = PyObject_IsTrue(args[6]);
    if (last < 0 || PyErr_Occurred()) {
        return NULL;
    }
    const int begun = begin_end(self, args, &looker, &held);
    if (begun <= 0) {
        return begun < 0 ? NULL : Py_NewRef(Py_None);
    }
    return PyBool_FromLong(shmq_give_back(&looker.ring, &held, delay, last));
}

static PyObject *handle_is_quiet(Handle *self, PyObject *nothing)
{
    (void)nothing;
    struct record looker;
    if (!begin_look(self, &looker)) {
        return NULL;
    }
    return PyBool_FromLong(shmq_is_quiet(&looker.ring));
}

#endif
