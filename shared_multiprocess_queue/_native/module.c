/* The native engine's door to Python: the calls of _engine/calls.py, which also tells why a get is a subscription.

   A Handle does what is plain, and leaves to the calls in Python whatever is not: a handle that is closed, arguments that
   are wrong or unusual. So there is one place that knows the messages.

   Not declared safe without the GIL: the pool of seats and the roles of mode spsc rely on it (see handle.h). */

#include "handle.h"

/* ---- arguments ---------------------------------------------------------------------------------------------------- */

/* When a call has to end; -1: this is for the calls in Python. */
static int64_t deadline_of(PyObject *block, PyObject *timeout)
{
    if (block == Py_False) {
        return 0;
    }
    if (block != Py_True) {
        return -1;
    }
    if (timeout == Py_None) {
        return FOREVER;
    }
    if (!PyFloat_CheckExact(timeout) && !(PyLong_CheckExact(timeout))) {
        return -1;
    }
    const double seconds = PyFloat_AsDouble(timeout);
    if (!(seconds >= 0)) {
        PyErr_Clear(); /* an int may be too large */
        return -1;
    }
    if (seconds == 0) {
        return 0;
    }
    return seconds < 9e9 ? now() + (int64_t)(seconds * 1e9) : FOREVER;
}

/* ---- items -------------------------------------------------------------------------------------------------------- */

#define PICKLE_PROTOCOL 5
#define LOOKED_THROUGH 256 /* objects of an item; a longer one takes much longer to pickle than the codec's ways take */
#define LOOKED_DEEP 16

/* Turn a scalar into bytes; false: it is none, or an int of more than 64 bits. */
static bool encode_scalar(PyObject *item, struct payload *payload)
{
    _Static_assert(sizeof(int64_t) == SHMQ_WORD && sizeof(double) == SHMQ_WORD, "a number is a word");
    payload->owner = NULL;
    payload->length = 0;
    if (PyLong_CheckExact(item)) {
        int overflow;
        const int64_t number = PyLong_AsLongLongAndOverflow(item, &overflow);
        if (overflow != 0) {
            return false;
        }
        payload->tag = TAG_INT;
        payload->length = sizeof number;
        memcpy(payload->scalar, &number, sizeof number);
    } else if (PyFloat_CheckExact(item)) {
        const double number = PyFloat_AS_DOUBLE(item);
        payload->tag = TAG_FLOAT;
        payload->length = sizeof number;
        memcpy(payload->scalar, &number, sizeof number);
    } else if (item == Py_None) {
        payload->tag = TAG_NONE;
    } else if (PyBool_Check(item)) {
        payload->tag = item == Py_True ? TAG_TRUE : TAG_FALSE;
    } else {
        return false;
    }
    return true;
}

/* Turn a scalar back; NULL without an error: its bytes are wrong, and the codec says it. */
static PyObject *decode_scalar(const struct payload *payload)
{
    if (payload->length == SHMQ_WORD && payload->tag == TAG_INT) {
        int64_t number;
        memcpy(&number, data_of(payload), sizeof number);
        return PyLong_FromLongLong(number);
    }
    if (payload->length == SHMQ_WORD && payload->tag == TAG_FLOAT) {
        double number;
        memcpy(&number, data_of(payload), sizeof number);
        return PyFloat_FromDouble(number);
    }
    if (payload->length == 0 && payload->tag == TAG_NONE) {
        return Py_NewRef(Py_None);
    }
    if (payload->length == 0 && (payload->tag == TAG_FALSE || payload->tag == TAG_TRUE)) {
        return PyBool_FromLong(payload->tag == TAG_TRUE);
    }
    return NULL;
}

static inline bool is_leaf(PyObject *item)
{
    PyTypeObject *const type = Py_TYPE(item);
    return type == &PyUnicode_Type || type == &PyLong_Type || type == &PyFloat_Type || item == Py_None ||
           type == &PyBool_Type || type == &PyBytes_Type || type == &PyByteArray_Type;
}

/* Whether an item consists of objects of exact built-in types alone. To pickle such an item runs no code of the user.
   False also where there is more to look through than the room says, which is what is left of it. */
static bool is_built_in(PyObject *item, Py_ssize_t *room, int depth)
{
    if (is_leaf(item)) {
        return true;
    }
    const bool is_dict = PyDict_CheckExact(item), is_set = PyAnySet_CheckExact(item);
    if (depth == 0 || !(is_dict || is_set || PyList_CheckExact(item) || PyTuple_CheckExact(item))) {
        return false;
    }
    *room -= is_dict ? PyDict_GET_SIZE(item) : is_set ? PySet_GET_SIZE(item) : Py_SIZE(item);
    if (*room < 0) {
        return false;
    }
    bool found = true;
    if (is_dict) {
        PyObject *key, *value;
        Py_ssize_t at = 0;
        while (found && PyDict_Next(item, &at, &key, &value)) {
            if (!is_leaf(key) || !is_leaf(value)) { /* a collection in the look at a set may empty this */
                Py_INCREF(key);
                Py_INCREF(value);
                found = is_built_in(key, room, depth - 1) && is_built_in(value, room, depth - 1);
                Py_DECREF(key);
                Py_DECREF(value);
            }
        }
    } else if (!is_set) {
        for (Py_ssize_t i = 0; found && i < Py_SIZE(item); i++) {
            PyObject *part = PySequence_Fast_GET_ITEM(item, i);
            if (!is_leaf(part)) {
                Py_INCREF(part);
                found = is_built_in(part, room, depth - 1);
                Py_DECREF(part);
            }
        }
    } else {
        PyObject *parts = PyObject_GetIter(item);
        PyObject *part;
        found = parts != NULL;
        while (found && (part = PyIter_Next(parts)) != NULL) {
            found = is_built_in(part, room, depth - 1);
            Py_DECREF(part);
        }
        Py_XDECREF(parts);
        if (PyErr_Occurred()) { /* there is no memory for the iterator */
            PyErr_Clear();
            found = false;
        }
    }
    return found;
}

/* What Codec.encode does with an item that needs pickle; returns bytes and tag as a tuple, or just the bytes. */
static PyObject *pickle(Handle *self, PyObject *item)
{
    Py_ssize_t room = LOOKED_THROUGH;
    if (!PyUnicode_CheckExact(item) && is_built_in(item, &room, LOOKED_DEEP)) {
        PyObject *protocol = PyLong_FromLong(PICKLE_PROTOCOL);
        PyObject *arguments[] = {item, protocol};
        PyObject *stream = protocol == NULL ? NULL : PyObject_Vectorcall(self->codec[DUMPS], arguments, 2, NULL);
        Py_XDECREF(protocol);
        if (stream != NULL || !PyErr_ExceptionMatches(PyExc_Exception)) {
            return stream;
        }
        PyErr_Clear(); /* the codec says it better */
    }
    return PyObject_CallOneArg(self->codec[PyUnicode_CheckExact(item) ? ENCODE : ENCODE_OBJECT], item);
}

/* Have the codec make a payload fit that is too large for a slot; it raises ItemTooLargeError where it cannot. */
static int fit(Handle *self, Py_ssize_t index, Py_ssize_t length, struct payload *payload)
{
    PyObject *bytes = payload->owner != NULL && PyBytes_Check(payload->owner)
                          ? Py_NewRef(payload->owner)
                          : PyBytes_FromStringAndSize(payload->owner == NULL ? payload->scalar : payload->data, length);
    PyObject *place = index < 0 ? Py_NewRef(Py_None) : PyLong_FromSsize_t(index);
    PyObject *fitting = bytes == NULL || place == NULL
                            ? NULL
                            : PyObject_CallFunction(self->codec[FIT], "OIO", bytes, payload->tag, place);
    Py_XDECREF(bytes);
    Py_XDECREF(place);
    Py_CLEAR(payload->owner);
    PyObject *smaller;
    unsigned int tag;
    if (fitting == NULL || !PyArg_ParseTuple(fitting, "SI", &smaller, &tag)) {
        Py_XDECREF(fitting);
        return FAILED;
    }
    if (PyBytes_GET_SIZE(smaller) > (Py_ssize_t)self->item_size) { /* it would be written into the next slot */
        PyErr_SetString(PyExc_SystemError, "what a codec made fit does not fit");
        Py_DECREF(fitting);
        return FAILED;
    }
    payload->owner = Py_NewRef(smaller);
    payload->tag = tag;
    payload->data = PyBytes_AS_STRING(smaller);
    payload->length = (uint32_t)PyBytes_GET_SIZE(smaller);
    Py_DECREF(fitting);
    return 0;
}

/* Turn an item into bytes; may run the user's code. The index is its place in its batch, -1 for a single item. */
static int encode(Handle *self, PyObject *item, Py_ssize_t index, struct payload *payload)
{
    Py_ssize_t length;
    if (PyBytes_CheckExact(item)) {
        payload->owner = Py_NewRef(item);
        payload->tag = TAG_BYTES;
        payload->data = PyBytes_AS_STRING(item);
        length = PyBytes_GET_SIZE(item);
    } else if (PyUnicode_CheckExact(item) && PyUnicode_IS_COMPACT_ASCII(item)) {
        payload->owner = Py_NewRef(item);
        payload->tag = TAG_STR;
        payload->data = (const char *)PyUnicode_1BYTE_DATA(item);
        length = PyUnicode_GET_LENGTH(item);
    } else if (encode_scalar(item, payload)) {
        length = payload->length;
    } else {
        PyObject *encoded = pickle(self, item);
        PyObject *bytes = encoded;
        unsigned int tag = TAG_PICKLE;
        if (encoded == NULL || (!PyBytes_CheckExact(encoded) && !PyArg_ParseTuple(encoded, "SI", &bytes, &tag))) {
            Py_XDECREF(encoded);
            return FAILED;
        }
        payload->owner = Py_NewRef(bytes);
        payload->tag = tag;
        payload->data = PyBytes_AS_STRING(bytes);
        length = PyBytes_GET_SIZE(bytes);
        Py_DECREF(encoded);
    }
    if (length > (Py_ssize_t)self->item_size) {
        return fit(self, index, length, payload);
    }
    payload->length = (uint32_t)length;
    return 0;
}

/* Turn bytes back into an item; may run the user's code. */
static PyObject *decode(Handle *self, const struct payload *payload)
{
    if (payload->tag == TAG_BYTES) {
        return Py_NewRef(payload->owner);
    }
    if (payload->tag == TAG_STR) {
        PyObject *text = PyUnicode_DecodeUTF8(payload->data, payload->length, "surrogatepass");
        if (text != NULL || !PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
            return text;
        }
        PyErr_Clear(); /* the codec says it better */
    }
    if (payload->tag == TAG_PICKLE) {
        PyObject *item = PyObject_CallOneArg(self->codec[LOADS], payload->owner);
        if (item == NULL && PyErr_ExceptionMatches(PyExc_Exception)) {
            PyObject *error = raised();
            fail_by(PyObject_CallFunctionObjArgs(self->codec[FAIL_TO_DECODE], payload->owner, error, NULL));
            Py_DECREF(error);
        }
        return item;
    }
    PyObject *scalar = decode_scalar(payload);
    if (scalar != NULL || PyErr_Occurred()) {
        return scalar;
    }
    if (payload->tag == SHMQ_CORRUPT_TAG) {
        fail_by(PyObject_CallMethod(self->engine, "corrupt_slot", NULL));
        return NULL;
    }
    PyObject *bytes = bytes_of(payload);
    PyObject *tag = PyLong_FromUnsignedLong(payload->tag);
    PyObject *item = bytes == NULL || tag == NULL ? NULL : PyObject_CallFunctionObjArgs(self->codec[DECODE], bytes, tag, NULL);
    Py_XDECREF(bytes);
    Py_XDECREF(tag);
    return item;
}

/* Make what a get returns from what it has taken. An item that cannot be rebuilt is consumed; whatever else is raised
   is not the item's fault, and everything is kept back. */
static PyObject *deliver(struct seat *seat, bool is_batch)
{
    Handle *self = seat->handle;
    PyObject *result = is_batch ? PyList_New(0) : NULL;
    if (is_batch && result == NULL) {
        goto failed;
    }
    for (uint64_t i = 0; i < seat->count; i++) {
        PyObject *item = decode(self, &seat->payloads[i]);
        if (item == NULL) {
            if (!PyErr_ExceptionMatches(self->state->deserialization) && !PyErr_ExceptionMatches(self->state->corrupt)) {
                goto failed;
            }
            if (i > 0) {
                PyErr_Clear(); /* the next call raises it */
            }
            if (keep_back(seat, i > 0 ? i : 1) < 0) {
                goto failed;
            }
            if (i > 0) {
                break;
            }
            clear_payloads(seat, 0); /* consumed */
            goto failed;
        }
        if (!is_batch) {
            result = item;
            break;
        }
        const int appended = PyList_Append(result, item);
        Py_DECREF(item);
        if (appended < 0) {
            goto failed;
        }
    }
    /* A signal may have come, or an exception of another thread. The interpreter looks for them when the caller has the
       item. */
    return result;

failed:
    Py_XDECREF(result);
    keep_back(seat, 0);
    return NULL;
}

/* ---- the calls ---------------------------------------------------------------------------------------------------- */

/* Have the codec close what items that were not put would have led their receivers to. The error that is set stays,
   unless another comes here. */
static int withdraw(Handle *self, const struct payload *payloads, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        PyObject *owner = payloads[i].owner;
        if (owner != NULL && PyBytes_Check(owner) && !PyBytes_CheckExact(owner)) {
            PyObject *before = raised();
            PyObject *done = PyObject_CallOneArg(self->codec[WITHDRAW], owner);
            if (done != NULL && before != NULL) {
                raise_again(before);
            } else {
                Py_XDECREF(before);
            }
            if (done == NULL) {
                return FAILED;
            }
            Py_DECREF(done);
        }
    }
    return 0;
}

static PyObject *end_put(struct seat *seat, int found)
{
    module_state *state = seat->handle->state;
    /* After an exception from outside they may have been put. */
    if (found != SHMQ_DONE && (found != FAILED || PyErr_ExceptionMatches(state->ours)) &&
        withdraw(seat->handle, seat->payloads, seat->count) < 0) {
        found = FAILED;
    }
    if (!give_back(seat)) {
        return NULL;
    }
    if (found == SHMQ_DONE) {
        Py_RETURN_NONE;
    }
    if (found != FAILED) {
        PyErr_SetNone(state->full);
    }
    return NULL;
}

static PyObject *put_item(Handle *self, PyObject *item, int64_t until)
{
    struct payload payload;
    if (encode(self, item, -1, &payload) < 0) {
        return NULL;
    }
    struct seat *seat = borrow(self, SHMQ_PUT);
    if (seat == NULL || make_room(seat, 1) < 0) {
        withdraw(self, &payload, 1);
        Py_XDECREF(payload.owner);
        return seat == NULL ? NULL : end_put(seat, FAILED);
    }
    seat->payloads[0] = payload;
    seat->count = 1;
    int found = attempt(seat, false);
    if (!is_over(found)) {
        found = wait_until(seat, until);
    }
    return end_put(seat, found);
}

static PyObject *handle_put(Handle *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 4) {
        PyErr_SetString(PyExc_TypeError, "put takes item, block, timeout and obj");
        return NULL;
    }
    PyObject *not_given = self->state->not_given;
    const bool is_plain = !self->is_closed && args[0] != not_given && args[3] == not_given;
    const int64_t until = is_plain ? deadline_of(args[1], args[2]) : -1;
    if (until < 0) {
        return PyObject_CallMethod(self->calls, "put", "OOOO", args[0], args[1], args[2], args[3]);
    }
    return put_item(self, args[0], until);
}

static PyObject *handle_put_batch(Handle *self, PyObject *const *args, Py_ssize_t given)
{
    if (given != 3) {
        PyErr_SetString(PyExc_TypeError, "put_batch takes items, block and timeout");
        return NULL;
    }
    const int64_t until = self->is_closed ? -1 : deadline_of(args[1], args[2]);
    if (until < 0) {
        return PyObject_CallMethod(self->calls, "put_batch", "OOO", args[0], args[1], args[2]);
    }
    PyObject *items = PySequence_List(args[0]);
    if (items == NULL) {
        return NULL;
    }
    const Py_ssize_t count = PyList_GET_SIZE(items);
    if ((uint64_t)count > self->capacity || (uint64_t)count > SHMQ_MAX_BATCH) {
        PyObject *refused = PyObject_CallMethod(self->calls, "put_batch", "OOO", items, args[1], args[2]);
        Py_DECREF(items);
        return refused;
    }
    struct payload *payloads = PyMem_Calloc((size_t)count + 1, sizeof *payloads);
    Py_ssize_t encoded = 0;
    PyObject *result = NULL;
    if (payloads == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    for (; encoded < count; encoded++) {
        if (encode(self, PyList_GET_ITEM(items, encoded), encoded, &payloads[encoded]) < 0) {
            goto done;
        }
    }
    if (count == 0) {
        result = Py_NewRef(Py_None);
        goto done;
    }
    struct seat *seat = borrow(self, SHMQ_PUT);
    if (seat != NULL) {
        PyMem_Free(seat->payloads);
        seat->payloads = payloads;
        seat->count = seat->room = (uint64_t)count;
        payloads = NULL;
        encoded = 0;
        result = end_put(seat, put_together(seat, until));
    }
done:
    withdraw(self, payloads, (uint64_t)encoded); /* there are any only if they were not put */
    while (encoded > 0) {
        encoded--;
        Py_XDECREF(payloads[encoded].owner);
    }
    PyMem_Free(payloads);
    Py_DECREF(items);
    return result;
}

static PyObject *get_items(Handle *self, uint64_t limit, int64_t until, bool is_batch)
{
    module_state *state = self->state;
    struct seat *seat = borrow(self, SHMQ_GET);
    if (seat == NULL) {
        return NULL;
    }
    seat->limit = limit;
    int found = attempt(seat, false);
    if (!is_over(found)) {
        found = wait_until(seat, until);
    }
    PyObject *result = NULL;
    if (found == SHMQ_DONE) {
        result = deliver(seat, is_batch);
    } else if (found == FAILED) {
        keep_back(seat, 0);
    } else {
        PyErr_SetNone(state->empty);
    }
    if (!give_back(seat)) {
        Py_CLEAR(result);
    }
    return result;
}

/* At most how many items a get_batch takes; 0: this is for the calls in Python. */
static uint64_t limit_of(const Handle *self, PyObject *max_items)
{
    if (!PyLong_CheckExact(max_items)) {
        return 0;
    }
    int overflow;
    const long long most = PyLong_AsLongLongAndOverflow(max_items, &overflow);
    if (overflow < 0 || (overflow == 0 && most < 1)) {
        return 0;
    }
    return overflow > 0 || (uint64_t)most > self->capacity ? self->capacity : (uint64_t)most;
}

/* Take one item for [block, timeout], a list of them for [max_items, block, timeout]. */
static PyObject *handle_subscript(Handle *self, PyObject *wish)
{
    const Py_ssize_t count = PyTuple_CheckExact(wish) ? PyTuple_GET_SIZE(wish) : 0;
    if (!self->is_closed && (count == 2 || count == 3)) {
        const bool is_batch = count == 3;
        const int64_t until = deadline_of(PyTuple_GET_ITEM(wish, count - 2), PyTuple_GET_ITEM(wish, count - 1));
        const uint64_t limit = is_batch ? limit_of(self, PyTuple_GET_ITEM(wish, 0)) : 1;
        if (until >= 0 && limit > 0) {
            return get_items(self, limit, until, is_batch);
        }
    }
    return PyObject_GetItem(self->calls, wish);
}

/* ---- Handle ------------------------------------------------------------------------------------------------------- */

static PyObject *handle_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"segment", "lock",          "capacity", "item_size", "spsc",         "owner", "slice",
                            "may_spin", "engine",        "codec",    "calls",     "kept_back",    "on_keep_back", NULL};
    static const char *const parts[CODEC_PARTS] = {"dumps", "loads",    "encode", "encode_object",
                                                   "fit",   "withdraw", "decode", "fail_to_decode"};
    PyObject *segment, *lock, *engine, *codec, *calls, *kept_back, *on_keep_back;
    unsigned long long capacity, owner;
    unsigned int item_size;
    long long slice;
    int spsc, may_spin;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "OOKIpKLpOOOOO", names, &segment, &lock, &capacity, &item_size,
                                     &spsc, &owner, &slice, &may_spin, &engine, &codec, &calls, &kept_back,
                                     &on_keep_back)) {
        return NULL;
    }
    Handle *self = (Handle *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->state = PyType_GetModuleState(type);
    self->engine = Py_NewRef(engine);
    self->calls = Py_NewRef(calls);
    self->kept_back = Py_NewRef(kept_back);
    self->on_keep_back = Py_NewRef(on_keep_back);
    self->capacity = capacity;
    self->item_size = item_size;
    self->spsc = spsc;
    self->owner = owner;
    self->life = current_life;
    self->slice = slice;
    self->may_spin = may_spin;
    for (size_t part = 0; part < CODEC_PARTS; part++) {
        self->codec[part] = PyObject_GetAttrString(codec, parts[part]);
        if (self->codec[part] == NULL) {
            Py_DECREF(self);
            return NULL;
        }
    }
    if (PyObject_GetBuffer(segment, &self->segment, PyBUF_WRITABLE) < 0 ||
        PyObject_GetBuffer(lock, &self->lock, PyBUF_WRITABLE) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    /* Divided, not multiplied: the sizes may be anything. */
    const uint64_t bytes = (uint64_t)self->segment.len;
    if (capacity < 1 || capacity > SHMQ_MAX_CAPACITY || item_size < 1 || item_size > SHMQ_MAX_ITEM_SIZE ||
        bytes < SHMQ_SLOTS_START || (bytes - SHMQ_SLOTS_START) / SHMQ_STRIDE(item_size) < capacity ||
        (uintptr_t)self->segment.buf % SHMQ_LINE != 0 || self->lock.len < 4 || (uintptr_t)self->lock.buf % 4 != 0) {
        PyErr_Format(PyExc_ValueError, "%llu slots of %u bytes do not fit into a segment of %llu bytes, or the lock "
                                       "has not 4",
                     capacity, item_size, (unsigned long long)bytes);
        Py_DECREF(self);
        return NULL;
    }
    self->is_open = true;
    return (PyObject *)self;
}

static int handle_traverse(Handle *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->engine);
    for (size_t part = 0; part < CODEC_PARTS; part++) {
        Py_VISIT(self->codec[part]);
    }
    Py_VISIT(self->calls);
    Py_VISIT(self->kept_back);
    Py_VISIT(self->on_keep_back);
    return 0;
}

static int handle_clear(Handle *self)
{
    Py_CLEAR(self->engine);
    for (size_t part = 0; part < CODEC_PARTS; part++) {
        Py_CLEAR(self->codec[part]);
    }
    Py_CLEAR(self->calls);
    Py_CLEAR(self->kept_back);
    Py_CLEAR(self->on_keep_back);
    return 0;
}

static void handle_dealloc(Handle *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    free_seats(&self->idle);
    free_seats(&self->marked);
    PyBuffer_Release(&self->segment);
    PyBuffer_Release(&self->lock);
    handle_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *handle_shut(Handle *self, PyObject *nothing)
{
    (void)nothing;
    self->is_closed = true;
    Py_RETURN_NONE;
}

static PyObject *handle_leave(Handle *self, PyObject *nothing)
{
    (void)nothing;
    if (self->life != current_life && forget_parent(self) < 0) {
        return NULL;
    }
    struct seat **lists[] = {&self->idle, &self->marked};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(lists); i++) {
        while (*lists[i] != NULL) {
            struct seat *seat = *lists[i];
            *lists[i] = seat->next;
            leave_seat(seat);
        }
    }
    return PyBool_FromLong(self->operations == 0);
}

static PyObject *handle_release(Handle *self, PyObject *nothing)
{
    (void)nothing;
    if (self->operations == 0) {
        self->is_open = false;
        self->is_closed = true;
        free_seats(&self->idle);
        free_seats(&self->marked);
        PyBuffer_Release(&self->segment);
        PyBuffer_Release(&self->lock);
        /* Engine and codec stay: this may be inside the pickling of an item, which needs them to say that it is closed. */
    }
    Py_RETURN_NONE;
}

static PyObject *handle_wake_all(Handle *self, PyObject *nothing)
{
    (void)nothing;
    if (self->is_open) {
        struct shmq_ring ring;
        shmq_open(&ring, self->segment.buf, self->capacity, self->item_size, self->spsc, self->owner,
                  (struct shmq_calls){call_is_alive, call_futex_wake, call_ring_bell, NULL});
        shmq_wake_all(&ring, &ring.header->items);
        shmq_wake_all(&ring, &ring.header->space);
        call_futex_wake(NULL, &ring.header->batch_owner, INT_MAX);
    }
    Py_RETURN_NONE;
}

static PyObject *handle_settle(Handle *self, PyObject *args)
{
    unsigned long long owner;
    PyObject *kept_back;
    if (!PyArg_ParseTuple(args, "KO", &owner, &kept_back)) {
        return NULL;
    }
    if (self->life != current_life && forget_parent(self) < 0) { /* first, or the first call forgets this again */
        return NULL;
    }
    self->owner = owner;
    Py_XSETREF(self->kept_back, Py_NewRef(kept_back));
    Py_RETURN_NONE;
}

static PyObject *handle_size(Handle *self, PyObject *nothing)
{
    (void)nothing;
    struct seat *seat = borrow(self, SHMQ_GET);
    if (seat == NULL) {
        return NULL;
    }
    uint64_t size = shmq_size(&seat->ring);
    if (size > 0 && shmq_is_empty(&seat->ring)) {
        size = 0; /* all that was put died */
    }
    size += (uint64_t)PyObject_Size(self->kept_back);
    give_back(seat);
    return PyLong_FromUnsignedLongLong(size);
}

static PyObject *handle_is_empty(Handle *self, PyObject *nothing)
{
    (void)nothing;
    struct seat *seat = borrow(self, SHMQ_GET);
    if (seat == NULL) {
        return NULL;
    }
    const bool empty = PyObject_Size(self->kept_back) == 0 && shmq_is_empty(&seat->ring);
    give_back(seat);
    return PyBool_FromLong(empty);
}

static PyObject *handle_is_full(Handle *self, PyObject *nothing)
{
    (void)nothing;
    struct seat *seat = borrow(self, SHMQ_PUT);
    if (seat == NULL) {
        return NULL;
    }
    const bool full = !shmq_has_room(&seat->ring);
    give_back(seat);
    return PyBool_FromLong(full);
}

static PyObject *handle_set_doorbell(Handle *self, PyObject *args)
{
    int puts, is_there;
    if (!PyArg_ParseTuple(args, "pp", &puts, &is_there)) {
        return NULL;
    }
    if (self->life != current_life && forget_parent(self) < 0) {
        return NULL;
    }
    self->has_doorbell[puts ? SHMQ_PUT : SHMQ_GET] = is_there;
    Py_RETURN_NONE;
}

static PyMethodDef handle_methods[] = {
    {"put", (PyCFunction)(void (*)(void))handle_put, METH_FASTCALL, "Put an item, as _engine/calls.py does."},
    {"put_batch", (PyCFunction)(void (*)(void))handle_put_batch, METH_FASTCALL, "Put several items, as _engine/calls.py does."},
    {"set_doorbell", (PyCFunction)handle_set_doorbell, METH_VARARGS,
     "Say whether the engine is to be told when a get, or a put, finds nothing."},
    {"shut", (PyCFunction)handle_shut, METH_NOARGS, "Begin no operation any more."},
    {"leave", (PyCFunction)handle_leave, METH_NOARGS,
     "Give up the records that no operation uses; return whether none is in progress."},
    {"release", (PyCFunction)handle_release, METH_NOARGS, "Let go of the memory, if no operation is in progress."},
    {"wake_all", (PyCFunction)handle_wake_all, METH_NOARGS, "Let everybody who waits look again."},
    {"settle", (PyCFunction)handle_settle, METH_VARARGS, "Say who this process is, and what its gets keep back."},
    {"size", (PyCFunction)handle_size, METH_NOARGS, "Return about how many items are there."},
    {"is_empty", (PyCFunction)handle_is_empty, METH_NOARGS, "Whether a get would find nothing."},
    {"is_full", (PyCFunction)handle_is_full, METH_NOARGS, "Whether a put would find no room."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot handle_slots[] = {
    {Py_tp_doc, (void *)"The operations of one handle on one segment."},
    {Py_tp_new, handle_new},
    {Py_tp_dealloc, handle_dealloc},
    {Py_tp_traverse, handle_traverse},
    {Py_tp_clear, handle_clear},
    {Py_mp_subscript, handle_subscript},
    {Py_tp_methods, handle_methods},
    {0, NULL},
};

static PyType_Spec handle_spec = {
    .name = "shared_multiprocess_queue._native.extension.Handle",
    .basicsize = sizeof(Handle),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = handle_slots,
};

/* ---- the module --------------------------------------------------------------------------------------------------- */

static PyObject *import_from(const char *module, const char *name)
{
    PyObject *imported = PyImport_ImportModule(module);
    if (imported == NULL) {
        return NULL;
    }
    PyObject *found = PyObject_GetAttrString(imported, name);
    Py_DECREF(imported);
    return found;
}

static int module_exec(PyObject *module)
{
    static const char *const errors = "shared_multiprocess_queue.errors";
    module_state *state = PyModule_GetState(module);
    if ((state->empty = import_from("queue", "Empty")) == NULL ||
        (state->full = import_from("queue", "Full")) == NULL ||
        (state->claim_lost = import_from(errors, "ClaimLostError")) == NULL ||
        (state->corrupt = import_from(errors, "CorruptQueueError")) == NULL ||
        (state->deserialization = import_from(errors, "DeserializationError")) == NULL ||
        (state->ours = import_from(errors, "SharedMemoryQueueError")) == NULL ||
        (state->too_many = import_from(errors, "TooManyParticipantsError")) == NULL ||
        (state->not_given = import_from("shared_multiprocess_queue._engine.arguments", "NOT_GIVEN")) == NULL ||
        (state->handle_type = PyType_FromModuleAndSpec(module, &handle_spec, NULL)) == NULL) {
        return -1;
    }
    return PyModule_AddType(module, (PyTypeObject *)state->handle_type);
}

#define VISIT_STATE(VISIT)                                                                                             \
    VISIT(state->empty);                                                                                               \
    VISIT(state->full);                                                                                                \
    VISIT(state->claim_lost);                                                                                          \
    VISIT(state->corrupt);                                                                                             \
    VISIT(state->deserialization);                                                                                     \
    VISIT(state->ours);                                                                                                \
    VISIT(state->too_many);                                                                                            \
    VISIT(state->not_given);                                                                                           \
    VISIT(state->handle_type)

static int module_traverse(PyObject *module, visitproc visit, void *arg)
{
    module_state *state = PyModule_GetState(module);
    VISIT_STATE(Py_VISIT);
    return 0;
}

static int module_clear(PyObject *module)
{
    module_state *state = PyModule_GetState(module);
    VISIT_STATE(Py_CLEAR);
    return 0;
}

static PyObject *note_fork(PyObject *module, PyObject *nothing)
{
    (void)module;
    (void)nothing;
    current_life++;
    Py_RETURN_NONE;
}

static PyMethodDef module_methods[] = {
    {"note_fork", note_fork, METH_NOARGS, "Note that this process is a forked child; called right after the fork."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "shared_multiprocess_queue._native.extension",
    .m_doc = "The native engine.",
    .m_size = sizeof(module_state),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
};

PyMODINIT_FUNC PyInit_extension(void)
{
    return PyModuleDef_Init(&module_definition);
}
