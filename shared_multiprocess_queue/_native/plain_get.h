/* What a reader of everyday objects has, and how it reads bytes, numbers and strs. The bytes are a private copy, and each
   is checked before anything is made of it: a length or count of 32 bits is at most what is left, so a payload cannot
   ask for more objects than it has bytes. */

#ifndef SHMQ_PLAIN_GET_H
#define SHMQ_PLAIN_GET_H

#include "plain_format.h"

struct plain_reader {
    struct plain *plain;
    PyObject *load; /* imports a module of this name; a function, because an import must not be cut short */
    const unsigned char *start, *at, *end;
    size_t elements; /* that lists and tuples may still state, in all, because each takes a byte */
};

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

/* Read the count of a list or tuple, for which memory is taken at once; those in each other must not state the same
   bytes again and again. -1 with an error. */
static inline Py_ssize_t plain_read_elements(struct plain_reader *r)
{
    const Py_ssize_t count = plain_read_count(r, 1);
    if (count > 0 && (size_t)count > r->elements) {
        plain_refuse(r, "its containers state more than there is");
        return -1;
    }
    r->elements -= (size_t)(count > 0 ? count : 0);
    return count;
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

#endif
