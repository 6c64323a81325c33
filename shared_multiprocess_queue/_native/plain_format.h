/* The bytes of everyday objects, and what their writer and reader find in modules. */

#ifndef SHMQ_PLAIN_FORMAT_H
#define SHMQ_PLAIN_FORMAT_H

#include "plain.h"

#include <datetime.h> /* of Python; its PyDateTimeAPI is NULL until a date or time is met */
#include <stdint.h>

#define PLAIN_DEPTH 100 /* containers in containers */

/* A value is one of these bytes and what follows it. Lengths and counts are of 32 bits. */
enum plain_tag {
    PLAIN_SMALL_INT = 0x00,   /* to 0x7F: the number itself */
    PLAIN_SHORT_STR = 0x80,   /* to 0xBF: ASCII characters, of this number */
    PLAIN_SHORT_DICT = 0xC0,  /* to 0xCF: entries, of this number */
    PLAIN_SHORT_LIST = 0xD0,  /* to 0xDF: elements, of this number */
    PLAIN_SHORT_TUPLE = 0xE0, /* to 0xE7: elements, of this number */
    PLAIN_NONE = 0xE8,
    PLAIN_FALSE,
    PLAIN_TRUE,
    PLAIN_FLOAT,
    PLAIN_INT8,
    PLAIN_INT16,
    PLAIN_INT32,
    PLAIN_INT64,
    PLAIN_INT, /* length, two's complement, little-endian */
    PLAIN_ASCII,
    PLAIN_UTF8, /* with lone surrogates */
    PLAIN_BYTES,
    PLAIN_BYTEARRAY,
    PLAIN_LIST,
    PLAIN_TUPLE,
    PLAIN_DICT,
    PLAIN_SET,
    PLAIN_FROZENSET,
    PLAIN_COMPLEX,
    PLAIN_TIME, /* and a byte that says of which kind */
    PLAIN_OBJECT,
};

enum plain_time { PLAIN_DATETIME, PLAIN_DATETIME_UTC, PLAIN_DATE, PLAIN_TIME_OF_DAY, PLAIN_TIMEDELTA };
enum plain_object { PLAIN_DECIMAL, PLAIN_UUID };

#define PLAIN_DATETIME_SIZE 10
#define PLAIN_DATE_SIZE 4
#define PLAIN_TIME_SIZE 6
#define PLAIN_TIMEDELTA_SIZE 12
#define PLAIN_UUID_SIZE 16
#define PLAIN_FOLD 0x80

#define PLAIN_SHORTEST_KEY 2
#define PLAIN_LONGEST_KEY 40

/* Keep the attribute of an object; false with an error. */
static inline bool plain_keep(PyObject **kept, PyObject *of, const char *name)
{
    PyObject *const found = PyObject_GetAttrString(of, name);
    if (found != NULL) {
        Py_XSETREF(*kept, found);
    }
    return found != NULL;
}

/* Find the functions for dates and times in their module; false with an error. PyDateTime_IMPORT would import it. */
static inline bool plain_find_times(struct plain *plain, PyObject *module)
{
    (void)plain;
    PyObject *const capsule = PyObject_GetAttrString(module, "datetime_CAPI");
    if (capsule != NULL) {
        PyDateTimeAPI = PyCapsule_GetPointer(capsule, PyDateTime_CAPSULE_NAME);
        Py_DECREF(capsule);
    }
    return PyDateTimeAPI != NULL;
}

/* Find Decimal in its module; false with an error. */
static inline bool plain_find_decimal(struct plain *plain, PyObject *module)
{
    return plain_keep(&plain->decimal, module, "Decimal");
}

/* Find what belongs to UUIDs in their module; false with an error. The type comes last, because it says that the others
   are there. */
static inline bool plain_find_uuid(struct plain *plain, PyObject *module)
{
    PyObject *const safety = PyObject_GetAttrString(module, "SafeUUID");
    const bool found = safety != NULL && plain_keep(&plain->unknown, safety, "unknown");
    Py_XDECREF(safety);
    if (!found) {
        return false;
    }
    if (plain->of_int == NULL) {
        plain->of_int = PyUnicode_InternFromString("int");
    }
    if (plain->of_is_safe == NULL) {
        plain->of_is_safe = PyUnicode_InternFromString("is_safe");
    }
    if (plain->of_int == NULL || plain->of_is_safe == NULL) {
        return false;
    }
    PyObject *const type = PyObject_GetAttrString(module, "UUID");
    if (type != NULL && (!PyType_Check(type) || ((PyTypeObject *)type)->tp_base != &PyBaseObject_Type)) {
        PyErr_SetString(PyExc_TypeError, "uuid.UUID is not the class of the standard library");
        Py_DECREF(type);
        return false;
    }
    Py_XSETREF(plain->uuid, type);
    return type != NULL;
}

/* Find the reducers that are registered with copyreg; false with an error. */
static inline bool plain_find_reducers(struct plain *plain, PyObject *module)
{
    return plain_keep(&plain->of_complex, module, "pickle_complex") &&
           plain_keep(&plain->dispatch_table, module, "dispatch_table");
}

/* Find the reducers that are registered with multiprocessing; false with an error. */
static inline bool plain_find_extra_reducers(struct plain *plain, PyObject *module)
{
    PyObject *const pickler = PyObject_GetAttrString(module, "ForkingPickler");
    const bool found = pickler != NULL && plain_keep(&plain->extra_reducers, pickler, "_extra_reducers");
    Py_XDECREF(pickler);
    return found;
}

#endif
