/* What a writer of everyday objects has, and how it writes bytes, numbers and strs. */

#ifndef SHMQ_PLAIN_PUT_H
#define SHMQ_PLAIN_PUT_H

#include "plain_format.h"

#define SEEN_FEW 8
#define SEEN_BITS 7

/* The mutable objects of an item, by address: a list at first, then a table, in which at most every second place is
   taken. Immutable ones are not here: what is mutable in them is found when it is reached again. */
struct seen {
    size_t count;
    unsigned bits;
    const void **table;
    const void *few[SEEN_FEW];
    const void *first[1 << SEEN_BITS];
};

struct plain_writer {
    struct plain *plain;
    struct arena *arena;
    char *at, *end; /* of the memory that may be used now, which begins at arena->at */
    size_t limit;
    bool has_stopped_gc;
    unsigned by_itself; /* a bit for each type that no function reduces; all, if none is asked */
    struct seen seen;
};

/* ---- what was seen ------------------------------------------------------------------------------------------------ */

/* The place of an address in the table, or the free place for it. */
static inline const void **plain_place(const struct seen *seen, const void *address)
{
    const size_t mask = ((size_t)1 << seen->bits) - 1;
    size_t i = (size_t)(((uint64_t)(uintptr_t)address >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> (64 - seen->bits));
    while (seen->table[i] != NULL && seen->table[i] != address) {
        i = (i + 1) & mask;
    }
    return &seen->table[i];
}

/* Go on with a larger table; false if memory is short. */
static bool plain_enlarge(struct seen *seen)
{
    const void **const before = seen->table == NULL ? seen->few : seen->table;
    const size_t places = seen->table == NULL ? SEEN_FEW : (size_t)1 << seen->bits;
    if (seen->table == NULL) {
        seen->bits = SEEN_BITS;
        seen->table = memset(seen->first, 0, sizeof seen->first);
    } else {
        const void **const table = PyMem_Calloc(places * 4, sizeof *table);
        if (table == NULL) {
            return false;
        }
        seen->bits += 2;
        seen->table = table;
    }
    for (size_t i = 0; i < places; i++) {
        if (before[i] != NULL) {
            *plain_place(seen, before[i]) = before[i];
        }
    }
    if (before != seen->few && before != seen->first) {
        PyMem_Free(before);
    }
    return true;
}

/* Note a mutable object; false if it was seen before, or memory is short. */
static inline bool plain_note(struct seen *seen, const void *address)
{
    if (seen->table == NULL) {
        for (size_t i = 0; i < seen->count; i++) {
            if (seen->few[i] == address) {
                return false;
            }
        }
        if (seen->count < SEEN_FEW) {
            seen->few[seen->count++] = address;
            return true;
        }
    }
    if ((seen->table == NULL || 2 * seen->count >= (size_t)1 << seen->bits) && !plain_enlarge(seen)) {
        return false;
    }
    const void **const place = plain_place(seen, address);
    if (*place == address) {
        return false;
    }
    *place = address;
    seen->count++;
    return true;
}

/* ---- bytes -------------------------------------------------------------------------------------------------------- */

static bool plain_more_room(struct plain_writer *w, size_t size)
{
    const size_t used = (size_t)(w->at - w->arena->at);
    if (size > w->limit - used || ((size_t)(w->arena->end - w->at) < size && !arena_grow(w->arena, used, size))) {
        return false;
    }
    const size_t room = (size_t)(w->arena->end - w->arena->at);
    w->at = w->arena->at + used;
    w->end = w->arena->at + (room < w->limit ? room : w->limit);
    return true;
}

/* Have room for so many bytes; false if the item becomes larger than a slot, or memory is short. */
static inline bool plain_room(struct plain_writer *w, size_t size)
{
    return (size_t)(w->end - w->at) >= size || plain_more_room(w, size);
}

static inline void plain_put_byte(struct plain_writer *w, unsigned byte)
{
    *w->at++ = (char)byte;
}

static inline void plain_put(struct plain_writer *w, const void *bytes, size_t size)
{
    memcpy(w->at, bytes, size);
    w->at += size;
}

/* A tag, and the bytes of a number behind it. */
static inline bool plain_write_number(struct plain_writer *w, unsigned tag, const void *number, size_t size)
{
    if (!plain_room(w, 1 + size)) {
        return false;
    }
    plain_put_byte(w, tag);
    plain_put(w, number, size);
    return true;
}

/* A tag with a count: the short one for less than `most`, and the long one otherwise. */
static inline bool plain_write_count(struct plain_writer *w, unsigned short_tag, Py_ssize_t most, unsigned long_tag,
                                     Py_ssize_t count)
{
    if (count < most) {
        if (!plain_room(w, 1)) {
            return false;
        }
        plain_put_byte(w, short_tag + (unsigned)count);
        return true;
    }
    const uint32_t number = (uint32_t)count;
    return count <= INT32_MAX && plain_write_number(w, long_tag, &number, sizeof number);
}

static bool plain_write_bytes(struct plain_writer *w, unsigned tag, const char *bytes, Py_ssize_t length)
{
    const uint32_t number = (uint32_t)length;
    if (length > INT32_MAX || !plain_room(w, 1 + sizeof number + (size_t)length)) {
        return false;
    }
    plain_put_byte(w, tag);
    plain_put(w, &number, sizeof number);
    plain_put(w, bytes, (size_t)length);
    return true;
}

/* ---- scalars ------------------------------------------------------------------------------------------------------ */

static bool plain_write_large_int(struct plain_writer *w, PyObject *value)
{
#if PY_VERSION_HEX >= 0x030D0000
    const Py_ssize_t size = PyLong_AsNativeBytes(value, NULL, 0, Py_ASNATIVEBYTES_LITTLE_ENDIAN);
#else
    const size_t bits = _PyLong_NumBits(value);
    const Py_ssize_t size = bits == (size_t)-1 ? -1 : (Py_ssize_t)(bits / 8 + 1); /* with the bit of the sign */
#endif
    const uint32_t number = (uint32_t)size;
    if (size < 0 || size > INT32_MAX || !plain_room(w, 1 + sizeof number + (size_t)size)) {
        return false;
    }
    plain_put_byte(w, PLAIN_INT);
    plain_put(w, &number, sizeof number);
#if PY_VERSION_HEX >= 0x030D0000
    const Py_ssize_t needed = PyLong_AsNativeBytes(value, w->at, size, Py_ASNATIVEBYTES_LITTLE_ENDIAN);
    const bool failed = needed < 0 || needed > size;
#else
    const bool failed =
        _PyLong_AsByteArray((PyLongObject *)value, (unsigned char *)w->at, (size_t)size, true, true) < 0;
#endif
    w->at += size;
    return !failed;
}

static bool plain_write_int(struct plain_writer *w, PyObject *value)
{
    int overflow;
    const int64_t number = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (overflow != 0) {
        return plain_write_large_int(w, value);
    }
    if (number >= 0 && number < PLAIN_SHORT_STR) {
        if (!plain_room(w, 1)) {
            return false;
        }
        plain_put_byte(w, (unsigned)number);
        return true;
    }
    if (number == (int8_t)number) {
        const int8_t byte = (int8_t)number;
        return plain_write_number(w, PLAIN_INT8, &byte, sizeof byte);
    }
    if (number == (int16_t)number) {
        const int16_t half = (int16_t)number;
        return plain_write_number(w, PLAIN_INT16, &half, sizeof half);
    }
    if (number == (int32_t)number) {
        const int32_t word = (int32_t)number;
        return plain_write_number(w, PLAIN_INT32, &word, sizeof word);
    }
    return plain_write_number(w, PLAIN_INT64, &number, sizeof number);
}

/* The UTF-8 of one character, of which a lone surrogate has three bytes; returns how many bytes these are. */
static inline size_t plain_utf8(Py_UCS4 character, unsigned char bytes[4])
{
    if (character < 0x80) {
        bytes[0] = (unsigned char)character;
        return 1;
    }
    if (character < 0x800) {
        bytes[0] = (unsigned char)(0xC0 | character >> 6);
        bytes[1] = (unsigned char)(0x80 | (character & 0x3F));
        return 2;
    }
    if (character < 0x10000) {
        bytes[0] = (unsigned char)(0xE0 | character >> 12);
        bytes[1] = (unsigned char)(0x80 | (character >> 6 & 0x3F));
        bytes[2] = (unsigned char)(0x80 | (character & 0x3F));
        return 3;
    }
    bytes[0] = (unsigned char)(0xF0 | character >> 18);
    bytes[1] = (unsigned char)(0x80 | (character >> 12 & 0x3F));
    bytes[2] = (unsigned char)(0x80 | (character >> 6 & 0x3F));
    bytes[3] = (unsigned char)(0x80 | (character & 0x3F));
    return 4;
}

/* Not by PyUnicode_AsUTF8, which would leave its copy in the caller's str. */
static bool plain_write_utf8(struct plain_writer *w, PyObject *value)
{
    const Py_ssize_t count = PyUnicode_GET_LENGTH(value);
    const int kind = (int)PyUnicode_KIND(value);
    const void *const characters = PyUnicode_DATA(value);
    size_t length = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        const Py_UCS4 character = PyUnicode_READ(kind, characters, i);
        length += character < 0x80 ? 1U : character < 0x800 ? 2U : character < 0x10000 ? 3U : 4U;
    }
    const uint32_t number = (uint32_t)length;
    if (length > INT32_MAX || !plain_room(w, 1 + sizeof number + length)) {
        return false;
    }
    plain_put_byte(w, PLAIN_UTF8);
    plain_put(w, &number, sizeof number);
    for (Py_ssize_t i = 0; i < count; i++) {
        unsigned char bytes[4];
        const size_t size = plain_utf8(PyUnicode_READ(kind, characters, i), bytes);
        plain_put(w, bytes, size);
    }
    return true;
}

static bool plain_write_str(struct plain_writer *w, PyObject *value)
{
#if PY_VERSION_HEX < 0x030C0000
    if (!PyUnicode_IS_READY(value)) { /* made by an outdated call of C */
        return false;
    }
#endif
    if (!PyUnicode_IS_COMPACT_ASCII(value)) {
        return plain_write_utf8(w, value);
    }
    const Py_ssize_t length = PyUnicode_GET_LENGTH(value);
    const char *const characters = (const char *)PyUnicode_1BYTE_DATA(value);
    if (length >= PLAIN_SHORT_DICT - PLAIN_SHORT_STR) {
        return plain_write_bytes(w, PLAIN_ASCII, characters, length);
    }
    if (!plain_room(w, 1 + (size_t)length)) {
        return false;
    }
    plain_put_byte(w, PLAIN_SHORT_STR + (unsigned)length);
    plain_put(w, characters, (size_t)length);
    return true;
}

#endif
