/* Memory that is taken as it is used: that of slots, and that of the items in them. The same as the puts of
   _ring/growth.py. */

#ifndef SHMQ_GROWTH_H
#define SHMQ_GROWTH_H

#include "records.h"

/* Give the slot of bad_position its number, and others behind it, or raise. */
SHMQ_RARE static int number_slots(struct record *record)
{
    PyObject *numbered = PyObject_CallMethod(record->handle->engine, "number", "KK",
                                             (unsigned long long)record->me.bad_position,
                                             (unsigned long long)record->slots);
    if (numbered == NULL) {
        return FAILED;
    }
    Py_DECREF(numbered);
    return record->forks != forks ? fail_as_forked() : 0;
}

/* Make sure that there is memory for the items, in the slots that are claimed for them. If there is none, the put is
   given up as a dead one is, and this raises. */
SHMQ_RARE static int reserve_claimed(struct record *record, uint64_t position)
{
    const struct shmq_ring *ring = &record->ring;
    uint64_t p = position;
    for (uint64_t i = 0; i < record->count; i++) {
        uint32_t left = record->payloads[i].length;
        do {
            const uint32_t piece = left < ring->item_size ? left : ring->item_size;
            struct shmq_slot *slot = shmq_slot_of(ring, p++);
            if (piece > SHMQ_AT_ONCE && !call_reserve(record, slot, (uint32_t)SHMQ_STRIDE(piece))) {
                record->is_marked = !shmq_abandon(ring, &record->me);
                return fail_by(PyObject_CallMethod(record->handle->engine, "no_memory", NULL));
            }
            left -= piece;
        } while (left > 0);
    }
    return 0;
}

#endif
