/* Included before the extension's source in a test build: its steps, its clock and its waits are those of Python
   callables, which may run other greenlets meanwhile. The source itself is the package's, unchanged. */

#ifndef EXPLORED_H
#define EXPLORED_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <linux/futex.h>
#include <sched.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* There is one thread, and what stands between these two calls Python. */
#undef Py_BEGIN_ALLOW_THREADS
#undef Py_END_ALLOW_THREADS
#define Py_BEGIN_ALLOW_THREADS {
#define Py_END_ALLOW_THREADS }

#define EXPLORED_CALLS 7
static PyObject *explored_calls[EXPLORED_CALLS]; /* step, clock, nap, wait, wake, alive, ring; NULL: no explorer */

/* None gives everything back. */
__attribute__((weak, visibility("default"))) void explored_take_over(PyObject *step, PyObject *clock, PyObject *nap,
                                                               PyObject *wait, PyObject *wake, PyObject *alive,
                                                               PyObject *ring)
{
    PyObject *calls[EXPLORED_CALLS] = {step, clock, nap, wait, wake, alive, ring};
    for (int i = 0; i < EXPLORED_CALLS; i++) {
        Py_XSETREF(explored_calls[i], calls[i] == Py_None ? NULL : Py_NewRef(calls[i]));
    }
}

/* Call one of them; keeps an error that is set. What they raise ends the exploration. */
static int64_t explored_call(int which, PyObject *arguments)
{
    if (explored_calls[which] == NULL) {
        return 0; /* a handle is opened or goes away outside of an exploration */
    }
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *result =
        arguments == NULL ? PyObject_CallNoArgs(explored_calls[which]) : PyObject_Call(explored_calls[which], arguments, NULL);
    if (result == NULL) {
        PyErr_Print();
        Py_FatalError("the explorer has raised inside a step");
    }
    const int64_t number = PyLong_Check(result) ? PyLong_AsLongLong(result) : 0;
    Py_DECREF(result);
    Py_XDECREF(arguments);
    PyErr_Restore(type, value, traceback);
    return number;
}

/* How often a step was taken at each place, for the coverage of the labels. */
struct explored_place {
    const char *label;
    uint64_t times;
    struct explored_place *next;
};

static struct explored_place *explored_places;

/* Weak, like explored_take_over, because plain.c, a unit without steps, includes this too; that of module.c is used. */
__attribute__((weak, visibility("default"))) PyObject *explored_coverage(void)
{
    PyObject *found = PyList_New(0);
    for (struct explored_place *place = explored_places; place != NULL; place = place->next) {
        PyObject *pair = Py_BuildValue("sK", place->label, (unsigned long long)place->times);
        PyList_Append(found, pair);
        Py_DECREF(pair);
    }
    return found;
}

static inline void explored_step(struct explored_place *place)
{
    if (explored_call(0, NULL) != 0 && place->times++ == 0) {
        place->next = explored_places;
        explored_places = place;
    }
}

#define SHMQ_STEP(name)                                                                                                \
    __extension__({                                                                                                    \
        static struct explored_place explored_here = {.label = (name)};                                                \
        explored_step(&explored_here);                                                                                 \
    })

static int explored_clock_gettime(clockid_t clock, struct timespec *time)
{
    (void)clock;
    const int64_t now = explored_call(1, NULL);
    time->tv_sec = now / 1000000000;
    time->tv_nsec = now % 1000000000;
    return 0;
}

static void explored_nap(void)
{
    explored_call(2, NULL);
}

static long explored_futex(const uint32_t *word, int operation, uint32_t value, const struct timespec *time)
{
    const unsigned long long address = (uintptr_t)word;
    if (operation == FUTEX_WAKE) {
        return (long)explored_call(4, Py_BuildValue("KI", address, value));
    }
    return (long)explored_call(
        3, Py_BuildValue("KIL", address, value, (long long)time->tv_sec * 1000000000 + time->tv_nsec));
}

/* A ring is received if its name is bound. */
static ssize_t explored_send(const struct sockaddr *address, socklen_t size)
{
    const char *name = address->sa_data + 1;
    const socklen_t before = offsetof(struct sockaddr, sa_data) + 1;
    const bool is_received = explored_call(6, Py_BuildValue("(y#)", name, (Py_ssize_t)(size - before))) != 0;
    errno = ECONNREFUSED; /* the call has run Python */
    return is_received ? 0 : -1;
}

/* In the place of processes.h. */
#define SHMQ_PROCESSES_H
static bool shmq_process_is_alive(uint64_t pid, uint64_t start)
{
    return explored_calls[5] == NULL ||
           explored_call(5, Py_BuildValue("KK", (unsigned long long)pid, (unsigned long long)start)) != 0;
}

/* A second look is the same as a first one that comes later, and the scheduler has those. */
#define SHMQ_LOOKS 1

#define clock_gettime explored_clock_gettime
#define sched_yield explored_nap
#define nanosleep(...) explored_nap()
#define sendto(socket, bytes, count, flags, address, size) explored_send((address), (size))
#define syscall(number, word, operation, value, time, ...) explored_futex((word), (operation), (uint32_t)(value), (time))

#endif
