/* The native engine's reader of everyday objects for libFuzzer: any bytes are an error or an item, and an item that was
   read is the same after it was written and read again. */

#include "plain.c"

int LLVMFuzzerInitialize(int *count, char ***arguments);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static struct plain plain;
static PyObject *load;

static void demand(bool holds, const char *what)
{
    if (!holds) {
        PyErr_Print();
        fprintf(stderr, "FAILED: %s\n", what);
        abort();
    }
}

int LLVMFuzzerInitialize(int *count, char ***arguments)
{
    (void)count;
    (void)arguments;
    Py_Initialize();
    PyObject *const importlib = PyImport_ImportModule("importlib");
    load = importlib == NULL ? NULL : PyObject_GetAttrString(importlib, "import_module");
    demand(load != NULL, "Python has no importlib");
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    PyObject *const item = plain_read(&plain, load, (const char *)bytes, size);
    if (item == NULL) {
        demand(PyErr_Occurred() != NULL, "there is neither an item nor an error");
        PyErr_Clear();
        return 0;
    }
    demand(PyErr_Occurred() == NULL, "there is an item, and an error");
    struct arena arena = {NULL, NULL, NULL};
    size_t length = 0;
    const char *const written = plain_write(&plain, item, true, INT32_MAX, &arena, &length);
    demand(written != NULL, "an item that was read cannot be written");
    PyObject *const again = plain_read(&plain, load, written, length);
    demand(again != NULL, "an item that was written cannot be read");
    struct arena other = {NULL, NULL, NULL};
    size_t length_again = 0;
    const char *const twice = plain_write(&plain, again, true, INT32_MAX, &other, &length_again);
    /* The order of a set may be another one: that of NaNs follows from their places. */
    demand(twice != NULL && length_again == length, "an item is written in two ways");
    Py_DECREF(item);
    Py_DECREF(again);
    arena_free(&arena);
    arena_free(&other);
    return 0;
}
