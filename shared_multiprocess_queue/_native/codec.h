/* Items <-> payloads: the tags of _codec/tags.py that need no pickle, and calls of the codec for all others. */

#ifndef SHMQ_CODEC_H
#define SHMQ_CODEC_H

#include "handle.h"

#define PICKLE_PROTOCOL 5
#define LOOKED_THROUGH 256 /* objects of an item; pickling more takes much longer than the codec's checks */
#define LOOKED_DEEP 16
#define GIVE_UPS 4     /* after so many items of a type, one after the other, that are not plain, */
#define GIVE_UP_FOR 16 /* only every item of this number is looked at */

/* Whether all items are left to the codec. */
static inline bool has_own_format(const Handle *self)
{
    return self->bare_tag == NO_TAG;
}

/* Turn a scalar into bytes; false if the item is no scalar, or an int of more than 64 bits. */
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

/* Turn bytes back into a scalar; NULL without an error if the bytes are wrong, so that the codec raises the error. */
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

/* Whether an item consists only of objects of exact built-in types. Pickling such an item runs no code of the user.
   False also if there are more objects than `room`, which counts down. */
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
            if (!is_leaf(key) || !is_leaf(value)) { /* looking at a set may collect garbage, which may empty this */
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
        if (PyErr_Occurred()) { /* no memory for the iterator */
            PyErr_Clear();
            found = false;
        }
    }
    return found;
}

/* Encode an item that is left to the codec; returns bytes and tag as a tuple, or only the bytes of a pickle. */
static PyObject *encode_by_codec(Handle *self, PyObject *item)
{
    Py_ssize_t room = LOOKED_THROUGH;
    if (self->codec[DUMPS] != NULL && !PyUnicode_CheckExact(item) && is_built_in(item, &room, LOOKED_DEEP)) {
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

/* Set a payload to the pieces of an object of the codec. What takes several slots is copied into one if these do not have
   whole words, because a piece may then lie across words. False with an error. */
static bool set_pieces(const Handle *self, PyObject *encoded, Py_ssize_t length, struct arena *arena,
                       struct payload *payload)
{
    payload->pieces = pieces_of(encoded, arena);
    if (payload->pieces != NULL && self->item_size % SHMQ_WORD != 0 && length > (Py_ssize_t)self->item_size &&
        length <= (Py_ssize_t)self->max_item_size) {
        payload->pieces = whole_of(payload->pieces, (uint32_t)length, arena);
    }
    return payload->pieces != NULL;
}

/* Set a payload to what the codec has returned, bytes or pieces, but for its length. False with an error, and without an
   owner. */
static bool set_encoded(const Handle *self, PyObject *encoded, unsigned int tag, struct arena *arena,
                        struct payload *payload, Py_ssize_t *length)
{
    payload->owner = NULL;
    payload->tag = tag;
    if (PyBytes_Check(encoded)) {
        payload->data = PyBytes_AS_STRING(encoded);
        *length = PyBytes_GET_SIZE(encoded);
    } else {
        *length = PyObject_Size(encoded);
        if (*length < 0 || !set_pieces(self, encoded, *length, arena, payload)) {
            return false;
        }
    }
    payload->owner = Py_NewRef(encoded);
    return true;
}

/* Let the codec make a payload smaller that is too large for a slot; it raises ItemTooLargeError if it cannot. */
static int fit(Handle *self, Py_ssize_t index, Py_ssize_t length, struct arena *arena, struct payload *payload)
{
    PyObject *bytes = payload->owner != NULL && (PyBytes_Check(payload->owner) || payload->tag == TAG_BUFFERS)
                          ? Py_NewRef(payload->owner)
                          : PyBytes_FromStringAndSize(data_of(payload), length);
    PyObject *place = index < 0 ? Py_NewRef(Py_None) : PyLong_FromSsize_t(index);
    PyObject *fitting = bytes == NULL || place == NULL
                            ? NULL
                            : PyObject_CallFunction(self->codec[FIT], "OIO", bytes, payload->tag, place);
    Py_XDECREF(bytes);
    Py_XDECREF(place);
    Py_CLEAR(payload->owner);
    PyObject *smaller;
    unsigned int tag;
    if (fitting == NULL || !PyArg_ParseTuple(fitting, "OI", &smaller, &tag) ||
        !set_encoded(self, smaller, tag, arena, payload, &length)) {
        Py_XDECREF(fitting);
        return FAILED;
    }
    Py_DECREF(fitting);
    if (length > (Py_ssize_t)self->max_item_size) { /* it would overwrite other slots */
        PyErr_SetString(PyExc_SystemError, "what a codec made fit does not fit");
        Py_CLEAR(payload->owner);
        return FAILED;
    }
    payload->length = (uint32_t)length;
    return 0;
}

/* Write an everyday object; false to leave it to the codec. If that does not pickle, each item is looked at, because it
   would write plain ones in Python, while other threads run. */
SHMQ_APART static bool encode_plain(Handle *self, PyObject *item, struct arena *arena, struct payload *payload)
{
    const PyTypeObject *const type = Py_TYPE(item);
    const bool pickles = self->codec[DUMPS] != NULL;
    const bool is_usual = pickles && self->given_up.count >= GIVE_UPS && type == self->given_up.type;
    if (is_usual && ++self->given_up.count % GIVE_UP_FOR != 0) {
        return false;
    }
    size_t length;
    const char *const bytes = plain_write(&self->state->plain, item, pickles, self->max_item_size, arena, &length);
    if (bytes == NULL) {
        if (type != self->given_up.type) {
            self->given_up.type = type;
            self->given_up.count = 0;
        }
        self->given_up.count += !is_usual;
        return false;
    }
    if (type == self->given_up.type) {
        self->given_up.count = 0;
    }
    payload->owner = NULL;
    payload->tag = TAG_OBJECTS;
    payload->data = bytes;
    payload->length = (uint32_t)length;
    return true;
}

/* Turn an item into bytes that it has, or into those of a number; false if it is another one. The payload's length is
   for the caller to set, because it may be too large. */
static inline bool encode_bare(PyObject *item, struct payload *payload, Py_ssize_t *length)
{
    if (PyBytes_CheckExact(item)) {
        payload->owner = Py_NewRef(item);
        payload->tag = TAG_BYTES;
        payload->data = PyBytes_AS_STRING(item);
        *length = PyBytes_GET_SIZE(item);
    } else if (PyUnicode_CheckExact(item) && PyUnicode_IS_COMPACT_ASCII(item)) {
        payload->owner = Py_NewRef(item);
        payload->tag = TAG_STR;
        payload->data = (const char *)PyUnicode_1BYTE_DATA(item);
        *length = PyUnicode_GET_LENGTH(item);
    } else if (encode_scalar(item, payload)) {
        *length = payload->length;
    } else {
        return false;
    }
    return true;
}

/* Turn an item into bytes, perhaps in an arena; may run code of the user. The index is its place in its batch, -1 for a
   single item. BY_BATCH: it is encoded, and has to be put as a batch is. */
static int encode(Handle *self, PyObject *item, Py_ssize_t index, struct arena *arena, struct payload *payload)
{
    Py_ssize_t length;
    const bool is_own = has_own_format(self);
    if (is_own || !encode_bare(item, payload, &length)) {
        if (!is_own && !PyUnicode_CheckExact(item) && encode_plain(self, item, arena, payload)) {
            return payload->length > self->at_once ? BY_BATCH : 0;
        }
        PyObject *encoded = encode_by_codec(self, item);
        PyObject *bytes = encoded;
        unsigned int tag = TAG_PICKLE;
        if (encoded == NULL || (!PyBytes_CheckExact(encoded) && !PyArg_ParseTuple(encoded, "OI", &bytes, &tag)) ||
            !set_encoded(self, bytes, tag, arena, payload, &length)) {
            Py_XDECREF(encoded);
            return FAILED;
        }
        Py_DECREF(encoded);
    }
    if (length > (Py_ssize_t)self->at_once) {
        if (length > (Py_ssize_t)self->max_item_size) {
            if (fit(self, index, length, arena, payload) < 0) {
                return FAILED;
            }
        } else {
            payload->length = (uint32_t)length;
        }
        return payload->length > self->at_once ? BY_BATCH : 0;
    }
    payload->length = (uint32_t)length;
    return 0;
}

/* Say in the error of an item which of its batch it is. What is no ValueError is no error of the item. */
SHMQ_RARE static void say_which(Handle *self, Py_ssize_t index)
{
    if (PyErr_ExceptionMatches(PyExc_ValueError)) {
        PyObject *error = raised();
        PyObject *said = PyObject_CallMethod(self->engine, "say_which", "On", error, index);
        if (said != NULL) {
            raise_again(error);
            Py_DECREF(said);
        } else {
            Py_DECREF(error);
        }
    }
}

/* Let the codec say which item could not be rebuilt. What is no Exception is no error of the item, and stays set. */
SHMQ_RARE static void fail_to_decode(Handle *self, const struct payload *payload)
{
    if (PyErr_ExceptionMatches(PyExc_Exception)) {
        PyObject *error = raised();
        PyObject *bytes = bytes_of(payload);
        if (bytes != NULL) {
            fail_by(PyObject_CallFunctionObjArgs(self->codec[FAIL_TO_DECODE], bytes, error, NULL));
            Py_DECREF(bytes);
        }
        Py_DECREF(error);
    }
}

/* Read an everyday object. A lack of memory is no error of the item. */
SHMQ_APART static PyObject *decode_plain(Handle *self, const struct payload *payload)
{
    PyObject *item = plain_read(&self->state->plain, self->codec[LOAD], data_of(payload), payload->length);
    if (item == NULL && (PyErr_ExceptionMatches(PyExc_ValueError) || PyErr_ExceptionMatches(PyExc_TypeError) ||
                         PyErr_ExceptionMatches(PyExc_ArithmeticError))) {
        fail_to_decode(self, payload);
    }
    return item;
}

/* Turn bytes back into an item by what this engine has for their tag; NULL without an error to leave them to the codec,
   also if they are wrong, because that says it better. */
static PyObject *decode_here(Handle *self, const struct payload *payload)
{
    if (payload->tag == TAG_STR) {
        PyObject *text = PyUnicode_DecodeUTF8(payload->data, payload->length, "surrogatepass");
        if (text == NULL && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
            PyErr_Clear();
        }
        return text;
    }
    if (payload->tag == TAG_OBJECTS) {
        return decode_plain(self, payload);
    }
    if (payload->tag == TAG_PICKLE && self->codec[LOADS] != NULL) {
        PyObject *item = PyObject_CallOneArg(self->codec[LOADS], payload->owner);
        if (item == NULL) {
            fail_to_decode(self, payload);
        }
        return item;
    }
    return decode_scalar(payload);
}

/* Turn bytes back into an item; may run code of the user. */
static PyObject *decode(Handle *self, const struct payload *payload)
{
    if (payload->tag == self->bare_tag) {
        return Py_NewRef(payload->owner);
    }
    PyObject *found = has_own_format(self) ? NULL : decode_here(self, payload);
    if (found != NULL || PyErr_Occurred()) {
        return found;
    }
    if (payload->tag == SHMQ_CORRUPT_TAG) {
        fail_by(PyObject_CallMethod(self->engine, "corrupt_slot", NULL));
        return NULL;
    }
    PyObject *bytes = bytes_of(payload);
    PyObject *tag = PyLong_FromUnsignedLong(payload->tag);
    PyObject *item =
        bytes == NULL || tag == NULL ? NULL : PyObject_CallFunctionObjArgs(self->codec[DECODE], bytes, tag, NULL);
    Py_XDECREF(bytes);
    Py_XDECREF(tag);
    return item;
}

/* Let the codec close the objects that were set aside for the receivers of items which were not put. An error that is
   set stays set, unless this raises another one. */
static int withdraw(Handle *self, const struct payload *payloads, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        PyObject *owner = payloads[i].owner;
        if (owner != NULL && (PyBytes_Check(owner) ? !PyBytes_CheckExact(owner) : payloads[i].tag == TAG_BUFFERS)) {
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

#endif
