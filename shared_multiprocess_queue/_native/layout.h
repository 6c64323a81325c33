/* Where everything lies in the segment, and how its words are encoded.

   The same table as _ring/layout.py, which says what each word is for; a test compares the two by name. Here the
   compiler adds up the offsets, so a new word cannot overlap another.

       [head][tail][constants][marks][counts][items wake][space wake][returns][idle wake][locks][roles][format name]
       [namespaces][bells][records ...][slots ...][lease heads ...][lease payloads ...][dead heads ...]
       [dead payloads ...][definitions]

   The byte order is that of the machine. All words are shared with processes that may write anything at any time, so
   all are atomic. This file needs only C11. */

#ifndef SHMQ_LAYOUT_H
#define SHMQ_LAYOUT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A word that is not lock-free would be guarded by a lock in the memory of one process, which two processes cannot
   share. */
#if defined(__STDC_NO_ATOMICS__) || ATOMIC_LLONG_LOCK_FREE != 2 || ATOMIC_INT_LOCK_FREE != 2
#error "shared memory needs 64-bit and 32-bit atomics that are always lock-free"
#endif

#define SHMQ_WORD 8
#define SHMQ_WORD_MASK UINT64_MAX /* both engines calculate words modulo this + 1 */
#define SHMQ_LINE 64

/* ---- the word of a slot: position << 2 | state ---- */

#define SHMQ_FREE UINT64_C(0) /* a put at this position may write it */
#define SHMQ_FULL UINT64_C(1) /* holds the item of this position */
#define SHMQ_TOMB UINT64_C(2) /* this position will never hold an item: its put died */
#define SHMQ_GIVEN UINT64_C(3) /* its item has gone to a lease slot; the word has another form, see layout.py */
#define SHMQ_STATE_BITS 2
#define SHMQ_STATE_MASK ((UINT64_C(1) << SHMQ_STATE_BITS) - 1)
#define SHMQ_GIVEN_LEASE_SHIFT 48
#define SHMQ_GIVEN_POSITION_MASK ((UINT64_C(1) << 46) - 1)

/* ---- the marks of head and tail, beside their positions ---- */

#define SHMQ_CLOSED (UINT64_C(1) << 61)  /* in tail: no put claims any more */
#define SHMQ_STOPPED (UINT64_C(1) << 61) /* in head, or, in mode spsc, in `stopped`: no get claims any more */

/* The position that head or tail states, without its mark. */
static inline uint64_t shmq_unmarked(uint64_t end)
{
    return end & (SHMQ_CLOSED - 1);
}

/* meta of a slot = codec tag | index of the slot in its put << 8 */
#define SHMQ_TAG_BITS 8
#define SHMQ_TAG_MASK ((1U << SHMQ_TAG_BITS) - 1)
#define SHMQ_MORE 255U /* the tag of the slots of an item but for its first */
#define SHMQ_MAX_BATCH (UINT64_C(1) << 24)

struct shmq_slot {
    _Atomic uint64_t word;
    _Atomic uint32_t length; /* bytes of the item; in a slot of the tag MORE, of payload */
    _Atomic uint32_t meta;
    unsigned char payload[];
};

/* ---- the owner word: pid | start time << 24 | namespace << 58 ---- */

#define SHMQ_OWNER_PID_BITS 24
#define SHMQ_OWNER_START_BITS 34
#define SHMQ_OWNER_PID_MASK ((UINT64_C(1) << SHMQ_OWNER_PID_BITS) - 1)
#define SHMQ_OWNER_START_MASK ((UINT64_C(1) << SHMQ_OWNER_START_BITS) - 1)
#define SHMQ_OWNER_NAMESPACE_SHIFT (SHMQ_OWNER_PID_BITS + SHMQ_OWNER_START_BITS)
#define SHMQ_NAMESPACES 63

/* ---- the name of a participant: generation << 16 | 1 + index of its record ---- */

#define SHMQ_NAME_INDEX_BITS 16
#define SHMQ_NAME_INDEX_MASK ((UINT64_C(1) << SHMQ_NAME_INDEX_BITS) - 1)

/* The word of a slot whose item, of this position, has gone to a lease slot. */
static inline uint64_t shmq_given_word(uint64_t position, uint32_t lease)
{
    return (uint64_t)lease << SHMQ_GIVEN_LEASE_SHIFT | (position & SHMQ_GIVEN_POSITION_MASK) << SHMQ_STATE_BITS |
           SHMQ_GIVEN;
}

/* Whether a word says that the item of a position has gone to a lease slot, whichever that is. */
static inline bool shmq_is_given(uint64_t word, uint64_t position)
{
    return (word & ((UINT64_C(1) << SHMQ_GIVEN_LEASE_SHIFT) - 1)) == shmq_given_word(position, 0);
}

static inline uint64_t shmq_name_of(uint32_t index, uint64_t generation)
{
    return generation << SHMQ_NAME_INDEX_BITS | (uint64_t)(index + 1);
}

/* ---- the header ---- */

#define SHMQ_VERSION 2

/* Eight characters as they lie in the memory of a little-endian machine. */
#define SHMQ_CHARACTERS(a, b, c, d, e, f, g, h)                                                                        \
    ((uint64_t)(a) | (uint64_t)(b) << 8 | (uint64_t)(c) << 16 | (uint64_t)(d) << 24 | (uint64_t)(e) << 32 |            \
     (uint64_t)(f) << 40 | (uint64_t)(g) << 48 | (uint64_t)(h) << 56)
#define SHMQ_MAGIC SHMQ_CHARACTERS('S', 'H', 'M', 'Q', 'U', 'E', 'U', 'E')
#define SHMQ_UNFINISHED SHMQ_CHARACTERS('S', 'H', 'M', 'Q', 'B', 'O', 'R', 'N')

#define SHMQ_RECORDS 1024
#define SHMQ_BELL_MASKS 3
#define SHMQ_BELL_WORDS 16 /* a bit for each record */
#define SHMQ_FORMAT_NAME_SIZE (2 * SHMQ_LINE)

/* The wake words of one side. */
struct shmq_wake_words {
    _Alignas(SHMQ_LINE) _Atomic uint64_t epoch;
    _Atomic uint64_t hint; /* version << 1 | armed */
};

struct shmq_header {
    _Alignas(SHMQ_LINE) _Atomic uint64_t head;
    unsigned char beside_head[SHMQ_LINE]; /* x86 fetches lines in pairs */
    _Alignas(SHMQ_LINE) _Atomic uint64_t tail;
    unsigned char beside_tail[SHMQ_LINE];

    _Alignas(SHMQ_LINE) _Atomic uint64_t magic; /* constants */
    _Atomic uint64_t version;
    _Atomic uint64_t capacity;
    _Atomic uint64_t item_size;
    _Atomic uint64_t mode;
    _Atomic uint64_t records;
    _Atomic uint64_t definitions_size;
    _Atomic uint64_t segment_size;

    _Alignas(SHMQ_LINE) _Atomic uint64_t leases; /* more constants */
    _Atomic uint64_t max_deliveries;
    _Atomic uint64_t max_item_size;
    _Atomic uint64_t format;

    _Alignas(SHMQ_LINE) _Atomic uint64_t unlinked; /* marks */
    _Atomic uint64_t records_used;
    _Atomic uint64_t nonce;
    _Atomic uint64_t created;
    _Atomic uint64_t creator;
    _Atomic uint64_t stopped; /* mode spsc */
    _Atomic uint64_t deleted; /* with the last user */
    _Atomic uint64_t numbered;

    _Alignas(SHMQ_LINE) _Atomic uint64_t tombs; /* counts */
    _Atomic uint64_t adopted;
    _Atomic uint64_t full_events;
    _Atomic uint64_t empty_events;
    _Atomic uint64_t put_waits;
    _Atomic uint64_t get_waits;
    _Atomic uint64_t bells_refused;

    _Alignas(SHMQ_LINE) _Atomic uint64_t redelivered; /* more counts */
    _Atomic uint64_t lease_waits;
    _Atomic uint64_t dead_letters;
    _Atomic uint64_t dead_letters_refused;

    struct shmq_wake_words items; /* of getters */
    struct shmq_wake_words space; /* of putters */

    _Alignas(SHMQ_LINE) _Atomic uint64_t returned; /* returns: version << 1 | armed */
    _Atomic uint64_t look_at;                      /* monotonic time in ns */
    _Atomic uint64_t leases_ready;                 /* lease slots that have memory; 0: all */

    struct shmq_wake_words idle; /* of those that wait in join */

    _Alignas(SHMQ_LINE) _Atomic uint64_t batch_owner; /* locks */
    _Atomic uint64_t gate;
    _Atomic uint64_t definitions_owner;

    _Alignas(SHMQ_LINE) _Atomic uint64_t producer; /* roles */
    _Atomic uint64_t consumer;

    _Alignas(SHMQ_LINE) _Atomic uint64_t format_name[SHMQ_FORMAT_NAME_SIZE / SHMQ_WORD];

    _Alignas(SHMQ_LINE) _Atomic uint64_t namespaces[SHMQ_NAMESPACES];

    /* Which bells wait, one bit for each record: for items, for space, for the turn of the batch lock. */
    _Alignas(SHMQ_LINE) _Atomic uint64_t bells[SHMQ_BELL_MASKS][SHMQ_BELL_WORDS];
};

/* ---- a participant's record, one for each operation in progress or bell ---- */

struct shmq_record {
    _Alignas(SHMQ_LINE) _Atomic uint64_t owner;
    _Atomic uint64_t generation;
    _Atomic uint64_t put_begin;
    _Atomic uint64_t put_end;
    _Atomic uint64_t get_begin;
    _Atomic uint64_t get_end;
    _Atomic uint64_t abandoned;
    _Atomic uint64_t lock_busy;
};

#define SHMQ_RECORDS_START sizeof(struct shmq_header)
#define SHMQ_SLOTS_START (SHMQ_RECORDS_START + SHMQ_RECORDS * sizeof(struct shmq_record))

/* ---- the head of a lease slot ---- */

struct shmq_lease {
    _Alignas(SHMQ_LINE) _Atomic uint64_t holder; /* owner word of a process, or 0 */
    _Atomic uint64_t count;                      /* how often the item was taken; 0: there is none */
    _Atomic uint64_t position;
    _Atomic uint64_t since;
    _Atomic uint64_t due;
    _Atomic uint64_t delay;
    _Atomic uint32_t length;
    _Atomic uint32_t meta;
    _Atomic uint64_t link; /* 1 + index of the dead slot to or from which an item moves, or has moved; 0: none yet */
};

/* ---- the head of a dead slot; its word: version << 19 | lease << 3 | state, see layout.py ---- */

#define SHMQ_DEAD_FREE UINT64_C(0)
#define SHMQ_DEAD_BURYING UINT64_C(1)  /* the item of the lease slot is being copied to here */
#define SHMQ_DEAD_BURIED UINT64_C(2)   /* has the item; the lease slot does not know that yet */
#define SHMQ_DEAD_LETTER UINT64_C(3)   /* holds a dead letter */
#define SHMQ_DEAD_OFFERED UINT64_C(4)  /* is being put back; whether the queue takes it is to be decided */
#define SHMQ_DEAD_PUT_BACK UINT64_C(5) /* holds an item of the queue, which waits for a lease slot */
#define SHMQ_DEAD_GIVEN UINT64_C(6)    /* its item has gone to the lease slot */
#define SHMQ_DEAD_STATE_MASK UINT64_C(7)
#define SHMQ_DEAD_LEASE_SHIFT 3
#define SHMQ_DEAD_LEASE_MASK 0xFFFFU
#define SHMQ_DEAD_VERSION_SHIFT 19

struct shmq_dead {
    _Alignas(SHMQ_LINE) _Atomic uint64_t word;
    _Atomic uint64_t count; /* how often its item was taken, before it became a dead letter */
    _Atomic uint64_t position;
    _Atomic uint32_t length;
    _Atomic uint32_t meta;
};

/* The word that follows, with another state, and with the lease slot that it names. */
static inline uint64_t shmq_next_dead_word(uint64_t word, uint64_t state, uint32_t lease)
{
    return ((word >> SHMQ_DEAD_VERSION_SHIFT) + 1) << SHMQ_DEAD_VERSION_SHIFT |
           (uint64_t)lease << SHMQ_DEAD_LEASE_SHIFT | state;
}

static inline uint64_t shmq_dead_state(uint64_t word)
{
    return word & SHMQ_DEAD_STATE_MASK;
}

/* Whether a word names a lease slot, which has to take the next step. */
static inline bool shmq_names_lease(uint64_t word, uint32_t lease)
{
    const uint64_t state = shmq_dead_state(word);
    return (word >> SHMQ_DEAD_LEASE_SHIFT & SHMQ_DEAD_LEASE_MASK) == lease &&
           (state == SHMQ_DEAD_BURYING || state == SHMQ_DEAD_BURIED || state == SHMQ_DEAD_GIVEN);
}

/* ---- the definitions, behind the dead letters ---- */

#define SHMQ_DEFINITIONS_SIZE (1 << 20)
#define SHMQ_DEFINITIONS_END 0
#define SHMQ_DEFINITIONS_FIRST SHMQ_LINE

/* ---- memory that is taken as it is used ---- */

#define SHMQ_AT_ONCE 2048 /* bytes of a payload that get memory together with the number of their slot */

/* ---- limits ---- */

#define SHMQ_MAX_CAPACITY (UINT64_C(1) << 31)
#define SHMQ_MAX_ITEM_SIZE ((UINT64_C(1) << 31) - 1)
#define SHMQ_MAX_LEASES 65535
#define SHMQ_MAX_DELIVERIES 65535
#define SHMQ_MAX_DEAD 1024
#define SHMQ_MAX_SEGMENT_SIZE (UINT64_C(1) << 46)

/* The distance between two slots, in bytes. It is rounded up, so that a payload can be written in whole words. */
#define SHMQ_STRIDE(item_size)                                                                                         \
    (((uint64_t)sizeof(struct shmq_slot) + (uint64_t)(item_size) + SHMQ_LINE - 1) / SHMQ_LINE * SHMQ_LINE)

/* The distance between two payloads of lease slots. */
#define SHMQ_LEASE_STRIDE(max_item_size) (((uint64_t)(max_item_size) + SHMQ_LINE - 1) / SHMQ_LINE * SHMQ_LINE)

/* The number of dead slots. */
#define SHMQ_DEAD_SLOTS(leases, max_deliveries)                                                                        \
    ((max_deliveries) == 0 ? 0 : (leases) < SHMQ_MAX_DEAD ? (leases) : SHMQ_MAX_DEAD)

/* The whole segment, in bytes. */
#define SHMQ_SEGMENT_SIZE(capacity, item_size, leases, max_deliveries, max_item_size)                                  \
    (SHMQ_SLOTS_START + (uint64_t)(capacity)*SHMQ_STRIDE(item_size) +                                                  \
     ((uint64_t)(leases) + SHMQ_DEAD_SLOTS(leases, max_deliveries)) *                                                  \
         (sizeof(struct shmq_lease) + SHMQ_LEASE_STRIDE(max_item_size)) +                                              \
     SHMQ_DEFINITIONS_SIZE)

/* ---- times, which both engines keep; nanoseconds ---- */

#define SHMQ_HELD_SLICE INT64_C(10000000) /* the longest sleep while a claim is in progress */
#define SHMQ_PATIENCE INT64_C(100000000)  /* how long a call that does not wait gives a claim to end */
#define SHMQ_YIELDING INT64_C(1000000)    /* the part of it without sleeping */
#define SHMQ_NAP INT64_C(200000)          /* one sleep after that */
#define SHMQ_BETWEEN INT64_C(1000000)     /* the longest sleep while the batch lock has no owner and is not free */
#define SHMQ_GATE_LEASE UINT64_C(250000000) /* how long a gate stays closed if it is not renewed */
#define SHMQ_FAR_AHEAD UINT64_C(1000000000) /* no batch closes the gate for longer than this */
#define SHMQ_LOOK_EVERY INT64_C(100000000)  /* between two looks for dead holders of leases */
#define SHMQ_LOOK_LATEST INT64_C(200000000) /* the same after a look that took long, or was kept from the processor */

/* ---- the table: each number of _ring/layout.py, by its name there ---- */

#define SHMQ_LAYOUT(X)                                                                                                 \
    X(HELD_SLICE, SHMQ_HELD_SLICE)                                                                                     \
    X(PATIENCE, SHMQ_PATIENCE)                                                                                         \
    X(YIELDING, SHMQ_YIELDING)                                                                                         \
    X(NAP, SHMQ_NAP)                                                                                                   \
    X(BETWEEN, SHMQ_BETWEEN)                                                                                           \
    X(GATE_LEASE, SHMQ_GATE_LEASE)                                                                                     \
    X(FAR_AHEAD, SHMQ_FAR_AHEAD)                                                                                       \
    X(LOOK_EVERY, SHMQ_LOOK_EVERY)                                                                                     \
    X(LOOK_LATEST, SHMQ_LOOK_LATEST)                                                                                   \
    X(WORD, SHMQ_WORD)                                                                                                 \
    X(WORD_MASK, SHMQ_WORD_MASK)                                                                                       \
    X(LINE, SHMQ_LINE)                                                                                                 \
    X(FREE, SHMQ_FREE)                                                                                                 \
    X(FULL, SHMQ_FULL)                                                                                                 \
    X(TOMB, SHMQ_TOMB)                                                                                                 \
    X(GIVEN, SHMQ_GIVEN)                                                                                               \
    X(STATE_BITS, SHMQ_STATE_BITS)                                                                                     \
    X(STATE_MASK, SHMQ_STATE_MASK)                                                                                     \
    X(CLOSED, SHMQ_CLOSED)                                                                                             \
    X(STOPPED, SHMQ_STOPPED)                                                                                           \
    X(GIVEN_LEASE_SHIFT, SHMQ_GIVEN_LEASE_SHIFT)                                                                       \
    X(GIVEN_POSITION_MASK, SHMQ_GIVEN_POSITION_MASK)                                                                   \
    X(TAG_BITS, SHMQ_TAG_BITS)                                                                                         \
    X(TAG_MASK, SHMQ_TAG_MASK)                                                                                         \
    X(MORE, SHMQ_MORE)                                                                                                 \
    X(MAX_BATCH, SHMQ_MAX_BATCH)                                                                                       \
    X(SLOT_WORD, offsetof(struct shmq_slot, word))                                                                     \
    X(SLOT_LENGTH, offsetof(struct shmq_slot, length))                                                                 \
    X(SLOT_META, offsetof(struct shmq_slot, meta))                                                                     \
    X(SLOT_PAYLOAD, offsetof(struct shmq_slot, payload))                                                               \
    X(OWNER_PID_BITS, SHMQ_OWNER_PID_BITS)                                                                             \
    X(OWNER_START_BITS, SHMQ_OWNER_START_BITS)                                                                         \
    X(OWNER_PID_MASK, SHMQ_OWNER_PID_MASK)                                                                             \
    X(OWNER_START_MASK, SHMQ_OWNER_START_MASK)                                                                         \
    X(OWNER_NAMESPACE_SHIFT, SHMQ_OWNER_NAMESPACE_SHIFT)                                                               \
    X(NAMESPACES, SHMQ_NAMESPACES)                                                                                     \
    X(NAME_INDEX_BITS, SHMQ_NAME_INDEX_BITS)                                                                           \
    X(NAME_INDEX_MASK, SHMQ_NAME_INDEX_MASK)                                                                           \
    X(VERSION, SHMQ_VERSION)                                                                                           \
    X(MAGIC, SHMQ_MAGIC)                                                                                               \
    X(UNFINISHED, SHMQ_UNFINISHED)                                                                                     \
    X(HEAD, offsetof(struct shmq_header, head))                                                                        \
    X(TAIL, offsetof(struct shmq_header, tail))                                                                        \
    X(MAGIC_AT, offsetof(struct shmq_header, magic))                                                                   \
    X(VERSION_AT, offsetof(struct shmq_header, version))                                                               \
    X(CAPACITY_AT, offsetof(struct shmq_header, capacity))                                                             \
    X(ITEM_SIZE_AT, offsetof(struct shmq_header, item_size))                                                           \
    X(MODE_AT, offsetof(struct shmq_header, mode))                                                                     \
    X(RECORDS_AT, offsetof(struct shmq_header, records))                                                               \
    X(DEFINITIONS_SIZE_AT, offsetof(struct shmq_header, definitions_size))                                             \
    X(SEGMENT_SIZE_AT, offsetof(struct shmq_header, segment_size))                                                     \
    X(LEASES_AT, offsetof(struct shmq_header, leases))                                                                 \
    X(MAX_DELIVERIES_AT, offsetof(struct shmq_header, max_deliveries))                                                 \
    X(MAX_ITEM_SIZE_AT, offsetof(struct shmq_header, max_item_size))                                                   \
    X(FORMAT_AT, offsetof(struct shmq_header, format))                                                                 \
    X(UNLINKED_AT, offsetof(struct shmq_header, unlinked))                                                             \
    X(RECORDS_USED_AT, offsetof(struct shmq_header, records_used))                                                     \
    X(NONCE_AT, offsetof(struct shmq_header, nonce))                                                                   \
    X(CREATED_AT, offsetof(struct shmq_header, created))                                                               \
    X(CREATOR_AT, offsetof(struct shmq_header, creator))                                                               \
    X(STOPPED_AT, offsetof(struct shmq_header, stopped))                                                               \
    X(DELETE_AT, offsetof(struct shmq_header, deleted))                                                                \
    X(NUMBERED_AT, offsetof(struct shmq_header, numbered))                                                             \
    X(TOMBS_AT, offsetof(struct shmq_header, tombs))                                                                   \
    X(ADOPTED_AT, offsetof(struct shmq_header, adopted))                                                               \
    X(FULL_EVENTS_AT, offsetof(struct shmq_header, full_events))                                                       \
    X(EMPTY_EVENTS_AT, offsetof(struct shmq_header, empty_events))                                                     \
    X(PUT_WAITS_AT, offsetof(struct shmq_header, put_waits))                                                           \
    X(GET_WAITS_AT, offsetof(struct shmq_header, get_waits))                                                           \
    X(BELLS_REFUSED_AT, offsetof(struct shmq_header, bells_refused))                                                   \
    X(REDELIVERED_AT, offsetof(struct shmq_header, redelivered))                                                       \
    X(LEASE_WAITS_AT, offsetof(struct shmq_header, lease_waits))                                                       \
    X(DEAD_LETTERS_AT, offsetof(struct shmq_header, dead_letters))                                                     \
    X(DEAD_LETTERS_REFUSED_AT, offsetof(struct shmq_header, dead_letters_refused))                                     \
    X(ITEMS, offsetof(struct shmq_header, items))                                                                      \
    X(SPACE, offsetof(struct shmq_header, space))                                                                      \
    X(RETURNED_AT, offsetof(struct shmq_header, returned))                                                             \
    X(LOOK_AT, offsetof(struct shmq_header, look_at))                                                                  \
    X(LEASES_READY_AT, offsetof(struct shmq_header, leases_ready))                                                     \
    X(IDLE, offsetof(struct shmq_header, idle))                                                                        \
    X(WAKE_EPOCH, offsetof(struct shmq_wake_words, epoch))                                                             \
    X(WAKE_HINT, offsetof(struct shmq_wake_words, hint))                                                               \
    X(BATCH_OWNER_AT, offsetof(struct shmq_header, batch_owner))                                                       \
    X(TURN, offsetof(struct shmq_header, batch_owner))                                                                 \
    X(GATE_AT, offsetof(struct shmq_header, gate))                                                                     \
    X(DEFINITIONS_OWNER_AT, offsetof(struct shmq_header, definitions_owner))                                           \
    X(PRODUCER_AT, offsetof(struct shmq_header, producer))                                                             \
    X(CONSUMER_AT, offsetof(struct shmq_header, consumer))                                                             \
    X(FORMAT_NAME_SIZE, SHMQ_FORMAT_NAME_SIZE)                                                                         \
    X(FORMAT_NAME_AT, offsetof(struct shmq_header, format_name))                                                       \
    X(NAMESPACES_AT, offsetof(struct shmq_header, namespaces))                                                         \
    X(BELL_MASKS, SHMQ_BELL_MASKS)                                                                                     \
    X(BELL_WORDS, SHMQ_BELL_WORDS)                                                                                     \
    X(BELLS_AT, offsetof(struct shmq_header, bells))                                                                   \
    X(RECORDS_START, SHMQ_RECORDS_START)                                                                               \
    X(RECORDS, SHMQ_RECORDS)                                                                                           \
    X(RECORD_SIZE, sizeof(struct shmq_record))                                                                         \
    X(OWNER, offsetof(struct shmq_record, owner))                                                                      \
    X(GENERATION, offsetof(struct shmq_record, generation))                                                            \
    X(PUT_BEGIN, offsetof(struct shmq_record, put_begin))                                                              \
    X(PUT_END, offsetof(struct shmq_record, put_end))                                                                  \
    X(GET_BEGIN, offsetof(struct shmq_record, get_begin))                                                              \
    X(GET_END, offsetof(struct shmq_record, get_end))                                                                  \
    X(ABANDONED, offsetof(struct shmq_record, abandoned))                                                              \
    X(LOCK_BUSY, offsetof(struct shmq_record, lock_busy))                                                              \
    X(SLOTS_START, SHMQ_SLOTS_START)                                                                                   \
    X(LEASE_HOLDER, offsetof(struct shmq_lease, holder))                                                               \
    X(LEASE_COUNT, offsetof(struct shmq_lease, count))                                                                 \
    X(LEASE_POSITION, offsetof(struct shmq_lease, position))                                                           \
    X(LEASE_SINCE, offsetof(struct shmq_lease, since))                                                                 \
    X(LEASE_DUE, offsetof(struct shmq_lease, due))                                                                     \
    X(LEASE_DELAY, offsetof(struct shmq_lease, delay))                                                                 \
    X(LEASE_LENGTH, offsetof(struct shmq_lease, length))                                                               \
    X(LEASE_META, offsetof(struct shmq_lease, meta))                                                                   \
    X(LEASE_LINK, offsetof(struct shmq_lease, link))                                                                   \
    X(LEASE_HEAD_SIZE, sizeof(struct shmq_lease))                                                                      \
    X(DEAD_FREE, SHMQ_DEAD_FREE)                                                                                       \
    X(DEAD_BURYING, SHMQ_DEAD_BURYING)                                                                                 \
    X(DEAD_BURIED, SHMQ_DEAD_BURIED)                                                                                   \
    X(DEAD_LETTER, SHMQ_DEAD_LETTER)                                                                                   \
    X(DEAD_OFFERED, SHMQ_DEAD_OFFERED)                                                                                 \
    X(DEAD_PUT_BACK, SHMQ_DEAD_PUT_BACK)                                                                               \
    X(DEAD_GIVEN, SHMQ_DEAD_GIVEN)                                                                                     \
    X(DEAD_STATE_MASK, SHMQ_DEAD_STATE_MASK)                                                                           \
    X(DEAD_LEASE_SHIFT, SHMQ_DEAD_LEASE_SHIFT)                                                                         \
    X(DEAD_LEASE_MASK, SHMQ_DEAD_LEASE_MASK)                                                                           \
    X(DEAD_VERSION_SHIFT, SHMQ_DEAD_VERSION_SHIFT)                                                                     \
    X(DEAD_WORD, offsetof(struct shmq_dead, word))                                                                     \
    X(DEAD_COUNT, offsetof(struct shmq_dead, count))                                                                   \
    X(DEAD_POSITION, offsetof(struct shmq_dead, position))                                                             \
    X(DEAD_LENGTH, offsetof(struct shmq_dead, length))                                                                 \
    X(DEAD_META, offsetof(struct shmq_dead, meta))                                                                     \
    X(DEAD_HEAD_SIZE, sizeof(struct shmq_dead))                                                                        \
    X(DEFINITIONS_SIZE, SHMQ_DEFINITIONS_SIZE)                                                                         \
    X(DEFINITIONS_END, SHMQ_DEFINITIONS_END)                                                                           \
    X(DEFINITIONS_FIRST, SHMQ_DEFINITIONS_FIRST)                                                                       \
    X(AT_ONCE, SHMQ_AT_ONCE)                                                                                           \
    X(MAX_CAPACITY, SHMQ_MAX_CAPACITY)                                                                                 \
    X(MAX_ITEM_SIZE, SHMQ_MAX_ITEM_SIZE)                                                                               \
    X(MAX_LEASES, SHMQ_MAX_LEASES)                                                                                     \
    X(MAX_DELIVERIES, SHMQ_MAX_DELIVERIES)                                                                             \
    X(MAX_DEAD, SHMQ_MAX_DEAD)                                                                                         \
    X(MAX_SEGMENT_SIZE, SHMQ_MAX_SEGMENT_SIZE)

/* ---- what must hold ---- */

#define SHMQ_LINE_OF(type, member) (offsetof(type, member) / SHMQ_LINE)

_Static_assert(sizeof(_Atomic uint64_t) == SHMQ_WORD && _Alignof(_Atomic uint64_t) == SHMQ_WORD, "an atomic word is a plain word");
_Static_assert(sizeof(_Atomic uint32_t) == 4 && _Alignof(_Atomic uint32_t) == 4, "an atomic half is a plain half");
_Static_assert(sizeof(unsigned long long) == SHMQ_WORD, "ATOMIC_LLONG_LOCK_FREE speaks of 64 bits");
_Static_assert(sizeof(size_t) == SHMQ_WORD, "segments need a 64-bit address space");

_Static_assert(sizeof(struct shmq_slot) == offsetof(struct shmq_slot, payload), "no gap before the payload");
_Static_assert(offsetof(struct shmq_slot, payload) % SHMQ_WORD == 0, "payloads are copied in words");
_Static_assert(SHMQ_STRIDE(1) == SHMQ_LINE && SHMQ_STRIDE(48) == SHMQ_LINE && SHMQ_STRIDE(49) == 2 * SHMQ_LINE,
               "slots are whole lines");

_Static_assert(sizeof(struct shmq_record) == SHMQ_LINE, "a record is one line");
_Static_assert(sizeof(struct shmq_lease) == SHMQ_LINE && sizeof(struct shmq_dead) == SHMQ_LINE,
               "a lease slot and a dead slot have a head of one line");
_Static_assert(sizeof(struct shmq_wake_words) == SHMQ_LINE, "each side wakes on a line of its own");
_Static_assert(SHMQ_RECORDS_START % SHMQ_LINE == 0 && SHMQ_SLOTS_START % SHMQ_LINE == 0, "records and slots are on lines");
_Static_assert(offsetof(struct shmq_header, tail) == 2 * SHMQ_LINE, "head and tail are two lines apart");
_Static_assert(offsetof(struct shmq_header, magic) == 4 * SHMQ_LINE, "nothing lies beside tail");
_Static_assert(SHMQ_LINE_OF(struct shmq_header, magic) == SHMQ_LINE_OF(struct shmq_header, segment_size),
               "the constants are one line");
_Static_assert(SHMQ_LINE_OF(struct shmq_header, unlinked) == SHMQ_LINE_OF(struct shmq_header, magic) + 2, "marks");
_Static_assert(SHMQ_LINE_OF(struct shmq_header, tombs) == SHMQ_LINE_OF(struct shmq_header, unlinked) + 1, "counts");
_Static_assert(SHMQ_LINE_OF(struct shmq_header, items) == SHMQ_LINE_OF(struct shmq_header, tombs) + 2, "items");
_Static_assert(SHMQ_LINE_OF(struct shmq_header, space) == SHMQ_LINE_OF(struct shmq_header, items) + 1, "space");
_Static_assert(SHMQ_LINE_OF(struct shmq_header, batch_owner) == SHMQ_LINE_OF(struct shmq_header, space) + 3, "locks");
_Static_assert(SHMQ_LINE_OF(struct shmq_header, producer) == SHMQ_LINE_OF(struct shmq_header, batch_owner) + 1, "roles");
_Static_assert(offsetof(struct shmq_header, namespaces) + 8 * SHMQ_LINE == offsetof(struct shmq_header, bells),
               "the bells follow the namespaces");
_Static_assert(SHMQ_RECORDS <= 64 * SHMQ_BELL_WORDS, "each record has a bit");
_Static_assert(offsetof(struct shmq_header, bells) + SHMQ_BELL_MASKS * 2 * SHMQ_LINE == sizeof(struct shmq_header),
               "the bells end the header, each mask on two lines");
_Static_assert(SHMQ_RECORDS <= SHMQ_NAME_INDEX_MASK, "a name has room for the index of the last record");
_Static_assert(((SHMQ_MAX_BATCH - 1) << SHMQ_TAG_BITS | SHMQ_TAG_MASK) <= UINT32_MAX, "meta is 32 bits");
_Static_assert(SHMQ_MAX_ITEM_SIZE <= UINT32_MAX, "length is 32 bits");

#undef SHMQ_LINE_OF

#endif
