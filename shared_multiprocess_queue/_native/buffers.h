/* Items in pieces, as in _codec/buffers.py, which says what they look like: what a put copies them from, what a get
   copies them into, and the memory of the latter.

   What is made here under a claim runs no Python, and no collection of garbage: the types have no part in that. */

#ifndef SHMQ_BUFFERS_H
#define SHMQ_BUFFERS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "arena.h"
#include "ring.h"

/* ---- memory that is used again ------------------------------------------------------------------------------------ */

#define KEPT_BLOCKS 8                       /* without a user */
#define KEPT_BYTES ((size_t)64 << 20)       /* of them all */
#define SMALLEST_KEPT ((size_t)64 << 10)    /* of one; malloc keeps smaller ones itself */
#define HUGE_PAGE ((size_t)2 << 20)         /* to which blocks of two of them, or more, are aligned */

/* The GIL guards it. The oldest first. */
static struct {
    void *memory;
    size_t room;
} kept[KEPT_BLOCKS];
static unsigned kept_count;
static size_t kept_bytes;

/* Take a block that is kept out of its place. */
static inline void *unkeep(unsigned place)
{
    void *const memory = kept[place].memory;
    kept_bytes -= kept[place].room;
    memmove(&kept[place], &kept[place + 1], (--kept_count - place) * sizeof *kept);
    return memory;
}

static inline size_t room_for(size_t size)
{
    if (size < SMALLEST_KEPT || size > KEPT_BYTES) {
        return size;
    }
    size_t room = SMALLEST_KEPT;
    while (room < size) {
        room *= 2;
    }
    return room;
}

/* Memory that is aligned to a line; NULL, without an error, if it is short. */
static inline void *take_memory(size_t room)
{
    for (unsigned place = kept_count; place-- > 0;) {
        if (kept[place].room == room) {
            return unkeep(place);
        }
    }
    void *memory;
    const bool is_huge = room >= 2 * HUGE_PAGE;
    while (posix_memalign(&memory, is_huge ? HUGE_PAGE : SHMQ_LINE, room) != 0) {
        if (kept_count == 0) {
            return NULL;
        }
        free(unkeep(0));
    }
    if (is_huge) {
        madvise(memory, room, MADV_HUGEPAGE); /* a wish: without it all is as right, and slower */
    }
    return memory;
}

static inline void leave_memory(void *memory, size_t room)
{
    if (room < SMALLEST_KEPT || room > KEPT_BYTES) {
        free(memory);
        return;
    }
    while (kept_count == KEPT_BLOCKS || kept_bytes + room > KEPT_BYTES) {
        free(unkeep(0));
    }
    kept[kept_count].memory = memory;
    kept[kept_count++].room = room;
    kept_bytes += room;
}

/* ---- a buffer of the receiver's own ------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    void *memory;
    size_t size, room;
} Block;

/* NULL, without an error, if memory is short. */
static inline Block *new_block(PyTypeObject *type, size_t size)
{
    const size_t room = room_for(size);
    void *const memory = take_memory(room);
    if (memory == NULL) {
        return NULL;
    }
    Block *block = PyObject_New(Block, type);
    if (block == NULL) {
        PyErr_Clear();
        leave_memory(memory, room);
        return NULL;
    }
    block->memory = memory;
    block->size = size;
    block->room = room;
    return block;
}

static void block_dealloc(Block *self)
{
    PyTypeObject *type = Py_TYPE(self);
    leave_memory(self->memory, self->room);
    PyObject_Free(self);
    Py_DECREF(type);
}

static int block_getbuffer(Block *self, Py_buffer *view, int flags)
{
    return PyBuffer_FillInfo(view, (PyObject *)self, self->memory, (Py_ssize_t)self->size, 0, flags);
}

static PyType_Slot block_slots[] = {
    {Py_tp_doc, (void *)"Memory of a buffer that has arrived: aligned to a cache line, and used again."},
    {Py_tp_dealloc, block_dealloc},
    {Py_bf_getbuffer, block_getbuffer},
    {0, NULL},
};

static PyType_Spec block_spec = {
    .name = "shared_multiprocess_queue._native.extension.Block",
    .basicsize = sizeof(Block),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = block_slots,
};

/* Copy a buffer into memory of its own. */
static PyObject *copy_of(PyTypeObject *type, PyObject *data)
{
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    Block *block = new_block(type, view.len > 0 ? (size_t)view.len : 1);
    if (block == NULL) {
        PyErr_NoMemory();
    } else {
        block->size = (size_t)view.len;
        memcpy(block->memory, view.buf, block->size);
    }
    PyBuffer_Release(&view);
    return (PyObject *)block;
}

/* ---- what a get has taken ----------------------------------------------------------------------------------------- */

enum kind { KIND_MEMORY, KIND_BYTES, KIND_BYTEARRAY, KIND_SAME };

struct buffers_head {
    uint32_t count, stream; /* of buffers; bytes of the stream */
    uint8_t tag, is_kept;
    uint16_t alignment;
};

struct buffers_entry {
    uint32_t length, kind;
};

#define BUFFERS_ALIGNMENT 64
#define BUFFERS_PACKED 8

/* The head with the stream, as bytes, and the buffers. */
typedef struct {
    PyObject_HEAD
    uint32_t length, count;
    struct taken_piece {
        PyObject *data;
        uint32_t at;
    } *pieces;
} Taken;

static void taken_dealloc(Taken *self)
{
    PyTypeObject *type = Py_TYPE(self);
    while (self->count > 0) {
        Py_DECREF(self->pieces[--self->count].data);
    }
    PyMem_Free(self->pieces);
    PyObject_Free(self);
    Py_DECREF(type);
}

static Py_ssize_t taken_length(Taken *self)
{
    return (Py_ssize_t)self->length;
}

static PyObject *taken_pieces(Taken *self, void *nothing)
{
    (void)nothing;
    PyObject *pieces = PyTuple_New(self->count);
    for (uint32_t i = 0; pieces != NULL && i < self->count; i++) {
        PyObject *piece = Py_BuildValue("(IO)", self->pieces[i].at, self->pieces[i].data);
        if (piece == NULL) {
            Py_CLEAR(pieces);
        } else {
            PyTuple_SET_ITEM(pieces, i, piece);
        }
    }
    return pieces;
}

static PyGetSetDef taken_attributes[] = {
    {"pieces", (getter)taken_pieces, NULL, "Where each piece begins in the payload, and its bytes.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot taken_slots[] = {
    {Py_tp_doc, (void *)"The payload of an item with large buffers, taken out of its slot."},
    {Py_tp_dealloc, taken_dealloc},
    {Py_sq_length, taken_length},
    {Py_tp_getset, taken_attributes},
    {0, NULL},
};

static PyType_Spec taken_spec = {
    .name = "shared_multiprocess_queue._native.extension.Taken",
    .basicsize = sizeof(Taken),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = taken_slots,
};

/* Where the bytes of an item are: one behind the other, or in the slots of a ring from a position on. */
struct source {
    const struct shmq_item *item;
    const struct shmq_ring *ring; /* NULL: one behind the other */
    uint64_t position;
};

static inline void copy_out(const struct source *from, uint64_t at, void *to, uint32_t length)
{
    if (from->ring != NULL) {
        shmq_copy_part(from->ring, from->position, (uint32_t)at, length, to);
    } else {
        memcpy(to, from->item->data + at, length);
    }
}

/* Add a piece with a copy of bytes that the item has at a place. False, without an error: memory is short. */
static inline bool add_piece(Taken *taken, PyTypeObject *block, const struct source *from, uint64_t at, uint32_t length,
                             uint32_t kind)
{
    PyObject *data = NULL;
    char *to = NULL;
    if (kind == KIND_BYTES) {
        data = PyBytes_FromStringAndSize(NULL, length);
        to = data == NULL ? NULL : PyBytes_AS_STRING(data);
    } else if (kind == KIND_BYTEARRAY) {
        data = PyByteArray_FromStringAndSize(NULL, 0); /* with a length, one that lacks memory may run Python */
        if (data != NULL && PyByteArray_Resize(data, length) < 0) {
            Py_CLEAR(data);
        }
        to = data == NULL ? NULL : PyByteArray_AS_STRING(data);
    } else {
        data = (PyObject *)new_block(block, length);
        to = data == NULL ? NULL : ((Block *)data)->memory;
    }
    if (data == NULL) {
        PyErr_Clear();
        return false;
    }
    copy_out(from, at, to, length);
    taken->pieces[taken->count++] = (struct taken_piece){data, (uint32_t)at};
    return true;
}

enum taking { TAKEN, NOT_IN_PIECES, NO_MEMORY_FOR_PIECES };

/* Copy an item of the tag BUFFERS into pieces. NOT_IN_PIECES: its bytes are to be taken in one, because they are to be
   kept, or because no put has written them; the codec says so. Any process may write into the slot meanwhile, so each
   byte is read once: the table that is checked is the copy. No error is set. */
static enum taking take_pieces(PyTypeObject *type, PyTypeObject *block, const struct source *from, PyObject **found)
{
    const struct shmq_item *const item = from->item;
    struct buffers_head head;
    if (item->length < sizeof head) {
        return NOT_IN_PIECES;
    }
    copy_out(from, 0, &head, sizeof head);
    atomic_signal_fence(memory_order_seq_cst); /* the compiler must not read the slot again in place of the copy */
    const uint64_t begin = sizeof head + head.count * (uint64_t)sizeof(struct buffers_entry), end = begin + head.stream;
    if (head.is_kept != 0 || end > item->length ||
        (head.alignment != BUFFERS_ALIGNMENT && head.alignment != BUFFERS_PACKED)) {
        return NOT_IN_PIECES;
    }
    Taken *taken = PyObject_New(Taken, type);
    if (taken == NULL) {
        PyErr_Clear();
        return NO_MEMORY_FOR_PIECES;
    }
    taken->length = item->length;
    taken->count = 0;
    taken->pieces = PyMem_Malloc((head.count + (size_t)1) * sizeof *taken->pieces);
    enum taking result = NO_MEMORY_FOR_PIECES;
    if (taken->pieces != NULL && add_piece(taken, block, from, 0, (uint32_t)end, KIND_BYTES)) {
        char *const first = PyBytes_AS_STRING(taken->pieces[0].data);
        memcpy(first, &head, sizeof head);
        uint64_t at = end;
        result = TAKEN;
        for (uint32_t i = 0; result == TAKEN && i < head.count; i++) {
            struct buffers_entry entry;
            memcpy(&entry, first + sizeof head + i * sizeof entry, sizeof entry);
            if (entry.kind == KIND_SAME) {
                continue; /* the codec looks at its index */
            }
            const uint64_t misplaced = (at + sizeof(struct shmq_slot)) % head.alignment;
            at += misplaced == 0 ? 0 : head.alignment - misplaced;
            if (entry.kind > KIND_SAME || entry.length == 0 || at > item->length || entry.length > item->length - at) {
                result = NOT_IN_PIECES;
            } else if (!add_piece(taken, block, from, at, entry.length, entry.kind)) {
                result = NO_MEMORY_FOR_PIECES;
            }
            at += entry.length;
        }
        if (result == TAKEN && at != item->length) {
            result = NOT_IN_PIECES;
        }
    }
    if (result != TAKEN) {
        Py_CLEAR(taken);
    }
    *found = (PyObject *)taken;
    return result;
}

/* ---- what a put writes -------------------------------------------------------------------------------------------- */

/* The pieces of an object of the codec, which keeps their bytes alive, in an arena; the one behind the last has no data.
   NULL with an error. */
static const struct shmq_piece *pieces_of(PyObject *payload, struct arena *arena)
{
    PyObject *pieces = PyObject_GetAttrString(payload, "pieces");
    if (pieces == NULL || !PyTuple_Check(pieces)) {
        Py_XDECREF(pieces);
        return NULL;
    }
    const Py_ssize_t count = PyTuple_GET_SIZE(pieces);
    while ((uintptr_t)arena->at % sizeof(void *) != 0 && arena->at < arena->end) {
        arena->at++;
    }
    struct shmq_piece *found = (void *)arena_take(arena, ((size_t)count + 1) * sizeof *found);
    if (found == NULL) {
        PyErr_NoMemory();
    }
    for (Py_ssize_t i = 0; found != NULL && i < count; i++) {
        PyObject *piece = PyTuple_GET_ITEM(pieces, i), *data;
        unsigned int at;
        if (!PyArg_ParseTuple(piece, "IO", &at, &data)) {
            found = NULL;
        } else if (PyBytes_Check(data)) {
            found[i] = (struct shmq_piece){PyBytes_AS_STRING(data), at, (uint32_t)PyBytes_GET_SIZE(data)};
        } else if (PyMemoryView_Check(data)) {
            const Py_buffer *view = PyMemoryView_GET_BUFFER(data);
            found[i] = (struct shmq_piece){view->buf, at, (uint32_t)view->len};
        } else {
            PyErr_SetString(PyExc_SystemError, "a piece of an item is neither bytes nor a memoryview");
            found = NULL;
        }
    }
    if (found != NULL) {
        found[count] = (struct shmq_piece){NULL, 0, 0};
    }
    Py_DECREF(pieces);
    return found;
}

/* The same as one piece, in an arena, with zeros in between. NULL with an error. */
static const struct shmq_piece *whole_of(const struct shmq_piece *pieces, uint32_t length, struct arena *arena)
{
    struct shmq_piece *const found = (void *)arena_take(arena, 2 * sizeof *found + length);
    if (found == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    char *const whole = (char *)(found + 2);
    uint32_t end = 0;
    for (; pieces->data != NULL; pieces++) {
        memset(whole + end, 0, pieces->at - end);
        memcpy(whole + pieces->at, pieces->data, pieces->length);
        end = pieces->at + pieces->length;
    }
    memset(whole + end, 0, length - end);
    found[0] = (struct shmq_piece){whole, 0, length};
    found[1] = (struct shmq_piece){NULL, 0, 0};
    return found;
}

#endif
