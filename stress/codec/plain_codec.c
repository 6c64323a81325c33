/* The native engine's writer and reader of everyday objects as a module of their own, without a queue. */

#include "plain.c"

static struct plain plain;
static PyObject *load;

static PyObject *write_item(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *item;
    Py_ssize_t limit;
    if (!PyArg_ParseTuple(args, "On", &item, &limit)) {
        return NULL;
    }
    char first[8]; /* small, so that most items need more */
    struct arena arena = {first, first + sizeof first, NULL};
    size_t length;
    const char *const bytes = plain_write(&plain, item, true, (size_t)limit, &arena, &length);
    PyObject *const result = bytes == NULL ? Py_NewRef(Py_None) : PyBytes_FromStringAndSize(bytes, (Py_ssize_t)length);
    arena_free(&arena);
    return result;
}

/* The bytes are copied into memory of just their size, so that a sanitizer sees what is read behind them. */
static PyObject *read_item(PyObject *module, PyObject *payload)
{
    (void)module;
    char *bytes;
    Py_ssize_t length;
    if (PyBytes_AsStringAndSize(payload, &bytes, &length) < 0) {
        return NULL;
    }
    char *const copy = malloc((size_t)length + (length == 0));
    if (copy == NULL) {
        return PyErr_NoMemory();
    }
    memcpy(copy, bytes, (size_t)length);
    PyObject *const item = plain_read(&plain, load, copy, (size_t)length);
    free(copy);
    return item;
}

static PyMethodDef methods[] = {
    {"write", write_item, METH_VARARGS, "Return the bytes of an item; None if it is for pickle, or has too many."},
    {"read", read_item, METH_O, "Return the item of a payload."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "plain_codec", .m_size = -1,
                                        .m_methods = methods};

PyMODINIT_FUNC PyInit_plain_codec(void)
{
    PyObject *const importlib = PyImport_ImportModule("importlib");
    load = importlib == NULL ? NULL : PyObject_GetAttrString(importlib, "import_module");
    Py_XDECREF(importlib);
    return load == NULL ? NULL : PyModule_Create(&definition);
}
