/* Bytes to everyday objects. */

#ifndef SHMQ_PLAIN_READ_H
#define SHMQ_PLAIN_READ_H

#include "plain_get_late.h"

static PyObject *plain_read_value(struct plain_reader *r, int depth);

/* ---- keys --------------------------------------------------------------------------------------------------------- */

static inline uint64_t plain_load(const unsigned char *bytes, size_t size)
{
    uint64_t word = 0;
    memcpy(&word, bytes, size);
    return word;
}

/* Where a key is kept: by its length, its first and its last bytes. */
static inline size_t plain_hash(const unsigned char *bytes, size_t length)
{
    uint64_t first, last;
    if (length >= 8) {
        first = plain_load(bytes, 8);
        last = plain_load(bytes + length - 8, 8);
    } else if (length >= 4) {
        first = plain_load(bytes, 4);
        last = plain_load(bytes + length - 4, 4);
    } else {
        first = plain_load(bytes, 2);
        last = bytes[length - 1];
    }
    const uint64_t mixed = (first ^ (last << 29 | last >> 35) ^ length) * UINT64_C(0x9E3779B97F4A7C15);
    return (size_t)(mixed >> (64 - PLAIN_KEY_BITS));
}

/* Read a key of a dict. Most keys were read before; those str objects are used again, and have their hash. */
static inline PyObject *plain_read_key(struct plain_reader *r, int depth)
{
    const size_t length = plain_left(r) == 0 ? 0 : (size_t)*r->at - PLAIN_SHORT_STR;
    if (length < PLAIN_SHORTEST_KEY || length > PLAIN_LONGEST_KEY || plain_left(r) <= length) {
        return plain_read_value(r, depth);
    }
    const unsigned char *const bytes = r->at + 1;
    PyObject **const kept = &r->plain->keys[plain_hash(bytes, length)];
    if (*kept != NULL && PyUnicode_GET_LENGTH(*kept) == (Py_ssize_t)length &&
        memcmp(PyUnicode_1BYTE_DATA(*kept), bytes, length) == 0) {
        r->at += 1 + length;
        return Py_NewRef(*kept);
    }
    r->at++;
    PyObject *const key = plain_read_ascii(r, length);
    if (key != NULL) {
        Py_XSETREF(*kept, Py_NewRef(key));
    }
    return key;
}

/* ---- containers --------------------------------------------------------------------------------------------------- */

/* A list or tuple that is not complete is not tracked, because a finaliser that a collection runs must not find it. */
static PyObject *plain_read_list(struct plain_reader *r, Py_ssize_t count, int depth)
{
    if (count < 0 || depth == PLAIN_DEPTH) {
        return count < 0 ? NULL : plain_refuse(r, "a list is too deep");
    }
    PyObject *const list = PyList_New(count);
    if (list == NULL) {
        return NULL;
    }
    PyObject_GC_UnTrack(list);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *const part = plain_read_value(r, depth + 1);
        if (part == NULL) {
            Py_DECREF(list);
            return NULL;
        }
        PyList_SET_ITEM(list, i, part);
    }
    PyObject_GC_Track(list);
    return list;
}

static PyObject *plain_read_tuple(struct plain_reader *r, Py_ssize_t count, int depth)
{
    if (count < 0 || depth == PLAIN_DEPTH) {
        return count < 0 ? NULL : plain_refuse(r, "a tuple is too deep");
    }
    PyObject *const tuple = PyTuple_New(count);
    if (tuple == NULL || count == 0) {
        return tuple;
    }
    PyObject_GC_UnTrack(tuple);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *const part = plain_read_value(r, depth + 1);
        if (part == NULL) {
            Py_DECREF(tuple);
            return NULL;
        }
        PyTuple_SET_ITEM(tuple, i, part);
    }
    PyObject_GC_Track(tuple);
    return tuple;
}

static PyObject *plain_read_dict(struct plain_reader *r, Py_ssize_t count, int depth)
{
    if (count < 0 || depth == PLAIN_DEPTH) {
        return count < 0 ? NULL : plain_refuse(r, "a dict is too deep");
    }
    PyObject *const dict = PyDict_New();
    if (dict == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *const key = plain_read_key(r, depth + 1);
        PyObject *const part = key == NULL ? NULL : plain_read_value(r, depth + 1);
        const bool failed = part == NULL || PyDict_SetItem(dict, key, part) < 0;
        Py_XDECREF(key);
        Py_XDECREF(part);
        if (failed) {
            Py_DECREF(dict);
            return NULL;
        }
    }
    if (PyDict_GET_SIZE(dict) != count) {
        Py_DECREF(dict);
        return plain_refuse(r, "a dict has a key twice");
    }
    return dict;
}

static PyObject *plain_read_set(struct plain_reader *r, PyObject *(*make)(PyObject *), int depth)
{
    const Py_ssize_t count = plain_read_count(r, 1);
    if (count < 0 || depth == PLAIN_DEPTH) {
        return count < 0 ? NULL : plain_refuse(r, "a set is too deep");
    }
    PyObject *const set = make(NULL);
    if (set == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *const element = plain_read_value(r, depth + 1);
        const bool failed = element == NULL || PySet_Add(set, element) < 0;
        Py_XDECREF(element);
        if (failed) {
            Py_DECREF(set);
            return NULL;
        }
    }
    if (PySet_GET_SIZE(set) != count) {
        Py_DECREF(set);
        return plain_refuse(r, "a set has an element twice");
    }
    return set;
}

/* ---- values ------------------------------------------------------------------------------------------------------- */

static PyObject *plain_read_long(struct plain_reader *r, unsigned tag, int depth)
{
    switch (tag) {
    case PLAIN_NONE:
        return Py_NewRef(Py_None);
    case PLAIN_FALSE:
        return Py_NewRef(Py_False);
    case PLAIN_TRUE:
        return Py_NewRef(Py_True);
    case PLAIN_FLOAT:
        PLAIN_READ_NUMBER(double, PyFloat_FromDouble);
    case PLAIN_INT8:
        PLAIN_READ_NUMBER(int8_t, PyLong_FromLong);
    case PLAIN_INT16:
        PLAIN_READ_NUMBER(int16_t, PyLong_FromLong);
    case PLAIN_INT32:
        PLAIN_READ_NUMBER(int32_t, PyLong_FromLong);
    case PLAIN_INT64:
        PLAIN_READ_NUMBER(int64_t, PyLong_FromLongLong);
    case PLAIN_INT:
        return plain_read_large_int(r);
    case PLAIN_ASCII: {
        const Py_ssize_t length = plain_read_count(r, 1);
        return length < 0 ? NULL : plain_read_ascii(r, (size_t)length);
    }
    case PLAIN_UTF8:
        return plain_read_utf8(r);
    case PLAIN_BYTES:
        return plain_read_bytes(r, PyBytes_FromStringAndSize);
    case PLAIN_BYTEARRAY:
        return plain_read_bytes(r, PyByteArray_FromStringAndSize);
    case PLAIN_LIST:
        return plain_read_list(r, plain_read_elements(r), depth);
    case PLAIN_TUPLE:
        return plain_read_tuple(r, plain_read_elements(r), depth);
    case PLAIN_DICT:
        return plain_read_dict(r, plain_read_count(r, 2), depth);
    case PLAIN_SET:
        return plain_read_set(r, PySet_New, depth);
    case PLAIN_FROZENSET:
        return plain_read_set(r, PyFrozenSet_New, depth);
    case PLAIN_COMPLEX:
        return plain_read_complex(r);
    case PLAIN_TIME:
        return plain_read_time(r);
    case PLAIN_OBJECT:
        return plain_read_object(r);
    default:
        return plain_refuse(r, "there is no such kind of value");
    }
}

static PyObject *plain_read_value(struct plain_reader *r, int depth)
{
    if (plain_left(r) == 0) {
        return plain_refuse(r, "it ends too early");
    }
    const unsigned tag = *r->at++;
    if (tag < PLAIN_SHORT_STR) {
        return PyLong_FromLong((long)tag);
    }
    if (tag < PLAIN_SHORT_DICT) {
        return plain_read_ascii(r, tag - PLAIN_SHORT_STR);
    }
    if (tag < PLAIN_SHORT_LIST) {
        return plain_read_dict(r, (Py_ssize_t)tag - PLAIN_SHORT_DICT, depth);
    }
    if (tag < PLAIN_SHORT_TUPLE) {
        return plain_read_list(r, (Py_ssize_t)tag - PLAIN_SHORT_LIST, depth);
    }
    if (tag < PLAIN_NONE) {
        return plain_read_tuple(r, (Py_ssize_t)tag - PLAIN_SHORT_TUPLE, depth);
    }
    return plain_read_long(r, tag, depth);
}

PyObject *plain_read(struct plain *plain, PyObject *load, const char *bytes, size_t length)
{
    struct plain_reader r = {.plain = plain, .load = load, .start = (const unsigned char *)bytes, .elements = length};
    r.at = r.start;
    r.end = r.start + length;
    PyObject *const item = plain_read_value(&r, 0);
    if (item != NULL && r.at != r.end) {
        Py_DECREF(item);
        return plain_refuse(&r, "there is more behind its end");
    }
    return item;
}

#endif
