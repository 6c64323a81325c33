/* Access to the shared words, and to the caches in which they lie. The same as _platform/atomic_words.py, but with a
   memory order for each edge.

   If SHMQ_STEP(label) is defined before this is included, it is called before each atomic step on shared memory. */

#ifndef SHMQ_ATOMIC_WORDS_H
#define SHMQ_ATOMIC_WORDS_H

#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#ifndef SHMQ_STEP
#define SHMQ_STEP(label) ((void)0)
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__) &&       \
    !defined(SHMQ_BY_WORDS)
#define SHMQ_HAS_STRINGS
#endif
#endif

/* Bytes from which on, and up to which, one string instruction copies faster than words. */
#define SHMQ_LONG 768
#define SHMQ_LONGEST (4U << 20)

/* Copy bytes by one string instruction. It writes each of them once, and is no race in C, which says nothing about it;
   it is complete before a compare-and-swap that follows. Checkers and sanitizers do not look into it, and get words. */
#ifdef SHMQ_HAS_STRINGS
static inline void shmq_copy_string(void *to, const void *from, uint64_t length)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(length) : : "memory");
}
#endif

#define SHMQ_LOAD(label, word, order) (SHMQ_STEP(label), atomic_load_explicit((word), (order)))
#define SHMQ_STORE(label, word, value, order) (SHMQ_STEP(label), atomic_store_explicit((word), (value), (order)))
#define SHMQ_ADD(label, word, amount, order) (SHMQ_STEP(label), atomic_fetch_add_explicit((word), (amount), (order)))
#define SHMQ_OR(label, word, bits, order) (SHMQ_STEP(label), atomic_fetch_or_explicit((word), (bits), (order)))
/* The strong one: if a claim failed for no reason, its caller would look for one. */
#define SHMQ_CAS(label, word, expected, desired, success, failure)                                                     \
    (SHMQ_STEP(label),                                                                                                 \
     atomic_compare_exchange_strong_explicit((word), &(uint64_t){(expected)}, (desired), (success), (failure)))

/* Fetch a cache line for writing; a hint. On x86 the builtin fetches a shared copy, and the write would fetch it
   again. */
#if defined(__x86_64__) && defined(__GNUC__)
#define SHMQ_PREFETCH(line) __asm__ volatile("prefetchw %0" : : "m"(*(const char *)(line)))
#elif defined(__GNUC__)
#define SHMQ_PREFETCH(line) __builtin_prefetch((line), 1)
#else
#define SHMQ_PREFETCH(line) ((void)0)
#endif

/* An acquire load in an attempt; a seq_cst load in the last look before a sleep [W3]. */
#define SHMQ_LOOK(label, word, sure)                                                                                   \
    (SHMQ_STEP(label), (sure) ? atomic_load_explicit((word), memory_order_seq_cst)                                     \
                              : atomic_load_explicit((word), memory_order_acquire))

/* Pause, so that another core gets the cache line, and another thread of this core can run. */
static inline void shmq_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* The half of a word that a futex can sleep on: the 32 bits that change. */
static inline uint32_t *shmq_low_half(_Atomic uint64_t *word)
{
    const uint16_t probe = 1;
    unsigned char first;
    memcpy(&first, &probe, 1);
    return (uint32_t *)((uintptr_t)word + (first == 1 ? 0 : 4));
}

#endif
