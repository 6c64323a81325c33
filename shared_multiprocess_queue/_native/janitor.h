/* The end of a process by a signal that the program does not handle: a janitor removes its queues.

   A queue made with delete=True goes with its last user. A process that ends by SIGTERM or SIGHUP runs no Python any
   more. So the signal handler forks a janitor before it lets the signal have its way. The janitor drops all that it
   has inherited, waits until its parent is gone, and removes the queues that have no user left, by the rules of
   _platform/removal.py: the flock, the lock of use taken alone, and a look at whether the name still means the segment.
   If several users end at once, each has a janitor, and the last of these finds no user.

   A child that has just begun may have the use of a queue and no code yet that would end it. If such a child may be
   there, the janitor looks again and again, for a few seconds; the process leaves one behind at a regular end, too.

   All of this runs in a signal handler or in its forked child, so it makes system calls only: the function `syscall`, in
   parentheses, because a test build has a macro of that name for the waits of the ring. Linux only. */

#ifndef SHMQ_JANITOR_H
#define SHMQ_JANITOR_H

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "layout.h"

#define SHMQ_SHM_FOLDER "/dev/shm/"
#define SHMQ_ENDING "-queue"
#define SHMQ_LOCK_ENDING "-lock"
#define SHMQ_ANONYMOUS "anonymous-"
#define SHMQ_MOST_LEFT 1024   /* mappings; queues beyond that are left to the next creation of a queue */
#define SHMQ_LONGEST_PATH 300 /* of a queue: a name has 255 characters at most */
#define SHMQ_MOST_MS 5000     /* that a parent may take to end, and a child to begin or to end */
#define SHMQ_LOOK_MS 10       /* between two looks for such a child */
#define SHMQ_LATE_MS 200      /* that mappings may outlast their process, whose memory another reads from /proc */
#define SHMQ_FLOCK_MS 1000    /* that another remover may take; on a busy machine it sleeps where it has the flock */

struct shmq_left {
    uintptr_t start, end;
    ino_t inode;
    char path[SHMQ_LONGEST_PATH];
};

static struct shmq_left shmq_left[SHMQ_MOST_LEFT]; /* of the janitor's own copy of the memory */
static size_t shmq_number_left;

static _Atomic int64_t shmq_child_began; /* monotonic ms, or 0 */

static inline int64_t shmq_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static inline bool shmq_has_a_child_just_begun(void)
{
    const int64_t began = shmq_child_began;
    return began != 0 && shmq_now_ms() - began < SHMQ_MOST_MS;
}

static inline void shmq_sleep_ms(int ms)
{
    const struct timespec pause = {.tv_nsec = ms * 1000000L};
    nanosleep(&pause, NULL);
}

/* ---- what the process had mapped ---- */

static inline uintptr_t shmq_read_number(const char **text, unsigned base)
{
    uintptr_t number = 0;
    for (;; ++*text) {
        const char c = **text;
        const unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                               : c >= 'a' && c <= 'f' ? (unsigned)(c - 'W')
                                                      : base;
        if (digit >= base) {
            return number;
        }
        number = number * base + digit;
    }
}

static inline bool shmq_ends_with(const char *text, const char *ending)
{
    const size_t length = strlen(text), end = strlen(ending);
    return length > end && memcmp(text + length - end, ending, end + 1) == 0;
}

/* Note a line of /proc/self/maps if it is a mapping of a queue: start-end permissions offset device inode path. */
static inline void shmq_note_mapping(const char *line)
{
    const char *path = strstr(line, SHMQ_SHM_FOLDER);
    if (path == NULL || strlen(path) >= SHMQ_LONGEST_PATH || !shmq_ends_with(path, SHMQ_ENDING) ||
        shmq_number_left == SHMQ_MOST_LEFT) {
        return;
    }
    struct shmq_left *left = &shmq_left[shmq_number_left++];
    left->start = shmq_read_number(&line, 16);
    line++;
    left->end = shmq_read_number(&line, 16);
    for (int field = 0; field < 4; field++) {
        line = strchr(line, ' ') + 1; /* there is one, because the path stands behind it */
    }
    left->inode = (ino_t)shmq_read_number(&line, 10);
    strcpy(left->path, path);
}

static inline void shmq_note_mappings(void)
{
    static char text[16384];
    size_t filled = 0;
    const int file = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    for (;;) {
        const ssize_t length = read(file, text + filled, sizeof text - filled);
        if (length <= 0) {
            break;
        }
        filled += (size_t)length;
        char *line = text;
        for (char *end; (end = memchr(line, '\n', filled - (size_t)(line - text))) != NULL; line = end + 1) {
            *end = '\0';
            shmq_note_mapping(line);
        }
        filled -= (size_t)(line - text);
        memmove(text, line, filled);
        if (filled == sizeof text) {
            filled = 0; /* no path of a queue is as long as that */
        }
    }
    close(file);
}

/* ---- removing a queue: see _platform/removal.py ---- */

static inline bool shmq_lock_file(int file)
{
    for (int ms = 0; flock(file, LOCK_EX | LOCK_NB) != 0; ms++) {
        if (ms == SHMQ_FLOCK_MS) {
            return false;
        }
        shmq_sleep_ms(1);
    }
    return true;
}

static inline bool shmq_is_file_of(int file, const char *path)
{
    struct stat opened, named;
    return fstat(file, &opened) == 0 && lstat(path, &named) == 0 && opened.st_ino == named.st_ino &&
           opened.st_dev == named.st_dev;
}

/* Whether a queue without users is to be removed: as `_goes` of _engine/sweep.py. */
static inline bool shmq_goes_with_users(int file, const char *path)
{
    uint64_t magic = 0, version = 0, deleted = 0;
    if (pread(file, &magic, sizeof magic, offsetof(struct shmq_header, magic)) != sizeof magic ||
        pread(file, &version, sizeof version, offsetof(struct shmq_header, version)) != sizeof version ||
        pread(file, &deleted, sizeof deleted, offsetof(struct shmq_header, deleted)) != sizeof deleted) {
        return false;
    }
    if (magic == SHMQ_UNFINISHED) {
        return deleted == 1 || strstr(path, SHMQ_ANONYMOUS) != NULL;
    }
    return magic == SHMQ_MAGIC && version == SHMQ_VERSION && deleted == 1;
}

static inline bool shmq_take_alone(int file)
{
    struct flock alone = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
    return fcntl(file, F_OFD_SETLK, &alone) == 0;
}

static inline int shmq_open_segment(const char *path)
{
    return open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
}

/* Return whether it is worth another try: a process uses the queue, or removes it now. */
static inline bool shmq_remove_if_unused(const struct shmq_left *left)
{
    const int file = shmq_open_segment(left->path);
    struct stat status;
    if (fstat(file, &status) != 0 || status.st_ino != left->inode) {
        close(file);
        return false;
    }
    const bool is_locked = shmq_lock_file(file);
    const bool goes = is_locked && shmq_goes_with_users(file, left->path);
    const bool is_alone = goes && shmq_take_alone(file);
    if (is_alone && shmq_is_file_of(file, left->path)) {
        char lock_path[SHMQ_LONGEST_PATH + sizeof SHMQ_LOCK_ENDING];
        strcpy(lock_path, left->path);
        strcat(lock_path, SHMQ_LOCK_ENDING);
        const int lock = shmq_open_segment(lock_path); /* before the queue's name is gone, so that it is this queue's */
        unlink(left->path);                            /* first, so that no process finds a queue without a lock */
        if (lock >= 0 && shmq_lock_file(lock) && shmq_is_file_of(lock, lock_path)) {
            unlink(lock_path);
        }
        close(lock);
        const uint64_t gone = 1;
        (void)!pwrite(file, &gone, sizeof gone, offsetof(struct shmq_header, unlinked));
    }
    close(file);
    return !is_locked || (goes && !is_alone);
}

/* ---- the janitor ---- */

/* Others may wait for the end of a pipe, and a descriptor may have a lock of use. */
static inline void shmq_close_all(void)
{
#ifdef SYS_close_range
    if ((syscall)(SYS_close_range, 0U, ~0U, 0U) == 0) {
        return;
    }
#endif
    for (int file = 0; file < 65536; file++) { /* Linux before 5.9 */
        close(file);
    }
}

/* The mapping of a queue has the lock of use. */
static inline void shmq_unmap_all(void)
{
    shmq_note_mappings();
    for (size_t i = 0; i < shmq_number_left; i++) {
        munmap((void *)shmq_left[i].start, shmq_left[i].end - shmq_left[i].start);
    }
}

static inline void shmq_clean_up_after(pid_t parent)
{
    const bool is_patient = shmq_has_a_child_just_begun();
    shmq_close_all();
    shmq_unmap_all();
    for (int ms = 0; getppid() == parent; ms++) {
        if (ms == SHMQ_MOST_MS) {
            return;
        }
        shmq_sleep_ms(1);
    }
    for (int ms = 0; ms <= (is_patient ? SHMQ_MOST_MS : SHMQ_LATE_MS); ms += SHMQ_LOOK_MS) {
        size_t used = 0;
        for (size_t i = 0; i < shmq_number_left; i++) {
            if (shmq_remove_if_unused(&shmq_left[i])) {
                shmq_left[used++] = shmq_left[i];
            }
        }
        shmq_number_left = used;
        if (used == 0) {
            return;
        }
        shmq_sleep_ms(SHMQ_LOOK_MS);
    }
}

/* Fork without what the C library does beside it: in a signal handler its locks may be held. */
static inline pid_t shmq_fork_alone(void)
{
#ifdef SYS_fork
    return (pid_t)(syscall)(SYS_fork);
#else
    return (pid_t)(syscall)(SYS_clone, SIGCHLD, 0, 0, 0, 0);
#endif
}

/* All signals are blocked in here, and stay so in the janitor. */
static inline void shmq_leave_janitor(void)
{
    const pid_t parent = getpid();
    if (shmq_fork_alone() == 0) {
        shmq_clean_up_after(parent);
        _exit(0);
    }
}

static void shmq_end_by_signal(int number)
{
    shmq_leave_janitor();
    struct sigaction by_default = {.sa_handler = SIG_DFL};
    sigaction(number, &by_default, NULL);
    sigset_t it;
    sigemptyset(&it);
    sigaddset(&it, number);
    raise(number);
    pthread_sigmask(SIG_UNBLOCK, &it, NULL); /* here the process ends */
}

/* At a regular end of this process: leave a janitor, if a child has just begun that may end without a word. */
static inline void shmq_end_regularly(void)
{
    if (shmq_has_a_child_just_begun()) {
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_BLOCK, &all, &before);
        shmq_leave_janitor();
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
}

/* See that a janitor comes if this process ends by a signal that the program does not handle. */
static inline void shmq_watch_signals(void)
{
    static const int signals[] = {SIGTERM, SIGHUP};
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        struct sigaction action;
        if (sigaction(signals[i], NULL, &action) == 0 && action.sa_handler == SIG_DFL) {
            action = (struct sigaction){.sa_handler = shmq_end_by_signal, .sa_flags = SA_RESTART | SA_ONSTACK};
            sigfillset(&action.sa_mask);
            sigaction(signals[i], &action, NULL);
        }
    }
}

#endif
