/* Dates, times, Decimals and UUIDs to bytes: types that are known only once the program has imported their modules, and
   for which it may register reducers. */

#ifndef SHMQ_PLAIN_LATE_H
#define SHMQ_PLAIN_LATE_H

#include "plain_put.h"

/* ---- what pickle would ask ---------------------------------------------------------------------------------------- */

/* A module that the program has imported, or NULL. */
static PyObject *plain_imported(const char *name)
{
    PyObject *const text = PyUnicode_FromString(name);
    PyObject *const module = text == NULL ? NULL : PyImport_GetModule(text);
    Py_XDECREF(text);
    return module;
}

/* Find what is known only once the program has imported a module. */
static bool plain_knows(struct plain *plain, bool is_known, const char *name, bool (*find)(struct plain *, PyObject *))
{
    if (is_known) {
        return true;
    }
    PyObject *const module = plain_imported(name);
    const bool found = module != NULL && find(plain, module);
    Py_XDECREF(module);
    return found;
}

/* The bits of types that a program may register a reducer for; pickle asks for no other type that is plain. */
enum plain_type {
    BIT_COMPLEX = 1,
    BIT_DATETIME = 2,
    BIT_DATE = 4,
    BIT_TIME = 8,
    BIT_DELTA = 16,
    BIT_DECIMAL = 32,
    BIT_UUID = 64,
};

static bool plain_is_unregistered(struct plain_writer *w, PyObject *type, enum plain_type bit)
{
    struct plain *const plain = w->plain;
    if (!plain_knows(plain, plain->dispatch_table != NULL, "copyreg", plain_find_reducers) ||
        !PyDict_CheckExact(plain->dispatch_table)) {
        return false;
    }
    PyObject *const reducer = PyDict_GetItemWithError(plain->dispatch_table, type);
    if (reducer != (bit == BIT_COMPLEX ? plain->of_complex : NULL) || PyErr_Occurred()) {
        return false;
    }
    if (plain_knows(plain, plain->extra_reducers != NULL, "multiprocessing.reduction", plain_find_extra_reducers)) {
        return PyDict_CheckExact(plain->extra_reducers) && PyDict_Contains(plain->extra_reducers, type) == 0;
    }
    PyErr_Clear(); /* it is not there, or not complete: nothing is registered */
    return true;
}

/* Whether an object of this type is reduced as the type says, and not by a function that was registered for it. */
static inline bool plain_goes_by_itself(struct plain_writer *w, PyTypeObject *type, enum plain_type bit)
{
    if ((w->by_itself & bit) == 0 && plain_is_unregistered(w, (PyObject *)type, bit)) {
        w->by_itself |= bit;
    }
    return (w->by_itself & bit) != 0;
}

/* ---- dates, times, Decimals and UUIDs ----------------------------------------------------------------------------- */

static inline void plain_put_us(unsigned char *bytes, int us)
{
    bytes[0] = (unsigned char)(us >> 16);
    bytes[1] = (unsigned char)(us >> 8);
    bytes[2] = (unsigned char)us;
}

static inline bool plain_write_kind(struct plain_writer *w, unsigned tag, unsigned kind, const void *bytes, size_t size)
{
    if (!plain_room(w, 2 + size)) {
        return false;
    }
    plain_put_byte(w, tag);
    plain_put_byte(w, kind);
    plain_put(w, bytes, size);
    return true;
}

static bool plain_write_datetime(struct plain_writer *w, PyObject *value)
{
    PyObject *const zone = PyDateTime_DATE_GET_TZINFO(value);
    if (zone != Py_None && zone != PyDateTime_TimeZone_UTC) {
        return false;
    }
    const int year = PyDateTime_GET_YEAR(value);
    unsigned char bytes[PLAIN_DATETIME_SIZE] = {
        (unsigned char)(year >> 8),
        (unsigned char)year,
        (unsigned char)(PyDateTime_GET_MONTH(value) | (PyDateTime_DATE_GET_FOLD(value) ? PLAIN_FOLD : 0)),
        (unsigned char)PyDateTime_GET_DAY(value),
        (unsigned char)PyDateTime_DATE_GET_HOUR(value),
        (unsigned char)PyDateTime_DATE_GET_MINUTE(value),
        (unsigned char)PyDateTime_DATE_GET_SECOND(value),
    };
    plain_put_us(bytes + 7, PyDateTime_DATE_GET_MICROSECOND(value));
    return plain_write_kind(w, PLAIN_TIME, zone == Py_None ? PLAIN_DATETIME : PLAIN_DATETIME_UTC, bytes, sizeof bytes);
}

static bool plain_write_date(struct plain_writer *w, PyObject *value)
{
    const int year = PyDateTime_GET_YEAR(value);
    const unsigned char bytes[PLAIN_DATE_SIZE] = {(unsigned char)(year >> 8), (unsigned char)year,
                                                  (unsigned char)PyDateTime_GET_MONTH(value),
                                                  (unsigned char)PyDateTime_GET_DAY(value)};
    return plain_write_kind(w, PLAIN_TIME, PLAIN_DATE, bytes, sizeof bytes);
}

static bool plain_write_time(struct plain_writer *w, PyObject *value)
{
    if (PyDateTime_TIME_GET_TZINFO(value) != Py_None) {
        return false;
    }
    unsigned char bytes[PLAIN_TIME_SIZE] = {
        (unsigned char)(PyDateTime_TIME_GET_HOUR(value) | (PyDateTime_TIME_GET_FOLD(value) ? PLAIN_FOLD : 0)),
        (unsigned char)PyDateTime_TIME_GET_MINUTE(value),
        (unsigned char)PyDateTime_TIME_GET_SECOND(value),
    };
    plain_put_us(bytes + 3, PyDateTime_TIME_GET_MICROSECOND(value));
    return plain_write_kind(w, PLAIN_TIME, PLAIN_TIME_OF_DAY, bytes, sizeof bytes);
}

static bool plain_write_timedelta(struct plain_writer *w, PyObject *value)
{
    const int32_t parts[3] = {PyDateTime_DELTA_GET_DAYS(value), PyDateTime_DELTA_GET_SECONDS(value),
                              PyDateTime_DELTA_GET_MICROSECONDS(value)};
    return plain_write_kind(w, PLAIN_TIME, PLAIN_TIMEDELTA, parts, sizeof parts);
}

/* From here on something is allocated that could start a collection, which on Python 3.11 runs finalisers. */
static inline void plain_stop_gc(struct plain_writer *w)
{
    w->has_stopped_gc |= PyGC_Disable();
}

static bool plain_write_decimal(struct plain_writer *w, PyObject *value)
{
    plain_stop_gc(w);
    PyObject *const text = PyObject_Str(value);
    const bool written = text != NULL && plain_room(w, 2);
    if (!written) {
        Py_XDECREF(text);
        return false;
    }
    plain_put_byte(w, PLAIN_OBJECT);
    plain_put_byte(w, PLAIN_DECIMAL);
    const bool complete = PyUnicode_IS_COMPACT_ASCII(text) && plain_write_str(w, text);
    Py_DECREF(text);
    return complete;
}

static bool plain_write_uuid(struct plain_writer *w, PyObject *value)
{
    PyObject *const safety = PyObject_GenericGetAttr(value, w->plain->of_is_safe);
    PyObject *const number = safety == NULL ? NULL : PyObject_GenericGetAttr(value, w->plain->of_int);
    unsigned char bytes[PLAIN_UUID_SIZE];
    bool is_plain = number != NULL && safety == w->plain->unknown && PyLong_CheckExact(number);
    if (is_plain) {
#if PY_VERSION_HEX >= 0x030D0000
        const int flags =
            Py_ASNATIVEBYTES_BIG_ENDIAN | Py_ASNATIVEBYTES_UNSIGNED_BUFFER | Py_ASNATIVEBYTES_REJECT_NEGATIVE;
        const Py_ssize_t size = PyLong_AsNativeBytes(number, bytes, sizeof bytes, flags);
        is_plain = size >= 0 && size <= (Py_ssize_t)sizeof bytes;
#else
        is_plain = _PyLong_AsByteArray((PyLongObject *)number, bytes, sizeof bytes, false, false) == 0;
#endif
    }
    Py_XDECREF(safety);
    Py_XDECREF(number);
    return is_plain && plain_write_kind(w, PLAIN_OBJECT, PLAIN_UUID, bytes, sizeof bytes);
}

static bool plain_write_time_of(struct plain_writer *w, PyObject *value)
{
    PyTypeObject *const type = Py_TYPE(value);
    if (!plain_knows(w->plain, PyDateTimeAPI != NULL, "datetime", plain_find_times)) {
        return false;
    }
    if (type == PyDateTimeAPI->DateTimeType) {
        return plain_goes_by_itself(w, type, BIT_DATETIME) && plain_write_datetime(w, value);
    }
    if (type == PyDateTimeAPI->DateType) {
        return plain_goes_by_itself(w, type, BIT_DATE) && plain_write_date(w, value);
    }
    if (type == PyDateTimeAPI->DeltaType) {
        return plain_goes_by_itself(w, type, BIT_DELTA) && plain_write_timedelta(w, value);
    }
    return type == PyDateTimeAPI->TimeType && plain_goes_by_itself(w, type, BIT_TIME) && plain_write_time(w, value);
}

/* The name of a type says only that it is worth a look. */
static bool plain_write_late(struct plain_writer *w, PyObject *value)
{
    struct plain *const plain = w->plain;
    PyTypeObject *const type = Py_TYPE(value);
    const char *const name = type->tp_name;
    if (strncmp(name, "datetime.", 9) == 0) {
        return plain_write_time_of(w, value);
    }
    if (strcmp(name, "decimal.Decimal") == 0) { /* _decimal has the one in C, if there is one */
        return plain_knows(plain, plain->decimal != NULL, "_decimal", plain_find_decimal) &&
               (PyObject *)type == plain->decimal && plain_goes_by_itself(w, type, BIT_DECIMAL) &&
               plain_write_decimal(w, value);
    }
    return strcmp(name, "UUID") == 0 && plain_knows(plain, plain->uuid != NULL, "uuid", plain_find_uuid) &&
           (PyObject *)type == plain->uuid && plain_goes_by_itself(w, type, BIT_UUID) && plain_write_uuid(w, value);
}

#endif
