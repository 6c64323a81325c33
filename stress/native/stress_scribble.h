/* Segments with random words, for ring_stress.c. */

#ifndef SHMQ_STRESS_SCRIBBLE_H
#define SHMQ_STRESS_SCRIBBLE_H

#include "stress_worker.h"

static uint64_t evil(uint64_t *random, uint64_t capacity)
{
    const uint64_t near = random_below(random, capacity * 4 + 2);
    switch (random_below(random, 6)) {
    case 0:
        return random_next(random);
    case 1:
        return UINT64_MAX - near;
    case 2:
        return near;
    case 3:
        return 0;
    case 4:
        return UINT64_C(1) << random_below(random, 64);
    default:
        return near << SHMQ_STATE_BITS | random_below(random, 4);
    }
}

static bool ring_perhaps(void *context, uint64_t nonce, uint64_t name)
{
    (void)context, (void)nonce;
    return name % 2 == 0;
}

static bool is_alive_perhaps(void *context, uint64_t owner)
{
    (void)owner;
    return random_below(context, 2) == 0;
}

static uint64_t now_perhaps(void *context, bool exact)
{
    (void)exact;
    return random_next(context) >> random_below(context, 64);
}

static int wake_perhaps(void *context, _Atomic uint64_t *word, int count)
{
    (void)word, (void)count;
    return (int)random_below(context, 2);
}

/* In a segment with random words each call must end and stay inside the segment; nothing else is expected. */
static void scribble(uint64_t rounds)
{
    uint64_t random = random_seeded(run.seed, 4711);
    unsigned corrupt = 0;
    for (uint64_t round = 0; round < rounds; round++) {
        const uint64_t capacity = 1 + random_below(&random, 5);
        segment_leases = (uint32_t)random_below(&random, 4);
        unsigned char *base = segment_new(capacity, ITEM_SIZE, false);
        _Atomic uint64_t *words = (void *)base;
        const size_t header = sizeof(struct shmq_header) / SHMQ_WORD;
        struct shmq_ring ring;
        uint32_t busy_lease = (uint32_t)random_next(&random); /* any */
        struct shmq_participant me;
        const struct shmq_calls calls = {is_alive_perhaps, wake_perhaps, ring_perhaps, &random, now_perhaps, NULL};
        unsigned char *buffer = malloc(ITEM_SIZE);
        if (buffer == NULL) {
            fail("no memory", ITEM_SIZE, 0);
        }
        shmq_open(&ring, base, capacity, ITEM_SIZE, random_below(&random, 4) == 0, 1 + random_below(&random, 3), calls);
        shmq_open_leases(&ring, segment_leases, segment_deliveries, &busy_lease);
        if (!shmq_take_record(&ring, &me)) {
            fail("no record", 0, 0);
        }
        ring.header->records_used = 1 + random_below(&random, 5);
        for (unsigned call = 0; call < 12; call++) {
            for (unsigned i = 0; i < 4; i++) {
                if (segment_leases > 0 && random_below(&random, 3) == 0) {
                    struct shmq_lease *lease = shmq_lease_of(&ring, (uint32_t)random_below(&random, segment_leases));
                    _Atomic uint64_t *fields = (void *)lease;
                    fields[random_below(&random, sizeof *lease / SHMQ_WORD)] = evil(&random, capacity);
                    continue;
                }
                switch (random_below(&random, 4)) {
                case 0:
                    words[random_below(&random, header)] = evil(&random, capacity);
                    break;
                case 1:
                    ring.header->head = evil(&random, capacity);
                    ring.header->tail = evil(&random, capacity);
                    break;
                case 2:
                    words[header + random_below(&random, 8 * 8)] = evil(&random, capacity);
                    break;
                default: {
                    struct shmq_slot *slot = shmq_slot_of(&ring, random_below(&random, capacity));
                    slot->word = evil(&random, capacity);
                    slot->length = (uint32_t)evil(&random, capacity);
                    slot->meta = (uint32_t)evil(&random, capacity);
                }
                }
            }
            uint64_t position, count;
            struct shmq_item item;
            const bool sure = random_below(&random, 2) == 0;
            enum shmq_result result = SHMQ_NOTHING;
            switch (random_below(&random, 10)) {
            case 0:
                count = 1 + random_below(&random, capacity);
                result = shmq_claim_put(&ring, &me, count, sure, &position);
                for (uint64_t i = 0; result == SHMQ_DONE && i < count; i++) {
                    memset(buffer, 7, ITEM_SIZE);
                    shmq_write(&ring, position + i, buffer, ITEM_SIZE, 1, (uint32_t)i);
                }
                if (result == SHMQ_DONE) {
                    result = shmq_publish(&ring, &me, position, count, count);
                }
                break;
            case 1:
                result = shmq_claim_get(&ring, &me, 1 + random_below(&random, capacity + 1), sure, &position, &count);
                for (uint64_t i = 0; result == SHMQ_DONE && i < count; i++) {
                    shmq_read(&ring, position + i, &item);
                    memcpy(buffer, item.data, item.length);
                    shmq_free_slot(&ring, position + i);
                }
                if (result == SHMQ_DONE) {
                    shmq_finish_get(&ring, &me, count);
                } else if (result == SHMQ_ORPHAN) {
                    shmq_rescue_get(&ring, position, buffer, ring.max_item_size, &item);
                }
                break;
            case 2:
                if (shmq_find_orphan(&ring, &position)) {
                    shmq_rescue_get(&ring, position, buffer, ring.max_item_size, &item);
                }
                break;
            case 3:
                shmq_is_empty(&ring);
                shmq_has_room(&ring);
                shmq_size(&ring);
                break;
            case 4:
                shmq_abandon(&ring, &me);
                break;
            case 5: {
                struct shmq_participant other;
                if (shmq_take_record(&ring, &other)) {
                    shmq_leave_record(&ring, &other);
                }
                break;
            }
            case 6:
                shmq_take_role(&ring, &ring.header->producer, me.name);
                shmq_owner_word(&ring, evil(&random, capacity));
                shmq_is_dead(&ring, evil(&random, capacity));
                break;
            case 7:
                shmq_try_acquire_lock(&ring, &me, &run.flag, &position);
                shmq_release_lock(&ring, &me, &run.flag);
                break;
            case 8:
                if (segment_leases > 0) {
                    struct shmq_held held[8];
                    result = shmq_try_lease(&ring, &me, 1 + random_below(&random, 8), sure, held, &count);
                    for (uint64_t i = 0; result == SHMQ_DONE && i < count; i++) {
                        shmq_read_lease(&ring, held[i].index, &item);
                        memcpy(buffer, item.data, item.length);
                        if (i % 2 == 0) {
                            shmq_done(&ring, &held[i]);
                        } else {
                            shmq_give_back(&ring, &held[i], evil(&random, capacity), sure);
                        }
                    }
                    shmq_is_quiet(&ring);
                }
                break;
            default:
                shmq_arm(&ring.header->items);
                shmq_wake(&ring, &ring.header->items, evil(&random, capacity));
                uint64_t closed = 0, closed_at = 0;
                shmq_shut_gate(&ring, 1, &closed, &closed_at);
                shmq_open_gate(&ring, closed);
            }
            corrupt += result == SHMQ_CORRUPT;
        }
        free(buffer);
        free(base);
    }
    segment_leases = 0;
    printf("hostile memory: %llu segments, %u calls said so\n", (unsigned long long)rounds, corrupt);
    if (rounds > 100 && corrupt == 0) {
        fail("no call noticed anything", rounds, 0);
    }
}

#endif
