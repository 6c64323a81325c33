/* Memory for the encoded items of one call. What was taken stays where it is until all is given back. */

#ifndef SHMQ_ARENA_H
#define SHMQ_ARENA_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <string.h>

#define ARENA_FIRST 1024          /* bytes on the stack of a put */
#define ARENA_CHUNK 4096          /* the smallest chunk */
#define ARENA_KEPT (256 * 1024)   /* the largest chunk that is kept for the next call */
#define ARENA_LARGEST (64 * 1024) /* the largest item that a get copies into an arena */

struct chunk {
    struct chunk *next;
    size_t size;
    char bytes[];
};

/* The free memory is at .. end. */
struct arena {
    char *at, *end;
    struct chunk *chunks; /* the newest first */
};

/* Go on in a new chunk with room for `kept + size` bytes, to which the first `kept` ones of the free memory are copied.
   False, without an error, if memory is short. */
static bool arena_grow(struct arena *arena, size_t kept, size_t size)
{
    size_t room = 2 * (kept + size);
    const size_t doubled = arena->chunks == NULL ? ARENA_CHUNK : 2 * arena->chunks->size;
    if (room < doubled && doubled <= ARENA_KEPT) {
        room = doubled;
    }
    struct chunk *chunk = PyMem_Malloc(sizeof *chunk + room);
    if (chunk == NULL) {
        return false;
    }
    if (kept > 0) {
        memcpy(chunk->bytes, arena->at, kept);
    }
    chunk->next = arena->chunks;
    chunk->size = room;
    arena->chunks = chunk;
    arena->at = chunk->bytes;
    arena->end = chunk->bytes + room;
    return true;
}

/* Take `size` bytes; NULL, without an error, if memory is short. */
static inline char *arena_take(struct arena *arena, size_t size)
{
    if ((size_t)(arena->end - arena->at) < size && !arena_grow(arena, 0, size)) {
        return NULL;
    }
    char *const taken = arena->at;
    arena->at += size;
    return taken;
}

static inline void arena_free(struct arena *arena)
{
    while (arena->chunks != NULL) {
        struct chunk *const chunk = arena->chunks;
        arena->chunks = chunk->next;
        PyMem_Free(chunk);
    }
}

/* Give back all that was taken. Of several chunks only the newest is kept. Out of line, because each get asks whether
   there is anything to do. */
__attribute__((noinline, unused)) static void arena_reset(struct arena *arena)
{
    struct chunk *const newest = arena->chunks;
    if (newest->next != NULL) {
        arena->chunks = newest->next;
        arena_free(arena);
        newest->next = NULL;
        arena->chunks = newest;
    }
    if (newest->size > ARENA_KEPT) {
        arena_free(arena);
        arena->at = arena->end = NULL;
        return;
    }
    arena->at = newest->bytes;
    arena->end = newest->bytes + newest->size;
}

#endif
