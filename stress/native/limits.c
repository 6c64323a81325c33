/* What this machine can do at best, for the benchmark to compare with: a line of cache that goes to and fro between two
   cores, a sleeper that a futex wakes, and the copying of memory. Prints JSON. Arguments: seconds of each, and the
   pause before each wake-up in µs; without a pause, only the line of cache. */

#define _GNU_SOURCE
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MOST (1 << 20) /* samples */
#define LAST UINT32_MAX

static struct {
    _Alignas(64) _Atomic uint32_t ping;
    _Alignas(64) _Atomic uint32_t pong;
    _Alignas(64) int64_t woken[MOST];
} *shared;

static int64_t samples[MOST];

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

static cpu_set_t may; /* the processors that this process may use */

/* Stay on one of them. */
static void pin(int which)
{
    cpu_set_t one;
    which %= CPU_COUNT(&may);
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &may) && which-- == 0) {
            CPU_SET(cpu, &one);
        }
    }
    sched_setaffinity(0, sizeof one, &one);
}

static int earlier(const void *one, const void *other)
{
    const int64_t a = *(const int64_t *)one, b = *(const int64_t *)other;
    return (a > b) - (a < b);
}

static void print(const char *name, int count)
{
    qsort(samples, (size_t)count, sizeof *samples, earlier);
    printf("\"%s\": {\"p50\": %.3f, \"p99\": %.3f, \"p99.9\": %.3f}", name, (double)samples[count / 2] / 1e3,
           (double)samples[(int)(count * 0.99)] / 1e3, (double)samples[(int)(count * 0.999)] / 1e3);
}

static pid_t start_child(void)
{
    atomic_store(&shared->ping, 0);
    atomic_store(&shared->pong, 0);
    fflush(stdout);
    const pid_t parent = getpid(), child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) {
            _exit(1);
        }
        pin(1);
    } else if (child < 0) {
        perror("fork");
        exit(1);
    }
    return child;
}

static void ping_pong(double seconds)
{
    const pid_t child = start_child();
    if (child == 0) {
        for (uint32_t seen = 0; seen != LAST;) {
            uint32_t value;
            while ((value = atomic_load_explicit(&shared->ping, memory_order_acquire)) == seen) {
                relax();
            }
            atomic_store_explicit(&shared->pong, value, memory_order_release);
            seen = value;
        }
        _exit(0);
    }
    int count = 0;
    const int64_t until = now() + (int64_t)(seconds * 1e9);
    for (uint32_t round = 1; count < MOST; round++) {
        const int64_t start = now();
        const uint32_t value = start < until ? round : LAST;
        atomic_store_explicit(&shared->ping, value, memory_order_release);
        while (atomic_load_explicit(&shared->pong, memory_order_acquire) != value) {
            relax();
        }
        if (value == LAST) {
            break;
        }
        samples[count++] = now() - start;
    }
    if (count == MOST) {
        atomic_store_explicit(&shared->ping, LAST, memory_order_release);
    }
    waitpid(child, NULL, 0);
    print("ping-pong", count);
}

static void futex(double seconds, int pause)
{
    const int count = (int)(seconds * 1e6 / pause / 2) < 10 ? 10 : (int)(seconds * 1e6 / pause / 2);
    const pid_t child = start_child();
    if (child == 0) {
        for (int i = 0; i < count && i < MOST; i++) {
            while (atomic_load_explicit(&shared->ping, memory_order_acquire) == (uint32_t)i) {
                syscall(SYS_futex, &shared->ping, FUTEX_WAIT, (uint32_t)i, NULL, NULL, 0);
            }
            shared->woken[i] = now();
        }
        _exit(0);
    }
    for (int i = 0; i < count && i < MOST; i++) {
        usleep((useconds_t)pause);
        samples[i] = now();
        atomic_store_explicit(&shared->ping, (uint32_t)i + 1, memory_order_release);
        syscall(SYS_futex, &shared->ping, FUTEX_WAKE, 1, NULL, NULL, 0);
    }
    waitpid(child, NULL, 0);
    for (int i = 0; i < count && i < MOST; i++) {
        samples[i] = shared->woken[i] - samples[i];
    }
    print("futex", count < MOST ? count : MOST);
}

static void copy(double seconds, size_t size)
{
    enum { SPACE = 1 << 26 };
    char *from = mmap(NULL, SPACE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char *to = mmap(NULL, SPACE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (from == MAP_FAILED || to == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    memset(from, 1, SPACE);
    memset(to, 2, SPACE);
    uint64_t copied = 0;
    const int64_t start = now(), until = start + (int64_t)(seconds * 1e9);
    int64_t end = start;
    for (size_t at = 0; end < until; end = now()) {
        for (int i = 0; i < 64; i++, at += size) {
            at = at + size > SPACE ? 0 : at;
            memcpy(to + at, from + at, size);
            __asm__ volatile("" : : "r"(to) : "memory");
        }
        copied += 64 * size;
    }
    printf("\"memcpy %zu\": {\"GB/s\": %.3f}", size, (double)copied / (double)(end - start));
    munmap(from, SPACE);
    munmap(to, SPACE);
}

int main(int count, char **arguments)
{
    if (count != 2 && count != 3) {
        fprintf(stderr, "usage: limits SECONDS [PAUSE]\n");
        return 2;
    }
    const double seconds = atof(arguments[1]);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        perror("mmap");
        return 1;
    }
    sched_getaffinity(0, sizeof may, &may);
    pin(0);
    printf("{");
    ping_pong(seconds);
    if (count == 3) {
        printf(", ");
        futex(seconds, atoi(arguments[2]));
        printf(", ");
        copy(seconds / 2, 4096);
        printf(", ");
        copy(seconds / 2, 1 << 20);
    }
    printf("}\n");
    return 0;
}
