/* One handle's operations on one segment: the ring, used by threads of Python that wait, are interrupted, fork or
   close.

   The same as _engine/atomics.py, which says what each step is for; here with these rules about the GIL:

   - A thread holds the GIL while it claims, writes, publishes, frees or withdraws. No step between a claim and its end
     can raise, run Python, or let another thread run. So no claim ever waits for the GIL, the list of records needs no
     lock, and the threads of a handle in mode spsc take turns.
   - Without the GIL a thread only looks or sleeps. Its operation is counted, and close() waits for it before it unmaps
     the memory.
   - The ring runs no Python. It asks in C which process lives (processes.h), and only outside of claims. */

#ifndef SHMQ_HANDLE_H
#define SHMQ_HANDLE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "arena.h"
#include "buffers.h"
#include "plain.h"
#include "processes.h"
#include "large_ring.h"
#include "leased_ring.h"
#include "looking.h"
#include "tags.h"

/* Times are monotonic, in ns: 0 does not wait, but for an operation that is about to end. */
#define FOREVER INT64_MAX
#define ONE_LOOK INT64_C(-2) /* in the place of a time: wait for nothing at all; an event loop waits instead */

#define GIL_LOOKS 64         /* looks of a spin with the GIL held, in 1 to 3 µs */
#define CLOCK_LOOKS 32       /* looks between two readings of the clock */
#define SPIN INT64_C(100000) /* longer than a wake-up takes, so two processes that answer each other stop sleeping */
#define MOST_MISSES 6        /* after 2^6 - 1 waits without a spin, one wait spins again */

#define SHMQ_RARE __attribute__((cold, noinline)) /* keeps a function out of the frequent path */
#define SHMQ_APART __attribute__((noinline))      /* keeps its registers out of the smallest items' path */

#define BY_BATCH 1 /* of encode: the item takes several slots, or is larger than what each slot has memory for */
#define STAYS_CLAIMED 1 /* of a write: the caller writes the item, and publishes later */
#define NOT_SLEPT UINT64_MAX /* in passed_on: no wake was taken that could be passed on */
#define FAILED (-1) /* one more result beside those of the ring: a Python error is set */

typedef struct {
    PyObject *empty, *full, *shut_down;
    PyObject *claim_lost, *corrupt, *deserialization, *ours, *role_taken, *too_many;
    PyObject *handle_type, *not_given;
    PyTypeObject *block, *taken; /* see buffers.h */
    PyTypeObject *place;         /* see places.h */
    struct plain plain;
} module_state;

/* The bytes of an item. */
struct payload {
    /* Keeps the bytes alive. Of a taken item, the bytes object itself, or those of the tag BUFFERS in pieces. NULL if the
       bytes are in an arena, as those of the tag OBJECTS may be, or in `scalar`. */
    PyObject *owner;
    union {
        const char *data;
        char scalar[SHMQ_WORD];
        const struct shmq_piece *pieces; /* of the tag BUFFERS, in a put */
    };
    uint32_t length;
    uint32_t tag;
};

struct handle;

/* A record of this process, and the operation that uses it: Record and Claim of the Python code in one. */
struct record {
    struct record *next;
    struct handle *handle;
    struct shmq_ring ring; /* one for each record, because its calls get the record as context */
    struct shmq_participant me;
    uint64_t forks; /* of the process that took the record; if it is another number now, the record is the parent's */
    bool is_marked; /* abandoned, and not clean yet */

    enum shmq_side side;
    struct payload *payloads; /* the items of a put, or those that a get has taken */
    uint64_t count;
    uint64_t slots; /* that a put takes */
    uint64_t room;
    struct arena arena; /* for the items that a get has taken */
    uint64_t limit;     /* of a get */
    uint64_t passed_on; /* the gate for which a wake was passed on, or NOT_SLEPT */
    uint64_t shut;      /* the gate that this batch has closed */
    uint64_t shut_at;   /* head at that time */
    unsigned unusual;   /* of a put: HAS_LOCK, HAS_LONG */
    bool leases;        /* whether this get leases */
    const struct shmq_wish *wish; /* of a get in place: what it takes; NULL of others */
    bool is_kept_back;            /* such a get has found that items are kept back, which come first */
    uint64_t position;            /* what such an operation has claimed */
    struct shmq_held *held; /* what it has leased, with room for held_room */
    uint64_t held_room;
    PyObject *make, *leased; /* what makes a payload of a lease, and the list of payloads or NULL */
};

enum unusual {
    HAS_LOCK = 1, /* the batch lock; all puts of several items have it when they claim */
    HAS_LONG = 2, /* items of SHMQ_LONG bytes or more, or in pieces */
    IN_PLACE = 4, /* one item, which is written where it is claimed, by the caller */
};

/* The functions and methods of the codec that a handle calls; NULL where it has None. Without DUMPS and LOADS nothing is
   pickled or unpickled; without LOAD all items are the codec's, which then has a format of its own. */
enum codec_part { DUMPS, LOADS, ENCODE, ENCODE_OBJECT, FIT, WITHDRAW, DECODE, FAIL_TO_DECODE, LOAD, CODEC_PARTS };

/* Another number in each forked child. A handle reads it when it is used, so the time of a fork does not grow with the
   number of handles. */
static uint64_t forks = 1;

typedef struct handle {
    PyObject_HEAD
    module_state *state;
    Py_buffer segment, lock;
    bool is_open, is_closed;
    uint64_t capacity, owner;
    uint32_t item_size;
    uint32_t max_item_size;
    uint32_t at_once; /* bytes of an item for which there is always memory; item_size, if all memory was reserved */
    Py_ssize_t bare_most; /* bytes of a bare item that is put as it is, neither long nor larger than at_once; or -1 to
                             leave even bare items to the codec */
    uint32_t bare_tag;    /* TAG_BYTES, or likewise a tag that no item has */
    uint32_t placed_tag;  /* of the codec: of an item that is bytes, as a program writes them in place */
    uint32_t leases, max_deliveries;
    uint32_t busy_lease; /* where a search for an item that is leased begins */
    bool spsc;
    int64_t slice; /* the longest sleep */
    PyObject *engine, *calls, *kept_back, *on_keep_back;
    PyObject *codec[CODEC_PARTS];
    struct record *role; /* NULL until needed. Announces nothing; a role knows the handle by the name of this record */
    struct {
        unsigned misses;  /* spins in a row that were in vain */
        unsigned skips;   /* waits that do not spin */
    } spins[2];           /* by shmq_side */
    bool may_spin;        /* false with one processor */
    bool has_doorbell[2]; /* by shmq_side: whether the engine is told that an operation has found nothing */
    struct record *idle, *marked;
    Py_ssize_t operations; /* in progress */
    struct {
        const PyTypeObject *type; /* of the items, one after the other, that were not plain, but containers */
        unsigned count;           /* of them */
    } given_up;
    uint64_t forks; /* of the process to which these records belong */
} Handle;

static inline int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* ---- payloads ----------------------------------------------------------------------------------------------------- */

static inline const char *data_of(const struct payload *payload)
{
    return payload->owner == NULL && payload->tag != TAG_OBJECTS ? payload->scalar : payload->data;
}

/* The bytes, as the codec takes them, of a payload that was taken. */
static inline PyObject *bytes_of(const struct payload *payload)
{
    return payload->owner != NULL ? Py_NewRef(payload->owner)
                                  : PyBytes_FromStringAndSize(data_of(payload), payload->length);
}

static inline void add_taken_bytes(struct record *record, PyObject *bytes, uint32_t tag)
{
    record->payloads[record->count++] = (struct payload){
        .owner = bytes, .data = PyBytes_AS_STRING(bytes), .length = (uint32_t)PyBytes_GET_SIZE(bytes), .tag = tag};
}

/* Add bytes, or pieces, which only the codec looks at. */
static inline void add_taken(struct record *record, PyObject *owner, uint32_t tag)
{
    if (PyBytes_Check(owner)) {
        add_taken_bytes(record, owner, tag);
    } else {
        record->payloads[record->count++] = (struct payload){.owner = owner, .data = "", .length = 0, .tag = tag};
    }
}

/* The number of slots that the items of a batch take. */
static inline uint64_t count_slots(const Handle *self, const struct payload *payloads, Py_ssize_t count)
{
    uint64_t slots = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        const uint64_t length = payloads[i].length;
        slots += length <= self->item_size ? 1 : (length + self->item_size - 1) / self->item_size;
    }
    return slots;
}

/* ---- errors ------------------------------------------------------------------------------------------------------- */

/* Clear the error that is set, and return it. */
static inline PyObject *raised(void)
{
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (type == NULL) {
        return NULL;
    }
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL) {
        PyException_SetTraceback(value, traceback);
        Py_DECREF(traceback);
    }
    Py_DECREF(type);
    return value;
#endif
}

/* Set an error again; takes over its reference. */
static inline void raise_again(PyObject *error)
{
#if PY_VERSION_HEX >= 0x030C0000
    PyErr_SetRaisedException(error);
#else
    /* Not by PyErr_SetObject, which would make the error that the caller is handling its context. */
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(error)), error, PyException_GetTraceback(error));
#endif
}

/* Pass on the error of a call that is made to raise one. */
static inline int fail_by(PyObject *nothing)
{
    if (nothing != NULL) {
        Py_DECREF(nothing);
        PyErr_SetString(PyExc_SystemError, "a function of this package that raises has returned");
    }
    return FAILED;
}

/* Raise an error; NULL if making it has failed, and that error is set. */
static inline int fail_with(PyObject *error)
{
    if (error != NULL) {
        raise_again(error);
    }
    return FAILED;
}

SHMQ_RARE static int fail_as_forked(void)
{
    PyErr_SetString(PyExc_RuntimeError, "a signal handler has forked this process inside a call of a queue; the call "
                                        "goes on in the parent, call again in the child");
    return FAILED;
}

static inline int fail_as_closed(Handle *self)
{
    return fail_by(PyObject_CallMethod(self->engine, "refuse", NULL));
}

/* ---- what the ring needs ------------------------------------------------------------------------------------------ */

static bool call_is_alive(void *context, uint64_t owner)
{
    const struct record *record = context;
    const uint64_t namespace = owner >> SHMQ_OWNER_NAMESPACE_SHIFT;
    if (namespace == 0 || namespace != record->ring.owner >> SHMQ_OWNER_NAMESPACE_SHIFT) {
        return true; /* the process cannot be looked up from here */
    }
    return shmq_process_is_alive(owner & SHMQ_OWNER_PID_MASK, owner >> SHMQ_OWNER_PID_BITS & SHMQ_OWNER_START_MASK);
}

/* The GIL stays held: a waker may hold a claim, and must not wait for the GIL with it. */
static int call_futex_wake(void *context, _Atomic uint64_t *word, int count)
{
    (void)context;
    const long woken = syscall(SYS_futex, shmq_low_half(word), FUTEX_WAKE, count, NULL, NULL, 0);
    return woken > 0 ? (int)woken : 0;
}

/* Ring a bell, as _platform/bells.py does, from a socket of this one ring, which says why. */
static bool call_ring_bell(void *context, uint64_t nonce, uint64_t name)
{
    (void)context;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const int length = snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "shmq-%016llx-%llx",
                                (unsigned long long)nonce, (unsigned long long)name);
    const int sender = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (sender < 0) {
        return false;
    }
    const socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
    const ssize_t sent = sendto(sender, "", 0, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&address, size);
    const bool is_rung = sent == 0 || errno == EAGAIN || errno == ENOBUFS; /* the receiver is full, so it has been rung */
    close(sender);
    return is_rung;
}

static uint64_t call_now(void *context, bool exact)
{
    (void)context;
    struct timespec time;
    clock_gettime(exact ? CLOCK_MONOTONIC : CLOCK_MONOTONIC_COARSE, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

enum { POPULATE_WRITE = 23 }; /* MADV_POPULATE_WRITE, Linux 5.14; older headers do not have it */

/* Whether there is memory for so many bytes. A kernel before 5.14 does not tell. */
static bool call_reserve(void *context, void *at, uint32_t length)
{
    (void)context;
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = (uintptr_t)at - (uintptr_t)at % page;
    return madvise((void *)first, (uintptr_t)at - first + length, POPULATE_WRITE) == 0 ||
           (errno != EFAULT && errno != ENOMEM);
}

/* Sleep, without the GIL, while a word has the value that was read. */
static inline void sleep_on(_Atomic uint64_t *word, uint64_t expected, int64_t until)
{
    const int64_t left = until - now();
    if (left <= 0) {
        return;
    }
    const struct timespec time = {left / 1000000000, left % 1000000000};
    Py_BEGIN_ALLOW_THREADS syscall(SYS_futex, shmq_low_half(word), FUTEX_WAIT, (uint32_t)expected, &time, NULL, 0);
    Py_END_ALLOW_THREADS
}

#endif
