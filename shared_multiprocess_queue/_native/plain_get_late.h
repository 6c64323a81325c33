/* Bytes to dates, times, Decimals and UUIDs: types whose modules are imported when the first one is read. */

#ifndef SHMQ_PLAIN_GET_LATE_H
#define SHMQ_PLAIN_GET_LATE_H

#include "plain_get.h"

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

/* Find Decimal, and make a context for it: that of the thread may take what is no number for NaN. */
static bool plain_find_strict(struct plain *plain, PyObject *module)
{
    PyObject *const type = PyObject_GetAttrString(module, "Context");
    PyObject *const trap = type == NULL ? NULL : PyObject_GetAttrString(module, "InvalidOperation");
    PyObject *context = NULL;
    if (trap != NULL && plain_find_decimal(plain, module)) {
        context = PyObject_CallFunction(type, "OOOOOOO[O]", Py_None, Py_None, Py_None, Py_None, Py_None, Py_None,
                                        Py_None, trap);
    }
    Py_XDECREF(type);
    Py_XDECREF(trap);
    if (context == NULL) {
        return false;
    }
    Py_XSETREF(plain->strict, context);
    return true;
}

static PyObject *plain_read_decimal(struct plain_reader *r)
{
    if (plain_left(r) == 0 || (*r->at != PLAIN_ASCII && (*r->at < PLAIN_SHORT_STR || *r->at >= PLAIN_SHORT_DICT))) {
        return plain_refuse(r, "a Decimal has no text");
    }
    const unsigned tag = *r->at++;
    const Py_ssize_t length = tag == PLAIN_ASCII ? plain_read_count(r, 1) : (Py_ssize_t)tag - PLAIN_SHORT_STR;
    PyObject *const text = length < 0 ? NULL : plain_read_ascii(r, (size_t)length);
    PyObject *number = NULL;
    if (text != NULL && (r->plain->strict != NULL || plain_import(r, "decimal", plain_find_strict))) {
        number = PyObject_CallFunctionObjArgs(r->plain->decimal, text, r->plain->strict, NULL);
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

#endif
