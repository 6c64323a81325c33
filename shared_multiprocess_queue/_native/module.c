/* The native engine's door to Python: methods that go from the user's call to the ring without a Python frame.

   `direct` makes a method of SharedMemoryQueue out of the Python function that it decorates. Called on a queue whose
   attribute `_direct` is a `Handle`, it does the work here; that attribute comes from the base class `Attached`, where it
   is found without a look into a dict, which takes as long as a third of a put. It leaves to the Python function whatever is not plain:
   another engine, a handle that is closed, arguments that are wrong or unusual. So there is one place that knows the
   messages, and help(), subclasses, pickling and super() see an ordinary method.

   Not declared safe without the GIL: the pool of seats and the roles of mode spsc rely on it (see handle.h). */

#include "handle.h"

#include <structmember.h>

static struct PyModuleDef module_definition;

/* ---- arguments ---------------------------------------------------------------------------------------------------- */

struct call {
    PyObject *function;
    PyObject *const *args; /* with the queue */
    size_t nargsf;
    PyObject *names;
};

/* Sort the arguments behind the queue; false: this is for the Python function, which knows what to say. */
static bool sort_arguments(const struct call *call, const char *const *names, Py_ssize_t most, PyObject **values)
{
    const Py_ssize_t given = PyVectorcall_NARGS(call->nargsf) - 1;
    const Py_ssize_t named = call->names == NULL ? 0 : PyTuple_GET_SIZE(call->names);
    if (given > most) {
        return false;
    }
    for (Py_ssize_t i = 0; i < most; i++) {
        values[i] = i < given ? call->args[1 + i] : NULL;
    }
    for (Py_ssize_t i = 0; i < named; i++) {
        PyObject *name = PyTuple_GET_ITEM(call->names, i);
        Py_ssize_t which = 0;
        while (which < most && PyUnicode_CompareWithASCIIString(name, names[which]) != 0) {
            which++;
        }
        if (which == most || values[which] != NULL) {
            return false;
        }
        values[which] = call->args[1 + given + i];
    }
    return true;
}

/* When a call has to end; -1: this is for the Python function. */
static int64_t deadline_of(PyObject *block, PyObject *timeout)
{
    if (block == Py_False) {
        return 0;
    }
    if (block != NULL && block != Py_True) {
        return -1;
    }
    if (timeout == NULL || timeout == Py_None) {
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
#define STACK_GLOBAL 0x93 /* the opcode without which a stream names no class, function or module */

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

/* Whether items of this type are for the codec, which knows that plain pickle is not enough for them; -1 with an error. */
static int is_tracked(Handle *self, PyObject *item)
{
    PyObject *tracked = self->codec[TRACKED];
    if (PyDict_GET_SIZE(tracked) == 0) {
        return 0;
    }
    PyObject *id = PyLong_FromVoidPtr(Py_TYPE(item));
    const int found = id == NULL ? -1 : PyDict_Contains(tracked, id);
    Py_XDECREF(id);
    return found;
}

/* What Codec.encode does with an item that needs pickle; returns bytes and tag as a tuple, or just the bytes. */
static PyObject *pickle(Handle *self, PyObject *item)
{
    PyObject **codec = self->codec;
    const int tracked = PyUnicode_CheckExact(item) ? 1 : is_tracked(self, item);
    if (tracked != 0) {
        return tracked < 0 ? NULL : PyObject_CallOneArg(codec[ENCODE], item);
    }
    PyObject *protocol = PyLong_FromLong(PICKLE_PROTOCOL);
    PyObject *stream = protocol == NULL ? NULL : PyObject_CallFunctionObjArgs(codec[DUMPS], item, protocol, NULL);
    Py_XDECREF(protocol);
    if (stream == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_Exception)) {
            return NULL;
        }
        PyObject *error = raised();
        PyObject *encoded = PyObject_CallFunctionObjArgs(codec[ENCODE_REFUSED], item, error, NULL);
        Py_DECREF(error);
        return encoded;
    }
    if (!PyBytes_CheckExact(stream) ||
        memchr(PyBytes_AS_STRING(stream), STACK_GLOBAL, (size_t)PyBytes_GET_SIZE(stream)) == NULL) {
        return stream;
    }
    PyObject *encoded = PyObject_CallFunctionObjArgs(codec[ENCODE_NAMED], item, stream, NULL);
    Py_DECREF(stream);
    return encoded;
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
        Py_CLEAR(payload->owner);
        return fail_with(index < 0 ? PyObject_CallFunction(self->state->item_too_large, "nI", length, self->item_size)
                                   : PyObject_CallFunction(self->state->item_too_large, "nIn", length, self->item_size,
                                                           index));
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
            keep_back(seat, i > 0 ? i : 1);
            if (i > 0) { /* the next call raises it */
                PyErr_Clear();
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
    /* The interpreter serves signals right after this call has returned, and an exception would then take the place of
       the items. So they are served here, while the items can still be kept back. What is left are the few
       instructions from this look to the interpreter's own. */
    if (seat->error != NULL) {
        fail_late(seat);
        goto failed;
    }
    if (PyErr_CheckSignals() < 0) {
        goto failed;
    }
    return result;

failed:
    Py_XDECREF(result);
    keep_back(seat, 0);
    return NULL;
}

/* ---- the methods -------------------------------------------------------------------------------------------------- */

/* Set where a call is for the Python function. */
static PyObject *const PYTHON = (PyObject *)&module_definition;

static PyObject *end_put(struct seat *seat, int found)
{
    module_state *state = seat->handle->state;
    if (found == SHMQ_DONE && seat->error != NULL) {
        found = fail_late(seat);
    }
    give_back(seat);
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

static PyObject *put(Handle *self, const struct call *call)
{
    PyObject *values[3];
    if (!sort_arguments(call, (const char *const[]){"item", "block", "timeout"}, 3, values) || values[0] == NULL) {
        return PYTHON;
    }
    const int64_t until = deadline_of(values[1], values[2]);
    return until < 0 ? PYTHON : put_item(self, values[0], until);
}

static PyObject *put_nowait(Handle *self, const struct call *call)
{
    PyObject *values[1];
    if (!sort_arguments(call, (const char *const[]){"item"}, 1, values) || values[0] == NULL) {
        return PYTHON;
    }
    return put_item(self, values[0], 0);
}

static PyObject *put_batch(Handle *self, const struct call *call)
{
    PyObject *values[3];
    if (!sort_arguments(call, (const char *const[]){"items", "block", "timeout"}, 3, values) || values[0] == NULL) {
        return PYTHON;
    }
    const int64_t until = deadline_of(values[1], values[2]);
    if (until < 0) {
        return PYTHON;
    }
    PyObject *items = PySequence_List(values[0]);
    if (items == NULL) {
        return NULL;
    }
    const Py_ssize_t count = PyList_GET_SIZE(items);
    if ((uint64_t)count > self->capacity || (uint64_t)count > SHMQ_MAX_BATCH) {
        PyObject *refused = PyObject_CallFunctionObjArgs(call->function, call->args[0], items, NULL);
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
    give_back(seat);
    return result;
}

static PyObject *get(Handle *self, const struct call *call)
{
    PyObject *values[2];
    if (!sort_arguments(call, (const char *const[]){"block", "timeout"}, 2, values)) {
        return PYTHON;
    }
    const int64_t until = deadline_of(values[0], values[1]);
    return until < 0 ? PYTHON : get_items(self, 1, until, false);
}

static PyObject *get_nowait(Handle *self, const struct call *call)
{
    return sort_arguments(call, NULL, 0, NULL) ? get_items(self, 1, 0, false) : PYTHON;
}

static PyObject *get_batch(Handle *self, const struct call *call)
{
    PyObject *values[3];
    if (!sort_arguments(call, (const char *const[]){"max_items", "block", "timeout"}, 3, values) || values[0] == NULL) {
        return PYTHON;
    }
    const int64_t until = deadline_of(values[1], values[2]);
    if (until < 0 || !PyLong_CheckExact(values[0])) {
        return PYTHON;
    }
    int overflow;
    const long long most = PyLong_AsLongLongAndOverflow(values[0], &overflow);
    if (overflow < 0 || (overflow == 0 && most < 1)) {
        return PYTHON;
    }
    const uint64_t limit = overflow > 0 || (uint64_t)most > self->capacity ? self->capacity : (uint64_t)most;
    return get_items(self, limit, until, true);
}

typedef PyObject *(*method)(Handle *, const struct call *);

static const struct {
    const char *name;
    method run;
    const char *also; /* the method that the Python function calls: who overrides that means this one, too */
} methods[] = {
    {"put", put, NULL},
    {"get", get, NULL},
    {"put_nowait", put_nowait, "put"},
    {"get_nowait", get_nowait, "get"},
    {"put_batch", put_batch, NULL},
    {"get_batch", get_batch, NULL},
};

/* ---- Attached: what has a handle ---------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    PyObject *direct;
} Attached;

static int attached_traverse(Attached *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->direct);
    return 0;
}

static int attached_clear(Attached *self)
{
    Py_CLEAR(self->direct);
    return 0;
}

static void attached_dealloc(Attached *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    attached_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMemberDef attached_members[] = {
    {"_direct", T_OBJECT, offsetof(Attached, direct), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot attached_slots[] = {
    {Py_tp_doc, (void *)"Has a handle, or None, in its attribute _direct, where the methods made by direct() find it."},
    {Py_tp_dealloc, attached_dealloc},
    {Py_tp_traverse, attached_traverse},
    {Py_tp_clear, attached_clear},
    {Py_tp_members, attached_members},
    {0, NULL},
};

static PyType_Spec attached_spec = {
    .name = "shared_multiprocess_queue._native_ring.Attached",
    .basicsize = sizeof(Attached),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = attached_slots,
};

/* The handle of a queue, borrowed; NULL if it has none. */
static Handle *handle_of(const module_state *state, PyObject *queue)
{
    if (!PyObject_TypeCheck(queue, (PyTypeObject *)state->attached_type)) {
        return NULL;
    }
    PyObject *handle = ((Attached *)queue)->direct;
    return handle != NULL && Py_IS_TYPE(handle, (PyTypeObject *)state->handle_type) ? (Handle *)handle : NULL;
}

/* ---- direct: the methods as descriptors --------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *function;
    PyTypeObject *home; /* the class that this was defined in, or NULL */
    method run;
    const char *also;
    module_state *state;
} Direct;

/* Whether the class of a queue leaves the other method as it was. */
static bool is_as_defined(Direct *self, PyObject *queue)
{
    if (self->also == NULL || Py_TYPE(queue) == self->home) {
        return true;
    }
    if (self->home == NULL) {
        return false;
    }
    PyObject *theirs = PyObject_GetAttrString((PyObject *)Py_TYPE(queue), self->also);
    PyObject *ours = PyObject_GetAttrString((PyObject *)self->home, self->also);
    const bool same = theirs != NULL && theirs == ours;
    Py_XDECREF(theirs);
    Py_XDECREF(ours);
    PyErr_Clear();
    return same;
}

static PyObject *direct_call(PyObject *callable, PyObject *const *args, size_t nargsf, PyObject *names)
{
    Direct *self = (Direct *)callable;
    if (PyVectorcall_NARGS(nargsf) >= 1) {
        PyObject *queue = args[0];
        Handle *handle = handle_of(self->state, queue);
        if (handle != NULL && !handle->is_closed) {
            Py_INCREF(handle); /* what follows may run anything, and the queue may go */
            PyObject *result = is_as_defined(self, queue)
                                   ? self->run(handle, &(struct call){self->function, args, nargsf, names})
                                   : PYTHON;
            Py_DECREF(handle);
            if (result != PYTHON) {
                return result;
            }
        }
    }
    return PyObject_Vectorcall(self->function, args, nargsf, names);
}

static PyObject *direct_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    PyObject *function;
    if (keywords != NULL || !PyArg_ParseTuple(args, "O", &function)) {
        PyErr_SetString(PyExc_TypeError, "direct() takes one function");
        return NULL;
    }
    PyObject *name = PyObject_GetAttrString(function, "__name__");
    if (name == NULL) {
        return NULL;
    }
    size_t which = 0;
    while (which < Py_ARRAY_LENGTH(methods) &&
           (!PyUnicode_Check(name) || PyUnicode_CompareWithASCIIString(name, methods[which].name) != 0)) {
        which++;
    }
    if (which == Py_ARRAY_LENGTH(methods)) {
        PyErr_Format(PyExc_ValueError, "the native engine has no method %R", name);
        Py_DECREF(name);
        return NULL;
    }
    Py_DECREF(name);
    Direct *self = (Direct *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->vectorcall = direct_call;
    self->function = Py_NewRef(function);
    self->run = methods[which].run;
    self->also = methods[which].also;
    self->state = PyType_GetModuleState(type);
    return (PyObject *)self;
}

static int direct_traverse(Direct *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->function);
    Py_VISIT(self->home);
    return 0;
}

static int direct_clear(Direct *self)
{
    Py_CLEAR(self->function);
    Py_CLEAR(self->home);
    return 0;
}

static void direct_dealloc(Direct *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    direct_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

/* A queue of another engine gets the Python function itself, so that its call does not pass through C: the interpreter
   serves signals right after a call of C, and an item that the function has just handed over would be lost there. That
   is why the type is no method descriptor, whose calls would come here unasked. */
static PyObject *direct_get(PyObject *self, PyObject *queue, PyObject *type)
{
    (void)type;
    if (queue == NULL || queue == Py_None) {
        return Py_NewRef(self);
    }
    const bool is_native = handle_of(((Direct *)self)->state, queue) != NULL;
    return PyMethod_New(is_native ? self : ((Direct *)self)->function, queue);
}

/* What a function has, and this has not, is the function's: __name__, __doc__, __module__, ... */
static PyObject *direct_getattro(PyObject *self, PyObject *name)
{
    PyObject *own = PyUnicode_CompareWithASCIIString(name, "__doc__") == 0 ? NULL : PyObject_GenericGetAttr(self, name);
    if (own != NULL || (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_AttributeError))) {
        return own;
    }
    PyErr_Clear();
    return PyObject_GetAttr(((Direct *)self)->function, name);
}

static PyObject *direct_set_name(Direct *self, PyObject *args)
{
    PyObject *owner, *name;
    if (!PyArg_ParseTuple(args, "O!U", &PyType_Type, &owner, &name)) {
        return NULL;
    }
    Py_XSETREF(self->home, (PyTypeObject *)Py_NewRef(owner));
    Py_RETURN_NONE;
}

static PyObject *direct_repr(Direct *self)
{
    return PyObject_Repr(self->function);
}

static PyMethodDef direct_methods[] = {
    {"__set_name__", (PyCFunction)direct_set_name, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef direct_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Direct, vectorcall), READONLY, NULL},
    {"__wrapped__", T_OBJECT, offsetof(Direct, function), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot direct_slots[] = {
    {Py_tp_doc, (void *)"A method of SharedMemoryQueue that the native engine runs without a Python frame."},
    {Py_tp_new, direct_new},
    {Py_tp_dealloc, direct_dealloc},
    {Py_tp_traverse, direct_traverse},
    {Py_tp_clear, direct_clear},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_descr_get, direct_get},
    {Py_tp_getattro, direct_getattro},
    {Py_tp_repr, direct_repr},
    {Py_tp_methods, direct_methods},
    {Py_tp_members, direct_members},
    {0, NULL},
};

static PyType_Spec direct_spec = {
    .name = "shared_multiprocess_queue._native_ring.direct",
    .basicsize = sizeof(Direct),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = direct_slots,
};

/* ---- Handle ------------------------------------------------------------------------------------------------------- */

static PyObject *handle_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"segment", "lock",          "capacity", "item_size", "spsc",         "owner", "slice",
                            "may_spin", "engine",        "codec",    "kept_back", "on_keep_back", NULL};
    static const char *const parts[CODEC_PARTS] = {"dumps",          "loads",  "encode",         "encode_named",
                                                   "encode_refused", "decode", "fail_to_decode", "tracked"};
    PyObject *segment, *lock, *engine, *codec, *kept_back, *on_keep_back;
    unsigned long long capacity, owner;
    unsigned int item_size;
    long long slice;
    int spsc, may_spin;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "OOKIpKLpOOOO", names, &segment, &lock, &capacity, &item_size,
                                     &spsc, &owner, &slice, &may_spin, &engine, &codec, &kept_back, &on_keep_back)) {
        return NULL;
    }
    Handle *self = (Handle *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->state = PyType_GetModuleState(type);
    self->engine = Py_NewRef(engine);
    self->kept_back = Py_NewRef(kept_back);
    self->on_keep_back = Py_NewRef(on_keep_back);
    self->capacity = capacity;
    self->item_size = item_size;
    self->spsc = spsc;
    self->owner = owner;
    self->slice = slice;
    self->may_spin = may_spin;
    for (size_t part = 0; part < CODEC_PARTS; part++) {
        self->codec[part] = PyObject_GetAttrString(codec, parts[part]);
        if (self->codec[part] == NULL) {
            Py_DECREF(self);
            return NULL;
        }
    }
    if (!PyDict_CheckExact(self->codec[TRACKED])) {
        PyErr_SetString(PyExc_TypeError, "what a codec has tracked is a dict");
        Py_DECREF(self);
        return NULL;
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

static PyObject *handle_after_fork(Handle *self, PyObject *args)
{
    unsigned long long owner;
    PyObject *kept_back;
    if (!PyArg_ParseTuple(args, "KO", &owner, &kept_back)) {
        return NULL;
    }
    self->life++;
    self->owner = owner;
    self->operations = 0;
    self->roles[SHMQ_PUT] = self->roles[SHMQ_GET] = 0;
    self->has_doorbell[SHMQ_PUT] = self->has_doorbell[SHMQ_GET] = false;
    free_seats(&self->idle);
    free_seats(&self->marked);
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
    const int late = seat->error != NULL ? fail_late(seat) : 0;
    give_back(seat);
    return late < 0 ? NULL : PyLong_FromUnsignedLongLong(size);
}

static PyObject *handle_is_empty(Handle *self, PyObject *nothing)
{
    (void)nothing;
    struct seat *seat = borrow(self, SHMQ_GET);
    if (seat == NULL) {
        return NULL;
    }
    const bool empty = PyObject_Size(self->kept_back) == 0 && shmq_is_empty(&seat->ring);
    const int late = seat->error != NULL ? fail_late(seat) : 0;
    give_back(seat);
    return late < 0 ? NULL : PyBool_FromLong(empty);
}

static PyObject *handle_is_full(Handle *self, PyObject *nothing)
{
    (void)nothing;
    struct seat *seat = borrow(self, SHMQ_PUT);
    if (seat == NULL) {
        return NULL;
    }
    const bool full = !shmq_has_room(&seat->ring);
    const int late = seat->error != NULL ? fail_late(seat) : 0;
    give_back(seat);
    return late < 0 ? NULL : PyBool_FromLong(full);
}

static PyObject *handle_set_doorbell(Handle *self, PyObject *args)
{
    int puts, is_there;
    if (!PyArg_ParseTuple(args, "pp", &puts, &is_there)) {
        return NULL;
    }
    self->has_doorbell[puts ? SHMQ_PUT : SHMQ_GET] = is_there;
    Py_RETURN_NONE;
}

static PyMethodDef handle_methods[] = {
    {"set_doorbell", (PyCFunction)handle_set_doorbell, METH_VARARGS,
     "Say whether the engine is to be told when a get, or a put, finds nothing."},
    {"shut", (PyCFunction)handle_shut, METH_NOARGS, "Begin no operation any more."},
    {"leave", (PyCFunction)handle_leave, METH_NOARGS,
     "Give up the records that no operation uses; return whether none is in progress."},
    {"release", (PyCFunction)handle_release, METH_NOARGS, "Let go of the memory, if no operation is in progress."},
    {"wake_all", (PyCFunction)handle_wake_all, METH_NOARGS, "Let everybody who waits look again."},
    {"after_fork", (PyCFunction)handle_after_fork, METH_VARARGS,
     "Forget, in a forked child, what belongs to the parent."},
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
    {Py_tp_methods, handle_methods},
    {0, NULL},
};

static PyType_Spec handle_spec = {
    .name = "shared_multiprocess_queue._native_ring.Handle",
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
        (state->item_too_large = import_from(errors, "ItemTooLargeError")) == NULL ||
        (state->too_many = import_from(errors, "TooManyParticipantsError")) == NULL ||
        (state->handle_type = PyType_FromModuleAndSpec(module, &handle_spec, NULL)) == NULL ||
        (state->attached_type = PyType_FromModuleAndSpec(module, &attached_spec, NULL)) == NULL ||
        (state->direct_type = PyType_FromModuleAndSpec(module, &direct_spec, NULL)) == NULL) {
        return -1;
    }
    return PyModule_AddType(module, (PyTypeObject *)state->handle_type) < 0 ||
                   PyModule_AddType(module, (PyTypeObject *)state->attached_type) < 0 ||
                   PyModule_AddType(module, (PyTypeObject *)state->direct_type) < 0
               ? -1
               : 0;
}

#define VISIT_STATE(VISIT)                                                                                             \
    VISIT(state->empty);                                                                                               \
    VISIT(state->full);                                                                                                \
    VISIT(state->claim_lost);                                                                                          \
    VISIT(state->corrupt);                                                                                             \
    VISIT(state->deserialization);                                                                                     \
    VISIT(state->item_too_large);                                                                                      \
    VISIT(state->too_many);                                                                                            \
    VISIT(state->attached_type);                                                                                       \
    VISIT(state->handle_type);                                                                                         \
    VISIT(state->direct_type)

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

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "shared_multiprocess_queue._native_ring",
    .m_doc = "The native engine.",
    .m_size = sizeof(module_state),
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
};

PyMODINIT_FUNC PyInit__native_ring(void)
{
    return PyModuleDef_Init(&module_definition);
}
