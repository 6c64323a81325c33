/* Bytes to everyday objects. The bytes are a private copy, and each is checked before anything is made of it: a length
   or count of 32 bits is at most what is left, so a payload cannot ask for more objects than it has bytes. */

#ifndef SHMQ_PLAIN_READ_H
#define SHMQ_PLAIN_READ_H

#include "plain_format.h"

struct plain_reader {
    struct plain *plain;
    PyObject *load; /* imports a module of this name; a function, because an import must not be cut short */
    const unsigned char *start, *at, *end;
};

static PyObject *plain_read_value(struct plain_reader *r, int depth);

/* ---- bytes -------------------------------------------------------------------------------------------------------- */

/* Raise the error of damaged bytes. */
static void *plain_refuse(const struct plain_reader *r, const char *why)
{
    PyErr_Format(PyExc_ValueError, "it is damaged before byte %zd: %s", (Py_ssize_t)(r->at - r->start), why);
    return NULL;
}

static inline size_t plain_left(const struct plain_reader *r)
{
    return (size_t)(r->end - r->at);
}

/* Go on by so many bytes, and return where they begin; NULL with an error if there are less. */
static inline const unsigned char *plain_take(struct plain_reader *r, size_t size)
{
    if (plain_left(r) < size) {
        return plain_refuse(r, "it ends too early");
    }
    const unsigned char *const taken = r->at;
    r->at += size;
    return taken;
}

/* Read a count of things of at least so many bytes each; -1 with an error if there are less bytes. */
static inline Py_ssize_t plain_read_count(struct plain_reader *r, size_t each)
{
    uint32_t count;
    const unsigned char *const bytes = plain_take(r, sizeof count);
    if (bytes == NULL) {
        return -1;
    }
    memcpy(&count, bytes, sizeof count);
    if (count > plain_left(r) / each) {
        plain_refuse(r, "it states more than there is");
        return -1;
    }
    return (Py_ssize_t)count;
}

/* ---- scalars ------------------------------------------------------------------------------------------------------ */

static inline bool plain_is_ascii(const unsigned char *bytes, size_t length)
{
    uint64_t found = 0, word;
    size_t i = 0;
    for (; i + sizeof word <= length; i += sizeof word) {
        memcpy(&word, bytes + i, sizeof word);
        found |= word;
    }
    for (; i < length; i++) {
        found |= bytes[i];
    }
    return (found & UINT64_C(0x8080808080808080)) == 0;
}

static inline PyObject *plain_read_ascii(struct plain_reader *r, size_t length)
{
    const unsigned char *const bytes = plain_take(r, length);
    if (bytes == NULL) {
        return NULL;
    }
    if (!plain_is_ascii(bytes, length)) {
        return plain_refuse(r, "a str is not ASCII");
    }
    if (length == 1) { /* the interpreter has it */
        return PyUnicode_FromOrdinal(bytes[0]);
    }
    PyObject *const text = PyUnicode_New((Py_ssize_t)length, 0x7F);
    if (text != NULL && length > 0) {
        memcpy(PyUnicode_1BYTE_DATA(text), bytes, length);
    }
    return text;
}

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

static PyObject *plain_read_large_int(struct plain_reader *r)
{
    const Py_ssize_t length = plain_read_count(r, 1);
    const unsigned char *const bytes = length < 0 ? NULL : plain_take(r, (size_t)length);
    if (bytes == NULL) {
        return NULL;
    }
#if PY_VERSION_HEX >= 0x030D0000
    return PyLong_FromNativeBytes(bytes, (size_t)length, Py_ASNATIVEBYTES_LITTLE_ENDIAN);
#else
    return _PyLong_FromByteArray(bytes, (size_t)length, true, true);
#endif
}

#define PLAIN_READ_NUMBER(type, make)                                                                                  \
    do {                                                                                                               \
        type number;                                                                                                   \
        const unsigned char *const bytes = plain_take(r, sizeof number);                                               \
        if (bytes == NULL) {                                                                                           \
            return NULL;                                                                                               \
        }                                                                                                              \
        memcpy(&number, bytes, sizeof number);                                                                         \
        return make(number);                                                                                           \
    } while (false)

static PyObject *plain_read_complex(struct plain_reader *r)
{
    double parts[2];
    const unsigned char *const bytes = plain_take(r, sizeof parts);
    if (bytes == NULL) {
        return NULL;
    }
    memcpy(parts, bytes, sizeof parts);
    return PyComplex_FromDoubles(parts[0], parts[1]);
}

static PyObject *plain_read_utf8(struct plain_reader *r)
{
    const Py_ssize_t length = plain_read_count(r, 1);
    const unsigned char *const bytes = length < 0 ? NULL : plain_take(r, (size_t)length);
    return bytes == NULL ? NULL : PyUnicode_DecodeUTF8((const char *)bytes, length, "surrogatepass");
}

static PyObject *plain_read_bytes(struct plain_reader *r, PyObject *(*make)(const char *, Py_ssize_t))
{
    const Py_ssize_t length = plain_read_count(r, 1);
    const unsigned char *const bytes = length < 0 ? NULL : plain_take(r, (size_t)length);
    return bytes == NULL ? NULL : make((const char *)bytes, length);
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

/* ---- dates, times, Decimals and UUIDs ----------------------------------------------------------------------------- */

static inline int plain_us(const unsigned char *bytes)
{
    return bytes[0] << 16 | bytes[1] << 8 | bytes[2];
}

/* Import a module, and keep what it has. */
static bool plain_import(struct plain_reader *r, const char *name, bool (*find)(struct plain *, PyObject *))
{
    PyObject *const module = PyObject_CallFunction(r->load, "s", name);
    const bool found = module != NULL && find(r->plain, module);
    Py_XDECREF(module);
    return found;
}

/* The interpreter's functions check what they are given, except that of a timedelta for its seconds and below. */
static PyObject *plain_read_time(struct plain_reader *r)
{
    static const unsigned char sizes[] = {PLAIN_DATETIME_SIZE, PLAIN_DATETIME_SIZE, PLAIN_DATE_SIZE, PLAIN_TIME_SIZE,
                                          PLAIN_TIMEDELTA_SIZE};
    const unsigned char *const kind = plain_take(r, 1);
    if (kind == NULL || *kind >= Py_ARRAY_LENGTH(sizes)) {
        return kind == NULL ? NULL : plain_refuse(r, "there is no such kind of time");
    }
    const unsigned char *const bytes = plain_take(r, sizes[*kind]);
    if (bytes == NULL) {
        return NULL;
    }
    if (PyDateTimeAPI == NULL && !plain_import(r, "datetime", plain_find_times)) {
        return NULL;
    }
    if (*kind == PLAIN_TIMEDELTA) {
        int32_t parts[3];
        memcpy(parts, bytes, sizeof parts);
        if (parts[1] < 0 || parts[1] >= 86400 || parts[2] < 0 || parts[2] >= 1000000) {
            return plain_refuse(r, "a timedelta is out of range");
        }
        return PyDelta_FromDSU(parts[0], parts[1], parts[2]);
    }
    if (*kind == PLAIN_TIME_OF_DAY) {
        return PyDateTimeAPI->Time_FromTimeAndFold(bytes[0] & ~PLAIN_FOLD, bytes[1], bytes[2], plain_us(bytes + 3),
                                                   Py_None, (bytes[0] & PLAIN_FOLD) != 0, PyDateTimeAPI->TimeType);
    }
    const int year = bytes[0] << 8 | bytes[1];
    if (*kind == PLAIN_DATE) {
        return PyDate_FromDate(year, bytes[2], bytes[3]);
    }
    PyObject *const zone = *kind == PLAIN_DATETIME ? Py_None : PyDateTime_TimeZone_UTC;
    return PyDateTimeAPI->DateTime_FromDateAndTimeAndFold(year, bytes[2] & ~PLAIN_FOLD, bytes[3], bytes[4], bytes[5],
                                                          bytes[6], plain_us(bytes + 7), zone,
                                                          (bytes[2] & PLAIN_FOLD) != 0, PyDateTimeAPI->DateTimeType);
}

static PyObject *plain_read_decimal(struct plain_reader *r)
{
    if (plain_left(r) == 0 || (*r->at != PLAIN_ASCII && (*r->at < PLAIN_SHORT_STR || *r->at >= PLAIN_SHORT_DICT))) {
        return plain_refuse(r, "a Decimal has no text");
    }
    PyObject *const text = plain_read_value(r, PLAIN_DEPTH);
    PyObject *number = NULL;
    if (text != NULL && (r->plain->decimal != NULL || plain_import(r, "decimal", plain_find_decimal))) {
        number = PyObject_CallOneArg(r->plain->decimal, text);
    }
    Py_XDECREF(text);
    return number;
}

/* Like the unpickler, this sets the attributes, and calls no function of the class. */
static PyObject *plain_read_uuid(struct plain_reader *r)
{
    const unsigned char *const bytes = plain_take(r, PLAIN_UUID_SIZE);
    if (bytes == NULL || (r->plain->uuid == NULL && !plain_import(r, "uuid", plain_find_uuid))) {
        return NULL;
    }
#if PY_VERSION_HEX >= 0x030D0000
    PyObject *const number = PyLong_FromUnsignedNativeBytes(bytes, PLAIN_UUID_SIZE, Py_ASNATIVEBYTES_BIG_ENDIAN);
#else
    PyObject *const number = _PyLong_FromByteArray(bytes, PLAIN_UUID_SIZE, false, false);
#endif
    PyObject *const nothing = number == NULL ? NULL : PyTuple_New(0);
    PyObject *uuid = nothing == NULL ? NULL : PyBaseObject_Type.tp_new((PyTypeObject *)r->plain->uuid, nothing, NULL);
    if (uuid != NULL && (PyObject_GenericSetAttr(uuid, r->plain->of_int, number) < 0 ||
                         PyObject_GenericSetAttr(uuid, r->plain->of_is_safe, r->plain->unknown) < 0)) {
        Py_CLEAR(uuid);
    }
    Py_XDECREF(number);
    Py_XDECREF(nothing);
    return uuid;
}

static PyObject *plain_read_object(struct plain_reader *r)
{
    const unsigned char *const kind = plain_take(r, 1);
    if (kind == NULL) {
        return NULL;
    }
    switch (*kind) {
    case PLAIN_DECIMAL:
        return plain_read_decimal(r);
    case PLAIN_UUID:
        return plain_read_uuid(r);
    default:
        return plain_refuse(r, "there is no such kind of object");
    }
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
        return plain_read_list(r, plain_read_count(r, 1), depth);
    case PLAIN_TUPLE:
        return plain_read_tuple(r, plain_read_count(r, 1), depth);
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
    struct plain_reader r = {.plain = plain, .load = load, .start = (const unsigned char *)bytes};
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
