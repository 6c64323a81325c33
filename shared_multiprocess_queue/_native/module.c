/* The native engine's door to Python: the type Handle, and the module. What it includes is inlined into it; plain.c is a
   unit of its own. In order: layout, participants, parking, batch_lock, slots, writing, large, recovery, dead_letters,
   ending, leases, returns, ring, large_ring, leased_ring, looking, arena, buffers, plain <- handle <- records <-
   growth <- attempt <- in_place <- leasing <- wait, codec <- places <- methods <- recordless.

   Not declared safe without the GIL: the records of a handle and the roles of mode spsc rely on it (see handle.h). */

#include "methods.h"
#include "recordless.h"
#include "janitor.h"

/* ---- Handle ------------------------------------------------------------------------------------------------------- */

static PyObject *handle_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"segment",        "lock",         "capacity", "item_size",      "at_once",       "spsc", "owner",
                            "slice",          "may_spin",     "engine",   "codec",          "calls",         "kept_back",
                            "on_keep_back",   "leases",       "max_deliveries",             "max_item_size", NULL};
    static const char *const parts[CODEC_PARTS] = {"dumps",    "loads",  "encode",         "encode_object", "fit",
                                                   "withdraw", "decode", "fail_to_decode", "load"};
    PyObject *segment, *lock, *engine, *codec, *calls, *kept_back, *on_keep_back;
    unsigned long long capacity, owner;
    unsigned int item_size, at_once, leases, max_deliveries, max_item_size;
    long long slice;
    int spsc, may_spin;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "OOKIIpKLpOOOOOIII", names, &segment, &lock, &capacity, &item_size,
                                     &at_once, &spsc, &owner, &slice, &may_spin, &engine, &codec, &calls, &kept_back,
                                     &on_keep_back, &leases, &max_deliveries, &max_item_size)) {
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
    self->max_item_size = max_item_size;
    self->at_once = at_once;
    self->leases = leases;
    self->max_deliveries = max_deliveries;
    self->spsc = spsc;
    self->owner = owner;
    self->forks = forks;
    self->slice = slice;
    self->may_spin = may_spin;
    for (size_t part = 0; part < CODEC_PARTS; part++) {
        self->codec[part] = PyObject_GetAttrString(codec, parts[part]);
        if (self->codec[part] == NULL) {
            Py_DECREF(self);
            return NULL;
        }
        if (self->codec[part] == Py_None) {
            Py_CLEAR(self->codec[part]);
        }
    }
    const bool is_own = self->codec[LOAD] == NULL;
    self->bare_most = is_own ? -1 : at_once < SHMQ_LONG ? (Py_ssize_t)at_once : SHMQ_LONG - 1;
    self->bare_tag = is_own ? NO_TAG : TAG_BYTES;
    PyObject *placed_tag = PyObject_GetAttrString(codec, "bare_tag");
    if (placed_tag == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    self->placed_tag = (uint32_t)PyLong_AsUnsignedLong(placed_tag);
    Py_DECREF(placed_tag);
    if (PyObject_GetBuffer(segment, &self->segment, PyBUF_WRITABLE) < 0 ||
        PyObject_GetBuffer(lock, &self->lock, PyBUF_WRITABLE) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    /* Divided, not multiplied, because a product of unchecked sizes could overflow. */
    const uint64_t bytes = (uint64_t)self->segment.len;
    if (capacity < 1 || capacity > SHMQ_MAX_CAPACITY || item_size < 1 || item_size > SHMQ_MAX_ITEM_SIZE ||
        bytes < SHMQ_SLOTS_START || (bytes - SHMQ_SLOTS_START) / SHMQ_STRIDE(item_size) < capacity ||
        leases > SHMQ_MAX_LEASES || max_item_size < item_size || max_item_size > SHMQ_MAX_ITEM_SIZE ||
        ((uint64_t)max_item_size + item_size - 1) / item_size > capacity ||
        bytes < SHMQ_SEGMENT_SIZE(capacity, item_size, leases, max_deliveries, max_item_size) ||
        (uintptr_t)self->segment.buf % SHMQ_LINE != 0 || self->lock.len < 4 || (uintptr_t)self->lock.buf % 4 != 0) {
        PyErr_Format(PyExc_ValueError,
                     "%llu slots of %u bytes and %u lease slots of %u bytes do not fit into a segment of %llu bytes, or "
                     "an item into the slots, or the lock has not 4 bytes",
                     capacity, item_size, leases, max_item_size, (unsigned long long)bytes);
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
    free_all_records(self);
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
    if (self->forks != forks && forget_parent(self) < 0) {
        return NULL;
    }
    struct record **lists[] = {&self->idle, &self->marked};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(lists); i++) {
        while (*lists[i] != NULL) {
            struct record *record = *lists[i];
            *lists[i] = record->next;
            leave_record(record);
        }
    }
    return PyBool_FromLong(self->operations == 0);
}

static PyObject *handle_take_role(Handle *self, PyObject *args)
{
    int puts;
    if (!PyArg_ParseTuple(args, "p", &puts)) {
        return NULL;
    }
    if (self->forks != forks && forget_parent(self) < 0) {
        return NULL;
    }
    if (!self->is_open) {
        fail_as_closed(self);
        return NULL;
    }
    if (!have_role_record(self)) {
        return NULL;
    }
    const uint64_t name = self->role->me.name;
    const struct shmq_ring *ring = &self->role->ring;
    const uint64_t holder = shmq_take_role(ring, shmq_role_of(ring, puts ? SHMQ_PUT : SHMQ_GET), name);
    return holder == name ? Py_NewRef(Py_None) : PyLong_FromUnsignedLongLong(holder);
}

static PyObject *handle_leave_roles(Handle *self, PyObject *nothing)
{
    (void)nothing;
    struct record *record = self->role;
    if (self->forks == forks && record != NULL && self->operations == 0) {
        self->role = NULL;
        shmq_leave_role(shmq_role_of(&record->ring, SHMQ_PUT), record->me.name);
        shmq_leave_role(shmq_role_of(&record->ring, SHMQ_GET), record->me.name);
        leave_record(record);
    }
    Py_RETURN_NONE;
}

static PyObject *handle_release(Handle *self, PyObject *nothing)
{
    (void)nothing;
    if (self->operations == 0) {
        self->is_open = false;
        self->is_closed = true;
        free_all_records(self);
        PyBuffer_Release(&self->segment);
        PyBuffer_Release(&self->lock);
        /* Engine and codec stay, because this call may come from the pickling of an item, which still needs them to
           raise QueueClosedError. */
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
    if (self->forks != forks && forget_parent(self) < 0) { /* now, or the first call would forget the new owner */
        return NULL;
    }
    self->owner = owner;
    Py_XSETREF(self->kept_back, Py_NewRef(kept_back));
    Py_RETURN_NONE;
}

/* Take a record, so that other processes see that this one uses the queue. */
static PyObject *handle_begin(Handle *self, PyObject *nothing)
{
    (void)nothing;
    struct record *record = borrow(self, SHMQ_GET);
    if (record == NULL || !give_back(record)) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *handle_set_doorbell(Handle *self, PyObject *args)
{
    int puts, is_there;
    if (!PyArg_ParseTuple(args, "pp", &puts, &is_there)) {
        return NULL;
    }
    if (self->forks != forks && forget_parent(self) < 0) {
        return NULL;
    }
    self->has_doorbell[puts ? SHMQ_PUT : SHMQ_GET] = is_there;
    Py_RETURN_NONE;
}

static PyMethodDef handle_methods[] = {
    {"put", (PyCFunction)(void (*)(void))handle_put, METH_FASTCALL, "Put an item, as _engine/calls.py does."},
    {"put_batch", (PyCFunction)(void (*)(void))handle_put_batch, METH_FASTCALL,
     "Put several items, as _engine/calls.py does."},
    {"try_put", (PyCFunction)(void (*)(void))handle_put, METH_FASTCALL, "Put an item alone, which is by one look."},
    {"try_put_batch", (PyCFunction)handle_try_put_batch, METH_O, "Put several items by one look, likewise."},
    {"try_put_payload", (PyCFunction)handle_try_put_payload, METH_VARARGS, "Put what is encoded by one look, likewise."},
    {"reserve", (PyCFunction)handle_reserve, METH_VARARGS, "Claim a slot for a payload of so many bytes, with a tag."},
    {"view", (PyCFunction)handle_view, METH_VARARGS, "Claim the next item, if its bytes are in place."},
    {"set_doorbell", (PyCFunction)handle_set_doorbell, METH_VARARGS,
     "Say whether the engine is to be told when a get, or a put, finds nothing."},
    {"done", (PyCFunction)(void (*)(void))handle_done, METH_FASTCALL,
     "End a lease and its item; whether it was this process's, or None if its home has not got it."},
    {"give_back", (PyCFunction)(void (*)(void))handle_give_back, METH_FASTCALL,
     "End a lease and give its item back; as of done."},
    {"is_quiet", (PyCFunction)handle_is_quiet, METH_NOARGS, "Whether all that was put is ended."},
    {"shut", (PyCFunction)handle_shut, METH_NOARGS, "Refuse new operations."},
    {"leave", (PyCFunction)handle_leave, METH_NOARGS,
     "Give up the records that no operation uses; return whether none is in progress."},
    {"take_role", (PyCFunction)handle_take_role, METH_VARARGS,
     "Try to become the one producer, or consumer, of mode spsc; return the name of another participant that is."},
    {"leave_roles", (PyCFunction)handle_leave_roles, METH_NOARGS,
     "Give up the roles of producer and consumer, if no operation is in progress."},
    {"release", (PyCFunction)handle_release, METH_NOARGS, "Release the memory, if no operation is in progress."},
    {"settle", (PyCFunction)handle_settle, METH_VARARGS, "Set the owner word of this process and its kept-back items."},
    {"begin", (PyCFunction)handle_begin, METH_NOARGS, "Take a record, so that other processes see this one."},
    {"shutdown", (PyCFunction)handle_shutdown, METH_O, "Shut the queue down; if the argument is true, drop its items."},
    {"size", (PyCFunction)handle_size, METH_NOARGS, "Return the approximate number of items."},
    {"is_empty", (PyCFunction)handle_is_empty, METH_NOARGS, "Whether a get would find nothing."},
    {"want_bell", (PyCFunction)(void (*)(void))handle_want_bell, METH_FASTCALL, "Note that a bell waits, and arm."},
    {"take_bell", (PyCFunction)(void (*)(void))handle_take_bell, METH_FASTCALL, "Take the bit of a bell back."},
    {"waits_rightly", (PyCFunction)(void (*)(void))handle_waits_rightly, METH_FASTCALL,
     "Whether a bell still waits, and there is nothing to find."},
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
        (state->shut_down = import_from(errors, "ShutDown")) == NULL ||
        (state->claim_lost = import_from(errors, "ClaimLostError")) == NULL ||
        (state->corrupt = import_from(errors, "CorruptQueueError")) == NULL ||
        (state->deserialization = import_from(errors, "DeserializationError")) == NULL ||
        (state->ours = import_from(errors, "SharedMemoryQueueError")) == NULL ||
        (state->role_taken = import_from(errors, "RoleTakenError")) == NULL ||
        (state->too_many = import_from(errors, "TooManyParticipantsError")) == NULL ||
        (state->not_given = import_from("shared_multiprocess_queue._engine.arguments", "NOT_GIVEN")) == NULL ||
        (state->block = (PyTypeObject *)PyType_FromModuleAndSpec(module, &block_spec, NULL)) == NULL ||
        (state->taken = (PyTypeObject *)PyType_FromModuleAndSpec(module, &taken_spec, NULL)) == NULL ||
        (state->place = (PyTypeObject *)PyType_FromModuleAndSpec(module, &place_spec, NULL)) == NULL ||
        (state->handle_type = PyType_FromModuleAndSpec(module, &handle_spec, NULL)) == NULL) {
        return -1;
    }
    return PyModule_AddType(module, (PyTypeObject *)state->handle_type);
}

#define VISIT_STATE(VISIT)                                                                                             \
    VISIT(state->empty);                                                                                               \
    VISIT(state->full);                                                                                                \
    VISIT(state->shut_down);                                                                                           \
    VISIT(state->claim_lost);                                                                                          \
    VISIT(state->corrupt);                                                                                             \
    VISIT(state->deserialization);                                                                                     \
    VISIT(state->ours);                                                                                                \
    VISIT(state->role_taken);                                                                                          \
    VISIT(state->too_many);                                                                                            \
    VISIT(state->not_given);                                                                                           \
    VISIT(state->block);                                                                                               \
    VISIT(state->place);                                                                                               \
    VISIT(state->taken);                                                                                               \
    VISIT(state->handle_type)

static int module_traverse(PyObject *module, visitproc visit, void *arg)
{
    module_state *state = PyModule_GetState(module);
    VISIT_STATE(Py_VISIT);
    return plain_visit(&state->plain, visit, arg);
}

static int module_clear(PyObject *module)
{
    module_state *state = PyModule_GetState(module);
    VISIT_STATE(Py_CLEAR);
    plain_clear(&state->plain);
    return 0;
}

static PyObject *note_fork(PyObject *module, PyObject *nothing)
{
    (void)module;
    (void)nothing;
    forks++;
    shmq_child_began = 0;
    Py_RETURN_NONE;
}

static PyObject *note_child(PyObject *module, PyObject *nothing)
{
    (void)module;
    (void)nothing;
    shmq_child_began = shmq_now_ms();
    Py_RETURN_NONE;
}

static PyObject *leave_janitor(PyObject *module, PyObject *nothing)
{
    (void)module;
    (void)nothing;
    shmq_end_regularly();
    Py_RETURN_NONE;
}

static PyObject *watch_signals(PyObject *module, PyObject *nothing)
{
    (void)module;
    (void)nothing;
    shmq_watch_signals();
    Py_RETURN_NONE;
}

static PyObject *module_read_plain(PyObject *module, PyObject *args)
{
    module_state *state = PyModule_GetState(module);
    PyObject *load, *payload;
    if (!PyArg_ParseTuple(args, "OS", &load, &payload)) {
        return NULL;
    }
    return plain_read(&state->plain, load, PyBytes_AS_STRING(payload), (size_t)PyBytes_GET_SIZE(payload));
}

static PyObject *module_copy_of(PyObject *module, PyObject *data)
{
    const module_state *state = PyModule_GetState(module);
    return copy_of(state->block, data);
}

static PyMethodDef module_methods[] = {
    {"note_fork", note_fork, METH_NOARGS, "Note that this process is a forked child; called right after the fork."},
    {"note_child", note_child, METH_NOARGS, "Note that a child of this process begins, which may use its queues."},
    {"leave_janitor", leave_janitor, METH_NOARGS,
     "At the end of this process, with queues that are still used: see that they are removed though a child dies that "
     "has just begun."},
    {"watch_signals", watch_signals, METH_NOARGS,
     "See that queues without users are removed if this process ends by SIGTERM or SIGHUP."},
    {"copy_of", module_copy_of, METH_O, "Copy a buffer into memory of its own, as _platform/memory.py does."},
    {"read_plain", module_read_plain, METH_VARARGS, "Read everyday objects, as _codec/plain.py does, which says how."},
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
    PyModuleDef_HEAD_INIT,         .m_name = "shared_multiprocess_queue._native.extension",
    .m_doc = "The native engine.", .m_size = sizeof(module_state),
    .m_methods = module_methods,   .m_slots = module_slots,
    .m_traverse = module_traverse, .m_clear = module_clear,
};

PyMODINIT_FUNC PyInit_extension(void)
{
    return PyModuleDef_Init(&module_definition);
}
