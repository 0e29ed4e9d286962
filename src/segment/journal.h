/* journal.h - writing undo records: in line, since every change in a segment pays for one.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Invariants J1..J3 stand in journal.c, the layout of records in lane_shm.h. */
#ifndef COVEI_SEGMENT_JOURNAL_H
#define COVEI_SEGMENT_JOURNAL_H

#include "segment/segment.h"

#include <assert.h>

#define COVEI_FOOTER_UNITS 2u
#define COVEI_KIND_SHIFT 56
#define COVEI_OFFSET_MASK ((UINT64_C(1) << COVEI_KIND_SHIFT) - 1)

static inline uint64_t covei_tails_load(const struct covei_lane_shm *shm)
{
    /* relaxed: written by the lane's thread, or by the owner of its recovery, who learnt of the death through the
     * kernel. */
    return atomic_load_explicit(&shm->tails, memory_order_relaxed);
}

static inline void covei_tails_store(struct covei_lane_shm *shm, uint64_t tails)
{
    covei_order();
    atomic_store_explicit(&shm->tails, tails, memory_order_relaxed); /* as above */
    covei_order();
}

/* The length of a record of old bytes. */
static inline uint64_t covei_record_units(uint64_t size_bytes)
{
    return (size_bytes + 7) / 8 + COVEI_FOOTER_UNITS;
}

static inline void covei_record_write(uint64_t *at, enum covei_record kind, uint64_t offset, const void *bytes,
                                      uint64_t size_bytes)
{
    uint64_t units = kind == COVEI_RECORD_BYTES ? (size_bytes + 7) / 8 : 0;
    if (units > 0)
        covei_copy(at, bytes, size_bytes);
    at[units] = offset | (uint64_t)kind << COVEI_KIND_SHIFT;
    at[units + 1] = size_bytes;
}

/* ---- inner */

/* always: as a call it costs a fifth of an allocation. */
static inline __attribute__((always_inline)) void covei_inner_save(struct covei_lane *lane, const void *address,
                                                                   uint32_t size_bytes)
{
    struct covei_lane_shm *shm = lane->shm;
    uint64_t tails = covei_tails_load(shm);
    uint32_t inner = COVEI_TAILS_INNER(tails), units = (uint32_t)covei_record_units(size_bytes);
    assert(inner + units <= COVEI_INNER_UNITS);
#ifdef COVE_PLANT_SWAPPED_STORE
    covei_tails_store(shm, tails + units); /* J1 broken: the length is there before the record */
#endif
    covei_record_write(&shm->inner[inner], COVEI_RECORD_BYTES, covei_offset(lane->segment, address), address,
                       size_bytes);
#ifndef COVE_PLANT_SWAPPED_STORE
    covei_tails_store(shm, tails + units);
#endif
}

/* Save a word in the inner journal, then change it. */
static inline void covei_put(struct covei_lane *lane, uint64_t *field, uint64_t value)
{
    covei_inner_save(lane, field, sizeof *field);
    *field = value;
}

/* One store that makes the inner change final, appends `appended` units that were written behind the outer journal's
 * end, or takes `removed` units off it. */
static inline void covei_inner_commit(struct covei_lane *lane, uint64_t appended, uint64_t removed)
{
    uint64_t tails = covei_tails_load(lane->shm);
    covei_tails_store(lane->shm,
                      COVEI_TAILS(COVEI_TAILS_OUTER(tails) + appended - removed, COVEI_TAILS_PHASE(tails), 0));
}

/* ---- outer */

/* Is there room for `units` more? */
static inline bool covei_outer_has_room(const struct covei_lane *lane, uint64_t units)
{
    return COVEI_TAILS_OUTER(covei_tails_load(lane->shm)) + units <= lane->outer_capacity;
}

/* Write a record at `units_ahead` behind the end of the outer journal, unseen until the length covers it. Returns its
 * units. */
static inline uint64_t covei_outer_write(struct covei_lane *lane, uint64_t units_ahead, enum covei_record kind,
                                         uint64_t offset, uint64_t size_bytes)
{
    uint64_t at = COVEI_TAILS_OUTER(covei_tails_load(lane->shm)) + units_ahead;
    uint64_t units = kind == COVEI_RECORD_BYTES ? covei_record_units(size_bytes) : COVEI_FOOTER_UNITS;
    assert(at + units <= lane->outer_capacity);
    covei_record_write(lane->outer + at, kind, offset, covei_address(lane->segment, offset), size_bytes);
    return units;
}

static inline void covei_outer_append(struct covei_lane *lane, uint64_t units)
{
    covei_tails_store(lane->shm, covei_tails_load(lane->shm) + COVEI_TAILS(units, 0, 0));
}

#endif
