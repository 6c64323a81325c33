/* Atomic operations on memory that may hold anything: for ring_memory.c, in the place of the compiler's. */

#ifndef ANY_MEMORY_STDATOMIC_H
#define ANY_MEMORY_STDATOMIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#undef __builtin_offsetof /* the checker's own is no constant, and layout.h asserts with it */

#define _Atomic
#define ATOMIC_LLONG_LOCK_FREE 2
#define ATOMIC_INT_LOCK_FREE 2

enum { memory_order_relaxed, memory_order_acquire, memory_order_release, memory_order_acq_rel, memory_order_seq_cst };

unsigned long nondet_ulong(void);
bool nondet_bool(void);
void check_access(const volatile void *at, size_t size);

#define atomic_load_explicit(at, order) (check_access((at), sizeof *(at)), (__typeof__(*(at)))nondet_ulong())
#define atomic_store_explicit(at, value, order) ((void)(value), check_access((at), sizeof *(at)))
#define atomic_fetch_add_explicit(at, amount, order)                                                                   \
    ((void)(amount), check_access((at), sizeof *(at)), (__typeof__(*(at)))nondet_ulong())
#define atomic_fetch_and_explicit(at, bits, order)                                                                     \
    ((void)(bits), check_access((at), sizeof *(at)), (__typeof__(*(at)))nondet_ulong())
#define atomic_fetch_or_explicit(at, bits, order)                                                                      \
    ((void)(bits), check_access((at), sizeof *(at)), (__typeof__(*(at)))nondet_ulong())
#define atomic_compare_exchange_strong_explicit(at, expected, desired, success, failure)                               \
    ((void)(expected), (void)(desired), check_access((at), sizeof *(at)), nondet_bool())

#endif
