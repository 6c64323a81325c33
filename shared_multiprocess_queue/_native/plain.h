/* Everyday objects without pickle: exact built-in types, nested, and dates, times, Decimals and UUIDs. The same as
   _codec/plain.py, which describes the format. A unit of its own, plain.c, because what is inlined here would leave less
   room for that in the ring's. */

#ifndef SHMQ_PLAIN_H
#define SHMQ_PLAIN_H

#include "arena.h"

#define PLAIN_KEY_BITS 9

/* What the codec keeps. */
struct plain {
    /* Each NULL until it is needed. */
    PyObject *decimal;                     /* the type */
    PyObject *strict;                      /* a context of Decimals, in which what is no number is an error */
    PyObject *uuid, *unknown;              /* the type, and SafeUUID.unknown */
    PyObject *of_int, *of_is_safe;         /* the names of a UUID's attributes */
    PyObject *dispatch_table, *of_complex; /* of copyreg: its table, and its own reducer for complex numbers */
    PyObject *extra_reducers;              /* those of multiprocessing */
    PyObject *keys[1 << PLAIN_KEY_BITS];   /* keys of dicts that were read, each at its hash, or NULL */
};

#define PLAIN_OBJECTS(X, plain)                                                                                        \
    X((plain)->decimal);                                                                                               \
    X((plain)->strict);                                                                                                \
    X((plain)->uuid);                                                                                                  \
    X((plain)->unknown);                                                                                               \
    X((plain)->of_int);                                                                                                \
    X((plain)->of_is_safe);                                                                                            \
    X((plain)->dispatch_table);                                                                                        \
    X((plain)->of_complex);                                                                                            \
    X((plain)->extra_reducers)

/* Write an item into an arena. Returns the bytes, which stay the arena's, or NULL, without an error, to give up: also if
   a reducer is registered for something in the item, and is to be asked. */
__attribute__((visibility("hidden"))) const char *plain_write(struct plain *plain, PyObject *item, bool asks_reducers,
                                                              size_t limit, struct arena *arena, size_t *length);

/* Read an item; NULL with an error. `load` imports a module of a name; a function, because an import must not be cut
   short. */
__attribute__((visibility("hidden"))) PyObject *plain_read(struct plain *plain, PyObject *load, const char *bytes,
                                                           size_t length);

static inline int plain_visit(struct plain *plain, visitproc visit, void *arg)
{
    PLAIN_OBJECTS(Py_VISIT, plain);
    return 0;
}

static inline void plain_clear(struct plain *plain)
{
    PLAIN_OBJECTS(Py_CLEAR, plain);
    for (size_t i = 0; i < Py_ARRAY_LENGTH(plain->keys); i++) {
        Py_CLEAR(plain->keys[i]);
    }
}

#endif
