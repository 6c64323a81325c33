/* Everyday objects to bytes. No code of the user runs meanwhile, and the GIL stays held, so the bytes are of one
   moment. A writer gives up an item that is not all plain; then pickle has it, from the beginning. */

#ifndef SHMQ_PLAIN_WRITE_H
#define SHMQ_PLAIN_WRITE_H

#include "plain_late.h"

static bool plain_write_value(struct plain_writer *w, PyObject *value, int depth);

static bool plain_write_dict(struct plain_writer *w, PyObject *value, int depth)
{
    if (depth == PLAIN_DEPTH || !plain_note(&w->seen, value) ||
        !plain_write_count(w, PLAIN_SHORT_DICT, PLAIN_SHORT_LIST - PLAIN_SHORT_DICT, PLAIN_DICT,
                           PyDict_GET_SIZE(value))) {
        return false;
    }
    PyObject *key, *part;
    Py_ssize_t at = 0;
    while (PyDict_Next(value, &at, &key, &part)) {
        if (!plain_write_value(w, key, depth + 1) || !plain_write_value(w, part, depth + 1)) {
            return false;
        }
    }
    return true;
}

static bool plain_write_list(struct plain_writer *w, PyObject *value, int depth)
{
    const Py_ssize_t count = PyList_GET_SIZE(value);
    if (depth == PLAIN_DEPTH || !plain_note(&w->seen, value) ||
        !plain_write_count(w, PLAIN_SHORT_LIST, PLAIN_SHORT_TUPLE - PLAIN_SHORT_LIST, PLAIN_LIST, count)) {
        return false;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        if (!plain_write_value(w, PyList_GET_ITEM(value, i), depth + 1)) {
            return false;
        }
    }
    return true;
}

static bool plain_write_tuple(struct plain_writer *w, PyObject *value, int depth)
{
    const Py_ssize_t count = PyTuple_GET_SIZE(value);
    if (depth == PLAIN_DEPTH ||
        !plain_write_count(w, PLAIN_SHORT_TUPLE, PLAIN_NONE - PLAIN_SHORT_TUPLE, PLAIN_TUPLE, count)) {
        return false;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        if (!plain_write_value(w, PyTuple_GET_ITEM(value, i), depth + 1)) {
            return false;
        }
    }
    return true;
}

static bool plain_write_set(struct plain_writer *w, PyObject *value, int depth)
{
    const bool is_frozen = PyFrozenSet_CheckExact(value);
    if (depth == PLAIN_DEPTH || (!is_frozen && !plain_note(&w->seen, value)) ||
        !plain_write_count(w, 0, 0, is_frozen ? PLAIN_FROZENSET : PLAIN_SET, PySet_GET_SIZE(value))) {
        return false;
    }
    plain_stop_gc(w);
    PyObject *const elements = PyObject_GetIter(value);
    PyObject *element;
    bool written = elements != NULL;
    while (written && (element = PyIter_Next(elements)) != NULL) {
        written = plain_write_value(w, element, depth + 1);
        Py_DECREF(element);
    }
    Py_XDECREF(elements);
    return written && !PyErr_Occurred();
}

static bool plain_write_rare(struct plain_writer *w, PyObject *value, int depth)
{
    PyTypeObject *const type = Py_TYPE(value);
    if (type == &PyBytes_Type) {
        return plain_write_bytes(w, PLAIN_BYTES, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value));
    }
    if (type == &PySet_Type || type == &PyFrozenSet_Type) {
        return plain_write_set(w, value, depth);
    }
    if (type == &PyByteArray_Type) {
        return plain_note(&w->seen, value) &&
               plain_write_bytes(w, PLAIN_BYTEARRAY, PyByteArray_AS_STRING(value), PyByteArray_GET_SIZE(value));
    }
    if (type == &PyComplex_Type && plain_goes_by_itself(w, type, BIT_COMPLEX)) {
        const double parts[2] = {PyComplex_RealAsDouble(value), PyComplex_ImagAsDouble(value)};
        return plain_write_number(w, PLAIN_COMPLEX, parts, sizeof parts);
    }
    return plain_write_late(w, value);
}

/* Write a value; false, perhaps with an error, to give up. */
static bool plain_write_value(struct plain_writer *w, PyObject *value, int depth)
{
    PyTypeObject *const type = Py_TYPE(value);
    if (type == &PyUnicode_Type) {
        return plain_write_str(w, value);
    }
    if (type == &PyLong_Type) {
        return plain_write_int(w, value);
    }
    if (type == &PyFloat_Type) {
        const double number = PyFloat_AS_DOUBLE(value);
        return plain_write_number(w, PLAIN_FLOAT, &number, sizeof number);
    }
    if (type == &PyDict_Type) {
        return plain_write_dict(w, value, depth);
    }
    if (type == &PyList_Type) {
        return plain_write_list(w, value, depth);
    }
    if (type == &PyTuple_Type) {
        return plain_write_tuple(w, value, depth);
    }
    if (value == Py_None || type == &PyBool_Type) {
        if (!plain_room(w, 1)) {
            return false;
        }
        plain_put_byte(w, value == Py_None ? PLAIN_NONE : value == Py_True ? PLAIN_TRUE : PLAIN_FALSE);
        return true;
    }
    return plain_write_rare(w, value, depth);
}

const char *plain_write(struct plain *plain, PyObject *item, bool asks_reducers, size_t limit, struct arena *arena,
                        size_t *length)
{
    struct plain_writer w;
    w.plain = plain;
    w.arena = arena;
    w.limit = limit;
    w.at = w.end = arena->at;
    w.has_stopped_gc = false;
    w.by_itself = asks_reducers ? 0 : ~0U;
    w.seen.count = 0;
    w.seen.table = NULL;
    const bool written = plain_write_value(&w, item, 0);
    if (w.has_stopped_gc) {
        PyGC_Enable();
    }
    if (w.seen.table != NULL && w.seen.table != w.seen.first) {
        PyMem_Free(w.seen.table);
    }
    if (!written) {
        PyErr_Clear(); /* pickle says it better */
        return NULL;
    }
    const char *const bytes = arena->at;
    *length = (size_t)(w.at - bytes);
    arena->at = w.at;
    return bytes;
}

#endif
