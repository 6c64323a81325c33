/* One handle's operations on one segment: the ring, driven by threads of Python that wait, are interrupted, fork, close.

   The same as _engine/atomics.py, which tells what each step is for; here with these rules about the GIL:

   - Everything that claims, writes, publishes, frees or withdraws is done while the GIL is held, and nothing between a
     claim and its end can raise, run Python, or let another thread in. So no claim ever waits for the GIL, the pool of
     seats needs no lock, and the threads of a handle in mode spsc come one after the other.
   - Where the GIL is not held, a thread only looks or sleeps. The operation that it belongs to is counted; close()
     waits for it before the memory goes.
   - The ring runs no Python. It asks in C which process lives (processes.h), outside of claims only. */

#ifndef SHMQ_HANDLE_H
#define SHMQ_HANDLE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "processes.h"
#include "ring.h"

/* Times are monotonic, in ns: 0 does not wait. */
#define FOREVER INT64_MAX

#define HELD_SLICE INT64_C(10000000) /* the longest sleep while a claim is under way: nobody wakes us if its owner dies */
#define PATIENCE INT64_C(100000000)  /* for a claim that is about to end, by a call that does not wait */
#define YIELDING INT64_C(1000000)    /* of it without sleeping */
#define NAP INT64_C(200000)          /* a sleep after that */
#define BETWEEN INT64_C(1000000)     /* the longest sleep while the batch lock has no owner and is not free */

#define GIL_LOOKS 64             /* of a spin, with the GIL held: 1 to 3 µs   */
#define CLOCK_LOOKS 32           /* between two looks at the clock */
#define SPIN INT64_C(100000)     /* longer than it takes to wake somebody: two who answer each other find out of sleep */
#define MOST_MISSES 6            /* 2^6 - 1 waits without a spin, and then one that tries again */

/* Tags of _codec/codec.py. */
#define TAG_PICKLE 0
#define TAG_BYTES 1
#define TAG_STR 2
#define TAG_NONE 4
#define TAG_FALSE 5
#define TAG_TRUE 6
#define TAG_INT 7
#define TAG_FLOAT 8

#define SHMQ_RARE __attribute__((cold, noinline)) /* keeps what follows out of the frequent path */

#define FAILED (-1) /* beside the results of the ring: a Python error is set */

typedef struct {
    PyObject *empty, *full;
    PyObject *claim_lost, *corrupt, *deserialization, *ours, *too_many;
    PyObject *handle_type, *not_given;
} module_state;

/* The bytes of an item. */
struct payload {
    PyObject *owner; /* of the bytes, if they are not in here; of an item that was taken, the bytes object itself */
    union {
        const char *data;
        char scalar[SHMQ_WORD];
    };
    uint32_t length;
    uint32_t tag;
};

struct handle;

/* A record, and the operation that uses it. */
struct seat {
    struct seat *next;
    struct handle *handle;
    struct shmq_ring ring; /* each seat has one, whose calls lead back here */
    struct shmq_participant me;
    uint64_t life;   /* of the process, when this was taken; in a forked child another: the record is the parent's */
    bool is_marked;  /* abandoned, and not clean yet */

    enum shmq_side side;
    struct payload *payloads; /* of a put: what to put; of a get: what it has taken */
    uint64_t count;
    uint64_t room;
    uint64_t limit;     /* of a get */
    uint64_t passed_on; /* the gate for which a wake was passed on */
    uint64_t shut;      /* the gate that this batch has closed */
    bool has_lock;      /* of batches */
};

/* What a handle takes from its codec. */
enum codec_part { DUMPS, LOADS, ENCODE, ENCODE_OBJECT, FIT, WITHDRAW, DECODE, FAIL_TO_DECODE, CODEC_PARTS };

/* Another number in every forked child. A handle looks at it when it is used, so a fork costs the same with many. */
static uint64_t current_life = 1;

typedef struct handle {
    PyObject_HEAD
    module_state *state;
    Py_buffer segment, lock;
    bool is_open, is_closed;
    uint64_t capacity, owner;
    uint32_t item_size;
    bool spsc;
    int64_t slice; /* the longest sleep */
    PyObject *engine, *calls, *kept_back, *on_keep_back;
    PyObject *codec[CODEC_PARTS];
    uint64_t roles[2]; /* the name under which this handle has a role, by shmq_side; 0 until it has taken it once */
    struct {
        unsigned misses; /* spins in a row that were in vain */
        unsigned skips;  /* waits that are not to spin */
    } spins[2];          /* by shmq_side */
    bool may_spin;       /* not with one processor */
    bool has_doorbell[2]; /* by shmq_side: tell the engine when there is nothing */
    struct seat *idle, *marked;
    Py_ssize_t operations; /* in progress */
    uint64_t life; /* of the process that these seats belong to */
} Handle;

static inline int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* ---- errors ------------------------------------------------------------------------------------------------------- */

/* Take the error that is set. */
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

/* Set an error again, whose reference is taken. */
static inline void raise_again(PyObject *error)
{
#if PY_VERSION_HEX >= 0x030C0000
    PyErr_SetRaisedException(error);
#else
    /* Not by PyErr_SetObject, which takes what the caller is handling for its context. */
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(error)), error, PyException_GetTraceback(error));
#endif
}

/* The error of a call that was made in order to raise it. */
static inline int fail_by(PyObject *nothing)
{
    if (nothing != NULL) {
        Py_DECREF(nothing);
        PyErr_SetString(PyExc_SystemError, "a function of this package that raises has returned");
    }
    return FAILED;
}

/* Raise an error that was made; NULL: making it has failed. */
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
    const struct seat *seat = context;
    const uint64_t namespace = owner >> SHMQ_OWNER_NAMESPACE_SHIFT;
    if (namespace == 0 || namespace != seat->ring.owner >> SHMQ_OWNER_NAMESPACE_SHIFT) {
        return true; /* it cannot be looked up from here */
    }
    return shmq_process_is_alive(owner & SHMQ_OWNER_PID_MASK, owner >> SHMQ_OWNER_PID_BITS & SHMQ_OWNER_START_MASK);
}

/* With the GIL held: who wakes must not wait for his turn. */
static int call_futex_wake(void *context, _Atomic uint64_t *word, int count)
{
    (void)context;
    const long woken = syscall(SYS_futex, shmq_low_half(word), FUTEX_WAKE, count, NULL, NULL, 0);
    return woken > 0 ? (int)woken : 0;
}

/* Ring a bell, as _platform/bells.py does. The socket lives for this one ring: a descriptor that is kept may be closed by the
   program, and its number is then a stranger's. */
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
    const ssize_t sent = sendto(sender, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&address, size);
    const bool is_rung = sent == 1 || errno == EAGAIN || errno == ENOBUFS; /* full of rings: it is rung */
    close(sender);
    return is_rung;
}

/* Sleep while a word is as it was read, without the GIL. */
static inline void sleep_on(_Atomic uint64_t *word, uint64_t expected, int64_t until)
{
    const int64_t left = until - now();
    if (left <= 0) {
        return;
    }
    const struct timespec time = {left / 1000000000, left % 1000000000};
    Py_BEGIN_ALLOW_THREADS
    syscall(SYS_futex, shmq_low_half(word), FUTEX_WAIT, (uint32_t)expected, &time, NULL, 0);
    Py_END_ALLOW_THREADS
}

/* ---- seats -------------------------------------------------------------------------------------------------------- */

static inline const char *data_of(const struct payload *payload)
{
    return payload->owner == NULL ? payload->scalar : payload->data;
}

/* The bytes object of a payload that was taken. */
static inline PyObject *bytes_of(const struct payload *payload)
{
    return payload->owner != NULL ? Py_NewRef(payload->owner)
                                  : PyBytes_FromStringAndSize(payload->scalar, payload->length);
}

/* Let go of the payloads from the one at `first` on. */
static inline void clear_payloads(struct seat *seat, uint64_t first)
{
    while (seat->count > first) {
        PyObject *owner = seat->payloads[--seat->count].owner;
        Py_XDECREF(owner); /* this may run anything */
    }
}

static inline void free_seat(struct seat *seat)
{
    clear_payloads(seat, 0);
    PyMem_Free(seat->payloads);
    PyMem_Free(seat);
}

static inline void free_seats(struct seat **list)
{
    while (*list != NULL) {
        struct seat *seat = *list;
        *list = seat->next;
        free_seat(seat);
    }
}

/* Give the record up with its seat. One that is marked stays marked until it is resolved; its process is alive, so
   nobody takes it. */
static inline void leave_seat(struct seat *seat)
{
    if (!seat->is_marked || shmq_clean(&seat->ring, &seat->me)) {
        shmq_leave_record(&seat->ring, &seat->me);
    }
    free_seat(seat);
}

static inline struct seat *new_seat(Handle *self)
{
    if (self->owner == 0) { /* in a forked child, see forget_parent */
        PyObject *settled = PyObject_CallMethod(self->engine, "settle", NULL);
        if (settled == NULL) {
            return NULL;
        }
        Py_DECREF(settled);
        if (self->life != current_life) { /* who was settled is the parent */
            fail_as_forked();
            return NULL;
        }
    }
    struct seat *seat = PyMem_Calloc(1, sizeof *seat);
    if (seat == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    const struct shmq_calls calls = {call_is_alive, call_futex_wake, call_ring_bell, seat};
    seat->handle = self;
    seat->life = current_life;
    shmq_open(&seat->ring, self->segment.buf, self->capacity, self->item_size, self->spsc, self->owner, calls);
    if (!shmq_take_record(&seat->ring, &seat->me)) {
        fail_with(PyObject_CallFunction(self->state->too_many, "i", SHMQ_RECORDS));
        free_seat(seat);
        return NULL;
    }
    return seat;
}

/* A seat whose abandoned record has become clean, or NULL. */
static inline struct seat *find_clean(Handle *self)
{
    struct seat *seat = self->marked;
    if (seat == NULL || !shmq_clean(&seat->ring, &seat->me)) {
        return NULL;
    }
    self->marked = seat->next;
    seat->is_marked = false;
    return seat;
}

/* Forget, in a forked child, what belongs to the parent. The segment is not touched; the first new seat settles who
   this is. */
static int forget_parent(Handle *self)
{
    PyObject *kept_back = PyObject_CallNoArgs((PyObject *)Py_TYPE(self->kept_back));
    if (kept_back == NULL) {
        return FAILED;
    }
    if (self->life == current_life) { /* another thread was let in, and was faster */
        Py_DECREF(kept_back);
        return 0;
    }
    self->life = current_life;
    self->owner = 0;
    self->operations = 0;
    self->roles[SHMQ_PUT] = self->roles[SHMQ_GET] = 0;
    self->has_doorbell[SHMQ_PUT] = self->has_doorbell[SHMQ_GET] = false;
    free_seats(&self->idle);
    free_seats(&self->marked);
    Py_SETREF(self->kept_back, kept_back);
    return 0;
}

/* Note the end of an operation of a closed handle; close may have waited for it in vain, in a signal handler of this very
   operation. */
SHMQ_RARE static void end_late(Handle *self)
{
    if (--self->operations > 0) {
        return;
    }
    PyObject *before = raised();
    PyObject *done = PyObject_CallMethod(self->engine, "ended", NULL);
    if (done == NULL) {
        PyErr_WriteUnraisable(self->engine);
    }
    Py_XDECREF(done);
    if (before != NULL) {
        raise_again(before);
    }
}

/* Begin an operation; NULL with an error. */
static inline struct seat *borrow(Handle *self, enum shmq_side side)
{
    if (self->life != current_life && forget_parent(self) < 0) {
        return NULL;
    }
    if (self->is_closed) {
        fail_as_closed(self);
        return NULL;
    }
    struct seat *seat = self->idle;
    self->operations++; /* from here on close() waits */
    if (seat != NULL) {
        self->idle = seat->next;
    } else {
        const uint64_t life = current_life;
        seat = find_clean(self);
        seat = seat != NULL ? seat : new_seat(self);
        if (seat == NULL) {
            if (life != current_life) {
                return NULL; /* forked in here: what is counted is the parent's */
            }
            if (self->is_closed) {
                end_late(self);
            } else {
                self->operations--;
            }
            return NULL;
        }
    }
    seat->side = side;
    seat->passed_on = seat->shut = 0;
    seat->has_lock = false;
    return seat;
}

/* End an operation; false, with an error, in a child that was forked in it: the record is the parent's, and so are the
   operation and what it has found. */
static inline bool give_back(struct seat *seat)
{
    Handle *self = seat->handle;
    clear_payloads(seat, 0);
    if (seat->life != current_life) {
        free_seat(seat);
        if (!PyErr_Occurred()) {
            fail_as_forked();
        }
        return false;
    }
    if (self->is_closed) {
        leave_seat(seat);
        end_late(self);
        return true;
    }
    self->operations--;
    if (seat->is_marked) {
        seat->next = self->marked;
        self->marked = seat;
    } else {
        seat->next = self->idle;
        self->idle = seat;
    }
    return true;
}

/* Make room for as many payloads in all. */
static inline int make_room(struct seat *seat, uint64_t count)
{
    if (count <= seat->room) {
        return 0;
    }
    const uint64_t room = count < 8 ? 8 : count;
    struct payload *payloads = PyMem_Realloc(seat->payloads, room * sizeof *payloads);
    if (payloads == NULL) {
        PyErr_NoMemory();
        return FAILED;
    }
    seat->payloads = payloads;
    seat->room = room;
    return 0;
}

static inline void add_taken(struct seat *seat, PyObject *bytes, uint32_t tag)
{
    seat->payloads[seat->count++] = (struct payload){
        .owner = bytes, .data = PyBytes_AS_STRING(bytes), .length = (uint32_t)PyBytes_GET_SIZE(bytes), .tag = tag};
}

/* ---- put ---------------------------------------------------------------------------------------------------------- */

/* Be the one producer (consumer), or raise; the claim follows without letting another thread in. */
static inline int take_role(struct seat *seat)
{
    Handle *self = seat->handle;
    struct shmq_header *header = seat->ring.header;
    _Atomic uint64_t *role = seat->side == SHMQ_PUT ? &header->producer : &header->consumer;
    if (!self->spsc) {
        return 0;
    }
    while (self->roles[seat->side] == 0 || SHMQ_LOAD("role", role, memory_order_acquire) != self->roles[seat->side]) {
        PyObject *name = PyObject_CallMethod(self->engine, "take_role", "i", (int)(seat->side == SHMQ_PUT));
        if (name == NULL) {
            return FAILED;
        }
        const uint64_t number = PyLong_AsUnsignedLongLong(name);
        Py_DECREF(name);
        if (number == (uint64_t)-1 && PyErr_Occurred()) {
            return FAILED;
        }
        if (seat->life != current_life) { /* the role is the parent's */
            return fail_as_forked();
        }
        self->roles[seat->side] = number;
    }
    return 0;
}

static inline int fail_as_corrupt(struct seat *seat)
{
    return fail_by(PyObject_CallMethod(seat->handle->engine, "corrupt", "KK",
                                       (unsigned long long)seat->me.bad_position,
                                       (unsigned long long)seat->me.bad_word));
}

static inline _Atomic int32_t *lock_flag(struct seat *seat)
{
    return seat->handle->lock.buf;
}

/* Put everything, or nothing. */
static inline int attempt_put(struct seat *seat, bool sure)
{
    struct shmq_ring *ring = &seat->ring;
    struct shmq_participant *me = &seat->me;
    if (take_role(seat) < 0) {
        return FAILED;
    }
    if (!seat->has_lock) {
        const uint64_t gate = shmq_gate(ring);
        if (gate != 0 && shmq_is_shut(gate, (uint64_t)now()) && !(sure && shmq_lock_is_forsaken(ring))) {
            if (gate != seat->passed_on) { /* the wake may have been meant for the batch: pass it on, once a lease */
                seat->passed_on = gate;
                shmq_wake(ring, &ring->header->space, 1);
            }
            return SHMQ_NOTHING;
        }
    }
    uint64_t position;
    const enum shmq_result claimed = shmq_claim_put(ring, me, seat->count, sure, &position);
    if (claimed != SHMQ_DONE) {
        return claimed == SHMQ_CORRUPT ? fail_as_corrupt(seat) : (int)claimed;
    }
    if (seat->has_lock) {
        shmq_open_gate(ring, shmq_gate(ring)); /* whoever has closed it: I have the lock, so that one is dead or gone */
        shmq_leave_lock(ring, me, lock_flag(seat));
        seat->has_lock = false;
    }
    for (uint64_t i = 0; i < seat->count; i++) {
        const struct payload *payload = &seat->payloads[i];
        shmq_write(ring, position + i, data_of(payload), payload->length, payload->tag, (uint32_t)i);
    }
    if (shmq_publish(ring, me, position, seat->count) == SHMQ_CLAIM_LOST) {
        PyErr_Format(seat->handle->state->claim_lost,
                     "the put at position %llu was declared dead; its items are not in the queue",
                     (unsigned long long)position);
        return FAILED;
    }
    return SHMQ_DONE;
}

/* ---- get ---------------------------------------------------------------------------------------------------------- */

/* Take what interrupted gets of this handle had taken. */
static inline int take_kept_back(struct seat *seat)
{
    Handle *self = seat->handle;
    while (seat->count < seat->limit && PyObject_Size(self->kept_back) > 0) {
        if (make_room(seat, seat->count + 1) < 0) {
            return FAILED;
        }
        PyObject *pair = PyObject_CallMethod(self->kept_back, "popleft", NULL);
        if (pair == NULL) {
            return FAILED;
        }
        PyObject *bytes;
        unsigned int tag;
        if (!PyArg_ParseTuple(pair, "SI", &bytes, &tag)) {
            Py_DECREF(pair);
            return FAILED;
        }
        add_taken(seat, Py_NewRef(bytes), tag);
        Py_DECREF(pair);
    }
    return seat->count > 0 ? SHMQ_DONE : SHMQ_NOTHING;
}

/* Copy and free what is claimed. Copies are objects of bytes, whose making runs nothing; it may fail for want of memory,
   and then the items go to other gets. */
static inline int take_claimed(struct seat *seat, uint64_t position, uint64_t count)
{
    struct shmq_ring *ring = &seat->ring;
    for (uint64_t i = 0; i < count; i++) {
        struct shmq_item item;
        shmq_read(ring, position + i, &item);
        if (item.tag >= TAG_NONE && item.tag <= TAG_FLOAT && item.length <= SHMQ_WORD) { /* spares an allocation */
            struct payload *payload = &seat->payloads[seat->count++];
            *payload = (struct payload){.owner = NULL, .length = item.length, .tag = item.tag};
            memcpy(payload->scalar, item.data, item.length);
            continue;
        }
        PyObject *bytes = PyBytes_FromStringAndSize((const char *)item.data, item.length);
        if (bytes == NULL) {
            clear_payloads(seat, 0);
            seat->is_marked = !shmq_abandon(ring, &seat->me);
            return FAILED;
        }
        add_taken(seat, bytes, item.tag);
    }
    seat->count = 0;
    for (uint64_t i = 0; i < count; i++) {
        if (shmq_free_slot(ring, position + i)) {
            seat->payloads[seat->count++] = seat->payloads[i];
        } else {
            Py_XDECREF(seat->payloads[i].owner); /* somebody has adopted it */
        }
    }
    shmq_finish_get(ring, &seat->me, count);
    return seat->count > 0 ? SHMQ_DONE : SHMQ_AGAIN;
}

/* Take over the item of a dead get. */
static inline int adopt(struct seat *seat, uint64_t position)
{
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, seat->ring.item_size);
    if (bytes == NULL || make_room(seat, 1) < 0) {
        Py_XDECREF(bytes);
        return FAILED;
    }
    struct shmq_item item;
    if (!shmq_rescue_get(&seat->ring, position, PyBytes_AS_STRING(bytes), &item)) {
        Py_DECREF(bytes);
        return SHMQ_AGAIN;
    }
    if (_PyBytes_Resize(&bytes, item.length) < 0) {
        return FAILED;
    }
    add_taken(seat, bytes, item.tag);
    return SHMQ_DONE;
}

/* Take one to `limit` items. */
static inline int attempt_get(struct seat *seat, bool sure)
{
    struct shmq_ring *ring = &seat->ring;
    if (PyObject_Size(seat->handle->kept_back) > 0) {
        const int found = take_kept_back(seat);
        if (found != SHMQ_NOTHING) {
            return found;
        }
    }
    if (take_role(seat) < 0) {
        return FAILED;
    }
    int found = SHMQ_AGAIN;
    for (int attempt = 0; attempt < SHMQ_ATTEMPTS && found == SHMQ_AGAIN; attempt++) {
        uint64_t most = 1;
        if (seat->limit > 1) { /* room for what is there, not for what could be */
            const uint64_t size = shmq_size(ring);
            most = size < 1 ? 1 : size < seat->limit ? size : seat->limit;
        }
        if (make_room(seat, most) < 0) {
            return FAILED;
        }
        uint64_t position, count;
        const enum shmq_result claimed = shmq_claim_get(ring, &seat->me, most, sure, &position, &count);
        if (claimed == SHMQ_DONE) {
            found = take_claimed(seat, position, count);
        } else if (claimed == SHMQ_CORRUPT) {
            found = fail_as_corrupt(seat);
        } else if (claimed == SHMQ_ORPHAN || (sure && shmq_find_orphan(ring, &position))) {
            found = adopt(seat, position);
        } else {
            return claimed;
        }
    }
    return found == SHMQ_AGAIN ? SHMQ_HELD : found;
}

/* Keep what a get has taken, from payload `first` on, for the next gets of this handle. FAILED: the note of it raised,
   a signal handler for example; an error that was set is then the context of that one, otherwise it stays set. */
static inline int keep_back(struct seat *seat, uint64_t first)
{
    Handle *self = seat->handle;
    if (seat->count <= first) {
        return 0;
    }
    PyObject *before = raised();
    if (seat->life == current_life) { /* otherwise the parent keeps it */
        for (uint64_t i = seat->count; i-- > first;) {
            const struct payload *payload = &seat->payloads[i];
            PyObject *bytes = bytes_of(payload);
            PyObject *kept = bytes == NULL
                                 ? NULL
                                 : PyObject_CallMethod(self->kept_back, "appendleft", "((NI))", bytes, payload->tag);
            if (kept == NULL) {
                PyErr_WriteUnraisable(self->kept_back);
            }
            Py_XDECREF(kept);
        }
        shmq_wake_all(&seat->ring, &seat->ring.header->items); /* another thread may wait for just these */
    }
    clear_payloads(seat, first);
    PyObject *noted = PyObject_CallNoArgs(self->on_keep_back);
    if (noted == NULL) {
        PyObject *late = raised();
        if (before != NULL) {
            PyException_SetContext(late, before);
        }
        return fail_with(late);
    }
    Py_DECREF(noted);
    if (before != NULL) {
        raise_again(before);
    }
    return 0;
}

/* ---- waiting ------------------------------------------------------------------------------------------------------ */

static inline int attempt(struct seat *seat, bool sure)
{
    return seat->side == SHMQ_PUT ? attempt_put(seat, sure) : attempt_get(seat, sure);
}

static inline bool is_over(int found)
{
    return found == SHMQ_DONE || found == FAILED;
}

/* Whether an attempt may succeed; a look at two words, and the GIL is not needed. */
static inline bool looks_ready(const struct seat *seat)
{
    const struct shmq_ring *ring = &seat->ring;
    if (seat->side == SHMQ_PUT) {
        const uint64_t p = SHMQ_LOAD("P1", &ring->header->tail, memory_order_acquire) + seat->count - 1;
        const uint64_t word = SHMQ_LOAD("P2", &shmq_slot_of(ring, p)->word, memory_order_acquire);
        return shmq_position_of(word) >= p || word == shmq_word_of(p - ring->capacity, SHMQ_TOMB);
    }
    const uint64_t p = SHMQ_LOAD("G1", &ring->header->head, memory_order_acquire);
    const uint64_t word = SHMQ_LOAD("G2", &shmq_slot_of(ring, p)->word, memory_order_acquire);
    return shmq_position_of(word) >= p && word != shmq_word_of(p, SHMQ_FREE);
}

/* Look up to `looks` times. */
static inline bool look(const struct seat *seat, unsigned looks)
{
    while (looks-- > 0) {
        if (looks_ready(seat)) {
            return true;
        }
        shmq_relax();
        shmq_relax();
    }
    return false;
}

/* Look for a while before anybody sleeps: first with the GIL, which costs more to give back than a prompt answer takes.
   After spins in vain, the next waits do without; but never for good, or two who answer each other would go on to wake
   each other for ever. */
static inline int spin(struct seat *seat)
{
    Handle *self = seat->handle;
    if (!self->may_spin) {
        return SHMQ_NOTHING;
    }
    if (look(seat, GIL_LOOKS)) {
        return attempt(seat, false);
    }
    unsigned *misses = &self->spins[seat->side].misses, *skips = &self->spins[seat->side].skips;
    if (*skips > 0) {
        (*skips)--;
        return SHMQ_NOTHING;
    }
    bool ready;
    Py_BEGIN_ALLOW_THREADS
    const int64_t until = now() + SPIN;
    do {
        ready = look(seat, CLOCK_LOOKS);
    } while (!ready && now() < until);
    Py_END_ALLOW_THREADS
    *misses = ready ? 0 : *misses < MOST_MISSES ? *misses + 1 : MOST_MISSES;
    *skips = (1U << *misses) - 1;
    return ready ? attempt(seat, false) : SHMQ_NOTHING;
}

/* Raise what signals and other threads have for this thread; or that the handle was closed, or that this is a child. */
static inline int after_sleep(struct seat *seat)
{
    Handle *self = seat->handle;
    PyObject *served = PyObject_CallMethod(self->engine, "serve", NULL);
    if (served == NULL) {
        return FAILED;
    }
    Py_DECREF(served);
    if (seat->life != current_life) {
        return fail_as_forked();
    }
    return self->is_closed ? fail_as_closed(self) : 0;
}

/* Let the doorbell of this side wait for what this operation has not found. */
static inline int tell_doorbell(struct seat *seat)
{
    PyObject *told = PyObject_CallMethod(seat->handle->engine, "nothing_found", "i", seat->side == SHMQ_PUT);
    Py_XDECREF(told);
    return told == NULL || after_sleep(seat) < 0 ? FAILED : SHMQ_NOTHING;
}

/* Attempt once more, and be patient with an operation that is about to end: it is no reason to say no. */
static inline int look_once(struct seat *seat)
{
    const int64_t start = now();
    for (;;) {
        const int found = attempt(seat, true);
        const int64_t waited = now() - start;
        if (is_over(found)) {
            return found;
        }
        if (found == SHMQ_NOTHING || waited > PATIENCE) {
            struct shmq_header *header = seat->ring.header;
            SHMQ_ADD("count", seat->side == SHMQ_PUT ? &header->full_events : &header->empty_events, 1,
                     memory_order_relaxed);
            return seat->handle->has_doorbell[seat->side] ? tell_doorbell(seat) : SHMQ_NOTHING;
        }
        Py_BEGIN_ALLOW_THREADS
        if (waited < YIELDING) {
            sched_yield();
        } else {
            nanosleep(&(struct timespec){0, NAP}, NULL);
        }
        Py_END_ALLOW_THREADS
        if (after_sleep(seat) < 0) {
            return FAILED;
        }
    }
}

static inline int64_t earlier(int64_t one, int64_t other)
{
    return one < other ? one : other;
}

/* Attempt until it is done or the time is over; nothing is announced while this sleeps. */
static inline int wait_until(struct seat *seat, int64_t until)
{
    Handle *self = seat->handle;
    struct shmq_header *header = seat->ring.header;
    struct shmq_wake_words *side = seat->side == SHMQ_PUT ? &header->space : &header->items;
    if (until == 0) {
        return look_once(seat);
    }
    int found = spin(seat);
    if (!is_over(found)) {
        found = attempt(seat, true);
    }
    while (!is_over(found) && now() < until) {
        if (seat->has_lock) {
            seat->shut = shmq_shut_gate(&seat->ring, (uint64_t)now());
        }
        SHMQ_ADD("count", seat->side == SHMQ_PUT ? &header->put_waits : &header->get_waits, 1, memory_order_relaxed);
        const uint64_t epoch = shmq_arm(side);
        found = self->is_closed ? SHMQ_HELD : attempt(seat, true); /* [W3] */
        if (is_over(found)) {
            break;
        }
        if (!self->is_closed) {
            const int64_t longest = earlier(found == SHMQ_HELD ? HELD_SLICE : self->slice, FOREVER - now());
            sleep_on(&side->epoch, epoch, earlier(until, now() + longest));
        }
        if (after_sleep(seat) < 0) {
            return FAILED;
        }
        found = attempt(seat, false);
    }
    return is_over(found) ? found : look_once(seat);
}

/* ---- the lock of batches ------------------------------------------------------------------------------------------ */

static inline int take_lock(struct seat *seat, int64_t until)
{
    Handle *self = seat->handle;
    struct shmq_header *header = seat->ring.header;
    uint64_t holder;
    while (!shmq_take_lock(&seat->ring, &seat->me, lock_flag(seat), &holder)) {
        const int64_t time = now();
        if (time >= until) {
            SHMQ_ADD("count", &header->full_events, 1, memory_order_relaxed);
            return SHMQ_NOTHING;
        }
        /* Without an owner somebody is between the two words, and his wake may be past already. */
        const int64_t longest = holder != 0 ? self->slice : BETWEEN;
        sleep_on(&header->batch_owner, holder, earlier(until, time + earlier(longest, FOREVER - time)));
        if (after_sleep(seat) < 0) {
            return FAILED;
        }
    }
    seat->has_lock = true;
    return SHMQ_DONE;
}

static inline int put_together(struct seat *seat, int64_t until)
{
    if (take_role(seat) < 0) {
        return FAILED;
    }
    int found = take_lock(seat, until != 0 ? until : now() + PATIENCE);
    if (found != SHMQ_DONE) {
        return found == SHMQ_NOTHING && seat->handle->has_doorbell[SHMQ_PUT] ? tell_doorbell(seat) : found;
    }
    found = attempt(seat, false);
    if (!is_over(found)) {
        found = wait_until(seat, until);
    }
    if (seat->has_lock && seat->life == current_life) {
        shmq_open_gate(&seat->ring, seat->shut);
        shmq_leave_lock(&seat->ring, &seat->me, lock_flag(seat));
    }
    return found;
}

#endif
